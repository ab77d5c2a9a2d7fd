"""What the benches share: rows of the closing table, corpora they make, and processes they time."""

import random
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORDS = (
    "refund delivery customer password upgrade dashboard latency error tomorrow contract region server token invoice "
    "amount total due agreement party term notice meeting minutes agreed policy staff must manager incident cause "
    "outage parcel warehouse driver pallet forklift damage claim letter pump valve report budget plan visit call order"
).split()
STAGES = """\
  stages:
    - name: classification
      kind: classify
      labels:
        - {name: invoice, description: A bill that asks for payment of an amount that is due.}
        - {name: contract, description: An agreement between parties with terms and notice.}
        - {name: incident, description: A report of an outage or damage with cause and action.}
        - {name: ticket, description: A customer asks for help or complains about a delivery.}
"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: a ratio, and the limit it is held against."""

    name: str
    value: float
    limit: float
    at_most: bool
    detail: str

    @property
    def holds(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def row(self) -> tuple[str, str, str, str, str]:
        sign = "≤" if self.at_most else "≥"
        return self.name, f"{self.value:.2f}", f"{sign} {self.limit:g}", "yes" if self.holds else "NO", self.detail


def write_documents(folder: Path, names: Sequence[str], seed: int = 7) -> None:
    """Small text documents of 50 to 150 words, the same for the same seed."""
    generator = random.Random(seed)
    for number, name in enumerate(names):
        sentences = (" ".join(generator.choices(WORDS, k=12)).capitalize() for _ in range(generator.randint(4, 12)))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Paper {number}\n\n{'. '.join(sentences)}.\n", encoding="utf-8")


def write_collection(project: Path, name: str, partitions: str, names: Sequence[str]) -> None:
    """A project with one collection of generated documents."""
    folder = project / "collections" / name
    write_documents(folder / "documents", names)
    (project / "definitions.py").write_text((ROOT / "definitions.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "defs.yaml").write_text(
        "type: ai_assets.DocumentCollection\nattributes:\n  source: {path: documents}\n"
        f"  partitions: {partitions}\n  schedule: null\n{STAGES}",
        encoding="utf-8",
    )


def twice(folder: Path, first: date, last: date) -> tuple[Path, Path]:
    """Two projects of days, alike, of which the first day was run."""
    one, other = folder / "few", folder / "many"
    one.mkdir()
    write_collection(one, "daily", f"{{by: day, start: {first}, end: {last}}}", [f"{first}/0.txt"])
    command = [str(Path(sys.executable).with_name("ai-assets")), "run", "daily", "--partition", str(first)]
    subprocess.run(command, cwd=one, check=True, capture_output=True)
    shutil.copytree(one, other)
    return one, other


def cpu_seconds(*arguments: str) -> float:
    """User and system time of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios pair by pair, so that a slow minute hits both sides of a pair."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
