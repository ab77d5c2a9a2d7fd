"""The few answers that a schema allows, where they are few: what a server that chooses among texts can be given."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence

from ai_assets.inference.memo import remembered
from ai_assets.storage.digest import Json

MOST = 500
"""More choices than that are no label set."""


@remembered
def instances(schema: Mapping[str, Json]) -> list[str] | None:
    """JSON texts, each of which conforms, as short as they can be; None where the schema allows more than choices.

    What may be null or left out is. So a label beside an optional reason is chosen among the labels.
    """
    found = _values(schema)
    return None if found is None else [json.dumps(value, ensure_ascii=False) for value in found]


def _values(schema: Json) -> list[Json] | None:
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return [schema["const"]]
    if isinstance(options := schema.get("enum"), Sequence) and not isinstance(options, str):
        return list(options) if len(options) <= MOST else None
    kind = schema.get("type")
    if kind == "null" or (isinstance(kind, Sequence) and not isinstance(kind, str) and "null" in kind):
        return [None]
    if isinstance(either := schema.get("anyOf"), Sequence):
        nullable = any(isinstance(one, Mapping) and one.get("type") == "null" for one in either)
        return [None] if nullable else None
    if kind == "boolean":
        return [True, False]
    return _objects(schema) if kind == "object" else None


def _objects(schema: Mapping[str, Json]) -> list[Json] | None:
    properties, required = schema.get("properties"), schema.get("required", ())
    if not isinstance(properties, Mapping) or not isinstance(required, Sequence) or not required:
        return None
    names = [name for name in properties if name in required]
    columns: list[list[Json]] = []
    most = 1
    for name in names:
        values = _values(properties[name])
        if not values:
            return None
        most *= len(values)
        if most > MOST:
            return None
        columns.append(values)
    if len(names) < len(required):
        return None
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*columns)]
