"""What a user may write in a quality suite: the expectation names and their keyword arguments.

Great Expectations takes seconds to import, so a suite is checked at load against the literal table below; a test holds
the table against the installed version. Running a suite is `quality.py`.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


@dataclass(frozen=True)
class Keywords:
    """The keyword arguments one expectation needs and takes."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


_RANGE = ("min_value", "max_value", "strict_min", "strict_max")
_AGGREGATE = Keywords(("column",), _RANGE)
_PER_VALUE = Keywords(("column",), ("mostly",))
_ORDER = Keywords(("column",), ("mostly", "strictly"))
_IN_SET = Keywords(("column", "value_set"), ("mostly",))
_DISTINCT = Keywords(("column", "value_set"))
_PAIR = Keywords(("column_A", "column_B"), ("mostly", "ignore_row_if"))
_RECORD = Keywords(("column_list",), ("mostly", "ignore_row_if"))

# Left out on purpose: `like_pattern` (no pandas implementation in GX), `query` and `other_table` (need a database),
# `expect_multicolumn_values_to_be_unique` (broken upstream; `expect_select_column_values_to_be_unique_within_record`
# is the same claim).
EXPECTATIONS: MappingProxyType[str, Keywords] = MappingProxyType(
    {
        "expect_column_distinct_values_to_be_in_set": _DISTINCT,
        "expect_column_distinct_values_to_contain_set": _DISTINCT,
        "expect_column_distinct_values_to_equal_set": _DISTINCT,
        "expect_column_kl_divergence_to_be_less_than": Keywords(
            ("column",),
            (
                "partition_object",
                "threshold",
                "internal_weight_holdout",
                "tail_weight_holdout",
                "bucketize_data",
                "min_value",
                "max_value",
            ),
        ),
        "expect_column_max_to_be_between": _AGGREGATE,
        "expect_column_mean_to_be_between": _AGGREGATE,
        "expect_column_median_to_be_between": _AGGREGATE,
        "expect_column_min_to_be_between": _AGGREGATE,
        "expect_column_most_common_value_to_be_in_set": Keywords(("column", "value_set"), ("ties_okay",)),
        "expect_column_pair_values_a_to_be_greater_than_b": Keywords(
            ("column_A", "column_B"), ("mostly", "ignore_row_if", "or_equal")
        ),
        "expect_column_pair_values_to_be_equal": _PAIR,
        "expect_column_pair_values_to_be_in_set": Keywords(
            ("column_A", "column_B", "value_pairs_set"), ("mostly", "ignore_row_if")
        ),
        "expect_column_proportion_of_non_null_values_to_be_between": _AGGREGATE,
        "expect_column_proportion_of_unique_values_to_be_between": _AGGREGATE,
        "expect_column_quantile_values_to_be_between": Keywords(
            ("column", "quantile_ranges"), ("allow_relative_error",)
        ),
        "expect_column_stdev_to_be_between": _AGGREGATE,
        "expect_column_sum_to_be_between": _AGGREGATE,
        "expect_column_to_exist": Keywords(("column",), ("column_index",)),
        "expect_column_type_to_be": Keywords(("column", "type_")),
        "expect_column_unique_value_count_to_be_between": _AGGREGATE,
        "expect_column_value_lengths_to_be_between": Keywords(("column",), ("mostly", *_RANGE)),
        "expect_column_value_lengths_to_equal": Keywords(("column", "value"), ("mostly",)),
        "expect_column_value_z_scores_to_be_less_than": Keywords(("column", "threshold", "double_sided"), ("mostly",)),
        "expect_column_values_to_be_between": Keywords(("column",), ("mostly", *_RANGE)),
        "expect_column_values_to_be_dateutil_parseable": _PER_VALUE,
        "expect_column_values_to_be_decreasing": _ORDER,
        "expect_column_values_to_be_in_set": _IN_SET,
        "expect_column_values_to_be_in_type_list": Keywords(("column",), ("mostly", "type_list")),
        "expect_column_values_to_be_increasing": _ORDER,
        "expect_column_values_to_be_json_parseable": _PER_VALUE,
        "expect_column_values_to_be_null": _PER_VALUE,
        "expect_column_values_to_be_of_type": Keywords(("column", "type_"), ("mostly",)),
        "expect_column_values_to_be_unique": _PER_VALUE,
        "expect_column_values_to_match_json_schema": Keywords(("column", "json_schema"), ("mostly",)),
        "expect_column_values_to_match_regex": Keywords(("column", "regex"), ("mostly",)),
        "expect_column_values_to_match_regex_list": Keywords(("column", "regex_list"), ("mostly", "match_on")),
        "expect_column_values_to_match_strftime_format": Keywords(("column", "strftime_format"), ("mostly",)),
        "expect_column_values_to_not_be_in_set": _IN_SET,
        "expect_column_values_to_not_be_null": _PER_VALUE,
        "expect_column_values_to_not_be_outliers": Keywords(("column",), ("mostly", "method", "multiplier")),
        "expect_column_values_to_not_match_regex": Keywords(("column", "regex"), ("mostly",)),
        "expect_column_values_to_not_match_regex_list": Keywords(("column", "regex_list"), ("mostly",)),
        "expect_compound_columns_to_be_unique": _RECORD,
        "expect_multicolumn_sum_to_equal": Keywords(("column_list", "sum_total"), ("mostly", "ignore_row_if")),
        "expect_multicolumn_values_to_be_equal": _RECORD,
        "expect_select_column_values_to_be_unique_within_record": _RECORD,
        "expect_table_column_count_to_be_between": Keywords((), ("min_value", "max_value")),
        "expect_table_column_count_to_equal": Keywords(("value",)),
        "expect_table_columns_to_match_ordered_list": Keywords(("column_list",)),
        "expect_table_columns_to_match_set": Keywords(("column_set",), ("exact_match",)),
        "expect_table_row_count_to_be_between": Keywords((), _RANGE),
        "expect_table_row_count_to_equal": Keywords(("value",)),
    }
)

