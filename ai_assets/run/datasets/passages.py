"""The passages of a partition: those that an embedding is of, and all of them beside their vectors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.base.errors import DatasetDamaged
from ai_assets.documents.passages import OF
from ai_assets.embedding.spec import vector_column
from ai_assets.run.context import Work
from ai_assets.storage.index_writing import VECTOR
from ai_assets.storage.lake import Manifest

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Passages:
    """Of a dataset of chunks, those of some texts; of all, where none is named."""

    work: Work
    chunks: Manifest
    of: tuple[str, ...]

    def batches(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        if not self.of:
            yield from self.work.stores.lake.batches(self.chunks, columns)
            return
        for batch in self.work.stores.lake.batches(self.chunks, [*columns, OF]):
            yield batch.filter(_is_of(batch, self.of)).select(columns)


def with_vectors(
    work: Work, chunks: Manifest, vectors: Mapping[str, Manifest], columns: Sequence[str]
) -> "Iterator[pa.RecordBatch]":
    """All passages with these columns, each with its vectors; null where an embedding is not of its text.

    `vectors`: by name of the embedding, its dataset, which was made from these chunks.
    """
    embeddings = work.collection.embeddings
    read = list(dict.fromkeys([*columns, *([OF] if any(each.embedding.of for each in embeddings) else [])]))
    beside = {each.name: _Column(work, vectors[each.name], each.embedding.dimensions) for each in embeddings}
    for batch in work.stores.lake.batches(chunks, read):
        rows = batch.select(columns)
        for each in embeddings:
            mine = _is_of(batch, each.embedding.of) if each.embedding.of else None
            rows = rows.append_column(vector_column(each.name), beside[each.name].take(batch.num_rows, mine))
        yield rows
    for column in beside.values():
        column.refuse_rest()


def vector_type(dimensions: int) -> "pa.DataType":
    """As it is read from Parquet, where numbers of a list have this name."""
    import pyarrow as pa

    return pa.list_(pa.field("element", pa.float32()), dimensions)


def _is_of(batch: "pa.RecordBatch", of: Sequence[str]) -> "pa.BooleanArray":
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(batch[OF], pa.array(of, pa.string()))


class _Column:
    """The vectors of a dataset in order."""

    def __init__(self, work: Work, manifest: Manifest, dimensions: int) -> None:
        import pyarrow as pa

        self._path = work.stores.lake.path(manifest)
        self._batches = work.stores.lake.batches(manifest, [VECTOR])
        self._waiting: pa.Array = pa.nulls(0, vector_type(dimensions))

    def take(self, rows: int, mine: "pa.BooleanArray | None") -> "pa.Array":
        """Of so many passages; `mine` says which of them have one."""
        import numpy as np
        import pyarrow as pa

        if mine is None:
            return self._next(rows)
        there = mine.to_numpy(zero_copy_only=False)
        return self._next(int(there.sum())).take(pa.array(np.cumsum(there) - 1, mask=~there))

    def _next(self, rows: int) -> "pa.Array":
        import pyarrow as pa

        while len(self._waiting) < rows:
            batch = next(self._batches, None)
            if batch is None:
                raise DatasetDamaged(self._path, "it has fewer vectors than there are passages")
            more = batch[VECTOR]
            self._waiting = pa.concat_arrays([self._waiting, more]) if len(self._waiting) else more
        found, self._waiting = self._waiting[:rows], self._waiting[rows:]
        return found

    def refuse_rest(self) -> None:
        if len(self._waiting) or next(self._batches, None) is not None:
            raise DatasetDamaged(self._path, "it has more vectors than there are passages")
