"""What the processes of a run need in memory: ten times the documents, in one partition and in many, beside each other.

Each is `ai-assets run` as a person types it, whose processes are watched from outside until they end.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import ROOT, WORDS, Figure, write_collection
from bench.processes import ask
from tests.provider import Provider

SMALL, LARGE = 2_000, 20_000
MANY = 20
MOST = 1.5
FEW_LONG, MANY_LONG, LONG_SENTENCES = 100, 300, 2_600
MOST_LONG = 1.2
NAME = "bulk"
LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The peak of each process of a run in GiB, that of the command itself first, and how long the run took."""

    processes: list[float]
    seconds: float

    @property
    def largest(self) -> float:
        return max(self.processes)

    def __str__(self) -> str:
        return f"{' and '.join(f'{peak:.2f}' for peak in self.processes)} GiB, {self.seconds:.0f} s"


def measure() -> list[Figure]:
    figures = []
    with Provider(answers="quick") as provider:
        for what, partitions, asked in (
            ("built-in stages, one partition", 1, None),
            (f"built-in stages, {MANY} partitions", MANY, None),
            ("a call each, one partition", 1, provider),
        ):
            with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
                small = run(Path(folder) / "small", SMALL, partitions, asked)
                large = run(Path(folder) / "large", LARGE, partitions, asked)
            name = f"peak memory of the largest process of a run of {LARGE:,} documents / {SMALL:,}: {what}"
            detail = f"{large}; {small}"
            figures.append(Figure(name=name, value=ratio(small, large), limit=MOST, at_most=True, detail=detail))
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        few, many = (long_run(Path(folder) / str(documents), documents) for documents in (FEW_LONG, MANY_LONG))
    name = f"the same of {MANY_LONG} documents of {LONG_SENTENCES} sentences / {FEW_LONG}, one partition"
    figures.append(Figure(name=name, value=ratio(few, many), limit=MOST_LONG, at_most=True, detail=f"{many}; {few}"))
    return figures


def ratio(small: Peaks, large: Peaks) -> float:
    return large.largest / small.largest


def run(project: Path, documents: int, partitions: int, asked: Provider | None = None) -> Peaks:
    """A new collection of so many documents, run for the first time; with the provider each is a call."""
    write_collection(project, NAME, f"{{by: shards, count: {partitions}}}", [f"{n:06d}.txt" for n in range(documents)])
    if asked is not None:
        ask(project, asked, NAME)
    return watch(project, "run", NAME)


def long_run(project: Path, documents: int) -> Peaks:
    """Of documents of some 220 KB, of which few make a row group."""
    names = [f"{number:06d}.txt" for number in range(documents)]
    write_collection(project, NAME, "{by: shards, count: 1}", names)
    drawn = random.Random(7)
    for name in names:
        sentences = (" ".join(drawn.choices(WORDS, k=12)).capitalize() for _ in range(LONG_SENTENCES))
        (project / "collections" / NAME / "documents" / name).write_text(". ".join(sentences), encoding="utf-8")
    return watch(project, "run", NAME)


def watch(project: Path, *arguments: str) -> Peaks:
    environment = {**os.environ, "AI_ASSETS_HOME": str(project / "home")}
    command = [sys.executable, "-c", "from ai_assets.cli import main; main()", *arguments]
    started = time.perf_counter()
    peaks: dict[int, float] = {}
    log = project / "run.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=project, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=out, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            for pid in _with_children(process.pid):
                peaks[pid] = max(peaks.get(pid, 0.0), _peak_gib(pid))
            time.sleep(LOOK_S)
    if process.returncode:
        raise SystemExit(log.read_text(encoding="utf-8"))
    return Peaks(processes=list(peaks.values()), seconds=time.perf_counter() - started)


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:  # it has ended
        return
    for child in children:
        yield from _with_children(child)


def _peak_gib(pid: int) -> float:
    """Not ru_maxrss: that starts at the size of the process that started this one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20 if "VmHWM:" in status else 0.0
