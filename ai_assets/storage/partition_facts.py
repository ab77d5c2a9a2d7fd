"""One narrow row for each partition that is listed or was computed, and sums over datasets (ADR 109).

They say nothing that other tables do not say, and are brought up to date in the transaction that changes those:
questions over all partitions are one scan of an index instead of a join in Python.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import sqlalchemy as sa

from ai_assets.storage.state import keys_of

NOTHING = "4f53cda18c2baa0c0354bb5f9a3ecbe5"
"""Digest of the listing of a partition without files."""
STATUSES = "statuses."
SUMMED = ("documents_out", "without_vectors")


@dataclass(frozen=True)
class PartitionFacts:
    """What decides the state of a partition, and is the same for most."""

    listed: bool
    """The source has files for it."""
    refreshed: str
    """How the last run of it ended: `ok`, `failed`, or empty where there was none."""
    is_current: bool
    """That run saw what the source was last seen to hold."""
    settings_digest: str
    corrections_digest: str
    request: str
    """The status of its newest request for sign-off; empty where there is none."""
    unreadable: bool
    """It holds documents, and none that can be read."""


COLUMNS = [field.name for field in fields(PartitionFacts)]
_T = sa.table("partition_facts", sa.column("collection"), sa.column("partition"), *map(sa.column, COLUMNS))
_GROUP = [_T.c[name] for name in COLUMNS]
_HAS = "SELECT 1 FROM {table} AS base WHERE base.collection = partition_facts.collection AND base.partition = "
_GONE = (
    "DELETE FROM partition_facts WHERE collection = :c AND partition IN (SELECT value FROM {keys}) AND NOT EXISTS "  # noqa: S608
    f"({_HAS.format(table='listings')}partition_facts.partition) AND NOT EXISTS "
    f"({_HAS.format(table='refreshes')}partition_facts.partition)"
)
_DERIVED = """INSERT INTO partition_facts (collection, partition, {columns})
    SELECT :c, known.value,
        CASE WHEN listings.digest IS NULL THEN 0 ELSE 1 END, COALESCE(refreshes.status, ''),
        CASE WHEN refreshes.listing_digest = COALESCE(listings.digest, :nothing) THEN 1 ELSE 0 END,
        COALESCE(refreshes.settings_digest, ''), COALESCE(refreshes.corrections_digest, ''),
        COALESCE((SELECT status FROM review_requests WHERE review_requests.collection = :c
            AND review_requests.partition = known.value ORDER BY number DESC LIMIT 1), ''),
        CASE WHEN COALESCE({quarantined}, 0) > 0 AND COALESCE({ok}, 0) + COALESCE({duplicate}, 0) = 0
            THEN 1 ELSE 0 END
    FROM (SELECT value FROM {keys}) AS known
    LEFT JOIN listings ON listings.collection = :c AND listings.partition = known.value
    LEFT JOIN refreshes ON refreshes.collection = :c AND refreshes.partition = known.value
    LEFT JOIN datasets ON datasets.collection = :c AND datasets.partition = known.value
        AND datasets.asset = 'documents'
    WHERE listings.partition IS NOT NULL OR refreshes.partition IS NOT NULL
    ON CONFLICT (collection, partition) DO UPDATE SET {updates}"""


# Writing: who changes listings, refreshes, review_requests or datasets calls this in the same transaction


def derive(connection: sa.Connection, collection: str, partitions: Iterable[str]) -> None:
    """The rows of these partitions, from what the tables they repeat say now."""
    keys, dialect = json.dumps(list(partitions)), connection.dialect.name
    given = {"c": collection, "keys": keys, "nothing": NOTHING}
    among = keys_of(dialect, ":keys")
    statuses = {name: _status(dialect, name) for name in ("ok", "duplicate", "quarantined")}
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    derived = _DERIVED.format(columns=", ".join(COLUMNS), keys=among, updates=updates, **statuses)
    connection.execute(sa.text(_GONE.format(keys=among)), given)
    connection.execute(sa.text(derived), given)


def _status(dialect: str, name: str) -> str:
    if dialect == "sqlite":
        return f"json_extract(datasets.stats, '$.statuses.{name}')"
    return f"CAST(CAST(datasets.stats AS json) -> 'statuses' ->> '{name}' AS BIGINT)"


def count(connection: sa.Connection, collection: str, asset: str, before: str | None, stats: Mapping[str, Any]) -> None:
    """Add what a dataset counts now, without what it did before (as JSON)."""
    changes = _counted(asset, stats)
    changes.subtract(_counted(asset, json.loads(before) if before else {}))
    statement = sa.text(
        "INSERT INTO dataset_totals VALUES (:c, :a, :name, :by) ON CONFLICT (collection, asset, name) "
        "DO UPDATE SET number = dataset_totals.number + excluded.number"
    )
    rows = [
        {"c": collection, "a": asset, "name": name, "by": by} for name, by in changes.items() if by or before is None
    ]
    if rows:
        connection.execute(statement, rows)


def _counted(asset: str, stats: Mapping[str, Any]) -> Counter[str]:
    statuses = stats.get("statuses") if asset == "documents" else None
    found = Counter({f"{STATUSES}{name}": int(number) for name, number in (statuses or {}).items()})
    found.update({name: int(stats[name]) for name in SUMMED if stats.get(name) is not None})
    return found


# Reading


def totals(connection: sa.Connection, collection: str, asset: str) -> dict[str, int]:
    """By name, the sum over all partitions of the asset."""
    query = sa.text("SELECT name, number FROM dataset_totals WHERE collection = :c AND asset = :a ORDER BY name")
    found = connection.execute(query, {"c": collection, "a": asset})
    return {row.name: int(row.number) for row in found}


def groups(connection: sa.Connection, collection: str) -> list[PartitionFacts]:
    """The different facts there are: a few, however many partitions."""
    query = sa.select(*_GROUP).where(_T.c.collection == collection).group_by(*_GROUP)
    return [_facts(row) for row in connection.execute(query)]


def named_groups(connection: sa.Connection, collection: str) -> list[tuple[PartitionFacts, list[str]]]:
    """The same with the names of the partitions, of all of them, in no order."""
    names = _names(connection)
    query = sa.select(*_GROUP, names).where(_T.c.collection == collection).group_by(*_GROUP)
    return [(_facts(row), json.loads(row[-1])) for row in connection.execute(query)]


def names_of(connection: sa.Connection, collection: str, facts: PartitionFacts) -> list[str]:
    """The partitions of one group, in no order."""
    same = [_T.c[name] == int(value) if isinstance(value, bool) else _T.c[name] == value
            for name, value in zip(COLUMNS, astuple(facts), strict=True)]  # fmt: skip
    query = sa.select(_names(connection)).where(_T.c.collection == collection, *same)
    found: str | None = connection.execute(query).scalar_one()
    names: list[str] = json.loads(found) if found else []
    return names


def facts_of(connection: sa.Connection, collection: str, partitions: Sequence[str]) -> dict[str, PartitionFacts]:
    """Of these partitions, where there is something to say."""
    if not partitions:
        return {}
    chosen = keys_of(connection.dialect.name, ":keys")
    query = sa.text(
        f"SELECT {', '.join(COLUMNS)}, partition FROM partition_facts "  # noqa: S608
        f"WHERE collection = :c AND partition IN (SELECT value FROM {chosen})"
    )
    rows = connection.execute(query, {"c": collection, "keys": json.dumps(list(partitions))})
    return {row.partition: _facts(row) for row in rows}


def known_partitions(connection: sa.Connection, collection: str) -> list[str]:
    """Those that are listed or were computed, in order."""
    query = sa.select(_names(connection)).where(_T.c.collection == collection)
    found: str | None = connection.execute(query).scalar_one()
    return sorted(json.loads(found)) if found else []


def _names(connection: sa.Connection) -> sa.ColumnElement[str]:
    """As one value: a row of the result costs more than the name in it."""
    if connection.dialect.name == "sqlite":
        return sa.func.json_group_array(_T.c.partition)
    return sa.cast(sa.func.json_agg(_T.c.partition), sa.Text)


def _facts(row: Sequence[Any]) -> PartitionFacts:
    return PartitionFacts(bool(row[0]), row[1], bool(row[2]), row[3], row[4], row[5], bool(row[6]))
