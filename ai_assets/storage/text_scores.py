"""What LanceDB's text search scores each passage of a version, for many queries: BM25 over body, title and name.

LanceDB takes some 3 ms for each query and has no call for many. Its tokenizer is asked, and its formula is computed
here: to about one part in a million, since it adds in single precision.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ai_assets.storage.lance_library import lancedb

if TYPE_CHECKING:
    import numpy as np

INDEX_OPTIONS: Mapping[str, Any] = {"stem": True, "ascii_folding": True, "remove_stop_words": False}
"""Stop words stay: "IT" and "who" are names somewhere. Folding makes Łódź and Lodz one word."""
_CODE = re.compile(r"[^\W_]+(?:[-/._:#][^\W_]+)+")

# bench/hybrid_search.py: a title word counts half a body word (boost 2 costs 0.10 MRR on summaries); a code found whole
# counts again (+0.19 MRR on names).
_TITLE_BOOST = 0.5
# bench/retrieval.py: 0.5 to 1.5 is level; without it recall@5 is 0.01 to 0.07 less where names say what a text is of.
_NAME_BOOST = 1.0
SATURATION, _LENGTH_SHARE = 1.2, 0.75
FIELD_BOOSTS = (1.0, _TITLE_BOOST, _NAME_BOOST)
"""Of body, title and name."""
Tokenize: TypeAlias = Callable[[str], list[tuple[str, int]]]
"""Words of a text, with their places."""
_MANY = 8
"""A word that one in so many passages has is added to all of them."""
_STEPS = 8
"""Roundings of a word's score before it is added to others, generously."""
_ROUNDING = 2.0**-23
_ASCII_WORD = re.compile(r"[0-9a-z]+")


def lance_query(text: str, *, by_name: bool = False) -> Any:
    """Any word of the text, in body or title, and in the document's name if `by_name`; codes such as INV-2043/77 count
    again where they occur whole."""
    from lancedb import query

    # Its pydantic dataclasses have defaults that a type checker does not see.
    match_query: Any = query.MatchQuery
    phrase_query: Any = query.PhraseQuery
    parts: list[Any] = [match_query(text, "text"), match_query(text, "title", boost=_TITLE_BOOST)]
    parts += [match_query(text, "document_id", boost=_NAME_BOOST)] if by_name else []
    parts += [phrase_query(code, "text") for code in _codes(text)]
    return query.BooleanQuery([(query.Occur.SHOULD, part) for part in parts])


def _codes(text: str) -> list[str]:
    return list(dict.fromkeys(_CODE.findall(text)))


@dataclass(frozen=True, kw_only=True)
class TextQuery:
    """What `lance_query` looks for, as words."""

    words: tuple[str, ...]
    """In body, title and name, as the tokenizer gives them; one that is there twice counts twice."""
    phrases: tuple[tuple[str, ...], ...]
    """Words that count again in a body that has them one after the other."""

    @classmethod
    def of(cls, text: str, tokenize: Tokenize) -> TextQuery | None:
        """None where LanceDB may take a phrase otherwise than is done here."""
        phrases = [_phrase(tokenize(code)) for code in _codes(text)]
        if None in phrases:
            return None
        words = tuple(word for word, _ in tokenize(text))
        return cls(words=words, phrases=tuple(phrase for phrase in phrases if phrase))

    @property
    def error(self) -> float:
        """By which share LanceDB's score of a passage can differ from the one computed here."""
        parts = 3 * len(self.words) + sum(map(len, self.phrases))
        return (_STEPS + parts) * _ROUNDING


def tokenizer() -> Tokenize | None:
    """As the text index reads texts; None where LanceDB does not offer it."""
    tokenize = getattr(lancedb(), "tokenize", None)
    if tokenize is None:
        return None
    return lambda text: [(token.text, token.position) for token in tokenize(text, **INDEX_OPTIONS)]


def _phrase(found: Sequence[tuple[str, int]]) -> tuple[str, ...] | None:
    """None where it has gaps, or a word twice."""
    words, places = [word for word, _ in found], [place for _, place in found]
    usual = places == list(range(len(places))) and len(set(words)) == len(words)
    return tuple(words) if usual else None


def length_norms(lengths: np.ndarray) -> np.ndarray:
    """What the length of each text takes from its words; those without a word do not count."""
    mean = lengths.sum() / max(int((lengths > 0).sum()), 1)
    norms: np.ndarray = SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * lengths / max(mean, 1e-9))
    return norms


def rarity(texts: int, having: np.ndarray) -> np.ndarray:
    """Of words that so many of these texts have."""
    import numpy as np

    found: np.ndarray = np.log1p((texts - having + 0.5) / (having + 0.5))
    return found


class Vocabulary:
    """Words of texts as numbers, as LanceDB's tokenizer gives them; only those that are asked for have one."""

    def __init__(self, wanted: Sequence[str], tokenize: Tokenize) -> None:
        self._numbers = {word: number for number, word in enumerate(wanted)}
        self._tokenize = tokenize
        self._known: dict[str, int] = {}

    def of(self, text: str) -> list[int]:
        """-1 for words that nobody asks for."""
        if not text.isascii():  # what LanceDB takes for a letter is its own to say
            return [self._numbers.get(word, -1) for word, _ in self._tokenize(text)]
        words, known = _ASCII_WORD.findall(text.lower()), self._known
        try:
            found = [known[word] for word in words]
        except KeyError:
            for word in words:
                if word not in known:
                    self._learn(word)
            found = [known[word] for word in words]
        return [number for number in found if number != _NO_WORD]

    def _learn(self, word: str) -> None:
        found = self._tokenize(word)
        self._known[word] = self._numbers.get(found[0][0], -1) if found else _NO_WORD

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def words(self) -> Sequence[str]:
        """By their number."""
        return list(self._numbers)

    def number(self, word: str) -> int:
        return self._numbers[word]


