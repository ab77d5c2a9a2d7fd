"""Quotes as evidence: what a model says it copied, held against the document."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice

from ai_assets.storage.digest import Json

SHOWN_MISSING = 3
_MARKS = " \t\n\"'`“”„‘’‚«»…."


def find_quote(quote: str, text: str) -> tuple[int, int] | None:
    """Where the text says this word for word; white space, and quotation marks around it, do not count."""
    unescaped = quote.replace("&lt;", "<")
    for wanted in (unescaped, unescaped.strip(_MARKS)):
        compact = "".join(wanted.split())
        if not any(map(str.isalnum, compact)):
            continue
        at = _compact(text).find(compact)
        if at >= 0:
            first = _place(text, at)
            return first, _place(text, at + len(compact) - 1) + 1
    return None


@lru_cache(maxsize=8)
def _compact(text: str) -> str:
    return "".join(text.split())


def _place(text: str, number: int) -> int:
    """The position of the nth character that is no white space; `split` and `isspace` agree on what that is."""
    return next(islice((at for at, character in enumerate(text) if not character.isspace()), number, None))


def missing_quotes(quotes: Sequence[str], text: str) -> list[str]:
    return [quote for quote in quotes if find_quote(quote, text) is None]


def quotes_of(data: Json) -> list[str]:
    """What the property `evidence` of an answer holds: a quote, or several."""
    evidence = data.get("evidence") if isinstance(data, Mapping) else None
    listed = [evidence] if isinstance(evidence, str) else evidence if isinstance(evidence, Sequence) else []
    return [quote for quote in listed if isinstance(quote, str) and quote.strip()]


def wrong_quotes(quotes: Sequence[str], text: str) -> str | None:
    missing = missing_quotes(quotes, text)
    if not missing:
        return None
    listed = "; ".join(json.dumps(quote[:200], ensure_ascii=False) for quote in missing[:SHOWN_MISSING])
    return f"evidence must be copied word for word from the document, and this is not in it: {listed}"
