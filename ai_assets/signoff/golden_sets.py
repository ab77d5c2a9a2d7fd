"""The golden sets that judged a collection, each with a number and a digest, and what changed between them.

Of a query only digests are kept, of a document its name and label: no text is copied. A set is put together again from
the changes up to its number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.storage.digest import digest
from ai_assets.storage.state import now

Kind = Literal["label", "query"]
Change = Literal["added", "changed", "retired", "leaked", "removed"]
Items = Mapping[tuple[Kind, str], str]
"""By kind and item (a document, or the digest of a query), what is right of it: a label, or the digest of documents."""


@dataclass(frozen=True, kw_only=True)
class SetChange:
    kind: Kind
    item: str
    said: str | None
    """None for what judges no more."""
    change: Change


@dataclass(frozen=True, kw_only=True)
class RecordedSet:
    number: int
    digest: str
    """Two sets with the same digest are the same, whatever their numbers."""
    labels: int
    queries: int
    run_id: str
    made_at: str


def query_item(query: str) -> str:
    return digest(" ".join(query.casefold().split()))[:32]


def items_of(labels: Mapping[str, str], queries: Iterable[tuple[str, Iterable[str]]]) -> Items:
    found: dict[tuple[Kind, str], str] = {("label", document): label for document, label in labels.items()}
    for query, documents in queries:
        found["query", query_item(query)] = digest(sorted(documents))[:32]
    return found


def set_digest(items: Items) -> str:
    return digest(sorted([kind, item, said] for (kind, item), said in items.items()))[:16]


def keep(
    connection: sa.Connection, collection: str, items: Items, gone: Mapping[str, Change], run_id: str
) -> RecordedSet:
    """The set of that name, recorded if it is not the last one. `gone`: why items that are in it no more left it."""
    last = next(iter(recorded(connection, collection, most=1)), None)
    found = set_digest(items)
    if last is not None and last.digest == found:
        return last
    before = items_at(connection, collection)
    numbers = {kind: sum(key[0] == kind for key in items) for kind in ("label", "query")}
    made = RecordedSet(
        number=1 if last is None else last.number + 1, digest=found, labels=numbers["label"],
        queries=numbers["query"], run_id=run_id, made_at=now(),
    )  # fmt: skip
    connection.execute(sa.insert(_table("golden_sets", RecordedSet)).values(collection=collection, **asdict(made)))
    rows = [
        {"collection": collection, "number": made.number, **asdict(each)} for each in _changes(before, items, gone)
    ]  # fmt: skip
    if rows:
        connection.execute(sa.insert(_table("golden_set_changes", SetChange, "number")), rows)
    return made


def _changes(before: Items, items: Items, gone: Mapping[str, Change]) -> Iterable[SetChange]:
    for key in sorted({*before, *items}):
        kind, item = key
        if key not in items:
            yield SetChange(kind=kind, item=item, said=None, change=gone.get(item, "removed"))
        elif before.get(key) != items[key]:
            yield SetChange(kind=kind, item=item, said=items[key], change="changed" if key in before else "added")


def recorded(connection: sa.Connection, collection: str, most: int | None = None) -> list[RecordedSet]:
    """The newest first."""
    table = _table("golden_sets", RecordedSet)
    query = sa.select(*(table.c[name] for name in RecordedSet.__dataclass_fields__)).where(
        table.c.collection == collection
    )
    rows = connection.execute(query.order_by(table.c.number.desc()).limit(most)).mappings()
    return [RecordedSet(**row) for row in rows]


def changes(connection: sa.Connection, collection: str, upto: int | None = None) -> dict[int, list[SetChange]]:
    """By number of the set, what it has otherwise than the one before."""
    table = _table("golden_set_changes", SetChange, "number")
    query = sa.select(table).where(table.c.collection == collection)
    if upto is not None:
        query = query.where(table.c.number <= upto)
    found: dict[int, list[SetChange]] = {}
    for row in connection.execute(query.order_by(table.c.number, table.c.kind, table.c.item)).mappings():
        said: dict[str, Any] = {name: row[name] for name in SetChange.__dataclass_fields__}
        found.setdefault(row["number"], []).append(SetChange(**said))
    return found


def items_at(connection: sa.Connection, collection: str, number: int | None = None) -> Items:
    """The set of that number, or the last one."""
    found: dict[tuple[Kind, str], str] = {}
    for each in (one for of_set in changes(connection, collection, number).values() for one in of_set):
        if each.said is None:
            found.pop((each.kind, each.item), None)
        else:
            found[each.kind, each.item] = each.said
    return found


def _table(name: str, row: type, *more: str) -> sa.TableClause:
    return sa.table(name, *map(sa.column, ("collection", *more, *row.__dataclass_fields__)))  # type: ignore[attr-defined]
