"""Claims about a collection in which something declares `compute:`: its run is cut into steps, and nothing is lost
between them."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pytest
from conftest import STAGE, Project
from dagster._core.execution.api import create_execution_plan

from ai_assets.collection.loading import Collection
from ai_assets.orchestration.component import collection_definitions
from ai_assets.orchestration.segment import TOTAL_TAG
from ai_assets.run.hand_over import RunPart, handed_over
from ai_assets.run.refresh import refresh
from ai_assets.run.status import partition_states

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
RANGE = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
COMPUTE = {"memory": "3Gi", "spot": True}


def declare(project: Project, compute: Mapping[str, Any] | None = COMPUTE, **more: Any) -> Collection:
    (project.root / "collections/notes").mkdir(exist_ok=True)
    (project.root / "collections/notes/q.jsonl").write_text(
        '{"query": "pump in hall 0", "documents": ["2026-10-05/0.txt"]}\n'
    )
    own = {"compute": dict(compute)} if compute else {}
    return project.declare(**{"stages": [dict(STAGE)], "golden": {"queries": "q.jsonl"}, "embedding": own, **more})


@pytest.fixture
def cut(project: Project) -> Collection:
    project.documents(per_day=2)
    return declare(project)


def manifests(project: Project, collection: Collection) -> dict[tuple[str, str], tuple[str, str]]:
    with project.work(collection) as work:
        found = {(asset, day): work.manifest(asset, day) for asset in collection.asset_names for day in DAYS}
    return {key: (each.version, each.fingerprint) for key, each in found.items() if each is not None}


def ended(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.step_key or "" for event in result.all_events if event.is_step_success or event.is_step_failure]


def test_what_declares_compute_is_a_step_and_the_rest_shares_as_few_as_it_can(
    cut: Collection, project: Project
) -> None:
    assert [(step.name, step.assets) for step in cut.steps] == [
        ("rest__1", ("documents", "chunks", "kind")),
        ("embeddings", ("embeddings",)),
        ("rest__2", ("evaluation_scores", "release_candidate")),
    ]
    plain = declare(project, compute=None)
    assert [step.assets for step in plain.steps] == [plain.asset_names]
    assert plain.code_versions == cut.code_versions
    assert plain.settings_digest == cut.settings_digest


def test_a_cut_run_makes_what_an_uncut_one_makes(cut: Collection, project: Project) -> None:
    with project.instance() as opened:
        result = project.execute(opened, cut, "notes", **RANGE)
        run = opened.get_run_by_id(result.run_id)
    assert result.success
    assert ended(result) == [f"notes__segment.notes__{name}" for name in ("rest__1", "embeddings", "rest__2")]
    assert len(result.asset_materializations_for_node("notes__segment.notes__rest__1")) == 9
    assert run is not None
    assert run.tags[TOTAL_TAG].startswith("3 of 3 partitions done; 6 documents indexed; 0 quarantined; no calls; ")
    made = manifests(project, cut)
    other = project.elsewhere()
    other.refresh(declare(other, compute=None))
    assert made == manifests(other, cut)
    with project.stores() as stores:
        assert set(partition_states(cut, stores).values()) == {"awaiting sign-off"}


def test_the_next_run_finds_everything_unchanged(cut: Collection, project: Project) -> None:
    with project.instance() as opened:
        project.execute(opened, cut, "notes", **RANGE)
        before = manifests(project, cut)
        assert project.execute(opened, cut, "notes", **RANGE).success
    assert manifests(project, cut) == before


def test_a_partition_that_fails_in_the_first_step_is_left_alone_by_the_others_and_said_at_the_end(
    cut: Collection, project: Project
) -> None:
    project.refresh(cut, [DAYS[1]])
    before = manifests(project, cut)
    (project.stores().lake.folder("notes", "chunks", DAYS[1]) / "manifest.json").write_text("{")
    with project.instance() as opened:
        result = project.execute(opened, cut, "notes", **RANGE)
        run = opened.get_run_by_id(result.run_id)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_key == "notes__segment.notes__rest__2"
    data = failed.step_failure_data.user_failure_data
    assert data is not None
    assert (data.description or "").startswith("1 of 3 partitions of notes failed:")
    assert run is not None
    assert "1 partition failed" in run.tags[TOTAL_TAG]
    step = result.asset_materializations_for_node("notes__segment.notes__embeddings")
    assert sorted(event.partition or "" for event in step) == [DAYS[0], DAYS[2]]
    (project.stores().lake.folder("notes", "chunks", DAYS[1]) / "manifest.json").unlink()
    after = manifests(project, cut)
    assert after["embeddings", DAYS[1]] == before["embeddings", DAYS[1]]
    with project.stores() as stores:
        assert partition_states(cut, stores)[DAYS[1]] == "failed"


def steps(project: Project, collection: Collection, between: Callable[[], object] = lambda: None) -> None:
    """The steps of one run, each with a work of its own as in processes of their own."""
    for step in collection.steps:
        last = step == collection.steps[-1]
        part = RunPart(step=step.name, goes_on=not last, whole=True)
        with project.work(collection, "run-1") as work:
            list(refresh(work, DAYS, step.assets, part))
        if not last:
            between()


def test_what_changes_between_two_steps_makes_the_partition_due_again(cut: Collection, project: Project) -> None:
    steps(project, cut, lambda: project.document("2026-10-06/late.txt", "A note that came between two steps."))
    with project.stores() as stores, project.work(cut) as work:
        found = partition_states(cut, stores, work.listing)
    assert found[DAYS[0]] == "awaiting sign-off"
    assert found[DAYS[1]] == "stale"


def test_a_step_that_is_tried_again_forgets_what_its_first_try_left(cut: Collection, project: Project) -> None:
    manifest = project.stores().lake.folder("notes", "chunks", DAYS[1]) / "manifest.json"
    project.refresh(cut, [DAYS[1]])
    kept, first = manifest.read_text(), cut.steps[0]
    manifest.write_text("{")
    part = RunPart(step=first.name, goes_on=True, whole=True)
    with project.work(cut, "run-1") as work:
        list(refresh(work, DAYS, first.assets, part))
    with project.stores().state.read() as connection:
        assert list(handed_over(connection, "run-1").errors) == [DAYS[1]]
    manifest.write_text(kept)
    steps(project, cut)
    with project.stores() as stores:
        assert set(partition_states(cut, stores).values()) == {"awaiting sign-off"}


def test_a_single_asset_of_a_cut_collection_can_be_materialized(cut: Collection, project: Project) -> None:
    project.refresh(cut)
    with project.instance() as opened:
        job = collection_definitions(cut).resolve_job_def("notes")
        key = dg.AssetKey(["notes", "embeddings"])
        result = job.execute_in_process(instance=opened, tags=RANGE, asset_selection=[key], raise_on_error=False)
    assert result.success
    assert {event.asset_key for event in result.all_events if event.is_step_materialization} == {key}


def test_ops_have_no_tags_of_kubernetes_here(cut: Collection) -> None:
    job = collection_definitions(cut).resolve_job_def("notes")
    assert [dict(step.tags) for step in create_execution_plan(job).steps] == [{}, {}, {}]
