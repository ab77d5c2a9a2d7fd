"""What the source holds, file by file: the `source_files` asset.

An observation reads only files whose size or time changed, so an unchanged source costs one directory walk. Files with
the same bytes are linked here, over the whole collection, so that which one is the original never depends on the order
in which partitions are computed.
"""

import contextlib
import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import BinaryIO, Literal

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import Unassigned
from ai_assets.documents.formats.kinds import Format
from ai_assets.documents.parse import ParseLimits, Parser, TableFormat, format_of
from ai_assets.documents.parse_ocr import OcrLimits
from ai_assets.documents.source import Source, SourceFile
from ai_assets.storage import partition_facts
from ai_assets.storage.arrow_columns import rows_batch
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Lake, Manifest
from ai_assets.storage.state import StateStore, now, upsert

ALL = "_all"
_NUMBERS = re.compile(r"[\d\W_]+")
UNREAD = "unread:"
"""Begins the digest of a file that must not, or need not, be read."""
RACY_NS = 2_000_000_000
"""A file changed this shortly before it was read may change again within the clock's step; its time proves nothing."""
TABLE_FORMATS: tuple[Literal["csv", "jsonl", "parquet"], ...] = ("csv", "jsonl", "parquet")


@dataclass(frozen=True, kw_only=True)
class ListingEntry:
    """A file, or the part of a table file whose rows belong to one partition."""

    path: str
    partition: str | None
    """None when it fits no partition; `problem` says why."""
    size: int
    modified_ns: int
    hashed_ns: int
    digest: str
    problem: str | None = None
    duplicate_of: str | None = None
    """Path of the first file, by path, with the same bytes."""
    per_row: bool = False


@dataclass(frozen=True)
class Listing:
    """All entries of a source at one moment, by path."""

    entries: tuple[ListingEntry, ...]

    @cached_property
    def by_partition(self) -> Mapping[str, Sequence[ListingEntry]]:
        found: dict[str, list[ListingEntry]] = defaultdict(list)
        for entry in self.entries:
            if entry.partition is not None:
                found[entry.partition].append(entry)
        return found

    @property
    def unassigned(self) -> list[ListingEntry]:
        return [entry for entry in self.entries if entry.partition is None]

    @cached_property
    def partitions_of_path(self) -> Mapping[str, Sequence[str]]:
        """Where a file's documents are; the rows of one table may be in several."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self.entries:
            if entry.partition is not None:
                found[entry.path].append(entry.partition)
        return found

    def digest_of(self, partition: str) -> str:
        """The data version of the partition's source: it changes when a file comes, goes or changes."""
        if partition not in self._known_digests:
            entries = self.by_partition.get(partition, ())
            said = [[entry.path, entry.digest, entry.problem, entry.duplicate_of] for entry in entries]
            self._known_digests[partition] = digest(said)[:32]
        return self._known_digests[partition]

    @cached_property
    def _known_digests(self) -> dict[str, str]:
        return {}


def limits_of(collection: Collection) -> ParseLimits:
    source = collection.settings.source
    return ParseLimits(
        max_bytes=source.max_bytes,
        max_characters=source.max_characters,
        timeout_s=source.parse_timeout_s,
        ocr=OcrLimits(**source.ocr.model_dump()) if source.ocr else None,
    )


def source_of(path: str) -> str:
    """The folder at the top, else the ending. A folder that is a date or a number says when, and not from where."""
    *folders, name = path.partition("#")[0].split("/")
    top = next((folder for folder in folders if not _NUMBERS.fullmatch(folder)), None)
    return top or (f"*{name[name.rfind('.') :]}" if "." in name else "(no ending)")


def path_of(document: str, known: Container[str]) -> str:
    """The file of a document: a document is a file, or a row or an attachment `file#key` of one."""
    path = document
    while path not in known and "#" in path:
        path = path.rpartition("#")[0]
    return path


def tables_of(collection: Collection) -> dict[Format, TableFormat]:
    declared = collection.settings.source.tables
    column = collection.settings.partitions.column
    tables: dict[Format, TableFormat] = {}
    for name in TABLE_FORMATS:
        table = declared.get(name)
        tables[name] = TableFormat(
            key=table.key if table else None,
            text=table.text if table else (),
            title=table.title if table else None,
            partition=column,
        )
    return tables


