"""Claims about the rows of what waits for a window, in both databases."""

import datetime
from contextlib import closing

from ai_assets.base.windows import Opening
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.run.window_waits import in_words, keep, take_up, waits
from ai_assets.storage.state import StateStore

NOON = datetime.datetime(2026, 10, 5, 12, tzinfo=datetime.UTC)
NIGHT = Opening(datetime.datetime(2026, 10, 5, 20, tzinfo=datetime.UTC), "Europe/Berlin")


def wait_of(asset: str, opens: Opening | None, documents: int = 3) -> WaitingForWindow:
    return WaitingForWindow(asset, "", opens=opens, moment=NOON, documents=documents)


def test_a_wait_is_kept_until_a_run_takes_it_up(store_url: str) -> None:
    with closing(StateStore(store_url)) as state:
        with state.write() as connection:
            keep(connection, wait_of("kind", NIGHT), "2026-10-05", "notes", "digest", "run-1")
            keep(connection, wait_of("kind", NIGHT, 1), "2026-10-05", "notes", "digest", "run-2")
            keep(connection, wait_of("kind", None), "2026-10-06", "notes", "digest", "run-2")
            keep(connection, wait_of("kind", NIGHT), "2026-10-05", "others", "digest", "run-2")
        with state.read() as connection:
            found = waits(connection, "notes")
        assert [(wait.partition, wait.documents, wait.run_id) for wait in found] == [
            ("2026-10-05", 1, "run-2"), ("2026-10-06", 3, "run-2"),
        ]  # fmt: skip
        assert [wait.opens for wait in found] == [NIGHT, None]
        assert found[0].said(NOON) == "waiting for its window until Mon 22:00 Europe/Berlin, 1 document"
        assert found[1].said(NOON) == "waiting for its window, which never opens, 3 documents"
        assert in_words(found, NOON) == "2 partitions wait for a window, the first until Mon 22:00 Europe/Berlin"
        with state.write() as connection:
            take_up(connection, found[0])
        with state.read() as connection:
            assert [wait.partition for wait in waits(connection, "notes")] == ["2026-10-06"]
            assert len(waits(connection, "others")) == 1


def test_the_moment_is_that_of_the_state_store(store_url: str) -> None:
    with closing(StateStore(store_url)) as state:
        moment = store_moment(state)
        assert moment.utcoffset() == datetime.timedelta()
        assert abs(moment - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=5)
