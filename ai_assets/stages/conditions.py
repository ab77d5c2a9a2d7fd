"""`when`: which documents a stage is for, by what an earlier stage said of them. A small grammar, checked at load.

`{triage: [claim]}` is short for `{triage: {label: [claim]}}`. Under a column stand the values that it may have, or
bounds: `{triage: {label: [claim], confidence: {below: 0.6}}}`. A dot leads into JSON: `{facts: {data.amount: {above:
1000}}}`. All of it must hold, and what is empty meets no condition but `empty: true`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import Field, PlainValidator, TypeAdapter, ValidationError

from ai_assets.base.yaml_settings import Strict, nearest, wrong
from ai_assets.stages.columns import Columns, ColumnType
from ai_assets.storage.digest import Json

Scalar: TypeAlias = bool | int | float | str
_BOUNDS = ("below", "at_most", "above", "at_least")
_KINDS: Mapping[ColumnType, tuple[str, tuple[type, ...]]] = {
    "text": ("text", (str,)),
    "texts": ("texts", (str,)),
    "truth": ("true or false", (bool,)),
    "number": ("numbers", (int, float)),
    "integer": ("whole numbers", (int, float)),
}


class Bounds(Strict):
    """What a value must keep to."""

    below: float | None = None
    at_most: float | None = None
    above: float | None = None
    at_least: float | None = None
    not_: tuple[Scalar, ...] = Field(default=(), alias="not")
    """None of these."""
    empty: bool | None = None
    """There is no value, or an empty one; or there is one."""

    def admits(self, value: object) -> bool:
        is_empty = value is None or value in ("", [])
        if is_empty or self.empty:
            return is_empty and self.empty is True
        if _one_of(value, self.not_):
            return False
        if isinstance(value, bool) or not isinstance(value, int | float):
            return not self.is_of_numbers
        return (
            (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
        )

    @property
    def is_of_numbers(self) -> bool:
        return any(getattr(self, bound) is not None for bound in _BOUNDS)


Values: TypeAlias = tuple[Scalar, ...]
Condition: TypeAlias = Mapping[str, Values | Bounds]
"""By column, what it may be."""
_VALUES: TypeAdapter[Values] = TypeAdapter(tuple[Scalar, ...])


def _one_of(value: object, wanted: Values) -> bool:
    """Of a list, whether it holds one of them. True is not 1."""
    values = value if isinstance(value, list | tuple) else [value]
    return any(each == one and isinstance(each, bool) == isinstance(one, bool) for each in values for one in wanted)


def _condition(value: Any) -> Condition:
    if not isinstance(value, Mapping):
        return {"label": _values(value)}
    if not value:
        raise wrong("says nothing; name labels, such as [claim], or columns with what they may be")
    return {str(column): _of_column(wanted, str(column)) for column, wanted in value.items()}


def _of_column(value: Any, column: str) -> Values | Bounds:
    if isinstance(value, Bounds):
        return value
    if not isinstance(value, Mapping):
        return _values([value] if isinstance(value, Scalar) else value, column)
    if not value:
        raise wrong("says nothing; such as {below: 0.6}, {not: [a, b]} or {empty: true}", column)
    try:
        return Bounds.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        said = "should be a number" if first["type"] in ("float_type", "float_parsing") else first["msg"]
        raise wrong(f"{'.'.join(map(str, first['loc'])) or 'it'}: {said}", column) from error


def _values(value: Any, *at: str) -> Values:
    try:
        found = _VALUES.validate_python(value)
    except ValidationError as error:
        raise wrong("should be a list of values, or columns with what they may be", *at) from error
    if not found:
        raise wrong("lists no value, so no document could meet it", *at)
    return found


_Written: TypeAlias = list[Scalar] | dict[str, list[Scalar] | Scalar | Bounds]
When = Annotated[Condition, PlainValidator(_condition, json_schema_input_type=_Written)]


def holds(condition: Condition, row: Mapping[str, Any] | None) -> bool:
    """Of a document without a row nothing holds, and of one that was set aside only what names its status."""
    if row is None or (row.get("status") == "quarantined" and "status" not in condition):
        return False
    return all(_holds(wanted, _value(row, column)) for column, wanted in condition.items())


def _holds(wanted: Values | Bounds, value: object) -> bool:
    return wanted.admits(value) if isinstance(wanted, Bounds) else _one_of(value, wanted)


def _value(row: Mapping[str, Any], column: str) -> object:
    name, *path = column.split(".")
    value = row.get(name)
    if not path or value is None:
        return value
    value = json.loads(value)
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def columns_in(condition: Condition, columns: Columns) -> set[str]:
    """Of these columns those that it looks at."""
    return {column.partition(".")[0] for column in condition} | ({"status"} & columns.dataset.keys())


def described(condition: Condition) -> Json:
    """As it counts for code versions: labels alone as they always did."""
    plain = {
        column: wanted.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        if isinstance(wanted, Bounds)
        else list(wanted)
        for column, wanted in condition.items()
    }
    return plain["label"] if list(plain) == ["label"] and isinstance(plain["label"], list) else plain


def problem(
    condition: Condition, columns: Columns, labels: Sequence[str], fields: Sequence[str] | None
) -> tuple[str, str] | None:
    """What in it does not fit what the earlier stage makes, and at which column.

    `labels` are empty where it gives none; `fields` are those of its JSON, None where they are not known.
    """
    for column, wanted in condition.items():
        name, *path = column.split(".")
        if name not in columns.offered:
            return f"there is no column '{name}' to wait for{nearest(name, list(columns.offered))}", column
        if path and name != "data":
            return f"'{name}' is no JSON, so there is no '{path[0]}' in it", column
        if path and fields is not None and path[0] not in fields:
            return f"the schema has no property '{path[0]}'{nearest(path[0], list(fields))}", column
        values = wanted.not_ if isinstance(wanted, Bounds) else wanted
        unknown = next((value for value in values if name == "label" and labels and value not in labels), None)
        if unknown is not None:
            return f"unknown label '{unknown}'{nearest(str(unknown), list(labels))}", column
        if not path and (misfit := _misfit(wanted, values, columns.offered[name])) is not None:
            return f"'{name}' holds {misfit}", column
    return None


def _misfit(wanted: Values | Bounds, values: Values, kind: ColumnType) -> str | None:
    words, fits = _KINDS[kind]
    for value in values:
        if not isinstance(value, fits) or (isinstance(value, bool) and bool not in fits):
            return f"{words}, and {value!r} is none"
    if isinstance(wanted, Bounds) and wanted.is_of_numbers and kind not in ("number", "integer"):
        return f"{words}, and bounds such as 'below' are for numbers"
    return None
