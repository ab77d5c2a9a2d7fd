"""What a stage does about documents it has no answer for: which a run leaves alone, and the count of those it asked.

A row without an answer stays as it is while asking again brings none, so that the dataset does not differ for it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from ai_assets.documents import retries
from ai_assets.documents.retries import Retry
from ai_assets.inference.records import ErrorClass
from ai_assets.run.context import Outcome, Work
from ai_assets.stages.base import PromptStage, StageSettings
from ai_assets.storage.state import now

Row = dict[str, Any]


def settled(work: Work, partition: str, stage: StageSettings, inputs: Mapping[str, str]) -> Outcome | None:
    """The dataset, where a run would leave it as it is.

    Answers that expire are asked for again by every run; the ledger has what is still good. Rows without one are asked
    about by a run that a person names, and by others when that is due.
    """
    same = work.unchanged(stage.name, partition, inputs)
    if same is None or (isinstance(stage, PromptStage) and stage.reuse_for is not None):
        return None
    unanswered = same.manifest.stats["unanswered"]
    return same if not unanswered or Tries(work, partition, stage).nothing_due(unanswered) else None


@dataclass
class Tries:
    """Of one stage of one partition."""

    work: Work
    partition: str
    stage: StageSettings
    _fresh: dict[str, Retry] = field(default_factory=dict)
    """By document, what this run asked and got no answer to."""

    @cached_property
    def known(self) -> Mapping[str, Retry]:
        """By document, as it was before this run asked."""
        with self.work.stores.state.read() as connection:
            found = retries.find(connection, self.work.collection.name, partition=self.partition, asset=self.stage.name)
        return {retry.document_id: retry for retry in found}

    def nothing_due(self, unanswered: int) -> bool:
        """Whether a run leaves the dataset as it is, which has so many rows without an answer."""
        if not self.work.patient or len(self.known) < unanswered:
            return False
        at = now()
        return not any(retry.is_due(at, self.stage.tries) for retry in self.known.values())

    def leaves_alone(self, document_id: str, question: str) -> bool:
        """Whether a document without an answer is not asked about now."""
        return (document_id, question) in self._later

    @cached_property
    def _later(self) -> frozenset[tuple[str, str]]:
        if not self.work.patient:
            return frozenset()
        at = now()
        waiting = (retry for retry in self.known.values() if not retry.is_due(at, self.stage.tries))
        return frozenset((retry.document_id, retry.question) for retry in waiting)

    def count(self, document_id: str, question: str, row: Mapping[str, Any]) -> None:
        """A document was asked about and got no answer; `row` holds the reason and the call."""
        error, _, message = row["reason"].partition(": ")
        known = error in get_args(ErrorClass)
        self._fresh[document_id] = retries.first(
            self.work.collection.name,
            self.stage.name,
            self.partition,
            document_id,
            question=question,
            error=error if known else "invalid_output",
            message=message if known else row["reason"],
            call=row["call"] or "",
        )

    def record(self, unanswered: Iterable[str]) -> None:
        """Count the tries; of documents that have a row without an answer. Before the dataset is committed.

        A process that dies in between has counted what it asked; a row whose count is missing is due.
        """
        found = []
        for document_id in unanswered:
            before, fresh = self.known.get(document_id), self._fresh.get(document_id)
            if fresh is not None:
                found.append(retries.failed_again(before, fresh))
            elif before is not None:
                found.append(before)
        if not found and not self.known:
            return
        with self.work.fenced() as connection:
            retries.replace_all(connection, self.work.collection.name, self.stage.name, self.partition, found)
