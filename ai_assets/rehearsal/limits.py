"""What the provider lets in: calls at once, requests and tokens per minute; and the busiest minute it saw."""

import asyncio
import math
from collections import deque

from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import Behaviour

MINUTE_S = 60.0


class RateWindow:
    """Requests and tokens of the last `span_s` seconds, and the most there ever were."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._accepted: deque[tuple[float, int]] = deque()
        self.tokens = 0
        self.most_requests = 0
        self.most_tokens = 0

    @property
    def requests(self) -> int:
        return len(self._accepted)

    def forget_before(self, now: float) -> None:
        accepted, oldest = self._accepted, now - self._span_s
        while accepted and accepted[0][0] <= oldest:
            self.tokens -= accepted.popleft()[1]

    def add(self, now: float, tokens: int) -> None:
        self.forget_before(now)
        self._accepted.append((now, tokens))
        self.tokens += tokens
        self.most_requests = max(self.most_requests, len(self._accepted))
        self.most_tokens = max(self.most_tokens, self.tokens)

    def free_in_s(self, now: float, *, requests: int | None = None, tokens: int | None = None) -> float:
        """How long until no more than so many requests or tokens are left in it."""
        left_requests, left_tokens, wait_s = len(self._accepted), self.tokens, 0.0
        for at, used in self._accepted:
            if (requests is None or left_requests <= requests) and (tokens is None or left_tokens <= tokens):
                break
            left_requests, left_tokens = left_requests - 1, left_tokens - used
            wait_s = max(at + self._span_s - now, 0.0)
        return wait_s


class RateWindows:
    """The last minute, held to the limits per minute; the last second, for the record."""

    def __init__(self) -> None:
        self.minute = RateWindow(MINUTE_S)
        self.second = RateWindow(1.0)

    def refusal(self, behaviour: Behaviour, now: float, tokens: int) -> Refusal | None:
        """Why a request with so many tokens may not come in now."""
        minute, requests_limit, tokens_limit = self.minute, behaviour.requests_per_minute, behaviour.tokens_per_minute
        if requests_limit is None and tokens_limit is None:
            return None
        minute.forget_before(now)
        if requests_limit is not None and minute.requests >= requests_limit:
            wait_s = minute.free_in_s(now, requests=requests_limit - 1)
            return rate_refusal("requests", requests_limit, wait_s, self.headers(behaviour, now))
        if tokens_limit is not None and minute.tokens + tokens > tokens_limit:
            wait_s = minute.free_in_s(now, tokens=max(tokens_limit - tokens, 0))
            return rate_refusal("tokens", tokens_limit, wait_s, self.headers(behaviour, now))
        return None

    def accept(self, now: float, tokens: int) -> None:
        self.minute.add(now, tokens)
        self.second.add(now, tokens)

    def headers(self, behaviour: Behaviour, now: float) -> dict[str, str]:
        """`x-ratelimit-*`, for the limits there are."""
        minute = self.minute
        found = {}
        for name, limit, used in (
            ("requests", behaviour.requests_per_minute, minute.requests),
            ("tokens", behaviour.tokens_per_minute, minute.tokens),
        ):
            if limit is not None:
                minute.forget_before(now)
                found[f"x-ratelimit-limit-{name}"] = str(limit)
                found[f"x-ratelimit-remaining-{name}"] = str(max(limit - used, 0))
                found[f"x-ratelimit-reset-{name}"] = f"{minute.free_in_s(now, requests=0):.3f}s"
        return found


def rate_refusal(what: str, limit: int, wait_s: float, headers: dict[str, str]) -> Refusal:
    return Refusal(
        429,
        f"Rate limit reached on {what} per min: limit {limit}. Please try again in {wait_s:.3f}s.",
        kind=what,
        code="rate_limit_exceeded",
        headers={**headers, "Retry-After": str(max(math.ceil(wait_s), 1))},
    )


class ConcurrencyGate:
    """Counts calls in flight; above the limit they are turned away, or wait in the order in which they came."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self, behaviour: Behaviour) -> None:
        limit = behaviour.concurrency
        if limit is not None and self.in_flight >= limit:
            if behaviour.over_limit == "refuse":
                raise Refusal(
                    429,
                    f"Rate limit reached: {limit} requests at once. Please try again later.",
                    kind="requests",
                    code="rate_limit_exceeded",
                    headers={"Retry-After": f"{behaviour.retry_after_s:g}"},
                )
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn  # whoever leaves hands its place over
        else:
            self.in_flight += 1

    @property
    def waiting(self) -> int:
        return sum(not turn.done() for turn in self._waiting)

    def leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1
