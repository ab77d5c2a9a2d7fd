"""Errors of others' code before they are kept: without the secrets of this process and without passwords in URLs."""

import re

from ai_assets.base.home import secret_values

MASK = "***"
_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]+(?=@)")


def masked(text: str) -> str:
    for secret in sorted(secret_values(), key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(secret, MASK)
    return _PASSWORD.sub(rf"\1:{MASK}", text)
