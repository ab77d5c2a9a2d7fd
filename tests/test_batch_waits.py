"""Claims about waiting for batches: no run does, a wait ends with what it stands on, and a refusal is final."""

import datetime
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import STAGE, Project
from engines import CALLER, ask, check_books, declare, one, question, questions, rows
from provider import Provider

from ai_assets.base.due import DeclaredDeadline
from ai_assets.collection.loading import Collection
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.batch.errors import BatchRefused
from ai_assets.inference.batch.jobs import BY_REFUSAL, BatchJob, BatchWait
from ai_assets.inference.batch.pending import Pending
from ai_assets.inference.by_deadline import DeadlineAsker, DueWork
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import BudgetInBatches
from ai_assets.inference.records import Caller, Request, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.orchestration.automation import batches
from ai_assets.run.context import Outcome
from ai_assets.run.events import BatchAwaited
from ai_assets.run.status import answered_partitions, partition_states
from ai_assets.storage.migrations import m056_batch_wait_jobs
from ai_assets.storage.state import StateStore

PATIENCE_S = 300.0
DAY, NEXT_DAY = "2026-10-05", "2026-10-06"
BY_BATCH = {**STAGE, "route": "default", "tier": "batch"}
SHORT = {"name": "short", "kind": "summarise", "route": "default"}
HELD = "what is left of budget 'all' is reserved by batches on their way"
OTHER = replace(CALLER, collection="memos", run_id="memos")
NEXT = replace(CALLER, partition=NEXT_DAY)
TAGS = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.1) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Iterator[Provider]:
    with running.lent():
        yield running


class Desk:
    """A state store, and what several ask there by batch."""

    def __init__(self, url: str, provider: Provider, limit_usd: float = 100) -> None:
        self.url, self.state = url, StateStore(url)
        found = one(provider.url, batch={"price_share": 0.5}).model_dump(
            mode="json", by_alias=True, exclude_defaults=True
        )
        budget = {"name": "all", "limit_usd": limit_usd}
        self.settings = InferenceSettings.model_validate({**found, "budgets": [budget]})

    def ask(self, requests: list[Request], caller: Caller = CALLER) -> list[Result | Pending]:
        with BatchAsker(self.settings, self.state) as asker:
            found = list(asker.map(requests, caller))
            asker.submit()
            return found

    def collect(self, collection: str | None = None, ahead_s: float = 0.0) -> list[BatchJob]:
        """One look, so many seconds later; what is on the way then."""
        moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead_s)
        with Collector(self.settings, self.state, clock=lambda _connection: moment) as collector:
            return collector.collect(collection).open

    def until_ended(self, collection: str | None = None) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.collect(collection):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @property
    def jobs(self) -> list[BatchJob]:
        with self.state.read() as connection:
            return jobs.listed(connection, ended=True)[::-1]

    def wait(self, caller: Caller) -> BatchWait:
        with self.state.read() as connection:
            (found,) = (
                each
                for each in jobs.waits(connection, caller.collection)
                if (each.asset, each.partition) == (caller.asset, caller.partition)
            )
        return found


@pytest.fixture
def desk(each_url: str, provider: Provider) -> Iterator[Desk]:
    provider.configure(batch_seconds=3600)
    found = Desk(each_url, provider)
    with closing(found.state):
        yield found


# Lines of somebody else


@pytest.mark.parametrize("other", [NEXT, OTHER], ids=["partition", "collection"])
def test_who_asks_what_travels_already_waits_for_that_batch(desk: Desk, provider: Provider, other: Caller) -> None:
    desk.ask(questions(4))
    desk.ask(questions(4), other)
    wait = desk.wait(other)
    assert (wait.calls, wait.waiting, wait.answered, wait.has_news) == (4, 4, 0, False)
    assert len(desk.jobs) == 1, "no file was made for nothing"
    provider.configure(clock_ahead_s=7200)
    desk.until_ended(other.collection)
    wait = desk.wait(other)
    assert (wait.waiting, wait.has_news) == (0, True)
    assert {type(each).__name__ for each in desk.ask(questions(4), other)} == {"Answer"}
    assert provider.stats()["billed_batch"] == 4


