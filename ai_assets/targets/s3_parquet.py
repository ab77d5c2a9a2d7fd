"""Releases as Parquet in a bucket or a folder: `live.json` names every file of the live one, and is replaced at once.

A file is named by the digest of its content and never changes; a partition that another release has too is not written
again. Nothing is removed: earlier releases stay to be gone back to.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ai_assets.base.durable import write_whole
from ai_assets.storage.content import file_sha256
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.objects import ObjectReplaced, opened_bucket
from ai_assets.targets.base import Receipt, Target, TargetRelease
from ai_assets.targets.errors import FilesOfAnother, ReleaseFilesNotThere, TargetUnreached

LIVE, FORMAT = "live.json", "ai-assets release files"
TABLES = ("documents", "chunks")
_BUCKET = re.compile(r"s3://")


class FilePlace(Protocol):
    """Where the files lie, by their path below it."""

    @property
    def where(self) -> str: ...

    def read(self, name: str) -> bytes | None: ...

    def holds(self, name: str) -> bool: ...

    def put(self, name: str, content: bytes | Path) -> None:
        """In one step."""
        ...


class S3Parquet(Target):
    """`url`: `s3://bucket/prefix?endpoint_override=...&region=...`, or a folder."""

    def __init__(self, url: str) -> None:
        self.place: FilePlace = _Bucket(url) if _BUCKET.match(url) else _Folder(Path(url))

    def write(self, release: TargetRelease) -> Receipt:
        return self._written(release, anew=False)

    def rebuild(self, release: TargetRelease, attempt: str) -> Receipt:
        """No file is trusted: each is put again, in one step, under the name that its content has."""
        return self._written(release, anew=True)

    def _written(self, release: TargetRelease, *, anew: bool) -> Receipt:
        with _reached(self.place):
            self._require_ours(release.collection)
            partitions: dict[str, Json] = {
                name: self._part(release, name, anew=anew) for name in sorted(release.partitions)
            }
            said: dict[str, Json] = {
                "format": FORMAT, "collection": release.collection, "release": release.number,
                "digest": release.digest, "partitions": partitions,
            }  # fmt: skip
            name = _record(release.number, release.digest)
            self.place.put(name, canonical_json(said).encode())
            return {"collection": release.collection, "release": name, "digest": digest(said)}

    def point(self, receipt: Receipt) -> None:
        with _reached(self.place):
            self._require_ours(str(receipt["collection"]))
            name = str(receipt["release"])
            content = self.place.read(name)
            if content is None or digest(json.loads(content)) != receipt["digest"]:
                raise ReleaseFilesNotThere(self.place.where, name)
            for part in json.loads(content)["partitions"].values():
                for file in (part[table]["file"] for table in TABLES):
                    if not self.place.holds(file):
                        raise ReleaseFilesNotThere(self.place.where, file)
            self.place.put(LIVE, content)

    def read(self) -> Receipt | None:
        with _reached(self.place):
            content = self.place.read(LIVE)
        if content is None:
            return None
        said = json.loads(content)
        name = _record(said["release"], said["digest"])
        return {"collection": said["collection"], "release": name, "digest": digest(said)}

    def _require_ours(self, collection: str) -> None:
        content = self.place.read(LIVE)
        if content is None:
            return
        try:
            said = json.loads(content)
            found = said["collection"] if said["format"] == FORMAT else None
        except (ValueError, KeyError, TypeError):
            found = None
        if found != collection:
            what = f"a {LIVE} of something else" if found is None else f"releases of '{found}'"
            raise FilesOfAnother(self.place.where, what)

    def _part(self, release: TargetRelease, partition: str, *, anew: bool) -> dict[str, Json]:
        """The two files of a partition; what is there whole already is not written again."""
        mark = f"parts/{digest([partition, release.partitions[partition]])}.json"
        if not anew and (known := self.place.read(mark)) is not None:
            there: dict[str, Any] = json.loads(known)
            if all(self.place.holds(there[table]["file"]) for table in TABLES):
                return there
        made: dict[str, Json] = {table: self._table(release, table, partition, anew=anew) for table in TABLES}
        self.place.put(mark, canonical_json(made).encode())
        return made

    def _table(self, release: TargetRelease, table: str, partition: str, *, anew: bool) -> dict[str, Json]:
        import pyarrow.parquet as pq

        with tempfile.NamedTemporaryFile(prefix="ai-assets-target-", suffix=".parquet") as file:
            rows = 0
            batches = release.batches(table, partition)
            with pq.ParquetWriter(file.name, batches.schema, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            path = Path(file.name)
            sha256 = file_sha256(path)
            name = f"{table}/{sha256}.parquet"
            if anew or not self.place.holds(name):
                self.place.put(name, path)
            return {"file": name, "sha256": sha256, "bytes": path.stat().st_size, "rows": rows}


def _record(number: int, of_digest: str) -> str:
    """The file that says which files a release is of."""
    return f"releases/{number}-{of_digest[:12]}.json"


@contextmanager
def _reached(place: FilePlace) -> Iterator[None]:
    """A bucket says itself what is wrong."""
    try:
        yield
    except OSError as error:
        raise TargetUnreached(place.where, error.strerror or str(error)) from error
    except ObjectReplaced as error:
        raise TargetUnreached(place.where, f"somebody else moved {LIVE} meanwhile") from error


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def where(self) -> str:
        return str(self._path)

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None

    def holds(self, name: str) -> bool:
        return (self._path / name).is_file()

    def put(self, name: str, content: bytes | Path) -> None:
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.read_bytes() if isinstance(content, Path) else content)


class _Bucket:
    def __init__(self, url: str) -> None:
        self._bucket = opened_bucket(url)

    @property
    def where(self) -> str:
        return self._bucket.describe()

    def read(self, name: str) -> bytes | None:
        found = self._bucket.get(name)
        return None if found is None else found.content

    def holds(self, name: str) -> bool:
        return self._bucket.size(name) is not None

    def put(self, name: str, content: bytes | Path) -> None:
        if name != LIVE:
            self._bucket.put(name, content)
            return
        assert isinstance(content, bytes)
        found = self._bucket.get(name)  # a process that slept does not write over a newer pointer
        if found is None:
            self._bucket.put_if_absent(name, content)
        elif found.content != content:
            self._bucket.put_if_unchanged(name, content, found.tag)
