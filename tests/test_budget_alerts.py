"""Claims about alerts of budgets: each share is told once, whoever looks at once or is killed, to whom it should."""

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from signing import somebody
from test_budgets import EVERYTHING, declared, set_to, spend
from test_notices import DESK, Receiver, failing, receiving, states

from ai_assets.costs import alerts
from ai_assets.costs.alerts import Alert
from ai_assets.inference.settings import InferenceSettings
from ai_assets.signoff import outbox
from ai_assets.signoff.delivery import DeliveryCounts, deliver
from ai_assets.storage.state import StateStore

NUSD = 10**9
CENT = NUSD // 100
NOON = "2026-11-21T12:00:00.000+00:00"
LATER = "2026-11-21T13:00:00.000+00:00"
ROW = "everything/2026-11"
TOLD = declared({**EVERYTHING, "notify": ["team"]})
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def team(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TEAM_URL", receiver.url)
    return {"team": "TEAM_URL"}


def shares(given: list[Alert]) -> list[int]:
    return [alert.percent for alert in given]


def titles(state: StateStore) -> list[str]:
    with state.read() as connection:
        return list(connection.execute(sa.text("SELECT title FROM notices ORDER BY made_at, title")).scalars())


# What is told


def test_a_share_that_is_reached_is_told_once_with_its_figures(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    spend(state, ROW, spent=399 * CENT, reserved=50 * CENT)
    assert shares(alerts.give(state, TOLD, NOON)) == [50]
    spend(state, ROW, spent=392 * CENT, held=10 * CENT)
    assert shares(alerts.give(state, TOLD, LATER)) == [80]
    assert [alerts.give(state, TOLD, LATER) for _ in "ab"] == [[], []]
    assert titles(state)[-1] == "Budget everything: 80 % of $5.00 used ($4.02, $0.98 left until 1 December)"
    with state.write() as connection:
        connection.execute(sa.text("UPDATE notices SET state = 'moot' WHERE title LIKE '%79%'"))
    assert deliver(state, team, LATER, desk_url=DESK) == DeliveryCounts(messages=1)
    assert deliver(state, team, "2026-11-22T13:00:00.000+00:00", desk_url=DESK) == DeliveryCounts()
    (got,) = receiver.got
    assert got["title"] == titles(state)[-1]
    lines = got["message"].splitlines()
    assert lines[:3] == [
        "$3.92 are spent, $0.10 may have been billed (ai-assets ledger ambiguous). The limit is what inference.yaml "
        "declares.",
        "A call that might cost more than is left is not made, and scheduled runs wait then. It starts over on "
        "1 December.",
        "Raise it: ai-assets budget set everything --limit-usd USD --reason WHY",
    ]
    assert lines[3] == f"{DESK}/costs"


def test_of_several_shares_at_once_only_the_highest_is_told_and_all_are_remembered(state: StateStore) -> None:
    spend(state, ROW, spent=5 * NUSD)
    assert shares(alerts.give(state, TOLD, NOON)) == [50, 80, 100]
    assert titles(state) == ["Budget everything: 100 % of $5.00 used ($5.00, $0.00 left until 1 December)"]
    with state.read() as connection:
        assert [(alert.percent, alert.limit_nusd) for alert in alerts.alerts(connection)] == [
            (50, 5 * NUSD), (80, 5 * NUSD), (100, 5 * NUSD),
        ]  # fmt: skip


def test_a_share_is_counted_in_whole_numbers(state: StateStore) -> None:
    settings = declared({**EVERYTHING, "limit_usd": 1, "alert_at": [29], "notify": ["team"]})
    spend(state, ROW, spent=29 * CENT - 1)
    assert alerts.give(state, settings, NOON) == []
    spend(state, ROW, spent=29 * CENT)
    assert shares(alerts.give(state, settings, NOON)) == [29]
    assert titles(state) == ["Budget everything: 29 % of $1.00 used ($0.29, $0.71 left until 1 December)"]


def test_another_limit_has_alerts_of_its_own(state: StateStore) -> None:
    spend(state, ROW, spent=4 * NUSD)
    assert shares(alerts.give(state, TOLD, NOON)) == [50, 80]
    set_to(state, TOLD, "10")
    assert alerts.give(state, TOLD, NOON) == []
    set_to(state, TOLD, "2")
    assert shares(alerts.give(state, TOLD, NOON)) == [50, 80, 100]
    assert titles(state)[-1].startswith("Budget everything: 80 %")
    assert "Budget everything: 200 % of $2.00 used ($4.00, $0.00 left until 1 December)" in titles(state)
    set_to(state, TOLD, None)
    assert alerts.give(state, TOLD, NOON) == []


def test_a_new_period_has_alerts_of_its_own(state: StateStore) -> None:
    spend(state, ROW, spent=4 * NUSD)
    alerts.give(state, TOLD, NOON)
    december = "2026-12-01T00:00:00.000+00:00"
    assert alerts.give(state, TOLD, december) == []
    spend(state, "everything/2026-12", spent=3 * NUSD)
    assert shares(alerts.give(state, TOLD, december)) == [50]


def test_each_holder_is_told_of_apart_and_a_limit_of_nothing_only_once_it_is_passed(state: StateStore) -> None:
    settings = declared(
        {"name": "teams", "limit_usd": 2, "each": "tenant", "notify": ["team"]}, {"name": "none", "limit_usd": 0},
        {"name": "runs", "limit_usd": 1, "each": "run"}, {"name": "quiet", "limit_usd": 1, "alert_at": []},
    )  # fmt: skip
    for row in ("runs/ever/a", "quiet/ever", "teams/ever/legal"):
        spend(state, row, spent=NUSD)
    spend(state, "teams/ever/claims", spent=NUSD // 2)
    spend(state, "none/ever")
    assert [(alert.budget, alert.percent) for alert in alerts.give(state, settings, NOON)] == [("teams/ever/legal", 50)]
    assert titles(state) == ["Budget teams (legal): 50 % of $2.00 used ($1.00, $1.00 left)"]
    spend(state, "none/ever", spent=1)
    assert shares(alerts.give(state, settings, NOON)) == [50, 80, 100]


def test_many_alerts_are_one_letter_and_sign_off_does_not_drop_them(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    settings = declared({"name": "teams", "limit_usd": 1, "each": "tenant", "notify": ["team"]})
    for name in "abc":
        spend(state, f"teams/ever/{name}", spent=NUSD)
    alerts.give(state, settings, NOON)
    with state.write() as connection:
        outbox.drop_decided(connection)
    assert deliver(state, team, NOON, desk_url=DESK).messages == 1
    (got,) = receiver.got
    assert got["title"] == "Budgets: 3 shares of limits were reached"
    assert got["message"].splitlines()[:4] == [
        *(f"- Budget teams ({name}): 100 % of $1.00 used ($1.00, $0.00 left)" for name in "abc"), f"{DESK}/costs",
    ]  # fmt: skip
    assert set(states(state)) == {"sent"}


def test_without_an_address_the_command_is_named(state: StateStore, receiver: Receiver, team: dict[str, str]) -> None:
    spend(state, ROW, spent=5 * NUSD)
    alerts.give(state, TOLD, NOON)
    deliver(state, team, NOON)
    assert "Look: ai-assets budget show" in receiver.got[0]["message"]


def test_a_channel_that_fails_is_tried_again_and_shown(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    receiver.status = 500
    spend(state, ROW, spent=5 * NUSD)
    alerts.give(state, TOLD, NOON)
    assert deliver(state, team, NOON) == DeliveryCounts(failed=1)
    assert "error=500" in failing(state)["team"]
    receiver.status = 200
    assert deliver(state, team, LATER) == DeliveryCounts(messages=1)


def test_who_set_the_limit_is_told(state: StateStore) -> None:
    set_to(state, TOLD, "4", somebody("ada", "admin"))
    spend(state, ROW, spent=4 * NUSD)
    alerts.give(state, TOLD, NOON)
    with state.read() as connection:
        body = connection.execute(sa.text("SELECT body FROM notices")).scalar_one()
    assert "The limit is what ada set." in body
    assert "No call is made from it any more, and scheduled runs that need it wait." in body


# Exactly once


def give_when_told(url: str, settings: InferenceSettings, gate: Barrier, said: Connection) -> None:
    state = StateStore(url)
    gate.wait(60)
    said.send(len(alerts.give(state, settings, NOON)))


@pytest.fixture
def many(state: StateStore) -> InferenceSettings:
    for number in range(30):
        spend(state, f"teams/ever/t{number}", spent=NUSD)
    return declared({"name": "teams", "limit_usd": 1, "each": "tenant", "notify": ["team"]})


def test_two_processes_at_once_give_each_alert_once(
    state: StateStore, many: InferenceSettings, processes: ForkServerContext
) -> None:
    gate, lines = processes.Barrier(2), [processes.Pipe() for _ in "ab"]
    both = [processes.Process(target=give_when_told, args=(state.url, many, gate, ours)) for _, ours in lines]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(theirs.recv() for theirs, _ in lines) == [0, 90]
    assert len(titles(state)) == 30
    with state.read() as connection:
        assert len(alerts.alerts(connection)) == 90


def give_slowly(url: str, settings: InferenceSettings, said: Connection) -> None:
    """The same, with a pause before each message, so that it can be killed between two."""
    state, make = StateStore(url), outbox.make

    def slowly(*what: Any) -> int:
        said.send("making")
        time.sleep(0.2)
        return make(*what)

    outbox.make = slowly  # type: ignore[assignment]
    alerts.give(state, settings, NOON)


def test_a_process_killed_in_the_middle_leaves_nothing_half_told(
    state: StateStore, many: InferenceSettings, processes: ForkServerContext
) -> None:
    theirs, ours = processes.Pipe()
    doomed = processes.Process(target=give_slowly, args=(state.url, many, ours))
    doomed.start()
    for _ in range(3):
        assert theirs.poll(30)
        theirs.recv()
    assert doomed.pid is not None
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    assert titles(state) == []
    assert len(alerts.give(state, many, NOON)) == 90
    assert len(titles(state)) == 30


# What it takes


def test_looking_writes_nothing_while_nothing_is_new(state: StateStore, many: InferenceSettings) -> None:
    alerts.give(state, many, NOON)
    with state.write():  # whoever wanted to write would wait for this one
        assert alerts.give(StateStore(state.url), many, NOON) == []


def test_the_figures_of_the_ledger_are_what_is_told(project: Project) -> None:
    state = project.stores().state
    spend(state, ROW, spent=4_021_300_000)
    alerts.give(state, TOLD, NOON)
    assert titles(state) == ["Budget everything: 80 % of $5.00 used ($4.02, $0.979 left until 1 December)"]
