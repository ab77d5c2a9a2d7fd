"""JSON that is read and written for every call: by orjson where it is installed, with what Python's own makes of it.

Whatever orjson refuses (NaN, halves of characters) is left to the standard library. One difference is left: whole
numbers of more than 64 bits are read as floats, so what people or models wrote is not read by this.
"""

import json
from typing import Any

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment, unused-ignore]


def read_json(text: str | bytes) -> Any:
    """Raises what `json.loads` raises."""
    if orjson is not None:
        try:
            return orjson.loads(text)
        except ValueError:
            pass
    return json.loads(text)


def rows_json(rows: Any) -> str:
    """Lists, mappings, texts, whole and finite numbers, None: what a statement takes as its rows, and what is kept of
    an answer to several texts for each."""
    if orjson is not None:
        try:
            return orjson.dumps(rows).decode("utf-8")
        except TypeError:
            pass
    return json.dumps(rows)
