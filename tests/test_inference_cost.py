"""Claims about the ledger's days in the lake, and the run that brings them and the warehouse up to date."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import REPOSITORY
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from engines import CALLER, endpoint, question, questions, rows, settings
from engines import ask as ask_models
from lineage_events import INSTALLED, appended_to, check_valid, completed, events_in
from provider import Provider
from warehouses import PRICES, Ledger, ask, build, declare, home_at, random_ledger

from ai_assets.base.errors import LakeUnwritable
from ai_assets.base.home import Home
from ai_assets.costs import building
from ai_assets.costs.ledger_days import LedgerAltered, check_closed, due_days, export_day, exported, lost_days
from ai_assets.costs.marts import models
from ai_assets.inference.resolving import Resolution, named, resolve
from ai_assets.orchestration import in_process
from ai_assets.orchestration.automation.inference_cost import inference_cost
from ai_assets.orchestration.inference_cost import LEDGER, CostsFailed, cost_assets, costs_job
from ai_assets.orchestration.instance import instance
from ai_assets.signoff.integrity import verify
from ai_assets.storage.lake import MANIFEST, read_parquet, write_parquet
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore, now
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import LEASE, WarehouseMissing, reading

pytestmark = pytest.mark.slow

DAY = "2026-11-01"
LATER = "2026-11-03T12:00:00.000+00:00"


def at(hour: int, day: str = DAY) -> str:
    return f"{day}T{hour:02d}:00:00.000+00:00"


@pytest.fixture
def stores(tmp_path: Path, store_url: str) -> Iterator[Stores]:
    with Stores.at(home_at(tmp_path, store_url)) as opened:
        yield opened


@pytest.fixture
def ledger(stores: Stores) -> Ledger:
    return Ledger(stores)


def exported_rows(stores: Stores, day: str = DAY) -> list[dict[str, Any]]:
    copy = exported(stores, day)
    assert copy is not None
    found: list[dict[str, Any]] = read_parquet(stores.lake.path(copy.attempts)).to_pylist()
    return found


# When a day is due


def test_a_day_is_due_until_it_is_copied_and_twice_the_same_is_the_same_version(stores: Stores, ledger: Ledger) -> None:
    assert due_days(stores) == []
    caller = ledger.caller()
    ledger.reuse(ledger.attempt(caller, at(9)), caller, at(9, "2026-11-02"))
    assert due_days(stores) == [DAY, "2026-11-02"]
    first = [export_day(stores, day, "run") for day in due_days(stores)]
    assert due_days(stores) == []
    assert [export_day(stores, day.day, "again").version for day in first] == [day.version for day in first]


def test_a_new_call_or_a_reuse_makes_its_day_due_and_no_other(stores: Stores, ledger: Ledger) -> None:
    caller = ledger.caller()
    for day in (DAY, "2026-11-02"):
        number = ledger.attempt(caller, at(9, day))
        export_day(stores, day, "run")
    ledger.attempt(caller, at(10))
    assert due_days(stores) == [DAY]
    export_day(stores, DAY, "run")
    ledger.reuse(number, caller, at(11, "2026-11-02"))
    assert due_days(stores) == ["2026-11-02"]


@pytest.mark.parametrize(
    ("before", "after", "cost"),
    [("intent", "settled", 7), ("ambiguous", "settled", 7), ("intent", "ambiguous", None), ("ambiguous", "failed", 0)],
)
def test_an_attempt_that_ends_late_makes_its_day_due_and_corrects_it(
    stores: Stores, ledger: Ledger, before: str, after: str, cost: int | None
) -> None:
    caller = ledger.caller()
    number = ledger.attempt(caller, at(9), state=before, cost_nusd=None)
    ledger.attempt(caller, at(10), state="ambiguous", cost_nusd=None)
    export_day(stores, DAY, "run")
    assert due_days(stores) == []
    ledger.change(
        "UPDATE attempts SET state = :after, cost_nusd = :cost WHERE attempt_id = :n", after=after, cost=cost, n=number
    )
    assert due_days(stores) == [DAY]
    export_day(stores, DAY, "run")
    (row,) = [row for row in exported_rows(stores) if row["attempt"] == number]
    assert (row["state"], None if row["cost_usd"] is None else int(row["cost_usd"] * 10**9)) == (after, cost)


def test_what_a_turn_commits_just_after_midnight_is_still_copied(stores: Stores, ledger: Ledger) -> None:
    caller = ledger.caller()
    ledger.attempt(caller, f"{DAY}T23:59:59.990+00:00")
    export_day(stores, DAY, "run")
    ledger.change(
        "UPDATE datasets SET stats = replace(stats, :found, :said) WHERE partition = :day",
        found=_read_at(stores), said="2026-11-02T00:00:01.000+00:00", day=DAY,
    )  # fmt: skip
    ledger.attempt(caller, f"{DAY}T23:59:59.980+00:00")  # older than what was copied, and committed later
    assert due_days(stores, "2026-11-02T00:04:59.000+00:00") == []
    assert due_days(stores, "2026-11-02T00:05:00.000+00:00") == [DAY]
    export_day(stores, DAY, "run")
    assert len(exported_rows(stores)) == 2
    assert due_days(stores) == []


def _read_at(stores: Stores) -> str:
    copy = exported(stores, DAY)
    assert copy is not None
    return str(copy.attempts.stats["read_at"])


def test_looking_for_due_days_walks_indexes_and_never_the_ledger(tmp_path: Path) -> None:
    from ai_assets.costs import ledger_days
    from ai_assets.costs.day_rows import ATTEMPTS, REUSES

    with closing(StateStore(f"sqlite:///{tmp_path}/state.db")) as state, state.read() as connection:
        for statement in (ATTEMPTS.days, REUSES.days, str(ledger_days._UNENDED)):
            plan = [row.detail for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}"))]
            scans = [step for step in plan if "SCAN attempts" in step or "SCAN reuses" in step]
            assert all("USING" in step and "INDEX" in step for step in scans), plan


def test_a_ledger_of_many_attempts_is_looked_through_in_moments(stores: Stores, ledger: Ledger) -> None:
    caller = ledger.caller()
    ledger.attempt(caller, at(9))
    columns = "call_key, caller_id, document, endpoint, model, kind, carried, reserved_nusd, budgets, state"
    ledger.change(
        f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "  # noqa: S608
        f"INSERT INTO attempts (attempt_id, sent_at, {columns}) "
        f"SELECT n.i, '2026-10-' || CAST(10 + n.i % 20 AS TEXT) || 'T10:00:00.000+00:00', {columns} "
        "FROM n CROSS JOIN attempts WHERE attempts.attempt_id = 1"
    )
    if stores.state.dialect == "postgresql":
        ledger.change("ANALYZE")
    took = []
    for _ in range(5):
        started = time.perf_counter()
        assert len(due_days(stores)) == 21
        took.append(time.perf_counter() - started)
    assert min(took) < 0.5


# What a copy is


def test_a_copy_has_every_attempt_once_with_who_asked_and_decimal_dollars(stores: Stores, ledger: Ledger) -> None:
    random_ledger(stores, seed=5, days=[DAY], attempts=80)
    copy = export_day(stores, DAY, "run")
    found = exported_rows(stores)
    with stores.state.read() as connection:
        there = connection.execute(
            sa.text("SELECT * FROM attempts JOIN callers USING (caller_id) ORDER BY sent_at")
        ).all()
    assert [row["attempt"] for row in found] == [row.attempt_id for row in there]
    for row, want in zip(found, there, strict=True):
        assert (row["tenant"], row["partition"], row["run_id"]) == (want.tenant, want.partition, want.run_id)
        assert row["sent_at"].isoformat(timespec="milliseconds") + "+00:00" == want.sent_at
        assert (None if row["cost_usd"] is None else int(row["cost_usd"] * 10**9)) == want.cost_nusd
        assert int(row["reserved_usd"] * 10**9) == want.reserved_nusd
    assert copy.attempts.stats["cost_nusd"] == sum(int((row["cost_usd"] or 0) * 10**9) for row in found) > 0


def test_a_day_of_many_chunks_is_streamed(stores: Stores, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_assets.costs.ledger_days.CHUNK_ROWS", 7)
    caller = ledger.caller()
    for _ in range(30):
        ledger.attempt(caller, at(9))
    assert export_day(stores, DAY, "run").attempts.rows == len(exported_rows(stores)) == 30


def test_killed_between_the_two_files_the_day_is_due_again(stores: Stores, ledger: Ledger) -> None:
    caller = ledger.caller()
    ledger.reuse(ledger.attempt(caller, at(9)), caller, at(10))
    export_day(stores, DAY, "run")
    ledger.attempt(caller, at(11))
    commits = iter([None, KeyboardInterrupt])

    @contextmanager
    def die() -> Iterator[None]:
        if (error := next(commits)) is not None:
            raise error
        yield

    with suppress(KeyboardInterrupt):
        export_day(stores, DAY, "run", die)
    assert due_days(stores) == [DAY]
    assert export_day(stores, DAY, "run").standing["attempts"] == 2


def test_a_copy_whose_file_is_gone_is_made_again(stores: Stores, ledger: Ledger) -> None:
    ledger.attempt(ledger.caller(), at(9))
    copy = export_day(stores, DAY, "run")
    stores.lake.path(copy.attempts).unlink()
    assert lost_days(stores) == building.days_to_copy(stores) == [DAY]
    assert exported(stores, DAY) is None


def test_a_copy_whose_bytes_were_altered_is_made_again(home: Home) -> None:
    in_process.bring_costs_up_to_date(home)
    with Stores.at(home) as stores:
        copy = building.committed(stores)[0]
        path, written = stores.lake.path(copy.attempts), stores.lake.path(copy.attempts).read_bytes()
        path.write_bytes(written[:100] + b"x" + written[101:])
        assert (building.is_due(stores), lost_days(stores)) == (True, [copy.day])
        in_process.bring_costs_up_to_date(home)
        assert path.read_bytes() == written


def test_a_row_that_somebody_changed_in_a_closed_day_is_named_with_both_figures(stores: Stores, ledger: Ledger) -> None:
    number = ledger.attempt(ledger.caller(), at(9), cost_nusd=26_000)
    copy = export_day(stores, DAY, "run")
    check_closed(stores, copy)
    ledger.change("UPDATE attempts SET cost_nusd = 25999 WHERE attempt_id = :n", n=number)
    with pytest.raises(
        LedgerAltered, match=rf"{DAY} was altered: cost of \$0\.000026000 .*, cost of \$0\.000025999 now"
    ):
        check_closed(stores, copy)
    with hold(stores.state, LEASE) as lease, pytest.raises(LedgerAltered):
        building.export(stores, [DAY], "run", lease)
    ledger.change("DELETE FROM attempts")
    with pytest.raises(LedgerAltered, match="1 attempt when the day was copied, 0 attempts now"):
        check_closed(stores, copy)


def test_what_the_ledger_itself_changes_is_no_alteration(stores: Stores, ledger: Ledger) -> None:
    number = ledger.attempt(ledger.caller(), at(9), state="intent", cost_nusd=None)
    copy = export_day(stores, DAY, "run")
    ledger.change("UPDATE attempts SET state = 'settled', cost_nusd = 5 WHERE attempt_id = :n", n=number)
    check_closed(stores, copy)


# The whole, on a provider


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Home:
    """A ledger with real calls, faults, reuses and one that may have been billed."""
    declared = {
        **PRICES,
        "endpoints": {"mini": endpoint(provider.url, timeout_s=1.0)},
        "routes": {"default": {"endpoints": ["mini"]}},
    }
    found = home_at(tmp_path, None, declared)
    monkeypatch.chdir(tmp_path)
    for name, value in found.variables().items():
        monkeypatch.setenv(name, value)
    asked = settings(declared["endpoints"], budgets=declared["budgets"])
    provider.script([{"match": "Note 3.", "fault": "reset_after", "times": 1}])
    ask_models(found.state_url, asked, questions(12), CALLER)
    ask_models(found.state_url, asked, questions(20), CALLER)
    return found


def ledger_cost(home: Home) -> float:
    return float(rows(home.state_url, "SELECT sum(cost_nusd) AS cost FROM attempts")[0].cost) / 1e9


def test_one_command_copies_builds_and_then_finds_nothing_to_do(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    file = appended_to(tmp_path / "events.jsonl", monkeypatch)
    in_process.bring_costs_up_to_date(home, said.append)
    today = now()[:10]
    events = events_in(file) if INSTALLED else []
    if INSTALLED:
        check_lineage(home, events, today)
    assert said[0] == f"copying the ledger of {today}"
    assert float(ask(home, "SELECT sum(cost_usd) FROM marts.spend")[0][0]) == pytest.approx(
        ledger_cost(home), abs=1e-12
    )
    assert ask(home, "SELECT sum(reused), count(DISTINCT document) > 10 FROM marts.spend, staging.stg_attempts")[0][1]
    with instance(home) as dagster:
        assert dagster.get_materialized_partitions(LEDGER) == {today}
        records = {key.path[-1]: dagster.get_latest_materialization_event(key) for key in cost_assets()[0].keys}
        assert all(records.values()), records
        spend = records["spend"]
        assert spend is not None
        assert spend.asset_materialization is not None
        assert spend.asset_materialization.metadata["cost_usd"].value == pytest.approx(ledger_cost(home))
        checks = [
            e
            for e in dagster.all_logs(spend.run_id)
            if e.dagster_event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ]
        expected = {(spec.asset_key, spec.name) for spec in cost_assets()[0].check_specs}
        given = [event.get_dagster_event().asset_check_evaluation_data for event in checks]
        assert {(item.asset_key, item.check_name) for item in given} == expected
        assert all(item.passed for item in given)
    said.clear()
    in_process.bring_costs_up_to_date(home, said.append)
    assert said == []
    with instance(home) as dagster:
        job = dg.Definitions(assets=cost_assets(), jobs=[costs_job()]).resolve_job_def("costs")
        assert job.execute_in_process(instance=dagster, partition_key=today).success
    if INSTALLED:
        later = [(each["job"]["name"], each["eventType"]) for each in events_in(file)[len(events) :]]
        assert later == [("costs", "START"), ("costs", "COMPLETE")], "what is unchanged is not told again"


def check_lineage(home: Home, events: list[dict[str, Any]], today: str) -> None:
    """Of one run that copied a day and built the warehouse."""
    for event in events:
        check_valid(event)
    assert [each["eventType"] for each in events if each["job"]["name"] == "costs"] == ["START", "COMPLETE"]
    day = completed(events, "costs.inference_cost")
    assert day["run"]["facets"]["nominalTime"]["nominalStartTime"] == f"{today}T00:00:00Z"
    (ledger,) = day["inputs"]
    (place,) = ledger["facets"]["symlinks"]["identifiers"]
    assert (ledger["name"], place["namespace"], place["name"]) == ("ledger", "file", str(home.root / "state.db"))
    made = {
        output["name"]: (event, output)
        for event in events
        for output in event["outputs"]
        if event["eventType"] == "COMPLETE"
    }
    assert set(made) == {"costs.inference_cost", *(f"costs.{model.name}" for model in models())}
    known = {"ledger", *made}
    for model in models():
        event, output = made[f"costs.{model.name}"]
        (place,) = output["facets"]["symlinks"]["identifiers"]
        assert (place["namespace"], place["name"]) == (
            f"duckdb://{home.warehouse}", f"costs.{model.schema}.{model.name}",
        )  # fmt: skip
        assert [each["name"] for each in output["facets"]["schema"]["fields"]] == list(model.columns)
        assert output["facets"]["storage"]["fileFormat"] == "duckdb"
        (counted,) = ask(home, f"SELECT count(*) FROM {model.schema}.{model.name}")[0]  # noqa: S608
        assert output["outputFacets"]["outputStatistics"]["rowCount"] == counted
        inputs = {each["name"] for each in event["inputs"]}
        assert inputs
        assert inputs <= known
        assert {f"costs.{name}" for name in model.models} <= inputs
    reads = {name: {each["name"] for each in event["inputs"]} for name, (event, _) in made.items()}
    assert reads["costs.stg_attempts"] == {"costs.stg_attempt_facts", "costs.stg_origins"}
    assert {name for name, found in reads.items() if "costs.inference_cost" in found} >= {"costs.stg_attempt_facts"}
    check_columns({name: output["facets"] for name, (_, output) in made.items()}, reads)
    claims = {f"costs.{model.name}.{test}" for model in models() for test in model.tests}
    judged = {each["job"]["name"] for each in events if "dataQualityAssertions" in json.dumps(each)}
    assert judged == claims
    run_id = events[0]["run"]["runId"]
    assert all(each["run"]["facets"]["parent"]["run"]["runId"] == run_id for each in events[1:-1])


def check_columns(facets: dict[str, dict[str, Any]], reads: dict[str, set[str]]) -> None:
    """A column comes from columns that are there, of tables that its table is made from; only counts come from none."""
    there = {name: {each["name"] for each in found["schema"]["fields"]} for name, found in facets.items()}
    made = {
        name: {column: said["inputFields"] for column, said in found["columnLineage"]["fields"].items()}
        for name, found in facets.items() if "columnLineage" in found
    }  # fmt: skip
    for name, columns in made.items():
        for column, origins in columns.items():
            assert column in there[name]
            for each in origins:
                assert each["name"] in reads[name], (name, column, each)
                assert each["field"] in there[each["name"]], (name, column, each)

    def of(table: str, column: str) -> list[tuple[str, str, str]]:
        return [
            (each["name"].removeprefix("costs."), each["field"], each["transformations"][0]["subtype"])
            for each in made[f"costs.{table}"][column]
        ]

    assert of("spend", "cost_usd") == [("stg_attempt_facts", "cost_usd", "TRANSFORMATION")]
    assert of("spend", "model") == [("stg_origins", "model", "IDENTITY")]
    assert of("spend", "day") == [
        ("stg_attempt_facts", "day", "IDENTITY"), ("stg_reuse_facts", "day", "IDENTITY"),
    ]  # fmt: skip
    assert of("forecast", "high_usd") == [
        ("spend", "cost_usd", "TRANSFORMATION"), ("spend", "day", "TRANSFORMATION"),
    ]  # fmt: skip
    assert of("stg_attempt_facts", "cost_usd") == [("inference_cost", "cost_usd", "IDENTITY")]
    assert of("stg_origins", "tenant") == [("inference_cost", "tenant", "IDENTITY")]
    assert of("stg_reuse_facts", "day") == [("inference_cost", "reused_at", "TRANSFORMATION")]
    assert made["costs.spend"].keys() == there["costs.spend"]
    counted_or_of_no_dataset = {"errors.attempts", "stg_attempt_facts.cost_today_usd", "budget_burn.limit_usd"}
    assert not [each for each in counted_or_of_no_dataset if each.split(".")[1] in made[f"costs.{each.split('.')[0]}"]]


def verified(home: Home) -> dict[str, str | None]:
    """What `ai-assets verify` says of money: by area, the first difference."""
    with Stores.at(home) as stores:
        found = {area.name: area for area in verify(stores)}
    assert found["warehouse"].checked == 1
    assert found["ledger"].checked > 10
    return {name: found[name].first for name in ("warehouse", "ledger")}


def test_verify_holds_warehouse_and_answers_against_the_ledger(home: Home) -> None:
    """Of real calls: answered, failed, ambiguous, reused."""
    in_process.bring_costs_up_to_date(home)
    assert verified(home) == {"warehouse": None, "ledger": None}
    paid = "SELECT min(attempt_id) FROM attempts WHERE state = 'settled' AND cost_nusd > 0"
    with Stores.at(home) as stores, stores.state.write() as connection:
        number = connection.execute(sa.text(paid)).scalar_one()
        for change in ("UPDATE attempts SET cost_nusd = cost_nusd - 1", "DELETE FROM answers"):
            connection.execute(sa.text(f"{change} WHERE attempt_id = :n"), {"n": number})
    found = verified(home)
    assert "cost is $" in str(found["warehouse"])
    assert "ai-assets audit verify says whether the ledger was altered" in str(found["warehouse"])
    assert "and its attempts come to" in str(found["ledger"])
    with Stores.at(home) as stores:
        (ledger,) = [area for area in verify(stores) if area.name == "ledger"]
        assert ledger.differences >= 2  # the sum of the budget, and the answer that is gone


def test_after_a_run_dagster_shows_every_mart_as_fresh(home: Home) -> None:
    in_process.bring_costs_up_to_date(home)
    graph = dg.Definitions(assets=cost_assets()).resolve_asset_graph()
    with instance(home) as dagster:
        resolver = CachingStaleStatusResolver(dagster, graph, LoadingContextForTest(dagster))
        marts = {model.name for model in models()}
        assert {
            name for name in marts if resolver.get_status(dg.AssetKey(["costs", name])) != StaleStatus.FRESH
        } == set()


def test_a_verdict_on_an_ambiguous_call_corrects_the_warehouse(home: Home) -> None:
    with Stores.at(home) as stores:
        build(stores)
        (before,) = ask(home, "SELECT sum(maybe_usd), sum(cost_usd) FROM marts.spend")
        assert before[0] > 0
        call = rows(home.state_url, "SELECT call_key FROM attempts WHERE state = 'ambiguous'")[0].call_key
        with stores.state.write() as connection:
            waiting = [item for item in named(connection, call) if item.state == "ambiguous"]
            resolve(connection, waiting, Resolution(billed=True, by="ann"))
        assert building.is_due(stores)
        build(stores)
    (after,) = ask(home, "SELECT sum(maybe_usd), sum(cost_usd) FROM marts.spend")
    assert after == (before[0] - before[0], before[1] + before[0])


def test_a_run_over_an_altered_ledger_fails_with_its_check_and_the_old_warehouse_stays(home: Home) -> None:
    with Stores.at(home) as stores:
        ledger = Ledger(stores)
        ledger._next = 10**6
        number = ledger.attempt(ledger.caller(), at(9))
        build(stores)
        before = ask(home, "SELECT sum(cost_usd) FROM marts.spend")
        ledger.change("UPDATE attempts SET cost_nusd = cost_nusd + 1 WHERE attempt_id = :n", n=number)
    with instance(home) as dagster:
        job = dg.Definitions(assets=cost_assets(), jobs=[costs_job()]).resolve_job_def("costs")
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        result = job.execute_in_process(instance=dagster, partition_key=DAY, run_config=quiet, raise_on_error=False)
        assert not result.success
        (verdict,) = result.get_asset_check_evaluations()
        assert (verdict.check_name, verdict.passed, verdict.partition) == ("reconciles", False, DAY)
        assert "$0.000026000 when the day was copied" in str(verdict.description)
    assert ask(home, "SELECT sum(cost_usd) FROM marts.spend") == before


def test_marts_that_do_not_add_up_are_not_swapped_in(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of a day is replaced, under the name of its new bytes, which its manifest then says."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    in_process.bring_costs_up_to_date(home)
    before = ask(home, "SELECT sum(cost_usd) FROM marts.spend")
    with Stores.at(home) as stores:
        day = building.committed(stores)[0]
        path = stores.lake.path(day.attempts)
        table = pq.read_table(path)
        place = table.column_names.index("cost_usd")
        more = pc.add(table["cost_usd"], pa.scalar(1, pa.decimal128(18, 9))).cast(pa.decimal128(18, 9))
        forged = write_parquet(path.parent, table.set_column(place, "cost_usd", more))
        manifest = path.with_name(MANIFEST)
        manifest.write_text(manifest.read_text().replace(day.attempts.version, forged.stem))
        declare(home, PRICES)
        assert building.is_due(stores)
    found = rf"the test \w+ failed \(day {day.day}, figure cost_usd, expected [\d.]+, found [\d.]+\)"
    file = appended_to(tmp_path / "events.jsonl", monkeypatch)
    with pytest.raises(CostsFailed, match=rf"^The cost warehouse was not replaced: {found}\. .*still readable\.$"):
        in_process.bring_costs_up_to_date(home)
    if INSTALLED:
        _, judged, failed = events = events_in(file)
        for event in events:
            check_valid(event)
        (assertion,) = judged["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
        assert (assertion["success"], assertion["severity"]) == (False, "error")
        assert (failed["job"]["name"], failed["eventType"]) == ("costs", "FAIL")
        assert "was not replaced" in failed["run"]["facets"]["errorMessage"]["message"]
    assert ask(home, "SELECT sum(cost_usd) FROM marts.spend") == before
    assert [path.name for path in home.warehouse.parent.iterdir()] == ["costs.duckdb"]


def test_nothing_is_built_of_an_empty_ledger(tmp_path: Path) -> None:
    home = home_at(tmp_path)
    in_process.bring_costs_up_to_date(home)
    with pytest.raises(WarehouseMissing), reading(home.warehouse):
        pass


# The sensor


def tick(dagster: dg.DagsterInstance, cursor: str | None = None) -> Any:
    context = dg.build_sensor_context(instance=dagster, cursor=cursor)
    return inference_cost()(context), context.cursor


def test_the_sensor_asks_once_when_calls_have_paused_and_again_when_something_is_new(
    home: Home, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["ai_assets.orchestration.automation.inference_cost"], "QUIET_S", 0.0)
    with instance(home) as dagster:
        asked, cursor = tick(dagster)
        assert isinstance(asked, dg.RunRequest)
        in_process.bring_costs_up_to_date(home)
        waits, cursor = tick(dagster, cursor)
        assert waits.skip_message == "the warehouse is up to date"
        ask_models(home.state_url, settings({"mini": endpoint(provider.url)}), [question("new")], CALLER)
        monkeypatch.setattr(sys.modules["ai_assets.orchestration.automation.inference_cost"], "QUIET_S", 30.0)
        waits, cursor = tick(dagster, cursor)
        assert waits.skip_message.startswith("calls are being made")
        asked, _ = tick(dagster, "2026-11-01T00:00:00.000+00:00")
        assert isinstance(asked, dg.RunRequest)


def test_the_sensor_waits_for_a_build_under_way_and_after_one_that_failed(home: Home) -> None:
    with instance(home) as dagster:
        job = dg.Definitions(assets=cost_assets(), jobs=[costs_job()]).resolve_job_def("costs")
        run = dagster.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
        assert tick(dagster)[0].skip_message == "the warehouse is being built"
        dagster.report_run_failed(run)
        assert "last build failed" in tick(dagster, now())[0].skip_message
        assert isinstance(tick(dagster, "2026-11-01T00:00:00.000+00:00")[0], dg.RunRequest)


def test_a_wrong_inference_file_is_said_by_the_sensor(home: Home) -> None:
    in_process.bring_costs_up_to_date(home)
    home.inference.write_text("endpoints: 7\n")
    with instance(home) as dagster:
        assert "inference.yaml" in tick(dagster)[0].skip_message


def test_the_sensor_and_job_are_in_the_code_location() -> None:
    import definitions

    assert Path(definitions.__file__).parent == REPOSITORY
    repository = definitions.defs.get_repository_def()
    assert repository.get_sensor_def("inference_cost").job_name == "costs"
    graph = repository.asset_graph
    assert graph.get(dg.AssetKey(["costs", "stg_attempt_facts"])).parent_keys >= {LEDGER}
    assert LEDGER in graph.get(dg.AssetKey(["costs", "spend"])).parent_keys | {
        parent
        for key in graph.get(dg.AssetKey(["costs", "spend"])).parent_keys
        for parent in graph.get(key).parent_keys
    }


def test_a_lake_that_cannot_be_written_fails_the_copy_in_one_sentence(stores: Stores, ledger: Ledger) -> None:
    ledger.attempt(ledger.caller(), at(9))
    (stores.home.lake).mkdir()
    (stores.home.lake / "costs").write_text("in the way")
    with pytest.raises(LakeUnwritable):
        export_day(stores, DAY, "run")
