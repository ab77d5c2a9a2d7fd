"""Where backups are: `objects/` by content, and one manifest per backup, named by its own digest.

An object is written once under a name that begins with its SHA-256, and never changed. A manifest is written last. So a
backup that is killed leaves every earlier one whole, and the next backup copies only content that is new.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from ai_assets.backup.errors import BackupDamaged, BackupUnknown
from ai_assets.backup.manifest import Backup, StoredContent, decoded, encoded, named_contents
from ai_assets.backup.vault_bucket import VaultBucket
from ai_assets.backup.vault_folder import VaultFolder
from ai_assets.backup.vault_place import Say, VaultPlace
from ai_assets.storage.digest import sha256_hex
from ai_assets.storage.objects import DataBucket

_DIGEST = 64
"""Digits of a SHA-256."""


def vault_place(where: str | Path) -> VaultPlace:
    """A folder, or `s3://bucket/prefix`."""
    return VaultBucket(where) if isinstance(where, str) and "://" in where else VaultFolder(Path(where))


class Vault:
    """Opened with `writing` or `reading`, which keep others from changing it meanwhile. Safe to share by threads."""

    def __init__(self, place: VaultPlace) -> None:
        self.place = place
        self.new_bytes = 0
        """Written by this process."""
        self._known: dict[str, str] | None = None
        self._proved: dict[str, dict[str, str]] = {}
        """By tenant, the same of what it has itself."""
        self._guard = threading.Lock()

    @classmethod
    @contextlib.contextmanager
    def writing(cls, where: str | Path, say: Say = lambda _line: None) -> Iterator[Self]:
        place = vault_place(where)
        with place.writing(say):
            yield cls(place)

    @classmethod
    @contextlib.contextmanager
    def reading(cls, where: str | Path) -> Iterator[Self]:
        place = vault_place(where)
        with place.reading():
            yield cls(place)

    def put(self, source: IO[bytes], block_bytes: int | None = None) -> StoredContent:
        """Store what `source` holds; objects that are there already are not written again."""
        whole, size, blocks = hashlib.sha256(), 0, []
        while block := _read_block(source, block_bytes or self.place.block_bytes):
            whole.update(block)
            size += len(block)
            blocks.append(self._put_block(block))
        return StoredContent(sha256=whole.hexdigest(), size=size, blocks=blocks)

    def take(
        self, source: DataBucket, key: str, sha256: str, size: int, scratch: Path, *, tenant: str | None = None
    ) -> StoredContent:
        """Store an object of a bucket, whose bytes come here only where the store cannot copy them by itself.

        In the bucket of a `tenant` others than we may write: what one names by the digest of another's file proves
        that it has these bytes before it counts as having them.
        """
        held = self._held(sha256) if tenant is None else self._held_of(tenant, sha256)
        if held is None and size:
            name = self.place.object_name(sha256)
            with self.place.failing_as_ours():
                copied = self.place.take(source, key, name, proved=tenant is not None)
            if not copied:
                stored = self.fetch(source, key, scratch, sha256)
                self._note_proved(tenant, stored)
                return stored
            held = self._note(sha256, name, size)
        stored = StoredContent(sha256=sha256, size=size, blocks=[held] if held else [])
        self._note_proved(tenant, stored)
        return stored

    def fetch(self, source: DataBucket, key: str, scratch: Path, sha256: str | None = None) -> StoredContent:
        """The same, of an object that comes here; `sha256`, where it is known."""
        with source.brought(key, scratch, sha256) as path, path.open("rb") as file:
            return self.put(file)

    def holds(self, content: StoredContent) -> bool:
        return all(self.place.size(block) is not None for block in content.blocks)

    def read(self, backup: str, what: str, content: StoredContent) -> Iterator[bytes]:
        """The content, piece by piece. Where it is not what was stored, BackupDamaged is raised, at the latest at the
        end: whoever reads it keeps nothing before."""
        whole = hashlib.sha256()
        for name in content.blocks:
            block = hashlib.sha256()
            try:
                for piece in self.place.pieces(name):
                    block.update(piece)
                    whole.update(piece)
                    yield piece
            except FileNotFoundError:
                raise self._lost(backup, what, name) from None
            except OSError as error:
                raise self.damaged(backup, what, f"object {name[:12]}: {error.strerror}") from error
            if (found := block.hexdigest()) != name[:_DIGEST]:
                raise self.damaged(backup, what, f"object {name[:12]} now has the digest {found[:12]}")
        if whole.hexdigest() != content.sha256:
            raise self.damaged(backup, what, f"it amounts to {whole.hexdigest()[:12]}")

    def give(self, backup: str, what: str, content: StoredContent, target: DataBucket, key: str, scratch: Path) -> None:
        """The content as an object of a bucket, checked."""
        if len(content.blocks) == 1:
            try:
                if self.place.give(content.blocks[0], target, key):
                    return
            except FileNotFoundError:
                raise self._lost(backup, what, content.blocks[0]) from None
        path = scratch / hashlib.sha256(key.encode()).hexdigest()
        try:
            with path.open("wb") as file:
                for piece in self.read(backup, what, content):
                    file.write(piece)
            target.put(key, path)
        finally:
            path.unlink(missing_ok=True)

    def verify(self, backup: Backup) -> None:
        """Hash everything that the backup holds; raises at the first difference."""
        for what, content in named_contents(backup):
            for _ in self.read(backup.backup, what, content):
                pass

    def backups(self) -> list[str]:
        """Their names, the oldest first."""
        return self.place.backups()

    def load(self, asked: str | None = None) -> Backup:
        """The newest backup, or the one of that name."""
        known = self.backups()
        if not known or (asked is not None and asked not in known):
            raise BackupUnknown(self.place.where, asked, known)
        return self._load(asked or known[-1])

    def add(self, made: Backup) -> Backup:
        """Write the manifest, which makes the backup."""
        name, content = encoded(made)
        with self.place.failing_as_ours():
            self.place.add(name, content)
        return Backup(**{**vars(made), "backup": name})

    def prune(self, keep: int, *, erase: bool = False) -> list[str]:
        """Forget all but the newest backups, and the objects that only the forgotten ones needed; their names."""
        names = self.backups()
        gone = names[: max(len(names) - keep, 0)]
        needed = {block for name in names[len(gone) :] for block in self._load(name).objects()}
        with self.place.failing_as_ours():
            self.place.forget(gone, needed, erase=erase)
        self._known = None
        return gone

    def damaged(self, backup: str, what: str, found: str) -> BackupDamaged:
        return BackupDamaged(self.place.where, backup, what, found)

    def _lost(self, backup: str, what: str, name: str) -> BackupDamaged | BackupUnknown:
        """Missing because the backup is damaged, or because somebody has forgotten it meanwhile."""
        known = self.backups()
        if backup not in known:
            return BackupUnknown(self.place.where, backup, known)
        return self.damaged(backup, what, f"object {name[:12]} is missing")

    def _load(self, name: str) -> Backup:
        try:
            content = self.place.manifest(name)
        except OSError as error:
            raise self.damaged(name, "its manifest", "it cannot be read") from error
        return decoded(self.place.where, name, content)

    def _put_block(self, block: bytes) -> str:
        sha256 = sha256_hex(block)
        held = self._held(sha256)
        if held is not None and self.place.size(held) == len(block):
            return held
        name = self.place.object_name(sha256)
        with self.place.failing_as_ours():
            self.place.put(name, block)
        return self._note(sha256, name, len(block))

    def _held(self, sha256: str) -> str | None:
        """The object of that content that a finished backup names, or this process has written.

        Any other may be torn, because its writer was killed, perhaps by a power cut; or on its way out.
        """
        with self._guard:
            if self._known is None:
                self._known = {name[:_DIGEST]: name for name in self._referenced()}
            name = self._known.get(sha256)
        return name if name is not None and self.place.size(name) is not None else None

    def _held_of(self, tenant: str, sha256: str) -> str | None:
        """The same, of objects that this tenant has brought itself."""
        with self._guard:
            if tenant not in self._proved:
                self._proved[tenant] = {}
                for name in self.backups():
                    with contextlib.suppress(BackupDamaged):
                        for file in self._load(name).files_of(tenant):
                            self._proved[tenant] |= _whole_objects(file.content)
            name_of = self._proved[tenant].get(sha256)
        return name_of if name_of is not None and self.place.size(name_of) is not None else None

    def _note_proved(self, tenant: str | None, stored: StoredContent) -> None:
        if tenant is not None:
            with self._guard:
                self._proved.setdefault(tenant, {}).update(_whole_objects(stored))

    def _note(self, sha256: str, name: str, size: int) -> str:
        with self._guard:
            if self._known is not None:
                self._known[sha256] = name
            self.new_bytes += size
        return name

    def _referenced(self) -> Iterator[str]:
        """The objects that finished backups need. A manifest that cannot be read is passed over."""
        for name in self.backups():
            with contextlib.suppress(BackupDamaged):
                yield from self._load(name).objects()


def _whole_objects(content: StoredContent) -> dict[str, str]:
    """The object that is the whole of that content, by its digest; none where there are several."""
    return {content.sha256: content.blocks[0]} if len(content.blocks) == 1 else {}


def _read_block(source: IO[bytes], size: int) -> bytes:
    """A whole block, whatever pieces the source gives."""
    block = source.read(size)
    while block and len(block) < size and (more := source.read(size - len(block))):
        block += more
    return block
