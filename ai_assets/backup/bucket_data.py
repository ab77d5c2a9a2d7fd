"""Lake and index that lie in a bucket, in a backup: the same files as those of a home on a disk.

Nothing is locked. What names something is listed, or read, before what it names is copied, and retention waits. An
object that has the tag of the last backup is not asked for again; one that is named by its content is copied by the
store itself, where the backups lie at the same endpoint.
"""

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ai_assets.backup.copied_files import INDEX_ORDER, MADE_AGAIN, CopiedFiles
from ai_assets.backup.manifest import FileEntry, StoredContent, collection_of
from ai_assets.backup.vault import Vault
from ai_assets.storage.content import named_by_content
from ai_assets.storage.data_places import DataPlaces
from ai_assets.storage.lake import MANIFEST
from ai_assets.storage.objects import ListedObject, ObjectAltered, ObjectMissing, opened_bucket

AT_ONCE = 8
_MODE = 0o600

_T = TypeVar("_T")


class BucketData:
    def __init__(
        self,
        url: str,
        vault: Vault,
        scratch: Path,
        earlier: Mapping[str, FileEntry],
        *,
        places: DataPlaces,
        tenant: str | None = None,
    ) -> None:
        """`earlier`: files of the backup before. `tenant`: whose bucket it is; None for that of the home."""
        self._bucket = opened_bucket(url)
        self._vault, self._scratch, self._earlier = vault, scratch, earlier
        self._places, self._tenant = places, tenant
        self._ours: dict[str, bool] = {}
        self._before: dict[str, list[FileEntry]] = defaultdict(list)
        for entry in earlier.values():
            self._before[_folder(entry.path)].append(entry)

    def copy(self, copied: CopiedFiles) -> None:
        folders: dict[str, list[ListedObject]] = defaultdict(list)
        for found in self._listed("lake/"):
            folders[_folder(found.key)].append(found)
        self._each(lambda listed: self._copy_folder(listed, copied), folders.values())
        named, data = self._index(INDEX_ORDER[:-1]), self._index(INDEX_ORDER[-1:])  # two listings, one after the other
        self._each(lambda found: self._copy_object(found, copied), named)
        self._each(lambda found: self._copy_object(found, copied), data)

    def _each(self, do: Callable[[_T], object], every: Iterable[_T]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(do, every):
                pass

    def _index(self, kinds: Sequence[str]) -> list[ListedObject]:
        return [found for found in self._listed("index/") if _kind(found.key) in kinds]

    def _listed(self, below: str) -> Iterator[ListedObject]:
        return (found for found in self._bucket.objects(below) if self._is_ours(collection_of(found.key)))

    def _is_ours(self, collection: str) -> bool:
        """A collection that is declared to be in another bucket is not this tenant's, whatever lies here. Where none is
        declared, as of a collection that was removed, the place says whose it is."""
        if collection not in self._ours:
            self._ours[collection] = self._places.may_hold(self._tenant, collection)
        return self._ours[collection]

    def _copy_folder(self, listed: Sequence[ListedObject], copied: CopiedFiles) -> None:
        """Of a dataset its manifest and the file that it names; where nothing names one, all that is frozen."""
        manifest = next((found for found in listed if found.key.endswith(f"/{MANIFEST}")), None)
        if manifest is None:
            for found in listed:
                self._copy_object(found, copied)
        elif self._is_as_before(manifest):
            for entry in self._before[_folder(manifest.key)]:
                copied.files[entry.path] = entry
        else:
            self._copy_dataset(manifest.key, {found.key: found for found in listed}, copied)

    def _copy_dataset(self, key: str, listed: Mapping[str, ListedObject], copied: CopiedFiles) -> None:
        """The manifest as it is now, which may be newer than the list."""
        manifest = self._bucket.get(key)
        if manifest is None:
            return
        self._note(key, self._vault.put(io.BytesIO(manifest.content)), [len(manifest.content), manifest.tag], copied)
        with contextlib.suppress(ValueError, KeyError, TypeError):  # one that cannot be read names nothing
            name = f"{_folder(key)}/{json.loads(manifest.content)['file']}"
            if (found := listed.get(name)) is not None:
                self._copy_object(found, copied)
            elif (size := self._bucket.size(name)) is not None:
                self._copy_object(ListedObject(name, size, "", 0.0), copied)

    def _copy_object(self, found: ListedObject, copied: CopiedFiles) -> None:
        """What is gone, or has other bytes than its name says, is not there; a release that needs it is told of."""
        known = self._earlier.get(found.key)
        if known is not None and self._is_as_before(found):
            copied.files[found.key] = known
            return
        sha256 = named_by_content(found.key.rpartition("/")[2]) if found.key.endswith(".parquet") else None
        with contextlib.suppress(ObjectMissing, ObjectAltered):
            if sha256 is not None:
                content = self._vault.take(
                    self._bucket, found.key, sha256, found.size, self._scratch, tenant=self._tenant
                )
            else:
                content = self._vault.fetch(self._bucket, found.key, self._scratch)
            self._note(found.key, content, [found.size, found.tag], copied)

    def _is_as_before(self, found: ListedObject) -> bool:
        """Also of a dataset, whose file then is the one that its manifest named before."""
        known = self._earlier.get(found.key)
        if known is None or list(known.seen) != [found.size, found.tag]:
            return False
        is_dataset = found.key.endswith(f"/{MANIFEST}")
        whole = self._before[_folder(found.key)] if is_dataset else [known]
        return len(whole) > int(is_dataset) and all(self._vault.holds(entry.content) for entry in whole)

    @staticmethod
    def _note(key: str, content: StoredContent, seen: Sequence[int | str], copied: CopiedFiles) -> None:
        copied.files[key] = FileEntry(path=key, mode=_MODE, content=content, seen=seen)


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _kind(key: str) -> str | None:
    """By what a version of a table names what; None for what is not copied."""
    parts = key.split("/")[2:]
    if parts and parts[0].startswith(MADE_AGAIN):
        return None
    return next((part for part in parts if part in INDEX_ORDER), "")
