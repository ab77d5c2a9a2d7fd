"""The lake: one Parquet dataset per asset and partition, committed by a manifest.

Data files are named by their content and never change; `manifest.json` names the current one and is replaced in one
rename. A reader therefore sees the old dataset or the new one, and a writer killed anywhere leaves the old one. Whether
a file still holds the bytes that its name says is checked whenever it is read.
"""

import contextlib
import hashlib
import json
import os
import shutil
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.base.durable import sync
from ai_assets.base.errors import DatasetAltered, DatasetDamaged, DatasetTooNew, LakeUnwritable
from ai_assets.storage.arrow_columns import rows_batch
from ai_assets.storage.content import DIGESTS, file_sha256, has_own_bytes, named_by_content
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ai_assets.storage.shared_lake import SharedLake

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
ROW_GROUP_ROWS = 2_000
ROW_GROUP_TEXT_BYTES = 8 << 20
"""With the row that brings its texts to so much a row group ends: what reads or writes one holds it in memory."""
MOST_WAITING_CHARACTERS = ROW_GROUP_TEXT_BYTES // 4
"""So many rows of a dataset are in memory at a time, where it is written or read in order."""
TEMPORARY = ".tmp"
LONGEST_NAME = 200
"""File systems take 255 bytes, and a letter outside ASCII becomes up to 12."""
KEPT_S = 600.0
"""How long a replaced data file stays for readers that opened its manifest before; a query takes seconds."""

Fence = Callable[[], contextlib.AbstractContextManager[object]]
"""A block in which no other process can take over the writer's work; entering it fails where one did."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What one dataset is: which bytes, made from what, by which code."""

    collection: str
    asset: str
    partition: str
    version: str
    """SHA-256 of the Parquet file: the same rows give the same version."""
    code_version: str
    fingerprint: str
    """Digest of everything the rows depend on: an equal one means that nothing needs to be computed."""
    inputs: Mapping[str, str]
    """Versions of the datasets it was made from, by asset name."""
    file: str
    rows: int
    stats: Mapping[str, Any] = field(default_factory=dict)
    run_id: str
    written_at: str
    format: int = MANIFEST_FORMAT

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def manifest_of(content: bytes, path: Path) -> Manifest:
    """`path` is for what is said of it."""
    try:
        found = json.loads(content)
        if found["format"] > MANIFEST_FORMAT:
            raise DatasetTooNew(path, found["format"], MANIFEST_FORMAT)
        manifest = Manifest(**found)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetDamaged(path, "it is not a manifest") from error
    if manifest.file != f"{manifest.version}.parquet":
        raise DatasetDamaged(path, f"its file {manifest.file} is not named by its version")
    return manifest


