"""Which words of a document an answer rests on: its evidence, and values that the document has word for word."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ai_assets.stages.quotes import find_quote, quotes_of

MOST_QUOTES = 40
"""Of one answer, that are looked for in the document."""
SHORTEST_VALUE = 3
"""Characters: a shorter value stands in many a text by chance."""
LONGEST_VALUE = 2_000
DEEPEST = 8


@dataclass(frozen=True, kw_only=True)
class FoundQuote:
    """Evidence that stands in the document."""

    text: str
    """As the document has it."""
    start: int
    end: int


def evidence_in(text: str, row: Mapping[str, Any], stage: str) -> tuple[int, int] | None:
    """Where the stage's evidence stands: where it says, else where the words are, else nowhere."""
    evidence, start = row.get(f"{stage}_evidence"), row.get(f"{stage}_evidence_start")
    if not evidence or not isinstance(evidence, str):
        return None
    if start is None or start < 0 or text[start : start + len(evidence)] != evidence:
        start = text.find(evidence)
    return None if start < 0 else (start, start + len(evidence))


def found_evidence(text: str, row: Mapping[str, Any], stage: str, data: object) -> list[FoundQuote]:
    """All evidence of a stage that the text has: of its column, and of `data`, its answer as a record."""
    own = evidence_in(text, row, stage)
    listed = row.get(f"{stage}_evidence")
    places = [own] if own else []
    quotes = [quote for quote in listed if isinstance(quote, str)] if isinstance(listed, list | tuple) else []
    for quote in [*quotes, *_quotes_within(data)][:MOST_QUOTES]:
        found = _quote_at(quote, text)
        if found is not None and found not in places:
            places.append(found)
    return [FoundQuote(text=text[start:end], start=start, end=end) for start, end in places]


def parsed_json(text: object) -> dict[str, Any] | list[Any] | None:
    """What a column of JSON holds, where that is a record or a list."""
    if not isinstance(text, str) or text[:1] not in ("{", "["):
        return None
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _quotes_within(data: object, depth: int = 0) -> Iterator[str]:
    """What any property `evidence` of the answer holds; a line of an invoice may have its own."""
    if depth > DEEPEST:
        return
    if isinstance(data, Mapping):
        yield from quotes_of(data)
    members = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    for member in members:
        if isinstance(member, Mapping | list):
            yield from _quotes_within(member, depth + 1)


def _quote_at(quote: str, text: str) -> tuple[int, int] | None:
    exact = text.find(quote) if quote.strip() else -1
    return (exact, exact + len(quote)) if exact >= 0 else find_quote(quote, text)


def value_in(value: object, text: str, name: str = "") -> tuple[int, int] | None:
    """Where a value of an answer stands first in the text, as words of their own; short ones say nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    wanted = str(value).strip()
    if name == "evidence":
        return _quote_at(wanted, text)
    if not SHORTEST_VALUE <= len(wanted) <= LONGEST_VALUE or wanted not in text:
        return None
    found = re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text)
    return None if found is None else found.span()
