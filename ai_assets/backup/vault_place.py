"""What a vault asks of the place where it is: a folder or a bucket."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as SetOf
from pathlib import Path
from typing import Protocol

from ai_assets.storage.objects import DataBucket

MARKER = "ai-assets-backups.json"
Say = Callable[[str], None]


class VaultPlace(Protocol):
    @property
    def where(self) -> str:
        """As a command takes it."""
        ...

    @property
    def block_bytes(self) -> int: ...

    @property
    def database_block_bytes(self) -> int:
        """Pages of a database change in place here and there: smaller blocks, so that more of them stay the same."""
        ...

    def writing(self, say: Say) -> contextlib.AbstractContextManager[None]:
        """Within it nobody else writes, or whoever does takes over, and this writer can commit nothing more."""
        ...

    def reading(self) -> contextlib.AbstractContextManager[None]: ...

    def failing_as_ours(self) -> contextlib.AbstractContextManager[None]:
        """Whatever the place says becomes an error that says that earlier backups are whole."""
        ...

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A folder for copies of databases; gone afterwards."""
        ...

    def backups(self) -> list[str]:
        """Names of those that are finished, the oldest first."""
        ...

    def manifest(self, name: str) -> bytes:
        """Raises OSError where it cannot be read."""
        ...

    def add(self, name: str, content: bytes) -> None:
        """The manifest makes the backup, in one step, after all of its objects."""
        ...

    def object_name(self, sha256: str) -> str:
        """For a new object."""
        ...

    def size(self, name: str) -> int | None:
        """None where there is no such object."""
        ...

    def put(self, name: str, block: bytes) -> None: ...

    def take(self, source: DataBucket, key: str, name: str, *, proved: bool) -> bool:
        """An object of a bucket as that one of ours, by a copy that the store makes; False where it cannot. `proved`:
        the copy is read where the store does not tell its digest."""
        ...

    def give(self, name: str, target: DataBucket, key: str) -> bool:
        """The same in the other direction. True says that the copy has the digest that its name says."""
        ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """Raises OSError where it cannot be read."""
        ...

    def forget(self, gone: Sequence[str], needed: SetOf[str], *, erase: bool) -> None:
        """These backups, and all objects that are not needed. `erase`: also what the place keeps of deleted ones."""
        ...
