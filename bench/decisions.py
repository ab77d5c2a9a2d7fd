"""Evaluation, gates and drift of 100,000 documents and 3,000 golden queries, and again after one document changed.

All else is there before: a live release, and everything up to vectors and labels of a later state in which documents of
each shard were edited. What is judged from nothing has no evaluation index, no kept answers and no profiles. Each step
is a process of its own, so that its memory is its own. It needs an idle machine: limits are by the clock.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.measure import ROOT, Figure, write_collection

DOCUMENTS, SHARDS = 100_000, 200
QUERIES, LABELS = 3_000, 3_000
NAME = "bulk"
EDITS = 3
EDITED = 8
"""Documents of a shard before all is judged: which shard one falls into is chance, and each should have one."""
VOCABULARY = 20_000
PLACES = ("mail", "web", "scans")
TOLD = {
    "invoice": "bill payment amount due invoice total tax",
    "contract": "agreement parties terms notice clause signed liability",
    "incident": "report outage damage cause action impact restored",
    "ticket": "customer help complains delivery refund order support",
}
"""Words that say what a document is, as the labels of `bench.measure` describe it."""
GOLDEN = """\
  golden: {labels: labels.jsonl, queries: queries.jsonl}
  drift: {blocks: waivable, slices: [language, source]}
  gates:
    - {metric: accuracy, min: 0.6}
    - {metric: accuracy, min: 0.6, at: lower}
    - {metric: accuracy, min: 0.6, at: any_time, waivable: true}
    - {metric: accuracy, no_worse_by: 0.05, waivable: true}
    - {metric: accuracy, min: 0.5, slices: [language, source], waivable: true}
    - {metric: macro_f1, min: 0.5, at: lower, waivable: true}
    - {metric: ece, max: 0.5, waivable: true}
    - {metric: mrr, min: 0.2, at: lower, waivable: true}
    - {metric: mrr, no_worse_by: 0.02, waivable: true}
    - {metric: recall@5, no_worse_by: 0.02, waivable: true}
    - {measure: quarantine_share, max: 0.05, at: upper, waivable: true}
"""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder)
        prepare(project, DOCUMENTS, SHARDS)
        whole = _step(project, "whole")
        edits = [_step(project, "edit", str(number)) for number in range(EDITS)]
    edit = sorted(edits, key=lambda each: each["decided_s"])[EDITS // 2]
    return [
        Figure(
            name="seconds of evaluation, gates and drift of 100,000 documents", value=whole["decided_s"], limit=60,
            at_most=True, detail=_said(whole),
        ),
        Figure(
            name="peak memory of the process, with candidates, GiB", value=whole["peak_gib"], limit=1, at_most=True,
            detail=f"{edit['peak_gib']:.2f} GiB after an edit",
        ),
        Figure(
            name="seconds of the same after one document changed", value=edit["decided_s"], limit=3, at_most=True,
            detail=_said(edit),
        ),
    ]  # fmt: skip


def _said(found: dict[str, float]) -> str:
    return (
        f"processor time: evaluation {found['evaluation_s']:.1f}, gates {found['gates_s']:.1f}, drift "
        f"{found['drift_s']:.1f} s, the whole run {found['cpu_s']:.1f} s; {found['wall_s']:.1f} s by the clock; "
        f"{found['asked']:.0f} questions were asked of LanceDB"
    )


def prepare(project: Path, documents: int, shards: int) -> None:
    """A live release, and all but the evaluation of a state in which shards have edits."""
    _write(project, documents, shards)
    _step(project, "publish")
    for number in range(0, documents, max(1, documents // shards // EDITED)):
        edit(project, number)
    _step(project, "compute")


def _write(project: Path, documents: int, shards: int) -> None:
    folder = project / "collections" / NAME
    for name in PLACES:
        (folder / "documents" / name).mkdir(parents=True, exist_ok=True)
    write_collection(project, NAME, f"{{by: shards, count: {shards}}}", [])
    drawn = random.Random(7)
    labels, queries = [], []
    golden = set(drawn.sample(range(documents), min(LABELS, documents)))
    asked = set(drawn.sample(range(documents), min(QUERIES, documents)))
    for number, words, label in _texts(documents):
        place = _place(number)
        (folder / "documents" / place).write_text(f"Paper {number}\n\n{' '.join(words)}.\n", encoding="utf-8")
        if number in golden:
            labels.append({"document": place, "label": label})
        if number in asked:
            said = drawn.sample(sorted({word for word in words if word.startswith("w")}), k=6)
            queries.append({"query": " ".join([*said, str(number)]), "documents": [place]})
    for name, rows in (("labels", labels), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    with (folder / "defs.yaml").open("a", encoding="utf-8") as file:
        file.write(GOLDEN)


def _texts(documents: int) -> Iterator[tuple[int, list[str], str]]:
    """Words are as frequent as in a language: the n-th has the n-th part of the first one's share."""
    import numpy as np

    rng = np.random.default_rng(7)
    shares = 1 / np.arange(1, VOCABULARY + 1)
    names = [f"w{number:05d}x" for number in range(VOCABULARY)]
    kinds = sorted(TOLD)
    for number in range(documents):
        label = kinds[number % len(kinds)]
        told = TOLD[label].split()
        own = [told[at] for at in rng.integers(0, len(told), 12)]
        words = [names[at] for at in rng.choice(VOCABULARY, int(rng.integers(50, 140)), p=shares / shares.sum())]
        yield number, [*own, *words], label


