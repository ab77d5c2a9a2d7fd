"""Claims about ceilings: what a partition costs and how asking went is judged, told, waived and refused as a gate."""

import re
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, STAGE, Project
from desks import Visitor, desk_of, served
from provider import Provider
from pydantic import ValidationError
from signing import current, decide, known
from test_llm_stages import BILL, DAY, PRICED
from test_stage_settings import BRIEF, KIND

from ai_assets.checks.base import CheckOutcome
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import CollectionSettings
from ai_assets.evaluation.ceilings import Ceiling, Measurement, judge_ceiling
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.errors import PartitionsFailed
from ai_assets.signoff import requests
from ai_assets.signoff.errors import DecisionRefused

DOCUMENTS = 8


def share(hits: int, n: int) -> Measurement:
    return Measurement(value=hits / n if n else None, n=n, hits=hits, of="documents", nothing="there are none")


QUARANTINE = Ceiling(measure="quarantine_share", max=0.05)
BOUND = Ceiling(measure="quarantine_share", max=0.05, at="upper")


# Judging


def test_a_value_at_the_maximum_passes_and_one_above_fails_with_its_numbers() -> None:
    assert judge_ceiling(QUARANTINE, share(5, 100)).verdict == "passed"
    found = judge_ceiling(QUARANTINE, share(6, 100))
    assert (found.verdict, found.holds, found.waivable, found.judge) == ("failed", True, False, "max")
    assert found.sentence == "quarantine_share 0.06 is above the maximum 0.05 (6 of 100 documents)"
    assert found.margin == pytest.approx(-0.2)
    assert GateVerdict.of(found.as_data()) == found


def test_of_few_documents_the_upper_bound_is_undecided_and_so_many_more_decide_it() -> None:
    found = judge_ceiling(BOUND, share(0, 20))
    assert (found.verdict, found.holds) == ("undecided", True)
    assert judge_ceiling(QUARANTINE, share(0, 20)).verdict == "passed"
    assert "39 more documents needed" in found.sentence, "0 of 59 is the fewest that shows 5 % with 95 %"
    assert judge_ceiling(BOUND, share(0, 58)).verdict == "undecided"
    assert judge_ceiling(BOUND, share(0, 59)).verdict == "passed"
    assert judge_ceiling(BOUND, share(3, 40)).verdict == "failed"
    assert not judge_ceiling(BOUND.model_copy(update={"undecided": "warn"}), share(0, 20)).holds


def test_where_there_is_nothing_to_measure_it_says_so_and_holds_nothing_back() -> None:
    found = judge_ceiling(BOUND, share(0, 0))
    assert (found.verdict, found.holds) == ("undecided", False)
    assert "because there are none" in found.sentence


# In a collection


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    (project.root / "inference.yaml").write_text(
        PRICED.replace("retries: {all: {", "retries: {all: {garbled: {attempts: 1}, ")
    )
    for number in range(DOCUMENTS):
        project.document(f"{DAY}/{number}.txt", BILL.format(n=number))
    return project


def declare(office: Project, *gates: dict[str, Any], **more: Any) -> Collection:
    return office.declare(**{"stages": [KIND, BRIEF], "gates": list(gates), **more})


def verdicts(office: Project) -> dict[str, GateVerdict]:
    return {each.name: each for each in current(office.stores().state, DAY).verdicts}


