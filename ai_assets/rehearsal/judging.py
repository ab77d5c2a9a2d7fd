"""Ratings of what was written about a document: how much of it the document has, and how much of the document it has.

A stand-in for a judge, to rehearse with. Of what people think it knows nothing.
"""

import re
from collections.abc import Sequence
from typing import TypeVar

from ai_assets.rehearsal.reading import Reading

_WORD = re.compile(r"\w{3,}")
_Point = TypeVar("_Point")


def rating(reading: Reading, scale: Sequence[_Point]) -> _Point:
    """One of the scale, whose first is the worst."""
    supported, covered = _shares(reading)
    return scale[round((len(scale) - 1) * supported * (1 + covered) / 2)]


def reason(reading: Reading) -> str:
    supported, covered = _shares(reading)
    return f"{supported:.0%} of its words stand in the document, and it has {covered:.0%} of the document's."


def _shares(reading: Reading) -> tuple[float, float]:
    written = set(_WORD.findall(reading.judged.lower()))
    there = set(_WORD.findall(reading.text.lower()))
    both = len(written & there)
    return both / max(len(written), 1), both / max(len(there), 1)
