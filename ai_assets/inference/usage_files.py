"""A provider's own figures from a file: daily totals by key id and model, as CSV or JSON, or as OpenAI exports usage.

Only reading is here; what the figures prove is `reconciling.py`.
"""

import csv
import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.base.yaml_settings import nearest
from ai_assets.storage.digest import sha256_hex

DAY_S = 86_400
MOST_BYTES = 200_000_000


@dataclass(frozen=True, kw_only=True)
class DayTotal:
    """What the provider counted for one model under one key on one day (UTC). None: the file does not say."""

    day: str
    key_id: str
    model: str
    requests: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    """A part of the input."""
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


COLUMNS = tuple(each.name for each in fields(DayTotal))
NEEDED = ("day", "key_id", "model")
COUNTS = ("requests", "input_tokens", "cached_tokens", "output_tokens")


@dataclass(frozen=True, kw_only=True)
class UsageFile:
    name: str
    digest: str
    """SHA-256 of its bytes."""
    totals: Sequence[DayTotal]
    first_day: str
    last_day: str


class UsageFileInvalid(UserError):
    def __init__(self, path: Path, problem: str, where: str = "") -> None:
        place = f", {where}" if where else ""
        end = "" if problem.endswith("?") else "."
        super().__init__(
            f"{path}{place}: {problem}{end} A usage file has a row per day, key id and model with the columns "
            f"{', '.join(COLUMNS)} (the first three, and what the provider counts); docs/inference.md says more."
        )


@dataclass(frozen=True, kw_only=True)
class _Row:
    where: str
    cells: Mapping[str, Any]


def read_usage(path: Path, *, columns: Mapping[str, str] | None = None, key_id: str | None = None) -> UsageFile:
    """`columns` says what a column is called in this file; `key_id` whose figures it has, where no column says it."""
    raw = _bytes_of(path)
    rows = list(_rows(path, raw, dict(columns or {})))
    totals = [_total(path, row, key_id) for row in rows]
    if not totals:
        raise UsageFileInvalid(path, "it has no row")
    days = sorted({total.day for total in totals})
    return UsageFile(name=path.name, digest=sha256_hex(raw), totals=totals, first_day=days[0], last_day=days[-1])


def _bytes_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageFileInvalid(path, f"it is larger than {MOST_BYTES // 1_000_000} MB, so it is no list of days")
        return path.read_bytes()
    except OSError as error:
        raise UsageFileInvalid(path, f"it cannot be read ({error.strerror or error})") from error


def _rows(path: Path, raw: bytes, columns: Mapping[str, str]) -> Iterator[_Row]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageFileInvalid(path, f"it is no UTF-8 text ({error.reason} at byte {error.start})") from error
    for ours in columns:
        if ours not in COLUMNS:
            raise UsageFileInvalid(path, f"no column '{ours}' is read from it{nearest(ours, list(COLUMNS))}")
    if text.lstrip()[:1] in ("{", "["):
        yield from _json_rows(path, text, columns)
    else:
        yield from _csv_rows(path, text, columns)


def _csv_rows(path: Path, text: str, columns: Mapping[str, str]) -> Iterator[_Row]:
    found = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [(name or "").strip() for name in found.fieldnames or ()]
        _check_columns(path, names, columns)
        found.fieldnames = names
        for row in found:
            if None in row or None in row.values():
                raise UsageFileInvalid(path, f"it should have {plural(len(names), 'cell')}", f"line {found.line_num}")
            yield _Row(where=f"line {found.line_num}", cells=_renamed(row, columns))
    except csv.Error as error:
        raise UsageFileInvalid(path, f"it is no CSV ({error})", f"line {found.line_num}") from error


def _json_rows(path: Path, text: str, columns: Mapping[str, str]) -> Iterator[_Row]:
    try:
        found = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise UsageFileInvalid(path, f"it is no JSON ({error})") from error
    if isinstance(found, dict) and found.get("has_more"):
        raise UsageFileInvalid(path, "it is one page of several (has_more); ask for all days at once, such as limit=31")
    rows = found.get("data") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise UsageFileInvalid(path, "it should be a list of rows, or an object whose 'data' is one")
    for number, row in enumerate(rows, start=1):
        where = f"row {number}"
        if not isinstance(row, dict):
            raise UsageFileInvalid(path, f"it should be an object (found {type(row).__name__})", where)
        if row.get("object") == "bucket":
            yield from _openai_rows(path, row, where)
        else:
            _check_columns(path, list(row), columns, where)
            yield _Row(where=where, cells=_renamed(row, columns))


