"""`costs/inference_cost`, the ledger day by day, and the tables that dbt makes of it. One op, because a run does both.

The op must stay a generator of events, as the segment's: a day without news gets none.
"""

import contextlib
import datetime
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.costs.marts import Model, assets_of_sources, in_order, models
from ai_assets.orchestration.events import version_tags
from ai_assets.orchestration.segment import failure
from ai_assets.orchestration.specs import without_preview_warnings

if TYPE_CHECKING:
    from ai_assets.costs.building import Building
    from ai_assets.costs.ledger_days import ExportedDay
    from ai_assets.lineage.cost_lineage import CostLineage
    from ai_assets.storage.leases import Lease
    from ai_assets.storage.stores import Stores

GROUP = JOB = "costs"
LEDGER = dg.AssetKey([GROUP, "inference_cost"])
RECONCILES = "reconciles"
_PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start")
_DESCRIPTION = (
    "A row is one attempt of the ledger, or one answer used again, of one day (UTC). Made from the ledger; stale when "
    "a call is made, ends late, or is resolved. Every attempt is in it once."
)

telling: ContextVar[Callable[[str], None] | None] = ContextVar("telling", default=None)
"""Hears what a run in this process is doing, in short lines."""
Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


class CostsFailed(UserError):
    """Says what the failed run said."""


def cost_assets() -> list[dg.AssetsDefinition]:
    """The op. A run of chosen days brings those up to date, any other all that are due; both build the warehouse."""
    days = dg.DailyPartitionsDefinition(start_date=first_day(Home.from_environment()), timezone="UTC", end_offset=1)
    ledger = dg.AssetSpec(
        LEDGER,
        description=_DESCRIPTION,
        group_name=GROUP,
        kinds={"duckdb", "parquet"},
        skippable=True,
        partitions_def=days,
    )

    @dg.multi_asset(
        name="costs__build",
        specs=[ledger, *map(_spec, models())],
        check_specs=_check_specs(days),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def body(context: dg.AssetExecutionContext) -> Iterator[Event]:
        from ai_assets.storage.leases import hold
        from ai_assets.storage.stores import Stores
        from ai_assets.storage.warehouse import LEASE

        say = telling.get() or context.log.info
        try:
            with (
                Stores.of_run(Home.from_environment()) as stores,
                hold(stores.state, LEASE) as lease,
                _lineage(context, stores.home) as lineage,
            ):
                yield from _run(context, stores, lease, say, lineage)
        except UserError as error:
            raise failure(error) from None

    return [body]


def first_day(home: Home) -> str:
    """Of the axis: the first day that has a copy, else the first of the ledger, else today (UTC).

    Read when definitions are loaded, so it is a look at the names of folders in all but the youngest homes; where the
    lake is in a bucket, the folders here are those of one machine.
    """
    folders = _folders(home.lake / LEDGER.path[0] / LEDGER.path[1]) if home.data_url is None else []
    days = [path.name for path in folders if _is_day(path.name)]
    return min(days) if days else _first_of_ledger(home) or datetime.datetime.now(datetime.UTC).date().isoformat()


def _folders(place: Path) -> list[Path]:
    try:
        return list(place.iterdir())
    except OSError:
        return []


def _is_day(name: str) -> bool:
    try:
        return datetime.date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False


def _first_of_ledger(home: Home) -> str | None:
    file = Path(home.state_url.removeprefix("sqlite:///"))
    if home.state_url.startswith("sqlite:///"):  # the usual one is read without SQLAlchemy, which takes long to import
        if not file.is_file():
            return None
        try:
            with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                (first,) = connection.execute("SELECT min(sent_at) FROM attempts").fetchone()
        except sqlite3.Error:
            return None  # whoever needs the store says what is wrong with it
        return first[:10] if first else None
    import sqlalchemy as sa

    from ai_assets.storage.state import StateStore

    try:
        with StateStore.reached(home.state_url) as connection:  # of a new database, loading makes no tables
            if not sa.inspect(connection).has_table("attempts"):
                return None
            first = connection.execute(sa.text("SELECT min(sent_at) FROM attempts")).scalar_one()
    except (UserError, OSError):
        return None  # whoever needs the store says what is wrong with it
    return str(first)[:10] if first else None


def costs_job() -> "dg.UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        JOB,
        dg.AssetSelection.groups(GROUP),
        description="Bring the cost warehouse up to date: days of the ledger that changed, and what is made of them.",
        executor_def=dg.in_process_executor,
    )


def execute(home: Home, say: Callable[[str], None]) -> None:
    """The job, in this process. Raises CostsFailed with the sentence that the run failed with."""
    from ai_assets.orchestration import in_process
    from ai_assets.orchestration.instance import instance

    token = telling.set(say)
    try:
        with instance(home) as dagster:
            job = dg.Definitions(assets=cost_assets(), jobs=[costs_job()]).resolve_job_def(JOB)
            result = in_process.execute(job, dagster, {})
    finally:
        telling.reset(token)
    if not result.success:
        raise CostsFailed(in_process.why(result))


