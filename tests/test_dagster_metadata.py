"""What Dagster is told of datasets, checks and releases, in the event log of a real instance: each thing once, by names
that people read, and as a number only where it moves."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest
from conftest import Project
from provider import Provider
from signing import decide
from test_llm_stages import BILL, FIRE, PRICED
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection, load_collection
from ai_assets.orchestration.component import collection_definitions
from ai_assets.orchestration.published import sign_off_event

DAYS = ("2026-10-05", "2026-10-06", "2026-10-07")
RANGE = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
HASH = re.compile(r"\b[0-9a-f]{32,}\b")
Told = Mapping[str, Mapping[str, Any]]
"""By asset, or asset and check, and field: its values, in the order of the events; absent ones as None."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, rehearsal: Provider) -> Iterator[Told]:
    """Of three days, run twice with an edit between, with a broken and a repeated document, signed and published."""
    from conftest import project_at

    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("told"), patch)
        patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
        collection = furnished(project)
        with project.instance() as instance:
            for text in ("first", "second"):
                project.document(f"{DAYS[0]}/bill-0.txt", f"{BILL.format(n=1)} It is the {text} reminder.")
                result = project.execute(instance, collection, "notes", **RANGE)
                assert result.success
            decide(project.stores().state, collection)
            instance.report_runless_asset_event(sign_off_event(collection, DAYS[0], "a" * 64, "ann"))
            job = collection_definitions(collection).resolve_job_def("notes__publish")
            assert job.execute_in_process(instance=instance).success
            yield {**_materialized(instance), **_checked(instance)}


def furnished(project: Project) -> Collection:
    (project.root / "inference.yaml").write_text(PRICED)
    for day, bills in zip(DAYS, (3, 2, 1), strict=True):
        for n in range(bills):
            project.document(f"{day}/bill-{n}.txt", BILL.format(n=n + 1) + f" Of {day}.")
    project.document(f"{DAYS[0]}/fire-0.txt", FIRE.format(n=1) * 40)
    project.document(f"{DAYS[1]}/copy.txt", BILL.format(n=1) + f" Of {DAYS[1]}.")
    project.document(f"{DAYS[0]}/broken.pdf", b"%PDF-1.4 no more")
    gates = [{"metric": "accuracy", "min": 0.0}]
    golden = {"labels": "golden/labels.jsonl"}
    collection = declare(project, [KIND], golden=golden, gates=gates)
    known = [
        (f"{day}/bill-{n}.txt", "invoice") for day, bills in zip(DAYS, (3, 2, 1), strict=True) for n in range(bills)
    ]
    lines = [json.dumps({"document": name, "label": label}) for name, label in known]
    (collection.folder / "golden/labels.jsonl").write_text("\n".join(lines))
    return load_collection(project.root / "collections", "notes")


def _materialized(instance: dg.DagsterInstance) -> Told:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for key in instance.all_asset_keys():
        records = instance.fetch_materializations(key, limit=100).records
        events = [record.asset_materialization for record in reversed(records) if record.asset_materialization]
        if events and key.path[0] == "notes":
            found[key.path[-1]] = [event.metadata for event in events]
    return {name: _fields(events) for name, events in found.items()}


def _checked(instance: dg.DagsterInstance) -> Told:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in reversed(instance.get_runs()):
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            assert entry.dagster_event is not None
            check = entry.dagster_event.asset_check_evaluation_data
            found.setdefault(f"{check.asset_key.path[-1]}:{check.check_name}", []).append(check.metadata)
    return {name: _fields(events) for name, events in found.items()}


def _fields(events: list[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for event in events for name in event)
    return {name: [event.get(name) for event in events] for name in names}


def numbers(fields: Mapping[str, Any]) -> dict[str, list[float | None]]:
    """What Dagster plots."""
    plotted = (dg.IntMetadataValue, dg.FloatMetadataValue)
    return {
        name: [None if value is None else value.value for value in values]
        for name, values in fields.items()
        if any(isinstance(value, plotted) for value in values)
    }


@pytest.mark.slow
def test_every_asset_and_check_was_looked_at(told: Told) -> None:
    assert {"documents", "chunks", "embeddings", "kind", "evaluation_scores", "release_candidate"} < set(told)
    assert {"sign_off", "published", "kind:budget", "kind:answered", "evaluation_scores:gates"} < set(told)


def test_no_two_numbers_of_an_asset_or_check_say_one_thing(told: Told) -> None:
    """They moved alike over six runs of three partitions. What was nothing all the time says nothing yet."""
    alike = [
        f"{asset}: {one} and {two}"
        for asset, fields in told.items()
        for (one, first), (two, second) in itertools.combinations(numbers(fields).items(), 2)
        if first == second and any(first) and not _scores(one, two)
    ]
    assert alike == []


def _scores(one: str, two: str) -> bool:
    """Two metrics of one golden set may agree by chance."""
    return "/" in one and "/" in two


def test_no_hash_and_no_file_name_stands_where_people_read_names(told: Told) -> None:
    hashes = [
        f"{asset}: {name} is {value.value}"
        for asset, fields in told.items()
        for name, values in fields.items()
        for value in values
        if isinstance(value, dg.TextMetadataValue)
        and (HASH.search(value.text or "") or ".parquet" in (value.text or ""))
    ]
    assert hashes == []


@pytest.mark.parametrize(
    ("asset", "field"), [("kind:answered", "minimum"), ("kind:budget", "limit_usd"), ("published", "release")]
)
def test_what_does_not_move_is_text_and_not_plotted(told: Told, asset: str, field: str) -> None:
    assert all(value is None or isinstance(value, dg.TextMetadataValue) for value in told[asset].get(field, []))
    assert field not in numbers(told[asset])


@pytest.mark.parametrize("field", ["rows", "file", "documents_out", "failures", "digest", "index_version", "path"])
def test_what_another_field_says_is_not_told_again(told: Told, field: str) -> None:
    assert [asset for asset, fields in told.items() if field in fields] == []


def test_an_asset_that_asks_no_model_plots_no_money(told: Told) -> None:
    for asset in ("documents", "chunks", "embeddings"):
        assert not [name for name in numbers(told[asset]) if name.endswith("_usd")], asset
        assert {value.text for value in told[asset]["cost_summary"]} == {"free"}
    assert {"calls", "cost_usd", "usd_per_document", "reuse_share"} < set(numbers(told["kind"]))


def test_the_sample_of_documents_shows_why_one_was_quarantined(told: Told) -> None:
    samples = [sample for sample in told["documents"]["sample"] if "broken.pdf" in str(sample.records)]
    sample = samples[0]
    first = sample.records[0].data
    assert (first["document_id"], first["status"]) == (f"{DAYS[0]}/broken.pdf", "quarantined")
    assert first["reason"]
    assert {record.data["status"] for record in sample.records} == {"quarantined", "ok"}


def test_the_sentences_of_gates_are_the_description_of_their_check(told: Told) -> None:
    assert "gates" not in told["evaluation_scores:gates"]
    assert "verdicts" in told["evaluation_scores:gates"]
