"""Claims about runs whose window is closed: they end green, say until when they wait, and another run goes on."""

import datetime
import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import DAYS, STAGE, Project
from engines import declare, rows, states
from hours import HOUR, closed, now, opened, set_ahead
from provider import Provider
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.cli.batch_waiting import answered_of
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference.load import load_inference
from ai_assets.orchestration.automation import windows
from ai_assets.planning import backfills
from ai_assets.planning.plan import plan
from ai_assets.run.context import Outcome
from ai_assets.run.events import WindowAwaited
from ai_assets.run.refresh import refresh
from ai_assets.run.status import collection_status, due_partitions, partition_states, watched_partitions
from ai_assets.run.window_waits import opened_partitions, waits

DAY = "2026-10-05"
KIND = {**STAGE, "route": "default"}
SUMMARY = {"name": "summary", "kind": "summarise", "route": "default"}
FUNCTION = """
from ai_assets import Document, Stage, stage

@stage(columns={"answer": str})
async def asked(document: Document, ctx: Stage) -> dict[str, object]:
    try:
        return {"answer": (await ctx.ask("Say yes. " + document.text)).text}
    except Exception:
        return {"answer": "none"}
"""


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, latency_ms=10, jitter_ms=0)
    running.reset()
    return running


def notes(project: Project, provider: Provider, windows: Any = (), *, days: int = 1, **attributes: Any) -> Collection:
    """Four documents a day; `windows` are those of the endpoint."""
    declare(project.root, provider.url, **({"windows": windows} if windows else {}))
    project.documents(4, days=days)
    return project.declare(**{"stages": [KIND], **attributes})


def waited(events: list[Any]) -> list[tuple[str, str, int]]:
    return [(each.partition, each.asset, each.documents) for each in events if isinstance(each, WindowAwaited)]


def made(events: list[Any]) -> set[str]:
    return {each.manifest.asset for each in events if isinstance(each, Outcome)}


def test_a_run_outside_the_window_ends_without_that_dataset_and_another_goes_on(
    project: Project, provider: Provider
) -> None:
    opens, night = now() + datetime.timedelta(hours=6), closed()
    collection = notes(project, provider, night)
    events = list(project.events(collection, [DAY]))
    assert waited(events) == [(DAY, "kind", 4)]
    (said,) = [each.said for each in events if isinstance(each, WindowAwaited)]
    assert said == f"waiting for its window until {opens:%a} {night[0]['from']} UTC, 4 documents"
    assert {"documents", "chunks", "embeddings"} <= made(events)
    assert "kind" not in made(events)
    assert "release_candidate" not in made(events)
    assert partition_states(collection, project.stores())[DAY] == "waiting for window"
    assert due_partitions(collection, project.stores(), [DAY]) == []
    assert opened_partitions(collection, project.stores()) == []
    assert watched_partitions(partition_states(collection, project.stores()), {}) == []
    collection = notes(project, provider, opened())
    assert opened_partitions(collection, project.stores()) == [DAY]
    assert due_partitions(collection, project.stores(), [DAY]) == [DAY]
    events = list(project.events(collection, [DAY]))
    assert {"kind", "release_candidate"} <= made(events)
    assert opened_partitions(collection, project.stores()) == []
    assert partition_states(collection, project.stores())[DAY] != "waiting for window"


def test_a_stage_waits_in_its_own_window_and_others_do_not(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, stages=[{**KIND, "windows": closed()}, SUMMARY])
    events = list(project.events(collection, [DAY]))
    assert waited(events) == [(DAY, "kind", 4)]
    assert "summary" in made(events)
    assert states(project.home.state_url) == {"settled": 4}


def test_a_window_that_opened_is_seen_by_the_clock_alone(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, closed())
    list(project.events(collection, [DAY]))
    state = project.stores().state
    with state.read() as connection:
        (wait,) = waits(connection, "notes")
    assert wait.opens is not None
    earlier = (now() - datetime.timedelta(minutes=1)).isoformat(timespec="milliseconds")
    with state.write() as connection:
        connection.exec_driver_sql("UPDATE window_waits SET until = ?", (earlier,))
    assert opened_partitions(collection, project.stores()) == [DAY]


