# ruff: noqa: S608 - the parts put together are all from here
"""What a row of the exported ledger is: its columns, the query they come from, and their way into Arrow and DuckDB."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["id", "text", "count", "moment", "seconds", "dollars"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Attempts or reuses."""

    columns: Mapping[str, tuple[Kind, str]]
    """Type and SQL expression by name. Dollars come as whole nano-dollars."""
    source: str
    at: str
    """The indexed column that says on which day it was."""
    order: str
    summed: str

    @property
    def select(self) -> str:
        """All rows of a day, always in the same order."""
        chosen = ", ".join(f"{expression} AS {_quoted(name)}" for name, (_, expression) in self.columns.items())
        return f"SELECT {chosen} FROM {self.source} WHERE {self._of_day} ORDER BY {self.at}, {self.order}"

    @property
    def sums(self) -> str:
        """The ledger's own sums of a day, as a `LedgerDayState`."""
        table = self.source.partition(" ")[0]
        return f"SELECT {self.summed}, max({self.at}) AS newest FROM {table} WHERE {self._of_day}"

    @property
    def days(self) -> str:
        """Each day with its newest row: two steps in the index per day. 'Z' comes after all times of a day."""
        table, at = self.source.partition(" ")[0], self.at.partition(".")[2]
        return f"""
            WITH RECURSIVE days(day) AS (
                SELECT substr(min({at}), 1, 10) FROM {table}
                UNION ALL
                SELECT (SELECT substr(min({at}), 1, 10) FROM {table} WHERE {at} > days.day || 'Z')
                FROM days WHERE day IS NOT NULL)
            SELECT day, (SELECT max({at}) FROM {table} WHERE {at} >= days.day AND {at} < days.day || 'Z') AS newest
            FROM days WHERE day IS NOT NULL"""

    @property
    def _of_day(self) -> str:
        return f"{self.at} >= :start AND {self.at} < :end"

    def schema(self) -> "pa.Schema":
        import pyarrow as pa

        types = {
            "id": pa.int64(),
            "text": pa.string(),
            "count": pa.int64(),
            "moment": pa.timestamp("ms"),
            "seconds": pa.float64(),
            "dollars": pa.decimal128(18, 9),
        }
        return pa.schema([(name, types[kind]) for name, (kind, _) in self.columns.items()])

    def batch(self, rows: Sequence[Any]) -> "pa.RecordBatch":
        import pyarrow as pa

        cells = zip(*rows, strict=True)
        kinds = [kind for kind, _ in self.columns.values()]
        arrays = [_array(kind, values) for kind, values in zip(kinds, cells, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema())


def _quoted(name: str) -> str:
    """`partition` is a keyword to some."""
    return f'"{name}"'


def _array(kind: Kind, values: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    match kind:
        case "text":
            return pa.array(values, pa.string())
        case "moment":  # written with its zone, UTC; kept without
            return pa.array(values, pa.string()).cast(pa.timestamp("ms", "UTC")).cast(pa.timestamp("ms"))
        case "seconds":
            return pa.array(values, pa.float64())
        case "dollars":
            return _dollars(values)
        case _:
            return pa.array(values, pa.int64())


def _dollars(nusd: Sequence[int | None]) -> "pa.Array":
    """Nano-dollars as decimals with nine places: the same digits, so only the type is changed."""
    import numpy as np
    import pyarrow as pa

    whole = pa.array(nusd, pa.int64())
    digits = np.zeros((len(whole), 2), dtype=np.int64)
    digits[:, 0] = whole.fill_null(0).to_numpy()
    digits[:, 1] = digits[:, 0] >> 63
    known = whole.is_valid().cast(pa.uint8()).to_numpy()
    mask = pa.py_buffer(np.packbits(known, bitorder="little").tobytes()) if whole.null_count else None
    return pa.Array.from_buffers(
        pa.decimal128(18, 9), len(whole), [mask, pa.py_buffer(digits.tobytes())], null_count=whole.null_count
    )


_WHO: Mapping[str, tuple[Kind, str]] = {
    "tenant": ("text", "callers.tenant"),
    "collection": ("text", "callers.collection"),
    "asset": ("text", "callers.asset"),
    "partition": ("text", "callers.partition"),
    "run_id": ("text", "callers.run_id"),
    "backfill": ("text", "callers.backfill"),
}
ATTEMPTS = Rows(
    columns={
        "attempt": ("id", "attempts.attempt_id"),
        "call_key": ("text", "attempts.call_key"),
        "previous": ("id", "attempts.previous_id"),
        "duplicate_of": ("id", "attempts.duplicate_of"),
        **_WHO,
        "document": ("text", "attempts.document"),
        "endpoint": ("text", "attempts.endpoint"),
        "model": ("text", "attempts.model"),
        "answered_model": ("text", "attempts.answered_model"),
        "kind": ("text", "attempts.kind"),
        "prompt": ("text", "attempts.prompt"),
        "price": ("text", "coalesce(attempts.price, '')"),
        "state": ("text", "attempts.state"),
        "error": ("text", "attempts.error"),
        "sent_at": ("moment", "attempts.sent_at"),
        "ended_at": ("moment", "attempts.ended_at"),
        "latency_s": ("seconds", "attempts.latency_s"),
        "input_tokens": ("count", "attempts.input_tokens"),
        "cached_tokens": ("count", "attempts.cached_tokens"),
        "output_tokens": ("count", "attempts.output_tokens"),
        "reasoning_tokens": ("count", "attempts.reasoning_tokens"),
        "gpu_s": ("seconds", "attempts.gpu_s"),
        "cpu_s": ("seconds", "attempts.cpu_s"),
        "reserved_usd": ("dollars", "attempts.reserved_nusd"),
        "cost_usd": ("dollars", "attempts.cost_nusd"),
        "maybe_usd": ("dollars", "CASE WHEN attempts.state = 'ambiguous' THEN attempts.reserved_nusd ELSE 0 END"),
    },
    source="attempts JOIN callers ON callers.caller_id = attempts.caller_id",
    at="attempts.sent_at",
    order="attempts.attempt_id",
    summed="count(*) AS rows, coalesce(sum(CASE WHEN state = 'intent' THEN 1 END), 0) AS in_flight, "
    "coalesce(sum(CASE WHEN state = 'ambiguous' THEN 1 END), 0) AS ambiguous, "
    "coalesce(sum(cost_nusd), 0) AS cost_nusd, "
    "coalesce(sum(CASE WHEN state = 'ambiguous' THEN reserved_nusd END), 0) AS maybe_nusd",
)
REUSES = Rows(
    columns={
        "reuse": ("id", "reuses.reuse_id"),
        "attempt": ("id", "reuses.attempt_id"),
        **_WHO,
        "document": ("text", "reuses.document"),
        "endpoint": ("text", "attempts.endpoint"),
        "model": ("text", "attempts.model"),
        "kind": ("text", "attempts.kind"),
        "prompt": ("text", "attempts.prompt"),
        "price": ("text", "coalesce(attempts.price, '')"),
        "saved_usd": ("dollars", "reuses.saved_nusd"),
        "reused_at": ("moment", "reuses.reused_at"),
    },
    source="reuses JOIN callers ON callers.caller_id = reuses.caller_id "
    "JOIN attempts ON attempts.attempt_id = reuses.attempt_id",
    at="reuses.reused_at",
    order="reuses.reuse_id",
    summed="count(*) AS rows, coalesce(sum(saved_nusd), 0) AS saved_nusd",
)


# In the warehouse

ORIGIN = "tenant, collection, asset, partition, run_id, backfill, endpoint, model, kind, prompt, price"
"""Who asked, and how: what many rows have in common. They hold its hash, as `origin`; `stg_origins` has it once."""
# What its tokens would cost at today's price of its endpoint, of the tier it was counted at (its price names it), and
# what its seconds of a device would at today's rate; rounded up once as the ledger does.
# Unknown: no price today, no end yet, or a bill without tokens (a person's verdict).
ATTEMPT_FACTS = """
CREATE TABLE raw.attempt_facts AS
SELECT
    attempt, previous, duplicate_of, origin, day, document, state, error, sent_at, latency_s, input_tokens,
    cached_tokens, output_tokens, reasoning_tokens, CAST(gpu_s AS DECIMAL(18, 6)) AS gpu_s,
    CAST(cpu_s AS DECIMAL(18, 6)) AS cpu_s, cost_usd, maybe_usd,
    CAST(CAST(CASE
        WHEN state IN ('intent', 'ambiguous') THEN NULL
        WHEN cpu_s IS NOT NULL THEN
            (CAST(round(coalesce(gpu_s, cpu_s) * 1000000) AS HUGEINT) * hour_rate + 3599999999) // 3600000000
        WHEN cost_usd > 0 AND coalesce(input_tokens, 0) + coalesce(output_tokens, 0) = 0 THEN NULL
        ELSE (
            greatest(0, coalesce(input_tokens, 0) - coalesce(cached_tokens, 0)) * input_rate
            + coalesce(cached_tokens, 0) * cached_rate
            + coalesce(output_tokens, 0) * output_rate
            + denominator - 1) // denominator
    END AS DECIMAL(27, 0)) * CAST(0.000000001 AS DECIMAL(10, 9)) AS DECIMAL(38, 9)) AS cost_today_usd
FROM raw.attempts
LEFT JOIN raw.prices ON attempts.cpu_s IS NULL AND prices.endpoint = attempts.endpoint
    AND prices.model = attempts.model
    AND (prices.tier IS NULL OR prices.tier = regexp_extract(attempts.price, ' ([a-z][a-z0-9_]*) ', 1))
LEFT JOIN raw.devices ON attempts.cpu_s IS NOT NULL AND devices.device = attempts.endpoint"""
