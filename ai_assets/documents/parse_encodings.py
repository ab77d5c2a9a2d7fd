"""Bytes to text: UTF-8, what a mark or a declaration says, else a guess that says how certain it is.

A guess must decode every byte, and read like text: data that are no text stay unread, whatever their name.
"""

import codecs
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ai_assets.documents.parse_text import Unreadable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_CANDIDATES = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "iso8859-1", "iso8859-2",
    "iso8859-5", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-13", "iso8859-15", "koi8-r", "koi8-u", "cp866",
    "cp850", "cp437", "cp932", "euc_jis_2004", "iso2022_jp_2", "gb18030", "big5hkscs", "cp949",
)  # fmt: skip
"""What files in use are written in; each further one makes every guess a little worse."""
_RARE: dict[str, float] = {"cp850": 0.7, "cp437": 0.7, "cp866": 0.9}
"""Long out of use: they must read clearly better than the others."""
_SAMPLE = 1 << 16
"""Bytes that are looked at; of longer texts, lines that are not plain ASCII."""
_HIGH = re.compile(rb"[\x80-\xff]")
_UTF8_CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_DAMAGED_SHARE = 0.9
"""Of the bytes beyond ASCII; when so many are UTF-8, the others are damage and not another encoding."""
_DECLARED = re.compile(
    rb"""<(?:meta\b[^>]{0,200}?charset\s*=|\?xml\b[^>]{0,200}?encoding\s*=)\s*["']?([\w.:-]{1,40})""", re.I
)
_MOST_TRIED = 12
_MEASURED: tuple[tuple[float, tuple[tuple[float, float], ...]], ...] = (
    (0.1, ((5, 0.75), (10, 0.87), (30, 0.95), (math.inf, 0.99))),
    (0.2, ((5, 0.88), (10, 0.9), (math.inf, 0.97))),
    (math.inf, ((5, 0.95), (10, 0.97), (math.inf, 0.99))),
)
"""How often it was right (bench/encodings.py), by its lead over the next, then by the number of bytes beyond ASCII."""
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x19\x1c-\x1f\x7f-\x84\x86-\x9f]")
_TWO_SCRIPTS = re.compile(
    "[A-Za-z\u00aa\u00b5\u00ba\u00c0-\u024f][\u0370-\u06ff]|[\u0370-\u06ff][A-Za-z\u00aa\u00b5\u00ba\u00c0-\u024f]"
)
_OTHER_SCRIPT = re.compile("[\u0370-\u06ff]")
_ACCENTED_ONLY = re.compile("(?<![^\\W])[\u00c0-\u024f]+(?!\\w)")
_WITH_ACCENT = re.compile("\\w*[\u00c0-\u024f]\\w*")
_ONE_LETTER_WORDS = "àáèéìíòóùúýäåæöøőűêô"
"""Words have plain letters beside their accents; garbled text is full of accents alone."""
_EAST_ASIAN = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff00-\uffef\x20-\x7e\\s]")
_EAST_ASIAN_SIGN = re.compile("[\u3000-\u30ff\uff00-\uffef\\s]")
_SHORTEST_UTF16 = 4
"""Characters; twice as many where most are East Asian."""
_BLOCKS_OF_ALL = (0x00, 0x01, 0x02, 0x03, 0x1E, 0x1F, 0x20, 0x21, 0x22, 0x25, 0xFB, 0xFE, 0xFF)
"""Upper bytes of Latin letters, Greek (which has no block of its own), marks, signs and forms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    text: str
    encoding: str | None = None
    """As Python names it, where it was guessed; None where the bytes themselves or a declaration say it."""
    certainty: float | None = None
    """0 to 1: how often a guess like this was right when it was measured (docs/collections.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingGuess:
    encoding: str
    certainty: float


def decoded(data: bytes, declared: str | None = None) -> Decoded:
    """The text; Unreadable with the reason where there is none to be had."""
    for mark, encoding, name in _MARKS:
        if data.startswith(mark):
            return Decoded(text=_marked(data, encoding, name, len(mark)))
    problem = None
    try:
        text = data.decode()
        if "\0" not in text and b"\x1b$" not in data:
            return Decoded(text=text)
    except UnicodeDecodeError as error:
        problem = error.start
    if declared is not None and (said := _by(data, declared)) is not None:
        return Decoded(text=said)
    guess = guessed(data)
    if guess is not None:
        return Decoded(text=data.decode(guess.encoding), encoding=guess.encoding, certainty=guess.certainty)
    if problem is None:
        return Decoded(text=text)  # whoever looks for binary content finds it
    head = data[:4_096]
    if sum(byte < 32 and byte not in b"\t\n\v\f\r" for byte in head) * 20 > len(head):
        raise Unreadable(f"binary content: not valid UTF-8 at byte {problem}, and no text in any other encoding")
    raise Unreadable(f"not valid UTF-8 at byte {problem}; save it as UTF-8")


def declared_in_html(data: bytes) -> str | None:
    """The charset that a page, or an XML document, says it has."""
    found = _DECLARED.search(data[:4_096])
    return found[1].decode("ascii") if found else None


def _marked(data: bytes, encoding: str, name: str, mark: int) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"not valid {name} at byte {error.start + (mark if name == 'UTF-8' else 0)}; save it as UTF-8"
        ) from error


