"""Whether files of partitions that are in order are still there: every run looks at some, and goes on where the last
one ended. A look reads a manifest for each asset, which for thousands of partitions would cost more than the run."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence

import sqlalchemy as sa

from ai_assets.storage.state import StateStore, upsert

AT_ONCE = 20
"""Of as many or fewer, all are looked at each time."""


def after(connection: sa.Connection, collection: str) -> str:
    query = sa.text("SELECT after FROM file_looks WHERE collection = :c")
    found: str | None = connection.execute(query, {"c": collection}).scalar_one_or_none()
    return found or ""


def next_of(keys: Sequence[str], last: str) -> list[str]:
    """The keys, which are in order, that come next, and from the beginning after the end."""
    place = bisect_right(keys, last)
    return list(itertools.islice(itertools.chain(keys[place:], keys[:place]), AT_ONCE))


def went_on(state: StateStore, collection: str, keys: Sequence[str]) -> None:
    """A run has looked: the next one begins behind. Where all are looked at each time, nothing is written."""
    if len(keys) <= AT_ONCE:
        return
    with state.write() as connection:
        last = next_of(keys, after(connection, collection))[-1]
        upsert(connection, "file_looks", {"collection": collection}, {"after": last})