def _openai_rows(path: Path, bucket: Mapping[str, Any], where: str) -> Iterator[_Row]:
    """A bucket of `GET /v1/organization/usage/completions` (or embeddings) of OpenAI: no dollars, and one day each."""
    start, end, results = (bucket.get(name) for name in ("start_time", "end_time", "results"))
    if not isinstance(start, int) or end != start + DAY_S or start % DAY_S or not isinstance(results, list):
        raise UsageFileInvalid(path, "a bucket should be one day (UTC): ask with bucket_width=1d", where)
    day = datetime.datetime.fromtimestamp(start, datetime.UTC).date().isoformat()
    for result in results:
        if not isinstance(result, dict) or not result.get("model") or not result.get("api_key_id"):
            raise UsageFileInvalid(
                path, "it is not divided by model and key: ask with group_by=model,api_key_id", where
            )
        # A batch costs another price, and this ledger makes none: it counts as a model of its own.
        batch = " (batch)" if result.get("batch") else ""
        yield _Row(
            where=where,
            cells={
                "day": day,
                "key_id": result["api_key_id"],
                "model": f"{result['model']}{batch}",
                "requests": result.get("num_model_requests"),
                "input_tokens": result.get("input_tokens"),
                "cached_tokens": result.get("input_cached_tokens"),
                "output_tokens": result.get("output_tokens", 0),
            },
        )


def _check_columns(path: Path, names: Sequence[str], columns: Mapping[str, str], where: str = "the header") -> None:
    for theirs in columns.values():
        if theirs not in names:
            raise UsageFileInvalid(path, f"it has no column '{theirs}'{nearest(theirs, list(names))}", where)


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    return {name: row.get(columns.get(name, name)) for name in COLUMNS}


def _total(path: Path, row: _Row, key_id: str | None) -> DayTotal:
    cells = {name: value.strip() if isinstance(value, str) else value for name, value in row.cells.items()}
    if cells.get("key_id") in (None, ""):
        cells["key_id"] = key_id
    for name in NEEDED:
        if cells.get(name) in (None, ""):
            hint = (
                "; --key KEY_ID says whose figures these are"
                if name == "key_id"
                else f"; --column {name}=THEIRS names it"
            )
            raise UsageFileInvalid(path, f"'{name}' is missing{hint}", row.where)
    counts = {name: _count(path, row.where, name, cells.get(name)) for name in COUNTS}
    cost = _dollars(path, row.where, cells.get("cost_usd"))
    if cost is None and all(value is None for value in counts.values()):
        raise UsageFileInvalid(path, "it counts nothing: no requests, no tokens and no dollars", row.where)
    day, key, model = _day(path, row.where, cells["day"]), str(cells["key_id"]), str(cells["model"])
    return DayTotal(day=day, key_id=key, model=model, cost_usd=cost, **counts)


def _day(path: Path, where: str, value: Any) -> str:
    try:
        moment = datetime.datetime.fromisoformat(str(value))
    except ValueError as error:
        problem = f"'day' is {value!r} and no date such as 2026-10-05"
        raise UsageFileInvalid(path, problem, where) from error
    if moment.time() != datetime.time() or (moment.utcoffset() or datetime.timedelta()):
        raise UsageFileInvalid(path, f"'day' is {value!r}: totals of whole days in UTC are needed", where)
    return moment.date().isoformat()


def _count(path: Path, where: str, name: str, value: Any) -> int | None:
    number = _number(path, where, name, value)
    if number is None:
        return None
    if number != int(number) or number < 0:
        raise UsageFileInvalid(path, f"'{name}' is {value!r} and no whole number from 0 on", where)
    return int(number)


def _dollars(path: Path, where: str, value: Any) -> Decimal | None:
    number = _number(path, where, "cost_usd", value.removeprefix("$") if isinstance(value, str) else value)
    if number is not None and number < 0:
        raise UsageFileInvalid(path, f"'cost_usd' is {value!r}: credits are no cost of calls; leave them out", where)
    return number


def _number(path: Path, where: str, name: str, value: Any) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        number = Decimal(value) if isinstance(value, int | str | Decimal) and not isinstance(value, bool) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or abs(number) > 10**15:
        raise UsageFileInvalid(path, f"'{name}' is {value!r} and no number", where)
    return number
