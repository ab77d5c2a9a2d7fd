"""Whether an endpoint may be asked now: requests and tokens per minute, calls at once, and the breaker. Pure.

The state is a row that all processes share and change only under the ledger's write lock, so what holds here holds over
all of them.
"""

from dataclasses import dataclass
from typing import Literal

from ai_assets.inference.records import ErrorClass
from ai_assets.inference.settings import EndpointLimits

BREAKING: frozenset[ErrorClass] = frozenset({
    "overloaded", "server_error", "gateway_error", "unreachable", "timeout", "connection_lost", "garbled",
    "too_large",
})  # fmt: skip
"""What says that the endpoint is ill; 429 says that it is well and busy."""
FAILURES_TO_OPEN = 10
"""In a row, over all processes. One call in ten failing by chance gives ten in a row once in ten thousand million."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
PROBE_GRACE_S = 2.0
"""A probe that runs into its timeout is over when the ledger knows; only after that another one may replace it."""
BURST_S = 1.0
"""A rate limit may be used up this far ahead; the steady rate is lower by as much, so that every minute holds."""

FULL_S = 0.02
"""How soon to look again for a place that another process may have left."""

WaitReason = Literal["broken", "rate", "full", "behind"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Not now."""

    reason: WaitReason
    seconds: float
    behind: str = ""
    """Whose calls have the places, or come first."""


@dataclass(kw_only=True, slots=True)
class EndpointState:
    """A row read, changed and written within one turn."""

    in_flight: int = 0
    requests: float = 0.0
    """Requests that the bucket has room for, as of `measured_at`."""
    tokens: float = 0.0
    measured_at: float = 0.0
    """0 before the first call: the buckets are full."""
    failures: int = 0
    openings: int = 0
    """How often the breaker has opened since the last answer."""
    blocked_until: float = 0.0
    probing_until: float = 0.0

    queue: str = ""
    """Who holds and who waits, as `place_queue.py` writes it."""

    def admit(self, limits: EndpointLimits, now: float, *, tokens: int, probe_s: float) -> Wait | None:
        """One more call in flight; or, with nothing changed, how long to wait before asking again."""
        wait = self.why_not(limits, now, tokens=tokens)
        if wait is None:
            self.take(limits, now, tokens=tokens, probe_s=probe_s)
        return wait

    def why_not(self, limits: EndpointLimits, now: float, *, tokens: int, kept_share: float = 0.0) -> Wait | None:
        """How long to wait, where no call may leave; `kept_share` of each rate is not for this one."""
        if now < self.blocked_until:
            return Wait(reason="broken", seconds=self.blocked_until - now)
        if self.openings and now < self.probing_until:
            return Wait(reason="broken", seconds=min(self.probing_until - now, FIRST_PAUSE_S / 4))
        if self.in_flight >= limits.concurrency:
            return Wait(reason="full", seconds=FULL_S)
        if limits.requests_per_minute or limits.tokens_per_minute:
            self._refill(limits, now)
            most_requests, most_tokens = _capacity(limits.requests_per_minute), _capacity(limits.tokens_per_minute)
            # More than a full bucket holds is never there: such a call goes when it is full, and overdraws.
            requests = min(1 + kept_share * most_requests, most_requests)
            wanted = min(tokens + kept_share * most_tokens, most_tokens)
            missing_s = max(
                _seconds_for(requests - self.requests, limits.requests_per_minute),
                _seconds_for(wanted - self.tokens, limits.tokens_per_minute),
            )
            if missing_s > 0:
                return Wait(reason="rate", seconds=missing_s)
        return None

    def room(self, limits: EndpointLimits, *, tokens: int) -> int:
        """How many such calls could leave now, where one can."""
        free = limits.concurrency - self.in_flight
        if limits.requests_per_minute:
            free = min(free, int(self.requests))
        if limits.tokens_per_minute and tokens:
            free = min(free, int(self.tokens / tokens))
        return max(free, 1)

    def take(self, limits: EndpointLimits, now: float, *, tokens: int, probe_s: float) -> None:
        """One more call in flight."""
        if limits.requests_per_minute or limits.tokens_per_minute:
            self.requests -= 1
            self.charge(limits, tokens)
        self.in_flight += 1
        self.probing_until = now + probe_s + PROBE_GRACE_S if self.openings else 0.0

    def charge(self, limits: EndpointLimits, tokens: int) -> None:
        """Tokens that leave now."""
        self.tokens -= tokens if limits.tokens_per_minute else 0

    def give_back(self, tokens: int) -> None:
        """What a call was charged for and did not use."""
        self.tokens += tokens

    def end(self, now: float, *, error: ErrorClass | None, chance: float) -> None:
        """A call ended, and its place is free.

        `chance` in 0..1 spreads the pauses of the breaker: endpoints that fell together are not probed together.
        """
        self.in_flight = max(self.in_flight - 1, 0)
        if error not in BREAKING:
            # Any answer shows that it is well, a refusal and a 429 included; of 429 the ramp takes care.
            self.failures = self.openings = 0
            self.blocked_until = self.probing_until = 0.0
            return
        self.failures += 1
        if now < self.blocked_until:
            return  # it was in flight when the breaker opened
        if self.failures >= FAILURES_TO_OPEN or self.openings:
            pause_s = min(FIRST_PAUSE_S * 2**self.openings, LONGEST_PAUSE_S) * (0.8 + 0.4 * chance)
            self.openings += 1
            self.blocked_until, self.probing_until = now + pause_s, 0.0

    def _refill(self, limits: EndpointLimits, now: float) -> None:
        if self.measured_at == 0.0:
            self.requests, self.tokens = _capacity(limits.requests_per_minute), _capacity(limits.tokens_per_minute)
        else:
            passed_s = max(now - self.measured_at, 0.0)
            self.requests = _filled(self.requests, passed_s, limits.requests_per_minute)
            self.tokens = _filled(self.tokens, passed_s, limits.tokens_per_minute)
        self.measured_at = max(now, self.measured_at)


def _capacity(per_minute: int | None) -> float:
    return max(per_minute * BURST_S / 60, 1.0) if per_minute else 0.0


def _rate_per_s(per_minute: int) -> float:
    """With the bucket used up at once, exactly `per_minute` in any 60 seconds."""
    return max(per_minute - _capacity(per_minute), 0.5) / 60


def _filled(level: float, passed_s: float, per_minute: int | None) -> float:
    return min(level + passed_s * _rate_per_s(per_minute), _capacity(per_minute)) if per_minute else 0.0


def _seconds_for(missing: float, per_minute: int | None) -> float:
    return missing / _rate_per_s(per_minute) if per_minute and missing > 1e-9 else 0.0
