"""Claims about how far a run says it is: bars on a terminal, lines elsewhere, and what a resume took over."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import STAGE, Project, eventually
from engines import CALLER, endpoint, questions, settings
from provider import Provider
from rich.console import Console
from test_llm_stages import PRICED
from test_paid_embeddings import PRICED as VECTORS
from test_stage_settings import KIND

from ai_assets.cli.run import ReportRow, fitting_columns
from ai_assets.cli.run_progress import Bars, drawn
from ai_assets.collection.loading import Collection
from ai_assets.inference.engine import Engine
from ai_assets.inference.live_spend import LiveSpend
from ai_assets.inference.run_spend import RunSpend, spend_by_asset, total_of
from ai_assets.run.context import Outcome, Work
from ai_assets.run.events import Advanced, CallsMade, RunBegan, RunEvent, StageBegan, StageEnded
from ai_assets.run.progress import FIRST_S, MOST_S, ProgressLines, RunProgress, StageProgress
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sink, Sinks
from ai_assets.storage.state import StateStore

OF = {"collection": "notes", "run_id": "run"}
BUSY = RunSpend(calls=1_234, attempts=1_246, reused=20, cost_nusd=12_340_000, errors={("rate_limited", "mini"): 12})


def began(asset: str, partition: str) -> StageBegan:
    return StageBegan(**OF, asset=asset, partition=partition, at="")


def ended(asset: str, partition: str, documents: int, *, reused: int = 0, error: str | None = None) -> StageEnded:
    return StageEnded(
        **OF, asset=asset, partition=partition, began_at="", at="", seconds=1.0, documents=documents,
        documents_out=documents, reused=reused, quarantined=0, unchanged=False, calls=0, cost_usd=0.0, error=error,
    )  # fmt: skip


def advanced(asset: str, partition: str, done: int, total: int, reused: int = 0) -> Advanced:
    return Advanced(**OF, asset=asset, partition=partition, done=done, total=total, reused=reused)


def run_of(*events: RunEvent) -> RunProgress:
    """Of four partitions."""
    progress = RunProgress()
    for event in (RunBegan(**OF, partitions=["a", "b", "c", "d"], assets=["documents", "kind"], at=""), *events):
        progress.hear(event)
    return progress


# What is added up


def test_a_stage_tells_what_is_done_of_an_estimate_and_what_its_calls_came_to() -> None:
    kind = run_of(
        began("kind", "a"), began("kind", "b"), advanced("kind", "a", 90, 100, 30), advanced("kind", "b", 5, 20),
        CallsMade(**OF, asset="kind", partition="a", spend=RunSpend(calls=2, attempts=2, cost_nusd=1_000_000)),
        CallsMade(**OF, asset="kind", partition="b", spend=BUSY), ended("kind", "a", 110, reused=40),
    ).stage("kind")  # fmt: skip
    # Two of four partitions are known, of 130 documents: 65 is the mean of the other two.
    assert (kind.done, kind.total, kind.estimated, kind.reused) == (115, 260, True, 40)
    assert (kind.partitions, kind.ended, kind.running, kind.failed) == (4, 1, 1, 0)
    assert kind.in_words == (
        "kind: 115 of about 260 documents, 40 reused, 1,236 calls, $0.0133, 12 retried: 429 from endpoint mini"
    )


def test_a_stage_whose_partitions_all_began_tells_no_estimate_and_a_failed_one_keeps_what_it_did() -> None:
    events = [began("kind", key) for key in "abcd"] + [advanced("kind", key, 3, 10) for key in "abcd"]
    kind = run_of(*events, ended("kind", "b", 0, error="no budget")).stage("kind")
    assert (kind.done, kind.total, kind.estimated, kind.failed) == (12, 40, False, 1)
    assert kind.in_words == "kind: 12 of 40 documents, 1 partition failed"


def test_before_anything_is_known_no_total_is_made_up() -> None:
    stage = run_of(began("kind", "a")).stage("kind")
    assert (stage.total, stage.in_words) == (None, "kind: 0 documents")


def test_an_attempt_that_failed_is_told_before_it_is_tried_again() -> None:
    spend = RunSpend(calls=3, attempts=3, errors={("timeout", "mini"): 2})
    stage = run_of(CallsMade(**OF, asset="kind", partition="a", spend=spend)).stage("kind")
    assert stage.trouble_in_words == "2 attempts failed: timeout from endpoint mini"


# Bars


WIDTHS = [80, 120]


def shown(renderable: Any, width: int) -> list[str]:
    """As a terminal of that width shows it, without colours."""
    out = io.StringIO()
    Console(file=out, width=width, height=30, color_system=None, legacy_windows=False).print(renderable)
    return out.getvalue().splitlines()


def bars_of(progress: RunProgress) -> Bars:
    return Bars("notes", 4, progress)


LONG = "classification_of_incidents_by_kind"
RUN = (
    began("documents", "a"), advanced("documents", "a", 1_000, 1_000, 900), ended("documents", "a", 1_000, reused=900),
    began(LONG, "a"), advanced(LONG, "a", 250, 1_000, 40), CallsMade(**OF, asset=LONG, partition="a", spend=BUSY),
)  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_each_stage_has_a_bar_with_documents_calls_dollars_and_why_calls_were_retried(width: int) -> None:
    lines = shown(bars_of(run_of(*RUN)), width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 4, lines
    assert lines[0].startswith("notes: candidates ")
    assert "0 of 4" in lines[0]
    assert lines[1].split() == ["documents", *lines[1].split()[1:-3], "1,000/~4,000", "900", "reused"]
    assert lines[2].lstrip().startswith("classification_of_incid… ")
    assert "250/~4,000  40 reused  1,234 calls $0.0123" in lines[2]
    assert lines[3].strip() == "12 retried: 429 from endpoint mini"


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_of_a_large_run_fit_beside_the_bar(width: int) -> None:
    spend = RunSpend(calls=1_200_000, attempts=1_200_000, cost_nusd=1_234_560_000_000)
    stage = advanced("kind", "a", 300_000, 500_000, 1_000)
    lines = shown(bars_of(run_of(stage, CallsMade(**OF, asset="kind", partition="a", spend=spend))), width)
    assert "300,000/~2,000,000  1,000 reused  1,200,000 calls $1,234.56" in lines[1]
    assert max(map(len, lines)) <= width


def test_a_low_terminal_shows_what_runs_and_counts_what_it_leaves_out() -> None:
    stages = [f"stage_{number}" for number in range(8)]
    progress = run_of(*(ended(name, "a", 3) for name in stages[:6]), *(began(name, "a") for name in stages[6:]))
    rows = [line.strip().split()[0] for drawing in drawn(progress.stages(), 80, 4) for line in shown(drawing, 80)]
    assert rows == ["5", "stage_5", "stage_6", "stage_7"]


def test_the_bar_is_as_full_as_documents_are_done() -> None:
    half = run_of(*(advanced("kind", key, 5, 10) for key in "abcd"))
    whole = run_of(*(ended("kind", key, 10) for key in "abcd"))
    parts = [shown(bars_of(progress), 120)[1].count("━") for progress in (half, whole)]
    assert parts[1] == 30
    assert 14 <= parts[0] <= 30  # without colours the rest of a bar is drawn too


@pytest.mark.parametrize(
    ("width", "left_out"), [(200, set()), (100, set()), (80, {"docs in", "partitions"})], ids=["file", "100", "80"]
)
def test_the_table_at_the_end_cuts_no_cell_of_a_narrow_terminal(width: int, left_out: set[str]) -> None:
    row = ReportRow("evaluation_scores", 3, 24, 24, 9, 2, 12.5, 0.0035, calls=24, retried=3)
    columns = fitting_columns([row], width)
    assert set(fitting_columns([row], 1_000)) - set(columns) == left_out
    assert sum(2 + max(len(name), len(*cells)) for name, cells in columns.items()) <= width


def test_the_table_at_the_end_has_no_empty_column_of_calls() -> None:
    columns = fitting_columns([ReportRow("documents", 3, 24, 24)], 200)
    assert not {"calls", "retried", "quarantined"} & set(columns)


# Lines


@dataclass
class Clock:
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now


def test_lines_come_later_and_later_so_that_a_long_run_does_not_fill_its_log() -> None:
    clock = Clock()
    lines = ProgressLines(clock.said.append, RunProgress(1), clock)
    lines.hear(began("kind", "a"))
    moments = []
    for second in range(3_600):
        clock.now = float(second)
        before = len(clock.said)
        lines.hear(advanced("kind", "a", second, 3_600))
        moments += [clock.now] * (len(clock.said) - before)
    assert moments[:3] == [FIRST_S, 3 * FIRST_S, 7 * FIRST_S]
    assert moments[-1] - moments[-2] == MOST_S
    assert len(moments) < 20
    assert clock.said[0] == "kind: 10 of 3,600 documents"


def test_where_there_is_no_terminal_a_run_says_lines_and_no_bars(project: Project) -> None:
    project.documents(per_day=2)
    project.declare(stages=[dict(STAGE)])
    said = project.cli("run", "notes")
    assert said.returncode == 0, said.stderr
    assert "━" not in said.stdout
    assert sum(": 2 documents, candidate " in line for line in said.stdout.splitlines()) == 3


@pytest.mark.slow
def test_the_log_of_a_run_in_dagster_says_how_far_stages_are(
    office: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_assets.run.progress.FIRST_S", 0.0)
    collection = declared(office)
    with office.instance() as opened:
        span = {"dagster/asset_partition_range_start": "2026-10-05", "dagster/asset_partition_range_end": "2026-10-07"}
        done = office.execute(opened, collection, "notes", **span)
        said = [entry.user_message for entry in opened.all_logs(done.run_id) if entry.dagster_event is None]
    assert done.success
    assert any(line.startswith("documents: 4 of ") for line in said), said
    assert any(re.fullmatch(r"kind: 12 of 12 documents, 12 calls, \$0\.\d+", line) for line in said), said


# What the engine counts


@pytest.mark.slow
def test_the_engine_counts_as_the_ledger_does(tmp_path: Path) -> None:
    state, live = StateStore(f"sqlite:///{tmp_path}/state.db"), LiveSpend()
    with Provider() as provider:
        provider.script([
            {"match": "hall 1 ", "fault": "rate_limited", "times": 3},
            {"match": "hall 2 ", "fault": "server_error", "times": 2},
            {"match": "hall 3 ", "fault": "reset_after", "times": 1},
        ])  # fmt: skip
        declared = settings({"mini": endpoint(provider.url), "other": endpoint(provider.url, model="large")})
        with Engine(declared, state, live=live) as engine:
            list(engine.map(questions(30), CALLER))
            list(engine.map(questions(40), CALLER))
    counted = live.take()
    with state.read() as connection:
        ledger = spend_by_asset(connection, "notes", ["run"])
    assert set(counted) == {CALLER}
    assert counted[CALLER] == ledger["kind"]
    assert (counted[CALLER].reused, counted[CALLER].calls, counted[CALLER].retried >= 6) == (30, 40, True)
    assert live.take() == {}
    state.close()


# In a run


class Kept(Sink):
    hears = (Advanced, CallsMade, StageEnded)

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def hear(self, event: RunEvent) -> None:
        self.events.append(event)


def heard(project: Project, collection: Collection, run_id: str, *sinks: Sink) -> dict[str, int]:
    """Documents of each asset for which nothing had to be computed or asked, over all partitions."""
    with Work(collection, project.stores(), run_id, sinks=Sinks(sinks)) as work:
        keys = collection.scheme.keys(sorted(work.listing.by_partition))
        found = [event for event in refresh(work, keys) if isinstance(event, Outcome)]
    reused: dict[str, int] = {}
    for outcome in found:
        reused[outcome.manifest.asset] = reused.get(outcome.manifest.asset, 0) + outcome.reused
    return reused


STAGES = """
from ai_assets import Document, Stage, stage

