"""What a new warehouse is made from: the schema `raw`, loaded while dbt gets ready.

The ledger's days stay Parquet files of the lake and are looked through, but for what is kept of every attempt: that is
copied while a core is idle. The copy, `built` and `days` stay; the rest is small and gone afterwards.
"""

import datetime
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.costs.day_rows import ATTEMPT_FACTS, ATTEMPTS, ORIGIN, REUSES, Rows
from ai_assets.costs.ledger_days import ExportedDay
from ai_assets.inference.prices import NUSD, all_prices, nusd_of, rates_of
from ai_assets.inference.settings import BACKFILL, DEFAULT_TIER, Budget, InferenceSettings
from ai_assets.local_models.devices import device_settings
from ai_assets.signoff import releases
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.storage.content import has_own_bytes
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import SCHEMA_VERSION, Site

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY = "1000MB"
_NO_BURN = ("run", "document", "partition")
"""There are too many of these to draw."""


@dataclass(frozen=True, kw_only=True)
class WarehouseStamp:
    """What a warehouse says of itself."""

    fingerprint: str
    built_at: str
    ledger_at: str | None
    """The newest moment of the ledger that is in it."""
    today: datetime.date


def load(
    site: Site, stores: Stores, days: Sequence[ExportedDay], inference: InferenceSettings, built: WarehouseStamp
) -> None:
    """Fill the schema `raw` of a new file."""
    import duckdb

    connection = duckdb.connect(str(site.file))
    try:
        connection.execute(f"SET memory_limit = '{MEMORY}'; SET temp_directory = {_text(site.folder / 'temp')}")
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        connection.execute("CREATE SCHEMA raw")
        _look_through(connection, "attempts", ATTEMPTS, [stores.lake.path(day.attempts) for day in days], site)
        _look_through(connection, "reuses", REUSES, [stores.lake.path(day.reuses) for day in days], site)
        _fill(connection, "days", _DAYS, [{"day": day.day, **day.standing} for day in days])
        _fill(connection, "prices", _PRICES, _prices(inference, built.today))
        _fill(connection, "devices", _DEVICES, _devices(connection, inference))
        connection.execute(ATTEMPT_FACTS)
        _fill(connection, "budgets", _BUDGETS, _budgets(stores, inference, built.today))
        _answers_in_use(connection, stores)
        _published(connection, stores)
        _fill(connection, "built", _BUILT, [{
            "schema_version": SCHEMA_VERSION, "duckdb_version": duckdb.__version__, "fingerprint": built.fingerprint,
            "built_at": built.built_at, "ledger_at": built.ledger_at, "today": built.today.isoformat(),
            "days": len(days),
        }])  # fmt: skip
    finally:
        connection.close()


def clear(connection: "duckdb.DuckDBPyConnection") -> None:
    """Drop what was only there for dbt to read."""
    connection.execute("DROP VIEW raw.attempts; DROP VIEW raw.reuses")
    for table in (
        "prices",
        "devices",
        "budgets",
        "answers_in_use",
        "judged_assets",
        "published_calls",
        "published_documents",
    ):
        connection.execute(f"DROP TABLE raw.{table}")


def _look_through(
    connection: "duckdb.DuckDBPyConnection", name: str, rows: Rows, files: Iterable[Path], site: Site
) -> None:
    """A view of the files. An empty one is among them: it has all columns, and files there may be none."""
    import pyarrow.parquet as pq

    empty = site.folder / f"{name}.parquet"
    pq.write_table(rows.schema().empty_table(), empty)
    listed = _list_of([empty, *files])
    connection.execute(
        f"CREATE VIEW raw.{name} AS SELECT *, hash({ORIGIN}) AS origin, "  # noqa: S608
        f"CAST({rows.at.partition('.')[2]} AS DATE) AS day FROM read_parquet({listed}, union_by_name = true)"
    )


