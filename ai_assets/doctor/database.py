"""The state store: whether it can be reached, written and used by this version, and how its clock goes."""

import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import StateTooNew, UserError
from ai_assets.doctor.clock import skew
from ai_assets.doctor.connections import connections
from ai_assets.doctor.findings import Finding, fine, noted, of_error, warned, wrong
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import NoStoreYet, file_of, looking, tables_of, url_of
from ai_assets.storage import fences
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.postgres import described

OLDEST_POSTGRES = 13
ROLE_ENDS_DAYS = 14


def look(at: Installation) -> list[Finding]:
    url = url_of(at)
    what = f"state store {described(url)}"
    try:
        with looking(at) as connection:
            found = [fine(what, "it answers"), *_schema(connection, what)]
            if connection.dialect.name == "postgresql":
                found += [*_server(connection, what), *connections(connection, at)]
            return found
    except NoStoreYet:
        return [noted(what, found=f"there is no {file_of(url)} yet", fix="The first command that writes makes it.")]


def _schema(connection: sa.Connection, what: str) -> Iterator[Finding]:
    tables, known = tables_of(connection), [name for name, _ in MIGRATIONS]
    if "schema_migrations" not in tables:
        yield noted(what, found="it has no tables yet", fix="The first command makes them.")
        yield from _rights(connection, what, upgrades=True)
        return
    applied = {row.name for row in connection.execute(sa.text("SELECT name FROM schema_migrations"))}
    newer, missing = sorted(applied - set(known)), [name for name in known if name not in applied]
    try:
        if newer:
            raise StateTooNew(what.removeprefix("state store "), newer[0])
        if "store_fences" in tables:
            fences.refuse(what.removeprefix("state store "), fences.found(connection))
    except UserError as error:
        yield of_error(what, error)
        return
    if missing:
        yield noted(
            what,
            found=f"an older version wrote it: {len(missing)} upgrade(s) are due",
            fix="Make a backup; the first command of this version upgrades it (docs/operations.md#upgrade-and-back).",
        )
    else:
        yield fine(what, f"its tables are those of this version ({known[-1]})")
    if connection.dialect.name == "postgresql":
        yield from _rights(connection, what, upgrades=bool(missing))


def _rights(connection: sa.Connection, what: str, *, upgrades: bool) -> Iterator[Finding]:
    if connection.dialect.name != "postgresql":
        return
    if upgrades and not _asked(connection, "SELECT has_schema_privilege(current_schema(), 'CREATE')"):
        yield wrong(
            what,
            found="its user may not make tables there",
            fix="GRANT CREATE ON SCHEMA to it, or let the owner run `ai-assets deploy migrate`.",
        )
    tables = tables_of(connection)
    barred = [
        table
        for table in ("calls", "audit", "budgets")
        if table in tables
        and not all(
            _asked(connection, f"SELECT has_table_privilege('{table}', '{right}')")
            for right in ("SELECT", "INSERT", "UPDATE")
        )
    ]
    if barred:
        yield warned(
            what,
            found=f"its user may not write the table {barred[0]}",
            fix="It does for who only looks; for runs GRANT what docs/server.md says.",
        )


def _server(connection: sa.Connection, what: str) -> Iterator[Finding]:
    number = int(_asked(connection, "SHOW server_version_num")) // 10_000
    if number < OLDEST_POSTGRES:
        yield wrong(
            what,
            found=f"it is PostgreSQL {number}",
            fix=f"Upgrade it: {OLDEST_POSTGRES} is the oldest that is known to work.",
        )
    else:
        size = int(_asked(connection, "SELECT pg_database_size(current_database())"))
        yield fine(what, f"PostgreSQL {number}, {size / 1e6:,.0f} MB")
    if (
        _asked(connection, "SELECT pg_is_in_recovery()")
        or _asked(connection, "SHOW default_transaction_read_only") == "on"
    ):
        yield wrong(
            what,
            found="it is read-only (a replica, or set so)",
            fix="Give AI_ASSETS_STATE_URL the address of the primary.",
        )
    yield from _role(connection)
    before_s = time.time()
    theirs_s = float(_asked(connection, "SELECT extract(epoch FROM clock_timestamp())"))
    after_s = time.time()
    yield from skew("the database", theirs_s - (before_s + after_s) / 2, (after_s - before_s) / 2)


def _role(connection: sa.Connection) -> Iterator[Finding]:
    days = _asked(
        connection,
        "SELECT extract(epoch FROM rolvaliduntil - now()) / 86400 FROM pg_roles "
        "WHERE rolname = current_user AND isfinite(rolvaliduntil)",
    )
    if days is not None and float(days) < ROLE_ENDS_DAYS:
        yield warned(
            "password of the database",
            fix="ALTER ROLE ... VALID UNTIL",
            found=f"it ends in {max(0, float(days)):.0f} day(s), and then nothing can connect",
        )


def _asked(connection: sa.Connection, question: str) -> Any:
    return connection.execute(sa.text(question)).scalar_one_or_none()
