"""How far `ai-assets run` is: a bar for each stage on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ai_assets.base.money import dollars
from ai_assets.base.plural import plural
from ai_assets.cli.output import console, errors
from ai_assets.run.events import DatasetMade, RunEvent, Waiting
from ai_assets.run.progress import ProgressLines, RunProgress, StageProgress
from ai_assets.run.sinks import Sink
from ai_assets.run.total import CANDIDATE

PER_SECOND = 4
"""How often the bars are drawn; events only count."""
LEAST_BAR, MOST_BAR, LEAST_NAME, LONGEST_NAME = 6, 30, 8, 24
GAPS = 5
"""Columns that are left empty beside a name, a bar and numbers."""
ROWS_LEFT = 3
"""Of the terminal's height, for what is above the bars of the stages and below."""


@contextmanager
def followed(collection: str, partitions: int, *, quiet: bool) -> Iterator[Sequence[Sink]]:
    """The sinks that show how far runs of these partitions are; `quiet` says only what is waited for."""
    if quiet:
        yield [WaitingLines(errors)]
        return
    progress = RunProgress(partitions)
    if not console.is_terminal:
        yield [ProgressLines(console.print, progress), WaitingLines(errors)]
        return
    bars = Bars(collection, partitions, progress)
    with Live(bars, console=console, refresh_per_second=PER_SECOND, transient=True):
        yield [progress, bars, WaitingLines(console if errors.is_terminal else errors)]


class WaitingLines(Sink):
    """What the run waits for. A terminal with bars has it above them."""

    hears = (Waiting,)

    def __init__(self, where: Console) -> None:
        self._where = where

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, Waiting):
            self._where.print(event.line)


class Bars(Sink):
    """Drawn again some times a second from what `progress` has added up."""

    hears = (DatasetMade,)

    def __init__(self, collection: str, partitions: int, progress: RunProgress) -> None:
        self._collection, self._partitions, self._progress = collection, partitions, progress
        self._candidates = 0
        self._began = time.monotonic()

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, DatasetMade) and event.outcome.manifest.asset == CANDIDATE:
            self._candidates += 1

    def __rich_console__(self, made_by: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        whole = Table.grid(padding=(0, 1))
        whole.add_row(
            Text(f"{self._collection}: candidates", style="bold"),
            ProgressBar(total=max(1, self._partitions), completed=self._candidates, width=MOST_BAR),
            Text(f"{self._candidates:,} of {self._partitions:,}"),
            Text(_clock(time.monotonic() - self._began)),
        )
        yield whole
        yield from drawn(self._progress.stages(), width, rows=made_by.height - ROWS_LEFT)


def drawn(stages: Sequence[StageProgress], width: int, rows: int) -> RenderResult:
    """A row for each stage, and below it why calls failed. Where not all fit, those that ended are left out first."""
    shown = _fitting(stages, rows)
    if len(shown) < len(stages):
        yield Padding(Text(f"{plural(len(stages) - len(shown), 'more stage')}", style="dim"), (0, 0, 0, 2))
    numbers = max((len(_numbers(stage)) for stage in shown), default=0)
    named = max((len(stage.asset) for stage in shown), default=0)
    names = min(named, LONGEST_NAME, max(LEAST_NAME, width - GAPS - LEAST_BAR - numbers))
    bar = max(LEAST_BAR, min(MOST_BAR, width - GAPS - names - numbers))
    for stage in shown:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=names, no_wrap=True, overflow="ellipsis")
        row.add_column(width=bar)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(Text(stage.asset), _bar(stage, bar), Text(_numbers(stage)))
        yield Padding(row, (0, 0, 0, 2))
        if trouble := _trouble(stage):
            yield Padding(Text(trouble, style="yellow", overflow="fold"), (0, 0, 0, 4))


def _bar(stage: StageProgress, width: int) -> ProgressBar:
    # A whole that is not known pulses; one of no documents is done.
    total = None if stage.total is None else max(1, stage.total)
    done = stage.done if stage.total else 1
    return ProgressBar(total=total, completed=done, width=width, pulse=stage.total is None and stage.running > 0)


def _numbers(stage: StageProgress) -> str:
    total = "" if stage.total is None else f"/{'~' if stage.estimated else ''}{stage.total:,}"
    spend = stage.spend
    parts = [
        f"{stage.done:,}{total}",
        f"{stage.reused:,} reused" if stage.reused else "",
        f"{plural(spend.calls, 'call')} {dollars(spend.cost_usd)}" if spend.attempts else "",
    ]
    return "  ".join(part for part in parts if part)


def _trouble(stage: StageProgress) -> str:
    failed = f"{plural(stage.failed, 'partition')} failed" if stage.failed else ""
    return "; ".join(part for part in (stage.trouble_in_words, failed) if part)


def _fitting(stages: Sequence[StageProgress], rows: int) -> Sequence[StageProgress]:
    needed = {stage.asset: 1 + bool(_trouble(stage)) for stage in stages}
    left_out = set[str]()
    for stage in sorted(stages, key=lambda stage: stage.running > 0):
        if sum(needed[each.asset] for each in stages if each.asset not in left_out) + bool(left_out) <= rows:
            break
        left_out.add(stage.asset)
    return [stage for stage in stages if stage.asset not in left_out]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
