"""The folder that holds backups: `objects/` by content, and one manifest per backup, named by its own digest.

An object is written once under the name of its SHA-256 and never changed. A manifest is written last. So a backup that
is killed leaves every earlier one whole, and the next backup copies only content that is new.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

from ai_assets.backup.errors import (
    BackupBusy,
    BackupDamaged,
    BackupFolderInvalid,
    BackupTooNew,
    BackupUnknown,
    BackupUnwritable,
)
from ai_assets.base.durable import sync, write_whole
from ai_assets.storage.digest import canonical_json, sha256_hex

FORMAT = 1
MARKER = "ai-assets-backups.json"
BLOCK_BYTES = 1 << 20
DATABASE_BLOCK_BYTES = 1 << 16
"""Pages of a database change in place here and there: smaller blocks, so that more of them stay the same."""
PARTIAL = ".partial-"


@dataclass(frozen=True, kw_only=True)
class StoredContent:
    """Content in the vault: its digest, and the objects that it consists of."""

    sha256: str
    size: int
    blocks: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a home."""

    path: str
    """Relative to the home, with `/`."""
    mode: int
    content: StoredContent
    seen: Sequence[int]
    """Size, modification time in ns and inode where it was copied: the next backup need not read it while they hold."""


@dataclass(frozen=True, kw_only=True)
class TableEntry:
    """One table of a PostgreSQL state store, in the text format of COPY."""

    name: str
    columns: Sequence[str]
    rows: int
    content: StoredContent


