"""Making a backup: the state store first, then the files that it names, then the manifest that makes it one."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import yaml

from ai_assets.backup.bucket_data import BucketData
from ai_assets.backup.copied_files import CopiedFiles
from ai_assets.backup.errors import BackupDamaged, BackupFolderInvalid
from ai_assets.backup.home_files import HomeFiles
from ai_assets.backup.manifest import Backup, FileEntry, TenantEntry, collection_of
from ai_assets.backup.state_copy import copy_state
from ai_assets.backup.vault import Vault, vault_place
from ai_assets.backup.vault_bucket import VaultBucket
from ai_assets.base.errors import StateUnavailable
from ai_assets.base.home import KEYS, TRUST_VARIABLE, Home, variable
from ai_assets.retention.sweep import LEASE
from ai_assets.signoff import releases
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.keys import TRUST
from ai_assets.signoff.releases import Release
from ai_assets.storage.data_places import DataPlaces
from ai_assets.storage.leases import hold
from ai_assets.storage.objects import opened_bucket
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores

_STORAGE_KEYS = ("storage", "run_storage", "event_log_storage", "schedule_storage")


@dataclass(frozen=True, kw_only=True)
class BackupResult:
    backup: Backup
    new_bytes: int
    """Written to the folder; the rest was there from earlier backups."""
    pruned: list[str]
    notes: list[str]
    """What is not in the backup, in sentences."""


def make_backup(
    stores: Stores,
    where: str | Path,
    *,
    with_keys: bool = False,
    keep: int | None = None,
    erase: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> BackupResult:
    """Copy the home while others go on using it. Killed at any moment, earlier backups stay whole.

    `where`: a folder, or `s3://bucket/prefix`. `erase`: what `keep` forgets is erased in every version.
    """
    home = stores.home
    _refuse_inside(stores.places, where)
    with Vault.writing(where, say) as vault, vault.place.scratch() as scratch, _nothing_removed(stores, say):
        earlier = _earlier(vault)
        files = HomeFiles(
            home=home,
            places=stores.places,
            keys=_key_files(home, with_keys=with_keys),
            vault=vault,
            scratch=scratch,
            earlier=_by_path(earlier, None),
            state=_state_file(home),
        )
        copied = CopiedFiles()
        files.copy_checkpoints(copied)
        made_at = now()
        say("copying the state store")
        with stores.state.read() as connection:
            needed = set(_files_of_releases(connection, home))
        state = copy_state(stores.state, vault, scratch)
        say("copying files")
        files.copy(copied)
        tenants = []
        for tenant, url in sorted(stores.places.by_tenant.items()):
            say(f"copying files of tenant {tenant}")
            own, known = CopiedFiles(), _by_path(earlier, tenant)
            BucketData(url, vault, scratch, known, places=stores.places, tenant=tenant).copy(own)
            tenants.append(TenantEntry(tenant=tenant, url=url, files=_sorted(own)))
        backup = vault.add(
            Backup(
                backup="",
                made_at=made_at,
                home=str(home.root),
                with_keys=with_keys,
                state=state,
                files=_sorted(copied),
                left_out=sorted(copied.left_out),
                missing=sorted(_missing(needed, copied, tenants, stores.places)),
                tenants=tenants,
            )
        )
        pruned = [] if keep is None else vault.prune(keep, erase=erase)
        return BackupResult(backup=backup, new_bytes=vault.new_bytes, pruned=pruned, notes=list(_notes(home, backup)))


def _refuse_inside(places: DataPlaces, where: str | Path) -> None:
    place, home = vault_place(where), places.home
    if isinstance(place, VaultBucket):
        remedy = "Choose a prefix beside that of the data, best in another bucket"
        if home.data_url is not None and place.bucket.lies_in(opened_bucket(home.data_url)):
            raise BackupFolderInvalid(where, f"it lies in the data of the home, {home.data_url}", remedy)
        for tenant, url in places.by_tenant.items():
            if place.bucket.lies_in(opened_bucket(url)):
                raise BackupFolderInvalid(where, f"it lies in the data of tenant '{tenant}', {url}", remedy)
    elif Path(where).resolve().is_relative_to(home.root.resolve()):
        remedy = "Choose a folder outside the home, best on another disk"
        raise BackupFolderInvalid(where, f"it lies in the home {home.root}", remedy)


def _earlier(vault: Vault) -> Backup | None:
    """The newest one that can be read."""
    for name in reversed(vault.backups()):
        with contextlib.suppress(BackupDamaged):
            return vault.load(name)
    return None


def _by_path(earlier: Backup | None, tenant: str | None) -> dict[str, FileEntry]:
    return {file.path: file for file in earlier.files_of(tenant)} if earlier is not None else {}


def _sorted(copied: CopiedFiles) -> list[FileEntry]:
    return [copied.files[name] for name in sorted(copied.files)]


def _missing(
    needed: Iterable[str], copied: CopiedFiles, tenants: Sequence[TenantEntry], places: DataPlaces
) -> Iterator[str]:
    """What is needed and is not where the data of its collection lies."""
    own = {each.url: {file.path for file in each.files} for each in tenants}
    for path in needed:
        if places.is_known(collection_of(path)):
            url = places.own_url_of(collection_of(path))
            may_be_in = [copied.files if url is None else own[url]]
        else:
            may_be_in = [copied.files, *own.values()]
        if not any(path in files for files in may_be_in):
            yield path


@contextlib.contextmanager
def _nothing_removed(stores: Stores, say: Callable[[str], None]) -> Iterator[None]:
    """Where the store cannot be written, as on a full disk, nothing can be removed by retention either."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(hold(stores.state, LEASE, say=say))
        except StateUnavailable as error:
            say(f"the state store is only read: {error}")
        yield


