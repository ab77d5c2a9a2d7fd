"""Claims about reading from a home that cannot be written: a read-only mount, an archive with a WAL, a full disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from backups import in_postgresql
from conftest import DAYS, STAGE, Project, project_at
from provider import Provider
from signing import decide, known
from spent import Spending
from test_judge import INFERENCE

from ai_assets.base.errors import StateTooOld, StateUnavailable, StateUnreadable
from ai_assets.inference import history
from ai_assets.orchestration.in_process import bring_costs_up_to_date as bring_up_to_date
from ai_assets.signoff import given_ratings
from ai_assets.signoff.publication import publish
from ai_assets.signoff.rating_files import sheet
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

DAY = "2026-10-05"
READING: Sequence[tuple[str, ...]] = (
    ("status",), ("status", "notes"), ("status", "--disk"), ("retention", "run", "--dry-run"),
    ("search", "notes", "pump"), ("explain", "notes", f"{DAY}/0.txt"),
    ("audit", "verify"), ("audit", "show"), ("signoff", "list"), ("signoff", "show", "notes", DAY),
    ("releases", "list", "notes"), ("releases", "show", "notes", "1"), ("releases", "at", "notes", "2099-01-01"),
    ("ledger", "list"), ("ledger", "ambiguous"), ("ledger", "budgets"), ("ledger", "reconcile", "--history"),
    ("budget", "show"), ("budget", "history"), ("canary", "status"), ("canary", "changes"),
    ("corrections", "list", "notes"), ("reviewers", "list"), ("plan", "notes"), ("verify",), ("verify", "notes"),
    ("card", "notes"), ("explain", "notes", f"{DAY}/0.txt", "--in-toto"),
    ("touched", "notes", "--model", "builtin/zero-shot"),
    ("inference", "queue"), ("inference", "speed"), ("batches", "list"), ("held", "list"),
    ("golden", "versions", "notes"), ("reviewers", "tokens"), ("reviewers", "sessions"), ("keys", "list"),
    ("retention", "holds"), ("shadow", "list"), ("warehouse", "path"),
)  # fmt: skip
IN_WAL = "only.in.the.wal"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A published collection whose home has a WAL with a person who is not in the store itself, and no -shm."""
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("archive"), patch)
        project.documents(per_day=2)
        collection = project.declare(partitions=dict(DAYS), stages=[dict(STAGE)])
        project.refresh(collection)
        with project.stores() as stores:
            decide(stores.state, collection)
            publish(collection, stores, by="test")
        with closing(StateStore(project.home.state_url)) as state, state.read() as held:
            held.execute(sa.text("SELECT count(*) FROM audit")).scalar_one()  # holds the WAL back
            known(state, IN_WAL)
            copy = project.home.root.with_name("copy")
            shutil.copytree(project.home.root, copy, ignore=shutil.ignore_patterns("*-shm", "languages"))
        assert (copy / "state.db-wal").stat().st_size
        shutil.rmtree(project.home.root)
        copy.rename(project.home.root)
        return project


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A home with paid calls and a warehouse."""
    with pytest.MonkeyPatch.context() as patch, Provider() as provider:
        made = Spending(project=project_at(tmp_path_factory.mktemp("spent"), patch), provider=provider)
        made.everything()
        bring_up_to_date(made.project.home)
        yield made.project


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def rated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A release with a contract, of answers of models that a judge and then a person rated."""
    with pytest.MonkeyPatch.context() as patch, Provider() as provider:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        project = project_at(tmp_path_factory.mktemp("rated"), patch)
        if request.param == "postgresql":
            project = in_postgresql(project, request.getfixturevalue("postgres"), patch)
        (project.root / "inference.yaml").write_text(INFERENCE)
        project.documents(per_day=2, days=1)
        stage = {**STAGE, "route": "default"}
        promised = {"version": 1, "columns": {"kind_label": {"type": "string", "required": True}}}
        collection = project.declare(
            partitions={**DAYS, "end": DAY}, stages=[stage, {"name": "brief", "kind": "summarise", "max_sentences": 1},
            {"name": "rated", "kind": "judge", "of": "brief", "route": "judge"}], contract=promised,
        )  # fmt: skip
        project.refresh(collection)
        stores, rita = project.stores(), known(project.stores().state, "rita", "reviewer")
        for line in sheet(stores, collection, collection.judges[0], 2):
            given_ratings.rate(stores, collection, collection.judges[0], line["document"], line["output"], "4", by=rita)
        decide(stores.state, collection)
        publish(collection, stores, by="test")
        yield project


