"""A stage that is a pure-Python function of 1 ms a document, beside a bare loop over the same texts."""

import os
import tempfile
import time
from pathlib import Path

import yaml

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.storage.stores import Stores
from bench.measure import Figure, write_documents

DOCUMENTS = int(os.environ.get("AI_ASSETS_FUNCTION_DOCUMENTS", "20000"))
LIMIT = 1.3
SOURCE = """
from ai_assets import Document, stage

TURNS = {turns}


def work(text: str) -> int:
    found = 0
    for turn in range(TURNS):
        found = (found * 31 + len(text) + turn) % 1_000_003
    return found


@stage(columns={{"found": int}})
def burn(document: Document) -> dict:
    return {{"found": work(document.text)}}


@stage(columns={{"found": int}}, cpu=True)
def burn_apart(document: Document) -> dict:
    return {{"found": work(document.text)}}
"""


def turns_of_a_millisecond() -> int:
    def spent(turns: int) -> float:
        started, found = time.process_time(), 0
        for turn in range(turns):
            found = (found * 31 + 17 + turn) % 1_000_003
        return time.process_time() - started

    return round(100_000 * 0.001 / min(spent(100_000) for _ in range(5)))


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        root = Path(folder) / "project" / "collections"
        here = root / "notes"
        names = [f"{number:05d}.txt" for number in range(DOCUMENTS)]
        write_documents(here / "documents", names)
        (here / "stages.py").write_text(SOURCE.format(turns=turns_of_a_millisecond()))
        kinds = ("burn", "burn_apart")
        stages = [{"name": name, "kind": "function", "function": f"./stages.py:{name}"} for name in kinds]
        declared = {"source": {"path": "documents"}, "partitions": {"by": "shards", "count": 1}, "stages": stages}
        (here / "defs.yaml").write_text(
            yaml.safe_dump({"type": "ai_assets.DocumentCollection", "attributes": {**declared, "schedule": None}})
        )
        collection = load_collection(root, "notes")
        stores = Stores.at(Home(root=Path(folder) / "home", project=root.parent))
        _spent(collection, stores, ["documents"])
        ours = _spent(collection, stores, ["burn"])
        apart = _spent(collection, stores, ["burn_apart"])
        bare = _bare(collection, stores, Path(folder) / "bare.parquet")
        stores.state.close()
    each = f"{1000 * bare / DOCUMENTS:.2f} ms a document in the bare loop, {DOCUMENTS:,} documents"
    return [
        Figure(name="a pure-Python function stage / a bare loop and one Parquet write, seconds", value=ours / bare,
               limit=LIMIT, at_most=True, detail=each),
        Figure(name="the same in processes (cpu=True)", value=apart / bare, limit=LIMIT, at_most=True, detail=each),
    ]  # fmt: skip


def _spent(collection: Collection, stores: Stores, assets: list[str]) -> float:
    started = time.perf_counter()
    with Work(collection, stores, "bench") as work:
        for _ in refresh(work, sorted(work.listing.by_partition), assets):
            pass
    return time.perf_counter() - started


def _bare(collection: Collection, stores: Stores, path: Path) -> float:
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest = stores.lake.manifest(collection.name, "documents", "shard-0")
    assert manifest is not None
    table = stores.lake.read(manifest, ["document_id", "text"])
    function = collection.stages[0].spec.function.__globals__["work"]  # type: ignore[union-attr]
    started = time.perf_counter()
    found = [function(text) for text in table["text"].to_pylist()]
    pq.write_table(pa.table({"document_id": table["document_id"], "found": found}), path)
    return time.perf_counter() - started
