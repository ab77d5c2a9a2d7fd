"""How PostgreSQL is reached: what every connection is told, and how many of them a process has at most.

All state stores of a process with one address share one pool. Nothing here belongs to a session of the server beyond a
transaction, so that a pooler in transaction mode may stand between: locks and settings are those of a transaction, and
where a pooler is noticed, statements are not prepared.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import sqlalchemy as sa

from ai_assets.base.environment import CONNECTIONS
from ai_assets.base.errors import StateUnavailable

CONNECT_TIMEOUT_S = 10
"""A host that does not answer at all, instead of the minutes that the system waits."""
FREE_CONNECTION_TIMEOUT_S = 30.0
"""Until one of this process's own connections is free."""
JUST_USED_S = 1.0
_USED_AT = "ai_assets_used_at"
_trusts: ContextVar[bool] = ContextVar("trusts_what_was_just_used", default=False)
_SECRET_PARAMETERS = ("password", "sslpassword")


def is_postgres(url: sa.URL) -> bool:
    return url.drivername.partition("+")[0] in ("postgresql", "postgres")


def parsed(url: str | sa.URL) -> sa.URL:
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # its words may hold a part of the password
        raise StateUnavailable("address", "it is not a database URL such as postgresql://user@host/name") from None


@lru_cache
def described(url: str | sa.URL) -> str:
    """The address without its passwords, which may stand in two places."""
    address = parsed(url)
    return address.difference_update_query(_SECRET_PARAMETERS).render_as_string(hide_password=True)


def parameters(url: sa.URL, program: str = "ai-assets") -> dict[str, Any]:
    """Of libpq; what the address says itself goes first. A server that has gone is noticed within a minute."""
    told = {
        "application_name": program,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return {name: value for name, value in told.items() if name not in url.query}


def address_for(url: sa.URL, driver: str, program: str = "ai-assets") -> sa.URL:
    """The address with all of that, for another program's engine."""
    told = {name: str(value) for name, value in parameters(url, program).items()}
    return url.set(drivername=f"postgresql+{driver}").update_query_dict(told)


def engine_of(url: sa.URL, *, driver: str = "psycopg", connections: int = 2, **more: Any) -> sa.Engine:
    """One with so many connections at most."""
    engine = sa.create_engine(
        address_for(url, driver, "dagster" if driver == "psycopg2" else "ai-assets"),
        pool_size=connections,
        max_overflow=0,  # one that is closed is still counted by the server when its successor is opened
        pool_use_lifo=True,
        pool_timeout=FREE_CONNECTION_TIMEOUT_S,
        **more,
    )
    if driver == "psycopg":
        sa.event.listen(engine, "connect", _prepare_nothing_behind_a_pooler)
    sa.event.listen(engine, "checkin", _note_when_used)
    sa.event.listen(engine, "checkout", partial(_look_whether_it_is_there, engine.dialect))
    return engine


@contextlib.contextmanager
def trusting_what_was_just_used() -> Iterator[None]:
    """Within the block a connection that was used a moment ago is taken to be there still, which saves a round trip.
    For who asks again where it is not."""
    token = _trusts.set(True)
    try:
        yield
    finally:
        _trusts.reset(token)


def _note_when_used(_connection: Any, record: Any) -> None:
    record.info[_USED_AT] = time.monotonic()


def _look_whether_it_is_there(dialect: sa.Dialect, connection: Any, record: Any, _proxy: object) -> None:
    """One that the server has closed is replaced, and so are all that were opened before it."""
    used_at: float | None = record.info.get(_USED_AT)
    if used_at is None or (_trusts.get() and time.monotonic() - used_at < JUST_USED_S):
        return  # it is new, or was used a moment ago
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:  # type: ignore[attr-defined, unused-ignore]
        if dialect.is_disconnect(error, connection, None):
            raise sa.exc.InvalidatePoolError from error
        raise


def _prepare_nothing_behind_a_pooler(connection: Any, _record: object) -> None:
    """A pooler gives each transaction another session of the server, which does not know what was prepared.

    It is noticed by the number of the server's process, which a pooler makes up.
    """
    with connection.cursor() as cursor:
        (served_by,) = cursor.execute("SELECT pg_backend_pid()").fetchone()
    connection.rollback()
    if served_by != connection.info.backend_pid:
        connection.prepare_threshold = None


@dataclass
class ConnectionGate:
    """Keeps one connection free for a thread that holds one and takes another: they cannot all wait for each other."""

    connections: int
    _outer: threading.Semaphore = field(init=False)
    _depths: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._outer = threading.Semaphore(self.connections - 1)

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._lock:
            depth = self._depths.get(thread, 0)
            self._depths[thread] = depth + 1
        is_outer = depth == 0
        try:
            if is_outer and not self._outer.acquire(timeout=FREE_CONNECTION_TIMEOUT_S):
                is_outer = False
                raise sa.exc.TimeoutError
            yield
        finally:
            if is_outer:
                self._outer.release()
            with self._lock:
                self._depths[thread] -= 1
                if not self._depths[thread]:
                    del self._depths[thread]


@dataclass
class SharedEngine:
    """The one pool of this process for an address."""

    engine: sa.Engine
    gate: ConnectionGate
    users: int = 0


_shared: dict[tuple[int, str], SharedEngine] = {}
_shared_lock = threading.Lock()


def borrow(url: sa.URL, connections: int = CONNECTIONS) -> SharedEngine:
    """Give it back with `give_back`. The first who borrows says how many connections there are."""
    key = (os.getpid(), url.render_as_string(hide_password=False))
    with _shared_lock:
        found = _shared.get(key)
        if found is None:
            found = SharedEngine(engine_of(url, connections=connections), ConnectionGate(connections))
            _shared[key] = found
        found.users += 1
        return found


def give_back(shared: SharedEngine) -> None:
    """The last user's connections are closed; one that is in a transaction closes its own at its end."""
    with _shared_lock:
        shared.users -= 1
        if shared.users == 0:
            for key in [key for key, found in _shared.items() if found is shared]:
                del _shared[key]
            shared.engine.dispose()
