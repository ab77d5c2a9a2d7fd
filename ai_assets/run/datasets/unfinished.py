"""What was computed here before the window of a device closed: a file beside the dataset until that is made.

It is named by its content, and is no dataset: what forgets documents removes it with the folder, and what is lost with
it is computed again.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.run.context import Work
from ai_assets.storage.content import file_sha256
from ai_assets.storage.lake import RowWriter, writing_rows

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".unfinished"
_MAKER = b"maker"


@contextmanager
def keeping(work: Work, asset: str, partition: str, maker: str, schema: "pa.Schema") -> Iterator[RowWriter]:
    """Takes all that there is by now, in place of what was kept before."""
    folder = work.stores.lake.folder(work.collection.name, asset, partition)
    with writing_rows(folder, schema.with_metadata({_MAKER: maker.encode()})) as out:
        yield out
    with work.fenced():
        before = _files(folder)
        kept = out.path.rename(out.path.with_suffix(SUFFIX))
    for path in before:
        if path != kept:
            path.unlink(missing_ok=True)


def kept(work: Work, asset: str, partition: str, maker: str) -> list[Path]:
    """Files of what the same model made; one that is damaged is nothing."""
    found = _files(work.stores.lake.folder(work.collection.name, asset, partition))
    return [path for path in found if file_sha256(path) == path.stem and _maker(path) == maker]


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
