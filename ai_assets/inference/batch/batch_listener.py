"""The seam: who hears of the lines of batches when they are collected, such as traces. Knows no OpenTelemetry.

The process that collects may be another than the one that asked, and days later: all that is known is in the job and
the ledger.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.ledger_messages import AttemptEnd
from ai_assets.inference.records import Caller


class BatchListener(ABC):
    @abstractmethod
    def settled(self, job: BatchJob, lines: Sequence[tuple[Caller, AttemptEnd]]) -> None:
        """Who asked for each, and how it ended. A line is told of once, when the ledger has it."""

    @abstractmethod
    def ended(self, job: BatchJob) -> None:
        """No more of its lines come."""
