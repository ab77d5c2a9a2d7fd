"""Vectors that were computed here before the window of their device closed, as a file beside the dataset."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_assets.embedding.text_vectors import TextVectors, digests_in, vectors_in
from ai_assets.run.context import Work
from ai_assets.run.datasets import unfinished
from ai_assets.storage.lake import read_batches

if TYPE_CHECKING:
    import numpy as np

_ROWS = 2_000


def keep(work: Work, asset: str, partition: str, maker: str, vectors: TextVectors, dimensions: int) -> None:
    """All that there are by now."""
    import numpy as np
    import pyarrow as pa

    schema = pa.schema([("text_digest", pa.string()), ("vector", pa.list_(pa.float32(), dimensions))])
    with unfinished.keeping(work, asset, partition, maker, schema) as out:
        for numbers in _blocks(vectors.there()):
            digests = pa.array([digest.ljust(32, b"\0").hex() for digest in vectors.digests(numbers)], pa.string())
            column = vectors.column(numbers, np.zeros(len(numbers), dtype=bool))
            out.extend(pa.RecordBatch.from_arrays([digests, column], names=schema.names))


def take_over(work: Work, asset: str, partition: str, maker: str, vectors: TextVectors) -> None:
    for path in unfinished.kept(work, asset, partition, maker):
        for batch in read_batches(path):
            vectors.take_over(digests_in(batch), vectors_in(batch), None)


def _blocks(numbers: "np.ndarray") -> "Iterator[np.ndarray]":
    for first in range(0, len(numbers), _ROWS):
        yield numbers[first : first + _ROWS]
