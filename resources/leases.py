"""Leases: one process at a time does a named piece of work, and a dead one never blocks the living.

A lease is a row with an owner and an expiry. A heartbeat renews it; the rows of a process that died on this machine
are taken over at once, those of a silent machine after the expiry.
"""

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import sqlalchemy as sa

from resources.errors import LeaseBusy, LeaseLost, StateUnavailable
from resources.processes import identity, is_alive
from resources.state import StateStore, upsert

TTL_S = 60.0
POLL_S = 0.1


class Lease:
    """Held while the `with` block of `hold` runs; `check` before anything that others must not see twice."""

    def __init__(self, state: StateStore, name: str, owner: str) -> None:
        self.name = name
        self._state = state
        self._owner = owner

    def check(self) -> None:
        """Raise LeaseLost when somebody else took over, as after a long suspension of this process."""
        with self._state.read() as connection:
            owner = connection.execute(
                sa.text("SELECT owner FROM leases WHERE name = :name"), {"name": self.name}
            ).scalar_one_or_none()
        if owner != self._owner:
            raise LeaseLost(self.name)

    def renew(self) -> None:
        with self._state.write() as connection:
            connection.execute(
                sa.text("UPDATE leases SET expires_at = :until WHERE name = :name AND owner = :owner"),
                {"until": time.time() + TTL_S, "name": self.name, "owner": self._owner},
            )

    def release(self) -> None:
        with self._state.write() as connection:
            connection.execute(
                sa.text("DELETE FROM leases WHERE name = :name AND owner = :owner"),
                {"name": self.name, "owner": self._owner},
            )


@contextlib.contextmanager
def hold(state: StateStore, name: str, *, wait_s: float = 600.0) -> Iterator[Lease]:
    """Wait for the lease, keep it alive while the block runs, give it back."""
    lease = Lease(state, name, uuid.uuid4().hex)
    deadline = time.monotonic() + wait_s
    while (holder := _try(state, lease)) is not None:
        if time.monotonic() >= deadline:
            raise LeaseBusy(name, holder, wait_s)
        time.sleep(POLL_S)
    stopped = threading.Event()
    heartbeat = threading.Thread(target=_beat, args=(lease, stopped), name=f"lease {name}", daemon=True)
    heartbeat.start()
    try:
        yield lease
    finally:
        stopped.set()
        heartbeat.join()
        lease.release()


def is_held(connection: sa.Connection, name: str) -> bool:
    """Whether somebody alive holds the lease."""
    row = connection.execute(sa.text("SELECT * FROM leases WHERE name = :name"), {"name": name}).one_or_none()
    return row is not None and _is_live(row)


def _beat(lease: Lease, stopped: threading.Event) -> None:
    while not stopped.wait(TTL_S / 4):
        with contextlib.suppress(StateUnavailable):  # a restarting server: the lease outlives three missed beats
            lease.renew()


def _try(state: StateStore, lease: Lease) -> str | None:
    """Take the lease; otherwise say who holds it."""
    with state.write() as connection:
        row = connection.execute(sa.text("SELECT * FROM leases WHERE name = :name"), {"name": lease.name}).one_or_none()
        if row is not None and _is_live(row):
            return f"process {row.process.partition(':')[0]} on {row.host}"
        upsert(
            connection,
            "leases",
            {"name": lease.name},
            {
                "owner": lease._owner,
                "host": socket.gethostname(),
                "process": identity(),
                "expires_at": time.time() + TTL_S,
            },
        )
    return None


def _is_live(row: sa.Row[tuple[object, ...]]) -> bool:
    return row.expires_at > time.time() and not _dead(row)


def _dead(row: sa.Row[tuple[object, ...]]) -> bool:
    return row.host == socket.gethostname() and not is_alive(row.process)
