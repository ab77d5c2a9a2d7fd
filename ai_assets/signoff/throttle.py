"""How often somebody may try to sign in. Failures are counted per account and, separately, per address.

An account waits for its own failures. An address waits for two things: for repeated failures of accounts that have
failed before, and for many accounts failing for the first time. So a correct password gets in from an address behind
which others mistype theirs, and guessing many accounts from one address is slowed.

All is counted in the state store, so that a restart or a second process opens nothing. A try is counted before it is
known how it ends: a hundred at the same instant are a hundred.
"""

from dataclasses import dataclass
from hashlib import sha256

import sqlalchemy as sa

from ai_assets.storage.state import upsert

FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 900.0
FORGOTTEN_AFTER_S = 86_400.0
FREE_OF_ACCOUNT, FREE_OF_ADDRESS = 5, 50
"""So many may fail before the next has to wait: of an account, and of an address by accounts that failed before."""
FIRST_FAILURES, FIRST_FAILURES_WITHIN_S = 100, 600.0
"""So many accounts may fail for the first time from one address, within so long."""
PLACE_KEPT_S = 90 * 86_400.0
"""How long it is remembered that an account has signed in from an address."""


@dataclass(frozen=True, kw_only=True)
class ThrottleKeys:
    """What one try is counted for. Names are kept as digests: people type their password into the wrong field."""

    account: str
    repeated: str
    """The address, for accounts that have failed before."""
    first: str
    """The address, for accounts that have not."""
    place: str
    """Account and address together: where it is known, the account does not wait for others at that address."""


def counted_for(name: str, address: str) -> ThrottleKeys:
    """`name` as it was typed, known or not; many people may be behind `address`."""
    typed, where = name.strip().casefold(), address[:200]
    return ThrottleKeys(
        account=f"name {_digest(typed)}",
        repeated=f"address {where}",
        first=f"first at {where}",
        place=_digest(f"{_digest(typed)} {where}"),
    )


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def count(connection: sa.Connection, counted: ThrottleKeys, at: float) -> float:
    """Count a try as failed, unless it has to wait; how long then. Needs a write transaction.

    A try that had to wait is not counted: who waits for as long as the message says is let in.
    """
    _clean(connection, at)
    failures, _ = _failures(connection, counted.account, at - FORGOTTEN_AFTER_S)
    if failures:
        wait = max(
            _doubling(connection, counted.account, FREE_OF_ACCOUNT, at),
            _doubling(connection, counted.repeated, FREE_OF_ADDRESS, at),
        )
    else:
        wait = 0.0 if _known_place(connection, counted, at) else _crowded(connection, counted.first, at)
    if wait > 0:
        return wait
    for key in (counted.account, counted.repeated if failures else counted.first):
        connection.execute(
            sa.text("INSERT INTO sign_in_failures (counted_for, failed_at) VALUES (:key, :at)"), {"key": key, "at": at}
        )
    return 0.0


def succeeded(connection: sa.Connection, counted: ThrottleKeys, at: float) -> None:
    """The try that was counted at that moment was good: the account starts anew, the address forgets that one."""
    connection.execute(sa.text("DELETE FROM sign_in_failures WHERE counted_for = :key"), {"key": counted.account})
    for key in (counted.repeated, counted.first):
        connection.execute(
            sa.text("DELETE FROM sign_in_failures WHERE counted_for = :key AND failed_at = :at"), {"key": key, "at": at}
        )
    upsert(connection, "sign_in_places", {"place": counted.place}, {"seen_at": at})


def _clean(connection: sa.Connection, at: float) -> None:
    """What failed in the future failed before the clock was moved back: it is counted as of now, and not forgotten."""
    connection.execute(sa.text("UPDATE sign_in_failures SET failed_at = :at WHERE failed_at > :at"), {"at": at})
    forgotten = sa.text("DELETE FROM sign_in_failures WHERE failed_at < :until")
    connection.execute(forgotten, {"until": at - FORGOTTEN_AFTER_S})
    connection.execute(sa.text("DELETE FROM sign_in_places WHERE seen_at < :until"), {"until": at - PLACE_KEPT_S})


def _failures(connection: sa.Connection, key: str, since: float) -> tuple[int, float]:
    """How many there were, and when the last was."""
    query = sa.text(
        "SELECT COUNT(*) AS failures, MAX(failed_at) AS last FROM sign_in_failures "
        "WHERE counted_for = :key AND failed_at > :since"
    )
    row = connection.execute(query, {"key": key, "since": since}).one()
    return int(row.failures), float(row.last or 0.0)


def _doubling(connection: sa.Connection, key: str, free: int, at: float) -> float:
    failures, last = _failures(connection, key, at - FORGOTTEN_AFTER_S)
    if failures < free:
        return 0.0
    return max(0.0, last + min(FIRST_WAIT_S * 2.0 ** min(failures - free, 30), LONGEST_WAIT_S) - at)


def _crowded(connection: sa.Connection, key: str, at: float) -> float:
    """Until the oldest of the last so many first failures is long enough ago."""
    query = sa.text(
        "SELECT failed_at FROM sign_in_failures WHERE counted_for = :key AND failed_at > :since "
        "ORDER BY failed_at DESC LIMIT 1 OFFSET :place"
    )
    since = at - FIRST_FAILURES_WITHIN_S
    given = {"key": key, "since": since, "place": FIRST_FAILURES - 1}
    oldest = connection.execute(query, given).scalar_one_or_none()
    return 0.0 if oldest is None else float(oldest) - since


def _known_place(connection: sa.Connection, counted: ThrottleKeys, at: float) -> bool:
    query = sa.text("SELECT 1 FROM sign_in_places WHERE place = :place AND seen_at > :since")
    given = {"place": counted.place, "since": at - PLACE_KEPT_S}
    return connection.execute(query, given).one_or_none() is not None
