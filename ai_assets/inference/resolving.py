"""Deciding what became of attempts that may have been billed: a person knows, or the provider's bill says it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.inference.history import Attempt, attempt_id, attempts, attempts_of, find
from ai_assets.inference.ledger import Ledger, is_owner_live
from ai_assets.inference.ledger_sql import OWNER_SHIFT
from ai_assets.inference.prices import nusd_of, usd_of
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What somebody found out."""

    billed: bool
    by: str
    usd: float | None = None
    """What the bill says; without it, the most that the attempt can have cost."""
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class ResolvedAttempt:
    attempt: str
    call: str
    collection: str
    error: str
    reserved_nusd: int
    cost_nusd: int
    message: str


class NotAmbiguous(UserError):
    def __init__(self, found: Attempt) -> None:
        said = f": {found.message}" if found.message else ""
        super().__init__(
            f"Attempt {found.attempt} of call {found.call[:12]} is {found.state}, so there is nothing to resolve{said}"
            ". Nothing was changed."
        )


class StillInFlight(UserError):
    def __init__(self, found: Attempt) -> None:
        super().__init__(
            f"Attempt {found.attempt} of call {found.call[:12]} is in flight since {found.sent_at}, and the process "
            "that made it lives. Wait for its answer, or stop that process; nothing was changed."
        )


class StillInBatch(UserError):
    def __init__(self, found: Attempt, job: str) -> None:
        super().__init__(
            f"Attempt {found.attempt} of call {found.call[:12]} travels in batch {job} since {found.sent_at}; nothing "
            f"was changed. Look at it: ai-assets batches show {job}    wait for it no longer: ai-assets batches "
            f"give-up {job}"
        )


class NothingAmbiguous(UserError):
    def __init__(self, where: str) -> None:
        super().__init__(f"{where} has no attempt that may have been billed. See all: ai-assets ledger ambiguous")


class CostImpossible(UserError):
    def __init__(self, found: Attempt, usd: float) -> None:
        super().__init__(
            f"Attempt {found.attempt} cannot have cost ${usd:,.9f}: ${found.reserved_usd:,.9f} were reserved for it, "
            "the most that it can cost at the prices of inference.yaml. Nothing was changed."
        )


def reap(connection: sa.Connection) -> int:
    """What dead processes had in flight may have been billed; how many attempts that were."""
    return Ledger(connection.dialect.name, 0).reap(connection)


def of_run(connection: sa.Connection, run: str) -> list[Attempt]:
    """All attempts of a run that wait for a verdict."""
    found = attempts(connection, run=run, state="ambiguous")
    if not found:
        raise NothingAmbiguous(f"Run '{run}'")
    return found


def named(connection: sa.Connection, asked: str) -> list[Attempt]:
    """The attempt of that name, or those of that call which wait for a verdict; without one, its last."""
    key = find(connection, asked)
    made = attempts_of(connection, key)
    if (number := attempt_id(asked)) is not None:
        return [item for item in made if attempt_id(item.attempt) == number]
    return [item for item in made if item.state == "ambiguous"] or made[-1:]


def attempt(connection: sa.Connection, name: str) -> Attempt:
    """The one of that name."""
    (found,) = [item for item in named(connection, name) if item.attempt == name]
    return found


def resolve(connection: sa.Connection, chosen: Sequence[Attempt], verdict: Resolution) -> list[ResolvedAttempt]:
    """All of them or none, inside the caller's write transaction. Budgets get back what was not billed."""
    at = now()
    return [_resolve(connection, item, verdict, at) for item in chosen]


def subject_of(resolved: ResolvedAttempt, verdict: Resolution) -> dict[str, Json]:
    """What the audit trail says of it."""
    return {
        "collection": resolved.collection,
        "attempt": resolved.attempt,
        "call": resolved.call,
        "error": resolved.error,
        "billed": verdict.billed,
        "cost_nusd": resolved.cost_nusd,
        "reserved_nusd": resolved.reserved_nusd,
        "note": verdict.note,
    }


def _resolve(connection: sa.Connection, item: Attempt, verdict: Resolution, at: str) -> ResolvedAttempt:
    number = attempt_id(item.attempt)
    row = connection.execute(
        sa.text("SELECT state, message, reserved_nusd, budgets FROM attempts WHERE attempt_id = :number"),
        {"number": number},
    ).one()
    owner = (number or 0) >> OWNER_SHIFT
    if row.state == "intent" and is_owner_live(connection, owner):
        job = connection.execute(
            sa.text("SELECT job_id FROM batch_jobs WHERE owner_id = :owner"), {"owner": owner}
        ).scalar()
        raise StillInFlight(item) if job is None else StillInBatch(item, job)
    if row.state != "ambiguous":
        raise NotAmbiguous(item)
    cost = _cost_nusd(item, verdict, row.reserved_nusd)
    message = _message(row.message, verdict, cost, at)
    connection.execute(
        sa.text(
            "UPDATE attempts SET state = 'failed', cost_nusd = :cost, message = :message "
            "WHERE attempt_id = :number AND state = 'ambiguous'"
        ),
        {"cost": cost, "message": message, "number": number},
    )
    for budget in json.loads(row.budgets):
        connection.execute(
            sa.text(
                "UPDATE budgets SET held_nusd = held_nusd - :reserved, spent_nusd = spent_nusd + :cost "
                "WHERE budget = :budget"
            ),
            {"reserved": row.reserved_nusd, "cost": cost, "budget": budget},
        )
    return ResolvedAttempt(
        attempt=item.attempt,
        call=item.call,
        collection=item.collection,
        error=item.error or "",
        reserved_nusd=row.reserved_nusd,
        cost_nusd=cost,
        message=message,
    )


def _cost_nusd(item: Attempt, verdict: Resolution, reserved: int) -> int:
    if not verdict.billed:
        return 0
    if verdict.usd is None:
        return reserved
    if not math.isfinite(verdict.usd) or not 0 <= nusd_of(verdict.usd) <= reserved:
        raise CostImpossible(item, verdict.usd)
    return nusd_of(verdict.usd)


def _message(before: str | None, verdict: Resolution, cost: int, at: str) -> str:
    what = f"billed (${usd_of(cost):.9f})" if verdict.billed else "not billed"
    note = f": {verdict.note}" if verdict.note else ""
    said = f"resolved as {what} by {verdict.by} at {at}{note}"
    return f"{before}; {said}" if before else said
