"""Claims about gates that ask what golden items show: lower bounds, against what is live, in every slice."""

import json
import random
from typing import Any

import pytest
from conftest import STAGE, Project
from pydantic import ValidationError
from signing import current, decide

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.floors import PairedLabels, PairedSlices
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.metrics import Evidence, LabelEvidence, QueryEvidence, accuracy, mrr
from ai_assets.evaluation.scoring import Score
from ai_assets.evaluation.slices import SliceScore
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.signoff.publication import publish


def scored(right: int, n: int) -> Score:
    labels = tuple(LabelEvidence(document=str(k), golden="a", predicted="a" if k < right else None) for k in range(n))
    found = accuracy(Evidence(collection="c", partition=None, stage="kind", label_names=("a",), labels=labels))
    return Score(
        metric="accuracy", scope="corpus", stage="kind", value=found.value, n=n, error=found.error,
        clusters=found.clusters,
    )  # fmt: skip


def verdict(gate: Gate, right: int = 90, n: int = 100, **more: Any) -> GateVerdict:
    [found] = judge([gate], GateInputs(scores=[scored(right, n)], pending=0, absent=0, **more))
    return found


# The lower bound


def test_a_value_above_the_minimum_whose_interval_reaches_below_is_undecided_and_says_how_many_labels_are_missing() -> (
    None
):
    floor = Gate(metric="accuracy", min=0.85, at="lower")
    found = verdict(floor, 59, 66)
    assert (found.verdict, found.holds, found.judge) == ("undecided", True, "lower bound")
    assert found.interval is not None
    assert found.interval.low < 0.85 < 59 / 66
    assert "more labels needed" in found.sentence
    assert verdict(Gate(metric="accuracy", min=0.85), 59, 66).verdict == "passed"


def test_with_as_many_labels_as_were_said_to_be_missing_it_passes_and_with_a_tenth_fewer_not() -> None:
    floor = Gate(metric="accuracy", min=0.85, at="lower")
    said = verdict(floor, 90, 100).sentence
    more = int(said.split(": ")[-1].split()[0])
    assert verdict(floor, round(0.9 * (100 + more)) + 1, 100 + more).verdict == "passed"
    assert verdict(floor, round(0.9 * (100 + more * 0.85)), round(100 + more * 0.85)).verdict == "undecided"


def test_enough_labels_pass_and_a_value_below_fails() -> None:
    floor = Gate(metric="accuracy", min=0.85, at="lower")
    assert verdict(floor, 930, 1000).verdict == "passed"
    assert verdict(floor, 80, 100).verdict == "failed"


def test_too_few_may_be_declared_to_warn_only() -> None:
    found = verdict(Gate(metric="accuracy", min=0.85, at="lower", undecided="warn"), 59, 66)
    assert (found.verdict, found.holds) == ("undecided", False)


def test_a_score_without_an_error_is_never_a_silent_pass() -> None:
    gate = Gate(metric="accuracy", min=0.5, at="lower")
    bare = Score(metric="accuracy", scope="corpus", stage="kind", value=0.99, n=100)
    [found] = judge([gate], GateInputs(scores=[bare], pending=0, absent=0))
    assert (found.verdict, found.holds) == ("undecided", True)


def test_queries_about_one_document_count_as_one() -> None:
    def asked(documents: int) -> Any:
        queries = tuple(
            QueryEvidence(query=str(n), relevant=(f"d{n % documents}",), found=(f"d{n % documents}" if n % 3 else "x",))
            for n in range(60)
        )
        return mrr(Evidence(collection="c", partition=None, queries=queries))

    assert asked(60).clusters == 60
    assert asked(6).clusters == 6


# By simulation


@pytest.mark.parametrize(("true", "most"), [(0.80, 0.07), (0.85, 0.08)])
def test_what_is_not_good_enough_passes_no_more_often_than_declared(true: float, most: float) -> None:
    """A model at or below the minimum, refreshed 500 times: the floor lets it pass in 5 % of the cases at most."""
    chance, floor = random.Random(7), Gate(metric="accuracy", min=0.85, at="lower")
    passed = sum(
        verdict(floor, sum(chance.random() < true for _ in range(120)), 120).verdict == "passed" for _ in range(500)
    )
    assert passed / 500 <= most


def paired(chance: random.Random, n: int, before: float, after: float) -> PairedLabels:
    """Documents differ in how hard they are, so both versions err on the same ones more often than by chance."""
    better = worse = 0
    for _ in range(n):
        draw = chance.random()
        then, now = draw < before, (draw if chance.random() < 0.8 else chance.random()) < after
        better, worse = better + (now and not then), worse + (then and not now)
    return PairedLabels(release=1, n=n, better=better, worse=worse)


