"""Questions to `ai-assets serve` over 100,000 documents: by itself, and beside the index asked directly.

The figures: what the server adds (who asks, which release is live, whether its index is what was signed, labels, HTTP),
and what a label adds that one document in eighteen has.
"""

import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.run import explain
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.signoff import launch_tokens, releases
from ai_assets.storage.stores import Stores
from bench.measure import WORDS, Figure, write_collection
from bench.release import sign_and_publish

DOCUMENTS, SHARDS, QUESTIONS = 100_000, 200, 300


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder)
        write_collection(
            project, "bulk", f"{{by: shards, count: {SHARDS}}}", [f"{n:06d}.txt" for n in range(DOCUMENTS)]
        )
        home = Home(root=project / "home", project=project)
        os.environ["AI_ASSETS_HOME"] = str(home.root)
        collection = load_collection(project / "collections", "bulk")
        with Stores.at(home) as stores:
            token = _published(collection, stores)
            questions = _questions()
            with stores.state.read() as connection:
                live = releases.require_live(connection, "bulk")

            def direct(question: str) -> None:
                explain.search_release(collection, stores, live, question, 5)

            with _serving(project) as url, httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:

                def served(question: str, **filters: str) -> None:
                    client.get(f"{url}/v1/bulk/search", params={"q": question, **filters}).raise_for_status()

                found = {
                    "direct": _milliseconds(direct, questions),
                    "served": _milliseconds(served, questions),
                    "filtered": _milliseconds(lambda each: served(each, label="classification:invoice"), questions),
                }
                started = time.perf_counter()
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(served, questions))
                rate = QUESTIONS / (time.perf_counter() - started)
    p95 = {name: _p95(times) for name, times in found.items()}
    median = {name: statistics.median(times) for name, times in found.items()}
    said = ", ".join(f"{name} {median[name]:.0f} and {p95[name]:.0f} ms" for name in p95)
    return [
        Figure(
            name="p95 of a question over HTTP / to the index in the same process, 100,000 documents",
            value=p95["served"] / p95["direct"], limit=1.5, at_most=True,
            detail=f"median and p95: {said}; eight askers at once: {rate:.0f} answers/s",
        ),
        Figure(
            name="p95 of a question filtered by a label that one document in eighteen has / of one without a filter",
            value=p95["filtered"] / p95["served"], limit=1.5, at_most=True, detail="the same questions over HTTP",
        ),
    ]  # fmt: skip


def _published(collection: Collection, stores: Stores) -> str:
    """All of it live; a token that reads."""
    with Work(collection, stores, "run") as work:
        for _ in refresh(work, collection.scheme.keys()):
            pass
    ann = sign_and_publish(collection, stores)
    with stores.state.write() as connection:
        return launch_tokens.make(connection, ann.name, days=1, by="bench", reads=True)[0]


def _questions() -> list[str]:
    drawn = random.Random(11)
    return [" ".join(drawn.sample(WORDS, k=3)) + f" {drawn.randrange(DOCUMENTS)}" for _ in range(QUESTIONS)]


def _milliseconds(ask: Callable[[str], None], questions: Sequence[str]) -> list[float]:
    for question in questions[:20]:
        ask(question)
    found = []
    for question in questions:
        started = time.perf_counter()
        ask(question)
        found.append((time.perf_counter() - started) * 1e3)
    return found


def _p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


@contextmanager
def _serving(project: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("ai-assets"), "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()
