"""The ledger in PostgreSQL beside bare aiohttp: on this machine, and with 2 ms between it and its server.

The network is a proxy (`bench/delaying_proxy.py`) that holds each packet for half of that in either direction.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.inference import CONCURRENCY, bare_calls, run_module
from bench.measure import ROOT, Figure
from tests.postgres_server import Postgres, running_postgres
from tests.provider import Provider

CALLS = 1500
REPEATS = 5
NETWORK_S = 0.002


def measure() -> list[Figure]:
    with (
        running_postgres() as server,
        Provider(answers="quick", latency_ms=50) as provider,
        _far(server, NETWORK_S) as port,
    ):
        near, far = [], []
        for number in range(REPEATS):
            bare, _ = bare_calls(provider, CALLS)
            for kind, at, found in (("near", server.port, near), ("far", port, far)):
                url = server.database(f"{kind}{number}").replace(f":{server.port}/", f":{at}/")
                found.append((_ours(provider, url), bare))
    return [
        _figure("1,500 calls, 50 ms, 64 at once, ledger in PostgreSQL: speed / bare aiohttp", near, 0.78),
        _figure("the same with 2 ms of network between", far, 0.65),
    ]


def _ours(provider: Provider, url: str) -> float:
    provider.reset()
    found = run_module("bench.engine_client", provider.url, CALLS, CONCURRENCY, url)
    stats = provider.stats()
    assert (found["answered"], stats["billed_twice"]) == (CALLS, 0)
    return float(CALLS / (stats["last_call_at"] - stats["first_call_at"]))


def _figure(name: str, pairs: list[tuple[float, float]], limit: float) -> Figure:
    ratios = sorted(ours / bare for ours, bare in pairs)
    middle = " and ".join(f"{statistics.median(side):.0f}" for side in zip(*pairs, strict=True))
    detail = f"{middle} calls/s; {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} pairs"
    return Figure(name=name, value=statistics.median(ratios), limit=limit, at_most=False, detail=detail)


@contextmanager
def _far(server: Postgres, seconds: float) -> Iterator[int]:
    """The port at which the server is so many seconds away, there and back."""
    proxy = subprocess.Popen(
        [sys.executable, "-m", "bench.delaying_proxy", str(server.port), str(seconds / 2)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert proxy.stdout is not None
        yield int(proxy.stdout.readline())
    finally:
        proxy.kill()
        proxy.wait()


if __name__ == "__main__":
    for figure in measure():
        print(*figure.row(), sep=" | ")
