"""Claims about golden labels that people give: whom they count for, what they judge, and that a draw is honest."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import STAGE, Project
from signing import PASSWORD, known, somebody

from ai_assets.collection.loading import Collection
from ai_assets.evaluation.decidable import decidable, decide
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.status import partition_states
from ai_assets.signoff import audit, golden_labels, golden_samples, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import DecisionRefused, GoldenLabelRefused, LabelFileRefused
from ai_assets.signoff.golden_labels import GivenLabel, LabelPlace
from ai_assets.signoff.golden_samples import SampledDocument
from ai_assets.signoff.golden_status import golden_status
from ai_assets.signoff.label_files import import_corrections, import_golden

DAYS = ["2026-10-05", "2026-10-06"]
REVIEW: dict[str, Any] = {"stages": [dict(STAGE)], "golden": {"review": True}}
GATED: dict[str, Any] = {**REVIEW, "gates": [{"metric": "accuracy", "min": 0.8}]}
BILL = "Invoice {n}: amounts with tax, the total due is {n}.00."
FIRE = "Report {n}: a fire beside the pump, caused by a leak."
SIGNED = {"AI_ASSETS_PASSWORD": PASSWORD}


@pytest.fixture
def office(project: Project) -> Project:
    """Two days of ten documents each, half of them bills."""
    for number in range(20):
        text = (BILL if number % 2 else FIRE).format(n=number)
        project.document(f"{DAYS[number // 10]}/{number:02}.txt", text)
    return project


def computed(office: Project, **attributes: Any) -> Collection:
    collection = office.declare(**(attributes or REVIEW), partitions={"by": "day", "start": DAYS[0], "end": DAYS[1]})
    office.refresh(collection)
    return collection


def right(document: str) -> str:
    return "invoice" if int(Path(document).stem) % 2 else "incident"


def place(office: Project, document: str) -> LabelPlace:
    return golden_labels.present_texts(office.stores(), "notes", DAYS, [document])[document]


def say(
    office: Project, collection: Collection, document: str, label: str | None, by: str = "ann", **drawn: Any
) -> GivenLabel:
    spot = replace(place(office, document), **drawn)
    answer: golden_labels.Answer = "label" if label else "unsure"
    return golden_labels.give(office.stores(), collection, spot, answer, label, note="", by=somebody(by))


def scores(office: Project, partition: str = DAYS[0]) -> dict[tuple[str, str], tuple[float | None, int]]:
    manifest = office.stores().lake.manifest("notes", "evaluation_scores", partition)
    assert manifest is not None
    return {(row["metric"], row["scope"]): (row["value"], row["n"]) for row in office.stores().lake.rows(manifest)}


def asked(office: Project, collection: Collection) -> list[SampledDocument]:
    stage = golden_labels.stage_of(collection)
    with office.stores().state.read() as connection:
        return golden_samples.asked(connection, collection, stage)


# Judging


def test_a_label_judges_the_model_in_the_next_run_and_makes_only_its_partition_due(office: Project) -> None:
    collection = computed(office)
    assert scores(office)["accuracy", "corpus"] == (None, 0)
    document = f"{DAYS[0]}/01.txt"
    say(office, collection, document, "incident")
    states = partition_states(collection, office.stores())
    assert {day for day, state in states.items() if state == "stale"} == {DAYS[0]}
    made = [outcome.manifest.asset for outcome in office.refresh(collection) if not outcome.unchanged]
    assert made == ["evaluation_scores", "release_candidate"]
    assert scores(office)["accuracy", "corpus"] == (0.0, 1)
    assert "stale" not in partition_states(collection, office.stores()).values()


def test_labels_of_people_count_beside_those_of_the_file(office: Project) -> None:
    folder = office.root / "collections" / "notes"
    folder.mkdir(exist_ok=True)
    (folder / "labels.jsonl").write_text(json.dumps({"document": f"{DAYS[0]}/00.txt", "label": "incident"}) + "\n")
    collection = computed(office, stages=[dict(STAGE)], golden={"labels": "labels.jsonl"})
    assert scores(office)["accuracy", "corpus"] == (1.0, 1)
    say(office, collection, f"{DAYS[0]}/01.txt", "incident")
    office.refresh(collection)
    assert scores(office)["accuracy", "corpus"] == (0.5, 2)


def test_an_uncertain_document_is_kept_and_not_counted(office: Project) -> None:
    collection = computed(office)
    say(office, collection, f"{DAYS[0]}/01.txt", "incident", stratum="uncertain", inclusion=1.0, sample=1)
    assert partition_states(collection, office.stores())[DAYS[0]] != "stale"
    found = golden_status(collection, office.stores())
    assert (found.by_source["uncertain"], found.scored) == (1, 0)


def test_a_label_ends_with_the_text_that_was_read(office: Project) -> None:
    collection = computed(office)
    document = f"{DAYS[0]}/01.txt"
    say(office, collection, document, "invoice")
    office.refresh(collection)
    assert scores(office)["accuracy", "corpus"] == (1.0, 1)
    office.edit(collection, document, "Another text: the total due is nothing.")
    assert scores(office)["accuracy", "corpus"] == (None, 0)
    assert golden_status(collection, office.stores()).outdated == 1


def test_a_document_on_which_people_disagree_judges_nothing_until_they_agree(office: Project) -> None:
    collection = computed(office)
    document = f"{DAYS[0]}/01.txt"
    say(office, collection, document, "incident", by="ann")
    say(office, collection, document, "invoice", by="bob")
    found = golden_status(collection, office.stores())
    assert (found.scored, list(found.disagreed)) == (0, [document])
    say(office, collection, document, "invoice", by="ann")
    found = golden_status(collection, office.stores())
    assert (found.scored, found.right, list(found.disagreed)) == (1, 1, [])


def test_a_gate_without_a_label_yet_lets_a_candidate_pass_and_says_what_it_waits_for(office: Project) -> None:
    collection = computed(office, **GATED)
    with office.stores().state.read() as connection:
        rows = connection.execute(sa.text("SELECT summary FROM review_requests WHERE status = 'open'")).scalars().all()
    verdicts = [gate for row in rows for gate in json.loads(row)["gates"]]
    assert {(gate["verdict"], gate["holds"]) for gate in verdicts} == {("undecided", False)}
    assert "people give golden labels on the desk, and there is none yet" in verdicts[0]["sentence"]
    say(office, collection, f"{DAYS[0]}/01.txt", "incident")
    with pytest.raises(PartitionsFailed, match=r"accuracy 0 is below the minimum 0\.8"):
        office.refresh(collection)
    assert golden_status(collection, office.stores()).gates[0].standing.right == 0


def test_an_existing_collection_without_labels_of_people_stays_as_it_was(office: Project) -> None:
    folder = office.root / "collections" / "notes"
    (folder / "labels.jsonl").write_text(json.dumps({"document": f"{DAYS[0]}/00.txt", "label": "incident"}) + "\n")
    collection = computed(office, stages=[dict(STAGE)], golden={"labels": "labels.jsonl"})
    manifest = office.stores().lake.manifest("notes", "evaluation_scores", DAYS[0])
    assert manifest is not None
    assert golden_labels.GOLDEN not in manifest.inputs
    with office.stores().state.read() as connection:
        digest = connection.execute(sa.text("SELECT DISTINCT corrections_digest FROM refreshes")).scalar_one()
    assert digest == office.work(collection).corrections.version(DAYS[0])


# Who may, and what is kept


def test_giving_and_drawing_take_the_role_reviewer(office: Project) -> None:
    collection, viewer = computed(office), somebody("vic", "viewer")
    spot = place(office, f"{DAYS[0]}/01.txt")
    with pytest.raises(DecisionRefused, match="takes the role reviewer in notes"):
        golden_labels.give(office.stores(), collection, spot, "label", "invoice", note="", by=viewer)
    with pytest.raises(DecisionRefused, match="takes the role reviewer in notes"):
        golden_samples.draw(office.stores(), collection, by=viewer)


def test_a_label_that_the_stage_does_not_have_is_refused_with_the_nearest(office: Project) -> None:
    collection = computed(office)
    with pytest.raises(GoldenLabelRefused, match="'invoise' is no label of 'kind'; did you mean 'invoice'"):
        say(office, collection, f"{DAYS[0]}/01.txt", "invoise")


def test_a_collection_that_declares_no_golden_labels_says_what_to_write(office: Project) -> None:
    collection = computed(office, stages=[dict(STAGE)])
    with pytest.raises(GoldenLabelRefused, match=r"golden: \{review: true\}"):
        golden_samples.draw(office.stores(), collection, by=somebody())
    with pytest.raises(GoldenLabelRefused, match="no classify stage"):
        golden_samples.draw(office.stores(), office.declare(), by=somebody())


def test_every_answer_stands_in_the_chain_and_tampering_with_one_is_found(office: Project) -> None:
    collection = computed(office)
    state = office.stores().state
    known(state, "ann")
    for document, label in ((f"{DAYS[0]}/01.txt", "invoice"), (f"{DAYS[0]}/02.txt", None)):
        say(office, collection, document, label, stratum="random", inclusion=0.1 + 0.2, sample=1)
    say(office, collection, f"{DAYS[0]}/01.txt", "invoice")
    verification.verify(state)
    with state.read() as connection:
        told = [record for record in audit.records(connection) if record.action == "labelled"]
    assert [record.subject["answer"] for record in told] == ["label", "unsure"]
    with state.write() as connection:
        connection.execute(sa.text("UPDATE golden_labels SET stratum = 'chosen' WHERE answer = 'label'"))
    with pytest.raises(AuditBroken, match=r"golden label 1 of ann of 2026-10-05/01\.txt"):
        verification.verify(state)


# Drawing


def test_a_draw_holds_a_random_part_and_the_least_sure_of_the_rest(office: Project) -> None:
    collection = computed(office)
    made = golden_samples.draw(office.stores(), collection, by=somebody(), size=10, random_share=0.6, seed="s")
    assert (made.population, made.random_size, made.uncertain_size) == (20, 6, 4)
    found = asked(office, collection)
    assert Counter(item.place.stratum for item in found) == {"random": 6, "uncertain": 4}
    assert {item.place.inclusion for item in found if item.place.stratum == "random"} == {6 / 20}
    assert {item.place.inclusion for item in found if item.place.stratum == "uncertain"} == {1.0}
    manifests = [office.stores().lake.manifest("notes", "kind", day) for day in DAYS]
    sure = {row["document_id"]: row["confidence"] for m in manifests if m for row in office.stores().lake.rows(m)}
    random = {item.place.document_id for item in found if item.place.stratum == "random"}
    rest = sorted((sure[name], name) for name in sure if name not in random)
    uncertain = [sure[item.place.document_id] for item in found if item.place.stratum == "uncertain"]
    assert sorted(uncertain) == [confidence for confidence, _ in rest[:4]]
    strata = [item.place.stratum for item in found]
    assert strata != sorted(strata), "the order would tell which documents the model is unsure of"


def test_a_second_draw_takes_other_documents_and_stops_when_there_are_none(office: Project) -> None:
    collection, stores = computed(office), office.stores()
    say(office, collection, f"{DAYS[0]}/01.txt", "invoice")
    first = golden_samples.draw(stores, collection, by=somebody(), size=12)
    second = golden_samples.draw(stores, collection, by=somebody(), size=12)
    assert (first.population, second.population, second.size) == (19, 7, 7)
    names = [item.place.document_id for item in asked(office, collection)]
    assert len(names) == len(set(names)) == 19
    with pytest.raises(GoldenLabelRefused, match="no document that 'kind' has computed is left"):
        golden_samples.draw(stores, collection, by=somebody())


def test_every_document_is_drawn_at_random_equally_often(office: Project) -> None:
    collection, stores = computed(office), office.stores()
    stage = golden_labels.stage_of(collection)
    counts: Counter[str] = Counter()
    draws = 400
    pool = list(golden_samples._drawable(stores, collection, stage, set()))
    for seed in range(draws):
        random, _, population = golden_samples._chosen(iter(pool), 10, 0.5, str(seed))
        assert population == 20
        counts.update(item.document_id for item in random)
    expected = draws * 5 / 20
    spread = math.sqrt(draws * 0.25 * 0.75)
    assert len(counts) == 20
    assert max(abs(number - expected) for number in counts.values()) < 4.5 * spread


BAD_DRAWS = ({"size": 0}, {"size": 5001}, {"random_share": 1.1}, {"random_share": math.nan}, {"opinions": 0})


@pytest.mark.parametrize("wrong", BAD_DRAWS, ids=str)
def test_a_draw_that_cannot_be_is_refused(office: Project, wrong: dict[str, Any]) -> None:
    collection = computed(office)
    with pytest.raises(GoldenLabelRefused):
        golden_samples.draw(office.stores(), collection, by=somebody(), **wrong)
    assert not asked(office, collection)


def test_nobody_is_asked_twice_and_a_second_opinion_comes_from_somebody_else(office: Project) -> None:
    collection = computed(office)
    golden_samples.draw(office.stores(), collection, by=somebody(), size=3, random_share=1, opinions=2)
    item = asked(office, collection)[0]
    assert golden_samples.waits_for(item, "ann")
    golden_labels.give(office.stores(), collection, item.place, "label", "invoice", note="", by=somebody("ann"))
    item = asked(office, collection)[0]
    assert (golden_samples.waits_for(item, "ann"), golden_samples.waits_for(item, "bob")) == (False, True)
    golden_labels.give(office.stores(), collection, item.place, "unsure", None, note="", by=somebody("bob"))
    item = asked(office, collection)[0]
    assert (golden_samples.waits_for(item, "bob"), golden_samples.waits_for(item, "cid")) == (False, True)
    golden_labels.give(office.stores(), collection, item.place, "label", "invoice", note="", by=somebody("cid"))
    assert not golden_samples.waits_for(asked(office, collection)[0], "dan")


# How many


@pytest.mark.parametrize(("floor", "labels", "number"), [(0.9, 29, 29), (0.8, 14, 14), (0.95, 59, 59), (0.5, 5, 5)])
def test_the_least_number_is_that_of_all_right_answers(floor: float, labels: int, number: int) -> None:
    assert decidable(floor, 0, 0).missing == number
    assert decide(floor, labels, labels) == "passes"
    assert decide(floor, labels - 1, labels - 1) == "undecided"


def test_the_decision_is_that_of_the_exact_interval() -> None:
    from scipy.stats import beta

    for labels in (1, 7, 30, 200, 1500):
        for of_all in (0.0, 0.3, 0.78, 0.8, 0.82, 0.9, 1.0):
            number = round(of_all * labels)
            low = beta.ppf(0.05, number, labels - number + 1) if number else 0.0
            high = beta.ppf(0.95, number + 1, labels - number) if number < labels else 1.0
            expected = "passes" if low >= 0.8 else "fails" if high <= 0.8 else "undecided"
            assert decide(0.8, labels, number) == expected, (labels, number)


def test_the_missing_labels_decide_it_when_they_come() -> None:
    for floor in (0.5, 0.8, 0.9):
        for labels, number in ((0, 0), (10, 10), (40, 39), (40, 10), (100, 97)):
            found = decidable(floor, labels, number)
            assert found.missing is not None
            share = number / labels if labels else 1.0
            total = labels + found.missing
            assert decide(floor, total, min(total, round(share * total))) != "undecided"


def test_the_table_of_the_document_is_calculated_so() -> None:
    text = (Path(__file__).parents[1] / "docs" / "golden.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("| 0.")]
    assert len(rows) == 4
    for floor, all_right, some_wrong in rows:
        assert decidable(float(floor), 0, 0).missing == int(all_right)
        found = next((n for n in range(1, 2000) if _passes_from(float(floor), n)), None)
        assert (None if some_wrong == "never" else int(some_wrong)) == found


def _passes_from(floor: float, labels: int) -> bool:
    """With one in twenty wrong, and a few more labels undo nothing."""
    return all(decide(floor, n, n - round(n / 20)) == "passes" for n in range(labels, labels + 5))


@pytest.mark.parametrize(("floor", "labels", "right_", "said"), [
    (0.8, 0, 0, "no labels yet: at least 14 more decide it, if all of them are right"),
    (0.8, 20, 16, "16 of 20 right, too near the floor: 20,000 labels would not decide it"),
    (0.8, 100, 95, "95 of 100 right: it passes with 95% confidence"),
    (0.8, 100, 60, "60 of 100 right: it fails with 95% confidence"),
])  # fmt: skip
def test_it_says_where_a_gate_stands(floor: float, labels: int, right_: int, said: str) -> None:
    assert decidable(floor, labels, right_).in_words == said


# Files


def labels_file(folder: Path, *lines: Any, name: str = "labels.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def line(
    document: str = "2026-10-05/01.txt", label: str = "invoice", author: str = "maria", **more: Any
) -> dict[str, Any]:
    return {"document": document, "label": label, "author": author, **more}


def test_all_mistakes_of_a_file_are_named_at_once_and_nothing_is_recorded(office: Project, tmp_path: Path) -> None:
    collection = computed(office)
    path = labels_file(
        tmp_path, line(), line("2026-10-05/1.txt"), line(label="invoise"), "{", {"document": "2026-10-05/02.txt"},
        line(authr="x"), line(inclusion=1.5), line(stratum="rando"), line(), "[]",
    )  # fmt: skip
    with pytest.raises(LabelFileRefused) as refused:
        import_golden(office.stores(), collection, path, by=somebody())
    told = str(refused.value)
    assert "nothing of it was recorded" in told
    for part in (
        "line 2: '2026-10-05/1.txt' is no document of notes with a text; did you mean '2026-10-05/11.txt'"[:60],
        "line 3: unknown label 'invoise'; did you mean 'invoice'",
        "line 4: not a JSON object",
        "line 5: 'label' is missing",
        "line 5: 'author' is missing",
        "line 6: unknown key 'authr'; did you mean 'author'",
        "line 7: 'inclusion' is no probability above 0 and at most 1 (found 1.5)",
        "line 8: unknown stratum 'rando'; did you mean 'random'",
        "line 9: '2026-10-05/01.txt' has a label of maria on line 1 already",
        "line 10: not a JSON object",
    ):
        assert part in told, part
    with office.stores().state.read() as connection:
        assert not golden_labels.newest(connection, "notes", "kind")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_what_is_exported_comes_back_the_same(office: Project, tmp_path: Path, form: str) -> None:
    collection = computed(office)
    known(office.stores().state, "ann")
    say(office, collection, f"{DAYS[0]}/01.txt", "invoice", stratum="random", inclusion=0.3, sample=1)
    say(office, collection, f"{DAYS[1]}/12.txt", "incident", by="bob")
    first = office.cli("golden", "export", "notes", "--format", form)
    assert first.returncode == 0, first.stderr
    path = tmp_path / f"labels.{form}"
    path.write_text(first.stdout)
    with office.stores().state.write() as connection:
        connection.execute(sa.text("DELETE FROM golden_labels"))
    done = office.cli("golden", "import", "notes", str(path), "--by", "ann", "--json", **SIGNED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"recorded": 2}
    again = office.cli("golden", "export", "notes", "--format", form)
    without_time = [[part for part in text.replace(",", " ").split() if "2026-1" not in part or "txt" in part]
                    for text in (first.stdout, again.stdout)]  # fmt: skip
    assert without_time[0] == without_time[1]
    with office.stores().state.read() as connection:
        found = golden_labels.newest(connection, "notes", "kind")
    assert {(item.author, item.recorded_by, item.origin) for item in found} == {
        ("ann", "ann", "import"), ("bob", "ann", "import"),
    }  # fmt: skip
    assert not import_golden(office.stores(), collection, path, by=somebody())


def test_corrections_are_imported_under_who_imports_them(office: Project, tmp_path: Path) -> None:
    collection = computed(office)
    stage = golden_labels.stage_of(collection)
    state = office.stores().state
    known(state, "ann")
    path = labels_file(
        tmp_path, line(label="incident", reason="it burnt"), line("2026-10-06/11.txt", "incident", "ann")
    )
    done = office.cli("corrections", "import", "notes", str(path), "--by", "ann", **SIGNED)
    assert done.returncode == 0, done.stderr
    assert "Corrected in notes: 2 labels." in done.stdout
    (first, second) = json.loads(office.cli("corrections", "list", "notes", "--json").stdout)
    assert (first["author"], first["reason"], first["was"]) == ("ann", "imported, by maria: it burnt", "invoice")
    assert (second["author"], second["reason"]) == ("ann", "")
    verification.verify(state)
    assert not import_corrections(office.stores(), collection, stage, path, by=somebody())
    exported = office.cli("corrections", "export", "notes", "--format", "csv").stdout
    assert exported.splitlines()[0] == "document,label,author"
    with pytest.raises(LabelFileRefused, match="line 1: unknown label"):
        import_corrections(office.stores(), collection, stage, labels_file(tmp_path, line(label="x")), by=somebody())


def test_the_status_says_how_many_labels_are_missing(office: Project) -> None:
    computed(office, **GATED)
    known(office.stores().state, "ann")
    drawn = office.cli("golden", "draw", "notes", "--size", "8", "--by", "ann", **SIGNED)
    assert drawn.returncode == 0, drawn.stderr
    assert "Sample 1: 5 documents at random of 20, and the 3 of the rest" in drawn.stdout
    for command in (("golden", "status", "notes"), ("status", "notes")):
        done = office.cli(*command)
        assert done.returncode == 0, done.stderr
        assert "at least 14 more decide it, if all of them are right" in done.stdout, done.stdout
        assert "8 d" in done.stdout or "8 documents" in done.stdout
    found = json.loads(office.cli("golden", "status", "notes", "--json").stdout)
    assert (found["missing"], found["waiting"], found["gates"][0]["decision"]) == (14, 8, "undecided")
    assert json.loads(office.cli("golden", "samples", "notes", "--json").stdout)[0]["drawn_by"] == "ann"


def test_the_status_has_floors_under_all_labels_and_no_gate_of_another_kind(office: Project) -> None:
    gates = [
        {"metric": "accuracy", "no_worse_by": 0.05},
        {"metric": "accuracy", "min": 0.5, "slices": ["language"]},
        {"metric": "accuracy", "min": 0.5, "at": "any_time"},
    ]
    found = golden_status(computed(office, gates=gates, **REVIEW), office.stores())
    said = [(each.gate, each.standing.decision) for each in found.gates]
    assert said == [("accuracy ≥ 0.5 at any time", "undecided")]
