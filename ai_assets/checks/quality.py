"""Runs a Great Expectations suite against the Arrow table of one partition. What a suite may say is `expectations.py`.

Nothing is written to disk or sent anywhere. Great Expectations is imported on the first run, once per process.
"""

import datetime
import functools
import logging
import math
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from ai_assets.base.extras import need
from ai_assets.base.plural import plural
from ai_assets.collection.expectations import EXPECTATIONS, ROW_COUNT_EXPECTATIONS, SCHEMA_EXPECTATIONS, Expectation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPECTATIONS", "Cell", "Expectation", "QualityResult", "QualitySuite"]

MAX_FAILING_ROWS = 20
UNSEEN = "their values are not shown, as they may be texts of documents"
MAX_CELL_CHARACTERS = 200

Cell: TypeAlias = str | int | float | bool | None
"""A value as a result shows it: JSON-able, and text cut to MAX_CELL_CHARACTERS."""


@dataclass(frozen=True, kw_only=True)
class QualityResult:
    """What one expectation found in one table."""

    expectation: str
    column: str | None
    """The judged column, or several joined by commas; None for expectations about the table."""
    passed: bool
    blocking: bool
    observed: str
    """One sentence: what was found, or why the expectation could not be evaluated."""
    unexpected_count: int
    """Rows (or distinct values) that break the expectation, tolerated by `mostly` or not; 0 for aggregates."""
    total: int
    """Rows of the table."""
    failing_rows: tuple[dict[str, Cell], ...]
    """The first MAX_FAILING_ROWS unexpected rows: key columns and the judged columns, withheld ones by their size."""


@dataclass(frozen=True, kw_only=True)
class _ExpectationOutcome:
    """The answer of Great Expectations for one expectation; `error` says that it could not be evaluated."""

    passed: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    error_is_of_values: bool = False
    """Whether a value of the table may be quoted in it."""


class QualitySuite:
    """Expectations about one asset, run as often as it has partitions.

    A table without rows passes everything except what its row count or its column names break.
    An expectation that cannot be evaluated is a failed result, never an exception.
    No value of a withheld column is in a result.
    """

    def __init__(
        self,
        name: str,
        expectations: Sequence[Expectation],
        key_columns: Sequence[str],
        withheld: AbstractSet[str] = frozenset(),
    ) -> None:
        self.name = name
        self.expectations = tuple(expectations)
        self.key_columns = tuple(key_columns)
        self.withheld = withheld

    def run(self, table: pa.Table) -> list[QualityResult]:
        """One result per expectation, in the order they are declared."""
        if not self.expectations:
            return []
        names = table.column_names
        if absent := [key for key in self.key_columns if key not in names]:
            raise ValueError(f"suite {self.name}: key columns {absent} are not in the table; columns: {names}")
        outcomes: dict[int, _ExpectationOutcome] = {}
        on_schema: dict[int, Any] = {}
        on_values: dict[int, Any] = {}
        with _great_expectations() as gx:
            for position, item in enumerate(self.expectations):
                if error := _missing_column(item, names):
                    outcomes[position] = _ExpectationOutcome(error=error)
                    continue
                try:
                    built = gx.build(item, table.schema, position)
                except (TypeError, ValueError) as refusal:
                    outcomes[position] = _ExpectationOutcome(error=f"cannot be evaluated: {_one_line(refusal)}")
                    continue
                if item.expect in SCHEMA_EXPECTATIONS:
                    on_schema[position] = built
                elif table.num_rows or item.expect in ROW_COUNT_EXPECTATIONS:
                    on_values[position] = built
                else:
                    outcomes[position] = _ExpectationOutcome(passed=True)
            if on_values:
                judged = [self.expectations[position] for position in on_values]
                outcomes |= gx.judge(_frame(table, judged), on_values)
            if on_schema:
                outcomes |= gx.judge(_header(table), on_schema)
        return [
            _result(item, outcomes[position], table, self.key_columns, self.withheld)
            for position, item in enumerate(self.expectations)
        ]


