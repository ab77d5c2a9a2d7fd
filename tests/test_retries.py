"""Claims about failures at a real provider: how often each class is tried, what it cost, and what is said of it."""

import datetime
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
from conftest import eventually, free_port
from engines import CALLER, PRICE, ask, attempts, check_books, endpoint, one, opened, question, questions, settings
from provider import Provider

from ai_assets.inference.allowance import FIRST
from ai_assets.inference.call_state import ended
from ai_assets.inference.errors import EndpointRefuses, EngineClosed
from ai_assets.inference.ledger_messages import Hop, Intent
from ai_assets.inference.prices import price_at
from ai_assets.inference.records import Answer, Unanswered
from ai_assets.inference.settings import Endpoint
from ai_assets.inference.validation import parse
from ai_assets.protocols.base import Fault, NotAnAnswer, Reply
from ai_assets.protocols.faults import class_of, error_of, retry_after_s
from ai_assets.protocols.openai import OpenAI

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
def state_url(each_url: str) -> str:
    return each_url


@dataclass(frozen=True, kw_only=True)
class Case:
    fault: str
    error: str
    attempts: int
    billed: int
    """Times that the provider billed it."""
    state: str = "failed"
    errors_are_free: bool = True
    """As the endpoint declares; the rehearsal provider bills an error only where the fault says so."""


