"""From what would be asked to what it may cost: tokens, answers, repairs. Pure arithmetic, about 95 per cent sure.

Estimates are of course no whole numbers; they become whole nano-dollars when a stage is summed up.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.base.plural import plural
from ai_assets.inference.settings import Endpoint, TokenPrice
from ai_assets.planning.past import PastQuestions
from ai_assets.planning.records import CERTAIN, Chance, Money, Range
from ai_assets.planning.tokens import TEMPLATE_ERROR
from ai_assets.planning.totals import SAMPLE, CallGroup, Tally

NUSD_PER_PRICE = 1000
"""A price is in dollars per million tokens."""
CACHED_FROM_TOKENS = 1024
"""Providers give cached input at its lower price from about this length on."""
SAME, OTHER = 0.10, 0.30
"""How far the mean of coming answers may be off beside chance: after the same prompt, after another one."""
UNREAD = 0.25
"""How far the text of files may be off that are known by their size alone."""
NONE_SEEN = 3.0
"""Of what was seen in none of n cases, less than 3/n is to be expected (at 95 per cent)."""
REPAIR = 2.5
"""About what a question costs beside its first answer when that must be repaired, in such answers."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Calls and tokens at one endpoint."""

    calls: Range
    input_tokens: Range
    output_tokens: Range


@dataclass(frozen=True, kw_only=True)
class Estimate:
    volumes: Mapping[str, Volume]
    factor: Range
    """By which repairs and paid failures raise the cost."""
    tokens_from: str
    output_from: str
    cached_low: bool
    """Whether much of the input may come at the price of cached tokens."""

    def total(self, what: str) -> Range:
        found: list[Range] = [getattr(volume, what) for volume in self.volumes.values()]
        return Range(
            low=sum(each.low for each in found),
            likely=sum(each.likely for each in found),
            high=sum(each.high for each in found),
        )


def estimate(
    tally: Tally, endpoints: Mapping[str, Endpoint], past: PastQuestions, alike: PastQuestions, words: str
) -> Estimate:
    """`alike`: those of the past questions that tell most of the coming ones; `words` says which."""
    ratios = {name: _ratio(tally, name, endpoints[name]) for name in {item[0] for item in tally.with_unread()}}
    volumes: dict[str, Volume] = {}
    for name, (ratio, _) in ratios.items():
        groups = [(chance, group) for each, chance, group in tally.with_unread() if each == name]
        calls = _calls([(chance, group.calls) for chance, group in groups])
        into = _input(groups, calls, ratio)
        volumes[name] = Volume(calls=calls, input_tokens=into, output_tokens=_output(tally, alike, words, calls))
    said = next((said for _, said in ratios.values()), "")
    total = sum(volume.calls.likely for volume in volumes.values())
    per_call = sum(volume.input_tokens.likely for volume in volumes.values()) / total if total else 0.0
    return Estimate(
        volumes=volumes,
        factor=_unsure_of_unread(tally, _factor(tally, alike, total)),
        tokens_from=said,
        output_from=_output_from(tally, alike, words),
        cached_low=per_call >= CACHED_FROM_TOKENS or any(item.cached_tokens for item in past.asked),
    )


def money_of(found: Estimate, prices: Mapping[str, TokenPrice]) -> Money:
    """What these calls cost at the prices of their endpoints, or of others."""
    low = likely = high = 0.0
    for name, volume in found.volumes.items():
        price = prices[name]
        cached = price.cached_input if price.cached_input is not None and found.cached_low else price.input
        low += volume.input_tokens.low * min(cached, price.input) + volume.output_tokens.low * price.output
        likely += volume.input_tokens.likely * price.input + volume.output_tokens.likely * price.output
        high += volume.input_tokens.high * max(cached, price.input) + volume.output_tokens.high * price.output
    low, likely, high = low * found.factor.low, likely * found.factor.likely, high * found.factor.high
    likely = max(likely, low)
    return Money(
        low_nusd=math.floor(low * NUSD_PER_PRICE),
        likely_nusd=round(likely * NUSD_PER_PRICE),
        high_nusd=math.ceil(max(high, likely) * NUSD_PER_PRICE),
    )


def _ratio(tally: Tally, name: str, endpoint: Endpoint) -> tuple[Range, str]:
    """Tokens to a byte, and where that is known from."""
    counted, sampled = tally.counted.get(name), tally.sampled.get(name)
    if counted is not None and counted.size:
        exact = counted.calls == tally.calls.get(name, 0)
        used = counted if exact or sampled is None or sampled.calls < SAMPLE else sampled
        ratio = used.ratio()
        if exact:
            ratio = Range(low=ratio.likely, likely=ratio.likely, high=ratio.likely)
        if endpoint.tokenizer is not None:
            ratio = _widened(ratio, TEMPLATE_ERROR)
        words = "the model's tokenizer"
        return ratio, words if exact else f"{words}, on a sample of {used.calls:,}"
    same = [(size, tokens) for size, tokens, exact in tally.pairs if exact]
    pairs = same if len(same) >= 5 else [(size, tokens) for size, tokens, _ in tally.pairs]
    if len(pairs) >= 5:
        likely = sum(tokens for _, tokens in pairs) / sum(size for size, _ in pairs)
        learnt = _widened(Range(low=likely, likely=likely, high=likely), 0.08 if pairs is same else 0.30)
        bounded = Range(low=max(learnt.low, 1 / 8), likely=likely, high=min(learnt.high, 1.0))
        return bounded, f"an estimate learnt from {plural(len(pairs), 'call')}"
    return Range(low=1 / 8, likely=1 / 4, high=1 / 2), "bytes"


