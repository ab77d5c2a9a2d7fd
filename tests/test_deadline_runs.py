"""Claims about runs by a deadline: what they wait for, who goes on, what a plan and `explain` say, and wrong input."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import STAGE, Project
from engines import PRICE, declare, rows
from provider import Provider

from ai_assets.collection.deadlines import levels_after
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.collecting import Collector
from ai_assets.orchestration.automation import batches
from ai_assets.run.context import Outcome
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import BatchAwaited
from ai_assets.run.explain import explain
from ai_assets.run.status import answered_partitions, partition_states

PATIENCE_S = 300.0
DAY = "2026-10-05"
KIND = {**STAGE, "route": "default"}
SUMMARY = {"name": "summary", "kind": "summarise", "route": "default"}
FLEX = {**PRICE, "tier": "flex", "input": 0.075, "output": 0.3}


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.2) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Iterator[Provider]:
    with running.lent():
        yield running


def notes(project: Project, provider: Provider, **attributes: Any) -> Collection:
    declare(project.root, provider.url, batch={"price_share": 0.5}, prices=[dict(PRICE), FLEX])
    project.documents(4)
    return project.declare(**{"stages": [{**KIND, "within": "8h"}], **attributes})


def later(project: Project, hours: float) -> None:
    """As if all of it had begun so much earlier."""
    with project.stores().state.write() as connection:
        for row in connection.execute(sa.text("SELECT * FROM deadlines")).all():
            connection.execute(
                sa.text("UPDATE deadlines SET since = :since WHERE partition = :p AND asset = :a"),
                {"since": jobs.plus(row.since, -3600 * hours), "p": row.partition, "a": row.asset},
            )
        for job in jobs.unended(connection):
            assert job.deadline is not None
            due = json.dumps({**json.loads(job.deadline.text), "due_at": jobs.plus(job.deadline.due_at, -3600 * hours)})
            at = jobs.plus(job.made_at, -3600 * hours)
            jobs.change(connection, job, deadline=due, made_at=at, submitted_at=at)


def collect(project: Project, collection: Collection, *, patience_s: float = PATIENCE_S) -> list[str]:
    """Until no batch is on the way; what was said."""
    deadline, said = time.monotonic() + patience_s, list[str]()
    with project.work(collection) as work, Collector(work.inference, work.stores.state) as collector:
        while (found := collector.collect(collection.name)).open:
            said += found.notes
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return [*said, *found.notes]


def made(events: list[Any]) -> set[str]:
    return {each.manifest.asset for each in events if isinstance(each, Outcome)}


def test_a_stage_with_a_deadline_travels_by_batch_and_says_why(project: Project, provider: Provider) -> None:
    collection = notes(project, provider)
    events = list(project.events(collection, [DAY]))
    assert [each.said for each in events if isinstance(each, BatchAwaited)] == ["waiting for batch, 0 of 4 answered"]
    collect(project, collection)
    assert "release_candidate" in made(list(project.events(collection, [DAY])))
    stats = provider.stats()
    assert (stats["billed"], stats["billed_batch"], stats["billed_twice"]) == (0, 4, 0)
    document = next(iter(rows(project.home.state_url, "SELECT document_id FROM document_history"))).document_id
    asked = (explain(collection, project.stores(), document)["current"] or {})["kind.asked"]
    assert asked.startswith("by batch, due ")
    assert "of batches have ended" in asked


def test_what_is_too_slow_is_stopped_by_the_sensor_and_goes_on_by_flex(project: Project, provider: Provider) -> None:
    provider.configure(batch_seconds=36_000)
    collection = notes(project, provider)
    (sensor,) = batches(collection)
    with project.instance() as instance:
        tags = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}
        assert project.execute(instance, collection, "notes", **tags).success
        tick = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(tick, dg.SkipReason)
        later(project, 7.87)
        tick = sensor(dg.build_sensor_context(instance=instance))
        assert isinstance(tick, dg.SkipReason)
        assert "what it has not done goes by flex once the provider says that it has ended" in (tick.skip_message or "")
        assert partition_states(collection, project.stores())[DAY] == "waiting for batch"
        deadline = time.monotonic() + PATIENCE_S
        while isinstance(tick := sensor(dg.build_sensor_context(instance=instance)), dg.SkipReason):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (request,) = tick.run_requests or []
        assert project.execute(instance, collection, "notes", **request.tags).success
        assert instance.fetch_materializations(dg.AssetKey(["notes", "kind"]), limit=5).records
    assert answered_partitions(collection, project.stores()) == []
    stats = provider.stats()
    assert (stats["billed"] + stats["billed_batch"], stats["billed_twice"]) == (4, 0)
    ways = [row.way for row in rows(project.home.state_url, "SELECT way FROM ways ORDER BY way_id")]
    assert ways == ["batch", "flex"]
    assert {row.tier for row in rows(project.home.state_url, "SELECT tier FROM attempts WHERE latency_s > 0")} == {
        "flex"
    }


def test_a_deadline_of_the_collection_is_that_of_all_that_asks(project: Project, provider: Provider) -> None:
    embedding = {"route": "default", "dimensions": 256}
    stages = [KIND, {**SUMMARY, "after": ["kind"]}]
    collection = notes(project, provider, stages=stages, embedding=embedding, due="06:00", timezone="Europe/Berlin")
    assert [levels_after(collection, name) for name in ("kind", "summary", "embeddings")] == [1, 0, 0]
    for _ in range(4):
        if "release_candidate" in made(list(project.events(collection, [DAY]))):
            break
        collect(project, collection)
    due = {row.asset: row.due_at for row in rows(project.home.state_url, "SELECT * FROM deadlines")}
    assert due.keys() == {"kind", "summary", "embeddings"}
    assert len(set(due.values())) == 1
    assert provider.stats()["billed_twice"] == 0
    assert all(row.answered_at for row in rows(project.home.state_url, "SELECT * FROM deadlines"))


def test_a_deadline_makes_nothing_stale(project: Project, provider: Provider) -> None:
    with_it = notes(project, provider)
    without = notes(project, provider, stages=[KIND])
    assert with_it.code_versions == without.code_versions
    assert with_it.settings_digest == without.settings_digest


def test_a_plan_shows_the_three_prices_and_the_chance_of_each(project: Project, provider: Provider) -> None:
    notes(project, provider)
    found = json.loads(project.cli("plan", "notes", "--json").stdout)
    (stage,) = found["stages"]
    due = stage["deadline"]
    assert (due["way"], due["then"], stage["tier"]) == ("batch", "flex", "batch")
    prices = {way["way"]: float(way["money"]["likely_usd"]) for way in due["ways"]}
    assert prices["batch"] == pytest.approx(prices["sync"] / 2)
    assert prices["flex"] == pytest.approx(prices["sync"] / 2)
    assert float(stage["money"]["likely_usd"]) == prices["batch"]
    assert all(0.9 < way["chance"] <= 1 for way in due["ways"])
    shown = project.cli("plan", "notes").stdout
    assert "By deadline" in shown
    assert "within 8h, that is " in shown


def test_a_plan_names_the_way_that_a_run_takes_after_a_file_was_refused(project: Project, provider: Provider) -> None:
    collection = notes(project, provider)
    provider.batch_script({"request": "create", "fault": "refused"})
    with pytest.raises(PartitionsFailed):
        project.refresh(collection, [DAY])
    (stage,) = json.loads(project.cli("plan", "notes", "--json").stdout)["stages"]
    assert "no batch, because the last one failed" in stage["deadline"]["reason"]
    assert stage["deadline"]["way"] != "batch"
    project.refresh(collection, [DAY])
    (taken,) = rows(project.home.state_url, "SELECT way FROM ways WHERE way <> 'batch'")
    assert stage["deadline"]["way"] == taken.way


def test_what_an_endpoint_has_not_is_not_offered(project: Project, provider: Provider) -> None:
    notes(project, provider)
    declare(project.root, provider.url)
    shown = project.cli("plan", "notes").stdout
    assert shown.count("not offered") == 2
    assert "the endpoint has no other way" in " ".join(shown.split())


def test_a_moment_that_is_over_is_refused_by_plan_and_run(project: Project, provider: Provider) -> None:
    notes(project, provider, stages=[{**KIND, "due": "2026-01-01T06:00", "timezone": "Europe/Berlin"}])
    for command, code in (("plan", 2), ("run", 1)):
        done = project.cli(command, "notes")
        assert done.returncode == code
        said = " ".join((done.stdout + done.stderr).split())
        assert "'kind' of collection 'notes' was due at 2026-01-01T06:00 (Europe/Berlin), which is over" in said
        assert "Traceback" not in said
    assert provider.stats()["billed"] == 0


@dataclass(frozen=True, kw_only=True)
class WrongDeadline:
    id: str
    stage: dict[str, Any]
    said: str
    collection: dict[str, Any] | None = None


MISTAKES = (
    WrongDeadline(id="nothing", stage={"within": "0h"}, said="stages.0.within: '0h' leaves no time"),
    WrongDeadline(id="negative", stage={"within": "-4h"}, said="'-4h' leaves no time"),
    WrongDeadline(id="no span", stage={"within": "soon"}, said="'soon' is no span of time such as 90m, 4h or 2d"),
    WrongDeadline(id="years", stage={"within": "9999d"}, said="'9999d' leaves no time, or more than a year"),
    WrongDeadline(id="both", stage={"within": "4h", "due": "06:00"}, said="it has 'due' or 'within', not both"),
    WrongDeadline(id="number", stage={"due": 1080}, said="should be in quotation marks"),
    WrongDeadline(id="no time", stage={"due": "6 o'clock"}, said="is neither a time of day"),
    WrongDeadline(
        id="the end of time",
        stage={"due": "9999-12-31T23:59", "timezone": "America/New_York"},
        said="stages.0.due: '9999-12-31T23:59' is not between the years 1970 and 2999; write the moment by which",
    ),
    WrongDeadline(id="its offset", stage={"due": "9999-12-31T23:59-12:00"}, said="is not between the years"),
    WrongDeadline(id="the first day", stage={"due": "0001-01-01T00:00"}, said="is not between the years"),
    WrongDeadline(id="hour", stage={"due": "24:00"}, said="'24:00' is neither a time of day"),
    WrongDeadline(id="zone", stage={"due": "06:00", "timezone": "Europe/Berln"}, said="did you mean 'Europe/Berlin'"),
    WrongDeadline(id="zone alone", stage={"timezone": "UTC"}, said="a time zone is that of 'due', which is not here"),
    WrongDeadline(
        id="skipped",
        stage={"due": "2027-03-28T02:30", "timezone": "Europe/Berlin"},
        said="there is no 2027-03-28T02:30 in Europe/Berlin: the clocks go forward over it",
    ),
    WrongDeadline(
        id="repeated",
        stage={"due": "2027-10-31T02:30", "timezone": "Europe/Berlin"},
        said="comes twice in Europe/Berlin, where the clocks go back; write 2027-10-31T02:30:00+02:00 or",
    ),
    WrongDeadline(id="tier", stage={"due": "06:00", "tier": "flex"}, said="a deadline chooses the tier, and"),
    WrongDeadline(id="no model", stage={"due": "06:00", "route": None}, said="it asks no model"),
    WrongDeadline(
        id="nothing due", stage={"tier": "flex"}, collection={"within": "4h"}, said="so nothing can be due"
    ),
)  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda each: each.id)
def test_a_mistake_is_one_sentence_with_file_and_line(
    project: Project, provider: Provider, mistake: WrongDeadline
) -> None:
    with pytest.raises(CollectionInvalid) as found:
        notes(project, provider, stages=[{**KIND, **mistake.stage}], **mistake.collection or {})
    assert mistake.said in str(found.value)
    assert "defs.yaml:" in str(found.value)


def test_a_function_has_no_deadline(project: Project, provider: Provider) -> None:
    project.root.joinpath("own.py").write_text("")
    stage = {"name": "own", "kind": "function", "function": "./own.py:none", "route": "default", "within": "4h"}
    with pytest.raises(CollectionInvalid, match="the calls of a function are made as it goes, so only its 'tier'"):
        notes(project, provider, stages=[stage])
