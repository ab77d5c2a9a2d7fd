"""Claims about money: exact, never less than it is, and a reservation that no answer exceeds."""

import datetime
import json
import timeit
from decimal import Decimal, localcontext
from importlib import resources
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ai_assets.inference.prices import (
    FREE,
    MESSAGE_TOKENS,
    REQUEST_TOKENS,
    cost_nusd,
    estimated_tokens,
    input_tokens_at_most,
    nusd_of,
    price_at,
    usd_of,
    worst_case_nusd,
)
from ai_assets.inference.records import Request, Usage
from ai_assets.inference.settings import Endpoint, TokenPrice
from ai_assets.storage.digest import Json

MINI = TokenPrice.model_validate({"from": "2026-01-01", "input": 0.15, "cached_input": 0.075, "output": 0.6})
DAY = datetime.date(2026, 11, 21)

dollars = st.integers(0, 10**7).map(lambda n: n / 10**5) | st.floats(0, 1000)
prices = st.builds(
    lambda fresh, cached, output: TokenPrice.model_validate(
        {"from": DAY, "input": fresh, "cached_input": cached, "output": output}
    ),
    dollars,
    st.none() | dollars,
    dollars,
)
tokens = st.integers(0, 10**7)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """As providers count: cached is a part of input."""
    total = draw(tokens)
    return Usage(input_tokens=total, cached_tokens=draw(st.integers(0, total)), output_tokens=draw(tokens))


# Dollars and nano-dollars


@given(st.integers(-(10**15), 10**15))
def test_nano_dollars_survive_the_way_to_dollars_and_back(nusd: int) -> None:
    assert nusd_of(usd_of(nusd)) == nusd


def test_a_tenth_of_a_cent_is_what_its_digits_say() -> None:
    assert [nusd_of(usd) for usd in (0.001, 0.1, 0.29, 1.1, 1e-9)] == [10**6, 10**8, 290_000_000, 1_100_000_000, 1]


# What a call cost


@pytest.mark.parametrize(
    ("usage", "nusd"),
    [
        (Usage(), 0),
        (Usage(input_tokens=1), 150),
        (Usage(output_tokens=1), 600),
        (Usage(input_tokens=1000, cached_tokens=400), 600 * 150 + 400 * 75),
        (Usage(input_tokens=10, output_tokens=10, reasoning_tokens=10), 7500),
        (Usage(input_tokens=1_000_000, output_tokens=1_000_000), 750_000_000),
        (Usage(input_tokens=1, cached_tokens=3), 225),
    ],
    ids=[
        "nothing",
        "a token in",
        "a token out",
        "cached",
        "reasoning is output",
        "a million",
        "more cached than input",
    ],
)
def test_a_call_costs_what_the_price_list_says(usage: Usage, nusd: int) -> None:
    assert cost_nusd(MINI, usage) == nusd


def test_cached_tokens_without_a_price_of_their_own_cost_as_much_as_others() -> None:
    price = TokenPrice.model_validate({"from": DAY, "input": 2})
    assert cost_nusd(price, Usage(input_tokens=10, cached_tokens=10)) == 10 * 2000


def test_a_fraction_of_a_nano_dollar_is_rounded_up_once() -> None:
    price = TokenPrice.model_validate({"from": DAY, "input": 0.0001, "output": 0.0001})
    assert cost_nusd(price, Usage(input_tokens=1, output_tokens=1)) == 1
    assert cost_nusd(price, Usage(input_tokens=6, output_tokens=5)) == 2


@given(prices, usages())
def test_the_cost_is_that_of_decimal_arithmetic_rounded_up(price: TokenPrice, usage: Usage) -> None:
    cached = price.input if price.cached_input is None else price.cached_input
    parts = (
        (usage.input_tokens - usage.cached_tokens, price.input),
        (usage.cached_tokens, cached),
        (usage.output_tokens, price.output),
    )
    with localcontext(prec=400):
        exact = sum((count * Decimal(str(usd)) * 1000 for count, usd in parts), Decimal(0))
        assert 0 <= cost_nusd(price, usage) - exact < 1


@given(prices, usages())
def test_no_answer_within_its_bounds_costs_more_than_was_reserved(price: TokenPrice, usage: Usage) -> None:
    assert cost_nusd(price, usage) <= worst_case_nusd(price, usage.input_tokens, usage.output_tokens)


@given(prices, tokens, tokens, tokens, tokens)
def test_more_tokens_never_cost_less(price: TokenPrice, first: int, output: int, more: int, more_output: int) -> None:
    assert worst_case_nusd(price, first, output) <= worst_case_nusd(price, first + more, output + more_output)


@given(prices, st.lists(usages(), max_size=5))
def test_calls_apart_never_cost_less_than_together_and_at_most_a_nano_dollar_each_more(
    price: TokenPrice, parts: list[Usage]
) -> None:
    together = Usage(
        input_tokens=sum(u.input_tokens for u in parts),
        cached_tokens=sum(u.cached_tokens for u in parts),
        output_tokens=sum(u.output_tokens for u in parts),
    )
    apart = sum(cost_nusd(price, usage) for usage in parts)
    assert cost_nusd(price, together) <= apart <= cost_nusd(price, together) + len(parts)


# Which price holds


