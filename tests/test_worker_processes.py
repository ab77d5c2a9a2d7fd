"""Claims about a run over several processes: what comes of it is what one process makes, also where one is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from conftest import STAGE, Project, eventually
from engines import check_books, rows
from provider import Provider

from ai_assets.base import machine
from ai_assets.collection.loading import Collection
from ai_assets.run import several_processes
from ai_assets.run.context import Outcome, Work
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import Advanced, CallsMade, DatasetMade, RunBegan, RunEnded, RunEvent, Said, StageEnded
from ai_assets.run.one_partition import Event
from ai_assets.run.process_count import DueFiles, number_of_processes
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sink, Sinks

SHARDS = {"by": "shards", "count": 8}
KEYS = [f"shard-{number}" for number in range(8)]
BRIEF = {"name": "brief", "kind": "summarise", "route": "default", "max_sentences": 2}
ENDPOINT = "{base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}"
ROUTES = f"endpoints:\n  small: {ENDPOINT}\nroutes: {{default: {{endpoints: [small]}}}}\n"
PROCESS = {"name": "process", "kind": "function", "function": "./own.py:process"}
PID = """
import os, time
from ai_assets import stage

@stage(columns={"pid": int})
def process(document):
    time.sleep(1)
    return {"pid": os.getpid()}
"""


class Heard(Sink):
    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def hear(self, event: RunEvent) -> None:
        self.events.append(event)


def shards(project: Project, documents: int, *stages: object, **attributes: object) -> Collection:
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(PID)
    (folder / "labels.jsonl").write_text('{"document": "003.txt", "label": "invoice"}\n')
    for number in range(documents):
        project.document(f"{number:03d}.txt", f"Note {number} on pump {number % 7}. The total due is {number}.00 EUR.")
    return project.declare(stages=list(stages), partitions=SHARDS, **attributes)


def work_of(project: Project, collection: Collection, workers: int | None, *sinks: Sink) -> Work:
    return Work(collection, project.stores(), "run", Sinks(sinks), workers=workers)


def computed(project: Project, collection: Collection, workers: int, *sinks: Sink) -> list[Event]:
    with work_of(project, collection, workers, *sinks) as work:
        return list(refresh(work, KEYS))


def versions(events: Sequence[Event]) -> dict[tuple[str, str], object]:
    return {
        (event.manifest.asset, event.manifest.partition): event.manifest.stats.get("digest") or event.manifest.version
        for event in events
        if isinstance(event, Outcome)
    }


def further_processes(of: int | None = None) -> list[psutil.Process]:
    """Of the run of this process, or of another one."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        try:
            if several_processes.MODULE in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.Error:
            continue
    return found


def busy(provider: Provider, of: int | None = None) -> list[psutil.Process]:
    """Those that have a call in flight."""
    return [
        each for each in further_processes(of)
        if any(c.raddr and c.raddr.port == provider.port for c in each.net_connections())
    ]  # fmt: skip


@pytest.fixture
def asking(project: Project, provider: Provider) -> Iterator[Provider]:
    """What asks a model waits for it, so that a partition takes longer than a process to start."""
    (project.root / "inference.yaml").write_text(ROUTES)
    with provider.lent():
        provider.configure(latency_ms=5000)
        yield provider


# The same, from however many processes


@pytest.mark.slow
def test_four_processes_make_the_bytes_that_one_makes(project: Project) -> None:
    collection = shards(project, 120, dict(STAGE), golden={"labels": "labels.jsonl"})
    one = versions(computed(project, collection, 1))
    elsewhere = project.elsewhere()
    heard = Heard()
    assert versions(computed(elsewhere, collection, 4, heard)) == one
    assert len(one) == len(KEYS) * len(collection.asset_names)
    assert further_processes() == []
    again = computed(elsewhere, collection, 4)
    assert all(event.unchanged for event in again if isinstance(event, Outcome))


@pytest.mark.slow
def test_every_process_computes_and_the_run_has_one_list_of_events_in_order(project: Project) -> None:
    collection = shards(project, 64, PROCESS)
    heard = Heard()
    events = computed(project, collection, 3, heard)
    pids = set()
    for event in events:
        if isinstance(event, Outcome) and event.manifest.asset == "process":
            made = list(project.stores().lake.rows(event.manifest))
            assert len({row["pid"] for row in made}) == 1, "a partition is computed by one process"
            pids |= {row["pid"] for row in made}
    assert len(pids) == 3
    order = [
        (e.outcome.manifest.partition, e.outcome.manifest.asset) for e in heard.events if isinstance(e, DatasetMade)
    ]
    for key in KEYS:
        assert [asset for partition, asset in order if partition == key] == list(collection.asset_names)
    kinds = [type(event) for event in heard.events]
    assert (kinds[0], kinds[-1], kinds.count(RunBegan), kinds.count(RunEnded)) == (RunBegan, RunEnded, 1, 1)
    spans = [(event.partition, event.asset) for event in heard.events if isinstance(event, StageEnded)]
    assert sorted(spans) == sorted(order)
    assert {e.partition for e in heard.events if isinstance(e, Advanced) and e.asset == "process"} == {*KEYS}
    said = [event.line for event in heard.events if isinstance(event, Said)]
    assert [line.partition("(")[2] for line in said] == [f"{n} of 8): computed" for n in range(1, 9)]


# Money


