"""Datasets and search indexes of a backup, put into the bucket of the home that is restored, and into those of tenants.

Each prefix has to be empty. A mark in it says that a restore is under way, and whose: who finds one of another restore
removes what that one had put, and that one ends before it replaces anything. Once everything is there, the mark says
so: from then on nobody removes it, and the same restore, begun again after a kill, takes what is there.
"""

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from ai_assets.backup.errors import DataPlaceOccupied, RestoredDataDiffers, RestoreOvertaken, TenantPlaceDiffers
from ai_assets.backup.manifest import Backup, FileEntry, collection_of
from ai_assets.backup.vault import Vault
from ai_assets.base.collection_files import declared_collections
from ai_assets.base.home import Home
from ai_assets.base.tenants import data_places
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.objects import DataBucket, DataStoreUnusable, ObjectReplaced, opened_bucket

DATA = ("lake/", "index/")
"""What of a home lies in a bucket, where it has one."""
MARK = ".restoring"
AT_ONCE = 8


def is_data(entry: FileEntry) -> bool:
    return entry.path.startswith(DATA)


@dataclass(frozen=True, kw_only=True)
class DataTarget:
    """A bucket, and what is to be in it."""

    tenant: str | None
    """None for the bucket of the home."""
    url: str
    files: Sequence[FileEntry]


def data_targets(backup: Backup, home: Home) -> list[DataTarget]:
    """To each tenant its own, by what is declared here. Raises where that is not clear: what was apart stays apart."""
    own = data_places(home)
    declared = {name: entry.tenant for name, entry in declared_collections(home).items()}
    for each in backup.tenants:
        for collection in each.collections:
            if each.tenant not in own:
                found = f"{home.operations.name} here gives that tenant no bucket"
                raise TenantPlaceDiffers(backup.backup, collection, each.tenant, found)
            if (now := declared.get(collection) or each.tenant) != each.tenant:
                found = f"it is declared here as of tenant '{now}'"
                raise TenantPlaceDiffers(backup.backup, collection, each.tenant, found)
    for collection in sorted({collection_of(file.path) for file in backup.files if is_data(file)}):
        if (since := declared.get(collection)) is not None and since in own:
            found = f"it is declared here as of tenant '{since}', which has one"
            raise TenantPlaceDiffers(backup.backup, collection, None, found)
    targets = [
        DataTarget(tenant=each.tenant, url=own[each.tenant], files=each.files) for each in backup.tenants if each.files
    ]
    if home.data_url is not None:
        files = [file for file in backup.files if is_data(file)]
        targets.insert(0, DataTarget(tenant=None, url=home.data_url, files=files))
    return targets


def refuse_signed_elsewhere(connection: sa.Connection, backup: Backup, home: Home) -> None:
    """The same of signed assets, which no file declares: the store of the backup says whose they are."""
    own = data_places(home)
    in_home = {collection_of(file.path) for file in backup.files if is_data(file)}
    for row in connection.execute(sa.text("SELECT name, declared FROM signed_assets ORDER BY name")):
        tenant = json.loads(row.declared)["tenant"]
        if tenant in own and row.name in in_home:
            found = f"it is a signed asset of tenant '{tenant}', which has one here"
            raise TenantPlaceDiffers(backup.backup, row.name, None, found)


