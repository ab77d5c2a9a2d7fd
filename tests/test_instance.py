"""The dagster.yaml we write: accepted by this Dagster, safe, and never written over a person's own."""

import inspect
import os
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.events import EngineEventData
from dagster._core.instance.config import PoolGranularity
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon import controller
from dagster._daemon.backfill import execute_backfill_iteration_loop

from ai_assets.base.home import Home
from ai_assets.base.processes import identity
from ai_assets.ops.daemon import BACKFILL_INTERVAL_S
from ai_assets.orchestration.instance import InstanceUnusable, instance, usable_cores, use_home, write_instance_file
from ai_assets.orchestration.interrupted import MESSAGE, MESSAGE_OF_COMMAND, PID_TAG, report_interrupted_runs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("AI_ASSETS_HOME", "")
    return Home(root=tmp_path / "home", project=tmp_path).ensure()


def test_dagster_takes_every_setting_as_it_was_meant(home: Home) -> None:
    with instance(home) as opened:
        limits = opened.get_concurrency_config()
        assert limits.run_queue_config is not None
        assert limits.run_queue_config.max_concurrent_runs == usable_cores()
        assert limits.pool_config.pool_granularity == PoolGranularity.OP
        assert (opened.telemetry_enabled, opened.nux_enabled, opened.run_retries_enabled) == (False, False, False)
        assert not opened.run_retries_retry_on_asset_or_op_failure
        assert opened.run_monitoring_enabled
        assert opened.run_monitoring_settings["free_slots_after_run_end_seconds"] == 60
        assert opened.get_tick_retention_settings(InstigatorType.SENSOR)[TickStatus.SKIPPED] == 3
        assert isinstance(opened.run_launcher, DefaultRunLauncher)
        assert opened.root_directory == str(home.dagster)


def test_everything_dagster_writes_is_below_the_home(home: Home) -> None:
    with instance(home):
        pass
    assert {"schedules", "history"} <= {path.name for path in home.dagster.iterdir()}


def test_our_own_file_is_written_once_and_renewed_when_we_want_something_else(home: Home) -> None:
    assert write_instance_file(home, 2).written
    assert not write_instance_file(home, 2).written
    assert write_instance_file(home, 4).written


@pytest.mark.parametrize("edit", [lambda s: s.replace("nux", "#nux"), lambda s: s + "\n", lambda s: "nux: {}\n"])
def test_a_file_edited_by_hand_is_left_alone_with_a_note(home: Home, edit) -> None:  # type: ignore[no-untyped-def]
    path = write_instance_file(home, 2).path
    mine = edit(path.read_text())
    path.write_text(mine)
    outcome = write_instance_file(home, 4)
    assert (outcome.written, path.read_text()) == (False, mine)
    assert outcome.note is not None
    assert "edited by hand" in outcome.note


@pytest.mark.parametrize(
    ("content", "said"),
    [("telemetri: {enabled: false}\n", "telemetri"), ("nux: [\n", "not YAML"), ("nux: {enabled: maybe}\n", "maybe")],
    ids=["unknown key", "no yaml", "wrong value"],
)
def test_a_broken_file_is_named_with_its_mistake(home: Home, content: str, said: str) -> None:
    (home.dagster / "dagster.yaml").write_text(content)
    with pytest.raises(InstanceUnusable, match=said) as refused, instance(home):
        pass
    assert str(home.dagster / "dagster.yaml") in str(refused.value)


def test_use_home_makes_it_the_home_of_this_process(home: Home) -> None:
    use_home(home)
    with DagsterInstance.get() as opened:
        assert opened.root_directory == str(home.dagster)
    assert Home.from_environment().root == home.root


@pytest.mark.parametrize(
    ("status", "tags", "said"),
    [
        (DagsterRunStatus.STARTED, {}, MESSAGE),
        (DagsterRunStatus.STARTING, {}, MESSAGE),
        (DagsterRunStatus.CANCELING, {}, MESSAGE),
        (DagsterRunStatus.STARTED, {PID_TAG: "1:1.0"}, MESSAGE_OF_COMMAND),
        (DagsterRunStatus.STARTED, {PID_TAG: "nonsense"}, MESSAGE_OF_COMMAND),
        (DagsterRunStatus.STARTED, {PID_TAG: identity()}, None),
        (DagsterRunStatus.NOT_STARTED, {}, None),
        (DagsterRunStatus.SUCCESS, {}, None),
    ],
)
def test_only_a_run_whose_process_is_gone_is_reported_failed(
    home: Home, status: DagsterRunStatus, tags: dict[str, str], said: str | None
) -> None:
    with instance(home) as opened:
        run = create_run_for_test(opened, status=status, tags=tags)
        assert report_interrupted_runs(opened) == ([run.run_id] if said else [])
        now = opened.get_run_by_id(run.run_id)
        assert now is not None
        assert now.status == (DagsterRunStatus.FAILURE if said else status)
        assert [entry.message for entry in opened.all_logs(run.run_id)][:1] == ([said] if said else [])


def test_a_run_executed_by_a_living_process_without_our_tag_is_left_alone(home: Home) -> None:
    with instance(home) as opened:
        run = create_run_for_test(opened, status=DagsterRunStatus.STARTED)
        opened.report_engine_event("Started process for run", run, EngineEventData.in_process(os.getpid()))
        assert report_interrupted_runs(opened) == []


def test_dagster_still_reads_its_backfill_interval_where_our_daemon_sets_it() -> None:
    """Pins a private name of Dagster 1.13: without it `ai_assets/ops/daemon.py` has no effect."""
    source = inspect.getsource(execute_backfill_iteration_loop)
    assert "from dagster._daemon.controller import DEFAULT_DAEMON_INTERVAL_SECONDS" in source
    assert controller.DEFAULT_DAEMON_INTERVAL_SECONDS > BACKFILL_INTERVAL_S
