"""The difference of two texts, word by word, with what did not change folded; bounded in time and in size.

Long texts are first matched by their lines (sentences, where a line is long) that occur once on both sides; only what
lies between these is compared word by word. Where words are not divided by spaces, each character is a word.
"""

import difflib
import functools
import itertools
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

PieceKind = Literal["same", "added", "removed", "folded"]
CONTEXT_WORDS = 24
"""So many words are shown on either side of a change; more between two changes are folded."""
LONGEST_FOLDED = 2_000
"""Characters of a folded part that the difference still holds; of a longer one only its number of words is given."""
MOST_SHOWN = 120_000
"""Characters of all pieces together; further changes are counted."""
MOST_COMPARED = 2_000_000
"""Characters of either text, less what both begin and end with; what comes after them is not looked at."""
MOST_WORK = 250_000
"""Words of one side times words of the other, up to which a part is compared word by word without anchors."""
MOST_WORK_IN_ALL = 20 * MOST_WORK
LONG_LINE = 240
SHORT_ISLAND = 3
"""Characters: what stands unchanged between two changes and is no longer than that is shown as changed with them."""


@dataclass(frozen=True, kw_only=True)
class DifferencePiece:
    """A part of a difference, in reading order."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    kind: PieceKind
    text: str
    """Of what is folded, all of it or, where it is long, nothing."""
    words: int


@dataclass(frozen=True, kw_only=True)
class TextDifference:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    pieces: Sequence[DifferencePiece]
    added: int
    """Words."""
    removed: int
    same: int
    changes: int
    """Places where the texts differ."""
    left_out: int = 0
    """Of them, those that are not among the pieces because they are too much to show."""
    not_compared: int = 0
    """Characters at the end of very long texts that were not looked at."""

    @property
    def equal(self) -> bool:
        return self.changes == 0


def text_difference(before: str | None, after: str | None) -> TextDifference:
    """What has to be done to `before` to have `after`."""
    old, new = before or "", after or ""
    start = _common_start(old, new)
    end = _common_end(old, new, start)
    head, tail = old[:start], old[len(old) - end :]
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    beyond = max(0, len(old) - MOST_COMPARED) + max(0, len(new) - MOST_COMPARED)
    middle = _compared(old[:MOST_COMPARED], new[:MOST_COMPARED])
    parts = [_same(head), *middle, *([] if beyond else [_same(tail)])]
    pieces = [
        DifferencePiece(kind=kind, text=text, words=word_count(text))
        for kind, text in _smoothed(_joined(parts))
        if text
    ]
    shown, left_out = _bounded(list(_folded(pieces)))
    return TextDifference(
        pieces=shown,
        added=sum(piece.words for piece in pieces if piece.kind == "added"),
        removed=sum(piece.words for piece in pieces if piece.kind == "removed"),
        same=sum(piece.words for piece in pieces if piece.kind == "same"),
        changes=_changes(pieces),
        left_out=left_out,
        not_compared=beyond,
    )


def word_count(text: str) -> int:
    return sum(1 for _ in _counted().finditer(text))


# Words

_ALONE = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Scripts that put no spaces between words."""
_JOINERS = "\u200c\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff"
"""They belong to what stands before them: joined letters and signs, variants, tones of skin."""


