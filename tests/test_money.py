"""Claims about how dollars are written."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

import ai_assets
from ai_assets.base.money import dollars, in_full
from ai_assets.cli.output import money
from ai_assets.desk.pages.wording import usd

NANO = Decimal("1e-9")


@pytest.mark.parametrize(
    ("amount", "said", "on_a_table", "in_an_error"),
    [
        (None, "unknown", "?", None),
        (0.0, "$0.00", "$0.0000", "$0.000000"),
        (0.000000001, "$0.000000001", "$0.000000001", "$0.000000001"),
        (0.00000037, "$0.00000037", "$0.00000037", "$0.00000037"),
        (0.00004321, "$0.0000432", "$0.000043", "$0.000043"),
        (0.0042, "$0.0042", "$0.0042", "$0.004200"),
        (0.5, "$0.50", "$0.5000", "$0.500000"),
        (1234.5, "$1,234.50", "$1,234.5000", "$1,234.500000"),
        (-0.00001, "−$0.00001", "−$0.00001", "−$0.000010"),
    ],
)
def test_small_amounts_keep_the_digits_that_tell_them_from_nothing(
    amount: float | None, said: str, on_a_table: str, in_an_error: str | None
) -> None:
    assert (dollars(amount), money(amount)) == (said, on_a_table)
    assert amount is None or in_full(amount) == in_an_error


@pytest.mark.parametrize("nusd", [1, 9, 99, 1_000, 49_999, 999_999, 1_234_567])
def test_no_amount_of_the_ledger_is_ever_written_as_nothing(nusd: int) -> None:
    amount = nusd * NANO
    for said in (dollars(amount), money(float(amount)), usd(float(amount)), in_full(amount)):
        assert re.search(r"[1-9]", said), said
        assert re.fullmatch(r"\$\d+\.\d+", said), "no exponent"


def test_no_other_code_rounds_dollars() -> None:
    rounding = re.compile(r"\$\{[^{}]*:,?\.[1-8]f\}")
    package = Path(ai_assets.__file__).parent
    found = [path.name for path in package.rglob("*.py") if rounding.search(path.read_text(encoding="utf-8"))]
    assert not found, "use ai_assets.base.money"
