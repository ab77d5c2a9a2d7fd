"""What libraries do slowly on purpose, or again for each run, is cheap in the process that imports this.

A password takes 64 MiB and a fifth of a second of processors to hash, and as long for each sign-in; Dagster reads its
sixty migrations again for the events of each run; SQLAlchemy writes each statement again for each store that is opened.
"""

from collections.abc import Hashable
from functools import cache
from typing import Any

from alembic.script import ScriptDirectory
from argon2 import PasswordHasher
from sqlalchemy import Engine
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.util import LRUCache

from ai_assets.signoff import passwords

at_full_cost = passwords._hasher
"""For claims about what a sign-in takes."""


@cache
def _cheap() -> PasswordHasher:
    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


passwords._hasher = _cheap
setattr(ScriptDirectory, "from_config", cache(ScriptDirectory.from_config))  # noqa: B010 - no method to mypy


class WrittenStatements(LRUCache[Any, Compiled]):
    """Those of all engines of this process: of one kind, version and driver of a database they are the same."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_of_any_engine(key), default)

    def __setitem__(self, key: Any, written: Compiled) -> None:
        super().__setitem__(_of_any_engine(key), written)


def _of_any_engine(key: tuple[Any, ...]) -> Hashable:
    dialect, *statement = key
    return (type(dialect), dialect.server_version_info, *statement)


_WRITTEN = WrittenStatements(4_000)


def _kept(self: Engine) -> WrittenStatements | None:
    return _WRITTEN if vars(self)["_compiled_cache"] is not None else None


def _keep(self: Engine, own: LRUCache[Any, Compiled] | None) -> None:
    vars(self)["_compiled_cache"] = own


setattr(Engine, "_compiled_cache", property(_kept, _keep))  # noqa: B010 - no property to mypy
