"""How far a run is, stage by stage, from its events: what bars, lines and the run's log are drawn from."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ai_assets.base.money import dollars
from ai_assets.base.plural import plural
from ai_assets.inference.run_spend import RunSpend
from ai_assets.run.events import Advanced, CallsMade, RunBegan, RunEvent, StageBegan, StageEnded
from ai_assets.run.sinks import Sink

FIRST_S, MOST_S = 10.0, 300.0
"""When a stage that takes long first says how far it is, and the longest until it says so again: each time twice as
long, so that a run of a night has some hundred lines."""


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """An asset of a run, over all partitions."""

    asset: str
    partitions: int
    """Of the run."""
    ended: int
    """Of them; those that failed included."""
    failed: int
    running: int
    done: int
    """Documents, those that were taken over included."""
    total: int | None
    """None as long as no partition says how many documents it has."""
    estimated: bool
    """Not all partitions have begun: for the others the mean of those that have is taken."""
    reused: int
    """Of those done: taken over, or made from answers that were in the ledger."""
    spend: RunSpend
    """Of the calls that ended."""

    @property
    def documents_in_words(self) -> str:
        """'120 of about 600 documents'."""
        if self.total is None:
            return plural(self.done, "document")
        return f"{self.done:,} of {'about ' if self.estimated else ''}{plural(self.total, 'document')}"

    @property
    def trouble_in_words(self) -> str:
        """What was retried and why; before that, what failed."""
        failed = sum(self.spend.errors.values())
        if failed and not self.spend.retried:
            return f"{plural(failed, 'attempt')} failed: {self.spend.errors_in_words}"
        return self.spend.retries_in_words

    @property
    def in_words(self) -> str:
        spend = self.spend
        calls = f"{plural(spend.calls, 'call')}, {dollars(spend.cost_usd)}"
        failed = f"{plural(self.failed, 'partition')} failed"
        parts = [
            f"{self.asset}: {self.documents_in_words}",
            f"{self.reused:,} reused" if self.reused else "",
            calls if spend.attempts else "",
            self.trouble_in_words,
            failed if self.failed else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass
class _Part:
    """An asset of a partition that is under way."""

    done: int = 0
    total: int | None = None
    reused: int = 0


@dataclass
class _Stage:
    """The sums of partitions that ended, and those that are under way."""

    ended: int = 0
    failed: int = 0
    known: int = 0
    """Of those that ended: how many said how many documents they have."""
    done: int = 0
    total: int = 0
    reused: int = 0
    spend: RunSpend = field(default_factory=RunSpend)
    running: dict[str, _Part] = field(default_factory=dict)

    def part(self, partition: str) -> _Part:
        return self.running.setdefault(partition, _Part())

    def end(self, event: StageEnded) -> None:
        part = self.running.pop(event.partition, _Part())
        self.ended += 1
        if event.error is None:
            part = _Part(done=event.documents, total=event.documents, reused=event.reused)
        else:
            self.failed += 1
        self.done += part.done
        self.reused += part.reused
        if part.total is not None:
            self.known += 1
            self.total += part.total


class RunProgress(Sink):
    """Adds up what it hears, a few numbers for each stage. Other threads may ask."""

    hears = (RunBegan, StageBegan, Advanced, CallsMade, StageEnded)

    def __init__(self, partitions: int = 0) -> None:
        """`partitions` are those that will be run, where several runs do that; else as many as the runs say."""
        self._lock = threading.Lock()
        self._announced, self._partitions = partitions, 0
        self._stages: dict[str, _Stage] = {}

    def hear(self, event: RunEvent) -> None:
        with self._lock:
            match event:
                case RunBegan():
                    self._partitions += len(event.partitions)
                case StageBegan():
                    self._of(event.asset).part(event.partition)
                case Advanced():
                    part = self._of(event.asset).part(event.partition)
                    part.done, part.total, part.reused = event.done, event.total, event.reused
                case CallsMade():
                    stage = self._of(event.asset)
                    stage.spend = stage.spend.plus(event.spend)
                case StageEnded():
                    self._of(event.asset).end(event)

    def stages(self) -> list[StageProgress]:
        """Those that began, in that order."""
        with self._lock:
            return [self._told(asset, stage) for asset, stage in self._stages.items()]

    def stage(self, asset: str) -> StageProgress:
        with self._lock:
            return self._told(asset, self._of(asset))

    def _of(self, asset: str) -> _Stage:
        return self._stages.setdefault(asset, _Stage())

    def _told(self, asset: str, stage: _Stage) -> StageProgress:
        partitions = max(self._announced, self._partitions)
        parts = list(stage.running.values())
        totals = [part.total for part in parts if part.total is not None]
        known, total = stage.known + len(totals), stage.total + sum(totals)
        unknown = partitions - known - (stage.ended - stage.known)
        return StageProgress(
            asset=asset,
            partitions=partitions,
            ended=stage.ended,
            failed=stage.failed,
            running=len(parts),
            done=stage.done + sum(part.done for part in parts),
            total=total + round(total / known * max(0, unknown)) if known else None,
            estimated=unknown > 0,
            reused=stage.reused + sum(part.reused for part in parts),
            spend=stage.spend,
        )


class ProgressLines(Sink):
    """A line for each stage that takes long, seldom enough to be read: for logs, and where there is no terminal."""

    hears = RunProgress.hears

    def __init__(
        self, say: Callable[[str], None], progress: RunProgress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._progress, self._clock = say, progress, clock
        self._due: dict[str, tuple[float, float]] = {}
        """By stage, when it speaks next and how long it was silent then."""

    def hear(self, event: RunEvent) -> None:
        self._progress.hear(event)
        if isinstance(event, StageBegan):
            self._due.setdefault(event.asset, (self._clock() + FIRST_S, FIRST_S))
        elif isinstance(event, Advanced | CallsMade):
            due_at, pause_s = self._due.setdefault(event.asset, (self._clock() + FIRST_S, FIRST_S))
            if self._clock() >= due_at:
                pause_s = min(MOST_S, 2 * pause_s)
                self._due[event.asset] = (self._clock() + pause_s, pause_s)
                self._say(self._progress.stage(event.asset).in_words)
