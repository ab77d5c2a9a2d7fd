"""While a run asks models, its page says what is in flight: a tag that changes with it, and now and then a line."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ai_assets.base.errors import StateUnavailable
from ai_assets.base.money import in_full
from ai_assets.base.plural import plural

if TYPE_CHECKING:
    import dagster as dg

    from ai_assets.inference.in_flight import InFlight
    from ai_assets.storage.state import StateStore

IN_FLIGHT_TAG = "ai_assets/in_flight"
"""Of a run: what a kill at this moment can make somebody pay for again. After a kill it is what was in flight then."""
LOOK_S = 5.0
SAY_S = 60.0


@contextlib.contextmanager
def in_flight_told(context: "dg.AssetExecutionContext", state: "StateStore") -> Iterator[None]:
    """One query on an index every few seconds; nothing is written while nothing changes."""
    stopped = threading.Event()
    told = _StatusLine(context)
    looking = threading.Thread(
        target=_look, args=(told, state, context.run.run_id, stopped), name="in flight", daemon=True
    )
    looking.start()
    try:
        yield
    finally:
        stopped.set()
        looking.join()
        told.end()


def _look(told: "_StatusLine", state: "StateStore", run_id: str, stopped: threading.Event) -> None:
    from ai_assets.inference.in_flight import in_flight

    while not stopped.wait(LOOK_S):
        try:
            with state.read() as connection:
                found = in_flight(connection, run_id=run_id)
        except StateUnavailable:
            continue  # the calls themselves wait for it, and say so if it does not come back
        told.tell(found)


class _StatusLine:
    """What the page says, and since when."""

    def __init__(self, context: "dg.AssetExecutionContext") -> None:
        self._say: Callable[[str], None] = context.log.info
        self._context = context
        self._tag: str | None = None
        self._said_at = 0.0

    def tell(self, found: "InFlight") -> None:
        words = in_words(found)
        if words == self._tag or (self._tag is None and not found.calls and not found.maybe_attempts):
            return
        self._write(words)
        if time.monotonic() - self._said_at >= SAY_S:
            self._said_at = time.monotonic()
            self._say(f"In flight: {words}")

    def end(self) -> None:
        if self._tag is not None:
            self._write("no call")

    def _write(self, words: str) -> None:
        self._tag = words
        self._context.instance.add_run_tags(self._context.run.run_id, {IN_FLIGHT_TAG: words})


def in_words(found: "InFlight") -> str:
    calls = "no call" if not found.calls else plural(found.calls, "call")
    reserved = f", {in_full(found.reserved_usd)} reserved" if found.calls else ""
    maybe = f"; {in_full(found.maybe_usd)} may have been billed" if found.maybe_attempts else ""
    return f"{calls}{reserved}{maybe}"
