"""How a collection is searched now: its rules, and the weights that were fitted to its golden queries.

A weight is fitted by itself only while nothing that was judged with another one is signed. From then on it stays, also
when golden queries change, until somebody says `ai-assets golden fit`: the search that people signed is the search that
goes live.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.embedding.searched_by import SearchedBy
from ai_assets.embedding.spec import spaces_key
from ai_assets.signoff import releases, requests
from ai_assets.signoff.frozen_candidate import current_candidate
from ai_assets.storage.digest import canonical_json, digest
from ai_assets.storage.search_rules import VECTOR_WEIGHT
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import Stores


@dataclass(frozen=True, kw_only=True)
class FittedWeight:
    """Of one embedding."""

    weight: float
    queries: str
    """Digest of the golden queries that it was fitted to."""
    report: Mapping[str, Any]
    fitted_at: str


def fitted(connection: sa.Connection, collection: Collection) -> dict[str, FittedWeight]:
    """By name of the embedding; what was fitted for other vectors than it has now does not count."""
    if not collection.fits_search:
        return {}
    rows = connection.execute(
        sa.text("SELECT * FROM fitted_searches WHERE collection = :c"), {"c": collection.name}
    ).mappings()
    return {
        row["embedding"]: FittedWeight(
            weight=row["weight"], queries=row["queries"], report=json.loads(row["report"]), fitted_at=row["fitted_at"]
        )
        for row in rows
        if row["embedding"] in collection.spaces and row["space"] == collection.spaces[row["embedding"]].space_key
    }


def record_fit(
    connection: sa.Connection,
    collection: Collection,
    embedding: str,
    weight: float,
    report: Mapping[str, Any],
    run_id: str,
) -> None:
    upsert(
        connection,
        "fitted_searches",
        {"collection": collection.name, "embedding": embedding},
        {
            "space": collection.spaces[embedding].space_key,
            "queries": queries_digest(collection),
            "weight": weight,
            "report": canonical_json(dict(report)),
            "fitted_at": now(),
            "run_id": run_id,
        },
    )


def searched_by(collection: Collection, found: Mapping[str, FittedWeight]) -> SearchedBy:
    """As the collection declares it, with the weights that were fitted."""
    weights = {name: each.weight for name, each in sorted(found.items()) if each.weight != VECTOR_WEIGHT}
    return SearchedBy(version=collection.settings.builtins.search, weights=weights, reranker=collection.reranker)


def version(collection: Collection, found: Mapping[str, FittedWeight]) -> str:
    """Of the weights that are fitted; empty where none is. Partitions that were judged by others are due."""
    weights = searched_by(collection, found).weights
    return digest(weights)[:32] if weights else ""


def queries_digest(collection: Collection) -> str:
    return digest(sorted([item.query, *sorted(item.documents)] for item in collection.golden_queries))[:32]


def is_signed(connection: sa.Connection, stores: Stores, collection: Collection) -> bool:
    """Whether something that was judged by these rules and vectors is live or approved."""
    wanted = (collection.settings.builtins.search, spaces_key(collection.spaces))
    live = releases.live(connection, collection.name)
    if live is not None and (live.searched_by.version, spaces_key(live.embeddings or collection.spaces)) == wanted:
        return True
    for request in requests.find(connection, collection.name, statuses=("approved",)):
        there = current_candidate(stores.lake, collection.name, request.partition)
        if there is None or there.digest != request.digest:
            continue
        if (there.searched_by.version, spaces_key(there.embeddings)) == wanted:
            return True
    return False
