"""What a stage does about documents it has no answer for: which a run leaves alone, and the count of those it asked.

A row without an answer stays as it is while asking again brings none, so that the dataset does not differ for it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from ai_assets import retries
from ai_assets.retries import Retry
from ai_assets.signoff.corrections import uncorrected
from ai_assets.stage_settings import ClassifyStage, Stage
from ai_assets.stages.llm import Asked
from ai_assets.work import Work
from resources.inference.records import ErrorClass
from resources.state import now

Row = dict[str, Any]


@dataclass
class Tries:
    """Of one stage of one partition."""

    work: Work
    partition: str
    stage: Stage
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

    def left_alone(self) -> dict[str, Row]:
        """By question, the rows that are not asked about now."""
        if not self.work.patient:
            return {}
        at = now()
        later = {
            (retry.document_id, retry.question)
            for retry in self.known.values()
            if not retry.is_due(at, self.stage.tries)
        }
        if not later:
            return {}
        return {question: row for question, row in self._before.items() if (row["document_id"], question) in later}

    @cached_property
    def _before(self) -> Mapping[str, Row]:
        """By question, the rows of the dataset that have no answer."""
        import pyarrow.compute as pc

        previous = self.work.previous(self.stage.name, self.partition)
        if previous is None:
            return {}
        table = self.work.read(previous)
        if set(table.column_names) != set(self.stage.columns.dataset):
            return {}
        unanswered = pc.equal(table["status"], "quarantined")
        if isinstance(self.stage, ClassifyStage):
            unanswered = pc.or_(unanswered, pc.is_valid(table["corrected_by"]))
        rows: Iterable[Row] = table.filter(unanswered).to_pylist()
        if isinstance(self.stage, ClassifyStage):
            rows = (uncorrected(row) for row in rows)
        return {row["input_digest"]: row for row in rows if row["status"] == "quarantined"}

    def judged(self, asked: Asked, row: Row) -> Row:
        """The row to keep, of what was asked now: an answer, or what stood there without one."""
        if row["status"] != "quarantined":
            return row
        error, _, message = row["reason"].partition(": ")
        known = error in get_args(ErrorClass)
        self._fresh[asked.document_id] = retries.first(
            self.work.collection.name,
            self.stage.name,
            self.partition,
            asked.document_id,
            question=asked.input_digest,
            error=error if known else "invalid_output",
            message=message if known else row["reason"],
            call=row["call"] or "",
        )
        return {**self._before.get(asked.input_digest, row), "document_id": asked.document_id}

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
