"""`ai-assets up`: a code server for each code location, Dagster's web server and daemon, and the desk.

They are started, kept running and ended together.

Whatever is started carries the home in its environment, so that it can be found and ended at any depth: by `stop`, by
`ai_assets/base/orphan_reaper.py` when this process is killed, or by the next `up`.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Literal, Self

import yaml

import ai_assets
from ai_assets.base.environment import LOCAL
from ai_assets.base.errors import UserError
from ai_assets.base.home import (
    DAGSTER_URL_VARIABLE,
    DECISION_KEY_VARIABLE,
    DESK_URL_VARIABLE,
    DESK_VARIABLE,
    LOCATION_VARIABLE,
    NO_KEY,
    OPERATIONS_VARIABLE,
    SEVERAL_VARIABLE,
    Home,
)
from ai_assets.base.processes import end_all_started_by_up, identity, is_alive, why_port_is_unusable
from ai_assets.base.structured_log import is_json
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable, answers
from ai_assets.ops.logged_dagster import MODULE as LOGGED
from ai_assets.ops.managed_process import Service
from ai_assets.ops.reloading import LocationReload
from ai_assets.ops.settings_reload import SettingsReload
from ai_assets.orchestration.code_location import CodeLocation, code_locations
from ai_assets.orchestration.instance import instance, use_home
from ai_assets.orchestration.interrupted import explain_interrupted_runs, report_interrupted_runs, runs_in_flight

PACKAGES = Path(ai_assets.__file__).parents[1]
"""From where our own modules can be imported, in a project that has them installed or not."""
CODE_LOCATION = "definitions"
STOP_GRACE_S = 10.0
POLL_S = 0.2
LOOK_S = 15.0
"""How often several code locations are asked whether they are loaded."""
UP_LOCK = "up.lock"
"""Below the home: locked while `ai-assets up` runs, with its identity and the address of Dagster's pages."""
SOCKET_PATH_LIMIT = 100
"""Bytes; the kernel refuses a socket path of more than 107 (Linux) or 103 (macOS)."""


class PortBusy(UserError):
    def __init__(self, port: int, found: str, option: str) -> None:
        super().__init__(f"Port {port} is {found}. Choose another one: `ai-assets up {option} {port + 10}`.")


class AlreadyUp(UserError):
    def __init__(self, home: Path, holder: str) -> None:
        super().__init__(f"ai-assets up is already running on {home} ({holder}). Stop that one first, or use it.")


class NoDefinitions(UserError):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"No Dagster project in {folder} or above it: no definitions.py, no [tool.dg.project] or "
            "[tool.dagster] in a pyproject.toml, no workspace.yaml. Go to a project, or make one: `ai-assets new`."
        )


class LocationsAlike(UserError):
    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(
            f"{folder} declares two code locations called '{name}'. Give one of them another name: `location_name` in "
            "workspace.yaml, `code_location_name` in pyproject.toml."
        )


class DefinitionsBroken(UserError):
    def __init__(self, errors: Mapping[str, str], *, several: bool) -> None:
        """`errors`: by code location; without a name where it is not one of them that is wrong."""
        super().__init__(
            " ".join(
                f"The definitions{f' of the code location {name}' if several and name else ''} cannot be loaded. {said}"
                for name, said in errors.items()
            )
        )


class NotHealthyInTime(UserError):
    def __init__(self, timeout_s: float, waiting_for: str, logs: Path) -> None:
        super().__init__(f"After {timeout_s:.0f} s still waiting for {waiting_for}. See the logs in {logs}.")


def running_at(home: Home) -> str | None:
    """Where Dagster's pages are while `ai-assets up` runs on this home."""
    path = home.root / UP_LOCK
    holder, _, url = path.read_text(encoding="utf-8").partition("\n") if path.is_file() else ("", "", "")
    return url.strip() if url.strip() and is_alive(holder) and DagsterApi(url.strip()).answers() else None


