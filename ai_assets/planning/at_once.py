"""How much can be in flight at once in a run of a plan: what a kill can make somebody pay for again, at most.

Lines of a batch are not among it: the batch owns its attempts, so a kill loses none of them.
"""

import datetime
import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ai_assets.inference.prices import MESSAGE_TOKENS, REQUEST_TOKENS, prices_of_day, tier_prices, worst_case_nusd
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.findings import StageFindings
from ai_assets.planning.totals import Tally

MESSAGES = 4
"""Of a question about a document that was not read yet, at most so many."""


@dataclass(kw_only=True)
class _OfStage:
    """The dearest reservations of a stage, as many as can be in flight together."""

    calls: int = 0
    places: dict[str, int] = field(default_factory=dict)
    """Of its endpoints."""
    dearest: dict[str, list[int]] = field(default_factory=dict)
    """By endpoint."""
    anywhere: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class InFlightBound:
    """Requests at once, and what they reserve, at most."""

    calls: int
    nusd: int


class ConcurrentReservations:
    """Keeps of each stage and endpoint the dearest reservations that can be in flight together."""

    def __init__(self, inference: InferenceSettings) -> None:
        self._inference = inference
        self._stages: dict[str, _OfStage] = {}
        self._today = datetime.datetime.now(datetime.UTC).date()

    def add(self, found: StageFindings, tally: Tally, seen: set[str]) -> None:
        """The new calls of a stage of a partition; `seen` holds the keys of those that were there before."""
        for call in found.calls:
            if not call.key or call.key not in seen:
                self._add(call.reserves, tally, 1)
        for _, unread in found.unread:
            if unread.documents > 0:
                reserves = self._reserves(tally, unread.text_bytes / unread.documents)
                self._add(reserves, tally, round(unread.documents) or 1)

    def bound(self, by_batch: Collection[str]) -> InFlightBound:
        """Of all stages but those that go by batch. Where texts share a request, it is one call.

        A call is at one endpoint at a time, so two bounds hold: by endpoint, and over all places at the dearest.
        """
        stages = [stage for name, stage in self._stages.items() if name not in by_batch]
        places: dict[str, int] = {}
        for stage in stages:
            for name, number in stage.places.items():
                places[name] = max(places.get(name, 0), number)
        by_endpoint = sum(
            sum(heapq.nlargest(number, (nusd for stage in stages for nusd in stage.dearest.get(name, ()))))
            for name, number in places.items()
        )
        over_all = sum(heapq.nlargest(sum(places.values()), (nusd for stage in stages for nusd in stage.anywhere)))
        at_once = sum(self._inference.endpoints[name].limits.concurrency for name in places)
        return InFlightBound(calls=min(sum(each.calls for each in stages), at_once), nusd=min(by_endpoint, over_all))

    def _add(self, reserves: Sequence[tuple[str, int]], tally: Tally, times: int) -> None:
        of = self._stages.setdefault(tally.stage, _OfStage())
        of.calls += times
        for name, nusd in reserves:
            endpoint = self._inference.endpoints[name]
            texts = endpoint.texts_per_request if tally.kind == "embed" else 1
            places = of.places[name] = max(of.places.get(name, 0), endpoint.limits.concurrency * texts)
            _keep(of.dearest.setdefault(name, []), nusd, times, places)
        _keep(of.anywhere, max(nusd for _, nusd in reserves), times, sum(of.places.values()))

    def _reserves(self, tally: Tally, text_bytes: float) -> list[tuple[str, int]]:
        """Of a document that was not read yet, about."""
        around = tally.asked_bytes // tally.asked if tally.asked else 0
        into = round(text_bytes) + around + REQUEST_TOKENS + MESSAGES * MESSAGE_TOKENS
        found = []
        for name in names_of(self._inference, tally.route):
            endpoint = self._inference.endpoints[name]
            tiers = [price.tier for price in tier_prices(endpoint, self._today)]
            prices = [price for tier in tiers for price in prices_of_day(endpoint, self._today, tier)]
            most = max((worst_case_nusd(price, into, tally.max_output_tokens) for price in prices), default=0)
            found.append((name, most))
        return found


def _keep(heap: list[int], nusd: int, times: int, most: int) -> None:
    """The largest amounts, at most so many of them."""
    for _ in range(min(times, most)):
        if len(heap) < most:
            heapq.heappush(heap, nusd)
        elif nusd > heap[0]:
            heapq.heapreplace(heap, nusd)
        else:
            return
