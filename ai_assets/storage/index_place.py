"""Where the search indexes of a collection are kept: a folder with LanceDB tables and `live.json` beside them.

What LanceDB itself does not do is here: which tables there are, the bytes of their files, removing them, and that
writers take turns.
"""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from ai_assets.base.durable import write_whole
from ai_assets.base.folders import files_below
from ai_assets.storage.content import DIGESTS

TABLE = ".lance"
BRANCHES = "tree"
"""The folder of a table in which LanceDB keeps a folder for each branch, laid out as the table itself."""


class SealedFile(NamedTuple):
    """One file of a version, as it was when the version was published."""

    size: int
    sha256: str
    etag: str = ""
    """What an object store calls these bytes; empty on a disk."""


class TableFiles(Protocol):
    """The files of a table, or of one branch of it; by their path below its folder."""

    def names(self, folder: str = "") -> Iterator[str]:
        """All, or those in a folder and below."""
        ...

    def holds(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes: ...

    def facts(self, name: str, known: SealedFile | None = None) -> SealedFile | None:
        """As the file is now; None where it is gone. One that an object store says is the known one is not read."""
        ...


class Kept(NamedTuple):
    """A small file, and what must still be there when it is replaced."""

    content: bytes | None
    mark: str | None


class IndexPlace(Protocol):
    @property
    def known_for_s(self) -> float:
        """So long what a reader has seen of it counts, where looking again costs requests."""
        ...

    @property
    def uri(self) -> str:
        """As LanceDB takes it."""
        ...

    @property
    def options(self) -> Mapping[str, str] | None:
        """How LanceDB reaches it."""
        ...

    def tables(self) -> list[str]:
        """Names of all tables."""
        ...

    def branches(self, table: str) -> list[str]:
        """Folders of branches: also those that a killed writer left without a branch."""
        ...

    def may_exist(self, table: str) -> bool:
        """False where it is known without asking LanceDB that there is no such table."""
        ...

    def files(self, table: str, branch: str | None, *, fresh: bool = False) -> TableFiles:
        """`fresh`: as they are now, and not as they were less than a minute ago."""
        ...

    def remove(self, table: str, branch: str | None = None) -> None:
        """All files of a table, or of a branch that LanceDB does not know any more."""
        ...

    def erase_replaced(self) -> None:
        """What the store keeps of files that were deleted or replaced."""
        ...

    def size(self, table: str, branch: str | None = None) -> int: ...

    def written_at(self, table: str) -> float:
        """Seconds since 1970; when it was written to last."""
        ...

    def require_reached(self) -> None:
        """Raises the error that says why it cannot be used, if that is known here."""
        ...

    def writing(self, table: str) -> contextlib.AbstractContextManager[None]:
        """Alone, as far as that can be seen to here."""
        ...

    def kept(self, name: str) -> Kept:
        """A small file beside the tables."""
        ...

    def keep(self, name: str, content: bytes, instead: Kept) -> bool:
        """Replace a small file; False where it is not what was there any more."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """A small file that is named by its content."""
        ...

    def drop(self, name: str) -> None:
        """Such a file, if it is there."""
        ...


class FolderPlace:
    """On a disk. Writers take turns by a file lock."""

    options: Mapping[str, str] | None = None
    known_for_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def uri(self) -> str:
        return str(self._path)

    def tables(self) -> list[str]:
        return sorted(path.name.removesuffix(TABLE) for path in self._path.glob(f"*{TABLE}"))

    def branches(self, table: str) -> list[str]:
        return sorted(path.name for path in (self._folder(table) / BRANCHES).glob("*"))

    def may_exist(self, table: str) -> bool:
        return any((self._folder(table) / "_versions").glob("*.manifest"))

    def files(self, table: str, branch: str | None, *, fresh: bool = False) -> TableFiles:
        return _FolderFiles(self._folder(table, branch))

    def remove(self, table: str, branch: str | None = None) -> None:
        with self.writing(table):
            shutil.rmtree(self._folder(table, branch), ignore_errors=True)

    def erase_replaced(self) -> None:
        """A folder keeps nothing of them."""

    def size(self, table: str, branch: str | None = None) -> int:
        return sum(path.stat().st_size for path in files_below(self._folder(table, branch)) if path.is_file())

    def written_at(self, table: str) -> float:
        try:
            return self._folder(table).lstat().st_mtime
        except FileNotFoundError:
            return 0.0

    def require_reached(self) -> None:
        """A disk says itself what is wrong."""

    @contextlib.contextmanager
    def writing(self, table: str) -> Iterator[None]:
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / f"{table}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def kept(self, name: str) -> Kept:
        try:
            content = (self._path / name).read_bytes()
        except FileNotFoundError:
            return Kept(None, None)
        return Kept(content, hashlib.sha256(content).hexdigest())

    def keep(self, name: str, content: bytes, instead: Kept) -> bool:
        with self.writing(name):
            if self.kept(name) != instead:
                return False
            write_whole(self._path / name, content)
            return True

    def put(self, name: str, content: bytes) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        write_whole(self._path / name, content)

    def drop(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)

    def _folder(self, table: str, branch: str | None = None) -> Path:
        folder = self._path / f"{table}{TABLE}"
        return folder if branch is None else folder / BRANCHES / branch


class _FolderFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, folder: str = "") -> Iterator[str]:
        return (path.relative_to(self._folder).as_posix() for path in files_below(self._folder / folder))

    def holds(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def facts(self, name: str, known: SealedFile | None = None) -> SealedFile | None:
        path = self._folder / name
        try:
            return SealedFile(path.stat().st_size, DIGESTS.of(path))
        except FileNotFoundError:
            return None
