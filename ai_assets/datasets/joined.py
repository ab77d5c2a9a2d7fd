"""Datasets side by side: all are in order of their documents, so that what belongs together is read together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from ai_assets.datasets.documents import Row, ok_rows
from ai_assets.stage_settings import Stage
from ai_assets.work import Work
from resources.lake import Manifest

__all__ = ["ByDocument", "Row", "admitted", "count_admitted"]


class ByDocument:
    """The rows of a dataset, given out as a reader of another one in the same order comes to their document."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._groups: Iterator[tuple[str, Iterator[Row]]] = groupby(rows, key=itemgetter("document_id"))
        self._document: str | None = ""
        self._rows: list[Row] = []

    def of(self, document: str) -> list[Row]:
        """Documents must be asked for in ascending order; the same one may be asked for again."""
        while self._document is not None and self._document < document:
            self._document, rows = next(self._groups, (None, iter(())))
            self._rows = list(rows) if self._document is not None and self._document >= document else []
        return self._rows if self._document == document else []

    def one(self, document: str) -> Row | None:
        """Of a dataset with one row per document."""
        rows = self.of(document)
        return rows[-1] if rows else None




def admitted(
    work: Work,
    stage: Stage,
    documents: Manifest,
    earlier: Mapping[str, Manifest],
    columns: Sequence[str],
    earlier_columns: Sequence[str] | None = None,
) -> Iterator[tuple[Row, Mapping[str, Row | None]]]:
    """The documents that the conditions of a stage let through, in order, with their rows of earlier stages."""
    upstream = {name: ByDocument(work.rows(manifest, earlier_columns)) for name, manifest in earlier.items()}
    for row in ok_rows(work, documents, columns):
        found = {name: rows.one(row["document_id"]) for name, rows in upstream.items()}
        if all((found[name] or {}).get("label") in labels for name, labels in stage.when.items()):
            yield row, found


def count_admitted(work: Work, stage: Stage, documents: Manifest, earlier: Mapping[str, Manifest]) -> int:
    if not stage.when:
        return int(documents.stats["documents_out"])
    conditions = {name: earlier[name] for name in stage.when}
    return sum(1 for _ in admitted(work, stage, documents, conditions, ["document_id"], ["document_id", "label"]))
