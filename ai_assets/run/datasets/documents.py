"""`documents`: one row per document, readable or not, with where it came from and why it was refused."""

import heapq
import sys
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.collection.builtins import since
from ai_assets.documents.by_document import Row
from ai_assets.documents.languages import language_sample
from ai_assets.documents.near_duplicates import NearDuplicates
from ai_assets.documents.parse import ParsedDocument
from ai_assets.documents.parse_ocr import OcrSpent
from ai_assets.documents.source import SourceFile
from ai_assets.documents.source_listing import UNREAD, ListingEntry, tables_of
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.unread import FileRetries
from ai_assets.storage.arrow_columns import column, numbers
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.lake import ROW_GROUP_ROWS, Manifest, parquet_columns
from ai_assets.storage.spool import Spool, repeated
from ai_assets.storage.state import now

if TYPE_CHECKING:
    from ai_assets.run.text_process import TextAnswer

COLUMNS = (
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "entry_digest", "source_digest", "digest",
    "title", "text", "language",
)  # fmt: skip
MADE_BY = "made_by"
NEAR = {"near_duplicate_of": "text", "similarity": "number"}
"""Columns of collections that declare `near_duplicates`."""
READ_BY, PAGES = "read_by", "pages"
"""Which library read a PDF, and where in its text each page begins (JSON). Rows of the first parser have neither."""
GUESSED = {"encoding": "text", "encoding_certainty": "number"}
SOME = {MADE_BY: "text", READ_BY: "text", PAGES: "text", **GUESSED}
"""Columns that a dataset has only if one of its rows says something in them: without them it is what it always was."""
SHOWN = {**GUESSED, **NEAR}
"""What of these people see of a candidate, and sign where there is something in it."""
LANGUAGES_AT_ONCE = 250
LANGUAGES_UNHEARD = 8
"""So many questions are under way; each holds the beginnings of its texts."""
NARROW = ("path", "status", "reason", "duplicate_of", "entry_digest", "digest")
"""What decides whether a row is taken over."""


class _Sample:
    """Some rows to show: the first that were quarantined, with their reasons, then the first others."""

    def __init__(self) -> None:
        self._refused: list[Row] = []
        self._others: list[Row] = []

    def see(self, row: Row) -> None:
        into = self._refused if row["status"] == "quarantined" else self._others
        if row["status"] != "deleted" and len(into) < PREVIEW_ROWS:
            into.append({name: row[name] for name in ("document_id", "status", "reason", "title", "language", "text")})

    @property
    def rows(self) -> list[Row]:
        """At most two fifths are quarantined ones, unless there are no others."""
        refused = self._refused[: max(2, PREVIEW_ROWS - len(self._others))]
        return [*refused, *self._others][:PREVIEW_ROWS]


def inputs_of(work: Work, partition: str) -> dict[str, str]:
    """The versions that the dataset is made from."""
    inputs = {"source_files": work.listing.digest_of(partition)}
    if work.forgotten.version is not None:
        inputs["forgotten"] = work.forgotten.version
    return inputs


def build(work: Work, partition: str) -> Outcome:
    """Parse what is new or changed, keep the rest, and leave a tombstone for what is gone."""
    started = time.perf_counter()
    inputs = inputs_of(work, partition)
    unread = FileRetries(work, partition)
    spent = OcrSpent() if work.parser.ocr is None else replace(work.parser.ocr.spent)
    if not unread.again and (same := work.unchanged("documents", partition, inputs)):
        return same
    previous = work.previous("documents", partition)
    cause = digest([previous.written_at if previous else "", work.fingerprint("documents", inputs)])
    kept = _kept_files(work, partition, previous, unread.again)
    counts = dict.fromkeys(("ok", "duplicate", "quarantined", "deleted"), 0)
    preview = _Sample()
    with work.spool("documents", partition) as spool:
        arrived = NewRows(work, spool)
        _read_files(work, partition, kept, arrived)
        digests, some = _of_kept(work, previous, kept)
        shared = repeated(digests + arrived.digests)
        history = History(work, partition, cause)
        rows = MergedRows(work.rows(previous) if previous else (), arrived, kept, shared)
        some |= arrived.some
        near = NearDuplicates(declared.at_least) if (declared := work.collection.settings.near_duplicates) else None
        with work.writing("documents", partition, _schema(some, near=near is not None)) as out:
            for before, found in rows:
                row = work.forgotten.withheld(found)
                if near is not None:
                    row = _near(near, row)
                out.append(row)
                history.tell(before, row)
                unread.see(row)
                counts[row["status"]] += 1
                preview.see(row)
        history.write()
    unread.record()
    return work.commit(
        "documents",
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=sum(counts.values()) - counts["deleted"],
        documents_out=counts["ok"],
        reused=rows.reused,
        quarantined=counts["quarantined"],
        preview=preview.rows,
        statuses=counts,
        **_ocr_stats(work, spent),
    )


