"""Vectors that were computed here before the window of their device closed: kept beside the dataset until it is made.

The file is named by its content, and is no dataset: what forgets documents removes it with the folder, and vectors that
are lost with it are computed again.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.embedding.text_vectors import TextVectors, digests_in, vectors_in
from ai_assets.run.context import Work
from ai_assets.storage.content import file_sha256
from ai_assets.storage.lake import read_batches, writing_rows

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".unfinished"
_MAKER = b"maker"
_ROWS = 2_000


def keep(work: Work, asset: str, partition: str, maker: str, vectors: TextVectors, dimensions: int) -> None:
    """All that there are by now."""
    import numpy as np
    import pyarrow as pa

    folder = work.stores.lake.folder(work.collection.name, asset, partition)
    fields = [("text_digest", pa.string()), ("vector", pa.list_(pa.float32(), dimensions))]
    schema = pa.schema(fields, metadata={_MAKER: maker.encode()})
    with writing_rows(folder, schema) as out:
        for numbers in _blocks(vectors.there()):
            digests = pa.array([digest.ljust(32, b"\0").hex() for digest in vectors.digests(numbers)], pa.string())
            column = vectors.column(numbers, np.zeros(len(numbers), dtype=bool))
            out.extend(pa.RecordBatch.from_arrays([digests, column], schema=schema))
    with work.fenced():
        before = _files(folder)
        kept = out.path.rename(out.path.with_suffix(SUFFIX))
    for path in before:
        if path != kept:
            path.unlink(missing_ok=True)


def take_over(work: Work, asset: str, partition: str, maker: str, vectors: TextVectors) -> None:
    """Those that the same model made; a file that is damaged is nothing."""
    for path in _files(work.stores.lake.folder(work.collection.name, asset, partition)):
        if file_sha256(path) == path.stem and _maker(path) == maker:
            for batch in read_batches(path):
                vectors.take_over(digests_in(batch), vectors_in(batch), None)


def drop(work: Work, asset: str, partition: str) -> None:
    """The dataset is made."""
    for path in _files(work.stores.lake.folder(work.collection.name, asset, partition)):
        with contextlib.suppress(OSError):
            path.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def _maker(path: Path) -> str:
    import pyarrow.parquet as pq

    metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
    return metadata.get(_MAKER, b"").decode()


def _blocks(numbers: "np.ndarray") -> "Iterator[np.ndarray]":
    for first in range(0, len(numbers), _ROWS):
        yield numbers[first : first + _ROWS]