@contextlib.contextmanager
def _lineage(context: dg.AssetExecutionContext, home: Home) -> "Iterator[CostLineage | None]":
    """Of what the run makes, where OpenLineage is configured."""
    from ai_assets.lineage.opening import of_costs

    descriptions = {LEDGER.path[-1]: _DESCRIPTION}
    told = of_costs(home, context.run.run_id, descriptions, lambda line: context.log.warning(printable(line)))
    if told is None:
        yield None
        return
    told.began()
    try:
        yield told
        told.ended(None)
    except BaseException as error:
        told.ended(str(error) or type(error).__name__)
        raise
    finally:
        told.close()


def _run(
    context: dg.AssetExecutionContext,
    stores: "Stores",
    lease: "Lease",
    say: Callable[[str], None],
    lineage: "CostLineage | None",
) -> Iterator[Event]:
    from ai_assets.costs.building import build, days_to_copy, export
    from ai_assets.costs.dbt_build import WarehouseWrong
    from ai_assets.costs.ledger_days import LedgerAltered

    chosen: Sequence[str] = ()
    if LEDGER in context.selected_asset_keys:
        partitioned = any(tag in context.run.tags for tag in _PARTITION_TAGS)
        chosen = context.partition_keys if partitioned else days_to_copy(stores)
    try:
        days = export(stores, chosen, context.run.run_id, lease, say)
        for day in days:
            yield _materialization(day)
        if lineage is not None:
            lineage.copied(days)
        done = build(stores, lease, say)
    except LedgerAltered as error:
        yield _verdict(error.day, passed=False, said=str(error))
        raise
    except WarehouseWrong as error:
        if error.test is not None:
            if lineage is not None:
                lineage.judged(error.model, error.test, passed=False, said=str(error))
            yield _tested(error.model, error.test, passed=False, said=str(error))
        raise
    if lineage is not None:
        lineage.built(done)
    yield from _built(context, done)
    for day in days:
        yield _verdict(day.day, passed=True, said="The marts have the sums of the ledger.", **dollars(day))


def _built(context: dg.AssetExecutionContext, done: "Building") -> Iterator[Event]:
    by_name = {mart.name: mart for mart in done.marts}
    for mart in (by_name[name] for name in in_order(models())):
        key = dg.AssetKey([GROUP, mart.name])
        if key in context.selected_asset_keys:
            metadata: dict[str, dg.MetadataValue | float | int | bool] = {
                "dagster/row_count": mart.rows, "seconds": round(mart.seconds, 3), "unchanged": done.unchanged,
            }  # fmt: skip
            if mart.cost_usd is not None:
                metadata["cost_usd"] = float(mart.cost_usd)
            yield dg.AssetMaterialization(key, metadata=metadata, tags=version_tags(done.fingerprint))
    wanted = {(key.asset_key.path[-1], key.name) for key in context.selected_asset_check_keys}
    for step in done.tests:
        if (step.model, step.name) in wanted:
            yield _tested(step.model, step.name, passed=True, said="")


def _materialization(day: "ExportedDay") -> dg.AssetMaterialization:
    figures = day.standing
    return dg.AssetMaterialization(
        LEDGER,
        partition=day.day,
        metadata={
            "attempts": figures["attempts"],
            "answers_reused": figures["reuses"],
            "in_flight": day.attempts.stats["in_flight"],
            "ambiguous": day.attempts.stats["ambiguous"],
            **dollars(day),
        },
        tags=version_tags(day.version),
    )


def dollars(day: "ExportedDay") -> dict[str, float]:
    """For plots."""
    from ai_assets.inference.prices import usd_of

    return {f"{name}_usd": usd_of(day.standing[f"{name}_nusd"]) for name in ("cost", "saved", "maybe")}


def _verdict(day: str, *, passed: bool, said: str, **figures: float) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=LEDGER, check_name=RECONCILES, passed=passed, partition=day, description=said, metadata=figures
    )


def _tested(model: str, name: str, *, passed: bool, said: str) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey([GROUP, model]), check_name=name, passed=passed, description=said
    )


def _spec(model: Model) -> dg.AssetSpec:
    sources = {assets_of_sources()[name] for name in model.sources if name in assets_of_sources()}
    columns = [
        dg.TableColumn(name, type=kind, description=description) for name, (kind, description) in model.columns.items()
    ]
    return dg.AssetSpec(
        dg.AssetKey([GROUP, model.name]),
        deps=[dg.AssetKey([GROUP, name]) for name in (*sorted(sources), *model.models)],
        description=model.description,
        group_name=GROUP,
        kinds={"dbt", "duckdb"},
        skippable=True,
        metadata={"dagster/column_schema": dg.TableSchema(columns=columns)},
    )


@without_preview_warnings
def _check_specs(days: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    """One per dbt test; and per day, that the ledger and the marts agree."""
    reconciles = dg.AssetCheckSpec(
        RECONCILES,
        asset=LEDGER,
        description="The sums of the day in the ledger are those of the marts; a closed day is as it was.",
        partitions_def=days,
    )
    tests = [
        dg.AssetCheckSpec(name, asset=dg.AssetKey([GROUP, model.name]), description=claim)
        for model in models()
        for name, claim in model.tests.items()
    ]
    return [reconciles, *tests]
