"""How often somebody may try to sign in: failures are counted for the name and for the address, and make them wait.

They are counted in the state store, so that a restart or a second process opens nothing. A try is counted before it is
known how it ends: a hundred at the same instant are a hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 900.0
FORGOTTEN_AFTER_S = 86_400.0


@dataclass(frozen=True)
class Counter:
    """What failures are counted for."""

    key: str
    free: int
    """So many may fail before the next has to wait."""


def counters(name: str, address: str) -> tuple[Counter, Counter]:
    """Of a name as it was typed, known or not, and of an address, behind which many people may be.

    The name is kept as a digest: people type their password into the wrong field.
    """
    return (
        Counter(f"name {sha256(name.strip().casefold().encode('utf-8', 'surrogatepass')).hexdigest()}", free=5),
        Counter(f"address {address[:200]}", free=50),
    )


def _wait_s(connection: sa.Connection, counted: Sequence[Counter], at: float) -> float:
    """How long the next try has to wait; 0 when it may be made now."""
    longest = 0.0
    for counter in counted:
        row = connection.execute(
            sa.text(
                "SELECT COUNT(*) AS failures, MAX(failed_at) AS last FROM sign_in_failures "
                "WHERE counted_for = :key AND failed_at > :since"
            ),
            {"key": counter.key, "since": at - FORGOTTEN_AFTER_S},
        ).one()
        if row.failures >= counter.free:
            doublings = min(row.failures - counter.free, 30)
            longest = max(longest, row.last + min(FIRST_WAIT_S * 2**doublings, LONGEST_WAIT_S) - at)
    return longest


def count(connection: sa.Connection, counted: Sequence[Counter], at: float) -> float:
    """Count a try as failed, unless it has to wait; how long then. Needs a write transaction.

    A try that had to wait is not counted: who waits as they are told is let in.
    """
    # What failed in the future failed before the clock was moved back. Nobody waits for it to come round again, and
    # nothing is forgotten.
    connection.execute(sa.text("UPDATE sign_in_failures SET failed_at = :at WHERE failed_at > :at"), {"at": at})
    forgotten = sa.text("DELETE FROM sign_in_failures WHERE failed_at < :until")
    connection.execute(forgotten, {"until": at - FORGOTTEN_AFTER_S})
    if (wait := _wait_s(connection, counted, at)) > 0:
        return wait
    for counter in counted:
        connection.execute(
            sa.text("INSERT INTO sign_in_failures (counted_for, failed_at) VALUES (:key, :at)"),
            {"key": counter.key, "at": at},
        )
    return 0.0


def succeeded(connection: sa.Connection, name: Counter, address: Counter, at: float) -> None:
    """The try that was counted at that moment was good: the name starts anew, the address only takes that one back."""
    connection.execute(sa.text("DELETE FROM sign_in_failures WHERE counted_for = :key"), {"key": name.key})
    connection.execute(
        sa.text("DELETE FROM sign_in_failures WHERE counted_for = :key AND failed_at = :at"),
        {"key": address.key, "at": at},
    )
