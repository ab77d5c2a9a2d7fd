"""Clean text, and what can be told from the text alone: its title and its language."""

import functools
import re
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from py3langid.langid import LanguageIdentifier

_LANGUAGE_SAMPLE = 1_000
"""Characters looked at: 0.1 ms for English, 0.3 ms for Chinese; 2,000 cost twice that and changed no answer."""
_LANGUAGE_LETTERS = 20
"""Below this py3langid guesses: 'Invoice 2024' is Latin to it."""
TITLE_CHARACTERS = 120
LONGEST_TITLE = 10 * TITLE_CHARACTERS
"""Of what a title is made from, more is not looked at."""
_BINARY_SAMPLE = 4_096
_MOST_MARKS = 200
"""Scripts put four on a letter at most, and people who play with them fifty."""

_NEWLINES = re.compile(r"\r\n?|[\v\f\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_BLANK = "".join(chr(code) for code in range(0x3001) if chr(code).isspace()) + "\ufeff"


class Unreadable(ValueError):
    """A file or row that gives no text; the message is the reason shown to people."""


class UnreadNow(Unreadable):
    """The same, where another try may succeed: a converter that was killed, or that took too long on a busy machine."""


def refuse_binary(text: str) -> None:
    """Text holds no NUL, and hardly any control characters."""
    nul = text.find("\0")
    if nul >= 0:
        raise Unreadable(f"binary content: NUL at character {nul}")
    sample = text[:_BINARY_SAMPLE]
    controls = len(_CONTROLS.findall(sample))
    if controls * 10 > len(sample):
        raise Unreadable(f"binary content: {controls} of the first {len(sample)} characters are control characters")


def refuse_piled_marks(text: str) -> None:
    """Putting a run of combining characters in order takes time quadratic in its length: hours for 5 million."""
    if not text.isascii() and (pile := _piles().search(text)):
        raise Unreadable(
            f"{len(pile[0]):,} combining characters in a row at character {pile.start()}; the limit is {_MOST_MARKS}"
        )


@functools.cache
def _piles() -> "re.Pattern[str]":
    # The last three have another class themselves, and are made of combining characters.
    marks = [chr(code) for code in range(0x300, sys.maxunicode + 1) if unicodedata.combining(chr(code))]
    return re.compile(f"[{''.join(marks)}\u0f73\u0f75\u0f81]{{{_MOST_MARKS + 1},}}")


def normalise(text: str) -> str:
    """NFC, lines ended by \\n, no control characters but \\n and \\t, no lone surrogates, no blank ends. Idempotent."""
    text = _CONTROLS.sub("", _NEWLINES.sub("\n", text))
    if not text.isascii():  # what is left to do changes nothing of one that is
        text = unicodedata.normalize("NFC", _SURROGATES.sub("\ufffd", text))
    return text.strip(_BLANK)


def shortened(title: str, most: int = TITLE_CHARACTERS) -> str | None:
    """One line of at most so many characters."""
    return " ".join(normalise(title[:LONGEST_TITLE]).split())[:most].rstrip() or None


def language_of(text: str) -> str | None:
    """The ISO 639-1 code; None when there are too few letters to tell."""
    sample = language_sample(text)
    # Of most texts the beginning is enough to tell.
    if _letters(sample[: 4 * _LANGUAGE_LETTERS]) < _LANGUAGE_LETTERS and _letters(sample) < _LANGUAGE_LETTERS:
        return None
    language: str = language_identifier().classify(sample)[0]
    return language


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


class _Weights:
    """The model's numbers of each feature, widened to what is computed with when a text first has the feature.

    They are stored in 16 bits, and numpy would widen them again for each text, which takes as long as all other
    arithmetic. The sums are the same to the bit.
    """

    def __init__(self, stored: "np.ndarray") -> None:
        import numpy as np

        self._stored = stored
        self._wide = np.empty(stored.shape, np.float32)  # takes memory where it is written, and not before
        self._is_wide = np.zeros(len(stored), np.bool_)

    def __getitem__(self, features: "np.ndarray") -> "np.ndarray":
        there = self._is_wide[features]
        if not there.all():
            missing = features[~there]
            self._wide[missing] = self._stored[missing]
            self._is_wide[missing] = True
        found: np.ndarray = self._wide[features]
        return found


@functools.cache
def language_identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.nb_ptc = _Weights(identifier.nb_ptc)
    return identifier


def language_sample(text: str) -> str:
    """The part of a text by which its language is detected."""
    return text[:_LANGUAGE_SAMPLE]


def too_many_characters(found: int, limit: int) -> str:
    """The reason of a text over the limit, with the key that sets it."""
    return f"{found:,} characters of text; the limit is {limit:,} (source.max_characters)"


def shown_bytes(count: int) -> str:
    """For people: 2 GiB, 62.3 MB, 512 bytes."""
    if count >= 1 << 20 and count % (1 << 20) == 0:
        return f"{count >> 30} GiB" if count % (1 << 30) == 0 else f"{count >> 20} MiB"
    if count >= 1_000_000:
        return f"{count / 1_000_000:.1f} MB".replace(".0 ", " ")
    return f"{count / 1_000:.1f} kB" if count >= 10_000 else f"{count} bytes"
