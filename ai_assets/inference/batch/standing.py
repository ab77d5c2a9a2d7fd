"""What the ledger knows of a call that would travel in a batch, and what follows from it. Pure but for one query."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

import sqlalchemy as sa

from ai_assets.inference.ledger_sql import OWNER_SHIFT
from ai_assets.inference.records import LOST, RETRYABLE, ErrorClass
from ai_assets.storage.state import keys_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """The last attempt of a call, and when the one before was sent."""

    state: str
    error: ErrorClass | None
    message: str | None
    sent_at: str
    reserved_nusd: int
    cost_nusd: int | None
    before_at: str | None
    before_error: str | None
    body: str | None
    job: str
    """The batch that it is a line of; empty where a process sent it."""


class Verdict(Enum):
    ASK = auto()
    """It becomes a line of the next file."""
    WAIT = auto()
    """It is a line of a batch, or another process asks it at this moment."""
    FAILED = auto()
    """It was a line of a batch that brought no answer, and asking again would not help."""
    HELD = auto()
    """It may have been billed, and waits for a person."""


def verdict(row: Given | None, began: str | None, on_ambiguous: Literal["retry", "hold"]) -> Verdict:
    """`began`: when who asks began to wait for batches. What failed before was of an earlier run, and is asked again.

    A line that was not run goes into each next batch. What may pass goes into one more.
    """
    if row is None:
        return Verdict.ASK
    if row.state == "intent":
        return Verdict.WAIT
    if row.state == "ambiguous" and on_ambiguous == "hold" and row.error in LOST:
        return Verdict.HELD
    if row.state == "settled" or began is None or row.sent_at < began or row.error == "not_run":
        return Verdict.ASK
    asked_twice = row.before_at is not None and row.before_at >= began and row.before_error != "not_run"
    return Verdict.ASK if row.error in RETRYABLE and not asked_twice else Verdict.FAILED


def given_of(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Given]:
    """By key; of calls that were made before."""
    given = "?" if connection.dialect.name == "sqlite" else "%s"
    statement = (
        "SELECT calls.call_key, last.state, last.error, last.message, last.sent_at, last.reserved_nusd, "  # noqa: S608
        "last.cost_nusd, before.sent_at AS before_at, before.error AS before_error, "
        "batch_jobs.job_id, CASE WHEN last.state = 'settled' THEN NULL ELSE answers.body END AS body "
        f"FROM {keys_of(connection.dialect.name, given)} JOIN calls ON calls.call_key = json_each.value "
        "JOIN attempts AS last ON last.attempt_id = calls.attempt_id "
        f"LEFT JOIN batch_jobs ON batch_jobs.owner_id = (last.attempt_id >> {OWNER_SHIFT}) "
        "LEFT JOIN attempts AS before ON before.attempt_id = last.previous_id "
        "LEFT JOIN answers ON answers.attempt_id = last.attempt_id"
    )
    rows = connection.exec_driver_sql(statement, (json.dumps(list(keys)),))
    return {
        row.call_key: Given(
            state=row.state, error=row.error, message=row.message, sent_at=row.sent_at,
            reserved_nusd=int(row.reserved_nusd), cost_nusd=row.cost_nusd, before_at=row.before_at,
            before_error=row.before_error, body=row.body, job=row.job_id or "",
        )
        for row in rows
    }  # fmt: skip