class _GreatExpectations:
    """The imported library and its in-memory context. Only valid inside `_great_expectations()`."""

    def __init__(self) -> None:
        need("quality", "A suite under `quality:`")
        os.environ["GX_ANALYTICS_ENABLED"] = "false"
        import great_expectations as gx
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        # Every failure reaches the caller as a result, so the library's own log lines only repeat it.
        logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
        self._gx: Any = gx
        self._classes: dict[str, Any] = {
            name: kind
            for kind in vars(gx.expectations).values()
            if (name := getattr(kind, "expectation_type", "")) in EXPECTATIONS
        }
        self._context: Any = gx.get_context(
            mode="ephemeral",
            cloud_mode=False,
            project_config=DataContextConfig(
                # Without documentation sites: they would be put into a temporary folder.
                store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
                analytics_enabled=False,
                progress_bars=ProgressBarsConfig(globally=False),
            ),
        )

    def build(self, item: Expectation, schema: pa.Schema, position: int) -> Any:
        """The library's expectation; a keyword value it refuses is its ValidationError, a ValueError."""
        kwargs = {key: _bound(key, value, item, schema) for key, value in item.kwargs.items()}
        return self._classes[item.expect](**kwargs, meta={"position": position})

    def judge(self, frame: "pd.DataFrame", built: Mapping[int, Any]) -> dict[int, _ExpectationOutcome]:
        """Outcomes by position."""
        # A data source per run: the library keeps the last frame of a source in memory.
        source = self._context.data_sources.add_pandas("partition")
        try:
            asset = source.add_dataframe_asset("table")
            definition = asset.add_batch_definition_whole_dataframe("whole")
            with _without_fingerprint():
                return self._validate(definition.get_batch({"dataframe": frame}), built)
        finally:
            self._context.data_sources.delete("partition")

    def _validate(self, batch: Any, built: Mapping[int, Any]) -> dict[int, _ExpectationOutcome]:
        """All in one pass, which shares the metrics; those that come back with an error once more, each alone.

        The library lets one expectation that raises take others of its pass with it.
        """
        # Positions instead of key columns: with names, the library builds a dictionary for every unexpected row.
        result_format = {"result_format": "SUMMARY", "partial_unexpected_count": MAX_FAILING_ROWS}
        suite = self._gx.ExpectationSuite(name="suite", expectations=list(built.values()))
        try:
            report = batch.validate(suite, result_format=result_format)
            outcomes = {result.expectation_config.meta["position"]: _outcome(result) for result in report.results}
        # The catch-all boundary of this provider: an expectation runs user input through third-party code.
        except Exception as error:  # noqa: BLE001
            failed = _ExpectationOutcome(error=f"cannot be evaluated: {_one_line(error)}", error_is_of_values=True)
            outcomes = dict.fromkeys(built, failed)
        if len(built) > 1:
            for position in built:
                if position not in outcomes or outcomes[position].error:
                    outcomes |= self._validate(batch, {position: built[position]})
        return outcomes


@contextmanager
def _without_fingerprint() -> Iterator[None]:
    """The library hashes every value of the frame twice for a marker that nothing of ours reads: two thirds of the time
    of a suite over texts."""
    from great_expectations.execution_engine import pandas_execution_engine as engine

    hashing = engine.hash_pandas_dataframe
    engine.hash_pandas_dataframe = lambda df: str(id(df))
    try:
        yield
    finally:
        engine.hash_pandas_dataframe = hashing


_LOCK = threading.Lock()
_load = functools.cache(_GreatExpectations)


@contextmanager
def _great_expectations() -> Iterator[_GreatExpectations]:
    """One thread at a time: the library's context and Python's warning filters are both global to the process."""
    with _LOCK, warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"great_expectations\b")
        yield _load()


def _outcome(result: Any) -> _ExpectationOutcome:
    # Either one record, or one per metric that raised.
    info = result.exception_info or {}
    records = [info] if "exception_message" in info else list(info.values())
    message = next((record["exception_message"] for record in records if record["exception_message"]), None)
    if message is not None:
        return _ExpectationOutcome(error=f"cannot be evaluated: {_one_line(message)}", error_is_of_values=True)
    return _ExpectationOutcome(passed=bool(result.success), details=result.result)


def _missing_column(item: Expectation, names: Sequence[str]) -> str | None:
    if item.expect in SCHEMA_EXPECTATIONS:
        return None
    absent = next((column for column in item.columns if column not in names), None)
    return None if absent is None else _not_found(absent, names)


def _not_found(column: str, names: Sequence[str]) -> str:
    return f"column '{column}' not found; columns: {', '.join(names)}"


