"""What the pages and the API show of runs: what is due, what it would cost, what runs. Filled by `runs_reading`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ai_assets.desk.views import View

LaunchKind = Literal["due", "again", "backfill"]
"""What is due as it is; named partitions again; what a plan priced, with its money set aside."""


@dataclass(frozen=True, kw_only=True)
class RunLine(View):
    """A run of a collection, as Dagster knows it."""

    run_id: str
    partitions: str
    """One, or the first and the last."""
    started_by: str | None
    """Who started it, and how that is proved; or why it is not known. None where Dagster cannot be asked."""
    author_known: bool
    status: str
    done: bool | None
    """None where Dagster cannot be asked."""
    made_at: str
    url: str | None


@dataclass(frozen=True, kw_only=True)
class BackfillLine(View):
    backfill: str
    state: str
    made_by: str
    made_at: str
    partitions: int
    cap_usd: float
    used_usd: float
    """Spent, and maybe billed."""
    calls: int
    """Answered so far."""
    calls_expected: int
    url: str | None


@dataclass(frozen=True, kw_only=True)
class StagePrice(View):
    stage: str
    endpoint: str
    documents: int
    reused: int
    """Calls that are paid already."""
    new_calls: int
    low: str
    likely: str
    high: str


@dataclass(frozen=True, kw_only=True)
class Price(View):
    """What a run would cost, before it runs."""

    headline: str
    partitions: Sequence[str]
    due: Sequence[str]
    """Those that a run would change."""
    stages: Sequence[StagePrice]
    budgets: Sequence[str]
    """Of budgets that do not last, or may not: which, and where they end."""
    notes: Sequence[str]
    """What was assumed."""
    cap_usd: float
    """The most that a backfill of it may cost, unless another amount is given."""
    asks_models: bool


@dataclass(frozen=True, kw_only=True)
class RunsRow(View):
    """A collection, as a line of the page about runs."""

    collection: str
    states: Mapping[str, int]
    """Partitions by state."""
    due: int
    backfill: str | None
    """The one that is under way."""


@dataclass(frozen=True, kw_only=True)
class RunsView(View):
    """What can be started in a collection, what runs, and what ran."""

    collection: str
    states: Mapping[str, int]
    due: Sequence[str]
    partitions: Sequence[str]
    """The first and the last that can be named."""
    runs: Sequence[RunLine]
    backfills: Sequence[BackfillLine]
    """The newest first."""
    problem: str | None
    """Why Dagster cannot be asked, and what to do."""
    may_run: bool
    may_name: bool
    """Run named partitions again, start a backfill, stop one."""


@dataclass(frozen=True, kw_only=True)
class SpanLine(View):
    """An asset of a partition in a run, from its beginning to its end."""

    asset: str
    partition: str
    began_at: str
    ended_at: str
    seconds: float
    documents: int
    documents_out: int
    calls: int
    """Questions that this run sent to models for it."""
    unchanged: bool
    """Nothing that it depends on had changed, so nothing was computed."""
    error: str | None


@dataclass(frozen=True, kw_only=True)
class AssetLine(View):
    """An asset in a run, all of its partitions together."""

    asset: str
    partitions: int
    began_at: str
    ended_at: str
    seconds: float
    """The sum; partitions may have been under way at once."""
    documents: int
    documents_out: int
    calls: int
    unchanged: int
    """Partitions of which nothing had to be computed."""
    failed: int


@dataclass(frozen=True, kw_only=True)
class RunView(View):
    """A run: what it computed, and when."""

    collection: str
    run_id: str
    line: RunLine | None
    """None where Dagster cannot be asked, or does not have the run any more."""
    problem: str | None
    """Why Dagster cannot be asked, and what to do."""
    began_at: str | None
    """Of the first asset; None where none has ended yet, or retention has removed the spans."""
    ended_at: str | None
    partitions: int
    calls: int
    failed: int
    unchanged: int
    total: int
    """Spans that there are."""
    spans: Sequence[SpanLine]
    """In the order in which they began. Of many, those that failed and those that took longest."""
    assets: Sequence[AssetLine]
    """In the order in which they began."""
