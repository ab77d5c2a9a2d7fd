"""What is said of spend: one record per kind of figure, and the columns of the table that shows several."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from ai_assets.base.plural import plural
from ai_assets.costs.tables import Cell, Column, Table

Dimension = Literal[
    "model", "asset", "collection", "tenant", "day", "document", "error", "prompt", "partition", "backfill", "run",
    "endpoint",
]  # fmt: skip
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
KEYS: Mapping[Dimension, tuple[str, ...]] = {
    "model": ("model",),
    "asset": ("collection", "asset"),
    "collection": ("collection",),
    "tenant": ("tenant",),
    "day": ("day",),
    "document": ("collection", "document"),
    "error": ("error",),
    "prompt": ("collection", "asset", "prompt"),
    "partition": ("collection", "partition"),
    "backfill": ("backfill",),
    "run": ("collection", "run_id"),
    "endpoint": ("endpoint",),
}
"""The columns that tell one line from another."""
NONE = "none"
"""For people, where a call has no collection, document or the like."""
WASTE: Mapping[str, str] = {
    "published": "answers that are in a release: what the money was for",
    "never published": "answers of rows as they are now, in no release so far",
    "superseded": "answers that no row uses any more: the document, the prompt or the model changed",
    "retried": "attempts that were paid for and followed by another of the same call",
    "failed": "paid for, and no usable answer came",
    "paid twice": "a second answer to the same call: its process was taken over while it waited for it",
    "ambiguous": "nobody knows whether it was billed: the connection broke before the answer",
}
"""All that money goes to, and what it means; only the first is no waste."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    calls: int
    attempts: int
    failed: int
    ambiguous: int
    in_flight: int
    reused: int
    cost_usd: Decimal
    saved_usd: Decimal
    maybe_usd: Decimal
    cost_today_usd: Decimal
    """What the same tokens would cost now, of all whose price is known now."""
    unpriced_usd: Decimal
    """What was paid for the others."""
    gpu_s: float
    cpu_s: float
    """Of models that are loaded here."""


@dataclass(frozen=True, kw_only=True)
class SpendRow:
    """One value of a dimension."""

    names: tuple[str, ...]
    """What a call had no such thing for is empty."""
    calls: int
    attempts: int
    reused: int
    cost_usd: Decimal
    saved_usd: Decimal
    maybe_usd: Decimal
    tokens: int
    """In and out."""
    cost_today_usd: Decimal | None
    """None where the price of some of it is not known now."""
    gpu_s: float | None
    cpu_s: float | None
    """Of models that are loaded here; None where all requests left for a server."""

    @property
    def usd_per_million_tokens(self) -> Decimal | None:
        return per_million(self.cost_usd, self.tokens)

    @property
    def label(self) -> str:
        return "/".join(name or NONE for name in self.names)