SCHEMA_EXPECTATIONS = frozenset(
    {
        "expect_column_to_exist",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    }
)
"""Judged on the column names alone."""

ROW_COUNT_EXPECTATIONS = frozenset({"expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"})
"""Judged even when the table has no rows."""


class Expectation(BaseModel):
    """One line of a suite: `{expect: expect_column_values_to_not_be_null, column: text, mostly: 0.95}`.

    Every key beside the three declared ones is a keyword argument of the expectation.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    expect: str
    """The Great Expectations name, in snake case."""
    blocking: bool = True
    """Whether a failure stops what is downstream of the asset."""
    note: str | None = Field(default=None, min_length=1)
    """Why the expectation is there, shown beside its result."""

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values are judged, in the order they are written; none for table expectations."""
        if self.expect.startswith("expect_table_"):
            return ()
        kwargs = self.kwargs
        single = (kwargs[key] for key in ("column", "column_A", "column_B") if key in kwargs)
        return tuple(dict.fromkeys((*single, *kwargs.get("column_list", ()))))

    @property
    def column_label(self) -> str | None:
        return ", ".join(self.columns) or None

    @model_validator(mode="after")
    def _check_against_table(self) -> Self:
        keywords = EXPECTATIONS.get(self.expect)
        if keywords is None:
            raise ValueError(f"unknown expectation {self.expect!r}{_nearest(self.expect, EXPECTATIONS)}")
        kwargs = self.kwargs
        known = (*keywords.required, *keywords.optional)
        for key in kwargs:
            if key not in known:
                hint = _nearest(key, (*known, "blocking", "note"))
                raise ValueError(f"{self.expect} takes no {key!r}{hint}; it takes: {', '.join(known)}")
        if absent := [key for key in keywords.required if key not in kwargs]:
            raise ValueError(f"{self.expect} needs {', '.join(absent)}")
        for key, value in kwargs.items():
            if problem := _problem(key, value):
                raise ValueError(f"{self.expect}: {problem}")
        if "min_value" in known and "threshold" not in known and (problem := _range_problem(kwargs)):
            raise ValueError(f"{self.expect}: {problem}")
        return self


def _problem(key: str, value: Any) -> str | None:
    """What is wrong with a keyword's value, as far as it can be told without Great Expectations."""
    if key in ("column", "column_A", "column_B") and not (isinstance(value, str) and value):
        return f"{key} must be the name of a column, not {value!r}"
    if key in ("column_list", "column_set") and not _is_list_of_strings(value):
        return f"{key} must be a list of column names, not {value!r}"
    if key in ("value_set", "value_pairs_set", "type_list") and not isinstance(value, list | tuple | set):
        return f"{key} must be a list, not {value!r}"
    if key == "mostly" and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
        return f"mostly must be a share between 0 and 1, not {value!r}"
    if key == "regex":
        return _regex_problem(value)
    if key == "regex_list":
        if not _is_list_of_strings(value):
            return f"regex_list must be a list of regular expressions, not {value!r}"
        return next(filter(None, map(_regex_problem, value)), None)
    return None


def _range_problem(kwargs: dict[str, Any]) -> str | None:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    if low is None and high is None:
        return "needs min_value, max_value or both; without them everything passes"
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        return f"min_value {low} is above max_value {high}"
    return None


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list | tuple | set) and bool(value) and all(isinstance(item, str) for item in value)


def _regex_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"regex must be a string, not {value!r}"
    try:
        re.compile(value)
    except re.error as error:
        return f"{value!r} is no regular expression: {error}"
    return None


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
