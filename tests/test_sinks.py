"""Claims about run sinks: one list hears of all that happens, and none of them can break a run."""

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DAYS, Project

from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.run.context import Outcome, Work
from ai_assets.run.events import (
    Advanced,
    CheckMade,
    DatasetMade,
    RunBegan,
    RunEnded,
    RunEvent,
    Said,
    StageBegan,
    StageEnded,
)
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sink, Sinks, hearing

DAY, OTHER = "2026-10-05", "2026-10-06"
TWO_DAYS = {**DAYS, "end": OTHER}


class Kept(Sink):
    """All that it hears."""

    def __init__(self, *hears: type[RunEvent]) -> None:
        self.hears = hears or (RunEvent,)  # type: ignore[misc]
        self.events: list[RunEvent] = []

    def hear(self, event: RunEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[RunEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Broken(Sink):
    def __init__(self) -> None:
        self.called = 0

    def hear(self, event: RunEvent) -> None:
        self.called += 1
        raise ConnectionError("nobody listens")


@pytest.fixture
def notes(project: Project) -> Collection:
    project.documents(per_day=2, days=2)
    return project.declare(partitions=TWO_DAYS)


def refreshed(project: Project, collection: Collection, *sinks: Sink) -> tuple[list[Any], list[str]]:
    """The events of a run of two days, as they are yielded, and what was reported of sinks."""
    reported: list[str] = []
    with Work(collection, project.stores(), "run", sinks=Sinks(sinks, reported.append)) as work:
        return list(refresh(work, [DAY, OTHER])), reported


def test_a_sink_hears_the_beginning_every_dataset_every_span_and_the_end(project: Project, notes: Collection) -> None:
    kept = Kept()
    yielded, reported = refreshed(project, notes, kept)
    assert not reported
    assert isinstance(kept.events[0], RunBegan)
    assert isinstance(kept.events[-1], RunEnded)
    assert (kept.events[0].partitions, kept.events[-1].error) == ((DAY, OTHER), None)
    assert [event.outcome for event in kept.of(DatasetMade)] == [each for each in yielded if isinstance(each, Outcome)]
    spans = {(event.asset, event.partition): event for event in kept.of(StageEnded)}
    assert set(spans) == {(asset, day) for asset in notes.asset_names for day in (DAY, OTHER)}
    assert Counter((event.asset, event.partition) for event in kept.of(StageBegan)) == Counter(list(spans))
    documents = spans["documents", DAY]
    assert (documents.documents, documents.documents_out, documents.calls, documents.error) == (2, 2, 0, None)
    assert documents.began_at <= documents.at
    assert {event.run_id for event in kept.events} == {"run"}
    assert kept.of(Said)
    assert {event.asset for event in kept.of(Advanced)} >= {"documents", "chunks"}


def test_an_unchanged_run_says_so_in_every_span(project: Project, notes: Collection) -> None:
    refreshed(project, notes)
    kept = Kept(StageEnded)
    refreshed(project, notes, kept)
    assert all(event.unchanged for event in kept.of(StageEnded))


def test_a_stage_that_fails_ends_its_span_with_the_reason(project: Project, notes: Collection) -> None:
    (project.home.lake / "notes").mkdir(parents=True)
    (project.home.lake / "notes" / "chunks").write_text("in the way")
    kept = Kept(StageEnded, RunEnded)
    with pytest.raises(Exception, match="chunks"):
        refreshed(project, notes, kept)
    failed = [event for event in kept.of(StageEnded) if event.error]
    assert {event.asset for event in failed} == {"chunks"}
    assert kept.of(RunEnded)[0].error


def test_a_check_is_heard_of(project: Project, notes: Collection) -> None:
    quality = {"documents": [{"expect": "expect_table_row_count_to_be_between", "min_value": 1}]}
    kept = Kept(CheckMade)
    refreshed(project, project.declare(partitions=TWO_DAYS, quality=quality), kept)
    assert [(event.check.name, event.check.passed) for event in kept.of(CheckMade)] == [("quality", True)] * 2


def test_a_sink_that_raises_is_reported_once_and_breaks_neither_the_run_nor_the_other_sinks(
    project: Project, notes: Collection
) -> None:
    plain, _ = refreshed(project.elsewhere(), notes)
    broken, kept = Broken(), Kept()
    yielded, reported = refreshed(project, notes, broken, kept)
    assert len(reported) == 1
    assert "test_sinks.Broken failed, and may miss events from here on: ConnectionError: nobody listens" in reported[0]
    assert broken.called == len(kept.events) > 10
    assert [versions(each) for each in yielded] == [versions(each) for each in plain]


def versions(event: Any) -> Any:
    return (event.manifest.asset, event.manifest.partition, event.manifest.version)


def test_what_no_sink_wants_is_not_even_made() -> None:
    sinks = Sinks([Kept(Said)])
    assert (sinks.wants(Said), sinks.wants(Advanced)) == (True, False)
    assert not Sinks().wants(RunEvent)


def test_an_interrupt_is_no_failure_of_a_sink() -> None:
    class Interrupted(Sink):
        def hear(self, event: RunEvent) -> None:
            raise KeyboardInterrupt

    sinks = Sinks([Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        sinks.tell(Said(collection="c", run_id="r", line="x"))


# In Dagster, and of one's own


def in_dagster(project: Project, collection: Collection) -> tuple[bool, list[str]]:
    """Whether the run succeeds, and its log."""
    with project.instance() as opened:
        done = project.execute(opened, collection, "notes", **{RANGE_START: DAY, RANGE_END: OTHER})
        entries = opened.all_logs(done.run_id)
    return done.success, [entry.user_message for entry in entries if entry.dagster_event is None]


def test_the_runs_log_has_the_span_of_each_stage_and_whoever_started_it_hears_too(
    project: Project, notes: Collection
) -> None:
    kept = Kept(StageEnded)
    with hearing(kept):
        success, log = in_dagster(project, notes)
    assert success
    pattern = rf"{DAY} documents: 2 documents in, 2 out, \d+\.\d\d s from 20\S+ \(UTC\)"
    assert any(re.fullmatch(pattern, line) for line in log), log
    assert len(kept.events) == 2 * len(notes.asset_names)
    in_dagster(project, notes)
    assert len(kept.events) == 2 * len(notes.asset_names)  # it listens within its block only


@pytest.fixture
def own(project: Project, tmp_path: Path) -> Path:
    """`operations.yaml` with the example's sink; the file that it writes."""
    file = tmp_path / "spans.jsonl"
    declared = [{"use": "examples.own_sink:Spans", "options": {"file": str(file)}}]
    (project.root / "operations.yaml").write_text(yaml.safe_dump({"sinks": declared}))
    return file


def test_the_example_writes_a_line_per_span(project: Project, notes: Collection, own: Path) -> None:
    assert in_dagster(project, notes)[0]
    lines = [json.loads(line) for line in own.read_text().splitlines()]
    assert Counter(line["event"] for line in lines) == {"StageEnded": 2 * len(notes.asset_names), "RunEnded": 1}
    assert {line["asset"] for line in lines if line["event"] == "StageEnded"} == set(notes.asset_names)


UNUSABLE = [
    ("sinks: [nowhere:Sink]", "A run sink is left out: the sink 'nowhere:Sink' cannot be used: importing"),
    ("sinks: [\"examples.own_metric:wilson\"]", "it is not a class that derives from Sink"),
    ("sinks: [\"examples.own_sink:Spans\"]", "making it with its options failed: TypeError"),
    ("sinks: 3", "The run sinks of operations.yaml are left out"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), UNUSABLE, ids=[says[:40] for _, says in UNUSABLE])
def test_a_sink_that_cannot_be_made_is_said_in_the_log_and_the_run_goes_on(
    project: Project, notes: Collection, text: str, says: str
) -> None:
    (project.root / "operations.yaml").write_text(text)
    success, log = in_dagster(project, notes)
    assert success
    assert any(says in line for line in log), log


def test_a_sink_is_named_in_the_environment_and_found_by_entry_point(
    project: Project, notes: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = tmp_path / "site" / "listeners-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: listeners\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[ai_assets.sinks]\nlistener = own_listener:Listener\n")
    (tmp_path / "site" / "own_listener.py").write_text(
        "from pathlib import Path\n\nfrom ai_assets.run import Sink\n\n\nclass Listener(Sink):\n"
        "    def hear(self, event):\n        Listener.heard = getattr(Listener, 'heard', 0) + 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("AI_ASSETS_SINKS", "listener")
    assert in_dagster(project, notes)[0]
    assert sys.modules.pop("own_listener").Listener.heard > 10


def test_the_sinks_of_a_run_are_closed_though_it_fails(project: Project, notes: Collection, own: Path) -> None:
    (project.home.lake / "notes").mkdir(parents=True)
    (project.home.lake / "notes" / "documents").write_text("in the way")
    success, _ = in_dagster(project, notes)
    assert not success
    last = json.loads(own.read_text().splitlines()[-1])
    assert last["event"] == "RunEnded"
    assert last["error"]
