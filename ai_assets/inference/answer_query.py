"""What the ledger has of one answer beside its attempts: who used it again about which document, and what was sent."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.inference import history
from ai_assets.inference.history import Attempt
from ai_assets.inference.prices import usd_of


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


def left_of(connection: sa.Connection, key: str) -> list[Attempt]:
    """Attempts of a call that was erased with a forgotten document: they keep its key and the dollars."""
    return history.in_order(history.attempts(connection, call=key))


def _of(query: str) -> sa.TextClause:
    return sa.text(query).bindparams(sa.bindparam("attempts", expanding=True))


def _numbers(made: Sequence[Attempt]) -> list[int | None]:
    return [history.attempt_id(item.attempt) for item in made]