def _ocr_stats(work: Work, before: OcrSpent) -> dict[str, Json]:
    """What reading scanned pages cost in this partition."""
    ocr = work.parser.ocr
    if ocr is None or ocr.spent.pages == before.pages:
        return {}
    return {
        "ocr_pages": ocr.spent.pages - before.pages,
        "ocr_seconds": round(ocr.spent.seconds - before.seconds, 1),
    }


# What was there, and what came


def _kept_files(
    work: Work, partition: str, previous: Manifest | None, again: Collection[str]
) -> Mapping[str, ListingEntry]:
    """Files whose rows are taken over, by path; those in `again` are read once more, as they could not be read."""
    if previous is None or previous.code_version != work.collection.code_versions["documents"]:
        return {}
    entries = {entry.path: entry for entry in work.listing.by_partition.get(partition, ())}
    found, stale = set(), set()
    for row in work.rows(previous, NARROW):
        entry = entries.get(row["path"])
        if entry is None or row["status"] == "deleted" or entry.path in again:
            continue
        if is_stale(entry, row):
            stale.add(entry.path)
        elif fits(entry, row):
            found.add(entry.path)
    return {path: entries[path] for path in found - stale}


def _read_files(work: Work, partition: str, kept: Mapping[str, ListingEntry], arrived: "NewRows") -> None:
    entries = work.listing.by_partition.get(partition, ())
    taken = 0
    for number, entry in enumerate(entries, start=1):
        if entry.path in kept:
            taken += 1
        else:
            if (gone := work.forgotten.documents.get(entry.path)) is not None:
                arrived.add(_bare(entry, "quarantined", gone.reason))
            elif entry.duplicate_of is not None:
                arrived.add(_bare(entry, "duplicate", None))
            elif entry.problem is not None:
                arrived.add(_bare(entry, "quarantined", entry.problem))
            else:
                for row in parsed_rows(work, partition, entry):
                    arrived.add(row)
        work.advance("documents", partition, number, len(entries), taken)


def _of_kept(work: Work, previous: Manifest | None, kept: Mapping[str, ListingEntry]) -> tuple[bytearray, set[str]]:
    """Digests of the texts of all rows that are taken over, and the columns of `SOME` that these need."""
    digests, some = bytearray(), set[str]()
    if previous is not None and kept:
        present = SOME.keys() & parquet_columns(work.stores.lake.path(previous))
        for row in work.rows(previous, [*NARROW, *sorted(present)]):
            if not _takes(kept, row):
                continue
            if row["digest"] is not None:
                digests += bytes.fromhex(row["digest"])
            some |= {name for name in present - some if row[name] is not None}
    return digests, some


def is_stale(entry: ListingEntry, row: Mapping[str, Any]) -> bool:
    """Whether a row shows that its file must be parsed again."""
    unread = row["status"] == "duplicate" and row["digest"] is None  # it was a copy of another file, and is no more
    return row["entry_digest"] != entry.digest or (unread and entry.duplicate_of is None and entry.problem is None)


def fits(entry: ListingEntry, row: Mapping[str, Any]) -> bool:
    """Whether a row says of a file that is not parsed what is to be said of it now."""
    if entry.duplicate_of is None and entry.problem is None:
        return True
    return bool(row["duplicate_of"] == entry.duplicate_of and row["reason"] == entry.problem)


def unlinked(entry: ListingEntry, row: Row) -> Row:
    """A row that is taken over, with links to other documents taken off (they are made anew)."""
    parsed = entry.duplicate_of is None and entry.problem is None
    return {**row, "status": "ok", "duplicate_of": None} if parsed and row["status"] == "duplicate" else row


def _takes(kept: Mapping[str, ListingEntry], row: Mapping[str, Any]) -> bool:
    return row["status"] != "deleted" and row["path"] in kept and fits(kept[row["path"]], row)


def kept_rows(entry: ListingEntry, rows: Sequence[Row]) -> list[Row]:
    """The rows of an unchanged file."""
    if any(is_stale(entry, row) for row in rows):
        return []
    return [unlinked(entry, row) for row in rows if fits(entry, row)]


