"""What holds for a time: how near its end is, and the end of a key that is a JWT."""

import base64
import json
from datetime import UTC, datetime, timedelta

from ai_assets.doctor.findings import Finding, fine, warned, wrong

SOON_DAYS = 14


def ending(what: str, ends: datetime, fix: str) -> Finding:
    left, at = ends - datetime.now(UTC), f"{ends:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta():
        return wrong(what, found=f"it expired at {at}", fix=fix)
    if left <= timedelta(days=SOON_DAYS):
        return warned(what, found=f"it expires in {left.days} day(s), at {at}", fix=fix)
    return fine(what, f"it holds until {at}")


def end_of_jwt(key: str) -> datetime | None:
    """None where it is no JWT, or one without an end. Nobody's signature is looked at: that is for who takes it."""
    try:
        header, claims, _signature = key.split(".")
        if "alg" not in _decoded(header):
            return None
        return datetime.fromtimestamp(_decoded(claims)["exp"], UTC)
    except (ValueError, TypeError, LookupError, OverflowError, OSError):
        return None


def _decoded(part: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
