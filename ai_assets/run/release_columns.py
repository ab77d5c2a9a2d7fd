"""What a question needs of a release beside its index: labels of documents, pages and headings of passages.

Kept as Arrow columns per frozen file, which is named by its content: a file that two releases share is read once, and
another release has other files. Texts are never read for it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ai_assets.collection.loading import Collection
from ai_assets.run.frozen_lines import headlines
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Release
from ai_assets.storage.content import has_own_bytes
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import parquet_columns, read_parquet
from ai_assets.storage.ranking import Hit
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import pyarrow as pa

KEPT_BYTES = 256 << 20
"""Of columns, over all releases, collections and tenants of a process; 100,000 documents with a label take about 10 MB.
Of more, those asked for longest ago are read again."""
_PLACE = ("chunk_id", "page", "headings")
_Kept = TypeVar("_Kept", "pa.Array", "pa.Table")


@dataclass
class ColumnCache:
    """Columns that were asked for last."""

    most: int
    _kept: "OrderedDict[Hashable, pa.Array | pa.Table]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, key: Hashable, make: "Callable[[], _Kept]", path: Path | None = None) -> _Kept:
        """`path`: a file that they are read from, which must still hold the bytes that its name says."""
        if path is None or has_own_bytes(path):
            with self._lock:
                if (there := self._kept.get(key)) is not None:
                    self._kept.move_to_end(key)
                    return cast("_Kept", there)
        found = make()
        with self._lock:
            self._kept[key] = found
            total = sum(each.nbytes for each in self._kept.values())
            while total > self.most and len(self._kept) > 1:
                total -= self._kept.popitem(last=False)[1].nbytes
        return found

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()


COLUMNS = ColumnCache(KEPT_BYTES)
"""Of this process."""


def labels_of_hits(
    stores: Stores, collection: Collection, release: Release, hits: Sequence[Hit]
) -> list[Mapping[str, str | None]]:
    """Of each, by stage what it says of the document in short; nothing of one that the frozen files do not have."""
    found: list[Mapping[str, str | None]] = []
    for hit in hits:
        table = _said(stores, collection, release, hit.partition)
        row = _row_of(table, hit.document_id)
        names = table.column_names[1:] if row is not None else []
        found.append({name.removeprefix("stage "): table[name][row].as_py() for name in names})
    return found


def documents_with(
    stores: Stores, collection: Collection, release: Release, labels: Mapping[str, str], partitions: Sequence[str]
) -> "pa.Array":
    """Identities of the documents of these partitions (of all if there are none) of which the stages say that."""
    import pyarrow as pa

    chosen = sorted(set(partitions) & set(release.parts) if partitions else release.parts)
    files = digest([release.parts[name].documents_file for name in chosen])
    key = (stores.lake.root, release.collection, files, _stages(collection), tuple(sorted(labels.items())))

    def made() -> "pa.Array":
        parts = [_matching(_said(stores, collection, release, name), labels) for name in chosen]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    return COLUMNS.of(key, made)


def partition_of(stores: Stores, collection: Collection, release: Release, document_id: str) -> str | None:
    """The one of the release that has the document."""
    for name in sorted(release.parts):
        if _row_of(_said(stores, collection, release, name), document_id) is not None:
            return name
    return None


def places_of_hits(stores: Stores, release: Release, hits: Sequence[Hit]) -> list[Mapping[str, Any]]:
    """Of each passage the page and the headings, where the release was frozen with them."""
    found: list[Mapping[str, Any]] = []
    for hit in hits:
        _, path = snapshot_paths(stores.lake, release.collection, hit.partition, release.parts[hit.partition])
        table = COLUMNS.of((path, "places"), partial(_places, path), path)
        row = _row_of(table, hit.chunk_id) if table.num_columns else None
        found.append({} if row is None else {name: table[name][row].as_py() for name in _PLACE[1:]})
    return found


def _places(path: Path) -> "pa.Table":
    import pyarrow as pa

    if not set(_PLACE) <= set(parquet_columns(path)):
        return pa.table({})
    return read_parquet(path, _PLACE).combine_chunks()


def _said(stores: Stores, collection: Collection, release: Release, partition: str) -> "pa.Table":
    """Identities, then a column for each stage."""
    path, _ = snapshot_paths(stores.lake, release.collection, partition, release.parts[partition])
    return COLUMNS.of((path, _stages(collection)), lambda: headlines(path, collection), path)


def _stages(collection: Collection) -> str:
    return ",".join(f"{stage.name}_{stage.columns.headline}" for stage in collection.stages)


def _matching(table: "pa.Table", labels: Mapping[str, str]) -> "pa.Array":
    import pyarrow.compute as pc

    for stage, value in labels.items():
        name = f"stage {stage}"
        if name not in table.column_names:
            return table["document_id"].combine_chunks().slice(0, 0)
        table = table.filter(pc.equal(table[name], value))
    return table["document_id"].combine_chunks()


def _row_of(table: "pa.Table", name: str) -> int | None:
    import pyarrow.compute as pc

    row: int = pc.index(table.column(0), name).as_py()
    return None if row < 0 else row
