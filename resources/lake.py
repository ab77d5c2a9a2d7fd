"""The lake: one Parquet dataset per asset and partition, committed by a manifest.

Data files are named by their content and never change; `manifest.json` names the current one and is replaced in one
rename. A reader therefore sees the old dataset or the new one, and a writer killed anywhere leaves the old one.
"""

import contextlib
import hashlib
import json
import os
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.digest import Json
from resources.errors import DatasetDamaged, DatasetTooNew, LakeUnwritable
from resources.state import now

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
ROW_GROUP_ROWS = 2_000
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


class Lake:
    """Datasets below one folder. Writers of one partition hold its lease; readers need nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, collection: str, asset: str, partition: str) -> Path:
        return self.root / _component(collection) / _component(asset) / _component(partition)

    def manifest(self, collection: str, asset: str, partition: str) -> Manifest | None:
        """The committed dataset, or None where there is none yet."""
        path = self.folder(collection, asset, partition) / MANIFEST
        try:
            found = json.loads(path.read_bytes())
            if found["format"] > MANIFEST_FORMAT:
                raise DatasetTooNew(path, found["format"], MANIFEST_FORMAT)
            return Manifest(**found)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DatasetDamaged(path, f"it cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError) as error:
            raise DatasetDamaged(path, "it is not a manifest") from error

    def path(self, manifest: Manifest) -> Path:
        return self.folder(manifest.collection, manifest.asset, manifest.partition) / manifest.file

    def read(self, manifest: Manifest, columns: Sequence[str] | None = None) -> "pa.Table":
        return read_parquet(self.path(manifest), columns)

    def commit(
        self,
        collection: str,
        asset: str,
        partition: str,
        table: "pa.Table | pa.RecordBatchReader",
        *,
        code_version: str,
        fingerprint: str,
        inputs: Mapping[str, str],
        stats: Mapping[str, Json],
        run_id: str,
        fenced: Fence,
    ) -> Manifest:
        """Write the rows, then make them the current dataset: within `fenced`, which refuses after a lost lease."""
        folder = self.folder(collection, asset, partition)
        path = write_parquet(folder, table)
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
        with _prepared(folder / MANIFEST, json.dumps(asdict(manifest), indent=1).encode()) as put_in_place, fenced():
            replaced = self.manifest_or_none(folder)
            if replaced is not None and replaced != manifest.file:
                with contextlib.suppress(OSError):
                    os.utime(folder / replaced)  # its time is from now on the time it was replaced
            put_in_place()
        _sync(folder)
        _sweep(folder, keep={manifest.file, MANIFEST} | ({replaced} if replaced else set()))
        return manifest

    @staticmethod
    def manifest_or_none(folder: Path) -> str | None:
        """The file the current manifest names; None where the manifest is missing or unreadable."""
        try:
            return str(json.loads((folder / MANIFEST).read_bytes())["file"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> "pa.Table":
    import pyarrow.parquet as pq

    with _reading(path):
        return pq.read_table(path, columns=list(columns) if columns is not None else None, partitioning=None)


def parquet_columns(path: Path) -> list[str]:
    """Their names; no row is read."""
    import pyarrow.parquet as pq

    with _reading(path):
        return list(pq.read_schema(path).names)


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


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
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
            else:
                pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP_ROWS)
            path = folder / f"{file_sha256(temporary)}.parquet"
            _replace(temporary, path)
    return path


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content in one step that survives a power cut."""
    with _prepared(path, data) as put_in_place:
        put_in_place()
    _sync(path.parent)


@contextlib.contextmanager
def _prepared(path: Path, data: bytes) -> Iterator[Callable[[], object]]:
    """The content is on the disk when the block begins; what it is given then only renames, in microseconds."""
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent) as temporary:
            temporary.write_bytes(data)
            _sync(temporary)
            yield lambda: temporary.replace(path)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeUnwritable(folder, error) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A name for a file that is not there yet; on a full disk half of it must not stay in the way."""
    path = folder / f".{uuid.uuid4().hex}.tmp"  # in every container there is a process 1
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
