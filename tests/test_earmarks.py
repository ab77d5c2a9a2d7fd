"""Claims about money set aside: only the backfill uses it, over all processes, and what it does not need goes back."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from engines import (
    CALLER,
    PRICE,
    Asking,
    ask,
    asking,
    attempts,
    check_books,
    dead_worker,
    endpoint,
    question,
    questions,
    rows,
)
from engines import settings as inference
from provider import Provider
from test_budget import claim

from ai_assets.inference import earmarks, history
from ai_assets.inference.accounts import Account, of_backfill
from ai_assets.inference.earmarks import CannotSetAside, Earmarks, close, set_aside
from ai_assets.inference.errors import BackfillSpent, BudgetExhausted
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_messages import AttemptEnd, BudgetShortage, Intent, Parcel
from ai_assets.inference.records import Answer, Caller
from ai_assets.inference.resolving import Resolution, resolve
from ai_assets.inference.settings import InferenceSettings, TokenPrice
from ai_assets.storage.state import StateStore, now, upsert

pytestmark = pytest.mark.slow

NUSD = 10**9
DEAR: Mapping[str, Any] = {"from": "2026-01-01", "input": 20, "output": 20}
FAULTS = {"rate_limited": 0.03, "server_error": 0.03, "reset_after": 0.01, "hang": 0.004, "garbage": 0.005}
RETRIED = ("rate_limited", "server_error", "timeout", "connection_lost", "garbled")
ALL = "all/ever"


@pytest.fixture(scope="module")
def dear() -> Iterator[Provider]:
    options: dict[str, Any] = {"price_input": 20, "price_output": 20, "hang_s": 2, "retry_after_s": 0.02}
    with Provider(answers="quick", latency_ms=5, **options) as running:
        yield running


def declared(provider: Provider, limit_usd: float, **more: Any) -> InferenceSettings:
    retries = {"all": {error: {"attempts": 3, "base_s": 0.01, "cap_s": 0.05} for error in RETRIED}}
    mini = endpoint(provider.url, prices=[dict(DEAR)], timeout_s=0.5, **more)
    return inference({"mini": mini}, budgets=[{"name": "all", "limit_usd": limit_usd}], retries=retries)


def start(connection: sa.Connection, backfill: str, cap_nusd: int, *, budget: str = ALL, limit_nusd: int) -> None:
    """An open backfill with all of its cap set aside in one budget."""
    drawn = Account(budget=budget, name=budget.partition("/")[0], limit_nusd=limit_nusd)
    set_aside(connection, backfill, cap_nusd, {drawn: cap_nusd})
    values = {"collection": "notes", "partitions": "[]", "assets": "[]", "cap_nusd": cap_nusd, "plan": "{}"}
    upsert(
        connection,
        "backfills",
        {"backfill": backfill},
        {**values, "state": "open", "made_by": "ann", "made_at": now()},
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_others_never_use_what_is_set_aside_and_the_backfill_never_more_than_its_cap(
    kind: str, dear: Provider, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    state_url = f"sqlite:///{tmp_path}/state.db"
    if kind == "postgresql":
        state_url = request.getfixturevalue("postgres").database("earmarks")
    dear.reset()
    dear.configure(fault=FAULTS)
    limit, cap, each = 0.4, 0.15, 250
    settings = declared(dear, limit)
    with StateStore(state_url).write() as connection:
        start(connection, "b1", int(cap * NUSD), limit_nusd=int(limit * NUSD))
    whose = ("b1", "b1", "", "")
    processes = [
        Asking(state_url, settings, first=number * each, count=each, run_id=f"run-{backfill}", backfill=backfill)
        for number, backfill in enumerate(whose)
    ]
    for process in processes:
        process.ready().go()
    processes[1].process.kill()  # what it had in flight is found by the others
    most = 0
    state = StateStore(state_url)
    while any(process.process.poll() is None for process in processes):
        with state.read() as connection:
            for row in connection.execute(sa.text(_USED)):
                most = max(most, row.used)
                assert row.earmarked_nusd >= 0
        time.sleep(0.002)
    state.close()
    processes[1].kill()
    backfilled, *ordinary = (process.said() for place, process in enumerate(processes) if place != 1)
    assert backfilled["raised"].startswith("BackfillSpent: Backfill b1 is over or at its cap"), backfilled
    for each_said in ordinary:
        assert each_said["raised"].startswith("BudgetExhausted: Budget 'all' (all/ever) is used up"), each_said
    assert most <= limit * NUSD
    found = check_books(state_url)
    theirs = found["backfill/b1"].spent_nusd + found["backfill/b1"].held_nusd
    assert 0.9 * cap * NUSD < theirs <= cap * NUSD
    others = found[ALL].spent_nusd + found[ALL].held_nusd - theirs
    assert others <= (limit - cap) * NUSD
    assert {row.prompt for row in attempts(state_url)} == {""}


_USED = "SELECT spent_nusd + reserved_nusd + held_nusd + earmarked_nusd AS used, earmarked_nusd FROM budgets"


@pytest.fixture
def store(state_url: str) -> Iterator[StateStore]:
    opened = StateStore(state_url)
    yield opened
    opened.close()


def opened_for(store: StateStore, ledger: Ledger, key: str, reserve: int, backfill: str) -> Intent | BudgetShortage:
    with store.write() as connection:
        ((decision,),) = ledger.apply(connection, [Parcel(claims=[claim(key, reserve, ("all",), backfill)])], 1)
    assert isinstance(decision, Intent | BudgetShortage)
    return decision


def end(store: StateStore, ledger: Ledger, intent: Intent | BudgetShortage, cost: int | None) -> None:
    assert isinstance(intent, Intent)
    state: Any = "ambiguous" if cost is None else "failed"
    with store.write() as connection:
        ledger.apply(connection, [AttemptEnd(opened=intent, state=state, latency_s=0.1, cost_nusd=cost)], 2)


def balance(store: StateStore, budget: str = "all") -> tuple[int, int, int, int]:
    (row,) = rows(store, "SELECT * FROM budgets WHERE budget = :budget", budget=budget)
    return row.spent_nusd, row.reserved_nusd, row.held_nusd, row.earmarked_nusd


def test_a_call_takes_from_what_is_set_aside_and_gives_back_what_it_did_not_cost(store: StateStore) -> None:
    with store.write() as connection:
        ledger = Ledger.open(connection, dead_worker(connection))
        start(connection, "b1", 60, budget="all", limit_nusd=100)
    first = opened_for(store, ledger, "1", 40, "b1")
    assert balance(store) == (0, 40, 0, 20)
    ordinary = opened_for(store, ledger, "2", 41, "")
    assert isinstance(ordinary, BudgetShortage)
    assert (ordinary.balance.left_nusd, ordinary.final) == (40, False)
    end(store, ledger, first, 15)
    assert balance(store) == (15, 0, 0, 45)
    assert balance(store, "backfill/b1") == (15, 0, 0, 0)
    lost = opened_for(store, ledger, "3", 45, "b1")
    end(store, ledger, lost, None)
    assert balance(store) == (15, 0, 45, 0)
    with store.write() as connection:
        (attempt,) = history.attempts(connection, state="ambiguous")
        assert (attempt.backfill, attempt.price) == ("b1", TokenPrice.model_validate(PRICE).version)
        resolve(connection, [attempt], Resolution(billed=False, by="ann"))
    assert balance(store) == (15, 0, 0, 0)
    again = opened_for(store, ledger, "4", 45, "b1")  # from what everybody may use
    end(store, ledger, again, 5)
    assert balance(store) == (20, 0, 0, 40)
    check_books(store)


def test_no_call_is_made_for_a_closed_backfill_whatever_comes_back(store: StateStore) -> None:
    with store.write() as connection:
        ledger = Ledger.open(connection, dead_worker(connection))
        start(connection, "b1", 60, budget="all", limit_nusd=100)
    under_way = opened_for(store, ledger, "1", 40, "b1")
    with store.write() as connection:
        close(connection, "b1", "stopped")
        assert earmarks.left(connection, "b1") == {}
    assert balance(store) == (0, 40, 0, 0)
    (own,) = rows(store, "SELECT limit_nusd FROM budgets WHERE budget = 'backfill/b1'")
    assert own.limit_nusd == 40
    end(store, ledger, under_way, 10)
    refused = opened_for(store, ledger, "2", 1, "b1")
    assert isinstance(refused, BudgetShortage)
    assert (refused.account.backfill, refused.final) == ("b1", True)
    assert isinstance(opened_for(store, ledger, "3", 0, "b1"), Intent)  # what is free needs nobody's money
    assert isinstance(opened_for(store, ledger, "4", 1, "never heard of"), BudgetShortage)
    assert isinstance(opened_for(store, ledger, "5", 90, ""), Intent)
    check_books(store, at_rest=False)


def test_all_is_set_aside_or_nothing_and_the_budget_that_has_too_little_is_named(store: StateStore) -> None:
    everyone = Account(budget="all/ever", name="all", limit_nusd=NUSD)
    day = Account(budget="day/2026-11-21", name="day", limit_nusd=NUSD)
    with store.write() as connection:
        start(connection, "b1", 7 * 10**8, limit_nusd=NUSD)
    with pytest.raises(CannotSetAside) as refused, store.write() as connection:
        set_aside(connection, "b2", 4 * 10**8, {day: 4 * 10**8, everyone: 4 * 10**8})
    assert str(refused.value) == (
        "Budget 'all' (all/ever) has $0.300000 left, and $0.400000 of it should be set aside for the backfill. Nothing "
        "was started. Give a lower --max-usd, name fewer partitions, or raise the limit: ai-assets budget set all "
        "--limit-usd USD --reason WHY"
    )
    assert {row.budget for row in rows(store, "SELECT * FROM budgets")} == {"backfill/b1", ALL}
    with store.write() as connection:
        values = {"limit_nusd": 11 * 10**8, "set_by": "ann", "set_at": now(), "reason": "more"}
        upsert(connection, "budget_limits", {"name": "all"}, values)
        set_aside(connection, "b2", 4 * 10**8, {everyone: 4 * 10**8})
    assert balance(store, ALL) == (0, 0, 0, 11 * 10**8)


def test_what_is_given_back_is_at_most_what_the_backfill_may_still_spend() -> None:
    class Row:
        backfill, budget, left_nusd = "b1", "all", 10

    turn = Earmarks([Row])
    assert turn.take("b1", "all", 25) == 10
    assert turn.give("b1", "all", unused_nusd=20, left_of_cap_nusd=12) == 12
    assert turn.give("b1", "all", unused_nusd=20, left_of_cap_nusd=5) == 0
    assert turn.give("b1", "of another day", unused_nusd=20, left_of_cap_nusd=100) == 0
    assert turn.take("b2", "all", 5) == 0
    assert turn.changed() == [["b1", "all", 12]]


def test_a_limit_that_a_person_set_holds_at_once_in_a_process_that_runs(dear: Provider, each_url: str) -> None:
    state_url = each_url
    dear.reset()
    dear.configure(fault={})
    state = StateStore(state_url)
    process = asking(state_url, declared(dear, 100.0, limits={"concurrency": 2}), count=2000)
    while not history_of(state):
        time.sleep(0.01)
    with state.write() as connection:
        (row,) = history.budgets(connection)
        values = {"limit_nusd": 10**7 + int(row.spent_usd * NUSD), "set_by": "ann", "set_at": now(), "reason": "stop"}
        upsert(connection, "budget_limits", {"name": "all"}, values)
    said = process.said()
    limit = f"{values['limit_nusd'] / NUSD:,.6f}"
    assert said["raised"].startswith("BudgetExhausted: Budget 'all' (all/ever) is used up")
    assert f"of ${limit} " in said["raised"]
    assert "ai-assets budget set all --limit-usd USD --reason WHY" in said["raised"]
    with state.read() as connection:
        (row,) = history.budgets(connection)
    assert row.limit_usd * NUSD == values["limit_nusd"]
    assert row.spent_usd <= row.limit_usd
    state.close()


def history_of(state: StateStore) -> list[Any]:
    return rows(state, "SELECT * FROM budgets WHERE spent_nusd > 0")


def test_a_backfill_asks_no_more_at_its_cap_and_the_others_go_on(dear: Provider, each_url: str) -> None:
    state_url = each_url
    dear.reset()
    dear.configure(fault={})
    settings = declared(dear, 1.0)
    with StateStore(state_url).write() as connection:
        start(connection, "b1", 3 * 10**7, limit_nusd=NUSD)
    theirs = Caller(collection="notes", run_id="r1", backfill="b1")
    with pytest.raises(BackfillSpent, match=r"Backfill b1 is over or at its cap.*of \$0.030000 \$0.0"):
        ask(state_url, settings, questions(50), theirs)
    assert isinstance(ask(state_url, settings, [question("another")], CALLER)[0], Answer)
    found = check_books(state_url)
    assert found[ALL].spent_nusd > found["backfill/b1"].spent_nusd > 15 * 10**6
    assert found[ALL].limit_nusd == NUSD
    with pytest.raises(BudgetExhausted, match=r"\$0\.00\d+ set aside for backfills"):
        ask(state_url, declared(dear, 0.0301), questions(3, first=100), CALLER)
    assert of_backfill("b1").budget in found
