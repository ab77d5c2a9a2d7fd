"""What happens in a run, as the records that its sinks hear. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_assets.checks.base import CheckOutcome
    from ai_assets.inference.run_spend import RunSpend
    from ai_assets.run.context import Outcome


@dataclass(frozen=True, kw_only=True)
class RunEvent:
    """Every event says whose it is."""

    collection: str
    run_id: str


@dataclass(frozen=True, kw_only=True)
class RunBegan(RunEvent):
    partitions: Sequence[str]
    assets: Sequence[str]
    at: str
    """UTC, as the state store writes moments."""


@dataclass(frozen=True, kw_only=True)
class RunEnded(RunEvent):
    """Not of a run that is killed."""

    at: str
    seconds: float
    error: str | None
    """None where all partitions came to their end; else what failed, in words."""
    error_kind: str | None = None
    """The class of what was raised."""


@dataclass(frozen=True, kw_only=True)
class StageBegan(RunEvent):
    """An asset of a partition; several may be under way at once."""

    partition: str
    asset: str
    at: str


@dataclass(frozen=True, kw_only=True)
class StageEnded(RunEvent):
    """The span of an asset of a partition: from `began_at` to `at`."""

    partition: str
    asset: str
    began_at: str
    at: str
    seconds: float
    documents: int
    documents_out: int
    reused: int
    quarantined: int
    unchanged: bool
    """Nothing that it depends on had changed, so nothing was computed."""
    calls: int
    """Questions that this run sent to models for it."""
    cost_usd: float
    error: str | None
    error_kind: str | None = None
    """The class of what was raised."""


@dataclass(frozen=True, kw_only=True)
class DatasetMade(RunEvent):
    """A dataset was committed, or found to be current."""

    outcome: "Outcome"


@dataclass(frozen=True, kw_only=True)
class BatchAwaited(RunEvent):
    """A dataset was not made, because calls of it travel in a batch, or batches have its money; a later run goes on."""

    asset: str
    partition: str
    said: str
    """`waiting for batch, 1,200 of 3,000 answered`."""
    answered: int
    calls: int
    """0 where it asks one by one, and waits for money only."""


@dataclass(frozen=True, kw_only=True)
class WindowAwaited(RunEvent):
    """A dataset was not made, because its window is closed; a later run goes on."""

    asset: str
    partition: str
    said: str
    """`waiting for its window until Mon 22:00 Europe/Berlin, 12 documents`."""
    until: str
    """UTC; empty where it never opens."""
    documents: int


@dataclass(frozen=True, kw_only=True)
class CheckMade(RunEvent):
    check: "CheckOutcome"


@dataclass(frozen=True, kw_only=True)
class Advanced(RunEvent):
    """How far an asset of a partition is: at its beginning, several times a second, and at its end."""

    asset: str
    partition: str
    done: int
    """Documents, those that were taken over included."""
    total: int
    reused: int
    """Of those done: taken over, or made from answers that were in the ledger."""


@dataclass(frozen=True, kw_only=True)
class CallsMade(RunEvent):
    """What the calls of an asset of a partition came to since the last such event, at most a second ago."""

    asset: str
    partition: str
    spend: "RunSpend"


@dataclass(frozen=True, kw_only=True)
class Said(RunEvent):
    """Progress for people: one short line."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Waiting(RunEvent):
    """What the run waits for, where that is not its own work: one short line."""

    line: str


__all__ = [
    "Advanced", "BatchAwaited", "CallsMade", "CheckMade", "DatasetMade", "RunBegan", "RunEnded", "RunEvent", "Said",
    "StageBegan", "StageEnded", "Waiting", "WindowAwaited",
]  # fmt: skip
