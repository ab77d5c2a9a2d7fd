"""What a call may cost before it is made, and what it did cost. Pure.

Money is whole nano-dollars inside (`_nusd`), so that sums are exact; dollars are for files and people.
"""

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from ai_assets.inference.errors import EndpointUnedited, PriceUnknown
from ai_assets.inference.memo import remembered
from ai_assets.inference.price_hours import Moment, day_of, hourly, price_of
from ai_assets.inference.records import Request, Usage
from ai_assets.inference.settings import BATCH_TIER, DEFAULT_TIER, Endpoint, TokenPrice
from ai_assets.storage.digest import Json

USUAL_BATCH_SHARE = 0.5
"""Providers take half the price for what may wait a day."""
NUSD = 10**9
"""Nano-dollars in a dollar."""
FREE = TokenPrice.model_validate({"from": datetime.date.min, "input": 0.0})
MESSAGE_TOKENS = 16
REQUEST_TOKENS = 256
"""What stands around the text: marks for each message; once, a system text of the template and how to call tools.
Qwen 2.5's published template writes 500 bytes of its own, about 120 tokens; the rest is room for how the schema is
introduced to an endpoint that must be told in words."""
IMAGE_ESTIMATE = 1000
"""Tokens of an image when only the length matters; what it may cost is said by the endpoint's `image_tokens`."""


def nusd_of(usd: float) -> int:
    return round(Fraction(str(usd)) * NUSD)


def usd_of(nusd: int) -> float:
    return nusd / NUSD


def price_at(endpoint: Endpoint, on: Moment, tier: str | None = None) -> TokenPrice | None:
    """The newest price whose date has come, by the hour where `on` is a moment. None: nobody said what a call costs."""
    if endpoint.free:
        return FREE
    return price_of(endpoint.prices, DEFAULT_TIER if tier is None else tier, on)


def prices_of_day(endpoint: Endpoint, on: datetime.date, tier: str | None = None) -> list[TokenPrice]:
    """Whatever their hours: what a call of this tier may cost on that day."""
    return [FREE] if endpoint.free else hourly(endpoint.prices, DEFAULT_TIER if tier is None else tier, on)


def call_price(name: str, endpoint: Endpoint, on: Moment, tier: str | None = None) -> TokenPrice:
    """The price of a call that is about to be made; without one, or at an endpoint that is a scaffold, none is made."""
    price = price_at(endpoint, on, tier)
    if endpoint.unedited:
        raise EndpointUnedited(name, endpoint.unedited, key=endpoint.key, is_priced=price is not None)
    if price is None:
        raise PriceUnknown(name, endpoint.llm, day_of(on), tier)
    return price


def tier_prices(endpoint: Endpoint, on: Moment) -> tuple[TokenPrice, ...]:
    """Of each tier that has a price then, in the order in which they are declared; one where no tier is declared."""
    if endpoint.free:
        return (FREE,)
    found = (price_at(endpoint, on, tier) for tier in dict.fromkeys(price.tier for price in endpoint.prices))
    return tuple(price for price in found if price is not None)


def all_prices(endpoint: Endpoint, on: datetime.date) -> tuple[TokenPrice, ...]:
    """Those, and what a line of a batch costs."""
    found, line = tier_prices(endpoint, on), _line_price(endpoint, on)
    return found if line is None or line in found else (*found, line)


def reserved_prices(endpoint: Endpoint, on: datetime.date, *, by_batch: bool = False) -> tuple[TokenPrice, ...]:
    """Of which the dearest is reserved for a call; none where nobody says what one costs."""
    if by_batch and endpoint.batch is not None and (line := _line_price(endpoint, on)) is not None:
        return (line,)
    return tier_prices(endpoint, on)


def least_reserved_nusd(
    endpoint: Endpoint, on: datetime.date, input_tokens: int, output_tokens: int, *, by_batch: bool = False
) -> int | None:
    """The least that is reserved for a call on that day: the dearest tier that it may be served at, in its cheapest
    hour. None where nobody says what one costs."""
    found = [
        min(worst_case_nusd(each, input_tokens, output_tokens) for each in hours)
        for price in reserved_prices(endpoint, on, by_batch=by_batch)
        if (hours := [price] if price.tier == BATCH_TIER else prices_of_day(endpoint, on, price.tier))
    ]
    return max(found, default=None)


def usual_batch_price(endpoint: Endpoint, on: datetime.date) -> TokenPrice | None:
    """As declared, else as providers usually have it, for who does not use batches yet."""
    price = price_at(endpoint, on)
    if endpoint.free or price is None:
        return price
    return _line_price(endpoint, on) or _shared(price, USUAL_BATCH_SHARE)


def batch_price(name: str, endpoint: Endpoint, on: Moment) -> TokenPrice:
    """What a line of a batch costs: a price that is declared for the tier `batch`, else the endpoint's, times what it
    declares as `batch.price_share`. The one without hours: nobody knows at which a line is run."""
    on = day_of(on)
    if not endpoint.free and (declared := price_at(endpoint, on, BATCH_TIER)) is not None:
        return declared
    price = call_price(name, endpoint, on)
    return _line_price(endpoint, on) or price


