"""Golden texts that a prompt or an example of a label shows: who has seen the question is not judged by it. Pure.

A text is shown where most of its runs of three words stand in what is shown, or most of those of a shown piece (a
paragraph, a line, an example) stand in it. Texts of fewer than eight words are compared whole.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ai_assets.documents.near_duplicates import shingles

MOST_OF = 0.8
_TEMPLATE = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_PARAGRAPH = re.compile(r"\n\s*\n")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class ShownText:
    where: str
    """Such as `prompt classify.md of triage`."""
    text: str


@dataclass(frozen=True, kw_only=True)
class Leak:
    kind: Literal["label", "query"]
    item: str
    """A document, or a query."""
    where: str
    share: float
    """Of the shorter text, that stands in the other."""

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


def prompt_text(template: str) -> str:
    """Without what Jinja replaces."""
    return _TEMPLATE.sub(" ", template)


class ShownTexts:
    """All that a stage is shown beside the document, ready to be searched."""

    def __init__(self, shown: Iterable[ShownText]) -> None:
        self._whole: dict[str, str] = {}
        self._pieces: list[tuple[str, int]] = []
        """Where each stands, and how many runs it has."""
        self._at: defaultdict[int, list[int]] = defaultdict(list)
        self._of: dict[str, set[int]] = defaultdict(set)
        for each in shown:
            for piece in dict.fromkeys([each.text, *_PARAGRAPH.split(each.text), *each.text.splitlines()]):
                runs = shingles(piece)
                if words := _words(piece):
                    self._whole.setdefault(words, each.where)
                for run in runs:
                    self._at[run].append(len(self._pieces))
                if runs:
                    self._pieces.append((each.where, len(runs)))
                self._of[each.where] |= runs
        self._first_words = {words.partition(" ")[0] for words in self._whole}

    def __bool__(self) -> bool:
        return bool(self._whole)

    def found(self, text: str) -> tuple[str, float] | None:
        """Where most of it is shown, and how much."""
        first = _WORD.search(text.casefold())
        begins_alike = first is not None and first.group() in self._first_words
        if begins_alike and (where := self._whole.get(_words(text))) is not None:
            return where, 1.0
        runs = shingles(text) if self._at else frozenset[int]()
        if not runs:
            return None
        pieces = Counter(piece for run in runs for piece in self._at.get(run, ()))
        shares = [(number / self._pieces[at][1], self._pieces[at][0]) for at, number in pieces.items()]
        shares += [(len(runs & shown) / len(runs), where) for where, shown in self._of.items() if shown]
        share, where = max(shares, default=(0.0, ""))
        return (where, round(share, 2)) if share >= MOST_OF else None


def leaks(kind: Literal["label", "query"], texts: Mapping[str, str], shown: ShownTexts) -> Sequence[Leak]:
    found = ((item, shown.found(text)) for item, text in sorted(texts.items()))
    return [Leak(kind=kind, item=item, where=at[0], share=at[1]) for item, at in found if at is not None]


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
