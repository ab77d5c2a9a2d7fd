"""Claims about what starts runs without a person: documents without an answer are asked about when they are due."""

from collections.abc import Iterator

import dagster as dg
import pytest
from conftest import Project
from provider import Provider
from test_asking_again import calls, let_time_pass, office, run, sicken, the_one  # noqa: F401 - a fixture
from test_llm_stages import BILL, DAY, rows
from test_sensors import asked, nightly_tick, ranges, tick
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.documents.source_listing import observe
from ai_assets.orchestration.automation import source_changes
from ai_assets.orchestration.automation.source_changes import REASON
from ai_assets.orchestration.run_tags import PATIENT, PATIENT_TAG
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.status import partition_states

ONE_SHARD = {"by": "shards", "count": 1}


@pytest.fixture
def opened(project: Project) -> Iterator[dg.DagsterInstance]:
    with project.instance() as instance:
        yield instance


@pytest.fixture
def garbled(office: Project, provider: Provider) -> Collection:  # noqa: F811
    """One of six documents has no answer yet."""
    collection = declare(office, [KIND], schedule={})
    sicken(provider)
    run(office, collection)
    return collection


def test_neither_tick_asks_before_it_is_due_and_both_do_then(
    project: Project, garbled: Collection, opened: dg.DagsterInstance
) -> None:
    assert tick(source_changes(garbled), opened) == "the source is unchanged"
    assert nightly_tick(garbled, opened) == "every partition is up to date"
    let_time_pass(project)
    (request,) = asked(tick(source_changes(garbled), opened)).run_requests or []
    assert ranges([request]) == [(DAY, DAY)]
    assert (request.tags[REASON], request.tags[PATIENT_TAG]) == ("tried again", PATIENT)
    assert nightly_tick(garbled, opened) == [(DAY, DAY)]


def test_the_run_that_a_tick_asks_for_asks_once_and_then_waits_longer(
    project: Project, garbled: Collection, opened: dg.DagsterInstance, provider: Provider
) -> None:
    let_time_pass(project)
    (request,) = asked(tick(source_changes(garbled), opened)).run_requests or []
    before = calls(provider)
    assert project.execute(opened, garbled, "notes", **request.tags).success
    assert calls(provider) == before + 1
    assert the_one(project).tries == 2
    assert tick(source_changes(garbled), opened) == "the source is unchanged"
    provider.script([])
    let_time_pass(project)
    (request,) = asked(tick(source_changes(garbled), opened)).run_requests or []
    assert project.execute(opened, garbled, "notes", **request.tags).success
    assert rows(project, "kind")["2026-10-05/fire-0.txt"]["status"] == "ok"
    assert tick(source_changes(garbled), opened) == "the source is unchanged"
    assert nightly_tick(garbled, opened) == "every partition is up to date"


def test_a_run_for_a_changed_source_leaves_alone_what_is_not_due(
    project: Project, garbled: Collection, opened: dg.DagsterInstance, provider: Provider
) -> None:
    project.document(f"{DAY}/bill-9.txt", BILL.format(n=9))
    (request,) = asked(tick(source_changes(garbled), opened)).run_requests or []
    assert request.tags[REASON] == "source changed"
    before = calls(provider)
    assert project.execute(opened, garbled, "notes", **request.tags).success
    assert calls(provider) == before + 1
    assert the_one(project).tries == 1


def test_materialize_in_the_ui_asks_at_once(
    project: Project, garbled: Collection, opened: dg.DagsterInstance, provider: Provider
) -> None:
    provider.script([])
    assert project.execute(opened, garbled, "notes", **{RANGE_START: DAY, RANGE_END: DAY}).success
    assert rows(project, "kind")["2026-10-05/fire-0.txt"]["status"] == "ok"


@pytest.mark.slow
def test_a_partition_without_a_single_answer_is_watched_with_a_back_off_until_there_is_one(
    project: Project, office: Project, opened: dg.DagsterInstance, provider: Provider  # noqa: F811
) -> None:  # fmt: skip
    collection = declare(office, [KIND], schedule={})
    sicken(provider, match="")
    with pytest.raises(PartitionsFailed):
        run(office, collection)
    assert partition_states(collection, office.stores())[DAY] == "failed"
    assert tick(source_changes(collection), opened) == "the source is unchanged"
    assert nightly_tick(collection, opened) == [(DAY, DAY)], "what failed is run each night"
    let_time_pass(project)
    (request,) = asked(tick(source_changes(collection), opened)).run_requests or []
    assert not project.execute(opened, collection, "notes", **request.tags).success
    assert tick(source_changes(collection), opened) == "the source is unchanged"
    provider.script([])
    let_time_pass(project)
    (request,) = asked(tick(source_changes(collection), opened)).run_requests or []
    assert project.execute(opened, collection, "notes", **request.tags).success
    assert partition_states(collection, office.stores())[DAY] == "awaiting sign-off"


def test_a_file_that_cannot_be_read_while_the_source_is_looked_at_is_a_row_and_is_looked_at_again(
    project: Project,
) -> None:
    """The memory of a process can be opened, and reading its first byte is an I/O error."""
    collection = project.declare(source={"path": "/proc/self", "include": ["mem"]}, partitions=ONE_SHARD)
    stores = project.stores()
    for _ in range(2):
        (entry,) = [each for each in observe(collection, stores.lake, stores.state).entries if each.path == "mem"]
        assert entry.problem == "could not be read: Input/output error"
        assert entry.partition is not None
        assert entry.hashed_ns == 0, "so that no later look takes it for known"
