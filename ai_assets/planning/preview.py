"""A bench at which nothing is made: the source is looked at, and documents are read, without remembering any of it."""

import random
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from ai_assets.documents.languages import language_of
from ai_assets.documents.source_listing import Listing, ListingEntry, look, stored_listing
from ai_assets.run.context import Work
from ai_assets.run.datasets.documents import inputs_of, kept_rows, link_near, link_same_text, ok_rows, parsed_rows
from ai_assets.run.datasets.llm_stage import asked_of
from ai_assets.stages.llm import PromptDocument
from ai_assets.storage.lake import Manifest

READ_AHEAD = 100
"""So many new or changed files are parsed to plan; the others are estimated from them, by their bytes."""
Row = dict[str, Any]


class PreviewWork(Work):
    """The same view of the collection as a run has, of the source as it is now."""

    @cached_property
    def listing(self) -> Listing:
        return look(self.collection, stored_listing(self.collection.name, self.stores.lake))


@dataclass(frozen=True, kw_only=True)
class UnreadFiles:
    """Files whose documents are not known yet."""

    files: int = 0
    documents: float = 0.0
    text_bytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The documents of a partition as a run would find them."""

    documents: Sequence[PromptDocument]
    statuses: Mapping[str, int]
    unread: UnreadFiles


def current_documents(work: Work, partition: str) -> Manifest | None:
    """The dataset `documents`, where a run would leave it as it is."""
    same = work.unchanged("documents", partition, inputs_of(work, partition))
    return same.manifest if same else None


def documents_of(work: Work, manifest: Manifest) -> list[PromptDocument]:
    return [PromptDocument(**row) for row in ok_rows(work, manifest, asked_of(work))]


def changed_files(work: Work, partition: str) -> list[ListingEntry]:
    """Files that a run would parse."""
    known = {row["path"]: row["entry_digest"] for row in _previous(work, partition, ["path", "entry_digest", "status"])}
    entries = work.listing.by_partition.get(partition, ())
    return [
        entry
        for entry in entries
        if entry.problem is None
        and entry.duplicate_of is None
        and known.get(entry.path) != entry.digest
        and entry.path not in work.forgotten.documents
    ]


def chosen_to_read(changed: Mapping[str, Sequence[ListingEntry]]) -> frozenset[tuple[str, str]]:
    """Partition and path of the files to parse: all of a few, else a sample that is the same each time."""
    every = sorted((partition, entry.path) for partition, entries in changed.items() for entry in entries)
    if len(every) <= READ_AHEAD:
        return frozenset(every)
    seed = zlib.crc32("\n".join(path for _, path in every).encode("utf-8", "surrogatepass"))
    return frozenset(random.Random(seed).sample(every, READ_AHEAD))


@dataclass(kw_only=True)
class Yield:
    """What parsed files came to, by the ending of their names: documents and bytes of text."""

    files: int = 0
    bytes: int = 0
    documents: int = 0
    text_bytes: int = 0


class ReadAhead:
    """Parses the chosen files once and says what the others are likely to hold."""

    def __init__(self, work: Work, changed: Mapping[str, Sequence[ListingEntry]]) -> None:
        self._work = work
        self._chosen = chosen_to_read(changed)
        self.unread = sum(map(len, changed.values())) - len(self._chosen)
        self._rows: dict[tuple[str, str], list[Row]] = {}
        self._yields: dict[str, Yield] = defaultdict(Yield)
        for partition, entries in changed.items():
            for entry in entries:
                if (partition, entry.path) in self._chosen:
                    self._read(partition, entry)

    @property
    def files(self) -> int:
        """How many were read."""
        return len(self._rows)

    def _read(self, partition: str, entry: ListingEntry) -> None:
        parsed = parsed_rows(self._work, partition, entry)
        rows = [{**row, "language": language_of(row["text"])} for row in parsed]
        self._rows[partition, entry.path] = rows
        good = [row for row in rows if row["status"] == "ok"]
        for found in (self._yields[_ending(entry)], self._yields[""]):
            found.files += 1
            found.bytes += entry.size
            found.documents += len(good)
            found.text_bytes += sum(len(row["text"].encode("utf-8", "surrogatepass")) for row in good)

    def texts(self, partition: str) -> Texts:
        """Kept rows and those read here, linked as a run would link them, and what is left to guess."""
        previous = defaultdict(list)
        for row in _previous(self._work, partition):
            previous[row["path"]].append(row)
        rows: list[Row] = []
        counts: dict[str, int] = defaultdict(int)
        unread = UnreadFiles()
        for entry in self._work.listing.by_partition.get(partition, ()):
            if found := kept_rows(entry, previous[entry.path]):
                rows += found
            elif entry.path in self._work.forgotten.documents:
                counts["quarantined"] += 1
            elif entry.duplicate_of is not None:
                counts["duplicate"] += 1
            elif entry.problem is not None:
                counts["quarantined"] += 1
            elif (partition, entry.path) in self._rows:
                rows += [dict(row) for row in self._rows[partition, entry.path]]
            else:
                unread = self._guess(entry, unread)
        link_same_text(rows)
        rows = link_near(self._work, [self._work.forgotten.withheld(row) for row in rows])
        for row in rows:
            counts[row["status"]] += 1
        documents = [
            PromptDocument(**{name: row[name] for name in asked_of(self._work)})
            for row in rows
            if row["status"] == "ok"
        ]
        documents.sort(key=lambda document: document.document_id)
        return Texts(documents=documents, statuses=counts, unread=unread)

    def _guess(self, entry: ListingEntry, so_far: UnreadFiles) -> UnreadFiles:
        found = self._yields.get(_ending(entry)) or self._yields.get("") or Yield()
        per_byte = found.text_bytes / found.bytes if found.bytes else 1.0
        # Rows of a table are documents, and there are the more of them the larger it is.
        documents = found.documents * entry.size / found.bytes if found.documents > found.files else None
        each = found.documents / found.files if found.files else 1.0
        return UnreadFiles(
            files=so_far.files + 1,
            documents=so_far.documents + (each if documents is None else documents),
            text_bytes=so_far.text_bytes + entry.size * per_byte,
        )


def _ending(entry: ListingEntry) -> str:
    return PurePosixPath(entry.path).suffix.lower() or "."


def _previous(work: Work, partition: str, columns: list[str] | None = None) -> list[Row]:
    """Rows that a run could take over."""
    previous = work.previous("documents", partition)
    if previous is None or previous.code_version != work.collection.code_versions["documents"]:
        return []
    rows: list[Row] = work.read(previous, columns).to_pylist()
    return [row for row in rows if row["status"] != "deleted"]
