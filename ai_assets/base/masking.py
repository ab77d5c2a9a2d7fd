"""Secrets in the words of others: taken out before they are shown or kept."""

import re
from collections.abc import Iterable

from ai_assets.base.home import secret_values

MASK = "***"
_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+(?=@)")


def without(text: str, secrets: Iterable[str | None]) -> str:
    """The text with each of these masked."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(secret, MASK)
    return text


def masked(text: str) -> str:
    return _PASSWORD.sub(rf"\1:{MASK}", without(text, secret_values()))
