"""Claims about the share of documents that a model answered: no candidate is offered without an answer.

One with too few needs a reason to be approved.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest
from conftest import REPOSITORY, Project
from provider import Provider
from signing import current, decide
from test_llm_stages import BILL, DAY, FIRE, PRICED
from test_stage_settings import BRIEF, FACTS, KIND, declare

from ai_assets.checks.suites import CheckOutcome
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.evaluation.answered import LEAST_SHARE, AnswerCounts, answered_gate, judge_answered
from ai_assets.evaluation.gates import Gate
from ai_assets.orchestration.specs import check_specs
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.refresh import refresh
from ai_assets.run.status import partition_states
from ai_assets.signoff import requests
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.signoff.publication import publish

SHARE = "answered_share"


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    """Ten documents on one day."""
    (project.root / "inference.yaml").write_text(
        PRICED.replace("retries: {all: {", "retries: {all: {garbled: {attempts: 1}, ")
    )
    for n in range(5):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    return project


def garble(provider: Provider, *matches: str) -> None:
    provider.script([{"match": match, "fault": "garbage", "times": None} for match in matches])


def run(project: Project, collection: Collection) -> list[Any]:
    with project.work(collection) as work:
        return list(refresh(work, [DAY]))


def checks(events: list[Any]) -> dict[str, CheckOutcome]:
    found = [event for event in events if isinstance(event, CheckOutcome) and event.name == "answered"]
    return {event.asset: event for event in found}


def waits(project: Project) -> bool:
    with project.stores().state.read() as connection:
        return requests.latest_of(connection, "notes", DAY) is not None


# Runs


def test_without_a_single_answer_there_is_no_candidate_and_the_error_says_why_and_what_to_do(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [KIND])
    garble(provider, "")
    with pytest.raises(PartitionsFailed) as failed:
        run(office, collection)
    said = failed.value.errors[DAY]
    assert "answered_share of kind 0 is below the minimum 0.8: 0 of 10 documents have an answer" in said
    assert "(the others: 10 garbled). No release candidate was made. The next run after 20" in said
    assert f"ai-assets run notes --partition {DAY}" in said
    assert "{metric: answered_share, stage: kind, min: 0}" in said
    assert not waits(office)
    assert partition_states(collection, office.stores())[DAY] == "failed"
    provider.script([])
    run(office, collection)
    assert waits(office)


def test_a_candidate_with_too_few_answers_is_approved_only_with_a_reason(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    garble(provider, "beside pump 1", "beside pump 2", "beside pump 3")
    found = checks(run(office, collection))["kind"]
    assert (found.passed, found.blocking) == (False, False)
    assert found.details["answered_share"] == 0.7
    state = office.stores().state
    (gate,) = [gate for gate in current(state, DAY).verdicts if gate.name == "answered_share of kind"]
    assert (gate.verdict, gate.waivable, gate.n) == ("failed", True, 10)
    with pytest.raises(DecisionRefused, match="say why it may be waived"):
        decide(state, collection)
    decide(state, collection, waivers={"answered_share of kind": "The three are duplicates of the fourth."})
    publish(collection, office.stores(), by="ann")


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    gate: dict[str, Any]
    garbled: int
    candidate: bool


CASES = (
    Case(id="enough", gate={"min": 0.7}, garbled=3, candidate=True),
    Case(id="too few", gate={"min": 0.75}, garbled=3, candidate=False),
    Case(id="too few, for every stage", gate={"min": 0.75, "stage": None}, garbled=3, candidate=False),
    Case(id="too few, and waivable", gate={"min": 0.75, "waivable": True}, garbled=3, candidate=True),
    Case(id="none, and waivable", gate={"min": 0.75, "waivable": True}, garbled=10, candidate=False),
    Case(id="none, and nothing is asked for", gate={"min": 0}, garbled=10, candidate=True),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_declared_minimum_takes_the_place_of_the_default(office: Project, provider: Provider, case: Case) -> None:
    declared = {name: value for name, value in {"stage": "kind", **case.gate}.items() if value is not None}
    collection = declare(office, [KIND], gates=[{"metric": SHARE, **declared}])
    garble(provider, *([""] if case.garbled == 10 else [f"beside pump {n + 1}" for n in range(case.garbled)]))
    if case.candidate:
        run(office, collection)
    else:
        with pytest.raises(PartitionsFailed, match="answered_share of kind"):
            run(office, collection)
    assert waits(office) is case.candidate


def test_asking_for_the_candidate_alone_does_not_get_past_it(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    garble(provider, "")
    with pytest.raises(PartitionsFailed):
        run(office, collection)
    with pytest.raises(PartitionsFailed, match="0 of 10 documents"), office.work(collection) as work:
        list(refresh(work, [DAY], ["release_candidate"]))
    assert not waits(office)


def test_a_stage_that_lets_nothing_through_passes_and_one_after_a_failed_one_is_not_blamed(
    office: Project, provider: Provider
) -> None:
    nothing = {**BRIEF, "name": "nothing", "when": {"kind": ["invoice"], "mood": ["invoice"]}}
    other = {**KIND, "name": "mood", "labels": [*KIND["labels"]]}
    after = {**FACTS, "name": "facts", "after": ["kind"]}
    collection = declare(office, [KIND, other, nothing, after])
    garble(provider, "beside pump 1", "beside pump 2")
    found = checks(run(office, collection))
    assert found["facts"].details["documents_asked"] == 8
    assert found["facts"].passed
    assert found["kind"].details["documents_asked"] == 10
    assert all(check.passed for check in found.values())


def test_dagster_shows_the_check_and_the_stages_after_it_are_computed(office: Project, provider: Provider) -> None:
    office.document("2026-10-06/bill-9.txt", BILL.format(n=9))
    collection = declare(office, [KIND, BRIEF], gates=[{"metric": SHARE, "min": 0.9}])
    garble(provider, "pump 1", "pump 2", "pump 3")
    with office.instance() as opened:
        tags = {RANGE_START: DAY, RANGE_END: "2026-10-06"}
        result = office.execute(opened, collection, "notes", **tags)
        assert not result.success
        made = {
            (event.asset_key.path[-1], event.partition)
            for event in result.all_events
            if event.is_step_materialization and event.asset_key is not None
        }
        shown = {
            (each.asset_key.path[-1], each.partition): (each.passed, each.description)
            for each in (event.event_specific_data for event in result.all_events)
            if isinstance(each, dg.AssetCheckEvaluation) and each.check_name == "answered"
        }
    assert ("brief", DAY) in made
    assert ("release_candidate", DAY) not in made
    assert ("release_candidate", "2026-10-06") in made
    assert {place: passed for place, (passed, _) in shown.items()} == {
        ("kind", DAY): False, ("brief", DAY): False, ("kind", "2026-10-06"): True, ("brief", "2026-10-06"): True,
    }  # fmt: skip
    assert "7 of 10 documents have an answer (the others: 3 garbled)" in str(shown["kind", DAY][1])


def test_it_works_beside_gates_on_golden_data(office: Project, provider: Provider) -> None:
    labels = [{"document": f"{DAY}/bill-{n}.txt", "label": "invoice"} for n in range(3)]
    declare(office, [KIND])
    own = office.root / "collections/notes/golden/own.jsonl"
    own.write_text("".join(json.dumps(label) + "\n" for label in labels))
    collection = declare(
        office, [KIND], golden={"labels": "golden/own.jsonl"}, gates=[{"metric": "accuracy", "min": 0.5}]
    )
    run(office, collection)
    names = [gate.name for gate in current(office.stores().state, DAY).verdicts]
    assert names == ["accuracy", "answered_share of kind"]


# Declarations


@dataclass(frozen=True, kw_only=True)
class Wrong:
    id: str
    says: str
    stages: list[dict[str, Any]] = field(default_factory=lambda: [KIND])
    gates: list[dict[str, Any]]


WRONG = (
    Wrong(
        id="no stage asks", stages=[{key: value for key, value in KIND.items() if key != "route"}],
        gates=[{"metric": SHARE, "min": 0.5}],
        says="gates.0: the gate on answered_share needs a stage that asks a model",
    ),
    Wrong(
        id="unknown stage", gates=[{"metric": SHARE, "min": 0.5, "stage": "kinds"}],
        says="gates.0.stage: 'kinds' is no stage that asks a model; did you mean 'kind'?",
    ),
    Wrong(
        id="twice", gates=[{"metric": SHARE, "min": least, "stage": "kind"} for least in (0.5, 0.6)],
        says="gates.1: a gate on answered_share of this stage is here already",
    ),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_a_wrong_gate_is_refused_with_its_place(project: Project, wrong: Wrong) -> None:
    with pytest.raises(CollectionInvalid) as refused:
        declare(project, wrong.stages, gates=wrong.gates)
    assert wrong.says in str(refused.value)


def test_the_gate_that_names_a_stage_goes_before_that_for_all_and_the_default_comes_last() -> None:
    declared = [Gate(metric="answered_share", min=0.5), Gate(metric="answered_share", stage="b", min=0.9)]
    assert [answered_gate(declared, name).min for name in ("a", "b")] == [0.5, 0.9]
    default = answered_gate([], "a")
    assert (default.min, default.waivable, default.name) == (LEAST_SHARE, True, "answered_share of a")


def test_exactly_the_minimum_is_enough() -> None:
    found = AnswerCounts(stage="a", asked=10, answered=8, errors={"garbled": 2})
    result = judge_answered(answered_gate([], "a"), found)
    assert (result.passed, result.value, result.n) == (True, 0.8, 10)


def test_each_stage_that_asks_has_the_check_and_no_other_asset(office: Project) -> None:
    collection = declare(office, [KIND, BRIEF, {**KIND, "name": "own", "route": None}])
    found = {spec.asset_key.path[-1]: spec for spec in check_specs(collection) if spec.name == "answered"}
    assert set(found) == {"kind", "brief"}
    assert not any(spec.blocking for spec in found.values())
    strict = declare(office, [KIND], gates=[{"metric": SHARE, "min": 0.5}])
    (spec,) = [spec for spec in check_specs(strict) if spec.name == "answered"]
    assert spec.blocking
    assert isinstance(spec, dg.AssetCheckSpec)


VERSIONS = {
    "handbook": {"classification": "ae52340d147dd11a", "release_candidate": "d7c4e6b45863244f"},
    "reports": {"triage": "050f9c3ee212781c", "release_candidate": "56571c0e756be4c8"},
}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_default_gate_and_the_number_of_tries_change_no_code_version(name: str) -> None:
    found = load_collection(REPOSITORY / "collections", name).code_versions
    assert {asset: found[asset] for asset in VERSIONS[name]} == VERSIONS[name]
