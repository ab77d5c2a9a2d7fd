"""One partition of 200,000 rows of a table against one of 20,000: how much more memory the ten times as many take.

Each runs in a fresh process, from the source to the live release, and on to a run in which some rows changed.
"""

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import ROOT, STAGES, WORDS, Figure

SMALL, LARGE = 20_000, 200_000
MOST = 1.5
NAME, PARTITION = "rows", "all"
GOLDEN = 50
LABELS = ("invoice", "contract", "incident", "ticket")


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        found = {rows: run(Path(folder) / str(rows), rows) for rows in (SMALL, LARGE)}
    small, large = found[SMALL], found[LARGE]
    phases = ", ".join(f"{phase} {large[phase]:.2f} / {small[phase]:.2f}" for phase in large if phase != "seconds")
    return [
        Figure(
            name=f"peak memory, a partition of {LARGE:,} rows / of {SMALL:,}", value=ratio(small, large), limit=MOST,
            at_most=True,
            detail=f"GiB by then: {phases}; {large['seconds']:.0f} s and {small['seconds']:.0f} s",
        )
    ]  # fmt: skip


def ratio(small: dict[str, float], large: dict[str, float]) -> float:
    return large["changed"] / small["changed"]


def run(project: Path, rows: int) -> dict[str, float]:
    """The peak after each step, in GiB, as a process of its own measured it."""
    write_rows(project, rows)
    environment = {**os.environ, "AI_ASSETS_HOME": str(project / "home")}
    command = [sys.executable, "-m", "bench.partition", str(project)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_rows(project: Path, rows: int) -> None:
    """A collection of one folder with one table, whose rows are not in order of their names."""
    folder = project / "collections" / NAME
    table = folder / "documents" / PARTITION / "notes.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    (folder / "golden").mkdir(exist_ok=True)
    write_table(table, rows, changed=0)
    (project / "definitions.py").write_text((ROOT / "definitions.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "defs.yaml").write_text(
        "type: ai_assets.DocumentCollection\nattributes:\n"
        "  source: {path: documents, tables: {csv: {key: id, title: title, text: [text]}}}\n"
        "  partitions: {by: folder}\n  schedule: null\n"
        f"{STAGES}  golden: {{labels: golden/labels.jsonl, queries: golden/queries.jsonl}}\n",
        encoding="utf-8",
    )
    names = [f"{PARTITION}/notes.csv#{number:07d}" for number in range(0, rows, rows // GOLDEN)]
    labels = [{"document": name, "label": LABELS[n % len(LABELS)]} for n, name in enumerate(names)]
    queries = [{"query": f"note {name[-7:]}", "documents": [name]} for name in names]
    for kind, items in (("labels", labels), ("queries", queries)):
        lines = "".join(f"{json.dumps(item)}\n" for item in items)
        (folder / "golden" / f"{kind}.jsonl").write_text(lines, encoding="utf-8")


def write_table(table: Path, rows: int, changed: int) -> None:
    """The first `changed` rows have another text than they had."""
    generator = random.Random(7)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "text"])
        for place in range(rows):
            number = place * 7919 % rows
            words = " ".join(generator.choices(WORDS, k=16))
            added = " It was changed." if place < changed else ""
            writer.writerow([f"{number:07d}", f"Note {number}", f"Note {number:07d}: {words}.{added}"])


def main(project: Path) -> None:
    from ai_assets.base.home import Home
    from ai_assets.cli.launching import Author
    from ai_assets.cli.run import bring_up_to_date
    from ai_assets.collection.loading import load_collection
    from ai_assets.documents.source_listing import known_folders, observe
    from ai_assets.signoff import decisions, people
    from ai_assets.signoff.publication import publish
    from ai_assets.storage.stores import Stores

    started = time.perf_counter()
    found = {}
    chosen = load_collection(project / "collections", NAME)
    stores = Stores.at(Home.from_environment())

    def bring_up() -> None:
        observe(chosen, stores.lake, stores.state)
        keys = chosen.scheme.keys(known_folders(stores.state, NAME))
        report = bring_up_to_date(chosen, stores, keys, quiet=True, author=Author(launcher=None))
        if report.failures:
            raise SystemExit("\n".join(report.failures))

    def approve_and_publish() -> None:
        with stores.state.read() as connection:
            choices = decisions.waiting(connection, NAME, None, chosen.settings.signoff)
            person = people.find(connection, "bench")
        assert person is not None
        decisions.decide(
            stores.state, NAME, choices, "approve", by=person, reason=None, rules=chosen.settings.signoff, waivers=None
        )
        publish(chosen, stores, by="bench")

    with stores.state.write() as connection:
        people.add(connection, "bench", email=None, password_hash=None, by="bench")
        people.give(connection, "bench", "approver", NAME, by="bench")
    bring_up()
    found["candidate"] = peak_gib()
    approve_and_publish()
    found["published"] = peak_gib()
    rows = sum(1 for _ in (project / "collections" / NAME / "documents" / PARTITION / "notes.csv").open("rb")) - 1
    write_table(project / "collections" / NAME / "documents" / PARTITION / "notes.csv", rows, changed=rows // 100)
    bring_up()
    approve_and_publish()
    found["changed"] = peak_gib()
    print(json.dumps({**found, "seconds": time.perf_counter() - started}))


def peak_gib() -> float:
    """Not ru_maxrss: that starts at the size of the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


if __name__ == "__main__":
    main(Path(sys.argv[1]))
