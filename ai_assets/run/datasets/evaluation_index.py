"""The index that search is judged on: the passages of all partitions as they are computed, released or not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.documents.passages import OF
from ai_assets.embedding.spec import FIRST, Embedding, further_columns, recorded_embedding, spaces_key
from ai_assets.run.context import Work
from ai_assets.run.datasets.passages import with_vectors
from ai_assets.run.datasets.rankings import FOLDER, Rankings, forget
from ai_assets.signoff.publication import index_rows
from ai_assets.storage.digest import digest
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.lake import Manifest
from ai_assets.storage.lasting_search import LastingSearch
from ai_assets.storage.leases import hold
from ai_assets.storage.state import upsert

INDEX = "evaluation"
INDEX_BATCH_ROWS = 250_000


def evaluation_index(work: Work) -> SearchIndex:
    """The index that search is judged on; another embedder has one of its own."""
    spaces = work.collection.spaces
    return work.stores.index(
        work.collection.name, index_name(spaces), spaces[FIRST].dimensions, further_columns(spaces)
    )


def index_name(spaces: Mapping[str, Embedding]) -> str:
    return INDEX if len(spaces) == 1 and spaces[FIRST].is_builtin else f"{INDEX}-{spaces_key(spaces)}"


def rankings_of(work: Work, version: int) -> Rankings:
    """What is known of the queries for the index as it is."""
    name, spaces = work.collection.name, work.collection.spaces
    with work.stores.state.read() as connection:
        held = _versions(connection, "SELECT partition, version FROM index_parts WHERE collection = :c", name)
    of = digest([version, index_name(spaces), sorted(held.items()), *filter(None, [work.searched_by.key])])
    return Rankings.opened(rankings_folder(work) / f"{index_name(spaces)}.json", of)


def lasting_search(work: Work, column: str, parts: Mapping[str, str] | None) -> LastingSearch:
    """What golden queries found in the evaluation index by these vectors. `parts`: what it has of each partition; None
    for another index, which begins with it."""
    path = rankings_folder(work) / f"{index_name(work.collection.spaces)} {column}.npz"
    return LastingSearch(path=path, parts=parts, is_kept=parts is not None)


def rankings_folder(work: Work) -> Path:
    """Beside the indexes: what can be thrown away."""
    return work.stores.home.index / work.collection.name / FOLDER


@dataclass(frozen=True)
class SyncedIndex:
    version: int
    parts: Mapping[str, str]
    """By partition, of what its passages were made."""


def sync_index(work: Work) -> SyncedIndex:
    """Bring the evaluation index up to the lake: only partitions whose vectors changed are written."""
    name = work.collection.name
    index = evaluation_index(work)
    made_by = f" {spaces_key(work.collection.spaces)}"
    further = further_columns(work.collection.spaces)
    with hold(work.stores.state, f"index:{name}", say=work.say_waiting) as lease:
        with work.stores.state.read() as connection:
            current = _versions(
                connection,
                "SELECT c.partition, c.version || ' ' || e.version AS version FROM datasets c JOIN datasets e "
                "ON e.collection = c.collection AND e.partition = c.partition AND e.asset = 'embeddings' "
                "WHERE c.collection = :c AND c.asset = 'chunks'",
                name,
            )
            held = _versions(connection, "SELECT partition, version FROM index_parts WHERE collection = :c", name)
            version = connection.execute(
                sa.text("SELECT version FROM index_versions WHERE collection = :c"), {"c": name}
            ).scalar_one_or_none()
        if version is not None and index.version() is None:
            held, version = {}, None  # its folder was deleted: the index is made from the lake, so make it again
        if any(not found.endswith(made_by) for found in held.values()):
            held, version = {}, None  # what is held are vectors of another embedder
        current = {partition: found + made_by for partition, found in current.items()}
        stale = sorted(partition for partition, found in current.items() if held.get(partition) != found)
        while stale or version is None:
            batch, changes, rows = [], {}, 0
            while stale and rows < work.at_once(INDEX_BATCH_ROWS):
                partition = stale.pop(0)
                chunks = _indexable(work, partition)
                if chunks is None:
                    continue
                rows += chunks.rows
                changes[partition] = (
                    index_rows(partition, _with_vectors(work, chunks), further) if chunks.rows else None
                )
                batch.append(partition)
            if not batch and version is not None:
                break
            if version is None:
                forget(rankings_folder(work))
            anew, version = version is None, index.replace(changes, base_version=version, words_anew=True)
            with lease.fenced() as connection:
                if anew:
                    connection.execute(sa.text("DELETE FROM index_parts WHERE collection = :c"), {"c": name})
                upsert(connection, "index_versions", {"collection": name}, {"version": version})
                for partition in batch:
                    key = {"collection": name, "partition": partition}
                    upsert(connection, "index_parts", key, {"version": current[partition]})
            held = {**({} if anew else held), **{partition: current[partition] for partition in batch}}
            if not index.lags(version):
                index.prune([version])
        if work.collection.settings.builtins.search != "1" and not index.searches_names(version):
            version = index.replace({}, base_version=version)
            with lease.fenced() as connection:
                upsert(connection, "index_versions", {"collection": name}, {"version": version})
            index.prune([version])
    return SyncedIndex(int(version), held)


def _versions(connection: sa.Connection, query: str, collection: str) -> dict[str, str]:
    return {row.partition: row.version for row in connection.execute(sa.text(query), {"c": collection})}


def intact(work: Work, asset: str, partition: str) -> Manifest | None:
    """A dataset of any partition of the corpus; one that is damaged fails its own partition, not the others."""
    try:
        return work.previous(asset, partition)
    except DatasetDamaged:
        return None


def comparable(work: Work, partition: str) -> dict[str, Manifest]:
    """By name of the embedding, the vectors of a partition, if the collection's embedders made all of them."""
    found = {}
    for each in work.collection.embeddings:
        manifest = intact(work, each.asset, partition)
        if manifest is None or recorded_embedding(manifest.stats).space != each.embedding.space:
            return {}
        found[each.name] = manifest
    return found


def _indexable(work: Work, partition: str) -> Manifest | None:
    """The chunks; None while chunks and vectors do not belong together, so that the index keeps what it has."""
    vectors, chunks = comparable(work, partition), intact(work, "chunks", partition)
    if not vectors or chunks is None or any(each.inputs["chunks"] != chunks.version for each in vectors.values()):
        return None
    return chunks


def _with_vectors(work: Work, chunks: Manifest) -> Iterator[Any]:
    embeddings = work.collection.embeddings
    vectors = {each.name: work.input("evaluation_scores", chunks.partition, each.asset) for each in embeddings}
    several = len(embeddings) > 1 and bool(work.collection.embedded_stages)
    columns = ["chunk_id", "document_id", "title", "text", *([OF] if several else [])]
    return with_vectors(work, chunks, vectors, columns)
