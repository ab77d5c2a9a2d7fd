"""What can be wrong with a backup, or with the place that it is restored to."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ai_assets.base.errors import UserError
from ai_assets.storage.objects import DataStoreUnusable


class BackupFolderInvalid(UserError):
    def __init__(self, folder: Path | str, found: str, remedy: str) -> None:
        super().__init__(f"Backup folder {folder}: {found}. {remedy}")


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
    def __init__(self, where: str, found: str) -> None:
        super().__init__(
            f"{where} is not empty: it has {found}. Set AI_ASSETS_DATA_URL to a prefix with nothing below it, and "
            "restore again; nothing was changed."
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


class TargetOccupied(UserError):
    def __init__(self, target: str, found: str) -> None:
        super().__init__(
            f"{target} is not empty: it has tables of a state store, such as {found}. Give --to an empty database; "
            "nothing was changed."
        )


class DigestDiffers(UserError):
    def __init__(self, target: str, name: str, rows: int, arrived: int) -> None:
        found = f"{rows:,} rows were read and {arrived:,} arrived" if rows != arrived else "their digests differ"
        super().__init__(
            f"Table '{name}' is not the same in {target}: {found}. Nothing was changed, and the old store is still the "
            "one that is used. Please report it, with the versions of both databases."
        )


class RowsRefused(UserError):
    def __init__(self, target: str, found: str) -> None:
        super().__init__(f"{target} does not take the rows: {found}. Nothing was changed, the old store is still used.")


class TenantsHaveBuckets(UserError):
    def __init__(self, places: Mapping[str, str]) -> None:
        named = ", ".join(f"{tenant} ({url})" for tenant, url in sorted(places.items()))
        super().__init__(
            f"A backup has the data of the home and of no tenant that has a bucket of its own: {named}. Nothing "
            "was copied. Protect those buckets by their own means (versions, replication), and the state store by a "
            "dump of PostgreSQL; or keep the data of tenants in the bucket of the home."
        )
