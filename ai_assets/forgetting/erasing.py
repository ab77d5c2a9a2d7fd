"""Erasing what `places.find` found. Every step may be repeated: killed anywhere, the next call finishes.

First the signed record, from which on no run reads the text again; then the live release with tombstones, older ones,
the lake, the indexes, the state store, Dagster's events; last the free pages of the databases.
"""

import json
import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.folders import files_below
from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.forgetting.places import SNAPSHOTS, Places, differences, find, frozen
from ai_assets.run.datasets.rankings import forget_answers
from ai_assets.run.going_live import publish
from ai_assets.run.rerank_scores import forget_scores
from ai_assets.signoff import audit, forgotten, live_index, releases
from ai_assets.signoff.candidate import content_of_files
from ai_assets.signoff.drifting import forget_profiles
from ai_assets.signoff.forgotten import STATUS, Register
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Part, Release
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.lake import parquet_rows, read_batches, read_rows, writing_rows
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

Say = Callable[[str], None]
ERASED = "(forgotten)"


class UnderLegalHold(UserError):
    def __init__(self, collection: str, document: str, hold: str) -> None:
        super().__init__(
            f"{document} of {collection} cannot be forgotten: {hold}. Nothing was erased. Lift it first: ai-assets "
            f"retention release-hold {collection}"
        )


class ShownByPrompt(UserError):
    def __init__(self, collection: str, document: str, shown: Sequence[str]) -> None:
        super().__init__(
            f"{document} of {collection} cannot be forgotten while prompts show it: {'; '.join(shown)}. Nothing was "
            "erased. Take it out of `examples` in defs.yaml first."
        )


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was erased where, in words."""

    where: str
    what: str


def forget(
    stores: Stores, collection: Collection, document: str, *, by: Person, reason: str, say: Say = lambda _line: None
) -> list[Erasure]:
    """Erase the text of the document, and of those that have the same text."""
    found = find(stores, collection, document)
    if found.examples:
        raise ShownByPrompt(collection.name, document, found.examples)
    if found.holds:
        first = found.holds[0]
        where = "all of it" if first.release is None else f"release {first.release}"
        raise UnderLegalHold(collection.name, document, f"{first.by} placed a hold on {where} ({first.reason})")
    done: list[Erasure] = []
    with ExitStack() as held:
        for partition in found.partitions:
            held.enter_context(hold(stores.state, f"refresh:{collection.name}:{partition}", say=say))
        say("recording who asked, and why")
        _record(stores, collection.name, found, document, by=by, reason=reason)
        gone = _register(stores, collection.name)
        say("releases")
        done += _release(stores, collection, found, gone, by=by, say=say)
        say("lake")
        done += _lake(stores, collection.name, found)
        if number := forget_profiles(stores, collection.name):
            done.append(Erasure(where="drift", what=f"{plural(number, 'profile')} with vectors, to be made again"))
        with hold(stores.state, f"publish:{collection.name}", say=say):
            done += _snapshots(stores, collection.name, found)
            say("search indexes")
            done += _indexes(stores, collection.name)
        say("state store and ledger")
        done += _state(stores.state, collection.name, found)
    say("Dagster's events")
    done += _dagster(stores, sorted(found.documents))
    say("free pages of the databases")
    done += _free_pages(stores)
    return done


def _register(stores: Stores, collection: str) -> Register:
    with stores.state.read() as connection:
        return forgotten.of(connection, collection)


def _record(stores: Stores, collection: str, found: Places, document: str, *, by: Person, reason: str) -> None:
    """Once, unless there is more to say than at the first try."""
    told = _register(stores, collection)
    new = {
        name: {"digests": item.digests, "leaves": item.leaves}
        for name, item in found.documents.items()
        if (known := told.documents.get(name)) is None or not item.leaves <= known.leaves
        or not item.digests <= known.digests
    }  # fmt: skip
    cut = {
        request.request_id: _cut(request.summary, {*found.documents, *found.once_alike}) for request in found.requests
    }
    if not new and not cut:
        return
    with stores.state.write() as connection:
        summaries = {request: digest(summary) for request, summary in cut.items()}
        forgotten.record(connection, collection, new, document, summaries, by=by, reason=reason)
        for request, summary in cut.items():
            connection.execute(
                sa.text("UPDATE review_requests SET summary = :summary WHERE request_id = :request"),
                {"summary": summary, "request": request},
            )


def _cut(summary: str, documents: Container[str]) -> str:
    """A request's differences without what they say of these documents."""
    said = json.loads(summary)
    for told in differences(said):
        told["relabelled"] = {name: moves for name, moves in told["relabelled"].items() if name not in documents}
    return canonical_json(said)


