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
    started_by: str
    """Who started it, and how that is proved; or why it is not known."""
    author_known: bool
    status: str
    done: bool
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