def _key_files(home: Home, *, with_keys: bool) -> dict[str, Path]:
    """By their names in the backup. The public ones always."""
    declared = variable(TRUST_VARIABLE)
    found = {TRUST: Path(declared).expanduser().absolute() if declared else home.keys / TRUST}
    if with_keys and home.keys.is_dir():
        found |= {path.name: path for path in sorted(home.keys.glob("*.pem"))}
    return {f"{KEYS}/{name}": path for name, path in found.items()}


def _state_file(home: Home) -> Path | None:
    address = sa.make_url(home.state_url)
    return Path(address.database) if address.drivername.startswith("sqlite") and address.database else None


def _files_of_releases(connection: sa.Connection, home: Home) -> Iterator[str]:
    """Of the releases that are live or can be rolled back to. What was altered names nothing that is believed."""
    collections: Sequence[str] = connection.execute(sa.text("SELECT DISTINCT collection FROM releases")).scalars().all()
    with contextlib.suppress(AuditBroken):  # a damaged store is backed up as it is; `audit verify` says what it is
        for collection in collections:
            gone = releases.pruned(connection, collection)
            for number, release in releases.read_all(connection, collection):
                if isinstance(release, Release) and number not in gone:
                    yield from files_of(release, home)


def files_of(release: Release, home: Home) -> Iterator[str]:
    for partition, part in release.parts.items():
        folder = snapshot_folder(home.lake, release.collection, partition)
        for name in part.files:
            yield (folder / name).relative_to(home.root).as_posix()


def _notes(home: Home, backup: Backup) -> Iterator[str]:
    held = {file.path for file in backup.files}
    if elsewhere := _storage_elsewhere(home):
        yield (
            f"Dagster's runs and events are not in the backup: {home.dagster / 'dagster.yaml'} keeps them elsewhere "
            f"({elsewhere}). Back them up with the tools of that database."
        )
    if backup.with_keys:
        yield "PRIVATE KEYS ARE IN THIS BACKUP: whoever reads it can sign records and decisions. Guard it as them."
    elif "keys/trust.json" in held:
        yield (
            "The private keys are not in the backup (add --with-keys). Keep copies of recorder.pem and decision.pem in "
            "another place: a restored home needs them."
        )
    for name in backup.left_out:
        yield f"Not in the backup: {name} is a link or a special file, and those are not followed."
    for name in backup.missing:
        yield f"MISSING: a release names {name}, and the home does not have it. See: ai-assets audit verify"


def _storage_elsewhere(home: Home) -> str | None:
    try:
        declared = yaml.safe_load((home.dagster / "dagster.yaml").read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return ", ".join(key for key in _STORAGE_KEYS if key in declared) or None
