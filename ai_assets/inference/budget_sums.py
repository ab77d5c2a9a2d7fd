"""The running sums of every budget against the attempts they are sums of."""

import json
from collections import defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

COLUMNS = ("spent_nusd", "reserved_nusd", "held_nusd")


def differences(connection: sa.Connection) -> Iterator[tuple[str, str, int, int]]:
    """Budget, column, what its row holds and what its attempts come to, wherever these are not the same."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    attempts = connection.execute(
        sa.text(
            "SELECT budgets, coalesce(sum(cost_nusd), 0) AS spent, "
            "coalesce(sum(CASE WHEN state = 'intent' THEN reserved_nusd END), 0) AS reserved, "
            "coalesce(sum(CASE WHEN state = 'ambiguous' THEN reserved_nusd END), 0) AS held "
            "FROM attempts GROUP BY budgets"
        )
    )
    for row in attempts:
        for budget in json.loads(row.budgets):
            sums = found[budget]
            for place, amount in enumerate((row.spent, row.reserved, row.held)):
                sums[place] += int(amount)
    held = {
        row.budget: [int(getattr(row, column)) for column in COLUMNS]
        for row in connection.execute(sa.text("SELECT budget, spent_nusd, reserved_nusd, held_nusd FROM budgets"))
    }
    for budget in sorted({*held, *found}):
        here, there = held.get(budget, [0, 0, 0]), found.get(budget, [0, 0, 0])
        yield from (
            (budget, column, one, other)
            for column, one, other in zip(COLUMNS, here, there, strict=True)
            if one != other
        )
