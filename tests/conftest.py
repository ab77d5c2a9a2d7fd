"""Shared fixtures: a project in a temporary folder with collections of its own, and a real PostgreSQL server."""

import gc
import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from compileall import compile_dir
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import cheaper  # noqa: F401 - makes it so
import psutil
import pytest
import warm_dbt
import yaml
from hypothesis import HealthCheck, settings
from llama import Llama, serving
from postgres_server import Postgres, is_installed, running_postgres
from warm import WarmCommand

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.costs import dbt_build
from ai_assets.orchestration.instance import instance
from ai_assets.run.context import Outcome, Work
from ai_assets.run.one_partition import Event
from ai_assets.run.refresh import refresh
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import dagster as dg
    from collector import Collector
    from provider import Provider
    from strangers import Stranger
    from xdist.scheduler import LoadFileScheduling

    from ai_assets.desk.context import Desk
    from ai_assets.reading.published import Published
    from ai_assets.signoff.people import Person

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts in the background so, also under `nohup`; whatever we start would
    # inherit it, and the claims about Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")  # no example fails for the seconds that it or its making takes

REPOSITORY = Path(__file__).parent.parent
SECONDS = Path(__file__).parent / "data" / "seconds.json"
"""Of the longest files, by `-m`: from the reports of a run each (`--junitxml`). A wrong one costs time and no more; a
file that is not named begins before all others, as it may be a long one."""
WARM = WarmCommand()
"""Of this worker of pytest."""
if sys.platform == "linux":
    dbt_build._command = warm_dbt.command
