"""A whole run beside the calls alone: from source files to candidates, with one model stage, against bare aiohttp.

Every call is ledgered and budgeted. Two shares are held to limits: bare calls in the time of a run, and a run with the
built-in kind in the time of one with a function stage.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.storage.stores import Stores
from bench.inference import CONCURRENCY, bare_calls, run_module
from bench.measure import Figure, write_documents
from tests.provider import Provider

DOCUMENTS = int(os.environ.get("AI_ASSETS_WHOLE_RUN_DOCUMENTS", "5000"))
PARTITIONS = 10
LIMIT = 0.55
FUNCTION_LIMIT = 0.9
BUILT_IN = {"name": "brief", "kind": "summarise", "route": "default"}
FUNCTION = {"name": "brief", "kind": "function", "function": "./own.py:brief", "route": "default"}
OWN = """
from ai_assets import stage


@stage(columns={"summary": str})
async def brief(document, ctx):
    answer = await ctx.ask(f"Summarise in three sentences:\\n{document.quoted}")
    return {"summary": answer.text}
"""


def measure() -> list[Figure]:
    with Provider(answers="quick", latency_ms=50) as provider:
        found = _whole(provider, BUILT_IN)
        rate, _ = bare_calls(provider, DOCUMENTS)
        function = _whole(provider, FUNCTION)
    bare_s = DOCUMENTS / rate
    detail = (
        f"{found['seconds']:.1f} s ({found['cpu_s']:.1f} s of processor time, {found['peak_kib'] / 1024:.0f} MiB) "
        f"and {bare_s:.1f} s, {DOCUMENTS:,} documents in {PARTITIONS} partitions"
    )
    return [
        Figure(name="bare aiohttp / a whole run with one model stage, seconds", value=bare_s / found["seconds"],
               limit=LIMIT, at_most=False, detail=detail),
        Figure(name="the same run / with a function stage, seconds", value=found["seconds"] / function["seconds"],
               limit=FUNCTION_LIMIT, at_most=False,
               detail=f"{function['seconds']:.1f} s ({function['cpu_s']:.1f} s of processor time)"),
    ]  # fmt: skip


def _whole(provider: Provider, stage: Mapping[str, str]) -> dict[str, float]:
    provider.reset()
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder) / "project"
        here = project / "collections" / "notes"
        here.mkdir(parents=True)
        (here / "own.py").write_text(OWN)
        write_documents(here / "documents", [f"{number:05d}.txt" for number in range(DOCUMENTS)])
        declared = {
            "source": {"path": "documents"},
            "partitions": {"by": "shards", "count": PARTITIONS},
            "stages": [dict(stage)],
            "schedule": None,
        }
        (here / "defs.yaml").write_text(
            yaml.safe_dump({"type": "ai_assets.DocumentCollection", "attributes": declared})
        )
        price = {"from": "2026-01-01", "input": 0.15, "output": 0.6}
        endpoint = {"base_url": provider.url, "model": "small", "prices": [price]}
        inference = {
            "endpoints": {"mini": {**endpoint, "limits": {"concurrency": CONCURRENCY}}},
            "routes": {"default": {"endpoints": ["mini"]}},
            "budgets": [{"name": "everything", "limit_usd": 1000}, {"name": "run", "limit_usd": 100, "each": "run"}],
        }
        (project / "inference.yaml").write_text(yaml.safe_dump(inference))
        found: dict[str, float] = run_module("bench.whole_run", project, Path(folder) / "home")
    assert provider.stats()["billed"] == DOCUMENTS
    return found


def _child(project: Path, home: Path) -> None:
    os.environ["AI_ASSETS_INFERENCE"] = str(project / "inference.yaml")
    collection = load_collection(project / "collections", "notes")
    stores = Stores.at(Home(root=home, project=project))
    with Work(collection, stores, "run") as work:
        keys = collection.scheme.keys(sorted(work.listing.by_partition))
        started = time.perf_counter()
        rows = sum(1 for _ in refresh(work, keys))
        seconds = time.perf_counter() - started
    assert rows >= PARTITIONS
    stores.state.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"seconds": seconds, "cpu_s": used.ru_utime + used.ru_stime, "peak_kib": used.ru_maxrss}))


if __name__ == "__main__":
    _child(Path(sys.argv[1]), Path(sys.argv[2]))