def _widened(ratio: Range, share: float) -> Range:
    return Range(low=ratio.low * (1 - share), likely=ratio.likely, high=ratio.high * (1 + share))


def _calls(groups: Sequence[tuple[Chance, float]]) -> Range:
    """How many of them are made: probabilities have bounds of their own, and then there is luck."""
    sure = sum(number for chance, number in groups if chance == CERTAIN)
    open_ = [(chance, number) for chance, number in groups if chance != CERTAIN]

    def luck(place: int) -> float:
        return 2 * math.sqrt(sum(number * chance[place] * (1 - chance[place]) for chance, number in open_))

    low = sum(chance.low * number for chance, number in open_) - luck(0)
    likely = sum(chance.likely * number for chance, number in open_)
    high = sum(chance.high * number for chance, number in open_) + luck(2)
    most = sum(number for _, number in open_)
    return Range(low=sure + max(low, 0.0), likely=sure + likely, high=sure + min(high, most))


def _input(groups: Sequence[tuple[Chance, CallGroup]], calls: Range, ratio: Range) -> Range:
    """Those that are sure have their own size; of the others the size of those that are likely."""
    sure = sum(group.size for chance, group in groups if chance == CERTAIN)
    sure_calls = sum(group.calls for chance, group in groups if chance == CERTAIN)
    open_size = sum(group.size * chance.likely for chance, group in groups if chance != CERTAIN)
    open_calls = sum(group.calls * chance.likely for chance, group in groups if chance != CERTAIN)
    each = open_size / open_calls if open_calls else 0.0
    off = 0.35 / math.sqrt(max(open_calls, 1.0))
    return Range(
        low=(sure + (calls.low - sure_calls) * each * (1 - off)) * ratio.low,
        likely=(sure + open_size) * ratio.likely,
        high=(sure + (calls.high - sure_calls) * each * (1 + off)) * ratio.high,
    )


def _quantile(number: int) -> float:
    """Of Student's t at 97.5 per cent, near enough."""
    return 1.96 + 3.3 / max(number - 1, 1)


def _output(tally: Tally, alike: PastQuestions, words: str, calls: Range) -> Range:
    if tally.kind == "embed":
        return Range(low=0.0, likely=0.0, high=0.0)
    most = tally.max_output_tokens
    given = [min(item.output_tokens, most) for item in alike.asked]
    if not given:
        least, likely = (min(number, most) for number in tally.usual_output)
        return Range(low=calls.low * least, likely=calls.likely * likely, high=calls.high * most)
    mean, spread, number = statistics.fmean(given), statistics.pstdev(given), len(given)
    off, t = (SAME if words == "of this prompt" else OTHER), _quantile(number)

    def room(made: float) -> float:
        return made * mean * off + t * spread * math.sqrt(made + made * made / number)

    return Range(
        low=max(calls.low * mean - room(calls.low), 0.0),
        likely=calls.likely * mean,
        high=min(calls.high * mean + room(calls.high), calls.high * most),
    )


def _output_from(tally: Tally, alike: PastQuestions, words: str) -> str:
    if tally.kind == "embed":
        return ""
    if alike.asked:
        return f"{plural(len(alike.asked), 'answer')} {words}"
    least, likely = (min(number, tally.max_output_tokens) for number in tally.usual_output)
    return f"no answers yet: {least} to {tally.max_output_tokens}, likely {likely}"


def _unsure_of_unread(tally: Tally, factor: Range) -> Range:
    """More room by the share of what is asked about files that nobody has read."""
    unread = sum(chance.likely * group.size for chance, group in tally.unread.items())
    every = sum(chance.likely * group.size for _, chance, group in tally.with_unread())
    share = unread / every if every else 0.0
    return Range(low=factor.low * (1 - UNREAD * share), likely=factor.likely, high=factor.high * (1 + UNREAD * share))


def _factor(tally: Tally, alike: PastQuestions, calls: float) -> Range:
    """What repairs and paid failures add."""
    number = len(alike.asked)
    if not number:
        return Range(low=1.0, likely=1.0, high=1.25)
    mean_nusd = statistics.fmean(item.cost_nusd for item in alike.asked) or 1.0
    more = [item.more_nusd / mean_nusd for item in alike.asked]
    mean, spread = statistics.fmean(more), statistics.pstdev(more)
    off = _quantile(number) * spread * math.sqrt(1 / max(calls, 1.0) + 1 / number)
    unseen = min(NONE_SEEN / number * REPAIR, 0.3) if not any(more) and tally.kind != "embed" else 0.02
    return Range(low=1 + max(mean - off, 0.0), likely=1 + mean, high=1 + mean + off + unseen)
