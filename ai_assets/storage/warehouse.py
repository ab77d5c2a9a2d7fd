"""The cost warehouse: one DuckDB file that many read, and that is never changed. A new one takes its place.

A builder works on a file of its own beside it and replaces the live one in one rename, so a reader that has the old
one open goes on reading it, and whoever opens it next has the new one.
"""

import contextlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.base.durable import sync
from ai_assets.base.errors import UserError
from ai_assets.storage.leases import Lease

if TYPE_CHECKING:
    import duckdb

SCHEMA_VERSION = 2
"""Of the tables and columns; a change that readers notice makes it one more."""
LEASE = "warehouse"
"""Held by who builds."""
BUILDING = ".building-"


class WarehouseMissing(UserError):
    def __init__(self, path: Path, found: str = "nothing was built yet") -> None:
        super().__init__(
            f"The cost warehouse {path} is not there: {found}; it is built within a minute of the first paid call "
            "while `ai-assets up` runs, or now by: ai-assets cost"
        )


class WarehouseTooNew(UserError):
    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"The cost warehouse {path} was written by a newer version ({found}). Install that version, or point "
            "AI_ASSETS_HOME at another folder; nothing was changed."
        )


class WarehouseDamaged(UserError):
    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"The cost warehouse {path} cannot be read: {found}. Delete it; it is made again from the ledger by: "
            "ai-assets cost"
        )


class WarehouseUnwritable(UserError):
    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"The cost warehouse could not be built in {folder}: {found}. Free some space or mend the permissions and "
            "run again; the warehouse that was there is still readable."
        )


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a new warehouse is built. The folder and all else in it is gone afterwards."""

    file: Path
    folder: Path


@contextlib.contextmanager
def reading(path: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """The live warehouse as it is now, read-only; what replaces it meanwhile does not disturb.

    A file that is opened by its path a second time in one process would be the one opened first, even if another has
    taken its place. So it is attached to a connection of its own.
    """
    import duckdb

    if not path.exists():
        raise WarehouseMissing(path)
    with contextlib.closing(duckdb.connect(":memory:")) as connection:
        try:
            connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
            connection.execute(f"ATTACH {_literal(path)} AS warehouse (READ_ONLY); USE warehouse")
            connection.execute("SET enable_external_access = false; SET lock_configuration = true")
            found = connection.execute("SELECT schema_version FROM raw.built").fetchone()
        except (duckdb.Error, OSError) as error:
            raise _unreadable(path, error) from error
        version = found[0] if found else 0
        if version > SCHEMA_VERSION:
            raise WarehouseTooNew(path, f"tables of version {version}; this one reads version {SCHEMA_VERSION}")
        if version < SCHEMA_VERSION:
            raise WarehouseMissing(
                path, f"what was built by an older version (tables of version {version}) is of no use"
            )
        try:
            yield connection
        except (duckdb.IOException, duckdb.SerializationException, duckdb.FatalException) as error:
            raise _unreadable(path, error) from error


@contextlib.contextmanager
def building(path: Path, lease: Lease, put: Callable[[Path], object] | None = None) -> Iterator[Site]:
    """A place for a new warehouse. It becomes the live one when the block ends without error; else nothing changes.

    `put`: takes the file where it is to live elsewhere.
    """
    refuse_newer(path)
    folder = path.parent / f"{BUILDING}{uuid.uuid4().hex}"
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{BUILDING}*"):  # who holds the lease is alone: these builders are dead
            shutil.rmtree(left, ignore_errors=True)
        folder.mkdir()
        try:
            site = Site(file=folder / path.name, folder=folder)
            yield site
            sync(site.file)
            refuse_newer(path)
            if put is not None:
                put(site.file)
            else:
                with lease.fenced():
                    site.file.replace(path)
            sync(path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_newer(path: Path) -> None:
    """Raise WarehouseTooNew when a newer version has built the live one; any other can be replaced."""
    with contextlib.suppress(WarehouseMissing, WarehouseDamaged), reading(path):
        pass


def unwritable(folder: Path, said: str) -> WarehouseUnwritable | None:
    """What DuckDB or dbt said, where it comes from the disk and not from what was built."""
    for mark, found in _DISK.items():
        if mark in said:
            return WarehouseUnwritable(folder, found)
    return None


_DISK = {
    "No space left on device": "the disk is full",
    "Disk quota exceeded": "the disk quota is used up",
    "max_temp_directory_size": "there is no room for temporary files",
    "File too large": "files of this size are not allowed",
    "Read-only file system": "the disk is read-only",
    "Permission denied": "it may not be written",
    "Could not write all": "the disk is full",
}


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    import duckdb

    try:
        yield
    except OSError as error:
        raise WarehouseUnwritable(folder, (error.strerror or str(error)).lower()) from error
    except duckdb.Error as error:
        if (found := unwritable(folder, str(error))) is not None:
            raise found from error
        raise


_VERSION = re.compile(r"version number (?P<found>\d+), but we can only read .*versions between \d+ and (?P<known>\d+)")


def _unreadable(path: Path, error: Exception) -> UserError:
    import duckdb

    said = str(error).splitlines()[0].removeprefix("IO Error: ")
    if (found := _VERSION.search(str(error))) is not None and int(found["found"]) > int(found["known"]):
        return WarehouseTooNew(
            path, f"a DuckDB file of version {found['found']}; this one reads up to {found['known']}"
        )
    if isinstance(error, duckdb.CatalogException):
        return WarehouseDamaged(path, "it is a DuckDB file, but no warehouse")
    return WarehouseDamaged(path, said.rstrip("!."))


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
