"""Claims about `when`: what it admits, what is refused at load with its place, and that a run and a plan go by it."""

from typing import Any

import pytest
from conftest import DAYS, LABELS, Project
from hypothesis import given
from hypothesis import strategies as st
from provider import Provider

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.inference.load import load_inference
from ai_assets.planning.plan import plan
from ai_assets.stages.base import StageSettings
from ai_assets.stages.conditions import Bounds, described, holds

DAY = "2026-10-05"
INFERENCE = """
endpoints: {small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}}
routes: {default: {endpoints: [small]}}
"""
OWN = """
from ai_assets import Quarantine, stage

@stage(version="1", columns={"words": int, "share": float, "short": bool, "names": list[str], "first": str})
def counted(document):
    words = document.text.split()
    if words[0] == "Skip":
        raise Quarantine("to be skipped")
    names = [word for word in words if word.isupper()]
    return {"words": len(words), "share": 1 / len(words), "short": len(words) < 4, "names": names, "first": words[0]}

@stage(columns={"part": str}, rows="many")
def parts(document):
    return [{"row_key": str(n), "part": word} for n, word in enumerate(document.text.split())]

@stage(columns={"seen": bool}, version="1")
def seen(document):
    return {"seen": True}
"""
TEXTS = {"a": "One ACME two BOLT three", "b": "Two words", "c": "Skip this one now", "d": "Four words are here"}
COUNTED = {"name": "counted", "kind": "function", "function": "./own.py:counted"}
SEEN = {"name": "seen", "kind": "function", "function": "./own.py:seen"}


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    (project.root / "inference.yaml").write_text(INFERENCE)
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(OWN)
    for name, text in TEXTS.items():
        project.document(f"{DAY}/{name}.txt", text)
    return project


def declared(office: Project, when: Any, *stages: dict[str, Any]) -> Collection:
    return office.declare(partitions={**DAYS, "end": DAY}, stages=[*(stages or [COUNTED]), {**SEEN, "when": when}])


def reached(office: Project, collection: Collection) -> str:
    """The documents that came to `seen`, by the letters of their names."""
    office.refresh(collection)
    manifest = office.stores().lake.manifest("notes", "seen", DAY)
    assert manifest is not None
    return "".join(sorted(row["document_id"].removeprefix(f"{DAY}/")[0] for row in office.stores().lake.rows(manifest)))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"words": {"above": 2}}, "ad"),
        ({"words": {"at_least": 5}}, "a"),
        ({"words": [2, 4]}, "bd"),
        ({"words": 4}, "d"),
        ({"share": {"below": 0.3, "above": 0.21}}, "d"),
        ({"share": {"at_most": 0.25}}, "ad"),
        ({"short": True}, "b"),
        ({"short": False}, "ad"),
        ({"names": ["ACME"]}, "a"),
        ({"names": {"not": ["ACME"], "empty": False}}, ""),
        ({"names": {"empty": True}}, "bd"),
        ({"names": {"empty": False}}, "a"),
        ({"first": ["Two", "Four"], "words": {"above": 2}}, "d"),
        ({"first": {"not": ["Two"]}}, "ad"),
        ({"status": ["quarantined"]}, "c"),
    ],
)
def test_what_a_condition_admits(office: Project, condition: Any, expected: str) -> None:
    assert reached(office, declared(office, {"counted": condition})) == expected


def test_labels_and_confidence_decide_together(office: Project) -> None:
    kind = {"name": "kind", "kind": "classify", "labels": LABELS}
    every = reached(office, declared(office, {"kind": [label["name"] for label in LABELS]}, kind))
    manifest = office.stores().lake.manifest("notes", "kind", DAY)
    assert manifest is not None
    middle = sorted(row["confidence"] for row in office.stores().lake.rows(manifest))[2]
    sure = reached(office, declared(office, {"kind": {"confidence": {"at_least": middle}}}, kind))
    unsure = reached(office, declared(office, {"kind": {"confidence": {"below": middle}}}, kind))
    assert sorted(sure + unsure) == list(every) == list("abcd")
    assert sure
    assert unsure


