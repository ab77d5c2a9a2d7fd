"""What telemetry costs a call: the engine with a collector and without, alternated on one rehearsal provider.

Processor time of the process that asks, encoding and sending included; the collector is another process. As in a run,
the garbage collector leaves alone what was there before the first call, OpenTelemetry's modules among it:
`telemetry.py URL CALLS CONCURRENCY STATE_URL` is the process that asks.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from ai_assets.base.collector import old_objects_left_alone
from ai_assets.telemetry.endpoints import is_configured
from bench import engine_client
from bench.inference import CONCURRENCY, _state, run_module
from bench.measure import ROOT, Figure
from tests.provider import Provider

CALLS = 3000
REPEATS = 5
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_COLLECTOR = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): ...
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def _one(provider: Provider, collector: str | None) -> tuple[float, float]:
    """Seconds of processor and by the clock, for all calls."""
    provider.reset()
    if collector is not None:
        os.environ[ENDPOINT] = collector
    try:
        with _state() as url:
            found = run_module("bench.telemetry", provider.url, CALLS, CONCURRENCY, url)
    finally:
        os.environ.pop(ENDPOINT, None)
    assert found["answered"] == CALLS, found
    stats = provider.stats()
    return float(found["work_s"]), float(stats["last_call_at"] - stats["first_call_at"])


def measure() -> list[Figure]:
    pairs = []
    with Provider(answers="quick", latency_ms=50) as provider, _collector() as collector:
        _one(provider, collector)  # the first of all is slower
        for number in range(REPEATS):
            if number % 2:
                with_it = _one(provider, collector)
                pairs.append((with_it, _one(provider, None)))
            else:
                without = _one(provider, None)
                pairs.append((_one(provider, collector), without))
    work = statistics.median(on[0] / off[0] for on, off in pairs)
    speed = statistics.median(off[1] / on[1] for on, off in pairs)
    on_us, off_us = (statistics.median(pair[at][0] for pair in pairs) / CALLS * 1e6 for at in (0, 1))
    return [
        Figure(name=f"{CALLS:,} calls: processor time with a collector / without", value=work, limit=1.05, at_most=True,
               detail=f"{on_us:.0f} and {off_us:.0f} us a call"),
        Figure(name=f"{CALLS:,} calls, 50 ms, 64 at once: speed with a collector / without", value=speed, limit=0.95,
               at_most=False, detail="two spans and eight values of metrics for each call"),
    ]  # fmt: skip


def _ask(url: str, calls: str, concurrency: str, state_url: str) -> None:
    if is_configured():
        from ai_assets.telemetry import exporting  # noqa: F401  # before the block, as a run does
    with old_objects_left_alone():
        print(json.dumps(engine_client.main(url, int(calls), int(concurrency), state_url)))


if __name__ == "__main__":
    _ask(*sys.argv[1:])
