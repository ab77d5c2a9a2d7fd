"""Claims about backups: whole at any moment, restored elsewhere, and nothing that was answered is paid for again."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from backups import QUERY, command, furnish, other_machine, put_keys, tree, with_store
from conftest import Project, eventually
from engines import asking, one
from provider import Provider
from signing import decide, known

from ai_assets.backup.errors import (
    BackupBusy,
    BackupDamaged,
    BackupFolderInvalid,
    BackupTooNew,
    BackupUnknown,
    DialectDiffers,
    HomeInUse,
    HomeOccupied,
)
from ai_assets.backup.making import BackupResult, make_backup
from ai_assets.backup.restoring import RESTORING, restore
from ai_assets.backup.vault import Vault
from ai_assets.backup.vault_folder import VaultFolder
from ai_assets.base.errors import UserError
from ai_assets.base.processes import identity
from ai_assets.base.temporary import folder_beside
from ai_assets.collection.loading import load_collection
from ai_assets.run.explain import search
from ai_assets.signoff import checkpoints, releases, verification
from ai_assets.signoff.publication import publish
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow


@pytest.fixture
def furnished(project: Project, provider: Provider) -> Project:
    furnish(project)
    return project


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def made(furnished: Project, vault: Path) -> BackupResult:
    return make_backup(furnished.stores(), vault)


def plain(project: Project) -> Project:
    """One document without a model, computed: enough for claims about files."""
    project.documents(per_day=1, days=1)
    project.refresh(project.declare())
    return project


def test_a_home_restored_on_another_machine_runs_and_publishes_and_pays_for_no_answer_again(
    furnished: Project, provider: Provider, tmp_path: Path, vault: Path
) -> None:
    found = search(load_collection(furnished.root / "collections", "notes"), furnished.stores(), QUERY, 5)[1]
    said = command(furnished, "backup", str(vault), "--json")
    assert said.returncode == 0, said.stderr
    other = other_machine(furnished, tmp_path)
    restored = command(other, "restore", str(vault))
    assert restored.returncode == 0, restored.stderr
    for said_of in ("the recorder key", "the decision key", "ai-assets ledger reconcile"):
        assert said_of in restored.stdout
    put_keys(furnished, other)
    billed = provider.stats()["billed"]
    run = command(other, "run", "notes", "--all")
    assert run.returncode == 0, run.stdout + run.stderr
    assert provider.stats()["billed"] == billed > 0
    collection = load_collection(other.root / "collections", "notes")
    stores = other.stores()
    assert search(collection, stores, QUERY, 5)[1] == found
    decide(stores.state, collection)
    assert publish(collection, stores, by="test").release.number == 2
    verification.verify(stores.state)
    verified = command(other, "audit", "verify")
    assert verified.returncode == 0, verified.stderr
    assert provider.stats()["billed"] == billed


def test_a_store_in_postgresql_is_carried_to_another_database_without_pg_dump(
    project: Project, provider: Provider, postgres_with_tables: object, tmp_path: Path, vault: Path,
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", "/nowhere")
    server = request.getfixturevalue("postgres")
    there = with_store(project, server.database("carried_from", template="tables"))
    collection = furnish(there)
    found = search(collection, there.stores(), QUERY, 5)[1]
    with there.stores().state.write() as connection:  # numbers that were given and whose rows are gone
        connection.execute(sa.text("SELECT setval('workers_worker_id_seq', 5000)"))
    before = _tables(there.stores().state)
    make_backup(there.stores(), vault, with_keys=True)
    url = server.database("carried_to")
    other = other_machine(there, tmp_path, url)
    restore(vault, other.home)
    stores = other.stores()
    after = _tables(stores.state)
    assert {name: rows for name, rows in after.items() if name not in ("leases", "workers", "sessions")} == {
        name: rows for name, rows in before.items() if name not in ("leases", "workers", "sessions")
    }
    with hold(stores.state, "number") as lease:
        assert lease.worker_id == 5002
    billed = provider.stats()["billed"]
    other.refresh(load_collection(other.root / "collections", "notes"))
    assert provider.stats()["billed"] == billed
    assert search(collection, stores, QUERY, 5)[1] == found
    verification.verify(stores.state)
    with pytest.raises(HomeOccupied, match="it has tables"):
        restore(vault, replace(other.home, root=tmp_path / "third"))
    assert not (tmp_path / "third").exists()
    again = restore(vault, other.home, replace_home=True)
    assert again.set_aside is not None
    verification.verify(other.stores().state)


def _tables(state: StateStore) -> dict[str, list[tuple[object, ...]]]:
    with state.read() as connection:
        names = sorted(sa.inspect(connection).get_table_names())
        return {
            name: sorted(
                (tuple(row) for row in connection.execute(sa.select("*").select_from(sa.table(name)))), key=repr
            )
            for name in names
        }


def test_calls_that_are_open_at_the_backup_may_have_been_billed_after_the_restore(
    project: Project, tmp_path: Path, vault: Path
) -> None:
    """The process that makes them lives on, on this very machine: for the restored store it does not count."""
    plain(project)
    with Provider(latency_ms=30_000) as slow:
        process = asking(project.home.state_url, one(slow.url), count=4)
        try:
            eventually(lambda: slow.stats()["in_flight"] == 4)
            make_backup(project.stores(), vault)
        finally:
            process.kill()
    other = other_machine(project, tmp_path)
    done = restore(vault, other.home)
    assert done.ambiguous == 4
    assert done.ambiguous_usd > 0
    with other.stores().state.read() as connection:
        assert connection.execute(sa.text("SELECT DISTINCT state FROM attempts")).scalars().all() == ["ambiguous"]
        assert connection.execute(sa.text("SELECT count(*) FROM workers")).scalar_one() == 0
        assert connection.execute(sa.text("SELECT sum(in_flight) FROM endpoints")).scalar_one() == 0


def test_a_second_backup_writes_only_what_is_new_and_old_ones_can_be_forgotten(furnished: Project, vault: Path) -> None:
    first = make_backup(furnished.stores(), vault)
    again = make_backup(furnished.stores(), vault)
    assert again.backup.state.file is not None
    new = again.backup.objects() - first.backup.objects()
    assert new < set(again.backup.state.file.blocks)  # the lease of the backup itself was written; nothing else is new
    assert again.new_bytes == len(new) * VaultFolder.database_block_bytes
    assert again.new_bytes < again.backup.size / 2
    third = make_backup(furnished.stores(), vault, keep=1)
    assert third.pruned == [first.backup.backup, again.backup.backup]
    with Vault.reading(vault) as opened:
        assert opened.backups() == [third.backup.backup]
        opened.verify(opened.load())
        there = {path.parent.name + path.name for path in (vault / "objects").glob("*/*")}
        assert there == opened.load().objects()


def test_the_warehouse_evaluation_indexes_logs_and_private_keys_are_not_in_a_backup(
    made: BackupResult, project: Project
) -> None:
    names = [file.path for file in made.backup.files]
    assert "keys/trust.json" in names
    assert not [name for name in names if name.endswith(".pem") or name.startswith(("warehouse", "logs"))]
    assert not [name for name in names if name.startswith("index/") and "evaluation" in name]
    assert [name for name in names if name.startswith("index/notes/live.lance/data/")]
    assert made.backup.missing == []
    assert any("private keys are not in the backup" in note for note in made.notes)


def test_with_keys_says_so_and_restores_them_closed(furnished: Project, vault: Path, tmp_path: Path) -> None:
    made = make_backup(furnished.stores(), vault, with_keys=True)
    assert any("PRIVATE KEYS" in note for note in made.notes)
    other = other_machine(furnished, tmp_path)
    assert restore(vault, other.home).keys_missing == []
    for path in (other.home.root / "keys").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert other.home.root.stat().st_mode & 0o777 == 0o700


def test_links_are_not_followed_and_are_named(project: Project, tmp_path: Path, vault: Path) -> None:
    plain(project)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "salaries.txt").write_text("of everybody")
    (project.home.root / "lake" / "outside").symlink_to(secret)
    (project.home.root / "report.txt").symlink_to(secret / "salaries.txt")
    made = make_backup(project.stores(), vault)
    assert made.backup.left_out == ["lake/outside", "report.txt"]
    assert not any(b"of everybody" in data for data in tree(vault).values())
    assert sum("is a link" in note for note in made.notes) == 2


def test_a_snapshot_that_a_release_names_and_the_home_lost_is_told_and_the_command_fails(
    furnished: Project, vault: Path
) -> None:
    with furnished.stores().state.read() as connection:
        (part,) = releases.require_live(connection, "notes").parts.values()
    (lost,) = (furnished.home.lake / "notes" / "release_snapshots").glob(f"*/{part.chunks_file}")
    lost.unlink()
    said = command(furnished, "backup", str(vault))
    assert said.returncode == 1
    assert f"MISSING: a release names {lost.relative_to(furnished.home.root)}" in said.stdout


@dataclass(frozen=True, kw_only=True)
class Damage:
    id: str
    do: Callable[[Path], object]
    says: str


def _first_object(vault: Path) -> Path:
    return max((vault / "objects").glob("*/*"), key=lambda path: path.stat().st_size)


def _flip(vault: Path) -> None:
    path = _first_object(vault)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _edit_manifest(vault: Path) -> None:
    (path,) = (vault / "backups").glob("*.json")
    path.write_text(path.read_text().replace("release_candidate", "release_candid4te"))


DAMAGES = [
    Damage(id="a flipped bit", do=_flip, says="now has the digest"),
    Damage(id="a lost object", do=lambda vault: _first_object(vault).unlink(), says="is missing"),
    Damage(id="an edited manifest", do=_edit_manifest, says="not the one that was written"),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.id)
def test_a_damaged_backup_is_found_and_replaces_nothing(
    damage: Damage, made: BackupResult, furnished: Project, vault: Path
) -> None:
    damage.do(vault)
    said = command(furnished, "backup", "--verify", str(vault))
    assert said.returncode == 1
    assert "First difference" in said.stderr
    assert damage.says in said.stderr
    before = tree(furnished.home.root)
    with pytest.raises(BackupDamaged, match=damage.says):
        restore(vault, furnished.home, replace_home=True)
    after = tree(furnished.home.root)
    assert {k: v for k, v in after.items() if "state.db-" not in k} == {
        k: v for k, v in before.items() if "state.db-" not in k
    }
    assert not list(furnished.home.root.parent.glob("*.restoring-*"))


def test_a_restore_removes_what_killed_ones_left_and_nothing_else(
    made: BackupResult, furnished: Project, vault: Path
) -> None:
    root = furnished.home.root
    killed = root.with_name(f"{root.name}.restoring-0a1b2c3d")
    (killed / "lake").mkdir(parents=True)
    other = root.with_name(f"another-{root.name}.restoring-0a1b2c3d")
    other.mkdir()
    with folder_beside(root, RESTORING) as under_way:
        restore(vault, furnished.home, replace_home=True)
        assert (killed.exists(), other.exists(), under_way.exists()) == (False, True, True)
    assert not under_way.exists()


def test_the_next_backup_repairs_what_it_needs_of_a_damaged_one_only_where_the_size_differs(
    made: BackupResult, furnished: Project, vault: Path
) -> None:
    _first_object(vault).write_bytes(b"torn")
    again = make_backup(furnished.stores(), vault)
    with Vault.reading(vault) as opened:
        opened.verify(opened.load(again.backup.backup))


def test_what_is_replaced_is_set_aside_whole(made: BackupResult, furnished: Project, vault: Path) -> None:
    was = {
        name: data for name, data in tree(furnished.home.root).items() if not name.startswith(("state.db", "dagster"))
    }
    with pytest.raises(HomeOccupied):
        restore(vault, furnished.home)
    done = restore(vault, furnished.home, replace_home=True)
    assert done.set_aside is not None
    aside = tree(Path(done.set_aside))
    assert {name: aside[name] for name in was} == was
    assert done.keys_missing == []  # those of the replaced home are of the same chain
    verification.verify(furnished.stores().state)


def test_a_restore_over_a_newer_home_publishes_nothing_until_a_person_accepts_it(
    made: BackupResult, furnished: Project, vault: Path
) -> None:
    known(furnished.stores().state, "zoe")  # records that the backup does not have
    checkpoints.make(furnished.stores())
    restore(vault, furnished.home, replace_home=True)
    stores, collection = furnished.stores(), load_collection(furnished.root / "collections", "notes")
    decide(stores.state, collection)
    with pytest.raises(UserError, match="accept-restored"):
        publish(collection, stores, by="test")
    checkpoints.accept_restored(stores, by="ann", reason="the disk was lost")
    assert publish(collection, stores, by="test").release.number == 2
    verification.verify(stores.state)


def test_a_home_restored_where_there_was_none_needs_no_acceptance(
    made: BackupResult, furnished: Project, tmp_path: Path, vault: Path
) -> None:
    checkpoints.make(furnished.stores())
    make_backup(furnished.stores(), vault, with_keys=True)
    other = other_machine(furnished, tmp_path)
    restore(vault, other.home)
    assert list((other.home.root / "checkpoints").iterdir())
    collection = load_collection(other.root / "collections", "notes")
    decide(other.stores().state, collection)
    assert publish(collection, other.stores(), by="test").release.number == 2


def test_a_home_in_use_is_not_replaced(made: BackupResult, furnished: Project, vault: Path) -> None:
    stores = furnished.stores()
    with hold(stores.state, "work"), pytest.raises(HomeInUse, match="works with its state store"):
        restore(vault, furnished.home, replace_home=True)
    (furnished.home.root / "up.lock").write_text(f"{identity()}\n")
    with pytest.raises(HomeInUse, match="ai-assets up runs on it"):
        restore(vault, furnished.home, replace_home=True)


def test_sessions_end_with_a_restore_and_runs_that_were_under_way_are_reported_failed(
    project: Project, vault: Path, tmp_path: Path
) -> None:
    import dagster as dg

    from ai_assets.orchestration.component import collection_definitions

    plain(project)
    collection = load_collection(project.root / "collections", "notes")
    with project.instance() as opened:
        job = collection_definitions(collection).resolve_job_def("notes")
        run = opened.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    with project.stores().state.write() as connection:
        connection.execute(
            sa.text("INSERT INTO sessions VALUES ('t', 'ann', 'local', '[]', '2026', '2026', '2999', '', '', '')")
        )
    make_backup(project.stores(), vault)
    other = other_machine(project, tmp_path)
    assert restore(vault, other.home).interrupted == [run.run_id]
    with other.instance() as opened:
        found = opened.get_run_by_id(run.run_id)
        assert found is not None
        assert found.status == dg.DagsterRunStatus.FAILURE
    with other.stores().state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM sessions")).scalar_one() == 0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    id: str
    do: Callable[[Project, Path], object]
    error: type[UserError]
    says: str


def _inside(project: Project, _vault: Path) -> None:
    make_backup(project.stores(), project.home.root / "backups")


def _among_others(project: Project, vault: Path) -> None:
    vault.mkdir()
    (vault / "letter.txt").write_text("dear all")
    make_backup(project.stores(), vault)


def _twice_at_once(project: Project, vault: Path) -> None:
    with Vault.writing(vault):
        make_backup(project.stores(), vault)


def _unknown(project: Project, vault: Path) -> None:
    make_backup(project.stores(), vault)
    restore(vault, replace(project.home, root=vault.parent / "new"), which="20200101T000000.000Z-0")


def _of_another_kind(project: Project, vault: Path) -> None:
    make_backup(project.stores(), vault)
    url = "postgresql://keeper@127.0.0.1:1/none"
    restore(vault, replace(project.home, root=vault.parent / "new", declared_state_url=url))


def _newer(project: Project, vault: Path) -> None:
    database = sqlite3.connect(project.home.root / "state.db")
    with database:
        make_backup(project.stores(), vault)
    database.close()
    (path,) = (vault / "backups").glob("*.json")
    found = json.loads(path.read_text())
    found["state"]["migrations"].append("m999_later")
    _rename(path, found)
    restore(vault, replace(project.home, root=vault.parent / "new"))


def _rename(path: Path, found: object) -> None:
    from ai_assets.storage.digest import canonical_json, sha256_hex

    text = canonical_json(found)  # type: ignore[arg-type]
    path.write_text(text)
    path.rename(path.with_name(f"{path.stem.rpartition('-')[0]}-{sha256_hex(text.encode())[:16]}.json"))


def _no_vault(project: Project, vault: Path) -> None:
    restore(vault, project.home, replace_home=True)


REFUSALS = [
    Refusal(id="inside the home", do=_inside, error=BackupFolderInvalid, says="lies in the home"),
    Refusal(id="among other files", do=_among_others, error=BackupFolderInvalid, says="holds other things"),
    Refusal(id="two at once", do=_twice_at_once, error=BackupBusy, says="Another process"),
    Refusal(id="an unknown backup", do=_unknown, error=BackupUnknown, says="does not hold backup '20200101"),
    Refusal(id="another dialect", do=_of_another_kind, error=DialectDiffers, says="holds a sqlite state store"),
    Refusal(id="a newer store", do=_newer, error=BackupTooNew, says="m999_later"),
    Refusal(id="no backups", do=_no_vault, error=BackupFolderInvalid, says="ai-assets-backups.json"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_what_cannot_be_done_is_refused_and_changes_nothing(refusal: Refusal, project: Project, vault: Path) -> None:
    plain(project)
    with pytest.raises(refusal.error, match=refusal.says):
        refusal.do(project, vault)
    assert not (vault.parent / "new").exists()


def test_a_full_backup_disk_leaves_earlier_backups_whole(made: BackupResult, furnished: Project, vault: Path) -> None:
    """A limit on the size of files stands for the disk: every write beyond it fails."""
    (furnished.home.lake / "large.bin").write_bytes(os.urandom(3 << 20))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
        "from ai_assets.cli.app import main; sys.argv = ['ai-assets', 'backup', sys.argv[1]]; main()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(vault)], cwd=furnished.root, capture_output=True, text=True, check=False
    )
    assert said.returncode == 2, said.stderr
    with Vault.reading(vault) as opened:
        assert opened.backups() == [made.backup.backup]
        opened.verify(opened.load())
