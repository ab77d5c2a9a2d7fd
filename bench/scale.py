"""20,000 small documents in 20 shards against 2,000, through to classifications; then the same again, unchanged.

And what one partition needs in memory, which `partition.py` measures.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import partition
from bench.measure import Figure, write_collection

SMALL, LARGE = 2_000, 20_000


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        found = {number: _run(Path(folder) / str(number), number) for number in (SMALL, LARGE)}
    small, large = found[SMALL], found[LARGE]
    per_document = (large["first_s"] / LARGE) / (small["first_s"] / SMALL)
    return [
        Figure(
            name="time per document, 20,000 / 2,000 documents", value=per_document, limit=1.2, at_most=True,
            detail=f"{large['first_s'] / LARGE * 1e3:.2f} ms and {small['first_s'] / SMALL * 1e3:.2f} ms",
        ),
        Figure(
            name="peak memory of the 20,000 run, GiB", value=large["peak_gib"], limit=1.5, at_most=True,
            detail=f"{small['peak_gib']:.2f} GiB at 2,000",
        ),
        Figure(
            name="first run / run with nothing changed", value=large["first_s"] / large["again_s"], limit=20,
            at_most=False,
            detail=f"{large['first_s']:.1f} s and {large['again_s']:.2f} s for 20,000 documents; "
            f"announcing all to Dagster again: {large['announced_s']:.1f} s",
        ),
        *partition.measure(),
    ]  # fmt: skip


def _run(project: Path, documents: int) -> dict[str, float]:
    write_collection(project, "bulk", "{by: shards, count: 20}", [f"{n:06d}.txt" for n in range(documents)])
    environment = {**os.environ, "AI_ASSETS_HOME": str(project / "home")}
    command = [sys.executable, "-m", "bench.scale", str(project)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1]
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(project: Path) -> None:
    """One process: the collection twice, as a Dagster run each."""
    from ai_assets.base.home import Home
    from ai_assets.cli.launching import Author
    from ai_assets.cli.run import bring_up_to_date
    from ai_assets.collection.loading import load_collection
    from ai_assets.documents.source_listing import observe
    from ai_assets.storage.stores import Stores

    chosen = load_collection(project / "collections", "bulk")
    stores = Stores.at(Home.from_environment())
    seconds = []
    for insist in (False, False, True):
        started = time.perf_counter()
        observe(chosen, stores.lake, stores.state)
        report = bring_up_to_date(
            chosen, stores, chosen.scheme.keys(), quiet=True, insist=insist, author=Author(launcher=None)
        )
        seconds.append(time.perf_counter() - started)
        if report.failures:
            raise SystemExit("\n".join(report.failures))
    # Not ru_maxrss: that starts at the size of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    print(json.dumps({"first_s": seconds[0], "again_s": seconds[1], "announced_s": seconds[2], "peak_gib": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
