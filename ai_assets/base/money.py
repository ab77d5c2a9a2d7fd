"""How dollars are written, in one way everywhere: what is not nothing never looks like nothing."""

from decimal import Decimal

MOST_PLACES = 9
"""Nano-dollars, as the ledger counts."""


def dollars(
    amount: Decimal | float | None, *, significant: int = 3, at_least: int = 2, unknown: str = "unknown"
) -> str:
    """Small amounts keep `significant` digits; others have `at_least` places. Unknown is never shown as zero."""
    if amount is None:
        return unknown
    exact = amount if isinstance(amount, Decimal) else Decimal(repr(float(amount)))
    sign, size = ("−" if exact < 0 else ""), abs(exact)
    if not size or size >= 1:
        return f"{sign}${size:,.{at_least}f}"
    places = min(MOST_PLACES, max(at_least, significant - 1 - size.adjusted()))
    digits = f"{size:.{places}f}".rstrip("0")
    whole, _, part = digits.partition(".")
    return f"{sign}${whole}.{part:0<{at_least}}"


def in_full(amount: Decimal | float) -> str:
    """For limits that were missed by little: six places, or more."""
    return dollars(amount, significant=2, at_least=6)
