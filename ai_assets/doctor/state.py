"""The state store as it is: opened to look, never made or migrated."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.errors import StateUnavailable
from ai_assets.doctor.installation import Installation
from ai_assets.storage.postgres import described, is_postgres
from ai_assets.storage.state import StateStore, refusals_told
from ai_assets.storage.state_reading import reading_engine

CONNECT_S = 5


class NoStoreYet(Exception):
    """The home is new."""


def url_of(at: Installation) -> str:
    assert at.environment
    return at.home.state_url


def file_of(url: str) -> Path | None:
    """Of a store in SQLite."""
    return Path(sa.make_url(url).database or "") if url.startswith("sqlite") else None


@contextlib.contextmanager
def looking(at: Installation) -> Iterator[sa.Connection]:
    """One connection. Raises `NoStoreYet`, or the sentence of whatever keeps the store from being opened."""
    url = url_of(at)
    file = file_of(url)
    if file is None:
        with StateStore.reached(_quick(url)) as connection:
            connection.execute(sa.text(f"SET LOCAL statement_timeout = '{CONNECT_S}s'"))
            yield connection
        return
    if not file.exists():
        raise NoStoreYet
    with refusals_told(url), contextlib.ExitStack() as held:
        try:
            engine, forget = reading_engine(url, lambda _said: None)
        except sqlite3.DatabaseError as error:
            raise StateUnavailable(described(url), f"not a database ({error})") from error
        held.callback(forget)
        held.callback(engine.dispose)
        yield held.enter_context(engine.connect())


def _quick(url: str) -> str:
    """A server that says nothing is given up before this check is."""
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return url  # the store says what is wrong with it
    if not is_postgres(address) or "connect_timeout" in address.query:
        return url
    return address.update_query_dict({"connect_timeout": str(CONNECT_S)}).render_as_string(hide_password=False)


def tables_of(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())
