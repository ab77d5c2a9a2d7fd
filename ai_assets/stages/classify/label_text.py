"""The label that an answer in plain words names. Pure.

A label counts where all its words stand in the answer in their order, whatever the case, the punctuation and the text
around them; of labels that overlap the longest. An answer that names several labels has none: which of them is meant is
not ours to guess.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
"""Reasoning models weigh one label after the other before they answer."""
_WORDS = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class NamedLabels:
    """The labels that an answer names, in order, each once."""

    names: tuple[str, ...]
    start: int = 0
    end: int = 0
    """Where the first of them stands in the answer."""

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
    start, end, _ = found[0]
    return NamedLabels(names=tuple(dict.fromkeys(label for *_, label in found)), start=start, end=end)


def _places(text: str, label: str) -> list[tuple[int, int]]:
    words = [(_normal(match[0]), match.start(), match.end()) for match in _WORDS.finditer(text)]
    wanted = [_normal(word) for word in _WORDS.findall(label)]
    if not wanted:
        return []
    return [
        (words[at][1], words[at + len(wanted) - 1][2])
        for at in range(len(words) - len(wanted) + 1)
        if [word for word, _, _ in words[at : at + len(wanted)]] == wanted
    ]


def _normal(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def _without_overlaps(found: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """In order; where one lies within a longer one, only the longer."""

    def is_within_a_longer(start: int, end: int) -> bool:
        return any(a <= start and end <= b and b - a > end - start for a, b, _ in found)

    return sorted(one for one in found if not is_within_a_longer(one[0], one[1]))
