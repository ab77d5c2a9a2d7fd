"""Texts and numbers for a property, found in a document by the property's name and format, made to fit its bounds."""

import functools
import math
import re
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from ai_assets.rehearsal.chat import Schema
from ai_assets.rehearsal.letters import reference_after
from ai_assets.rehearsal.reading import ExtractedValue, Reading, dates_in, number_in
from ai_assets.rehearsal.replies import summary

_FILLING = "x"
_SAMPLES = ("A", "a", "0", "00", "000", "0000", "AA", "aa", "AAA", "A0", "a0", "AB-12", "AB12", "a@example.com", "0.0")
_AMOUNT_WORDS = frozenset("amount total price sum cost net gross tax vat fee value balance paid salary".split())
_REFERENCE_WORDS = frozenset("id number no nr reference ref code iban sku key identifier".split())
_NAME_WORDS = frozenset(
    "name vendor supplier customer client company person author organisation organization buyer seller sender "
    "recipient party employee".split()
)
_FIRM_WORDS = frozenset("vendor supplier company organisation organization seller recipient".split())
"""Names that stand in the text rather than below it."""
_TITLE_WORDS = frozenset("title subject heading headline topic".split())
_DATE_WORDS = frozenset("date day deadline due issued since until datum expiry".split())
_PROSE_WORDS = frozenset("reason rationale explanation description text answer content sentence body note".split())
_PLAIN = {
    "email": "email", "mail": "email", "url": "url", "link": "url", "website": "url", "phone": "phone",
    "telephone": "phone", "currency": "currency",
}  # fmt: skip
_SYMBOLS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY"}

_EXACT = frozenset({"multipleOf", "exclusiveMinimum", "exclusiveMaximum"})

Result = tuple[Any, ExtractedValue | None]
"""A value that fits, and what it was read from; None where the document does not have it."""


def string(schema: Schema, words: Sequence[str], reading: Reading, given: ExtractedValue | None = None) -> Result:
    form = schema.get("format")
    found = given or _formatted(form, reading) if form in _FORMS else given or _named(words, reading)
    if given is None and "pattern" in schema and set(words) & _REFERENCE_WORDS:
        found = _of_the_pattern(schema, found, reading)
    if form in _FORMS and found is None:
        return _FORMS[form](reading), None
    text = str(found.value) if found is not None else reading.sentence_with("")
    fitted = _fit(schema, text, reading)
    if fitted is None:
        return _any_that_fits(schema, text, reading), None
    return fitted, found


def _named(words: Sequence[str], reading: Reading) -> ExtractedValue | None:
    """By the words of the property's name."""
    known = set(words)
    if any("summar" in word or word == "abstract" for word in words):
        return _plain(summary(reading))
    said = reading.labelled(words)
    if known & _DATE_WORDS:
        inside = dates_in(said) if said else []
        return next(iter(inside or reading.dates), None)
    kind = next((_PLAIN[word] for word in words if word in _PLAIN), None)
    if kind is not None:
        found = reading.first(kind)
        return ExtractedValue(_SYMBOLS.get(found.raw, found.raw), found.raw) if found else None
    if said:
        return _plain(said)
    if known & _AMOUNT_WORDS and reading.amounts:
        best = max(reading.amounts, key=lambda amount: amount.value)
        return ExtractedValue(best.raw, best.raw)
    if known & _TITLE_WORDS:
        return _plain(reading.first_line)
    if known & _REFERENCE_WORDS:
        after = reference_after([word for word in words if word not in _REFERENCE_WORDS], reading.text)
        return _plain(after) if after else reading.first("reference")
    if known & _NAME_WORDS:
        firm = reading.phrases[0] if reading.phrases else ""
        return _plain(firm if known & _FIRM_WORDS else reading.signature or firm)
    if known & _PROSE_WORDS:
        return _plain(reading.sentence_with(""))
    return None


def names_in(words: Sequence[str], reading: Reading) -> list[str]:
    """Of a list of names, people or firms: those that the document has; none for another list."""
    if reading.quick or not {word.removesuffix("s") for word in words} & (_NAME_WORDS | {"people"}):
        return []
    return list(dict.fromkeys([*reading.phrases, *filter(None, [reading.signature])]))


def _of_the_pattern(schema: Schema, found: ExtractedValue | None, reading: Reading) -> ExtractedValue | None:
    """A number that looks as the schema wants it, wherever the document has it."""
    pattern = schema["pattern"]
    if found is not None and _compiled(pattern).search(str(found.value)):
        return found
    loose = _compiled(rf"(?<![\w-])(?:{pattern.removeprefix('^').removesuffix('$')})(?![\w-])")
    match = loose.search(reading.text)
    return _plain(match.group()) if match and _compiled(pattern).search(match.group()) else found


def _plain(text: str) -> ExtractedValue | None:
    return ExtractedValue(text, text) if text else None


