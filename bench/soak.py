"""`make soak`: hundreds of runs on one home beside a living `ai-assets up`, and then nothing has grown.

Runs of an unchanged collection, then runs in each of which a document changes, is signed and published. Retention
removes what `operations.yaml` does not keep. Disk, write-ahead logs, memory and file handles are sampled after each
removal; the second half of a phase may not exceed the first by more than its bound.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from dagster import DagsterInstance
from rich.console import Console
from rich.table import Table

from ai_assets.base.home import Home
from ai_assets.base.processes import started_by_up
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.orchestration import in_process
from ai_assets.orchestration.component import collection_definitions
from ai_assets.orchestration.instance import instance
from ai_assets.retention.disk import usage
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import sweep
from ai_assets.run.operations import load_operations
from ai_assets.signoff import decisions, passwords, people
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores
from bench.measure import write_collection

NAME, DAY = "soak", "2026-10-05"
GROWTH = 1.10
SLACK: Mapping[str, float] = {
    "disk": 1 << 20, "state store": 256 << 10, "write-ahead logs": 6 << 20, "memory of this process": 48 << 20,
    "memory of `up`": 64 << 20, "file handles of this process": 8, "file handles of `up`": 16,
}  # fmt: skip
"""The second half may exceed the first by a tenth and so much. SQLite begins a log again when it has 4 MB and nobody
reads, so its size says nothing below that."""
PER_CHANGE = 32 << 10
"""Bytes of the state store that a change, its approval and its release leave for good: the audit chain, history."""


@dataclass(frozen=True, kw_only=True)
class Soaked:
    phase: str
    runs: int
    samples: Mapping[str, Sequence[float]]

    def bound(self, name: str) -> float:
        values = self.samples[name]
        must_stay = PER_CHANGE * self.runs / 2 if (self.phase, name) == ("changed", "state store") else 0
        return max(values[: len(values) // 2]) * GROWTH + SLACK[name] + must_stay

    def later(self, name: str) -> float:
        return max(self.samples[name][len(self.samples[name]) // 2 :])

    def grown(self) -> list[str]:
        """What exceeds its bound, in words; nothing where all is flat."""
        return [
            f"{self.phase}: {name} {self.later(name):,.0f} > {self.bound(name):,.0f}"
            for name in self.samples
            if self.later(name) > self.bound(name)
        ]


@dataclass(kw_only=True)
class Soak:
    """One project in a folder, worked on in this process as a person would on the command line."""

    root: Path
    every: int
    """Runs between two removals."""
    say: Callable[[str], None]
    removing: bool = True
    home: Home = field(init=False)

    def __post_init__(self) -> None:
        self.home = Home(root=self.root / "home", project=self.root)

    def declare(self, **retention: float) -> Collection:
        write_collection(
            self.root, NAME, f"{{by: day, start: {DAY}, end: {DAY}}}", [f"{DAY}/{n}.txt" for n in range(8)]
        )
        (self.root / "operations.yaml").write_text(yaml.safe_dump({"retention": retention}), encoding="utf-8")
        return load_collection(self.root / "collections", NAME)

    def run(self, collection: Collection, runs: int, *, changing: bool) -> Soaked:
        samples: defaultdict[str, list[float]] = defaultdict(list)
        phase = "changed" if changing else "unchanged"
        with instance(self.home) as opened:
            job = collection_definitions(collection).resolve_job_def(NAME)
            for number in range(1, runs + 1):
                if changing:
                    self.write(number)
                done = in_process.execute(job, opened, {RANGE_START: DAY, RANGE_END: DAY})
                if not done.success:
                    raise RuntimeError(in_process.why(done))
                if changing:
                    self.sign_and_publish(collection)
                if number % self.every == 0:
                    if self.removing:
                        self.remove(collection, opened)
                    for name, value in self.sample().items():
                        samples[name].append(value)
                    self.say(f"{phase}: {number} of {runs} runs, {samples['disk'][-1] / 1e6:.1f} MB")
        return Soaked(phase=phase, runs=runs, samples=samples)

    def remove(self, collection: Collection, opened: DagsterInstance) -> None:
        """Replaced files too, which readers may need for ten minutes: nobody reads here, and no run takes so long."""
        settings = load_operations(self.home.operations).retention.model_copy(update={"litter_hours": 0})
        with Stores.at(self.home) as stores:
            sweep(
                RetentionContext(stores=stores, settings=settings, collections=[collection], instance=opened),
                wait_s=120,
            )

    def write(self, number: int) -> None:
        path = self.root / "collections" / NAME / "documents" / DAY / "0.txt"
        path.write_text(f"Paper 0\n\nDraft {number}: the pump in hall 7 was looked at; {number}.00 is due.\n")
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))

    def sign_and_publish(self, collection: Collection) -> None:
        with Stores.at(self.home) as stores:
            with stores.state.read() as connection:
                ann = people.find(connection, "ann")
                choices = decisions.waiting(connection, NAME, None, collection.settings.signoff)
            if ann is None:
                raise RuntimeError("ann is not known")
            decisions.decide(
                stores.state, NAME, choices, "approved", by=ann, reason="soak", rules=collection.settings.signoff
            )
            with contextlib.suppress(Exception):  # the sensor of `up` may have been first
                publish(collection, stores, by="soak")

    def know_ann(self) -> None:
        with Stores.at(self.home) as stores, stores.state.write() as connection:
            people.add(connection, "ann", email=None, password_hash=passwords.hashed("a walk in the rain"), by="soak")
            people.give(connection, "ann", "approver", NAME, by="soak")

    def sample(self) -> dict[str, float]:
        sizes = {place.name: place.size for place in usage(self.home)}
        sizes.pop("state store")
        state = (self.home.root / "state.db").stat().st_size  # its log is counted with the others
        found = {"disk": float(sum(sizes.values()) - sizes["logs"]), "state store": float(state)}
        found["write-ahead logs"] = float(sum(path.stat().st_size for path in self.home.root.rglob("*-wal")))
        here = psutil.Process()
        found["memory of this process"] = float(here.memory_info().rss)
        found["file handles of this process"] = float(here.num_fds())
        others = started_by_up(self.home.root)
        if others:
            found["memory of `up`"] = float(sum(map(_memory, others)))
            found["file handles of `up`"] = float(sum(map(_handles, others)))
        return found

    @contextlib.contextmanager
    def up(self, port: int) -> Iterator[None]:
        """`ai-assets up` on this home: Dagster's web server and daemon, the code server, the desk."""
        command = [Path(sys.executable).parent / "ai-assets", "up", "--port", str(port), "--no-first-run"]
        process = subprocess.Popen(
            command, cwd=self.root, env={**os.environ, "AI_ASSETS_HOME": str(self.home.root)}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 240
            while len(started_by_up(self.home.root)) < 4 or not self._answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"ai-assets up did not start; see {self.home.logs}")
                time.sleep(0.5)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(120)

    @staticmethod
    def _answers(port: int) -> bool:
        from ai_assets.ops.dagster_client import answers

        return answers(f"http://127.0.0.1:{port}/server_info") and answers(f"http://127.0.0.1:{port + 1}/health")


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _handles(process: psutil.Process) -> int:
    try:
        return int(process.num_fds())
    except psutil.Error:
        return 0


