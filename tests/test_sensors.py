"""Claims about what watches: a tick asks for exactly the runs that something asks for, and otherwise for none."""

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import psutil
import pytest
from conftest import Project
from dagster._core.test_utils import create_run_for_test
from signing import decide

from ai_assets.base.processes import identity
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.orchestration.automation import nightly, publication, source_changes
from ai_assets.orchestration.interrupted import PID_TAG
from ai_assets.signoff.publication import publish

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]


@pytest.fixture
def notes(project: Project) -> Collection:
    project.documents(per_day=2)
    return project.declare(schedule={})


@pytest.fixture
def opened(project: Project) -> Iterator[dg.DagsterInstance]:
    with project.instance() as instance:
        yield instance


def tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | str:
    """What a tick asks for, or why it was skipped."""
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        found = sensor(context)
    if isinstance(found, dg.SkipReason):
        return found.skip_message or ""
    assert isinstance(found, dg.SensorResult)
    return found


def ranges(run_requests: object) -> list[tuple[str, str]]:
    assert isinstance(run_requests, list | tuple)
    return [(request.tags[RANGE_START], request.tags[RANGE_END]) for request in run_requests]


def asked(found: dg.SensorResult | str) -> dg.SensorResult:
    assert isinstance(found, dg.SensorResult), found
    return found


# The source


def test_a_new_source_asks_for_all_its_partitions_in_one_run(notes: Collection, opened: dg.DagsterInstance) -> None:
    found = asked(tick(source_changes(notes), opened))
    assert ranges(found.run_requests) == [(DAYS[0], DAYS[2])]
    assert [event.partition for event in found.asset_events or []] == DAYS


def test_an_unchanged_source_asks_for_nothing(project: Project, notes: Collection, opened: dg.DagsterInstance) -> None:
    project.refresh(notes)
    assert tick(source_changes(notes), opened) == "the source is unchanged"
    for file in project.root.rglob("*.txt"):
        os.utime(file)
    assert tick(source_changes(notes), opened) == "the source is unchanged"


