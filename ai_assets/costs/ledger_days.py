"""The ledger, day by day, in the lake: one dataset of the attempts sent that day (UTC), one of the answers reused.

The ledger stays the truth. A copy says of which ledger it is: its manifest holds the sums that the ledger itself had in
the transaction the rows were read in, and what tells later that the day has changed since.
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.costs.day_rows import ATTEMPTS, REUSES, Rows
from ai_assets.inference.prices import NUSD
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Fence, Manifest
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores, record_dataset

if TYPE_CHECKING:
    import pyarrow as pa

COLLECTION = "costs"
ATTEMPTS_ASSET, REUSES_ASSET = "inference_cost", "reuses"
VERSION = "days-2"
"""Of how a day is exported: days of another version are exported again."""
CHUNK_ROWS = 50_000
GRACE_S = 300
"""So long after its end a day may still get an attempt: one whose turn began before midnight, or on a slower clock."""


@dataclass(frozen=True, kw_only=True)
class LedgerDayState:
    """What the ledger says of one day's attempts or reuses. Equal ones are of the same rows, if nobody tampered."""

    rows: int
    in_flight: int = 0
    ambiguous: int = 0
    cost_nusd: int = 0
    maybe_nusd: int = 0
    saved_nusd: int = 0
    newest: str | None


@dataclass(frozen=True, kw_only=True)
class ExportedDay:
    """One day in the lake."""

    day: str
    attempts: Manifest
    reuses: Manifest

    @property
    def version(self) -> str:
        return digest([self.attempts.version, self.reuses.version])

    @property
    def standing(self) -> Mapping[str, int]:
        """Its sums, as the ledger had them when it was read."""
        made, used = self.attempts.stats, self.reuses.stats
        return {
            "attempts": made["rows"],
            "reuses": used["rows"],
            "cost_nusd": made["cost_nusd"],
            "maybe_nusd": made["maybe_nusd"],
            "saved_nusd": used["saved_nusd"],
        }


class LedgerAltered(UserError):
    def __init__(self, day: str, what: str, exported: int, found: int) -> None:
        self.day = day
        super().__init__(
            f"The ledger of {day} was altered: {_amount(what, exported)} when the day was copied, "
            f"{_amount(what, found)} now, and nothing that changes a closed day has happened. The warehouse was not "
            "replaced. If the ledger is right, remove the folders of the day below lake/costs and run again."
        )


def _amount(what: str, value: int) -> str:
    name, _, unit = what.rpartition("_")
    return f"{name} of ${value / NUSD:.9f}" if unit == "nusd" else plural(value, what.removesuffix("s"))


def due_days(stores: Stores, moment: str | None = None) -> list[str]:
    """Days whose copy is missing or differs from the ledger, in order. Indexes only, however long the ledger is."""
    moment = moment or now()
    with stores.state.read() as connection:
        made, used = _newest_by_day(connection, ATTEMPTS), _newest_by_day(connection, REUSES)
        unended = _unended_by_day(connection)
        copies = {
            asset: {row.partition: row for row in connection.execute(_COPIES, {"c": COLLECTION, "asset": asset})}
            for asset in (ATTEMPTS_ASSET, REUSES_ASSET)
        }
    due = []
    for day in sorted(made.keys() | used.keys()):
        copy, other = copies[ATTEMPTS_ASSET].get(day), copies[REUSES_ASSET].get(day)
        if copy is None or other is None or {copy.code_version, other.code_version} != {VERSION}:
            due.append(day)
            continue
        stats, more = json.loads(copy.stats), json.loads(other.stats)
        found = (made.get(day), used.get(day), *unended.get(day, (0, 0)))
        known = (stats["newest"], more["newest"], stats["in_flight"], stats["ambiguous"])
        if found != known or _unclosed(min(stats["read_at"], more["read_at"]), day, moment):
            due.append(day)
    return due


def is_closed(day: str, moment: str) -> bool:
    """No attempt can be added to it any more; those it has may still end."""
    end = datetime.datetime.combine(_next(day), datetime.time(), datetime.UTC)
    return datetime.datetime.fromisoformat(moment) >= end + datetime.timedelta(seconds=GRACE_S)


def _unclosed(read_at: str, day: str, moment: str) -> bool:
    """It was last read before it was closed, and it is closed now."""
    return is_closed(day, moment) and not is_closed(day, read_at)


def _next(day: str) -> datetime.date:
    return datetime.date.fromisoformat(day) + datetime.timedelta(days=1)


def committed(stores: Stores) -> list[ExportedDay]:
    """All days in the lake whose two files are there, as they were written."""
    with stores.state.read() as connection:
        days = connection.execute(_COPIES, {"c": COLLECTION, "asset": ATTEMPTS_ASSET})
        found = [exported(stores, row.partition) for row in days]
    return sorted((item for item in found if item is not None), key=lambda item: item.day)