def _place(number: int) -> str:
    return f"{PLACES[number % len(PLACES)]}/{number:06d}.txt"


def edit(project: Path, number: int) -> None:
    path = project / "collections" / NAME / "documents" / _place(number)
    path.write_text(f"{path.read_text(encoding='utf-8')} It was changed.", encoding="utf-8")


def _step(project: Path, *what: str) -> dict[str, float]:
    environment = {**os.environ, "AI_ASSETS_HOME": str(project / "home")}
    command = [sys.executable, "-m", "bench.decisions", str(project), *what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(project: Path, what: str, number: int | None = None) -> None:
    """One step of it in this process."""
    from ai_assets.base.home import Home
    from ai_assets.collection.loading import load_collection
    from ai_assets.documents.source_listing import observe
    from ai_assets.run.context import Work
    from ai_assets.run.refresh import refresh
    from ai_assets.storage.stores import Stores

    start_s = time.process_time()
    import lancedb  # noqa: F401  # here, so that its share is known

    lancedb_s, clocks = time.process_time() - start_s, Clocks()
    collection = load_collection(project / "collections", NAME)
    partitions, selected = collection.scheme.keys(), None
    if what == "edit" and number is not None:
        edit(project, number)
    if what == "compute":
        selected = [name for name in collection.asset_names if name not in JUDGED]
    with Stores.at(Home.from_environment()) as stores:
        if what == "whole":
            selected = list(JUDGED)
            _forget(project / "home")
        if number is not None:
            listing = observe(collection, stores.lake, stores.state)
            partitions = list(listing.partitions_of_path[_place(number)])
        began = time.perf_counter()
        with clocks.running(), Work(collection, stores, f"run {what} {number}") as work:
            for _ in refresh(work, partitions, selected):
                pass
        wall_s = time.perf_counter() - began
        if what == "publish":
            from bench.release import sign_and_publish

            sign_and_publish(collection, stores)
    # Not ru_maxrss: that starts at the size of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = {
        **{f"{name}_s": taken for name, taken in clocks.taken.items()},
        "decided_s": clocks.decided_s, "asked": clocks.asked, "wall_s": wall_s, "lancedb_s": lancedb_s,
        "cpu_s": time.process_time() - start_s - lancedb_s,
        "peak_gib": int(status.split("VmHWM:")[1].split()[0]) / 2**20,
    }  # fmt: skip
    print(json.dumps(found))


JUDGED = ("evaluation_scores", "release_candidate")


def _forget(home: Path) -> None:
    """What earlier evaluations kept."""
    for path in [*(home / "index" / NAME).glob("evaluation*"), *(home / "drift").glob("*")]:
        if path.is_dir():
            shutil.rmtree(path)


class Clocks:
    """Processor time of all threads within evaluation, gates and drift; what is within two counts for the outer."""

    def __init__(self) -> None:
        self.taken = {"evaluation": 0.0, "gates": 0.0, "drift": 0.0}
        self.asked = 0
        self.decided_s = 0.0
        """Of all three, by the clock."""
        self._is_within = False

    def running(self) -> Any:
        from contextlib import ExitStack

        from ai_assets.run.datasets import evaluation_scores, score_gates
        from ai_assets.signoff.drifting import DriftBench
        from ai_assets.storage.index import SearchIndex

        stack = ExitStack()
        self._time(stack, evaluation_scores, "build", "evaluation")
        self._time(stack, score_gates, "gate_verdicts", "gates")
        self._time(stack, DriftBench, "found", "drift")
        ask = SearchIndex.documents_found

        def counted(*arguments: Any, **more: Any) -> Any:
            answered = ask(*arguments, **more)
            self.asked += answered.asked
            return answered

        SearchIndex.documents_found = counted  # type: ignore[method-assign]
        stack.callback(setattr, SearchIndex, "documents_found", ask)
        return stack

    def _time(self, stack: Any, where: Any, name: str, clock: str) -> None:
        function: Callable[..., Any] = getattr(where, name)

        def timed(*arguments: Any, **more: Any) -> Any:
            if self._is_within:
                return function(*arguments, **more)
            self._is_within, began, at = True, time.process_time(), time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                self.taken[clock] += time.process_time() - began
                self.decided_s += time.perf_counter() - at
                self._is_within = False

        setattr(where, name, timed)
        stack.callback(setattr, where, name, function)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