def stored_listing(collection: str, lake: Lake) -> Listing | None:
    """The last observation."""
    manifest = lake.manifest(collection, "source_files", ALL)
    return None if manifest is None else _listing(lake, manifest)


def _listing(lake: Lake, manifest: Manifest) -> Listing:
    return Listing(tuple(ListingEntry(**row) for row in lake.read(manifest).to_pylist()))


def unassigned_files(collection: str, lake: Lake) -> int:
    """How many files of the last observation belong to no partition; they are not read one by one."""
    manifest = lake.manifest(collection, "source_files", ALL)
    if manifest is None:
        return 0
    if "unassigned" in manifest.stats:
        return int(manifest.stats["unassigned"])
    return int(lake.read(manifest, ["partition"]).column("partition").null_count)  # an earlier version observed


def observe(collection: Collection, lake: Lake, state: StateStore) -> Listing:
    """Look at the source, remember what was seen, and give it back."""
    manifest = lake.manifest(collection.name, "source_files", ALL)
    previous = None if manifest is None else _listing(lake, manifest)
    listing = look(collection, previous)
    if manifest is None or listing != previous or _shown_version(state, collection.name) != manifest.version:
        _remember(collection, lake, state, listing)
    return listing


def look(collection: Collection, previous: Listing | None) -> Listing:
    """The source as it is now; only files that changed since `previous` are read, and nothing is remembered."""
    source = Source.at(collection.source_path)
    settings = collection.settings.source
    known: dict[str, list[ListingEntry]] = defaultdict(list)
    for entry in previous.entries if previous else ():
        known[entry.path].append(entry)
    entries: list[ListingEntry] = []
    with Parser(limits_of(collection)) as parser:
        for file in source.list(settings.include, settings.exclude):
            before = known.get(file.path, [])
            if before and all(_unchanged(entry, file) and _same_place(collection, entry) for entry in before):
                entries += [replace(entry, duplicate_of=None) for entry in before]
            else:
                entries += _look_at(collection, source, parser, file)
    return Listing(tuple(_link_duplicates(entries)))


def _shown_version(state: StateStore, collection: str) -> str | None:
    """Of the last observation that the state store shows: an earlier one, if a writer died half way."""
    with state.read() as connection:
        query = sa.text("SELECT version FROM listing_versions WHERE collection = :c")
        found: str | None = connection.execute(query, {"c": collection}).scalar_one_or_none()
    return found


def listed_digests(connection: sa.Connection, collection: str) -> dict[str, str]:
    """By partition that has files, as last observed."""
    query = sa.text("SELECT partition, digest FROM listings WHERE collection = :c")
    return {row.partition: row.digest for row in connection.execute(query, {"c": collection})}


def _unchanged(entry: ListingEntry, file: SourceFile) -> bool:
    return (
        (entry.size, entry.modified_ns) == (file.size, file.modified_ns)
        and (entry.problem is None or entry.problem == file.problem or file.problem is None)
        and (file.problem is None or entry.problem == file.problem)
        and file.modified_ns < entry.hashed_ns - RACY_NS
    )


def _same_place(collection: Collection, entry: ListingEntry) -> bool:
    """Whether the partition settings still put the entry where it was."""
    if entry.per_row != (_is_table(entry.path) and collection.scheme.per_row):
        return False
    if entry.per_row:
        return entry.partition in set(collection.scheme.keys()) if entry.partition else False
    return entry.partition == _place(collection, entry.path)[0]


def _is_table(path: str) -> bool:
    return format_of(path) in TABLE_FORMATS


def _place(collection: Collection, path: str) -> tuple[str | None, str | None]:
    try:
        return collection.scheme.key_for(path), None
    except Unassigned as reason:
        return None, str(reason)


def _look_at(collection: Collection, source: Source, parser: Parser, file: SourceFile) -> Iterator[ListingEntry]:
    hashed_ns = time.time_ns()
    base = ListingEntry(
        path=file.path, partition=None, size=file.size, modified_ns=file.modified_ns, hashed_ns=hashed_ns, digest=""
    )
    if file.problem is None and _is_table(file.path) and collection.scheme.per_row:
        yield from _look_at_rows(collection, source, parser, file, base)
        return
    partition, problem = _place(collection, file.path)
    if file.problem is not None or (file.size > collection.settings.source.max_bytes and not _is_table(file.path)):
        content = f"{UNREAD}{file.size}:{file.modified_ns}:{file.problem}"
    else:
        try:
            with source.open(file.path) as stream:
                content = _sha256(stream)
        except OSError as error:
            yield _unread(file, base, partition, problem, error)
            return
    yield replace(base, partition=partition, digest=content, problem=file.problem or problem)


