"""Counting and cutting tokens: deterministic, about four bytes each, never more of them than bytes."""

import functools
import re
from dataclasses import dataclass

# Every character belongs to exactly one match, so the tokens of a text put together are the text.
_TOKEN = re.compile(r" ?[A-Za-z\u00c0-\u024f]{1,6}| ?\d{1,3}| ?[^\w\s]{1,3}|\s+|.", re.DOTALL)
PER_MESSAGE = 4
PER_REPLY = 3
IMAGE_TOKENS = {"low": 85, "high": 765, "auto": 765}
CACHE_FROM_TOKENS = 1024
CACHE_STEP_TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class TokenUsage:
    """Cached tokens are a part of the input, reasoning of the output."""

    input_tokens: int
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def split(text: str) -> list[str]:
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(_TOKEN.findall(text))


@functools.lru_cache(maxsize=1024)
def count_repeated(text: str) -> int:
    """The same, remembered: for system prompts and schemas, which many requests share."""
    return count(text)


def cut(text: str, limit: int | None) -> tuple[str, int, bool]:
    """The first `limit` tokens of a text, how many they are, and whether something was cut off."""
    tokens = split(text)
    if limit is None or len(tokens) <= limit:
        return text, len(tokens), False
    return "".join(tokens[:limit]), limit, True