def named_apart(folder: Path, locations: Sequence[CodeLocation]) -> list[CodeLocation]:
    """One alone is called the same in every project; several have names of their own."""
    if len(locations) == 1:
        return [replace(locations[0], name=CODE_LOCATION)]
    names = [location.name for location in locations]
    for name in names:
        if names.count(name) > 1:
            raise LocationsAlike(folder, name)
    return list(locations)


def workspace_of(locations: Sequence[CodeLocation], sockets: Sequence[Path]) -> dict[str, Any]:
    """For the web server and the daemon: where each code location is served."""
    servers = [
        {"grpc_server": {"socket": str(socket), "location_name": location.name}}
        for location, socket in zip(locations, sockets, strict=True)
    ]
    return {"load_from": servers}


class Supervisor:
    """A context manager: leaving it ends everything, and a Ctrl-C inside it is a normal way to leave.

    Use it on the main thread: there it also hears SIGTERM and SIGHUP, and the kernel ties the children to it.
    """

    def __init__(
        self,
        home: Home,
        *,
        host: str = "127.0.0.1",
        port: int = 3000,
        desk_port: int | None = None,
        desk_url: str | None = None,
    ) -> None:
        self.home = home
        self.host = host
        self.port = port
        self.desk_port = desk_port or port + 1
        address = "127.0.0.1" if host == "0.0.0.0" else host
        self.url = f"http://{address}:{port}"
        self._desk = f"http://{address}:{self.desk_port}"
        named = "localhost" if address == "127.0.0.1" else address  # browsers know passkeys of a name only
        self.desk_url = desk_url or f"http://{named}:{self.desk_port}"
        """As people reach it, which may be through a proxy."""
        self.api = DagsterApi(self.url)
        self.notes: list[str] = []
        """What a person should know about the start: a file left alone, runs found interrupted."""
        self._services: list[Service] = []
        self._locations: list[CodeLocation] = []
        self._reloads: list[LocationReload] = []
        self._warden: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._socket_folder: TemporaryFolder | None = None
        self._started_at = 0.0
        self._hurry = threading.Event()
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if name != signal.SIGHUP or signal.getsignal(name) is not signal.SIG_IGN:  # `nohup` wants it ignored
                    self._handlers[name] = signal.signal(name, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[True] | None:
        for name in self._handlers:
            signal.signal(name, self._hurry_up)
        try:
            self.stop()
        finally:
            for name, handler in self._handlers.items():
                signal.signal(name, handler)
        return True if kind is KeyboardInterrupt else None

    def start(self) -> None:
        """Start everything; returns before anything answers."""
        self._locations = self._declared()
        self.home = replace(
            self.home, declared_environment=self.home.environment, declared_connections=self.home.connections
        )
        configuration = use_home(self.home)
        self._take_lock()
        end_all_started_by_up(
            self.home.root, up=None, grace_s=2.0
        )  # an earlier one that was killed may still hold the port
        for port, option in ((self.port, "--port"), (self.desk_port, "--desk-port")):
            if found := why_port_is_unusable(self.host, port):
                raise PortBusy(port, found, option)
        if configuration.note:
            self.notes.append(configuration.note)
        self._warden = self._start_warden()
        self._started_at = time.time()
        *code, web, daemon, desk = self._services = self._define_services()
        if self.home.environment != LOCAL or not (self.home.dagster / "schedules").exists():
            self._settle_instance()  # two processes that both create the SQLite tables stumble over each other
        for server in code:
            server.start()
        web.start()
        # Only the daemon launches runs. So what runs now is left from earlier; and its imports, started a second
        # later, do not compete with the other two (2 cores: the page answers at 5.4 s instead of 7.1 s).
        self._settle_instance()
        daemon.start()
        desk.start()

    def wait_until_healthy(self, timeout_s: float = 120.0, on_progress: Callable[[str], None] = lambda _: None) -> None:
        """Until the page answers, the definitions are loaded and every daemon has given a sign of life."""
        deadline = time.monotonic() + timeout_s
        waiting_for, before = "the web server", ""
        while waiting_for:
            if waiting_for != before:
                on_progress(f"waiting for {waiting_for}")
                before = waiting_for
            if time.monotonic() > deadline:
                raise NotHealthyInTime(timeout_s, waiting_for, self.home.logs)
            for service in self._services:
                service.raise_if_dead()
            time.sleep(POLL_S)
            waiting_for = self._missing()

    def run_forever(
        self,
        on_progress: Callable[[str], None] = lambda _: None,
        on_loaded: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """Keep the services running until a signal ends it (KeyboardInterrupt, which `__exit__` takes as normal).

        What is edited meanwhile is taken over (`reloading.py`), and `on_loaded` called with collections that are new. A
        code location that breaks meanwhile is reported by name, and the others go on.
        """
        broken: dict[str, str] = {}
        look_at = time.monotonic() + LOOK_S
        self._reloads = [*self._location_reloads(on_loaded)]
        settings = SettingsReload(
            home=self.home,
            environment=self.home.environment,
            desk=self._services[-1],
            locations=self._locations,
            declared=self._declared,
        )
        while True:
            for line in chain(*(part.step() for part in self._reloads), settings.step()):
                on_progress(line)
            if len(self._locations) > 1 and time.monotonic() > look_at:
                self._tell_broken(broken, on_progress)
                look_at = time.monotonic() + LOOK_S
            for service in self._services:
                if done := service.keep_alive():
                    on_progress(done)
            time.sleep(POLL_S)

    def _declared(self) -> list[CodeLocation]:
        locations = code_locations(self.home.project)
        if not locations:
            raise NoDefinitions(self.home.project)
        return named_apart(self.home.project, locations)

    def _location_reloads(self, on_loaded: Callable[[Sequence[str]], None]) -> Iterator[LocationReload]:
        for location, server in zip(self._locations, self._services, strict=False):
            yield LocationReload(
                location=location,
                home=self.home,
                url=self.url,
                told=server.told,
                several=len(self._locations) > 1,
                also=[replace(self.home, project=location.project).inference],
                since=self._started_at,
                on_loaded=on_loaded,
            )

    def _tell_broken(self, before: dict[str, str], on_progress: Callable[[str], None]) -> None:
        """What has changed since `before`, which is brought up to date."""
        try:
            found = self.api.health(heartbeats_after=self._started_at)
        except (DagsterUnreachable, DagsterRefused):
            return
        for name, said in found.code_errors.items():
            if before.get(name) != said:
                on_progress(f"the code location {name} cannot be loaded, and the others go on: {said}")
        for name in [name for name in before if name not in found.code_errors and name not in found.code_missing]:
            on_progress(f"the code location {name} is loaded again")
            del before[name]
        before.update(found.code_errors)

    def stop(self) -> None:
        """End every process, at any depth, and say of the runs that were executing that they were interrupted."""
        if self._lock is None:
            return
        try:
            for part in self._reloads:
                part.close()
            if self._services:
                with instance(self.home) as opened:
                    in_flight = runs_in_flight(opened)
                    end_all_started_by_up(self.home.root, None, STOP_GRACE_S, in_a_hurry=self._hurry.is_set)
                    self._note_interrupted(
                        [*explain_interrupted_runs(opened, in_flight), *report_interrupted_runs(opened)]
                    )
        finally:
            self._reap()
            if self._socket_folder:
                self._socket_folder.close()
            self._lock.close()
            self._lock = None

    def _missing(self) -> str:
        """What is not there yet, in words; nothing when all is well."""
        if not self.api.answers():
            return "the web server"
        try:
            health = self.api.health(heartbeats_after=self._started_at)
        except (DagsterUnreachable, DagsterRefused):
            return "the web server"
        several = len(self._locations) > 1
        if health.code_errors:
            raise DefinitionsBroken(health.code_errors, several=several)
        if not health.code_loaded:
            return f"the definitions of {', '.join(health.code_missing)}" if several else "the definitions to load"
        if health.daemons_missing:
            return "the daemons"
        return "" if answers(f"{self._desk}/health") else "the desk"

    def _define_services(self) -> list[Service]:
        sockets = self._code_server_sockets()
        workspace = self.home.dagster / "workspace.yaml"
        workspace.write_text(yaml.safe_dump(workspace_of(self._locations, sockets)), encoding="utf-8")
        web = ["--host", self.host, "--port", str(self.port), "--workspace", str(workspace)]
        daemon = ["run", "--workspace", str(workspace)]
        desk = ["--host", self.host, "--port", str(self.desk_port)]
        # uvicorn of the web server would take the address of a connection from a header, and nobody could tell any
        # more whether the declared proxy is there.
        links = {DAGSTER_URL_VARIABLE: self.url, DESK_URL_VARIABLE: self.desk_url, "FORWARDED_ALLOW_IPS": ""}
        runs = {**links, **self._shared(), DECISION_KEY_VARIABLE: NO_KEY}  # nothing that Dagster starts decides
        started: list[tuple[str, str, list[str], Path, dict[str, str]]] = [
            ("web server", "dagster_webserver", web, self.home.project, runs),
            ("daemon", "ai_assets.ops.daemon", daemon, PACKAGES, runs),
            ("desk", "ai_assets.desk", desk, self.home.project, links),
        ]
        servers = [
            self._code_server(location, socket, runs) for location, socket in zip(self._locations, sockets, strict=True)
        ]
        return servers + [
            Service(name=name, module=module, arguments=arguments, home=self.home, folder=folder, told=told)
            for name, module, arguments, folder, told in started
        ]

    def _code_server(self, location: CodeLocation, socket: Path, told: Mapping[str, str]) -> Service:
        """Where the project is, so that its own `inference.yaml` counts."""
        code = ["code-server", "start", "--socket", str(socket), *location.arguments()]
        code += ["--use-python-environment-entry-point"]
        name = f"code server {location.name}" if len(self._locations) > 1 else "code server"
        module = LOGGED if is_json() else "dagster"
        return Service(
            name=name, module=module, arguments=code, home=self.home, folder=location.project,
            told={**told, LOCATION_VARIABLE: location.name}, stale=socket,
        )  # fmt: skip

    def _shared(self) -> dict[str, str]:
        """What code locations of one home must agree on: who is told, what is kept, and that they are several."""
        if len(self._locations) == 1:
            return {}
        shared = {DESK_VARIABLE: self.home.desk, OPERATIONS_VARIABLE: self.home.operations}
        return {SEVERAL_VARIABLE: "yes", **{name: str(path) for name, path in shared.items()}}

    def _code_server_sockets(self) -> list[Path]:
        several = len(self._locations) > 1
        names = [
            f"code-server-{number}.sock" if several else "code-server.sock" for number in range(len(self._locations))
        ]
        if all(len(os.fsencode(self.home.root / name)) <= SOCKET_PATH_LIMIT for name in names):
            return [self.home.root / name for name in names]
        self._socket_folder = TemporaryFolder("up")
        return [self._socket_folder.path / name for name in names]

    def _take_lock(self) -> None:
        lock = (self.home.root / UP_LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            lock.seek(0)
            holder = lock.read().partition(":")[0]
            lock.close()
            raise AlreadyUp(self.home.root, f"pid {holder}") from e
        lock.truncate(0)
        lock.write(f"{identity()}\n{self.url}\n")
        lock.flush()
        self._lock = lock

    def _start_warden(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "ai_assets.base.orphan_reaper", identity(), str(self.home.root)],
            cwd=PACKAGES,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _settle_instance(self) -> None:
        with instance(self.home) as opened:
            self._note_interrupted(report_interrupted_runs(opened))

    def _note_interrupted(self, run_ids: Sequence[str]) -> None:
        if run_ids:
            self.notes.append(f"{len(run_ids)} run(s) were interrupted and are reported failed: {', '.join(run_ids)}")

    def _reap(self) -> None:
        """The warden, told by its closed input, ends whatever is left, should `stop` itself have failed."""
        if self._warden and self._warden.stdin:
            self._warden.stdin.close()
            self._warden.wait()
        for service in self._services:
            if service.process:
                service.process.wait()

    def _hurry_up(self, _signal: int, _frame: FrameType | None) -> None:
        self._hurry.set()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
