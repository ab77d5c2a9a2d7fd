"""Two rankings of documents made one: what the words say, and what the vectors say."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ai_assets.storage.name_suffixes import SUFFIX_WEIGHT, suffix_signs
from ai_assets.storage.search_rules import VECTOR_WEIGHT, SearchRules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

_WORD = re.compile(r"\w+")
_STEM_CHARACTERS = 6
_FUNCTION_WORDS = frozenset(
    """a about after all am an and any are as at be been before by can did do does for from had has have he her his how
    i if in into is it its many me more much my no not of on one or our out over per she should so some than that the
    their them then there these they this those to two up us was we were what when where which who whom why will with
    would you your der die das und ist ein eine de het een en van is w z na i do się nie""".split()
)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One document that matched, with the passage that matched best."""

    document_id: str
    chunk_id: str
    partition: str
    title: str
    text: str
    score: float
    """Higher is better; comparable within one answer only."""
    headings: str | None = None
    """Those that the passage stands under, where the release says that."""
    page: int | None = None
    """Where it begins, counted from 1."""


def best_first(hit: Hit) -> tuple[float, str, str]:
    """Sort key; equal scores are put in order of identity, so that an answer never depends on chance."""
    return (-hit.score, hit.document_id, hit.chunk_id)


def weigh_by_words(hits: Sequence[Hit], query: str, *, by_name: bool = False) -> list[Hit]:
    """Text hits with their score as a share of the best one, times the share of the query's words they contain, in
    their names too if `by_name`."""
    words = content_words(query)
    return weighed(hits, words, lambda hit: words_in(words, hit.title, hit.text, hit.document_id if by_name else ""))


def weighed(hits: Sequence[Hit], words: Set[str], words_of: Callable[[Hit], Set[str]]) -> list[Hit]:
    """The same, of a query of these words; `words_of`: which of them a hit contains."""
    best = max((hit.score for hit in hits), default=0.0)
    if best <= 0 or not words:
        return list(hits)
    found = (replace(hit, score=hit.score / best * len(words_of(hit)) / len(words)) for hit in hits)
    return sorted(found, key=best_first)


def words_in(words: Set[str], title: str, text: str, name: str = "") -> Set[str]:
    """Those of these words that the passage has, or its document's name."""
    found = words & _stems(f"{title}\n{text}")
    return found | (words & _stems(name.replace("_", " "))) if name else found


class SoughtWords:
    """`words_in` of many passages: a word that occurs often is looked at once."""

    def __init__(self, words: Set[str]) -> None:
        self._words = words
        self._known: dict[str, str | None] = {}
        """The stem of a word; None for words that nobody looks for."""

    def of(self, title: str, text: str, name: str = "") -> set[str]:
        said = set(_WORD.findall(f"{title}\n{text}".casefold()))
        if name:
            said.update(_WORD.findall(name.replace("_", " ").casefold()))
        known = self._known
        for word in said:
            if word not in known:
                stem = _stem(word)
                known[word] = stem if stem in self._words else None
        found = {known[word] for word in said}
        return {word for word in found if word is not None}


def combined(by_vector: Sequence[Hit], by_text: Sequence[Hit], query: str, rules: SearchRules) -> list[Hit]:
    """One ranking of two, by the rules; text hits are those of `weigh_by_words`."""
    hits = fuse(by_vector, by_text, rules.vector_weight)
    if not rules.by_name:
        return hits
    signs = suffix_signs([hit.document_id for hit in hits], query)
    moved = (
        replace(hit, score=hit.score + SUFFIX_WEIGHT * sign) if sign else hit
        for hit, sign in zip(hits, signs, strict=True)
    )
    return sorted(moved, key=best_first)


def fuse(by_vector: Sequence[Hit], by_text: Sequence[Hit], vector_weight: float = VECTOR_WEIGHT) -> list[Hit]:
    """One ranking of two, best first; the passage shown is the text search's, if it has one.

    A vector score counts by its place between the worst and the best found; text scores come from `weigh_by_words`.
    """
    scores: dict[str, float] = {}
    shown: dict[str, Hit] = {}
    if by_vector:
        best, worst = by_vector[0].score, by_vector[-1].score
        spread = max(best - worst, 1e-9)
        for hit in by_vector:
            scores[hit.document_id] = vector_weight * (hit.score - worst) / spread
            shown[hit.document_id] = hit
    for hit in by_text:
        scores[hit.document_id] = scores.get(hit.document_id, 0.0) + hit.score
        shown[hit.document_id] = hit
    return sorted((replace(hit, score=scores[document]) for document, hit in shown.items()), key=best_first)


def content_words(query: str) -> set[str]:
    """The words that say something; a query of function words alone ("The Who") keeps them."""
    words = _WORD.findall(query.casefold())
    return {_stem(word) for word in words if word not in _FUNCTION_WORDS} or {_stem(word) for word in words}


@functools.lru_cache(maxsize=4096)
def _stems(text: str) -> frozenset[str]:
    """Passages are found by many queries of an evaluation."""
    return frozenset({_stem(word) for word in _WORD.findall(text.casefold())})


def _stem(word: str) -> str:
    """Crude, but the same on both sides: it only decides whether a word of the query occurs in a passage at all."""
    return word[:_STEM_CHARACTERS] if len(word) > _STEM_CHARACTERS else word.removesuffix("s")
