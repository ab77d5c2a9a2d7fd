"""`documents`: one row per document, readable or not, with where it came from and why it was refused."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.datasets import unread
from ai_assets.listing import UNREAD, Entry, tables_of
from ai_assets.stages.parse import Parsed
from ai_assets.work import Outcome, Work
from resources.digest import digest
from resources.lake import Manifest
from resources.source import SourceFile
from resources.state import now

Row = dict[str, Any]
COLUMNS = (
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "entry_digest", "source_digest", "digest",
    "title", "text", "language",
)  # fmt: skip


def build(work: Work, partition: str) -> Outcome:
    """Parse what is new or changed, keep the rest, and leave a tombstone for what is gone."""
    started = time.perf_counter()
    inputs = {"source_files": work.listing.digest_of(partition)}
    again = unread.to_read_again(work, partition)
    if not again and (same := work.unchanged("documents", partition, inputs)):
        return same
    previous = work.previous("documents", partition)
    before: list[Row] = work.read(previous).to_pylist() if previous else []
    reusable = before if previous and previous.code_version == work.collection.code_versions["documents"] else []
    rows, reused = _rows(work, partition, [row for row in reusable if row["document_id"] not in again])
    link_same_text(rows)
    rows += _tombstones(before, rows)
    rows.sort(key=lambda row: str(row["document_id"]))
    kept = [row for row in rows if row["status"] != "deleted"]
    cause = digest([previous.written_at if previous else "", work.fingerprint("documents", inputs)])
    _record_history(work, partition, cause, before, rows)
    unread.record(work, partition, rows, again)
    counts = {
        status: sum(row["status"] == status for row in rows) for status in ("ok", "duplicate", "quarantined", "deleted")
    }
    return work.commit(
        "documents",
        partition,
        _table(rows),
        inputs,
        started=started,
        documents_in=len(kept),
        documents_out=counts["ok"],
        reused=reused,
        quarantined=counts["quarantined"],
        preview=[{k: row[k] for k in ("document_id", "status", "title", "language", "text")} for row in kept],
        statuses=counts,
    )


def _rows(work: Work, partition: str, reusable: Sequence[Row]) -> tuple[list[Row], int]:
    known: dict[str, list[Row]] = defaultdict(list)
    for row in reusable:
        if row["status"] != "deleted":
            known[row["path"]].append(row)
    entries = work.listing.by_partition.get(partition, ())
    rows: list[Row] = []
    reused = 0
    for number, entry in enumerate(entries, start=1):
        if found := kept_rows(entry, known[entry.path]):
            rows += found
            reused += len(found)
        elif entry.duplicate_of is not None:
            rows.append(_bare(entry, "duplicate", None))
        elif entry.problem is not None:
            rows.append(_bare(entry, "quarantined", entry.problem))
        else:
            rows += parsed_rows(work, partition, entry)
        work.advance("documents", partition, number, len(entries))
    return rows, reused


def kept_rows(entry: Entry, rows: Sequence[Row]) -> list[Row]:
    """The rows of an unchanged file, with links to other documents taken off (they are made anew)."""
    if not rows or any(row["entry_digest"] != entry.digest for row in rows):
        return []
    if entry.duplicate_of is not None or entry.problem is not None:
        return [row for row in rows if row["duplicate_of"] == entry.duplicate_of and row["reason"] == entry.problem]
    if any(row["status"] == "duplicate" and not row["text"] for row in rows):
        return []
    return [{**row, "status": "ok", "duplicate_of": None} if row["status"] == "duplicate" else row for row in rows]


def parsed_rows(work: Work, partition: str, entry: Entry) -> list[Row]:
    scheme = work.collection.scheme

    def belongs(row_key: str, row_value: str | None) -> bool:
        return scheme.row_belongs(partition, entry.path, row_key, row_value)

    file = SourceFile(path=entry.path, size=entry.size, modified_ns=entry.modified_ns)
    parsed = work.parser.parse(work.source, file, tables_of(work.collection), belongs if entry.per_row else None)
    return [_row(entry, item) for item in parsed]


def _row(entry: Entry, item: Parsed) -> Row:
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
    }


def _bare(entry: Entry, status: str, reason: str | None) -> Row:
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


def _tombstones(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    present = {row["document_id"] for row in rows}
    return [
        {**row, "status": "deleted", "reason": None, "duplicate_of": None, "text": ""}
        for row in before
        if row["document_id"] not in present
    ]


def _record_history(work: Work, partition: str, cause: str, before: Sequence[Row], rows: Sequence[Row]) -> None:
    """One line for each document that appeared, changed, broke or went. Repeating it after a crash adds nothing."""
    known: Mapping[str, Row] = {row["document_id"]: row for row in before}
    events = []
    for row in rows:
        old = known.get(row["document_id"])
        if old and (old["status"], old["digest"], old["reason"]) == (row["status"], row["digest"], row["reason"]):
            continue
        if row["status"] in ("deleted", "quarantined", "duplicate"):
            event = row["status"]
        else:
            event = "added" if old is None or old["status"] == "deleted" else "changed"
        events.append(
            {
                "collection": work.collection.name, "document_id": row["document_id"], "partition": partition,
                "event": event, "digest": row["digest"], "reason": row["reason"] or row["duplicate_of"],
                "run_id": work.run_id, "happened_at": now(), "cause": cause,
            }
        )  # fmt: skip
    if events:
        with work.fenced() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO document_history VALUES (:collection, :document_id, :partition, :event, :digest, "
                    ":reason, :run_id, :happened_at, :cause) ON CONFLICT DO NOTHING"
                ),
                events,
            )


def _table(rows: Sequence[Row]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema=pa.schema([(name, pa.string()) for name in COLUMNS]))


def ok_rows(work: Work, manifest: Manifest, columns: Sequence[str]) -> list[Row]:
    """The documents that can be worked on, in order of their identity."""
    import pyarrow.compute as pc

    table = work.read(manifest, [*columns, "status"])
    rows: list[Row] = table.filter(pc.equal(table["status"], "ok")).select(list(columns)).to_pylist()
    return rows