CASES = (
    Case(fault="rate_limited", error="rate_limited", attempts=10, billed=0),
    Case(fault="rate_limited_bare", error="rate_limited", attempts=10, billed=0),
    Case(fault="overloaded", error="overloaded", attempts=8, billed=0),
    Case(fault="server_error", error="server_error", attempts=6, billed=0),
    Case(fault="error_page", error="gateway_error", attempts=3, billed=0, state="ambiguous"),
    Case(fault="error_page_billed", error="gateway_error", attempts=3, billed=3, state="ambiguous"),
    Case(fault="bad_gateway", error="gateway_error", attempts=3, billed=0, state="ambiguous"),
    Case(fault="bad_gateway_billed", error="gateway_error", attempts=3, billed=3, state="ambiguous"),
    Case(fault="gateway_timeout", error="gateway_error", attempts=3, billed=0, state="ambiguous"),
    Case(fault="gateway_timeout_billed", error="gateway_error", attempts=3, billed=3, state="ambiguous"),
    Case(fault="hang", error="timeout", attempts=3, billed=3, state="ambiguous"),
    Case(fault="slow_drip", error="timeout", attempts=3, billed=3, state="ambiguous"),
    Case(fault="reset_before", error="connection_lost", attempts=3, billed=0, state="ambiguous"),
    Case(fault="reset_after", error="connection_lost", attempts=3, billed=3, state="ambiguous"),
    Case(fault="truncated", error="connection_lost", attempts=3, billed=3, state="ambiguous"),
    Case(fault="garbage", error="garbled", attempts=2, billed=2, state="ambiguous"),
    Case(fault="content_filter", error="refused", attempts=1, billed=0),
    Case(fault="refused", error="refused", attempts=1, billed=1),
    Case(fault="context_too_long", error="context_too_long", attempts=1, billed=0),
    *(
        replace(case, state="ambiguous", errors_are_free=False)
        for case in (
            Case(fault="overloaded", error="overloaded", attempts=8, billed=0),
            Case(fault="overloaded_billed", error="overloaded", attempts=8, billed=8),
            Case(fault="server_error", error="server_error", attempts=6, billed=0),
            Case(fault="server_error_billed", error="server_error", attempts=6, billed=6),
            Case(fault="content_filter", error="refused", attempts=1, billed=0),
            Case(fault="context_too_long", error="context_too_long", attempts=1, billed=0),
        )
    ),
    Case(fault="rate_limited", error="rate_limited", attempts=10, billed=0, errors_are_free=False),
    Case(fault="refused", error="refused", attempts=1, billed=1, errors_are_free=False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.fault}-{case.state}")
def test_each_class_of_error_is_tried_as_often_as_the_table_says(
    case: Case, provider: Provider, state_url: str
) -> None:
    provider.configure(fault={case.fault: 1.0})
    timeout_s = 0.2 if case.error == "timeout" else 30
    declared = one(provider.url, timeout_s=timeout_s, errors_are_free=case.errors_are_free)
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
    assert time.monotonic() - started < 30
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


@pytest.mark.parametrize(
    ("fault", "billed"),
    [("server_error", 0), ("overloaded", 0), ("server_error_billed", 2), ("overloaded_billed", 2)],
)
def test_where_a_stage_holds_an_error_of_the_model_itself_is_tried_again_and_keeps_its_reservation(
    fault: str, billed: int, provider: Provider, state_url: str
) -> None:
    provider.script([{"fault": fault, "times": 2}])
    declared = one(provider.url, errors_are_free=False)
    (result,) = ask(state_url, declared, [question(1, on_ambiguous="hold")])
    assert isinstance(result, Answer)
    assert result.attempts == 3
    first, second, settled = attempts(state_url)
    assert [first.state, second.state, settled.state] == ["ambiguous", "ambiguous", "settled"]
    assert result.maybe_usd == pytest.approx((first.reserved_nusd + second.reserved_nusd) / 1e9)
    assert provider.stats()["billed"] == billed + 1
    check_books(state_url)


def test_where_a_stage_holds_a_call_that_only_got_errors_is_asked_again_by_the_next_run(
    provider: Provider, state_url: str
) -> None:
    provider.script([{"fault": "server_error", "times": 6}])
    declared = one(provider.url, errors_are_free=False)
    (failed,) = ask(state_url, declared, [question(1, on_ambiguous="hold")])
    assert isinstance(failed, Unanswered)
    assert failed.error == "server_error"
    (again,) = ask(state_url, declared, [question(1, on_ambiguous="hold")])
    assert isinstance(again, Answer)


@pytest.mark.parametrize("fault", ["error_page", "bad_gateway", "gateway_timeout"])
def test_where_a_stage_holds_what_a_gateway_lost_waits_for_a_person(
    fault: str, provider: Provider, state_url: str
) -> None:
    provider.script([{"fault": fault, "times": 1}])
    for _ in range(2):
        (result,) = ask(state_url, one(provider.url), [question(1, on_ambiguous="hold")])
        assert isinstance(result, Unanswered)
        assert result.error == "held"
    assert provider.stats()["calls"] == 1


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
        eventually(lambda: len(attempts(state_url)) - 100 >= FIRST + share * 100 - 1)
        time.sleep(1)  # no more than its share by now
        engine.close()
        with pytest.raises(EngineClosed):
            asked.result(timeout=300)
    made = attempts(state_url)
    first = len({row.call_key for row in made})
    assert first == 100
    assert len(made) - first <= FIRST + share * first + (time.monotonic() - started)


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


def as_object(message: str = "sorry", **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


PAGE = b"<html>upstream connect error</html>"
_STATUSES = (
    (429, as_object("slow down"), "rate_limited"),
    (429, PAGE, "rate_limited"),
    (425, b"", "rate_limited"),
    (429, as_object(code="insufficient_quota"), "quota"),
    (429, as_object("You exceeded: billing_hard_limit_reached"), "quota"),
    (402, b"", "quota"),
    (401, b"", "auth"),
    (403, PAGE, "auth"),
    (500, as_object(), "server_error"),
    (503, as_object(), "overloaded"),
    (529, as_object(type="overloaded_error"), "overloaded"),
    (503, json.dumps({"object": "error", "message": "busy", "code": 503}).encode(), "overloaded"),
    # A proxy's page, and what looks like JSON and is not the protocol's error object.
    (500, PAGE, "gateway_error"),
    (500, b"", "gateway_error"),
    (503, PAGE, "gateway_error"),
    (503, b'{"message": "Service Unavailable"}', "gateway_error"),
    (500, b'{"detail": "Internal Server Error"}', "gateway_error"),
    (500, b'{"error": "Internal Server Error"}', "gateway_error"),
    (500, b'{"error": {"message": ""}}', "gateway_error"),
    (500, b'{"error": null}', "gateway_error"),
    (500, b"[" * 20_000, "gateway_error"),
    (529, PAGE, "gateway_error"),
    # Said of the way to the model, whoever says it and however.
    *((status, body, "gateway_error") for status in (408, 424, 499, 501, 502, 504, 520, 522, 524, 527, 530)
      for body in (PAGE, as_object())),
    # Done, and no answer with it.
    (202, b"", "garbled"),
    (204, b"", "garbled"),
    (400, b"", "malformed"),
    (404, as_object(code="model_not_found"), "malformed"),
    (422, b'{"detail": "no"}', "malformed"),
    (301, b"", "malformed"),
    (400, as_object(code="context_length_exceeded"), "context_too_long"),
    (400, as_object("This model's maximum context length is 8192 tokens"), "context_too_long"),
    (400, as_object(code="content_filter"), "refused"),
)  # fmt: skip


@pytest.mark.parametrize(("status", "body", "expected"), _STATUSES)
def test_a_status_has_a_class(status: int, body: bytes, expected: str) -> None:
    assert class_of(status, error_of(body)) == expected


def opened_at(**endpoint: Any) -> Intent:
    declared = Endpoint.model_validate({"base_url": "https://example.org/v1", "model": "small", **endpoint})
    price = price_at(declared, datetime.date(2026, 10, 5))
    assert price is not None
    hop = Hop(name="mini", endpoint=declared, price=price, key="k", body=b"", reserve_nusd=700, tokens=9)
    return Intent(attempt_id=1, hop=hop, budgets=(), carried=False)


REFUSAL: Mapping[str, Any] = {"choices": [{"message": {"refusal": "No."}}], "model": "small"}
PAID: Mapping[str, Any] = {"prices": [dict(PRICE)]}


@pytest.mark.parametrize(
    ("endpoint", "usage", "cost"),
    [
        (PAID, {"prompt_tokens": 10}, 1500),
        (PAID, None, None),
        ({**PAID, "errors_are_free": True}, None, None),  # it came as an answer: a promise about errors is not about it
        ({"free": True}, None, 0),
    ],
    ids=["counted", "not counted", "not counted, errors are free", "free"],
)
def test_a_refusal_that_came_as_an_answer_costs_what_was_counted_and_else_nobody_knows(
    endpoint: Mapping[str, Any], usage: Mapping[str, int] | None, cost: int | None
) -> None:
    fault = OpenAI().decode(json.dumps({**REFUSAL, "usage": usage}), "chat")
    assert isinstance(fault, Fault)
    ending = ended(opened_at(**endpoint), replace(fault, answered=True), 0.1)
    assert (ending.error, ending.cost_nusd) == ("refused", cost)
    assert ending.state == ("ambiguous" if cost is None else "failed")


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
        # By the provider's own clock: ours may be a day ahead.
        ({"date": "Thu, 01 Jan 2026 00:00:00 GMT", "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"date": "no date", "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, None),
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
        OpenAI().decode(body, "chat")


def test_an_answer_that_is_nested_too_deeply_for_its_schema_is_unusable_and_no_crash() -> None:
    schema: Mapping[str, Any] = {"type": "object", "properties": {"a": {"$ref": "#"}}}
    nested = '{"a":' * 400 + "{}" + "}" * 400
    body = json.dumps({"choices": [{"message": {"content": nested}}], "usage": {"prompt_tokens": 1}})
    reply = OpenAI().decode(body, "chat")
    assert isinstance(reply, Reply)
    assert parse(question(1, schema=schema), reply).problem == "it is nested too deeply"
