"""What the provider is and remembers: its behaviour, its books, the faults to come, the prefixes it has seen."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ai_assets.rehearsal.books import Books
from ai_assets.rehearsal.calls import EncodedAnswer, PrefixCache, ReceivedCall, answered
from ai_assets.rehearsal.faults import Faults
from ai_assets.rehearsal.settings import BatchFault, BatchRequestKind, BatchRule, Behaviour, FaultKind, Rule


class RehearsalSession:
    """Shared by the calls that come one by one and those that come in batches."""

    def __init__(self, behaviour: Behaviour, script: Sequence[Rule]) -> None:
        self.behaviour = behaviour
        self.in_flight = 0
        self._script = list(script)
        self.reset()

    def reset(self) -> None:
        """As after the start, but for settings changed since and calls in flight."""
        self.books = Books()
        self._faults = Faults(self._script)
        self._prefixes = PrefixCache()
        self.batch_rules: list[BatchRule] = []

    def now(self) -> float:
        """The clock that files and batches go by."""
        return time.time() + self.behaviour.clock_ahead_s

    def batch_fault(self, request: BatchRequestKind) -> BatchFault | None:
        """Asked once per request about files and batches."""
        for rule in self.batch_rules:
            if rule.request != request or rule.times == 0:
                continue
            if rule.after > 0:
                rule.after -= 1
                continue
            rule.times -= 1
            return rule.fault
        return None

    def change(self, settings: Mapping[str, Any]) -> None:
        self.behaviour = self.behaviour.changed(settings)

    @property
    def rules(self) -> list[Rule]:
        return self._faults.rules

    @rules.setter
    def rules(self, rules: list[Rule]) -> None:
        self._faults.rules = rules

    def fault_for(self, call: ReceivedCall) -> FaultKind | None:
        """Asked once per call, and counted."""
        text = call.request.text if self._faults.rules else ""
        found = self._faults.choose(self.behaviour, call.digest, call.body, text, repair=call.is_repair)
        fault = call.applicable(found)
        if fault is not None:
            self.books.faults[fault] += 1
        return fault

    def answer(self, call: ReceivedCall, fault: FaultKind | None) -> EncodedAnswer:
        return answered(call, self.behaviour, self._prefixes, fault)

    def stats(self) -> dict[str, Any]:
        return self.books.stats(self.in_flight)
