"""What commands say of assets that wait for their window."""

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ai_assets.base.windows import earliest
from ai_assets.cli.output import console
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.run import window_waits
from ai_assets.run.window_waits import WindowWait
from ai_assets.storage.stores import Stores

MOST_SHOWN = 10


def windows_of(places: Stores, collection: str, partitions: Sequence[str]) -> list[WindowWait]:
    with places.state.read() as connection:
        return [wait for wait in window_waits.waits(connection, collection) if wait.partition in partitions]


def say_windows(places: Stores, waits: Sequence[WindowWait], *, can_wait: bool = False) -> None:
    """A line for each, up to a few; `can_wait`: and how to wait for them here."""
    moment = store_moment(places.state)
    for wait in waits[:MOST_SHOWN]:
        console.print(f"{wait.partition} {wait.asset}: {wait.said(moment)}")
    if len(waits) > MOST_SHOWN:
        console.print(f"... and {len(waits) - MOST_SHOWN} more that wait for a window (--json has all)")
    if waits and can_wait:
        name = waits[0].collection
        console.print(f"The sensor {name}__windows goes on when it opens; or wait here: ai-assets run {name} --wait")


def plain(wait: WindowWait) -> dict[str, Any]:
    """For programs."""
    return {name: value for name, value in asdict(wait).items() if name not in ("declared", "collection")}


def in_words(waits: Sequence[WindowWait], moment: datetime.datetime) -> str | None:
    """Of those that open some day; None where there is none."""
    some = [wait for wait in waits if wait.opens is not None]
    return window_waits.in_words(some, moment) if some else None


def pause_s(waits: Sequence[WindowWait], moment: datetime.datetime, most_s: float) -> float:
    """Until the first opens, and no longer than that."""
    first = earliest(wait.opens for wait in waits)
    left = most_s if first is None else (first.at - moment).total_seconds()
    return min(max(left, 0.1), most_s)
