"""Workers: a process that holds leases in a state store, and whether it still may act.

A worker has a row while it may act, and renews the row's expiry. A process that takes over from it deletes the row in
the same transaction; the worker finds that out before it opens a call or commits a dataset, because both happen under
the same write lock. Its number is never used again, so it serves as the fencing token.

Two things end a worker: its process is seen to have ended (same namespace, same boot), or its row expired. Expiry is
measured by one clock that no process can set: the server's in PostgreSQL, seconds since boot with SQLite, whose
processes are always on one machine.
"""

import contextlib
import socket
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.errors import LeaseLost, StateUnavailable
from ai_assets.base.processes import boot_clock_s, boot_id, identity, standing
from ai_assets.storage.state import StateStore

TTL_S = 60.0
BEATS_PER_TTL = 4
LOOK_S = 1.0
"""How often the heartbeat looks at the clock: after a machine has slept it must not wait for the rest of its pause."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A reading of the one clock by which expiry is measured."""

    now_s: float
    silent_until_s: float = 0.0
    """Before this moment, workers had no chance to renew: the server has been up for less than a TTL."""


def read_clock(connection: sa.Connection) -> Clock:
    if connection.dialect.name == "sqlite":
        return Clock(now_s=boot_clock_s())
    row = connection.execute(
        sa.text(
            "SELECT extract(epoch FROM clock_timestamp()) AS now_s, "
            "extract(epoch FROM pg_postmaster_start_time()) AS started_s"
        )
    ).one()
    return Clock(now_s=float(row.now_s), silent_until_s=float(row.started_s) + TTL_S)


def is_live(connection: sa.Connection, worker_id: int | None) -> bool:
    """Whether the worker may act, or can be expected to come back in time."""
    if worker_id is None:
        return False
    row = connection.execute(
        sa.text("SELECT * FROM workers WHERE worker_id = :worker"), {"worker": worker_id}
    ).one_or_none()
    if row is None:
        return False
    if row.host == socket.gethostname() and standing(row.process) == "ended":
        return False
    if connection.dialect.name == "sqlite" and row.boot != boot_id():
        return False
    clock = read_clock(connection)
    return max(float(row.expires_at), clock.silent_until_s) > clock.now_s


def is_process_live(connection: sa.Connection, process: str) -> bool:
    """Whether a process, by its identity, holds anything and is live."""
    select = sa.text("SELECT worker_id FROM workers WHERE process = :process")
    found: Sequence[int] = connection.execute(select, {"process": process}).scalars().all()
    return any(is_live(connection, worker_id) for worker_id in found)


def end(connection: sa.Connection, worker_id: int | None) -> None:
    """Take over from a worker that is not live: whatever it held is free, and it may not act any more."""
    for table in ("leases", "workers"):
        connection.execute(sa.text(f"DELETE FROM {table} WHERE worker_id = :worker"), {"worker": worker_id})  # noqa: S608


class Worker:
    """This process as the users of one state store see it: there while it holds anything."""

    def __init__(self, state: StateStore) -> None:
        self._state = weakref.ref(state)
        self._lock = threading.Lock()
        self._holds = 0
        self._id: int | None = None
        self._stopped = threading.Event()

    @property
    def lock(self) -> threading.Lock:
        """Taken around the transaction in which a thread of this process takes or gives back a lease."""
        return self._lock

    def present(self, connection: sa.Connection) -> int:
        """The number to act under; registers the process where it holds nothing yet. Call `taken` after the commit."""
        expires_at = read_clock(connection).now_s + TTL_S
        if self._id is None:
            row = {"host": socket.gethostname(), "process": identity(), "boot": boot_id(), "until": expires_at}
            insert = (
                "INSERT INTO workers (host, process, boot, expires_at) VALUES (:host, :process, :boot, :until) "
                "RETURNING worker_id"
            )
            return int(connection.execute(sa.text(insert), row).scalar_one())
        if not _renewed(connection, self._id, expires_at):
            raise LeaseLost
        return self._id

    def taken(self, worker_id: int) -> None:
        """A lease was committed under this number."""
        self._holds += 1
        if self._id is None:
            self._id, self._stopped = worker_id, threading.Event()
            beat = threading.Thread(target=self._beat, args=(worker_id, self._stopped), name="heartbeat", daemon=True)
            beat.start()

    def given_back(self, connection: sa.Connection) -> None:
        """One lease less; with the last one the process needs no row."""
        if self._holds == 1 and self._id is not None:
            end(connection, self._id)

    def dropped(self) -> None:
        """That was committed, or cannot be: without renewal the row expires."""
        self._holds -= 1
        if self._holds == 0:
            self._stopped.set()
            self._id = None

    def _beat(self, worker_id: int, stopped: threading.Event) -> None:
        due = boot_clock_s() + TTL_S / BEATS_PER_TTL
        while not stopped.wait(min(LOOK_S, TTL_S / BEATS_PER_TTL)):
            if boot_clock_s() < due:
                continue
            state = self._state()
            if state is None:
                return
            # A restarting server: the row outlives three missed beats, and a restart gives everyone a whole TTL.
            with contextlib.suppress(StateUnavailable), state.write() as connection:
                if not _renewed(connection, worker_id, read_clock(connection).now_s + TTL_S):
                    return
            due = boot_clock_s() + TTL_S / BEATS_PER_TTL


def _renewed(connection: sa.Connection, worker_id: int, expires_at: float) -> bool:
    """False where another process has taken over. Expired and not taken over is as good as never expired."""
    update = sa.text("UPDATE workers SET expires_at = :until WHERE worker_id = :worker")
    return connection.execute(update, {"until": expires_at, "worker": worker_id}).rowcount == 1


_workers: "weakref.WeakKeyDictionary[StateStore, Worker]" = weakref.WeakKeyDictionary()
_workers_lock = threading.Lock()


def worker_of(state: StateStore) -> Worker:
    with _workers_lock:
        found = _workers.get(state)
        if found is None:
            found = _workers[state] = Worker(state)
        return found
