"""Backfills at a price: what was approved, the money set aside for it, and how far it has come.

The calls are held to it in the ledger's turn (`ai_assets/inference/earmarks.py`); `ai_assets/cli/backfill.py` starts
and follows one.
"""

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection
from ai_assets.costs.funding import PASSING, asking, in_dollars, smallest_call_nusd
from ai_assets.inference.accounts import Account, accounts_of, of_backfill
from ai_assets.inference.batch import jobs
from ai_assets.inference.earmarks import close, set_aside
from ai_assets.inference.prices import NUSD, nusd_of
from ai_assets.inference.records import BACKFILL_TAG, Caller
from ai_assets.inference.settings import MOST_USD, InferenceSettings
from ai_assets.run import window_waits
from ai_assets.run.status import failed_waiting
from ai_assets.storage.leases import is_held
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from ai_assets.planning.plan import Plan

CENT = NUSD // 100
State = Literal["open", "done", "failed", "capped", "stopped", "lost"]
"""Lost: the process that ran it is gone, or Dagster knows nothing of it any more."""


class CapUnusable(UserError):
    def __init__(self, usd: float) -> None:
        super().__init__(f"--max-usd {usd:g} is not an amount between 0 and {MOST_USD:,.0f} US dollars.")


class CapTooLow(UserError):
    def __init__(self, collection: str, cap_nusd: int, asset: str, smallest_nusd: int) -> None:
        super().__init__(
            f"{in_dollars(cap_nusd)} is not enough for any call of '{collection}': the cheapest is one of {asset}, and "
            f"it may cost {in_dollars(smallest_nusd)}. Nothing was started; give a higher --max-usd."
        )


class BackfillUnderWay(UserError):
    def __init__(self, backfill: str, collection: str) -> None:
        super().__init__(
            f"{backfill} is under way already. Follow it: ai-assets backfill {collection}    end it: "
            f"ai-assets backfill {collection} --stop"
        )