def test_a_wait_of_an_older_version_stands_on_the_lines_that_its_run_made(desk: Desk) -> None:
    desk.ask(questions(3))
    desk.ask(questions(2, first=10))
    before = rows(desk.state, "SELECT * FROM batch_wait_jobs WHERE lines = 2")
    with desk.state.write() as connection:
        connection.execute(sa.text("DROP TABLE batch_wait_jobs"))
        m056_batch_wait_jobs.up(connection)
    found = rows(desk.state, "SELECT * FROM batch_wait_jobs ORDER BY lines")
    assert [(row.job_id, row.lines, row.budget) for row in found] == [
        (before[0].job_id, 2, ""),
        (desk.jobs[0].job_id, 3, ""),
    ]


# Money that batches have


def test_what_no_budget_has_money_for_waits_for_the_batches_that_hold_it(each_url: str, provider: Provider) -> None:
    provider.configure(batch_seconds=3600)
    desk = Desk(each_url, provider, limit_usd=0.0001)
    asked = sum(isinstance(each, Pending) and bool(each.job) for each in desk.ask(questions(40)))
    assert 0 < asked < 40
    for _ in range(2):
        desk.ask(questions(6, first=100), NEXT)
        wait = desk.wait(NEXT)
        assert (wait.calls, wait.waiting, wait.answered, wait.budgets) == (6, 6, 0, ("all",))
        assert wait.said == f"waiting for batch, 0 of 6 answered: {HELD}"
        assert not wait.has_news
    assert [job.lines for job in desk.jobs] == [asked], "no empty file was made"
    check_books(desk.state, at_rest=False)
    provider.configure(clock_ahead_s=7200)
    desk.until_ended()
    assert desk.wait(NEXT).has_news
    desk.ask(questions(6, first=100), NEXT)
    assert desk.jobs[-1].lines > 0
    desk.state.close()


def test_a_call_outside_a_run_is_told_at_once_that_batches_have_the_money(each_url: str, provider: Provider) -> None:
    provider.configure(batch_seconds=3600)
    desk = Desk(each_url, provider, limit_usd=0.0001)
    desk.ask(questions(40))
    with pytest.raises(BudgetInBatches, match=rf"budget 'all' has left is reserved by batches.*{desk.jobs[0].job_id}"):
        ask(desk.url, desk.settings, [question(200)], replace(CALLER, asset="", partition="", run_id=""))
    assert provider.stats()["billed"] == 0
    desk.state.close()


def notes(project: Project, provider: Provider, limit_usd: float = 100.0, **attributes: Any) -> Collection:
    budgets = f"budgets: [{{name: all, limit_usd: {limit_usd}}}]\n"
    declare(project.root, provider.url, budgets, batch={"price_share": 0.5})
    project.documents(4, days=1)
    return project.declare(**{"stages": [BY_BATCH], **attributes})


def waited(events: list[Any]) -> dict[str, str]:
    return {each.asset: each.said for each in events if isinstance(each, BatchAwaited)}


def made(events: list[Any]) -> set[str]:
    return {each.manifest.asset for each in events if isinstance(each, Outcome)}


def until_ended(project: Project, collection: Collection) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with project.work(collection) as work, Collector(work.inference, work.stores.state) as collector:
        while collector.collect(collection.name).open:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def reserved_usd(project: Project) -> float:
    (row,) = rows(project.home.state_url, "SELECT reserved_nusd FROM budgets WHERE budget LIKE 'all%'")
    return float(row.reserved_nusd) / 1e9


def tick(collection: Collection, instance: dg.DagsterInstance) -> Any:
    (sensor,) = batches(collection)
    return sensor(dg.build_sensor_context(instance=instance))


def test_a_stage_asked_one_by_one_waits_in_no_run_for_money_that_a_batch_has(
    project: Project, provider: Provider
) -> None:
    provider.configure(batch_seconds=3600)
    list(project.events(notes(project, provider), [DAY]))
    collection = notes(project, provider, limit_usd=reserved_usd(project) * 1.01, stages=[BY_BATCH, SHORT])
    with project.instance() as instance:
        assert project.execute(instance, collection, "notes", **TAGS).success
        (found,) = instance.fetch_observations(dg.AssetKey(["notes", "short"]), limit=5).records
        assert found.asset_observation is not None
        assert (found.asset_observation.description or "").startswith(f"waiting for batch: {HELD}. Its sensor")
        assert isinstance(tick(collection, instance), dg.SkipReason)
        assert partition_states(collection, project.stores())[DAY] == "waiting for batch"
        provider.configure(clock_ahead_s=7200)
        until_ended(project, collection)
        (request,) = tick(collection, instance).run_requests
        declare(project.root, provider.url, "budgets: [{name: all, limit_usd: 1}]\n", batch={"price_share": 0.5})
        assert project.execute(instance, collection, "notes", **request.tags).success
        assert instance.fetch_materializations(dg.AssetKey(["notes", "short"]), limit=5).records
        assert isinstance(tick(collection, instance), dg.SkipReason)
    assert rows(project.home.state_url, "SELECT * FROM batch_waits") == []


