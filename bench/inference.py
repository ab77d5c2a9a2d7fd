"""The paid-call engine beside bare aiohttp, on one rehearsal provider: speed, processor time, memory, 429s and faults.

With AI_ASSETS_PEERS=<folder of peer programs> those whose packages are installed run beside it too.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import ROOT, Figure
from tests.provider import Provider

CONCURRENCY = 64
REPEATS = 3


def measure() -> list[Figure]:
    return [*_speed(), *_protocols(), *_bare_cost(), _memory(), _faults(), *_ramp()]


def run_module(module: str, *arguments: str | int | Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=900,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextlib.contextmanager
def _state() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/state.db"


def _rate(provider: Provider, calls: int) -> float:
    """Calls per second from the first that came in to the last, so that starting up is nobody's burden."""
    stats = provider.stats()
    return float(calls / (stats["last_call_at"] - stats["first_call_at"]))


def bare_calls(provider: Provider, calls: int, protocol: str = "openai") -> tuple[float, dict[str, Any]]:
    provider.reset()
    found = run_module("bench.bare_client", _url(provider, protocol), calls, CONCURRENCY, protocol)
    assert found["answered"] == calls, found
    return _rate(provider, calls), found


def _url(provider: Provider, protocol: str) -> str:
    return provider.url if protocol == "openai" else provider.root


def _engine(
    provider: Provider, calls: int, concurrency: int = CONCURRENCY, protocol: str = "openai"
) -> tuple[float, dict[str, Any]]:
    provider.reset()
    with _state() as url:
        found = run_module("bench.engine_client", _url(provider, protocol), calls, concurrency, url, protocol)
    assert found["answered"] == calls, found
    assert provider.stats()["billed_twice"] == 0
    return _rate(provider, calls), found


def _alternated(provider: Provider, calls: int, protocol: str = "openai") -> tuple[float, float]:
    """Medians of engine and bare client, taken in turns, so that a noisy minute hits both."""
    pairs = [
        (_engine(provider, calls, protocol=protocol)[0], bare_calls(provider, calls, protocol)[0])
        for _ in range(REPEATS)
    ]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def _speed() -> list[Figure]:
    with Provider(answers="quick", latency_ms=50) as provider:
        ours, bare = _alternated(provider, 1000)
    return [
        Figure(name="1,000 calls, 50 ms, 64 at once: speed / bare aiohttp", value=ours / bare, limit=0.8,
               at_most=False, detail=f"{ours:.0f} and {bare:.0f} calls/s"),
        *_peers(),
    ]  # fmt: skip


def _protocols() -> list[Figure]:
    """Of the model servers: a text in each request, as the bare client sends it."""
    found = []
    for protocol in ("kserve", "tei"):
        with Provider(answers="quick", latency_ms=50) as provider:
            ours, bare = _alternated(provider, 1000, protocol)
        name = f"1,000 texts through {protocol}, 50 ms, 64 at once: speed / bare aiohttp"
        detail = f"{ours:.0f} and {bare:.0f} calls/s"
        found.append(Figure(name=name, value=ours / bare, limit=0.75, at_most=False, detail=detail))
    return found


def _peers() -> list[Figure]:
    """Each beside the engine, on the peers' own server; what is not installed here is not measured."""
    folder = os.environ.get("AI_ASSETS_PEERS")
    if not folder:
        return []
    server = subprocess.Popen(
        [sys.executable, Path(folder) / "server.py", "--latency-ms", "50"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{json.loads(server.stdout.readline())['port']}"
        with _state() as state_url:
            run_module("bench.engine_client", f"{url}/v1", 1000, CONCURRENCY, state_url)
        ours = _server_rate(url)
        names = ("peer_aiohttp", "peer_openai", "peer_httpx", "peer_threads", "peer_dagster_asset")
        return [figure for name in names if (figure := _peer(Path(folder) / f"{name}.py", url, ours))]
    finally:
        server.kill()
        server.wait()


def _peer(program: Path, url: str, ours: float) -> Figure | None:
    _get(f"{url}/reset")
    with tempfile.TemporaryDirectory() as work:
        environment = {"BENCH_URL": f"{url}/v1", "BENCH_N": "1000", "BENCH_CONC": str(CONCURRENCY), "BENCH_WORK": work}
        done = subprocess.run(
            [sys.executable, program], cwd=program.parent, env={**os.environ, **environment}, capture_output=True,
            text=True, check=False, timeout=300,
        )  # fmt: skip
    if done.returncode != 0:
        print(f"{program.stem} did not run: {done.stderr.strip().splitlines()[-1]}")
        return None
    theirs = _server_rate(url)
    limit = 0.8 if program.stem == "peer_aiohttp" else 1.0
    return Figure(name=f"speed / {program.stem}", value=ours / theirs, limit=limit, at_most=False,
                  detail=f"{ours:.0f} and {theirs:.0f} calls/s")  # fmt: skip


def _server_rate(url: str) -> float:
    stats = json.loads(_get(f"{url}/stats"))
    return float(stats["billed"] / (stats["t_last"] - stats["t_first"]))


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        found: bytes = answer.read()
        return found


def _bare_cost() -> list[Figure]:
    with Provider(answers="quick") as provider:
        per_call = statistics.median(_engine(provider, 5000)[1]["work_s"] / 5000 * 1000 for _ in range(REPEATS))
    return [
        Figure(name="no latency: processor time of a call, ms", value=per_call, limit=1.0, at_most=True,
               detail="engine, ledger and budgets, 5,000 calls"),
    ]  # fmt: skip


def _memory() -> Figure:
    with Provider(answers="quick") as provider:
        few, many = (_engine(provider, calls)[1]["peak_kib"] for calls in (2000, 20_000))
    return Figure(name="peak memory of 20,000 calls / 2,000", value=many / few, limit=1.2, at_most=True,
                  detail=f"{many / 1024:.0f} and {few / 1024:.0f} MiB")  # fmt: skip


def _faults() -> Figure:
    with Provider(answers="quick", latency_ms=50, fault={"server_error": 0.1, "rate_limited": 0.1}) as provider:
        ours, bare = _alternated(provider, 1000)
    return Figure(name="10 % 500 and 10 % 429: speed / bare aiohttp, same backoff", value=ours / bare, limit=0.9,
                  at_most=False, detail=f"{ours:.0f} and {bare:.0f} calls/s")  # fmt: skip


def _ramp() -> list[Figure]:
    allowed = 20
    with Provider(answers="quick", latency_ms=50, concurrency=allowed) as provider:
        rate, _ = _engine(provider, 2000)
        statuses = provider.stats()["statuses"]
    refused = statuses.get("429", 0)
    ideal = allowed / 0.05
    return [
        Figure(name="provider takes 20 at a time: share of 429", value=refused / (refused + 2000), limit=0.05,
               at_most=True, detail=f"{refused} of {refused + 2000}, warm-up included"),
        Figure(name="provider takes 20 at a time: speed / what it allows", value=rate / ideal, limit=0.85,
               at_most=False, detail=f"{rate:.0f} of {ideal:.0f} calls/s"),
    ]  # fmt: skip
