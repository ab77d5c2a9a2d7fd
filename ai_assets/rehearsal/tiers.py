"""Tiers of service, as OpenAI and Groq have them: what is asked for, what it is served at, and what that costs."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import Behaviour

DEFAULT = "default"
PRICES: Mapping[str, Decimal] = {DEFAULT: Decimal(1), "flex": Decimal("0.5"), "priority": Decimal(2)}
"""Shares of the usual price."""
UNSEEN = ("service_tier", "priority", "user")
"""Fields that change how a request is served and not what is asked: with other values it is the same request."""


def read_tier(body: Mapping[str, Any]) -> str:
    found = body.get("service_tier")
    if found in (None, "auto"):
        return DEFAULT
    if found not in PRICES:
        known = ", ".join(f"'{name}'" for name in ("auto", *PRICES))
        message = f"Invalid value: '{found}'. Supported values are: {known}."
        raise Refusal(400, message, code="invalid_value", param="service_tier")
    return str(found)


def served(asked: str, behaviour: Behaviour) -> str:
    return behaviour.serve_tier or asked
