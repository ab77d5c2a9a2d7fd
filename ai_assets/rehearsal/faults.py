"""Which request gets which fault: by a rule of the script, else by a draw that only seed and request decide."""

import hashlib
from collections import Counter

from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import FAULT_KINDS, Behaviour, FaultKind, Rule


class Faults:
    """Remembers what the rules have left and how often each request was seen."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = [rule.model_copy() for rule in rules]
        self._seen: Counter[str] = Counter()

    def choose(self, behaviour: Behaviour, digest: str, body: bytes, text: str, *, repair: bool) -> FaultKind | None:
        """Called once per request. An answer under repair is drawn no second violation; a rule may ask for one."""
        by_rule = self._by_rule(body, text) if self.rules else None
        if by_rule is not None or not behaviour.fault:
            return by_rule
        seen = self._seen[digest]
        self._seen[digest] += 1
        point = share(f"{behaviour.seed}:{digest}:{seen}")
        for kind in FAULT_KINDS:
            point -= behaviour.fault.get(kind, 0.0)
            if point < 0:
                return None if kind == "schema_violation" and repair else kind
        return None

    def _by_rule(self, body: bytes, text: str) -> FaultKind | None:
        for rule in self.rules:
            if rule.times == 0 or not (rule.match.encode("utf-8", "surrogatepass") in body or rule.match in text):
                continue
            if rule.after > 0:
                rule.after -= 1
                continue
            if rule.times is not None:
                rule.times -= 1
            return rule.fault
        return None


def share(key: str) -> float:
    """A number from 0 to 1 that only the key decides."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()) / 2**64


def refusal(kind: FaultKind, behaviour: Behaviour) -> Refusal | None:
    """The error of a fault that is one, in OpenAI's words; None for the others."""
    retry_after = {"Retry-After": f"{behaviour.retry_after_s:g}"}
    busy = "Rate limit reached for requests. Please try again later."
    match kind:
        case "rate_limited":
            return Refusal(429, busy, kind="requests", code="rate_limit_exceeded", headers=retry_after)
        case "rate_limited_bare":
            return Refusal(429, busy, kind="requests", code="rate_limit_exceeded")
        case "insufficient_quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return Refusal(429, message, kind="insufficient_quota", code="insufficient_quota")
        case "flex_unavailable":
            message = "Resource unavailable. Please try again later or use the default service tier."
            return Refusal(429, message, kind="resource_unavailable", code="resource_unavailable")
        case "flex_capacity":
            message = "Flex tier capacity exceeded, please try again later."
            return Refusal(498, message, kind="flex_tier_capacity_exceeded", code="capacity_exceeded")
        case "backend_failed":
            return Refusal(424, "Backend error: the model failed", kind="backend")
        case "server_error" | "server_error_billed":
            message = "The server had an error while processing your request. Sorry about that!"
            return Refusal(500, message, kind="server_error")
        case "overloaded" | "overloaded_billed":
            message = "The engine is currently overloaded, please try again later."
            return Refusal(503, message, kind="service_unavailable")
        case "error_page" | "error_page_billed":
            return Refusal(500, "Internal Server Error", page=True)
        case "bad_gateway" | "bad_gateway_billed":
            return Refusal(502, "Bad Gateway", page=True)
        case "gateway_timeout" | "gateway_timeout_billed":
            return Refusal(504, "The upstream server did not answer in time.", kind="timeout")
        case "unauthorized":
            return Refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        case "content_filter":
            message = "The response was filtered due to the prompt triggering the content management policy."
            return Refusal(400, message, code="content_filter", param="prompt")
        case "context_too_long":
            return context_too_long(behaviour.context_tokens, behaviour.context_tokens + 1)
        case _:
            return None


def context_too_long(limit: int, found: int) -> Refusal:
    return Refusal(
        400,
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {found} tokens. "
        "Please reduce the length of the messages.",
        code="context_length_exceeded",
        param="messages",
    )