def test_a_run_submits_the_batch_that_has_its_own_money(project: Project, provider: Provider) -> None:
    """Before it waited for that money, and submitted only afterwards: for ever."""
    list(project.events(notes(project, provider), [DAY]))
    limit_usd = reserved_usd(project) * 1.5
    fresh = project.elsewhere()
    collection = notes(fresh, provider, limit_usd=limit_usd, stages=[BY_BATCH, SHORT])
    for _ in range(12):
        events = list(fresh.events(collection, [DAY]))
        if "release_candidate" in made(events):
            break
        assert waited(events)
        until_ended(fresh, collection)
        assert answered_partitions(collection, fresh.stores()) == [DAY]
    else:
        pytest.fail("it did not come to its end")
    check_books(fresh.home.state_url)


# A refusal


def test_a_batch_that_is_refused_for_good_is_not_made_again_each_minute(project: Project, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "refused", "times": 99})
    collection = notes(project, provider)
    with project.instance() as instance:
        assert not project.execute(instance, collection, "notes", **TAGS).success
        assert partition_states(collection, project.stores())[DAY] == "failed"
        skipped = tick(collection, instance)
        assert isinstance(skipped, dg.SkipReason)
        (row,) = rows(project.home.state_url, "SELECT held_by FROM batch_waits")
        assert row.held_by == BY_REFUSAL
        changed = notes(project, provider, stages=[BY_BATCH, SHORT])
        assert partition_states(changed, project.stores())[DAY] == "stale", "another declaration is worth a try"
        collection = notes(project, provider)
        provider.batch_script()
        assert project.execute(instance, collection, "notes", **TAGS).success, "a person has it go on"
        assert partition_states(collection, project.stores())[DAY] == "waiting for batch"
        until_ended(project, collection)
        assert tick(collection, instance).run_requests


def test_a_batch_that_fails_as_a_whole_is_not_made_again_by_itself(
    desk: Desk, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.configure(batch_seconds=0.1)
    with monkeypatch.context() as patch:  # lines that the provider finds wrong only when it reads the file
        patch.setattr("ai_assets.inference.batch.lines.url_of", lambda _prefix, _kind: "/v1/other")
        desk.ask(questions(3))
        desk.ask(questions(3), OTHER)
    desk.until_ended()
    assert (desk.jobs[0].provider_state, desk.wait(CALLER).held_by) == ("failed", BY_REFUSAL)
    wait = desk.wait(OTHER)
    assert (wait.held_by, wait.has_news) == (None, True), "another collection tries a batch of its own"
    desk.ask(questions(3))
    assert desk.wait(CALLER).held_by is None, "who runs it again tries again"
    desk.until_ended()
    assert {type(each).__name__ for each in desk.ask(questions(3))} == {"Answer"}


def test_partitions_whose_file_was_taken_do_not_fail_with_another_one(each_url: str, provider: Provider) -> None:
    desk = Desk(each_url, provider)
    with BatchAsker(desk.settings, desk.state) as asker:
        list(asker.map(questions(2), CALLER))
        list(asker.map([Request(text="Note 7.", document="7", kind="embed")], NEXT))
        provider.batch_script({"request": "create", "fault": "refused", "times": 1})
        with pytest.raises(BatchRefused):
            asker.submit()
    assert [*asker.unsent] == [(CALLER.collection, CALLER.asset, CALLER.partition)]
    assert (desk.wait(CALLER).held_by, desk.wait(NEXT).held_by) == (BY_REFUSAL, None)
    desk.state.close()


def test_a_collection_that_asks_one_by_one_waits_for_the_batches_of_others(
    project: Project, provider: Provider
) -> None:
    provider.configure(batch_seconds=3600)
    list(project.events(notes(project, provider), [DAY]))
    notes(project, provider, limit_usd=reserved_usd(project) * 1.01)
    for number in range(2):
        project.document(f"{DAY}/{number}.txt", f"Memo {number} on the invoice.", "memos")
    memos = project.declare("memos", stages=[SHORT])
    assert waited(list(project.events(memos, [DAY]))) == {"short": f"waiting for batch: {HELD}"}
    with project.instance() as instance:
        assert isinstance(tick(memos, instance), dg.SkipReason)
        provider.configure(clock_ahead_s=7200)
        deadline = time.monotonic() + PATIENCE_S
        while isinstance(found := tick(memos, instance), dg.SkipReason):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found.run_requests


def test_what_is_due_and_was_refused_names_its_next_way_and_takes_it(project: Project, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "refused", "times": 99})
    collection = notes(project, provider, stages=[{**STAGE, "route": "default", "within": "8h"}])
    with project.instance() as instance:
        assert not project.execute(instance, collection, "notes", **TAGS).success
        (row,) = rows(project.home.state_url, "SELECT error FROM refreshes")
        assert "What is due does not wait for that: the next run asks it one by one." in row.error
        (request,) = tick(collection, instance).run_requests
        assert project.execute(instance, collection, "notes", **request.tags).success
        assert isinstance(tick(collection, instance), dg.SkipReason)
    assert provider.stats()["billed"] == 4