def test_a_run_whose_window_closes_keeps_what_was_answered(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, opened(), days=3)
    provider.configure(latency_ms=100)
    with project.work(collection) as work:
        events = []
        for event in refresh(work, collection.scheme.keys()):
            events.append(event)
            if isinstance(event, Outcome) and event.manifest.asset == "kind":
                set_ahead(work.engine, 7 * HOUR)
    answered = provider.stats()["calls"]
    assert 4 <= answered <= 12
    assert sum(documents for _, _, documents in waited(events)) <= 12 - 4
    assert states(project.home.state_url) == {"settled": answered}
    list(project.events(notes(project, provider, days=3)))
    stats = provider.stats()
    assert (stats["calls"], stats["billed_twice"]) == (12, 0)


def test_the_candidate_is_that_of_a_run_that_never_waited(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, closed())
    list(project.events(collection, [DAY]))
    list(project.events(notes(project, provider), [DAY]))
    waited_for = project.stores().lake.manifest("notes", "kind", DAY)
    other = project.elsewhere()
    list(other.events(notes(other, provider), [DAY]))
    straight = other.stores().lake.manifest("notes", "kind", DAY)
    assert waited_for is not None
    assert straight is not None
    assert [row["label"] for row in project.stores().lake.rows(waited_for)] == [
        row["label"] for row in other.stores().lake.rows(straight)
    ]


def test_vectors_on_a_route_wait_too_and_nothing_is_scored(project: Project, provider: Provider) -> None:
    collection = notes(
        project, provider, stages=[], embedding={"route": "default", "dimensions": 256, "windows": closed()}
    )
    events = list(project.events(collection, [DAY]))
    assert waited(events) == [(DAY, "embeddings", 4)]
    assert made(events) == {"documents", "chunks"}
    assert provider.stats()["calls"] == 0


def test_a_function_that_asks_waits_whatever_it_catches(project: Project, provider: Provider) -> None:
    (project.root / "own_stages.py").write_text(FUNCTION)
    stage = {
        "name": "answer",
        "kind": "function",
        "function": "own_stages:asked",
        "route": "default",
        "windows": closed(),
    }
    collection = notes(project, provider, stages=[stage])
    events = list(project.events(collection, [DAY]))
    assert waited(events) == [(DAY, "answer", 4)]
    assert "answer" not in made(events)
    stage = {**stage, "windows": opened()}
    assert "release_candidate" in made(list(project.events(notes(project, provider, stages=[stage]), [DAY])))


def test_a_stage_by_batch_fills_no_file_outside_of_its_window(project: Project, provider: Provider) -> None:
    declare(project.root, provider.url, batch={"price_share": 0.5}, windows=closed())
    project.documents(4, days=1)
    collection = project.declare(stages=[{**KIND, "tier": "batch", "windows": closed()}])
    assert waited(list(project.events(collection, [DAY]))) == [(DAY, "kind", 4)]
    assert provider.batches() == []
    collection = project.declare(stages=[{**KIND, "tier": "batch", "windows": opened()}])
    assert waited(list(project.events(collection, [DAY]))) == []
    assert partition_states(collection, project.stores())[DAY] == "waiting for batch"


def test_a_failed_partition_does_not_wait(project: Project, provider: Provider) -> None:
    broken = {"name": "broken", "kind": "function", "function": "own_broken:missing"}
    (project.root / "own_broken.py").write_text(
        "from ai_assets import Document, stage\n@stage(columns={'a': str}, cpu=True)\n"
        "def missing(document: Document) -> dict[str, object]:\n    import os\n    os._exit(1)\n"
    )
    collection = notes(project, provider, closed(), stages=[KIND, broken])
    with pytest.raises(Exception, match="died"):
        list(project.events(collection, [DAY]))
    assert partition_states(collection, project.stores())[DAY] == "failed"
    assert rows(project.home.state_url, "SELECT * FROM window_waits") == []


