"""What freezing the dollars of a release adds to its publication, in time and memory: one partition, two calls for each
document. `AI_ASSETS_BENCH_DOCUMENTS` is for another number of them.

Processor time: what is measured does not wait for others.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.signoff import release_costs
from ai_assets.storage.stores import Stores
from bench.measure import Figure, write_collection
from bench.provenance import INFERENCE
from bench.release import sign_and_publish
from tests.provider import Provider

DOCUMENTS = int(os.environ.get("AI_ASSETS_BENCH_DOCUMENTS", "20000"))
MOST_TIME, MOST_GIB = 0.10, 0.1
BRIEF = "  - {name: brief, kind: summarise, max_sentences: 1, route: default}\n"


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder, Provider(answers="quick") as provider:
        os.environ["AI_ASSETS_REHEARSAL_URL"] = provider.url
        project = Path(folder)
        write_collection(project, "bulk", "{by: shards, count: 1}", [f"{n:06d}.txt" for n in range(DOCUMENTS)])
        declared = project / "collections/bulk/defs.yaml"
        asked = declared.read_text().replace("kind: classify", "kind: classify\n      route: default")
        declared.write_text(asked.replace("  stages:\n", f"  stages:\n  {BRIEF}"))
        (project / "inference.yaml").write_text(INFERENCE)
        home = Home(root=project / "home", project=project)
        os.environ["AI_ASSETS_HOME"] = str(home.root)
        collection = load_collection(project / "collections", "bulk")
        with Stores.at(home) as stores:
            with Work(collection, stores, "run") as work:
                for _ in refresh(work, collection.scheme.keys()):
                    pass
            with _Watched() as watched:
                started = time.process_time()
                sign_and_publish(collection, stores)
                whole = time.process_time() - started
    return [
        Figure(
            name=f"dollars of a release of {DOCUMENTS:,} documents, of its publication without them",
            value=watched.seconds / (whole - watched.seconds), limit=MOST_TIME, at_most=True,
            detail=f"{watched.seconds:.2f} s and {whole - watched.seconds:.2f} s of processor",
        ),
        Figure(
            name="the same, memory that it takes beyond what is there, GiB",
            value=watched.gib, limit=MOST_GIB, at_most=True, detail=f"file of {watched.size / 2**20:.1f} MiB",
        ),
    ]  # fmt: skip


class _Watched:
    """Time and memory of `with_costs` within a publication."""

    seconds, gib, size = 0.0, 0.0, 0

    def __enter__(self) -> "_Watched":
        self._own = release_costs.with_costs
        release_costs.with_costs = self._called
        return self

    def __exit__(self, *_error: object) -> None:
        release_costs.with_costs = self._own

    def _called(self, collection: Any, stores: Stores, parts: Any, **options: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
        before, started = _gib("VmRSS"), time.process_time()
        found = self._own(collection, stores, parts, **options)
        self.seconds, self.gib = time.process_time() - started, _gib("VmHWM") - before
        paths = [release_costs.costs_path(stores.lake, collection.name, name, part) for name, part in found.items()]
        self.size = sum(path.stat().st_size for path in paths if path is not None)
        return found


def _gib(name: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 2**20
