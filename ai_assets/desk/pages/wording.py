"""How numbers, times and addresses are written on the pages. `None` means unknown, and is said to be."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from ai_assets.base.money import dollars
from ai_assets.costs.tables import shown

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


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def query(**values: object) -> str:
    """A query of an address; what is empty is left out."""
    return urlencode({name: value for name, value in values.items() if value not in (None, "")})


def initial(text: str) -> str:
    """As the first word of a sentence."""
    return text[:1].upper() + text[1:]


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": moment, "second": second, "ago": ago, "span": span, "usd": usd, "score": score, "level": level,
    "initial": initial, "dollars": dollars, "cell": shown,
}  # fmt: skip
GLOBALS: Mapping[str, Callable[..., Any]] = {
    "plural": plural,
    "query": query,
    "difference": difference,
    "tendency": tendency,
}
