"""Dagster's own tables: whether they are those of the Dagster that is installed, by the revision of its migrations."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import sqlalchemy as sa

from ai_assets.base.environment import LOCAL
from ai_assets.doctor.findings import Finding, fine, warned
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import NoStoreYet, looking, tables_of
from ai_assets.storage.postgres import described

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

PATIENCE = 4
"""Of the time that a check has: Dagster alone takes seconds to import."""
OPEN_S = 5
FILES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
"""Of runs, events and schedules. Each run's own file of events is brought along with the second."""
_REVISION = "SELECT version_num FROM alembic_version"


def look(at: Installation) -> Iterator[Finding]:
    found = list(_revisions(at))
    if not found:
        yield fine("Dagster's tables", "there are none yet")
        return
    migrations = _migrations()
    for where, revision in found:
        yield _told(where, revision, migrations, at)


def _told(where: str, revision: str, migrations: "ScriptDirectory", at: Installation) -> Finding:
    from alembic.script.revision import ResolutionError

    what, head = f"Dagster's tables in {where}", migrations.get_current_head()
    if revision == head:
        return fine(what, f"they are those of this Dagster (revision {revision})")
    try:
        due = len(list(migrations.iterate_revisions(head, revision)))
    except ResolutionError:
        return warned(
            what,
            found=f"a newer Dagster has changed them (revision {revision}, and this one knows {head})",
            fix="Install the Dagster that wrote them (pip install -r requirements.lock), or restore a backup.",
        )
    return warned(
        what,
        found=f"an older Dagster made them: {due} of its migrations are due (revision {revision}, head {head})",
        fix=f"Make a backup, stop `ai-assets up`, then: DAGSTER_HOME={at.home.dagster} dagster instance migrate",
    )


def _migrations() -> "ScriptDirectory":
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from dagster._core.storage.sql import ALEMBIC_SCRIPTS_LOCATION

    config = Config()
    config.set_main_option("script_location", ALEMBIC_SCRIPTS_LOCATION)
    return ScriptDirectory.from_config(config)


def _revisions(at: Installation) -> Iterator[tuple[str, str]]:
    """Where tables are, and the migration that they had last."""
    if at.environment == LOCAL:
        for path in (at.home.dagster / name for name in FILES):
            for revision in _of_file(path):
                yield str(path), revision
        return
    with contextlib.suppress(NoStoreYet), looking(at) as connection:
        if {"alembic_version", "event_logs"} <= tables_of(connection):
            for revision in connection.execute(sa.text(_REVISION)).scalars():
                yield described(at.home.state_url), revision


def _of_file(path: Path) -> list[str]:
    """Of a storage that is made in this moment, or cannot be opened to read, nothing is known."""
    if not path.is_file():
        return []
    place = f"file:{quote(str(path))}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(place, uri=True, timeout=OPEN_S)) as connection:
            return [revision for (revision,) in connection.execute(_REVISION)]
    except sqlite3.Error:
        return []
