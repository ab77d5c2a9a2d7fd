"""The state store carried to another database: all rows, in one transaction on either side.

    the target is filled, its digests and its audit chain hold  -> committed, marked as arriving
    the source is marked as moved                               -> committed: nothing writes there any more
    the target's mark is taken down                             -> it is the store

A kill before the first commit leaves the target as it was; one after it is finished, or begun again, by the same
command. The source is locked for writers from the first row on. Dagster's history does not come along (docs/server.md).
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.backup.errors import DigestDiffers, RowsRefused, StoreInUse, TargetOccupied, TargetSame, TargetUnusable
from ai_assets.backup.numbering import copy_numbers
from ai_assets.backup.restoring import up_holder
from ai_assets.base.errors import StateUnavailable
from ai_assets.base.home import Home
from ai_assets.inference import resolving
from ai_assets.inference.ledger import forget_measured
from ai_assets.signoff import verification
from ai_assets.storage import fences, workers
from ai_assets.storage.known_tables import APPLIED, known_tables, tables_there
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.postgres import described, is_postgres, parsed
from ai_assets.storage.postgres_faults import found_in
from ai_assets.storage.state import KEYS_OPTION, StateStore, now, refusals_told

LEFT_BEHIND = frozenset({"leases", "workers", "store_fences", APPLIED})
"""Of processes that have ended, and what each store says of itself."""
_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class MovedTable:
    name: str
    rows: int
    digest: str
    """Of its rows in any order: the SHA-256 of each, added up."""


@dataclass(frozen=True, kw_only=True)
class Move:
    source: str
    target: str
    tables: Sequence[MovedTable]
    """Empty where an earlier attempt had copied them, and only its end was missing."""
    audit_records: int


def move_state(home: Home, to: str, advance: Callable[[str, int, int], None] = lambda *_: None) -> Move:
    """Copy the store of a home to an empty database, and mark the one that was left. `advance`: table, rows, of all."""
    require_movable(home, to)
    source, target = described(home.state_url), described(to)
    with _opened(to) as there:
        if (finished := _finished(home, there, source, target)) is None:
            finished = _copied(home, there, source, target, advance)
        with there.connect().execution_options(sqlite_begin="IMMEDIATE") as connection, connection.begin():
            fences.take_down(connection, fences.ARRIVING)
    return finished


def _copied(home: Home, there: sa.Engine, source: str, target: str, advance: Callable[[str, int, int], None]) -> Move:
    with closing(StateStore(home.state_url, keys=home.keys)) as store, store.write() as connection:
        _refuse_live(connection, source)
        if store.dialect == "postgresql":  # it waits for the other database, which takes as long as it takes
            connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        options: dict[str, Any] = {"sqlite_begin": "IMMEDIATE", KEYS_OPTION: home.keys}
        with there.connect().execution_options(**options) as other, other.begin():
            _make_room(other, source, target)
            tables = list(_fill(connection, other, target, advance))
            copy_numbers(connection, other)
            verified = verification.verify_in(other)
            resolving.reap(other)
            forget_measured(other)
            fences.put(other, fences.ARRIVING, source)
        fences.put(connection, fences.MOVED, target)
    return Move(source=source, target=target, tables=tables, audit_records=verified.records)


def require_movable(home: Home, to: str) -> None:
    """What can be told before anything is touched, or anybody asked."""
    try:
        StateStore.engine_of(to).dispose()
        if is_postgres(parsed(to)):
            with StateStore.reached(to):
                pass
    except StateUnavailable as error:
        raise TargetUnusable(error.store, error.found) from error
    source, target = described(home.state_url), described(to)
    if sa.make_url(home.state_url).set(drivername="x") == sa.make_url(to).set(drivername="x"):
        raise TargetSame(target)
    if holder := up_holder(home):
        raise StoreInUse(source, f"`ai-assets up` runs on it (pid {holder})")


@contextmanager
def _opened(url: str) -> Iterator[sa.Engine]:
    engine = StateStore.engine_of(url)
    try:
        with refusals_told(url):
            yield engine
    finally:
        engine.dispose()


def _finished(home: Home, there: sa.Engine, source: str, target: str) -> Move | None:
    """What an attempt had done that ended between the last two commits."""
    with _opened(home.state_url) as engine, engine.connect() as connection, connection.begin():
        if "store_fences" not in tables_there(connection) or fences.value_of(connection, fences.MOVED) != target:
            return None
    with there.connect() as other, other.begin():
        if "store_fences" not in tables_there(other) or fences.value_of(other, fences.ARRIVING) != source:
            return None
        records: int = other.execute(sa.text("SELECT count(*) FROM audit")).scalar_one()
        return Move(source=source, target=target, tables=(), audit_records=records)


def _refuse_live(connection: sa.Connection, source: str) -> None:
    for row in connection.execute(sa.text("SELECT worker_id, host, process FROM workers")).all():
        if workers.is_live(connection, row.worker_id):
            process = row.process.partition(":")[0]
            raise StoreInUse(source, f"process {process} on {row.host} works with it (a run, or a sensor)")


def _make_room(other: sa.Connection, source: str, target: str) -> None:
    """Empty tables, where there are none or those of an attempt that was killed before the source was marked."""
    found = tables_there(other)
    if found:
        if "store_fences" not in found or fences.value_of(other, fences.ARRIVING) != source:
            raise TargetOccupied(target, found[0])
        cascade = " CASCADE" if other.dialect.name == "postgresql" else ""
        for name in found:
            other.execute(sa.text(f'DROP TABLE "{name}"{cascade}'))
    other.execute(sa.text(f"CREATE TABLE {APPLIED} (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"))
    for name, up in MIGRATIONS:
        up(other)
        other.execute(sa.text(f"INSERT INTO {APPLIED} VALUES (:name, :at)"), {"name": name, "at": now()})  # noqa: S608


def _fill(
    connection: sa.Connection, other: sa.Connection, target: str, advance: Callable[[str, int, int], None]
) -> Iterator[MovedTable]:
    names = [name for name in known_tables() if name not in LEFT_BEHIND]
    sizes = {name: _rows_in(connection, name) for name in names}
    done, total = 0, sum(sizes.values())
    for name in names:
        columns = [column["name"] for column in sa.inspect(connection).get_columns(name)]
        other.execute(sa.text(f'DELETE FROM "{name}"'))  # noqa: S608 - a migration may have put rows in
        left = _Digest()
        for batch in _batches(connection, name, columns):
            left.add(batch)
            _insert(other, name, columns, batch)
            done += len(batch)
            advance(name, done, total)
        right = _Digest()
        for batch in _batches(other, name, columns):
            right.add(batch)
        if (left.rows, left.hex) != (right.rows, right.hex):
            raise DigestDiffers(target, name, left.rows, right.rows)
        yield MovedTable(name=name, rows=left.rows, digest=left.hex)


class _Digest:
    """Of rows in any order, as two databases sort text differently."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, batch: Sequence[Sequence[Any]]) -> None:
        for row in batch:
            text = json.dumps([value.hex() if isinstance(value, bytes) else value for value in row])
            self._sum += int.from_bytes(hashlib.sha256(text.encode()).digest())
            self.rows += 1

    @property
    def hex(self) -> str:
        return f"{self._sum % 2**256:064x}"