def _formatted(form: object, reading: Reading) -> ExtractedValue | None:
    first = next(iter(reading.dates), None)
    match form:
        case "date":
            return first
        case "date-time":
            return ExtractedValue(f"{first.value}T00:00:00Z", first.raw) if first else None
        case "email":
            return reading.first("email")
        case "uri":
            return reading.first("url")
        case _:
            return None


def _uuid(reading: Reading) -> str:
    drawn = zlib.crc32(reading.text.encode("utf-8", "replace"))
    return f"{drawn:08x}-0000-4000-8000-{drawn:012x}"


_FORMS: dict[object, Callable[[Reading], str]] = {
    "date": lambda _: "1970-01-01",
    "date-time": lambda _: "1970-01-01T00:00:00Z",
    "time": lambda _: "00:00:00Z",
    "email": lambda _: "nobody@example.com",
    "uri": lambda _: "https://example.com",
    "uuid": _uuid,
    "ipv4": lambda _: "127.0.0.1",
    "ipv6": lambda _: "::1",
    "hostname": lambda _: "example.com",
}


def _fit(schema: Schema, text: str, reading: Reading) -> str | None:
    """Cut or lengthened to the bounds; None where it cannot be made to match the pattern."""
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if most is not None:
        text = text[: int(most)]
    if len(text) < least:
        text = f"{text} {reading.text}"[:least] if text and reading.text else text
        text = text.ljust(least, _FILLING)
    pattern = schema.get("pattern")
    return text if pattern is None or _compiled(pattern).search(text) else None


def _any_that_fits(schema: Schema, text: str, reading: Reading) -> str:
    """Something that matches the pattern: from the document, or a sample."""
    pattern = schema["pattern"]
    loose = _compiled(pattern.removeprefix("^").removesuffix("$"))
    inside = [match.group() for match in loose.finditer(reading.text) if match.group()][:20]
    for candidate in (*inside, *reading.text.split()[:200], *_SAMPLES, ""):
        fits_length = int(schema.get("minLength", 0)) <= len(candidate) <= int(schema.get("maxLength", 10**9))
        if fits_length and _compiled(pattern).search(candidate):
            return candidate
    return text


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error:
        return re.compile("")  # in another dialect of regular expressions: nothing is asked


def number(schema: Schema, words: Sequence[str], reading: Reading, given: ExtractedValue | None = None) -> Result:
    found = given or _number(words, reading)
    value = float(found.value) if found is not None else 0.0
    fitted = bounded(schema, value, whole=False)
    return fitted, found


def integer(schema: Schema, words: Sequence[str], reading: Reading, given: ExtractedValue | None = None) -> Result:
    found = given or _number(words, reading)
    value = float(found.value) if found is not None else 0.0
    return bounded(schema, value, whole=True), found


def _number(words: Sequence[str], reading: Reading) -> ExtractedValue | None:
    said = reading.labelled(words)
    inside = number_in(said) if said else None
    if inside is not None:
        return inside
    if set(words) & _AMOUNT_WORDS:
        return max(reading.amounts, key=lambda amount: amount.value, default=None)
    if "year" in words and reading.dates:
        first = reading.dates[0]
        return ExtractedValue(float(str(first.value)[:4]), first.raw)
    if set(words) & {"count", "quantity", "page", "pages", "number", "age"}:
        return next(iter(reading.integers), None)
    return None


def bounded(schema: Schema, value: float, *, whole: bool) -> float | int:
    """The nearest value that the schema allows, exactly."""
    if not whole and not schema.keys() & _EXACT:
        value = max(value, schema.get("minimum", value))
        return float(min(value, schema.get("maximum", value)))
    low, high = _bound(schema, "minimum", 1, whole), _bound(schema, "maximum", -1, whole)
    exact = Fraction(value) if whole else Fraction(repr(value))
    step = Fraction(repr(schema["multipleOf"])) if "multipleOf" in schema else Fraction(1) if whole else None
    if whole and step is not None and step.denominator != 1:
        step = Fraction(step.numerator)
    if low is not None:
        exact = max(exact, low)
    if high is not None:
        exact = min(exact, high)
    if step is not None:
        down, up = math.floor(exact / step) * step, math.ceil(exact / step) * step
        exact = up if (low is not None and down < low) else down
        if high is not None and exact > high:
            exact = down
    if whole or exact.denominator == 1:
        return int(exact)
    return float(exact)


def _bound(schema: Schema, name: str, inwards: int, whole: bool) -> Fraction | None:
    """The inclusive bound, from both ways of writing one."""
    found = []
    if name in schema:
        found.append(Fraction(repr(schema[name])))
    exclusive = schema.get(f"exclusive{name.capitalize()}")
    if isinstance(exclusive, int | float) and not isinstance(exclusive, bool):
        edge = Fraction(repr(exclusive))
        found.append(edge + inwards * (Fraction(1) if whole and edge.denominator == 1 else Fraction(1, 1000)))
    if not found:
        return None
    return max(found) if inwards > 0 else min(found)
