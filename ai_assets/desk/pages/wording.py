"""How numbers, times and addresses are written on the pages. `None` means unknown, and is said to be."""

import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from ai_assets.base.money import dollars
from ai_assets.base.plural import plural
from ai_assets.base.tenants import PLACE
from ai_assets.costs.tables import shown
from ai_assets.desk.answer_fields import Field
from ai_assets.desk.markup import markdown
from ai_assets.signoff.people import EVERYWHERE

NOTICED = 0.01
"""A score that moved less is shown, but not coloured."""
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def _parsed(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)


def moment(text: str) -> str:
    """To the minute, in UTC: what is shown where it must mean the same to everybody."""
    return _parsed(text).strftime("%Y-%m-%d %H:%M UTC")


def second(text: str) -> str:
    return _parsed(text).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(text: str) -> str:
    """The time of a day that is said elsewhere."""
    return _parsed(text).strftime("%H:%M:%S")


def ago(text: str) -> str:
    """How long ago, or how far ahead, in its largest unit; a script on the page keeps it true."""
    seconds = (datetime.datetime.now(datetime.UTC) - _parsed(text)).total_seconds()
    for unit, length in _UNITS:
        if abs(seconds) >= length:
            span = f"{int(abs(seconds) // length)} {unit}"
            return f"{span} ago" if seconds > 0 else f"in {span}"
    return "just now" if seconds >= 0 else "in a moment"


def span(hours: float) -> str:
    """A length of time in its two largest units."""
    minutes = round(max(0.0, hours) * 60)
    days, rest = divmod(minutes, 24 * 60)
    found = [f"{days} d" if days else "", f"{rest // 60} h" if rest >= 60 else "", f"{rest % 60} min"]
    shown = [part for part in found[: 2 if days else 3] if part]
    return " ".join(shown[:2]) if shown else f"{days} d"


def usd(amount: float | None) -> str:
    return dollars(amount, significant=4 if amount is not None and amount < 0.1 else 2)


def score(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def amount(value: float | None) -> str:
    """Of any size: dollars of a document, seconds, a share."""
    return "unknown" if value is None else f"{value:.4g}"


def difference(value: float | None, live: float | None) -> str:
    """Against the live release, with its sign."""
    if value is None or live is None:
        return ""
    return "±0" if abs(value - live) < 0.0005 else f"{value - live:+.3f}".replace("-", "−")


def tendency(value: float | None, live: float | None) -> str:
    """The class of a difference worth a colour."""
    if value is None or live is None or abs(value - live) < NOTICED:
        return ""
    return "better" if value > live else "worse"


def level(risk: float) -> str:
    """A word beside a number, and the class of its bar."""
    return "high" if risk >= 0.6 else "medium" if risk >= 0.35 else "low"


def query(**values: object) -> str:
    """A query of an address; what is empty is left out."""
    return urlencode({name: value for name, value in values.items() if value not in (None, "")})


def initial(text: str) -> str:
    """As the first word of a sentence."""
    return text[:1].upper() + text[1:]


def by_person(authors: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Each once with all they did: git knows a person by name and by address, and both are in the list."""
    did: dict[str, list[str]] = {}
    for author in authors:
        did.setdefault(author["who"], []).append(author["did"])
    people: dict[tuple[str, ...], list[str]] = {}
    for who, acts in did.items():
        people.setdefault(tuple(dict.fromkeys(acts)), []).append(who)
    return [(f"{who} ({', '.join(others)})" if others else who, list(acts)) for acts, (who, *others) in people.items()]


_MEMBER = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*"?|[\[{]|[^\s,{}\[\]]+)')


def fielded(text: str) -> str:
    """The beginning of a record, as it stands in a list, without its brackets and quotes."""
    if not text.startswith("{"):
        return text
    values = [(name, "…" if value in "[{" else _unquoted(value)) for name, value in _MEMBER.findall(text)]
    return ", ".join(f"{name}: {value}" for name, value in values) or text


def soft(text: str) -> Markup:
    """A long name that may be broken after its signs, and only there."""
    return Markup(_SIGN.sub(r"\1<wbr>", str(escape(text))))


def commands(sentence: str) -> Markup:
    """A sentence in which commands stand between backticks, as the command line prints it."""
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(sentence))))


def without_quotes(fields: Sequence[Field]) -> list[Field]:
    """The fields of an answer but for its evidence, which stands below them with its places."""
    return [field for field in fields if field.name != "evidence" or field.change != "same"]


_COMMAND = re.compile(r"`([^`]+)`")
_SIGN = re.compile(r"([_/.\-]+)(?=\w)")
_MARKUP = re.compile(r"(?m)^\s{0,3}(?:#{1,6}|>|[-*+]|\|[-:| ]+\|)\s|[*`|]|\[([^\]]*)\]\([^)]*\)|__")


def in_short(text: str) -> str:
    """An answer in one line of a list: a record without its brackets, Markdown without its signs."""
    if text.startswith("{"):
        return fielded(text)
    return " ".join(_MARKUP.sub(lambda found: f" {found[1] or ''}", text).split()) if _looks_marked(text) else text


def _looks_marked(text: str) -> bool:
    return "\n" in text or "**" in text or text.startswith("#")


def _unquoted(value: str) -> str:
    """The last one may have been cut in its middle."""
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:]


def place_in_words(place: str) -> str:
    """Where a role holds: a collection, all of a tenant, or everywhere."""
    if place == EVERYWHERE:
        return "every collection"
    tenant = place.removeprefix(PLACE)
    return place if tenant == place else f"all of tenant {tenant}"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": moment, "second": second, "ago": ago, "span": span, "usd": usd, "score": score, "amount": amount,
    "level": level, "initial": initial, "dollars": dollars, "cell": shown, "by_person": by_person, "in_short": in_short,
    "soft": soft, "markdown": markdown, "without_quotes": without_quotes, "commands": commands,
    "place_in_words": place_in_words,
}  # fmt: skip
GLOBALS: Mapping[str, Callable[..., Any]] = {
    "plural": plural,
    "place_in_words": place_in_words,
    "query": query,
    "difference": difference,
    "tendency": tendency,
}