def _rows_in(connection: sa.Connection, name: str) -> int:
    return int(connection.execute(sa.text(f'SELECT count(*) FROM "{name}"')).scalar_one())  # noqa: S608


def _batches(connection: sa.Connection, name: str, columns: Sequence[str]) -> Iterator[list[Sequence[Any]]]:
    select = sa.text(f'SELECT {_listed(columns)} FROM "{name}"')  # noqa: S608
    found = connection.execute(select, execution_options={"yield_per": _BATCH})
    for batch in found.partitions():
        yield [tuple(row) for row in batch]


def _insert(other: sa.Connection, name: str, columns: Sequence[str], batch: Sequence[Sequence[Any]]) -> None:
    if other.dialect.name == "sqlite":
        places = ", ".join("?" for _ in columns)
        other.exec_driver_sql(f'INSERT INTO "{name}" ({_listed(columns)}) VALUES ({places})', batch)  # noqa: S608
        return
    driver: Any = other.connection.driver_connection
    import psycopg

    try:
        with driver.cursor() as cursor, cursor.copy(f'COPY "{name}" ({_listed(columns)}) FROM STDIN') as copy:
            for row in batch:
                copy.write_row(row)
    except psycopg.Error as error:
        raise RowsRefused(described(other.engine.url), found_in(error)) from error


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
