"""Claims about certified thresholds: from random golden labels, said as a sentence, refused, suspended, recorded."""

from typing import Any

import pytest
from conftest import STAGE, Project
from signing import somebody

from ai_assets.collection.loading import Collection
from ai_assets.signoff import hold_certificates, holds
from ai_assets.signoff.golden_labels import GivenLabel, present_texts, record
from ai_assets.storage.state import now

DAY = "2026-10-05"
BILL = "Invoice {n}. Amounts with tax: the total due is {n}50.00 EUR, and the payment terms are 30 days."
DOCUMENTS = 60
CERTIFIED = {"certified": {"error": 0.05, "confidence": 0.9}}


@pytest.fixture
def office(project: Project) -> Project:
    for number in range(DOCUMENTS):
        project.document(f"{DAY}/{number:02d}.txt", BILL.format(n=number))
    return project


def declare(project: Project, hold: dict[str, Any], **more: Any) -> Collection:
    stages = [{**STAGE, "hold": hold}]
    return project.declare(**{"stages": stages, "golden": {"review": True}, **more})


def label(
    project: Project, numbers: range, *, right: bool = True, stratum: str = "random", inclusion: float | None = 0.5
) -> None:
    """As people gave them to a sample of the desk."""
    stores = project.stores()
    names = [f"{DAY}/{number:02d}.txt" for number in numbers]
    places = present_texts(stores, "notes", [DAY], names)
    with stores.state.write() as connection:
        for name in names:
            made = GivenLabel(
                collection="notes", stage="kind", document_id=name, author="rita", number=0, partition=DAY,
                document_digest=places[name].document_digest, answer="label",
                label="invoice" if right else "incident", stratum=stratum, inclusion=inclusion,  # type: ignore[arg-type]
                sample=1, origin="desk", note="", recorded_by="rita", made_at=now(),
            )  # fmt: skip
            record(connection, made)


def held(project: Project) -> list[holds.HeldDocument]:
    with project.stores().state.read() as connection:
        return holds.queue(connection, "notes")


def certificates(project: Project) -> list[hold_certificates.HoldCertificate]:
    with project.stores().state.read() as connection:
        return hold_certificates.every(connection, "notes")


def test_without_enough_labels_everything_is_held_and_it_says_how_many_are_missing(office: Project) -> None:
    notes = declare(office, CERTIFIED)
    office.refresh(notes, [DAY])
    assert len(held(office)) == DOCUMENTS
    assert "45 more labels of documents drawn at random needed" in held(office)[0].why[0]
    label(office, range(40))
    label(office, range(40, 60), stratum="uncertain", inclusion=1.0)
    office.refresh(notes, [DAY])
    assert "5 more labels of documents drawn at random needed" in held(office)[0].why[0]
    assert [(found.labels, found.threshold) for found in certificates(office)] == [(0, None), (40, None)]


def test_enough_labels_let_the_confident_ones_go_and_the_guarantee_is_a_recorded_sentence(office: Project) -> None:
    notes = declare(office, CERTIFIED)
    office.refresh(notes, [DAY])
    label(office, range(50))
    office.refresh(notes, [DAY])
    [*_, found] = certificates(office)
    assert found.threshold is not None
    assert f"from {found.threshold:.2g}"[:6] in found.said
    assert "error at most 5 % with 90 % confidence; that is 100% of the documents" in found.said
    assert len(held(office)) < DOCUMENTS
    assert all(item.confidence is not None and item.confidence < found.threshold for item in held(office))
    before = len(certificates(office))
    office.document("2026-10-06/late.txt", BILL.format(n=1000))
    office.refresh(notes)
    assert len(certificates(office)) == before, "the same labels certify the same"


def test_labels_that_are_wrong_take_the_threshold_back(office: Project) -> None:
    notes = declare(office, CERTIFIED)
    office.refresh(notes, [DAY])
    label(office, range(46))
    office.refresh(notes, [DAY])
    assert len(held(office)) < DOCUMENTS
    label(office, range(10), right=False)
    office.refresh(notes, [DAY])
    assert len(held(office)) == DOCUMENTS
    assert "more labels would not help" in certificates(office)[-1].said


WATCH = """
from ai_assets.evaluation import gate


@gate
def drift(case, verdict="passed"):
    return getattr(case, verdict)(f"the inputs have {'not ' if verdict == 'passed' else ''}drifted", **(
        {"holds": False} if verdict == "undecided" else {}))
"""


@pytest.mark.parametrize("verdict", ["passed", "undecided"])
def test_while_a_gate_that_watches_has_not_passed_the_threshold_is_suspended(office: Project, verdict: str) -> None:
    (office.root / f"watch_{verdict}.py").write_text(WATCH)
    watching = {"metric": "accuracy", "use": f"watch_{verdict}:drift", "options": {"verdict": verdict}}
    hold = {"certified": {**CERTIFIED["certified"], "suspended_by": ["accuracy by drift"]}}
    notes = declare(office, hold, gates=[watching])
    office.refresh(notes, [DAY])
    label(office, range(50))
    office.refresh(notes, [DAY])
    if verdict == "passed":
        assert len(held(office)) < DOCUMENTS
    else:
        assert len(held(office)) == DOCUMENTS
        assert held(office)[0].why == ("the certified threshold is suspended: gate accuracy by drift is undecided",)


def test_a_correction_is_no_label_that_certifies(office: Project) -> None:
    notes = declare(office, CERTIFIED)
    office.refresh(notes, [DAY])
    label(office, range(44))
    for item in held(office)[:5]:
        holds.decide(office.stores().state, notes, item, "correct", label="incident", by=somebody("rita", "reviewer"))
    office.refresh(notes, [DAY])
    assert [found.labels for found in certificates(office)] == [0, 44]
