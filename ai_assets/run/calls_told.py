"""While a run asks models, its sinks hear what the calls come to, also where no answer has come yet."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ai_assets.run.context import Work

EVERY_S = 1.0


@contextmanager
def calls_told(work: Work) -> Iterator[None]:
    """The engine counts; here its counts are taken, a few integers each second."""
    if work.live is None or not work.collection.asks_models:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY_S):
            work.tell_calls()

    looking = threading.Thread(target=look, name="calls told", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        work.tell_calls()
