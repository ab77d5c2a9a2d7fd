"""Claims about failures at a real provider: how often each class is tried, what it cost, and what is said of it."""

import datetime
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from engines import CALLER, ask, attempts, check_books, endpoint, one, opened, question, questions, settings
from provider import Provider

from resources.backends.openai import NotAnAnswer, Reply, class_of, read_reply, retry_after_s
from resources.inference.allowance import FIRST
from resources.inference.errors import EndpointRefuses, EngineClosed
from resources.inference.judging import parse
from resources.inference.records import Answer, Unanswered

SCHEMA: Mapping[str, Any] = {
    "type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"], "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(retry_after_s=0.02, hang_s=0.6, drip_s=0.6, models=["small", "large"]) as found:
        yield found


@pytest.fixture
def provider(running: Provider) -> Provider:
    """Its books are empty, and it fails nobody."""
    running.configure(fault={}, retry_after_s=0.02)
    running.reset()
    running.script([])
    return running


@pytest.fixture
def state_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


@dataclass(frozen=True, kw_only=True)
class Case:
    fault: str
    error: str
    attempts: int
    billed: int
    """Times that the provider billed it."""
    state: str = "failed"


CASES = (
    Case(fault="rate_limited", error="rate_limited", attempts=10, billed=0),
    Case(fault="rate_limited_bare", error="rate_limited", attempts=10, billed=0),
    Case(fault="overloaded", error="overloaded", attempts=8, billed=0),
    Case(fault="server_error", error="server_error", attempts=6, billed=0),
    Case(fault="hang", error="timeout", attempts=3, billed=3, state="ambiguous"),
    Case(fault="slow_drip", error="timeout", attempts=3, billed=3, state="ambiguous"),
    Case(fault="reset_before", error="connection_lost", attempts=3, billed=0, state="ambiguous"),
    Case(fault="reset_after", error="connection_lost", attempts=3, billed=3, state="ambiguous"),
    Case(fault="truncated", error="connection_lost", attempts=3, billed=3, state="ambiguous"),
    Case(fault="garbage", error="garbled", attempts=2, billed=2, state="ambiguous"),
    Case(fault="content_filter", error="refused", attempts=1, billed=0),
    Case(fault="refused", error="refused", attempts=1, billed=1),
    Case(fault="context_too_long", error="context_too_long", attempts=1, billed=0),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_each_class_of_error_is_tried_as_often_as_the_table_says(
    case: Case, provider: Provider, state_url: str
) -> None:
    provider.configure(fault={case.fault: 1.0})
    declared = one(provider.url, timeout_s=0.2)
    (result,) = ask(state_url, declared, [question(1)])
    assert isinstance(result, Unanswered)
    assert (result.error, result.attempts) == (case.error, case.attempts)
    made = attempts(state_url)
    assert [(row.state, row.error) for row in made] == [(case.state, case.error)] * case.attempts
    stats = provider.stats()
    assert (stats["calls"], stats["billed"]) == (case.attempts, case.billed)
    check_books(state_url)
    maybe = sum(row.reserved_nusd for row in made if row.state == "ambiguous")
    assert result.maybe_usd == pytest.approx(maybe / 1e9)
    known = stats["billed_usd"] if case.state == "failed" else 0
    assert result.cost_usd == pytest.approx(known, abs=1e-9)
    assert sum(row.cost_nusd or 0 for row in made) / 1e9 == pytest.approx(known, abs=1e-9)
    if case.error == "garbled":
        assert result.raw is not None
        assert "upstream connect error" in result.raw


def test_no_connection_is_tried_six_times_and_costs_nothing(state_url: str) -> None:
    (result,) = ask(state_url, one(f"http://127.0.0.1:{free_port()}/v1"), [question(1)])
    assert isinstance(result, Unanswered)
    assert (result.error, result.attempts, result.cost_usd, result.maybe_usd) == ("unreachable", 6, 0, 0)


def test_a_wrong_request_is_never_repeated(provider: Provider, state_url: str) -> None:
    results = ask(state_url, one(provider.url, model="unknown"), questions(3))
    assert [result.error for result in results if isinstance(result, Unanswered)] == ["malformed"] * 3
    assert provider.stats()["calls"] == 3
    assert all("does not exist" in result.message for result in results if isinstance(result, Unanswered))


@pytest.mark.parametrize(("fault", "said"), [("unauthorized", "refuses the key"), ("insufficient_quota", "no money")])
def test_what_concerns_every_request_is_raised_once_and_ends_the_map(
    fault: str, said: str, provider: Provider, state_url: str
) -> None:
    provider.configure(fault={fault: 1.0})
    with pytest.raises(EndpointRefuses, match=f"Endpoint 'mini' .*{said}"):
        ask(state_url, one(provider.url, limits={"concurrency": 4}), questions(500))
    calls = provider.stats()["calls"]
    assert calls <= 8
    time.sleep(0.2)
    assert provider.stats()["calls"] == calls
    assert provider.stats()["billed"] == 0


def test_an_unusable_answer_is_repaired_once_and_both_calls_are_paid_openly(provider: Provider, state_url: str) -> None:
    provider.script([{"fault": "schema_violation", "times": 1}])
    (result,) = ask(state_url, one(provider.url), [question(1, schema=SCHEMA)])
    assert isinstance(result, Answer)
    assert (result.repaired, result.attempts) == (True, 2)
    assert isinstance(result.data, Mapping)
    made = attempts(state_url)
    assert [row.state for row in made] == ["settled", "settled"]
    assert len({row.call_key for row in made}) == 2
    assert result.cost_usd == pytest.approx(provider.stats()["billed_usd"], abs=1e-8)
    # The next run finds both.
    (again,) = ask(state_url, one(provider.url), [question(1, schema=SCHEMA)])
    assert isinstance(again, Answer)
    assert (again.reused, again.attempts, again.cost_usd, again.data) == (True, 0, 0, result.data)
    assert again.saved_usd == pytest.approx(result.cost_usd)
    assert provider.stats()["calls"] == 2


def test_an_answer_that_stays_unusable_is_kept_with_what_came(provider: Provider, state_url: str) -> None:
    provider.script([{"fault": "schema_violation", "times": None}])
    results = ask(state_url, one(provider.url), [question(1, schema=SCHEMA), question(2)])
    first, second = results
    assert isinstance(first, Unanswered)
    assert (first.error, first.attempts) == ("invalid_output", 2)
    assert first.raw
    assert first.cost_usd > 0
    assert isinstance(second, Answer)
    assert provider.stats()["calls"] == 3
    ask(state_url, one(provider.url), [question(1, schema=SCHEMA)])
    assert provider.stats()["calls"] == 3


def test_a_check_may_ask_for_a_repair_in_its_own_words(provider: Provider, state_url: str) -> None:
    def check(answer: Answer) -> str | None:
        return None if answer.repaired else "name the hall"

    (result,) = ask(state_url, one(provider.url), [question(2, check=check)])
    assert isinstance(result, Answer)
    assert (result.repaired, result.attempts) == (True, 2)


def test_a_check_that_fails_itself_ends_the_map_with_its_error_and_nothing_open(
    provider: Provider, state_url: str
) -> None:
    def check(answer: Answer) -> str | None:
        raise ZeroDivisionError(answer.text)

    asked = [*questions(70), question("bad", check=check)]
    for _ in range(2):  # fresh, and then from the ledger
        with pytest.raises(ZeroDivisionError):
            ask(state_url, one(provider.url), asked)
        assert {row.state for row in attempts(state_url)} == {"settled"}
        check_books(state_url)


def test_retry_after_is_waited_for_in_full(provider: Provider, state_url: str) -> None:
    provider.configure(retry_after_s=0.4)
    provider.script([{"fault": "rate_limited", "times": 2}])
    (result,) = ask(state_url, one(provider.url), [question(1)])
    assert isinstance(result, Answer)
    sent = [datetime.datetime.fromisoformat(row.sent_at) for row in attempts(state_url)]
    assert all((later - earlier).total_seconds() >= 0.4 for earlier, later in itertools.pairwise(sent))
    assert len(sent) == 3


def test_a_retry_after_beyond_all_patience_is_not_waited_for(provider: Provider, state_url: str) -> None:
    provider.configure(retry_after_s=3600)
    provider.script([{"fault": "rate_limited", "times": 2}])
    (result,) = ask(state_url, one(provider.url), [question(1)])
    assert isinstance(result, Unanswered)
    assert (result.error, result.attempts) == ("rate_limited", 1)


def test_the_timeout_of_a_request_goes_before_that_of_the_endpoint(provider: Provider, state_url: str) -> None:
    provider.script([{"match": "Note 1.", "fault": "hang", "times": 1}])
    started = time.monotonic()
    (result,) = ask(state_url, one(provider.url, timeout_s=60), [question(1, timeout_s=0.1)])
    assert time.monotonic() - started < 2
    assert isinstance(result, Answer)
    assert [row.error for row in attempts(state_url)] == ["timeout", None]


def test_a_slow_answer_within_the_timeout_is_an_answer(provider: Provider, state_url: str) -> None:
    provider.configure(fault={"slow_drip": 1.0})
    (result,) = ask(state_url, one(provider.url, timeout_s=5), [question(1)])
    assert isinstance(result, Answer)
    assert result.latency_s >= 0.4


def test_where_a_stage_holds_a_lost_answer_is_not_asked_for_again(provider: Provider, state_url: str) -> None:
    provider.script([{"match": "Note 1.", "fault": "reset_after", "times": 1}])
    asked = [question(1, on_ambiguous="hold"), question(2, on_ambiguous="hold")]
    for tries, maybe in ((1, True), (0, False)):
        first, second = ask(state_url, one(provider.url), asked)
        assert isinstance(first, Unanswered)
        assert (first.error, first.attempts, first.maybe_usd > 0) == ("held", tries, maybe)
        assert "ai-assets ledger resolve" in first.message
        assert isinstance(second, Answer)
    assert provider.stats()["calls"] == 2


def test_where_it_retries_the_lost_attempt_stays_on_record(provider: Provider, state_url: str) -> None:
    provider.script([{"fault": "reset_after", "times": 1}])
    (result,) = ask(state_url, one(provider.url), [question(1)])
    assert isinstance(result, Answer)
    assert (result.attempts, result.maybe_usd > 0) == (2, True)
    lost, settled = attempts(state_url)
    assert (lost.state, settled.state, settled.previous_id) == ("ambiguous", "settled", lost.attempt_id)
    assert provider.stats()["billed"] == 2


def test_retries_stay_within_their_share_of_first_attempts(provider: Provider, state_url: str) -> None:
    provider.configure(fault={"rate_limited_bare": 1.0})
    share, started = 0.2, time.monotonic()
    patient = {"rate_limited": {"attempts": 100, "base_s": 0.0, "cap_s": 0.0}}
    declared = settings({"mini": endpoint(provider.url)}, retry_share=share, retries={"all": patient})
    with ThreadPoolExecutor(1) as beside, opened(state_url, declared) as engine:
        asked = beside.submit(lambda: list(engine.map(questions(100), CALLER)))
        time.sleep(1.5)
        engine.close()
        with pytest.raises(EngineClosed):
            asked.result(timeout=10)
    made = attempts(state_url)
    first = len({row.call_key for row in made})
    assert first == 100
    assert len(made) - first <= FIRST + share * first + (time.monotonic() - started)
    assert len(made) - first >= FIRST + share * first - 1


def test_a_failed_endpoint_is_no_reason_to_forget_an_older_answer(provider: Provider, state_url: str) -> None:
    """An answer that is too old for one is still right for another."""
    declared = one(provider.url)
    ask(state_url, declared, [question(1)])
    time.sleep(0.02)
    provider.script([{"fault": "content_filter", "times": 1}])
    (fresh,) = ask(state_url, declared, [question(1, reuse_for_s=0.001)])
    assert isinstance(fresh, Unanswered)
    (any_age,) = ask(state_url, declared, [question(1)])
    assert isinstance(any_age, Answer)
    assert any_age.reused
    assert provider.stats()["calls"] == 2


def test_one_wrong_text_fails_alone_among_those_that_are_sent_with_it(provider: Provider, state_url: str) -> None:
    """The provider refuses all that come together with an empty one."""
    asked = [replace(question(number), messages=(), text=text) for number, text in enumerate(("a", "", "b", "c"))]
    results = ask(state_url, one(provider.url), asked)
    assert [type(result) for result in results] == [Answer, Unanswered, Answer, Answer]
    assert len({result.vector for result in results if isinstance(result, Answer)}) == 3
    check_books(state_url)


# What providers say, and what it means

_STATUSES = (
    (429, "", "slow down", "rate_limited"),
    (429, "insufficient_quota", "", "quota"),
    (429, "", "You exceeded: billing_hard_limit_reached", "quota"),
    (402, "", "", "quota"),
    (401, "", "", "auth"),
    (403, "", "", "auth"),
    (503, "", "", "overloaded"),
    (529, "overloaded_error", "", "overloaded"),
    (408, "", "", "overloaded"),
    (500, "", "", "server_error"),
    (502, "", "", "server_error"),
    (504, "", "", "server_error"),
    (400, "", "", "malformed"),
    (404, "model_not_found", "", "malformed"),
    (422, "", "", "malformed"),
    (301, "", "", "malformed"),
    (400, "context_length_exceeded", "", "context_too_long"),
    (400, "", "This model's maximum context length is 8192 tokens", "context_too_long"),
    (400, "content_filter", "", "refused"),
)


@pytest.mark.parametrize(("status", "code", "said", "expected"), _STATUSES)
def test_a_status_has_a_class(status: int, code: str, said: str, expected: str) -> None:
    assert class_of(status, code, said) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_in_all_its_spellings(headers: Mapping[str, str], expected: float | None) -> None:
    assert retry_after_s(headers) == expected


@pytest.mark.parametrize(
    "body",
    [
        "", "null", "[]", "1", "{}", '{"choices":[]}', '{"choices":[{}]}', '{"choices":[{"message":null}]}',
        '{"choices":{"0":1}}', '{"choices":[{"message":{"content":[1]}}]}', '{"choices":[{"message":{"content":1}}]}',
        '{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":"many"}}',
        '{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1e400}}',
        '{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":NaN}}',
        '{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":-5}}',
        '{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":99999999999999999999999}}',
        '{"choices":[{"message":{"content":"x"}}],"usage":[1]}',
        '{"choices":[{"message":{"content":"x"},"logprobs":{"content":[{"token":"a"}]}}]}',
        '{"choices":[{"message":{"content":"x","tool_calls":7}}]}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_answer_is_never_mistaken_for_one(body: str) -> None:
    with pytest.raises(NotAnAnswer):
        read_reply(body, embedding=False)


def test_an_answer_that_is_nested_too_deeply_for_its_schema_is_unusable_and_no_crash() -> None:
    schema: Mapping[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    nested = '{"a":' * 400 + "{}" + "}" * 400
    body = json.dumps({"choices": [{"message": {"content": nested}}], "usage": {"prompt_tokens": 1}})
    reply = read_reply(body, embedding=False)
    assert isinstance(reply, Reply)
    assert parse(question(1, schema=schema), reply).problem == "it is nested too deeply"
