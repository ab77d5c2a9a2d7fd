"""Which requests a page of the inbox shows. The store orders and counts; what is read grows with the page alone.

The order by risk has no index, for a request rises as it waits, by the calendar of its collection. By risk without age
and by age there is one, and both are read from the top until nothing further down can come before what was found.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import SlaSettings
from ai_assets.signoff import requests
from ai_assets.signoff.sla import age_hours

AGE_WEIGHT = 0.5
"""A request about to expire is at least this far up, however harmless it looks."""
Conditions = Sequence[sa.ColumnElement[bool]]
_T = requests.TABLE.c
IS_OPEN = sa.text("review_requests.status = 'open'")
"""Spelt out, so that the indexes of open requests serve."""
ORDERS: Mapping[str, Sequence[Any]] = {
    "risk": (_T.risk.desc(), _T.opened_at, _T.request_id),
    "age": (_T.opened_at, _T.request_id),
    "size": (_T.size.desc(), _T.opened_at, _T.request_id),
}
"""Each has an index of the same order."""
_Key = tuple[float, str, str]
"""Its risk below zero, when it was opened, its id: the riskiest first, then the oldest."""


def aged_risk(risk: float, age: float, sla: SlaSettings) -> float:
    """With the share of its time that has gone by, up to expiry or, where nothing expires, to the last step."""
    expiry = None if sla.expire_after_days is None else sla.expire_after_days * 24
    limit = expiry or sla.escalate_after_hours or sla.remind_after_hours
    gone = min(1.0, max(0.0, age) / limit) if limit else 0.0
    return round(risk + (1 - risk) * AGE_WEIGHT * gone, 4)


def among(names: Sequence[str]) -> sa.ColumnElement[bool]:
    """Of these collections; not by an index that begins with them, which would have to be sorted."""
    return (_T.collection + "").in_(names)


def count(connection: sa.Connection, conditions: Conditions) -> int:
    query = sa.select(sa.func.count()).select_from(requests.TABLE).where(*conditions)
    return int(connection.execute(query).scalar_one())


def open_requests(
    connection: sa.Connection,
    wanted: Conditions,
    seen: Mapping[str, Collection],
    sort: str,
    at: str,
    start: int,
    number: int,
) -> list[str]:
    """Ids of a piece of the open requests of these collections that are wanted, in order."""
    if number <= 0:
        return []
    if sort == "risk":
        return _by_risk(connection, wanted, seen, at, start, number)
    by_name = (_by_bytes(connection, _T.collection), _by_bytes(connection, _T.partition), _T.request_id)
    query = sa.select(_T.request_id).where(among([*seen]), *wanted, IS_OPEN).order_by(*ORDERS.get(sort, by_name))
    return list(connection.execute(query.offset(start).limit(number)).scalars())


def closed_requests(connection: sa.Connection, conditions: Conditions, sort: str, start: int, number: int) -> list[str]:
    """Ids of a piece of those that are closed; by age means: the one closed last first."""
    orders: Mapping[str, Sequence[Any]] = {
        "risk": (_T.risk.desc(), _T.closed_at.desc(), _T.request_id),
        "age": (_T.closed_at.desc(), _T.request_id),
        "size": (_T.size.desc(), sa.func.coalesce(_T.closed_at, "").desc(), _T.request_id.desc()),
        "collection": (_T.collection, _T.partition, _T.number.desc(), _T.request_id),
    }
    query = sa.select(_T.request_id).where(*conditions).order_by(*orders[sort])
    return list(connection.execute(query.offset(start).limit(number)).scalars())


def _by_bytes(connection: sa.Connection, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    return column.collate("C") if connection.dialect.name == "postgresql" else column


def _by_risk(
    connection: sa.Connection,
    wanted: Conditions,
    seen: Mapping[str, Collection],
    at: str,
    start: int,
    number: int,
) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name, collection in seen.items():
        alike[collection.settings.signoff.sla.model_dump_json()].append(name)
    first = []
    for names in alike.values():
        sla = seen[names[0]].settings.signoff.sla
        first.append(riskiest(connection, [among(names), *wanted], sla, at, start + number))
    return [key[-1] for key in itertools.islice(heapq.merge(*first), start, start + number)]


def riskiest(connection: sa.Connection, conditions: Conditions, sla: SlaSettings, at: str, wanted: int) -> list[_Key]:
    """The first keys, in order, of requests that rise alike."""

    def key_of(risk: float, opened_at: str, request_id: str) -> _Key:
        return -aged_risk(risk, age_hours(opened_at, at, sla), sla), opened_at, request_id

    found: dict[str, _Key] = {}
    for risky, old in zip(
        _pieces(connection, conditions, wanted, *ORDERS["risk"]),
        _pieces(connection, conditions, wanted, *ORDERS["age"]),
        strict=False,
    ):
        new = (row for row in (*risky.rows, *old.rows) if row.request_id not in found)
        found |= {row.request_id: key_of(row.risk, row.opened_at, row.request_id) for row in new}
        if risky.is_last or old.is_last:
            break
        if len(found) >= wanted:
            # What neither order has shown yet is no riskier than the one and no older than the other.
            best = key_of(risky.rows[-1].risk, old.rows[-1].opened_at, old.rows[-1].request_id)
            if heapq.nsmallest(wanted, found.values())[-1] <= best:
                break
    return heapq.nsmallest(wanted, found.values())


class _Piece:
    def __init__(self, rows: Sequence[sa.Row[Any]], size: int) -> None:
        self.rows = rows
        self.is_last = len(rows) < size


def _pieces(connection: sa.Connection, conditions: Conditions, size: int, *order: Any) -> Iterator[_Piece]:
    """One after the other, each as large as all before it."""
    query = sa.select(_T.risk, _T.opened_at, _T.request_id).where(*conditions, IS_OPEN).order_by(*order)
    start, size = 0, max(size, 16)
    while True:
        yield _Piece(connection.execute(query.offset(start).limit(size)).all(), size)
        start, size = start + size, start + size
