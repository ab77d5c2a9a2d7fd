"""Claims about `ai-assets backfill`: the price is shown first, no more than was approved is paid, and nothing twice."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import Project, eventually, free_port
from engines import check_books, rows
from provider import Provider
from test_llm_stages import BILL
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.costs.funding import asking
from ai_assets.inference import earmarks
from ai_assets.inference.earmarks import CannotSetAside
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import BACKFILL_TAG
from ai_assets.orchestration.automation import source_changes
from ai_assets.planning import backfills
from ai_assets.planning.backfills import Backfill, BackfillUnderWay, CapTooLow, CapUnusable
from ai_assets.planning.plan import Plan
from ai_assets.planning.plan import plan as make_plan
from ai_assets.storage.leases import hold

pytestmark = pytest.mark.slow

DAYS = [f"2026-10-{day:02d}" for day in range(5, 11)]
PARTITIONS = {"by": "day", "start": DAYS[0], "end": DAYS[-1]}
PER_DAY = 4
DOCUMENTS = PER_DAY * len(DAYS)
STAGE = {**KIND, "max_output_tokens": 60}
PRICED = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 10, output: 20}], timeout_s: 2}
routes:
  default: {endpoints: [small]}
retries: {all: {server_error: {attempts: 3, base_s: 0}, connection_lost: {attempts: 3, base_s: 0}}}
budgets:
  - {name: all, limit_usd: 2}
  - {name: each-run, each: run, limit_usd: 1}
"""
NUSD = 10**9


@pytest.fixture(scope="module")
def slow() -> Iterator[Provider]:
    """Slow enough to be in the middle of something."""
    with Provider(latency_ms=30, price_input=10, price_output=20) as running:
        yield running


