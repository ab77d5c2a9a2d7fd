"""The cost warehouse, built: days of the ledger into the lake, all of them into marts, and the file swapped in."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.costs import load_raw
from ai_assets.costs.comments import describe
from ai_assets.costs.day_rows import ATTEMPT_FACTS
from ai_assets.costs.dbt_build import Step
from ai_assets.costs.ledger_days import (
    COLLECTION,
    ExportedDay,
    check_closed,
    committed,
    due_days,
    export_day,
    exported,
    lost_days,
)
from ai_assets.costs.marts import project
from ai_assets.inference.load import inference_at
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.digest import Json, digest, sha256_hex
from ai_assets.storage.leases import Lease
from ai_assets.storage.shared_warehouse import building_for, warehouse_file
from ai_assets.storage.state import StateStore, now
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import SCHEMA_VERSION, Site, WarehouseDamaged, WarehouseMissing, reading

if TYPE_CHECKING:
    import duckdb

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Mart:
    """One table of the finished warehouse."""

    name: str
    rows: int
    seconds: float
    cost_usd: str | None
    """The sum of its column of that name; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class Building:
    """What a build made."""

    fingerprint: str
    unchanged: bool
    """The live warehouse was made from the very same, so none was built."""
    marts: Sequence[Mart]
    tests: Sequence[Step]
    sql: Mapping[str, str]
    """By table, what dbt ran; nothing where none was built."""


def is_due(stores: Stores) -> bool:
    """Whether a build would change anything: the ledger, prices, budgets, answers in use, releases, or the date."""
    if days_to_copy(stores):
        return True
    days = committed(stores)
    return bool(days) and _live_fingerprint(stores.home) != _wanted(stores, days, _inference(stores))


def newest_call(stores: Stores) -> str | None:
    """When an attempt last left or an answer was last used again."""
    with stores.state.read() as connection:
        found: str | None = connection.execute(sa.text(_NEWEST)).scalar_one()
    return found


def oldest_call(state: StateStore) -> str | None:
    """When the first attempt left."""
    with state.read() as connection:
        found: str | None = connection.execute(sa.text("SELECT min(sent_at) FROM attempts")).scalar_one()
    return found


_NEWEST = """
SELECT max(at) FROM (SELECT max(sent_at) AS at FROM attempts UNION ALL SELECT max(reused_at) FROM reuses) AS newest"""


def days_to_copy(stores: Stores) -> list[str]:
    """Days whose copy is missing, lost, altered, or differs from the ledger."""
    return sorted({*due_days(stores), *lost_days(stores)})


def export(
    stores: Stores, chosen: Sequence[str], run_id: str, lease: Lease, say: Say = lambda _line: None
) -> list[ExportedDay]:
    """Bring the copies of these days up to date. A closed day whose copy is not due must still be as it was copied."""
    due = days_to_copy(stores)
    done = []
    for day in chosen:
        copy = exported(stores, day)
        if copy is None or day in due:
            say(f"copying the ledger of {day}")
            copy = export_day(stores, day, run_id, lease.fenced)
        else:
            check_closed(stores, copy)
        done.append(copy)
    return done


def build(stores: Stores, lease: Lease, say: Say = lambda _line: None) -> Building:
    """A new warehouse over all days in the lake, in place of the old one. Nothing changes when anything is wrong."""
    from ai_assets.costs import dbt_build

    inference, days = _inference(stores), committed(stores)
    fingerprint = _wanted(stores, days, inference)
    if fingerprint == _live_fingerprint(stores.home):
        say("the warehouse is up to date")
        return Building(fingerprint=fingerprint, unchanged=True, marts=_marts(stores.home, {}), tests=(), sql={})
    with building_for(stores.home, lease) as site, dbt_build.starting(site) as build_marts:
        say(f"loading {plural(len(days), 'day')}, {plural(sum(day.attempts.rows for day in days), 'attempt')}")
        load_raw.load(site, stores, days, inference, _built(fingerprint, days))
        say("dbt build")
        steps = build_marts()
        _finish(site)
    models = {step.name: step.seconds for step in steps if not step.is_test}
    return Building(
        fingerprint=fingerprint,
        unchanged=False,
        marts=_marts(stores.home, models),
        tests=[step for step in steps if step.is_test],
        sql={step.name: step.sql for step in steps if not step.is_test},
    )


