"""The lake in a bucket, for several machines: the bucket has everything, and a folder here what was used here.

Data files are named by their content, so a copy is as good as the original once its bytes are checked. What is current
is one object per dataset, its manifest, which is replaced only by who knows the one that is there: a writer reads it,
proves that it still holds its lease, and puts its own in the place of the very one it read. Whoever takes over and
writes changes that one, so that a writer that was suspended is refused by the store, however late it wakes.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from ai_assets.base.errors import DatasetAltered
from ai_assets.storage.content import has_own_bytes, named_by_content
from ai_assets.storage.data_places import DataPlaces
from ai_assets.storage.lake import MANIFEST, Fence, Lake, Manifest, manifest_of
from ai_assets.storage.objects import (
    DataBucket,
    DataStoreUnusable,
    ObjectAltered,
    ObjectMissing,
    ObjectReplaced,
    StoredObject,
    opened_bucket,
)

LAKE = "lake"
"""The part of the bucket."""
LOOKED_AT = 20
"""Partitions whose objects are looked at for one question; of more, what is damaged is seen by asking for those few."""


def lake_of(places: DataPlaces) -> Lake:
    """Where the home, and tenants with a bucket of their own, say that their data lies."""
    home = places.home
    return (
        Lake(home.lake) if home.data_url is None else SharedLake(home.lake, opened_bucket(home.data_url, LAKE), places)
    )


@dataclass(frozen=True)
class LakeObject:
    """An object of the bucket, as the file that it is here."""

    path: Path
    size: int
    modified_s: float


class SharedLake(Lake):
    """Datasets in a bucket, those of tenants with a bucket of their own in that; with copies below `root`."""

    def __init__(self, root: Path, bucket: DataBucket, places: DataPlaces | None = None) -> None:
        super().__init__(root)
        self.bucket = bucket
        """Of the home."""
        self._places = places

    @property
    def buckets(self) -> list[DataBucket]:
        """With those of tenants."""
        own = self._places.of_tenants if self._places is not None else ()
        return [self.bucket, *(opened_bucket(url, LAKE) for url in own)]

    def bucket_of(self, path: Path) -> DataBucket:
        """Where a file or folder is kept, by the collection that it is of."""
        own = self._places.own_url_of(self._collection_of(path)) if self._places is not None else None
        return self.bucket if own is None else opened_bucket(own, LAKE)

    def _collection_of(self, path: Path) -> str:
        return unquote(path.relative_to(self.root).parts[0])

    def _is_of(self, bucket: DataBucket, path: Path) -> bool:
        """What lies elsewhere than it should is nothing of this installation; what nobody can place is not, for now."""
        is_known = self._places is None or self._places.is_known(self._collection_of(path))
        return is_known and self.bucket_of(path) is bucket

    def in_bucket(self) -> Self:
        return self

    def key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def read_manifest(self, path: Path) -> Manifest | None:
        found = self._manifest(path)
        return None if found is None else manifest_of(found.content, path)

    def manifests(self, collection: str | None = None) -> Iterator[Path]:
        below = "" if collection is None else f"{self.key(self.folder(collection, 'a', 'b').parents[1])}/"
        yield from (found.path for found in self.objects(below) if found.path.name == MANIFEST)

    def objects(self, below: str = "") -> Iterator[LakeObject]:
        """All that is in the bucket: a request per thousand, for what looks at everything."""
        buckets = [self.bucket_of(self.root / below)] if below else self.buckets
        for bucket in buckets:
            for found in bucket.objects(below):
                path = self.root / found.key
                if below or self._is_of(bucket, path):
                    yield LakeObject(path, found.size, found.modified_s)

    def holds(self, manifest: Manifest) -> bool:
        """Its bytes are checked when they come here, and not by fetching what nobody reads."""
        return self.has(self.folder_of(manifest) / manifest.file)

    def has(self, path: Path) -> bool:
        return has_own_bytes(path) or self.bucket_of(path).size(self.key(path)) is not None

    def bring(self, path: Path) -> Path:
        """Where the bucket does not have it, the file is missing here as well, and readers say so.

        Other bytes than its name says are of no use to anybody: taken away, they count as missing, and a run makes
        them again.
        """
        sha256 = named_by_content(path.name)
        if sha256 is None or has_own_bytes(path):
            return path
        try:
            self.bucket_of(path).fetch(self.key(path), path, sha256)
        except ObjectMissing:
            path.unlink(missing_ok=True)
        except ObjectAltered as error:
            with contextlib.suppress(DataStoreUnusable):
                self.bucket_of(path).delete([self.key(path)])
            raise DatasetAltered(path, error.found) from error
        return path

    def keep(self, path: Path) -> Path:
        if self.bucket_of(path).size(self.key(path)) is None:
            self.bucket_of(path).put(self.key(path), path)
        return path

    def files(self, folder: Path) -> list[Path]:
        names = sorted(found.path for found in self.objects(f"{self.key(folder)}/"))
        return [self.bring(path) for path in names if path.suffix == ".parquet"]

    def folders(self, collection: str, partition: str) -> list[Path]:
        some = self.folder(collection, "a", partition)
        below = f"{self.key(some.parents[1])}/"
        there = {found.path.parent for found in self.objects(below) if found.path.parent.name == some.name}
        return sorted(there.union(super().folders(collection, partition)))

    def erase_file(self, path: Path) -> None:
        """Every version of it."""
        self.bucket_of(path).erase(self.key(path))
        super().erase_file(path)

    def erase_folder(self, folder: Path) -> None:
        """Every version of all in it."""
        self.bucket_of(folder).erase(f"{self.key(folder)}/")
        super().erase_folder(folder)

    def _make_current(self, folder: Path, manifest: Manifest, fenced: Fence) -> None:
        """Refused by the store, the check of the lease tells whether it was somebody who has taken over."""
        key = self.key(folder / MANIFEST)
        while True:
            there = self._manifest(folder / MANIFEST)
            with fenced():
                pass
            try:
                if there is None:
                    self.bucket_of(folder).put_if_absent(key, manifest.encoded())
                else:
                    self.bucket_of(folder).put_if_unchanged(key, manifest.encoded(), there.tag)
                return
            except ObjectReplaced:
                continue

    def _manifest(self, path: Path) -> StoredObject | None:
        return self.bucket_of(path).get(self.key(path))
