"""Claims about what is removed in time, and what stays: whatever a reader, a rollback, a hold or Dagster needs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import dagster as dg
import pytest
import sqlalchemy as sa
from backups import command
from conftest import Project
from desks import desk_of
from signing import PASSWORD, decide, known
from test_sensors import tick

from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.errors import LeaseBusy
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.desk.release_query import release_rows
from ai_assets.embedding import Embedder
from ai_assets.orchestration.automation import retention
from ai_assets.retention import holds
from ai_assets.retention.errors import HoldRefused
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import SweepResult, find, sweep
from ai_assets.run.explain import search
from ai_assets.run.operations import RetentionSettings, load_operations
from ai_assets.signoff import audit, releases, served, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import DecisionRefused, ReleasePruned
from ai_assets.signoff.publication import publish
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.leases import hold

pytestmark = pytest.mark.slow

AT_ONCE = RetentionSettings(
    rollback_releases=2, candidate_days=0, runs_per_job=2, reader_minutes=0, notice_days=0
).model_copy(update={"litter_hours": 0})  # less than may be declared: no reader is so slow here
DAYS = ("2026-10-05", "2026-10-06", "2026-10-07")


def bench_of(project: Project, *collections: Collection, settings: RetentionSettings = AT_ONCE,
             instance: dg.DagsterInstance | None = None) -> RetentionContext:  # fmt: skip
    return RetentionContext(stores=project.stores(), settings=settings, collections=collections, instance=instance,
                            moment_s=time.time() + 1)  # fmt: skip


def swept(project: Project, *collections: Collection, settings: RetentionSettings = AT_ONCE,
          instance: dg.DagsterInstance | None = None) -> SweepResult:  # fmt: skip
    return sweep(bench_of(project, *collections, settings=settings, instance=instance))


def released(project: Project, number: int) -> Collection:
    """So many releases of one document."""
    project.documents(per_day=1, days=1)
    collection = project.declare()
    project.refresh(collection)
    for draft in range(number):
        project.edit(collection, "2026-10-05/0.txt", f"Draft {draft} on the pump in hall 7.")
        decide(project.stores().state, collection)
        publish(collection, project.stores(), by="test")
    return collection


def snapshots(project: Project) -> set[str]:
    """Of the day that has documents."""
    return {path.name for path in (project.home.lake / "notes/release_snapshots/2026-10-05").glob("*.parquet")}


def named(project: Project, *numbers: int) -> set[str]:
    with project.stores().state.read() as connection:
        found = [releases.get(connection, "notes", number) for number in numbers]
    return {name for release in found for part in release.parts.values()
            for name in (part.documents_file, part.chunks_file)}  # fmt: skip


# Releases


def live_index_of(project: Project) -> SearchIndex:
    stores = project.stores()
    with stores.state.read() as connection:
        return served.index_of(stores, releases.require_live(connection, "notes"))


def test_of_releases_the_live_one_and_the_newest_for_a_rollback_stay(project: Project) -> None:
    collection = released(project, 6)
    stores = project.stores()
    before = search(collection, stores, "pump", 5)[1]
    swept(project, collection)
    assert snapshots(project) == named(project, 4, 5, 6)
    index = live_index_of(project)
    with stores.state.read() as connection:
        kept = [releases.get(connection, "notes", number).index_version for number in (4, 5, 6)]
    assert index.versions() == kept
    assert search(collection, stores, "pump", 5)[1] == before
    verification.verify(stores.state)
    assert not swept(project, collection).number  # nothing is left to remove
    who = known(stores.state, "ann")
    assert releases.rollback(stores.state, "notes", 4, by=who, reason="a test").release.number == 4
    assert search(collection, stores, "pump", 5)[1][0].text.startswith("Draft 3")
    with pytest.raises(ReleasePruned, match="Release 2 of notes cannot be rolled back to"):
        releases.rollback(stores.state, "notes", 2, by=who, reason="a test")
    verification.verify(stores.state)


def test_the_list_of_releases_says_which_can_be_rolled_back_to(project: Project) -> None:
    swept(project, released(project, 4))
    said = command(project, "releases", "list", "notes")
    assert said.stdout.count("no: files removed") == 1
    plain = json.loads(command(project, "releases", "list", "notes", "--json").stdout)
    assert [bool(each["pruned_at"]) for each in plain] == [True, False, False, False]
    desk = desk_of(project)
    rows = release_rows(desk, known(desk.stores.state, "bob"), "notes")
    assert [bool(row.pruned_at) for row in rows] == [False, False, False, True]
    refused = command(project, "releases", "rollback", "notes", "--to", "1", AI_ASSETS_PASSWORD=PASSWORD)
    assert refused.returncode == 2


def test_after_a_rollback_the_release_that_is_live_stays_however_old_it_is(project: Project) -> None:
    collection = released(project, 5)
    stores = project.stores()
    releases.rollback(stores.state, "notes", 1, by=known(stores.state, "ann"), reason="a test")
    swept(project, collection)
    assert snapshots(project) == named(project, 1, 4, 5)
    assert search(collection, stores, "pump", 5)[1][0].text.startswith("Draft 0")


def test_what_was_live_a_moment_ago_stays_for_its_readers(project: Project) -> None:
    collection = released(project, 4)
    settings = AT_ONCE.model_copy(update={"rollback_releases": 1, "reader_minutes": 15})
    swept(project, collection, settings=settings)
    assert snapshots(project) == named(project, 1, 2, 3, 4)


class Meanwhile(Embedder):
    """While it embeds a question, something else happens."""

    name, dimensions, version = "meanwhile", 3, "1"
    happening: ClassVar[list[Callable[[], object]]] = []

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        while self.happening:
            self.happening.pop()()
        return [[1.0, 2.0, float(len(text))] for text in texts]


def test_a_search_whose_release_is_replaced_and_removed_meanwhile_answers_from_the_new_one(project: Project) -> None:
    project.documents(per_day=1, days=1)
    collection = project.declare(embedding={"use": f"{__name__}:Meanwhile"})
    project.refresh(collection)

    def publish_again(draft: int) -> None:
        project.edit(collection, "2026-10-05/0.txt", f"Draft {draft} on the pump in hall 7.")
        decide(project.stores().state, collection)
        publish(collection, project.stores(), by="test")

    def replace_and_remove() -> None:
        for draft in range(2, 5):
            publish_again(draft)
        swept(project, collection)

    publish_again(1)
    Meanwhile.happening.append(replace_and_remove)
    release, hits = search(collection, project.stores(), "pump", 5)
    assert (release.number, hits[0].text[:7]) == (4, "Draft 4")


def test_a_reader_with_a_version_open_reads_on_while_older_ones_are_removed(project: Project) -> None:
    collection = released(project, 4)
    index = live_index_of(project)
    with project.stores().state.read() as connection:
        version = releases.require_live(connection, "notes").index_version
    before = index.search(version, None, "pump", 5, "text")
    for draft in range(3):
        project.edit(collection, "2026-10-05/0.txt", f"Later {draft} on the pump.")
        decide(project.stores().state, collection)
        publish(collection, project.stores(), by="test")
    with project.stores().state.read() as connection:
        kept = {release.number for release in releases.find(connection, "notes")} - {1, 2, 3}
    swept(project, collection, settings=AT_ONCE.model_copy(update={"rollback_releases": 3}))
    assert index.search(version, None, "pump", 5, "text") == before
    assert snapshots(project) == named(project, *kept)


def test_a_publication_under_way_keeps_its_index_version(project: Project) -> None:
    """Between the new version and the moved pointer no release names it."""
    collection = released(project, 4)
    with hold(project.stores().state, "publish:notes"):
        found = swept(project, collection)
    assert found.in_use > 0
    assert len(live_index_of(project).versions()) == 4


# Legal holds


def test_a_hold_keeps_a_release_and_lifting_it_lets_it_go(project: Project) -> None:
    collection = released(project, 5)
    stores, ann = project.stores(), known(project.stores().state, "ann")
    holds.place(stores.state, "notes", 1, by=ann, reason="case 7")
    swept(project, collection)
    assert snapshots(project) == named(project, 1, 3, 4, 5)
    with pytest.raises(HoldRefused, match="there is a hold on it already"):
        holds.place(stores.state, "notes", 1, by=ann, reason="again")
    with pytest.raises(HoldRefused, match="removed already"):
        holds.place(stores.state, "notes", 2, by=ann, reason="too late")
    holds.lift(stores.state, "notes", 1, by=ann, reason="case closed")
    swept(project, collection)
    assert snapshots(project) == named(project, 3, 4, 5)
    verification.verify(stores.state)


def test_a_hold_on_a_collection_keeps_all_releases(project: Project) -> None:
    collection = released(project, 4)
    ann = known(project.stores().state, "ann")
    holds.place(project.stores().state, "notes", None, by=ann, reason="all of it")
    swept(project, collection)
    assert snapshots(project) == named(project, 1, 2, 3, 4)
    said = command(project, "retention", "holds", "--json")
    assert [(each["collection"], each["release"]) for each in json.loads(said.stdout)] == [("notes", None)]


@pytest.mark.parametrize("action", ["hold released", "release pruned"])
def test_only_an_approver_holds_and_a_forged_record_removes_nothing(project: Project, action: str) -> None:
    collection = released(project, 4)
    stores = project.stores()
    with pytest.raises(DecisionRefused):
        holds.place(stores.state, "notes", 1, by=known(stores.state, "eve", "viewer"), reason="mine")
    holds.place(stores.state, "notes", 1, by=known(stores.state, "ann"), reason="case 7")
    with stores.state.write() as connection:
        last = connection.execute(sa.text("SELECT * FROM audit ORDER BY seq DESC LIMIT 1")).mappings().one()
        record = audit.read(last)
        forged = replace(record, seq=record.seq + 1, action=action, previous_hash=record.hash)
        row = {**last, "seq": forged.seq, "action": forged.action, "previous_hash": forged.previous_hash}
        connection.execute(sa.insert(audit.TABLE).values({**row, "hash": forged.computed_hash()}))
    before = snapshots(project)
    with pytest.raises(AuditBroken):
        swept(project, collection)
    assert snapshots(project) == before


def test_holds_by_the_command_take_a_password_and_a_reason(project: Project) -> None:
    released(project, 1)
    known(project.stores().state, "ann")
    arguments = ("retention", "hold", "notes", "--release", "1", "--by", "ann")
    assert command(project, *arguments, AI_ASSETS_PASSWORD=PASSWORD).returncode == 2
    said = command(project, *arguments, "--reason", "case 7", AI_ASSETS_PASSWORD=PASSWORD)
    assert said.returncode == 0, said.stderr
    end = ("retention", "release-hold", "notes", "--release", "1", "--by", "ann", "--reason", "over")
    assert command(project, *end, AI_ASSETS_PASSWORD=PASSWORD).returncode == 0
    assert command(project, *end, AI_ASSETS_PASSWORD=PASSWORD).returncode == 2


# Candidates and litter


def test_files_of_candidates_that_were_replaced_unpublished_go_when_they_are_old(project: Project) -> None:
    project.documents(per_day=1)
    collection = project.declare()
    project.refresh(collection)
    for draft in range(3):
        project.edit(collection, "2026-10-05/0.txt", f"Draft {draft}.")
    assert len(snapshots(project)) == 2 + 6
    assert not swept(project, collection, settings=RetentionSettings()).number
    swept(project, collection)
    assert len(snapshots(project)) == 2
    assert {outcome.unchanged for outcome in project.refresh(collection)} == {True}


def test_what_killed_processes_left_goes_and_what_is_named_stays(project: Project) -> None:
    project.documents(per_day=1, days=1)
    collection = project.declare()
    project.refresh(collection)
    folder = next((project.home.lake / "notes/chunks").iterdir())
    left = [
        folder / ".0f.tmp",
        folder / f"{'0' * 64}.parquet",
        *(project.home.root / name for name in (".probe-1", "trial-0.json")),
    ]
    for path in left:
        path.write_bytes(b"left")
    half = project.home.warehouse.parent / ".building-1" / "costs.duckdb"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    found = {each.what for each in find(bench_of(project, collection, settings=RetentionSettings()))}
    assert {what for what in found if not what.startswith("ai-assets.")} == {"1 half-built warehouse"}
    swept(project, collection)
    assert not any(path.exists() for path in (*left, half.parent))
    assert {outcome.unchanged for outcome in project.refresh(collection)} == {True}


def test_copies_of_texts_that_a_killed_process_left_outside_of_the_home_go(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "ai-assets.state.1.01234567"
    left.mkdir()
    (left / "state.db").write_bytes(b"left")
    with TemporaryFolder("batch") as kept:  # removes what was left by itself
        left.mkdir()
        assert swept(project).number["litter"] >= 1
        assert not left.exists()
        assert kept.exists()


def test_a_warehouse_that_is_being_built_stays(project: Project) -> None:
    half = project.home.warehouse.parent / ".building-1"
    half.mkdir(parents=True)
    with hold(project.stores().state, "warehouse"):
        assert swept(project).in_use > 0
    assert half.exists()


def test_a_long_log_is_cut_while_its_process_goes_on_writing(project: Project) -> None:
    log = project.home.logs / "daemon.log"
    code = (
        "import sys\nfor n in range(60_000): print('line', n, flush=n % 100 == 0)\nprint('half', flush=True)\n"
        "sys.stdin.readline()\nprint('last line', flush=True)"
    )
    with log.open("ab") as out:
        writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=out)
    assert writer.stdin is not None
    while b"half" not in log.read_bytes()[-100:]:
        time.sleep(0.05)
    swept(project, settings=AT_ONCE.model_copy(update={"log_mb": 0.1}))
    assert log.stat().st_size == 0
    kept = log.with_name("daemon.log.1").read_text().splitlines()
    assert kept[-1] == "half"
    assert kept[0].startswith("line ")
    assert sum(len(line) + 1 for line in kept) <= 100_000
    writer.communicate(b"\n", timeout=300)
    assert log.read_text() == "last line\n"


def test_rows_that_tell_nobody_anything_go_and_the_rest_stays(project: Project) -> None:
    project.documents(per_day=1, days=1)
    collection = project.declare()
    project.refresh(collection)
    stores = project.stores()
    known(stores.state, "ann")
    with stores.state.write() as connection:
        for token, until in (("old", "2020-01-01"), ("new", "2999-01-01")):
            connection.execute(
                sa.text("INSERT INTO sessions VALUES (:t, 'ann', 'local', '[]', '2020', '2020', :u, '', '', '')"),
                {"t": token, "u": until},
            )
        for moment in (1.0, time.time()):
            connection.execute(sa.text("INSERT INTO sign_in_failures VALUES ('ann', :at)"), {"at": moment})
        for number, state in enumerate(("sent", "waiting", "lost")):
            connection.execute(
                sa.text("INSERT INTO notices VALUES (:id, 'notes', '', 'opened', 'mail', '', '', :state, 1, '2020', "
                        "NULL, '2020-01-01', NULL)"), {"id": str(number), "state": state},
            )  # fmt: skip
        for document in ("2026-10-05/0.txt", "2026-10-05/gone.txt"):
            connection.execute(
                sa.text("INSERT INTO document_retries VALUES ('notes', 'kind', '2026-10-05', :d, 'q', 1, 1, 'garbled', "
                        "'', '', '2020', '2020')"), {"d": document},
            )  # fmt: skip
        connection.execute(
            sa.text("INSERT INTO workers (host, process, boot, expires_at) VALUES ('h', '1:1:1:b', 'earlier', 0)")
        )
        connection.execute(sa.text("INSERT INTO leases SELECT 'process:x', worker_id, 'h' FROM workers"))
    before = _counts(project)
    swept(project, collection)
    after = _counts(project)
    assert {name: before[name] - after[name] for name in before if before[name] != after[name]} == {
        "sessions": 1, "sign_in_failures": 1, "notices": 2, "document_retries": 1, "workers": 1, "leases": 1,
    }  # fmt: skip
    verification.verify(stores.state)


def _counts(project: Project) -> dict[str, int]:
    with project.stores().state.read() as connection:
        names = sa.inspect(connection).get_table_names()
        return {
            name: connection.execute(sa.select(sa.func.count()).select_from(sa.table(name))).scalar_one()
            for name in names
        }


# Dagster


def latest(instance: dg.DagsterInstance, collection: Collection) -> dict[tuple[str, str], tuple[str, str]]:
    """What Dagster knows of each partition of each asset: its newest run and data version."""
    found = {}
    for name in collection.asset_names:
        key = dg.AssetKey([collection.name, name])
        for partition, storage_id in instance.event_log_storage.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        ).items():
            chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=[storage_id])
            (record,) = instance.fetch_materializations(chosen, limit=1).records
            assert record.asset_materialization is not None
            found[name, partition] = (record.run_id, str(record.asset_materialization.tags))
    return found


def test_old_runs_go_with_their_files_and_what_dagster_knows_of_partitions_stays(project: Project) -> None:
    project.documents(per_day=1)
    collection = project.declare()
    with project.instance() as instance:
        first = project.execute(instance, collection, "notes", **{RANGE_START: DAYS[0], RANGE_END: DAYS[2]})
        for _ in range(5):
            project.execute(instance, collection, "notes", **{RANGE_START: DAYS[0], RANGE_END: DAYS[0]})
        runs = [run.run_id for run in instance.get_runs()]
        assert len(runs) == 6
        printed = project.home.dagster / "storage" / runs[3] / "compute_logs"
        printed.mkdir(parents=True)
        (printed / "step.out").write_text("said")
        before = latest(instance, collection)
        assert len(before) == 3 * len(collection.asset_names)
        swept(project, collection, instance=instance)
        assert [run.run_id for run in instance.get_runs()] == [runs[0], runs[1], first.run_id]
        assert latest(instance, collection) == before
        history = project.home.dagster / "history" / "runs"
        assert {path.stem for path in history.glob("*.db")} == {"index", runs[0], runs[1], first.run_id}
        assert not printed.parent.exists()
        with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            for table in ("event_logs", "asset_check_executions"):
                query = sa.select(sa.column("run_id")).select_from(sa.table(table)).distinct()
                assert set(connection.execute(query).scalars()) <= {runs[0], runs[1], first.run_id}
    verification.verify(project.stores().state)


def test_the_newest_check_of_each_partition_is_known_after_other_runs_went(project: Project) -> None:
    project.documents(per_day=1)
    collection = project.declare(
        quality={"documents": [{"expect": "expect_table_row_count_to_be_between", "min_value": 1}]}
    )
    with project.instance() as instance:
        for start in (0, 0, 0, 1, 2):
            project.execute(instance, collection, "notes", **{RANGE_START: DAYS[start], RANGE_END: DAYS[start]})
        checks = _checks(instance)
        assert checks
        swept(project, collection, instance=instance)
        assert _checks(instance) == checks
        # The first one too: what is unchanged is not checked again, so it holds the newest checks of its day.
        assert len(instance.get_runs()) == 4


def _checks(instance: dg.DagsterInstance) -> dict[tuple[str, str, str], str]:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        rows = connection.execute(
            sa.text("SELECT asset_key, check_name, partition, execution_status FROM asset_check_executions ORDER BY id")
        ).all()
    return {(row.asset_key, row.check_name, row.partition): row.execution_status for row in rows}


def test_a_run_in_progress_and_one_of_a_backfill_under_way_stay(project: Project) -> None:
    from ai_assets.orchestration.component import collection_definitions

    project.documents(per_day=1, days=1)
    collection = project.declare()
    with project.instance() as instance:
        job = collection_definitions(collection).resolve_job_def("notes")
        started = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        _backfill(instance, "under-way")
        of_backfill = instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.SUCCESS, tags={"dagster/backfill": "under-way"}
        )
        old = instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
        for _ in range(2):
            instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
        swept(project, collection, instance=instance)
        left = {run.run_id for run in instance.get_runs()}
    assert {started.run_id, of_backfill.run_id} <= left
    assert old.run_id not in left
    assert len(left) == 4


def _backfill(instance: dg.DagsterInstance, name: str) -> None:
    from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

    instance.add_backfill(
        PartitionBackfill(
            backfill_id=name,
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags={},
            backfill_timestamp=time.time(),
            asset_selection=[dg.AssetKey(["notes", "documents"])],
            serialized_asset_backfill_data="{}",
        )
    )


def test_observations_that_sensors_made_are_kept_to_the_newest_ten(project: Project) -> None:
    with project.instance() as instance:
        for number in range(14):
            for partition in ("a", "b"):
                instance.report_runless_asset_event(
                    dg.AssetObservation("files", partition=partition, tags={"number": str(number)})
                )
        swept(project, instance=instance)
        found = instance.fetch_observations(dg.AssetKey("files"), limit=100).records
    assert [sum(record.partition_key == partition for record in found) for partition in ("a", "b")] == [10, 10]
    assert all(int(record.event_log_entry.asset_observation.tags["number"]) >= 4 for record in found)  # type: ignore[union-attr]


def test_a_removal_killed_between_events_and_run_is_finished_the_next_time(project: Project) -> None:
    project.documents(per_day=1, days=1)
    collection = project.declare()
    with project.instance() as instance:
        for _ in range(4):
            project.execute(instance, collection, "notes", **{RANGE_START: DAYS[0], RANGE_END: DAYS[0]})
        runs = [run.run_id for run in instance.get_runs()]
        instance.event_log_storage.delete_events(runs[3])
        instance.run_storage.delete_run(runs[2])  # and the other way round, as Dagster itself does it
        swept(project, collection, instance=instance)
        assert [run.run_id for run in instance.get_runs()] == runs[:2]
        history = project.home.dagster / "history" / "runs"
        assert {path.stem for path in history.glob("*.db")} == {"index", *runs[:2]}


def test_dagster_stores_events_as_retention_expects(project: Project) -> None:
    """A characterisation: tables and columns that are named in SQL of ours."""
    with project.instance() as instance, instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        inspected = sa.inspect(connection)
        columns = {t: {c["name"] for c in inspected.get_columns(t)} for t in inspected.get_table_names()}
    assert {"id", "run_id", "asset_key", "dagster_event_type", "partition"} <= columns["event_logs"]
    assert {"id", "run_id", "asset_key", "check_name", "partition"} <= columns["asset_check_executions"]
    assert "event_id" in columns["asset_event_tags"]


# The sensor and the commands


def test_the_sensor_removes_and_then_waits_and_a_switch_stops_it(project: Project) -> None:
    collection = released(project, 4)
    operations = project.root / "operations.yaml"
    operations.write_text("retention: {rollback_releases: 1, reader_minutes: 0, candidate_days: 0, enabled: false}\n")
    with project.instance() as instance:
        assert "retention.enabled is false" in str(tick(retention([collection]), instance))
        assert snapshots(project) >= named(project, 1)
        operations.write_text(operations.read_text().replace("false", "true"))
        context = dg.build_sensor_context(instance=instance)
        sensor = retention([collection])
        first = sensor.evaluate_tick(context)
        assert first.skip_message is not None
        assert "removed 2 releases" in first.skip_message
        assert snapshots(project) == named(project, 3, 4)
        later = dg.build_sensor_context(instance=instance, cursor=first.cursor)
        assert "nothing to remove until 6 hours" in str(sensor.evaluate_tick(later).skip_message)
        operations.write_text("retention: {rollback: 1}\n")
        assert "unknown key 'rollback'" in str(tick(retention([collection]), instance))


def test_two_do_not_remove_at_once_and_a_backup_is_not_disturbed(project: Project) -> None:
    collection = released(project, 1)
    with hold(project.stores().state, "retention"), pytest.raises(LeaseBusy):
        swept(project, collection)


def test_a_dry_run_shows_and_removes_nothing_and_status_says_where_the_disk_goes(project: Project) -> None:
    released(project, 4)
    (project.root / "operations.yaml").write_text("retention: {rollback_releases: 1, reader_minutes: 0}\n")
    before = snapshots(project)
    dry = json.loads(command(project, "retention", "run", "--dry-run", "--json").stdout)
    assert [each["kind"] for each in dry] == ["releases", "releases"]
    assert snapshots(project) == before
    disk = json.loads(command(project, "status", "--disk", "--json").stdout)
    assert {place["name"] for place in disk["places"]} >= {"lake", "search indexes", "state store", "logs"}
    assert all(place["size"] >= 0 for place in disk["places"])
    assert [(each["kind"], each["number"]) for each in disk["may_go"]] == [("releases", 2)]
    said = command(project, "retention", "run")
    assert said.returncode == 0, said.stderr
    assert "2 x releases that can no longer be rolled back to" in said.stdout
    shown = command(project, "status", "--disk")
    assert "every 6 hours" in shown.stdout


def test_a_wrong_operations_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "operations.yaml"
    assert load_operations(path).retention == RetentionSettings()
    path.write_text("retention:\n  runs_per_job: 0\n")
    with pytest.raises(OperationsInvalid, match=r"operations\.yaml:2: retention\.runs_per_job"):
        load_operations(path)
