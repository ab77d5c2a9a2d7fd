"""Whether a failed call is tried again, and how long to wait before. Pure."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ai_assets.inference.records import ErrorClass
from ai_assets.inference.settings import InferenceSettings, RetryRule

DEFAULTS: Mapping[ErrorClass, RetryRule] = MappingProxyType({
    "rate_limited": RetryRule(attempts=10, base_s=1, cap_s=60),
    "tier_unavailable": RetryRule(attempts=2, base_s=1, cap_s=10),
    "overloaded": RetryRule(attempts=8, base_s=1, cap_s=60),
    "server_error": RetryRule(attempts=6, base_s=0.5, cap_s=30),
    "gateway_error": RetryRule(attempts=3, base_s=0.5, cap_s=30),
    "unreachable": RetryRule(attempts=6, base_s=0.5, cap_s=30),
    "timeout": RetryRule(attempts=3, base_s=1, cap_s=30),
    "connection_lost": RetryRule(attempts=3, base_s=0.5, cap_s=30),
    "garbled": RetryRule(attempts=2, base_s=0.5, cap_s=30),
})  # fmt: skip
"""Few where an answer may have been lost, many where the provider asks for patience."""


def rule_for(settings: InferenceSettings, kind: str, error: ErrorClass) -> RetryRule | None:
    """The rule key by key: as said for the kind, else for `all`, else the default. None: never tried again."""
    rule = DEFAULTS.get(error)
    if rule is None:
        return None
    said: dict[str, object] = {}
    for level in ("all", kind):
        if declared := settings.retries.get(level, {}).get(error):
            said |= declared.model_dump(exclude_unset=True)
    return rule.model_copy(update=said) if said else rule


def delay_s(
    rule: RetryRule, number_of_failures: int, retry_after_s: float | None, random: Callable[[], float]
) -> float:
    """Full jitter: anything up to base x 2^(n-1) and the cap. Retry-After is the floor, above the cap too.

    `random` gives numbers from 0 to 1, such as `random.random`.
    """
    doublings = min(number_of_failures - 1, 64)
    wait = random() * min(rule.cap_s, rule.base_s * 2.0**doublings)
    return max(wait, retry_after_s or 0.0)
