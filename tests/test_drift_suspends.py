"""Claims about drift that suspends a certified threshold: what it would have accepted is held, and it is said why."""

from typing import Any

import pytest
from conftest import STAGE, Project
from signing import current, decide, somebody
from test_certified_holds import BILL, DAY, DOCUMENTS, held, label
from test_certified_holds import office as office  # the fixture

from ai_assets.checks.base import CheckOutcome
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.run.context import Outcome
from ai_assets.signoff import holds
from ai_assets.signoff.publication import publish

NEXT = "2026-10-06"
SUSPENDED = {"certified": {"error": 0.05, "confidence": 0.9, "suspended_by": ["drift"]}}
DRIFTED = "drift of length against release 1"
DRIFT = {"least": 20, "against": ["live"], "vectors": 1}


def declare(project: Project, **more: Any) -> Collection:
    stages = [{**STAGE, "hold": SUSPENDED}]
    return project.declare(**{"stages": stages, "golden": {"review": True}, "drift": DRIFT, **more})


@pytest.fixture
def released(office: Project) -> Collection:
    """A release of one day, with a threshold that golden labels certify."""
    notes = declare(office)
    office.refresh(notes, [DAY])
    label(office, range(50))
    office.refresh(notes, [DAY])
    assert DOCUMENTS - len(held(office)) > 0, "nothing is live that it could drift from, which suspends nothing"
    decide(office.stores().state, notes)
    publish(notes, office.stores(), by="test")
    return notes


def write(office: Project, times: int) -> None:
    for number in range(40):
        office.document(f"{NEXT}/{number:02d}.txt", " ".join([BILL.format(n=100 + number)] * times))


def waiting(office: Project) -> list[tuple[str, ...]]:
    return [item.why for item in held(office) if item.partition == NEXT]


def test_documents_that_drifted_are_all_held_once_and_the_check_the_request_and_the_command_say_why(
    office: Project, released: Collection
) -> None:
    write(office, times=1)
    office.refresh(released, [NEXT])
    alike = waiting(office)
    assert len(alike) < 20, "the threshold accepts most"
    assert not any("suspended" in why for [why] in alike)
    assert current(office.stores().state, NEXT).changes["documents"] > 20
    write(office, times=9)
    events = list(office.events(released, [NEXT]))
    whys = waiting(office)
    assert len(whys) == 40
    assert all(why.startswith(f"the certified threshold is suspended: {DRIFTED}") for [why] in whys)
    [check] = [event for event in events if isinstance(event, CheckOutcome) and event.name == "drift"]
    assert not check.passed, "of the documents as the threshold would have let them through, not of none"
    [made] = [e.manifest for e in events if isinstance(e, Outcome) and e.manifest.asset == "release_candidate"]
    assert made.stats["hold_thresholds"]["kind"]["suspended"].startswith(DRIFTED)
    first = next(item for item in held(office) if item.partition == NEXT)
    holds.decide(office.stores().state, released, first, "accept", by=somebody("rita", "reviewer"))
    office.refresh(released, [NEXT])
    said = " ".join(office.cli("signoff", "show", "notes", NEXT).stdout.split())
    assert f"certified threshold of kind: suspended: {DRIFTED}" in said
    assert "DRIFTED length against release 1" in said
    before = current(office.stores().state, NEXT).digest
    again = office.refresh(released, [NEXT])
    assert current(office.stores().state, NEXT).digest == before
    assert all(each.unchanged for each in again if each.manifest.asset == "release_candidate")


def test_too_few_documents_suspend_only_where_drift_is_declared_to_block_then(
    office: Project, released: Collection
) -> None:
    write(office, times=1)
    strict = declare(office, drift={**DRIFT, "least": 1000, "undecided": "block", "blocks": "waivable"})
    office.refresh(strict, [NEXT])
    assert len(waiting(office)) == 40
    assert all("suspended: drift: not judged; " in why and "more documents needed" in why for [why] in waiting(office))
    office.refresh(declare(office, drift={**DRIFT, "least": 1000}), [NEXT])
    assert len(waiting(office)) < 20


def test_drift_that_is_not_declared_suspends_nothing_and_is_refused_with_its_line(office: Project) -> None:
    with pytest.raises(
        CollectionInvalid, match=r"defs\.yaml:\d+: .*there is no gate 'drift'; 'drift:' is not declared"
    ):
        declare(office, drift=None)
