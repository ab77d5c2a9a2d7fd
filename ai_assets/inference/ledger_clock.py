"""The date and time that the ledger goes by: the PostgreSQL server's, so that processes with wrong clocks agree.

With SQLite all processes are on one machine, whose clock it is then.
"""

import datetime
import logging
import time
from collections.abc import Callable

import sqlalchemy as sa

from ai_assets.storage import workers
from ai_assets.storage.state import StateStore

TELL_FROM_S = 30.0
_log = logging.getLogger("ai_assets.ledger")


class LedgerClock:
    """How far the clock of this machine is off, as of the last turn."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._told = False

    def set_by(self, server_s: float) -> None:
        self._ahead_s = time.time() - server_s
        if abs(self._ahead_s) >= TELL_FROM_S and not self._told:
            self._told = True
            where = "ahead of" if self._ahead_s > 0 else "behind"
            _log.warning(
                "The clock of this machine is %.0f s %s that of the state store, which the ledger goes by. "
                "Set it, for example by NTP.",
                abs(self._ahead_s),
                where,
            )

    def now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(time.time() - self._ahead_s, datetime.UTC)

    def text(self) -> str:
        """As every table holds it."""
        return self.now().isoformat(timespec="milliseconds")


Clock = Callable[[sa.Connection], datetime.datetime]


def store_clock(connection: sa.Connection) -> datetime.datetime:
    """The same for who has no ledger open."""
    if connection.dialect.name == "sqlite":
        return datetime.datetime.now(datetime.UTC)
    return datetime.datetime.fromtimestamp(workers.read_clock(connection).now_s, datetime.UTC)


def store_moment(state: StateStore) -> datetime.datetime:
    """The same for who has no connection open; SQLite needs none for it."""
    if state.dialect == "sqlite":
        return datetime.datetime.now(datetime.UTC)
    with state.read() as connection:
        return store_clock(connection)
