"""What a plan counts is what a run then does: kept, paid already, new, unknown; and it writes nothing at all."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project, text_of
from engines import rows
from provider import Provider

from ai_assets.collection.errors import PartitionUnknown
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference.errors import PriceUnknown
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.plan import Plan, StagePlan, StageUnknown, plan
from ai_assets.run.refresh import refresh
from ai_assets.storage.stores import Stores

DAY, NEXT = "2026-10-05", "2026-10-06"
BILL = "Invoice {n}. Amounts with tax: the total due is {n}50.00 EUR, and the payment terms are 30 days."
FIRE = "Report {n} on an accident. A fire broke out beside pump {n}. The cause was a leak of oil. Nobody was hurt."
PRICED = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
  large: {base_url: rehearsal, model: maxi, prices: [{from: 2026-01-01, input: 10, output: 20}]}
  vectors: {base_url: rehearsal, model: vectors, prices: [{from: 2026-01-01, input: 0.1}]}
routes:
  default: {endpoints: [small]}
  careful: {endpoints: [small, large]}
retries: {all: {server_error: {attempts: 2, base_s: 0}}}
"""
LABELS = [
    {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    {"name": "incident", "description": "A report on an accident, a fire, a leak or an outage, and its cause."},
]
KIND: dict[str, Any] = {"name": "kind", "kind": "classify", "route": "default", "labels": LABELS, "prompt": "kind.md"}
BRIEF: dict[str, Any] = {"name": "brief", "kind": "summarise", "when": {"kind": ["incident"]}}
PROMPT = "---\nversion: {version}\nauthor: ann\n---\n## user\n<document>{{{{ document.text }}}}</document>\n{ask}\n"


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    (project.root / "inference.yaml").write_text(PRICED)
    (project.root / "collections" / "notes").mkdir()
    prompt(project, "Which kind is it?")
    for n in range(3):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    project.document(f"{NEXT}/bill-9.txt", BILL.format(n=9))
    return project


def prompt(project: Project, ask: str, version: int = 1) -> None:
    path = project.root / "collections" / "notes" / "kind.md"
    path.write_text(PROMPT.format(version=version, ask=ask))


def inference(project: Project) -> InferenceSettings:
    return load_inference(project.home.inference)


def planned(project: Project, collection: Collection, **more: Any) -> Plan:
    with project.stores() as stores:
        return plan(collection, stores, inference(project), **more)


def stage(found: Plan, name: str = "kind") -> StagePlan:
    return next(each for each in found.stages if each.stage == name)


def counts(found: StagePlan) -> tuple[int, int, int, int]:
    return found.kept, found.reused, found.new_calls, found.unknown


def run(project: Project, collection: Collection, run_id: str = "run") -> None:
    with project.work(collection, run_id) as work:
        for _ in refresh(work, sorted(work.listing.by_partition)):
            pass


def calls(project: Project) -> int:
    return len(rows(project.home.state_url, "SELECT 1 FROM attempts"))


def test_before_the_first_run_everything_is_new(office: Project) -> None:
    found = planned(office, office.declare(stages=[KIND, BRIEF]))
    assert found.partitions[DAY] == found.partitions[NEXT] == "missing"
    assert found.planned == [DAY, NEXT]
    assert found.documents == {"ok": 7}
    assert counts(stage(found)) == (0, 0, 7, 0)
    assert counts(stage(found, "brief")) == (0, 0, 4, 7)  # half of the labels, before any is known
    assert (stage(found, "brief").calls.low, stage(found, "brief").calls.high) == (0, 7)


def test_input_tokens_are_the_very_ones_the_rehearsal_provider_bills(office: Project, provider: Provider) -> None:
    collection = office.declare(stages=[KIND])
    found = stage(planned(office, collection))
    run(office, collection)
    assert found.tokens_from == "the model's tokenizer"
    assert found.input_tokens == provider.stats()["tokens"]["input"]


def test_a_document_without_a_row_is_not_one_whose_column_is_empty(office: Project) -> None:
    """An earlier stage passed it by, so nothing of that stage holds of it: in a plan as in a run."""
    run(office, office.declare(stages=[KIND, BRIEF]))
    silent = {"name": "silent", "kind": "summarise", "when": {"brief": {"text": {"empty": True}}}}
    collection = office.declare(stages=[KIND, BRIEF, silent])
    assert counts(stage(planned(office, collection), "silent")) == (0, 0, 0, 0)
    before = calls(office)
    run(office, collection, "again")
    assert calls(office) == before


def test_what_is_up_to_date_asks_nothing(office: Project) -> None:
    collection = office.declare(stages=[KIND, BRIEF])
    run(office, collection)
    found = planned(office, collection)
    assert (found.planned, found.money.high_nusd, found.new_calls) == ([], 0, 0)
    named = planned(office, collection, partitions=[DAY])
    assert [counts(each) for each in named.stages] == [(6, 0, 0, 0), (3, 0, 0, 0)]
    assert named.money.high_nusd == 0


def test_one_changed_document_is_one_new_question(office: Project) -> None:
    collection = office.declare(stages=[KIND])
    run(office, collection)
    office.document(f"{DAY}/bill-0.txt", BILL.format(n=77))
    found = planned(office, collection)
    assert found.planned == [DAY]
    assert counts(stage(found)) == (5, 0, 1, 0)


def test_answers_of_a_lost_lake_are_paid_already_and_decide_what_follows(office: Project, provider: Provider) -> None:
    collection = office.declare(stages=[KIND, BRIEF])
    run(office, collection)
    with office.stores() as stores:
        for asset in ("kind", "brief"):
            for day in (DAY, NEXT):
                (stores.lake.folder("notes", asset, day) / "manifest.json").unlink()
    found = planned(office, collection)
    assert [counts(each) for each in found.stages] == [(0, 7, 0, 0), (0, 3, 0, 0)]
    (paid,) = rows(office.home.state_url, "SELECT sum(cost_nusd) AS nusd FROM attempts")
    assert found.already_nusd == paid.nusd
    provider.reset()
    run(office, collection, "again")
    assert provider.stats()["calls"] == 0


def test_after_an_edited_prompt_rows_of_kept_labels_are_kept(office: Project) -> None:
    collection = office.declare(stages=[KIND, BRIEF])
    run(office, collection)
    prompt(office, "Of which kind is it?", version=2)
    found = planned(office, load_collection(office.root / "collections", "notes"))
    assert counts(stage(found))[:3] == (0, 0, 7)
    assert stage(found).output_from == "7 answers of earlier prompts of this stage"
    brief = stage(found, "brief")
    assert brief.kept == 3  # a label that stays leads to the same question
    assert brief.calls.likely < 2


def test_an_edit_that_is_taken_back_is_paid_already(office: Project) -> None:
    collection = office.declare(stages=[KIND])
    run(office, collection)
    prompt(office, "Of which kind is it?", version=2)
    run(office, load_collection(office.root / "collections", "notes"), "second")
    prompt(office, "Which kind is it?")
    found = planned(office, load_collection(office.root / "collections", "notes"))
    assert counts(stage(found)) == (0, 7, 0, 0)
    assert found.money.high_nusd == 0


def test_a_text_that_recurs_is_paid_for_once(office: Project, provider: Provider) -> None:
    office.document(f"{NEXT}/copy.txt", BILL.format(n=1) + "\n")
    collection = office.declare(stages=[KIND])
    found = stage(planned(office, collection))
    run(office, collection)
    assert found.documents == 8
    assert found.new_calls == calls(office) == 7
    assert found.reused == 1


def test_a_call_that_waits_for_a_person_is_held(office: Project, provider: Provider) -> None:
    nothing_needed = [{"metric": "answered_share", "min": 0}]
    collection = office.declare(stages=[{**KIND, "on_ambiguous": "hold"}], gates=nothing_needed)
    provider.script([{"match": "Invoice 9.", "fault": "garbage", "times": 9}])
    run(office, collection)
    found = planned(office, collection, partitions=[DAY, NEXT])
    assert (stage(found).held, stage(found).new_calls) == (1, 0)
    assert any("may have been billed" in note for note in found.notes)


def test_answers_that_have_expired_are_asked_again(office: Project) -> None:
    collection = office.declare(stages=[{**KIND, "reuse_for": "1d"}])
    run(office, collection)
    with office.stores() as stores, stores.state.write() as connection:
        connection.execute(
            sa.text("UPDATE attempts SET ended_at = '2026-01-01T00:00:00.000+00:00' WHERE document LIKE '%fire%'")
        )
    found = stage(planned(office, collection, partitions=[DAY, NEXT]))
    assert (found.reused, found.new_calls) == (4, 3)


def test_passages_are_counted_like_questions(office: Project) -> None:
    collection = office.declare(embedding={"route": "vectors", "dimensions": 256})
    first = stage(planned(office, collection), "embeddings")
    run(office, collection)
    assert first.new_calls == calls(office) == 7
    office.document(f"{DAY}/bill-0.txt", BILL.format(n=77))
    again = stage(planned(office, collection), "embeddings")
    assert (again.kept, again.reused, again.new_calls) == (5, 0, 1)


def test_many_unread_files_are_estimated_from_some(office: Project) -> None:
    for n in range(260):
        office.document(f"{NEXT}/more-{n}.txt", text_of(n))
    collection = office.declare(stages=[KIND])
    found = planned(office, collection)
    assert found.documents["unread"] == 167  # of 267, 100 are read
    assert counts(stage(found)) == (0, 0, 267, 167)
    before = calls(office)
    run(office, collection)
    assert calls(office) - before == 267
    (actual,) = rows(office.home.state_url, "SELECT sum(cost_nusd) AS nusd FROM attempts")
    assert found.money.low_nusd <= actual.nusd <= found.money.high_nusd
    assert abs(found.stages[0].input_tokens - _input_tokens(office)) < 0.05 * _input_tokens(office)


def _input_tokens(project: Project) -> int:
    (row,) = rows(project.home.state_url, "SELECT sum(input_tokens) AS tokens FROM attempts")
    return int(row.tokens)


def test_other_ways_cost_what_their_prices_say(office: Project) -> None:
    found = planned(office, office.declare(stages=[KIND]))
    ways = {way.name: way.money for way in found.alternatives}
    assert set(ways) == {"by batch", "large"}
    assert ways["large"].likely_nusd == 10 * found.money.likely_nusd
    assert ways["by batch"].likely_nusd == found.money.likely_nusd // 2


def test_time_is_the_slowest_of_all_limits(office: Project) -> None:
    limited = PRICED.replace("model: mini,", "model: mini, limits: {requests_per_minute: 7},")
    (office.root / "inference.yaml").write_text(limited)
    found = planned(office, office.declare(stages=[KIND]))
    assert found.seconds is not None
    assert found.seconds.likely == 60


def test_only_the_stages_that_were_asked_for(office: Project) -> None:
    collection = office.declare(stages=[KIND, BRIEF])
    found = planned(office, collection, stages=["brief"])
    assert [each.stage for each in found.stages] == ["brief"]
    with pytest.raises(StageUnknown, match=r"no stage 'brieff' that asks a model; did you mean 'brief'\?"):
        planned(office, collection, stages=["brieff"])


def test_an_unknown_partition_is_named(office: Project) -> None:
    with pytest.raises(PartitionUnknown, match="'2026-11-05' is no partition of notes"):
        planned(office, office.declare(stages=[KIND]), partitions=["2026-11-05"])


def test_a_missing_price_is_one_sentence(office: Project) -> None:
    (office.root / "inference.yaml").write_text(PRICED.replace("2026-01-01, input: 1,", "2999-01-01, input: 1,"))
    with pytest.raises(PriceUnknown, match=r"Endpoint 'small' \(model mini\) has no price for"):
        planned(office, office.declare(stages=[KIND]))


def test_a_classifier_that_runs_here_costs_nothing_and_its_labels_decide(office: Project) -> None:
    free = {"name": "kind", "kind": "classify", "labels": LABELS}
    collection = office.declare(stages=[free, BRIEF])
    first = planned(office, collection)
    assert [each.stage for each in first.stages] == ["brief"]
    assert (first.stages[0].calls.low, first.stages[0].calls.high) == (0, 7)
    run(office, collection)
    office.document(f"{DAY}/fire-9.txt", FIRE.format(n=9))
    again = stage(planned(office, collection), "brief")
    assert (again.kept, again.unknown, again.calls.high) == (3, 1, 1)


def test_both_databases_say_the_same(office: Project, store_url: str) -> None:
    elsewhere = replace(office, home=replace(office.home, declared_state_url=store_url))
    collection = elsewhere.declare(stages=[KIND, BRIEF])
    run(elsewhere, collection)
    with elsewhere.stores() as stores:
        for day in (DAY, NEXT):
            (stores.lake.folder("notes", "kind", day) / "manifest.json").unlink()
    elsewhere.document(f"{DAY}/bill-0.txt", BILL.format(n=77))
    found = planned(elsewhere, collection)
    assert [counts(each) for each in found.stages] == [(0, 6, 1, 0), (3, 0, 0, 1)]
    assert stage(found).output_from == "7 answers of this prompt"


# Budgets


def budgeted(project: Project, *budgets: str) -> None:
    listed = "".join(f"  - {{{each}}}\n" for each in budgets)
    (project.root / "inference.yaml").write_text(f"{PRICED}budgets:\n{listed}")


def test_a_budget_that_does_not_last_says_where_it_ends(office: Project) -> None:
    collection = office.declare(stages=[KIND])
    one = planned(office, collection).money.likely_nusd / 7
    with office.stores() as stores:
        reserve = _reserve_nusd(collection, stores, office)
    budgeted(office, f"name: all, limit_usd: {(reserve + 3.5 * one) / 1e9:.9f}", "name: vast, limit_usd: 5")
    found = {each.name: each for each in planned(office, collection).budgets}
    assert found["vast"].stops == "no"
    short = found["all"]
    assert (short.stops, short.partition, short.stage) == ("yes", DAY, "kind")
    assert 3 <= short.call <= 6
    assert short.calls == 6


def _reserve_nusd(collection: Collection, stores: Stores, project: Project) -> int:
    """The most that the dearest question reserves."""
    from ai_assets.planning.findings import PlanContext
    from ai_assets.planning.partition_plan import PartitionPlanner
    from ai_assets.planning.preview import PreviewWork, ReadAhead, changed_files

    with PreviewWork(collection, stores, "plan") as work:
        ahead = ReadAhead(work, {DAY: changed_files(work, DAY)})
        around = PlanContext(
            work=work, inference=inference(project), read_ahead=ahead, counters={}, past={}, labels={}, answer_bytes={}
        )
        (found,) = PartitionPlanner(around, DAY).stages()
        return max(call.reserve_nusd for call in found.calls)


def test_a_limit_that_a_person_set_stands_above_the_declared_one(office: Project) -> None:
    budgeted(office, "name: all, limit_usd: 5")
    collection = office.declare(stages=[KIND])
    with office.stores() as stores, stores.state.write() as connection:
        connection.execute(
            sa.text("INSERT INTO budget_limits VALUES ('all', 1000, 'ann', '2026-10-05T00:00:00.000+00:00', 'why')")
        )
    (found,) = planned(office, collection).budgets
    assert (found.limit_nusd, found.stops, found.call) == (1000, "yes", 1)


def test_documents_whose_own_budget_is_too_small_are_counted(office: Project) -> None:
    budgeted(office, "name: each-document, limit_usd: 0.000001, each: document")
    (found,) = planned(office, office.declare(stages=[KIND])).budgets
    assert (found.stops, found.call, found.calls) == ("yes", 7, 7)


# Nothing is written


def everything(project: Project) -> tuple[dict[str, str], dict[str, str]]:
    """A digest of every file of the home but the state store, and of every table of that."""
    names = [path for path in sorted(project.home.root.rglob("*")) if path.is_file() and "state.db" not in path.name]
    files = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}
    with project.stores() as stores, stores.state.read() as connection:
        tables = sa.inspect(connection).get_table_names()
        found = {name: repr(connection.execute(sa.text(f"SELECT * FROM {name}")).all()) for name in tables}  # noqa: S608
    return files, found


def test_nothing_is_written_and_no_model_is_called(office: Project, provider: Provider) -> None:
    collection = office.declare(stages=[KIND, BRIEF], embedding={"route": "vectors", "dimensions": 256})
    run(office, collection)
    prompt(office, "Of which kind is it?", version=2)
    office.document(f"{DAY}/bill-0.txt", BILL.format(n=77))
    office.document(f"{NEXT}/new.txt", FIRE.format(n=78))
    (Path(collection.source_path) / f"{DAY}/fire-1.txt").unlink()
    provider.reset()
    before = everything(office)
    found = planned(office, load_collection(office.root / "collections", "notes"))
    assert found.new_calls
    assert everything(office) == before
    assert provider.stats()["calls"] == 0
