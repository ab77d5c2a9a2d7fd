"""Numbers as sentences have them; records keep them exact.

A number beside a limit is never shown on the other side of it, and a bound is rounded away from what it bounds.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal


def figure(value: float, limit: float | None = None) -> str:
    """Three significant digits, or as many as it takes to be on the side of the limit that the value is on."""
    for digits in range(3, 18):
        said = f"{value:.{digits}g}"
        shown = float(said)
        same_side = limit is None or ((shown < limit), (shown > limit)) == ((value < limit), (value > limit))
        if same_side and "e+" not in said:
            return said
    return f"{value:g}"


def decimals(value: float, limit: float | None = None, *, signed: bool = False) -> str:
    """Three decimals, or as many as it takes to be on the side of the limit that the value is on."""
    return _decimals(value, limit, ROUND_HALF_EVEN, signed=signed)


def lower(value: float, limit: float | None = None, *, signed: bool = False) -> str:
    """A lower bound: rounded down, so that what is shown is a lower bound too."""
    return _decimals(value, limit, ROUND_FLOOR, signed=signed)


def upper(value: float, limit: float | None = None, *, signed: bool = False) -> str:
    """An upper bound: rounded up."""
    return _decimals(value, limit, ROUND_CEILING, signed=signed)


def between(low: float, high: float, limit: float | None = None) -> str:
    """Of a difference: its interval, in which the limit is for the lower bound."""
    return f"[{lower(low, limit, signed=True)}, {upper(high, signed=True)}]"


def _decimals(value: float, limit: float | None, rounding: str, *, signed: bool) -> str:
    exact = Decimal(repr(float(value)))
    for digits in range(3, 18):
        shown = exact.quantize(Decimal(1).scaleb(-digits), rounding=rounding)
        if limit is None or (shown < Decimal(repr(float(limit)))) == (value < limit):
            break
    else:
        shown = exact
    return f"{shown + 0:{'+' if signed else ''}f}"