@dataclass(frozen=True, kw_only=True)
class Said:
    arguments: Sequence[str]
    code: int
    out: str
    error: str


def in_a_place(setup: str, project: Project, commands: Sequence[Sequence[str]], **environment: str) -> list[Said]:
    """What the commands say where `setup`, in mounts of its own, has prepared the home ($HOME_ROOT)."""
    program = (
        "import json, subprocess, sys\n"
        "for arguments in json.loads(sys.argv[2]):\n"
        "    done = subprocess.run([sys.argv[1], *arguments], capture_output=True, text=True, timeout=300)\n"
        "    print(json.dumps([arguments, done.returncode, done.stdout, done.stderr]), flush=True)\n"
    )
    ours = [sys.executable, "-c", program, str(Path(sys.executable).parent / "ai-assets"), json.dumps(commands)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", f'{setup}\nexec "$@"', "sh", *ours],
        cwd=project.root,
        env={
            **{name: value for name, value in os.environ.items() if name != "AI_ASSETS_STATE_URL"},
            "AI_ASSETS_HOME": str(project.home.root),
            "DAGSTER_HOME": str(project.home.dagster),
            "HOME_ROOT": str(project.home.root),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        Said(arguments=each[0], code=each[1], out=each[2], error=each[3])
        for each in map(json.loads, done.stdout.splitlines())
    ]


@pytest.fixture(scope="module")
def mounts() -> None:
    """Root may write wherever permissions forbid it: only a mount is really read-only or full."""
    try:
        subprocess.run(["unshare", "-m", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        from conftest import _skip

        _skip("no mounts of our own are allowed here (unshare -m): read-only and full disks were not tested")


READ_ONLY = 'mount --bind "$HOME_ROOT" "$HOME_ROOT"; mount -o remount,bind,ro "$HOME_ROOT"'
FULL = (
    'cp -a "$HOME_ROOT" "$HOME_ROOT.full"; mount -t tmpfs -o size=24m full "$HOME_ROOT"\n'
    'cp -a "$HOME_ROOT.full/." "$HOME_ROOT"; rm -r "$HOME_ROOT.full"\n'
    'dd if=/dev/zero of="$HOME_ROOT/filler" bs=4k 2>/dev/null || true'
)


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(("setup", "plainly"), [(READ_ONLY, False), (FULL, True)], ids=["read-only", "full"])
def test_every_reading_command_works_and_loses_nothing_of_the_wal(archive: Project, setup: str, plainly: bool) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(archive.home.root.rglob("*")) if path.is_file()}
    commands = [list(arguments) if plainly else [*arguments, "--json"] for arguments in READING]
    for said in in_a_place(setup, archive, commands):
        assert said.code == 0, said
        assert "Traceback" not in said.error, said
        if said.arguments[-1] == "--json":
            json.loads(said.out)
        if said.arguments[:2] == ["reviewers", "list"]:
            assert IN_WAL in said.out
    after = {path: path.stat().st_mtime_ns for path in sorted(archive.home.root.rglob("*")) if path.is_file()}
    assert after == before


@pytest.mark.usefixtures("mounts")
def test_contracts_ratings_and_provenance_are_read_where_nothing_can_be_written(rated: Project) -> None:
    """Of a release whose answers models gave, with its state beside it or in PostgreSQL."""
    with rated.stores().state.read() as connection:
        call = history.attempts(connection, asset="kind", document=f"{DAY}/0.txt")[0].call
    before = {path: path.stat().st_mtime_ns for path in sorted(rated.home.root.rglob("*")) if path.is_file()}
    asked = {
        ("contract", "notes"): "kind_label",
        ("contract", "notes", "--check", "live"): "kept",
        ("contract", "notes", "--json-schema"): "kind_label",
        ("judge", "show", "notes"): "rated",
        ("explain", "notes", f"{DAY}/0.txt"): call,
        ("explain", "notes", f"{DAY}/0.txt", "--in-toto"): "payload",
        ("touched", "notes", "--call", call): f"{DAY}/0.txt",
        ("touched", "notes", "--model", "mini"): f"{DAY}/1.txt",
        ("touched", "notes", "--prompt", "1"): f"{DAY}/1.txt",
        ("releases", "show", "notes", "1"): "kind_label",
        ("audit", "verify"): "",
    }
    declared = {"AI_ASSETS_STATE_URL": url} if (url := rated.home.declared_state_url) else {}
    for said in in_a_place(READ_ONLY, rated, [[*arguments, "--json"] for arguments in asked], **declared):
        assert said.code == 0, said
        assert "Traceback" not in said.error, said
        json.loads(said.out)
        assert asked[tuple(said.arguments[:-1])] in said.out, said
    after = {path: path.stat().st_mtime_ns for path in sorted(rated.home.root.rglob("*")) if path.is_file()}
    assert after == before


@pytest.mark.usefixtures("mounts")
def test_the_doctor_looks_at_a_read_only_home_and_at_a_full_one(archive: Project) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(archive.home.root.rglob("*")) if path.is_file()}
    asked = [["doctor", "--json", "--timeout-s", "25"]]
    for setup, code, check, told in (
        (READ_ONLY, 0, "home", "its disk is mounted read-only"),
        (FULL, 1, "disk", "0 KB of 25.2 MB are free"),
    ):
        (said,) = in_a_place(setup, archive, asked)
        assert said.code == code, said.out
        found = [each for each in json.loads(said.out)["findings"] if each["check"] == check]
        assert any(each["found"] == told for each in found if each["level"] in ("warning", "error")), found
    after = {path: path.stat().st_mtime_ns for path in sorted(archive.home.root.rglob("*")) if path.is_file()}
    assert after == before


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("setup", [READ_ONLY, FULL], ids=["read-only", "full"])
def test_the_costs_are_shown_as_they_were_built_last(spent: Project, setup: str) -> None:
    commands = (["cost", "--json", "--since", "60d"], ["cost", "--as-is", "--since", "60d"], ["ledger", "list"])
    built, *others = in_a_place(setup, spent, commands)
    assert [built.code, *(said.code for said in others)] == [0, 0, 0], (built, others)
    assert float(json.loads(built.out)["totals"]["cost_usd"]) > 0
    assert "Traceback" not in built.error


@pytest.mark.usefixtures("mounts")
def test_a_full_disk_for_temporary_files_too_leaves_memory(archive: Project) -> None:
    fill = 'mount -t tmpfs -o size=64k small "$SMALL"; dd if=/dev/zero of="$SMALL/x" bs=4k 2>/dev/null || true'
    setup = f"{READ_ONLY}\n{fill}"
    small = archive.root / "small"
    small.mkdir(exist_ok=True)
    (said,) = in_a_place(setup, archive, [["reviewers", "list", "--json"]], TMPDIR=str(small), SMALL=str(small))
    assert (said.code, IN_WAL in said.out) == (0, True), said
    assert "a copy of" in said.error


@pytest.mark.usefixtures("mounts")
def test_a_command_that_writes_says_what_stops_it(archive: Project) -> None:
    for said in in_a_place(READ_ONLY, archive, [["reviewers", "disable", IN_WAL], ["run", "notes"]]):
        assert said.code == 2, said
        assert "read-only" in said.error


def copy_of(archive: Project, folder: Path) -> Path:
    for name in ("state.db", "state.db-wal"):
        shutil.copy(archive.home.root / name, folder)
    return folder / "state.db"


def nowhere(_line: str) -> None:
    pass


def test_a_store_that_is_only_read_refuses_a_write(archive: Project, tmp_path: Path) -> None:
    store = copy_of(archive, tmp_path)
    with closing(StateStore.reading(f"sqlite:///{store}", nowhere)) as state:
        with state.read() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM audit")).scalar_one()
        with pytest.raises(StateUnavailable, match="readonly"), state.write() as connection:
            connection.execute(sa.text("DELETE FROM audit"))


def test_an_older_store_that_cannot_be_upgraded_says_what_to_run(archive: Project, tmp_path: Path) -> None:
    store = copy_of(archive, tmp_path)
    with closing(StateStore(f"sqlite:///{store}")) as state, state.write() as connection:
        connection.execute(sa.text("DELETE FROM schema_migrations WHERE name = :n"), {"n": MIGRATIONS[-1][0]})
    with pytest.raises(StateTooOld, match="Run any command once where it can be"):
        StateStore.reading(f"sqlite:///{store}", nowhere)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StateUnreadable, match="there is none yet"):
        StateStore.reading(f"sqlite:///{tmp_path / 'state.db'}", nowhere)
    assert list(tmp_path.iterdir()) == []
