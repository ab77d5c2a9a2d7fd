"""Claims about spans in the state store: what ended in a run is there, however the run was started or ended."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import DAYS, Project, eventually

from ai_assets.base.masking import masked
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.retention import rows
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.run import spans
from ai_assets.run.context import Work
from ai_assets.run.events import StageEnded
from ai_assets.run.operations import RetentionSettings
from ai_assets.run.refresh import refresh
from ai_assets.run.spans import StageSpan
from ai_assets.storage.state import StateStore

DAY, OTHER = "2026-10-05", "2026-10-06"
TWO_DAYS = {**DAYS, "end": OTHER}


@pytest.fixture
def notes(project: Project) -> Collection:
    project.documents(per_day=2, days=2)
    return project.declare(partitions=TWO_DAYS)


def kept(project: Project, run_id: str, most: int = 100) -> list[StageSpan]:
    with project.stores().state.read() as connection:
        return list(spans.longest(connection, "notes", run_id, most))


def refreshed(project: Project, collection: Collection, run_id: str) -> None:
    with Work(collection, project.stores(), run_id) as work:
        list(refresh(work, [DAY, OTHER]))


def ended(asset: str = "documents", partition: str = DAY, **other: Any) -> StageEnded:
    given = {
        "collection": "notes", "run_id": "run", "began_at": f"{DAY}T12:00:00.000+00:00",
        "at": f"{DAY}T12:00:01.000+00:00", "seconds": 1.0, "documents": 2, "documents_out": 2, "reused": 0,
        "quarantined": 0, "unchanged": False, "calls": 0, "cost_usd": 0.0, "error": None,
    }  # fmt: skip
    return StageEnded(**{**given, **other, "asset": asset, "partition": partition})


def written(state: StateStore, *found: StageEnded) -> None:
    with state.write() as connection:
        for span in found:
            spans.record_span(connection, span)


def test_a_run_keeps_the_span_of_every_asset_and_partition(project: Project, notes: Collection) -> None:
    refreshed(project, notes, "run-1")
    found = kept(project, "run-1")
    assert {(span.asset, span.partition) for span in found} == {(a, d) for a in notes.asset_names for d in (DAY, OTHER)}
    documents = next(span for span in found if (span.asset, span.partition) == ("documents", DAY))
    assert (documents.documents, documents.documents_out, documents.unchanged, documents.error) == (2, 2, False, None)
    assert all(span.began_at <= span.ended_at for span in found)
    refreshed(project, notes, "run-2")
    assert {span.unchanged for span in kept(project, "run-2")} == {True}
    assert len(kept(project, "run-1")) == len(found)


def test_a_run_of_dagster_keeps_them_under_its_own_id(project: Project, notes: Collection) -> None:
    with project.instance() as opened:
        done = project.execute(opened, notes, "notes", **{RANGE_START: DAY, RANGE_END: OTHER})
    assert done.success
    assert len(kept(project, done.run_id)) == 2 * len(notes.asset_names)


def test_a_stage_that_fails_keeps_its_reason_and_its_partition_has_what_ended_before(
    project: Project, notes: Collection
) -> None:
    (project.home.lake / "notes").mkdir(parents=True)
    (project.home.lake / "notes" / "chunks").write_text("in the way")
    with pytest.raises(Exception, match="chunks"):
        refreshed(project, notes, "run")
    found = kept(project, "run")
    assert {span.asset for span in found if span.error} == {"chunks"}
    assert {span.asset for span in found if not span.error} == {"documents"}


def test_a_check_that_stops_a_partition_is_the_error_of_the_asset_that_it_judged(
    project: Project, notes: Collection
) -> None:
    quality = {"documents": [{"expect": "expect_table_row_count_to_be_between", "min_value": 1000}]}
    with pytest.raises(Exception, match="quality"):
        refreshed(project, project.declare(partitions=TWO_DAYS, quality=quality), "run")
    failed = [span for span in kept(project, "run") if span.error]
    assert [(span.asset, span.documents_out) for span in failed] == [("documents", 2)] * 2
    assert "quality" in str(failed[0].error)


def test_an_error_is_kept_without_secrets_and_control_characters(state: StateStore, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-abcdefgh-1234")
    said = "HTTP 401 for sk-abcdefgh-1234 at https://user:hunter22@host/x\x1b[2J\0"
    written(state, ended(error=said))
    with state.read() as connection:
        (span,) = spans.longest(connection, "notes", "run", 1)
    assert span.error == "HTTP 401 for *** at https://user:***@host/x[2J"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("postgresql://me:pass@host/db refused", "postgresql://me:***@host/db refused"),
        ("https://host/path?x=1:2@3", "https://host/path?x=1:2@3"),
        ("nothing secret", "nothing secret"),
    ],
)
def test_a_password_in_a_url_is_masked_and_nothing_else(text: str, said: str) -> None:
    assert masked(text) == said


def test_an_asset_that_is_computed_again_in_a_run_is_a_second_span(state: StateStore) -> None:
    again = ended(began_at=f"{DAY}T13:00:00.000+00:00", at=f"{DAY}T13:00:02.000+00:00", seconds=2.0)
    written(state, ended(error="interrupted"), again, again)
    with state.read() as connection:
        sums = spans.of_run(connection, "notes", "run")
        (documents,) = spans.by_asset(connection, "notes", "run")
    assert sums is not None
    assert (sums.spans, sums.partitions, sums.failed, sums.documents) == (2, 1, 1, 4)
    assert (documents.partitions, documents.seconds, documents.failed) == (1, 3.0, 1)


def test_of_many_the_failed_and_the_longest_are_read_in_order_of_their_beginning(state: StateStore) -> None:
    many = [
        ended(partition=f"p{n}", began_at=f"{DAY}T12:00:{n:02}.000+00:00", seconds=float(n), unchanged=n == 9)
        for n in range(10)
    ]
    written(state, *many, ended(partition="bad", began_at=f"{DAY}T12:00:59.000+00:00", seconds=0.0, error="no"))
    with state.read() as connection:
        found = spans.longest(connection, "notes", "run", 3)
        assert spans.of_run(connection, "elsewhere", "run") is None
    assert [span.partition for span in found] == ["p7", "p8", "bad"]


def test_the_newest_runs_come_first(state: StateStore) -> None:
    written(state, ended(run_id="old", at="2026-01-01T00:00:00.000+00:00"), ended(run_id="new"))
    with state.read() as connection:
        assert [run.run_id for run in spans.newest_runs(connection, "notes", 5)] == ["new", "old"]


def test_the_newest_runs_are_found_behind_one_with_more_spans_than_are_read_at_once(state: StateStore) -> None:
    many = [ended(run_id="large", partition=f"{number:04d}") for number in range(3 * spans.SPANS_AT_ONCE)]
    old = {"began_at": "2026-10-01T12:00:00.000+00:00", "at": "2026-10-01T12:00:01.000+00:00"}
    written(state, *many, ended(run_id="old", **old), ended(run_id="elsewhere", collection="letters"))
    with state.read() as connection:
        found = spans.newest_runs(connection, "notes", 5)
        assert [(run.run_id, run.partitions) for run in found] == [("large", len(many)), ("old", 1)]
        assert [run.run_id for run in spans.newest_runs(connection, "notes", 1)] == ["large"]


def test_spans_are_removed_when_they_are_old(project: Project) -> None:
    stores = project.stores()
    fresh = "2999-01-01T00:00:00.000+00:00"
    written(stores.state, ended(run_id="old", at="2020-01-01T00:00:00.000+00:00"), ended(run_id="new", at=fresh))
    bench = RetentionContext(stores=stores, settings=RetentionSettings(), collections=[], instance=None)
    (leftover,) = [each for each in rows.find(bench) if "spans" in each.what]
    assert leftover.what == "1 spans of assets in old runs"
    leftover.remove()
    with stores.state.read() as connection:
        assert list(connection.execute(sa.text("SELECT run_id FROM run_spans")).scalars()) == ["new"]


KILLED = """
import sys, time
from pathlib import Path
from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.run.context import Work
from ai_assets.run.refresh import refresh
from ai_assets.storage.stores import Stores

home = Home.from_environment()
with Work(load_collection(home.project / "collections", "notes"), Stores.at(home), "killed") as work:
    for number, event in enumerate(refresh(work, ["2026-10-05", "2026-10-06"])):
        if number == 1:
            Path("two-assets").touch()
            time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_run_has_what_ended_before(project: Project, notes: Collection) -> None:
    run = subprocess.Popen([sys.executable, "-c", KILLED], cwd=project.root, env={**os.environ})
    try:
        eventually((project.root / "two-assets").exists, 120)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert [(span.asset, span.error) for span in kept(project, "killed")] == [("documents", None), ("chunks", None)]


@pytest.mark.slow
def test_the_command_line_keeps_the_spans_of_its_run(project: Project, notes: Collection) -> None:
    done = project.cli("run", "notes", "--json")
    assert done.returncode == 0, done.stderr
    with project.stores().state.read() as connection:
        (run,) = spans.newest_runs(connection, "notes", 5)
    assert run.run_id in done.stdout
    assert (run.first, run.last, run.partitions, run.failed) == (DAY, OTHER, 2, 0)