# Releases


def _release(
    stores: Stores, collection: Collection, found: Places, gone: Register, *, by: Person, say: Say
) -> Iterator[Erasure]:
    """The live one again with tombstones and an index of its own; older ones that hold the text are given up."""
    if found.live is not None:
        rewritten = {each: _without(stores, found.live, each, found, gone) for each in found.live.parts}
        instead = {partition: part for partition, part in rewritten.items() if part is not None}
        if instead or _indexed_once(stores, found.live):
            made = publish(collection, stores, by=by.name, say=say, instead=instead)
            yield Erasure(where="releases", what=f"release {made.release.number} is live, with tombstones")
    with stores.state.read() as connection:
        live = releases.live(connection, collection.name)
    for release in [*found.older, *([found.live] if found.live and found.live_holds else [])]:
        if live is None or release.number != live.number:
            with stores.state.write() as connection:
                if release.number in releases.pruned(connection, collection.name):
                    continue
                subject: dict[str, Json] = {
                    "collection": collection.name,
                    "release": release.number,
                    "digest": release.digest,
                }
                audit.append(connection, audit.SYSTEM, "release pruned", subject)
            yield Erasure(where="releases", what=f"release {release.number} cannot be gone back to any more")


def _indexed_once(stores: Stores, live: Release) -> bool:
    """Whether the table of the live release has earlier versions, whose files hold what was deleted since."""
    return live.index_version > 1


def _without(stores: Stores, live: Release, partition: str, found: Places, gone: Register) -> Part | None:
    """The partition in other files; None where it holds no text of these documents."""
    part = live.parts[partition]
    folder = stores.lake.folder(live.collection, SNAPSHOTS, partition)
    bring = stores.lake.bring
    documents, chunks = bring(folder / part.documents_file), bring(folder / part.chunks_file)
    if not documents.is_file():
        return None
    rows = read_rows(documents)
    if not any(row["document_id"] in found.documents and gone.leaf(row) is None for row in rows):
        return None
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with writing_rows(folder, pq.read_schema(documents)) as kept:
        for row in read_rows(documents):
            kept.append(_tombstone(row) if row["document_id"] in found.documents else row)
    with writing_rows(folder, pq.read_schema(chunks)) as passages:
        for batch in read_batches(chunks):
            others = pc.invert(pc.is_in(batch["document_id"], value_set=_names(found)))
            passages.extend(batch.filter(others))
    for path in (kept.path, passages.path):
        stores.lake.keep(path)
    content = content_of_files(kept.path, passages.path, gone).content
    if content != part.content:
        raise AssertionError(f"{partition}: tombstones amount to {content[:12]}, and {part.content[:12]} was signed")
    return replace(
        part, documents_file=kept.path.name, chunks_file=passages.path.name, chunks=parquet_rows(passages.path),
        costs_file=None,
    )  # fmt: skip


def _tombstone(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("document_id", "leaf")}
    return {**dict.fromkeys(row), **kept, "status": STATUS, "text": ""}


def _names(found: Places) -> Any:
    import pyarrow as pa

    return pa.array(sorted(found.documents), pa.string())


# Files


def _lake(stores: Stores, collection: str, found: Places) -> Iterator[Erasure]:
    """All datasets of the partitions: the next run makes them again, from the source and the ledger."""
    for partition in found.partitions:
        datasets = [path for path in stores.lake.folders(collection, partition) if path.parent.name != SNAPSHOTS]
        for folder in datasets:
            stores.lake.erase_folder(folder)
        yield Erasure(
            where="lake", what=f"{plural(len(datasets), 'dataset')} of {partition}, to be made again without it"
        )


