"""Claims about corrections: a person's label overrides the model's, judges the model, and costs no call."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from click.testing import Result
from conftest import LABELS, STAGE, Project, project_at
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.observe import observe
from dagster._core.loader import LoadingContextForTest
from provider import Provider
from signing import correct_when_told, current, decide, somebody
from test_llm_stages import PRICED
from typer.testing import CliRunner

from ai_assets.base.home import Home
from ai_assets.cli.corrections import app
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.orchestration.automation import nightly, source_changes
from ai_assets.orchestration.component import collection_definitions
from ai_assets.orchestration.events import DATA_VERSION
from ai_assets.run.context import Outcome, Work
from ai_assets.run.explain import explain
from ai_assets.run.refresh import refresh
from ai_assets.run.status import partition_states
from ai_assets.signoff import audit, corrections, requests, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.corrections import Correction
from ai_assets.signoff.errors import CorrectionRefused, DecisionRefused
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.storage.lake import read_rows

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
DAY = DAYS[1]
BILL = "Invoice {n}. Amounts with tax: the total due is {n}50.00 EUR, and the payment terms are 30 days."
FIRE = "Report {n} on an accident. A fire broke out beside pump {n}. The cause was a leak of oil. Nobody was hurt."
DOCUMENT = f"{DAY}/bill.txt"
BRIEF = {"name": "brief", "kind": "summarise", "when": {"kind": ["incident"]}}
LATER = {**STAGE, "name": "later", "when": {"kind": ["incident"]}}
ROUTED = {**STAGE, "route": "default"}
CHAINS = {"builtin": [dict(STAGE), LATER], "route": [ROUTED, BRIEF]}


def furnished(project: Project) -> Project:
    """Three days, each with a bill and a report; the bill of each day has a golden label."""
    (project.root / "inference.yaml").write_text(PRICED)
    for n, day in enumerate(DAYS):
        project.document(f"{day}/bill.txt", BILL.format(n=n + 1))
        project.document(f"{day}/fire.txt", FIRE.format(n=n + 1))
    project.declare()
    golden = [json.dumps({"document": f"{day}/bill.txt", "label": "invoice"}) + "\n" for day in DAYS]
    (project.root / "collections/notes/labels.jsonl").write_text("".join(golden))
    return project


def declare(project: Project, stages: list[dict[str, Any]], **attributes: Any) -> Collection:
    golden = {"labels": "labels.jsonl", "labels_stage": "kind"}
    return project.declare(**{"stages": stages, "golden": golden, **attributes})


@pytest.fixture(scope="module")
def computed(rehearsal: Provider, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Project]:
    """By kind of classify stage, an office with everything computed, to be copied."""
    found = {}
    for kind, stages in CHAINS.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
            found[kind] = furnished(project_at(tmp_path_factory.mktemp(kind), patch))
            found[kind].refresh(declare(found[kind], stages))
    return found


@pytest.fixture
def office(project: Project) -> Project:
    return furnished(project)


@pytest.fixture
def notes(office: Project, computed: dict[str, Project]) -> Collection:
    """The built-in classifier, and a second one for what the first calls an incident; computed."""
    return office.copy(computed["builtin"])


@pytest.fixture(params=CHAINS)
def either(
    request: pytest.FixtureRequest, office: Project, provider: Provider, computed: dict[str, Project]
) -> Collection:
    """Either kind of classify stage, and a stage behind it; computed."""
    return office.copy(computed[request.param])


def correct(
    project: Project, collection: Collection, label: str | None = "incident", document: str = DOCUMENT, **more: Any
) -> Correction:
    stores = project.stores()
    return corrections.correct(
        stores,
        collection=collection,
        request=more.get("request") or current(stores.state, document[:10]),
        document_id=document,
        stage=more.get("stage", "kind"),
        label=label,
        reason=more.get("reason", "it is no bill"),
        by=more.get("by") or somebody("rita", "reviewer"),
    )


def rows(project: Project, asset: str, partition: str = DAY) -> dict[str, dict[str, Any]]:
    lake = project.stores().lake
    manifest = lake.manifest("notes", asset, partition)
    assert manifest is not None
    return {row["document_id"]: row for row in lake.read(manifest).to_pylist()}


def said(project: Project, asset: str = "kind", document: str = DOCUMENT) -> tuple[Any, Any, Any]:
    row = rows(project, asset, document[:10])[document]
    return row["label"], row["model_label"], row["corrected_by"]


def calls(project: Project) -> int:
    """Attempts at asking a model, whatever came of them."""
    with project.stores().state.read() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM attempts")).scalar_one())


def records(project: Project, action: str) -> list[audit.Record]:
    with project.stores().state.read() as connection:
        return [record for record in audit.records(connection) if record.action == action]


def made(outcomes: list[Outcome]) -> set[tuple[str, str]]:
    """What was not unchanged, by partition and asset."""
    return {(o.manifest.partition, o.manifest.asset) for o in outcomes if not o.unchanged}


# The label


def test_a_correction_is_the_label_beside_the_model_s_own_and_later_stages_follow_it(
    office: Project, either: Collection
) -> None:
    behind = either.stages[1].name
    assert said(office) == ("invoice", "invoice", None)
    assert DOCUMENT not in rows(office, behind)
    confidence = rows(office, "kind")[DOCUMENT]["confidence"]
    correct(office, either)
    office.refresh(either)
    assert said(office) == ("incident", "invoice", "rita")
    assert said(office, document=f"{DAY}/fire.txt") == ("incident", "incident", None)
    assert rows(office, "kind")[DOCUMENT]["confidence"] == confidence
    assert DOCUMENT in rows(office, behind)


def test_only_the_corrected_partition_and_stage_and_what_follows_are_computed(
    office: Project, either: Collection
) -> None:
    correct(office, either)
    found = made(office.refresh(either))
    follows = ("kind", either.stages[1].name, "evaluation_scores", "release_candidate")
    assert found == {(DAY, asset) for asset in follows}
    assert made(office.refresh(either)) == set()


def test_a_correction_of_the_second_stage_leaves_the_first_alone(office: Project, notes: Collection) -> None:
    correct(office, notes, "invoice", f"{DAY}/fire.txt", stage="later")
    assert made(office.refresh(notes)) == {(DAY, "later"), (DAY, "evaluation_scores"), (DAY, "release_candidate")}
    assert said(office, "later", f"{DAY}/fire.txt") == ("invoice", "incident", "rita")


def test_no_model_is_asked_because_of_a_correction(office: Project, provider: Provider) -> None:
    collection = declare(office, [ROUTED])
    provider.script([{"match": "Report 2 on an accident", "fault": "content_filter", "times": None}])
    office.refresh(collection)
    assert rows(office, "kind")[f"{DAY}/fire.txt"]["status"] == "quarantined"
    asked = calls(office)
    correct(office, collection)
    correct(office, collection, document=f"{DAY}/fire.txt")
    office.refresh(collection)
    office.refresh(collection)
    assert calls(office) == asked
    assert said(office, document=f"{DAY}/fire.txt") == ("incident", None, "rita")
    row = rows(office, "kind")[f"{DAY}/fire.txt"]
    assert row["status"] == "ok"
    assert row["reason"].startswith("refused: ")


def test_a_corrected_row_without_an_answer_is_not_asked_again_where_answers_expire(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [{**ROUTED, "reuse_for": "1d"}])
    provider.script([{"match": "Report 2 on an accident", "fault": "content_filter", "times": None}])
    office.refresh(collection)
    correct(office, collection, document=f"{DAY}/fire.txt")
    asked = calls(office)
    office.refresh(collection)
    assert calls(office) == asked


def test_a_label_taken_back_from_a_row_without_an_answer_is_asked_for_again(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [ROUTED])
    provider.script([{"match": "Report 2 on an accident", "fault": "content_filter", "times": None}])
    office.refresh(collection)
    correct(office, collection, document=f"{DAY}/fire.txt")
    office.refresh(collection)
    provider.script([])
    correct(office, collection, None, f"{DAY}/fire.txt")
    office.refresh(collection)
    assert said(office, document=f"{DAY}/fire.txt") == ("incident", "incident", None)


def test_taking_back_brings_the_rows_back_as_they_were(office: Project, either: Collection) -> None:
    before = rows(office, "kind")
    candidate = current(office.stores().state, DAY).digest
    correct(office, either)
    office.refresh(either)
    assert current(office.stores().state, DAY).digest != candidate
    taken = correct(office, either, None)
    assert (taken.number, taken.label, taken.was) == (2, None, "incident")
    assert partition_states(either, office.stores())[DAY] == "stale"
    office.refresh(either)
    assert rows(office, "kind") == before
    assert current(office.stores().state, DAY).digest == candidate
    with office.stores().state.read() as connection:
        assert corrections.current(connection, "notes") == {}
        assert [item.label for item in corrections.history(connection, "notes", DOCUMENT)] == ["incident", None]
        assert corrections.digest_of(connection, "notes", DAY) == ""


def test_another_text_ends_a_correction(office: Project, either: Collection) -> None:
    correct(office, either)
    office.refresh(either)
    office.document(DOCUMENT, BILL.format(n=77))
    office.refresh(either)
    assert said(office) == ("invoice", "invoice", None)
    correct(office, either)  # somebody looked at the new text
    office.refresh(either)
    assert said(office) == ("incident", "invoice", "rita")


def test_a_title_that_changes_alone_keeps_the_correction(office: Project) -> None:
    tables = {"csv": {"key": "id", "text": ["body"], "title": "title"}}
    collection = declare(office, [dict(STAGE)], source={"path": "documents", "tables": tables})
    table = "id,title,body\n1,{},The total due is 50.00 EUR with tax.\n"
    office.document(f"{DAY}/t.csv", table.format("Invoice"))
    office.refresh(collection)
    correct(office, collection, "incident", f"{DAY}/t.csv#1")
    office.document(f"{DAY}/t.csv", table.format("Bill"))
    office.refresh(collection)
    assert said(office, document=f"{DAY}/t.csv#1") == ("incident", "invoice", "rita")


def test_a_correction_to_a_label_that_is_declared_no_more_does_not_apply(office: Project, notes: Collection) -> None:
    correct(office, notes)
    office.refresh(notes)
    labels = [LABELS[0], {**LABELS[1], "name": "accident"}]
    renamed = declare(office, [{**STAGE, "labels": labels}])
    office.refresh(renamed)
    assert said(office) == ("invoice", "invoice", None)


def test_confirming_the_model_s_label_is_recorded_and_says_who(office: Project, notes: Collection) -> None:
    correct(office, notes, "invoice")
    office.refresh(notes)
    assert said(office) == ("invoice", "invoice", "rita")


# Golden


def accuracy(project: Project, partition: str = DAY, scope: str = "corpus") -> tuple[float, int]:
    manifest = project.stores().lake.manifest("notes", "evaluation_scores", partition)
    assert manifest is not None
    (score,) = (s for s in manifest.stats["scores"] if (s["metric"], s["scope"]) == ("accuracy", scope))
    return score["value"], score["n"]


def test_a_correction_judges_the_model_by_its_own_answer(office: Project, either: Collection) -> None:
    assert accuracy(office) == (1.0, 3)
    correct(office, either, "invoice", f"{DAY}/fire.txt")
    office.refresh(either)
    assert accuracy(office) == (0.75, 4)
    assert accuracy(office, scope="partition") == (0.5, 2)
    manifest = office.stores().lake.manifest("notes", "evaluation_scores", DAY)
    assert manifest is not None
    assert manifest.stats["details"]["mislabelled"] == [
        {"document": f"{DAY}/fire.txt", "golden": "invoice", "label": "incident", "by": "rita"}
    ]


def test_a_correction_stands_before_the_golden_file(office: Project, notes: Collection) -> None:
    correct(office, notes)
    office.refresh(notes)
    assert accuracy(office) == (pytest.approx(2 / 3), 3)


def test_a_correction_of_another_stage_is_not_judged(office: Project, notes: Collection) -> None:
    correct(office, notes, "invoice", f"{DAY}/fire.txt", stage="later")
    office.refresh(notes)
    assert accuracy(office) == (1.0, 3)


def test_a_document_that_the_prompt_shows_judges_nothing_even_when_corrected(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [{**ROUTED, "examples": [DOCUMENT]}])
    office.refresh(collection)
    assert accuracy(office) == (1.0, 2)
    correct(office, collection)
    office.refresh(collection)
    assert accuracy(office) == (1.0, 2)


def told(arguments: list[str]) -> Result:
    return CliRunner().invoke(app, arguments)


def test_corrections_are_listed_and_exported_as_a_golden_file(office: Project, notes: Collection) -> None:
    correct(office, notes)
    correct(office, notes, document=f"{DAYS[0]}/bill.txt", reason="see [the] letter")
    office.refresh(notes)
    office.document(f"{DAYS[0]}/bill.txt", BILL.format(n=9))
    office.refresh(notes)
    listed = told(["list", "notes", "--json"])
    assert {item["document_id"]: item["text_unchanged"] for item in json.loads(listed.stdout)} == {
        DOCUMENT: True, f"{DAYS[0]}/bill.txt": False,
    }  # fmt: skip
    shown = told(["list", "notes"])
    assert "see [the] letter" in " ".join(shown.stdout.split())
    exported = told(["export", "notes"])
    assert [json.loads(line) for line in exported.stdout.splitlines()] == [
        {"document": DOCUMENT, "label": "incident", "author": "rita"}
    ]
    (office.root / "collections/notes/own.jsonl").write_text(exported.stdout)
    reread = declare(office, [dict(STAGE)], golden={"labels": "own.jsonl"})
    assert [(item.document, item.author) for item in reread.golden_labels] == [(DOCUMENT, "rita")]


def test_an_export_of_several_stages_asks_which(office: Project, notes: Collection) -> None:
    declare(office, [dict(STAGE), LATER], golden={})
    assert told(["export", "notes"]).exit_code == 2
    assert told(["export", "notes", "--stage", "kid"]).exit_code == 2
    assert told(["export", "notes", "--stage", "kind"]).exit_code == 0


# What people sign and what is published


def test_a_release_says_who_corrected_what_the_model_said(office: Project, either: Collection) -> None:
    stores = office.stores()
    decide(stores.state, either)
    publish(either, stores, by="test")
    first = current(stores.state, DAY)
    correct(office, either)
    office.refresh(either)
    asked = current(stores.state, DAY)
    assert (asked.status, asked.number) == ("open", first.number + 1)
    assert {"stage": "kind", "from": "invoice", "to": "incident"} in asked.changes["relabelled"][DOCUMENT]
    decide(stores.state, either)
    release = publish(either, stores, by="test").release
    documents, _ = snapshot_paths(stores.lake, "notes", DAY, release.parts[DAY])
    (row,) = (row for row in read_rows(documents) if row["document_id"] == DOCUMENT)
    assert (row["kind_label"], row["kind_model_label"], row["kind_corrected_by"]) == ("incident", "invoice", "rita")
    found = explain(either, stores, DOCUMENT)
    assert (found["current"]["kind.corrected_by"], found["live"]["kind"]) == ("rita", "incident")


def test_a_correction_voids_the_approval_of_what_it_corrects_and_of_nothing_else(
    office: Project, notes: Collection
) -> None:
    stores = office.stores()
    decide(stores.state, notes)
    correct(office, notes)
    office.refresh(notes)
    with stores.state.read() as connection:
        found = {(r.partition, r.status) for r in requests.find(connection, "notes")}
    assert found == {(DAYS[0], "approved"), (DAY, "void"), (DAY, "open"), (DAYS[2], "approved")}


# Staleness


def test_a_correction_makes_exactly_its_partition_stale(office: Project, notes: Collection) -> None:
    assert set(partition_states(notes, office.stores()).values()) == {"awaiting sign-off"}
    correct(office, notes)
    states = partition_states(notes, office.stores())
    assert {day: state for day, state in states.items() if state == "stale"} == {DAY: "stale"}
    office.refresh(notes, [DAY])
    assert partition_states(notes, office.stores())[DAY] == "awaiting sign-off"


def test_a_correction_taken_back_before_a_run_leaves_nothing_to_do(office: Project, notes: Collection) -> None:
    correct(office, notes)
    correct(office, notes, None)
    assert set(partition_states(notes, office.stores()).values()) == {"awaiting sign-off"}


def test_a_correction_made_while_its_partition_is_computed_is_for_the_next_run(
    office: Project, notes: Collection
) -> None:
    office.document(f"{DAY}/fire.txt", FIRE.format(n=8))
    with office.work(notes) as work:
        for event in refresh(work, [DAY]):
            if isinstance(event, Outcome) and event.manifest.asset == "documents":
                correct(office, notes)
    assert said(office) == ("invoice", "invoice", None)
    assert partition_states(notes, office.stores())[DAY] == "stale"
    office.refresh(notes, [DAY])
    assert said(office) == ("incident", "invoice", "rita")


@pytest.fixture
def fresh(office: Project) -> Collection:
    """As `notes`, and not computed: Dagster shall see all of it."""
    return declare(office, [dict(STAGE), LATER])


@pytest.fixture
def opened(office: Project) -> Iterator[dg.DagsterInstance]:
    with office.instance() as instance:
        yield instance


def ticked(collection: Collection, instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    with dg.build_sensor_context(instance=instance) as context:
        found = source_changes(collection)(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def test_the_sensor_and_the_schedule_ask_for_exactly_the_corrected_partition(
    office: Project, notes: Collection, opened: dg.DagsterInstance
) -> None:
    assert isinstance(ticked(notes, opened), dg.SkipReason)
    correct(office, notes)
    found = ticked(notes, opened)
    assert isinstance(found, dg.SensorResult)
    assert [(r.tags[RANGE_START], r.tags[RANGE_END]) for r in found.run_requests or []] == [(DAY, DAY)]
    with office.stores().state.read() as connection:
        digest = corrections.digest_of(connection, "notes", DAY)
    events = {event.asset_key.path[-1]: event for event in found.asset_events or []}
    assert (events["corrections"].partition, events["corrections"].tags[DATA_VERSION]) == (DAY, digest)
    scheduled = declare(office, [dict(STAGE), LATER], schedule={})
    (schedule,) = nightly(scheduled)
    with dg.build_schedule_context(instance=opened) as context:
        asked = schedule(context)
    assert isinstance(asked, list)
    assert [(r.tags[RANGE_START], r.tags[RANGE_END]) for r in asked] == [(DAY, DAY)]
    office.refresh(notes, [DAY])
    assert isinstance(ticked(notes, opened), dg.SkipReason)


def stale(instance: dg.DagsterInstance, collection: Collection) -> set[tuple[str, str]]:
    """Assets and partitions that the UI would not show as fresh."""
    graph = collection_definitions(collection).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return {
        (asset, day)
        for asset in collection.asset_names
        for day in DAYS[1:]
        if resolver.get_status(dg.AssetKey(["notes", asset]), day) != StaleStatus.FRESH
    }


def observed(collection: Collection, instance: dg.DagsterInstance) -> None:
    defs = collection_definitions(collection)
    observe([asset for asset in defs.assets or [] if isinstance(asset, dg.SourceAsset)], instance=instance)


BOTH = {RANGE_START: DAY, RANGE_END: DAYS[2]}
ONE = {RANGE_START: DAY, RANGE_END: DAY}


@pytest.mark.slow
def test_dagster_shows_the_stage_as_stale_after_a_correction_and_fresh_after_the_run(
    office: Project, fresh: Collection, opened: dg.DagsterInstance
) -> None:
    assert office.execute(opened, fresh, "notes", **BOTH).success
    observed(fresh, opened)
    assert stale(opened, fresh) == set()
    for label in ("incident", None):
        correct(office, fresh, label)
        observed(fresh, opened)
        # The other stage has the same corrections before it in the graph; its run computes nothing.
        assert stale(opened, fresh) == {("kind", DAY), ("later", DAY)}
        assert office.execute(opened, fresh, "notes", **ONE).success
        assert stale(opened, fresh) == set()


@pytest.mark.slow
def test_a_run_tells_dagster_of_corrections_that_nobody_observed(
    office: Project, fresh: Collection, opened: dg.DagsterInstance
) -> None:
    assert office.execute(opened, fresh, "notes", **ONE).success
    correct(office, fresh)
    for tags in (BOTH, ONE):
        assert office.execute(opened, fresh, "notes", **tags).success
        assert stale(opened, fresh) == set()
        observations = opened.fetch_observations(dg.AssetKey(["notes", "corrections"]), limit=10).records
        assert [record.partition_key for record in observations] == [DAY]
    observed(fresh, opened)
    assert stale(opened, fresh) == set()
    (event,) = opened.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(["notes", "kind"]), asset_partitions=[DAY]), limit=1
    ).records
    assert event.asset_materialization is not None
    assert "dagster/input_data_version/notes/corrections" in (event.asset_materialization.tags or {})


def test_a_collection_without_labels_has_no_corrections_in_its_graph(office: Project) -> None:
    bare = office.declare()
    keys = {spec.key.path[-1] for spec in collection_definitions(bare).resolve_all_asset_specs()}
    assert "corrections" not in keys


# Learning


def models(project: Project) -> set[str]:
    return {row["model"] for day in DAYS for row in rows(project, "kind", day).values()}


def test_the_newest_corrections_are_shown_to_a_model_that_learns(office: Project, provider: Provider) -> None:
    collection = declare(office, [{**ROUTED, "learn": 1}])
    office.refresh(collection)
    asked = calls(office)
    correct(office, collection, document=f"{DAYS[0]}/bill.txt")
    correct(office, collection)
    assert set(partition_states(collection, office.stores()).values()) == {"stale"}
    with office.stores().state.read() as connection:
        lessons = corrections.in_force(connection, collection).taught["kind"]
    assert [item.document_id for item in lessons] == [DOCUMENT]
    office.refresh(collection)
    assert calls(office) == asked + 6  # another question about every document
    assert said(office) == ("incident", "invoice", "rita")
    assert made(office.refresh(collection)) == set()
    assert accuracy(office) == (pytest.approx(1 / 2), 2)  # the bill of the second day teaches, that of the first judges


def test_what_a_prompt_shows_of_a_correction_is_its_text_and_label(office: Project, provider: Provider) -> None:
    collection = declare(
        office, [{**ROUTED, "learn": 5, "examples": [DOCUMENT]}], gates=[{"metric": "answered_share", "min": 0}]
    )
    office.refresh(collection)
    correct(office, collection)
    correct(office, collection, "invoice", f"{DAY}/fire.txt")
    shown = "30 days.\n</document>\nThe label of this document is: incident"
    provider.script([{"match": shown, "fault": "content_filter", "times": None}])
    office.refresh(collection)
    reasons = [row["reason"] for day in DAYS for row in rows(office, "kind", day).values()]
    assert [reason[:8] for reason in reasons] == ["refused:"] * 6


def test_the_built_in_classifier_learns_phrases(office: Project) -> None:
    collection = declare(office, [{**STAGE, "learn": 3}])
    office.refresh(collection)
    before = models(office)
    correct(office, collection)
    assert set(partition_states(collection, office.stores()).values()) == {"stale"}
    office.refresh(collection)
    assert len(models(office)) == 1
    assert models(office).isdisjoint(before)
    correct(office, collection, None)
    office.refresh(collection)
    assert models(office) == before


def test_a_lesson_whose_text_changed_or_is_gone_teaches_nothing(office: Project) -> None:
    collection = declare(office, [{**STAGE, "learn": 3}])
    office.refresh(collection)
    before = models(office)
    correct(office, collection)
    office.document(DOCUMENT, BILL.format(n=77))
    office.refresh(collection)
    assert models(office) == before
    (office.root / f"collections/notes/documents/{DOCUMENT}").unlink()
    office.refresh(collection)
    assert models(office) == before


def test_dagster_shows_every_partition_as_stale_where_a_stage_learns(
    office: Project, opened: dg.DagsterInstance
) -> None:
    collection = declare(office, [{**STAGE, "learn": 3}])
    assert office.execute(opened, collection, "notes", **BOTH).success
    correct(office, collection)
    observed(collection, opened)
    assert stale(opened, collection) == {("kind", DAY), ("kind", DAYS[2])}
    assert office.execute(opened, collection, "notes", **BOTH).success
    assert stale(opened, collection) == set()


# What is refused


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"stage": "kid"}, "notes has no classify stage 'kid'; did you mean 'kind'?"),
    ({"label": "invoise"}, "'invoise' is no label of 'kind'; did you mean 'invoice'?"),
    ({"document": f"{DAY}/bil.txt"}, f"it is not in the candidate of {DAY}; did you mean '{DOCUMENT}'?"),
    ({"stage": "later"}, f"stage 'later' says nothing of it in the candidate of {DAY}"),
    ({"label": None}, "it has no correction of 'kind' to take back"),
]


def test_what_is_not_there_cannot_be_corrected(office: Project, notes: Collection) -> None:
    for change, says in WRONG:
        with pytest.raises(CorrectionRefused) as refused:
            correct(office, notes, **change)
        assert str(refused.value).endswith(f"was not corrected: {says}")
    assert records(office, "corrected") == []


def test_a_stage_without_labels_cannot_be_corrected(office: Project, provider: Provider) -> None:
    collection = declare(office, [ROUTED, BRIEF])
    office.refresh(collection)
    with pytest.raises(CorrectionRefused, match="has no classify stage 'brief'"):
        correct(office, collection, stage="brief")


def test_a_request_of_another_collection_or_without_files_is_refused(office: Project, notes: Collection) -> None:
    asked = current(office.stores().state, DAY)
    gone = replace(asked, summary=json.dumps({**asked.changes, "files": {"documents_file": "gone.parquet"}}))
    for request, says in (
        (replace(asked, collection="other"), "has no candidate of notes"),
        (replace(asked, summary="{}"), "has no candidate of notes"),
        (gone, "are gone; look at a newer one"),
    ):
        with pytest.raises(CorrectionRefused, match=says):
            correct(office, notes, request=request)


def test_a_correction_takes_the_role_reviewer_in_that_collection(office: Project, notes: Collection) -> None:
    for person in (somebody("vic", "viewer"), Person(name="vic", roles={"other": "admin"})):
        with pytest.raises(DecisionRefused, match="correcting a label takes the role reviewer in notes"):
            correct(office, notes, by=person)
    assert records(office, "corrected") == []


# The trail


def test_a_correction_and_its_record_say_the_same(office: Project, notes: Collection) -> None:
    found = correct(office, notes, reason=" a fire\0 ")
    (record,) = records(office, "corrected")
    assert record.actor == found.author == "rita"
    assert dict(record.subject) == {
        "collection": "notes", "partition": DAY, "request_id": current(office.stores().state, DAY).request_id,
        "document": DOCUMENT, "stage": "kind", "number": 1, "label": "incident", "was": "invoice",
        "document_digest": rows(office, "documents")[DOCUMENT]["digest"], "reason": "a fire\ufffd",
    }  # fmt: skip
    verification.verify(office.stores().state)


def test_the_same_word_twice_is_recorded_once(office: Project, notes: Collection) -> None:
    first = correct(office, notes)
    assert correct(office, notes, by=somebody("bob", "reviewer")) == first
    taken = correct(office, notes, None)
    assert correct(office, notes, None) == taken
    assert [record.subject["number"] for record in records(office, "corrected")] == [1, 2]


TAMPERED = [
    "UPDATE corrections SET label = 'invoice'",
    "UPDATE corrections SET author = 'ann'",
    "INSERT INTO corrections SELECT collection, stage, document_id, 2, partition, document_digest, 'invoice', was, "
    "author, reason, made_at FROM corrections",
    "DELETE FROM corrections",
]


def test_verify_finds_a_correction_that_was_tampered_with(office: Project, notes: Collection) -> None:
    made_row = vars(correct(office, notes))
    state = office.stores().state
    for statement in TAMPERED:
        verification.verify(state)
        with state.write() as connection:
            connection.execute(sa.text(statement))
        with pytest.raises(AuditBroken, match=r"correction [12] of kind of 2026-10-06/bill\.txt"):
            verification.verify(state)
        with state.write() as connection:
            connection.execute(sa.text("DELETE FROM corrections"))
            connection.execute(sa.insert(corrections.TABLE).values(made_row))


@pytest.fixture
def corrector(processes: ForkServerContext, office: Project, notes: Collection) -> Callable[[str, str], Any]:
    """Somebody in a process of their own, ready to say what is right."""

    def start(name: str, label: str) -> Any:
        line, other = processes.Pipe()
        process = processes.Process(
            target=correct_when_told, args=(office.home, notes, DAY, DOCUMENT, name, label, other)
        )
        process.start()
        assert line.recv() == "ready"
        return process, line

    return start


def test_two_people_at_once_are_both_recorded_and_the_later_counts(
    office: Project, notes: Collection, corrector: Callable[[str, str], Any]
) -> None:
    people = [corrector("ann", "incident"), corrector("bob", "invoice")]
    for _, line in people:
        line.send("go")
    for process, _ in people:
        process.join(60)
        assert process.exitcode == 0
    first, second = records(office, "corrected")
    assert {first.actor, second.actor} == {"ann", "bob"}
    with office.stores().state.read() as connection:
        (found,) = corrections.current(connection, "notes").values()
    assert (found.number, found.author, found.label) == (2, second.actor, second.subject["label"])
    verification.verify(office.stores().state)


def test_somebody_who_dies_before_the_end_has_said_nothing(
    office: Project, notes: Collection, corrector: Callable[[str, str], Any]
) -> None:
    stores = office.stores()
    process, line = corrector("ann", "incident")
    with stores.state.write():  # nobody else can finish while this is open
        line.send("go")
        process.join(0.3)
        assert process.is_alive()
        process.kill()
        process.join(60)
    assert records(office, "corrected") == []
    with stores.state.read() as connection:
        assert corrections.history(connection, "notes", DOCUMENT) == []
    assert correct(office, notes).number == 1
    verification.verify(stores.state)


def test_both_kinds_of_state_store_keep_corrections(
    office: Project, notes: Collection, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", state_url)
    home = Home.from_environment()
    elsewhere = replace(office, home=home)
    with Work(notes, elsewhere.stores(), "run") as work:
        list(refresh(work, DAYS))
    correct(elsewhere, notes)
    correct(elsewhere, notes, document=f"{DAYS[0]}/bill.txt")
    correct(elsewhere, notes, None, document=f"{DAYS[0]}/bill.txt")
    with elsewhere.stores().state.read() as connection:
        assert list(corrections.current(connection, "notes")) == [("kind", DOCUMENT)]
        assert corrections.in_force(connection, notes).places == [DAYS[0], DAY]
        assert corrections.digest_of(connection, "notes", DAYS[0]) == ""
    states = partition_states(notes, elsewhere.stores())
    assert [day for day, state in states.items() if state == "stale"] == [DAY]
    verification.verify(elsewhere.stores().state)


# Upgrading


def test_datasets_from_before_corrections_are_made_again_and_nothing_is_paid(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [ROUTED])
    office.refresh(collection)
    stores, asked = office.stores(), calls(office)
    for day in DAYS:
        manifest = stores.lake.manifest("notes", "kind", day)
        assert manifest is not None
        stats = {name: value for name, value in manifest.stats.items() if name != "corrected"}
        stores.lake.commit(
            "notes", "kind", day, stores.lake.read(manifest).drop_columns(["model_label", "corrected_by"]),
            code_version="before", fingerprint="before", inputs={"documents": manifest.inputs["documents"]},
            stats=stats, run_id="before", fenced=contextlib.nullcontext,
        )  # fmt: skip
    office.refresh(collection, [DAY])  # the other days still are as they were, and are judged too
    assert accuracy(office) == (1.0, 3)
    office.refresh(collection)
    assert calls(office) == asked
    assert said(office) == ("invoice", "invoice", None)
