"""Claims about money: no limit is ever passed, whoever asks, whatever fails, and nothing is paid for twice.

AI_ASSETS_LONG=1 takes more calls, and PostgreSQL too.
"""

import contextlib
import datetime
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    one,
    question,
    questions,
    rows,
    settings,
    together,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from provider import Provider

from ai_assets.inference import history
from ai_assets.inference.accounts import Account, accounts_of, of_backfill
from ai_assets.inference.earmarks import CannotSetAside, close, set_aside
from ai_assets.inference.errors import BudgetExhausted, PriceUnknown
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_messages import AttemptEnd, Claim, Hop, Intent, Parcel, Recall
from ai_assets.inference.records import Answer, Caller, Unanswered
from ai_assets.inference.resolving import Resolution, resolve
from ai_assets.inference.settings import Budget, Endpoint, InferenceSettings, TokenPrice
from ai_assets.storage.state import StateStore, upsert

NUSD = 10**9
DEAR: Mapping[str, Any] = {"from": "2026-01-01", "input": 20, "output": 20}
"""US dollars per million tokens, so that a dollar is gone after some hundred calls."""
FAULTS = {"rate_limited": 0.03, "server_error": 0.03, "reset_after": 0.01, "hang": 0.004, "garbage": 0.005}
LONG = bool(os.environ.get("AI_ASSETS_LONG"))
EACH, LIMIT_USD = (1000, 1.0) if LONG else (450, 0.5)
"""Requests of each of the four processes, and money for about half of them."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    options: dict[str, Any] = {
        "price_input": 20,
        "price_output": 20,
        "hang_s": 2,
        "retry_after_s": 0.02,
        "latency_ms": 5,
    }
    with Provider(answers="quick", **options) as running:
        yield running


def with_budgets(provider: Provider, *budgets: Mapping[str, Any], **more: Any) -> InferenceSettings:
    """A route over two models of one provider, both dear."""
    small = endpoint(provider.url, prices=[dict(DEAR)], timeout_s=0.5, **more)
    retries = {"all": {error: {"attempts": 3, "base_s": 0.01, "cap_s": 0.05} for error in RETRIED}}
    retries["all"]["server_error"]["attempts"] = 1
    return settings({"mini": small, "maxi": {**small, "model": "large"}}, budgets=list(budgets), retries=retries)


RETRIED = ("rate_limited", "server_error", "timeout", "connection_lost", "garbled")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"] if LONG else ["sqlite"])
@pytest.mark.slow
def test_four_processes_never_pass_a_limit_they_share(
    kind: str, provider: Provider, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    state_url = f"sqlite:///{tmp_path}/state.db"
    if kind == "postgresql":
        state_url = request.getfixturevalue("postgres").database("four_processes")
    provider.reset()
    provider.configure(fault=FAULTS)
    declared = with_budgets(provider, {"name": "all", "limit_usd": LIMIT_USD})
    StateStore(state_url).close()
    processes = together(*(Asking(state_url, declared, first=number * EACH, count=EACH) for number in range(4)))
    most = 0
    state = StateStore(state_url)
    asking_on = True
    while asking_on:
        asking_on = any(process.process.poll() is None for process in processes)  # and once more after their end
        with state.read() as connection:
            for row in connection.exec_driver_sql("SELECT spent_nusd + reserved_nusd + held_nusd AS used FROM budgets"):
                most = max(most, row.used)
        time.sleep(0.002)
    state.close()
    said = [process.said() for process in processes]
    assert 0.9 * LIMIT_USD * NUSD < most <= LIMIT_USD * NUSD
    for each in said:
        assert each["raised"].startswith("BudgetExhausted: Budget 'all' (all/ever) is used up"), each
        assert each["results"] < EACH
    (balance,) = check_books(state_url).values()
    stats = provider.stats()
    assert stats["billed_usd"] * NUSD <= balance.spent_nusd + balance.held_nusd <= LIMIT_USD * NUSD
    assert {row.endpoint for row in attempts(state_url)} == {"mini", "maxi"}
    time.sleep(0.5)
    assert provider.stats()["calls"] == stats["calls"]

    provider.configure(fault={})
    raised = with_budgets(provider, {"name": "all", "limit_usd": 100})
    again = together(*(Asking(state_url, raised, first=number * EACH, count=EACH) for number in range(4)))
    assert [process.said()["answers"] for process in again] == [EACH] * 4
    check_books(state_url)
    made = Counter(row.document for row in attempts(state_url) if row.state == "settled")
    assert set(made.values()) == {1}
    assert len(made) == 4 * EACH
    ambiguous = sum(row.state == "ambiguous" for row in attempts(state_url))
    assert provider.stats()["billed"] <= 4 * EACH + ambiguous
    assert provider.stats()["redelivered"] <= ambiguous  # a busy process may give up an answer that is on its way


BILLED_ERRORS = (
    "server_error_billed", "overloaded_billed", "error_page_billed", "bad_gateway_billed", "gateway_timeout_billed",
)  # fmt: skip


@pytest.mark.parametrize("hold", [False, True], ids=["retry", "hold"])
@pytest.mark.parametrize("fault", BILLED_ERRORS)
def test_a_provider_that_bills_its_errors_bills_no_more_than_the_budget(
    fault: str, hold: bool, provider: Provider, each_url: str
) -> None:
    """Its own bill is within what the ledger counts as spent and held, and that is within the limit."""
    state_url, limit = each_url, 0.2
    provider.reset()
    provider.configure(fault={fault: 0.6})
    declared = one(
        provider.url,
        prices=[dict(DEAR)],
        errors_are_free=False,
        limits={"concurrency": 6},
    ).model_copy(update={"budgets": (Budget(name="all", limit_usd=limit),)})
    asked = questions(200, on_ambiguous="hold" if hold else "retry")
    with pytest.raises(BudgetExhausted, match=r"\$0\.\d+ held for calls that may have been billed .*reconcile"):
        ask(state_url, declared, asked)
    (balance,) = check_books(state_url).values()
    billed_nusd = provider.stats()["billed_usd"] * NUSD
    assert billed_nusd > 0
    assert billed_nusd <= balance.spent_nusd + balance.held_nusd <= limit * NUSD


def test_what_a_document_has_left_says_what_is_held(provider: Provider, each_url: str) -> None:
    provider.reset()
    provider.configure(fault={"server_error_billed": 1.0})
    each = Budget(name="each", limit_usd=0.02, each="document")
    declared = one(provider.url, prices=[dict(DEAR)], errors_are_free=False).model_copy(update={"budgets": (each,)})
    (result,) = ask(each_url, declared, [question(1)])
    assert isinstance(result, Unanswered)
    assert result.error == "budget"
    assert f"(${result.maybe_usd:.6f} held: it may have been billed)" in result.message


def test_what_a_killed_process_had_in_flight_stays_reserved(provider: Provider, each_url: str) -> None:
    state_url = each_url
    provider.reset()
    provider.configure(fault={"hang": 1.0})
    declared = with_budgets(provider, {"name": "all", "limit_usd": 1.0}, limits={"concurrency": 8})
    declared = declared.model_copy(update={"endpoints": {
        name: known.model_copy(update={"timeout_s": 30.0}) for name, known in declared.endpoints.items()
    }})  # fmt: skip
    process = asking(state_url, declared, count=50)
    while provider.stats()["in_flight"] < 8:
        time.sleep(0.01)
    process.kill()
    reserved = check_books(state_url, at_rest=False)["all/ever"].reserved_nusd
    assert reserved > 0
    provider.configure(fault={})
    ask(state_url, declared, [question("another")])
    (balance,) = check_books(state_url).values()
    assert balance.held_nusd == reserved
    assert sum(row.state == "ambiguous" for row in attempts(state_url)) == 8


def test_an_unknown_price_is_refused_by_name_before_anything_is_sent(provider: Provider, each_url: str) -> None:
    provider.reset()
    provider.configure(fault={})
    state_url = each_url
    later = endpoint(provider.url, model="large", prices=[{**PRICE, "from": "2999-01-01"}])
    for declared in (
        one(provider.url, prices=[]),
        settings({"mini": endpoint(provider.url), "maxi": later}),
    ):
        with pytest.raises(PriceUnknown, match=r"Endpoint '(mini|maxi)' \(model (small|large)\) has no price for 20"):
            ask(state_url, declared, [question(1)])
    assert provider.stats()["calls"] == 0


def test_a_free_endpoint_needs_no_money_and_a_priced_one_does(provider: Provider, tmp_path: Path) -> None:
    provider.configure(fault={})
    nothing = {"name": "all", "limit_usd": 0}
    free = settings({"mini": endpoint(provider.url, free=True)}, budgets=[nothing])
    assert isinstance(ask(f"sqlite:///{tmp_path}/free.db", free, [question(1)])[0], Answer)
    provider.reset()
    with pytest.raises(BudgetExhausted, match="Budget 'all'"):
        ask(f"sqlite:///{tmp_path}/priced.db", with_budgets(provider, nothing), [question(1)])
    assert provider.stats()["calls"] == 0


def test_a_call_must_fit_into_every_budget_it_belongs_to(provider: Provider, each_url: str) -> None:
    provider.configure(fault={})
    state_url = each_url
    declared = with_budgets(
        provider,
        {"name": "all", "limit_usd": 1},
        {"name": "runs", "limit_usd": 0.02, "each": "run"},
        {"name": "legal", "limit_usd": 0, "of": {"tenant": "legal"}},
    )
    with pytest.raises(BudgetExhausted, match=r"Budget 'runs' \(runs/ever/first\)"):
        ask(state_url, declared, [question(number) for number in range(100)], Caller(run_id="first"))
    assert isinstance(ask(state_url, declared, [question(200)], Caller(run_id="second"))[0], Answer)
    with pytest.raises(BudgetExhausted, match=r"Budget 'legal' \(legal/ever\)"):
        ask(state_url, declared, [question(300)], Caller(tenant="legal", run_id="third"))
    # What was answered belongs to nobody's budget any more.
    assert isinstance(ask(state_url, declared, [question(200)], Caller(tenant="legal", run_id="third"))[0], Answer)
    found = check_books(state_url)
    assert set(found) == {"all/ever", "runs/ever/first", "runs/ever/second"}
    assert found["all/ever"].spent_nusd == sum(found[f"runs/ever/{run}"].spent_nusd for run in ("first", "second"))


# Which accounts a call draws on


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    budget: Mapping[str, Any]
    account: str | None
    caller: Mapping[str, str] = field(default_factory=dict)


WHO = Caller(tenant="legal", collection="handbook", asset="kind", partition="2026-10", run_id="r1")
ACCOUNTS = (
    Case(id="for good", budget={}, account="b/ever"),
    Case(id="a day", budget={"per": "day"}, account="b/2026-11-30"),
    Case(id="a month", budget={"per": "month"}, account="b/2026-11"),
    Case(id="each run", budget={"each": "run"}, account="b/ever/r1"),
    Case(id="each document", budget={"each": "document"}, account="b/ever/handbook/7.txt"),
    Case(id="each partition", budget={"each": "partition"}, account="b/ever/handbook/2026-10"),
    Case(id="each asset", budget={"each": "asset"}, account="b/ever/handbook/kind"),
    Case(id="each collection", budget={"each": "collection"}, account="b/ever/handbook"),
    Case(id="each tenant", budget={"each": "tenant"}, account="b/ever/legal"),
    Case(id="each run a day", budget={"each": "run", "per": "day"}, account="b/2026-11-30/r1"),
    Case(id="of its tenant", budget={"of": {"tenant": "legal"}}, account="b/ever"),
    Case(id="of another tenant", budget={"of": {"tenant": "sales"}}, account=None),
    Case(id="of its asset elsewhere", budget={"of": {"asset": "kind", "collection": "other"}}, account=None),
    Case(id="of its asset here", budget={"of": {"asset": "kind", "collection": "handbook"}}, account="b/ever"),
    Case(id="nobody", budget={"each": "run"}, account="b/ever/", caller={"run_id": ""}),
)


@pytest.mark.parametrize("case", ACCOUNTS, ids=lambda case: case.id)
def test_a_call_draws_on_the_accounts_of_its_caller_document_and_day(case: Case) -> None:
    budget = Budget.model_validate({"name": "b", "limit_usd": 1, **case.budget})
    found = accounts_of([budget], replace(WHO, **case.caller), "7.txt", datetime.date(2026, 11, 30))
    assert [account.budget for account in found] == ([] if case.account is None else [case.account])
    assert all(account.limit_nusd == NUSD for account in found)


_part = st.text(st.sampled_from("ab/%2F5\0\ud800"), max_size=4)


@given(first=st.tuples(_part, _part), second=st.tuples(_part, _part))
def test_different_holders_never_share_an_account_and_every_database_can_hold_its_name(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    budget = Budget.model_validate({"name": "b", "limit_usd": 1, "each": "partition"})
    found = [
        accounts_of([budget], Caller(collection=collection, partition=partition), "", datetime.date(2026, 11, 30))[0]
        for collection, partition in (first, second)
    ]
    assert (found[0].budget == found[1].budget) == (first == second)
    assert b"\0" not in found[0].budget.encode()


# The balances under any sequence of claims and endings

ENDPOINT = Endpoint.model_validate(endpoint("http://127.0.0.1:1/v1", limits={"concurrency": 1000}))
FREE = TokenPrice.model_validate(PRICE)
LIMIT = 100
BACKFILLS = ("b1", "b2")
_outcome = st.one_of(
    st.tuples(st.just("settled"), st.integers(0, 40)),
    st.tuples(st.just("failed"), st.just(0)),
    st.tuples(st.just("ambiguous"), st.none()),
)
_step = st.one_of(
    st.tuples(
        st.just("claim"),
        st.integers(0, 9),
        st.tuples(st.sampled_from(["", *BACKFILLS]), st.lists(st.integers(0, 40), min_size=1, max_size=4)),
    ),
    st.tuples(st.just("end"), st.integers(0, 50), _outcome),
    st.tuples(st.just("recall"), st.integers(0, 9), st.none()),
    st.tuples(st.just("die"), st.none(), st.none()),
    st.tuples(st.just("limit"), st.none(), st.one_of(st.none(), st.integers(0, 2 * LIMIT))),
    st.tuples(st.just("set aside"), st.sampled_from(BACKFILLS), st.integers(1, 80)),
    st.tuples(st.just("release"), st.sampled_from(BACKFILLS), st.none()),
    st.tuples(st.just("resolve"), st.none(), st.booleans()),
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Mapping[str, StateStore]]:
    found = {
        "sqlite": StateStore(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/state.db"),
        "postgresql": StateStore(postgres.database("balances")),
    }
    yield found
    for store in found.values():
        store.close()


def claim(key: str, reserve: int, budgets: tuple[str, ...], backfill: str = "") -> Claim:
    hop = Hop(
        name="mini", endpoint=ENDPOINT, price=FREE, key=key, body=b"", reserve_nusd=reserve, tokens=10
    )  # fmt: skip
    approved = (of_backfill(backfill),) if backfill else ()
    return Claim(
        hops=(hop,), at=0, caller=replace(CALLER, run_id=f"run{backfill}", backfill=backfill), document="",
        kind="generate", accounts=approved + tuple(map(account, budgets)), oldest=None, on_ambiguous="retry",
    )  # fmt: skip


def account(budget: str) -> Account:
    return Account(budget=budget, name=budget, limit_nusd=LIMIT)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@given(steps=st.lists(_step, max_size=20))
@tries(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_balances_are_the_sums_over_the_attempts_and_within_the_limit(
    kind: str, steps: list[tuple[str, Any, Any]], stores: Mapping[str, StateStore]
) -> None:
    store = stores[kind]
    with store.write() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
        ledger = Ledger.open(connection, dead_worker(connection))
    opened: list[Intent] = []
    known: set[str] = set()
    limited = False
    for number, (what, which, more) in enumerate(steps):
        with store.write() as connection:
            match what:
                case "claim":
                    backfill, reserves = more
                    wanted = [
                        claim(f"{which + place}", reserve, ("all", f"each/{(which + place) % 3}"), backfill)
                        for place, reserve in enumerate(reserves)
                    ]
                    (decisions,) = ledger.apply(connection, [Parcel(claims=wanted)], number)
                    new = [decision for decision in decisions if isinstance(decision, Intent)]
                    opened += new
                    _check_new(connection, new)
                case "end" if opened:
                    intent = opened.pop(which % len(opened))
                    state, cost = more
                    cost = None if cost is None else min(cost, intent.hop.reserve_nusd)
                    body = "{}" if state == "settled" else None
                    error: Any = None if state == "settled" else "timeout"
                    ended = AttemptEnd(
                        opened=intent, state=state, error=error, latency_s=0.1, cost_nusd=cost, body=body
                    )
                    ledger.apply(connection, [ended], number)
                case "recall":
                    ledger.apply(connection, [Recall(claims=[claim(str(which), 1, ("all",))])], number)
                case "die":
                    ledger = Ledger.open(connection, dead_worker(connection))
                    opened = []
                case "limit":
                    connection.exec_driver_sql("DELETE FROM budget_limits")
                    if more is not None:
                        limited = True
                        values = {"limit_nusd": more, "set_by": "ann", "set_at": "now", "reason": "test"}
                        upsert(connection, "budget_limits", {"name": "all"}, values)
                case "set aside" if which not in known:
                    known.add(which)
                    _set_aside(connection, which, more)
                case "release" if which in known:
                    close(connection, which, "stopped")
                case "resolve":
                    attempt = next(iter(history.attempts(connection, state="ambiguous")), None)
                    if attempt is not None:
                        resolve(connection, [attempt], Resolution(billed=more, by="ann"))
                case _:
                    pass
        check_books(store, at_rest=False, within=not limited)
        _check_earmarks(store)
    with store.write() as connection:
        Ledger.open(connection, dead_worker(connection))
        for backfill in BACKFILLS:
            close(connection, backfill, "done")
    assert not any(row.earmarked_nusd for row in check_books(store, within=not limited).values())


TABLES = (
    "attempts", "calls", "answers", "reuses", "budgets", "endpoints", "budget_limits", "backfills", "earmarks",
)  # fmt: skip


def _set_aside(connection: sa.Connection, backfill: str, cap: int) -> None:
    """Of the budget of all calls, and of one that only some draw on."""
    with contextlib.suppress(CannotSetAside), connection.begin_nested():
        set_aside(connection, backfill, cap, {account("all"): cap, account("each/0"): cap // 2})
        values = {"collection": "notes", "partitions": "[]", "assets": "[]", "cap_nusd": cap, "plan": "{}"}
        values |= {"state": "open", "made_by": "ann", "made_at": "now"}
        upsert(connection, "backfills", {"backfill": backfill}, values)


def _check_new(connection: sa.Connection, opened: Sequence[Intent]) -> None:
    """No call is made that a budget has no money for, of what others have set aside there, or for a closed backfill."""
    found = {row.budget: row for row in connection.execute(sa.text(_LEFT))}
    known = set(connection.execute(sa.text("SELECT backfill FROM backfills WHERE state = 'open'")).scalars())
    for intent in opened:
        if intent.hop.reserve_nusd:
            assert intent.backfill in {"", *known}
            assert all(found[budget].left >= 0 for budget in intent.budgets)
            assert intent.backfill or all(found[b].left >= found[b].earmarked_nusd for b in intent.budgets)


def _check_earmarks(store: StateStore) -> None:
    """In a budget that all of its calls draw on, no backfill has more set aside than it may still spend."""
    left = {row.budget: row.left for row in rows(store, _LEFT)}
    for row in rows(store, "SELECT * FROM earmarks"):
        assert row.left_nusd >= 0
        assert row.budget != "all" or row.left_nusd <= left[of_backfill(row.backfill).budget]


_LEFT = (
    "SELECT budget, earmarked_nusd, coalesce(budget_limits.limit_nusd, budgets.limit_nusd) - spent_nusd - "
    'reserved_nusd - held_nusd AS "left" FROM budgets LEFT JOIN budget_limits ON budget_limits.name = budgets.name'
)


def test_an_ending_that_comes_after_its_process_was_taken_for_dead_is_counted_once(state_url: str) -> None:
    store = StateStore(state_url)
    endings: Any = (("settled", 7), ("failed", 0), ("ambiguous", None))
    for number, (state, cost) in enumerate(endings):
        with store.write() as connection:
            slow = Ledger.open(connection, dead_worker(connection))
            ((intent,),) = slow.apply(connection, [Parcel(claims=[claim(f"{number}", 20, ("all",))])], 1)
        assert isinstance(intent, Intent)
        with store.write() as connection:
            Ledger.open(connection, dead_worker(connection))
        check_books(state_url)
        with store.write() as connection:
            ended = AttemptEnd(opened=intent, state=state, latency_s=0.1, cost_nusd=cost, body="{}")
            slow.apply(connection, [ended], 2)
        check_books(state_url)
    with store.write() as connection:
        slow = Ledger.open(connection, dead_worker(connection))
        ((intent,),) = slow.apply(connection, [Parcel(claims=[claim("resolved", 20, ("all",))])], 1)
    with store.write() as connection:
        Ledger.open(connection, dead_worker(connection))
        attempt = next(item for item in history.attempts(connection, state="ambiguous") if item.call == "resolved")
        resolve(connection, [attempt], Resolution(billed=False, by="ann"))
    with store.write() as connection:
        slow.apply(connection, [AttemptEnd(opened=intent, state="settled", latency_s=0.1, cost_nusd=7, body="{}")], 2)
    check_books(state_url)
    (balance,) = rows(state_url, "SELECT * FROM budgets")
    # An answer that comes after all proves that it was billed, whatever a person had found out.
    assert (balance.spent_nusd, balance.reserved_nusd, balance.held_nusd) == (14, 0, 20)
    store.close()


def test_a_document_whose_own_budget_is_used_up_is_a_result_and_the_others_are_asked(
    provider: Provider, each_url: str
) -> None:
    state_url = each_url
    declared = settings(
        {"mini": endpoint(provider.url)}, budgets=[{"name": "each-doc", "each": "document", "limit_usd": 0.001}]
    )
    long = question("long", max_output_tokens=100_000)
    short = questions(3)
    results = ask(state_url, declared, [short[0], long, *short[1:]])
    assert [isinstance(result, Answer) for result in results] == [True, False, True, True]
    refused = results[1]
    assert isinstance(refused, Unanswered)
    assert refused.error == "budget"
    assert refused.message.startswith(
        "budget 'each-doc' has $0.001000 left for this document, and a call may cost $0.0"
    )
    assert len(attempts(state_url)) == 3
