"""Writing a version of the index: rows of partitions as LanceDB takes them, and the indexes that a search uses."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import AiAssetsError
from ai_assets.storage import batch_search, index_reader
from ai_assets.storage.index_reader import cells
from ai_assets.storage.text_scores import INDEX_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

KEEP_EVERYTHING = timedelta(days=36_500)
"""`optimize` removes old versions after 7 days unless told otherwise; ours are removed by `prune` alone."""

_SAMPLE = 64
"""Vectors per cell that the cells are made from. LanceDB's own 256 takes four times the memory."""

_LAG = 0.05
"""Of the rows of a large index, so many may be new to its indexes where its answers are computed beside it."""
_WORDED = ("text", "title", "document_id")
"""Columns that are searched by words."""

VECTOR = "vector"
"""The column that is compared unless another one is named; further ones begin with it."""


def batches_of(rows: pa.Table | Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    import pyarrow as pa

    found: Iterable[pa.RecordBatch] = rows.to_batches() if isinstance(rows, pa.Table) else rows
    return found


class IncomingRows:
    """The batches of all partitions as LanceDB takes them. It turns what fails in here into errors of its own."""

    def __init__(self, schema: pa.Schema, given: Mapping[str, Iterable[pa.RecordBatch]]) -> None:
        self._schema, self._given = schema, given
        self._failed: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for partition, batches in self._given.items():
                for batch in batches:
                    yield from self._checked(partition, batch)
        except Exception as error:
            self._failed = error
            raise

    def _checked(self, partition: str, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = pa.Table.from_batches([batch]).select(self._schema.names).cast(self._schema)
        if rows.num_rows and not pc.all(pc.equal(rows["partition"], partition)).as_py():
            raise ValueError(f"the rows given for partition {partition!r} belong to {pc.unique(rows['partition'])}")
        found: list[pa.RecordBatch] = rows.to_batches()
        return found

    @contextlib.contextmanager
    def failing_as_itself(self) -> Iterator[None]:
        try:
            yield
        except AiAssetsError:
            if self._failed is not None:
                raise self._failed from None
            raise


def delete_partitions(table: Any, partitions: Sequence[str]) -> None:
    for start in range(0, len(partitions), 500):
        table.delete(batch_search.condition("partition", partitions[start : start + 500]))


def complete_indexes(table: Any, *, words_anew: bool) -> None:
    """Make what is missing or wanted anew, then let the indexes take in the rows that are new since they were made."""
    from lancedb.index import FTS, IvfSq

    if words_anew and _lags_little(table):
        return
    words = FTS(with_position=True, **INDEX_OPTIONS)
    rows = table.count_rows()
    wanted: dict[str, Any] = dict.fromkeys(_WORDED, words) if rows else {}
    for name in table.schema.names:
        if not name.startswith(VECTOR):
            continue
        vectors = table.count_rows(f"{name} IS NOT NULL")  # a passage without one is found by its words alone
        if vectors >= index_reader.EXACT_BELOW_ROWS:
            wanted[name] = IvfSq(distance_type="dot", num_partitions=cells(vectors), sample_rate=_SAMPLE)
    made = {column for index in table.list_indices() for column in index.columns}
    if words_anew and rows < index_reader.EXACT_BELOW_ROWS:
        made -= set(_WORDED)
    for column, config in wanted.items():
        if column not in made:
            table.create_index(column, config=config)
    table.optimize(cleanup_older_than=KEEP_EVERYTHING)


def _lags_little(table: Any) -> bool:
    """Whether the indexes of a large table have taken in all but few rows. LanceDB searches those one by one."""
    rows, made = table.count_rows(), {name for each in table.list_indices() for name in each.columns}
    return rows >= index_reader.EXACT_BELOW_ROWS and made >= {*_WORDED} and rows_to_take_in(table) <= _LAG * rows


def rows_to_take_in(table: Any) -> int:
    """That at least one of its indexes does not know yet."""
    stats = (table.index_stats(each.name) for each in table.list_indices())
    return max((each.num_unindexed_rows for each in stats if each is not None), default=0)
