"""Dagster's runs, events and schedules in the PostgreSQL of the state store, where `environment` is not `local`.

`dagster.yaml` names this class and no address: the password stays in the environment. Dagster's tables stand beside
ours in the same schema (no name is in both, held by a test), so one backup of the database has all of it, and a pooler
in transaction mode needs no setting of a session.
"""

from typing import Any, Self

import sqlalchemy as sa
from dagster._config.config_schema import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from ai_assets.base.home import Home
from ai_assets.storage.postgres import address_for
from ai_assets.storage.state import StateStore

MAIN_TABLES = frozenset({"runs", "event_logs", "jobs"})
"""Of the three storages: what Dagster itself looks for."""
_CREATION_LOCK = 726355
"""Beside the one of our own migrations (`ai_assets/storage/state.py`)."""


class HomeStorage(DagsterPostgresStorage):
    """Opened by Dagster, from `dagster.yaml`."""

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        return cls.at(Home.from_environment().state_url, inst_data)

    @classmethod
    def at(cls, state_url: str, inst_data: ConfigurableClassData | None = None) -> Self:
        """Tables are made by one process, while others that find none wait."""
        address = address_for(sa.make_url(state_url), "psycopg2", "dagster").render_as_string(hide_password=False)
        with StateStore.reached(state_url) as connection:
            if _has_tables(connection):
                return cls(address, should_autocreate_tables=False, inst_data=inst_data)
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"))
            return cls(address, should_autocreate_tables=True, inst_data=inst_data)


def _has_tables(connection: sa.Connection) -> bool:
    return set(sa.inspect(connection).get_table_names()) >= MAIN_TABLES
