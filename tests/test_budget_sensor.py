"""Claims about money in Dagster: what the ticks say, which runs are not started, what a run tells of its cost."""

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import Project
from desks import desk_of
from provider import Provider
from signing import somebody
from test_budgets import set_to, spend
from test_notices import DESK, receiving
from test_sensors import nightly_tick, ranges, tick
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.costs import alerts
from ai_assets.costs.funding import asking, in_dollars, no_money, smallest_call_nusd
from ai_assets.desk import reading
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import InferenceSettings
from ai_assets.orchestration.automation import budgets, deadlines, source_changes
from ai_assets.orchestration.events import metadata
from ai_assets.orchestration.segment import COST_TAG
from ai_assets.run.context import Outcome
from ai_assets.storage.state import now

NUSD = 10**9
DAY = "2026-10-05"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
ONE_DAY = {RANGE_START: DAY, RANGE_END: DAY}
MONTH = datetime.datetime.now(datetime.UTC).date().isoformat()[:7]
PRICED = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
  dear: {base_url: rehearsal, model: maxi, prices: [{from: 2026-01-01, input: 10, output: 20}]}
  own: {base_url: rehearsal, model: mini, free: true}
routes:
  default: {endpoints: [dear, small]}
  free: {endpoints: [own]}
"""
BILL = "Invoice {n}. Amounts with tax: the total due is {n}50.00 EUR, and the payment terms are 30 days."


def with_budgets(project: Project, *budgets: str) -> InferenceSettings:
    listed = "".join(f"  - {budget}\n" for budget in budgets)
    (project.root / "inference.yaml").write_text(f"{PRICED}budgets:\n{listed}" if budgets else PRICED)
    return load_inference(project.root / "inference.yaml")


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    for n in range(2):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
    return project


@pytest.fixture
def opened(project: Project) -> Iterator[dg.DagsterInstance]:
    with project.instance() as instance:
        yield instance


def on() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


# Whether there is money


def poor(project: Project, collection: Collection, settings: InferenceSettings) -> str | None:
    with project.stores().state.read() as connection:
        return no_money(connection, collection, settings, on())


def test_a_collection_has_money_while_its_smallest_call_fits(office: Project) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 5, per: month}")
    collection, state = declare(office, [KIND, BRIEF]), office.stores().state
    row = f"all/{MONTH}"
    (asks, _) = asking(collection)  # the route asks the dear endpoint first: 10 and 20 dollars a million
    least = asks.least_input_tokens * 10_000 + 1024 * 20_000
    spend(state, row, spent=5 * NUSD - least)
    assert poor(office, collection, settings) is None
    spend(state, row, spent=5 * NUSD - least + 1)
    said = poor(office, collection, settings)
    assert said is not None
    assert said.startswith("collection notes has no money left until 1 ")
    cost = in_dollars(least)
    assert f"of budget all $4.96 of $5.00 are spent, {cost} are left, and its smallest call may cost {cost}." in said
    assert said.endswith("Raise it: ai-assets budget set all --limit-usd USD --reason WHY")
    with state.read() as connection:
        assert no_money(connection, collection, settings, on() + datetime.timedelta(days=31)) is None


def test_money_in_flight_may_come_back_and_money_set_aside_or_maybe_billed_does_not(office: Project) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 5, per: month}")
    collection, state = declare(office, [KIND]), office.stores().state
    spend(state, f"all/{MONTH}", reserved=5 * NUSD)
    assert poor(office, collection, settings) is None
    spend(state, f"all/{MONTH}", held=5 * NUSD)
    assert "$5.00 may have been billed, $0.00 are left" in str(poor(office, collection, settings))
    settings = with_budgets(office, "{name: new, limit_usd: 5}")
    spend(state, "new/ever", earmarked=5 * NUSD)
    assert "$5.00 set aside for backfills, $0.00 are left" in str(poor(office, collection, settings))


@pytest.mark.parametrize(
    ("budget", "stages"),
    [
        ("{name: a, limit_usd: 0, each: run}", [KIND]),
        ("{name: a, limit_usd: 0, each: document}", [KIND]),
        ("{name: a, limit_usd: 0, each: partition}", [KIND]),
        ("{name: a, limit_usd: 0, of: {tenant: legal}}", [KIND]),
        ("{name: a, limit_usd: 0, of: {asset: brief}}", [KIND, {**BRIEF, "when": {"kind": ["invoice"]}}]),
        ("{name: a, limit_usd: 0}", [{**KIND, "route": "free"}]),
        ("{name: a, limit_usd: 0}", [{**KIND, "route": "free"}, {**BRIEF, "when": {"kind": ["invoice"]}}]),
        ("{name: a, limit_usd: 0}", []),
    ],
    ids=["runs", "documents", "partitions", "another tenant", "one of two stages", "free", "free and paid", "no model"],
)
def test_what_could_still_be_done_stops_nothing(budget: str, stages: list[dict[str, Any]], office: Project) -> None:
    settings = with_budgets(office, budget)
    assert poor(office, declare(office, stages), settings) is None


def test_a_stage_that_every_document_goes_through_is_enough_to_stop(office: Project) -> None:
    settings = with_budgets(office, "{name: a, limit_usd: 0, of: {asset: kind}}")
    assert "of budget a $0.00 of $0.00" in str(poor(office, declare(office, [KIND, BRIEF]), settings))
    settings = with_budgets(office, "{name: a, limit_usd: 0}")
    assert poor(office, declare(office, [{**KIND, "route": "free"}, BRIEF]), settings) is not None


def test_the_smallest_call_is_what_the_engine_reserves(office: Project) -> None:
    """A limit one nano-dollar below it lets no call through, and the collection is said to have no money."""
    settings = with_budgets(office)
    collection = declare(office, [KIND])
    office.document(f"{DAY}/only.txt", ".", "notes")
    (asks,) = asking(collection)
    office.refresh(collection)
    query = sa.text("SELECT min(reserved_nusd) FROM attempts")
    with office.stores().state.read() as connection:
        reserved = connection.execute(query).scalar_one()
    at_least = smallest_call_nusd(asks, settings, on())
    assert at_least is not None
    assert at_least <= reserved <= at_least + 100 * 10_000


def test_paid_embeddings_need_money_too(office: Project) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 0}")
    collection = declare(office, [], embedding={"route": "small", "dimensions": 8})
    assert "budget all $0.00 of $0.00" in str(poor(office, collection, settings))


# Runs that are not started


def test_scheduled_runs_wait_while_there_is_no_money_and_then_go_on(
    office: Project, opened: dg.DagsterInstance
) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 0}")
    collection = declare(office, [KIND], schedule={})
    said = nightly_tick(collection, opened)
    assert str(said).startswith("collection notes has no money left: of budget all")
    assert tick(source_changes(collection), opened) == said
    set_to(office.stores().state, settings, "1")
    assert nightly_tick(collection, opened) == [(DAY, DAY)]
    asked = tick(source_changes(collection), opened)
    assert isinstance(asked, dg.SensorResult)
    assert ranges(asked.run_requests) == [(DAY, DAY)]


def test_scheduled_runs_wait_while_inference_yaml_is_wrong(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office)
    collection = declare(office, [KIND], schedule={})
    (office.root / "inference.yaml").write_text("endpoint: {}\n")
    assert "inference.yaml:1: unknown key 'endpoint'; did you mean 'endpoints'?" in str(
        nightly_tick(collection, opened)
    )


def test_a_collection_without_models_never_waits_for_money(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office, "{name: all, limit_usd: 0}")
    assert nightly_tick(office.declare(schedule={}), opened) == [(DAY, DAY)]


def test_a_run_that_a_person_starts_is_refused_by_the_engine(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office, "{name: all, limit_usd: 0}")
    result = office.execute(opened, declare(office, [KIND]), "notes", **ONE_DAY)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    assert "Budget 'all' (all/ever) is used up" in str(failure.user_failure_data.description)


# The tick


def test_a_tick_gives_alerts_and_says_what_stands_worst(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office, "{name: all, limit_usd: 5, per: month}", "{name: teams, limit_usd: 1, each: tenant}")
    collection, state = declare(office, [KIND]), office.stores().state
    sensor = budgets([collection])
    assert tick(sensor, opened) == "no budget is used"
    spend(state, f"all/{MONTH}", spent=410 * 10**7)
    spend(state, "teams/ever/legal", spent=NUSD // 10)
    assert tick(sensor, opened) == "2 alerts given; all: 82 % of $5.00 used"
    assert tick(sensor, opened) == "all: 82 % of $5.00 used"
    spend(state, f"all/{MONTH}", spent=5 * NUSD)
    said = str(tick(sensor, opened))
    assert said.startswith("1 alert given; all: 100 % of $5.00 used; collection notes has no money left until 1 ")


def test_too_little_for_any_call_is_told_as_all_of_it(office: Project) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 5, per: month, alert_at: [80, 100]}")
    collection, state = declare(office, [KIND]), office.stores().state
    spend(state, f"all/{MONTH}", spent=5 * NUSD - 1000)
    assert [alert.percent for alert in alerts.give(state, settings, now())] == [80]
    assert [alert.percent for alert in alerts.give(state, settings, now(), [collection])] == [100]
    assert alerts.give(state, settings, now(), [collection]) == []


def test_a_wrong_inference_yaml_is_told(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office, "{name: all, limit_usd: 5}")
    sensor = budgets([declare(office, [KIND])])
    (office.root / "inference.yaml").write_text("budgets: [{name: all, limit: 5}]\n")
    assert "unknown key 'limit'; did you mean 'limit_usd'?" in str(tick(sensor, opened))


TICK = """
import sys
import dagster as dg
from pathlib import Path
from ai_assets import load_collections
from ai_assets.orchestration.instance import instance
from ai_assets.base.home import Home
from ai_assets.orchestration.automation import budgets
found = load_collections(Path("collections"))
with instance(Home.from_environment()) as opened, dg.build_sensor_context(instance=opened) as context:
    print("ready", flush=True)
    sys.stdin.readline()
    print(budgets(found)(context).skip_message, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_two_sensor_processes_at_once_one_of_them_killed_tell_a_share_once(
    office: Project, opened: dg.DagsterInstance
) -> None:
    with_budgets(office, "{name: all, limit_usd: 5, notify: [team]}")
    declare(office, [KIND])
    state = office.stores().state
    spend(state, "all/ever", spent=4 * NUSD)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TICK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in "ab"
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    time.sleep(0.05)
    both[0].send_signal(signal.SIGKILL)
    said, _ = both[1].communicate("\n", timeout=300)
    both[0].communicate()
    assert both[1].returncode == 0
    assert "all: 80 % of $5.00 used" in said
    assert "alert" not in str(tick(budgets([]), opened))
    with state.read() as connection:
        told = connection.execute(sa.text("SELECT title FROM notices")).scalars().all()
    assert told == ["Budget all: 80 % of $5.00 used ($4.00, $1.00 left)"]


def test_what_calls_really_cost_reaches_a_real_receiver_once(
    office: Project, opened: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 1, notify: [team]}")
    (office.root / "desk.yaml").write_text("channels: {team: {url_env: TEAM_URL}}\n")
    collection = declare(office, [KIND])
    assert office.execute(opened, collection, "notes", **ONE_DAY).success
    set_to(office.stores().state, settings, "0.0125")
    with receiving() as receiver:
        monkeypatch.setenv("TEAM_URL", receiver.url)
        monkeypatch.setenv("AI_ASSETS_DESK_URL", DESK)
        for _ in range(2):
            tick(budgets([collection]), opened)
            tick(deadlines([]), opened)
    (got,) = receiver.got
    assert re.match(r"Budget all: [89]\d % of \$0\.0125 used \(\$0\.01", got["title"])
    assert f"{DESK}/costs" in got["message"]


# What a run tells


def events_of(result: dg.ExecuteInProcessResult, kind: str) -> list[Any]:
    return [event.event_specific_data for event in result.all_events if event.event_type_value == kind]


def told(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (found,) = [
        data.materialization
        for data in events_of(result, "ASSET_MATERIALIZATION")
        if data.materialization.asset_key.path[-1] == asset
    ]
    return {name: value.value for name, value in found.metadata.items()}


def budget_check(result: dg.ExecuteInProcessResult) -> Any:
    """The one evaluation of it in a run of one partition."""
    (check,) = (each for each in events_of(result, "ASSET_CHECK_EVALUATION") if each.check_name == "budget")
    return check


def test_a_run_tells_its_cost_what_is_left_and_what_a_document_costs(
    office: Project, opened: dg.DagsterInstance
) -> None:
    with_budgets(
        office, "{name: all, limit_usd: 5, per: month}", "{name: tight, limit_usd: 1}",
        "{name: runs, limit_usd: 0.1, each: run}",
    )  # fmt: skip
    collection = declare(office, [KIND])
    result = office.execute(opened, collection, "notes", **ONE_DAY)
    assert result.success
    kind = told(result, "kind")
    assert kind["budget_left_usd"] == pytest.approx(1 - kind["cost_usd"], abs=1e-9)
    assert kind["usd_per_document"] == pytest.approx(kind["cost_usd"] / 2, abs=1e-9)
    assert (kind["reuse_share"], kind["cost_usd"] > 0) == (0.0, True)
    assert (kind["calls"], kind["answers_reused"], "cost_summary" in kind) == (2, 0, False)
    assert {told(result, asset)["cost_summary"] for asset in ("documents", "chunks", "embeddings")} == {"free"}
    assert "budget_left_usd" not in told(result, "documents")
    run = opened.get_run_by_id(result.run_id)
    assert run is not None
    assert float(run.tags[COST_TAG]) == pytest.approx(kind["cost_usd"], abs=1e-9)

    check = budget_check(result)
    assert (check.check_name, check.asset_key.path[-1], check.partition, check.passed) == ("budget", "kind", DAY, True)
    assert check.target_materialization_data is not None
    shown = {name: value.value for name, value in check.metadata.items()}
    assert (shown["budget"], shown["limit_usd"]) == ("tight", "1")
    assert shown["left_usd"] == kind["budget_left_usd"]
    assert shown["used_share"] == pytest.approx(kind["cost_usd"], abs=1e-6)

    again = office.execute(opened, collection, "notes", **ONE_DAY)
    assert told(again, "kind")["cost_summary"] == "free"
    assert (told(again, "kind")["reuse_share"], told(again, "kind")["budget_left_usd"]) == (1.0, shown["left_usd"])
    second = opened.get_run_by_id(again.run_id)
    assert second is not None
    assert second.tags[COST_TAG] == "0"


def test_the_check_warns_when_the_next_call_has_no_money_and_blocks_nothing(
    office: Project, opened: dg.DagsterInstance
) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 1}")
    collection = declare(office, [KIND])
    assert office.execute(opened, collection, "notes", **ONE_DAY).success
    set_to(office.stores().state, settings, "0.002")
    result = office.execute(opened, collection, "notes", **ONE_DAY)
    assert result.success
    check = budget_check(result)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description.startswith("budget all has $0.00")
    assert "the smallest call may cost $0.03" in check.description
    assert told(result, "release_candidate")["documents"] == 2


def test_a_failed_run_tells_its_cost_too(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office, "{name: all, limit_usd: 0.042}")  # for one call at the dear endpoint (0.039), and not two
    result = office.execute(opened, declare(office, [KIND]), "notes", **ONE_DAY)
    assert not result.success
    run = opened.get_run_by_id(result.run_id)
    assert run is not None
    with office.stores().state.read() as connection:
        paid = connection.execute(sa.text("SELECT sum(cost_nusd) FROM attempts")).scalar_one()
    assert paid > 0
    assert float(run.tags[COST_TAG]) == pytest.approx(paid / NUSD, abs=1e-12)


def test_reused_answers_are_told_as_saved(office: Project, opened: dg.DagsterInstance) -> None:
    with_budgets(office)
    collection = declare(office, [KIND])
    paid = told(office.execute(opened, collection, "notes", **ONE_DAY), "kind")
    folder = office.stores().lake.folder("notes", "kind", DAY)
    (folder / "manifest.json").unlink()
    again = told(office.execute(opened, collection, "notes", **ONE_DAY), "kind")
    assert (again["calls"], again["answers_reused"], again["cost_usd"]) == (0, 2, 0)
    assert again["reused_usd"] == pytest.approx(paid["cost_usd"])
    assert again["usd_per_document"] == paid["usd_per_document"]
    assert "budget_left_usd" not in again


def test_golden_queries_that_were_embedded_are_told_with_the_first_scores(office: Project) -> None:
    with_budgets(office)
    queries = office.root / "collections" / "notes" / "queries.jsonl"
    queries.parent.mkdir(parents=True, exist_ok=True)
    queries.write_text(json.dumps({"query": "who owes 150 euros", "documents": [f"{DAY}/bill-0.txt"]}) + "\n")
    embedding = {"route": "small", "dimensions": 256}
    collection = office.declare(embedding=embedding, golden={"queries": "queries.jsonl"})
    found = [o for o in office.refresh(collection) if o.manifest.asset == "evaluation_scores"]
    assert [outcome.cost_usd > 0 for outcome in found] == [True, False, False]
    assert metadata(found[0])["cost_summary"].endswith(" paid")
    assert metadata(found[1])["cost_summary"] == "free"


def test_a_free_stage_costs_nothing_and_needs_no_money(office: Project) -> None:
    with_budgets(office, "{name: all, limit_usd: 0}")
    collection = declare(office, [{**KIND, "route": "free"}])
    found = {outcome.manifest.asset: outcome for outcome in office.refresh(collection, [DAY])}
    assert (metadata(found["kind"])["calls"], metadata(found["kind"])["cost_usd"]) == (2, 0)
    checks = [event for event in office.events(collection, [DAY]) if not isinstance(event, Outcome)]
    assert [(check.name, check.passed) for check in checks] == [("budget", True), ("answered", True)]


# The trail on the desk


def test_the_desk_shows_who_set_a_limit_and_why(office: Project) -> None:
    settings = with_budgets(office, "{name: all, limit_usd: 5}")
    declare(office, [KIND])
    set_to(office.stores().state, settings, "7.5")
    set_to(office.stores().state, settings, None)
    entries, _ = reading.audit_page(
        desk_of(office), somebody("eve", "viewer"), reading.AuditFilter(action="budget set")
    )
    assert [(entry.actor, entry.text) for entry in entries] == [
        ("ann", "all: from $7.50 to $5.00, as declared: more papers"), ("ann", "all: from $5.00 to $7.50: more papers"),
    ]  # fmt: skip
