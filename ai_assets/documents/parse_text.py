"""Clean text, and what makes a title of it."""

import functools
import re
import sys
import unicodedata

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
