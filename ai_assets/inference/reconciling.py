"""What the provider's daily totals prove about attempts that may have been billed. Pure.

Nothing is taken from totals that something else could explain. A group is what the provider can have counted together:
one key, the models whose names it does not tell apart, and the days between which an attempt near midnight may have
slipped.
"""

import datetime
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from typing import Literal

from ai_assets.base.money import in_full
from ai_assets.base.plural import plural
from ai_assets.inference.ledger_totals import LedgerTotal, Straddling
from ai_assets.inference.prices import NUSD, all_prices, cost_nusd, prices_of_day
from ai_assets.inference.records import Usage
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.usage_files import DayTotal

TOO_COARSE = 100
"""Dollars that are rounded by more than this part of what may have been billed prove no amount."""
Verdict = Literal["agrees", "differs", "none billed", "all billed", "some billed", "not proven"]


@dataclass(frozen=True, kw_only=True)
class ReconciliationGroup:
    """Ours and theirs of what the provider can have counted together."""

    days: tuple[str, ...]
    models: tuple[str, ...]
    """As they were asked for; where the ledger asked for none, as the provider names them."""
    key_id: str | None
    billed_requests: int = 0
    billed_nusd: int = 0
    maybe_attempts: int = 0
    maybe_requests: int = 0
    maybe_nusd: int = 0
    in_flight: int = 0
    declared_free: int = 0
    their_requests: int | None = None
    their_nusd: int | None = None
    """Rounded up; where the file has no dollars, its tokens at our prices."""
    grain_nusd: int = 0
    """How far the dollars of the file may be rounded."""
    verdict: Verdict = "not proven"
    reason: str = ""
    """Why nothing is proven; empty where something is."""
    proven_nusd: int | None = None
    """What all attempts that may have been billed came to together."""

    @property
    def difference_nusd(self) -> int | None:
        return None if self.their_nusd is None else self.their_nusd - self.billed_nusd

    @property
    def more_requests(self) -> int | None:
        """Of theirs beyond those that we know to be billed."""
        return None if self.their_requests is None else self.their_requests - self.billed_requests


@dataclass(frozen=True, kw_only=True)
class ReconciliationInput:
    """What is held against what."""

    ours: Sequence[LedgerTotal]
    theirs: Sequence[DayTotal]
    straddling: Collection[Straddling]
    settings: InferenceSettings
    first_day: str
    last_day: str
    today: str
    same_models: Mapping[str, str]
    """Names of the provider, and what we call these models, where a person said so."""


def reconcile(question: ReconciliationInput) -> list[ReconciliationGroup]:
    """Each group with its verdict, by day, key and model."""
    names = _Names(question)
    parts: dict[tuple[str | None, str, str], list[LedgerTotal]] = defaultdict(list)
    theirs: dict[tuple[str | None, str, str], list[DayTotal]] = defaultdict(list)
    for our in question.ours:
        parts[our.key_id, names.of(our.key_id, our.model), our.day].append(our)
    for their in question.theirs:
        if question.first_day <= their.day <= question.last_day:
            theirs[their.key_id, names.of(their.key_id, their.model), their.day].append(their)
    found = []
    for key_id, name in sorted(
        {place[:2] for place in (*parts, *theirs)}, key=lambda place: (place[0] or "", place[1])
    ):
        days = sorted({day for key, model, day in (*parts, *theirs) if (key, model) == (key_id, name)})
        for span in _spans(days, question, names, key_id, name):
            mine = [each for day in span for each in parts.get((key_id, name, day), ())]
            them = [each for day in span for each in theirs.get((key_id, name, day), ())]
            if any(question.first_day <= day <= question.last_day for day in span) and (_counts(mine) or them):
                found.append(_judged(question, names, _group(question, names, key_id, name, span, mine, them), mine))
    return sorted(found, key=lambda group: (group.days, group.key_id or "", group.models))


def shares(total_nusd: int, reserved_nusd: Sequence[int]) -> list[int]:
    """A proven sum divided by what was reserved: together exactly the sum, and none more than its reservation."""
    whole, passed, given, parts = sum(reserved_nusd), 0, 0, []
    for reserved in reserved_nusd:
        passed += reserved
        upto = total_nusd * passed // whole if whole else 0
        parts.append(upto - given)
        given = upto
    return parts


class _Names:
    """Which names of models, ours and theirs, can mean the same: connected by an answer or by a person's word."""

    def __init__(self, question: ReconciliationInput) -> None:
        self._parent: dict[tuple[str | None, str], tuple[str | None, str]] = {}
        self.asked: set[tuple[str | None, str]] = set()
        for our in question.ours:
            self.asked.add(self._root((our.key_id, our.model)))
            if our.answered_model:
                self._join((our.key_id, our.model), (our.key_id, our.answered_model))
        for key in {their.key_id for their in question.theirs}:
            for theirs, ours in question.same_models.items():
                self._join((key, ours), (key, theirs))
        self.asked = {self._root(name) for name in self.asked}
        self._mentioned = {self._root((their.key_id, their.model)) for their in question.theirs}
        self.keys = {their.key_id for their in question.theirs}

    def of(self, key_id: str | None, model: str) -> str:
        return self._root((key_id, model))[1]

    def is_asked(self, key_id: str | None, name: str) -> bool:
        return (key_id, name) in self.asked

    def is_mentioned(self, key_id: str | None, name: str) -> bool:
        return (key_id, name) in self._mentioned

    def _root(self, name: tuple[str | None, str]) -> tuple[str | None, str]:
        while (above := self._parent.setdefault(name, name)) != name:
            name = above
        return name

    def _join(self, one: tuple[str | None, str], other: tuple[str | None, str]) -> None:
        self._parent[self._root(other)] = self._root(one)


