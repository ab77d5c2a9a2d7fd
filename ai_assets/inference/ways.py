"""Since when work with a deadline has been wanted, how its calls were asked, and why. Queries only.

A row of a dataset names its call, a call its attempt, and an attempt who asked in which run: the last choice of that
run for that asset, before the attempt was sent, is how and why it was asked so.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.inference.batch.buffers import BY_DEADLINE
from ai_assets.inference.batch.job_deadline import JobDeadline
from ai_assets.inference.batch.submitting import REFUSALS
from ai_assets.inference.deadline import Way
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import storable, upsert

FORGOTTEN_AFTER = datetime.timedelta(days=1)
CLOCKS_DIFFER_S = 300.0
"""So far the clock of a machine may be behind that of the store."""


@dataclass(frozen=True, kw_only=True)
class OpenDeadline:
    """Work that has not all of its answers."""

    since: datetime.datetime
    is_new: bool
    """Nothing of it was wanted before."""


@dataclass(frozen=True, kw_only=True)
class BatchStanding:
    """How the batches of a route stand, for work that is due at some moment."""

    refused: str | None = None
    """Why none is made just now."""
    travelling: int = 0
    """Lines on their way, which would have to be asked with what comes."""


@dataclass(frozen=True, kw_only=True)
class ChosenWay:
    """How calls were asked from a moment on."""

    way: Way
    chosen_at: str
    due_at: str
    chance: float
    reason: str

    @property
    def said(self) -> str:
        return f"{self.way}, due {self.due_at[:16].replace('T', ' ')} UTC: {self.reason}"


def text_of(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")


def wanted(connection: sa.Connection, caller: Caller, at: datetime.datetime, *, is_date: bool) -> OpenDeadline:
    """Since when; from now on, unless it is wanted already and is not answered.

    What was due more than a day ago begins anew, unless it has a date: a run that failed hurries nobody weeks later.
    """
    query = sa.text(f"SELECT since, due_at, answered_at FROM deadlines WHERE {_OF}")  # noqa: S608
    row = connection.execute(query, _of(caller)).one_or_none()
    if row is None or row.answered_at is not None or (not is_date and row.due_at < text_of(at - FORGOTTEN_AFTER)):
        return OpenDeadline(since=at, is_new=True)
    return OpenDeadline(since=datetime.datetime.fromisoformat(row.since), is_new=False)


def open_since(
    connection: sa.Connection, collection: str, asset: str, at: datetime.datetime, *, is_date: bool
) -> datetime.datetime | None:
    """Since when the first of its partitions has been wanted that has not all of its answers."""
    query = sa.text(
        "SELECT min(since) FROM deadlines WHERE collection = :c AND asset = :a AND answered_at IS NULL "
        "AND due_at >= :forgotten"
    )
    forgotten = "" if is_date else text_of(at - FORGOTTEN_AFTER)
    values = {"c": collection, "a": asset, "forgotten": forgotten}
    found: str | None = connection.execute(query, values).scalar_one()
    return None if found is None else datetime.datetime.fromisoformat(found)


def keep_wanted(connection: sa.Connection, caller: Caller, since: datetime.datetime, due: datetime.datetime) -> None:
    values = {"since": text_of(since), "due_at": text_of(due), "answered_at": None}
    upsert(connection, "deadlines", _named(caller), values)


def note_answered(connection: sa.Connection, caller: Caller, at: datetime.datetime) -> None:
    """It has all that can be had now."""
    statement = sa.text(f"UPDATE deadlines SET answered_at = :at WHERE {_OF} AND answered_at IS NULL")  # noqa: S608
    connection.execute(statement, {**_of(caller), "at": text_of(at)})


def note_way(connection: sa.Connection, caller: Caller, chosen: ChosenWay) -> None:
    statement = sa.text(
        "INSERT INTO ways (collection, asset, partition, run_id, chosen_at, due_at, way, chance, reason) "
        "VALUES (:c, :a, :p, :run, :at, :due, :way, :chance, :reason)"
    )
    values = {"at": chosen.chosen_at, "due": chosen.due_at, "way": chosen.way, "chance": round(chosen.chance, 4)}
    connection.execute(statement, {**_of(caller), **values, "run": caller.run_id, "reason": storable(chosen.reason)})


def way_of(connection: sa.Connection, call: str) -> ChosenWay | None:
    """How the answer of a call was asked, where that was chosen for a deadline."""
    query = sa.text(
        "SELECT ways.way, ways.chosen_at, ways.due_at, ways.chance, ways.reason FROM calls "
        "JOIN attempts ON attempts.attempt_id = calls.attempt_id "
        "JOIN callers ON callers.caller_id = attempts.caller_id "
        "JOIN ways ON ways.collection = callers.collection AND ways.asset = callers.asset "
        "AND ways.partition = callers.partition AND ways.run_id = callers.run_id "
        "WHERE calls.call_key = :call AND ways.chosen_at <= attempts.sent_at ORDER BY ways.way_id DESC LIMIT 1"
    )
    row = connection.execute(query, {"call": call}).one_or_none()
    return None if row is None else ChosenWay(**row._mapping)


def batch_standing(
    connection: sa.Connection,
    settings: InferenceSettings,
    names: Sequence[str],
    since: datetime.datetime,
    due_at: datetime.datetime,
) -> BatchStanding:
    """Of the first endpoint that has batches, for work wanted since then: for a plan as for a run."""
    endpoint = next((name for name in names if settings.endpoints[name].batch), None)
    if endpoint is None:
        return BatchStanding()
    return BatchStanding(
        refused=_why_no_batch(connection, endpoint, since, text_of(due_at)),
        travelling=_travelling_lines(connection, endpoint),
    )


def _travelling_lines(connection: sa.Connection, endpoint: str) -> int:
    """Of files with a deadline that have not ended, at this endpoint: what would be asked with what comes."""
    query = sa.text(
        "SELECT COALESCE(sum(CASE WHEN lines > provider_done THEN lines - provider_done ELSE 0 END), 0) "
        "FROM batch_jobs WHERE state <> 'ended' AND deadline IS NOT NULL AND endpoint = :endpoint"
    )
    return int(connection.execute(query, {"endpoint": endpoint}).scalar_one())


def _why_no_batch(connection: sa.Connection, endpoint: str, since: datetime.datetime, due_at: str) -> str | None:
    """Since then a file of this endpoint was refused, and none taken after it; or one that was due then was stopped."""
    query = sa.text(
        "SELECT state, provider_state, cancelled_by, deadline, message FROM batch_jobs WHERE endpoint = :endpoint "
        "AND made_at >= :since AND deadline IS NOT NULL AND lines > 0 AND duplicate_of IS NULL ORDER BY made_at DESC"
    )
    since -= datetime.timedelta(seconds=CLOCKS_DIFFER_S)
    rows = connection.execute(query, {"endpoint": endpoint, "since": text_of(since)}).all()
    for row in rows:
        deadline = JobDeadline.of(row.deadline)
        if row.cancelled_by == BY_DEADLINE and deadline is not None and deadline.due_at == due_at:
            return "one was stopped because it was due"
    if rows and rows[0].state == "ended":
        last = rows[0]
        if last.provider_state == "failed" or last.message.startswith(REFUSALS):
            return f"the last one failed ({last.message})"
    return None


_OF = "collection = :c AND asset = :a AND partition = :p"


def _named(caller: Caller) -> dict[str, str]:
    return {"collection": caller.collection, "asset": caller.asset, "partition": caller.partition}


def _of(caller: Caller) -> dict[str, str]:
    return {"c": caller.collection, "a": caller.asset, "p": caller.partition}
