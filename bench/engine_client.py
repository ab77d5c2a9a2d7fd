"""The engine with everything it does: `engine_client.py URL CALLS CONCURRENCY STATE_URL [PROTOCOL]`, a line of JSON.

Where a collector is configured (OTEL_EXPORTER_OTLP_ENDPOINT), each call is told to it.
"""

import json
import resource
import sys
import time

from ai_assets.inference.engine import Engine
from ai_assets.inference.records import Answer, Caller, Request
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore
from ai_assets.telemetry.endpoints import is_configured
from bench.requests import messages


def settings(url: str, concurrency: int, protocol: str = "openai") -> InferenceSettings:
    backoff = {"attempts": 12, "base_s": 0.25, "cap_s": 8}
    return InferenceSettings.model_validate(
        {
            "endpoints": {
                "bench": {
                    "base_url": url,
                    "protocol": protocol,
                    "model": MODELS.get(protocol, "rehearsal-mini"),
                    "options": OPTIONS.get(protocol, {}),
                    "texts_per_request": 1,
                    "errors_are_free": True,
                    "prices": [{"from": "2026-01-01", "input": 0.15, "output": 0.6}],
                    "limits": {"concurrency": concurrency},
                }
            },
            "retries": {"all": {"rate_limited": backoff, "server_error": backoff}},
            "budgets": [
                {"name": "month", "per": "month", "limit_usd": 1000},
                {"name": "each-run", "each": "run", "limit_usd": 500},
            ],
        }
    )


MODELS = {"tei": "rehearsal-embed"}
OPTIONS = {"kserve": {"input": "text", "output": "embedding"}}
"""Of protocols whose calls here are texts to embed, each in a request of its own."""


def request(number: int, protocol: str = "openai") -> Request:
    if protocol != "openai":
        return Request(text=messages(number)[-1]["content"], route="bench", kind="embed", document=f"doc-{number:06d}")
    return Request(
        messages=tuple(messages(number)),
        route="bench",
        temperature=0,
        max_output_tokens=64,
        document=f"doc-{number:06d}",
    )


def main(url: str, calls: int, concurrency: int, state_url: str, protocol: str = "openai") -> dict[str, float]:
    before, telemetry = time.process_time(), None
    if is_configured():
        from ai_assets.telemetry.opening import of_run

        telemetry = of_run(run_id="run", tenant="default", tags={}, report=lambda line: print(line, file=sys.stderr))
    listener = telemetry.calls if telemetry is not None else None
    started, cpu = time.perf_counter(), time.process_time()
    answered = reused = 0
    asked = (request(number, protocol) for number in range(calls))
    with Engine(settings(url, concurrency, protocol), StateStore(state_url), listener=listener) as engine:
        for result in engine.map(asked, Caller(collection="bench", asset="labels", run_id="run")):
            answered += isinstance(result, Answer)
            reused += isinstance(result, Answer) and result.reused
    if telemetry is not None:
        telemetry.sink.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "telemetry_s": cpu - before,
        "answered": answered,
        "reused": reused,
        "wall_s": time.perf_counter() - started,
        "work_s": time.process_time() - cpu,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_kib": used.ru_maxrss,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], *sys.argv[5:])))