def _spans(
    days: Sequence[str], question: ReconciliationInput, names: _Names, key_id: str | None, name: str
) -> list[tuple[str, ...]]:
    """Days one by one, and together where an attempt near midnight may have been counted on either."""
    slipped = {
        each.day for each in question.straddling if each.key_id == key_id and names.of(key_id, each.model) == name
    }
    every = sorted({*days, *slipped, *(_next(day) for day in slipped)})
    spans: list[list[str]] = [[day] for day in every[:1]]
    for before, day in pairwise(every):
        if before in slipped and day == _next(before):
            spans[-1].append(day)
        else:
            spans.append([day])
    return [tuple(span) for span in spans]


def _next(day: str) -> str:
    return (datetime.date.fromisoformat(day) + datetime.timedelta(days=1)).isoformat()


def _counts(mine: Iterable[LedgerTotal]) -> bool:
    return any(each.billed_requests or each.billed_nusd or each.maybe_attempts or each.in_flight for each in mine)


def _group(
    question: ReconciliationInput,
    names: _Names,
    key_id: str | None,
    name: str,
    span: tuple[str, ...],
    mine: Sequence[LedgerTotal],
    them: Sequence[DayTotal],
) -> ReconciliationGroup:
    asked = sorted(
        {our.model for our in question.ours if (our.key_id, names.of(our.key_id, our.model)) == (key_id, name)}
    )
    models = tuple(asked or sorted({their.model for their in them}))
    dollars = _their_dollars(question, models, key_id, them)
    known = key_id in names.keys and names.is_mentioned(key_id, name)
    requests = [their.requests for their in them]
    return ReconciliationGroup(
        days=span,
        models=models,
        key_id=key_id,
        billed_requests=sum(our.billed_requests for our in mine),
        billed_nusd=sum(our.billed_nusd for our in mine),
        maybe_attempts=sum(our.maybe_attempts for our in mine),
        maybe_requests=sum(our.maybe_requests for our in mine),
        maybe_nusd=sum(our.maybe_nusd for our in mine),
        in_flight=sum(our.in_flight for our in mine),
        declared_free=sum(our.declared_free for our in mine),
        their_requests=None if None in requests or not known else sum(each or 0 for each in requests),
        their_nusd=None if dollars is None or not known else dollars[0],
        grain_nusd=0 if dollars is None else dollars[1],
    )


def _their_dollars(
    question: ReconciliationInput, models: Sequence[str], key_id: str | None, them: Sequence[DayTotal]
) -> tuple[int, int] | None:
    """The sum in nano-dollars and how far it may be rounded; from tokens where the file has no dollars."""
    total, grain = Decimal(0), Decimal(0)
    for their in them:
        if their.cost_usd is not None:
            total += their.cost_usd
            grain += _half_a_digit(question.theirs)
            continue
        cost = _from_tokens(question.settings, models, key_id, their)
        if cost is None:
            return None
        total += Decimal(cost) / NUSD
    return int((total * NUSD).to_integral_value(ROUND_CEILING)), int((grain * NUSD).to_integral_value(ROUND_CEILING))


def _half_a_digit(theirs: Sequence[DayTotal]) -> Decimal:
    """How far a sum of dollars may be rounded: a file writes all to the same digit, or without noughts at the end."""
    exponents = [their.cost_usd.as_tuple().exponent for their in theirs if their.cost_usd is not None]
    return Decimal(5).scaleb(min(exponent for exponent in exponents if isinstance(exponent, int)) - 1)


def _from_tokens(settings: InferenceSettings, models: Sequence[str], key_id: str | None, their: DayTotal) -> int | None:
    if their.input_tokens is None or their.output_tokens is None:
        return None
    usage = Usage(
        input_tokens=their.input_tokens, cached_tokens=their.cached_tokens or 0, output_tokens=their.output_tokens
    )
    on = datetime.date.fromisoformat(their.day)
    prices = [
        [*all_prices(endpoint, on), *prices_of_day(endpoint, on)]
        for endpoint in settings.endpoints.values()
        if endpoint.llm in models and endpoint.key_id == key_id
    ]
    # A file without dollars says no tiers and no hours: where they differ in price, tokens do not say what was paid.
    costs = {cost_nusd(price, usage) for by_tier in prices for price in by_tier}
    return costs.pop() if len(costs) == 1 and all(prices) else None


# What a group proves


