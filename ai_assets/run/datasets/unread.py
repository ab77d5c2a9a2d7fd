"""Files that could not be read, or not in time: when they are read again. The rows are those of `documents`."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ai_assets.documents import retries
from ai_assets.documents.retries import UNREAD, Retry
from ai_assets.run.context import Work
from ai_assets.storage.state import now

ASSET = "documents"


class FileRetries:
    """Of one partition. A document here is a file as a whole."""

    def __init__(self, work: Work, partition: str) -> None:
        self._work, self._partition = work, partition
        self._found: list[Retry] = []

    @cached_property
    def _known(self) -> Mapping[str, Retry]:
        name = self._work.collection.name
        with self._work.stores.state.read() as connection:
            found = retries.find(connection, name, partition=self._partition, asset=ASSET)
        return {retry.document_id: retry for retry in found}

    @cached_property
    def again(self) -> frozenset[str]:
        """The files that this run reads once more: all of them, or in a patient run those that are due."""
        at, most = now(), self._work.collection.tries_of(ASSET)
        due = (name for name, retry in self._known.items() if not self._work.patient or retry.is_due(at, most))
        return frozenset(due)

    def see(self, row: Mapping[str, Any]) -> None:
        """Every row of the new dataset; what was read meanwhile is no longer counted."""
        if row["status"] != "quarantined":
            return
        name, question = row["document_id"], row["entry_digest"]
        before, why = self._known.get(name), self._work.parser.passing.get(name)
        if why is not None:
            tried = retries.first(
                self._work.collection.name, ASSET, self._partition, name,
                question=question, error=UNREAD, message=why, passes=True,
            )  # fmt: skip
            self._found.append(retries.failed_again(before, tried))
        elif before is not None and name not in self.again and before.question == question:
            self._found.append(before)

    def record(self) -> None:
        """Count the tries, before the dataset is committed."""
        if self._found or self._known:
            with self._work.fenced() as connection:
                retries.replace_all(connection, self._work.collection.name, ASSET, self._partition, self._found)
