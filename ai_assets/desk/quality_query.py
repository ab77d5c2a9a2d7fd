"""Data docs: what the quality suites found, from the state store: always those of the last run."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import QUALITY_CHECK
from ai_assets.desk.access import collection_seen, known_view
from ai_assets.desk.context import Desk
from ai_assets.desk.views import Cell, ExpectationView, QualityPage, SuiteView
from ai_assets.signoff.people import Person
from ai_assets.storage.state import storable

Judged = Literal["failed", "all"]
JUDGED: tuple[str, ...] = get_args(Judged)
"""What a suite refused, or all that was judged."""
_TABLE = sa.table(
    "check_results", *map(sa.column, ("collection", "asset", "partition", "check_name", "passed", "details"))
)


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    collection: str
    place: int
    asset: str
    partition: str
    passed: bool


def quality_page(
    desk: Desk,
    person: Person,
    *,
    collection: str = "",
    partition: str = "",
    show: str = "all",
    page: int = 1,
    per_page: int = 20,
) -> QualityPage:
    """What failed first; then the newest partitions, by collection and in the order of its assets."""
    known_view("filter", show, JUDGED)
    seen = desk.seen_by(person)
    chosen = {collection: collection_seen(desk, person, collection)} if collection else seen
    with desk.stores.state.read() as connection:
        found = [each for name in sorted(chosen) for each in _verdicts(connection, chosen[name], partition)]
        failed = sum(not each.passed for each in found)
        shown = sorted(
            (each for each in found if show == "all" or not each.passed), key=lambda each: each.partition, reverse=True
        )
        shown.sort(key=lambda each: (each.passed, each.collection))
        pages = max(1, math.ceil(len(shown) / per_page))
        page = min(max(1, page), pages)
        suites = [_suite(connection, each) for each in shown[(page - 1) * per_page : page * per_page]]
    return QualityPage(
        rows=suites,
        total=len(shown),
        judged=len(found),
        failed=failed,
        page=page,
        pages=pages,
        collections=sorted(name for name, each in seen.items() if any(each.settings.quality.values())),
    )


def _verdicts(connection: sa.Connection, collection: Collection, partition: str) -> list[_Verdict]:
    """Of the suites that are declared; what others found once is not shown."""
    declared = [asset for asset, suite in collection.settings.quality.items() if suite]
    if not declared:
        return []
    query = sa.select(_TABLE.c.asset, _TABLE.c.partition, _TABLE.c.passed).where(
        _TABLE.c.collection == collection.name, _TABLE.c.check_name == QUALITY_CHECK, _TABLE.c.asset.in_(declared)
    )
    if partition:
        query = query.where(_TABLE.c.partition == storable(partition))
    found = [
        _Verdict(
            collection=collection.name,
            place=collection.asset_names.index(row.asset),
            asset=row.asset,
            partition=row.partition,
            passed=bool(row.passed),
        )
        for row in connection.execute(query)
    ]
    return sorted(found, key=lambda each: each.place)


def _suite(connection: sa.Connection, verdict: _Verdict) -> SuiteView:
    query = sa.select(_TABLE.c.details).where(
        _TABLE.c.collection == verdict.collection,
        _TABLE.c.check_name == QUALITY_CHECK,
        _TABLE.c.asset == verdict.asset,
        _TABLE.c.partition == verdict.partition,
    )
    outcome: Any = json.loads(connection.execute(query).scalar_one())
    details = outcome["details"]
    # Verdicts of earlier versions show values of any column, texts of documents among them.
    is_of_earlier = "judged_at" not in details
    return SuiteView(
        collection=verdict.collection,
        asset=verdict.asset,
        partition=verdict.partition,
        passed=verdict.passed,
        blocking=bool(outcome["blocking"]),
        run_id=details.get("run_id"),
        judged_at=details.get("judged_at"),
        expectations=[] if is_of_earlier else _expectations(details),
    )


def _expectations(details: Any) -> list[ExpectationView]:
    """What failed first."""
    found = []
    for number, result in enumerate(details["results"]):
        rows = [row for row in details["failing_rows"] if row["number"] == number]
        names = [name for name in (rows[0] if rows else ()) if name not in ("number", "expectation")]
        found.append(
            ExpectationView(
                expectation=result["expectation"],
                column=result["column"],
                passed=result["passed"],
                blocking=result["blocking"],
                observed=result["observed"],
                note=result["note"],
                unexpected=result["unexpected_count"],
                rows=result["total"],
                failing_columns=names,
                failing_rows=[_cells(row, names) for row in rows],
            )
        )
    return sorted(found, key=lambda each: each.passed)


def _cells(row: Any, names: Sequence[str]) -> list[Cell]:
    return [row[name] for name in names]