@functools.cache
def _marks() -> str:
    """All combining signs, as a class of a pattern: a word is not divided at its accents or vowel signs."""
    found = [code for code in range(0x300, 0x1E95A) if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")]
    ranges: list[list[int]] = []
    for code in found:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + _JOINERS


@functools.cache
def _word() -> re.Pattern[str]:
    """Every character belongs to exactly one match."""
    marks = _marks()
    one_sign = f".(?:[{marks}]|(?<=\\u200d)\\S)*"
    return re.compile(f"{_counted().pattern}|\\s+|{one_sign}", re.DOTALL)


@functools.cache
def _counted() -> re.Pattern[str]:
    marks = _marks()
    return re.compile(f"[{_ALONE}][{marks}]*|(?:(?![{_ALONE}])\\w|[{marks}])+")


def _words(text: str) -> list[str]:
    return _word().findall(text)


_SENTENCE = re.compile(r"[^.!?。！？؟।\n]*(?:[.!?。！？؟।]+\s*|\n+|$)")


def _lines(text: str) -> list[str]:
    """Lines with their ends; a long one as sentences, or else as words in equal numbers."""
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        if len(line) <= LONG_LINE:
            found.append(line)
        else:
            found += [sentence for sentence in _SENTENCE.findall(line) if sentence]
    return found


# Comparing


def _common_start(old: str, new: str) -> int:
    """Up to the end of a word that both have."""
    if old == new:
        return len(old)
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old.startswith(new[:middle]):
            low = middle
        else:
            high = middle - 1
    return _back_to_space(old, low)


def _back_to_space(text: str, place: int) -> int:
    """A place before which a word ends for certain, not far before this one."""
    for start in range(place, max(0, place - 200), -1):
        if text[start - 1].isspace():
            return start
    return 0 if place <= 200 else place - 200


def _common_end(old: str, new: str, start: int) -> int:
    most = min(len(old), len(new)) - start
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if old.endswith(new[len(new) - middle :]):
            low = middle
        else:
            high = middle - 1
    for length in range(low, max(0, low - 200), -1):
        if old[len(old) - length].isspace():
            return length
    return max(0, low - 200)


Part = tuple[PieceKind, str]


@dataclass
class _Work:
    """What may still be spent on parts without anchors."""

    left: int = MOST_WORK_IN_ALL

    def allows(self, pairs: int) -> bool:
        allowed = pairs <= min(MOST_WORK, self.left)
        self.left -= pairs if allowed else 0
        return allowed


def _compared(old: str, new: str) -> list[Part]:
    work = _Work()
    return [
        part
        for before, after in _aligned(_lines(old), _lines(new), work)
        for part in ([_same(before)] if before == after else _by_words(before, after, work))
    ]


def _same(text: str) -> Part:
    return "same", text


def _by_words(before: str, after: str, work: _Work) -> Iterator[Part]:
    for old, new in _aligned(_words(before), _words(after), work):
        if old == new:
            yield "same", old
        else:
            yield "removed", old
            yield "added", new


def _aligned(old: Sequence[str], new: Sequence[str], work: _Work) -> Iterator[tuple[str, str]]:
    """Both sides in pieces: equal ones, and between them what takes the place of what."""
    waiting = [(0, len(old), 0, len(new))]
    while waiting:
        first, last, start, end = waiting.pop()
        same_start = first
        while first < last and start < end and old[first] == new[start]:
            first, start = first + 1, start + 1
        if first > same_start:
            yield (text := "".join(old[same_start:first])), text
        stop, finish = last, end
        while stop > first and finish > start and old[stop - 1] == new[finish - 1]:
            stop, finish = stop - 1, finish - 1
        if stop < last:
            waiting.append((stop, last, finish, end))
        if first == stop and start == finish:
            continue
        anchors = _anchors(old, new, first, stop, start, finish)
        if anchors:
            edges = [(first, start), *anchors, (stop, finish)]
            gaps = [(a, c, b, d) for (a, b), (c, d) in itertools.pairwise(edges)]
            waiting += [gap for gap in reversed(gaps) if gap[0] < gap[1] or gap[2] < gap[3]]
        else:
            yield from _unanchored(old[first:stop], new[start:finish], work)


def _anchors(
    old: Sequence[str], new: Sequence[str], first: int, last: int, start: int, end: int
) -> list[tuple[int, int]]:
    """Places of what occurs once on both sides, as long as their order is the same."""
    here, there = Counter(old[first:last]), Counter(new[start:end])
    places = {text: place for place, text in enumerate(new[start:end], start) if there[text] == 1}
    pairs = [
        (place, places[text])
        for place, text in enumerate(old[first:last], first)
        if here[text] == 1 and text in places and not text.isspace()
    ]
    return _increasing(pairs)


def _increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of them in which both places grow."""
    ends: list[int] = []
    at: list[int] = []
    before: list[int | None] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(at[length - 1] if length else None)
        if length == len(ends):
            ends.append(place)
            at.append(number)
        else:
            ends[length], at[length] = place, number
    found: list[tuple[int, int]] = []
    current = at[-1] if at else None
    while current is not None:
        found.append(pairs[current])
        current = before[current]
    return found[::-1]


def _unanchored(old: Sequence[str], new: Sequence[str], work: _Work) -> Iterator[tuple[str, str]]:
    if not work.allows(len(old) * len(new)):
        yield "".join(old), "".join(new)
        return
    for kind, first, last, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        before = "".join(old[first:last])
        yield before, before if kind == "equal" else "".join(new[start:end])


# Making it readable


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Neighbours of one kind are one; where several change in a row, all that is removed comes before what is added."""
    found: list[Part] = []
    for same, group in itertools.groupby((part for part in parts if part[1]), key=lambda part: part[0] == "same"):
        members = list(group)
        kinds: tuple[PieceKind, ...] = ("same",) if same else ("removed", "added")
        texts = [(kind, "".join(text for each, text in members if each == kind)) for kind in kinds]
        found += [(kind, text) for kind, text in texts if text]
    return found


def _smoothed(parts: Sequence[Part]) -> list[Part]:
    """Without islands: single spaces and short words between changes are read as changed with what is around them."""
    found: list[Part] = []
    for place, (kind, text) in enumerate(parts):
        inside = 0 < place < len(parts) - 1
        if kind == "same" and inside and len(text.strip()) <= SHORT_ISLAND and "\n" not in text:
            found += [("removed", text), ("added", text)]
        else:
            found.append((kind, text))
    return _joined(found)


def _folded(pieces: Sequence[DifferencePiece]) -> Iterator[DifferencePiece]:
    """What is far from every change is one folded piece."""
    for place, piece in enumerate(pieces):
        if piece.kind != "same":
            yield piece
            continue
        before = CONTEXT_WORDS if place > 0 else 0
        after = CONTEXT_WORDS if place < len(pieces) - 1 else 0
        if piece.words <= before + after + CONTEXT_WORDS and len(pieces) > 1:
            yield piece
            continue
        first, last = _after_words(piece.text, before), _before_words(piece.text, after)
        yield from (
            DifferencePiece(
                kind=kind, text=text if kind == "same" or len(text) <= LONGEST_FOLDED else "", words=word_count(text)
            )
            for kind, text in _three(piece.text, first, last)
            if text
        )


def _three(text: str, first: int, last: int) -> tuple[tuple[PieceKind, str], ...]:
    return ("same", text[:first]), ("folded", text[first:last]), ("same", text[last:])


def _after_words(text: str, number: int) -> int:
    """Where so many words have ended."""
    if not number:
        return 0
    ends = itertools.islice((match.end() for match in _counted().finditer(text)), number)
    return max(ends, default=0)


def _before_words(text: str, number: int) -> int:
    """Where the last so many words begin."""
    if not number:
        return len(text)
    length = 64 * number
    while True:
        start = max(0, len(text) - length)
        begins = [match.start() for match in _counted().finditer(text, start)]
        if start == 0 or len(begins) > number:  # the first may be the end of a longer word
            return begins[-number] if len(begins) >= number else 0
        length *= 4


def _bounded(pieces: list[DifferencePiece]) -> tuple[list[DifferencePiece], int]:
    """As many as may be shown, and how many changes are not."""
    total = 0
    for place, piece in enumerate(pieces):
        room = MOST_SHOWN - total
        if len(piece.text) > room:
            shown = [*pieces[:place], replace(piece, text=piece.text[:room])] if room else pieces[:place]
            return shown, _changes(pieces[place:])
        total += len(piece.text)
    return pieces, 0


def _changes(pieces: Sequence[DifferencePiece]) -> int:
    """A word in the place of another is one change."""
    grouped = itertools.groupby(pieces, key=lambda piece: piece.kind in ("added", "removed"))
    return sum(changed for changed, _ in grouped)