@dataclass(frozen=True, kw_only=True)
class Backfill:
    """One that was approved."""

    backfill: str
    """Its name: the collection and a number."""
    collection: str
    partitions: Sequence[str]
    assets: Sequence[str]
    cap_nusd: int
    plan: Mapping[str, Any]
    """What was expected: `new_calls`, and what they were likely to cost."""
    state: State
    made_by: str
    made_at: str
    dagster_id: str | None
    """Dagster's own backfill; None where a command runs it in its own process."""
    ended_at: str | None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the ledger knows of a backfill."""

    answers: int
    """Calls that were answered and paid."""
    reused: int
    documents: int
    """That were asked about, or whose answers were there."""
    spent_nusd: int
    reserved_nusd: int
    held_nusd: int

    @property
    def used_nusd(self) -> int:
        return self.spent_nusd + self.held_nusd


def lease_name(collection: str) -> str:
    """Of the lease that a process holds while it starts or runs a backfill of this collection."""
    return f"backfill:{collection}"


def usual_cap(plan: "Plan") -> int:
    """What it costs at most, with room for the last call's reservation, in whole cents."""
    return -(-(plan.money.high_nusd + plan.dearest_call_nusd) // CENT) * CENT


def amount_of(max_usd: float) -> int:
    """What a person may say, in nano-dollars."""
    if not (math.isfinite(max_usd) and 0 <= max_usd <= MOST_USD):
        raise CapUnusable(max_usd)
    return nusd_of(max_usd)


def refuse_too_low(collection: Collection, inference: InferenceSettings, plan: "Plan", cap_nusd: int) -> None:
    """No call could be made with it."""
    today = datetime.datetime.now(datetime.UTC).date()
    wanted = {stage.stage for stage in plan.stages if stage.calls.high}
    smallest = [
        (amount, asks.asset)
        for asks in asking(collection)
        if asks.asset in wanted and (amount := smallest_call_nusd(asks, inference, today)) is not None
    ]
    if smallest and cap_nusd < min(smallest)[0]:
        amount, asset = min(smallest)
        raise CapTooLow(collection.name, cap_nusd, asset, amount)


def begin(
    stores: Stores,
    collection: Collection,
    inference: InferenceSettings,
    plan: "Plan",
    *,
    assets: Sequence[str],
    cap_nusd: int,
    by: str,
) -> Backfill:
    """Record it and set its money aside, or say which budget has too little."""
    expected = {"new_calls": plan.new_calls, "likely_nusd": plan.money.likely_nusd, "high_nusd": plan.money.high_nusd}
    expected["dearest_call_nusd"] = plan.dearest_call_nusd
    with stores.state.write() as connection:
        if (other := open_of(connection, collection.name)) is not None:
            raise BackfillUnderWay(other.backfill, collection.name)
        statement = sa.text("SELECT count(*) FROM backfills WHERE collection = :collection")
        number = int(connection.execute(statement, {"collection": collection.name}).scalar_one()) + 1
        name = f"{collection.name}-{number}"
        set_aside(connection, name, cap_nusd, _amounts(collection, inference, plan, cap_nusd))
        values = {
            "collection": collection.name,
            "partitions": json.dumps(list(plan.planned)),
            "assets": json.dumps(list(assets)),
            "cap_nusd": cap_nusd,
            "plan": json.dumps(expected),
            "state": "open",
            "made_by": by,
            "made_at": now(),
        }
        upsert(connection, "backfills", {"backfill": name}, values)
        return get(connection, name)


def _amounts(collection: Collection, inference: InferenceSettings, plan: "Plan", cap_nusd: int) -> dict[Account, int]:
    """What to set aside in each budget: all of the cap, or where only some stages draw on it, what those may need.

    Not in budgets of each run, document or partition: nobody knows yet how much of it will be whose.
    """
    lasting = [budget for budget in inference.budgets if budget.each not in (*PASSING, "partition")]
    today = datetime.datetime.now(datetime.UTC).date()
    paid = [stage for stage in plan.stages if stage.money.high_nusd]
    needed: dict[Account, list[int]] = {}
    for stage in paid:
        caller = Caller(tenant=collection.settings.tenant, collection=collection.name, asset=stage.stage)
        for account in accounts_of(lasting, caller, "", today):
            needed.setdefault(account, []).append(stage.money.high_nusd)
    return {
        account: cap_nusd if len(found) == len(paid) else min(cap_nusd, sum(found) + plan.dearest_call_nusd)
        for account, found in needed.items()
    }


def launched(stores: Stores, backfill: str, dagster_id: str) -> None:
    """Dagster runs it from now on."""
    with stores.state.write() as connection:
        statement = sa.text("UPDATE backfills SET dagster_id = :dagster WHERE backfill = :backfill")
        connection.execute(statement, {"dagster": dagster_id, "backfill": backfill})


def end(stores: Stores, backfill: Backfill, state: State) -> None:
    """Return what is left. Whoever ends it first says how it ended."""
    with stores.state.write() as connection:
        close(connection, backfill.backfill, state)


def state_after(backfill: Backfill, progress: Progress, *, succeeded: bool) -> State:
    """How a backfill ended whose runs are over."""
    if succeeded:
        return "done"
    left = backfill.cap_nusd - progress.used_nusd
    return "capped" if left < backfill.plan.get("dearest_call_nusd", 0) else "failed"


def open_of(connection: sa.Connection, collection: str) -> Backfill | None:
    """The collection's backfill that is under way."""
    statement = sa.text("SELECT * FROM backfills WHERE collection = :collection AND state = 'open' ORDER BY made_at")
    row = connection.execute(statement, {"collection": collection}).first()
    return None if row is None else _backfill(row)


def is_waiting(connection: sa.Connection, backfill: Backfill) -> bool:
    """Whether calls of its partitions travel in batches or wait for a window, or runs are still to go on."""
    waits = jobs.waits(connection, backfill.collection)
    closed = window_waits.waits(connection, backfill.collection)
    stay = {*failed_waiting(connection, waits), *(wait.partition for wait in waits if wait.held_by)}
    return any(wait.partition in backfill.partitions for wait in closed) or any(
        wait.partition in backfill.partitions and wait.partition not in stay for wait in waits
    )


def tags_of_waiting(connection: sa.Connection, collection: str) -> dict[str, str]:
    """Of the runs that go on: they belong to the backfill that is under way."""
    found = open_of(connection, collection)
    return {BACKFILL_TAG: found.backfill} if found is not None and is_waiting(connection, found) else {}


def any_of_dagster(connection: sa.Connection) -> bool:
    """Whether one is under way that Dagster runs."""
    statement = sa.text("SELECT count(*) FROM backfills WHERE state = 'open' AND dagster_id IS NOT NULL")
    return bool(connection.execute(statement).scalar_one())


def get(connection: sa.Connection, backfill: str) -> Backfill:
    statement = sa.text("SELECT * FROM backfills WHERE backfill = :backfill")
    return _backfill(connection.execute(statement, {"backfill": backfill}).one())


def _backfill(row: Any) -> Backfill:
    given = {**row._mapping, "partitions": json.loads(row.partitions), "assets": json.loads(row.assets)}
    return Backfill(**{**given, "plan": json.loads(row.plan)})


def progress_of(connection: sa.Connection, backfill: str) -> Progress:
    money = connection.execute(_MONEY, {"budget": of_backfill(backfill).budget}).one()
    done = connection.execute(_DONE, {"backfill": backfill}).one()
    return Progress(
        answers=done.answers,
        reused=done.reused,
        documents=done.documents,
        spent_nusd=money.spent_nusd,
        reserved_nusd=money.reserved_nusd,
        held_nusd=money.held_nusd,
    )


def failures_of(connection: sa.Connection, backfill: Backfill) -> list[str]:
    """What its partitions said that failed since it began, each thing once."""
    statement = sa.text(
        "SELECT partition, error FROM refreshes WHERE collection = :collection AND status = 'failed' "
        "AND finished_at >= :since ORDER BY partition"
    )
    found = connection.execute(statement, {"collection": backfill.collection, "since": backfill.made_at})
    return list(dict.fromkeys(row.error for row in found if row.partition in backfill.partitions))


_MONEY = sa.text("SELECT spent_nusd, reserved_nusd, held_nusd FROM budgets WHERE budget = :budget")
_DONE = sa.text(
    """WITH theirs AS (SELECT caller_id FROM callers WHERE backfill = :backfill),
    answered AS (
        SELECT document FROM attempts WHERE state = 'settled' AND caller_id IN (SELECT caller_id FROM theirs)),
    again AS (SELECT document FROM reuses WHERE caller_id IN (SELECT caller_id FROM theirs))
    SELECT (SELECT count(*) FROM answered) AS answers, (SELECT count(*) FROM again) AS reused,
        (SELECT count(*) FROM (SELECT document FROM answered UNION SELECT document FROM again) AS asked) AS documents"""
)


def sweep(stores: Stores, instance: "DagsterInstance | None") -> list[str]:
    """End the backfills that nobody runs any more, so that their money is not set aside for ever; their names.

    Without the instance those that Dagster runs are left as they are.
    """
    ended = []
    with stores.state.write() as connection:
        under_way = [_backfill(row) for row in connection.execute(sa.text(_OPEN))]
        for item in under_way:
            if item.dagster_id is None and not is_held(connection, lease_name(item.collection)):
                close(connection, item.backfill, "lost")
                ended.append(item.backfill)
    for item in under_way:
        if item.dagster_id is not None and instance is not None:
            succeeded = _succeeded(instance, item.dagster_id)
            with stores.state.read() as connection:
                if succeeded and is_waiting(connection, item):
                    continue  # its runs have ended, and others go on once its batches are answered
            if succeeded is not None:
                with stores.state.write() as connection:
                    progress = progress_of(connection, item.backfill)
                    close(connection, item.backfill, state_after(item, progress, succeeded=succeeded))
                ended.append(item.backfill)
    return ended


_OPEN = "SELECT * FROM backfills WHERE state = 'open' ORDER BY backfill"


def _succeeded(instance: "DagsterInstance", dagster_id: str) -> bool | None:
    """Whether Dagster's backfill did all it should; None while it is under way."""
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionStatus

    found = instance.get_backfill(dagster_id)
    if found is None:
        return False
    if found.status not in BULK_ACTION_TERMINAL_STATUSES:
        return None
    return found.status in (BulkActionStatus.COMPLETED, BulkActionStatus.COMPLETED_SUCCESS)
