"""The seam: who hears of calls and of their attempts while they are made, such as traces. Knows no OpenTelemetry.

All of it is called in the engine's thread, between the steps of every call: an implementation may only take notes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.inference.call_state import CallState
from ai_assets.inference.ledger_messages import AttemptEnd, Intent
from ai_assets.inference.records import Result
from ai_assets.protocols.base import Fault, Reply


class CallListener(ABC):
    @abstractmethod
    def began(self, calls: Sequence[CallState]) -> None:
        """They have no answer yet, and share their requests: a chat alone, or several texts. `CallState.noted` is
        the listener's own."""

    @abstractmethod
    def leaves(self, sent: Sequence[tuple[CallState, Intent]]) -> Mapping[str, str]:
        """An attempt begins; headers that its request carries."""

    @abstractmethod
    def came(
        self, sent: Sequence[tuple[CallState, Intent]], outcomes: Sequence[Reply | Fault], ends: Sequence[AttemptEnd]
    ) -> None:
        """The same attempt has ended."""

    @abstractmethod
    def ended(self, calls: Sequence[CallState], results: Mapping[CallState, Result]) -> None:
        """What `began` has come to its end; a call that the job's end cut off is not among the results."""

    @abstractmethod
    def recalled(self, call: CallState, result: Result) -> None:
        """Nothing began: the answer was in the ledger."""


@dataclass(kw_only=True)
class Hearing:
    """Who hears of the calls of one piece of work, and at its end of what was wrong with it."""

    calls: CallListener | None = None
    problem: str | None = None
    problem_kind: str | None = None
    """The class of what was raised, where something was; then the words may hold what documents say."""
