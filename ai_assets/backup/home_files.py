"""Which files of a home belong into a backup, in an order in which whatever is copied finds what it names.

Nothing is locked: data files of the lake and of the index never change, and what names them is copied before them.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ai_assets.backup.bucket_data import BucketData
from ai_assets.backup.copied_files import INDEX_ORDER, MADE_AGAIN, CopiedFiles
from ai_assets.backup.manifest import FileEntry
from ai_assets.backup.state_copy import copy_database
from ai_assets.backup.vault import Vault
from ai_assets.base.home import KEYS, Home
from ai_assets.storage.data_places import DataPlaces
from ai_assets.storage.lake import MANIFEST, TEMPORARY, Lake

_TRIES = 5
_NOT_COPIED = (
    "logs",
    "warehouse",
    "drift",
    "languages",
    "up.lock",
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "dagster/storage",
)
"""At the top of a home: logs, what is made again from the ledger or from releases, locks, and the store, which has a
copy of its own."""
_SQLITE = ".db"
_LITTER = (".probe-", "trial-", ".building-", ".opening", ".dagster.yaml.", ".restoring-")


@dataclass(frozen=True, kw_only=True)
class HomeFiles:
    """Copies one home into a vault."""

    home: Home
    places: DataPlaces
    keys: Mapping[str, Path]
    """Files of keys to copy, by their names in the backup: they may lie elsewhere."""
    vault: Vault
    scratch: Path
    earlier: Mapping[str, FileEntry]
    """Of the backup before: a file that has not changed since is not read again."""
    state: Path | None
    """The SQLite file of the state store, which has a copy of its own."""

    def copy_checkpoints(self, copied: CopiedFiles) -> None:
        """Before the state store is copied: then no note tells of a record that the copy does not have."""
        for folder, names in self._folders(self.home.checkpoints, copied):
            for name in names:
                self._copy(folder / name, copied)

    def copy(self, copied: CopiedFiles) -> CopiedFiles:
        if self.home.data_url is None:
            self._copy_lake(copied)
            self._copy_index(copied)
        else:
            BucketData(self.home.data_url, self.vault, self.scratch, self.earlier, places=self.places).copy(copied)
        for entry in sorted(self.home.root.iterdir()):
            if entry.name in ("lake", "index", "checkpoints", KEYS) or self._is_skipped(entry.name):
                continue
            if entry.is_dir() and not entry.is_symlink():
                for folder, names in self._folders(entry, copied):
                    for name in names:
                        if not self._is_skipped(self._name(folder / name)):
                            self._copy(folder / name, copied)
            else:
                self._copy(entry, copied)
        for name, path in self.keys.items():
            self._copy(path, copied, name)
        return copied

    def _copy_lake(self, copied: CopiedFiles) -> None:
        """Of a dataset its manifest and the file that it names; a replaced manifest is read again."""
        for folder, names in self._folders(self.home.lake, copied):
            if MANIFEST in names:
                self._copy_dataset(folder, copied)
                continue
            for name in names:
                if not name.endswith(TEMPORARY):
                    self._copy(folder / name, copied)

    def _copy_dataset(self, folder: Path, copied: CopiedFiles) -> None:
        for _ in range(_TRIES):
            self._copy(folder / MANIFEST, copied)
            file = Lake.manifest_or_none(folder)
            if file is None or self._copy(folder / file, copied):
                return

    def _copy_index(self, copied: CopiedFiles) -> None:
        """Tags, then versions, then data: a version that is copied has all its data, whatever is written meanwhile."""
        for wanted in INDEX_ORDER:
            for folder, names in self._folders(self.home.index, CopiedFiles() if wanted else copied):
                parts = folder.relative_to(self.home.index).parts
                kind = next((part for part in parts if part in INDEX_ORDER), "")
                if kind == wanted and not any(part.startswith(MADE_AGAIN) for part in parts[1:2]):
                    for name in names:
                        if not name.endswith(".lock"):
                            self._copy(folder / name, copied)

    def _is_skipped(self, name: str) -> bool:
        if self.state is not None and self.home.root / name == self.state:
            return True
        inside = any(name == each or name.startswith(f"{each}/") for each in _NOT_COPIED)
        last = name.rpartition("/")[2]
        return inside or last.startswith(_LITTER) or last.endswith((TEMPORARY, ".db-wal", ".db-shm", ".db-journal"))

    def _copy(self, path: Path, copied: CopiedFiles, name: str | None = None) -> bool:
        """False where the file is gone by now."""
        name = name or self._name(path)
        try:
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode):
                if not stat.S_ISSOCK(facts.st_mode):
                    copied.left_out.append(name)
                return True
            seen: list[int | str] = [facts.st_size, facts.st_mtime_ns, facts.st_ino]
            known = self.earlier.get(name)
            database = path.suffix == _SQLITE or path.name == _SQLITE
            written = database and _size(path.with_name(f"{path.name}-wal"))
            if known is not None and list(known.seen) == seen and not written and self.vault.holds(known.content):
                content = known.content
            elif database:
                content = copy_database(path, self.vault, self.scratch)
            else:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                with os.fdopen(descriptor, "rb") as file:
                    content = self.vault.put(file)
        except FileNotFoundError:
            return False
        copied.files[name] = FileEntry(path=name, mode=stat.S_IMODE(facts.st_mode), content=content, seen=seen)
        return True

    def _folders(self, root: Path, copied: CopiedFiles) -> Iterator[tuple[Path, list[str]]]:
        """Folders below, and their files; links are noted and not followed."""
        if root.is_symlink():
            copied.left_out.append(self._name(root))
            return
        for folder, below, names in os.walk(root):
            for name in list(below):
                if (Path(folder) / name).is_symlink():
                    copied.left_out.append(self._name(Path(folder) / name))
                    below.remove(name)
            below.sort()
            yield Path(folder), sorted(names)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.home.root).as_posix()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