class NewRows:
    """Rows that this run made, in order of their files; given back in order of their documents."""

    def __init__(self, work: Work, spool: Spool) -> None:
        self._work = work
        self._spool = spool
        self._names: list[str] = []
        self._blocks: list[Any] = []
        self.digests = bytearray()
        """Of their texts."""
        self.some: set[str] = set()
        """The columns of `SOME` that they need."""
        self._texts: list[str] = []
        self._asked: deque[TextAnswer[list[str | None]]] = deque()
        self._languages: list[str | None] = []
        """Of all rows, in the order in which they came."""

    def add(self, row: Row) -> None:
        self._spool.append_row(row)
        self.some |= {name for name in SOME if row.get(name) is not None}
        self._texts.append(language_sample(row["text"]))
        if len(self._texts) == LANGUAGES_AT_ONCE:
            self._ask()
        self._names.append(row["document_id"])
        if row["digest"] is not None:
            self.digests += bytes.fromhex(row["digest"])
        if len(self._names) == ROW_GROUP_ROWS:
            self._pack()

    def __iter__(self) -> Iterator[Row]:
        import numpy as np
        import pyarrow.compute as pc

        self._pack()
        self._ask()
        while self._asked:
            self._hear()
        for number in numbers(pc.sort_indices(_joined(self._blocks)), np.uint64):
            yield {**self._spool.row(int(number)), "language": self._languages[number]}

    def _ask(self) -> None:
        """Their languages are told while the next files are read."""
        self._asked.append(self._work.texts.languages(self._texts))
        self._texts = []
        if len(self._asked) > LANGUAGES_UNHEARD:
            self._hear()

    def _hear(self) -> None:
        with self._work.waiting():
            found = self._asked.popleft().result()
        self._languages += [language and sys.intern(language) for language in found]

    def _pack(self) -> None:
        """As Arrow's texts, names take a third of what they take as Python's."""
        import pyarrow as pa

        self._blocks.append(column(self._names, pa.string()))
        self._names = []


def _joined(blocks: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.chunked_array(blocks, pa.string())


class MergedRows:
    """All rows in order of their documents, each with what was known of it, linked to others with the same text."""

    def __init__(
        self, before: Iterable[Row], arrived: Iterable[Row], kept: Mapping[str, ListingEntry], shared: Collection[str]
    ) -> None:
        self._before, self._arrived, self._kept = before, arrived, kept
        self._shared = shared
        self._originals: dict[str, str] = {}
        """By the digests that several documents share, the first document by name."""
        self.reused = 0

    def __iter__(self) -> Iterator[tuple[Row | None, Row]]:
        tagged = [((row, False) for row in self._before), ((row, True) for row in self._arrived)]
        for _, group in groupby(heapq.merge(*tagged, key=_name), key=_name):
            known: Row | None = None
            rows: list[Row] = []
            tombstones: list[Row] = []
            for row, new in group:
                if new:
                    rows.append(row)
                    continue
                known = row
                if _takes(self._kept, row):
                    self.reused += 1
                    rows.append(unlinked(self._kept[row["path"]], row))
                tombstones.append({**row, "status": "deleted", "reason": None, "duplicate_of": None, "text": ""})
            rows.sort(key=itemgetter("path"))  # a file may be named like a row of another
            for row in rows:
                self._link(row)
            for row in rows or tombstones:
                yield known, row

    def _link(self, row: Row) -> None:
        if row["status"] == "ok" and row["digest"] in self._shared:
            original = self._originals.setdefault(row["digest"], row["document_id"])
            if original != row["document_id"]:
                row.update(status="duplicate", duplicate_of=original)


def _near(near: NearDuplicates, row: Row) -> Row:
    """Rows come in order of their documents, whatever their files and whichever of them are new."""
    found = near.link(row["document_id"], row["text"]) if row["status"] == "ok" else None
    return {
        **row,
        "near_duplicate_of": found.of if found else None,
        "similarity": found.similarity if found else None,
    }


def _name(tagged: tuple[Row, bool]) -> str:
    return str(tagged[0]["document_id"])


def parsed_rows(work: Work, partition: str, entry: ListingEntry) -> Iterator[Row]:
    """Without their languages, which a run is told of many texts at a time."""
    scheme = work.collection.scheme

    def belongs(row_key: str, row_value: str | None) -> bool:
        return scheme.row_belongs(partition, entry.path, row_key, row_value)

    file = SourceFile(path=entry.path, size=entry.size, modified_ns=entry.modified_ns)
    parsed = work.parser.parse(work.source, file, tables_of(work.collection), belongs if entry.per_row else None)
    newer = since("parser", work.collection.settings.builtins.parser)[1:]
    return (_row(entry, item, newer) for item in parsed)


def _row(entry: ListingEntry, item: ParsedDocument, newer: Collection[str]) -> Row:
    return {
        "document_id": item.document_id,
        "path": item.path,
        "row_key": item.row_key,
        "status": item.status,
        "reason": item.reason,
        "duplicate_of": None,
        "entry_digest": entry.digest,
        "source_digest": item.source_digest,
        "digest": item.digest,
        "title": item.title,
        "text": item.text,
        "language": item.language,
        READ_BY: item.read_by,
        PAGES: canonical_json(list(item.pages)) if item.pages else None,
        MADE_BY: item.since if item.since in newer else None,
        "encoding": item.encoding,
        "encoding_certainty": item.certainty,
    }


def _bare(entry: ListingEntry, status: str, reason: str | None) -> Row:
    """A row for a file that is not parsed."""
    return {
        **dict.fromkeys(COLUMNS),
        "document_id": entry.path,
        "path": entry.path,
        "status": status,
        "reason": reason,
        "duplicate_of": entry.duplicate_of,
        "entry_digest": entry.digest,
        "source_digest": None if entry.digest.startswith(UNREAD) else entry.digest,
        "text": "",
    }


def link_same_text(rows: list[Row]) -> None:
    """Within the partition, the first document by name is the original of all with the same normalised text."""
    originals: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: str(row["document_id"])):
        if row["status"] == "ok":
            original = originals.setdefault(row["digest"], row["document_id"])
            if original != row["document_id"]:
                row.update(status="duplicate", duplicate_of=original)


