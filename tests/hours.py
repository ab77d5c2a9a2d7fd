"""What tests of windows share: windows around now, and an engine whose ledger goes by another hour."""

import datetime
import time
from typing import Any

from ai_assets.inference.engine import Engine
from ai_assets.run.context import Work

HOUR = 60


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def around(begins: int, ends: int, **more: Any) -> dict[str, Any]:
    """A window of every day from so many minutes after now to so many after it, by UTC."""
    start, end = (now() + datetime.timedelta(minutes=minute) for minute in (begins, ends))
    return {"from": f"{start:%H:%M}", "to": f"{end:%H:%M}", "timezone": "UTC", **more}


OPEN, CLOSED = (-2 * HOUR, 6 * HOUR), (6 * HOUR, 10 * HOUR)


def opened() -> list[dict[str, Any]]:
    return [around(*OPEN)]


def closed() -> list[dict[str, Any]]:
    return [around(*CLOSED)]


def set_ahead(engine: Engine, minutes: float) -> None:
    """The ledger of this engine, in SQLite, goes by a clock that is so far ahead; for what has begun to ask."""
    engine._turns.clock.set_by(time.time() + minutes * 60)


def closes_after(work: Work, blocks: int) -> None:
    """Each block is looked at twice: before the device is taken, and once it is."""
    asked = 0

    def clock() -> datetime.datetime:
        nonlocal asked
        asked += 1
        return now() + datetime.timedelta(minutes=2 * HOUR if asked > 2 * blocks else 0)

    work.local_models.clock = clock