def _snapshots(stores: Stores, collection: str, found: Places) -> Iterator[Erasure]:
    """Whatever of the partitions no release names that is still kept."""
    with stores.state.read() as connection:
        pruned = releases.pruned(connection, collection)
        kept = [release for release in releases.find(connection, collection) if release.number not in pruned]
    for partition in found.partitions:
        parts = [release.parts[partition] for release in kept if partition in release.parts]
        needed = {name for part in parts for name in part.files}
        gone = [path for path, _ in frozen(stores, collection, partition) if path.name not in needed]
        for path in gone:
            stores.lake.erase_file(path)
        yield Erasure(where="released files", what=f"{plural(len(gone), 'file')} of {partition}")


def _indexes(stores: Stores, collection: str) -> Iterator[Erasure]:
    """Tables and branches that the live release does not name: also of releases that stay, whose index is made again
    on demand."""
    place = stores.index_place(collection)
    with stores.state.read() as connection:
        live = releases.live(connection, collection)
    number = 0
    if live is not None:
        live_index.show(stores, collection)
    for table in place.tables():
        if live is None or table != live.index_name:
            place.remove(table)
            number += 1
            continue
        for branch in (None, *place.branches(table)):
            if branch != live.index_branch:
                stores.index(collection, table, branch=branch).remove()
                number += branch is not None
    if forget_scores(stores.home.index / collection):
        yield Erasure(where="search indexes", what="what a reranker said of passages")
    if forget_answers(stores.home.index / collection):
        yield Erasure(where="search indexes", what="what golden queries found")
    with stores.state.write() as connection:
        for table in ("index_parts", "index_versions"):
            connection.execute(sa.text(f"DELETE FROM {table} WHERE collection = :c"), {"c": collection})  # noqa: S608
    place.erase_replaced()
    yield Erasure(where="search indexes", what=f"{plural(number, 'table')} and branches")


# Databases


def _state(state: StateStore, collection: str, found: Places) -> Iterator[Erasure]:
    documents, partitions = sorted(found.documents), found.partitions
    with state.write() as connection:
        connection.execute(_ERASED_CALLS, {"k": list(found.calls)})
        for what, statement in _STATEMENTS.items():
            query = sa.text(statement)
            given: dict[str, Any] = {"c": collection, "erased": ERASED}
            for name, values in (("d", documents), ("p", partitions), ("k", list(found.calls))):
                if f":{name} " in f"{statement} ":
                    query = query.bindparams(sa.bindparam(name, type_=sa.Text, expanding=True))
                    given[name] = values
            used = {name: value for name, value in given.items() if f":{name}" in statement}
            changed = connection.execute(query, used).rowcount
            if changed:
                yield Erasure(where="state store", what=f"{changed} {what}")


_ERASED_CALLS = sa.text(
    "INSERT INTO erased_calls SELECT call_key, attempt_id FROM calls WHERE call_key IN :k"
).bindparams(sa.bindparam("k", type_=sa.Text, expanding=True))
"""What is left of them is found by their keys."""
_STATEMENTS: Mapping[str, str] = {
    "answers of models": (
        "DELETE FROM answers WHERE attempt_id IN (SELECT attempt_id FROM attempts WHERE call_key IN :k )"
    ),
    "what was sent to models": (
        "DELETE FROM sent_requests WHERE attempt_id IN (SELECT attempt_id FROM attempts WHERE call_key IN :k )"
    ),
    "further questions to classifiers, whose examples can have shown it": (
        "DELETE FROM sent_requests WHERE attempt_id IN (SELECT attempt_id FROM attempts "
        "JOIN callers ON callers.caller_id = attempts.caller_id "
        "WHERE attempts.kind = 'classify' AND callers.collection = :c )"
    ),
    "identities of calls": "DELETE FROM calls WHERE call_key IN :k ",
    "messages of attempts": "UPDATE attempts SET message = NULL WHERE message IS NOT NULL AND call_key IN :k ",
    "notes": "UPDATE document_notes SET text = :erased WHERE collection = :c AND document_id IN :d AND text <> :erased",
    "held documents": "DELETE FROM held_documents WHERE collection = :c AND document_id IN :d ",
    "answers compared in shadows": "DELETE FROM shadow_documents WHERE collection = :c AND document_id IN :d ",
    "verdicts that stopped candidates": (
        "UPDATE gate_stops SET sentence = :erased, slice = NULL WHERE collection = :c AND sentence <> :erased AND "
        "partition IN :p "
    ),
    "tries": "DELETE FROM document_retries WHERE collection = :c AND document_id IN :d ",
    "reasons in the history": (
        "UPDATE document_history SET reason = NULL WHERE reason IS NOT NULL AND collection = :c AND document_id IN :d "
    ),
    "results of checks": "DELETE FROM check_results WHERE collection = :c AND partition IN :p ",
    "messages to people": (
        "UPDATE notices SET body = :erased WHERE collection = :c AND body <> :erased AND request_id IN "
        "(SELECT request_id FROM review_requests WHERE collection = :c AND partition IN :p )"
    ),
}
"""What holds text, or derived text, of a document. The attempts themselves stay, with their dollars."""


