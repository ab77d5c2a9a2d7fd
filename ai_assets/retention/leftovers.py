"""What may go: one thing at a time, with its size, and how to remove it."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ai_assets.base.folders import files_below
from ai_assets.base.tenants import NO_TENANTS, Tenants
from ai_assets.collection.loading import Collection
from ai_assets.run.operations import RetentionSettings
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from dagster import DagsterInstance

Kind = Literal["dagster", "releases", "candidates", "index", "litter", "copies", "logs", "rows"]
KINDS: dict[Kind, str] = {
    "dagster": "runs of Dagster with their events and logs",
    "releases": "releases that can no longer be rolled back to",
    "candidates": "files of candidates that were replaced, and of such releases",
    "index": "versions of search indexes",
    "litter": "what killed processes left",
    "copies": "copies on this machine of what the bucket has",
    "logs": "the beginnings of long logs",
    "rows": "expired sessions, failed sign-ins, old messages, dead workers",
}


@dataclass(frozen=True, kw_only=True)
class Leftover:
    kind: Kind
    what: str
    size: int | None
    """Bytes; None where only removing it shows."""
    remove: Callable[[], object] = field(repr=False)
    """Safe against everyone else at that moment: what is needed again by then, or in use, stays."""


@dataclass(frozen=True, kw_only=True)
class RetentionContext:
    """What is looked at, and by which rules."""

    stores: Stores
    settings: RetentionSettings
    collections: Sequence[Collection] = ()
    """Those that are declared; what is left of others stays."""
    tenants: Tenants = NO_TENANTS
    """Some of which keep things as long as they say."""
    instance: "DagsterInstance | None" = None
    moment_s: float = field(default_factory=time.time)

    def settings_of(self, collection: str) -> RetentionSettings:
        """Those of its tenant, where that says something else than all."""
        tenant = next((each.settings.tenant for each in self.collections if each.name == collection), "")
        return self.settings.model_copy(update=dict(self.tenants.settings_of(tenant).retention.said))

    def is_older(self, path: Path, seconds: float) -> bool:
        try:
            return self.moment_s - path.lstat().st_mtime >= seconds
        except OSError:
            return False


def size_of(path: Path) -> int:
    """Of a file, or of all below a folder; links are not followed."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_blocks * 512
    except OSError:
        return 0
    return sum(size_of(each) for each in files_below(path))


def unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