def _unread(
    file: SourceFile, base: ListingEntry, partition: str | None, problem: str | None, error: OSError
) -> ListingEntry:
    """Looked at again by each observation, so that its partition is due as soon as it can be read."""
    found = f"could not be read: {error.strerror or error}"
    content = f"{UNREAD}{file.size}:{file.modified_ns}:{found}"
    return replace(base, partition=partition, digest=content, problem=problem or found, hashed_ns=0)


def _look_at_rows(
    collection: Collection, source: Source, parser: Parser, file: SourceFile, base: ListingEntry
) -> Iterator[ListingEntry]:
    rows: dict[str | None, list[str]] = defaultdict(list)
    reasons: dict[str | None, str] = {}
    for row in parser.parse(source, file, tables_of(collection)):
        partition: str | None
        try:
            partition = collection.scheme.key_for(file.path, row.same_as or row.row_key, row.row_partition)
        except Unassigned as reason:
            partition = None
            reasons[None] = f"row {row.row_key}: {reason}"
        rows[partition].append(row.source_digest)
    for partition, digests in sorted(rows.items(), key=lambda item: item[0] or ""):
        yield replace(
            base, partition=partition, digest=digest(sorted(digests)), problem=reasons.get(partition), per_row=True
        )


def _sha256(stream: BinaryIO) -> str:
    found = hashlib.sha256()
    while block := stream.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def _link_duplicates(entries: Iterable[ListingEntry]) -> Iterator[ListingEntry]:
    originals: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry.path, entry.partition or "")):
        whole_file = (
            entry.partition is not None and entry.problem is None and not _is_table(entry.path) and entry.size > 0
        )
        original = originals.setdefault(entry.digest, entry.path) if whole_file else entry.path
        yield replace(entry, duplicate_of=original) if original != entry.path else entry


def _remember(collection: Collection, lake: Lake, state: StateStore, listing: Listing) -> None:
    import pyarrow as pa

    schema = pa.schema(
        [
            ("path", pa.string()), ("partition", pa.string()), ("size", pa.int64()), ("modified_ns", pa.int64()),
            ("hashed_ns", pa.int64()), ("digest", pa.string()), ("problem", pa.string()),
            ("duplicate_of", pa.string()), ("per_row", pa.bool_()),
        ]
    )  # fmt: skip
    manifest = lake.commit(
        collection.name,
        "source_files",
        ALL,
        pa.Table.from_batches([rows_batch([vars(entry) for entry in listing.entries], schema)]),
        code_version="1",
        fingerprint="",
        inputs={},
        stats={"unassigned": len(listing.unassigned)},
        run_id="",
        fenced=contextlib.nullcontext,
    )
    observed = now()
    with state.write() as connection:
        before = listed_digests(connection, collection.name)
        gone = [key for key in before if key not in listing.by_partition]
        seen = {key: listing.digest_of(key) for key in listing.by_partition}
        changed = {key: digest for key, digest in seen.items() if digest != before.get(key)}
        if gone:
            connection.execute(
                sa.text("DELETE FROM listings WHERE collection = :c AND partition = :p"),
                [{"c": collection.name, "p": key} for key in gone],
            )
        if changed:
            connection.execute(
                sa.text(
                    "INSERT INTO listings VALUES (:c, :p, :d, :n, :at) ON CONFLICT (collection, partition) DO UPDATE "
                    "SET digest = excluded.digest, files = excluded.files, observed_at = excluded.observed_at"
                ),
                [
                    {"c": collection.name, "p": key, "d": digest, "n": len(listing.by_partition[key]), "at": observed}
                    for key, digest in changed.items()
                ],
            )
        partition_facts.derive(connection, collection.name, [*gone, *changed])
        upsert(connection, "listing_versions", {"collection": collection.name}, {"version": manifest.version})


def known_folders(state: StateStore, collection: str) -> list[str]:
    """Partitions the source was last seen to have, and those computed before: a folder that is gone has tombstones."""
    with state.read() as connection:
        return partition_facts.known_partitions(connection, collection)
