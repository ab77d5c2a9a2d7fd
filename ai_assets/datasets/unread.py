"""Files that could not be read, or not in time: when they are read again. The rows are those of `documents`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ai_assets import retries
from ai_assets.retries import UNREAD, Retry
from ai_assets.work import Work
from resources.state import now

ASSET = "documents"


def _known(work: Work, partition: str) -> Mapping[str, Retry]:
    with work.stores.state.read() as connection:
        found = retries.find(connection, work.collection.name, partition=partition, asset=ASSET)
    return {retry.document_id: retry for retry in found}


def to_read_again(work: Work, partition: str) -> frozenset[str]:
    """The documents that this run reads once more: all of them, or in a patient run those that are due."""
    at, most = now(), work.collection.tries_of(ASSET)
    known = _known(work, partition)
    return frozenset(name for name, retry in known.items() if not work.patient or retry.is_due(at, most))


def record(work: Work, partition: str, rows: Sequence[Mapping[str, Any]], again: frozenset[str]) -> None:
    """Count the tries, before the dataset is committed; what was read meanwhile is no longer counted."""
    known, passing = _known(work, partition), work.parser.passing
    found = []
    for row in rows:
        name, question = row["document_id"], row["entry_digest"]
        before = known.get(name)
        if row["status"] != "quarantined":
            continue
        if name in passing:
            tried = retries.first(
                work.collection.name, ASSET, partition, name,
                question=question, error=UNREAD, message=passing[name], passes=True,
            )  # fmt: skip
            found.append(retries.failed_again(before, tried))
        elif before is not None and name not in again and before.question == question:
            found.append(before)
    if found or known:
        with work.fenced() as connection:
            retries.replace_all(connection, work.collection.name, ASSET, partition, found)
