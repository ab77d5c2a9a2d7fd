"""Removing old runs of Dagster where all of 3,650 days were run twice, and 10: rows before and after, and the chain.

One day is really run; its run is written again, in the runs, in the index of events and as a file of its own, for every
other day and once more for all: of each day the older run may go, and the newer holds what Dagster knows of the day.
"""

import contextlib
import os
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from ai_assets.base.home import Home
from ai_assets.retention import dagster_runs
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.run.operations import load_operations
from ai_assets.signoff.verification import verify
from ai_assets.storage.stores import Stores
from bench.measure import Figure, twice

FEW, MANY = 10, 3650
TIMES = 2
REMOVED = 100
"""Of the runs that may go: all would take minutes."""
FIRST = date(2017, 1, 1)
LIMIT = 1.5


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        few, many = twice(Path(folder), FIRST, FIRST)
        found = {days: _pruned(project, days) for project, days in ((few, FEW), (many, MANY))}
    took = {days: each["ms"] for days, each in found.items()}
    large = found[MANY]
    return [
        Figure(
            name=f"removing an old run: {MANY:,} days, run twice / {FEW}", value=took[MANY] / took[FEW], limit=LIMIT,
            at_most=True,
            detail=f"{took[MANY]:.1f} and {took[FEW]:.1f} ms each, of processor time; "
            f"{large['runs before']:,.0f} runs and {large['events before']:,.0f} events before, "
            f"after the first {REMOVED} {large['runs after']:,.0f} and {large['events after']:,.0f}; "
            f"finding what may go {large['find ms']:.0f} ms; the chain of {large['records']:.0f} records holds",
        )
    ]  # fmt: skip


def _pruned(project: Path, days: int) -> dict[str, float]:
    with _in(project) as stores:
        _write_runs(stores.home.dagster, days)
        before = _rows(stores.home.dagster)
        from dagster import DagsterInstance

        settings = load_operations(stores.home.operations).retention.model_copy(update={"runs_per_job": 5})
        with DagsterInstance.from_config(str(stores.home.dagster)) as instance:
            bench = RetentionContext(stores=stores, settings=settings, instance=instance)
            started = time.process_time()
            leftovers = list(dagster_runs.find(bench))
            found_at = time.process_time()
            for leftover in leftovers[:REMOVED]:
                leftover.remove()
            ended = time.process_time()
            assert len(leftovers) == days, "the newest run of each day stays, and the older may go"
        after = _rows(stores.home.dagster)
        return {
            "ms": (ended - found_at) * 1000 / min(len(leftovers), REMOVED), "find ms": (found_at - started) * 1000,
            "runs before": before[0], "events before": before[1], "runs after": after[0], "events after": after[1],
            "records": verify(stores.state).records,
        }  # fmt: skip


@contextlib.contextmanager
def _in(project: Path) -> Iterator[Stores]:
    home = Home(root=project / ".ai-assets", project=project)
    with contextlib.chdir(project), Stores.at(home) as stores:
        home.export()
        yield stores


def _rows(dagster: Path) -> tuple[int, int]:
    counted = []
    for file, table in (("runs.db", "runs"), ("runs/index.db", "event_logs")):
        with contextlib.closing(sqlite3.connect(dagster / "history" / file)) as connection:
            counted.append(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
    return counted[0], counted[1]


def _write_runs(dagster: Path, days: int) -> None:
    history = dagster / "history"
    runs = [(str(FIRST + timedelta(days=number)), str(uuid.uuid4())) for _ in range(TIMES) for number in range(days)]
    with contextlib.closing(sqlite3.connect(history / "runs.db")) as connection:
        (seed,) = connection.execute("SELECT run_id FROM runs").fetchone()
        for table in ("runs", "run_tags"):
            _write_again(connection, table, seed, runs)
        connection.execute("DELETE FROM runs WHERE run_id = ?", [seed])
        connection.commit()
    with contextlib.closing(sqlite3.connect(history / "runs/index.db")) as connection:
        _write_again(connection, "event_logs", seed, runs)
        connection.execute("DELETE FROM event_logs WHERE run_id = ?", [seed])
        connection.commit()
    for _, run_id in runs:
        os.link(history / f"runs/{seed}.db", history / f"runs/{run_id}.db")
    (history / f"runs/{seed}.db").unlink()


def _write_again(connection: sqlite3.Connection, table: str, seed: str, runs: list[tuple[str, str]]) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
    picked = ", ".join(f"replace(replace({name}, :seed, :run), :first, :day)" for name in columns)
    connection.execute(f"CREATE TEMPORARY TABLE seeds AS SELECT * FROM {table} WHERE run_id = ?", [seed])  # noqa: S608
    connection.executemany(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} FROM seeds",  # noqa: S608
        [{"seed": seed, "run": run, "first": str(FIRST), "day": day} for day, run in runs],
    )
    connection.execute("DROP TABLE seeds")


if __name__ == "__main__":
    for figure in measure():
        print(*figure.row(), sep=" | ")
