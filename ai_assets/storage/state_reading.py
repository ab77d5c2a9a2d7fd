"""The SQLite file of a home that cannot be written: a full disk, a read-only mount, a copy in an archive.

SQLite reads a store in WAL mode with the help of a file beside it, which it may have to make. Where it cannot, the
store is copied to a folder that can be written, together with its WAL: that holds rows that are not in the store yet.
One that is not there yet is read as one without rows, in memory.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from ai_assets.base.errors import StateUnreadable
from ai_assets.base.plural import plural
from ai_assets.base.temporary import TemporaryFolder, places, sweep

_TRIES = 5
_SPARE_BYTES = 1 << 20
_BUSY_S = 30.0


def reading_engine(url: str, say: Callable[[str], None]) -> tuple[sa.Engine, Callable[[], None]]:
    """Only for reading, and what to call when it is no longer needed."""
    store = Path(sa.make_url(url).database or "")
    kept = contextlib.ExitStack()
    with contextlib.ExitStack() as failed:
        failed.callback(kept.close)
        address = _address(store, kept, say)
        failed.pop_all()

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_S, check_same_thread=False)
        connection.isolation_level = None
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    return sa.create_engine(url, creator=connect), kept.close


def empty_engine(tables: bytes) -> sa.Engine:
    """Of a store that is not there, be it in PostgreSQL: each connection has the `tables` in its own memory."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.isolation_level = None
        connection.deserialize(tables)
        connection.execute("PRAGMA query_only = ON")
        return connection

    return sa.create_engine("sqlite://", creator=connect)


def _address(store: Path, kept: contextlib.ExitStack, say: Callable[[str], None]) -> str:
    if not store.is_file():
        raise StateUnreadable(store, "there is none yet, and it cannot be made here")
    place = f"file:{quote(str(store))}"
    if _opens(f"{place}?mode=ro"):
        return f"{place}?mode=ro"
    if _on_a_read_only_disk(store) and not _size(_wal(store)):
        return f"{place}?mode=ro&immutable=1"  # nothing lies beside it, and nobody can write it
    folder = _copied(store, kept)
    say(f"The state store cannot be opened where it is; a copy of {plural(_size(store), 'byte')} in {folder} is read.")
    return f"file:{quote(str(folder / store.name))}"


def _opens(address: str) -> bool:
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(
        sqlite3.connect(address, uri=True, timeout=_BUSY_S)
    ) as connection:  # fmt: skip
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return True
    return False


def _copied(store: Path, kept: contextlib.ExitStack) -> Path:
    """A folder of our own with the store and its WAL as they were at one moment."""
    needed = _size(store) + _size(_wal(store)) + _SPARE_BYTES
    tried = []
    for place in places():
        sweep(place)
        try:
            free = shutil.disk_usage(place).free
            if free < needed:
                tried.append(f"{place} has {plural(free, 'byte')} free")
                continue
            folder = kept.enter_context(TemporaryFolder("state", place))
            if _copy(store, folder):
                return folder
            tried.append("it changed while it was copied")
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")
    raise StateUnreadable(
        store,
        "it cannot be opened where it is, and no folder can hold a copy of "
        f"{plural(needed, 'byte')} ({'; '.join(tried)})",
    )


def _copy(store: Path, folder: Path) -> bool:
    for _ in range(_TRIES):
        before = _state(store)
        for part in (store, _wal(store)):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(part, folder / part.name)
        if _state(store) == before:
            return True
        for part in folder.iterdir():
            part.unlink()
    return False


def _state(store: Path) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for part in (store, _wal(store)):
        try:
            facts = part.stat()
            found.append((facts.st_size, facts.st_mtime_ns))
        except FileNotFoundError:
            found.append(None)
    return found


def _wal(store: Path) -> Path:
    return store.with_name(f"{store.name}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _on_a_read_only_disk(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
