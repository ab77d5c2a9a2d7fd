"""Restoring a backup: everything is copied and checked beside the target first, then it takes its place at once.

A restored store is older than what happened: attempts that were open become ambiguous, workers of the old machine are
gone, people sign in again, and runs that were under way are reported failed.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from ai_assets.backup.errors import (
    DialectDiffers,
    HomeInUse,
    HomeNotThere,
    HomeOccupied,
    RestoreUnwritable,
    TenantNotInBackup,
)
from ai_assets.backup.manifest import Backup
from ai_assets.backup.restoring_data import (
    DataReceivers,
    DataTarget,
    data_targets,
    is_data,
    refuse_signed_elsewhere,
)
from ai_assets.backup.state_copy import load_tables, refuse_unknown, set_aside
from ai_assets.backup.vault import Vault
from ai_assets.base.home import KEYS, Home, variable
from ai_assets.base.plural import plural
from ai_assets.base.processes import is_alive
from ai_assets.base.temporary import TemporaryFolder, folder_beside
from ai_assets.inference import resolving
from ai_assets.inference.batch import jobs
from ai_assets.inference.prices import usd_of
from ai_assets.signoff.keys import KINDS, TRUST, VARIABLES, Kind, Trust
from ai_assets.storage import workers
from ai_assets.storage.known_tables import tables_there
from ai_assets.storage.state import StateStore, now
from ai_assets.storage.stores import is_there, nothing_yet

MESSAGE = "The home was restored from a backup while this run was under way; run it again, nothing paid is repeated"
RESTORING = "restoring"
"""In the name of the folder beside the home in which it is made."""
_OCCUPIED = ("lake", "index", "checkpoints", "desk.key", "state.db", "dagster/history")
"""What only a home that was used has; keys that were put in place before, and empty folders, are welcome."""


@dataclass(frozen=True, kw_only=True)
class RestoreResult:
    backup: Backup
    home: Path
    set_aside: str | None
    """Where the home is that was replaced."""
    ambiguous: int
    """Attempts that were open at the backup, and may have been billed."""
    ambiguous_usd: float
    interrupted: list[str]
    """Runs that were under way, now reported failed."""
    keys_missing: list[str]
    data_url: str | None
    """Where datasets and search indexes are; None where they are in the home."""
    tenants: Sequence["RestoredTenant"]
    """Of those with a bucket of their own."""


@dataclass(frozen=True, kw_only=True)
class RestoredTenant:
    tenant: str
    url: str
    """Where its data is now."""
    files: int
    size: int
    sha256: str
    """As in the backup, so that both can be compared."""


def restore(
    where: str | Path,
    home: Home,
    *,
    which: str | None = None,
    replace_home: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> RestoreResult:
    """Put a backup in the place of `home`, its data into the bucket where that has one. Nothing there is changed before
    all of the backup has proved whole."""
    with Vault.reading(where) as vault:
        backup = vault.load(which)
        refuse_unknown(backup)
        kind = sa.make_url(home.state_url).drivername.partition("+")[0].replace("postgres", "postgresql", 1)
        kind = "postgresql" if kind.startswith("postgresql") else kind
        if kind != backup.state.dialect:
            raise DialectDiffers(backup.backup, backup.state.dialect, kind)
        _refuse_used(home, replace_home=replace_home)
        targets = data_targets(backup, home)
        stamp = now().replace("-", "").replace(":", "")[:15]
        aside = home.root.with_name(f"{home.root.name}.replaced-{stamp}")
        with _staging(home) as staging, DataReceivers.opened(targets, backup, home) as data:
            say(f"copying and checking {plural(backup.file_count, 'file')}")
            data.put(vault, backup, staging)
            _copy_to_disk(vault, backup, home, staging)
            data.fill()
            if kind == "sqlite":
                found = _restore_file(vault, backup, home, staging / "state.db")
            else:
                found = _restore_tables(vault, backup, home, f"replaced_{stamp.lower()}", replace_home=replace_home)
            data.keep()
            was = _swap(home, staging, aside)
            data.release()
    interrupted = _report_interrupted(home)
    return RestoreResult(
        backup=backup,
        home=home.root,
        set_aside=was,
        ambiguous=found.attempts,
        ambiguous_usd=found.usd,
        interrupted=interrupted,
        data_url=home.data_url,
        tenants=[*_restored_tenants(backup, targets)],
        keys_missing=[kind for kind in KINDS if _key_missing(home, kind, backup)],
    )


def restore_tenant(
    where: str | Path,
    home: Home,
    tenant: str,
    *,
    which: str | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> tuple[Backup, RestoredTenant]:
    """The data of one tenant alone, into its bucket, which has to be empty. Home and state store stay as they are."""
    if not is_there(home):
        raise HomeNotThere(nothing_yet(home))
    with Vault.reading(where) as vault:
        backup = vault.load(which)
        targets = [each for each in data_targets(backup, home) if each.tenant == tenant]
        if not targets:
            raise TenantNotInBackup(backup.backup, tenant, sorted(each.tenant for each in backup.tenants if each.files))
        if holder := up_holder(home):
            raise HomeInUse(str(home.root), f"ai-assets up runs on it (pid {holder})")
        _refuse_live(home, replace_home=True)
        with TemporaryFolder("restore") as scratch, DataReceivers.opened(targets, backup, home) as data:
            say(f"copying and checking {plural(len(targets[0].files), 'file')}")
            data.put(vault, backup, scratch)
            data.fill()
            data.keep()
            data.release()
    (found,) = _restored_tenants(backup, targets)
    return backup, found


@contextlib.contextmanager
def _staging(home: Home) -> Iterator[Path]:
    """Beside the home. What killed restores left there goes first."""
    with contextlib.ExitStack() as made:
        with _writing(home.root):
            home.root.parent.mkdir(parents=True, exist_ok=True)
            staging = made.enter_context(folder_beside(home.root, RESTORING))
        yield staging


def _restored_tenants(backup: Backup, targets: Sequence[DataTarget]) -> Iterator[RestoredTenant]:
    urls = {target.tenant: target.url for target in targets}
    for each in backup.tenants:
        if each.tenant in urls:
            yield RestoredTenant(
                tenant=each.tenant, url=urls[each.tenant], files=len(each.files), size=each.size, sha256=each.sha256
            )


@dataclass(frozen=True)
class _OpenAttempts:
    attempts: int
    usd: float


def up_holder(home: Home) -> str | None:
    """The process of an `ai-assets up` that runs on the home."""
    lock = home.root / "up.lock"
    holder = lock.read_text(encoding="utf-8").partition("\n")[0] if lock.is_file() else ""
    return holder.partition(":")[0] if holder and is_alive(holder) else None


def _refuse_used(home: Home, *, replace_home: bool) -> None:
    if holder := up_holder(home):
        raise HomeInUse(str(home.root), f"ai-assets up runs on it (pid {holder})")
    found = [name for name in _OCCUPIED if (home.root / name).exists()]
    if found and not replace_home:
        raise HomeOccupied(str(home.root), f"it has {', '.join(found)}")
    address = sa.make_url(home.state_url)
    if address.drivername.startswith("sqlite"):
        file = Path(address.database or "")
        if file != home.root / "state.db" and file.exists() and not replace_home:
            raise HomeOccupied(str(file), "there is a state store already")
        if not file.exists():
            return
    _refuse_live(home, replace_home=replace_home)


def _refuse_live(home: Home, *, replace_home: bool) -> None:
    """Nobody works with the store that is replaced."""
    engine = StateStore.engine_of(home.state_url)
    try:
        with engine.connect().execution_options(sqlite_begin="DEFERRED") as connection, connection.begin():
            there = tables_there(connection)
            if there and not replace_home:
                raise HomeOccupied(engine.url.render_as_string(), f"it has tables such as {there[0]}")
            if "workers" in there:
                for row in connection.execute(sa.text("SELECT worker_id, host, process FROM workers")).all():
                    if workers.is_live(connection, row.worker_id):
                        found = f"process {row.process.partition(':')[0]} on {row.host} works with its state store"
                        raise HomeInUse(str(home.root), found)
    finally:
        engine.dispose()


def _copy_to_disk(vault: Vault, backup: Backup, home: Home, staging: Path) -> None:
    for entry in backup.files:
        if home.data_url is not None and is_data(entry):
            continue
        path = staging / entry.path
        if not path.resolve().is_relative_to(staging.resolve()):
            raise RestoreUnwritable(path, OSError(0, "the manifest names a file outside the home"))
        with _writing(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            private = entry.path.startswith(f"{KEYS}/") or entry.path == "desk.key"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                for block in vault.read(backup.backup, entry.path, entry.content):
                    file.write(block)
            path.chmod(0o600 if private else entry.mode)


def _restore_file(vault: Vault, backup: Backup, home: Home, path: Path) -> _OpenAttempts:
    if backup.state.file is None:
        raise DialectDiffers(backup.backup, backup.state.dialect, "sqlite")
    with _writing(path), path.open("wb") as file:
        for block in vault.read(backup.backup, "the state store", backup.state.file):
            file.write(block)
    with contextlib.closing(StateStore(f"sqlite:///{path}")) as state, state.write() as connection:
        refuse_signed_elsewhere(connection, backup, home)
        found = _settle(connection)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return found


def _restore_tables(vault: Vault, backup: Backup, home: Home, aside: str, *, replace_home: bool) -> _OpenAttempts:
    """In one transaction: the database holds what it held, or all of the backup."""
    engine = StateStore.engine_of(home.state_url)
    try:
        with engine.connect() as connection, connection.begin():
            if replace_home and tables_there(connection):
                set_aside(connection, aside)
            load_tables(connection, backup, lambda what, content: vault.read(backup.backup, what, content), now())
            refuse_signed_elsewhere(connection, backup, home)
            return _settle(connection)
    finally:
        engine.dispose()


def _settle(connection: sa.Connection) -> _OpenAttempts:
    """What was true of the old machine at that moment is not true of this one now."""
    for table in ("leases", "workers", "sessions"):
        connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608
    # What targets serve is theirs to say: they may have been brought to a later release since.
    connection.execute(sa.text("UPDATE target_states SET serves = NULL, tries = 0, next_try_at = NULL"))
    connection.execute(sa.text("DELETE FROM target_rebuilds WHERE finished_at IS NULL"))
    resolving.reap(connection)
    jobs.after_restore(connection)
    row = connection.execute(
        sa.text("SELECT count(*) AS attempts, COALESCE(sum(reserved_nusd), 0) AS nusd FROM attempts "
                "WHERE state = 'ambiguous'")
    ).one()  # fmt: skip
    return _OpenAttempts(int(row.attempts), usd_of(int(row.nusd)))


def _swap(home: Home, staging: Path, aside: Path) -> str | None:
    """Two renames. Killed between them, the old home is at `aside`, and the new one is not there yet."""
    store = sa.make_url(home.state_url)
    file = Path(store.database or "") if store.drivername.startswith("sqlite") else None
    with _writing(home.root):
        was = None
        if home.root.exists():
            _keep_keys(home.root, staging)
            home.root.replace(aside)
            was = aside
        if file is not None and file != home.root / "state.db":
            file.parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("", "-wal", "-shm"):
                beside = file.with_name(file.name + suffix)
                if beside.exists():
                    beside.replace(file.with_name(f"{file.name}{suffix}.{aside.name.rpartition('.')[2]}"))
            shutil.move(staging / "state.db", file)
        staging.replace(home.root)
    if was is not None and not any((was / name).exists() for name in _OCCUPIED):
        shutil.rmtree(was, ignore_errors=True)
        was = None
    return str(was) if was is not None else None


def _keep_keys(old: Path, staging: Path) -> None:
    """Private keys and checkpoints that are there already, unless they are of another chain than the backup.

    Checkpoints that are newer than the backup make publication refuse until a person accepts the older store.
    """
    ours, theirs = old / KEYS / TRUST, staging / KEYS / TRUST
    if ours.is_file() and theirs.is_file() and Trust.read(ours).chain != Trust.read(theirs).chain:
        return
    for note in sorted((old / "checkpoints").glob("*")):
        if note.is_file() and not (staging / "checkpoints" / note.name).exists():
            (staging / "checkpoints").mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(note, staging / "checkpoints" / note.name)
    for source in sorted((old / KEYS).glob("*.pem")):
        target = staging / KEYS / source.name
        if not target.exists():
            target.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o600)


def _key_missing(home: Home, kind: Kind, backup: Backup) -> bool:
    used = any(file.path.startswith(f"{KEYS}/") for file in backup.files)
    return used and variable(VARIABLES[kind]) is None and not (home.keys / f"{kind}.pem").is_file()


def _report_interrupted(home: Home) -> list[str]:
    """Their processes were on the old machine at the moment of the backup."""
    from dagster import DagsterRunStatus, RunsFilter

    from ai_assets.orchestration.instance import instance

    if not (home.dagster / "history").is_dir():
        return []
    under_way = [
        DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    ]  # fmt: skip
    with instance(home) as opened:
        runs = opened.get_runs(RunsFilter(statuses=under_way))
        for run in runs:
            opened.report_run_failed(run, MESSAGE)
            if opened.event_log_storage.supports_global_concurrency_limits:
                opened.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in runs]


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RestoreUnwritable(place, error) from error


def at(home: Home, root: Path | None) -> Home:
    """The same project with its home at another path."""
    return home if root is None else replace(home, root=root.expanduser().absolute())