class Lake:
    """Datasets below one folder. Writers of one partition hold its lease; readers need nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, collection: str, asset: str, partition: str) -> Path:
        return self.root.joinpath(_component(collection), _component(asset), _component(partition))

    def manifest(self, collection: str, asset: str, partition: str) -> Manifest | None:
        """The committed dataset, or None where there is none yet."""
        return self.read_manifest(self.folder(collection, asset, partition) / MANIFEST)

    def read_manifest(self, path: Path) -> Manifest | None:
        try:
            return manifest_of(path.read_bytes(), path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DatasetDamaged(path, f"it cannot be read ({error.strerror})") from error

    def manifests(self, collection: str | None = None) -> Iterator[Path]:
        """Where those of all datasets are; for what looks at everything."""
        root = self.root if collection is None else self.root / _component(collection)
        yield from sorted(path for path in root.rglob(MANIFEST) if path.is_file())

    def path(self, manifest: Manifest) -> Path:
        """To be read on this machine."""
        return self.bring(self.folder_of(manifest) / manifest.file)

    def folder_of(self, manifest: Manifest) -> Path:
        return self.folder(manifest.collection, manifest.asset, manifest.partition)

    def holds(self, manifest: Manifest) -> bool:
        """Whether its file is there, with the bytes that it was committed with."""
        return has_own_bytes(self.path(manifest))

    # What a lake in a bucket does otherwise.

    def in_bucket(self) -> "SharedLake | None":
        """This lake where its data lies in a bucket and what is here are copies; None where it lies here."""
        return None

    def bring(self, path: Path) -> Path:
        """A data file, to be read on this machine."""
        return path

    def keep(self, path: Path) -> Path:
        """A data file that was written on this machine, before anything names it."""
        return path

    def has(self, path: Path) -> bool:
        """Whether a data file is there; it is not read."""
        return path.is_file()

    def files(self, folder: Path) -> list[Path]:
        """The data files of one partition, to be read; for what looks at everything."""
        return sorted(folder.glob("*.parquet"))

    def folders(self, collection: str, partition: str) -> list[Path]:
        """Of a partition, one per asset that has something; for what looks at everything."""
        root, name = self.root / _component(collection), _component(partition)
        return sorted(asset / name for asset in (root.iterdir() if root.is_dir() else ()) if (asset / name).is_dir())

    def erase_file(self, path: Path) -> None:
        """Wherever it is kept."""
        path.unlink(missing_ok=True)

    def erase_folder(self, folder: Path) -> None:
        """With all in it, wherever it is kept."""
        if folder.is_dir():
            shutil.rmtree(folder)

    def read(self, manifest: Manifest, columns: Sequence[str] | None = None) -> "pa.Table":
        return read_parquet(self.path(manifest), columns)

    def batches(self, manifest: Manifest, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """The rows in order, so many at a time as are written together."""
        return read_batches(self.path(manifest), columns)

    def rows(
        self, manifest: Manifest, columns: Sequence[str] | None = None, documents: Iterable[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        return read_rows(self.path(manifest), columns, documents)

    def commit(
        self,
        collection: str,
        asset: str,
        partition: str,
        table: "pa.Table | pa.RecordBatchReader | Path",
        *,
        code_version: str,
        fingerprint: str,
        inputs: Mapping[str, str],
        stats: Mapping[str, Json],
        run_id: str,
        fenced: Fence,
    ) -> Manifest:
        """Write the rows, then make them the current dataset: within `fenced`, which refuses after a lost lease.

        Rows that are written already are the file that `writing_rows` made in the folder.
        """
        folder = self.folder(collection, asset, partition)
        path = table if isinstance(table, Path) else write_parquet(folder, table)
        manifest = Manifest(
            collection=collection,
            asset=asset,
            partition=partition,
            version=path.stem,
            code_version=code_version,
            fingerprint=fingerprint,
            inputs=dict(inputs),
            file=path.name,
            rows=parquet_rows(path),
            stats=dict(stats),
            run_id=run_id,
            written_at=now(),
        )
        self.keep(path)
        self._make_current(folder, manifest, fenced)
        return manifest

    def _make_current(self, folder: Path, manifest: Manifest, fenced: Fence) -> None:
        with _prepared(folder / MANIFEST, manifest.encoded()) as put_in_place, fenced():
            replaced = self.manifest_or_none(folder)
            if replaced is not None and replaced != manifest.file:
                with contextlib.suppress(OSError):
                    os.utime(folder / replaced)  # its time is from now on the time it was replaced
            put_in_place()
        sync(folder)
        _sweep(folder, keep={manifest.file, MANIFEST} | ({replaced} if replaced else set()))

    @staticmethod
    def manifest_or_none(folder: Path) -> str | None:
        """The file the current manifest names; None where the manifest is missing or unreadable."""
        try:
            return str(json.loads((folder / MANIFEST).read_bytes())["file"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Columns in the order asked for. Not by `read_table`, which imports pandas: most of what a short command takes."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path, pre_buffer=True) as file:
        _require_columns(path, file, columns)
        return file.read() if columns is None else file.read(list(columns)).select(list(columns))


def read_batches(path: Path, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
    """The rows in order; no more of them are in memory than one row group has."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path) as file:
        _require_columns(path, file, columns)
        wanted = None if columns is None else list(columns)
        for group in range(file.metadata.num_row_groups):  # `iter_batches` reads ahead, as far as it gets
            yield from file.read_row_group(group, wanted).combine_chunks().to_batches()


def _require_columns(path: Path, file: "pq.ParquetFile", columns: Sequence[str] | None) -> None:
    if missing := sorted(set(columns or ()) - set(file.schema_arrow.names)):
        raise DatasetDamaged(path, f"it has no column '{missing[0]}'")


def read_rows(
    path: Path, columns: Sequence[str] | None = None, documents: Iterable[str] | None = None
) -> Iterator[dict[str, Any]]:
    """`documents`: only rows of these; `document_id` is one of the columns then."""
    import pyarrow as pa
    import pyarrow.compute as pc

    among = None if documents is None else pa.array(list(documents), pa.string())
    for batch in read_batches(path, columns):
        chosen = batch if among is None else batch.filter(pc.is_in(batch["document_id"], among))
        yield from chosen.to_pylist()


