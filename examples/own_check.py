"""A check of one's own: nothing that looks like a card number leaves the house."""

import re

from ai_assets.checks import CheckContext, CheckResult, Dataset, check

CARD = re.compile(r"\b(?:\d[ -]?){15}\d\b")


@check
def no_card_numbers(context: CheckContext, dataset: Dataset, *, column: str = "text") -> CheckResult:
    """No text holds sixteen digits in a row."""
    found = [row for row in dataset.rows(["document_id", column]) if row[column] and CARD.search(row[column])]
    return CheckResult(
        passed=not found,
        failures=[f"{len(found)} documents hold what looks like a card number"] if found else [],
        details={"documents_with_cards": len(found), "failing_rows": [{"document": r["document_id"]} for r in found]},
    )
