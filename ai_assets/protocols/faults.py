"""What an HTTP error says, as OpenAI and most others write it, and what it means for who pays and who tries again."""

import email.utils
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ai_assets.inference.records import ErrorClass

GATEWAY_STATUSES = frozenset({408, 424, 460, 499, 502, 504, *range(520, 528), 530})
"""Said by something between here and the model, or of the connection to it: the model may have run all the same."""
NO_CAPACITY = 498
"""Groq's, for its flex tier."""
BUSY_STATUSES = frozenset({503, 529})


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorBody:
    """What the body of an error says."""

    said: str
    code: str = ""
    """Code and type, as the provider spells them."""
    is_protocol: bool = False
    """It is the protocol's error object, so whoever speaks the protocol wrote it, and no proxy's page."""


def class_of(status: int, told: ErrorBody) -> ErrorClass:
    """What an HTTP error means for who pays and who tries again."""
    known = f"{told.code} {told.said}".lower()
    if status == NO_CAPACITY or (status == 429 and "resource unavailable" in known.replace("_", " ")):
        return "tier_unavailable"
    if status in GATEWAY_STATUSES:
        return "gateway_error"
    if status == 429:
        return "quota" if "insufficient_quota" in known or "billing_hard_limit" in known else "rate_limited"
    if status == 425:
        return "rate_limited"
    if status in (401, 403):
        return "auth"
    if status == 402:
        return "quota"
    if status >= 500:
        if not told.is_protocol or status not in (500, *BUSY_STATUSES):
            return "gateway_error"
        return "overloaded" if status in BUSY_STATUSES else "server_error"
    if status < 300:
        return "garbled"  # accepted or done, and no answer with it
    if "context_length" in known or "maximum context" in known:
        return "context_too_long"
    if "content_filter" in known or "content_policy" in known or "content management policy" in known:
        return "refused"
    return "malformed"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, milliseconds or a date, as the provider likes; a date is held against the provider's own clock."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
            return max(seconds, 0.0) if seconds == seconds else None  # NaN is not equal to itself
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        said_at = headers.get("date")
        now_s = time.time() if said_at is None else email.utils.parsedate_to_datetime(said_at).timestamp()
        return max(email.utils.parsedate_to_datetime(value).timestamp() - now_s, 0.0)
    except (ValueError, OverflowError):  # a year of twelve digits
        return None


def error_of(raw: bytes) -> ErrorBody:
    """The provider's words and its code; platforms differ in where they put them."""
    text = raw[:10_000].decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return ErrorBody(said=text.strip() or "no explanation")
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return ErrorBody(said=str(error))
    said = error.get("message") or error.get("detail") or text
    # `{"error": {"message": ...}}`; some servers of the protocol write `{"object": "error", "message": ...}`.
    named = error is not body or body.get("object") == "error"
    is_protocol = named and isinstance(error.get("message"), str) and bool(error["message"])
    return ErrorBody(
        said=str(said), code=f"{error.get('code') or ''} {error.get('type') or ''}", is_protocol=is_protocol
    )
