"""Claims about what Dagster is told: the graph, held against literals, and the Dagster behaviour it leans on."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest
from conftest import LABELS, REPOSITORY, STAGE, Project
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.observe import observe
from dagster._core.loader import LoadingContextForTest

from ai_assets.collection.loading import Collection
from ai_assets.orchestration.automation import nightly, publication, source_changes
from ai_assets.orchestration.component import DocumentCollection, collection_definitions

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
SEGMENT = ("documents", "chunks", "embeddings", "kind", "evaluation_scores", "release_candidate")
RANGE = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}


@pytest.fixture
def notes(project: Project) -> Collection:
    project.documents(per_day=2)
    queries = project.root / "collections/notes/q.jsonl"
    queries.write_text('{"query": "pump in hall 0", "documents": ["2026-10-05/0.txt"]}\n')
    return declare(project)


def declare(project: Project, **changes: Any) -> Collection:
    return project.declare(
        **{
            "owners": ["team:records", "ann@example.com"],
            "tenant": "records",
            "stages": [dict(STAGE)],
            "golden": {"queries": "q.jsonl"},
            "gates": [{"metric": "recall@5", "min": 0.0}],
            "schedule": {"cron": "30 1 * * *", "timezone": "Europe/Berlin"},
            "freshness": {"warn_after_hours": 12, "fail_after_hours": 36},
            **changes,
        }
    )


def specs_of(collection: Collection) -> Mapping[str, dg.AssetSpec]:
    found = collection_definitions(collection).resolve_all_asset_specs()
    return {spec.key.to_user_string(): spec for spec in found}


def test_the_graph_of_a_collection(notes: Collection) -> None:
    deps = {
        name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs_of(notes).items()
    }  # fmt: skip
    assert deps == {
        "notes/source_files": set(),
        "notes/documents": {"notes/source_files"},
        "notes/chunks": {"notes/documents"},
        "notes/embeddings": {"notes/chunks"},
        "notes/kind": {"notes/documents", "notes/corrections"},
        "notes/evaluation_scores": {"notes/embeddings", "notes/kind"},
        "notes/release_candidate": {
            "notes/documents", "notes/chunks", "notes/embeddings", "notes/kind", "notes/evaluation_scores",
        },
        "notes/corrections": set(),
        "notes/sign_off": set(),
        "notes/published": {"notes/release_candidate", "notes/sign_off"},
    }  # fmt: skip


def test_kinds_groups_and_tags(notes: Collection) -> None:
    found = {
        name.removeprefix("notes/"): (spec.kinds, spec.group_name, spec.tags["tenant"])
        for name, spec in specs_of(notes).items()
    }
    assert found == {
        "source_files": ({"file"}, "notes", "records"),
        "documents": ({"parquet"}, "notes", "records"),
        "chunks": ({"parquet"}, "notes", "records"),
        "embeddings": ({"parquet", "wordllama"}, "notes", "records"),
        "kind": ({"parquet"}, "notes", "records"),
        "evaluation_scores": ({"parquet"}, "notes", "records"),
        "release_candidate": ({"parquet"}, "notes", "records"),
        "corrections": ({"person"}, "notes", "records"),
        "sign_off": ({"person"}, "notes", "records"),
        "published": ({"lancedb", "parquet"}, "notes__published", "records"),
    }


def test_every_asset_has_an_owner_a_description_and_no_automation_of_its_own(notes: Collection) -> None:
    for name, spec in specs_of(notes).items():
        assert spec.description is not None, name
        assert spec.description.startswith(("A row is ", "A mirror of ")), name
        assert spec.automation_condition is None, name
        if name not in ("notes/source_files", "notes/corrections"):  # an observable source takes none in this Dagster
            assert list(spec.owners) == ["team:records", "ann@example.com"], name
    assert [name for name, spec in specs_of(notes).items() if spec.freshness_policy] == ["notes/documents"]


def test_partitions_are_the_collection_s_except_of_the_one_live_release(notes: Collection) -> None:
    found = {name: spec.partitions_def for name, spec in specs_of(notes).items()}
    assert {name for name, partitions in found.items() if partitions is None} == {"notes/published"}
    assert {tuple(p.get_partition_keys()) for p in found.values() if p is not None} == {tuple(DAYS)}


def test_code_versions_are_those_of_the_collection(notes: Collection) -> None:
    found = {name: spec.code_version for name, spec in specs_of(notes).items() if spec.code_version}
    assert found == {f"notes/{asset}": version for asset, version in notes.code_versions.items()}
    assert set(notes.code_versions) == set(SEGMENT)


def test_an_edited_label_description_changes_the_code_version_of_its_stage_alone(
    project: Project, notes: Collection
) -> None:
    before = specs_of(notes)
    labels = [{**label, "description": label["description"] + " Nothing else."} for label in LABELS]
    after = specs_of(declare(project, stages=[{**STAGE, "labels": labels}]))
    assert [name for name, spec in after.items() if spec.code_version != before[name].code_version] == ["notes/kind"]


def test_checks_are_per_partition_and_gates_block(project: Project, notes: Collection) -> None:
    quality = {"documents": [{"expect": "expect_column_to_exist", "column": "text", "blocking": False}]}
    graph = collection_definitions(declare(project, quality=quality)).resolve_asset_graph()
    found = {}
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.partitions_def is not None
        found[f"{key.asset_key.to_user_string()}:{key.name}"] = spec.blocking
    assert found == {"notes/documents:quality": False, "notes/evaluation_scores:gates": True}


def test_jobs_schedules_and_sensors(notes: Collection) -> None:
    defs = dg.Definitions.merge(
        collection_definitions(notes),
        dg.Definitions(schedules=list(nightly(notes)), sensors=[source_changes(notes), publication(notes)]),
    )
    repository = defs.get_repository_def()
    jobs = {
        job.name: {key.path[-1] for key in job.asset_layer.selected_asset_keys} for job in repository.get_all_jobs()
    }
    assert {name: assets for name, assets in jobs.items() if not name.startswith("__")} == {
        "notes": set(SEGMENT), "notes__publish": {"published"},
    }  # fmt: skip
    schedule = repository.get_schedule_def("notes__nightly")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 1 * * *", "Europe/Berlin")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    sensors = {sensor.name: sensor.default_status for sensor in repository.sensor_defs}
    assert sensors == {
        "notes__source_changes": dg.DefaultSensorStatus.STOPPED, "notes__publication": dg.DefaultSensorStatus.RUNNING,
    }  # fmt: skip
    publishing = repository.get_sensor_def("notes__publication").minimum_interval_seconds
    assert publishing is not None
    assert publishing <= 20  # published within one minute, a run included


def test_what_watches_follows_the_declaration(project: Project) -> None:
    assert list(nightly(project.declare())) == []
    (paused,) = nightly(project.declare(schedule={"enabled": False}))
    assert paused.default_status == dg.DefaultScheduleStatus.STOPPED
    assert paused.cron_schedule == "0 2 * * *"
    assert source_changes(project.declare(watch=True)).default_status == dg.DefaultSensorStatus.RUNNING


def test_a_backfill_takes_many_partitions_per_run(project: Project) -> None:
    partitions = {"by": "day", "start": "2026-10-05", "end": "2026-11-05", "per_run": 15}
    graph = collection_definitions(project.declare(partitions=partitions)).resolve_asset_graph()
    policies = {
        graph.get(dg.AssetKey(["notes", asset])).backfill_policy for asset in ("documents", "release_candidate")
    }
    assert policies == {dg.BackfillPolicy.multi_run(15)}


def test_collections_do_not_meet_in_one_code_location(project: Project) -> None:
    both = [project.declare(name) for name in ("one", "two")]
    defs = dg.Definitions.merge(*(collection_definitions(collection) for collection in both))
    keys = {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}
    assert len(keys) == 14
    defs.get_repository_def()


def test_the_component_is_the_settings_it_was_declared_with(notes: Collection) -> None:
    shown = DocumentCollection.get_model_cls().model_json_schema()["properties"]
    assert set(shown) == set(type(notes.settings).model_fields)


HEAVY = (
    "great_expectations", "lancedb", "markitdown", "numpy", "pandas", "pyarrow", "sqlalchemy", "wordllama", "duckdb",
    "openai", "requests", "semantic_text_splitter", "py3langid", "pdfminer", "safetensors", "tokenizers",
    "opentelemetry", "openlineage",
)  # fmt: skip


def test_loading_the_code_location_imports_nothing_heavy_beyond_dagster() -> None:
    code = (
        "import sys, dagster; before = set(sys.modules); import definitions; "
        f"print(*sorted({{m.partition('.')[0] for m in set(sys.modules) - before}} & set({HEAVY!r})))"
    )
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


# Dagster behaviour that we lean on: when one of these fails after an upgrade, read what it says before mending it


@pytest.fixture
def opened(project: Project) -> Iterator[dg.DagsterInstance]:
    with project.instance() as instance:
        yield instance


def materializations(instance: dg.DagsterInstance, asset: str) -> dict[str | None, dg.AssetMaterialization]:
    records = instance.fetch_materializations(dg.AssetKey(["notes", asset]), limit=100).records
    return {
        record.partition_key: record.asset_materialization
        for record in reversed(records)
        if record.asset_materialization
    }


def test_one_run_over_a_range_gives_each_partition_its_own_events(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    project.document(f"{DAYS[1]}/extra.txt", "One more note on the pump.")
    result = project.execute(opened, notes, "notes", **RANGE)
    assert result.success
    for asset in SEGMENT:
        assert list(materializations(opened, asset)) == DAYS, asset
    counts = {day: event.metadata["documents"].value for day, event in materializations(opened, "documents").items()}
    assert counts == {DAYS[0]: 2, DAYS[1]: 3, DAYS[2]: 2}
    checks = [
        event.asset_check_evaluation_data
        for event in result.all_events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    assert [(check.check_name, check.partition, check.passed) for check in checks] == [
        ("gates", day, True) for day in DAYS
    ]


def test_a_failed_partition_is_missing_alone_and_the_run_says_so_once(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    project.refresh(notes, [DAYS[1]])
    (project.stores().lake.folder("notes", "chunks", DAYS[1]) / "manifest.json").write_text("{")
    result = project.execute(opened, notes, "notes", **RANGE)
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert len(failures) == 1
    assert failures[0].user_failure_data is not None
    assert (failures[0].user_failure_data.description or "").startswith("1 of 3 partitions of notes failed:")
    assert list(materializations(opened, "release_candidate")) == [DAYS[0], DAYS[2]]
    assert list(materializations(opened, "documents")) == DAYS


def test_a_part_of_the_segment_can_be_materialized(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    job = collection_definitions(notes).resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey(["notes", asset]) for asset in ("documents", "chunks")]
    assert job.execute_in_process(instance=opened, tags=RANGE, asset_selection=selection).success
    assert [asset for asset in SEGMENT if materializations(opened, asset)] == ["documents", "chunks"]


def stale(instance: dg.DagsterInstance, collection: Collection) -> set[tuple[str, str]]:
    """Assets and partitions that the UI would not show as fresh."""
    graph = collection_definitions(collection).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {
        (asset, day)
        for asset in SEGMENT
        for day in DAYS
        if resolver.get_status(dg.AssetKey(["notes", asset]), day) != StaleStatus.FRESH
    }


@pytest.mark.slow
def test_our_versions_decide_what_dagster_shows_as_stale(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    assert stale(opened, notes) == {(asset, day) for asset in SEGMENT for day in DAYS}
    project.execute(opened, notes, "notes", **RANGE)
    assert stale(opened, notes) == set()
    project.execute(opened, notes, "notes", **RANGE)
    assert stale(opened, notes) == set()
    labels = [{**label, "description": label["description"] + " Nothing else."} for label in LABELS]
    edited = declare(project, stages=[{**STAGE, "labels": labels}])
    assert stale(opened, edited) == {("kind", day) for day in DAYS}
    project.execute(opened, edited, "notes", **RANGE)
    assert stale(opened, edited) == set()


@pytest.mark.slow
def test_a_changed_source_shows_its_partition_as_stale_after_an_observation(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    project.execute(opened, notes, "notes", **RANGE)
    project.document(f"{DAYS[1]}/2.txt", "Edited: the pump in hall fourteen.")
    defs = collection_definitions(notes)
    observe([asset for asset in defs.assets or [] if isinstance(asset, dg.SourceAsset)], instance=opened)
    assert {day for _, day in stale(opened, notes)} == {DAYS[1]}
    project.execute(opened, notes, "notes", **RANGE)
    assert stale(opened, notes) == set()


def test_a_candidate_s_data_version_is_the_digest_that_people_sign(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    project.execute(opened, notes, "notes", **RANGE)
    for day, event in materializations(opened, "release_candidate").items():
        manifest = project.stores().lake.manifest("notes", "release_candidate", str(day))
        assert manifest is not None
        assert (event.tags or {})["dagster/data_version"] == manifest.stats["digest"]