@pytest.mark.slow
def test_four_processes_spend_no_more_than_the_budget_and_say_it_once(project: Project, asking: Provider) -> None:
    collection = shards(project, 80, BRIEF)
    asking.configure(latency_ms=300)
    (project.root / "inference.yaml").write_text(ROUTES + "budgets: [{name: little, limit_usd: 0.02}]\n")
    heard = Heard()
    with pytest.raises(PartitionsFailed) as failed:
        computed(project, collection, 4, heard)
    (row,) = check_books(project.home.state_url).values()
    assert 0 < row.spent_nusd <= row.limit_nusd == 20_000_000
    paid = [each for each in rows(project.home.state_url, "SELECT * FROM attempts") if each.state == "settled"]
    assert len(paid) == asking.stats()["billed"]
    assert sum(each.cost_nusd for each in paid) == row.spent_nusd
    assert len({*failed.value.errors.values()}) == 1, "what stops all of them is said once"
    told = [event.spend for event in heard.events if isinstance(event, CallsMade)]
    assert sum(spend.cost_nusd for spend in told) == row.spent_nusd, "progress counts the calls of all processes"


# Sudden death


@pytest.mark.slow
def test_a_killed_process_costs_what_was_in_flight_and_the_run_goes_on(project: Project, asking: Provider) -> None:
    collection = shards(project, 48, BRIEF)
    heard = Heard()
    killed = threading.Event()

    def kill_one() -> None:
        eventually(lambda: busy(asking))
        busy(asking)[0].kill()
        asking.configure(latency_ms=0)
        killed.set()

    killer = threading.Thread(target=kill_one)
    killer.start()
    found = versions(computed(project, collection, 3, heard))
    killer.join()
    assert killed.is_set()
    assert {partition for asset, partition in found if asset == "release_candidate"} == {*KEYS}
    assert any("was ended while it computed" in event.line for event in heard.events if isinstance(event, Said))
    stats = asking.stats()
    assert stats["billed"] - stats["billed_twice"] == 48
    lost = [row for row in rows(project.home.state_url, "SELECT state FROM attempts") if row.state == "ambiguous"]
    assert stats["billed_twice"] <= len(lost), "what the process had in flight may have been billed"
    elsewhere = project.elsewhere()
    assert versions(computed(elsewhere, collection, 1)).keys() == found.keys()


def start_run(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "run", "notes", "--workers", "3", *arguments],
        cwd=project.root, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_run_and_the_next_one_finishes(
    project: Project, asking: Provider, how: signal.Signals
) -> None:
    shards(project, 48, BRIEF)
    run = start_run(project)
    eventually(lambda: busy(asking, run.pid) and len(further_processes(run.pid)) == 2)
    others = further_processes(run.pid)
    run.send_signal(how)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 130), said
    eventually(lambda: not any(other.is_running() and other.status() != psutil.STATUS_ZOMBIE for other in others), 5)
    asking.configure(latency_ms=0)
    finished = start_run(project, "--json")
    found = json.loads(finished.communicate(timeout=300)[0])
    assert finished.returncode == 0
    assert found["total"]["candidates"] + found["total"]["failed"] == len(found["due"])
    check_books(project.home.state_url)
    assert asking.stats()["billed"] - asking.stats()["billed_twice"] == 48


# Where it does not pay, or cannot be


@pytest.mark.slow
def test_a_process_that_finds_another_declaration_takes_no_part(project: Project) -> None:
    collection = shards(project, 48, PROCESS)
    shards(project, 48, PROCESS, dict(STAGE))
    heard = Heard()
    found = versions(computed(project, collection, 2, heard))
    assert {asset for asset, _ in found} == {*collection.asset_names}
    assert any("Computed in fewer processes" in event.line for event in heard.events if isinstance(event, Said))


def processes(work: Work, partitions: Sequence[str]) -> int:
    return number_of_processes(work, partitions, DueFiles(work, partitions))


def test_few_files_are_not_worth_a_process_and_many_are(project: Project) -> None:
    collection = shards(project, 20)
    with work_of(project, collection, None) as work:
        assert processes(work, KEYS) == 1
    for number in range(8):
        project.document(f"long-{number}.txt", f"A long paper {number}. " * 40_000)
    with work_of(project, collection, None) as work:
        assert processes(work, KEYS) == min(machine.usable_cores(), 8)
        assert processes(work, KEYS[:1]) == 1
    with work_of(project, collection, 5) as work:
        assert (processes(work, KEYS), processes(work, KEYS[:2])) == (5, 2)


def test_a_process_that_asks_models_keeps_two_cores_busy(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One by its calls and its rows, the other by what the texts decide."""
    (project.root / "inference.yaml").write_text(ROUTES)
    collection = shards(project, 400, BRIEF)
    for cores, expected in ((1, 1), (2, 1), (3, 1), (4, 2), (8, 4)):
        monkeypatch.setattr("ai_assets.run.process_count.usable_cores", lambda found=cores: found)
        with work_of(project, collection, None) as work:
            assert processes(work, KEYS) == expected


def test_operations_yaml_says_how_many_and_a_run_says_otherwise(project: Project) -> None:
    collection = shards(project, 20)
    (project.root / "operations.yaml").write_text("workers: 4\n")
    with work_of(project, collection, None) as work:
        assert processes(work, KEYS) == 4
    with work_of(project, collection, 2) as work:
        assert processes(work, KEYS) == 2


def test_a_wrong_number_of_processes_is_refused_before_anything_runs(project: Project) -> None:
    shards(project, 8)
    for wrong in ("0", "65", "-2"):
        done = project.cli("run", "notes", "--workers", wrong)
        assert done.returncode == 2
        assert "from 1 to 64" in " ".join(done.stderr.split())


def test_a_container_has_the_cores_and_memory_of_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    free = machine.usable_memory()
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert (machine.usable_cores(), machine.usable_memory()) == (1, 600_000)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.usable_cores() >= 1
    assert machine.usable_memory() > free / 2
