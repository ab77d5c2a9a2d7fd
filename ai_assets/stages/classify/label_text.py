"""The label that an answer in plain words names. Pure.

A label counts where all its words stand in the answer in their order, whatever the case, the punctuation and a few
words around them; of labels that overlap the longest. An answer that names several labels, denies one or speaks of one
among many words has none: what is meant is not ours to guess.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
"""Reasoning models weigh one label after the other before they answer."""
_WORDS = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?\n]")
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|none|cannot|nicht|kein\w*|weder|niet|geen|pas|ni|non|aucune?|nem|não|ning[uú]n\w*|"
    r"nessun\w*)\b|n['’]t\b",
    re.IGNORECASE,
)
FEW_WORDS = 8
"""So many may stand before a label, and after it in its sentence: `The label of this document is: invoice`."""


@dataclass(frozen=True, kw_only=True)
class NamedLabels:
    """The labels that an answer names, in order, each once."""

    names: tuple[str, ...]
    start: int = 0
    end: int = 0
    """Where the first of them stands in the answer."""
    doubt: str = ""
    """Why a label that stands in the answer is not named by it."""

    @property
    def label(self) -> str | None:
        return self.names[0] if len(self.names) == 1 else None


def named_labels(answer: str, labels: Sequence[str]) -> NamedLabels:
    thought = _THOUGHT.match(answer)
    begin = thought.end() if thought else 0
    said = answer[begin:]
    exact = said.strip()
    if exact in labels:
        start = begin + said.index(exact)
        return NamedLabels(names=(exact,), start=start, end=start + len(exact))
    found = _without_overlaps(
        [(start + begin, end + begin, label) for label in labels for start, end in _places(said, label)]
    )
    if not found:
        return NamedLabels(names=())
    start, end, label = found[0]
    names = tuple(dict.fromkeys(label for *_, label in found))
    if len(names) == 1 and (doubt := _doubt(answer[begin:start], answer[end:], label)):
        return NamedLabels(names=(), doubt=doubt)
    return NamedLabels(names=names, start=start, end=end)


def alike(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs that no answer tells apart."""
    first: dict[tuple[str, ...], str] = {}
    for label in labels:
        other = first.setdefault(_normal_words(label), label)
        if other != label:
            yield other, label


def _doubt(before: str, after: str, label: str) -> str:
    if (denied := _NEGATION.search(before)) is not None:
        return f"it says '{denied[0]}' before '{label}'"
    rest = _SENTENCE_END.split(after, maxsplit=1)[0]
    if max(len(_WORDS.findall(before)), len(_WORDS.findall(rest))) > FEW_WORDS:
        return f"it speaks of '{label}' among many other words"
    return ""


def _places(text: str, label: str) -> list[tuple[int, int]]:
    words = [(_normal(match[0]), match.start(), match.end()) for match in _WORDS.finditer(text)]
    wanted = list(_normal_words(label))
    if not wanted:
        return []
    return [
        (words[at][1], words[at + len(wanted) - 1][2])
        for at in range(len(words) - len(wanted) + 1)
        if [word for word, _, _ in words[at : at + len(wanted)]] == wanted
    ]


def _normal_words(label: str) -> tuple[str, ...]:
    return tuple(_normal(word) for word in _WORDS.findall(label))


def _normal(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def _without_overlaps(found: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """In order; where one lies within a longer one, only the longer."""

    def is_within_a_longer(start: int, end: int) -> bool:
        return any(a <= start and end <= b and b - a > end - start for a, b, _ in found)

    return sorted(one for one in found if not is_within_a_longer(one[0], one[1]))