@stage(columns={"answer": str})
async def twice(document: Document, ctx: Stage) -> dict:
    said = (await ctx.ask("First. " + document.quoted)).text
    return {"answer": (await ctx.ask(f"Then, {said[:20]}: " + document.quoted)).text}
"""


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    provider.configure(latency_ms=0, fault={})
    vectors = VECTORS.format(url="rehearsal", texts=4).split("endpoints:\n")[1].split("routes:")[0]
    small = PRICED.replace("endpoints:\n", f"endpoints:\n{vectors}").replace(
        "routes:\n", "routes:\n  vectors: {endpoints: [first]}\n"
    )
    (project.root / "inference.yaml").write_text(small)
    project.documents(per_day=4)
    return project


def declared(office: Project) -> Collection:
    (office.root / "collections" / "notes" / "stages.py").write_text(STAGES)
    function = {"name": "said", "kind": "function", "function": "./stages.py:twice", "route": "default"}
    return office.declare(stages=[KIND, function], embedding={"route": "vectors", "dimensions": 256})


ASKING = ("kind", "said", "embeddings")


def test_the_calls_that_sinks_hear_of_add_up_to_the_ledger(office: Project, provider: Provider) -> None:
    provider.script([{"match": "Note 3 ", "fault": "server_error", "times": 1}])
    collection, kept, progress = declared(office), Kept(), RunProgress()
    heard(office, collection, "run", kept, progress)
    with office.stores().state.read() as connection:
        ledger = spend_by_asset(connection, "notes", ["run"])
    for asset in ASKING:
        parts = {
            str(n): each.spend
            for n, each in enumerate(kept.events)
            if isinstance(each, CallsMade) and each.asset == asset
        }
        assert total_of(parts) == ledger[asset] == progress.stage(asset).spend
        assert progress.stage(asset).done == progress.stage(asset).total == 12
    assert total_of(ledger).retried == 1
    last = max(n for n, event in enumerate(kept.events) if isinstance(event, StageEnded))
    assert not [event for event in kept.events[last:] if isinstance(event, CallsMade)]


def test_what_is_made_of_answers_in_the_ledger_is_reused(office: Project, provider: Provider) -> None:
    collection = declared(office)
    first = heard(office, collection, "run")
    assert [first[asset] for asset in ASKING] == [0, 0, 0]
    shutil.rmtree(office.home.lake / "notes")
    delivered = provider.stats()["delivered"]
    progress, kept = RunProgress(), Kept()
    again = heard(office, collection, "again", progress, kept)
    assert [again[asset] for asset in ASKING] == [12, 12, 12]
    assert provider.stats()["delivered"] == delivered
    assert [progress.stage(asset).reused for asset in ASKING] == [12, 12, 12]
    told = [event for event in kept.events if isinstance(event, Advanced) and event.asset == "kind"]
    assert {event.reused for event in told if event.done == event.total} == {4}


@pytest.mark.slow
def test_a_killed_run_that_goes_on_counts_what_it_took_over(office: Project, provider: Provider) -> None:
    declared(office)
    text = (office.root / "inference.yaml").read_text()
    (office.root / "inference.yaml").write_text(text.replace("model: mini,", "model: mini, limits: {concurrency: 2},"))
    provider.configure(latency_ms=300)
    command = [Path(sys.executable).parent / "ai-assets", "run", "notes"]
    with subprocess.Popen(
        command, cwd=office.root, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        eventually(lambda: answered(office).get("kind", 0) >= 3 and answered(office).get("said", 0) >= 3, 120)
        os.killpg(process.pid, signal.SIGKILL)
    before = answered(office)
    assert sum(before.values()) < 12 * 4, "it was killed too late"
    provider.configure(latency_ms=0)
    said = office.cli("run", "notes", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    rows: dict[str, dict[str, Any]] = {row["asset"]: row for row in found["rows"]}
    assert rows["kind"]["reused"] == before["kind"]
    assert rows["kind"]["reused"] + rows["kind"]["calls"] == rows["kind"]["documents_in"] == 12
    assert rows["embeddings"]["reused"] == before.get("embeddings", 0)
    assert rows["said"]["reused"] == before.get("said twice", 0)
    assert found["total"]["reused"] == {asset: row["reused"] for asset, row in rows.items() if row["reused"]}
    with office.instance() as opened:
        run = opened.get_run_by_id(found["run_ids"][-1])
        assert run is not None
        told = [entry.message for entry in opened.all_logs(run.run_id) if entry.message.startswith("Total: ")]
    assert len(told) == 1


def answered(project: Project) -> dict[str, int]:
    """Of each asset, documents with an answer; of the function also those that have both."""
    query = (
        "SELECT callers.asset, count(DISTINCT attempts.call_key) AS answers FROM attempts "
        "JOIN callers ON callers.caller_id = attempts.caller_id WHERE state = 'settled' "
        "GROUP BY callers.asset, attempts.document"
    )
    found: dict[str, int] = {}
    with project.stores().state.read() as connection:
        for row in connection.execute(sa.text(query)):
            found[row.asset] = found.get(row.asset, 0) + 1
            found[f"{row.asset} twice"] = found.get(f"{row.asset} twice", 0) + (row.answers == 2)
    return found


def test_stage_progress_is_a_record_of_plain_numbers() -> None:
    stage = run_of(ended("kind", "a", 3)).stages()
    assert [(type(each), each.asset) for each in stage] == [(StageProgress, "kind")]