def _bound(key: str, value: Any, item: Expectation, schema: pa.Schema) -> Any:
    """A limit for a timestamp column as a timestamp of the column's kind; pandas compares no others.

    A date means its midnight, and without a zone UTC is meant.
    """
    if key not in ("min_value", "max_value") or len(item.columns) != 1 or item.columns[0] not in schema.names:
        return value
    kind = schema.field(item.columns[0]).type
    if not pa.types.is_timestamp(kind):
        return value
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    elif isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        value = aware if kind.tz else aware.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def _frame(table: pa.Table, expectations: Sequence[Expectation]) -> "pd.DataFrame":
    """The judged columns as pandas columns; the index holds the row numbers of the table."""
    import pandas as pd

    # Integers with nulls would become floats. Comparisons between columns cannot take pandas' NA, so they get floats.
    compared = {column for item in expectations if len(item.columns) > 1 for column in item.columns}
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(column for item in expectations for column in item.columns):
        values = table.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        exact = values.null_count and name not in compared
        columns[name] = values.to_pandas(types_mapper=_nullable_integer if exact else None)
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))


def _header(table: pa.Table) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(columns=table.column_names)


def _nullable_integer(kind: pa.DataType) -> Any:
    import pandas as pd

    if not pa.types.is_integer(kind):
        return None
    return pd.UInt64Dtype() if pa.types.is_unsigned_integer(kind) else pd.Int64Dtype()


def _result(
    item: Expectation,
    outcome: _ExpectationOutcome,
    table: pa.Table,
    key_columns: Sequence[str],
    withheld: AbstractSet[str],
) -> QualityResult:
    unseen = not withheld.isdisjoint(item.columns)
    positions = [int(position) for position in outcome.details.get("partial_unexpected_index_list") or ()]
    rows: tuple[dict[str, Cell], ...] = ()
    if positions:
        shown = table.select(list(dict.fromkeys((*key_columns, *item.columns)))).take(positions[:MAX_FAILING_ROWS])
        rows = tuple(
            {name: _size(value) if name in withheld else _cell(value) for name, value in row.items()}
            for row in shown.to_pylist()
        )
    error = outcome.error
    if error and unseen and outcome.error_is_of_values:
        error = "cannot be evaluated on the values of this column; the error is not shown, as it may quote a document"
    return QualityResult(
        expectation=item.expect,
        column=item.column_label,
        passed=outcome.passed,
        blocking=item.blocking,
        observed=error or _observed(item, outcome, table, unseen=unseen),
        unexpected_count=int(outcome.details.get("unexpected_count") or 0),
        total=table.num_rows,
        failing_rows=rows,
    )


def _observed(item: Expectation, outcome: _ExpectationOutcome, table: pa.Table, *, unseen: bool) -> str:
    details = outcome.details
    if item.expect == "expect_column_to_exist":
        return "found" if outcome.passed else _not_found(item.kwargs["column"], table.column_names)
    if not details:
        return "the table has no rows"
    if "element_count" in details:
        unexpected, nulls = details["unexpected_count"], details.get("missing_count") or 0
        judged = details["element_count"] - nulls
        if not judged:
            return f"nothing to judge: all {plural(nulls, 'value is', 'values are')} null"
        found = f"all {judged} as expected"
        if unexpected:
            found = f"{unexpected} of {judged} unexpected ({unexpected / judged:.1%})"
        return f"{found}; {nulls} null, not judged" if nulls else found
    said = []
    for key, label in (("partial_unexpected_list", "unexpected values"), ("partial_missing_list", "missing values")):
        if values := details.get(key):
            shown = ", ".join(str(_cell(value)) for value in values)
            # Missing values are those that the suite itself declares.
            hidden = unseen and key == "partial_unexpected_list"
            said.append(f"{label}: {UNSEEN if hidden else shown}")
    if said or details.get("observed_value") is None:
        return "; ".join(said) or ("as expected" if outcome.passed else "no value: the column holds only nulls")
    observed = details["observed_value"]
    if unseen and not isinstance(observed, int | float):
        return f"{'as expected' if outcome.passed else 'not as expected'}; {UNSEEN}"
    return f"observed {_cell(observed)}"


def _cell(value: Any) -> Cell:
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        value = ", ".join(str(_cell(part)) for part in value)
    text = str(value)
    return text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…"


def _size(value: Any) -> Cell:
    """What is said of a value that is withheld."""
    if isinstance(value, str):
        return f"({len(value)} character{'' if len(value) == 1 else 's'})"
    if isinstance(value, list):
        return f"({len(value)} value{'' if len(value) == 1 else 's'})"
    return None if value is None else "(not shown)"


def _one_line(error: object) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"