def test_a_row_of_a_stage_that_is_gone_is_taken_up_and_asks_for_no_run_again(
    project: Project, provider: Provider
) -> None:
    list(project.events(notes(project, provider, closed()), [DAY]))
    collection = notes(project, provider, closed(), stages=[])
    assert opened_partitions(collection, project.stores()) == [DAY]
    list(project.events(collection, [DAY]))
    assert rows(project.home.state_url, "SELECT * FROM window_waits") == []


# What says it


def _tick(collection: Collection, instance: dg.DagsterInstance) -> Any:
    (sensor,) = windows(collection)
    return sensor(dg.build_sensor_context(instance=instance))


def test_dagster_says_until_when_and_its_sensor_goes_on(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, closed())
    with project.instance() as instance:
        tags = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}
        assert project.execute(instance, collection, "notes", **tags).success
        key = dg.AssetKey(["notes", "kind"])
        (found,) = instance.fetch_observations(key, limit=5).records
        assert found.asset_observation is not None
        assert found.asset_observation.description is not None
        assert found.asset_observation.description.startswith("waiting for its window until ")
        assert found.asset_observation.metadata["window/documents"].value == 4
        tick = _tick(collection, instance)
        assert isinstance(tick, dg.SkipReason)
        assert tick.skip_message is not None
        assert tick.skip_message.startswith("1 partition waits for a window, until ")
        notes(project, provider, opened())
        (request,) = _tick(collection, instance).run_requests
        assert request.tags["ai_assets/reason"] == "window opened"
        assert project.execute(instance, collection, "notes", **request.tags).success
        assert instance.fetch_materializations(key, limit=5).records
        again = _tick(collection, instance)
        assert isinstance(again, dg.SkipReason)
        assert again.skip_message == "no partition waits for a window"


def test_status_and_plan_say_until_when(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, closed())
    before = CliRunner().invoke(app, ["plan", "notes"])
    assert "kind: waits for its window until " in before.output
    list(project.events(collection, [DAY]))
    found = collection_status(collection, project.stores())
    assert [(wait.asset, wait.documents) for wait in found.windows] == [("kind", 4)]
    shown = CliRunner().invoke(app, ["status", "notes"])
    assert f"{DAY} kind: waiting for its window until " in shown.output
    (plain,) = json.loads(CliRunner().invoke(app, ["status", "notes", "--json"]).output)
    assert plain["partitions"][DAY] == "waiting for window"
    assert plain["windows"][0]["documents"] == 4
    after = CliRunner().invoke(app, ["plan", "notes"])
    assert "no partition is due, and 1 of 1 wait to go on" in after.output
    assert f"{DAY} kind: waiting for its window until " in after.output


def test_a_run_of_the_command_ends_well_and_says_how_to_wait(project: Project, provider: Provider) -> None:
    notes(project, provider, closed())
    ended = project.cli("run", "notes")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{DAY} kind: waiting for its window until " in ended.stdout
    assert "or wait here: ai-assets run notes --wait" in ended.stdout.replace("\n", " ")


def test_a_plan_counts_the_price_of_the_hour_at_which_calls_leave(project: Project, provider: Provider) -> None:
    dear, later = {"from": "2026-01-01", "input": 1.0, "output": 1.0}, closed()
    night = {**dear, "input": 0.1, "output": 0.1, "windows": later}
    project.documents(4, days=1)
    money = []
    for stage in (KIND, {**KIND, "windows": later}):
        declare(project.root, provider.url, prices=[dear, night])
        collection = project.declare(stages=[stage])
        found = plan(collection, project.stores(), load_inference(project.home.inference))
        money.append((found.money.likely_nusd, found.money.high_nusd))
    assert money[1][0] == pytest.approx(money[0][0] / 10, rel=0.01)
    assert money[1][1] == pytest.approx(money[0][1], rel=0.01)
    assert found.stages[0].opens is not None


