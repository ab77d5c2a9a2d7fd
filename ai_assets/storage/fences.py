"""What refuses a process that has a store open: the store was moved, or is written in a way that it does not know.

A migration after which an older process would do harm calls `raise_to` in its `up`; one that only adds does not, so
that runs of the version before go on through an upgrade.
"""

import sqlalchemy as sa

from ai_assets.base.errors import StateArriving, StateMoved, StateTooNew
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.pipeline import Sent

NEWEST = MIGRATIONS[-1][0]
NEEDS, MOVED, ARRIVING = "needs", "moved", "arriving"
_SELECT = "SELECT kind || ' ' || value FROM store_fences WHERE kind <> 'needs' OR value > {} ORDER BY kind LIMIT 1"


def raise_to(connection: sa.Connection, migration: str) -> None:
    """From now on only processes that know this migration may write."""
    put(connection, NEEDS, migration)


def put(connection: sa.Connection, kind: str, value: str) -> None:
    insert = "INSERT INTO store_fences VALUES (:kind, :value) ON CONFLICT (kind) DO UPDATE SET value = excluded.value"
    connection.execute(sa.text(insert), {"kind": kind, "value": value})


def take_down(connection: sa.Connection, kind: str) -> None:
    connection.execute(sa.text("DELETE FROM store_fences WHERE kind = :kind"), {"kind": kind})


def value_of(connection: sa.Connection, kind: str) -> str | None:
    found: str | None = connection.execute(
        sa.text("SELECT value FROM store_fences WHERE kind = :kind"), {"kind": kind}
    ).scalar_one_or_none()
    return found


def found(connection: sa.Connection) -> str | None:
    """What refuses this process, as `refuse` reads it. Each turn of the ledger asks, so the driver does."""
    select = _SELECT.format("?" if connection.dialect.name == "sqlite" else "%s")
    said: str | None = next((row[0] for row in Sent(connection, select, (NEWEST,)).all()), None)
    return said


def refuse(described: str, said: str | None) -> None:
    """Raise what a fence says of the store."""
    if said is None:
        return
    kind, _, value = said.partition(" ")
    if kind == MOVED:
        raise StateMoved(described, value)
    if kind == ARRIVING:
        raise StateArriving(described, value)
    raise StateTooNew(described, value)
