"""Claims about commands that only read: where nothing was run yet they answer, and leave the folder as it was."""

import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import STAGE, Project
from postgres_server import POSTGRES_PASSWORD, Postgres

from ai_assets.cli.commands import LoadedCommands

DAY = "2026-10-05"
READS: Mapping[str, Sequence[str]] = {
    "adapt": ("notes", "--dry-run"), "backup": ("backups", "--list"), "forget": ("notes", f"{DAY}/0.txt", "--dry-run"),
    "targets rebuild": ("notes", "--dry-run"),
    "answer": ("0" * 64,),
    "audit export": ("/dev/null",), "audit prove": ("notes",), "audit show": (), "audit verify": (),
    "batches list": (), "batches show": ("none",),
    "budget history": (), "budget show": (),
    "canary changes": (), "canary status": (),
    "card": ("notes",),
    "contract": ("notes",),
    "corrections export": ("notes",), "corrections list": ("notes",),
    "cost": (),
    "doctor": (),
    "evaluate": ("notes",),
    "explain": ("notes", f"{DAY}/0.txt"),
    "export": ("notes", "exported"),
    "golden export": ("notes",), "golden samples": ("notes",), "golden status": ("notes",),
    "golden versions": ("notes",),
    "held list": (), "held show": ("notes", f"{DAY}/0.txt"), "held thresholds": ("notes",),
    "inference queue": (), "inference speed": (), "inference test": ("--no-call",),
    "judge sheet": ("notes",), "judge show": ("notes",),
    "keys list": (),
    "ledger ambiguous": (), "ledger budgets": (), "ledger list": (), "ledger reconcile": ("--history",),
    "ledger show": ("0" * 64,),
    "migrate": ("notes",),
    "plan": ("notes",),
    "policy test": (), "policy try": ("notes",),
    "releases at": ("notes", "2099-01-01"), "releases diff": ("notes", "1"), "releases documents": ("notes",),
    "releases list": ("notes",), "releases show": ("notes",),
    "retention holds": (), "retention run": ("--dry-run",),
    "reviewers key list": (), "reviewers list": (), "reviewers sessions": (), "reviewers tokens": (),
    "search": ("notes", "pump"),
    "shadow list": (), "shadow show": ("notes", "1"),
    "signoff list": (), "signoff show": ("notes", DAY),
    "status": (), "status --disk": (), "status ntoes": (),
    "touched": ("notes", "--model", "builtin/zero-shot"),
    "verify": (), "verify notes": (),
    "warehouse docs": (), "warehouse path": (), "warehouse sources": (),
}  # fmt: skip
"""By command, what it is given; a word that is misspelt or an option may follow its name."""
WRITES = {
    "adapt", "audit accept-restored", "audit checkpoint", "backfill", "backup", "batches cancel", "batches collect",
    "batches give-up",
    "budget set", "canary accept", "canary run", "corrections import", "deploy migrate", "deploy render", "desk",
    "forget", "golden draw", "golden fit", "golden import", "golden retire", "held decide", "judge import",
    "keys new", "keys revoke", "keys rotate", "keys vouch", "ledger resolve", "migrate-state", "new", "policy init",
    "provider", "publish", "releases rollback", "restore", "retention hold", "retention release-hold",
    "reviewers add", "reviewers disable", "reviewers enable", "reviewers grant", "reviewers group add",
    "reviewers group remove", "reviewers key add", "reviewers key revoke", "reviewers password", "reviewers revoke",
    "reviewers revoke-token", "reviewers sign-out", "reviewers token", "run", "scaffold backend", "scaffold metric",
    "scaffold stage", "serve", "shadow promote", "shadow start", "signoff approve", "signoff ask-again",
    "signoff reject", "signoff send-back", "targets rebuild", "up", "warehouse docs",
}  # fmt: skip


def every_command(found: Mapping[str, Any], *above: str) -> Iterator[str]:
    for name, command in found.items():
        if hasattr(command, "commands"):
            yield from every_command(command.commands, *above, name)
        else:
            yield " ".join((*above, name))


def test_of_every_command_it_is_said_whether_it_reads() -> None:
    known = set(every_command(LoadedCommands()))
    assert known == WRITES | (known & READS.keys())