def _line_price(endpoint: Endpoint, on: datetime.date) -> TokenPrice | None:
    """As declared for a line of a batch: a price of that tier, else a share of the usual one."""
    if endpoint.free:
        return None
    if (declared := price_at(endpoint, on, BATCH_TIER)) is not None:
        return declared
    usual, share = price_at(endpoint, on), None if endpoint.batch is None else endpoint.batch.price_share
    return None if usual is None or share is None else _shared(usual, share)


@lru_cache(maxsize=256)
def _shared(price: TokenPrice, share: float) -> TokenPrice:
    def part(usd: float | None) -> float | None:
        return None if usd is None else float(Decimal(str(usd)) * Decimal(str(share)))

    declared = {"from": price.from_, "tier": BATCH_TIER, "input": part(price.input), "output": part(price.output)}
    return TokenPrice.model_validate({**declared, "cached_input": part(price.cached_input)})


@dataclass(frozen=True)
class Rates:
    """Whole numbers: tokens times a rate, over the common denominator, are nano-dollars."""

    input: int
    cached: int
    output: int
    denominator: int


@lru_cache(maxsize=256)
def rates_of(price: TokenPrice) -> Rates:
    """A price is what its decimal digits say, not the nearest binary fraction."""
    cached = price.input if price.cached_input is None else price.cached_input
    per_token = [Fraction(str(usd)) * 1000 for usd in (price.input, cached, price.output)]
    denominator = math.lcm(*(rate.denominator for rate in per_token))
    fresh, reused, output = (int(rate * denominator) for rate in per_token)
    return Rates(fresh, reused, output, denominator)


def cost_nusd(price: TokenPrice, usage: Usage) -> int:
    """Rounded up, once. Of a provider that counts more cached tokens than input, both are believed."""
    rates = rates_of(price)
    fresh = max(0, usage.input_tokens - usage.cached_tokens)
    total = fresh * rates.input + usage.cached_tokens * rates.cached + usage.output_tokens * rates.output
    return -(-total // rates.denominator)


DEFAULT_NAMES = frozenset({"", DEFAULT_TIER, "standard", "on_demand"})
"""What providers call the tier of a request that asks for none: OpenAI, Azure, Groq."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """The price of a call by the tier that its answer names."""

    price: TokenPrice
    note: str | None = None
    """Why it is not simply the price of that tier."""


def served_at(prices: Sequence[TokenPrice], asked: str | None, answered: str | None, usage: Usage) -> Served:
    """`prices` are those of `tier_prices`. What is not known is counted at the dearest price that is declared."""
    if len(prices) == 1 and asked is None:
        return Served(price=prices[0])  # nothing was declared by tier
    tier = DEFAULT_TIER if answered in DEFAULT_NAMES or (answered is None and asked is None) else answered
    found = next((price for price in prices if price.tier == tier), None)
    if found is not None:
        return Served(price=found)
    dearest = max(prices, key=lambda price: cost_nusd(price, usage))
    if answered is None:
        said = f"the tier '{asked}' was asked for, and the answer does not say at which it was served"
    else:
        said = f"it was served at the tier '{answered}', of which no price is declared"
    return Served(price=dearest, note=f"{said}; the dearest price was counted")


def worst_case_nusd(price: TokenPrice, input_tokens_at_most: int, output_tokens_at_most: int) -> int:
    """The most that a call within these bounds can cost: what is reserved before it leaves."""
    rates = rates_of(price)
    total = input_tokens_at_most * max(rates.input, rates.cached) + output_tokens_at_most * rates.output
    return -(-total // rates.denominator)


def input_tokens_at_most(request: Request, image_tokens: int) -> int:
    """No tokenizer makes more of it: a token stands for at least one byte of the text.

    True of the byte-level and byte-fallback vocabularies of chat models, which do not rewrite text. Schema and tools
    count with the escapes of their JSON, because templates write them into the prompt like that.
    """
    count, images = _bytes_and_images(request)
    return count + images * image_tokens + REQUEST_TOKENS + MESSAGE_TOKENS * len(request.messages)


def estimated_tokens(request: Request) -> int:
    """About right for English, for choosing an endpoint; never for money."""
    count, images = _bytes_and_images(request)
    return count // 4 + images * IMAGE_ESTIMATE


def _bytes_and_images(request: Request) -> tuple[int, int]:
    count = _length(request.text) if request.text is not None else 0
    images = 0
    for message in request.messages:
        for name, value in message.items():
            if isinstance(value, str):
                count += _length(value)
            elif name == "content" and isinstance(value, list | tuple):
                more, pictures = _parts(value)
                count += more
                images += pictures
            elif value is not None:
                count += _json_length(value)
    if request.schema is not None:
        count += _schema_length(request.schema)
    if request.tools:
        count += _json_length(request.tools)
    return count, images


def _parts(parts: Iterable[Json]) -> tuple[int, int]:
    count = images = 0
    for part in parts:
        match part:
            case {"type": "image_url"}:
                images += 1
            case {"type": "text", "text": str(text)}:
                count += _length(text)
            case _:
                count += _json_length(part)
    return count, images


def _length(text: str) -> int:
    """Of the text in UTF-8; half a surrogate pair counts too."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@remembered
def _schema_length(schema: Mapping[str, Json]) -> int:
    return _json_length(schema)


def _json_length(value: Json) -> int:
    return len(json.dumps(value, default=_plain))


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, Iterable) else str(value)