def priced(*dates: str, free: bool = False) -> Endpoint:
    listed = [{"from": date, "input": number + 1} for number, date in enumerate(dates)]
    return Endpoint.model_validate({"base_url": "rehearsal", "model": "m", "prices": listed, "free": free})


@pytest.mark.parametrize(
    ("on", "input_usd"),
    [("2025-12-31", None), ("2026-01-01", 2), ("2026-06-30", 2), ("2026-07-01", 1), ("2030-01-01", 1)],
)
def test_the_newest_price_whose_date_has_come_holds_in_whatever_order_they_stand(
    on: str, input_usd: float | None
) -> None:
    price = price_at(priced("2026-07-01", "2026-01-01"), datetime.date.fromisoformat(on))
    assert (price.input if price else None) == input_usd


def test_an_endpoint_nobody_priced_has_no_price_and_a_free_one_costs_nothing() -> None:
    assert price_at(priced(), DAY) is None
    assert price_at(priced(free=True), DAY) == FREE
    assert worst_case_nusd(FREE, 10**9, 10**9) == 0


# How long a request may be


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Llama 2's, byte fallback and all: it comes with the built-in embedder."""
    folder = resources.files("wordllama") / "tokenizers"
    return Tokenizer.from_str((folder / "l2_supercat_tokenizer_config.json").read_text(encoding="utf-8"))


contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
schemas = st.none() | st.fixed_dictionaries(
    {"type": st.just("object"), "description": contents, "enum": st.lists(contents, max_size=3)}
)


@given(texts=st.lists(contents, max_size=4), schema=schemas)
def test_no_text_has_more_tokens_than_the_bound(
    tokenizer: Tokenizer, texts: list[str], schema: dict[str, Any] | None
) -> None:
    request = Request(messages=tuple({"role": "user", "content": text} for text in texts), schema=schema)
    pieces = [piece for text in texts for piece in ("user", text)] + ([json.dumps(schema)] if schema else [])
    marks = 5 * len(texts)
    counted = sum(len(tokenizer.encode(piece).ids) for piece in pieces) + marks
    assert counted <= input_tokens_at_most(request, 0)


@given(st.lists(contents, max_size=4))
def test_the_bound_is_the_bytes_and_a_fixed_amount_around_them(texts: list[str]) -> None:
    request = Request(messages=tuple({"role": "user", "content": text} for text in texts))
    text_bytes = sum(len(text.encode()) for text in texts)
    around = REQUEST_TOKENS + len(texts) * (MESSAGE_TOKENS + len("user"))
    assert input_tokens_at_most(request, 0) == text_bytes + around


def asks(*parts: Json, **more: Any) -> Request:
    return Request(messages=({"role": "user", "content": parts},), **more)


IMAGE: Json = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 9000}"}}
TOOL: Json = {"type": "function", "function": {"name": "look_up", "description": "Looks a word up."}}


@given(st.integers(0, 5), st.integers(0, 5000))
def test_an_image_counts_as_itself_and_not_by_its_bytes(images: int, image_tokens: int) -> None:
    without = input_tokens_at_most(asks(), image_tokens)
    assert input_tokens_at_most(asks(*[IMAGE] * images), image_tokens) == without + images * image_tokens


@pytest.mark.parametrize(
    ("longer", "by_at_least"),
    [
        (asks({"type": "text", "text": "Grüße"}), 7),
        (asks({"type": "input_audio", "input_audio": {"data": "A" * 500}}), 500),
        (asks(schema={"enum": ["é" * 10]}), 60),
        (asks(schema=MappingProxyType({"type": "string"})), 18),
        (asks(tools=(TOOL,)), len(json.dumps(TOOL))),
        (Request(text="half a pair \ud83d"), 15 - len("user") - MESSAGE_TOKENS),
        (Request(messages=({"role": "assistant", "content": None, "tool_calls": [TOOL]},)), len(json.dumps([TOOL]))),
    ],
    ids=[
        "text part",
        "a part unknown here",
        "escapes of a schema",
        "a read-only schema",
        "tools",
        "surrogate",
        "calls",
    ],
)
def test_all_that_is_sent_counts(longer: Request, by_at_least: int) -> None:
    assert input_tokens_at_most(longer, 0) >= input_tokens_at_most(asks(), 0) + by_at_least


@given(st.lists(contents, max_size=3), contents)
def test_a_longer_conversation_is_never_held_for_shorter(texts: list[str], one_more: str) -> None:
    def request(*said: str) -> Request:
        return Request(messages=tuple({"role": "user", "content": text} for text in said))

    assert input_tokens_at_most(request(*texts), 0) < input_tokens_at_most(request(*texts, one_more), 0)
    assert estimated_tokens(request(*texts)) <= estimated_tokens(request(*texts, one_more))


def test_the_estimate_is_near_the_count_of_english(tokenizer: Tokenizer) -> None:
    text = "The dock door was repaired on Monday, and the invoice for it came two weeks later than we thought. " * 20
    counted = len(tokenizer.encode(text).ids)
    assert counted / 1.4 < estimated_tokens(Request(text=text)) < counted * 1.4


def test_measuring_a_request_takes_microseconds() -> None:
    """Measured: 0.5 on two cores, 5 with a schema; the bound leaves room for a machine that does other things too."""
    request = Request(messages=({"role": "user", "content": "x" * 2000},))
    assert min(timeit.repeat(lambda: input_tokens_at_most(request, 0), number=100, repeat=20)) / 100 < 10e-6
