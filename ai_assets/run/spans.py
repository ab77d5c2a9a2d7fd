"""Spans as the state store keeps them: when the assets of a partition were computed in a run, and what came of it.

One is written in the transaction that records its dataset, so a killed run has the spans of all that it finished.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.base.masking import masked
from ai_assets.base.printable import printable
from ai_assets.run.events import StageEnded
from ai_assets.storage.state import storable, upsert

LONGEST_ERROR = 2000


@dataclass(frozen=True, kw_only=True)
class StageSpan:
    """An asset of a partition in a run, from its beginning to its end."""

    partition: str
    asset: str
    began_at: str
    ended_at: str
    seconds: float
    documents: int
    documents_out: int
    calls: int
    unchanged: bool
    error: str | None


@dataclass(frozen=True, kw_only=True)
class RunSpans:
    """What the spans of a run say together."""

    run_id: str
    began_at: str
    ended_at: str
    """Of the last asset so far."""
    spans: int
    partitions: int
    first: str
    last: str
    """Of the partitions, in order of their names."""
    unchanged: int
    failed: int
    documents: int
    """That went into an asset, each asset for itself."""
    calls: int


@dataclass(frozen=True, kw_only=True)
class AssetSpans:
    """What the spans of an asset in a run say together."""

    asset: str
    partitions: int
    began_at: str
    ended_at: str
    seconds: float
    """Of all its partitions, also where they overlap."""
    documents: int
    documents_out: int
    calls: int
    unchanged: int
    failed: int


_OF_COLLECTION = "collection || '' = :c"
"""Of a run that is named: not by the index of the collection, which would read the spans of all its runs."""
SPANS_AT_ONCE = 256
"""Of the newest, that are looked through first for the runs they are of; then each time as many as before."""
_SUMS = """
    min(began_at) AS began_at, max(ended_at) AS ended_at, count(DISTINCT partition) AS partitions,
    sum(unchanged) AS unchanged, count(error) AS failed, sum(documents) AS documents, sum(calls) AS calls
FROM run_spans"""
_SPANS = """
SELECT partition, asset, began_at, ended_at, seconds, documents, documents_out, calls, unchanged, error
FROM run_spans"""
_RUNS = f"SELECT run_id, count(*) AS spans, min(partition) AS first, max(partition) AS last, {_SUMS}"
_ASSETS = f"SELECT asset, sum(seconds) AS seconds, sum(documents_out) AS documents_out, {_SUMS}"


def record_span(connection: sa.Connection, span: StageEnded) -> None:
    upsert(
        connection,
        "run_spans",
        {"run_id": span.run_id, "partition": span.partition, "asset": span.asset, "began_at": span.began_at},
        {
            "collection": span.collection,
            "ended_at": span.at,
            "seconds": span.seconds,
            "documents": span.documents,
            "documents_out": span.documents_out,
            "calls": span.calls,
            "unchanged": int(span.unchanged),
            "error": None if span.error is None else storable(printable(masked(span.error))[:LONGEST_ERROR]),
        },
    )


def of_run(connection: sa.Connection, collection: str, run_id: str) -> RunSpans | None:
    query = sa.text(f"{_RUNS} WHERE run_id = :run AND {_OF_COLLECTION} GROUP BY run_id")
    row = connection.execute(query, _named(collection, run_id)).mappings().one_or_none()
    return None if row is None else RunSpans(**row)


def by_asset(connection: sa.Connection, collection: str, run_id: str) -> Sequence[AssetSpans]:
    """In the order in which they began."""
    query = sa.text(f"{_ASSETS} WHERE run_id = :run AND {_OF_COLLECTION} GROUP BY asset ORDER BY min(began_at), asset")
    return [AssetSpans(**row) for row in connection.execute(query, _named(collection, run_id)).mappings()]


def longest(connection: sa.Connection, collection: str, run_id: str, most: int) -> Sequence[StageSpan]:
    """Failed ones, then what took longest, then what was unchanged; shown in the order in which they began."""
    query = sa.text(
        f"{_SPANS} WHERE run_id = :run AND {_OF_COLLECTION} "
        "ORDER BY CASE WHEN error IS NULL THEN 1 ELSE 0 END, unchanged, seconds DESC, partition, asset LIMIT :most"
    )
    found = connection.execute(query, {**_named(collection, run_id), "most": most}).mappings()
    spans = [StageSpan(**{**row, "unchanged": bool(row["unchanged"])}) for row in found]
    return sorted(spans, key=lambda span: (span.began_at, span.ended_at, span.partition, span.asset))


def times(connection: sa.Connection, collection: str, run_id: str) -> Iterator[tuple[str, str, str]]:
    """Asset, beginning and end of all that was computed."""
    query = sa.text(
        "SELECT asset, began_at, ended_at FROM run_spans "  # noqa: S608
        f"WHERE run_id = :run AND {_OF_COLLECTION} AND unchanged = 0"
    )
    for row in connection.execute(query, _named(collection, run_id)):
        yield row.asset, row.began_at, row.ended_at


def newest_runs(connection: sa.Connection, collection: str, most: int) -> Sequence[RunSpans]:
    """Spans are read from the newest on until so many runs were met, however many there were before."""
    query = sa.text(
        "SELECT run_id FROM run_spans WHERE collection = :c ORDER BY ended_at DESC LIMIT :size OFFSET :start"
    )
    met: dict[str, None] = {}
    start, size = 0, SPANS_AT_ONCE
    while len(met) < most:
        rows: Sequence[str] = connection.execute(query, {"c": collection, "start": start, "size": size}).scalars().all()
        met |= dict.fromkeys(rows)
        if len(rows) < size:
            break
        start, size = start + size, start + size
    chosen = sa.text(
        f"{_RUNS} WHERE run_id IN :runs AND {_OF_COLLECTION} "
        "GROUP BY run_id ORDER BY max(ended_at) DESC, run_id LIMIT :most"
    ).bindparams(sa.bindparam("runs", expanding=True))
    given = {"c": collection, "runs": [*met], "most": most}
    return [RunSpans(**row) for row in connection.execute(chosen, given).mappings()]


def _named(collection: str, run_id: str) -> dict[str, str]:
    return {"c": storable(collection) or "", "run": storable(run_id) or ""}
