"""The bill as a provider exports it: totals by day (UTC), key id and model, in JSON and CSV."""

import csv
import datetime
import hashlib
import io
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal

from aiohttp import web

from ai_assets.rehearsal.tokens import TokenUsage

NO_KEY = "key_none"
"""The id of calls that came without a key."""


@dataclass(kw_only=True)
class BilledDay:
    """What one key was billed for one model on one day."""

    day: str
    key_id: str
    model: str
    requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    """A part of the input."""
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)


COLUMNS = tuple(each.name for each in fields(BilledDay))


@dataclass
class DailyUsage:
    _totals: dict[tuple[str, str, str], BilledDay] = field(default_factory=dict)

    def add(self, key_id: str, model: str, usage: TokenUsage, cost_usd: Decimal) -> None:
        """A bill of this moment."""
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        total = self._totals.setdefault((day, key_id, model), BilledDay(day=day, key_id=key_id, model=model))
        total.requests += 1
        total.input_tokens += usage.input_tokens
        total.cached_tokens += usage.cached_tokens
        total.output_tokens += usage.output_tokens
        total.cost_usd += cost_usd

    def as_json(self) -> dict[str, object]:
        """Dollars as decimal text: a floating-point number would round them."""
        data = [{**asdict(total), "cost_usd": f"{total.cost_usd:f}"} for total in self._in_order()]
        return {"object": "daily_usage", "currency": "usd", "data": data}

    def as_csv(self) -> str:
        written = io.StringIO()
        out = csv.DictWriter(written, COLUMNS, lineterminator="\n")
        out.writeheader()
        out.writerows({**asdict(total), "cost_usd": f"{total.cost_usd:f}"} for total in self._in_order())
        return written.getvalue()

    def _in_order(self) -> list[BilledDay]:
        return [self._totals[place] for place in sorted(self._totals)]


def key_id_of(request: web.BaseRequest) -> str:
    """The public id of the key that a request came with; the key cannot be told from it."""
    key = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    return f"key_{hashlib.sha256(key.encode()).hexdigest()[:12]}" if key else NO_KEY
