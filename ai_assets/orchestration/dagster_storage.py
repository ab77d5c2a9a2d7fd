"""Dagster's runs, events and schedules in the PostgreSQL of the state store, where `environment` is not `local`.

`dagster.yaml` names this class and no address: the password stays in the environment. Dagster's tables stand beside
ours in the same schema (no name is in both, held by a test), so one backup of the database has all of it, and a pooler
in transaction mode needs no setting of a session. The three storages of Dagster share one pool in a process, and wait
for a server that restarts as runs do.
"""

from functools import cache, partial
from typing import Any, Self

import sqlalchemy as sa
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage
from dagster_postgres.utils import set_pg_statement_timeout

from ai_assets.base import structured_log
from ai_assets.base.home import Home
from ai_assets.storage.patience import RUN_PATIENCE_S, Patience, wait_for_the_server
from ai_assets.storage.postgres import address_for, engine_of
from ai_assets.storage.state import StateStore

MAIN_TABLES = frozenset({"runs", "event_logs", "jobs"})
"""Of the three storages: what Dagster itself looks for."""
WEB_PATIENCE_S = 5.0
"""Somebody waits for the page."""
_CREATION_LOCK = 726355
"""Beside the one of our own migrations (`ai_assets/storage/state.py`)."""


class _Pooled:
    """A storage of Dagster that uses the engine of this process."""

    _engine: sa.Engine
    patience: Patience

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """The pool is as declared already. Behind a pooler the limit would stay with a session that others get."""
        self.patience.seconds = WEB_PATIENCE_S
        sa.event.listen(self._engine, "connect", partial(_limit, statement_timeout))


class RunRecords(_Pooled, PostgresRunStorage):
    pass


class EventRecords(_Pooled, PostgresEventLogStorage):
    pass


class ScheduleRecords(_Pooled, PostgresScheduleStorage):
    pass


class HomeStorage(DagsterStorage, ConfigurableClass):
    """Opened by Dagster, from `dagster.yaml`."""

    def __init__(self, url: sa.URL, connections: int, create: bool, inst_data: ConfigurableClassData | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inst_data = inst_data
        address = url.render_as_string(hide_password=False)
        engine, patience = _engine(url, connections)
        self._runs = RunRecords(address, create)
        self._events = EventRecords(address, create)
        self._schedules = ScheduleRecords(address, create)
        for storage in (self._runs, self._events, self._schedules):
            storage._engine, storage.patience = engine, patience

    @classmethod
    def at(cls, home: Home, inst_data: ConfigurableClassData | None = None) -> Self:
        """Tables are made by one process, while others that find none wait."""
        state_url = home.state_url
        url = address_for(sa.make_url(state_url), "psycopg2", "dagster")
        connections = home.connections - home.connections // 2
        with StateStore.reached(state_url) as connection:
            if not (create := not _has_tables(connection)):
                return cls(url, connections, create, inst_data)
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"))
            return cls(url, connections, create, inst_data)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        structured_log.begin()  # Dagster's own programs load nothing else of ours
        return cls.at(Home.from_environment(), inst_data)

    @property
    def run_storage(self) -> RunRecords:
        return self._runs

    @property
    def event_log_storage(self) -> EventRecords:
        return self._events

    @property
    def schedule_storage(self) -> ScheduleRecords:
        return self._schedules


@cache
def _engine(url: sa.URL, connections: int) -> tuple[sa.Engine, Patience]:
    """One for this process: Dagster opens and forgets instances as it goes."""
    engine = engine_of(url, driver="psycopg2", connections=connections, isolation_level="AUTOCOMMIT")
    patience = Patience(RUN_PATIENCE_S)
    wait_for_the_server(engine, patience)
    return engine, patience


def _has_tables(connection: sa.Connection) -> bool:
    return set(sa.inspect(connection).get_table_names()) >= MAIN_TABLES


def _limit(statement_timeout_ms: int, connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (served_by,) = cursor.fetchone()
    connection.rollback()
    if served_by == connection.info.backend_pid:
        set_pg_statement_timeout(connection, statement_timeout_ms)
