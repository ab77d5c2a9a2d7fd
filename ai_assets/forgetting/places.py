"""Where the text of a document lies: what `ai-assets forget` shows before it erases, and works through."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.documents.by_document import Row
from ai_assets.retention import holds
from ai_assets.signoff import forgotten, releases, requests
from ai_assets.signoff.errors import DocumentUnknown
from ai_assets.signoff.forgotten import Register
from ai_assets.signoff.releases import Release
from ai_assets.storage.lake import read_rows
from ai_assets.storage.stores import Stores

SNAPSHOTS = "release_snapshots"


@dataclass(kw_only=True)
class DocumentTraces:
    document: str
    partitions: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    leaves: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Places:
    """All that holds the text, or may."""

    documents: Mapping[str, DocumentTraces]
    """The one that was asked for, and those with the same text."""
    once_alike: frozenset[str]
    """Others that had the same text once, and have another one now: what was said of them then shows it, too."""
    live: Release | None
    live_holds: bool
    """Whether the live release holds the text, beside what its index may have deleted."""
    older: Sequence[Release]
    """Other releases that hold it. They cannot be gone back to afterwards."""
    requests: Sequence[requests.SignoffRequest]
    """Whose differences show it."""
    calls: Sequence[str]
    """Keys of paid calls about it alone."""
    examples: Sequence[str]
    """Prompts and golden data of the collection that name it: for a person to edit."""
    holds: Sequence[holds.Hold]

    @property
    def partitions(self) -> list[str]:
        return sorted({partition for found in self.documents.values() for partition in found.partitions})


def find(stores: Stores, collection: Collection, document: str) -> Places:
    """Raises `DocumentUnknown`, with near names."""
    name = collection.name
    with stores.state.read() as connection:
        known = _documents(connection, name, document)
        gone = forgotten.of(connection, name)
        kept = [r for r in releases.find(connection, name) if r.number not in releases.pruned(connection, name)]
        live = releases.live(connection, name)
        every = requests.find(connection, name)
        found = {each: DocumentTraces(document=each) for each in known}
        for row in _history(connection, name, list(known)):
            found[row.document_id].partitions.add(row.partition)
            if row.digest:
                found[row.document_id].digests.add(row.digest)
        calls = _calls(connection, name, list(known))
        alike = frozenset(other for other, _, _ in _once_alike(connection, name, list(known)))
        in_force = [hold for hold in holds.current(connection) if hold.collection == name]
    holding = [release for release in kept if _holds(stores, release, found, gone)]
    older = [release for release in holding if live is None or release.number != live.number]
    held = {release.number for release in holding}
    _add_leaves(stores, name, found, gone)
    return Places(
        documents=found,
        once_alike=alike,
        live=live,
        live_holds=len(holding) > len(older),
        older=older,
        requests=[request for request in every if any(shows(request.summary, each) for each in {*found, *alike})],
        calls=calls,
        examples=_examples(collection, found),
        holds=[hold for hold in in_force if hold.release is None or hold.release in held],
    )


def _documents(connection: sa.Connection, collection: str, document: str) -> set[str]:
    query = sa.text("SELECT document_id, digest FROM document_history WHERE collection = :c ORDER BY happened_at")
    rows = connection.execute(query, {"c": collection}).all()
    names = {row.document_id for row in rows}
    if document not in names:
        near = difflib.get_close_matches(document, sorted(names), n=3)
        raise DocumentUnknown(collection, document, f"; near it: {', '.join(near)}" if near else "")
    digests = {row.digest for row in rows if row.document_id == document and row.digest}
    latest = {row.document_id: row.digest for row in rows}
    return {document, *(name for name, newest in latest.items() if newest in digests)}


def _history(connection: sa.Connection, collection: str, documents: Sequence[str]) -> Sequence[Any]:
    query = sa.text(
        "SELECT document_id, partition, digest FROM document_history WHERE collection = :c AND document_id IN :d"
    ).bindparams(sa.bindparam("d", type_=sa.Text, expanding=True))
    return connection.execute(query, {"c": collection, "d": documents}).all()


def _once_alike(connection: sa.Connection, collection: str, documents: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Other documents that had a text of these once: which, from when, and until when."""
    query = sa.text(
        "SELECT document_id, digest, happened_at FROM document_history WHERE collection = :c "
        "ORDER BY document_id, happened_at"
    )
    rows = connection.execute(query, {"c": collection}).all()
    digests = {row.digest for row in rows if row.document_id in documents and row.digest}
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        if row.document_id not in documents and row.digest in digests:
            changed = following if following is not None and following.document_id == row.document_id else None
            yield row.document_id, row.happened_at, "9" if changed is None else changed.happened_at


