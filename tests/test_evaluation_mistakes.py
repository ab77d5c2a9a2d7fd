"""What is wrong about an evaluation is refused or reported with file and line, and nothing is silently green."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import DAYS, STAGE, Project
from signing import known
from test_golden_sets import DAYS as ONE_DAY
from test_golden_sets import DECLARED, GOLD, golden_files, noted

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.evaluation.slices import length_band, scored_slices
from ai_assets.signoff.errors import LabelFileRefused
from ai_assets.signoff.label_files import import_golden

__all__ = ["noted"]
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Wrong:
    id: str
    declared: dict[str, Any]
    says: str
    labels: list[dict[str, Any]] | None = None
    queries: list[dict[str, Any]] | None = None


LABELLED = {"document": "2026-10-05/1.txt", "label": "invoice"}
WRONG = [
    Wrong(id="gate_without_metric", declared={"gates": [{"min": 0.8}]}, says=r"defs.yaml:\d+: gates.0.metric: is miss"),
    Wrong(
        id="gate_on_unknown_metric", declared={"gates": [{"metric": "acuracy", "min": 0.8}]},
        says=r"defs.yaml:\d+: gates.0.metric: unknown metric 'acuracy'; did you mean 'accuracy'",
    ),
    Wrong(
        id="minimum_nan", declared={"gates": [{"metric": "accuracy", "min": NAN}]},
        says=r"defs.yaml:\d+: gates.0.min: should be a number \(found nan\)",
    ),
    Wrong(
        id="no_slice", declared={"gates": [{"metric": "accuracy", "min": 0.5, "slices": []}]},
        says=r"defs.yaml:\d+: gates.0.slices: it names no slice",
    ),
    Wrong(
        id="error_rate_0", declared={"stages": [{**STAGE, "hold": {"certified": {"error": 0}}}]},
        says=r"defs.yaml:\d+: stages.0.hold.certified.error: should be more than 0 \(found 0\)",
    ),
    Wrong(
        id="error_rate_nan", declared={"stages": [{**STAGE, "hold": {"certified": {"error": NAN}}}]},
        says=r"stages.0.hold.certified.error: should be a number \(found nan\)",
    ),
    Wrong(
        id="empty_file_and_a_gate", labels=[],
        declared={"golden": {"labels": "labels.jsonl"}, "gates": [{"metric": "accuracy", "min": 0.8}]},
        says=r"defs.yaml:\d+: gates.0: the gate on accuracy has nothing to judge by: labels.jsonl has no golden label",
    ),
    Wrong(
        id="all_retired_and_a_gate", labels=[{**LABELLED, "retired": "old"}],
        declared={"golden": {"labels": "labels.jsonl"}, "gates": [{"metric": "accuracy", "min": 0.8}]},
        says="labels.jsonl has no golden label that counts",
    ),
    Wrong(
        id="no_query_and_a_gate", queries=[], declared={"gates": [{"metric": "mrr", "min": 0.8}]},
        says="the gate on mrr has nothing to judge by: queries.jsonl has no golden query that counts",
    ),
    Wrong(id="label_outside_the_set", declared={}, labels=[{**LABELLED, "label": "invoyce"}],
          says=r"labels.jsonl:1: unknown label 'invoyce'; did you mean 'invoice'"),
    Wrong(id="document_twice", declared={}, labels=[LABELLED, LABELLED], says="labels.jsonl:2: repeats line 1"),
    Wrong(id="document_with_two_labels", declared={}, labels=[LABELLED, {**LABELLED, "label": "incident"}],
          says="labels.jsonl:2: '2026-10-05/1.txt' is incident here, but invoice on line 1"),
    Wrong(id="label_nan", declared={}, labels=[{**LABELLED, "label": NAN}], says=r"labels.jsonl:1: 'label': .*NaN"),
    Wrong(id="query_without_documents", declared={}, queries=[{"query": "pump", "documents": []}],
          says="queries.jsonl:1: 'documents'"),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_what_is_declared_wrongly_is_refused_with_file_and_line(project: Project, wrong: Wrong) -> None:
    (project.root / "collections" / "notes").mkdir()
    golden_files(project, wrong.labels, wrong.queries)
    with pytest.raises(DeclarationInvalid, match=wrong.says):
        project.declare(**{**DECLARED, "partitions": ONE_DAY, **wrong.declared})


def test_unknown_documents_are_named_by_the_status_and_by_an_evaluation(noted: Project) -> None:
    lines = [{"document": "nope.txt", "label": "invoice"}, {"document": "2026-10-05/1.tx", "label": "invoice"}]
    golden_files(noted, [*lines, {"document": "2026-10-05/2.txt", "label": "invoice"}])
    noted.refresh(noted.declare(**DECLARED, partitions=ONE_DAY, gates=[{"metric": "accuracy", "min": 0.5}]))
    for command in (("golden", "status"), ("evaluate",)):
        said = noted.cli(*command, "notes").stdout
        assert "labels.jsonl, line 1: the source has no 'nope.txt'" in said
        assert "line 2: the source has no '2026-10-05/1.tx'; did you mean '2026-10-05/1.txt'" in said
    assert len(json.loads(noted.cli("evaluate", "notes", "--json").stdout)["unknown"]) == 2


def test_a_slice_without_documents_is_undecided_and_says_so(noted: Project) -> None:
    golden_files(noted, labels=[])
    noted.refresh(
        noted.declare(
            **DECLARED, partitions=ONE_DAY, gates=[{"metric": "accuracy", "min": 0.5, "slices": ["language"]}]
        )
    )
    said = noted.cli("evaluate", "notes")
    assert (said.returncode, "not judged: accuracy by language" in said.stdout) == (0, True), said.stdout


def test_labels_to_import_with_numbers_that_are_none_are_named_with_their_lines(noted: Project, tmp_path: Path) -> None:
    collection = noted.declare(**DECLARED, partitions=ONE_DAY)
    noted.refresh(collection)
    stores, file = noted.stores(), tmp_path / "labels.csv"
    first, second, third, _ = GOLD
    file.write_text(
        "document,label,author,stratum,inclusion\n"
        f"{first},invoice,mia,random,nan\n{second},invoice,mia,random,0\nzz,invoice,mia,random,0.5\n"
        f"{third},invoce,mia,random,0.5\n"
    )
    with pytest.raises(LabelFileRefused) as refused:
        import_golden(stores, collection, file, by=known(stores.state, "ann"))
    for line in (2, 3, 4, 5):
        assert f"  line {line}: " in str(refused.value), refused.value
    with stores.state.read() as connection:
        from ai_assets.signoff import golden_labels

        assert golden_labels.newest(connection, "notes", "kind") == []


def test_a_collection_with_golden_queries_alone_has_a_status(noted: Project) -> None:
    collection = noted.declare(partitions=ONE_DAY, golden={"queries": "queries.jsonl"})
    for number in (None, 1):
        said = noted.cli("golden", "status", "notes")
        assert said.returncode == 0, said.stderr
        assert "2 golden queries judge the search of notes." in said.stdout
        found = json.loads(noted.cli("golden", "status", "notes", "--json").stdout)
        assert (found["stage"], found["queries"], found["judged"]["set"]) == (None, 2, number)
        noted.refresh(collection)
    noted.declare(partitions=dict(DAYS))
    refused = noted.cli("golden", "status", "notes")
    assert (refused.returncode, "it has no classify stage" in refused.stderr) == (2, True)


SLICED = {"evaluation": {"slices": ["language", "source", "length", "label", "tenant", "kind.label"]}}


def test_slices_that_no_gate_asks_for_are_scored_and_shown(noted: Project) -> None:
    lines = [{"document": name, "label": label} for name, label in GOLD.items()]
    wrong = {**lines[2], "label": "invoice"}
    golden_files(noted, [*lines[:2], wrong, lines[3]])
    noted.refresh(noted.declare(**DECLARED, partitions=ONE_DAY, **SLICED))
    found = json.loads(noted.cli("evaluate", "notes", "--json").stdout)["slices"]
    scored = {each["slice"]: (each["right"], each["n"]) for each in found}
    assert scored == {
        "language en": (3, 4), "source *.txt": (3, 4), "length below 500": (3, 4), "tenant default": (3, 4),
        "label invoice": (2, 3), "label incident": (1, 1), "kind.label invoice": (2, 2), "kind.label incident": (1, 2),
    }  # fmt: skip
    assert found[0]["slice"] == "kind.label incident"  # the worst first
    assert "kind.label incident" in noted.cli("evaluate", "notes").stdout


def test_only_declared_slices_make_scores_stale_and_nothing_before_them(noted: Project) -> None:
    plain, sliced = (noted.declare(**DECLARED, partitions=ONE_DAY, **more).code_versions for more in ({}, SLICED))
    assert {asset for asset in plain if plain[asset] != sliced[asset]} == {"evaluation_scores"}
    gate = {"metric": "accuracy", "min": 0.5, "slices": ["kind.label"]}
    assert "kind" in noted.declare(**DECLARED, partitions=ONE_DAY, gates=[gate]).inputs_of("evaluation_scores")


@pytest.mark.parametrize(
    ("slices", "says"),
    [
        (["colour"], r"defs.yaml:\d+: evaluation.slices.0: unknown slice 'colour'"),
        (["langage"], "did you mean 'language'"),
        (["kin.label"], "unknown stage 'kin'; did you mean 'kind'"),
        (["kind.lable"], "stage 'kind' has no column 'lable'; did you mean 'label'"),
        (["kind.confidence"], "'kind.confidence' is a number, and has no slices"),
        (["language", "language"], "is here twice"),
    ],
)
def test_slices_that_cannot_be_are_refused_with_their_line(noted: Project, slices: list[str], says: str) -> None:
    with pytest.raises(DeclarationInvalid, match=says):
        noted.declare(**DECLARED, partitions=ONE_DAY, evaluation={"slices": slices})
    gate = {"metric": "accuracy", "min": 0.5, "slices": slices}
    with pytest.raises(DeclarationInvalid, match=says.replace("evaluation", "gates.0")):
        noted.declare(**DECLARED, partitions=ONE_DAY, gates=[gate])


@pytest.mark.parametrize(
    ("characters", "band"),
    [(0, "below 500"), (499, "below 500"), (500, "500 to 2,000"), (7_999, "2,000 to 8,000"), (8_000, "8,000 and more")],
)
def test_every_length_has_one_band(characters: int, band: str) -> None:
    assert length_band(characters) == band


def test_of_a_column_with_many_values_the_largest_slices_are_kept() -> None:
    within = {f"{n}": [f"kind.label v{n // 2 if n < 10 else n}"] for n in range(100)}
    found = scored_slices(within, dict.fromkeys(within, True))
    assert len(found) == 40
    assert {each.slice for each in found} >= {f"kind.label v{n}" for n in range(5)}