def test_a_planted_regression_of_ten_points_is_caught_and_no_change_seldom_stops() -> None:
    chance, gate = random.Random(8), Gate(metric="accuracy", no_worse_by=0.05)
    caught = sum(verdict(gate, paired=paired(chance, 200, 0.9, 0.8)).verdict != "passed" for _ in range(500))
    assert caught / 500 >= 0.95
    alarms = sum(verdict(gate, paired=paired(chance, 200, 0.9, 0.9)).verdict == "failed" for _ in range(500))
    assert alarms / 500 <= 0.05


def test_a_regression_just_above_what_is_allowed_passes_no_more_often_than_declared() -> None:
    chance, gate = random.Random(9), Gate(metric="accuracy", no_worse_by=0.05)
    passed = sum(verdict(gate, paired=paired(chance, 200, 0.9, 0.85)).verdict == "passed" for _ in range(500))
    assert passed / 500 <= 0.08


# Slices


def test_a_slice_that_is_broken_stops_what_is_fine_on_average() -> None:
    gate = Gate(metric="accuracy", min=0.85, slices=("language",))
    slices = [SliceScore(slice="language de", right=12, n=30), SliceScore(slice="language en", right=268, n=270)]
    found = verdict(gate, 280, 300, slices=slices)
    assert (found.verdict, found.value, found.n) == ("failed", 0.4, 30)
    assert "language de 0.400" in found.sentence
    assert verdict(Gate(metric="accuracy", min=0.85), 280, 300).verdict == "passed"


def test_ten_slices_that_are_as_good_as_asked_seldom_stop_it() -> None:
    chance, gate = random.Random(10), Gate(metric="accuracy", min=0.85, slices=("source",))
    failed = 0
    for _ in range(400):
        slices = [
            SliceScore(slice=f"source {name}", right=sum(chance.random() < 0.85 for _ in range(40)), n=40)
            for name in range(10)
        ]
        failed += verdict(gate, slices=slices).verdict == "failed"
    assert failed / 400 <= 0.07


def test_a_slice_with_too_few_documents_is_undecided_with_the_number_that_is_missing() -> None:
    gate = Gate(metric="accuracy", min=0.85, slices=("language",))
    slices = [SliceScore(slice="language de", right=7, n=7), SliceScore(slice="language en", right=90, n=90)]
    found = verdict(gate, slices=slices)
    assert (found.verdict, found.holds) == ("undecided", True)
    assert "language de needs 13 more labels" in found.sentence
    assert verdict(gate, slices=[]).verdict == "undecided"


BY_LABEL = Gate(metric="accuracy", no_worse_by=0.05, slices=("label", "kind.label"))


def against_live(**of: tuple[int, int, int]) -> GateVerdict:
    """By slice of `label`, how many documents, and how many came out better and worse than live."""
    pairs = {f"label {name}": PairedLabels(release=4, n=n, better=b, worse=w) for name, (n, b, w) in of.items()}
    return verdict(BY_LABEL, paired_slices=PairedSlices(release=4, of=pairs))


def test_a_slice_that_is_worse_than_live_stops_what_is_better_on_average() -> None:
    found = against_live(bill=(200, 60, 0), complaint=(30, 0, 14))
    assert (found.verdict, found.name, found.judge, found.n) == (
        "failed", "accuracy by label and kind.label against live", "live by slice", 30,
    )  # fmt: skip
    assert "label complaint -0.467 (n = 30, 0 better, 14 worse, p 0.000)" in found.sentence
    assert against_live(bill=(200, 0, 0), complaint=(30, 0, 2)).verdict == "passed", "two of 30 may be chance"
    few = against_live(bill=(200, 0, 0), complaint=(7, 0, 0))
    assert (few.verdict, few.holds, "label complaint needs 13 more labels" in few.sentence) == ("undecided", True, True)
    assert verdict(BY_LABEL).sentence.endswith("no release is live to compare with")


def test_ten_slices_that_are_as_much_worse_as_allowed_seldom_stop_it() -> None:
    chance = random.Random(12)
    worlds = [
        {f"s{name}": paired(chance, 40, 0.9, 0.85) for name in range(10)} for _ in range(300)
    ]  # fmt: skip
    failed = sum(
        against_live(**{name: (each.n, each.better, each.worse) for name, each in world.items()}).verdict == "failed"
        for world in worlds
    )
    assert failed / 300 <= 0.07


# In a collection


WORDS = {
    "en": "The pump in hall {} leaks water again and the floor is wet. Nothing has to be paid, this is a note.",
    "de": "Die Pumpe in Halle {} ist wieder undicht und der Boden ist nass. Nichts muss bezahlt werden.",
}
DAY = "2026-10-05"


