"""Which assets wait for their window, until when, and whether a run can go on. A row stays until a run takes it up."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.plural import plural
from ai_assets.base.windows import Opening, WeeklyHours, common_opening, earliest
from ai_assets.collection.loading import Collection
from ai_assets.collection.stage_windows import ways_of
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.postponed import WaitingForWindow, window_said
from ai_assets.storage.digest import digest
from ai_assets.storage.state import now, upsert

if TYPE_CHECKING:
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.storage.stores import Stores


@dataclass(frozen=True, kw_only=True)
class WindowWait:
    """An asset of a partition whose calls may not leave yet."""

    collection: str
    asset: str
    partition: str
    since: str
    until: str
    """UTC; empty where no window ever opens."""
    timezone: str
    documents: int
    declared: str
    run_id: str

    @property
    def opens(self) -> Opening | None:
        return Opening(datetime.datetime.fromisoformat(self.until), self.timezone) if self.until else None

    def said(self, moment: datetime.datetime) -> str:
        return window_said(self.opens, moment, self.documents)


@dataclass(frozen=True, kw_only=True)
class AssetHours:
    """What decides when an asset may be computed: its own windows, and those of each way to compute it."""

    own: WeeklyHours
    ways: tuple[WeeklyHours, ...]

    @property
    def any(self) -> bool:
        return bool(self.own) or any(self.ways)

    def next_opening(self, moment: datetime.datetime) -> Opening | None:
        """The moment itself while it is open."""
        return earliest(common_opening([self.own, way], moment) for way in self.ways)

    @property
    def declared(self) -> str:
        return digest([self.own.said, [way.said for way in self.ways]])[:16]


def hours_of_asset(collection: Collection, inference: "InferenceSettings", asset: str) -> AssetHours:
    own, ways = ways_of(collection.settings, inference, asset)
    return AssetHours(own=own, ways=tuple(ways))


def keep(
    connection: sa.Connection, wait: WaitingForWindow, partition: str, collection: str, declared: str, run_id: str
) -> None:
    given = {
        "since": now(),
        "until": ""
        if wait.opens is None
        else wait.opens.at.astimezone(datetime.UTC).isoformat(timespec="milliseconds"),
        "timezone": "" if wait.opens is None else wait.opens.timezone,
        "documents": wait.documents,
        "declared": declared,
        "run_id": run_id,
    }
    keys = {"collection": collection, "asset": wait.asset, "partition": partition}
    upsert(connection, "window_waits", keys, given)


def take_up(connection: sa.Connection, wait: WindowWait) -> None:
    """A run looks again: what still waits at its end is kept anew."""
    query = sa.text("DELETE FROM window_waits WHERE collection = :c AND partition = :p AND asset = :a")
    connection.execute(query, {"c": wait.collection, "p": wait.partition, "a": wait.asset})


def waits(connection: sa.Connection, collection: str) -> list[WindowWait]:
    query = sa.text("SELECT * FROM window_waits WHERE collection = :c ORDER BY partition, asset")
    rows: Sequence[Any] = connection.execute(query, {"c": collection}).all()
    return [WindowWait(**row._mapping) for row in rows]


def in_words(found: Sequence[WindowWait], moment: datetime.datetime) -> str:
    """`2 partitions wait for a window, the first until Mon 22:00 Europe/Berlin`."""
    if not found:
        return "no partition waits for a window"
    number = len({wait.partition for wait in found})
    first = earliest(wait.opens for wait in found)
    said = f"{plural(number, 'partition waits', 'partitions wait')} for a window"
    return said if first is None else f"{said}, {'' if number == 1 else 'the first '}until {first.said(moment)}"


def open_waits(collection: Collection, stores: "Stores", found: Sequence[WindowWait]) -> list[WindowWait]:
    """Those that a run can go on with: their window has opened, or other windows are declared by now."""
    if not found:
        return []
    from ai_assets.collection.catalog import Catalog

    moment = store_moment(stores.state)
    try:
        inference = Catalog(stores.home).inference_of(collection.name)
    except DeclarationInvalid:  # no run could go on, and whoever starts one is told
        return []
    known = {asset: hours_of_asset(collection, inference, asset) for asset in {wait.asset for wait in found}}

    def is_open(wait: WindowWait) -> bool:
        return known[wait.asset].declared != wait.declared or (wait.opens is not None and wait.opens.at <= moment)

    return [wait for wait in found if is_open(wait)]


def opened_partitions(collection: Collection, stores: "Stores", found: Sequence[WindowWait] | None = None) -> list[str]:
    """Each of which has an asset that waited, and need not any more. `found`: all that wait, for who has read it."""
    if found is None:
        with stores.state.read() as connection:
            found = waits(connection, collection.name)
    return list(dict.fromkeys(wait.partition for wait in open_waits(collection, stores, found)))
