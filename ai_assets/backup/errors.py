"""What can be wrong with a backup, or with the place that it is restored to."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.base.home import DATA_URL_VARIABLE
from ai_assets.base.plural import plural
from ai_assets.storage.objects import DataStoreUnusable


class BackupFolderInvalid(UserError):
    def __init__(self, folder: Path | str, found: str, remedy: str) -> None:
        super().__init__(f"Backup folder {folder}: {found}. {remedy}")


class NothingToBackUp(UserError):
    def __init__(self, nothing: str) -> None:
        """`nothing` says where nothing is."""
        super().__init__(f"{nothing} No backup was made, since there is nothing to back up.")


class BackupUnwritable(UserError):
    def __init__(self, folder: Path | str, error: OSError) -> None:
        super().__init__(
            f"Backup folder {folder} cannot be written: {error.strerror or error}. Earlier backups in it are "
            "unchanged. Free some space or fix the permissions, and run the backup again; what was copied stays."
        )


class BackupStoreFailed(UserError):
    def __init__(self, where: str, error: DataStoreUnusable) -> None:
        self.passes = error.passes
        super().__init__(
            f"Backup folder {where} cannot be used now: {error} Earlier backups in it are unchanged; run the backup "
            "again."
        )


class BackupOvertaken(UserError):
    def __init__(self, where: str) -> None:
        super().__init__(
            f"Another process has begun to write to the backup folder {where}, because this one gave no sign of life "
            "for a minute. Nothing of this backup counts; run it again when the other one has ended."
        )


class DatabaseNotCopied(UserError):
    def __init__(self, source: Path, folder: Path | str, found: str) -> None:
        super().__init__(
            f"The database {source} could not be copied to {folder}: {found}. Earlier backups are unchanged. Look "
            "whether that disk is full, or whether the database itself can be read; then run the backup again."
        )


class BackupBusy(UserError):
    def __init__(self, folder: Path | str) -> None:
        super().__init__(
            f"Another process is writing to the backup folder {folder}, or restores from it. Run this again when "
            "it has ended; nothing was changed."
        )


class BackupUnknown(UserError):
    def __init__(self, folder: Path | str, asked: str | None, known: Sequence[str]) -> None:
        found = f"it holds {', '.join(known[-5:])}" if known else "it holds no backup"
        which = f"backup '{asked}'" if asked else "a backup"
        super().__init__(
            f"{folder} does not hold {which}: {found}. List them: ai-assets backup {shlex.quote(str(folder))} --list"
        )


class BackupDamaged(UserError):
    """Names the first difference."""

    def __init__(self, folder: Path | str, backup: str, what: str, found: str) -> None:
        super().__init__(
            f"Backup {backup} in {folder} is damaged. First difference: {what}: {found}. Nothing was restored. Another "
            f"backup may be whole: ai-assets backup {shlex.quote(str(folder))} --verify --which ID"
        )


class BackupTooNew(UserError):
    def __init__(self, backup: str, found: str) -> None:
        super().__init__(
            f"Backup {backup} was made by a newer version ({found}). Install that version to restore it; nothing was "
            "changed."
        )


class DialectDiffers(UserError):
    def __init__(self, backup: str, held: str, wanted: str) -> None:
        remedy = (
            "Unset AI_ASSETS_STATE_URL"
            if held == "sqlite"
            else "Set AI_ASSETS_STATE_URL to an empty PostgreSQL database"
        )
        super().__init__(
            f"Backup {backup} holds a {held} state store, and it would be restored to {wanted}. A backup is restored "
            f"to the same kind of database. {remedy}, and restore again; nothing was changed."
        )


class HomeOccupied(UserError):
    def __init__(self, place: str, found: str) -> None:
        super().__init__(
            f"{place} is not empty: {found}. Restore to another place with --to, or replace what is there with "
            "--replace: it is set aside, not deleted."
        )


class DataPlaceOccupied(UserError):
    def __init__(self, where: str, tenant: str | None, found: str) -> None:
        name = DATA_URL_VARIABLE if tenant is None else f"tenants.{tenant}.data of operations.yaml"
        super().__init__(
            f"{where} is not empty: {found}. Set {name} to a prefix with nothing below it, and restore again; nothing "
            "was changed."
        )


class TenantPlaceDiffers(UserError):
    def __init__(self, backup: str, collection: str, tenant: str | None, found: str) -> None:
        if tenant is None:
            was, remedy = "lay in the bucket of the home", "Restore without `data` of that tenant, and move it then"
        else:
            was = f"lay in the bucket of tenant '{tenant}'"
            remedy = f"Declare tenants.{tenant}.data, and the collection as of that tenant, and move it then"
        super().__init__(
            f"In backup {backup} the data of '{collection}' {was}, and {found}. {remedy} (docs/tenants.md#data): a "
            "restore puts nothing of one tenant into the place of another. Nothing was changed."
        )


class TenantNotInBackup(UserError):
    def __init__(self, backup: str, tenant: str, there: Sequence[str]) -> None:
        found = f"it has those of {' and '.join(there)}" if there else "it has none of any tenant"
        super().__init__(
            f"Backup {backup} has no bucket of tenant '{tenant}'; {found}. `ai-assets backup --list` shows which there "
            "are, and --which ID takes another one. Nothing was changed."
        )


class HomeNotThere(UserError):
    def __init__(self, nothing: str) -> None:
        """`nothing` says where nothing is."""
        super().__init__(
            f"{nothing} Data of one tenant alone comes back to a home that is there: its state store says what it is. "
            "Restore all of the backup (without --tenant), or look at the address."
        )


class RestoredDataDiffers(UserError):
    def __init__(self, where: str, wanted: int, there: int, first: str) -> None:
        super().__init__(
            f"{where} does not hold what the backup does: {there:,} objects of {wanted:,}, and the first that differs "
            f"is {first}. Somebody else writes there, or removes. The home is as it was; remove what is below that "
            "address, or declare another one, and restore again."
        )


class RestoreOvertaken(UserError):
    def __init__(self, where: str) -> None:
        super().__init__(
            f"Another process restores to {where} as well, and has removed what this one put there. The home is as it "
            "was; let one of them end, and restore again."
        )


class HomeInUse(UserError):
    def __init__(self, place: str, found: str) -> None:
        super().__init__(f"{place} is in use: {found}. Stop it, and restore again; nothing was changed.")


class RestoreUnwritable(UserError):
    def __init__(self, place: Path, error: OSError) -> None:
        super().__init__(
            f"{place} cannot be restored to: {error.strerror or error}. Free some space or fix the permissions, and "
            "restore again; what was there is unchanged."
        )


class StoreInUse(UserError):
    def __init__(self, store: str, found: str) -> None:
        super().__init__(
            f"State store {store} is in use: {found}. Stop it, and move the store then; nothing was changed."
        )


class TargetSame(UserError):
    def __init__(self, target: str) -> None:
        super().__init__(f"{target} is where the state store is already. Give --to the address of an empty database.")


class TargetUnusable(UserError):
    def __init__(self, target: str, found: str) -> None:
        super().__init__(
            f"The {target} of --to cannot be used: {found}. Give --to an empty database, such as "
            "postgresql://user@host/name; nothing was changed."
        )


class TargetOccupied(UserError):
    def __init__(self, target: str, found: str) -> None:
        super().__init__(
            f"{target} is not empty: it has tables of a state store, such as {found}. Give --to an empty database; "
            "nothing was changed."
        )


class DigestDiffers(UserError):
    def __init__(self, target: str, name: str, rows: int, arrived: int) -> None:
        found = (
            f"{plural(rows, 'row was', 'rows were')} read and {arrived:,} arrived"
            if rows != arrived
            else "their digests differ"
        )
        super().__init__(
            f"Table '{name}' is not the same in {target}: {found}. Nothing was changed, and the old store is still the "
            "one that is used. Please report it, with the versions of both databases."
        )


class RowsRefused(UserError):
    def __init__(self, target: str, found: str) -> None:
        super().__init__(f"{target} does not take the rows: {found}. Nothing was changed, the old store is still used.")
