"""Batches of 50,000 lines: the file work alone; one submitted and collected by a process whose memory is measured."""

import json
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.batch.lines import LineResult, head_of, read_results, request_line
from ai_assets.inference.records import Answer, Caller, Request
from ai_assets.inference.settings import BatchSettings, InferenceSettings
from ai_assets.storage.state import StateStore
from bench.measure import ROOT, Figure
from tests.provider import Provider

LINES = 50_000
CALLER = Caller(collection="bench", asset="kind", partition="all", run_id="bench")
TEXT = "A customer asks where the parcel is that was sent on Monday, and wants the money back. " * 6
PIECE_BYTES = 2**18


def measure() -> list[Figure]:
    written_s, read_s = _file_work()
    found = _whole()
    return [
        Figure(name="lines of requests written, thousand/s", value=LINES / written_s / 1000, limit=20, at_most=False,
               detail=f"{LINES:,} in {written_s:.2f} s"),
        Figure(name="lines of results read, thousand/s", value=LINES / read_s / 1000, limit=20, at_most=False,
               detail=f"{LINES:,} in {read_s:.2f} s"),
        Figure(name="results collected into the ledger, thousand/s", value=LINES / found["collect_s"] / 1000, limit=5,
               at_most=False, detail=f"{LINES:,} in {found['collect_s']:.1f} s, download and all"),
        Figure(name="memory of a batch of 50,000, MiB", value=found["peak_mib"], limit=600, at_most=True,
               detail=f"asked and uploaded in {found['ask_s']:.1f} s, answers read again in {found['reuse_s']:.1f} s"),
    ]  # fmt: skip


def _file_work() -> tuple[float, float]:
    body = json.dumps({"model": "small", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 64}).encode()
    keys = [f"{number:040x}" for number in range(LINES)]
    head = head_of(BatchSettings(), "chat")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requests.jsonl"
        started = time.perf_counter()
        with path.open("wb", buffering=2**20) as out:
            for key in keys:
                out.write(request_line(key, head, body))
        written_s = time.perf_counter() - started
        results = Path(folder) / "results.jsonl"
        results.write_text("".join(_result(key) for key in keys))
        started = time.perf_counter()
        number = sum(isinstance(each, LineResult) for each in read_results(_pieces(results)))
        read_s = time.perf_counter() - started
    assert number == LINES
    return written_s, read_s


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _result(key: str) -> str:
    message = {"role": "assistant", "content": json.dumps({"label": "ticket", "rationale": "asks for a refund"})}
    body = {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "small",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 140, "completion_tokens": 12, "total_tokens": 152},
    }  # fmt: skip
    response = {"status_code": 200, "request_id": "req_1", "body": body}
    return json.dumps({"id": "batch_req_1", "custom_id": key, "response": response, "error": None}) + "\n"


def _whole() -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Provider(answers="quick", batch_seconds=0.1, max_body_mb=500) as provider,
    ):
        command = [sys.executable, "-m", "bench.batch", provider.url, f"sqlite:///{folder}/state.db"]
        ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def _requests() -> Iterator[Request]:
    for number in range(LINES):
        message = {"role": "user", "content": f"<document>Note {number}. {TEXT}</document>"}
        yield Request(messages=(message,), max_output_tokens=64, document=str(number))


def _until_computed(url: str) -> None:
    """The provider of rehearsals answers nobody while it computes 50,000 lines, which are not ours to measure."""
    while True:
        with urllib.request.urlopen(f"{url}/batches", timeout=600) as answer:
            if all(each["status"] == "completed" for each in json.load(answer)["data"]):
                return
        time.sleep(0.2)


def main(url: str, state_url: str) -> None:
    endpoint = {
        "base_url": url, "model": "small", "prices": [{"from": "2026-01-01", "input": 0.15, "output": 0.6}],
        "batch": {"price_share": 0.5},
    }  # fmt: skip
    settings = InferenceSettings.model_validate({
        "endpoints": {"mini": endpoint}, "routes": {"default": {"endpoints": ["mini"]}},
        "budgets": [{"name": "all", "limit_usd": 1000}],
    })  # fmt: skip
    state = StateStore(state_url)
    started = time.perf_counter()
    with BatchAsker(settings, state) as asker:
        for _ in asker.map(_requests(), CALLER):
            pass
        asker.submit()
    ask_s = time.perf_counter() - started
    _until_computed(url)
    with Collector(settings, state) as collector:
        while True:
            started = time.perf_counter()
            found = collector.collect()
            if not found.open:
                break
            time.sleep(0.2)
    collect_s = time.perf_counter() - started
    started = time.perf_counter()
    with BatchAsker(settings, state) as asker:
        answered = sum(isinstance(result, Answer) for result in asker.map(_requests(), CALLER))
    reuse_s = time.perf_counter() - started
    with state.read() as connection:
        made = jobs.listed(connection, ended=True)
    assert answered == LINES, (answered, made)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"ask_s": ask_s, "collect_s": collect_s, "reuse_s": reuse_s, "peak_mib": peak_mib, "jobs": len(made)}
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