@dataclass(frozen=True, kw_only=True)
class RestoreMark:
    restore: str
    backup: str
    home: str
    """Which would use what is there."""
    is_filled: bool = False

    @classmethod
    def of(cls, backup: Backup, home: Home) -> Self:
        store = sa.make_url(home.state_url)
        on_disk = store.drivername.startswith("sqlite")
        where = f"{home.root} on {socket.gethostname()}" if on_disk else store.render_as_string()
        return cls(restore=uuid.uuid4().hex, backup=backup.backup, home=where)

    @classmethod
    def read(cls, content: bytes) -> Self | None:
        """None for that of an earlier version, which was never filled."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def encoded(self) -> bytes:
        return canonical_json(asdict(self)).encode()


class DataReceivers:
    """All buckets of one restore. Nothing is put before each of them has proved empty."""

    def __init__(self, receivers: Sequence["DataReceiver"]) -> None:
        self._receivers = receivers
        self._is_kept = False

    @classmethod
    @contextlib.contextmanager
    def opened(cls, targets: Sequence[DataTarget], backup: Backup, home: Home) -> Iterator[Self]:
        marked: list[DataReceiver] = []
        receivers = cls(marked)
        try:
            mark = RestoreMark.of(backup, home)
            for target in targets:
                marked.append(DataReceiver.marking(target, mark))
            yield receivers
        except BaseException:
            if not receivers._is_kept:
                for each in marked:
                    with contextlib.suppress(RestoreOvertaken, DataStoreUnusable):
                        each.give_up()
            raise

    def put(self, vault: Vault, backup: Backup, scratch: Path) -> None:
        for each in self._receivers:
            each.put(vault, backup, scratch)

    def fill(self) -> None:
        """All is there, as it is in the backup."""
        for each in self._receivers:
            each.fill()

    def keep(self) -> None:
        """Before the home takes its place: what is in use is never removed, whatever fails now."""
        self._is_kept = True

    def release(self) -> None:
        """The home is in its place."""
        for each in self._receivers:
            each.unmark()


class DataReceiver:
    def __init__(self, target: DataTarget, bucket: DataBucket, mark: RestoreMark, tag: str) -> None:
        self.target = target
        self._bucket, self._mark, self._tag = bucket, mark, tag
        self._is_taken_over = mark.is_filled
        """Everything was there already, from the same restore before."""

    @classmethod
    def marking(cls, target: DataTarget, mark: RestoreMark) -> Self:
        """From here on only this restore puts something there."""
        bucket = opened_bucket(target.url)
        there = bucket.get(MARK)
        found = None if there is None else RestoreMark.read(there.content)
        if there is None:
            for occupied in bucket.objects():
                raise DataPlaceOccupied(bucket.describe(), target.tenant, f"it has {occupied.key}")
        elif found is not None and found.is_filled:
            if (found.backup, found.home) != (mark.backup, mark.home):
                said = f"it has what a restore of backup {found.backup} put there for {found.home}"
                raise DataPlaceOccupied(bucket.describe(), target.tenant, said)
            mark = replace(mark, is_filled=True)
        try:
            if there is None:
                tag = bucket.put_if_absent(MARK, mark.encoded())
            else:
                tag = bucket.put_if_unchanged(MARK, mark.encoded(), there.tag)
        except ObjectReplaced:
            raise RestoreOvertaken(bucket.describe()) from None
        receiver = cls(target, bucket, mark, tag)
        if receiver._is_taken_over:
            receiver._require_whole(read=True)
        elif there is not None:
            receiver._empty()
        return receiver

    def put(self, vault: Vault, backup: Backup, scratch: Path) -> None:
        """Each object is checked against the digest of what was stored."""
        if self._is_taken_over:
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda entry: self._put(vault, backup, entry, scratch), self.target.files):
                pass

    def _put(self, vault: Vault, backup: Backup, entry: FileEntry, scratch: Path) -> None:
        vault.give(backup.backup, entry.path, entry.content, self._bucket, entry.path, scratch)

    def fill(self) -> None:
        if self._is_taken_over:
            return
        self._require_mark()
        self._require_whole()
        self._change_mark(replace(self._mark, is_filled=True))

    def unmark(self) -> None:
        self._bucket.delete([MARK])

    def give_up(self) -> None:
        """What was put goes; the mark last. What an earlier restore had filled stays."""
        if self._is_taken_over:
            return
        self._change_mark(replace(self._mark, is_filled=False))
        self._bucket.delete([file.path for file in self.target.files])
        self._bucket.delete([MARK])

    def _empty(self) -> None:
        self._bucket.delete([found.key for found in self._bucket.objects() if found.key != MARK])

    def _require_mark(self) -> None:
        there = self._bucket.get(MARK)
        if there is None or there.content != self._mark.encoded():
            raise RestoreOvertaken(self._bucket.describe())

    def _change_mark(self, mark: RestoreMark) -> None:
        try:
            self._tag = self._bucket.put_if_unchanged(MARK, mark.encoded(), self._tag)
        except ObjectReplaced:
            raise RestoreOvertaken(self._bucket.describe()) from None
        self._mark = mark

    def _require_whole(self, *, read: bool = False) -> None:
        """As many objects, of those names and sizes; `read`: with those digests, too."""
        wanted = {file.path: file.content for file in self.target.files}
        there = {found.key: found.size for found in self._bucket.objects() if found.key != MARK}
        sizes = {path: content.size for path, content in wanted.items()}
        if differing := _first_difference(sizes, there):
            raise RestoredDataDiffers(self._bucket.describe(), len(wanted), len(there), differing)
        if read:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for path, found in zip(wanted, pool.map(self._bucket.sha256, wanted), strict=True):
                    if found != wanted[path].sha256:
                        raise RestoredDataDiffers(self._bucket.describe(), len(wanted), len(there), path)


def _first_difference(wanted: Mapping[str, int], there: Mapping[str, int]) -> str | None:
    return next((key for key in sorted(wanted.keys() | there.keys()) if wanted.get(key) != there.get(key)), None)
