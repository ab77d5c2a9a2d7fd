"""`ai-assets up` as real processes around a tiny definitions module."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import eventually, free_port

import ai_assets
from ai_assets.base.home import Home
from ai_assets.base.processes import started_by_up
from ai_assets.ops import managed_process
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable, answers, essential_message
from ai_assets.ops.managed_process import Service, ServiceDied, ServiceKeepsDying, essential_line
from ai_assets.orchestration.instance import instance
from ai_assets.orchestration.interrupted import MESSAGE

pytestmark = pytest.mark.slow

REPOSITORY = Path(ai_assets.__file__).parents[1]
DEFINITIONS = """
import os, time
from pathlib import Path
import dagster as dg

with Path("imports.txt").open("a") as file:
    print(os.getpid(), file=file)
parts = dg.StaticPartitionsDefinition(["a", "b", "c"])

@dg.asset(partitions_def=parts)
def letters() -> int:
    return 1

@dg.asset(partitions_def=parts)
def slow() -> None:
    Path("slow-runs").touch()
    time.sleep(60)

defs = dg.Definitions(assets=[letters, slow], executor=dg.in_process_executor)
"""
BROKEN = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from ai_assets.base.errors import SourceUnavailable
raise SourceUnavailable("letters", "folder 'inbox' does not exist", "Create it.")
"""
UP = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from ai_assets.ops.supervisor import Supervisor
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
try:
    with Supervisor(Home.from_environment(), port=int(sys.argv[1]), desk_port=int(sys.argv[2])) as supervisor:
        supervisor.start()
        supervisor.wait_until_healthy(90, lambda text: print(text, flush=True))
        print("READY", *supervisor.notes, flush=True)
        supervisor.run_forever(lambda text: print(text, flush=True))
    print("STOPPED", *supervisor.notes, flush=True)
except UserError as e:
    print(e, flush=True)
    sys.exit(2)
