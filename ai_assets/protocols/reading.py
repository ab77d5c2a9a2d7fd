"""What the readers of answers share: vectors as base64, usage shared out, and what is no answer."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ai_assets.protocols.base import MESSAGE_CHARACTERS, NotAnAnswer

encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@contextmanager
def as_answer() -> Iterator[None]:
    """Whatever is not as the protocol promises makes it no answer."""
    try:
        yield
    except (json.JSONDecodeError, OverflowError, RecursionError) as error:
        raise NotAnAnswer(f"the answer is no JSON: {error}"[:MESSAGE_CHARACTERS]) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise NotAnAnswer(f"the answer lacks what the protocol promises: {error!r}"[:MESSAGE_CHARACTERS]) from error


def packed(vector: Sequence[float]) -> str:
    """Little-endian float32, which is what servers compute in, as base64: a third of the digits.

    Raises `NotAnAnswer` where it holds something else than finite numbers; looked at as a whole, for it is long.
    """
    try:
        is_finite = math.isfinite(sum(vector))
    except TypeError as error:
        raise NotAnAnswer(f"a vector holds what is no number: {error}") from error
    if not is_finite:
        raise NotAnAnswer("a vector holds what is no finite number")
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def unpacked(text: str) -> tuple[float, ...]:
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def number(said: Any) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        raise NotAnAnswer(f"{str(said)[:40]!r} is no number")
    return float(said)


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """A whole number shared out by weight; together exactly the whole."""
    every, passed, given, found = max(sum(weights), 1), 0, 0, []
    for weight in weights:
        passed += weight
        upto = total * passed // every
        found.append(upto - given)
        given = upto
    return found