def test_a_provider_that_cannot_be_reached_is_asked_again_after_a_pause(project: Project, provider: Provider) -> None:
    provider.batch_script({"request": "upload", "fault": "reset", "times": 99})
    collection = notes(project, provider)
    with project.instance() as instance:
        assert not project.execute(instance, collection, "notes", **TAGS).success
        assert isinstance(tick(collection, instance), dg.SkipReason)
        assert answered_partitions(collection, project.stores()) == []
        with project.stores().state.write() as connection:  # as if the pause were over
            connection.execute(sa.text("UPDATE document_retries SET next_at = '2026-01-01T00:00:00.000+00:00'"))
        assert answered_partitions(collection, project.stores()) == [DAY]


# A deadline of somebody else


class DueDesk:
    """Asks by a deadline, at a clock of its own."""

    def __init__(self, desk: Desk, caller: Caller, within_s: float) -> None:
        self.desk, self.caller, self.ahead_s = desk, caller, 0.0
        self.work = DueWork(deadline=DeclaredDeadline(within_s=within_s), route="default", calls=3)

    def now(self, _connection: sa.Connection) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.ahead_s)

    def ask(self, requests: list[Request]) -> list[str]:
        settings, state = self.desk.settings, self.desk.state
        with Engine(settings, state) as engine, BatchAsker(settings, state) as asker:
            due = DeadlineAsker(
                settings=settings, state=state, engine=lambda: engine, batches=lambda: asker, clock=self.now
            )
            found = [type(each).__name__ for each in due.map(requests, self.caller, self.work)]
            asker.submit()
        return found


def test_a_batch_without_a_deadline_gets_that_of_who_waits_for_it(desk: Desk, provider: Provider) -> None:
    desk.ask(questions(3))
    due = DueDesk(desk, OTHER, within_s=6 * 3600)
    assert due.ask(questions(3)) == ["Pending"] * 3
    assert desk.jobs[0].deadline is not None
    assert desk.collect(ahead_s=3600)
    assert desk.jobs[0].cancelled_by is None, "its buffer has not begun"
    due.ahead_s = 5.99 * 3600
    desk.collect(ahead_s=due.ahead_s)
    assert desk.jobs[0].cancelled_by == "its deadline"
    desk.until_ended()
    assert due.ask(questions(3)) == ["Answer"] * 3
    assert desk.wait(CALLER).held_by is None
    assert {type(each).__name__ for each in desk.ask(questions(3))} == {"Answer"}
    assert provider.stats()["billed_twice"] == 0


def test_a_later_deadline_changes_nothing(desk: Desk) -> None:
    DueDesk(desk, CALLER, within_s=6 * 3600).ask(questions(3))
    (before,) = desk.jobs
    assert before.deadline is not None
    DueDesk(desk, OTHER, within_s=9 * 3600).ask(questions(3))
    assert desk.jobs[0].deadline == before.deadline
    DueDesk(desk, NEXT, within_s=5 * 3600).ask(questions(3))
    assert desk.jobs[0].deadline is not None
    assert desk.jobs[0].deadline.due_at < before.deadline.due_at
