"""Claims about runs that ask by batch: they end green, say what they wait for, and another run goes on."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from collector import Collector as Collecting
from conftest import STAGE, Project
from engines import declare, rows, states
from provider import Provider

from ai_assets.collection.loading import Collection
from ai_assets.inference.batch.collecting import Collected, Collector
from ai_assets.orchestration.automation import batches
from ai_assets.run.context import Outcome
from ai_assets.run.events import BatchAwaited
from ai_assets.run.status import answered_partitions, due_partitions, partition_states
from ai_assets.telemetry.command_span import batches_told

PATIENCE_S = 300.0
DAY = "2026-10-05"
BY_BATCH = {**STAGE, "route": "default", "tier": "batch"}
SUMMARY = {"name": "summary", "kind": "summarise", "route": "default", "tier": "batch"}


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.2) as running:
        yield running


def notes(project: Project, provider: Provider, *, days: int = 1, **attributes: Any) -> Collection:
    declare(project.root, provider.url, batch={"price_share": 0.5})
    project.documents(4, days=days)
    return project.declare(**{"stages": [BY_BATCH], **attributes})


def collected(project: Project, collection: Collection) -> Collected:
    """Until no batch is on the way."""
    deadline = time.monotonic() + PATIENCE_S
    with (
        project.work(collection) as work,
        batches_told(print) as told,
        Collector(work.inference, work.stores.state, listener=told) as collector,
    ):
        while (found := collector.collect(collection.name)).open:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return found


def waited(events: list[Any]) -> list[tuple[str, str, str]]:
    return [(each.partition, each.asset, each.said) for each in events if isinstance(each, BatchAwaited)]


def made(events: list[Any]) -> set[str]:
    return {each.manifest.asset for each in events if isinstance(each, Outcome)}


def test_a_run_that_asks_by_batch_ends_without_that_dataset_and_another_goes_on(
    project: Project, provider: Provider
) -> None:
    collection = notes(project, provider)
    events = list(project.events(collection, [DAY]))
    assert waited(events) == [(DAY, "kind", "waiting for batch, 0 of 4 answered")]
    assert "kind" not in made(events)
    assert "release_candidate" not in made(events)
    assert partition_states(collection, project.stores())[DAY] == "waiting for batch"
    assert due_partitions(collection, project.stores(), [DAY]) == []
    collected(project, collection)
    assert answered_partitions(collection, project.stores()) == [DAY]
    assert due_partitions(collection, project.stores(), [DAY]) == [DAY]
    events = list(project.events(collection, [DAY]))
    assert waited(events) == []
    assert {"kind", "release_candidate"} <= made(events)
    assert answered_partitions(collection, project.stores()) == []
    stats = provider.stats()
    assert (stats["billed"], stats["billed_batch"]) == (0, 4)


def test_all_partitions_of_a_run_share_a_file(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, days=3)
    assert len(waited(list(project.events(collection)))) == 3
    assert [batch["request_counts"]["total"] or 12 for batch in provider.batches()] == [12]


def test_stages_that_need_one_another_not_are_asked_in_one_run(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, stages=[BY_BATCH, SUMMARY])
    assert {asset for _, asset, _ in waited(list(project.events(collection, [DAY])))} == {"kind", "summary"}
    collected(project, collection)
    assert "release_candidate" in made(list(project.events(collection, [DAY])))


def test_what_follows_waits_for_its_turn(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, stages=[BY_BATCH, {**SUMMARY, "after": ["kind"]}])
    assert [asset for _, asset, _ in waited(list(project.events(collection, [DAY])))] == ["kind"]
    collected(project, collection)
    assert [asset for _, asset, _ in waited(list(project.events(collection, [DAY])))] == ["summary"]
    collected(project, collection)
    assert "release_candidate" in made(list(project.events(collection, [DAY])))


def test_vectors_travel_by_batch_too(project: Project, provider: Provider) -> None:
    embedding = {"route": "default", "dimensions": 256, "tier": "batch"}
    collection = notes(project, provider, stages=[], embedding=embedding)
    assert [asset for _, asset, _ in waited(list(project.events(collection, [DAY])))] == ["embeddings"]
    collected(project, collection)
    assert "embeddings" in made(list(project.events(collection, [DAY])))
    assert provider.stats()["billed"] == 0


def test_the_candidate_is_that_of_calls_one_by_one(project: Project, provider: Provider) -> None:
    collection = notes(project, provider)
    list(project.events(collection, [DAY]))
    collected(project, collection)
    list(project.events(collection, [DAY]))
    by_batch = project.stores().lake.manifest("notes", "kind", DAY)
    one_by_one = notes(project, provider, stages=[{**BY_BATCH, "tier": None}])
    assert one_by_one.code_versions == collection.code_versions
    assert due_partitions(one_by_one, project.stores(), [DAY]) == []
    assert by_batch is not None


def test_dagster_has_an_observation_in_place_of_the_dataset(
    project: Project, provider: Provider, collector: Collecting
) -> None:
    collection = notes(project, provider)
    with project.instance() as instance:
        tags = {"dagster/asset_partition_range_start": DAY, "dagster/asset_partition_range_end": DAY}
        result = project.execute(instance, collection, "notes", **tags)
        assert result.success
        key = dg.AssetKey(["notes", "kind"])
        (found,) = instance.fetch_observations(key, limit=5).records
        assert found.asset_observation is not None
        assert found.asset_observation.description is not None
        assert found.asset_observation.description.startswith("waiting for batch, 0 of 4 answered")
        assert not instance.fetch_materializations(key, limit=5).records
        tick = _tick(collection, instance)
        deadline = time.monotonic() + PATIENCE_S
        while isinstance(tick, dg.SkipReason):
            assert "on the way" in (tick.skip_message or "")
            assert time.monotonic() < deadline
            tick = _tick(collection, instance)
        (request,) = tick.run_requests or []
        assert request.tags["ai_assets/reason"] == "batch answered"
        assert project.execute(instance, collection, "notes", **request.tags).success
        assert instance.fetch_materializations(key, limit=5).records
        again = _tick(collection, instance)
        assert isinstance(again, dg.SkipReason)
    assert provider.stats()["billed_twice"] == 0
    (batch,) = collector.named("batch")
    assert len(collector.below(batch)) == 4


def _tick(collection: Collection, instance: dg.DagsterInstance) -> Any:
    (sensor,) = batches(collection)
    return sensor(dg.build_sensor_context(instance=instance))


def test_a_collection_that_asks_no_model_has_no_such_sensor(project: Project, provider: Provider) -> None:
    assert list(batches(notes(project, provider, stages=[STAGE]))) == []


def test_a_refused_batch_fails_its_partitions_in_one_sentence(project: Project, provider: Provider) -> None:
    collection = notes(project, provider, days=2)
    provider.batch_script({"request": "create", "fault": "refused"})
    with pytest.raises(Exception, match="did not create the batch"):
        list(project.events(collection))
    assert states(project.home.state_url) == {"failed": 8}
    failed = rows(project.home.state_url, "SELECT partition FROM refreshes WHERE status = 'failed' ORDER BY partition")
    assert [row.partition for row in failed] == ["2026-10-05", "2026-10-06"]


def test_documents_that_the_provider_refused_are_quarantined_by_the_run_that_goes_on(
    project: Project, provider: Provider
) -> None:
    collection = notes(project, provider)
    provider.script([{"match": "Note 1 ", "fault": "content_filter"}])
    list(project.events(collection, [DAY]))
    collected(project, collection)
    outcomes = [event for event in project.events(collection, [DAY]) if isinstance(event, Outcome)]
    assert [each.quarantined for each in outcomes if each.manifest.asset == "kind"] == [1]