def link_near(work: Work, rows: list[Row]) -> list[Row]:
    """As a run would, where near duplicates are declared."""
    declared = work.collection.settings.near_duplicates
    if declared is None:
        return rows
    near = NearDuplicates(declared.at_least)
    return [_near(near, row) for row in sorted(rows, key=lambda row: str(row["document_id"]))]


# History


class History:
    """One line for each document that appeared, changed, broke or went. Repeating it after a crash adds nothing."""

    def __init__(self, work: Work, partition: str, cause: str) -> None:
        self._work, self._partition, self._cause = work, partition, cause
        self._at = now()
        self._events: list[dict[str, Any]] = []

    def tell(self, before: Row | None, row: Row) -> None:
        told = ("status", "digest", "reason")
        if before and all(before[name] == row[name] for name in told):
            return
        if row["status"] in ("deleted", "quarantined", "duplicate"):
            event = row["status"]
        else:
            event = "added" if before is None or before["status"] == "deleted" else "changed"
        self._events.append(
            {
                "collection": self._work.collection.name, "document_id": row["document_id"],
                "partition": self._partition, "event": event, "digest": row["digest"],
                "reason": row["reason"] or row["duplicate_of"], "run_id": self._work.run_id, "happened_at": self._at,
                "cause": self._cause,
            }
        )  # fmt: skip
        if len(self._events) == ROW_GROUP_ROWS:
            self.write()

    def write(self) -> None:
        events, self._events = self._events, []
        if events:
            with self._work.fenced() as connection:
                connection.execute(
                    sa.text(
                        "INSERT INTO document_history VALUES (:collection, :document_id, :partition, :event, :digest, "
                        ":reason, :run_id, :happened_at, :cause) ON CONFLICT DO NOTHING"
                    ),
                    events,
                )


def _schema(some: Collection[str], *, near: bool) -> Any:
    """`made_by` is empty where the declared version of the parser makes the same row."""
    import pyarrow as pa

    types = {"text": pa.string(), "number": pa.float64()}
    more = {name: kind for name, kind in SOME.items() if name in some} | (NEAR if near else {})
    return pa.schema([(name, pa.string()) for name in COLUMNS] + [(name, types[kind]) for name, kind in more.items()])


def versions_of(documents: Manifest, earlier: Mapping[str, Manifest]) -> dict[str, str]:
    """The versions of what an asset is made from: the documents, and by name the stages that it reads."""
    return {"documents": documents.version, **{stage: manifest.version for stage, manifest in earlier.items()}}


def ok_rows(work: Work, manifest: Manifest, columns: Sequence[str]) -> Iterator[Row]:
    """The documents that can be worked on, in order of their identity."""
    for row in work.rows(manifest, [*columns, "status"]):
        if row.pop("status") == "ok":
            yield row
