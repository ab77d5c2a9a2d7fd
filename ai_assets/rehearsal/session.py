"""What the provider is and remembers: its behaviour, its books, the faults to come, the prefixes it has seen."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ai_assets.rehearsal.answers import FINGERPRINT, FIRST_MODEL, SECOND_MODEL, AnsweringModel
from ai_assets.rehearsal.books import Books
from ai_assets.rehearsal.calls import EncodedAnswer, PrefixCache, ReceivedCall, answered
from ai_assets.rehearsal.faults import Faults, share
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
        self._seen: Counter[str] = Counter()
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
        return answered(call, self.behaviour, self._prefixes, fault, self._model_of(call))

    def _model_of(self, call: ReceivedCall) -> AnsweringModel:
        behaviour = self.behaviour
        swapped = behaviour.swapped or (behaviour.swap_after is not None and self.books.calls > behaviour.swap_after)
        if not swapped and not behaviour.unsteady:
            return FIRST_MODEL
        other = swapped and share(f"{behaviour.seed}:{call.digest}:swap") < behaviour.swap_share
        if behaviour.unsteady:
            self._seen[call.digest] += 1
            drawn = share(f"{behaviour.seed}:{call.digest}:unsteady:{self._seen[call.digest]}")
            other = other is not (drawn < behaviour.unsteady)
        return AnsweringModel(
            second=other,
            name=SECOND_MODEL if swapped and "model" in behaviour.swap_says else None,
            fingerprint=f"{FINGERPRINT}_2" if swapped and "fingerprint" in behaviour.swap_says else FINGERPRINT,
            tokens=behaviour.swap_tokens if swapped else 1.0,
        )

    def stats(self) -> dict[str, Any]:
        return self.books.stats(self.in_flight)