def _inference(stores: Stores) -> InferenceSettings:
    return inference_at(stores.home)


def _built(fingerprint: str, days: Sequence[ExportedDay]) -> load_raw.WarehouseStamp:
    newest = [moment for day in days for moment in (day.attempts.stats["newest"], day.reuses.stats["newest"]) if moment]
    return load_raw.WarehouseStamp(
        fingerprint=fingerprint, built_at=now(), ledger_at=max(newest, default=None), today=_today()
    )


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _wanted(stores: Stores, days: Sequence[ExportedDay], inference: InferenceSettings) -> str:
    """The digest of all that a warehouse of now would be made from."""
    with stores.state.read() as connection:
        found: list[Json] = [
            [str(row) for row in connection.execute(sa.text(query), {"own": COLLECTION})] for query in _MADE_FROM
        ]
    return digest([
        SCHEMA_VERSION,
        _project_digest(),
        _today().isoformat(),
        {day.day: day.version for day in days},
        {name: endpoint.model_dump(mode="json") for name, endpoint in inference.endpoints.items()},
        {name: device.model_dump(mode="json") for name, device in inference.devices.items()},
        [budget.model_dump(mode="json") for budget in inference.budgets],
        found,
    ])  # fmt: skip


_MADE_FROM = (
    "SELECT collection, asset, partition, version FROM datasets WHERE collection <> :own AND EXISTS (SELECT 1 "
    "FROM callers WHERE callers.collection = datasets.collection AND callers.asset = datasets.asset) ORDER BY 1, 2, 3",
    "SELECT collection, number, digest FROM releases ORDER BY 1, 2",
    "SELECT budget, limit_nusd, spent_nusd, reserved_nusd, held_nusd, earmarked_nusd FROM budgets ORDER BY 1",
    "SELECT name, limit_nusd FROM budget_limits ORDER BY 1",
)


def _project_digest() -> str:
    files = sorted(path for path in project().rglob("*") if path.suffix in (".sql", ".yml"))
    return digest([ATTEMPT_FACTS, *(sha256_hex(path.read_bytes()) for path in files)])


def _live_fingerprint(home: Home) -> str | None:
    """Of the live warehouse; None where there is none that can be read. A newer one is an error."""
    try:
        with reading(warehouse_file(home)) as connection:
            found = connection.execute("SELECT fingerprint FROM raw.built").fetchone()
    except (WarehouseMissing, WarehouseDamaged):
        return None
    return found[0] if found else None


def _finish(site: Site) -> None:
    import duckdb

    with duckdb.connect(str(site.file)) as connection:
        load_raw.clear(connection)
        describe(connection)
        connection.execute("CHECKPOINT")


def _marts(home: Home, seconds: Mapping[str, float]) -> list[Mart]:
    """Every table of the warehouse that is live, in order of name."""
    with reading(warehouse_file(home)) as connection:
        tables = connection.execute(_TABLES).fetchall()
        return [_mart(connection, *row, seconds=seconds.get(row[1], 0.0)) for row in tables]


_TABLES = """
SELECT table_schema, table_name, bool_or(column_name = 'cost_usd') FROM information_schema.columns
WHERE table_catalog = current_database() AND table_schema IN ('staging', 'marts') GROUP BY ALL ORDER BY table_name"""


def _mart(connection: "duckdb.DuckDBPyConnection", schema: str, name: str, has_cost: bool, *, seconds: float) -> Mart:
    total = "CAST(coalesce(sum(cost_usd), 0) AS VARCHAR)" if has_cost else "NULL"
    rows, cost = connection.execute(f"SELECT count(*), {total} FROM {schema}.{name}").fetchall()[0]  # noqa: S608
    return Mart(name=name, rows=rows, seconds=seconds, cost_usd=cost)