def _judged(
    question: ReconciliationInput, names: _Names, group: ReconciliationGroup, mine: Sequence[LedgerTotal]
) -> ReconciliationGroup:
    if not group.maybe_attempts and not group.in_flight:
        return _compared(group)
    reason = _hindrance(question, names, group) or _misfit(group)
    if reason:
        return _with(group, "not proven", reason)
    more, difference = group.more_requests, group.difference_nusd
    assert more is not None  # `_misfit` names what is missing
    assert difference is not None
    if more == 0:
        return _with(group, "none billed", "", 0)
    total = min(max(difference, 0), group.maybe_nusd)
    return _with(group, "all billed" if more == group.maybe_requests else "some billed", "", total)


def _compared(group: ReconciliationGroup) -> ReconciliationGroup:
    """Nothing is open: whether the settled figures are the provider's. They are shown, and never changed."""
    difference = group.difference_nusd
    if group.their_requests is None and difference is None:
        return _with(group, "not proven", "the file says nothing of it")
    if difference is None:
        return _with(group, "agrees" if group.more_requests == 0 else "differs", "")
    return _with(group, "agrees" if abs(difference) <= _tolerance(group) else "differs", "")


def _hindrance(question: ReconciliationInput, names: _Names, group: ReconciliationGroup) -> str:
    """Why totals cannot prove anything here, whatever they are."""
    if group.key_id is None:
        return "no key id was declared when they were sent: --assume ENDPOINT=KEY_ID says which key it was"
    theirs = [each for each in question.settings.endpoints.values() if each.key_id == group.key_id]
    if not theirs or not all(each.key_exclusive for each in theirs):
        return "the key is not declared exclusive (key_exclusive), so others' calls may be in the totals"
    if group.key_id not in names.keys:
        return "the file does not name this key"
    if not names.is_mentioned(group.key_id, names.of(group.key_id, group.models[0])):
        return "the file does not name this model: --model THEIRS=OURS says what it is called there"
    if group.days[-1] >= question.today:
        return f"{group.days[-1]} is not over (UTC)" + _slipped(group)
    if group.days[0] < question.first_day or group.days[-1] > question.last_day:
        return f"the file covers {question.first_day} to {question.last_day}" + _slipped(group)
    if group.in_flight:
        return f"{group.in_flight} of its attempts are in flight"
    unknown = sorted({
        their.model
        for their in question.theirs
        if their.key_id == group.key_id and their.day in group.days
        and not names.is_asked(their.key_id, names.of(their.key_id, their.model))
    })  # fmt: skip
    if unknown:
        named = ", ".join(unknown)
        return f"the file has {named}, which this ledger never asked for; if it is one of ours: --model THEIRS=OURS"
    nameless = sum(
        our.billed_requests + our.maybe_requests
        for our in question.ours
        if our.key_id is None and our.day in group.days and our.model in group.models
    )
    if nameless:
        return (
            f"{plural(nameless, 'request')} of these days without a key id may be "
            "in the totals (--assume ENDPOINT=KEY_ID)"
        )
    return ""


def _slipped(group: ReconciliationGroup) -> str:
    return f", and attempts near midnight tie {group.days[0]} to {group.days[-1]}" if len(group.days) > 1 else ""


def _misfit(group: ReconciliationGroup) -> str:
    """Why these totals prove nothing."""
    more, difference, tolerance = group.more_requests, group.difference_nusd, _tolerance(group)
    if more is None:
        return "the file counts no requests"
    if difference is None:
        return "the file has no dollars, and its tokens have no single price here"
    if more < 0:
        return f"the file counts {plural(-more, 'request')} fewer than have answers here; is it complete?"
    if more > group.maybe_requests:
        return f"the file counts {plural(more, 'more request')}, and only {group.maybe_requests} may have been billed"
    if difference < -tolerance:
        return "the file has fewer dollars than the answers here cost; compare the prices"
    if difference > group.maybe_nusd + tolerance:
        return "the file has more dollars than all that may have been billed; compare the prices"
    if more == 0:
        return "" if difference <= tolerance else "the file has more dollars for as many requests; compare the prices"
    if group.declared_free:
        return f"{plural(group.declared_free, 'error')} declared free (errors_are_free) may be what was billed"
    if difference <= tolerance and group.maybe_nusd > tolerance:
        return "the file counts more requests, and no more dollars"
    if group.grain_nusd * TOO_COARSE > group.maybe_nusd:
        maybe = in_full(group.maybe_nusd / NUSD)
        return f"its dollars are rounded to {2 * group.grain_nusd / NUSD:g}, too coarse for {maybe}"
    return ""


def _tolerance(group: ReconciliationGroup) -> int:
    """Our costs are rounded up once for each call, theirs to the digits of the file."""
    return group.billed_requests + group.maybe_attempts + group.grain_nusd + 1


def _with(
    group: ReconciliationGroup, verdict: Verdict, reason: str, proven_nusd: int | None = None
) -> ReconciliationGroup:
    from dataclasses import replace

    return replace(group, verdict=verdict, reason=reason, proven_nusd=proven_nusd)
