"""What one backup holds, as records, and its manifest as bytes: named by its moment and its own digest."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ai_assets.backup.errors import BackupDamaged, BackupTooNew
from ai_assets.storage.digest import canonical_json, sha256_hex

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class StoredContent:
    """Content in the vault: its digest, and the objects that it consists of."""

    sha256: str
    size: int
    blocks: Sequence[str]
    """Names of objects. Each begins with the SHA-256 of what the object holds."""


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a home."""

    path: str
    """Relative to the home, with `/`."""
    mode: int
    content: StoredContent
    seen: Sequence[int | str]
    """Size, modification time in ns and inode where it was copied, or size and tag of an object: the next backup need
    not read it while they hold."""


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


def encoded(made: Backup) -> tuple[str, bytes]:
    """Its name, and its manifest."""
    body = asdict(made)
    del body["backup"]
    content = canonical_json({"format": FORMAT, **body}).encode()
    stamp = made.made_at.replace("-", "").replace(":", "").partition(".")
    return f"{stamp[0]}.{stamp[2][:3]}Z-{sha256_hex(content)[:16]}", content


def decoded(where: str, name: str, content: bytes) -> Backup:
    try:
        found = json.loads(content)
        declared = int(found.pop("format"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupDamaged(where, name, "its manifest", "it cannot be read") from error
    if declared > FORMAT:
        raise BackupTooNew(name, f"format {declared}; this version reads up to {FORMAT}")
    if sha256_hex(content)[:16] != name.rpartition("-")[2]:
        raise BackupDamaged(where, name, "its manifest", "it is not the one that was written")
    files = [_file(each) for each in found["files"]]
    return Backup(**{**found, "backup": name, "state": _state(found["state"]), "files": files})


def named_contents(backup: Backup) -> Iterator[tuple[str, StoredContent]]:
    """All content of a backup, with what it is called in messages."""
    if backup.state.file is not None:
        yield "the state store", backup.state.file
    yield from ((f"table {table.name} of the state store", table.content) for table in backup.state.tables)
    yield from ((file.path, file.content) for file in backup.files)


def _state(found: Mapping[str, Any]) -> StateEntry:
    tables = [TableEntry(**{**table, "content": StoredContent(**table["content"])}) for table in found["tables"]]
    file = None if found["file"] is None else StoredContent(**found["file"])
    return StateEntry(**{**found, "file": file, "tables": tables})


def _file(found: Mapping[str, Any]) -> FileEntry:
    return FileEntry(**{**found, "content": StoredContent(**found["content"])})