def test_each_measure_is_told_of_the_partition_or_of_each_stage_that_asks_and_reused_rows_cost_what_they_cost(
    office: Project,
) -> None:
    gates = [
        {"measure": "cost_per_document", "max": 1},
        {"measure": "cost_per_document", "stage": "kind", "max": 1},
        {"measure": "p95_latency_s", "max": 60},
        {"measure": "quarantine_share", "max": 0.2},
        {"measure": "unanswered_share", "max": 0.2},
        {"measure": "unanswered_share", "stage": "brief", "max": 0.1},
    ]
    office.document(f"{DAY}/broken.pdf", b"%PDF-1.4 nothing")
    collection = declare(office, *gates)
    events = [event for event in office.events(collection, [DAY]) if isinstance(event, CheckOutcome)]
    assert {event.asset for event in events if event.name == "ceilings" and event.passed} == {
        "documents", "kind", "brief", "release_candidate",
    }  # fmt: skip
    found = verdicts(office)
    ours = {name for name in found if not name.startswith("answered_share")}
    assert ours == {
        "cost_per_document", "cost_per_document of kind", "p95_latency_s of kind", "p95_latency_s of brief",
        "quarantine_share", "unanswered_share of kind", "unanswered_share of brief",
    }  # fmt: skip
    assert all(found[name].verdict == "passed" for name in ours)
    assert found["quarantine_share"].value == pytest.approx(1 / 9)
    assert found["p95_latency_s of kind"].n == DOCUMENTS
    stats = office.stores().lake.manifest("notes", "kind", DAY).stats  # type: ignore[union-attr]
    assert found["cost_per_document of kind"].value == pytest.approx(stats["paid_usd"] / DOCUMENTS)
    assert found["cost_per_document"].value > found["cost_per_document of kind"].value > 0  # type: ignore[operator]
    assert found["unanswered_share of brief"].baseline.value == 0.1  # type: ignore[union-attr]
    with office.work(collection, "again") as work:  # the rows of one document more are paid, the others taken over
        office.document(f"{DAY}/more.txt", BILL.format(n=77))
        from ai_assets.run.refresh import refresh

        list(refresh(work, [DAY]))
    again = verdicts(office)
    assert again["cost_per_document of kind"].value == pytest.approx(found["cost_per_document of kind"].value, rel=0.1)
    assert (again["p95_latency_s of kind"].n, again["p95_latency_s of kind"].verdict) == (1, "passed")


def test_what_is_too_dear_makes_no_candidate_also_when_it_is_asked_for_alone(office: Project) -> None:
    collection = declare(office, {"measure": "cost_per_document", "max": 1e-9})
    with pytest.raises(PartitionsFailed, match=r"cost_per_document .* is above the maximum 1e-09 \(n = 8 documents\)"):
        office.refresh(collection, [DAY])
    with pytest.raises(PartitionsFailed, match="No release candidate was made"):
        office.refresh(collection, [DAY], ["release_candidate"])
    with office.stores().state.read() as connection:
        assert requests.latest_of(connection, "notes", DAY) is None


def test_a_waivable_one_is_shown_by_the_check_and_on_the_page_and_takes_a_reason(
    office: Project, provider: Provider
) -> None:
    provider.script([{"match": "total due is 350.00", "fault": "garbage", "times": None}])
    gate = {"measure": "unanswered_share", "stage": "kind", "max": 0.1, "waivable": True}
    collection = declare(office, gate, stages=[KIND])
    events = [event for event in office.events(collection, [DAY]) if isinstance(event, CheckOutcome)]
    [check] = [event for event in events if event.name == "ceilings"]
    assert (check.asset, check.passed, check.blocking) == ("kind", False, False)
    assert check.details["unanswered_share of kind"] == 0.125
    state = office.stores().state
    said = "unanswered_share of kind 0.125 is above the maximum 0.1 (1 of 8 documents)"
    assert verdicts(office)["unanswered_share of kind"].sentence == said  # which `signoff show` prints
    known(state, "ann")
    with served(desk_of(office)) as desk:
        visitor = Visitor(desk.url)
        visitor.sign_in("ann")
        page = visitor.get(f"/requests/{current(state, DAY).request_id}").text
        visitor.http.close()
    assert "maximum 0.1, " in page
    assert "1 of 8 documents" in page
    with pytest.raises(DecisionRefused, match="say why it may be waived"):
        decide(state, collection, [DAY])
    decide(state, collection, [DAY], waivers={"unanswered_share of kind": "that one is a drawing"})
    assert current(state, DAY).status == "approved"


# What is declared