@pytest.fixture
def provider(slow: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", slow.url)
    slow.reset()
    slow.configure(fault={}, latency_ms=30)
    return slow


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    (project.root / "inference.yaml").write_text(PRICED)
    for number in range(DOCUMENTS):
        project.document(f"{DAYS[number // PER_DAY]}/bill-{number}.txt", BILL.format(n=number + 1))
    return project


@pytest.fixture
def notes(office: Project) -> Collection:
    return declare(office, [STAGE], partitions=PARTITIONS)


def planned(office: Project, chosen: Collection) -> Plan:
    return make_plan(chosen, office.stores(), load_inference(office.home.inference))


def begun(office: Project, chosen: Collection, cap_usd: float) -> Backfill:
    return backfills.begin(
        office.stores(),
        chosen,
        load_inference(office.home.inference),
        planned(office, chosen),
        assets=chosen.asset_names,
        cap_nusd=int(cap_usd * NUSD),
        by="ann",
    )


def books(office: Project) -> dict[str, Any]:
    return check_books(office.home.state_url)


def asked_twice(office: Project) -> list[Any]:
    return rows(
        office.home.state_url,
        "SELECT call_key FROM attempts WHERE state = 'settled' GROUP BY call_key HAVING count(*) > 1",
    )


def test_it_stops_at_the_cap_goes_on_when_asked_again_and_pays_nothing_twice(
    office: Project, notes: Collection, provider: Provider
) -> None:
    provider.configure(fault={"server_error": 0.05, "reset_after": 0.02})
    first = office.cli("backfill", "notes", "--yes", "--max-usd", "0.1", "--json")
    assert first.returncode == 1, first.stdout + first.stderr
    capped = json.loads(first.stdout)
    assert capped["state"] == "capped"
    assert 0.05 < float(capped["spent_usd"]) <= 0.1
    assert 0 < capped["left"]["new_calls"] < DOCUMENTS
    assert capped["next"] == "ai-assets backfill notes"
    found = books(office)
    used = found["backfill/notes-1"].spent_nusd + found["backfill/notes-1"].held_nusd
    assert used <= 0.1 * NUSD
    assert found["all/ever"].earmarked_nusd == 0

    provider.configure(fault={})
    second = office.cli("backfill", "notes", "--yes")
    assert second.returncode == 0, second.stdout + second.stderr
    assert re.search(r"notes-2 is done: \d+ calls,.* documents, \$0\.\d+ of \$0\.\d+ spent", second.stdout)
    assert asked_twice(office) == []
    found = books(office)
    assert found["all/ever"].spent_nusd == found["backfill/notes-1"].spent_nusd + found["backfill/notes-2"].spent_nusd
    assert found["all/ever"].earmarked_nusd == 0
    whose = rows(office.home.state_url, "SELECT DISTINCT backfill, asset FROM callers ORDER BY backfill")
    assert [tuple(row) for row in whose] == [("notes-1", "kind"), ("notes-2", "kind")]
    priced = rows(office.home.state_url, "SELECT DISTINCT price, prompt FROM attempts")
    assert [row.price for row in priced] == ["2026-01-01 10/-/20"]
    assert all(row.prompt for row in priced)

    third = office.cli("backfill", "notes")
    assert (third.returncode, third.stdout.splitlines()[-1]) == (0, "Nothing is due and nothing is to pay.")


def test_what_cannot_be_is_told_in_a_sentence_and_starts_nothing(office: Project, notes: Collection) -> None:
    few = "Budget 'all' (all/ever) has $2.000000 left, and $3.000000 of it should be set aside"
    for arguments, said in (
        ((), "Nobody can be asked here whether to go ahead: add --yes."),
        (("--yes", "--max-usd", "nan"), "--max-usd nan is not an amount between 0 and 1,000,000,000 US dollars."),
        (("--yes", "--partitions", f"{DAYS[0]}...2027-01-01"), "'2027-01-01' is no partition of notes"),
        (("--yes", "--stage", "kinds"), "'notes' has no stage 'kinds' that asks a model; did you mean 'kind'?"),
        (("--yes", "--max-usd", "3"), few),
        (("--stop",), "No backfill of 'notes' is under way, so there is nothing to stop."),
    ):  # fmt: skip
        done = office.cli("backfill", "notes", *arguments)
        assert done.returncode == 2, done.stdout
        assert said in done.stderr.replace("\n", " ")
    assert rows(office.home.state_url, "SELECT * FROM backfills") == []
    assert rows(office.home.state_url, "SELECT * FROM budgets") == []


def test_a_cap_is_an_amount_that_holds_at_least_the_cheapest_call(office: Project, notes: Collection) -> None:
    inference = load_inference(office.home.inference)
    for usd in (-0.01, float("inf"), float("nan"), 2e9):
        with pytest.raises(CapUnusable):
            backfills.amount_of(usd)
    plan = planned(office, notes)
    smallest = next(asking(notes)).least_input_tokens * 10_000 + 60 * 20_000
    backfills.refuse_too_low(notes, inference, plan, smallest)
    with pytest.raises(CapTooLow, match=r"is not enough for any call of 'notes': the cheapest is one of kind"):
        backfills.refuse_too_low(notes, inference, plan, smallest - 1)
    assert backfills.usual_cap(plan) % backfills.CENT == 0
    assert 0 <= backfills.usual_cap(plan) - plan.money.high_nusd - plan.dearest_call_nusd < backfills.CENT


def test_two_at_once_share_a_budget_or_the_second_is_told(office: Project, notes: Collection) -> None:
    office.document(f"{DAYS[0]}/bill.txt", BILL.format(n=100), "letters")
    letters = office.declare("letters", stages=[STAGE], partitions=PARTITIONS)
    first = begun(office, notes, 1.5)
    with pytest.raises(CannotSetAside, match=r"Budget 'all' \(all/ever\) has \$0\.500000 left, and \$0\.600000 of it"):
        begun(office, letters, 0.6)
    second = begun(office, letters, 0.4)
    with pytest.raises(BackfillUnderWay, match=r"notes-1 is under way already\. Follow it: ai-assets backfill notes"):
        begun(office, notes, 0.01)
    assert books(office)["all/ever"].earmarked_nusd == 1.9 * NUSD
    for made in (first, second):
        backfills.end(office.stores(), made, "stopped")
    assert books(office)["all/ever"].earmarked_nusd == 0


def test_only_some_stages_draw_on_a_budget_of_one_asset(office: Project) -> None:
    (office.root / "inference.yaml").write_text(PRICED + "  - {name: kinds, limit_usd: 1, of: {asset: kind}}\n")
    brief = {"name": "brief", "kind": "summarise", "route": "default", "max_output_tokens": 60}
    chosen = declare(office, [STAGE, brief], partitions=PARTITIONS)
    plan = planned(office, chosen)
    (kind,) = (stage for stage in plan.stages if stage.stage == "kind")
    made = begun(office, chosen, 1.9)
    with office.stores().state.read() as connection:
        aside = earmarks.left(connection, made.backfill)
    assert aside == {
        "all/ever": int(1.9 * NUSD),
        "kinds/ever": kind.money.high_nusd + plan.dearest_call_nusd,
    }


def test_a_run_from_dagsters_own_pages_meets_the_same_budgets(office: Project, notes: Collection) -> None:
    """It has no backfill's tag, so what is set aside is not for it."""
    made = begun(office, notes, 1.97)
    with office.instance() as dagster:
        done = office.execute(dagster, notes, "notes", **{
            "dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1],
        })  # fmt: skip
        assert not done.success
        (event,) = (event for event in done.all_events if event.is_step_failure)
        assert "Budget 'all' (all/ever) is used up" in (event.step_failure_data.user_failure_data.description or "")
        assert "$1.970000 set aside for backfills" in event.step_failure_data.user_failure_data.description
        assert books(office)["all/ever"].spent_nusd <= 0.03 * NUSD
        again = office.execute(dagster, notes, "notes", **{
            "dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1],
            BACKFILL_TAG: made.backfill,
        })  # fmt: skip
        assert again.success
    backfills.end(office.stores(), made, "done")
    assert asked_twice(office) == []
    assert books(office)["backfill/notes-1"].spent_nusd > 0.03 * NUSD


def test_another_budget_that_ends_is_told_with_what_is_left(office: Project, notes: Collection) -> None:
    (office.root / "inference.yaml").write_text(PRICED.replace("each: run, limit_usd: 1", "each: run, limit_usd: 0.05"))
    done = office.cli("backfill", "notes", "--yes")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "notes-1 failed in part: " in done.stdout
    assert "Go on: ai-assets backfill notes" in done.stdout
    assert "Budget 'each-run' (each-run/ever/" in done.stderr
    with office.stores().state.read() as connection:
        made = backfills.get(connection, "notes-1")
        (said,) = backfills.failures_of(connection, made)
    assert made.state == "failed"
    assert said.startswith("Budget 'each-run' (each-run/ever/")
    assert books(office)["all/ever"].earmarked_nusd == 0


def test_what_nobody_runs_any_more_is_ended_and_its_money_is_free(office: Project, notes: Collection) -> None:
    stores = office.stores()
    with hold(stores.state, backfills.lease_name("notes")):
        made = begun(office, notes, 0.5)
        assert backfills.sweep(stores, None) == []
    assert backfills.sweep(stores, None) == [made.backfill]
    of_dagster = begun(office, notes, 0.5)
    backfills.launched(stores, of_dagster.backfill, "forgotten")
    assert backfills.sweep(stores, None) == []
    with office.instance() as dagster:
        assert backfills.sweep(stores, dagster) == [of_dagster.backfill]
        assert backfills.sweep(stores, dagster) == []
    assert books(office)["all/ever"].earmarked_nusd == 0
    states = rows(office.home.state_url, "SELECT state FROM backfills ORDER BY backfill")
    assert [row.state for row in states] == ["lost", "failed"]


def test_scheduled_runs_leave_the_work_to_a_backfill_that_is_under_way(office: Project, notes: Collection) -> None:
    made = begun(office, notes, 0.5)
    sensor = source_changes(notes)
    with office.instance() as dagster:
        skipped = sensor(dg.build_sensor_context(instance=dagster))
        assert isinstance(skipped, dg.SkipReason)
        assert skipped.skip_message == "notes-1 is under way, at its own price"
        backfills.end(office.stores(), made, "stopped")
        asked = sensor(dg.build_sensor_context(instance=dagster))
    assert isinstance(asked, dg.SensorResult)
    assert asked.run_requests


def start(office: Project, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "backfill", "notes", *arguments],
        cwd=office.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_killed_in_the_middle_its_money_comes_back_and_the_next_goes_on(
    office: Project, notes: Collection, provider: Provider
) -> None:
    provider.configure(latency_ms=800)
    process = start(office, "--yes", "--max-usd", "1.5")
    eventually(lambda: provider.stats()["billed"] >= 4)
    process.kill()
    process.communicate(timeout=300)
    assert check_books(office.home.state_url, at_rest=False)["all/ever"].earmarked_nusd > NUSD
    provider.configure(latency_ms=5)
    again = office.cli("backfill", "notes", "--yes", "--max-usd", "1.5")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "note: notes-1 was left by the process that ran it; its money is free again." in again.stderr
    assert "notes-2 is done" in again.stdout
    found = books(office)
    lost = [row for row in rows(office.home.state_url, "SELECT * FROM attempts") if row.state == "ambiguous"]
    assert asked_twice(office) == []
    assert provider.stats()["billed"] <= DOCUMENTS + len(lost)
    assert found["all/ever"].earmarked_nusd == 0
    assert found["backfill/notes-1"].held_nusd == sum(row.reserved_nusd for row in lost)


def test_while_one_is_under_way_another_command_follows_it_and_can_stop_it(
    office: Project, notes: Collection, provider: Provider
) -> None:
    (office.root / "inference.yaml").write_text(PRICED.replace("timeout_s", "limits: {concurrency: 1}, timeout_s"))
    provider.configure(latency_ms=1500)
    process = start(office, "--yes", "--max-usd", "1.5")
    eventually(lambda: provider.stats()["in_flight"] >= 1)
    follower = start(office)
    assert follower.stdout is not None
    assert re.match("notes-1 is under way since 20.*; following it.", follower.stdout.readline())
    stopped = office.cli("backfill", "notes", "--stop")
    assert stopped.returncode == 0
    assert "notes-1 is stopped: " in stopped.stdout
    told, _ = process.communicate(timeout=300)
    followed, _ = follower.communicate(timeout=300)
    assert (process.returncode, follower.returncode) == (1, 1), told + followed
    assert "notes-1 was stopped: " in followed
    assert "Go on: ai-assets backfill notes" in told
    assert books(office)["all/ever"].earmarked_nusd == 0
    assert provider.stats()["billed"] < DOCUMENTS


def test_with_up_running_dagster_does_it_and_the_command_follows(
    office: Project, notes: Collection, provider: Provider, tmp_path: Path
) -> None:
    declare(office, [STAGE], partitions={**PARTITIONS, "per_run": 3}, watch=False)
    (office.root / "inference.yaml").write_text(PRICED.replace("timeout_s", "limits: {concurrency: 1}, timeout_s"))
    provider.configure(latency_ms=900)
    said = tmp_path / "up.txt"
    command = [Path(sys.executable).parent / "ai-assets", "up", "--no-first-run", "--port", str(free_port())]
    with said.open("wb") as output:
        up = subprocess.Popen(
            [*command, "--desk-port", str(free_port())], cwd=office.root, env=dict(os.environ), stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        eventually(lambda: "Stop it with Ctrl-C" in said.read_text() or up.poll() is not None, 120)
        process = start(office, "--yes", "--max-usd", "1.5", "--json")
        eventually(lambda: provider.stats()["billed"] > 0, 60)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "notes-1 goes on without you." in told
        done = office.cli("backfill", "notes", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        ending = json.loads(done.stdout)
        assert (ending["state"], ending["answers"]) == ("done", DOCUMENTS)
        assert ending["dagster_id"]
        found = books(office)
        assert found["all/ever"].earmarked_nusd == 0
        assert found["all/ever"].spent_nusd == found["backfill/notes-1"].spent_nusd
        with office.instance() as dagster:
            assert len([run for run in dagster.get_runs() if run.tags.get(BACKFILL_TAG) == "notes-1"]) == 2
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