_NO_WORD = -2
"""Of what the tokenizer leaves out, which has a place in the text all the same."""


def has_phrase(text: Sequence[tuple[str, int]], phrase: Sequence[str]) -> bool:
    """Whether the words stand one after the other in a text of these words and places."""
    there = set(text)
    return any(
        all((word, place + step) in there for step, word in enumerate(phrase))
        for found, place in text
        if found == phrase[0]
    )


def passages_with(
    phrase: Sequence[str],
    rows_of: Callable[[str], np.ndarray],
    text: Callable[[int], str],
    tokenize: Tokenize,
) -> np.ndarray:
    """Of those that have all words of a phrase, the passages in which they stand one after the other."""
    import numpy as np

    together = functools.reduce(np.intersect1d, [rows_of(word) for word in phrase])
    return np.array([row for row in together.tolist() if has_phrase(tokenize(text(row)), phrase)], dtype=np.int64)


class TextField:
    """One column of all passages, as far as the wanted words go."""

    def __init__(self, texts: Sequence[str | None], wanted: Iterable[str], tokenize: Tokenize) -> None:
        import numpy as np

        words = sorted(wanted)
        vocabulary = Vocabulary(words, tokenize)
        self._texts, self._tokenize = texts, tokenize
        found: dict[str, tuple[list[int], list[int]]] = {word: ([], []) for word in words}
        lengths = np.zeros(len(texts))
        for row, text in enumerate(texts):
            numbers = vocabulary.of(text) if text else []
            lengths[row] = len(numbers)
            for number, count in Counter(numbers).items():
                if number >= 0:
                    rows, counts = found[words[number]]
                    rows.append(row)
                    counts.append(count)
        self._rows = len(texts)
        self._documents = int((lengths > 0).sum())  # LanceDB does not count the others
        self._norms = length_norms(lengths)
        self._found = {word: (np.array(rows), np.array(counts)) for word, (rows, counts) in found.items() if rows}
        self._scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._dense: dict[str, np.ndarray] = {}

    def of(self, word: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Rows that have the word, and what it scores in each."""
        import numpy as np

        if word not in self._found:
            return None
        if word not in self._scores:
            rows, counts = self._found[word]
            weight = rarity(self._documents, np.array(len(rows)))
            self._scores[word] = rows, weight * counts * (SATURATION + 1) / (counts + self._norms[rows])
        return self._scores[word]

    def add(self, word: str, weight: float, to: np.ndarray) -> None:
        """What it scores, to what all rows have; all at once where many have it."""
        import numpy as np

        found = self._dense.get(word)
        if found is None:
            some = self.of(word)
            if some is None:
                return
            rows, scores = some
            if len(rows) * _MANY < self._rows:
                to[rows] += weight * scores
                return
            found = self._dense[word] = np.zeros(self._rows)
            found[rows] = scores
        to += weight * found

    def with_phrase(self, words: Sequence[str]) -> np.ndarray:
        """Rows in which the words stand one after the other."""
        import numpy as np

        if not words or any(word not in self._found for word in words):
            return np.array([], dtype=int)
        candidates = functools.reduce(np.intersect1d, [self._found[word][0] for word in words])
        there = [row for row in candidates.tolist() if has_phrase(self._tokenize(self._texts[row] or ""), words)]
        return np.array(there, dtype=int)


class TextScores:
    """All passages of a version, for queries that are known beforehand."""

    def __init__(
        self,
        bodies: Sequence[str | None],
        titles: Sequence[str | None],
        queries: Iterable[TextQuery],
        tokenize: Tokenize,
        *,
        names: Sequence[str] = (),
    ) -> None:
        """`names`: of the documents, where they count."""
        asked = list(queries)
        self._rows = len(bodies)
        wanted = {word for query in asked for word in query.words}
        phrased = {word for query in asked for phrase in query.phrases for word in phrase}
        self._body = TextField(bodies, wanted | phrased, tokenize)
        self._fields = [(self._body, 1.0), (TextField(titles, wanted, tokenize), _TITLE_BOOST)]
        if names:
            self._fields.append((TextField(names, wanted, tokenize), _NAME_BOOST))

    def scores(self, queries: Sequence[TextQuery]) -> np.ndarray:
        """Queries x passages; 0 where a passage has none of the words."""
        import numpy as np

        total = np.zeros((len(queries), self._rows))
        for row, query in zip(total, queries, strict=True):
            for word, times in Counter(query.words).items():
                for field, weight in self._fields:
                    field.add(word, weight * times, row)
            for phrase in query.phrases:
                self._add_phrase(row, phrase)
        return total

    def _add_phrase(self, row: np.ndarray, phrase: Sequence[str]) -> None:
        import numpy as np

        having = self._body.with_phrase(phrase)
        if not len(having):
            return
        for word in phrase:
            found = self._body.of(word)
            assert found is not None  # all words of a phrase that was found
            row[having] += found[1][np.searchsorted(found[0], having)]
