"""Claims about what a kill can cost: a plan bounds it, and the ledger, `status`, the run and the desk show it live."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import Project, eventually
from engines import CALLER, asking, endpoint, one, opened, questions, rows, settings, to_embed
from provider import Provider

from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.inference.errors import EngineClosed
from ai_assets.inference.in_flight import InFlight, in_flight
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Caller
from ai_assets.orchestration.in_flight_log import IN_FLIGHT_TAG
from ai_assets.planning.plan import Plan, plan
from ai_assets.storage.state import StateStore

DAY = "2026-10-05"
LABELS = [
    {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    {"name": "incident", "description": "A report on an accident, a fire, a leak or an outage, and its cause."},
]
KIND: Mapping[str, Any] = {"name": "kind", "kind": "classify", "route": "default", "labels": LABELS}
PRICED = """\
endpoints:
  small: {{base_url: rehearsal, model: mini, limits: {{concurrency: {places}}}, timeout_s: 60,
           prices: [{{from: 2026-01-01, input: 1, output: 2}}]}}
  large: {{base_url: rehearsal, model: maxi, limits: {{concurrency: {dear}}},
           prices: [{{from: 2026-01-01, input: 10, output: 20}}]}}
  vectors: {{base_url: rehearsal, model: vectors, limits: {{concurrency: 2}}, texts_per_request: 3,
           prices: [{{from: 2026-01-01, input: 0.1}}]}}
routes:
  default: {{endpoints: [small]}}
  careful: {{endpoints: [small, large]}}