def test_a_plan_takes_the_endpoint_that_is_open(project: Project, provider: Provider) -> None:
    declare(project.root, provider.url, windows=closed())
    text = (project.root / "inference.yaml").read_text()
    other = "  day: {base_url: rehearsal, model: large, prices: [{from: 2026-01-01, input: 1, output: 2}]}\n"
    text = text.replace("endpoints:\n", f"endpoints:\n{other}", 1).replace("    - mini", "    - mini\n    - day")
    (project.root / "inference.yaml").write_text(text)
    project.documents(4, days=1)
    collection = project.declare(stages=[KIND])
    (stage,) = plan(collection, project.stores(), load_inference(project.home.inference)).stages
    assert (stage.endpoint, stage.opens) == ("day", None)


def test_a_backfill_of_dagster_is_not_over_while_a_partition_waits(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, closed())
    found = plan(collection, project.stores(), load_inference(project.home.inference))
    made_here = backfills.begin(
        project.stores(), collection, load_inference(project.home.inference), found,
        assets=list(collection.asset_names), cap_nusd=10**9, by="ada",
    )  # fmt: skip
    list(project.events(collection, [DAY]))
    with project.stores().state.read() as connection:
        assert backfills.is_waiting(connection, made_here)
        assert backfills.tags_of_waiting(connection, "notes")
    list(project.events(notes(project, provider), [DAY]))
    with project.stores().state.read() as connection:
        assert not backfills.is_waiting(connection, made_here)


def test_what_waits_is_said_where_inference_yaml_is_wrong_by_now(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, closed())
    list(project.events(collection, [DAY]))
    (project.root / "inference.yaml").write_text("endpoints: [")
    assert partition_states(collection, project.stores())[DAY] == "waiting for window"


def test_it_loads_with_windows_of_all_kinds(project: Project, provider: Provider, tmp_path: Path) -> None:
    notes(project, provider, opened(), partitions=dict(DAYS))
    assert load_collection(project.root / "collections", "notes").windowed == {"kind"}


def test_a_command_waits_until_a_window_opens_and_says_so(
    project: Project, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = notes(project, provider, closed())
    list(project.events(collection, [DAY]))
    soon = (now() + datetime.timedelta(seconds=2)).isoformat(timespec="milliseconds")
    with project.stores().state.write() as connection:
        connection.exec_driver_sql("UPDATE window_waits SET until = ?", (soon,))
    assert answered_of(collection, project.stores(), [DAY]) == [DAY]
    assert now().isoformat() >= soon
    assert "notes: 1 partition waits for a window, until " in capsys.readouterr().err


def test_golden_questions_wait_with_their_partition(project: Project, provider: Provider) -> None:
    (project.root / "collections" / "notes").mkdir(parents=True, exist_ok=True)
    golden = {"query": "Which pump leaks?", "documents": [f"{DAY}/0.txt"]}
    (project.root / "collections" / "notes" / "queries.jsonl").write_text(json.dumps(golden) + "\n")
    embedding = {"route": "default", "dimensions": 256}
    collection = notes(project, provider, opened(), stages=[], embedding=embedding, golden={"queries": "queries.jsonl"})
    with project.work(collection) as work:
        events = []
        for event in refresh(work, [DAY]):
            events.append(event)
            if isinstance(event, Outcome) and event.manifest.asset == "embeddings":
                set_ahead(work.engine, 7 * HOUR)
    assert [(partition, asset) for partition, asset, _ in waited(events)] == [(DAY, "evaluation_scores")]
    assert partition_states(collection, project.stores())[DAY] == "waiting for window"
    assert "release_candidate" in made(list(project.events(collection, [DAY])))
    assert rows(project.home.state_url, "SELECT * FROM window_waits") == []


def test_a_run_that_fails_after_the_window_opened_is_not_asked_for_each_minute(
    project: Project, provider: Provider
) -> None:
    list(project.events(notes(project, provider, closed()), [DAY]))
    declare(project.root, provider.url, windows=opened(), key="NO_SUCH_KEY")
    collection = load_collection(project.root / "collections", "notes")
    assert opened_partitions(collection, project.stores()) == [DAY]
    with pytest.raises(Exception, match="NO_SUCH_KEY"):
        list(project.events(collection, [DAY]))
    assert opened_partitions(collection, project.stores()) == []
    assert partition_states(collection, project.stores())[DAY] == "failed"
