"""The books of the provider: what was billed, delivered, and billed more than once. One object per reset."""

import asyncio
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from ai_assets.rehearsal.calls import ReceivedCall
from ai_assets.rehearsal.chat import ChatRequest
from ai_assets.rehearsal.daily_usage import DailyUsage
from ai_assets.rehearsal.limits import RateWindows
from ai_assets.rehearsal.settings import Behaviour
from ai_assets.rehearsal.tiers import DEFAULT, PRICES
from ai_assets.rehearsal.tokens import TokenUsage

BATCH_DISCOUNT = Decimal("0.5")
SHOWN_CHARACTERS = 80


@dataclass(slots=True)
class Bill:
    """What became of one request and all that were identical with it."""

    digest: str
    billed: int = 0
    delivered: int = 0
    text: str = ""
    """The beginning of its last user message."""


@dataclass
class Tokens:
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass
class Books:
    """Counts since the start or the last reset."""

    calls: int = 0
    """Requests for chat and embeddings that came in, whatever became of them."""
    billed: int = 0
    billed_batch: int = 0
    delivered: int = 0
    undelivered: int = 0
    redelivered: int = 0
    billed_usd: float = 0.0
    peak_in_flight: int = 0
    connections: int = 0
    metrics_read: int = 0
    tokens: Tokens = field(default_factory=Tokens)
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    """Bills by the tier that was served."""
    first_call_at: float | None = None
    last_call_at: float | None = None
    windows: RateWindows = field(default_factory=RateWindows)
    bills: dict[str, Bill] = field(default_factory=dict)
    days: DailyUsage = field(default_factory=DailyUsage)
    _waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def call(self, in_flight: int) -> None:
        self.calls += 1
        self.last_call_at = time.monotonic()
        if self.first_call_at is None:
            self.first_call_at = self.last_call_at
        self.peak_in_flight = max(self.peak_in_flight, in_flight)

    def bill(
        self, call: ReceivedCall, usage: TokenUsage, behaviour: Behaviour, *, key_id: str, batch: bool = False
    ) -> None:
        """The moment an answer is computed, whoever is still there to read it."""
        found = self.bills.get(call.digest)
        if found is None:
            found = self.bills[call.digest] = Bill(call.digest, text=call.request.shown[:SHOWN_CHARACTERS])
        found.billed += 1
        self.redelivered += found.delivered > 0
        tokens = self.tokens
        tokens.input += usage.input_tokens
        tokens.cached += usage.cached_tokens
        tokens.output += usage.output_tokens
        tokens.reasoning += usage.reasoning_tokens
        tier = call.request.served_tier if isinstance(call.request, ChatRequest) else DEFAULT
        cost = price_usd(usage, behaviour) * (BATCH_DISCOUNT if batch else PRICES[tier])
        self.tiers[tier] += 1
        self.days.add(key_id, call.request.model, usage, cost)
        self.billed_usd += float(cost)
        if batch:
            self.billed_batch += 1
        else:
            self.billed += 1

    def deliver(self, digest: str) -> None:
        self.bills[digest].delivered += 1
        self.delivered += 1
        for number, waiter in self._waiting:
            if number <= self.delivered and not waiter.done():
                waiter.set_result(None)

    async def wait_delivered(self, number: int) -> None:
        if self.delivered < number:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((number, waiter))
            try:
                await waiter
            finally:
                self._waiting.remove((number, waiter))

    def stats(self, in_flight: int) -> dict[str, Any]:
        windows = self.windows
        return {
            "calls": self.calls,
            "billed": self.billed,
            "billed_batch": self.billed_batch,
            "delivered": self.delivered,
            "undelivered": self.undelivered,
            "in_flight": in_flight,
            "peak_in_flight": self.peak_in_flight,
            "unique_billed": len(self.bills),
            "billed_twice": self.billed + self.billed_batch - len(self.bills),
            "redelivered": self.redelivered,
            "billed_usd": round(self.billed_usd, 12),
            "tokens": asdict(self.tokens),
            "statuses": dict(sorted(self.statuses.items())),
            "faults": dict(sorted(self.faults.items())),
            "tiers": dict(sorted(self.tiers.items())),
            "connections": self.connections,
            "metrics_read": self.metrics_read,
            "first_call_at": self.first_call_at,
            "last_call_at": self.last_call_at,
            "rate_window_max": {
                "requests": windows.minute.most_requests,
                "tokens": windows.minute.most_tokens,
                "requests_1s": windows.second.most_requests,
                "tokens_1s": windows.second.most_tokens,
            },
        }

    def repeated(self, *, every: bool = False) -> list[dict[str, Any]]:
        """Requests billed more than once, or all; the most often billed first."""
        found = [bill for bill in self.bills.values() if every or bill.billed > 1]
        return [asdict(bill) for bill in sorted(found, key=lambda bill: (-bill.billed, bill.digest))]


def price_usd(usage: TokenUsage, behaviour: Behaviour) -> Decimal:
    """To the last digit of the prices."""
    fresh = usage.input_tokens - usage.cached_tokens
    per_cached = behaviour.price_input if behaviour.price_cached_input is None else behaviour.price_cached_input
    per_million = (
        fresh * Decimal(str(behaviour.price_input))
        + usage.cached_tokens * Decimal(str(per_cached))
        + usage.output_tokens * Decimal(str(behaviour.price_output))
    )
    return per_million / 1_000_000