def soak(
    root: Path,
    *,
    unchanged: int,
    changed: int,
    every: int,
    port: int | None,
    say: Callable[[str], None],
    removing: bool = True,
) -> list[Soaked]:
    """Both phases in a new project below `root`; without a port no `ai-assets up` runs beside."""
    made = Soak(root=root, every=every, say=say, removing=removing)
    os.environ["AI_ASSETS_HOME"] = str(made.home.root)
    collection = made.declare(
        runs_per_job=10, rollback_releases=2, candidate_days=0, reader_minutes=0, litter_hours=0.25, every_hours=0.01
    )
    made.home.ensure()
    made.know_ann()
    with contextlib.chdir(root), made.up(port) if port is not None else contextlib.nullcontext():
        return [made.run(collection, unchanged, changing=False), made.run(collection, changed, changing=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unchanged", type=int, default=500)
    parser.add_argument("--changed", type=int, default=100)
    parser.add_argument("--every", type=int, default=10, help="runs between two removals")
    parser.add_argument("--port", type=int, default=0, help="of `ai-assets up`; a free one by default")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="ai-assets-soak-") as folder:
        found = soak(
            Path(folder), unchanged=given.unchanged, changed=given.changed, every=given.every,
            port=given.port or _free_ports(), say=console.print,
        )  # fmt: skip
    table = Table("phase", "what", "first half, most", "second half, most", "bound", "holds")
    for phase in found:
        for name, values in phase.samples.items():
            first, later, bound = max(values[: len(values) // 2]), phase.later(name), phase.bound(name)
            table.add_row(
                phase.phase, name, f"{first:,.0f}", f"{later:,.0f}", f"{bound:,.0f}", "yes" if later <= bound else "NO"
            )
    console.print(table)
    return 1 if any(phase.grown() for phase in found) else 0


def _free_ports() -> int:
    """The first of two that follow each other."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", port + 1)):
                return port


if __name__ == "__main__":
    sys.exit(main())
