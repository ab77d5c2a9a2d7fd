"""A backfill of 30 days by a real daemon: our segment against the same assets written plainly.

The plain assets (`plain_definitions.py`) are what Dagster's tutorials show: a function per asset, one run per
partition, the default executor. They take tens of seconds per partition, so only some of the 30 are run; the figure is
per partition. AI_ASSETS_BENCH_FULL=1 runs all 30.
"""

import datetime
import os
import shutil
import tempfile
import time
from pathlib import Path

from ai_assets.base.home import Home
from ai_assets.ops.supervisor import Supervisor
from bench.measure import Figure, write_collection

DAYS = 30
PLAIN_DAYS = DAYS if os.environ.get("AI_ASSETS_BENCH_FULL") else 4
PER_DAY = 10
START = datetime.date(2026, 9, 1)
LIMIT_S = 3600.0


def measure() -> list[Figure]:
    days = [(START + datetime.timedelta(days=n)).isoformat() for n in range(DAYS)]
    names = [f"{day}/{n}.txt" for day in days for n in range(PER_DAY)]
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        ours = Path(folder) / "ours"
        write_collection(ours, "bulk", f"{{by: day, start: {days[0]}, end: {days[-1]}}}", names)
        assets = ["documents", "chunks", "embeddings", "classification"]
        ours_s = _backfill(ours, [["bulk", asset] for asset in assets], days, 3601)
        plain = Path(folder) / "plain"
        plain.mkdir()
        shutil.copytree(ours / "collections" / "bulk" / "documents", plain / "documents")
        shutil.copy(Path(__file__).with_name("plain_definitions.py"), plain / "definitions.py")
        plain_s = _backfill(plain, [[asset] for asset in assets], days[:PLAIN_DAYS], 3602)
    return [
        Figure(
            name="seconds per partition of a backfill, plain / ours",
            value=(plain_s / PLAIN_DAYS) / (ours_s / DAYS),
            limit=10,
            at_most=False,
            detail=f"{plain_s / PLAIN_DAYS:.1f} s over {PLAIN_DAYS} partitions and {ours_s / DAYS:.2f} s over {DAYS}",
        )
    ]


def _backfill(project: Path, assets: list[list[str]], days: list[str], port: int) -> float:
    """Seconds from the request to the end, daemon ticks included."""
    with Supervisor(Home(root=project / "home", project=project), port=port) as supervisor:
        supervisor.start()
        supervisor.wait_until_healthy()
        started = time.perf_counter()
        identity = supervisor.api.launch_backfill(assets, days, title="bench")
        while not (status := supervisor.api.backfill_status(identity)).done:
            if time.perf_counter() - started > LIMIT_S:
                raise SystemExit(f"the backfill did not end within {LIMIT_S:.0f} s")
            time.sleep(0.5)
        if not status.succeeded:
            raise SystemExit(f"the backfill in {project} ended as {status.status}: {status.error}")
        return time.perf_counter() - started
    raise SystemExit("interrupted")
