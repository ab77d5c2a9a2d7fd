"""Claims about the golden set as a whole: which items judged, which do not any more and why, what a prompt shows, how
well confidence holds, and search against what is live."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, STAGE, Project
from signing import decide, known, somebody

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.evaluation.errors import GoldenError
from ai_assets.evaluation.floors import PairedQueries, PairedSearch
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.golden import read_golden_queries
from ai_assets.evaluation.leaks import ShownText, ShownTexts, prompt_text
from ai_assets.evaluation.reliability import Reliability, reliability_of
from ai_assets.evaluation.scoring import Score
from ai_assets.run.datasets import live_search
from ai_assets.run.datasets.live_search import found_in
from ai_assets.signoff import corrections, golden_labels, golden_retirements, golden_sets, verification
from ai_assets.signoff.errors import DecisionRefused, GoldenLabelRefused
from ai_assets.signoff.golden_status import golden_status
from ai_assets.signoff.publication import publish

DAYS = {"by": "day", "start": "2026-10-05", "end": "2026-10-05"}
TEXTS = {
    "2026-10-05/1.txt": "Invoice 1: amounts with tax for the pump in hall nine, the total due is 1.00 by Monday.",
    "2026-10-05/2.txt": "Invoice 2: fees for cleaning both staircases in spring, the total due is 2.00 by Friday.",
    "2026-10-05/3.txt": "Report 3: a fire beside the pump, caused by a leak in the oil line during the night shift.",
    "2026-10-05/4.txt": "Report 4: somebody slipped on the wet floor of the canteen and hurt an ankle this morning.",
}
GOLD = {name: "invoice" if "Invoice" in text else "incident" for name, text in TEXTS.items()}
QUERIES = {"oil leak fire pump": ["2026-10-05/3.txt"], "cleaning staircases": ["2026-10-05/2.txt"]}
DECLARED: dict[str, Any] = {
    "stages": [dict(STAGE)],
    "golden": {"labels": "labels.jsonl", "queries": "queries.jsonl", "review": True},
}


def golden_files(project: Project, labels: Sequence[Any] | None = None, queries: Sequence[Any] | None = None) -> None:
    folder = project.root / "collections" / "notes"
    said = [{"document": name, "label": label} for name, label in GOLD.items()] if labels is None else labels
    asked = [{"query": query, "documents": names} for query, names in QUERIES.items()] if queries is None else queries
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))


@pytest.fixture
def noted(project: Project) -> Project:
    for name, text in TEXTS.items():
        project.document(name, text)
    golden_files(project)
    return project


def declared(project: Project, **more: Any) -> Collection:
    return project.declare(**{**DECLARED, "partitions": DAYS, **more})


def stats(project: Project) -> dict[str, Any]:
    manifest = project.stores().lake.manifest("notes", "evaluation_scores", "2026-10-05")
    assert manifest is not None
    return dict(manifest.stats)


def score(project: Project, metric: str = "accuracy") -> tuple[float | None, int]:
    return next((row["value"], row["n"]) for row in stats(project)["scores"] if row["metric"] == metric)


def test_scores_name_the_set_that_judged_and_the_versions_say_what_changed(noted: Project) -> None:
    collection = declared(noted)
    noted.refresh(collection)
    first = stats(noted)["golden"]
    assert (first["set"], first["labels"], first["queries"], score(noted)[1]) == (1, 4, 2, 4)
    noted.refresh(collection)
    assert stats(noted)["golden"] == first
    stores, ann = noted.stores(), known(noted.stores().state, "ann")
    golden_retirements.retire(stores, collection, "2026-10-05/4.txt", reason="two reports in one", by=ann)
    noted.refresh(collection)
    second = stats(noted)["golden"]
    assert (second["set"], second["labels"], second["retired"], score(noted)[1]) == (2, 3, 1, 3)
    lines = [{"document": name, "label": "invoice"} for name in GOLD if name != "2026-10-05/1.txt"]
    golden_files(noted, lines, [{"query": "oil leak fire pump", "documents": ["2026-10-05/4.txt"]}])
    collection = declared(noted)
    noted.refresh(collection)
    with stores.state.read() as connection:
        changed = golden_sets.changes(connection, "notes")
        assert golden_sets.set_digest(golden_sets.items_at(connection, "notes", 1)) == first["digest"]
        assert golden_sets.set_digest(golden_sets.items_at(connection, "notes", 2)) == second["digest"]
    assert [(one.item, one.change) for one in changed[2]] == [("2026-10-05/4.txt", "retired")]
    assert {(one.item, one.change) for one in changed[3]} == {
        ("2026-10-05/1.txt", "removed"), ("2026-10-05/3.txt", "changed"),
        (golden_sets.query_item("oil leak fire pump"), "changed"),
        (golden_sets.query_item("cleaning staircases"), "removed"),
    }  # fmt: skip
    kept = str([one for of_set in changed.values() for one in of_set])
    assert "oil leak" not in kept, "no text is copied"
    told = json.loads(noted.cli("golden", "versions", "notes", "--json").stdout)
    assert [(each["number"], len(each["changes"])) for each in told] == [(3, 4), (2, 1), (1, 6)]
    shown = noted.cli("golden", "versions", "notes").stdout
    assert "retired 2026-10-05/4.txt" in shown
    assert 'changed "oil leak fire pump"' in shown


def test_a_retired_document_judges_nothing_until_that_is_taken_back_and_the_chain_knows_both(noted: Project) -> None:
    collection = declared(noted)
    noted.refresh(collection)
    stores, name = noted.stores(), "2026-10-05/3.txt"
    ann, bob = known(stores.state, "ann"), known(stores.state, "bob")
    place = golden_labels.present_texts(stores, "notes", ["2026-10-05"], [name])[name]
    golden_labels.give(stores, collection, place, "label", "incident", note="", by=ann)
    for document, reason, said in (
        (name, " ", "needs a reason"), ("2026-10-05/33.txt", "x", "did you mean '2026-10-05/3.txt'"),
    ):  # fmt: skip
        with pytest.raises(GoldenLabelRefused, match=said):
            golden_retirements.retire(stores, collection, document, reason=reason, by=ann)
    with pytest.raises(DecisionRefused, match="takes the role reviewer"):
        golden_retirements.retire(stores, collection, name, reason="x", by=somebody("vic", "viewer"))
    golden_retirements.retire(stores, collection, name, reason="the label set has changed", by=ann)
    with pytest.raises(GoldenLabelRefused, match="retired already"):
        golden_retirements.retire(stores, collection, name, reason="again", by=bob)
    found = golden_status(collection, stores)
    assert (found.scored, list(found.retired)) == (
        3, [{"item": name, "by": "ann", "why": "the label set has changed"}],
    )  # fmt: skip
    noted.refresh(collection)
    assert score(noted)[1] == 3
    golden_retirements.take_back(stores, collection, name, by=bob)
    noted.refresh(collection)
    assert score(noted)[1] == 4
    with stores.state.read() as connection:
        given = golden_labels.in_force(connection, collection).agreed[name]
    assert (given.label, given.authors) == ("incident", ("ann",))
    verification.verify(stores.state)


def test_what_the_files_retire_is_read_and_does_not_judge(noted: Project) -> None:
    lines = [{"document": name, "label": label} for name, label in GOLD.items()]
    lines[0]["retired"] = "a duplicate"
    queries = [{"query": query, "documents": names} for query, names in QUERIES.items()]
    golden_files(noted, lines, [{**queries[0], "retired": "nobody asks that"}, queries[1]])
    collection = declared(noted)
    noted.refresh(collection)
    assert (score(noted)[1], score(noted, "mrr")[1], stats(noted)["golden"]["retired"]) == (3, 1, 2)
    assert {each["why"] for each in golden_status(collection, noted.stores()).retired} == {
        "a duplicate", "nobody asks that",
    }  # fmt: skip


def test_documents_of_which_not_all_say_the_same_are_listed(noted: Project) -> None:
    collection = declared(noted)
    noted.refresh(collection)
    stores = noted.stores()
    ann, bob = known(stores.state, "ann"), known(stores.state, "bob")
    places = golden_labels.present_texts(stores, "notes", ["2026-10-05"], GOLD)
    for document, label, by in (("1", "incident", ann), ("2", "incident", ann), ("2", "invoice", bob)):
        place = places[f"2026-10-05/{document}.txt"]
        golden_labels.give(stores, collection, place, "label", label, note="", by=by)
    decide_on = current_request(noted)
    corrections.correct(
        stores, collection=collection, request=decide_on, document_id="2026-10-05/4.txt", stage="kind",
        label="invoice", reason="it is about money", by=ann,
    )  # fmt: skip
    noted.refresh(collection)
    assert golden_status(collection, stores).judged.disputed == [
        {"document": "2026-10-05/1.txt", "said": ["the golden file: invoice", "ann: incident"]},
        {"document": "2026-10-05/2.txt", "said": ["ann: incident", "bob: invoice"]},
        {"document": "2026-10-05/4.txt", "said": ["golden: incident", "corrected by ann: invoice"]},
    ]
    assert "3 disputed" in noted.cli("golden", "status", "notes").stdout


def current_request(project: Project) -> Any:
    from signing import current

    return current(project.stores().state, "2026-10-05", "notes")


# Leaks


def leaking(project: Project, **golden: Any) -> Collection:
    """An example of a label that is golden document 3 but for one word."""
    example = TEXTS["2026-10-05/3.txt"].replace("Report 3", "Message")
    labels = [{**label, "examples": [example] if label["name"] == "incident" else []} for label in LABELS]
    return declared(project, stages=[{**STAGE, "labels": labels}], golden={**DECLARED["golden"], **golden})


def test_a_golden_document_that_an_example_shows_is_named_and_does_not_judge_unless_declared(noted: Project) -> None:
    collection = leaking(noted)
    noted.refresh(collection)
    [leak] = stats(noted)["details"]["leaked"]
    assert (leak["item"], leak["where"]) == ("2026-10-05/3.txt", "the label 'incident' of kind")
    assert leak["share"] >= 0.8
    assert (score(noted)[1], stats(noted)["golden"]["labels"], golden_status(collection, noted.stores()).scored) == (
        3, 3, 3,
    )  # fmt: skip
    asked = current_request(noted).changes["golden"]
    assert (asked["leaked"], asked["leaked are"], asked["named"]["leaked"]) == (1, "left out", [leak])
    assert "1 leaked, and judge nothing:" in noted.cli("golden", "status", "notes").stdout
    noted.refresh(leaking(noted, leaked="count"))
    assert (score(noted)[1], stats(noted)["golden"]["leaked are"]) == (4, "counted")


def test_a_golden_text_is_looked_at_again_where_it_changed_or_what_is_shown(noted: Project) -> None:
    """What was found in the texts of a partition is kept; what is kept can be thrown away."""

    def leaked(collection: Collection) -> list[str]:
        noted.refresh(collection)
        return [leak["item"] for leak in stats(noted)["details"].get("leaked", ())]

    name = "2026-10-05/3.txt"
    assert leaked(leaking(noted)) == [name]
    noted.document(name, "Nothing of that is here, and this is a letter about quite another matter altogether.")
    assert leaked(leaking(noted)) == []
    noted.document(name, TEXTS[name])
    assert leaked(leaking(noted)) == [name]
    [kept] = noted.home.index.rglob("leaks kind.json")
    kept.write_bytes(kept.read_bytes()[:30])
    noted.document("2026-10-05/2.txt", TEXTS["2026-10-05/2.txt"] + " It was told again.")
    assert leaked(leaking(noted)) == [name]
    assert leaked(declared(noted)) == []


PROMPT = (
    "Sort letters.\n\nExamples:\n{% for each in examples %}{{ each.text }}{% endfor %}\n{text}\n\nAnswer with a label."
)


@pytest.mark.parametrize(
    ("shown", "text", "is_found"),
    [
        (TEXTS["2026-10-05/4.txt"], TEXTS["2026-10-05/4.txt"], True),
        (TEXTS["2026-10-05/4.txt"].upper().replace(" ", "  "), TEXTS["2026-10-05/4.txt"], True),
        (TEXTS["2026-10-05/4.txt"], TEXTS["2026-10-05/4.txt"] + " A doctor came." * 30, True),
        (TEXTS["2026-10-05/4.txt"] + " " + TEXTS["2026-10-05/3.txt"], TEXTS["2026-10-05/4.txt"], True),
        ("total due", "Total due!", True),
        ("total due", "The total due is 4.", False),
        (TEXTS["2026-10-05/1.txt"], TEXTS["2026-10-05/2.txt"], False),
        (TEXTS["2026-10-05/3.txt"], TEXTS["2026-10-05/4.txt"], False),
    ],
    ids=["same", "case", "excerpt", "one of two", "short", "short within", "same form", "other"],
)
def test_a_text_is_found_in_a_prompt_exactly_or_nearly(shown: str, text: str, is_found: bool) -> None:
    prompt = ShownText(where="prompt", text=prompt_text(PROMPT.replace("{text}", shown)))
    assert (ShownTexts([prompt]).found(text) is not None) is is_found


# Wrong input


def test_unknown_documents_of_golden_files_are_told_with_line_and_the_nearest_name(noted: Project) -> None:
    lines = [{"document": "2026-10-05/1.txt", "label": "invoice"}, {"document": "2026-10-05/1.tx", "label": "invoice"}]
    golden_files(noted, lines, [{"query": "a fire", "documents": ["2026-10-05/33.txt"]}])
    collection = declared(noted)
    noted.refresh(collection)
    assert golden_status(collection, noted.stores()).judged.unknown == [
        "labels.jsonl, line 2: the source has no '2026-10-05/1.tx'; did you mean '2026-10-05/1.txt'?",
        "queries.jsonl, line 1: the source has no '2026-10-05/33.txt'; did you mean '2026-10-05/3.txt'?",
    ]


def test_queries_that_contradict_each_other_or_have_no_document_are_refused_all_at_once(tmp_path: Path) -> None:
    lines = [
        {"query": "a fire", "documents": ["x", "y"]}, {"query": "A  fire", "documents": ["x", "z"]},
        {"query": "a flood", "documents": []}, {"query": "a fire", "documents": ["y", "x"]},
        {"query": "a storm", "documents": ["x"], "retired": " "},
    ]  # fmt: skip
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(GoldenError) as refused:
        read_golden_queries(path)
    said = str(refused.value)
    for part in (
        "'A  fire' has other documents here than on line 1: only one of them names y, z; merge the two",
        "'documents'", "repeats the query of line 1", "'retired'",
    ):  # fmt: skip
        assert part in said, part


# Calibration


def simulated(chance: random.Random, n: int, over: float) -> Reliability:
    """Documents whose label is right less often than the confidence says, by `over`."""
    sure = [0.55 + 0.4 * chance.random() for _ in range(n)]
    found = reliability_of([(each, float(chance.random() < each - over)) for each in sure])
    assert found is not None
    return found


@pytest.mark.parametrize(("over", "n"), [(0.0, 150), (0.05, 150), (0.15, 150), (0.15, 400)])
def test_the_interval_of_the_calibration_error_holds_the_true_one(over: float, n: int) -> None:
    chance = random.Random(11)
    found = [simulated(chance, n, over) for _ in range(200)]
    assert sum(each.low <= over <= each.high for each in found) / 200 >= 0.93
    if n == 400:
        assert sum(each.low > 0 for each in found) / 200 >= 0.95


def test_bins_are_the_mean_confidence_and_the_share_of_right_labels() -> None:
    found = reliability_of([(0.95, 1.0), (1.0, 1.0), (0.9, 0.0), (0.42, 1.0)])
    assert found is not None
    assert [(each.low, each.n, round(each.confidence, 4), round(each.right, 4)) for each in found.bins] == [
        (0.4, 1, 0.42, 1.0), (0.9, 3, 0.95, 0.6667),
    ]  # fmt: skip
    assert found.ece == pytest.approx((0.58 + 3 * (0.95 - 2 / 3)) / 4)
    assert Reliability.of(json.loads(json.dumps(found.as_data()))) == found


def test_a_gate_holds_the_calibration_error_of_a_stage_below_a_maximum(noted: Project) -> None:
    noted.refresh(declared(noted))
    told = stats(noted)["reliability"]
    assert told["n"] == 4
    assert "ece" not in {row["metric"] for row in stats(noted)["scores"]}
    noted.refresh(declared(noted, gates=[{"metric": "ece", "max": 1.0}]))
    value, n = score(noted, "ece")
    assert (value, n) == (told["ece"], 4)
    [verdict] = current_request(noted).changes["gates"]
    assert (verdict["verdict"], verdict["judge"]) == ("passed", "max")
    [failed] = judge(
        [Gate(metric="ece", max=0.1)],
        GateInputs(scores=[Score(metric="ece", scope="corpus", stage="kind", value=0.2, n=60)], pending=0, absent=0),
    )
    assert (failed.verdict, failed.holds, failed.margin) == ("failed", True, 0.1 - 0.2)
    with pytest.raises(CollectionInvalid, match="less is better; declare 'max'"):
        declared(noted, gates=[{"metric": "ece", "min": 0.1}])


# Search against what is live


def compared(differences: list[float], clusters: list[str], **more: Any) -> Any:
    live = [0.5] * len(differences)
    now = [0.5 + each for each in differences]
    pair = PairedQueries(clusters=clusters, now={"mrr": now}, live={"mrr": live})
    scores = [Score(metric="mrr", scope="corpus", stage=None, value=0.5, n=len(now))]
    paired = PairedSearch(release=3, of={None: pair})
    gate = Gate(metric="mrr", no_worse_by=0.05, **more)
    return judge([gate], GateInputs(scores=scores, pending=0, absent=0, paired_search=paired))[0]


def test_queries_about_one_document_count_as_one_when_search_is_compared() -> None:
    few = compared([0.0] * 59 + [-0.5], [f"d{n % 6}" for n in range(60)])
    many = compared([0.0] * 599 + [-0.5], [f"d{n}" for n in range(600)])
    assert (few.verdict, few.holds, many.verdict) == ("undecided", True, "passed")
    assert "on 60 queries about 6 documents" in few.sentence
    assert "queries needed" in few.sentence
    assert compared([-0.2] * 100, [f"d{n}" for n in range(100)]).verdict == "failed"


def test_a_regression_of_search_passes_seldom_although_queries_come_in_clusters() -> None:
    chance = random.Random(5)

    def refreshed(worse: float) -> str:
        differences, clusters = [], []
        for document in range(60):
            own = chance.gauss(-worse, 0.1)
            for _ in range(5):
                differences.append(max(-0.5, min(0.5, own + chance.gauss(0, 0.1))))
                clusters.append(str(document))
        return str(compared(differences, clusters).verdict)

    assert sum(refreshed(0.06) == "passed" for _ in range(200)) / 200 <= 0.05
    assert sum(refreshed(0.0) == "failed" for _ in range(200)) / 200 <= 0.05


def test_the_live_index_is_asked_and_a_text_that_search_lost_holds_the_candidate(noted: Project) -> None:
    gate = {"metric": "mrr", "no_worse_by": 0.05, "waivable": True}
    collection = declared(noted, gates=[gate])
    noted.refresh(collection)
    [first] = current_request(noted).changes["gates"]
    assert (first["verdict"], first["holds"]) == ("undecided", False)
    known(noted.stores().state, "ann")
    decide(noted.stores().state, collection)
    publish(collection, noted.stores(), by="test")
    for number in range(10, 24):
        noted.document(f"2026-10-05/{number}.txt", f"Oil leak and fire at pump {number}. Cleaning staircases {number}.")
    noted.edit(collection, "2026-10-05/3.txt", "Minutes of a meeting about the summer party.")
    [second] = current_request(noted).changes["gates"]
    assert (second["verdict"], second["baseline"]["release"], second["baseline"]["value"]) == ("failed", 1, 1.0)
    assert "against release 1 on 2 queries about 2 documents (0 better, " in second["sentence"]


def test_a_release_is_asked_each_query_once_and_its_kept_answers_are_those_of_asking(
    noted: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(*arguments: Any, **more: Any) -> Any:
        asked.append(len(arguments[5]))
        return found_in(*arguments, **more)

    monkeypatch.setattr(live_search, "found_in", counted)
    gates = [{"metric": "mrr", "no_worse_by": 0.05, "undecided": "warn", "waivable": True}]
    collection = declared(noted, gates=gates)
    noted.refresh(collection)
    known(noted.stores().state, "ann")
    decide(noted.stores().state, collection)
    publish(collection, noted.stores(), by="test")
    noted.edit(collection, "2026-10-05/3.txt", "Oil leak at pump 3.")
    first = current_request(noted).changes["gates"]
    noted.edit(collection, "2026-10-05/3.txt", "Minutes of a meeting.")
    assert len(asked) == 1
    assert current_request(noted).changes["gates"] != first
    [path] = (noted.home.index / "notes").rglob("answers.json")
    path.write_text("{")  # what is not whole counts as nothing
    noted.edit(collection, "2026-10-05/3.txt", "Oil leak at pump 3. ")
    assert (len(asked), current_request(noted).changes["gates"]) == (2, first)
    decide(noted.stores().state, collection)
    publish(collection, noted.stores(), by="test")
    noted.edit(collection, "2026-10-05/3.txt", "A new release is asked for itself.")
    assert len(asked) == 3
