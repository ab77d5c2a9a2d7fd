"""Rows of several files side by side: all are in order of their documents, and are read together."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

Row = dict[str, Any]


class ByDocument:
    """Rows, given out as a reader of another file in the same order comes to their document."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._groups: Iterator[tuple[str, Iterator[Row]]] = groupby(rows, key=itemgetter("document_id"))
        self._document: str | None = None
        self._started = False
        self._rows: list[Row] = []
        self._wanted = False
        self._passed_over = 0

    def of(self, document: str) -> list[Row]:
        """Documents must be asked for in ascending order; the same one may be asked for again."""
        while not self._started or (self._document is not None and self._document < document):
            self._next()
        if self._document != document:
            return []
        self._wanted = True
        return self._rows

    def one(self, document: str) -> Row | None:
        """Of a file with one row per document."""
        rows = self.of(document)
        return rows[-1] if rows else None

    def rest(self) -> int:
        """Read to the end; of all rows, how many belong to documents that were not asked for."""
        while not self._started or self._document is not None:
            self._next()
        return self._passed_over

    def _next(self) -> None:
        self._started = True
        self._passed_over += 0 if self._wanted else len(self._rows)
        self._document, rows = next(self._groups, (None, iter(())))
        self._rows, self._wanted = list(rows), False