def parquet_schema(path: Path) -> "pa.Schema":
    """No row is read."""
    import pyarrow.parquet as pq

    with _reading(path):
        return pq.read_schema(path).remove_metadata()


def parquet_columns(path: Path) -> list[str]:
    """Their names; no row is read."""
    return list(parquet_schema(path).names)


def parquet_rows(path: Path) -> int:
    """How many; none is read."""
    import pyarrow.parquet as pq

    with _reading(path):
        return int(pq.read_metadata(path).num_rows)


def read_parquet_row(path: Path, place: int) -> dict[str, Any]:
    """One whole row; of the file only the piece that holds it is read."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path) as file:
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if place < rows:
                found: list[dict[str, Any]] = file.read_row_group(group).slice(place, 1).to_pylist()
                return found[0]
            place -= rows
    raise DatasetDamaged(path, "it has fewer rows than it had")


def place_in_parquet(path: Path, column: str, value: str) -> int | None:
    """The number of the row that has it, for `read_parquet_row`; no other column is read."""
    import pyarrow.compute as pc

    if column not in parquet_columns(path):
        return None
    before = 0
    for batch in read_batches(path, [column]):
        if (found := pc.index(batch[column], value).as_py()) >= 0:
            return before + int(found)
        before += batch.num_rows
    return None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Nothing is read of a file that does not hold the bytes that its name says."""
    import pyarrow as pa

    try:
        wanted = named_by_content(path.name)
        if wanted is not None and (found := DIGESTS.of(path)) != wanted:
            raise DatasetAltered(path, found)
        yield
    except FileNotFoundError as error:
        raise DatasetDamaged(path, "it is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise DatasetDamaged(path, f"it cannot be read as Parquet ({str(error).splitlines()[0]})") from error


def write_parquet(folder: Path, table: "pa.Table | pa.RecordBatchReader") -> Path:
    """Write the rows under the name of their own digest; the same rows (in the same batches) are the same file.

    Of a reader no more than one batch is in memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary(folder) as temporary:
            if isinstance(table, pa.RecordBatchReader):
                with pq.ParquetWriter(temporary, table.schema, compression="zstd") as writer:
                    for batch in table:
                        writer.write_batch(batch)
            elif any(rows < ROW_GROUP_ROWS for rows in _full_groups(table)):
                with writing_rows(folder, table.schema) as out:
                    for whole in table.to_batches():
                        out.extend(whole)
                return out.path
            else:
                pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP_ROWS)
            path = _named_by_content(temporary, folder)
    return path


def _full_groups(table: "pa.Table") -> Iterator[int]:
    """Rows of each row group but the last, which may be followed by more. By the rows alone, however they come."""
    while (rows := _full_group(table)) is not None:
        yield rows
        table = table.slice(rows)


def _full_group(table: "pa.Table") -> int | None:
    """How many of the first rows make a row group; None where more may join them."""
    import numpy as np

    head = table.slice(0, ROW_GROUP_ROWS)
    if head.nbytes >= ROW_GROUP_TEXT_BYTES:  # else its texts are not so many either
        ends = np.flatnonzero(np.cumsum(_text_bytes(head)) >= ROW_GROUP_TEXT_BYTES)
        if len(ends):
            return int(ends[0]) + 1
    return ROW_GROUP_ROWS if head.num_rows == ROW_GROUP_ROWS else None


def _text_bytes(table: "pa.Table") -> "np.ndarray":
    """Of each row, in columns of texts."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = np.zeros(table.num_rows, np.int64)
    for each in table.columns:
        if pa.types.is_string(each.type) or pa.types.is_large_string(each.type):
            found += pc.fill_null(pc.binary_length(each), 0).to_numpy()
    return found


class RowWriter:
    """Takes rows one by one or in batches, and holds no more than are written together."""

    def __init__(self, folder: Path, temporary: Path, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self._folder, self._temporary, self._schema = folder, temporary, schema
        self._writer = pq.ParquetWriter(temporary, schema, compression="zstd")
        self._waiting: list[Mapping[str, Any]] = []
        self._waiting_characters = 0
        self._batches: list[pa.RecordBatch] = []
        self._path: Path | None = None
        self.rows = 0

    def append(self, row: Mapping[str, Any]) -> None:
        self._waiting.append(row)
        self._waiting_characters += sum(len(value) for value in row.values() if isinstance(value, str))
        self.rows += 1
        if len(self._waiting) == ROW_GROUP_ROWS or self._waiting_characters >= MOST_WAITING_CHARACTERS:
            self._write_rows()

    def extend(self, batch: "pa.RecordBatch") -> None:
        self._write_rows()
        self._batches.append(batch)
        self.rows += batch.num_rows
        self._write_groups()

    @property
    def path(self) -> Path:
        """The file, once the block of `writing_rows` has ended."""
        if self._path is None:
            raise ValueError(f"rows for {self._folder} are still being written")
        return self._path

    def _write_rows(self) -> None:
        if self._waiting:
            rows, self._waiting, self._waiting_characters = self._waiting, [], 0
            self._batches.append(rows_batch(rows, self._schema))
            self._write_groups()

    def _write_groups(self, *, last: bool = False) -> None:
        """Those that are full; the `last` one as it is."""
        import pyarrow as pa

        while self._batches:
            table = pa.Table.from_batches(self._batches, self._schema)
            rows = _full_group(table) or (table.num_rows if last else 0)
            if not rows:
                return
            with _writing(self._folder):
                # As one piece: where the pages of a column end depends on where its pieces do.
                group = table.slice(0, rows).combine_chunks()
                self._writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
            self._batches = table.slice(rows).to_batches()

    def close(self, *, keep: bool) -> None:
        if keep:
            self._write_rows()
            self._write_groups(last=True)
            if not self.rows:
                self._writer.write_table(self._schema.empty_table(), row_group_size=ROW_GROUP_ROWS)
        with _writing(self._folder):
            self._writer.close()
            if keep:
                self._path = _named_by_content(self._temporary, self._folder)


@contextlib.contextmanager
def writing_rows(folder: Path, schema: "pa.Schema") -> Iterator[RowWriter]:
    """Within the block rows are taken; after it they are a file, the very one that `write_parquet` makes of them."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _temporary(folder) as temporary:
        with _writing(folder):
            writer = RowWriter(folder, temporary, schema)
            _sweep_temporary(folder, temporary.stat().st_mtime)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(LakeUnwritable):  # of a full disk the first error tells
                writer.close(keep=False)
            raise
        writer.close(keep=True)


def _sweep_temporary(folder: Path, now_s: float) -> None:
    """Remove what killed writers left; ages by the clock of the file system."""
    for entry in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if now_s - entry.stat().st_mtime > KEPT_S:
                entry.unlink()


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content in one step that survives a power cut."""
    with _prepared(path, data) as put_in_place:
        put_in_place()
    sync(path.parent)


@contextlib.contextmanager
def _prepared(path: Path, data: bytes) -> Iterator[Callable[[], object]]:
    """The content is on the disk when the block begins; what it is given then only renames, in microseconds."""
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent) as temporary:
            temporary.write_bytes(data)
            sync(temporary)
            yield lambda: temporary.replace(path)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeUnwritable(folder, error) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A name for a file that is not there yet; on a full disk half of it must not stay in the way."""
    path = folder / f".{uuid.uuid4().hex}{TEMPORARY}"  # in every container there is a process 1
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _named_by_content(temporary: Path, folder: Path) -> Path:
    """The finished file under its own digest, in place of any of that name."""
    sha256 = file_sha256(temporary)
    path = folder / f"{sha256}.parquet"
    sync(temporary)
    temporary.replace(path)
    sync(folder)
    DIGESTS.note(path, sha256)
    return path


def _sweep(folder: Path, keep: set[str]) -> None:
    """Ages are measured by the file system, whose clock wrote them: that of this process may be wrong."""
    with contextlib.suppress(OSError):
        now_s = (folder / MANIFEST).stat().st_mtime
        for entry in folder.iterdir():
            if entry.name in keep:
                continue
            with contextlib.suppress(OSError):
                if now_s - entry.stat().st_mtime > KEPT_S:
                    entry.unlink()


def _component(name: str) -> str:
    """A name as one safe folder name, its own alone; a partition key may hold slashes, dots or any letter."""
    quoted = urllib.parse.quote(name, safe="")
    if len(quoted) > LONGEST_NAME:
        return f"{quoted[: LONGEST_NAME - 70]}%-{hashlib.sha256(name.encode()).hexdigest()}"
    return quoted.replace(".", "%2E") if set(quoted) <= {"."} else quoted
