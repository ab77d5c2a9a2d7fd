"""What stands for an answer that a batch is to bring, and what so many of them wait for."""

from collections import Counter
from dataclasses import dataclass, field

from ai_assets.inference.records import Request


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldBudget:
    """A budget whose money is reserved by batches on their way."""

    name: str
    jobs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A request whose call travels in a batch, or could not be put into one yet."""

    request: Request
    job: str = ""
    """The batch that its call is a line of, whoever put it there."""
    held: HeldBudget | None = None
    """Why it is in none."""


@dataclass(kw_only=True)
class AwaitedCalls:
    """The pending ones of one asset of a partition, counted."""

    number: int = 0
    lines: Counter[str] = field(default_factory=Counter)
    """By batch."""
    held: Counter[HeldBudget] = field(default_factory=Counter)

    def add(self, pending: Pending) -> None:
        self.number += 1
        if pending.job:
            self.lines[pending.job] += 1
        elif pending.held is not None:
            self.held[pending.held] += 1

    @property
    def budgets(self) -> tuple[str, ...]:
        """Whose money is held."""
        return tuple(sorted({each.name for each in self.held}))