def _databases(folder: Path) -> list[Path]:
    return sorted(path for path in files_below(folder) if path.suffix == ".db")


_EVENTS_IN_POSTGRES = (("event_logs", "event"), ("asset_keys", "last_materialization"))
"""Tables of Dagster, where `environment` is not `local`, and the column of each that shows samples."""


def _dagster(stores: Stores, documents: Iterable[str]) -> Iterator[Erasure]:
    """Their rows in the samples that events show. A storage that somebody put elsewhere is not reached from here."""
    number = 0
    for path in _databases(stores.home.dagster):
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            for table in [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]:
                for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                    number += sum(_blank_rows(connection, table, column, document) for document in documents)
            connection.commit()
    if stores.state.dialect == "postgresql":
        with stores.state.write() as connection:
            there = set(sa.inspect(connection).get_table_names())
            for table, column in _EVENTS_IN_POSTGRES:
                if table in there:
                    number += sum(_blank_events(connection, table, column, document) for document in documents)
    yield Erasure(where="Dagster", what=f"rows of samples in {plural(number, 'event')}")


def _blank_events(connection: sa.Connection, table: str, column: str, document: str) -> int:
    query = sa.text(f"SELECT id, {column} AS shown FROM {table} WHERE strpos({column}, :named) > 0")  # noqa: S608
    update = sa.text(f"UPDATE {table} SET {column} = :shown WHERE id = :id")  # noqa: S608
    changed = 0
    for row in connection.execute(query, {"named": json.dumps(document)}).all():
        event = json.loads(row.shown)
        if _blank(event, document):
            connection.execute(update, {"shown": json.dumps(event), "id": row.id})
            changed += 1
    return changed


def _blank_rows(connection: sqlite3.Connection, table: str, column: str, document: str) -> int:
    query = f'SELECT rowid, "{column}" FROM "{table}" WHERE instr("{column}", ?) > 0'  # noqa: S608
    try:
        found = connection.execute(query, (json.dumps(document),)).fetchall()
    except sqlite3.OperationalError:  # a table without row ids holds no events
        return 0
    changed = 0
    for rowid, text in found:
        try:
            event = json.loads(text)
        except (ValueError, TypeError):
            continue
        if _blank(event, document):
            statement = f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?'  # noqa: S608
            connection.execute(statement, (json.dumps(event), rowid))
            changed += 1
    return changed


def _blank(event: Any, document: str) -> bool:
    """Leave of the document's rows in tables only its name; whether there was more."""
    if isinstance(event, list):
        return sum(_blank(each, document) for each in event) > 0
    if not isinstance(event, dict):
        return False
    row = event.get("data")
    if event.get("__class__") == "TableRecord" and isinstance(row, dict) and row.get("document_id") == document:
        event["data"] = {**dict.fromkeys(row, ""), "document_id": document}
        return bool(row != event["data"])
    return sum(_blank(each, document) for each in event.values()) > 0


def _free_pages(stores: Stores) -> Iterator[Erasure]:
    """What was deleted lies in free pages and in the write-ahead log until they are written anew."""
    if stores.state.dialect == "sqlite":
        databases = [stores.home.root / "state.db", *_databases(stores.home.dagster)]
        for path in databases:
            with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield Erasure(where="free pages", what=f"of {plural(len(databases), 'database')}")
        return
    stores.state.vacuum()
    yield Erasure(where="free pages", what="of PostgreSQL's tables; its WAL archives and replicas are for its owner")