"""


class Up:
    """One `ai-assets up` in its own process."""

    def __init__(self, folder: Path, definitions: str = DEFINITIONS, port: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "definitions.py").write_text(definitions)
        self.folder = folder
        self.home = Home(root=folder / "home", project=folder)
        self.port = port or free_port()
        self.desk_port = free_port()
        self.api = DagsterApi(f"http://127.0.0.1:{self.port}")
        self._output = folder / f"up-{self.port}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", UP, str(self.port), str(self.desk_port)],
                cwd=folder,
                env={**os.environ, "AI_ASSETS_HOME": str(self.home.root)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def ready(self) -> "Up":
        eventually(lambda: "READY" in self.said or self.process.poll() is not None, 90)
        assert "READY" in self.said, self.said
        return self

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)

    def left(self) -> list[psutil.Process]:
        return started_by_up(self.home.root)

    def warden(self) -> psutil.Process:
        (warden,) = (
            p for p in psutil.Process(self.process.pid).children() if "ai_assets.base.orphan_reaper" in p.cmdline()
        )
        return warden

    def launch_slow_run(self) -> str:
        """The id of a run that is executing."""
        self.api.launch_backfill([["slow"]], ["a"], "slow")
        eventually((self.folder / "slow-runs").exists, 60)
        with instance(self.home) as opened:
            return opened.get_runs()[0].run_id


def outcome(up: Up, run_id: str) -> tuple[str, bool]:
    """The status of a run, and whether its log gives our reason for it."""
    with instance(up.home) as opened:
        run = opened.get_run_by_id(run_id)
        assert run is not None
        return run.status.value, any(MESSAGE in entry.message for entry in opened.all_logs(run_id))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAGSTER_HOME", "AI_ASSETS_HOME"):
        monkeypatch.setenv(name, "")  # so that what `instance` exports is taken back after each test


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("running")).ready()
    yield up
    assert up.end(signal.SIGTERM) == 0, up.said
    assert up.left() == []


def test_the_definitions_are_loaded_by_one_process_only(running: Up) -> None:
    found = (running.folder / "imports.txt").read_text().split()
    servers = [process.pid for process in running.left() if "grpc" in process.cmdline()]
    assert [pid for pid in map(int, found) if pid in servers] == servers
    assert len(found) <= 2, "and by a child that looks what they are made of"


def test_the_page_answers_and_all_is_well(running: Up) -> None:
    health = running.api.health(heartbeats_after=running.home.root.stat().st_ctime - 60)
    assert running.api.answers()
    assert (health.code_loaded, dict(health.code_errors), health.daemons_missing) == (True, {}, ())


def test_a_second_up_on_the_same_home_names_the_first(running: Up) -> None:
    second = Up(running.folder)
    assert second.process.wait(60) == 2
    assert f"already running on {running.home.root} (pid {running.process.pid})" in second.said


def test_a_busy_port_is_refused_by_name_before_anything_starts(running: Up, tmp_path: Path) -> None:
    other = Up(tmp_path / "other", port=running.port)
    assert other.process.wait(60) == 2
    assert f"Port {running.port} is already used by python" in other.said
    assert f"--port {running.port + 10}" in other.said
    assert list(other.home.logs.iterdir()) == []


def test_a_backfill_launched_through_the_client_completes(running: Up) -> None:
    backfill = running.api.launch_backfill([["letters"]], ["a", "b"], "two letters", {"team": "post"})
    eventually(lambda: running.api.backfill_status(backfill).done, 90)
    status = running.api.backfill_status(backfill)
    assert (status.succeeded, status.partitions, status.materialized, status.failed) == (True, 2, 2, 0)
    with instance(running.home) as opened:
        runs = opened.get_runs()
    assert {run.tags["team"] for run in runs} == {"post"}
    assert {running.api.run_status(run.run_id) for run in runs} == {"SUCCESS"}


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda api: api.launch_backfill([["unknown"]], ["a"], "none"), "launch the backfill: .*unknown"),
        (lambda api: api.launch_backfill([["letters"]], ["z"], "none"), "launch the backfill: .*z"),
        (lambda api: api.backfill_status("nonesuch"), "show the backfill: .*nonesuch"),
        (lambda api: api.run_status("nonesuch"), "show the run: .*nonesuch"),
    ],
    ids=["unknown asset", "unknown partition", "unknown backfill", "unknown run"],
)
def test_a_refusal_carries_the_words_of_dagster(running: Up, ask: Callable[[DagsterApi], object], said: str) -> None:
    with pytest.raises(DagsterRefused, match=said):
        ask(running.api)


def test_the_desk_is_up_and_is_started_again_when_it_was_killed(running: Up) -> None:
    address = f"http://127.0.0.1:{running.desk_port}/health"
    assert answers(address)
    (desk,) = (process for process in running.left() if "ai_assets.desk" in process.cmdline())
    desk.kill()
    desk.wait()
    eventually(lambda: answers(address), 40)
    assert "desk ended with status -9, starting it again in 0.5 s" in running.said


def test_a_killed_daemon_is_started_again(running: Up) -> None:
    (daemon,) = (process for process in running.left() if "ai_assets.ops.daemon" in process.cmdline())
    killed_at = time.time()
    daemon.kill()
    eventually(lambda: running.api.health(heartbeats_after=killed_at).daemons_missing == (), 40)
    assert "daemon ended with status -9, starting it again in 0.5 s" in running.said


def test_ctrl_c_ends_even_a_run_in_flight_and_says_so(tmp_path: Path) -> None:
    up = Up(tmp_path / "p").ready()
    run = up.launch_slow_run()
    assert up.end(signal.SIGINT) == 0
    assert up.left() == []
    assert up.said.splitlines()[-1] == f"STOPPED 1 run(s) were interrupted and are reported failed: {run}"
    assert outcome(up, run) == ("FAILURE", True)


def test_after_a_power_cut_the_next_up_reports_the_run_failed_and_sigkill_leaves_no_process(tmp_path: Path) -> None:
    up = Up(tmp_path / "p").ready()
    run = up.launch_slow_run()
    for process in reversed([psutil.Process(up.process.pid), *up.left(), up.warden()]):
        process.kill()
    up.process.wait(60)
    again = Up(up.folder, port=up.port).ready()
    assert run in again.said
    assert outcome(again, run) == ("FAILURE", True)
    again.end(signal.SIGKILL)
    eventually(lambda: again.left() == [], 15)


def test_a_mistake_of_the_user_is_shown_without_a_traceback(tmp_path: Path) -> None:
    up = Up(tmp_path / "p", BROKEN)
    assert up.process.wait(90) == 2
    wanted = "The definitions cannot be loaded. Source letters: folder 'inbox' does not exist. Create it."
    assert up.said.splitlines()[-1] == wanted
    assert "Traceback" not in up.said
    assert up.left() == []


def service(tmp_path: Path, code: str) -> Service:
    (tmp_path / "mortal.py").write_text(code)
    home = Home(root=tmp_path / "home", project=tmp_path).ensure()
    return Service(name="mortal", module="mortal", arguments=[], home=home, folder=tmp_path)


def test_a_service_that_dies_at_start_gives_its_reason_and_its_log(tmp_path: Path) -> None:
    mortal = service(tmp_path, "raise RuntimeError('no luck')")
    mortal.start()
    assert mortal.process is not None
    mortal.process.wait()
    with pytest.raises(ServiceDied, match=r"mortal ended .*RuntimeError: no luck See .*/home/logs/mortal\.log"):
        mortal.raise_if_dead()


def test_a_service_that_keeps_dying_is_given_up_after_five_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed_process, "FIRST_DELAY_S", 0.0)
    mortal = service(tmp_path, "raise SystemExit('Error: gone')")
    mortal.start()
    done: list[str] = []

    def live() -> None:
        while True:
            if said := mortal.keep_alive():
                done.append(said)
            time.sleep(0.01)

    with pytest.raises(ServiceKeepsDying, match=r"ended 6 times in 10 minutes.*Error: gone"):
        live()
    assert done.count("mortal started again") == 5


def test_a_client_without_a_server_says_how_to_start_it() -> None:
    with pytest.raises(DagsterUnreachable, match="ai-assets up"):
        DagsterApi(f"http://127.0.0.1:{free_port()}").run_status("any")


@pytest.mark.parametrize(
    ("lines", "essential"),
    [
        ([], None),
        (["Started", ""], "Started"),
        (["Traceback (most recent call last):", '  File "x"', "a.SomeError: broke", "    now"], "a.SomeError: broke"),
        (["\x1b[31mOSError: [Errno 28] No space left\x1b[0m", "Shutting down"], "OSError: [Errno 28] No space left"),
        (
            [
                "    raise it",
                "CollectionInvalid: a.yaml: 2 mistakes",
                "  a.yaml:1:1: x",
                "  a.yaml:2:1: y",
                "Shutting down",
            ],
            "CollectionInvalid: a.yaml: 2 mistakes\n  a.yaml:1:1: x\n  a.yaml:2:1: y",
        ),
    ],
    ids=["nothing", "no error", "traceback", "coloured", "several mistakes"],
)
def test_the_essential_line_of_a_log_is_its_last_error(lines: list[str], essential: str | None) -> None:
    assert essential_line(lines) == essential


def cause(name: str, message: str, *stack: str) -> dict[str, object]:
    return {"className": name, "message": message, "stack": list(stack), "causes": []}


MINE = '  File "/p/defs.py", line 3, in x\n'
DAGSTERS = '  File "/v/site-packages/dagster/x.py", line 9\n'


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            {**cause("LoadError", "Error loading"), "causes": [cause("ValueError", "ValueError: no\n", MINE)]},
            "ValueError: no (/p/defs.py, line 3)",
        ),
        (
            {
                **cause("LoadError", "Error loading"),
                "causes": [
                    cause("Bad", "ai_assets.x.Bad: a.yaml:3: Do this.\n", MINE),
                    cause("ValidationError", "x\n"),
                ],
            },
            "a.yaml:3: Do this.",
        ),
        (cause("UserError", "ai_assets.base.errors.UserError: Do this.\n", MINE), "Do this."),
        (cause("KeyError", "KeyError: 'a'\n", MINE, DAGSTERS), "KeyError: 'a' (/p/defs.py, line 3)"),
        (cause("KeyError", "KeyError: 'a'\n", DAGSTERS), "KeyError: 'a'"),
    ],
    ids=[
        "innermost cause",
        "our own error that has a cause",
        "our own error",
        "dagster's frames are left out",
        "no frame of the author",
    ],
)
def test_an_error_of_the_definitions_is_told_in_one_line(error: dict[str, object], said: str) -> None:
    assert essential_message(error) == said
