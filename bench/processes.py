"""One collection over two processes on two cores, beside one process on one: documents and calls per second.

The provider of the calls takes all that comes, and has the cores of the processes that ask it: its processor time is a
part of both.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.storage.stores import Stores
from bench.inference import run_module
from bench.measure import Figure, write_collection
from tests.provider import Provider

DOCUMENTS, CALLS, PARTITIONS = 20_000, 20_000, 20
NAME = "notes"
ASKED = {"name": "brief", "kind": "summarise", "route": "default"}


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder)
        write_collection(project, NAME, _shards(), [f"{number:05d}.txt" for number in range(DOCUMENTS)])
        documents = {workers: _seconds(project, workers) for workers in (1, 2)}
    with Provider(answers="quick") as provider, tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder)
        write_collection(project, NAME, _shards(), [f"{number:05d}.txt" for number in range(CALLS)])
        ask(project, provider, NAME)
        calls = {}
        for workers in (1, 2):
            provider.reset()
            _share_cores(provider.pid, workers)
            calls[workers] = _seconds(project, workers)
            assert provider.stats()["billed"] == CALLS
    return [
        _figure("documents/s of the built-in stages, two processes / one on one core", DOCUMENTS, documents, 1.7),
        _figure("documents/s with one call each, two processes / one on one core", CALLS, calls, 1.5),
    ]


def _shards() -> str:
    return f"{{by: shards, count: {PARTITIONS}}}"


def _figure(name: str, count: int, took: dict[int, float], limit: float) -> Figure:
    detail = f"{count / took[2]:.0f} and {count / took[1]:.0f} a second"
    return Figure(name=name, value=took[1] / took[2], limit=limit, at_most=False, detail=detail)


def ask(project: Path, provider: Provider, name: str) -> None:
    """The stage of that collection is one call each, to the provider."""
    file = project / "collections" / name / "defs.yaml"
    declared = yaml.safe_load(file.read_text(encoding="utf-8"))
    declared["attributes"]["stages"] = [ASKED]
    file.write_text(yaml.safe_dump(declared), encoding="utf-8")
    price = {"from": "2026-01-01", "input": 0.15, "output": 0.6}
    endpoint = {"base_url": provider.url, "model": "small", "prices": [price], "limits": {"concurrency": 256}}
    settings = {
        "endpoints": {"mini": endpoint},
        "routes": {"default": {"endpoints": ["mini"]}},
        "budgets": [{"name": "everything", "limit_usd": 1000}],
    }
    (project / "inference.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def _cores(number: int) -> list[int]:
    return sorted(os.sched_getaffinity(0))[:number]


def _share_cores(process: int, number: int) -> None:
    for thread in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(thread.name), _cores(number))


def _seconds(project: Path, workers: int) -> float:
    return float(run_module("bench.processes", project, workers)["seconds"])


def _child(project: Path, workers: int) -> None:
    os.sched_setaffinity(0, _cores(workers))
    os.environ["AI_ASSETS_INFERENCE"] = str(project / "inference.yaml")
    collection = load_collection(project / "collections", NAME)
    home = Home(root=project / f"home-{workers}", project=project)
    with Stores.at(home) as stores, Work(collection, stores, "run", workers=workers) as work:
        keys = collection.scheme.keys(sorted(work.listing.by_partition))
        started = time.perf_counter()
        made = sum(1 for _ in refresh(work, keys))
        seconds = time.perf_counter() - started
    assert made >= PARTITIONS
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]))