def _fill(
    connection: "duckdb.DuckDBPyConnection", name: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Values are given as text or whole numbers; the columns say what they become. `_nusd` becomes dollars."""
    import pyarrow as pa

    cells = {column: [row[column] for row in rows] for column in columns}
    kinds = {"BIGINT": pa.int64(), "BOOLEAN": pa.bool_()}
    given = pa.table({
        column: pa.array(values, kinds.get(columns[column], pa.int64() if column.endswith("_nusd") else pa.string()))
        for column, values in cells.items()
    })  # fmt: skip
    chosen = ", ".join(
        f'CAST(CAST("{column}" AS DECIMAL(27, 0)) * CAST(0.000000001 AS DECIMAL(10, 9)) AS DECIMAL(38, 9)) '
        f"AS {column.removesuffix('_nusd')}_usd"
        if column.endswith("_nusd")
        else f'CAST("{column}" AS {kind}) AS "{column}"'
        for column, kind in columns.items()
    )
    _keep(connection, name, chosen, given)


def _keep(connection: "duckdb.DuckDBPyConnection", name: str, chosen: str, given: "pa.Table") -> None:
    connection.register("given", given)
    connection.execute(f"CREATE TABLE raw.{name} AS SELECT {chosen} FROM given")  # noqa: S608
    connection.unregister("given")


_DAYS = {
    "day": "DATE", "attempts": "BIGINT", "reuses": "BIGINT", "cost_nusd": "", "maybe_nusd": "", "saved_nusd": "",
}  # fmt: skip
_PRICES = {
    "endpoint": "VARCHAR", "model": "VARCHAR", "tier": "VARCHAR", "input_rate": "HUGEINT", "cached_rate": "HUGEINT",
    "output_rate": "HUGEINT", "denominator": "HUGEINT",
}  # fmt: skip
_DEVICES = {"device": "VARCHAR", "hour_rate": "HUGEINT"}
_BUDGETS = {
    "budget": "VARCHAR", "name": "VARCHAR", "period": "VARCHAR", "holder": "VARCHAR", "starts": "DATE",
    "burns": "BOOLEAN", "of_tenant": "VARCHAR", "of_collection": "VARCHAR", "of_asset": "VARCHAR", "limit_nusd": "",
    "spent_nusd": "", "in_flight_nusd": "", "maybe_nusd": "", "earmarked_nusd": "",
}  # fmt: skip
_BUILT = {
    "schema_version": "BIGINT", "duckdb_version": "VARCHAR", "fingerprint": "VARCHAR", "built_at": "VARCHAR",
    "ledger_at": "VARCHAR", "today": "DATE", "days": "BIGINT",
}  # fmt: skip


def _prices(inference: InferenceSettings, today: datetime.date) -> list[dict[str, Any]]:
    """Tokens times a rate, over the denominator and rounded up, are nano-dollars. A tier is as the price of an attempt
    names it: the usual one not at all. What is free has none, and is so at each."""
    found = []
    for name, endpoint in inference.endpoints.items():
        for price in all_prices(endpoint, today):
            rates = rates_of(price)
            usual = "" if price.tier == DEFAULT_TIER else price.tier
            found.append({
                "endpoint": name, "model": endpoint.llm, "tier": None if endpoint.free else usual,
                "input_rate": str(rates.input), "cached_rate": str(rates.cached), "output_rate": str(rates.output),
                "denominator": str(rates.denominator),
            })  # fmt: skip
    return found


def _devices(connection: "duckdb.DuckDBPyConnection", inference: InferenceSettings) -> list[dict[str, Any]]:
    """Nano-dollars per hour of those that attempts name, where somebody says what they cost now."""
    found = []
    for (device,) in connection.execute(
        "SELECT DISTINCT endpoint FROM raw.attempts WHERE cpu_s IS NOT NULL"
    ).fetchall():
        if (settings := device_settings(device, inference)) is not None:
            found.append({"device": device, "hour_rate": str(nusd_of(settings.usd_per_hour or 0.0))})
    return found


# Budgets


def _budgets(stores: Stores, inference: InferenceSettings, today: datetime.date) -> list[dict[str, Any]]:
    declared = {budget.name: budget for budget in inference.budgets}
    with stores.state.read() as connection:
        return [_budget(row, declared.get(row.name), today) for row in connection.execute(sa.text(_BALANCES))]


# A limit that a person set stands before what is declared, and that before what was declared last.
_BALANCES = """
SELECT budgets.*, budget_limits.limit_nusd AS set_nusd
FROM budgets LEFT JOIN budget_limits ON budget_limits.name = budgets.name ORDER BY budgets.budget"""


def _budget(row: Any, declared: Budget | None, today: datetime.date) -> dict[str, Any]:
    period, holder = _period_and_holder(row.budget)
    current = {None: "ever", "day": today.isoformat(), "month": today.isoformat()[:7]}
    burns = declared is not None and declared.each not in _NO_BURN and period == current[declared.per]
    limit = row.limit_nusd
    if row.set_nusd is not None:
        limit = row.set_nusd
    elif declared is not None:
        limit = int(declared.limit_usd * NUSD)
    return {
        "budget": row.budget,
        "name": row.name,
        "period": period,
        "holder": holder,
        "starts": f"{period}-01"[:10] if burns and period != "ever" else None,
        "burns": burns,
        **_scope(row.budget, declared),
        "limit_nusd": limit,
        "spent_nusd": row.spent_nusd,
        "in_flight_nusd": row.reserved_nusd,
        "maybe_nusd": row.held_nusd,
        "earmarked_nusd": row.earmarked_nusd,
    }


def _period_and_holder(budget: str) -> tuple[str, str]:
    """Of a row such as `each-run/ever/<run>`. A backfill's own budget has no period: `backfill/<id>`."""
    name, *rest = budget.split("/", 2)
    if name == BACKFILL or not rest:
        return "ever", "/".join(rest)
    return rest[0], urllib.parse.unquote("/".join(rest[1:]))


def _scope(budget: str, declared: Budget | None) -> dict[str, str | None]:
    """Which calls it counts: those that it is declared for, and of them its holder's."""
    scope: dict[str, str | None] = dict.fromkeys(("of_tenant", "of_collection", "of_asset"))
    if declared is None:
        return scope
    scope.update({f"of_{name}": value for name, value in declared.of.items()})
    if declared.each == "asset":
        _, _, collection, asset = map(urllib.parse.unquote, budget.split("/", 3))
        scope.update(of_collection=collection, of_asset=asset)
    elif declared.each in ("tenant", "collection"):
        scope[f"of_{declared.each}"] = urllib.parse.unquote(budget.split("/", 2)[2])
    return scope


# What became of the answers


def _answers_in_use(connection: "duckdb.DuckDBPyConnection", stores: Stores) -> None:
    """Of datasets whose rows name a call, the rows; of paid vectors, the documents that have some."""
    connection.execute(
        "CREATE TABLE raw.answers_in_use "
        "(collection VARCHAR, asset VARCHAR, partition VARCHAR, document VARCHAR, call_key VARCHAR, status VARCHAR)"
    )
    connection.execute("CREATE TABLE raw.judged_assets (collection VARCHAR, asset VARCHAR)")
    asked = connection.execute("SELECT DISTINCT collection, asset, kind = 'embed' FROM raw.attempts").fetchall()
    with stores.state.read() as state:
        for collection, asset, embeds in sorted(asked):
            files = _files(state, stores, collection, asset)
            needed = {"document_id"} if embeds else {"document_id", "call", "status"}
            if not files or not needed <= _columns(connection, files):
                continue
            connection.execute("INSERT INTO raw.judged_assets VALUES (?, ?)", [collection, asset])
            chosen = "document_id, NULL, 'ok'" if embeds else "document_id, call, status"
            connection.execute(
                f"INSERT INTO raw.answers_in_use SELECT DISTINCT ?, ?, filename, {chosen} "  # noqa: S608
                f"FROM read_parquet({_list_of(files)}, union_by_name = true, filename = true)",
                [collection, asset],
            )
            _name_partitions(connection, files)


def _name_partitions(connection: "duckdb.DuckDBPyConnection", files: Mapping[Path, str]) -> None:
    import pyarrow as pa

    connection.register("given", pa.table({"file": [str(path) for path in files], "name": list(files.values())}))
    connection.execute(
        "UPDATE raw.answers_in_use SET partition = given.name FROM given WHERE given.file = answers_in_use.partition"
    )
    connection.unregister("given")


def _files(state: sa.Connection, stores: Stores, collection: str, asset: str) -> dict[Path, str]:
    """The current files of a dataset that hold their bytes, and of which partition each is."""
    query = sa.text("SELECT partition, version FROM datasets WHERE collection = :c AND asset = :a ORDER BY partition")
    found = {}
    for row in state.execute(query, {"c": collection, "a": asset}):
        path = stores.lake.bring(stores.lake.folder(collection, asset, row.partition) / f"{row.version}.parquet")
        if has_own_bytes(path):
            found[path] = row.partition
    return found


def _published(connection: "duckdb.DuckDBPyConnection", stores: Stores) -> None:
    """The calls and documents that any release holds, from its frozen files."""
    for table, what in (("published_calls", "call_key"), ("published_documents", "document")):
        connection.execute(f"CREATE TABLE raw.{table} (collection VARCHAR, {what} VARCHAR)")
    for collection, files in _frozen(stores).items():
        if not files:  # all were removed or altered
            continue
        listed = _list_of(files)
        frozen = f"read_parquet({listed}, union_by_name = true)"
        connection.execute(
            f"INSERT INTO raw.published_documents SELECT DISTINCT ?, document_id FROM {frozen}",  # noqa: S608
            [collection],
        )
        for column in sorted(name for name in _columns(connection, files) if name.endswith("_call")):
            connection.execute(
                f'INSERT INTO raw.published_calls SELECT DISTINCT ?, "{column}" FROM {frozen} '  # noqa: S608
                f'WHERE "{column}" IS NOT NULL',
                [collection],
            )


_RELEASED = "SELECT DISTINCT collection FROM releases"


def _frozen(stores: Stores) -> dict[str, list[Path]]:
    found: dict[str, set[Path]] = defaultdict(set)
    with stores.state.read() as connection:
        names: list[str] = [row.collection for row in connection.execute(sa.text(_RELEASED))]
        for collection in names:
            for release in releases.find(connection, collection):
                for partition, part in release.parts.items():
                    folder = snapshot_folder(stores.lake.root, collection, partition)
                    found[collection].add(stores.lake.bring(folder / part.documents_file))
    return {collection: sorted(filter(has_own_bytes, paths)) for collection, paths in found.items()}


def _columns(connection: "duckdb.DuckDBPyConnection", files: Iterable[Path]) -> set[str]:
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({_list_of(files)}, union_by_name = true)")  # noqa: S608
    return {row[0] for row in described.fetchall()}


def _list_of(files: Iterable[Path]) -> str:
    return f"[{', '.join(map(_text, files))}]"


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
