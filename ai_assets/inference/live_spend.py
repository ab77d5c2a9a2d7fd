"""What the calls of an engine come to, counted as they end: for progress while they go on, without a query."""

import threading
from collections import Counter
from dataclasses import dataclass, field

from ai_assets.inference.ledger_messages import AttemptEnd
from ai_assets.inference.records import Caller
from ai_assets.inference.run_spend import RunSpend


class LiveSpend:
    """The engine's thread counts, and any thread takes what was counted since the last time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[Caller, _Counts] = {}

    def sent(self, caller: Caller, *, again: bool) -> None:
        with self._lock:
            counts = self._of(caller)
            counts.attempts += 1
            counts.calls += not again

    def ended(self, caller: Caller, end: AttemptEnd) -> None:
        hop = end.opened.hop
        with self._lock:
            counts = self._of(caller)
            counts.cost_nusd += end.cost_nusd or 0
            counts.maybe_nusd += hop.reserve_nusd if end.cost_nusd is None else 0
            if end.error is not None:
                counts.errors[end.error, hop.name] += 1

    def reused(self, caller: Caller) -> None:
        with self._lock:
            self._of(caller).reused += 1

    def take(self) -> dict[Caller, RunSpend]:
        with self._lock:
            taken, self._counts = self._counts, {}
        return {caller: counts.spend for caller, counts in taken.items()}

    def _of(self, caller: Caller) -> "_Counts":
        found = self._counts.get(caller)
        if found is None:
            found = self._counts[caller] = _Counts()
        return found


@dataclass(slots=True)
class _Counts:
    calls: int = 0
    attempts: int = 0
    reused: int = 0
    cost_nusd: int = 0
    maybe_nusd: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def spend(self) -> RunSpend:
        return RunSpend(
            calls=self.calls,
            attempts=self.attempts,
            reused=self.reused,
            cost_nusd=self.cost_nusd,
            maybe_nusd=self.maybe_nusd,
            errors=dict(self.errors),
        )
