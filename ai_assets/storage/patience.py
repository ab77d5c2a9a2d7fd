"""Waiting for a PostgreSQL that was there and has gone: it restarts, or another takes its place."""

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import StateUnavailable
from ai_assets.storage.postgres import described
from ai_assets.storage.postgres_faults import found_in, may_pass

RUN_PATIENCE_S = 300.0
"""So long runs wait, and what Dagster writes of them."""
POLL_S = 0.5


@dataclass
class Patience:
    seconds: float


def wait_for_the_server(engine: sa.Engine, patience: Patience) -> None:
    """Every new connection of the engine is tried for so long; then one sentence says what was found."""

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: object, arguments: Any, named: Any) -> Any:
        deadline = time.monotonic() + patience.seconds
        while True:
            try:
                return dialect.connect(*arguments, **named)
            except dialect.loaded_dbapi.OperationalError as error:
                if may_pass(error) and time.monotonic() < deadline:
                    time.sleep(POLL_S)
                    continue
                raise StateUnavailable(described(engine.url), found_in(error)) from error
