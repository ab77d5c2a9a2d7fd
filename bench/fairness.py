"""Who waits while others flood an endpoint: interactive calls beside batch work, one collection beside another.

Over several processes, on SQLite and on PostgreSQL, with calls that take long and cost little processor time. An idle
system is the same questions with nobody else there.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.engine_client import settings
from bench.measure import ROOT, Figure
from tests.postgres_server import is_installed, running_postgres
from tests.provider import Provider

PLACES = 6
LATENCY_MS = 500
CALLS = 30
FLOODS = 2
"""Processes."""
ALONE_S = 6.0


def measure() -> list[Figure]:
    found = []
    with Provider(answers="quick", latency_ms=LATENCY_MS) as provider:
        with tempfile.TemporaryDirectory() as folder:
            found += _on("SQLite", provider, [f"sqlite:///{folder}/{name}.db" for name in ("batch", "shares")])
        if is_installed():
            with running_postgres() as server:
                found += _on("PostgreSQL", provider, [server.database(name) for name in ("batch", "shares")])
        else:
            print("PostgreSQL is not installed; nothing was measured on it")
    return found


def _on(store: str, provider: Provider, state_urls: Sequence[str]) -> list[Figure]:
    return [*_interactive(store, provider, state_urls[0]), *_shares(store, provider, state_urls[1])]


def _interactive(store: str, provider: Provider, state_url: str) -> list[Figure]:
    """One who asks now and then, beside batch work without end."""
    asks = _Told(provider, state_url, priority="interactive", collection="desk")
    flood = _Told(provider, state_url, priority="batch", collection="archive")
    idle, beside, _ = _in_turns(asks, flood, at_once=1)
    queued, whole = (_p95(beside[name]) / _p95(idle[name]) for name in ("queued_s", "whole_s"))
    said = f"{_ms(idle, 'queued_s')} and {_ms(beside, 'queued_s')} ms"
    return [
        Figure(name=f"{store}: interactive beside a flood of batch, p95 of the time in the queue / idle", value=queued,
               limit=2, at_most=True, detail=said),
        Figure(name=f"{store}: the same of the whole call", value=whole, limit=1.25, at_most=True,
               detail=f"{_ms(idle, 'whole_s')} and {_ms(beside, 'whole_s')} ms"),
    ]  # fmt: skip


def _shares(store: str, provider: Provider, state_url: str) -> list[Figure]:
    """A collection that wants a third of the places, beside another one's flood of the same priority."""
    asks = _Told(provider, state_url, priority="normal", collection="claims")
    flood = _Told(provider, state_url, priority="normal", collection="archive")
    idle, beside, together = _in_turns(asks, flood, at_once=PLACES // 3)
    whole = _p95(beside["whole_s"]) / _p95(idle["whole_s"])
    return [
        Figure(name=f"{store}: a collection beside another's flood, p95 of the whole call / idle", value=whole, limit=2,
               at_most=True, detail=f"{_ms(idle, 'whole_s')} and {_ms(beside, 'whole_s')} ms"),
        Figure(name=f"{store}: calls per second of both / of the flood alone", value=together, limit=0.9, at_most=False,
               detail="no place lies idle between them"),
    ]  # fmt: skip


class _Told:
    """What processes of one kind are told."""

    def __init__(self, provider: Provider, state_url: str, **what: Any) -> None:
        declared = settings(provider.url, PLACES).model_dump(mode="json", by_alias=True, exclude_defaults=True)
        self.provider = provider
        self._what = {"state_url": state_url, "settings": declared, **what}
        self._number = 0
        self._first = zlib.crc32(json.dumps(what).encode()) << 20
        """Nobody asks what another one asks, which would be answered from the ledger."""

    def process(self, **more: Any) -> "subprocess.Popen[str]":
        self._number += 1
        name = f"{self._what['collection']}-{self._number}"
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.fair_client"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(
            json.dumps({**self._what, "name": name, "sample": self._first + (self._number << 14), **more}) + "\n"
        )
        process.stdin.flush()
        return process

    def asked(self, at_once: int) -> dict[str, list[float]]:
        process = self.process(calls=CALLS, at_once=at_once, pause_s=0.05)
        out, _ = process.communicate(timeout=600)
        found: dict[str, list[float]] = json.loads(out.splitlines()[-1])
        return found


_Times = Mapping[str, list[float]]


def _in_turns(asks: _Told, flood: _Told, *, at_once: int) -> tuple[_Times, _Times, float]:
    """Idle, and beside the flood; and how many calls all made then, for one that the flood makes alone."""
    idle = asks.asked(at_once)
    with _flooding(flood):
        with _Rate(flood.provider) as alone:
            time.sleep(ALONE_S)
        with _Rate(flood.provider) as together:
            beside = asks.asked(at_once)
        with _Rate(flood.provider) as again:
            time.sleep(ALONE_S)
    again_idle = asks.asked(at_once)
    shares = together.per_s / statistics.mean((alone.per_s, again.per_s))
    return {name: [*times, *again_idle[name]] for name, times in idle.items()}, beside, shares


class _Rate:
    """Calls per second that a provider has had within the block."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.per_s = 0.0

    def __enter__(self) -> "_Rate":
        self._calls, self._started = self._provider.stats()["calls"], time.perf_counter()
        return self

    def __exit__(self, *_exit: object) -> None:
        calls = self._provider.stats()["calls"] - self._calls
        self.per_s = calls / (time.perf_counter() - self._started)


@contextlib.contextmanager
def _flooding(flood: _Told) -> Iterator[None]:
    processes = [flood.process(flood=True) for _ in range(FLOODS)]
    try:
        enough = flood.provider.stats()["calls"] + 4 * PLACES
        while flood.provider.stats()["calls"] < enough:
            time.sleep(0.2)
        yield
    finally:
        for process in processes:  # what they hold is given back, as after any death
            process.kill()
            process.communicate()


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _ms(times: _Times, name: str) -> str:
    return f"{_p95(times[name]) * 1000:.0f}"
