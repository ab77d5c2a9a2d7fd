"""Claims about routes: cheap first, dearer where it fails, and never where walking on would be wrong."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from engines import CALLER, ask, attempts, check_books, endpoint, opened, question, questions, settings
from provider import Provider

from ai_assets.inference.errors import EndpointDown, EndpointRefuses, KeyMissing
from ai_assets.inference.records import Answer, Request, Unanswered
from ai_assets.inference.settings import InferenceSettings

DEAR: Mapping[str, Any] = {"from": "2026-01-01", "input": 1.5, "output": 6.0}
"""Ten times the price of the cheap one."""
SCHEMA: Mapping[str, Any] = {
    "type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(retry_after_s=0.01, hang_s=0.3) as found:
        yield found


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, models=[], latency_ms=0)
    running.reset()
    running.script([])
    return running


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


def two(provider: Provider, **more: Any) -> InferenceSettings:
    cheap = endpoint(provider.url, timeout_s=5, limits={"concurrency": 4})
    return settings({"cheap": cheap, "dear": {**cheap, "model": "large", "prices": [dict(DEAR)]}}, **more)


def fail(provider: Provider, fault: str, model: str = "small", times: int | None = None) -> None:
    provider.script([{"match": f'"model":"{model}"', "fault": fault, "times": times}])


def asked_of(state_url: str) -> Counter[str]:
    return Counter(row.endpoint for row in attempts(state_url))


def test_the_first_endpoint_is_asked_first(provider: Provider, state_url: str) -> None:
    results = ask(state_url, two(provider), questions(20))
    assert {result.endpoint for result in results} == {"cheap"}
    assert asked_of(state_url) == {"cheap": 20}


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        ("server_error", 6), ("overloaded", 8), ("rate_limited", 10), ("hang", 3), ("reset_after", 3), ("garbage", 2),
        ("insufficient_quota", 1),
    ],
)  # fmt: skip
def test_the_next_one_is_asked_once_retries_are_used_up(
    fault: str, tries: int, provider: Provider, state_url: str
) -> None:
    fail(provider, fault)
    (result,) = ask(state_url, two(provider), [question(1)])
    assert isinstance(result, Answer)
    assert (result.endpoint, result.model, result.attempts) == ("dear", "large", tries + 1)
    *failed, settled = attempts(state_url)
    assert [row.endpoint for row in failed] == ["cheap"] * tries
    assert (settled.endpoint, settled.state) == ("dear", "settled")
    usage = result.usage
    assert settled.cost_nusd == pytest.approx(usage.input_tokens * 1500 + usage.output_tokens * 6000)
    assert result.cost_usd == pytest.approx(settled.cost_nusd / 1e9)
    check_books(state_url)
    # The dear answer is kept, and the cheap endpoint is not asked again for it.
    (again,) = ask(state_url, two(provider), [question(1)])
    assert isinstance(again, Answer)
    assert (again.endpoint, again.text, again.attempts) == ("dear", result.text, 0)
    assert again.saved_usd == result.cost_usd


@pytest.mark.parametrize("fault", ["context_too_long", "content_filter", "refused"])
def test_what_is_wrong_everywhere_is_not_taken_elsewhere(fault: str, provider: Provider, state_url: str) -> None:
    fail(provider, fault)
    (result,) = ask(state_url, two(provider), [question(1)])
    assert isinstance(result, Unanswered)
    assert (result.endpoint, result.attempts) == ("cheap", 1)
    assert asked_of(state_url) == {"cheap": 1}


def test_a_wrong_request_and_a_wrong_key_are_not_taken_elsewhere(provider: Provider, state_url: str) -> None:
    provider.configure(models=["large"])
    (result,) = ask(state_url, two(provider), [question(1)])
    assert isinstance(result, Unanswered)
    assert result.error == "malformed"
    fail(provider, "unauthorized")
    provider.configure(models=[])
    with pytest.raises(EndpointRefuses, match="'cheap' refuses the key"):
        ask(state_url, two(provider), [question(2)])
    assert asked_of(state_url) == {"cheap": 2}


def test_where_all_fail_the_last_failure_is_told(provider: Provider, state_url: str) -> None:
    provider.configure(fault={"server_error": 1.0})
    route = {"endpoints": ["cheap", "dear"], "fallback_on": ["server_error"]}
    (result,) = ask(state_url, two(provider, route=route), [question(1)])
    assert isinstance(result, Unanswered)
    assert (result.endpoint, result.error, result.attempts) == ("dear", "server_error", 12)


def test_a_route_walks_only_after_what_it_names(provider: Provider, state_url: str) -> None:
    route = {"endpoints": ["cheap", "dear"], "fallback_on": ["timeout"]}
    fail(provider, "server_error")
    (result,) = ask(state_url, two(provider, route=route), [question(1)])
    assert isinstance(result, Unanswered)
    assert asked_of(state_url) == {"cheap": 6}


def test_an_endpoint_named_directly_stands_alone(provider: Provider, state_url: str) -> None:
    fail(provider, "server_error")
    (result,) = ask(state_url, two(provider), [question(1, route="cheap")])
    assert isinstance(result, Unanswered)
    assert asked_of(state_url) == {"cheap": 6}


@pytest.mark.parametrize("embed", [False, True], ids=["chat", "embeddings"])
def test_an_endpoint_that_is_down_is_skipped_and_costs_nobody_its_patience(
    embed: bool, provider: Provider, state_url: str
) -> None:
    fail(provider, "server_error")
    asked = [Request(document=str(n), text=f"Note {n}.", kind="embed") for n in range(300)] if embed else questions(300)
    results = ask(state_url, two(provider), asked)
    assert {result.endpoint for result in results} == {"dear"}
    assert all(isinstance(result, Answer) for result in results)
    sent = provider.stats()["calls"]
    assert asked_of(state_url)["dear"] == 300
    answered = -(-300 // 64) if embed else 300
    assert sent - answered <= 10 + 3 + 6  # until the breaker opens, those in flight then, and probes


def test_an_answer_is_repaired_where_it_came_from(provider: Provider, state_url: str) -> None:
    provider.script(
        [
            {"match": '"model":"small"', "fault": "overloaded", "times": None},
            {"match": '"model":"large"', "fault": "schema_violation", "times": 1},
        ]
    )
    (result,) = ask(state_url, two(provider), [question(1, schema=SCHEMA)])
    assert isinstance(result, Answer)
    assert (result.endpoint, result.repaired) == ("dear", True)
    assert asked_of(state_url) == {"cheap": 8, "dear": 2}


def test_long_requests_go_to_the_endpoint_for_them_at_once(provider: Provider, state_url: str) -> None:
    rules = [{"use": "dear", "longer_than_tokens": 1000}]
    declared = two(provider, route={"endpoints": ["cheap", "dear"], "rules": rules})
    results = ask(state_url, declared, [question(1), question("long " * 2000), question(3)])
    assert [result.endpoint for result in results] == ["cheap", "dear", "cheap"]
    assert asked_of(state_url) == {"cheap": 2, "dear": 1}


def test_while_the_first_endpoint_is_slow_another_goes_first(provider: Provider, state_url: str) -> None:
    with Provider(latency_ms=120) as slow:
        rules = [{"use": "far", "slower_than_s": 0.1}]
        near, far = endpoint(slow.url, limits={"concurrency": 8}), endpoint(provider.url)
        declared = settings({"near": near, "far": far}, route={"endpoints": ["near", "far"], "rules": rules})
        with opened(state_url, declared) as engine:
            first = list(engine.map(questions(16), CALLER))
            later = list(engine.map(questions(50, first=100), CALLER))
    assert {result.endpoint for result in first} == {"near"}
    assert {result.endpoint for result in later} == {"far"}


def test_a_missing_key_of_any_endpoint_is_named_before_anything_is_sent(
    provider: Provider, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAR_AWAY_KEY", raising=False)
    dear = endpoint(provider.url, model="large", key="FAR_AWAY_KEY")
    declared = settings({"cheap": endpoint(provider.url), "dear": dear})
    with pytest.raises(KeyMissing, match=r"'dear' .* FAR_AWAY_KEY"):
        ask(state_url, declared, questions(3))
    assert provider.stats()["calls"] == 0


def test_an_endpoint_that_answers_nobody_for_long_stops_the_work_and_not_each_document(
    provider: Provider, state_url: str
) -> None:
    provider.configure(fault={"overloaded": 1.0})
    declared = settings({"mini": endpoint(provider.url, limits={"concurrency": 16}, patience_s=0.5)})
    with pytest.raises(EndpointDown, match=r"Endpoint 'mini' has not responded for .*HTTP 503.*Then run again"):
        ask(state_url, declared, questions(40))
    check_books(state_url)
    provider.configure(fault={})
    declared = settings({"mini": endpoint(provider.url, limits={"concurrency": 16})})
    assert all(isinstance(result, Answer) for result in ask(state_url, declared, questions(40)))
