"""Claims about tokens that a provider counts: it is believed within wide bounds, and beyond them budgets stay whole."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engines import CALLER, attempts, check_books, endpoint, one, opened, questions, settings
from http_servers import scripted

from ai_assets.inference.records import NO_USAGE, Answer
from ai_assets.inference.trial import tried
from ai_assets.storage.state import StateStore

YES = '{"answer": "yes"}'


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


def counting(into: int, out: int, cached: int = 0, wait_s: float = 0.0) -> Callable[[dict[str, Any]], Any]:
    """A chat of the OpenAI protocol that counts so many tokens."""

    def answer(_body: dict[str, Any]) -> Any:
        time.sleep(wait_s)
        usage = {"prompt_tokens": into, "completion_tokens": out, "prompt_tokens_details": {"cached_tokens": cached}}
        message = {"role": "assistant", "content": YES}
        return {"model": "small", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}

    return answer


IMPOSSIBLE = {
    "in": (counting(999_999_999, 3), "the provider counted 999,999,999 tokens in and 3 out, and the call can have had"),
    "out": (counting(10, 200_000), "the provider counted 10 tokens in and 200,000 out, and the call can have had"),
    "cached": (counting(5, 3, 500), "the provider counted 500 cached tokens of 5 that went in, which cannot be"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_is_counted_as_what_was_reserved_and_the_row_says_so(what: str, state_url: str) -> None:
    says, found = IMPOSSIBLE[what]
    with scripted(completions=says) as server, opened(state_url, one(server.url)) as engine:
        (first, *_) = results = list(engine.map(questions(3), CALLER))
    assert all(isinstance(result, Answer) for result in results)
    assert isinstance(first, Answer)
    assert first.usage == NO_USAGE
    assert (first.usage_doubt or "").startswith(found)
    for row in attempts(state_url):
        assert (row.state, row.cost_nusd, row.input_tokens) == ("settled", row.reserved_nusd, 0)
        assert row.message.startswith(found)
        assert row.message.endswith("; the reservation was counted")
    check_books(state_url)


def test_it_uses_up_no_budget(state_url: str) -> None:
    with scripted(completions=counting(999_999_999, 3)) as server:
        declared = settings({"mini": endpoint(server.url)}, budgets=[{"name": "all", "limit_usd": 1}])
        with opened(state_url, declared) as engine:
            results = list(engine.map(questions(6), CALLER))
    assert all(isinstance(result, Answer) for result in results)
    assert sum(row.cost_nusd for row in attempts(state_url)) < 10**7


@pytest.mark.parametrize(("into", "out"), [(20, 65_536), (100_000, 3)], ids=["thinking", "hidden instructions"])
def test_more_than_was_reserved_is_believed_where_it_can_be(into: int, out: int, state_url: str) -> None:
    with scripted(completions=counting(into, out)) as server, opened(state_url, one(server.url)) as engine:
        (found,) = engine.map(questions(1), CALLER)
    assert isinstance(found, Answer)
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage_doubt) == (into, out, None)
    (row,) = attempts(state_url)
    assert row.cost_nusd > row.reserved_nusd


def test_the_run_says_it_once(state_url: str) -> None:
    heard: list[str] = []
    slow = counting(999_999_999, 3, wait_s=0.4)
    with (
        scripted(completions=slow) as server,
        opened(state_url, one(server.url, limits={"concurrency": 1})) as engine,
    ):
        list(engine.map(questions(3), CALLER, heard.append))
    (line,) = heard
    assert line.startswith("endpoint 'mini': the provider counted 999,999,999 tokens in and 3 out")
    assert "the most that was reserved is counted" in line


def test_the_test_of_an_endpoint_says_it_and_what_it_paid(tmp_path: Path) -> None:
    state = StateStore(f"sqlite:///{tmp_path}/state.db")
    with scripted(completions=counting(999_999_999, 3), models=lambda _: {"data": [{"id": "small"}]}) as server:
        found = tried("mini", one(server.url), state)
    state.close()
    assert found.works
    assert found.cost_usd < 0.01
    assert any("999,999,999 tokens in" in note and "reserved is counted" in note for note in found.notes)
