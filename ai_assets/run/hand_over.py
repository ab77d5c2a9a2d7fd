"""What one step of a run hands on to the next, where a run is cut into several: they may be different processes.

The partition's lease is not handed on: each step takes it anew. What could come between two steps is told by
fingerprints, as it is between two runs; what must be as the first step saw it is written down here.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ai_assets.storage.state import now, upsert

KEPT_DAYS = 30
"""Longer than any run."""


@dataclass(frozen=True, kw_only=True)
class RunPart:
    """The step that refreshes, among those of its run."""

    step: str
    goes_on: bool
    """Another step of the run comes after it, and says at the end what failed."""
    whole: bool
    """The run computes every asset of its collection, in all its steps together."""


@dataclass(frozen=True, kw_only=True)
class SeenPartition:
    """A partition as the first step of the run saw it."""

    listing: str
    people: str


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    """How steps left the partitions that they did not finish."""

    errors: Mapping[str, str] = field(default_factory=dict)
    passing: frozenset[str] = frozenset()
    waits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By partition and asset, why it was postponed."""


def begin(connection: sa.Connection, run_id: str, step: str, fresh: Mapping[str, SeenPartition]) -> None:
    """The first step of a run notes what it sees. What an earlier try of this step left goes."""
    if fresh:
        at = now()
        rows = [
            {"run": run_id, "partition": key, "listing": found.listing, "people": found.people, "at": at}
            for key, found in fresh.items()
        ]
        connection.execute(_NOTE, rows)
        _forget_old(connection, at)
    connection.execute(_FORGET_TRY, {"run": run_id, "step": step})


def _forget_old(connection: sa.Connection, at: str) -> None:
    gone = datetime.datetime.fromisoformat(at) - datetime.timedelta(days=KEPT_DAYS)
    for statement in _FORGET_OLD:
        connection.execute(statement, {"gone": gone.isoformat(timespec="milliseconds")})


def handed_over(connection: sa.Connection, run_id: str) -> HandedOver:
    """By all steps so far, together."""
    errors: dict[str, str] = {}
    passing: set[str] = set()
    waits: dict[str, dict[str, str]] = {}
    for row in connection.execute(_LEFT, {"run": run_id}):
        if row.error is not None:
            errors.setdefault(row.partition, row.error)
            passing |= {row.partition} if row.passes else set()
        if found := json.loads(row.waits):
            waits.setdefault(row.partition, {}).update(found)
    return HandedOver(errors=errors, passing=frozenset(passing), waits=waits)


def seen(connection: sa.Connection, run_id: str) -> Mapping[str, SeenPartition]:
    rows = connection.execute(_SEEN, {"run": run_id})
    return {row.partition: SeenPartition(listing=row.listing, people=row.people) for row in rows}


def hand_over(connection: sa.Connection, run_id: str, step: str, left: HandedOver) -> None:
    """What this step itself leaves."""
    for partition in sorted({*left.errors, *left.waits}):
        values = {
            "error": left.errors.get(partition),
            "passes": int(partition in left.passing),
            "waits": json.dumps(dict(left.waits.get(partition, {}))),
            "left_at": now(),
        }
        upsert(connection, "run_leftovers", {"run_id": run_id, "partition": partition, "step": step}, values)


def keep_counts(
    connection: sa.Connection, run_id: str, step: str, seconds: float, counted: Mapping[str, object]
) -> None:
    values = {"seconds": seconds, "counted": json.dumps(counted), "ended_at": now()}
    upsert(connection, "run_steps", {"run_id": run_id, "step": step}, values)


def counts_before(connection: sa.Connection, run_id: str, step: str) -> Sequence[tuple[float, Mapping[str, object]]]:
    """Seconds and counts of the other steps of the run."""
    query = sa.text("SELECT seconds, counted FROM run_steps WHERE run_id = :run AND step <> :step ORDER BY ended_at")
    rows = connection.execute(query, {"run": run_id, "step": step})
    return [(row.seconds, json.loads(row.counted)) for row in rows]


_NOTE = sa.text(
    "INSERT INTO run_partitions (run_id, partition, listing, people, seen_at) "
    "VALUES (:run, :partition, :listing, :people, :at) ON CONFLICT (run_id, partition) DO NOTHING"
)
_SEEN = sa.text("SELECT partition, listing, people FROM run_partitions WHERE run_id = :run")
_LEFT = sa.text("SELECT partition, error, passes, waits FROM run_leftovers WHERE run_id = :run ORDER BY left_at")
_FORGET_TRY = sa.text("DELETE FROM run_leftovers WHERE run_id = :run AND step = :step")
_FORGET_OLD = (
    sa.text("DELETE FROM run_partitions WHERE seen_at < :gone"),
    sa.text("DELETE FROM run_leftovers WHERE left_at < :gone"),
    sa.text("DELETE FROM run_steps WHERE ended_at < :gone"),
)
