"""Temporary folders with texts of documents or what is signed, which go when their process does, killed or not.

The process holds a lock on its folder, which the kernel gives back when it ends: over containers and restarts of the
machine too, where the number of a process says nothing. Whoever makes the next folder removes those that nobody holds.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

_OURS = re.compile(r"ai-assets\.[a-z]+\.\d+\.[a-z0-9_]{8}")
"""Purpose, process, and what makes it unique: nobody calls a folder so by hand."""
_EARLIER = re.compile(r"ai-assets-batch-[a-z0-9_]{8}")
"""How versions named them that held no lock; they hold lines for a batch and nothing else."""
_EARLIER_S = 24 * 3600.0
"""Of those, what nobody has changed for so long is nobody's."""


class TemporaryFolder:
    """Only this user can open it. Use it in a `with` block, or close it."""

    def __init__(self, purpose: str, place: Path | None = None) -> None:
        """`purpose` is a word for who finds it in the folder of temporary files; `place` is another one than that."""
        where = place or Path(tempfile.gettempdir())
        sweep(where)
        self.path, lock = _made(where, f"ai-assets.{purpose}.{os.getpid()}.")
        self._close = weakref.finalize(self, _closed, self.path, lock, os.getpid())

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._close()


@contextlib.contextmanager
def folder_beside(place: Path, purpose: str) -> Iterator[Path]:
    """A folder that may be moved to `place` when all is in it, and is removed otherwise; at once with those of killed
    processes."""
    for path in abandoned_beside(place, purpose):
        remove_abandoned(path)
    path, lock = _made(place.parent, f"{place.name}.{purpose}-")
    try:
        yield path
    finally:
        _closed(path, lock, os.getpid())


def abandoned_beside(place: Path, purpose: str) -> list[Path]:
    named = re.compile(rf"{re.escape(place.name)}\.{re.escape(purpose)}-[a-z0-9_]{{8}}")
    return _free(_folders(place.parent, lambda name: named.fullmatch(name) is not None))


def places() -> Iterator[Path]:
    """Where they may be: the system's folder, and what is taken when that is on a full disk."""
    with contextlib.suppress(FileNotFoundError):  # no folder for temporary files can be written
        yield Path(tempfile.gettempdir())
    yield from (place for place in (Path("/dev/shm"), Path("/var/tmp")) if place.is_dir())


def abandoned(place: Path) -> list[Path]:
    """Those of this user whose processes have ended."""
    return _free(_ours(place))


def _free(paths: Iterable[Path]) -> list[Path]:
    found = []
    for path in paths:
        with _taken(path) as is_free:
            if is_free:
                found.append(path)
    return found


def sweep(place: Path) -> None:
    """Remove them."""
    for path in _ours(place):
        remove_abandoned(path)


def remove_abandoned(path: Path) -> None:
    """One of them, unless it is held by now."""
    with _taken(path) as is_free:
        if is_free:
            shutil.rmtree(path, ignore_errors=True)


def _ours(place: Path) -> Iterator[Path]:
    return _folders(place, _is_named_so)


def _folders(place: Path, is_named_so: Callable[[str], bool]) -> Iterator[Path]:
    """Never what another user made, or a link: everybody may write to the folder of temporary files."""
    try:
        names = sorted(entry.name for entry in os.scandir(place) if is_named_so(entry.name))
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            facts = (place / name).lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid():
                yield place / name


def _is_named_so(name: str) -> bool:
    return bool(_OURS.fullmatch(name) or _EARLIER.fullmatch(name))


@contextlib.contextmanager
def _taken(path: Path) -> Iterator[bool]:
    """Whether nobody holds it; while the block lasts, nobody does but us."""
    if _EARLIER.fullmatch(path.name):
        yield _is_from_earlier(path)
        return
    try:
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield _lock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(number)


def _lock(number: int, how: int) -> bool:
    try:
        fcntl.flock(number, how)
    except OSError:  # held, or a file system without locks
        return False
    return True


def _is_from_earlier(path: Path) -> bool:
    """A folder without a lock is known by its age and what is in it."""
    try:
        files = list(path.iterdir())
        changed = max(each.lstat().st_mtime for each in (path, *files))
    except OSError:
        return False
    return time.time() - changed > _EARLIER_S and all(file.suffix == ".jsonl" for file in files)


def _made(where: Path, prefix: str) -> tuple[Path, int]:
    """With its lock. Whoever sweeps may have found it before it was locked: then another one is made."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=where))
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as lost:
            number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            lost.callback(os.close, number)
            _lock(number, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(number), path.lstat()):
                lost.pop_all()
                return path, number


def _closed(path: Path, lock: int, maker: int) -> None:
    if os.getpid() == maker:  # not in a fork of it
        shutil.rmtree(path, ignore_errors=True)
    os.close(lock)
