"""Claims about JSON by orjson: what comes out is what the standard library makes of it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.base import fast_json
from ai_assets.base.fast_json import read_json, rows_json

cells = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(cells, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_what_json_writes_is_read_alike(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["NaN", "[1e999]", '"\\ud800"', '{"a": 1, "a": 2}', "1e-7", "-0.0"])
def test_odd_values_are_those_of_the_standard_library(text: str) -> None:
    found, wanted = read_json(text), json.loads(text)
    assert found == wanted or (math.isnan(found) and math.isnan(wanted))


@pytest.mark.parametrize("text", ["", "{", "[1,]", "\x00", "[" * 100_000])
def test_what_is_no_json_is_refused_in_the_same_words(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as wanted:
        json.loads(text)
    with pytest.raises(type(wanted.value)) as found:
        read_json(text)
    assert str(found.value) == str(wanted.value)


@given(st.lists(st.lists(cells)))
def test_rows_are_the_same_rows(rows: list[list[Any]]) -> None:
    assert json.loads(rows_json(rows)) == json.loads(json.dumps(rows))


def test_it_does_without_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_json, "orjson", None)
    assert read_json(rows_json([[1, "é", None, 0.5]])) == [[1, "é", None, 0.5]]
