"""A vault in a folder. A lock of the file system keeps two writers, or a writer and a reader, apart."""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from collections.abc import Set as SetOf
from pathlib import Path

from ai_assets.backup.errors import BackupBusy, BackupFolderInvalid, BackupTooNew, BackupUnwritable
from ai_assets.backup.manifest import FORMAT
from ai_assets.backup.vault_place import MARKER, Say
from ai_assets.base.durable import sync, write_whole
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.objects import DataBucket

PARTIAL = ".partial-"
PIECE_BYTES = 1 << 20


class VaultFolder:
    block_bytes = 1 << 20
    database_block_bytes = 1 << 16

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)

    @contextlib.contextmanager
    def writing(self, say: Say) -> Iterator[None]:
        del say  # nothing is waited for
        with self.failing_as_ours():
            self._create()
        with self._locked(fcntl.LOCK_EX):
            for left in self.root.glob(f"{PARTIAL}*"):  # this process holds the lock, so their writers are dead
                _remove(left)
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        self._require_ours()
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def failing_as_ours(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackupUnwritable(self.root, error) from error

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        folder = self.root / f"{PARTIAL}{uuid.uuid4().hex}"
        with self.failing_as_ours():
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def backups(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "backups").glob("*.json"))

    def manifest(self, name: str) -> bytes:
        return (self.root / "backups" / f"{name}.json").read_bytes()

    def add(self, name: str, content: bytes) -> None:
        os.sync()
        write_whole(self.root / "backups" / f"{name}.json", content)

    def object_name(self, sha256: str) -> str:
        return sha256

    def size(self, name: str) -> int | None:
        try:
            return self._object(name).stat().st_size
        except OSError:
            return None

    def put(self, name: str, block: bytes) -> None:
        path = self._object(name)
        path.parent.mkdir(exist_ok=True)
        temporary = self.root / f"{PARTIAL}{uuid.uuid4().hex}"
        try:
            temporary.write_bytes(block)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def take(self, source: DataBucket, key: str, name: str, *, proved: bool) -> bool:
        return False

    def give(self, name: str, target: DataBucket, key: str) -> bool:
        return False

    def pieces(self, name: str) -> Iterator[bytes]:
        with self._object(name).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def forget(self, gone: Sequence[str], needed: SetOf[str], *, erase: bool) -> None:
        for name in gone:
            (self.root / "backups" / f"{name}.json").unlink()
        sync(self.root / "backups")
        for path in (self.root / "objects").glob("*/*"):
            if path.parent.name + path.name not in needed:
                path.unlink()

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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