def test_a_changed_file_asks_for_its_partition_alone(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    project.refresh(notes)
    project.document("2026-10-06/2.txt", "Edited: the pump in hall fourteen.")
    found = asked(tick(source_changes(notes), opened))
    assert ranges(found.run_requests) == [(DAYS[1], DAYS[1])]
    (event,) = found.asset_events or []
    assert (event.asset_key.path, event.partition) == (["notes", "source_files"], DAYS[1])


def test_a_deleted_file_and_an_edited_setting_ask_for_a_run(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    project.refresh(notes)
    (project.root / "collections/notes/documents/2026-10-07/4.txt").unlink()
    assert ranges(asked(tick(source_changes(notes), opened)).run_requests) == [(DAYS[2], DAYS[2])]
    edited = project.declare(schedule={}, chunking={"max_characters": 300})
    assert ranges(asked(tick(source_changes(edited), opened)).run_requests) == [(DAYS[0], DAYS[2])]


def test_partitions_that_are_no_neighbours_and_long_ranges_are_runs_of_their_own(
    project: Project, opened: dg.DagsterInstance
) -> None:
    partitions = {"by": "day", "start": "2026-10-05", "end": "2026-10-20", "per_run": 2}
    collection = project.declare(partitions=partitions)
    for day in (5, 6, 7, 12):
        project.document(f"2026-10-{day:02d}/a.txt", f"Day {day}.")
    assert ranges(asked(tick(source_changes(collection), opened)).run_requests) == [
        ("2026-10-05", "2026-10-06"), ("2026-10-07", "2026-10-07"), ("2026-10-12", "2026-10-12"),
    ]  # fmt: skip


def test_folders_that_came_out_of_order_are_asked_for_in_ranges_dagster_can_run(
    project: Project, opened: dg.DagsterInstance
) -> None:
    collection = project.declare(partitions={"by": "folder"})
    for folder in ("b", "a", "c"):
        project.document(f"{folder}/note.txt", f"A note in {folder}.")
        found = asked(tick(source_changes(collection), opened))
    assert opened.get_dynamic_partitions(collection.scheme.dynamic_name) == ["b", "a", "c"]
    for first, last in ranges(found.run_requests):
        assert project.execute(opened, collection, "notes", **{RANGE_START: first, RANGE_END: last}).success
    assert tick(source_changes(collection), opened) == "the source is unchanged"


def test_while_a_run_is_queued_or_alive_nothing_more_is_asked_for(
    notes: Collection, opened: dg.DagsterInstance
) -> None:
    for status, tags in ((dg.DagsterRunStatus.NOT_STARTED, {}), (dg.DagsterRunStatus.STARTED, {PID_TAG: identity()})):
        run = create_run_for_test(opened, job_name="notes", status=status, tags=tags)
        assert tick(source_changes(notes), opened) == "a run of this collection is queued or under way"
        opened.delete_run(run.run_id)


def test_a_run_whose_process_was_killed_is_not_waited_for(notes: Collection, opened: dg.DagsterInstance) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = identity(process.pid)
    process.kill()
    process.communicate()
    create_run_for_test(opened, job_name="notes", status=dg.DagsterRunStatus.STARTED, tags={PID_TAG: who})
    assert ranges(asked(tick(source_changes(notes), opened)).run_requests) == [(DAYS[0], DAYS[2])]


# The night


def nightly_tick(collection: Collection, instance: dg.DagsterInstance) -> list[tuple[str, str]] | str:
    (schedule,) = nightly(collection)
    with dg.build_schedule_context(instance=instance) as context:
        found = schedule(context)
    return (found.skip_message or "") if isinstance(found, dg.SkipReason) else ranges(found)


def test_the_night_brings_up_what_is_missing_changed_or_failed_and_skips_otherwise(
    project: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    assert nightly_tick(notes, opened) == [(DAYS[0], DAYS[2])]
    project.refresh(notes)
    assert nightly_tick(notes, opened) == "every partition is up to date"
    project.document("2026-10-05/0.txt", "Edited: the pump in hall fourteen.")
    assert nightly_tick(notes, opened) == [(DAYS[0], DAYS[0])]
    project.refresh(notes)
    manifest = project.stores().lake.folder("notes", "chunks", DAYS[2]) / "manifest.json"
    sound = manifest.read_text()
    manifest.write_text("{")
    assert not project.execute(opened, notes, "notes", **{RANGE_START: DAYS[2], RANGE_END: DAYS[2]}).success
    assert nightly_tick(notes, opened) == [(DAYS[2], DAYS[2])]
    manifest.write_text(sound)
    assert project.execute(opened, notes, "notes", **{RANGE_START: DAYS[2], RANGE_END: DAYS[2]}).success
    assert nightly_tick(notes, opened) == "every partition is up to date"


# Sign-off


@pytest.fixture
def waiting(project: Project, notes: Collection) -> Collection:
    project.refresh(notes)
    return notes


def approve(project: Project, collection: Collection, partitions: list[str] | None) -> None:
    decide(project.stores().state, collection, partitions)


def test_without_an_approval_nothing_is_published(waiting: Collection, opened: dg.DagsterInstance) -> None:
    assert tick(publication(waiting), opened) == "nothing approved; 3 waiting for sign-off"


def test_an_approval_asks_for_one_run_and_is_mirrored_once(
    project: Project, waiting: Collection, opened: dg.DagsterInstance
) -> None:
    approve(project, waiting, [DAYS[0]])
    found = asked(tick(publication(waiting), opened))
    (request,) = found.run_requests or []
    (event,) = found.asset_events or []
    assert (event.asset_key.path, event.partition) == (["notes", "sign_off"], DAYS[0])
    manifest = project.stores().lake.manifest("notes", "release_candidate", DAYS[0])
    assert manifest is not None
    assert (event.tags or {})["dagster/data_version"] == manifest.stats["digest"]
    run = create_run_for_test(
        opened, job_name="notes__publish", status=dg.DagsterRunStatus.NOT_STARTED, tags=dict(request.tags)
    )
    assert tick(publication(waiting), opened, found.cursor) == "the publication is under way"
    opened.delete_run(run.run_id)
    assert project.execute(opened, waiting, "notes__publish", **request.tags).success
    assert tick(publication(waiting), opened, found.cursor) == "nothing approved; 2 waiting for sign-off"


def test_a_further_approval_is_mirrored_alone_and_published(
    project: Project, waiting: Collection, opened: dg.DagsterInstance
) -> None:
    approve(project, waiting, [DAYS[0]])
    first = asked(tick(publication(waiting), opened))
    approve(project, waiting, [DAYS[1]])
    second = asked(tick(publication(waiting), opened, first.cursor))
    assert [event.partition for event in second.asset_events or []] == [DAYS[1]]
    assert (second.run_requests or [])[0].run_key != (first.run_requests or [])[0].run_key


def test_a_publication_that_fails_is_tried_three_times_and_then_left_to_people(
    project: Project, waiting: Collection, opened: dg.DagsterInstance
) -> None:
    approve(project, waiting, [DAYS[0]])
    snapshots = project.stores().lake.folder("notes", "release_snapshots", DAYS[0])
    hidden = snapshots.rename(snapshots.with_name("hidden"))
    cursor, keys, mirrored = None, [], []
    for _ in range(3):
        found = asked(tick(publication(waiting), opened, cursor))
        (request,) = found.run_requests or []
        keys.append(request.run_key)
        mirrored += found.asset_events or []
        assert not project.execute(opened, waiting, "notes__publish", **request.tags).success
        cursor = found.cursor
    assert (len(set(keys)), len(mirrored)) == (3, 1)
    assert tick(publication(waiting), opened, cursor) == (
        "publication failed 3 times; see its runs, then: ai-assets publish notes"
    )
    hidden.rename(snapshots)
    publish(waiting, project.stores(), by="ann")
    assert tick(publication(waiting), opened, cursor) == "nothing approved; 2 waiting for sign-off"


def test_with_everything_published_every_tick_skips(
    project: Project, waiting: Collection, opened: dg.DagsterInstance
) -> None:
    approve(project, waiting, None)
    publish(waiting, project.stores(), by="ann")
    assert tick(publication(waiting), opened) == "nothing approved; 0 waiting for sign-off"
    assert tick(source_changes(waiting), opened) == "the source is unchanged"
    assert nightly_tick(waiting, opened) == "every partition is up to date"


def test_a_day_of_ticks_leaves_no_file_open(waiting: Collection, opened: dg.DagsterInstance) -> None:
    sensor = publication(waiting)
    tick(sensor, opened)
    before = psutil.Process().num_fds()
    for _ in range(60):
        tick(sensor, opened)
    assert psutil.Process().num_fds() - before < 30
