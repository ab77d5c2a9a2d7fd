"""Datasets and search indexes of a backup, put into the bucket of the home that is restored.

The prefix has to be empty. A mark in it says that a restore is under way, and whose: who finds one of another restore
removes what that one had put, and that one ends before it replaces anything.
"""

import contextlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ai_assets.backup.errors import DataPlaceOccupied, RestoreOvertaken
from ai_assets.backup.manifest import Backup, FileEntry
from ai_assets.backup.vault import Vault
from ai_assets.storage.objects import DataBucket, DataStoreUnusable, ObjectReplaced, opened_bucket

DATA = ("lake/", "index/")
"""What of a home lies in a bucket, where it has one."""
MARK = ".restoring"
AT_ONCE = 8


def is_data(entry: FileEntry) -> bool:
    return entry.path.startswith(DATA)


@contextlib.contextmanager
def receiving(data_url: str | None) -> Iterator["DataReceiver | None"]:
    """Nothing is in the bucket before; within the block only what this restore puts there."""
    if data_url is None:
        yield None
        return
    bucket, content = opened_bucket(data_url), uuid.uuid4().hex.encode()
    _mark(bucket, content)
    receiver = DataReceiver(bucket, content)
    try:
        yield receiver
    except BaseException:
        with contextlib.suppress(RestoreOvertaken, DataStoreUnusable):
            receiver.give_up()
        raise


def _mark(bucket: DataBucket, content: bytes) -> None:
    there = bucket.get(MARK)
    if there is None:
        for found in bucket.objects():
            raise DataPlaceOccupied(bucket.describe(), found.key)
    try:
        if there is None:
            bucket.put_if_absent(MARK, content)
            return
        bucket.put_if_unchanged(MARK, content, there.tag)
    except ObjectReplaced:
        raise RestoreOvertaken(bucket.describe()) from None
    bucket.delete([found.key for found in bucket.objects() if found.key != MARK])


class DataReceiver:
    def __init__(self, bucket: DataBucket, content: bytes) -> None:
        self._bucket, self._content = bucket, content

    def put(self, vault: Vault, backup: Backup, scratch: Path) -> None:
        """Each object is checked against the digest of what was stored."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda entry: self._put(vault, backup, entry, scratch), filter(is_data, backup.files)):
                pass

    def _put(self, vault: Vault, backup: Backup, entry: FileEntry, scratch: Path) -> None:
        vault.give(backup.backup, entry.path, entry.content, self._bucket, entry.path, scratch)

    def finish(self) -> None:
        """Before the home takes its place: after that a mark would say that what is in use may be removed."""
        self._require_mark()
        self._bucket.delete([MARK])

    def give_up(self) -> None:
        """What was put goes; the mark last."""
        self._require_mark()
        self._bucket.delete([found.key for found in self._bucket.objects() if found.key != MARK])
        self._bucket.delete([MARK])

    def _require_mark(self) -> None:
        there = self._bucket.get(MARK)
        if there is None or there.content != self._content:
            raise RestoreOvertaken(self._bucket.describe())