@dataclass(frozen=True, kw_only=True)
class StateEntry:
    """The state store as it was at one moment."""

    dialect: str
    migrations: Sequence[str]
    file: StoredContent | None
    """The SQLite file."""
    tables: Sequence[TableEntry]
    sequences: Mapping[str, int]
    """Last number of each PostgreSQL sequence: numbers of workers are never used twice."""
    audit_records: int
    audit_head: str


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What one backup holds; the content of its manifest."""

    backup: str
    """`<UTC time>-<digest of the manifest>`."""
    made_at: str
    """The moment of the state store; files are of then or later."""
    home: str
    with_keys: bool
    state: StateEntry
    files: Sequence[FileEntry]
    left_out: Sequence[str]
    """Links and special files, which are not followed."""
    missing: Sequence[str]
    """Files that the state store names and that the home no longer had."""

    @property
    def size(self) -> int:
        return sum(content.size for content in self.contents())

    def contents(self) -> Iterator[StoredContent]:
        yield from ([self.state.file] if self.state.file is not None else [])
        yield from (table.content for table in self.state.tables)
        yield from (file.content for file in self.files)

    def objects(self) -> set[str]:
        return {block for content in self.contents() for block in content.blocks}


class Vault:
    """Opened with `writing` or `reading`, which keep others from changing it meanwhile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.new_bytes = 0
        """Written by this process."""
        self._trusted: set[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def writing(cls, root: Path) -> Iterator[Self]:
        vault = cls(root)
        with vault.failing_as_ours():
            vault._create()
        with vault._locked(fcntl.LOCK_EX):
            for left in root.glob(f"{PARTIAL}*"):  # this process holds the lock, so their writers are dead
                _remove(left)
            yield vault

    @classmethod
    @contextlib.contextmanager
    def reading(cls, root: Path) -> Iterator[Self]:
        vault = cls(root)
        vault._require_ours()
        with vault._locked(fcntl.LOCK_SH):
            yield vault

    @contextlib.contextmanager
    def failing_as_ours(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackupUnwritable(self.root, error) from error

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder in the vault for copies of databases; gone afterwards."""
        folder = self.root / f"{PARTIAL}{uuid.uuid4().hex}"
        with self.failing_as_ours():
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, source: IO[bytes], block_bytes: int = BLOCK_BYTES) -> StoredContent:
        """Store what `source` holds; objects that are there already are not written again."""
        whole, size, blocks = hashlib.sha256(), 0, []
        while block := _read_block(source, block_bytes):
            whole.update(block)
            size += len(block)
            blocks.append(self._put_block(block))
        return StoredContent(sha256=whole.hexdigest(), size=size, blocks=blocks)

    def holds(self, content: StoredContent) -> bool:
        return all(self._is_whole(block) for block in content.blocks)

    def read(self, backup: str, what: str, content: StoredContent) -> Iterator[bytes]:
        """The content, block by block, each checked against its digest before it is given out."""
        whole = hashlib.sha256()
        for name in content.blocks:
            path = self._object(name)
            try:
                block = path.read_bytes()
            except FileNotFoundError:
                raise BackupDamaged(self.root, backup, what, f"object {name[:12]} is missing") from None
            except OSError as error:
                raise BackupDamaged(self.root, backup, what, f"object {name[:12]}: {error.strerror}") from error
            if (found := sha256_hex(block)) != name:
                raise BackupDamaged(self.root, backup, what, f"object {name[:12]} now has the digest {found[:12]}")
            whole.update(block)
            yield block
        if whole.hexdigest() != content.sha256:
            raise BackupDamaged(self.root, backup, what, f"it amounts to {whole.hexdigest()[:12]}")

    def verify(self, backup: Backup) -> None:
        """Hash everything that the backup holds; raises at the first difference."""
        for what, content in named_contents(backup):
            for _ in self.read(backup.backup, what, content):
                pass

    def backups(self) -> list[str]:
        """Their names, the oldest first."""
        return sorted(path.stem for path in (self.root / "backups").glob("*.json"))

    def load(self, asked: str | None = None) -> Backup:
        """The newest backup, or the one of that name."""
        known = self.backups()
        if not known or (asked is not None and asked not in known):
            raise BackupUnknown(self.root, asked, known)
        return self._load(asked or known[-1])

    def add(self, made: Backup) -> Backup:
        """Write the manifest, which makes the backup. All its objects are on the disk before."""
        body = asdict(made)
        del body["backup"]
        text = canonical_json({"format": FORMAT, **body})
        stamp = made.made_at.replace("-", "").replace(":", "").partition(".")
        name = f"{stamp[0]}.{stamp[2][:3]}Z-{sha256_hex(text.encode())[:16]}"
        with self.failing_as_ours():
            os.sync()
            write_whole(self.root / "backups" / f"{name}.json", text.encode())
        return Backup(**{**vars(made), "backup": name})

    def prune(self, keep: int) -> list[str]:
        """Forget all but the newest backups, and the objects that only the forgotten ones needed; their names."""
        names = self.backups()
        gone = names[: max(len(names) - keep, 0)]
        with self.failing_as_ours():
            for name in gone:
                (self.root / "backups" / f"{name}.json").unlink()
            sync(self.root / "backups")
            needed = self._referenced()
            for path in (self.root / "objects").glob("*/*"):
                if path.parent.name + path.name not in needed:
                    path.unlink()
        self._trusted = None
        return gone

    def _load(self, name: str) -> Backup:
        path = self.root / "backups" / f"{name}.json"
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text)
            declared = int(found.pop("format"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BackupDamaged(self.root, name, "its manifest", "it cannot be read") from error
        if declared > FORMAT:
            raise BackupTooNew(name, f"format {declared}; this version reads up to {FORMAT}")
        if sha256_hex(text.encode())[:16] != name.rpartition("-")[2]:
            raise BackupDamaged(self.root, name, "its manifest", "it is not the one that was written")
        return Backup(
            **{
                **found,
                "backup": name,
                "state": _state(found["state"]),
                "files": [_file(each) for each in found["files"]],
            }
        )

    def _create(self) -> None:
        if self.root.exists() and not (self.root / MARKER).exists() and any(self.root.iterdir()):
            remedy = "Choose an empty folder, or one that holds backups already"
            raise BackupFolderInvalid(self.root, "it holds other things", remedy)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.root / MARKER).exists():
            write_whole(self.root / MARKER, canonical_json({"format": FORMAT}).encode())
        self._require_ours()
        for name in ("objects", "backups"):
            (self.root / name).mkdir(exist_ok=True)

    def _require_ours(self) -> None:
        try:
            declared = int(json.loads((self.root / MARKER).read_bytes())["format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = "Name the folder that 'ai-assets backup' was given"
            raise BackupFolderInvalid(self.root, f"it has no readable {MARKER}", remedy) from error
        if declared > FORMAT:
            raise BackupTooNew(str(self.root), f"format {declared}; this version reads up to {FORMAT}")

    @contextlib.contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        writable = kind == fcntl.LOCK_EX
        path = self.root / ".lock" if writable or (self.root / ".lock").exists() else self.root / MARKER
        with self.failing_as_ours():
            lock = path.open("a" if writable else "r")
        with lock:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupBusy(self.root) from None
            yield

    def _object(self, name: str) -> Path:
        return self.root / "objects" / name[:2] / name[2:]

    def _put_block(self, block: bytes) -> str:
        name = sha256_hex(block)
        if self._trusted is None:
            self._trusted = self._referenced(damaged_too=True)
        # An object that no finished backup names may be torn: its writer was killed, perhaps by a power cut.
        if name not in self._trusted or not self._is_whole(name, len(block)):
            with self.failing_as_ours():
                path = self._object(name)
                path.parent.mkdir(exist_ok=True)
                temporary = self.root / f"{PARTIAL}{uuid.uuid4().hex}"
                try:
                    temporary.write_bytes(block)
                    temporary.replace(path)
                finally:
                    temporary.unlink(missing_ok=True)
            self._trusted.add(name)
            self.new_bytes += len(block)
        return name

    def _is_whole(self, name: str, size: int | None = None) -> bool:
        try:
            found = self._object(name).stat().st_size
        except OSError:
            return False
        return size is None or found == size

    def _referenced(self, *, damaged_too: bool = False) -> set[str]:
        """The objects that finished backups need. `damaged_too`: a manifest that cannot be read is passed over."""
        found: set[str] = set()
        for name in self.backups():
            try:
                found |= self._load(name).objects()
            except BackupDamaged:
                if not damaged_too:
                    raise
        return found


def named_contents(backup: Backup) -> Iterator[tuple[str, StoredContent]]:
    """All content of a backup, with what it is called in messages."""
    if backup.state.file is not None:
        yield "the state store", backup.state.file
    yield from ((f"table {table.name} of the state store", table.content) for table in backup.state.tables)
    yield from ((file.path, file.content) for file in backup.files)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _state(found: Mapping[str, Any]) -> StateEntry:
    tables = [TableEntry(**{**table, "content": StoredContent(**table["content"])}) for table in found["tables"]]
    file = None if found["file"] is None else StoredContent(**found["file"])
    return StateEntry(**{**found, "file": file, "tables": tables})


def _file(found: Mapping[str, Any]) -> FileEntry:
    return FileEntry(**{**found, "content": StoredContent(**found["content"])})


def _read_block(source: IO[bytes], size: int) -> bytes:
    """A whole block, whatever pieces the source gives."""
    block = source.read(size)
    while block and len(block) < size and (more := source.read(size - len(block))):
        block += more
    return block