_MEANWHILE = """
SELECT attempts.call_key FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id
WHERE callers.collection = :c AND attempts.document = :document AND attempts.sent_at >= :since
AND attempts.sent_at < :until"""
_CALLS = """
SELECT attempts.call_key FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id
WHERE callers.collection = :c AND attempts.document IN :d
UNION SELECT attempts.call_key FROM reuses JOIN callers ON callers.caller_id = reuses.caller_id
JOIN attempts ON attempts.attempt_id = reuses.attempt_id
WHERE callers.collection = :c AND reuses.document IN :d"""
_SHARED = """
SELECT attempts.call_key FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id
WHERE attempts.kind = 'embed' AND (callers.collection <> :c OR attempts.document NOT IN :d)
UNION SELECT attempts.call_key FROM reuses JOIN callers ON callers.caller_id = reuses.caller_id
JOIN attempts ON attempts.attempt_id = reuses.attempt_id
WHERE attempts.kind = 'embed' AND (callers.collection <> :c OR reuses.document NOT IN :d)"""
"""Vectors of passages that other documents have, too: those stay."""


def _calls(connection: sa.Connection, collection: str, documents: Sequence[str]) -> list[str]:
    given = {"c": collection, "d": documents}
    mine = sa.text(_CALLS).bindparams(sa.bindparam("d", type_=sa.Text, expanding=True))
    shared = sa.text(_SHARED).bindparams(sa.bindparam("d", type_=sa.Text, expanding=True))
    found: set[str] = set(connection.execute(mine, given).scalars())
    for document, since, until in _once_alike(connection, collection, documents):
        when = {"c": collection, "document": document, "since": since, "until": until}
        found.update(connection.execute(sa.text(_MEANWHILE), when).scalars())
    return sorted(found - set(connection.execute(shared, given).scalars()))


def shows(summary: str, document: str) -> bool:
    """Whether the differences of a request say more of the document than its name."""
    return any(document in told["relabelled"] for told in differences(json.loads(summary)))


def differences(summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a request says of documents: against the live release, and against the request before."""
    for told in (summary, summary.get("since_last") or {}):
        if "relabelled" in told:
            yield told


def frozen(stores: Stores, collection: str, partition: str) -> Iterator[tuple[Path, bool]]:
    """Files of releases and candidates of a partition, and whether each holds documents (or chunks)."""
    folder = stores.lake.folder(collection, SNAPSHOTS, partition)
    for path in stores.lake.files(folder):
        yield path, "leaf" in column_names(path)


def column_names(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def _holds(stores: Stores, release: Release, documents: Mapping[str, DocumentTraces], gone: Register) -> bool:
    for partition, part in release.parts.items():
        if any(partition in found.partitions for found in documents.values()):
            folder = stores.lake.folder(release.collection, SNAPSHOTS, partition)
            path = stores.lake.bring(folder / part.documents_file)
            if path.is_file() and any(True for _ in _texts(read_rows(path), documents, gone)):
                return True
    return False


def _texts(rows: Iterable[Row], documents: Mapping[str, DocumentTraces], gone: Register) -> Iterator[Row]:
    """Rows that are of these documents, or hold a text of theirs under another name, and no tombstones."""
    digests = {digest for found in documents.values() for digest in found.digests}
    return (
        row for row in rows
        if (row["document_id"] in documents or row.get("digest") in digests) and gone.leaf(row) is None
    )  # fmt: skip


def _add_leaves(stores: Stores, collection: str, documents: Mapping[str, DocumentTraces], gone: Register) -> None:
    """Of everything that was frozen and is still there."""
    for partition in {each for found in documents.values() for each in found.partitions}:
        for path, holds_documents in frozen(stores, collection, partition):
            if holds_documents:
                for row in read_rows(path, ["document_id", "status", "leaf"]):
                    if row["document_id"] in documents and gone.leaf(row) is None:
                        documents[row["document_id"]].leaves.add(row["leaf"])


def _examples(collection: Collection, documents: Mapping[str, DocumentTraces]) -> list[str]:
    shown = [f"{stage} shows {name} as an example" for stage, question in collection.questions.items()
             for name in (item.document for item in question.examples) if name in documents]  # fmt: skip
    return shown
