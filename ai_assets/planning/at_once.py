"""How much can be in flight at once in a run of a plan: what a kill can make somebody pay for again, at most."""

import datetime
import heapq
from collections.abc import Sequence

from ai_assets.inference.prices import MESSAGE_TOKENS, REQUEST_TOKENS, prices_of_day, tier_prices, worst_case_nusd
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.findings import StageFindings
from ai_assets.planning.totals import Tally

MESSAGES = 4
"""Of a question about a document that was not read yet, at most so many."""


class ConcurrentReservations:
    """Keeps of each endpoint the dearest reservations that can be in flight together."""

    def __init__(self, inference: InferenceSettings) -> None:
        self._inference = inference
        self._calls = 0
        self._places: dict[str, int] = {}
        self._dearest: dict[str, list[int]] = {}
        self._anywhere: list[int] = []
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

    @property
    def calls(self) -> int:
        """Requests; where texts share one, still one."""
        return min(self._calls, sum(self._inference.endpoints[name].limits.concurrency for name in self._places))

    @property
    def nusd(self) -> int:
        """A call is at one endpoint at a time, so two bounds hold: by endpoint, and over all places at the dearest."""
        by_endpoint = sum(sum(amounts) for amounts in self._dearest.values())
        over_all = sum(heapq.nlargest(sum(self._places.values()), self._anywhere))
        return min(by_endpoint, over_all)

    def _add(self, reserves: Sequence[tuple[str, int]], tally: Tally, times: int) -> None:
        self._calls += times
        for name, nusd in reserves:
            endpoint = self._inference.endpoints[name]
            texts = endpoint.texts_per_request if tally.kind == "embed" else 1
            places = self._places[name] = max(self._places.get(name, 0), endpoint.limits.concurrency * texts)
            _keep(self._dearest.setdefault(name, []), nusd, times, places)
        _keep(self._anywhere, max(nusd for _, nusd in reserves), times, sum(self._places.values()))

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
