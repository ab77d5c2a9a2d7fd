"""Claims about leases, on real databases with real processes: one holder at a time, and the dead do not count."""

import os
import signal
import socket
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Postgres, eventually

from ai_assets.base.errors import LeaseBusy, LeaseLost
from ai_assets.storage import workers
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore

SHORT_S = 0.8


def hold_often(url: str, marker: Path, times: int) -> int:
    """Fails with FileExistsError when two are inside at once."""
    store = StateStore(url)
    for _ in range(times):
        with hold(store, "work"):
            marker.touch(exist_ok=False)
            marker.unlink()
    store.close()
    return times


def hold_until_told(url: str, pipe: Connection, ttl_s: float) -> None:
    workers.TTL_S = ttl_s
    store = StateStore(url)
    with hold(store, "work") as lease:
        pipe.send("held")
        pipe.recv()
        try:
            lease.check()
            pipe.send("still mine")
        except LeaseLost as error:
            pipe.send(str(error))
    store.close()


def start_holder(
    processes: ForkServerContext, url: str, ttl_s: float = workers.TTL_S
) -> tuple[BaseProcess, Connection]:
    ours, theirs = processes.Pipe()
    holder = processes.Process(target=hold_until_told, args=(url, theirs, ttl_s))
    holder.start()
    assert ours.recv() == "held"
    return holder, ours


def holder_of(state: StateStore) -> str | None:
    with state.read() as connection:
        select = "SELECT workers.process FROM leases JOIN workers ON workers.worker_id = leases.worker_id"
        found: str | None = connection.execute(sa.text(select)).scalar_one_or_none()
    return found


def test_two_holders_never_overlap(state: StateStore, tmp_path: Path, processes: ForkServerContext) -> None:
    with ProcessPoolExecutor(4, mp_context=processes) as pool:
        assert sum(pool.map(hold_often, [state.url] * 4, [tmp_path / "inside"] * 4, [5] * 4)) == 20
    assert holder_of(state) is None


def test_the_lease_of_a_killed_process_is_taken_over_at_once(state: StateStore, processes: ForkServerContext) -> None:
    holder, _ = start_holder(processes, state.url)
    holder.kill()
    holder.join()
    started = time.monotonic()
    with hold(state, "work", wait_s=workers.TTL_S / 2) as lease:
        lease.check()
    assert time.monotonic() - started < workers.TTL_S / 4


def test_a_suspended_holder_is_replaced_and_told_so_when_it_wakes(
    state: StateStore, processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TTL_S", SHORT_S)  # a server that was just started gives everyone as much
    holder, pipe = start_holder(processes, state.url, SHORT_S)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGSTOP)
    with hold(state, "work", wait_s=20 * SHORT_S) as lease:
        os.kill(holder.pid, signal.SIGCONT)
        pipe.send("check")
        assert pipe.recv().startswith("Another process has taken over work from this one, which had not renewed")
        holder.join()
        lease.check()  # what the old holder gave back on its way out was not ours


def test_a_living_holder_is_waited_for_and_then_named(state: StateStore, processes: ForkServerContext) -> None:
    holder, pipe = start_holder(processes, state.url)
    with pytest.raises(LeaseBusy) as busy, hold(state, "work", wait_s=0.3):
        pass
    assert str(busy.value) == (
        f"'work' has been held by process {holder.pid} on {socket.gethostname()} for 0 s. "
        "Wait for it to end, or stop it."
    )
    pipe.send("end")
    with hold(state, "work", wait_s=30):
        pass
    holder.join()


def test_other_names_are_not_in_the_way(state: StateStore) -> None:
    with hold(state, "one") as one, hold(state, "two", wait_s=0) as two:
        one.check()
        two.check()


def test_a_block_that_fails_gives_its_lease_back(state: StateStore) -> None:
    with pytest.raises(RuntimeError, match="half way"), hold(state, "work"):
        raise RuntimeError("half way")
    assert holder_of(state) is None


def test_a_long_block_keeps_its_lease(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TTL_S", SHORT_S)
    with hold(state, "work") as lease:
        with pytest.raises(LeaseBusy), hold(state, "work", wait_s=2 * SHORT_S):
            pass
        lease.check()


def test_a_lease_outlives_a_restart_of_its_server(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TTL_S", SHORT_S)
    state = StateStore(postgres.database("restarted"))
    with hold(state, "work") as lease:
        postgres.stop()
        postgres.start()
        before = _expires_at(state)
        eventually(lambda: _expires_at(state) > before, timeout_s=20 * SHORT_S)
        lease.check()
    state.close()


def _expires_at(state: StateStore) -> float:
    with state.read() as connection:
        return float(connection.execute(sa.text("SELECT expires_at FROM workers")).scalar_one())
