"""What the readers of answers share: vectors as base64, usage shared out, and what is no answer."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ai_assets.protocols.base import MESSAGE_CHARACTERS, NotAnAnswer

encode_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


_KINDS: Mapping[type, str] = {
    dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number", bool: "a yes or no",
    type(None): "nothing",
}  # fmt: skip


@contextmanager
def as_answer(what: str = "the answer") -> Iterator[None]:
    """Whatever is not as the protocol promises makes it no answer."""
    try:
        yield
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAnAnswer(f"{what} is no JSON: {error}"[:MESSAGE_CHARACTERS]) from error
    except (ValueError, OverflowError, LookupError, TypeError, AttributeError, struct.error) as error:
        said = f"{what} lacks what the protocol promises: {_lacking(error)}"
        raise NotAnAnswer(said[:MESSAGE_CHARACTERS]) from error


def _lacking(error: Exception) -> str:
    """What it lacks, in words of JSON and not of Python."""
    match error:
        case KeyError():
            return f"it has no '{error.args[0]}'"
        case IndexError():
            return "a list in it is empty, or too short"
        case AttributeError():
            return f"{_KINDS.get(type(error.obj), 'something else')} stands where an object should"
        case struct.error() | OverflowError():
            return "numbers in it are none, or too large"
        case ValueError():
            return "something in it cannot be read"
    return "something in it is of another kind than it should be"


def packed(vector: Sequence[float]) -> str:
    """Little-endian float32, which is what servers compute in, as base64: a third of the digits.

    Raises `NotAnAnswer` where it holds something else than finite numbers; looked at as a whole, for it is long.
    """
    try:
        is_finite = math.isfinite(sum(vector))
    except TypeError as error:
        raise NotAnAnswer("a vector holds what is no number") from error
    if not vector:
        raise NotAnAnswer("a vector is empty")
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