@pytest.fixture
def fresh(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A collection with documents, where nothing was run."""
    project.declare(stages=[dict(STAGE)])
    project.documents(per_day=1)
    shutil.rmtree(project.home.root)
    for name in project.home.variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # bytecode beside what is imported is Python's, not ours
    return project


def everything_in(folder: Path) -> dict[Path, int]:
    """Without the bytecode of what is imported from there."""
    found = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    return {path: moment for path, moment in found.items() if "__pycache__" not in str(path)}


def test_what_only_reads_makes_nothing(fresh: Project) -> None:
    before = everything_in(fresh.root.parent)
    for command, given in READS.items():
        done = fresh.cli(*command.split(), *given)
        assert everything_in(fresh.root.parent) == before, (command, done)
        assert done.returncode in (0, 1, 2), done
        assert "Traceback" not in done.stderr, done
        assert done.stdout or done.stderr, done


def test_a_backup_of_no_home_is_none(fresh: Project) -> None:
    before = everything_in(fresh.root.parent)
    done = fresh.cli("backup", str(fresh.root / "backups"))
    assert (done.returncode, everything_in(fresh.root.parent)) == (2, before)
    assert f"There is no home at {fresh.root / '.ai-assets'} yet" in done.stderr
    assert "No backup was made, since there is nothing to back up." in done.stderr


def test_the_home_that_was_looked_for_is_named_once(fresh: Project) -> None:
    done = fresh.cli("status", "--json")
    assert json.loads(done.stdout)[0]["live_release"] is None
    assert done.stderr.count(f"There is no home at {fresh.root / '.ai-assets'} yet: the first run makes it.") == 1


def test_definitions_that_record_collections_make_no_home_for_a_command_that_reads(fresh: Project) -> None:
    (fresh.root / "elsewhere").mkdir()
    (fresh.root / "collections").rename(fresh.root / "elsewhere" / "collections")
    text = (
        "from pathlib import Path\nfrom ai_assets import load_collections\n"
        "collections = load_collections(Path(__file__).parent / 'elsewhere' / 'collections')\n"
    )
    (fresh.root / "others.py").write_text(text)
    before = everything_in(fresh.root.parent)
    done = fresh.cli("--file", "others.py", "status", "notes", "--json")
    assert json.loads(done.stdout)[0]["collection"] == "notes", done
    assert everything_in(fresh.root.parent) == before
    done = fresh.cli("--file", "others.py", "reviewers", "add", "ann", "--no-password")
    assert done.returncode == 0, done
    assert (fresh.root / ".ai-assets" / "collections" / "notes.json").is_file()


@pytest.fixture
def empty_database(fresh: Project, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a server that was made for the home and that nothing has used."""
    (fresh.root / "operations.yaml").write_text("environment: server\n")
    url = postgres.database(f"t{uuid.uuid4().hex}")
    monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
    return url


def tables_in(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]


def hold_that_they_make_no_tables(project: Project, url: str, commands: Iterable[str]) -> None:
    before = everything_in(project.root.parent)
    for command in commands:
        done = project.cli(*command.split(), *READS[command])
        assert tables_in(url) == [], (command, done)
        assert everything_in(project.root.parent) == before, (command, done)
        assert done.returncode in (0, 1, 2), done
        assert "Traceback" not in done.stderr, done


FIRST_LOOKS = ("status", "plan", "signoff list", "cost")


def test_who_looks_first_gives_an_empty_database_no_tables(fresh: Project, empty_database: str) -> None:
    hold_that_they_make_no_tables(fresh, empty_database, FIRST_LOOKS)
    done = fresh.cli("status")
    assert "has no tables of ours yet: the first run makes them." in done.stderr, done
    assert POSTGRES_PASSWORD not in done.stderr


@pytest.mark.slow
def test_what_only_reads_gives_an_empty_database_no_tables(fresh: Project, empty_database: str) -> None:
    hold_that_they_make_no_tables(fresh, empty_database, READS.keys() - set(FIRST_LOOKS))


def test_a_backup_of_an_empty_database_is_none(fresh: Project, empty_database: str) -> None:
    done = fresh.cli("backup", str(fresh.root / "backups"))
    assert (done.returncode, tables_in(empty_database)) == (2, [])
    assert "No backup was made, since there is nothing to back up." in done.stderr