def lost_days(stores: Stores) -> list[str]:
    """Days that were copied, and whose files are gone or were altered."""
    with stores.state.read() as connection:
        days = [row.partition for row in connection.execute(_COPIES, {"c": COLLECTION, "asset": ATTEMPTS_ASSET})]
    return sorted(day for day in days if exported(stores, day) is None)


def exported(stores: Stores, day: str) -> ExportedDay | None:
    made = stores.lake.manifest(COLLECTION, ATTEMPTS_ASSET, day)
    used = stores.lake.manifest(COLLECTION, REUSES_ASSET, day)
    if made is None or used is None or not all(map(stores.lake.holds, (made, used))):
        return None
    return ExportedDay(day=day, attempts=made, reuses=used)


def export_day(stores: Stores, day: str, run_id: str, fenced: Fence = contextlib.nullcontext) -> ExportedDay:
    """Copy one day of the ledger, as one moment of it. The same rows are the same files.

    Killed between the two files, the day is due again.
    """
    read_at = now()
    with stores.state.read() as connection:
        made, used = (
            _commit(stores, connection, rows, asset, day, run_id, read_at, fenced)
            for rows, asset in ((ATTEMPTS, ATTEMPTS_ASSET), (REUSES, REUSES_ASSET))
        )
    with stores.state.write() as connection:
        for manifest in (made, used):
            record_dataset(connection, manifest)
    return ExportedDay(day=day, attempts=made, reuses=used)


def check_closed(stores: Stores, day: ExportedDay) -> None:
    """Raise LedgerAltered when the ledger of a closed day no longer has the sums its copy was made with.

    What the ledger itself may change (a late answer, a verdict) makes a day due, and is no alteration.
    """
    if not is_closed(day.day, day.attempts.stats["read_at"]):
        return
    for what, was, found in _differences(stores, day):
        if day.day not in due_days(stores):
            raise LedgerAltered(day.day, what, was, found)


def _differences(stores: Stores, day: ExportedDay) -> Iterator[tuple[str, int, int]]:
    """Which sum, what the copy says, what the ledger says now."""
    copies = ((ATTEMPTS, day.attempts, "attempts"), (REUSES, day.reuses, "reuses"))
    with stores.state.read() as connection:
        ledger = [asdict(standing(connection, rows, day.day)) for rows, _, _ in copies]
    for found, (_, manifest, noun) in zip(ledger, copies, strict=True):
        for name in ("rows", "cost_nusd", "maybe_nusd", "saved_nusd"):
            if found[name] != manifest.stats[name]:
                yield noun if name == "rows" else name, manifest.stats[name], found[name]


def standing(connection: sa.Connection, rows: Rows, day: str) -> LedgerDayState:
    found = dict(connection.execute(sa.text(rows.sums), _span(day)).mappings().one())
    newest = found.pop("newest")
    return LedgerDayState(newest=newest, **{name: int(value) for name, value in found.items()})


def _commit(
    stores: Stores,
    connection: sa.Connection,
    rows: Rows,
    asset: str,
    day: str,
    run_id: str,
    read_at: str,
    fenced: Fence,
) -> Manifest:
    import pyarrow as pa

    stats: dict[str, Any] = {**asdict(standing(connection, rows, day)), "read_at": read_at}
    return stores.lake.commit(
        COLLECTION,
        asset,
        day,
        pa.RecordBatchReader.from_batches(rows.schema(), _batches(connection, rows, day)),
        code_version=VERSION,
        fingerprint=digest([VERSION, stats]),
        inputs={},
        stats=stats,
        run_id=run_id,
        fenced=fenced,
    )


def _batches(connection: sa.Connection, rows: Rows, day: str) -> "Iterator[pa.RecordBatch]":
    found = connection.execution_options(stream_results=True).execute(sa.text(rows.select), _span(day))
    for chunk in found.partitions(CHUNK_ROWS):
        yield rows.batch(chunk)


def _span(day: str) -> dict[str, str]:
    return {"start": day, "end": _next(day).isoformat()}


def _newest_by_day(connection: sa.Connection, rows: Rows) -> dict[str, str]:
    return {row.day: row.newest for row in connection.execute(sa.text(rows.days))}


def _unended_by_day(connection: sa.Connection) -> dict[str, Sequence[int]]:
    """Attempts in flight, and ambiguous ones."""
    return {row.day: (int(row.in_flight), int(row.ambiguous)) for row in connection.execute(_UNENDED)}


_COPIES = sa.text("SELECT partition, code_version, stats FROM datasets WHERE collection = :c AND asset = :asset")
_UNENDED = sa.text("""
SELECT substr(sent_at, 1, 10) AS day, sum(CASE WHEN state = 'intent' THEN 1 ELSE 0 END) AS in_flight,
    sum(CASE WHEN state = 'ambiguous' THEN 1 ELSE 0 END) AS ambiguous
FROM attempts WHERE state IN ('intent', 'ambiguous') GROUP BY substr(sent_at, 1, 10)""")