@pytest.mark.parametrize(
    ("gate", "stages", "place", "said"),
    [
        ({"measure": "cost_per_documnt", "max": 1}, [KIND], "measure", "should be 'cost_per_document'"),
        ({"mesure": "quarantine_share", "max": 0.1}, [KIND], "mesure", "did you mean 'measure'"),
        ({"metric": "cost_per_document", "min": 1}, [KIND], "metric", "so write {measure: cost_per_document, max"),
        ({"measure": "quarantine_share", "max": 0}, [KIND], "max", "should be more than 0 (found 0)"),
        ({"measure": "cost_per_document", "max": -1}, [KIND], "max", "should be more than 0 (found -1)"),
        ({"measure": "quarantine_share", "max": 1}, [KIND], "max", "never above 1"),
        ({"measure": "quarantine_share"}, [KIND], "measure", "max: is missing"),
        ({"measure": "cost_per_document", "max": 1, "at": "upper"}, [KIND], "at", "bounds are of shares"),
        ({"measure": "quarantine_share", "max": 0.1, "confidence": 0.9}, [KIND], "confidence", "without 'at: upper'"),
        ({"measure": "p95_latency_s", "max": 1, "min": 1}, [KIND], "min", "unknown key 'min'"),
        ({"measure": "p95_latency_s", "max": 2}, [STAGE], "measure", "needs a stage that asks a model"),
        ({"measure": "cost_per_document", "stage": "own", "max": 2}, [KIND, {**STAGE, "name": "own"}], "stage",
         "'own' is no stage that asks a model; known here: kind"),
        ({"measure": "quarantine_share", "stage": "kin", "max": 0.1}, [KIND], "stage", "did you mean 'kind'"),
        ({"measure": "p95_latency_s", "stage": "kind", "max": 2}, [{**KIND, "tier": "batch"}, BRIEF], "stage",
         "come by batch"),
    ],
)  # fmt: skip
def test_what_is_declared_wrongly_is_refused_with_its_line(
    office: Project, gate: dict[str, Any], stages: list[dict[str, Any]], place: str, said: str
) -> None:
    with pytest.raises(CollectionInvalid) as raised:
        declare(office, gate, stages=stages)
    lines = (office.root / "collections/notes/defs.yaml").read_text().splitlines()
    gates = next(number for number, line in enumerate(lines, start=1) if line.strip() == "gates:")
    line = next(n for n, text in enumerate(lines, start=1) if n > gates and text.strip(" -").startswith(f"{place}:"))
    assert said in str(raised.value)
    assert f"defs.yaml:{line}" in str(raised.value)


def test_two_of_one_name_are_refused_and_a_bound_beside_a_value_is_not(office: Project) -> None:
    gate = {"measure": "quarantine_share", "max": 0.1}
    declare(office, gate, {**gate, "at": "upper"})
    with pytest.raises(CollectionInvalid, match="'quarantine_share' is here already"):
        declare(office, gate, gate)


def test_a_collection_without_ceilings_has_the_code_versions_it_had(office: Project) -> None:
    before = declare(office).code_versions
    after = declare(office, {"measure": "quarantine_share", "max": 0.1}).code_versions
    assert [name for name in before if before[name] != after[name]] == ["release_candidate"]


def test_a_ceiling_by_itself_says_what_is_wrong() -> None:
    with pytest.raises(ValidationError, match="never above 1"):
        Ceiling(measure="unanswered_share", max=1.5)


def test_the_examples_of_the_page_about_gates_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/gates.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    stages = [{**KIND, "name": "triage"}, BRIEF]
    whole = {"source": {"path": "documents"}, "partitions": {"by": "shards", "count": 1}, "stages": stages}
    golden = {"review": True, "queries": "queries.jsonl"}
    for block in blocks:
        settings = CollectionSettings.model_validate({**whole, "golden": golden, **yaml.safe_load(block)})
        assert len(settings.judged_by) >= len(settings.gates)


def test_what_asks_a_model_may_be_an_embedding_or_a_function_and_what_comes_by_batch_has_no_latency() -> None:
    routed = {"route": "vectors", "dimensions": 8}
    settings = CollectionSettings.model_validate({
        "source": {"path": "documents"}, "partitions": {"by": "folder"},
        "stages": [KIND, {**BRIEF, "tier": "batch"}],
        "embedding": routed, "embeddings": {"late": {**routed, "tier": "batch"}},
        "gates": [{"measure": "p95_latency_s", "max": 2}, {"measure": "unanswered_share", "max": 0.1},
                  {"measure": "p95_latency_s", "stage": "embeddings", "max": 1},
                  {"measure": "cost_per_document", "stage": "embeddings_late", "max": 1}],
    })  # fmt: skip
    assert [(each.name, each.max) for each in settings.ceilings] == [
        ("p95_latency_s of kind", 2), ("unanswered_share of kind", 0.1), ("unanswered_share of brief", 0.1),
        ("p95_latency_s of embeddings", 1), ("cost_per_document of embeddings_late", 1),
    ]  # fmt: skip