CHROMIUM = Path("/usr/bin/chromium")
DAYS: Mapping[str, Any] = {"by": "day", "start": "2026-10-05", "end": "2026-10-07"}
LABELS: list[dict[str, Any]] = [
    {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    {"name": "incident", "description": "A report on an accident, a fire, a leak or an outage, and its cause."},
]
STAGE: Mapping[str, Any] = {"name": "kind", "kind": "classify", "labels": LABELS}
_SUBJECTS = ("pump", "invoice", "leak", "contract", "conveyor", "payment")


def text_of(number: int) -> str:
    """The text of generated document `number`: its own words, and always the same."""
    subject = _SUBJECTS[number % len(_SUBJECTS)]
    return f"Note {number} on the {subject} in hall {number * 7}. Looked at on Monday; the total due is {number}.00."


@dataclass(frozen=True, kw_only=True)
class Project:
    """A folder with `definitions.py` and collections, and a home to work in."""

    root: Path
    home: Home

    def declare(self, name: str = "notes", **attributes: Any) -> Collection:
        """Write `defs.yaml` (three days, no stages, unless said otherwise) and load it."""
        declared = {"source": {"path": "documents"}, "partitions": dict(DAYS), "schedule": None, **attributes}
        folder = self.root / "collections" / name
        (folder / "documents").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump({"type": "ai_assets.DocumentCollection", "attributes": declared}, sort_keys=False)
        (folder / "defs.yaml").write_text(text)
        return load_collection(self.root / "collections", name)

    def document(self, path: str, content: str | bytes, collection: str = "notes") -> Path:
        """Write a document, old enough that its time is trusted."""
        file = self.root / "collections" / collection / "documents" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        file.write_bytes(data)
        os.utime(file, (1_700_000_000, 1_700_000_000 + zlib.crc32(data) % 1_000_000))
        return file

    def documents(self, per_day: int, days: int = 3, collection: str = "notes") -> None:
        """Generated documents: `2026-10-05/0.txt` and so on."""
        for number in range(per_day * days):
            self.document(f"2026-10-{5 + number // per_day:02d}/{number}.txt", text_of(number), collection)

    def stores(self) -> Stores:
        return Stores.at(self.home)

    def work(self, collection: Collection, run_id: str = "run") -> Work:
        return Work(collection, self.stores(), run_id)

    def refresh(
        self, collection: Collection, partitions: list[str] | None = None, selected: list[str] | None = None
    ) -> list[Outcome]:
        """Bring partitions (all by default) up to date in this process; what became of each dataset."""
        return [event for event in self.events(collection, partitions, selected) if isinstance(event, Outcome)]

    def events(
        self, collection: Collection, partitions: list[str] | None = None, selected: list[str] | None = None
    ) -> Iterator[Event]:
        with self.work(collection) as work:
            keys = collection.scheme.keys(sorted(work.listing.by_partition)) if partitions is None else partitions
            yield from refresh(work, keys, selected)

    @contextmanager
    def instance(self) -> "Iterator[dg.DagsterInstance]":
        """The Dagster instance of the home."""
        in_files = self.home.environment == "local"
        if in_files and not (self.home.dagster / "history").exists():
            for path, content in _empty_dagster().items():
                (self.home.dagster / path).parent.mkdir(parents=True, exist_ok=True)
                (self.home.dagster / path).write_bytes(content)
        with instance(self.home) as opened:
            yield opened

    def execute(
        self, opened: "dg.DagsterInstance", collection: Collection, job: str, **tags: str
    ) -> "dg.ExecuteInProcessResult":
        """Run one of the collection's jobs in this process, as a click in the UI would in another."""
        from ai_assets.orchestration.component import collection_definitions

        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        found = collection_definitions(collection).resolve_job_def(job)
        return found.execute_in_process(instance=opened, run_config=quiet, tags=tags, raise_on_error=False)

    def elsewhere(self) -> "Project":
        """The same project with a home of its own."""
        home = replace(self.home, root=self.home.root.with_name("other-home")).ensure()
        return replace(self, home=home)

    def copy(self, other: "Project", name: str = "notes") -> Collection:
        """All that another project holds and has computed, as if it had been done here; the collection of that name."""
        for theirs, ours in ((other.root, self.root), (other.home.root, self.home.root)):
            shutil.copytree(theirs, ours, dirs_exist_ok=True)
        return load_collection(self.root / "collections", name)

    def edit(self, collection: Collection, path: str, text: str) -> None:
        """Another text of a document, and what it changes computed."""
        self.document(path, text, collection.name)
        self.refresh(collection)

    def cli(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """The real command, in a process of its own (warm.py)."""
        return WARM.run(arguments, cwd=self.root, env={**os.environ, **environment}, timeout_s=300)


def empty_store(place: Path) -> Path:
    """A state store in SQLite that holds nothing: a copy is made sooner than tables are."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(_empty_store())
    return place


@cache
def _empty_store() -> bytes:
    with TemporaryDirectory() as folder:
        StateStore(f"sqlite:///{folder}/state.db").close()
        return Path(folder, "state.db").read_bytes()


@cache
def _empty_dagster() -> dict[Path, bytes]:
    """The databases of a Dagster that has seen nothing: it takes a quarter of a second to make them."""
    with TemporaryDirectory() as folder:
        home = Home(root=Path(folder, "home"), project=Path(folder)).ensure()
        with instance(home) as opened:
            opened.get_runs(limit=1)
            opened.all_instigator_state()
        return {path.relative_to(home.dagster): path.read_bytes() for path in home.dagster.rglob("*.db")}


def project_at(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """An empty project and a home, in which this process then works."""
    root = folder / "project"
    (root / "collections").mkdir(parents=True)
    shutil.copy(REPOSITORY / "definitions.py", root)
    for package in ("resources", "sensors"):
        shutil.copytree(REPOSITORY / package, root / package)
    home = Home(root=folder / "home", project=root)
    patch.chdir(root)
    patch.setenv("AI_ASSETS_HOME", str(home.root))
    patch.setenv("DAGSTER_HOME", str(home.dagster))
    patch.delenv("AI_ASSETS_STATE_URL", raising=False)
    patch.delenv("AI_ASSETS_ENVIRONMENT", raising=False)
    patch.delenv("AI_ASSETS_CONNECTIONS", raising=False)
    home.ensure()
    if not (state := home.root / "state.db").exists():
        empty_store(state)
    return Project(root=root, home=home)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return project_at(tmp_path, monkeypatch)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Collector]":
    """Where spans and metrics of this test go."""
    from collector import ENDPOINT, collecting

    for name in list(os.environ):
        if name.startswith(("OTEL_", "TRACEPARENT")):
            monkeypatch.delenv(name)
    with collecting() as running:
        monkeypatch.setenv(ENDPOINT, running.url)
        yield running


@pytest.fixture(scope="session")
def labelled_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """To be copied."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("labelled"), patch)
        made.documents(per_day=3, days=2)
        made.refresh(made.declare(stages=[dict(STAGE)]))
        return made


@pytest.fixture(scope="session")
def published_project(labelled_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two releases, to be read: the second differs from the first in one document."""
    from published import published_twice

    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("published"), patch)
        made.copy(labelled_project)
        published_twice(made)
        return made


@pytest.fixture
def live(published_project: Project, monkeypatch: pytest.MonkeyPatch) -> "Published":
    """Its live release, in whose home this process then works."""
    import ai_assets

    for name, value in published_project.home.variables().items():
        monkeypatch.setenv(name, value)
    return ai_assets.live("notes", project=published_project.root)


@pytest.fixture(scope="session")
def as_told(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project of `desk_stories`, to be copied."""
    from desk_stories import tell

    return tell(tmp_path_factory.mktemp("told"))


@pytest.fixture
def labelled(project: Project, labelled_project: Project) -> Collection:
    """Two days with three labelled documents each, computed: two requests wait."""
    return project.copy(labelled_project)


@pytest.fixture
def desk(project: Project, labelled: Collection) -> "Desk":
    """What the desk reads from, over two requests that wait."""
    from desks import desk_of

    return desk_of(project)


@pytest.fixture
def bare(project: Project) -> "Desk":
    """A desk over a collection that was declared and never run."""
    from desks import desk_of

    project.declare(stages=[dict(STAGE)])
    return desk_of(project)


@pytest.fixture
def ann(desk: "Desk") -> "Person":
    """An approver of everything."""
    from signing import known

    return known(desk.stores.state, "ann")


@pytest.fixture
def stranger(project: Project) -> "Stranger":
    from strangers import Stranger

    shutil.rmtree(project.root / "collections")
    (project.root / "definitions.py").write_text("")
    return Stranger(project)


@pytest.fixture
def opened(project: Project) -> "Iterator[dg.DagsterInstance]":
    """The Dagster instance of the project."""
    with project.instance() as found:
        yield found


@pytest.fixture(scope="module")
def rehearsal() -> Iterator["Provider"]:
    from provider import Provider

    with Provider() as started:
        yield started


@pytest.fixture(scope="module")
def running() -> Iterator["Provider"]:
    """One that answers at once, for tests that set its pace and faults themselves."""
    from provider import Provider

    with Provider(answers="quick") as started:
        yield started


@pytest.fixture
def provider(rehearsal: "Provider", monkeypatch: pytest.MonkeyPatch) -> "Provider":
    """A provider of models, asked for nothing yet, where the settings look for one."""
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
    rehearsal.reset()
    rehearsal.script([])
    return rehearsal


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of its own, from the Debian package; skipped with a line in the summary where it is not installed."""
    if not is_installed():
        _skip("PostgreSQL is not installed (apt-get install postgresql): its tests did not run")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def skip_loudly_without_chromium() -> None:
    if not CHROMIUM.exists():
        _skip(f"{CHROMIUM} is not installed (apt-get install chromium): no page was tested in a browser")


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables, once per kind, for claims on how they are made."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'state.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database(f"t{uuid.uuid4().hex}")


@pytest.fixture(scope="session")
def postgres_with_tables(postgres: Postgres) -> Postgres:
    """Its database `tables` is a state store that holds nothing: a copy is made sooner than tables are."""
    with closing(StateStore(postgres.database("tables"))) as state, state.read():
        return postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a state store that holds nothing, once per kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{empty_store(tmp_path / 'state' / 'state.db')}"
    server: Postgres = request.getfixturevalue("postgres_with_tables")
    return server.database(f"t{uuid.uuid4().hex}", template="tables")


@pytest.fixture
def state_url(store_url: str) -> str:
    """To be overridden by a module that has another one."""
    return store_url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def each_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Like `store_url`, for the many claims that are seldom other on PostgreSQL: `make test-slow` looks."""
    if request.param == "sqlite":
        return f"sqlite:///{empty_store(tmp_path / 'state' / 'state.db')}"
    server: Postgres = request.getfixturevalue("postgres_with_tables")
    return server.database(f"t{uuid.uuid4().hex}", template="tables")


@pytest.fixture
def llama() -> Iterator[Llama]:
    with serving() as server:
        yield server


@pytest.fixture
def state(state_url: str, tmp_path: Path) -> Iterator[StateStore]:
    with closing(StateStore(state_url, keys=tmp_path / "keys")) as store:
        yield store


def eventually(claim: Callable[[], object], timeout_s: float = 90, *, said: Callable[[], object] | None = None) -> None:
    """Wait until it is so; a claim that does not come true in time is a failure, with what is `said` then.

    The time is that of a machine with nothing else to do; a slow or busy one has three times as long.
    """
    timeout_s *= 3
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, f"not so within {timeout_s:.0f} s{f': {said()}' if said else ''}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _skip(reason: str) -> None:
    """Skip, and say so among the warnings too: a skipped fault test must not go unnoticed."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(reason, stacklevel=2)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts real processes in milliseconds: they are forked from one that has our modules imported."""
    context = multiprocessing.get_context("forkserver")
    # LanceDB itself has threads, which do not survive a fork; what it imports has none and takes most of its time.
    heavy = ["pandas", "pyarrow.dataset", "pyarrow.parquet", "lance_namespace"]
    ours = ["ai_assets.run.refresh", "ai_assets.signoff.publication"]
    tests = ["pytest", "hypothesis", "apprise", "cheaper"]  # what the modules import whose functions run there
    context.set_forkserver_preload([*ours, *heavy, *tests])
    return context


@pytest.fixture
def skip_loudly() -> Callable[[str], None]:
    return _skip


# Where tests write, and which files begin


_KEEPS_NONE = pytest.StashKey[bool]()
MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Of the folder in memory, beside as much again for the programs under test: a worker leaves a few hundred MB."""


def pytest_configure(config: pytest.Config) -> None:
    _keep_bytecode(config)
    _write_to_memory(config)
    gc.disable()  # what is imported while tests are collected stays: a sixth of that time was a search for garbage


def _keep_bytecode(config: pytest.Config) -> None:
    """Where the environment keeps none, each of the hundreds of processes under test would compile all our modules."""
    if not hasattr(config, "workerinput"):
        compile_dir(REPOSITORY / "ai_assets", quiet=2)
    config.stash[_KEEPS_NONE] = sys.dont_write_bytecode
    sys.dont_write_bytecode = False  # while tests are collected: what pytest makes of their files takes it ten seconds


def pytest_collection_finish(session: pytest.Session) -> None:
    """What tests write themselves is compiled as the environment says; what was imported is no garbage."""
    gc.enable()
    gc.freeze()
    sys.dont_write_bytecode = session.config.stash[_KEEPS_NONE]


def _write_to_memory(config: pytest.Config) -> None:
    """Temporary folders are in memory where there is room: what waits for a disk is most of many tests."""
    if config.getoption("basetemp") or "PYTEST_DEBUG_TEMPROOT" in os.environ or hasattr(config, "workerinput"):
        return
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM and psutil.virtual_memory().available > 2 * ROOM:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadFileScheduling | None":
    """The longest files first, so that no worker waits for another one's last file."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    known: dict[str, float] = json.loads(SECONDS.read_text()).get(config.getoption("markexpr"), {})

    class LongestFirst(LoadFileScheduling):
        def _assign_work_unit(self, node: Any) -> None:
            longest = max(self.workqueue, key=lambda file: (known.get(file, math.inf), len(self.workqueue[file])))
            self.workqueue.move_to_end(longest, last=False)
            super()._assign_work_unit(node)

    return LongestFirst(config, log)


# `--until`: a slow machine

TIME_OVER = "not run: --until was reached before it began"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    until: float | None = item.config.getoption("until")
    if until is not None and time.time() >= until:
        pytest.skip(TIME_OVER)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left = [report for report in terminalreporter.getreports("skipped") if TIME_OVER in str(report.longrepr)]
    if not left:
        return
    terminalreporter.section(f"{len(left)} TESTS WERE NOT RUN", yellow=True, bold=True)
    terminalreporter.line(
        "These had not begun at the time of --until, since the machine was slow; nothing is known of them:"
    )
    for file, tests in sorted(Counter(report.nodeid.split("::")[0] for report in left).items()):
        terminalreporter.line(f"  {file} ({tests})")


# `make test-fast`

BESIDE = {"postgres", "provider", "started", "llama", "browser", "page", "chromium", "processes"}
"""Fixtures that start a process, a server or a browser."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="Only tests that start nothing beside themselves.")
    parser.addoption(
        "--until",
        type=float,
        help="In seconds since 1970: what begins later is skipped, and named at the end.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--fast"):
        return
    heavy = (
        "subprocess", "CliRunner", "Commands", "dg.materialize", "execute_in_process", "TestClient", "Visitor",
        "project.execute",
    )  # fmt: skip
    text = {path: path.read_text(encoding="utf-8") for path in {item.path for item in items}}
    left = [
        item
        for item in items
        if BESIDE.isdisjoint(getattr(item, "fixturenames", ()))
        and "postgresql" not in item.name
        and not any(word in text[item.path] for word in heavy)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(left)])
    items[:] = left
