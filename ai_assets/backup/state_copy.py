"""The state store in a backup: a SQLite file by its online backup, PostgreSQL by COPY within one snapshot.

PostgreSQL needs no `pg_dump`, which is often missing or older than the server: our own migrations make the tables, so
only rows have to travel. What is restored is therefore independent of the version of either server.
"""

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import sqlalchemy as sa

from ai_assets.backup.errors import BackupTooNew, DatabaseNotCopied
from ai_assets.backup.manifest import Backup, StateEntry, StoredContent, TableEntry
from ai_assets.backup.vault import Vault
from ai_assets.signoff.audit import GENESIS
from ai_assets.storage.known_tables import known_tables, tables_there
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.state import StateStore

_SPOOLED_BYTES = 64 << 20
_BUSY_S = 60.0
_APPLIED = sa.text("SELECT name FROM schema_migrations ORDER BY name")


def copy_state(state: StateStore, vault: Vault, scratch: Path) -> StateEntry:
    """The store as it is at one moment; writers go on meanwhile."""
    if state.dialect == "sqlite":
        return _copy_file(Path(sa.make_url(state.url).database or ""), vault, scratch)
    with state.read() as connection:
        return _copy_tables(connection, vault, scratch)


def copy_database(source: Path, vault: Vault, scratch: Path) -> StoredContent:
    """A SQLite database that others may be writing."""
    copy = scratch / "copy.db"
    try:
        snapshot(source, copy)
        with copy.open("rb") as file:
            return vault.put(file, vault.place.database_block_bytes)
    finally:
        copy.unlink(missing_ok=True)


def snapshot(source: Path, copy: Path) -> None:
    """All pages in one step: in steps it would begin again at each write of another process."""
    try:
        there = sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, timeout=_BUSY_S)
        with contextlib.closing(there) as database, contextlib.closing(sqlite3.connect(copy)) as target:
            database.backup(target, pages=-1)
    except sqlite3.Error as error:
        if not source.exists():
            raise FileNotFoundError(source) from error
        raise DatabaseNotCopied(source, copy.parent.parent, str(error)) from error


def refuse_unknown(backup: Backup) -> None:
    """Raise where the backup has tables that this version does not know."""
    known = {name for name, _ in MIGRATIONS}
    if unknown := [name for name in backup.state.migrations if name not in known]:
        raise BackupTooNew(backup.backup, f"its state store has '{unknown[0]}', unknown here")


def load_tables(
    connection: sa.Connection, backup: Backup, read: Callable[[str, StoredContent], Iterable[bytes]], now: str
) -> None:
    """Make all tables in an empty PostgreSQL schema and fill them, in the caller's one transaction."""
    refuse_unknown(backup)
    create = "CREATE TABLE schema_migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"
    connection.execute(sa.text(create))
    for name, up in MIGRATIONS:
        if name in backup.state.migrations:
            up(connection)
    for table in backup.state.tables:
        connection.execute(sa.text(f'DELETE FROM "{table.name}"'))  # noqa: S608 - a migration may have put rows in
        columns = ", ".join(f'"{column}"' for column in table.columns)
        with _cursor(connection).copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
            for block in read(f"table {table.name} of the state store", table.content):
                copy.write(block)
    for sequence, last in backup.state.sequences.items():
        connection.execute(sa.text("SELECT setval(:name, :last)"), {"name": f'"{sequence}"', "last": last})
    for name, up in MIGRATIONS:
        if name not in backup.state.migrations:
            up(connection)
            insert = sa.text("INSERT INTO schema_migrations VALUES (:name, :at)")
            connection.execute(insert, {"name": name, "at": now})


def set_aside(connection: sa.Connection, schema: str) -> None:
    """Move our tables, with their indexes and sequences, to a schema of their own."""
    connection.execute(sa.text(f'CREATE SCHEMA "{schema}"'))
    for name in tables_there(connection):
        connection.execute(sa.text(f'ALTER TABLE "{name}" SET SCHEMA "{schema}"'))


def _copy_file(path: Path, vault: Vault, scratch: Path) -> StateEntry:
    copy = scratch / "state.db"
    snapshot(path, copy)
    try:
        with contextlib.closing(sqlite3.connect(copy)) as database:
            migrations = [row[0] for row in database.execute("SELECT name FROM schema_migrations ORDER BY name")]
            last = database.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        with copy.open("rb") as file:
            stored = vault.put(file, vault.place.database_block_bytes)
    finally:
        copy.unlink(missing_ok=True)
    records, head = last or (0, GENESIS)
    return StateEntry(
        dialect="sqlite", migrations=migrations, file=stored, tables=[], sequences={}, audit_records=records,
        audit_head=head,
    )  # fmt: skip


def _copy_tables(connection: sa.Connection, vault: Vault, scratch: Path) -> StateEntry:
    """Within the caller's REPEATABLE READ transaction: every table is of the same moment."""
    last = connection.execute(sa.text("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")).one_or_none()
    migrations: Sequence[str] = (
        connection.execute(sa.text("SELECT name FROM schema_migrations ORDER BY name")).scalars().all()
    )
    tables = [_copy_table(connection, name, vault, scratch) for name in tables_there(connection)]
    # Numbers are given outside transactions: read last, they are not below any that was copied.
    sequences = connection.execute(
        sa.text(
            "SELECT s.relname, pg_sequence_last_value(s.oid) AS last FROM pg_class s "
            "JOIN pg_depend d ON d.objid = s.oid AND d.deptype = 'a' JOIN pg_class t ON t.oid = d.refobjid "
            "WHERE s.relkind = 'S' AND t.relname = ANY(:tables) AND t.relnamespace = to_regnamespace(current_schema())"
        ),
        {"tables": list(known_tables())},
    ).all()
    return StateEntry(
        dialect="postgresql",
        migrations=list(migrations),
        file=None,
        tables=tables,
        sequences={row.relname: int(row.last) for row in sequences if row.last is not None},
        audit_records=last.seq if last else 0,
        audit_head=last.hash if last else GENESIS,
    )


def _copy_table(connection: sa.Connection, name: str, vault: Vault, scratch: Path) -> TableEntry:
    columns = [column["name"] for column in sa.inspect(connection).get_columns(name)]
    quoted = ", ".join(f'"{column}"' for column in columns)
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES, dir=str(scratch)) as spool:
        with _cursor(connection) as cursor:
            with cursor.copy(f'COPY "{name}" ({quoted}) TO STDOUT') as copy:
                for piece in copy:
                    spool.write(piece)
            rows = cursor.rowcount
        spool.seek(0)
        stored = vault.put(_bytes_of(spool), vault.place.database_block_bytes)
    return TableEntry(name=name, columns=columns, rows=rows, content=stored)


def _bytes_of(spool: Any) -> IO[bytes]:
    found: IO[bytes] = spool
    return found


def _cursor(connection: sa.Connection) -> Any:
    return connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
