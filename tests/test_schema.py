# ruff: noqa: E501  a wrong schema is a row, and a row is a line
"""Claims about the schemas that stages may ask for: what passes is JSON Schema, and a slip has a place and a remedy."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.stages.schema import TYPES, SchemaWrong, check_schema


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


WRONG: list[tuple[dict[str, Any], tuple[str | int, ...], str]] = [
    ({}, (), "the schema of an answer has 'type: object' at its top"),
    ({"type": "array"}, ("type",), "the schema of an answer has 'type: object' at its top"),
    ({"type": "object", "requird": []}, ("requird",), "unknown keyword 'requird'; did you mean 'required'?"),
    ({"type": "object", "properties": []}, ("properties",), "properties: should be names with schemas"),
    ({**of(a={}), "required": ["b"]}, ("required",), "required names 'b', which is no property; known here: a"),
    ({**of(a={}), "required": "a"}, ("required",), "required: should be a list of different names"),
    (of(a={"type": "strng"}), ("properties", "a", "type"), "type: 'strng' is no type; did you mean 'string'?"),
    (of(a={"type": ["string", None]}), ("properties", "a", "type"), "type: 'None' is no type; known here: array, boolean, integer, null, number, object, string, where null stands in quotes"),
    (of(a={"type": []}), ("properties", "a", "type"), "type: should be a type, or a list of different ones"),
    (of(a="string"), ("properties", "a"), "should be a schema: keys with values (found 'string')"),
    (of(a={"enum": []}), ("properties", "a", "enum"), "enum: should be a list of values"),
    (of(a={"items": {"minimum": "1"}}), ("properties", "a", "items", "minimum"), "minimum: should be a number"),
    (of(a={"maxLength": -1}), ("properties", "a", "maxLength"), "maxLength: should be a whole number, 0 or more"),
    (of(a={"anyOf": [{"typ": "string"}]}), ("properties", "a", "anyOf", 0, "typ"), "unknown keyword 'typ'; did you mean 'type'?"),
    (of(a={"pattern": "("}), ("properties", "a", "pattern"), "pattern: '(' is no regular expression: missing ), unterminated subpattern at position 0"),
    (of(a={"$ref": "#/$defs/x"}), ("properties", "a", "$ref"), "$ref: '#/$defs/x' leads nowhere; it can only be #/$defs/NAME"),
    (of(a={"multipleOf": 0}), ("properties", "a", "multipleOf"), "multipleOf: should be a number above 0"),
    (of(a={"const": {1, 2}}), ("properties", "a", "const"), "const: it holds what JSON does not have; write a date in quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "at", "says"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_schema_is_refused_with_its_place(schema: dict[str, Any], at: tuple[str | int, ...], says: str) -> None:
    with pytest.raises(SchemaWrong) as refused:
        check_schema(schema)
    assert (refused.value.at, str(refused.value)) == (at, says)


keywords = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(st.sampled_from(TYPES), st.lists(st.sampled_from([*TYPES, "text", None]))),
        "enum": st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3))),
        "minimum": st.one_of(st.integers(), st.text(max_size=1)),
        "minLength": st.integers(-2, 5),
        "pattern": st.sampled_from(["a+", "(", "^x$"]),
        "required": st.lists(st.sampled_from(["a", "b"])),
        "description": st.one_of(st.text(max_size=3), st.integers()),
        "additionalProperties": st.booleans(),
        "$ref": st.sampled_from(["#/$defs/d", "#/$defs/e", "x"]),
        "uniqueItems": st.one_of(st.booleans(), st.integers()),
        "multipleOf": st.integers(-1, 2),
    },
)
schemas = st.recursive(
    st.one_of(keywords, st.booleans()),
    lambda inner: st.builds(
        lambda own, properties, items, anyof: {
            **(own if isinstance(own, dict) else {}), "properties": properties, "items": items, "anyOf": anyof
        },
        keywords, st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2), inner, st.lists(inner, max_size=2),
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b"]), schemas, max_size=2), schemas)
def test_whatever_passes_is_json_schema(properties: dict[str, Any], defined: Any) -> None:
    schema = {**of(**properties), "$defs": {"d": defined}}
    try:
        check_schema(schema)
    except SchemaWrong:
        return
    jsonschema.Draft202012Validator.check_schema(schema)
