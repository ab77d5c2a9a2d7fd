"""Leases: one process at a time does a named piece of work, and a dead one never blocks the living.

A lease is a row that belongs to a worker (`workers.py`): it counts while its worker is live. What others must not see
twice is written inside `fenced`, under the write lock under which leases change hands.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from ai_assets.base.errors import LeaseBusy, LeaseLost
from ai_assets.storage import workers
from ai_assets.storage.state import StateStore, upsert

POLL_S = 0.1
SAY_AFTER_S = 2.0


class Lease:
    """Held while the `with` block of `hold` runs."""

    def __init__(self, state: StateStore, name: str) -> None:
        self.name = name
        self.worker_id: int | None = None
        self._state = state
        self._hold_id = uuid.uuid4().hex

    @contextlib.contextmanager
    def fenced(self) -> Iterator[sa.Connection]:
        """A write transaction in which the lease cannot be taken over; LeaseLost where it was before."""
        with self._state.write() as connection:
            self.refuse_if_lost(connection)
            yield connection

    def refuse_if_lost(self, connection: sa.Connection) -> None:
        """Raise LeaseLost when another process has taken over, as after a long suspension of this one."""
        if _holder(connection, self.name) != self._hold_id:
            raise LeaseLost(self.name)

    def check(self) -> None:
        """Before something long that would be in vain; what is written afterwards still belongs into `fenced`."""
        with self._state.read() as connection:
            self.refuse_if_lost(connection)

    def try_take(self) -> str | None:
        """Take the lease; otherwise say who holds it."""
        worker = workers.worker_of(self._state)
        with worker.lock:
            with self._state.write() as connection:
                row = connection.execute(
                    sa.text(
                        "SELECT leases.worker_id, workers.host, workers.process FROM leases "
                        "LEFT JOIN workers ON workers.worker_id = leases.worker_id WHERE leases.name = :name"
                    ),
                    {"name": self.name},
                ).one_or_none()
                if row is not None:
                    if workers.is_live(connection, row.worker_id):
                        return f"process {row.process.partition(':')[0]} on {row.host}"
                    workers.end(connection, row.worker_id)
                self.worker_id = worker.present(connection)
                upsert(
                    connection, "leases", {"name": self.name}, {"worker_id": self.worker_id, "hold_id": self._hold_id}
                )
            worker.taken(self.worker_id)
        return None

    def give_back(self) -> None:
        worker = workers.worker_of(self._state)
        with worker.lock:
            try:
                with self._state.write() as connection:
                    connection.execute(
                        sa.text("DELETE FROM leases WHERE name = :name AND hold_id = :hold"),
                        {"name": self.name, "hold": self._hold_id},
                    )
                    worker.given_back(connection)
            finally:
                worker.dropped()


@contextlib.contextmanager
def hold(
    state: StateStore, name: str, *, wait_s: float = 600.0, say: Callable[[str], None] = lambda _line: None
) -> Iterator[Lease]:
    """Wait for the lease, keep it while the block runs, give it back. LeaseLost when this process was taken over."""
    lease = Lease(state, name)
    started, said = time.monotonic(), False
    while (holder := lease.try_take()) is not None:
        waited_s = time.monotonic() - started
        if waited_s >= wait_s:
            raise LeaseBusy(name, holder, wait_s)
        if waited_s >= SAY_AFTER_S and not said:
            say(f"waiting for {holder}, which holds '{name}' (at most {wait_s:.0f} s)")
            said = True
        time.sleep(POLL_S)
    try:
        yield lease
    finally:
        lease.give_back()


def is_held(connection: sa.Connection, name: str) -> bool:
    """Whether a live worker holds the lease."""
    worker_id = connection.execute(
        sa.text("SELECT worker_id FROM leases WHERE name = :name"), {"name": name}
    ).scalar_one_or_none()
    return workers.is_live(connection, worker_id)


def _holder(connection: sa.Connection, name: str) -> str | None:
    """The hold that counts: a worker without a row is not allowed to act, whatever its leases say."""
    found: str | None = connection.execute(
        sa.text(
            "SELECT leases.hold_id FROM leases JOIN workers ON workers.worker_id = leases.worker_id "
            "WHERE leases.name = :name"
        ),
        {"name": name},
    ).scalar_one_or_none()
    return found