def golden(project: Project, wrong: tuple[str, ...] = (), **more: Any) -> Collection:
    """Invoices and notes in two languages; of the documents in `wrong` the golden label is the other one."""
    lines = []
    for n in range(60):
        name = f"{DAY}/{'de' if n % 2 else 'en'}-{n}.txt"
        project.document(name, WORDS["de" if n % 2 else "en"].format(n))
        label = "invoice" if name.split("/")[1].split("-")[0] in wrong else "note"
        lines.append(json.dumps({"document": name, "label": label}))
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "golden.jsonl").write_text("\n".join(lines) + "\n")
    stage = {**STAGE, "labels": [
        {"name": "note", "description": "A note of the shift about a pump, a floor, a hall; eine Notiz der Schicht."},
        {"name": "invoice", "description": "An invoice with an amount that is due; eine Rechnung."},
    ]}  # fmt: skip
    return project.declare(stages=[stage], golden={"labels": "golden.jsonl"}, **more)


def test_a_slice_is_judged_by_its_own_documents_and_the_request_says_so(project: Project) -> None:
    gates = [
        {"metric": "accuracy", "min": 0.2},
        {"metric": "accuracy", "min": 0.8, "slices": ["language"], "waivable": True},
    ]
    collection = golden(project, wrong=("de",), gates=gates)
    gates.append({**gates[-1], "slices": ["label", "length", "tenant", "kind.label"], "slice_documents": 10})
    collection = golden(project, wrong=("de",), gates=gates)
    project.refresh(collection, [DAY])
    mean, sliced, others = current(project.stores().state, DAY).verdicts
    assert mean.verdict == "passed"
    assert (sliced.name, sliced.verdict) == ("accuracy by language", "failed")
    assert "language de" in sliced.sentence
    assert others.verdict == "failed"
    assert {"label invoice 0.000", "kind.label note", "length below 500", "tenant default"} >= {
        part.partition(" (n")[0].rsplit(" ", 1)[0] if "invoice" not in part else part.partition(" (n")[0]
        for part in others.sentence.partition(": ")[2].split("; ")
    }


def test_what_is_worse_than_live_is_held_against_the_very_documents(project: Project) -> None:
    gates = [
        {"metric": "accuracy", "no_worse_by": 0.05, "waivable": True},
        {"metric": "accuracy", "no_worse_by": 0.05, "slices": ["language", "label"], "waivable": True},
    ]
    collection = golden(project, gates=gates)
    project.refresh(collection, [DAY])
    for first in current(project.stores().state, DAY).verdicts:
        assert (first.verdict, first.holds) == ("undecided", False)
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    for n in range(0, 60, 2):
        project.document(
            f"{DAY}/en-{n}.txt", f"Invoice {n}. The total amount due is {n}.00 EUR, please pay the invoice."
        )
    project.refresh(collection, [DAY])
    second, sliced = current(project.stores().state, DAY).verdicts
    assert (second.verdict, second.holds, second.judge) == ("failed", True, "live")
    assert "against release 1 on 60 documents" in second.sentence
    assert (sliced.verdict, "language en -1.000 (n = 30, 0 better, 30 worse" in sliced.sentence) == ("failed", True)
    assert "language de" not in sliced.sentence, "nothing of it changed"


def test_the_lower_bound_of_a_real_evaluation(project: Project) -> None:
    collection = golden(project, gates=[{"metric": "accuracy", "min": 0.3, "at": "lower"}])
    project.refresh(collection, [DAY])
    [found] = current(project.stores().state, DAY).verdicts
    assert found.interval is not None
    assert found.interval.low <= (found.value or 0) <= found.interval.high


# What is declared


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"metric": "accuracy", "no_worse_by": 0.05, "min": 0.5}, "no meaning with 'no_worse_by'"),
        ({"metric": "macro_f1", "no_worse_by": 0.05}, "it is for accuracy, judged, recall@1"),
        ({"metric": "macro_f1", "max": 0.05}, "of 'macro_f1' more is better"),
        ({"metric": "ece", "min": 0.05}, "declare 'max'"),
        ({"metric": "ece"}, "is missing"),
        ({"metric": "accuracy", "min": 0.5, "slices": ["language"], "at": "lower"}, "leave 'at' away"),
        ({"metric": "accuracy", "min": 0.5, "slices": ["language", "language"]}, "twice"),
        ({"metric": "accuracy", "min": 0.5, "slice_documents": 30}, "without 'slices'"),
        ({"metric": "answered_share", "min": 0.5, "at": "lower"}, "answered_share"),
        ({"metric": "accuracy", "at": "lower"}, "is missing"),
        ({"metric": "accuracy", "min": 0.5, "confidence": 1.0}, "0.999"),
        ({"metric": "accuracy", "no_worse_by": -0.1}, "0"),
    ],
)
def test_what_is_declared_wrongly_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Gate(**declared)


def test_two_gates_of_one_name_are_refused_with_their_place(project: Project) -> None:
    twice = [{"metric": "accuracy", "min": 0.5, "slices": ["language"]}] * 2
    with pytest.raises(CollectionInvalid, match="here already"):
        golden(project, gates=twice)
