"""What libraries do slowly on purpose, or again for each run, is cheap in the process that imports this.

A password takes 64 MiB and a fifth of a second of processors to hash, and as long for each sign-in; Dagster reads its
sixty migrations again for the events of each run.
"""

from functools import cache

from alembic.script import ScriptDirectory
from argon2 import PasswordHasher

from ai_assets.signoff import passwords

at_full_cost = passwords._hasher
"""For claims about what a sign-in takes."""


@cache
def _cheap() -> PasswordHasher:
    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


passwords._hasher = _cheap
setattr(ScriptDirectory, "from_config", cache(ScriptDirectory.from_config))  # noqa: B010 - no method to mypy
