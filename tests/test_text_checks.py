"""Claims about checks of generated text without a judge: what passes, what is not counted, gates on their share."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from conftest import DAYS, Project
from provider import Provider

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.evaluation.metrics import Evidence, Measure
from ai_assets.evaluation.text_checks import length_within, quotes_found, same_language, schema_valid
from ai_assets.run.errors import PartitionsFailed

ENGLISH = "The pump in hall seven has leaked oil since Monday, and nobody was hurt by it."
GERMAN = "Die Pumpe in der Halle sieben verliert seit Montag Öl, und niemand wurde dabei verletzt."
FACTS = {"type": "object", "properties": {"amount": {"type": "number"}}, "required": ["amount"]}


def evidence(*outputs: str, text: str = ENGLISH, language: str = "en", **more: Any) -> Evidence:
    rows = [{"document_id": f"{n}", "status": "ok", "text": each} for n, each in enumerate(outputs)]
    rows.append({"document_id": f"{len(rows)}", "status": "quarantined", "text": None})
    documents = [{"document_id": row["document_id"], "text": text, "language": language} for row in rows]

    def reader(found: Sequence[Mapping[str, Any]]) -> Any:
        def read(columns: Sequence[str]) -> Iterator[Mapping[str, Any]]:
            return ({name: row[name] for name in columns} for row in found)

        return read

    return Evidence(
        collection="c", partition="p", stage="s", rows=reader(rows), documents=reader(documents),
        columns=("document_id", "status", "text"), headline="text", **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "share", "n"),
    [
        (length_within(evidence("One two.", "One two three four."), min_words=2, max_words=3), 0.5, 2),
        (length_within(evidence("One is here. Two is here.", "One is here."), max_sentences=1), 0.5, 2),
        (quotes_found(evidence('It "has leaked oil" now.', "It “has leaked  oil since”.", "No quote.")), 1.0, 2),
        (quotes_found(evidence("He says „the pump has exploded“.", 'One "word" is none.')), 0.0, 1),
        (same_language(evidence(ENGLISH, GERMAN, "No.")), 0.5, 2),
        (same_language(evidence(GERMAN, GERMAN), language="de"), 1.0, 2),
        (schema_valid(evidence('{"amount": 3}', '{"amount": "x"}', "{}", "no JSON"), schema=FACTS), 0.25, 4),
        (schema_valid(evidence('{"amount": 3}', schema=FACTS)), 1.0, 1),
        (quotes_found(evidence("Nothing is quoted.")), None, 0),
    ],
    ids=["words", "sentences", "quoted", "made up", "of the document", "declared", "given", "of the stage", "none"],
)
def test_a_check_is_the_share_of_the_outputs_that_it_can_tell_of(found: Measure, share: float | None, n: int) -> None:
    assert (found.value, found.n) == (share, n)
    if n > 1:
        assert found.interval is not None
        assert found.interval.low <= (share or 0) <= found.interval.high
        assert found.error is not None


INFERENCE = (
    "endpoints: {small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}}\n"
)
CHECKS = [
    {"use": "schema_valid", "stage": "facts"},
    {"use": "quotes_found", "stage": "facts"},
    {"use": "same_language", "stage": "summary"},
    {"use": "length_within", "name": "summary_length", "stage": "summary", "options": {"max_words": 60}},
]


def stages() -> list[dict[str, Any]]:
    schema = {
        "type": "object", "properties": {"amount": {"type": "number"}, "evidence": {"type": "string"}},
        "required": ["amount", "evidence"], "additionalProperties": False,
    }  # fmt: skip
    return [
        {"name": "summary", "kind": "summarise", "route": "small"},
        {"name": "facts", "kind": "extract", "route": "small", "schema": schema},
    ]


def test_checks_are_scores_of_each_partition_and_a_gate_asks_their_lower_bound(
    project: Project, provider: Provider
) -> None:
    (project.root / "inference.yaml").write_text(INFERENCE)
    for n in range(6):
        project.document(f"2026-10-05/{n}.txt", f"{ENGLISH} Invoice {n}: the total due is {n}50.00 EUR.")
    one_day = {"partitions": {**DAYS, "end": "2026-10-05"}, "stages": stages(), "metrics": CHECKS}
    floor = {"metric": "summary_length", "stage": "summary", "min": 0.5, "at": "lower"}
    project.refresh(project.declare(**one_day, gates=[floor]))
    manifest = project.stores().lake.manifest("notes", "evaluation_scores", "2026-10-05")
    assert manifest is not None
    found = {row["metric"]: row for row in project.stores().lake.rows(manifest)}
    assert {name: (row["value"], row["n"]) for name, row in found.items()} == dict.fromkeys(
        ("schema_valid", "quotes_found", "same_language", "summary_length"), (1.0, 6)
    )
    assert all(row["low"] < row["high"] == 1 for row in found.values())
    with pytest.raises(PartitionsFailed, match=r"\d+ more rows needed, if they come out alike"):
        project.refresh(project.declare(**one_day, gates=[{**floor, "min": 0.95}]))
    assert len(provider.bills(every=True)) == 12


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ({"use": "length_within"}, "it checks what a stage wrote; say under 'stage' which"),
        ({"use": "length_within", "stage": "summary", "options": {"most_words": 3}}, "its options: .*most_words"),
        ({"use": "quotes_found", "stage": "summary", "options": {"column": "txt"}}, "has no column 'txt' of text"),
        (
            {"use": "length", "stage": "summary"},
            "no entry point .* built-in checks: schema_valid, quotes_found, length_within",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused_when_it_is_declared(
    project: Project, metric: dict[str, Any], says: str
) -> None:
    (project.root / "inference.yaml").write_text(INFERENCE)
    with pytest.raises(CollectionInvalid, match=says):
        project.declare(stages=stages(), metrics=[metric])


def test_a_stage_without_a_schema_says_so() -> None:
    with pytest.raises(ValueError, match="the stage has no schema"):
        schema_valid(evidence(json.dumps({"amount": 3})))