@dataclass(frozen=True, kw_only=True)
class Series:
    """Spend over time, in steps of one or more days, as parts that add up."""

    starts: Sequence[datetime.date]
    step: int
    """Days."""
    parts: Sequence[tuple[str, Sequence[Decimal]]]
    """The largest first; what is too small to be told apart is one part, and last."""

    @property
    def sums(self) -> list[Decimal]:
        """Of each step."""
        return [sum(values, Decimal(0)) for values in zip(*(part for _, part in self.parts), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Waste:
    category: str
    attempts: int
    cost_usd: Decimal
    maybe_usd: Decimal

    @property
    def means(self) -> str:
        return WASTE.get(self.category, "")


@dataclass(frozen=True, kw_only=True)
class EndpointUse:
    endpoint: str
    model: str
    kind: str
    answers: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    attempts: int
    retries: int
    failed: int
    ambiguous: int
    most_frequent_error: str


@dataclass(frozen=True, kw_only=True)
class UnitCost:
    """What a model cost at an endpoint, or on a device here, for one kind of stage."""

    kind: str
    endpoint: str
    """Or the device."""
    model: str
    answers: int
    tokens: int
    gpu_s: float | None
    cpu_s: float | None
    """None where it is somebody else's machine."""
    cost_usd: Decimal
    cost_today_usd: Decimal | None

    @property
    def is_own(self) -> bool:
        return self.cpu_s is not None

    @property
    def runs(self) -> str:
        return "on a device here" if self.is_own else "at an endpoint"

    @property
    def usd_per_million_tokens(self) -> Decimal | None:
        return per_million(self.cost_usd, self.tokens)

    @property
    def today_per_million_tokens(self) -> Decimal | None:
        return None if self.cost_today_usd is None else per_million(self.cost_today_usd, self.tokens)


def per_million(usd: Decimal, tokens: int) -> Decimal | None:
    return usd * 1_000_000 / tokens if tokens else None


@dataclass(frozen=True, kw_only=True)
class ErrorCount:
    """Attempts that ended with an error of one class."""

    endpoint: str
    model: str
    error: str
    attempts: int
    cost_usd: Decimal
    maybe_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class DocumentCost:
    collection: str
    document: str
    partition: str
    calls: int
    reused: int
    cost_usd: Decimal
    saved_usd: Decimal
    maybe_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class PromptCost:
    collection: str
    asset: str
    prompt: str
    calls: int
    cost_usd: Decimal
    usd_per_call: Decimal | None
    first_day: datetime.date
    last_day: datetime.date


@dataclass(frozen=True, kw_only=True)
class PerDocument:
    """Over all time: what was published was often paid for long before."""

    documents: int
    published_documents: int
    cost_usd: Decimal

    @property
    def usd_per_document(self) -> Decimal | None:
        return self.cost_usd / self.documents if self.documents else None

    @property
    def usd_per_published_document(self) -> Decimal | None:
        return self.cost_usd / self.published_documents if self.published_documents else None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a month will have cost at its end."""

    month: str
    spent_usd: Decimal
    low_usd: Decimal
    likely_usd: Decimal
    high_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class Burn:
    day: datetime.date
    spent_usd: Decimal
    cumulative_usd: Decimal


@dataclass(frozen=True, kw_only=True)
class BudgetUse:
    budget: str
    """Name, period, and whose it is."""
    name: str
    period: str
    holder: str
    limit_usd: Decimal
    spent_usd: Decimal
    in_flight_usd: Decimal
    maybe_usd: Decimal
    earmarked_usd: Decimal
    left_usd: Decimal
    used_share: float | None
    burn: Sequence[Burn]
    """Of the days so far, where the budget runs over several."""


@dataclass(frozen=True, kw_only=True)
class WarehouseTimes:
    built_at: str
    ledger_at: str | None
    """The newest moment of the ledger that it shows; None where it shows nothing."""

    @property
    def as_of(self) -> str:
        return self.ledger_at or self.built_at


COUNTS = (Column("calls", "calls", "count"), Column("attempts", "attempts", "count"),
          Column("reused", "reused", "count"))  # fmt: skip
MONEY = (Column("cost_usd", "paid", "usd"), Column("saved_usd", "saved", "usd"),
         Column("maybe_usd", "maybe billed", "usd"))  # fmt: skip
TODAY = Column("cost_today_usd", "at today's prices", "usd")
DEVICE = (Column("gpu_s", "GPU", "seconds"), Column("cpu_s", "processor", "seconds"))
PER_MILLION = Column("usd_per_million_tokens", "per million tokens", "usd")
COLUMNS: Mapping[type, Sequence[Column]] = {
    Waste: (Column("category", "where it went"), Column("attempts", "attempts", "count"), MONEY[0], MONEY[2],
            Column("means", "means")),
    EndpointUse: (
        Column("endpoint", "endpoint"), Column("model", "model"), Column("kind", "kind"),
        Column("answers", "answers", "count"), Column("p50_s", "half within", "seconds"),
        Column("p95_s", "95 % within", "seconds"), Column("p99_s", "99 % within", "seconds"),
        Column("attempts", "attempts", "count"), Column("retries", "retries", "count"),
        Column("failed", "failed", "count"), Column("ambiguous", "maybe billed", "count"),
        Column("most_frequent_error", "most frequent error"),
    ),
    UnitCost: (
        Column("kind", "kind"), Column("endpoint", "endpoint or device"), Column("model", "model"),
        Column("runs", "runs"), Column("answers", "answers", "count"), Column("tokens", "tokens", "count"), *DEVICE,
        MONEY[0], TODAY, PER_MILLION, Column("today_per_million_tokens", "per million, today", "usd"),
    ),
    ErrorCount: (Column("error", "error"), Column("endpoint", "endpoint"), Column("model", "model"), COUNTS[1],
                 MONEY[0], MONEY[2]),
    DocumentCost: (
        Column("document", "document"), Column("collection", "collection"), Column("partition", "partition"),
        COUNTS[0], COUNTS[2], *MONEY,
    ),
    PromptCost: (
        Column("asset", "stage"), Column("collection", "collection"), Column("prompt", "prompt version"), COUNTS[0],
        MONEY[0], Column("usd_per_call", "per call", "usd"), Column("first_day", "first"), Column("last_day", "last"),
    ),
    BudgetUse: (
        Column("name", "budget"), Column("holder", "whose"), Column("period", "period"),
        Column("limit_usd", "limit", "usd"), Column("spent_usd", "spent", "usd"),
        Column("in_flight_usd", "in flight", "usd"), Column("maybe_usd", "maybe billed", "usd"),
        Column("earmarked_usd", "set aside", "usd"), Column("left_usd", "left", "usd"),
        Column("used_share", "used", "share"),
    ),
}  # fmt: skip


def table_of(kind: type, items: Sequence[object]) -> Table:
    columns = COLUMNS[kind]
    return Table(columns=columns, rows=[[getattr(item, column.key) for column in columns] for item in items])


def table_of_lines(by: Dimension, found: Sequence[SpendRow], total_usd: Decimal) -> Table:
    """With the share of each in a total. Errors belong to attempts: nothing is known of calls and reuse."""
    keys = [Column(key, key.removesuffix("_id")) for key in KEYS[by]]
    if by == "error":
        measures: Sequence[Column] = (COUNTS[1], MONEY[0], MONEY[2])
    else:
        measures = (*COUNTS, *MONEY, Column("tokens", "tokens", "count"), *DEVICE, TODAY, PER_MILLION)
    rows = [
        [
            *line.names,
            *(getattr(line, column.key) for column in measures),
            line.cost_usd / total_usd if total_usd else None,
        ]
        for line in found
    ]
    return Table(columns=[*keys, *measures, Column("share", "share", "share")], rows=rows)


def table_of_series(found: Series) -> Table:
    """A line for each step, a column for each part."""
    parts = [Column(name, name, "usd") for name, _ in found.parts]
    sums = found.sums or [Decimal(0)] * len(found.starts)
    rows: list[list[Cell]] = [
        [start, total, *(values[place] for _, values in found.parts)]
        for place, (start, total) in enumerate(zip(found.starts, sums, strict=True))
    ]
    day = Column("day", "day" if found.step == 1 else f"{plural(found.step, 'day')} from")
    return Table(columns=[day, MONEY[0], *parts], rows=rows)
