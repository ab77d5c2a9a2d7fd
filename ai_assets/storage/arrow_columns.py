"""Columns of Arrow from values of Python, and back to numpy, without pandas.

`pa.array` and `to_numpy` import it where it is installed, which takes a quarter of a second and 40 MB.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MOST_BYTES = (1 << 31) - 1
"""Of all texts of one column."""


def rows_batch(rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> "pa.RecordBatch":
    """What a row does not name is null."""
    import pyarrow as pa

    columns = [column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def column(values: Sequence[Any], kind: "pa.DataType") -> "pa.Array":
    """The very array that `pa.array` makes; by it where the values are not plainly of their kind."""
    import numpy as np
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    if pa.types.is_string(kind) and kinds <= {str}:
        texts = [b"" if value is None else value.encode() for value in values]
        joined = b"".join(texts)
        if len(joined) <= MOST_BYTES:
            ends = np.fromiter(accumulate(map(len, texts), initial=0), np.int32, len(texts) + 1)
            return _of_buffers(values, kind, [ends, joined])
    elif pa.types.is_float64(kind) and kinds <= {float}:
        return _of_buffers(values, kind, [np.array([0.0 if value is None else value for value in values], np.float64)])
    elif pa.types.is_int64(kind) and kinds <= {int}:
        return _of_buffers(values, kind, [np.array([value or 0 for value in values], np.int64)])
    elif pa.types.is_boolean(kind) and kinds <= {bool}:
        return _of_buffers(values, kind, [_bits([bool(value) for value in values])])
    return pa.array(values, kind)


def floats(values: bytes, count: int) -> "pa.Array":
    """Of 32 bits, as they lie in memory."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.float32(), count, [None, pa.py_buffer(values)])


def numbers(found: "pa.Array", kind: "type[np.generic]") -> "np.ndarray":
    """The values of an array of numbers without nulls, where they lie."""
    import numpy as np

    if not len(found):
        return np.empty(0, kind)
    return np.frombuffer(found.buffers()[1], kind)[found.offset : found.offset + len(found)]


def truths(found: "pa.BooleanArray") -> "np.ndarray":
    """The values of an array without nulls."""
    import numpy as np

    if not len(found):
        return np.empty(0, np.bool_)
    bits = np.unpackbits(np.frombuffer(found.buffers()[1], np.uint8), bitorder="little")
    return bits[found.offset : found.offset + len(found)].astype(np.bool_)


def _of_buffers(values: Sequence[Any], kind: "pa.DataType", buffers: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    nulls = sum(value is None for value in values)
    there = pa.py_buffer(_bits([value is not None for value in values])) if nulls else None
    return pa.Array.from_buffers(kind, len(values), [there, *map(pa.py_buffer, buffers)], nulls)


def _bits(values: Sequence[bool]) -> Any:
    import numpy as np

    return np.packbits(np.array(values, np.bool_), bitorder="little")
