"""Claims about sudden death in the middle of paid calls: what was answered is never paid for again, and what may have
been is shown with its dollars.

A few kills by default; AI_ASSETS_KILLS=100 makes it a hundred of each kind.
"""

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engines import Asking, ask, asking, attempts, check_books, one, question, rows, to_embed, together
from provider import Provider

from ai_assets.inference.identity import body_of, call_key
from ai_assets.inference.records import Answer, Request
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AI_ASSETS_KILLS", "0"))
COUNT = 1000


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    embed: bool
    quick: int

    @property
    def kills(self) -> int:
        return KILLS or self.quick

    def request(self, number: int) -> Request:
        return to_embed(number) if self.embed else question(number)


CASES = (
    Case(id="chat", embed=False, quick=3),
    Case(id="embeddings", embed=True, quick=2),
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(answers="quick", latency_ms=20, jitter_ms=30) as running:
        yield running


def declared(provider: Provider, **more: Any) -> InferenceSettings:
    """Everything draws on one budget, so that its balances tell about every attempt."""
    return InferenceSettings.model_validate(
        {
            **one(provider.url, texts_per_request=8, **more).model_dump(
                mode="json", by_alias=True, exclude_defaults=True
            ),
            "budgets": [{"name": "all", "limit_usd": 100}],
        }
    )


def check_paid_once(
    provider: Provider, state_url: str, settings: InferenceSettings, requests: list[Request], in_flight: int
) -> None:
    """The books of the provider against those of the ledger, once everything is answered."""
    (balance,) = check_books(state_url).values()
    made = attempts(state_url)
    by_state = Counter(row.state for row in made)
    assert set(by_state) <= {"settled", "ambiguous"}
    assert by_state["settled"] == len(requests)
    assert by_state["ambiguous"] == in_flight
    assert balance.held_nusd == sum(row.reserved_nusd for row in made if row.state == "ambiguous")
    maybe = {row.call_key for row in made if row.state == "ambiguous"}
    assert all(row.reserved_nusd > 0 and row.ended_at for row in made if row.state == "ambiguous")
    stats = provider.stats()
    assert stats["in_flight"] == 0
    if requests[0].text is not None:
        return
    endpoint = settings.endpoints["mini"]
    keys = {
        _shown(request): call_key(endpoint, body_of(endpoint, request), request.sample, "chat") for request in requests
    }
    twice = provider.bills()
    assert {keys[bill["text"]] for bill in twice} <= maybe
    assert all(bill["billed"] <= 1 + sum(row.call_key == keys[bill["text"]] for row in made) for bill in twice)
    assert stats["billed"] <= len(requests) + in_flight
    assert stats["redelivered"] <= in_flight


def _shown(request: Request) -> str:
    return str(request.messages[-1]["content"])[:80]


def in_flight_now(state_url: str) -> int:
    return len(rows(state_url, "SELECT attempt_id FROM attempts WHERE state = 'intent'"))


def settled_now(state_url: str) -> set[str]:
    found = rows(state_url, "SELECT call_key FROM attempts WHERE state = 'settled'")
    keys = [row.call_key for row in found]
    assert len(keys) == len(set(keys))
    return set(keys)


def wait_for_attempts(state_url: str, moments: random.Random, *processes: Asking) -> None:
    """Until a random part of them is in the ledger: how long that takes is another thing on each machine."""
    number, store = moments.randrange(COUNT * 3 // 4), StateStore(state_url)
    try:
        while rows(store, "SELECT count(*) AS made FROM attempts")[0].made < number:
            if all(each.process.poll() is not None for each in processes):
                break
    finally:
        store.close()
    time.sleep(moments.uniform(0, 0.02))


def started(state_url: str, settings: InferenceSettings, number: int = 1, **what: Any) -> Sequence[Asking]:
    """So many processes that ask the same from the same moment on."""
    StateStore(state_url).close()  # made here, so that kills come while it asks
    return together(*(Asking(state_url, settings, count=COUNT, **what) for _ in range(number)))


@every_case
def test_a_killed_map_is_finished_by_the_next_one_and_pays_again_only_for_what_was_in_flight(
    case: Case, provider: Provider, tmp_path: Path
) -> None:
    moments, settings, interrupted = random.Random(7), declared(provider), 0
    requests = [case.request(number) for number in range(COUNT)]
    for kill in itertools.count():
        state_url = f"sqlite:///{tmp_path}/{kill}.db"
        provider.reset()
        (process,) = started(state_url, settings, embed=case.embed)
        wait_for_attempts(state_url, moments, process)
        process.kill()
        in_flight, answered = in_flight_now(state_url), settled_now(state_url)
        results = ask(state_url, settings, requests)
        assert [result.request.document for result in results] == [str(number) for number in range(COUNT)]
        assert all(isinstance(result, Answer) for result in results)
        assert {result.call for result in results if isinstance(result, Answer) and result.reused} == answered
        check_paid_once(provider, state_url, settings, requests, in_flight)
        interrupted += 0 < len(answered) < COUNT or in_flight > 0
        if interrupted == case.kills:
            break
        assert kill < 10 * case.kills, "hardly any kill came in the middle"


@pytest.mark.parametrize("case", CASES if KILLS else CASES[1:], ids=lambda case: case.id)
def test_two_of_four_that_ask_the_same_are_killed_and_the_survivors_finish_at_no_double_price(
    case: Case, provider: Provider, tmp_path: Path
) -> None:
    check_four(case, provider, lambda kill: f"sqlite:///{tmp_path}/{kill}.db", max(KILLS // 5, 1))


def test_two_of_four_are_killed_on_postgresql(provider: Provider, postgres: Any) -> None:
    check_four(CASES[0], provider, lambda kill: postgres.database(f"paid_once_{kill}"), max(KILLS // 10, 1))


def check_four(case: Case, provider: Provider, state_url_of: Callable[[int], str], kills: int) -> None:
    moments, settings = random.Random(11), declared(provider, limits={"concurrency": 64})
    requests = [case.request(number) for number in range(COUNT)]
    for kill in range(kills):
        state_url = state_url_of(kill)
        provider.reset()
        processes = started(state_url, settings, 4, embed=case.embed)
        wait_for_attempts(state_url, moments, *processes)
        for process in processes[:2]:
            process.process.kill()
        for process in processes[:2]:
            process.kill()
        said = [process.said() for process in processes[2:]]
        assert [each["answers"] for each in said] == [COUNT, COUNT]
        ambiguous = sum(row.state == "ambiguous" for row in attempts(state_url))
        check_paid_once(provider, state_url, settings, requests, ambiguous)
        assert ambiguous <= 64 * (8 if case.embed else 1)
        assert provider.stats()["peak_in_flight"] <= 64 + 64  # what the killed had sent, and its places given anew


def test_equal_questions_of_four_processes_are_paid_for_once(provider: Provider, state_url: str) -> None:
    settings = declared(provider)
    provider.reset()
    said = [process.said() for process in [asking(state_url, settings, count=200) for _ in range(4)]]
    assert [each["answers"] for each in said] == [200] * 4
    assert provider.stats()["billed"] == 200
    assert sum(each["reused"] for each in said) == 600
    check_paid_once(provider, state_url, settings, [question(number) for number in range(200)], 0)