def _by(data: bytes, encoding: str, *, cut: bool = False) -> str | None:
    """None where it is not that; of a sample that was `cut`, the last character may be missing."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data, final=not cut)
    except (UnicodeDecodeError, LookupError):
        return None
    return None if "\0" in text else text


def is_utf8(data: bytes, *, whole: bool) -> bool:
    """Also of the beginning of a file, whose last character may be cut."""
    if b"\0" in data or b"\x1b$" in data:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def is_damaged_utf8(data: bytes) -> bool:
    high = len(_HIGH.findall(data))
    return high > 8 and sum(map(len, _UTF8_CHARACTER.findall(data))) >= high * _DAMAGED_SHARE


# Guessing


def guessed(data: bytes) -> EncodingGuess | None:
    """The encoding of a text that is not UTF-8 and has no mark; None for what is no text, or damaged UTF-8."""
    sample = _sample(data)
    if is_damaged_utf8(sample):
        return None
    best: tuple[str, float] | None = None
    next_best = 0.0
    first = ""
    for encoding, score in sorted(_ranked(sample), key=lambda found: -found[1])[:_MOST_TRIED]:
        text = _by(sample, encoding, cut=len(data) > len(sample))
        if text is None or not _reads(text):
            continue
        if best is None:
            if _by(data, encoding) is not None:
                best, first = (encoding, score), text
        elif text != first:
            next_best = score
            break
    if best is None:
        return _utf16(data)
    encoding, score = best
    evidence, bound = len(_HIGH.findall(sample)), 0.5 if len(data) < 8 else 0.75 if len(data) < 16 else 1.0
    if len(data) <= len(sample):  # several may read alike: the most usual one names it
        encoding = next((name for name in _CANDIDATES if _by(data, name) == first), encoding)
    return EncodingGuess(encoding=encoding, certainty=min(bound, _certainty(encoding, score, next_best, evidence)))


def _ranked(sample: bytes) -> Iterator[tuple[str, float]]:
    """Encodings, the likeliest first, as Python names them."""
    import chardet

    if b"\0" in sample:
        return
    if not _HIGH.search(sample):
        if b"\x1b$" in sample:
            yield "iso2022_jp_2", 1.0
        return
    for found in chardet.detect_all(sample, include_encodings=_CANDIDATES, compat_names=False, ignore_threshold=True):
        if found["encoding"] is not None:
            name = codecs.lookup(found["encoding"]).name
            yield name, found["confidence"] * _RARE.get(name, 1.0)


def _sample(data: bytes) -> bytes:
    if len(data) <= _SAMPLE:
        return data
    found, size, at = [], 0, 0
    while size < _SAMPLE and (high := _HIGH.search(data, at)):
        start = max(data.rfind(b"\n", max(at, high.start() - 1_000), high.start()) + 1, at)
        end = data.find(b"\n", high.start() + 1_000)
        at = min(len(data) if end < 0 else end, start + _SAMPLE - size)
        found.append(data[start:at])
        size += at - start
    return b"\n".join(found) if found else data[:_SAMPLE]


def _reads(text: str) -> bool:
    """Whether it can be text at all: no binary data, no words of two scripts or of accents alone, no capitals
    strewn into words."""
    if len(_NO_TEXT.findall(text)) > max(1, len(text) // 500) or "\0" in text:
        return False
    seen = text[:4_096]
    if sum(unicodedata.category(character) in ("Cn", "Co", "Cs") for character in seen) * 1_000 > len(seen):
        return False
    strewn = sum(1 for one, other in pairwise(seen) if one.islower() and other.isupper())
    if strewn * 10 > sum(map(str.isalpha, seen)):
        return False
    if len(_TWO_SCRIPTS.findall(text)) * 10 > len(_OTHER_SCRIPT.findall(text)):
        return False
    odd = sum(1 for word in _ACCENTED_ONLY.findall(text) if len(word) > 1 or word.lower() not in _ONE_LETTER_WORDS)
    return odd * 4 <= len(_WITH_ACCENT.findall(text))


def _utf16(data: bytes) -> EncodingGuess | None:
    """Anything can be read as UTF-16, so much is asked of it: letters of one script, or East Asian text with signs."""
    if len(data) % 2 or len(data) < 2 * _SHORTEST_UTF16:
        return None
    lanes = {"utf-16-le": data[1:_SAMPLE:2], "utf-16-be": data[0:_SAMPLE:2]}
    best: tuple[tuple[int, int], EncodingGuess] | None = None
    for encoding, upper in lanes.items():
        text = _by(data[:_SAMPLE], encoding, cut=len(data) > _SAMPLE)
        if text is None or not _reads(text) or _by(data, encoding) is None:
            continue
        blocks = Counter(upper)
        common = blocks[0]  # a space, a line end and every Latin letter has none there
        others = [number for block, number in blocks.items() if block not in _BLOCKS_OF_ALL]
        known, signs = len(_EAST_ASIAN.findall(text)), len(_EAST_ASIAN_SIGN.findall(text))
        if common >= 0.05 * len(text) and (not others or max(others) >= 0.9 * sum(others)):
            certainty = 0.99
        elif len(text) >= 2 * _SHORTEST_UTF16 and known >= 0.97 * len(text) and signs >= 0.02 * len(text):
            certainty = 0.97
        else:
            continue
        if best is None or (common, signs) > best[0]:
            best = (common, signs), EncodingGuess(encoding=encoding, certainty=certainty if len(text) >= 16 else 0.75)
    return best[1] if best else None


def _certainty(encoding: str, score: float, next_best: float, evidence: int) -> float:
    """By how far it is ahead of the next one that reads otherwise, and on how many bytes that rests."""
    if encoding.startswith("iso2022"):
        return 0.99
    lead = 1.0 if next_best == 0 else (score - next_best) / score
    steps = next(steps for limit, steps in _MEASURED if lead * (1 - math.exp(-evidence / 4)) < limit)
    return next(share for bytes_, share in steps if evidence < bytes_)