def test_what_a_model_extracted_decides_by_its_place_in_the_json(office: Project, provider: Provider) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "integer", "minimum": 0, "maximum": 9}},
              "required": ["total"], "additionalProperties": False}  # fmt: skip
    facts = {"name": "facts", "kind": "extract", "schema": schema}
    above = reached(office, declared(office, {"facts": {"data.total": {"above": 4}}}, facts))
    rest = reached(office, declared(office, {"facts": {"data.total": {"at_most": 4}}}, facts))
    assert sorted(above + rest) == list("abcd")
    assert reached(office, declared(office, {"facts": {"data.total": {"above": 9}}}, facts)) == ""


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"wrods": 1}, "stages.1.when.counted.wrods: stage 'seen' waits for 'counted': there is no column 'wrods' to "
                       "wait for; did you mean 'words'?"),
        ({"words": ["4"]}, "stages.1.when.counted.words: stage 'seen' waits for 'counted': 'words' holds whole "
                           "numbers, and '4' is none"),
        ({"words": True}, "'words' holds whole numbers, and True is none"),
        ({"first": {"above": 3}}, "'first' holds text, and bounds such as 'below' are for numbers"),
        ({"short": {"not": [1]}}, "'short' holds true or false, and 1 is none"),
        ({"words": {"over": 3}}, "stages.1.when.counted.words: it: unknown key 'over'; did you mean 'above'?"),
        ({"words": {"above": "three"}}, "above: should be a number"),
        ({"words": {}}, "says nothing; such as"),
        ({"words": []}, "lists no value, so no document could meet it"),
        ({}, "says nothing; name labels"),
        (["x"], "it gives no labels (function); name one of its columns, or use 'after'"),
        ({"first.x": 1}, "'first' is no JSON, so there is no 'x' in it"),
        (4, "should be a list of values, or columns with what they may be"),
    ],
)  # fmt: skip
def test_a_condition_that_cannot_be_met_is_refused_with_its_place(office: Project, condition: Any, says: str) -> None:
    with pytest.raises(CollectionInvalid) as raised:
        declared(office, {"counted": condition})
    assert says in str(raised.value)
    assert "defs.yaml:" in str(raised.value)


def test_several_rows_of_a_document_decide_nothing(office: Project) -> None:
    parts = {"name": "parts", "kind": "function", "function": "./own.py:parts"}
    with pytest.raises(CollectionInvalid, match="makes several rows of a document"):
        declared(office, {"parts": {"part": "x"}}, parts)


def test_a_property_that_a_schema_has_not_is_refused(office: Project) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}}
    with pytest.raises(CollectionInvalid, match="the schema has no property 'totl'; did you mean 'total'"):
        declared(office, {"facts": {"data.totl": 1}}, {"name": "facts", "kind": "extract", "schema": schema})


def test_the_long_form_of_labels_is_the_short_one() -> None:
    """So that writing it out makes nothing stale, and what was computed with the short form stays current."""
    first, second = (
        StageSettings.model_validate({"name": "a", "kind": "k", "when": {"kind": when}})
        for when in (["x", "y"], {"label": ["x", "y"]})
    )
    assert first.described_when == second.described_when == {"kind": ["x", "y"]}
    assert described({"confidence": Bounds(below=0.5)}) == {"confidence": {"below": 0.5}}


def test_a_plan_goes_by_what_was_said_last(office: Project, provider: Provider) -> None:
    brief = {"name": "brief", "kind": "summarise", "when": {"counted": {"words": {"above": 2}}}}
    collection = office.declare(partitions={**DAYS, "end": DAY}, stages=[COUNTED, brief])
    inference = load_inference(office.root / "inference.yaml")

    def calls() -> Any:
        return next(each for each in plan(collection, office.stores(), inference).stages if each.stage == "brief")

    first = calls()
    assert first.calls.low == 0
    assert first.calls.high == 4
    office.refresh(collection)
    assert len(provider.bills(every=True)) == 2
    assert calls().new_calls == 0


@given(st.floats(allow_nan=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_bound_and_its_opposite_divide_all_numbers(value: float, bound: float) -> None:
    row = {"n": value}
    for one, other in (("below", "at_least"), ("above", "at_most")):
        sides = [holds({"n": Bounds.model_validate({name: bound})}, row) for name in (one, other)]
        assert sum(sides) == 1
    assert not holds({"n": Bounds(below=bound)}, {"n": None})
    assert not holds({"n": (value,)}, None)
