"""Claims about columns made without pandas: they are what `pa.array` makes, and so are the files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_assets.storage.arrow_columns import column, floats, numbers, rows_batch, truths
from ai_assets.storage.lake import write_parquet, writing_rows

KINDS = {
    pa.string(): st.text(max_size=9).filter(lambda text: text.isprintable()),
    pa.float64(): st.floats(allow_nan=False),
    pa.int64(): st.integers(-(1 << 63), (1 << 63) - 1),
    pa.bool_(): st.booleans(),
    pa.list_(pa.string()): st.lists(st.sampled_from(["a", "ö"]), max_size=3),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[pa.DataType, list[Any]]:
    kind = draw(st.sampled_from(list(KINDS)))
    return kind, draw(st.lists(st.none() | KINDS[kind], max_size=30))


@settings(deadline=None)
@given(columns())
def test_a_column_is_the_one_that_arrow_makes(given: tuple[pa.DataType, list[Any]]) -> None:
    kind, values = given
    found = column(values, kind)
    found.validate(full=True)
    assert found.equals(pa.array(values, kind))
    assert found.null_count == values.count(None)


def test_a_zero_keeps_its_sign() -> None:
    assert str(column([-0.0, None, 0.0], pa.float64()).to_pylist()) == "[-0.0, None, 0.0]"


@pytest.mark.parametrize(
    ("values", "kind"), [([1, None], pa.float64()), ([True], pa.float64()), (["1"], pa.int64()), ([b"a"], pa.string())]
)
def test_what_is_not_plainly_of_its_kind_is_left_to_arrow(values: list[Any], kind: pa.DataType) -> None:
    try:
        wanted = pa.array(values, kind)
    except (pa.ArrowException, TypeError) as error:
        with pytest.raises(type(error)):
            column(values, kind)
    else:
        assert column(values, kind).equals(wanted)


@pytest.mark.parametrize("piece", [slice(0, 0), slice(0, 11), slice(3, 9)])
def test_values_are_those_that_arrow_gives(piece: slice) -> None:
    whole, good = pa.array(range(11), pa.uint64())[piece], pa.array([n % 3 == 0 for n in range(11)])[piece]
    assert numbers(whole, np.uint64).tolist() == whole.to_pylist()
    assert truths(good).tolist() == good.to_pylist()


def test_rows_are_the_same_file(tmp_path: Path) -> None:
    rows = [{"name": f"ä{n}", "size": n if n % 3 else None, "share": n / 7, "good": n % 2 == 0} for n in range(5000)]
    rows[7].pop("good")
    schema = pa.schema([("name", pa.string()), ("size", pa.int64()), ("share", pa.float64()), ("good", pa.bool_())])
    with writing_rows(tmp_path, schema) as out:
        for row in rows:
            out.append(row)
    table = pa.Table.from_pylist(rows, schema=schema)
    assert out.path == write_parquet(tmp_path, table)
    assert rows_batch(rows, schema).equals(table.combine_chunks().to_batches()[0])
    vector = np.array([0.5, -1, 2], np.float32)
    assert floats(vector.tobytes(), 3).equals(pa.array(vector))


def test_rows_are_written_without_pandas(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, pyarrow as pa\n"
        "from ai_assets.storage.lake import read_rows, writing_rows\n"
        "with writing_rows(pathlib.Path(sys.argv[1]), pa.schema([('a', pa.string()), ('n', pa.int64())])) as out:\n"
        "    out.append({'a': 'text', 'n': 1})\n"
        "assert list(read_rows(out.path)) == [{'a': 'text', 'n': 1}]\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=300)