"""


def now_in_flight(state_url: str, **of: Any) -> InFlight:
    with closing(StateStore(state_url)) as state, state.read() as connection:
        return in_flight(connection, **of)


@pytest.fixture(scope="module")
def silent() -> Iterator[Provider]:
    """It answers nobody."""
    with Provider(fault={"hang": 1.0}, hang_s=60) as found:
        yield found


@pytest.mark.slow
def test_what_is_in_flight_is_seen_while_it_is_and_by_whose_it_is(silent: Provider, state_url: str) -> None:
    assert now_in_flight(state_url) == InFlight()
    declared = one(silent.url, limits={"concurrency": 4})
    with opened(state_url, declared) as engine, ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(lambda: list(engine.map(questions(9), CALLER)))
        eventually(lambda: now_in_flight(state_url).calls == 4)
        found = now_in_flight(state_url)
        reserved = rows(state_url, "SELECT sum(reserved_nusd) AS sum FROM attempts WHERE state = 'intent'")[0].sum
        assert found == InFlight(calls=4, reserved_nusd=int(reserved))
        assert found == now_in_flight(state_url, run_id="run") == now_in_flight(state_url, collections=["notes"])
        for other in ({"run_id": "another"}, {"collections": ["others"]}, {"collections": []}):
            assert now_in_flight(state_url, **other) == InFlight()
        engine.close()
        assert isinstance(waiting.exception(), EngineClosed)
    after = now_in_flight(state_url)
    assert (after.calls, after.maybe_attempts, after.maybe_nusd) == (0, 4, found.reserved_nusd)


def test_what_a_killed_process_had_in_flight_may_have_been_billed_at_once(silent: Provider, each_url: str) -> None:
    state_url = each_url
    process = asking(state_url, one(silent.url, limits={"concurrency": 3}), count=20)
    eventually(lambda: now_in_flight(state_url).calls == 3)
    found = now_in_flight(state_url)
    process.kill()
    after = now_in_flight(state_url)
    assert (after.calls, after.maybe_attempts, after.maybe_nusd) == (0, 3, found.reserved_nusd)


@pytest.mark.slow
def test_texts_that_share_a_request_are_one_call(silent: Provider, each_url: str) -> None:
    state_url = each_url
    declared = settings({"mini": endpoint(silent.url, texts_per_request=5)})
    with opened(state_url, declared) as engine, ThreadPoolExecutor(1) as beside:
        beside.submit(lambda: list(engine.map([to_embed(number) for number in range(10)], CALLER)))
        eventually(lambda: now_in_flight(state_url).calls == 2)
        assert rows(state_url, "SELECT count(*) AS number FROM attempts WHERE state = 'intent'")[0].number == 10
        engine.close()


# A plan says it before


@pytest.fixture
def office(project: Project, provider: Provider) -> Iterator[Project]:
    (project.root / "inference.yaml").write_text(PRICED.format(places=3, dear=2))
    for number in range(8):
        project.document(f"{DAY}/{number}.txt", f"Invoice {number}. {'Amounts with tax. ' * number} The total is due.")
    provider.configure(fault={}, latency_ms=0)
    yield project
    provider.configure(fault={}, latency_ms=0)


def planned(project: Project, **attributes: Any) -> Plan:
    collection = project.declare(**attributes)
    with project.stores() as stores:
        return plan(collection, stores, load_inference(project.home.inference))


def declared_places(project: Project, places: int, dear: int = 2) -> None:
    (project.root / "inference.yaml").write_text(PRICED.format(places=places, dear=dear))


def reservations(project: Project) -> list[int]:
    """Of the calls that were made, the dearest first."""
    found = rows(project.home.state_url, "SELECT reserved_nusd FROM attempts ORDER BY reserved_nusd DESC")
    return [row.reserved_nusd for row in found]


def test_a_plan_states_the_most_that_a_kill_can_cost(office: Project) -> None:
    found = planned(office, stages=[dict(KIND)])
    office.refresh(office.declare(stages=[dict(KIND)]))
    made = reservations(office)
    assert len(made) == 8
    assert (found.in_flight_calls, found.in_flight_nusd) == (3, sum(made[:3]))


def test_a_plan_with_fewer_calls_than_places_bounds_all_of_them(office: Project) -> None:
    declared_places(office, 64)
    found = planned(office, stages=[dict(KIND)])
    office.refresh(office.declare(stages=[dict(KIND)]))
    assert (found.in_flight_calls, found.in_flight_nusd) == (8, sum(reservations(office)))


def test_a_route_is_bounded_by_the_places_of_all_its_endpoints_and_no_call_counts_twice(office: Project) -> None:
    def at(route: str) -> Plan:
        return planned(office, stages=[{**KIND, "route": route}])

    both = at("careful")
    assert (both.in_flight_calls, both.in_flight_nusd) == (5, at("small").in_flight_nusd + at("large").in_flight_nusd)
    declared_places(office, 64, 64)
    all_dear = at("careful")
    assert (all_dear.in_flight_calls, all_dear.in_flight_nusd) == (8, at("large").in_flight_nusd)


def test_texts_to_embed_count_by_the_requests_that_they_share(office: Project) -> None:
    found = planned(office, embedding={"route": "vectors", "dimensions": 256})
    assert found.in_flight_calls == 2
    office.refresh(office.declare(embedding={"route": "vectors", "dimensions": 256}))
    assert found.in_flight_nusd == sum(reservations(office)[:6])


def test_lines_of_a_batch_are_not_in_flight(office: Project) -> None:
    written = (office.root / "inference.yaml").read_text()
    (office.root / "inference.yaml").write_text(written.replace("timeout_s: 60,", "batch: {price_share: 0.5},"))
    by_batch = planned(office, stages=[{**KIND, "tier": "batch"}])
    assert (by_batch.in_flight_calls, by_batch.in_flight_nusd) == (0, 0)
    in_time = planned(office, stages=[{**KIND, "within": "12h"}])
    assert (in_time.stages[0].tier, in_time.in_flight_calls) == ("batch", 0)
    summary = {"name": "summary", "kind": "summarise", "route": "default"}
    beside = planned(office, stages=[{**KIND, "tier": "batch"}, summary])
    alone = planned(office, stages=[summary])
    assert alone.in_flight_calls == 3
    assert (beside.in_flight_calls, beside.in_flight_nusd) == (alone.in_flight_calls, alone.in_flight_nusd)


def test_nothing_to_ask_is_nothing_in_flight(office: Project) -> None:
    office.refresh(office.declare(stages=[dict(KIND)]))
    found = planned(office, stages=[dict(KIND)])
    assert (found.in_flight_calls, found.in_flight_nusd) == (0, 0)


@pytest.mark.slow
def test_a_real_kill_costs_no_more_than_the_plan_said(office: Project, provider: Provider) -> None:
    found, state_url = planned(office, stages=[dict(KIND)]), office.home.state_url
    said = office.cli("plan", "notes").stdout
    assert "A kill can cost at most $" in said
    assert "(3 calls in flight at once)." in said
    provider.configure(fault={"hang": 1.0})
    command = [Path(sys.executable).parent / "ai-assets", "run", "notes"]
    process = subprocess.Popen(command, cwd=office.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: now_in_flight(state_url).calls == 3, timeout_s=60)
        live = now_in_flight(state_url)
        (shown,) = json.loads(office.cli("status", "--json").stdout)
        assert (shown["calls_in_flight"], shown["in_flight_usd"]) == (3, live.reserved_nusd / 1e9)
        assert "notes: in flight now: 3 calls, $0." in office.cli("status").stdout
    finally:
        process.kill()
        process.wait()
    assert provider.stats()["billed"] == 3
    after = now_in_flight(state_url)
    assert (after.calls, after.maybe_attempts, after.maybe_nusd) == (0, 3, live.reserved_nusd)
    assert provider.stats()["billed_usd"] * 1e9 <= after.maybe_nusd <= found.in_flight_nusd
    assert "notes: 3 attempts may have been billed, $0." in office.cli("status").stdout


# A run shows it while it goes


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
@pytest.mark.slow
def test_a_runs_page_shows_what_is_in_flight_and_in_the_end_that_nothing_is(
    office: Project, provider: Provider
) -> None:
    collection = office.declare(stages=[dict(KIND)])
    provider.configure(latency_ms=8000)
    declared_places(office, 64)
    seen: set[str] = set()
    with office.instance() as instance, ThreadPoolExecutor(1) as beside:
        one_day = {RANGE_START: DAY, RANGE_END: DAY}
        running = beside.submit(office.execute, instance, collection, "notes", **one_day)
        while not running.done():
            for run in instance.get_runs():
                seen.add(run.tags.get(IN_FLIGHT_TAG, ""))
            threading.Event().wait(0.2)
        result = running.result()
        assert result.success
        (run,) = instance.get_runs()
        assert run.tags[IN_FLIGHT_TAG] == "no call"
        lines = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert any(words.startswith("8 calls, $0.0") and words.endswith(" reserved") for words in seen), seen
    assert any(line.startswith("In flight: 8 calls, $0.0") for line in lines)


def test_a_run_that_asks_nothing_has_no_such_tag(project: Project) -> None:
    project.document(f"{DAY}/1.txt", "A note.")
    collection = project.declare()
    with project.instance() as instance:
        result = project.execute(instance, collection, "notes", **{RANGE_START: DAY, RANGE_END: DAY})
        run = instance.get_run_by_id(result.run_id)
        assert isinstance(run, dg.DagsterRun)
        assert IN_FLIGHT_TAG not in run.tags


def test_status_names_what_may_have_been_billed_and_calls_of_no_collection(office: Project, provider: Provider) -> None:
    office.declare(stages=[dict(KIND)])
    provider.script([{"fault": "reset_after", "times": 1}])
    declared = one(provider.url)
    with opened(office.home.state_url, declared) as engine:
        list(engine.map(questions(1), Caller(run_id="plain")))
    said = office.cli("status").stdout
    assert "All calls of this ledger: 1 attempt may have been billed, $0." in said
    (item,) = json.loads(office.cli("status", "--json").stdout)
    assert (item["maybe_attempts"], item["maybe_usd"]) == (0, 0.0)
