"""What the ledger has of one answer beside its attempts: who used it again about which document, and what was sent."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.inference import history
from ai_assets.inference.history import Attempt
from ai_assets.inference.prices import usd_of
from ai_assets.storage.state import keys_of


@dataclass(frozen=True, kw_only=True)
class DocumentReuse:
    """A row that took the answer from the ledger."""

    collection: str
    asset: str
    partition: str
    document: str
    saved_usd: float


def reuses_of(connection: sa.Connection, made: Sequence[Attempt]) -> list[DocumentReuse]:
    """In order."""
    query = (
        "SELECT callers.collection, callers.asset, callers.partition, reuses.document, reuses.saved_nusd FROM reuses "
        "JOIN callers ON callers.caller_id = reuses.caller_id WHERE reuses.attempt_id IN :attempts "
        "ORDER BY reuses.reuse_id"
    )
    return [
        DocumentReuse(
            collection=row.collection,
            asset=row.asset,
            partition=row.partition,
            document=row.document,
            saved_usd=usd_of(row.saved_nusd),
        )
        for row in connection.execute(_of(query), {"attempts": _numbers(made)})
    ]


def packed_of(connection: sa.Connection, made: Sequence[Attempt]) -> str | None:
    """What was sent, under whichever attempt has it; None where it is not kept."""
    query = "SELECT body FROM sent_requests WHERE attempt_id IN :attempts ORDER BY attempt_id DESC"
    found: str | None = connection.execute(_of(query), {"attempts": _numbers(made)}).scalars().first()
    return found


@dataclass(frozen=True, kw_only=True)
class AnsweredCall:
    """Who answered a call, and what that cost when it was paid."""

    endpoint: str
    model: str
    """As the provider named it, else as it was asked for."""
    cost_usd: float | None
    run_id: str
    """Of the run that paid."""


KEYS_AT_ONCE = 2_000


def answers_behind(connection: sa.Connection, keys: Collection[str]) -> Mapping[str, AnsweredCall]:
    """By key, for those of the calls that the ledger has."""
    query = sa.text(
        "SELECT calls.call_key, attempts.endpoint, attempts.model, attempts.answered_model, attempts.cost_nusd, "  # noqa: S608
        f"callers.run_id FROM {keys_of(connection.dialect.name, ':keys')} "
        "JOIN calls ON calls.call_key = json_each.value JOIN attempts ON attempts.attempt_id = calls.attempt_id "
        "JOIN callers ON callers.caller_id = attempts.caller_id WHERE attempts.state = 'settled'"
    )
    wanted, found = sorted(keys), dict[str, AnsweredCall]()
    for first in range(0, len(wanted), KEYS_AT_ONCE):
        for row in connection.execute(query, {"keys": json.dumps(wanted[first : first + KEYS_AT_ONCE])}):
            found[row.call_key] = AnsweredCall(
                endpoint=row.endpoint,
                model=row.answered_model or row.model,
                cost_usd=None if row.cost_nusd is None else usd_of(row.cost_nusd),
                run_id=row.run_id,
            )
    return found


def _of(query: str) -> sa.TextClause:
    return sa.text(query).bindparams(sa.bindparam("attempts", expanding=True))


def _numbers(made: Sequence[Attempt]) -> list[int | None]:
    return [history.attempt_id(item.attempt) for item in made]
