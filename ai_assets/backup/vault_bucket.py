"""A vault in a bucket. One object, the marker, says which backups there are and who writes; it is the lock as well.

A writer puts its own number into it, and everything that counts replaces it by `If-Match`: of two writers one wins, and
one that was taken over for dead can commit nothing more. Names of objects end with the number of their writer, so
that what one deletes was never written, or relied on, by another.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from collections.abc import Set as SetOf
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ai_assets.backup.errors import BackupBusy, BackupFolderInvalid, BackupOvertaken, BackupStoreFailed, BackupTooNew
from ai_assets.backup.manifest import FORMAT
from ai_assets.backup.vault_place import MARKER, Say
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.objects import (
    DataBucket,
    DataStoreUnusable,
    ObjectAltered,
    ObjectMissing,
    ObjectReplaced,
    opened_bucket,
)

RENEWED_S = 10.0
DEAD_S = 60.0
"""A writer that has not renewed its mark for so long, by the clock of the store, is taken for dead."""
POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class VaultWriter:
    number: str
    host: str
    process: int


@dataclass(frozen=True, kw_only=True)
class VaultHead:
    """The content of the marker."""

    backups: Sequence[str]
    writer: VaultWriter | None

    def encoded(self) -> bytes:
        return canonical_json({"format": FORMAT, **asdict(self)}).encode()


class VaultBucket:
    block_bytes = 8 << 20
    database_block_bytes = 1 << 18

    def __init__(self, url: str) -> None:
        self.where = url
        self.bucket = opened_bucket(url)
        self._number = uuid.uuid4().hex[:12]
        self._head = VaultHead(backups=(), writer=None)
        self._tag = ""
        self._guard = threading.Lock()
        self._listing = threading.Lock()
        self._listed: dict[str, int] | None = None

    # Who writes.

    @contextlib.contextmanager
    def writing(self, say: Say) -> Iterator[None]:
        with self.failing_as_ours():
            self._create()
            self._take_over(say)
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()
            with contextlib.suppress(ObjectReplaced, DataStoreUnusable):
                self._change_head(writer=None)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """No lock: who only reads may have no right to write."""
        self._read_head()
        yield

    def _create(self) -> None:
        if self.bucket.get(MARKER) is not None:
            return
        for found in self.bucket.objects():
            remedy = "Choose a prefix with nothing below it, or one that holds backups already"
            raise BackupFolderInvalid(self.where, f"it holds other things, such as {found.key}", remedy)
        self.bucket.prove()
        with contextlib.suppress(ObjectReplaced):
            self.bucket.put_if_absent(MARKER, self._head.encoded())

    def _take_over(self, say: Say) -> None:
        """At once where nobody writes; after a while where the writer gives no sign of life."""
        seen: float | None = None
        while True:
            head, tag = self._read_head()
            if head.writer is not None:
                modified_s, now_s = self._renewed_at(), self.bucket.now_s()
                if now_s - modified_s <= DEAD_S:
                    if seen is not None and modified_s != seen:
                        raise BackupBusy(self.where)
                    if seen is None:
                        say(
                            f"process {head.writer.process} on {head.writer.host} writes to {self.where}, or was "
                            f"killed; waiting for a sign of life (at most {DEAD_S:.0f} s)"
                        )
                    seen = modified_s
                    time.sleep(POLL_S)
                    continue
            mine = VaultWriter(number=self._number, host=socket.gethostname(), process=os.getpid())
            self._head, self._tag = head, tag
            with contextlib.suppress(ObjectReplaced):
                self._change_head(writer=mine)
                return

    def _renewed_at(self) -> float:
        return next((found.modified_s for found in self.bucket.objects(MARKER) if found.key == MARKER), 0.0)

    def _renew(self, ended: threading.Event) -> None:
        """The same content again: its tag stays, its time does not. Where it fails, the commit will say so."""
        while not ended.wait(RENEWED_S):
            with contextlib.suppress(ObjectReplaced, DataStoreUnusable):
                self._change_head()

    def _change_head(self, **changes: Any) -> None:
        with self._guard:
            head = replace(self._head, **changes)
            self._tag = self.bucket.put_if_unchanged(MARKER, head.encoded(), self._tag)
            self._head = head

    def _commit(self, backups: Sequence[str]) -> None:
        try:
            self._change_head(backups=tuple(backups))
        except ObjectReplaced:
            raise BackupOvertaken(self.where) from None

    def _read_head(self) -> tuple[VaultHead, str]:
        found = self.bucket.get(MARKER)
        remedy = "Name the address that 'ai-assets backup' was given"
        if found is None:
            raise BackupFolderInvalid(self.where, f"it has no {MARKER}", remedy)
        try:
            said = json.loads(found.content)
            declared = int(said["format"])
            writer = None if said["writer"] is None else VaultWriter(**said["writer"])
            head = VaultHead(backups=tuple(said["backups"]), writer=writer)
        except (ValueError, KeyError, TypeError) as error:
            raise BackupFolderInvalid(self.where, f"its {MARKER} cannot be read", remedy) from error
        if declared > FORMAT:
            raise BackupTooNew(self.where, f"format {declared}; this version reads up to {FORMAT}")
        return head, found.tag

    # What is there.

    @contextlib.contextmanager
    def failing_as_ours(self) -> Iterator[None]:
        try:
            yield
        except DataStoreUnusable as error:
            raise BackupStoreFailed(self.where, error) from error

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ai-assets-backup-") as folder:
            yield Path(folder)

    def backups(self) -> list[str]:
        return sorted(self._read_head()[0].backups)

    def manifest(self, name: str) -> bytes:
        found = self.bucket.get(_manifest(name))
        if found is None:
            raise FileNotFoundError(self.bucket.where(_manifest(name)))
        return found.content

    def add(self, name: str, content: bytes) -> None:
        self.bucket.put(_manifest(name), content)
        self._commit([*self._head.backups, name])

    def object_name(self, sha256: str) -> str:
        return f"{sha256}.{self._number}"

    def size(self, name: str) -> int | None:
        return self._objects().get(name)

    def put(self, name: str, block: bytes) -> None:
        self.bucket.put(_object(name), block)
        self._objects()[name] = len(block)

    def take(self, source: DataBucket, key: str, name: str, *, proved: bool) -> bool:
        if not self.bucket.can_copy(source) or (proved and name in self._objects()):
            return False  # what is there may be relied on: it is not replaced by what has yet to be proved
        size = source.size(key)
        if size is None:
            raise ObjectMissing(source.where(key))
        found = self.bucket.copy(source, key, _object(name))
        if found is None and proved:
            found = self.bucket.sha256(_object(name))
        if found is not None and found != name.partition(".")[0]:
            raise ObjectAltered(source.where(key), found)
        self._objects()[name] = size
        return True

    def give(self, name: str, target: DataBucket, key: str) -> bool:
        if not target.can_copy(self.bucket):
            return False
        try:
            found = target.copy(self.bucket, _object(name), key) or target.sha256(key)
        except ObjectMissing as error:
            raise FileNotFoundError(str(error)) from error
        return found == name.partition(".")[0]

    def pieces(self, name: str) -> Iterator[bytes]:
        try:
            yield from self.bucket.pieces(_object(name))
        except ObjectMissing as error:
            raise FileNotFoundError(str(error)) from error

    def forget(self, gone: Sequence[str], needed: SetOf[str], *, erase: bool) -> None:
        """Listed before the commit: what anybody writes who takes over after it is not in the list."""
        self._listed = None
        unneeded = [name for name in self._objects() if name not in needed]
        self._commit([name for name in self._head.backups if name not in gone])
        self.bucket.delete([*map(_manifest, gone), *map(_object, unneeded)])
        self._listed = None
        if erase:
            self.bucket.erase("", only_replaced=True)

    def _objects(self) -> dict[str, int]:
        """By one request for a thousand, once."""
        with self._listing:
            if self._listed is None:
                found = self.bucket.objects("objects/")
                self._listed = {entry.key.removeprefix("objects/").replace("/", "", 1): entry.size for entry in found}
            return self._listed


def _manifest(name: str) -> str:
    return f"backups/{name}.json"


def _object(name: str) -> str:
    return f"objects/{name[:2]}/{name[2:]}"
