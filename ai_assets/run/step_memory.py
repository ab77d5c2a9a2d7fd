"""How much a step takes at once, after the kernel ended its pod for memory; over all processes, as for devices.

Half of what it took means half as many partitions in memory, and half as many texts to an embedder.
"""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import sqlalchemy as sa

from ai_assets.base.home import Home
from ai_assets.collection.steps import SHARED
from ai_assets.storage.state import StateStore, now, upsert
from ai_assets.storage.stores import Stores

MOST_HALVINGS = 10
TRY_AGAIN_S = 7 * 86_400.0
"""After this the double is tried: documents and limits may have changed."""


@dataclass(frozen=True)
class StepMemory:
    """Of one step of a collection."""

    state: StateStore
    collection: str
    step: str

    @classmethod
    @contextmanager
    def opened(cls, home: Home, step_key: str) -> Iterator[Self]:
        """`step_key` as Dagster names it: `notes__segment`; where that is cut, `notes__segment.notes__embeddings`."""
        collection = step_key.partition("__segment")[0]
        step = step_key.partition(".")[2].removeprefix(f"{collection}__") or f"{SHARED}__1"
        with Stores.at(home) as stores:
            yield cls(stores.state, collection, step)

    def halvings(self) -> int:
        with self.state.read() as connection:
            row = self._row(connection)
        if row is None:
            return 0
        age = datetime.datetime.fromisoformat(now()) - datetime.datetime.fromisoformat(row.ended_at)
        return max(0, int(row.halvings) - int(age.total_seconds() // TRY_AGAIN_S))

    def halved(self, pod: str) -> str:
        """Once for each pod, however often it is looked at; says what follows."""
        known = self.halvings()
        with self.state.write() as connection:
            row = self._row(connection)
            if row is None or row.pod != pod:
                known = min(known + 1, MOST_HALVINGS)
                values = {"halvings": known, "ended_at": now(), "pod": pod}
                upsert(connection, "step_memory", {"collection": self.collection, "step": self.step}, values)
        if known == MOST_HALVINGS:
            return f"It takes 1/{1 << known} of the usual batch already; give it more memory."
        return f"The next try takes 1/{1 << known} of the usual batch."

    def _row(self, connection: sa.Connection) -> "sa.Row[tuple[int, str, str]] | None":
        query = sa.text("SELECT halvings, ended_at, pod FROM step_memory WHERE collection = :c AND step = :s")
        return connection.execute(query, {"c": self.collection, "s": self.step}).one_or_none()
