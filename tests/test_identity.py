"""Claims about what makes two calls the same: exactly what changes the answer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from engines import CALLER, ask, endpoint, one, opened, question, to_embed
from hypothesis import given
from hypothesis import strategies as st
from provider import Provider

from ai_assets.inference.identity import Unhashable, body_of, call_key
from ai_assets.inference.records import Answer, Request, Unanswered
from ai_assets.inference.settings import Endpoint

ENDPOINT = Endpoint.model_validate(endpoint("http://127.0.0.1:1/v1"))
SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
TOOL: Mapping[str, Any] = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
BASE = Request(
    messages=({"role": "system", "content": "Read."}, {"role": "user", "content": "The pump leaks."}),
    schema=SCHEMA, tools=(TOOL,), temperature=0.0, seed=1, max_output_tokens=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(answers="quick") as running:
        yield running


def key(request: Request, at: Endpoint = ENDPOINT) -> str:
    return call_key(at, body_of(at, request), request.sample, request.asks_for)


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    request: Mapping[str, Any] | None = None
    endpoint: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        at = Endpoint.model_validate({**endpoint("http://127.0.0.1:1/v1"), **(self.endpoint or {})})
        return key(replace(BASE, **(self.request or {})), at)


_OTHER_WAY = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
_WITH_IMAGE = (BASE.messages[0], {"role": "user", "content": [{"type": "text", "text": "The pump leaks."}, _IMAGE]})
CHANGES = (
    Case(id="model", endpoint={"model": "large"}),
    Case(id="base URL", endpoint={"base_url": "http://127.0.0.1:2/v1"}),
    Case(id="how JSON is asked for", endpoint={"structured": "none"}),
    Case(id="name of the output limit", endpoint={"output_limit": "max_completion_tokens"}),
    Case(id="user text", request={"messages": (BASE.messages[0], {"role": "user", "content": "The pump leaks. "})}),
    Case(id="system text", request={"messages": ({"role": "system", "content": "Look."}, BASE.messages[1])}),
    Case(id="order of messages", request={"messages": BASE.messages[::-1]}),
    Case(id="an example more", request={"messages": (*BASE.messages[:1], *BASE.messages[1:], BASE.messages[1])}),
    Case(id="an image", request={"messages": _WITH_IMAGE}),
    Case(id="schema", request={"schema": {**SCHEMA, "required": ["a"]}}),
    Case(id="order in the schema", request={"schema": _OTHER_WAY}),
    Case(id="no schema", request={"schema": None}),
    Case(id="tools", request={"tools": (TOOL, TOOL)}),
    Case(id="no tools", request={"tools": ()}),
    Case(id="temperature", request={"temperature": 0.1}),
    Case(id="no temperature", request={"temperature": None}),
    Case(id="seed", request={"seed": 2}),
    Case(id="max_output_tokens", request={"max_output_tokens": 65}),
    Case(id="logprobs", request={"logprobs": True}),
    Case(id="sample", request={"sample": 1}),
    Case(id="text to embed", request={"messages": (), "text": "The pump leaks."}),
    Case(id="length of the vector", request={"messages": (), "text": "The pump leaks.", "dimensions": 64}),
)
SAME = (
    Case(id="nothing"),
    Case(id="route", request={"route": "other"}),
    Case(id="kind", request={"kind": "classify"}),
    Case(id="document", request={"document": "another"}),
    Case(id="timeout", request={"timeout_s": 3.0}),
    Case(id="reuse_for_s", request={"reuse_for_s": 3.0}),
    Case(id="on_ambiguous", request={"on_ambiguous": "hold"}),
    Case(id="check", request={"check": lambda answer: "no"}),
    Case(id="order in a message", request={"messages": tuple(dict(sorted(m.items())) for m in BASE.messages)}),
    Case(id="temperature as a whole number", request={"temperature": 0}),
    Case(id="price", endpoint={"prices": [{"from": "2025-01-01", "input": 9, "output": 9}]}),
    Case(id="limits", endpoint={"limits": {"concurrency": 1, "requests_per_minute": 5}}),
    Case(id="key", endpoint={"key": "SOME_VARIABLE"}),
    Case(id="id of the key", endpoint={"key_id": "key_a", "key_exclusive": True}),
    Case(id="what errors cost", endpoint={"errors_are_free": False}),
    Case(id="timeout of the endpoint", endpoint={"timeout_s": 5}),
    Case(id="image tokens", endpoint={"image_tokens": 5}),
)


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.id)
def test_what_changes_the_answer_changes_the_key(case: Case) -> None:
    assert case.key != key(BASE)


@pytest.mark.parametrize("case", SAME, ids=lambda case: case.id)
def test_how_and_for_whom_it_is_asked_does_not(case: Case) -> None:
    assert case.key == key(BASE)


def test_all_changes_are_different_calls() -> None:
    keys = [case.key for case in CHANGES]
    assert len(set(keys)) == len(CHANGES)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_message = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": _json}, optional={"x": _json})
_request = st.builds(
    Request,
    messages=st.lists(_message, max_size=3).map(tuple),
    schema=st.none() | st.dictionaries(st.text(), _json, max_size=3),
    temperature=st.none() | st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.none() | st.integers(0, 9),
    max_output_tokens=st.integers(1, 9),
    sample=st.integers(0, 2),
)


def seen(request: Request) -> str:
    """What the provider sees of a request, written in another way than `body_of` does."""
    messages = json.dumps(list(request.messages), sort_keys=True)
    # Of what is no message, order means something; 1.0 and 1 are two spellings.
    rest = [request.temperature, request.seed, request.max_output_tokens, request.sample, json.dumps(request.schema)]
    return messages + json.dumps(rest)


@given(_request, _request)
def test_keys_are_equal_exactly_where_requests_are(first: Request, second: Request) -> None:
    assert (key(first) == key(second)) == (seen(first) == seen(second))


@given(_request)
def test_what_is_sent_is_the_same_bytes_each_time_and_reads_as_the_request(request: Request) -> None:
    body = body_of(ENDPOINT, request)
    assert body == body_of(ENDPOINT, replace(request, document="other", kind="extract"))
    read = json.loads(body)
    assert json.dumps(read["messages"], sort_keys=True) == json.dumps(list(request.messages), sort_keys=True)
    assert body.isascii()


def circular() -> Any:
    loop: dict[str, Any] = {"role": "user"}
    loop["content"] = [loop]
    return loop


def deep() -> Any:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    return nested


UNHASHABLE: Mapping[str, Mapping[str, Any]] = {
    "NaN": {"messages": ({"role": "user", "content": float("nan")},)},
    "infinity": {"messages": ({"role": "user", "content": float("inf")},)},
    "temperature that is none": {"temperature": float("nan")},
    "temperature that is no number": {"temperature": "warm"},
    "bytes": {"messages": ({"role": "user", "content": b"abc"},)},
    "bytearray": {"messages": ({"role": "user", "content": bytearray(b"abc")},)},
    "set": {"messages": ({"role": "user", "content": {"a"}},)},
    "object": {"messages": ({"role": "user", "content": object()},)},
    "circular message": {"messages": (circular(),)},
    "deep message": {"messages": ({"role": "user", "content": deep()},)},
    "keys of several kinds": {"messages": ({"role": "user", "content": {1: "a", "b": 2}},)},
    "NaN in the schema": {"schema": {"const": float("nan")}},
    "bytes in the schema": {"schema": {"const": b"abc"}},
    "circular schema": {"schema": circular()},
    "deep schema": {"schema": {"const": deep()}},
    "circular tool": {"tools": (circular(),)},
    "object as seed": {"seed": object()},
    "bytes to embed": {"messages": (), "text": b"abc"},
}


@pytest.mark.parametrize("structured", ["json_schema", "none"])
@pytest.mark.parametrize("name", UNHASHABLE)
def test_what_json_cannot_hold_has_no_key(name: str, structured: str) -> None:
    at = Endpoint.model_validate({**endpoint("http://127.0.0.1:1/v1"), "structured": structured})
    with pytest.raises(Unhashable):
        body_of(at, replace(BASE, **UNHASHABLE[name]))


def test_a_request_without_a_key_is_unanswered_and_the_others_go_on(provider: Provider, tmp_path: Path) -> None:
    provider.reset()
    odd = [replace(question(name), **changed) for name, changed in UNHASHABLE.items()]
    asked = [question("first"), *odd, question("last")]
    results = ask(f"sqlite:///{tmp_path}/state.db", one(provider.url), asked)
    assert [type(result) for result in results] == [Answer, *[Unanswered] * len(odd), Answer]
    for result in results[1:-1]:
        assert isinstance(result, Unanswered)
        assert (result.error, result.cost_usd, result.attempts) == ("unhashable", 0, 0)
        assert "cannot be written as JSON" in result.message
    assert provider.stats()["calls"] == 2


@pytest.mark.parametrize("make", [question, to_embed], ids=["chat", "embeddings"])
def test_equal_requests_of_one_map_are_one_paid_call(make: Any, provider: Provider, tmp_path: Path) -> None:
    provider.reset()
    asked = [replace(make(number % 5), document=str(number)) for number in range(200)]
    results = ask(f"sqlite:///{tmp_path}/state.db", one(provider.url), asked)
    assert all(isinstance(result, Answer) for result in results)
    answers = [result for result in results if isinstance(result, Answer)]
    assert sum(answer.attempts for answer in answers) == 5
    assert len({answer.call for answer in answers}) == 5
    assert sum(answer.reused for answer in answers) == 195
    stats = provider.stats()
    assert stats["tokens"]["input"] == sum(answer.usage.input_tokens for answer in answers if answer.attempts)
    assert stats["billed_twice"] == 0


def test_two_routes_to_one_endpoint_share_their_answers(provider: Provider, tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/state.db", one(provider.url)) as engine:
        first = engine.call(question(1, route="default"), CALLER)
        second = engine.call(replace(question(1), route="mini", kind="extract", document="elsewhere"), CALLER)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (second.reused, second.cost_usd, second.saved_usd) == (True, 0, first.cost_usd)
    assert second.text == first.text
