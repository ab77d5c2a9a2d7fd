"""What one backup holds, as records, and its manifest as bytes: named by its moment and its own digest."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

from ai_assets.backup.errors import BackupDamaged, BackupTooNew
from ai_assets.storage.digest import canonical_json, sha256_hex

FORMAT = 1
"""Of a vault, and of a backup of a home whose data is in one place."""
TENANTS_FORMAT = 2
"""Of a backup that has data of tenants apart: what knows no such data must not restore it into the home."""


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
class TenantEntry:
    """What was in the bucket of a tenant that has one of its own."""

    tenant: str
    url: str
    """Of the bucket then."""
    files: Sequence[FileEntry]
    """By their keys below that address."""

    @property
    def collections(self) -> Sequence[str]:
        return sorted({collection_of(file.path) for file in self.files})

    @property
    def size(self) -> int:
        return sum(file.content.size for file in self.files)

    @property
    def sha256(self) -> str:
        """Of all paths and digests: equal where the same files are."""
        return sha256_hex(canonical_json({file.path: file.content.sha256 for file in self.files}).encode())


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
    tenants: Sequence[TenantEntry] = ()
    """Those with a bucket of their own; `files` has nothing of theirs."""

    @property
    def size(self) -> int:
        return sum(content.size for content in self.contents())

    def contents(self) -> Iterator[StoredContent]:
        yield from ([self.state.file] if self.state.file is not None else [])
        yield from (table.content for table in self.state.tables)
        yield from (file.content for file in self.every_file())

    @property
    def file_count(self) -> int:
        return len(self.files) + sum(len(each.files) for each in self.tenants)

    def every_file(self) -> Iterator[FileEntry]:
        yield from self.files
        for each in self.tenants:
            yield from each.files

    def files_of(self, tenant: str | None) -> Sequence[FileEntry]:
        """Of a tenant with a bucket of its own, or of the home."""
        if tenant is None:
            return self.files
        return next((each.files for each in self.tenants if each.tenant == tenant), ())

    def objects(self) -> set[str]:
        return {block for content in self.contents() for block in content.blocks}


def encoded(made: Backup) -> tuple[str, bytes]:
    """Its name, and its manifest."""
    body = asdict(made)
    del body["backup"]
    if not made.tenants:
        del body["tenants"]
    content = canonical_json({"format": TENANTS_FORMAT if made.tenants else FORMAT, **body}).encode()
    stamp = made.made_at.replace("-", "").replace(":", "").partition(".")
    return f"{stamp[0]}.{stamp[2][:3]}Z-{sha256_hex(content)[:16]}", content


def decoded(where: str, name: str, content: bytes) -> Backup:
    try:
        found = json.loads(content)
        declared = int(found.pop("format"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupDamaged(where, name, "its manifest", "it cannot be read") from error
    if declared > TENANTS_FORMAT:
        raise BackupTooNew(name, f"format {declared}; this version reads up to {TENANTS_FORMAT}")
    if sha256_hex(content)[:16] != name.rpartition("-")[2]:
        raise BackupDamaged(where, name, "its manifest", "it is not the one that was written")
    files = [_file(each) for each in found["files"]]
    tenants = [TenantEntry(**{**each, "files": [*map(_file, each["files"])]}) for each in found.get("tenants", ())]
    return Backup(**{**found, "backup": name, "state": _state(found["state"]), "files": files, "tenants": tenants})


def named_contents(backup: Backup) -> Iterator[tuple[str, StoredContent]]:
    """All content of a backup, with what it is called in messages."""
    if backup.state.file is not None:
        yield "the state store", backup.state.file
    yield from ((f"table {table.name} of the state store", table.content) for table in backup.state.tables)
    yield from ((file.path, file.content) for file in backup.files)
    yield from (
        (f"{file.path} of tenant {each.tenant}", file.content) for each in backup.tenants for file in each.files
    )


def collection_of(path: str) -> str:
    """Whose file it is, of one below `lake/` or `index/`."""
    return unquote(path.split("/")[1])


def _state(found: Mapping[str, Any]) -> StateEntry:
    tables = [TableEntry(**{**table, "content": StoredContent(**table["content"])}) for table in found["tables"]]
    file = None if found["file"] is None else StoredContent(**found["file"])
    return StateEntry(**{**found, "file": file, "tables": tables})


def _file(found: Mapping[str, Any]) -> FileEntry:
    return FileEntry(**{**found, "content": StoredContent(**found["content"])})
