"""Claims about labels of the desk that the built-in classifier's confidence is fitted to."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from conftest import STAGE, Project
from signing import somebody

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.run.datasets.builtin_classifier import CALIBRATION
from ai_assets.run.status import partition_states
from ai_assets.signoff import calibration_labels, golden_labels
from ai_assets.signoff.calibration_labels import STEPS
from ai_assets.signoff.golden_labels import Stratum
from ai_assets.signoff.label_files import import_corrections
from ai_assets.stages.classify.learning import LEAST_GOLDEN

DAYS = ["2026-10-05", "2026-10-06"]
BILL = "Invoice {}: amounts with tax, the total due is {}.00."
EACH = 30


def documents(day: str = DAYS[0]) -> list[str]:
    return [f"{day}/{number:02}.txt" for number in range(EACH)]


def declared(project: Project, **golden: Any) -> Collection:
    return project.declare(
        stages=[dict(STAGE)],
        golden={"review": True, "calibrate": True} | golden,
        partitions={"by": "day", "start": DAYS[0], "end": DAYS[1]},
    )


@pytest.fixture
def office(project: Project) -> Project:
    for day in DAYS:
        for name in documents(day):
            project.document(name, BILL.format(name, 7))
    project.refresh(declared(project))
    return project


def say(
    office: Project, collection: Collection, names: Iterable[str], label: str = "incident", by: str = "ann",
    stratum: Stratum = "random",
) -> None:  # fmt: skip
    wanted = list(names)
    places = golden_labels.present_texts(office.stores(), "notes", DAYS, wanted)
    for name in wanted:
        drawn = replace(places[name], stratum=stratum, inclusion=0.5, sample=1)
        golden_labels.give(office.stores(), collection, drawn, "label", label, note="", by=somebody(by))


def due(office: Project, collection: Collection) -> set[str]:
    return {day for day, state in partition_states(collection, office.stores()).items() if state == "stale"}


def temperature(office: Project, day: str = DAYS[0]) -> float | None:
    manifest = office.stores().lake.manifest("notes", STAGE["name"], day)
    assert manifest is not None
    found = manifest.stats.get(CALIBRATION)
    return None if found is None else float(found["temperature"])


def used(office: Project, collection: Collection) -> dict[str, str]:
    with office.work(collection) as work:
        return {name: item.label for name, item in work.calibration_labels.items()}


def test_the_first_step_is_what_a_fit_takes() -> None:
    assert STEPS[0] == LEAST_GOLDEN


def test_enough_random_labels_fit_the_confidence_of_all_partitions_once(office: Project) -> None:
    """All of them say that the classifier is wrong, so it is less sure."""
    collection = declared(office)
    say(office, collection, documents()[:-1])
    assert due(office, collection) == {DAYS[0]}
    office.refresh(collection)
    assert temperature(office) is None
    say(office, collection, documents()[-1:])
    assert due(office, collection) == set(DAYS)
    office.refresh(collection)
    fitted = temperature(office)
    assert fitted is not None
    assert fitted > 1
    assert temperature(office, DAYS[1]) == fitted
    assert not due(office, collection)
    say(office, collection, documents(DAYS[1])[:1])
    assert due(office, collection) == {DAYS[1]}, "one more label is no reason to fit again"
    office.refresh(collection)
    assert temperature(office, DAYS[1]) == fitted


@pytest.mark.parametrize("stratum", ["uncertain", "chosen"])
def test_labels_of_documents_that_were_not_drawn_at_random_fit_nothing(office: Project, stratum: Stratum) -> None:
    collection = declared(office)
    say(office, collection, documents(), stratum=stratum)
    assert not used(office, collection)


def test_a_collection_that_does_not_say_so_goes_on_as_it_was(office: Project) -> None:
    collection = declared(office, calibrate=False)
    say(office, collection, documents())
    assert due(office, collection) == {DAYS[0]}
    office.refresh(collection)
    assert temperature(office) is None
    assert due(office, declared(office)) == set(DAYS), "to declare it is what makes it so"


def test_labels_of_the_file_count_with_those_of_the_desk_to_a_step(office: Project) -> None:
    file = office.root / "collections" / "notes" / "golden.jsonl"
    lines = [{"document": name, "label": "invoice"} for name in documents()[:25]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    collection = declared(office, labels="golden.jsonl")
    say(office, collection, documents()[20:30])
    assert set(used(office, collection)) == set(documents()[25:30])
    say(office, collection, documents(DAYS[1])[:10])
    assert len(used(office, collection)) == 5


def test_a_document_on_which_people_disagree_fits_nothing(office: Project) -> None:
    collection = declared(office)
    say(office, collection, [*documents(), *documents(DAYS[1])[:1]])
    assert set(used(office, collection)) == set(documents())
    say(office, collection, documents()[:1], "invoice", by="bob")
    assert set(used(office, collection)) == {*documents()[1:], documents(DAYS[1])[0]}


def test_a_label_of_a_text_that_changed_is_not_fitted_to(office: Project) -> None:
    collection = declared(office)
    say(office, collection, documents())
    office.document(documents()[0], "Another text altogether.")
    office.refresh(collection)
    assert temperature(office) == 1.0, "29 labels are too few"


def test_what_is_corrected_counts_as_corrected(office: Project) -> None:
    collection = declared(office)
    say(office, collection, documents())
    file = office.root / "corrections.jsonl"
    file.write_text(json.dumps({"document": documents()[3], "label": "invoice", "author": "ann"}) + "\n")
    import_corrections(office.stores(), collection, golden_labels.stage_of(collection), file, by=somebody())
    found = used(office, collection)
    assert (found[documents()[3]], found[documents()[4]]) == ("invoice", "incident")


def test_the_version_is_of_labels_and_texts(office: Project) -> None:
    collection = declared(office)
    assert calibration_labels.version({}) == ""
    say(office, collection, documents())
    with office.work(collection) as work:
        before = work.people_gave(DAYS[1])
    say(office, collection, documents()[:1], "invoice")
    with office.work(collection) as work:
        assert work.people_gave(DAYS[1]) != before


def test_fitting_without_golden_labels_is_refused(project: Project) -> None:
    with pytest.raises(CollectionInvalid, match="needs golden labels: a file of them, or 'review: true'"):
        declared(project, review=False)
