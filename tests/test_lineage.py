"""Claims about lineage: events of OpenLineage of a real run, as its own classes read them, and no harm to any run."""

import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dagster_openlineage", reason="OpenLineage is not here: pip install -r tests/engines.txt")

from collector import collecting
from conftest import STAGE, Project, project_at
from dagster_openlineage.adapter import OpenLineageAdapter
from dagster_openlineage.emitter import OpenLineageEmitter
from dagster_openlineage.storage import OpenLineageEventLogStorage
from lineage_events import Event, appended_to, check_valid, completed, events_in
from openlineage.client import OpenLineageClient
from openlineage.client.transport.file import FileConfig, FileTransport
from published import published_twice
from signing import decide, known

from ai_assets.lineage import client as lineage_client
from ai_assets.run import going_live
from ai_assets.signoff import releases

DAY, OTHER = "2026-10-05", "2026-10-06"
QUALITY = {"documents": [{"expect": "expect_table_row_count_to_be_between", "min_value": 1}]}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that OpenLineage's own file transport appends to."""
    return appended_to(tmp_path / "events.jsonl", monkeypatch)


def ran(project: Project, collection: Any, *, success: bool = True) -> tuple[str, list[str]]:
    """Id of a run of one day, and what it warned of."""
    with project.instance() as instance:
        done = project.execute(instance, collection, "notes", **{"dagster/partition": DAY})
        assert done.success is success
        return done.run_id, [log.user_message for log in instance.all_logs(done.run_id) if log.level == logging.WARNING]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[Event], str]:
    """A run of a day, its events, and its id."""
    folder = tmp_path_factory.mktemp("told")
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(folder, patch)
        file = appended_to(folder / "events.jsonl", patch)
        project.documents(2, days=1)
        run_id, warned = ran(project, project.declare(stages=[STAGE], quality=QUALITY, owners=["team:papers"]))
        assert not warned
        return project, events_in(file), run_id


def test_a_run_tells_what_was_made_from_what(told: tuple[Project, list[Event], str]) -> None:
    project, events, run_id = told
    for event in events:
        check_valid(event)
    assert [each["eventType"] for each in events if each["job"]["name"] == "notes"] == ["START", "COMPLETE"]
    assert events[0]["run"]["runId"] == run_id
    made = {each["job"]["name"]: each for each in events if each["eventType"] == "COMPLETE"}
    assets = {"documents", "chunks", "embeddings", "kind", "evaluation_scores", "release_candidate"}
    assert {f"notes.{asset}" for asset in assets} - set(made) <= {"notes.evaluation_scores"}
    for asset in assets - {"evaluation_scores"}:
        event = made[f"notes.{asset}"]
        assert event["run"]["facets"]["parent"]["run"]["runId"] == run_id
        assert event["run"]["facets"]["nominalTime"]["nominalStartTime"] == f"{DAY}T00:00:00Z"
        (output,) = event["outputs"]
        assert (output["namespace"], output["name"]) == ("north", f"notes.{asset}")
        assert output["facets"]["documentation"]["description"]
        assert output["facets"]["ownership"]["owners"][0]["name"] == "team:papers"
        assert event["run"]["facets"]["ai_assets_spend"]["costUsd"] == 0
    assert [each["name"] for each in made["notes.kind"]["inputs"]] == ["notes.documents", "notes.corrections"]
    version = made["notes.documents"]["outputs"][0]["facets"]["version"]["datasetVersion"]
    assert made["notes.chunks"]["inputs"][0]["facets"]["version"]["datasetVersion"] == version
    (source,) = made["notes.documents"]["inputs"]
    place = source["facets"]["symlinks"]["identifiers"][0]
    assert (place["namespace"], place["name"]) == ("file", str(project.root / "collections" / "notes" / "documents"))


def test_columns_say_which_columns_they_are_made_from(told: tuple[Project, list[Event], str]) -> None:
    _, events, _ = told

    def origin(asset: str, column: str) -> list[tuple[str, str, str]]:
        output = completed(events, f"notes.{asset}")["outputs"][0]
        assert column in {each["name"] for each in output["facets"]["schema"]["fields"]}
        found = output["facets"]["columnLineage"]["fields"][column]["inputFields"]
        return [(each["name"], each["field"], each["transformations"][0]["subtype"]) for each in found]

    assert origin("documents", "text") == [("notes.source_files", "digest", "TRANSFORMATION")]
    assert origin("chunks", "text") == [("notes.documents", "text", "TRANSFORMATION")]
    assert origin("chunks", "document_id") == [("notes.documents", "document_id", "IDENTITY")]
    assert origin("embeddings", "vector") == [("notes.chunks", "text", "TRANSFORMATION")]
    assert origin("kind", "label") == [("notes.documents", "text", "TRANSFORMATION")]


def test_a_named_column_exists_in_what_it_is_said_to_come_from(told: tuple[Project, list[Event], str]) -> None:
    _, events, _ = told
    schemas = {
        output["name"]: {each["name"] for each in output["facets"]["schema"]["fields"]}
        for event in events
        for output in event["outputs"]
        if "schema" in output["facets"]
    }
    for event in events:
        for output in event["outputs"]:
            for column, of in output["facets"].get("columnLineage", {"fields": {}})["fields"].items():
                assert column in schemas[output["name"]]
                for each in of["inputFields"]:
                    assert each["name"] == "notes.source_files" or each["field"] in schemas[each["name"]], each


def test_a_check_is_an_assertion_on_what_it_read(told: tuple[Project, list[Event], str]) -> None:
    _, events, _ = told
    checked = completed(events, "notes.documents.quality")
    (read,) = checked["inputs"]
    assert read["name"] == "notes.documents"
    (assertion,) = read["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert (assertion["name"], assertion["success"], assertion["severity"]) == ("quality", True, "warn")


def test_what_was_unchanged_is_not_told_again(project: Project, written: Path) -> None:
    project.documents(1, days=1)
    collection = project.declare()
    ran(project, collection)
    before = len(events_in(written))
    ran(project, collection)
    later = events_in(written)[before:]
    assert {each["job"]["name"] for each in later if each["outputs"]} == set()
    assert [each["eventType"] for each in later if each["job"]["name"] == "notes"] == ["START", "COMPLETE"]


def test_a_stage_that_fails_says_why(project: Project, written: Path) -> None:
    project.documents(1, days=1)
    collection = project.declare()
    (project.home.lake / "notes").mkdir(parents=True)
    (project.home.lake / "notes" / "chunks").write_text("in the way")
    ran(project, collection, success=False)
    failed = [each for each in events_in(written) if each["eventType"] == "FAIL"]
    assert {each["job"]["name"] for each in failed} == {"notes.chunks", "notes"}
    for each in failed:
        check_valid(each)
        assert each["run"]["facets"]["errorMessage"]["message"]


@pytest.mark.parametrize(
    "trouble",
    [
        "down",
        "no file",
        "no transport",
        pytest.param("500", marks=pytest.mark.slow),
        pytest.param("hangs", marks=pytest.mark.slow),
    ],
)
def test_a_consumer_in_trouble_is_said_once_and_changes_nothing_of_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: str
) -> None:
    monkeypatch.setattr(lineage_client, "CLOSE_S", 0.5)
    with collecting() as server:
        match trouble:
            case "down":
                monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
            case "no file":
                monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "missing.yml"))
                monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "unheard of")
            case "no transport":
                monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "missing.yml"))
            case _:
                monkeypatch.setenv("OPENLINEAGE_URL", server.url)
                server.status, server.delay_s = (500, 0) if trouble == "500" else (200, 60)
        project.documents(1, days=1)
        before = dict(os.environ)
        _, warned = ran(project, project.declare())
    said = [line for line in warned if "ineage" in line]
    assert len(said) == 1, warned
    assert trouble != "no transport" or "names no consumer" in said[0]
    assert dict(os.environ) == before, "the client's own variables configure whatever runs next"


def test_nothing_is_told_where_nothing_is_configured_or_it_is_switched_off(
    project: Project, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    project.documents(1, days=1)
    ran(project, project.declare())
    assert not written.exists()


def test_what_goes_live_is_told_once_and_so_is_a_rollback(project: Project, written: Path) -> None:
    project.documents(per_day=1, days=2)
    collection = project.declare(stages=[dict(STAGE)])
    project.refresh(collection)
    written.unlink(missing_ok=True)
    stores = project.stores()
    eve = known(stores.state, "eve")
    for text in (None, "An invoice about a heron: the total due is 9.00, payment terms 30 days."):
        if text is not None:
            project.edit(collection, f"{DAY}/0.txt", text)
        decide(stores.state, collection)
        going_live.publish(collection, stores, by="ann", description="Live.")
    for _ in range(2):  # the second changes nothing
        going_live.roll_back(collection, stores, 1, by=eve, reason="a test")
    first, second, back = events = [e for e in events_in(written) if e["job"]["name"] == "notes.published"]
    for event in events:
        check_valid(event)
        assert event["eventType"] == "COMPLETE"
    facets = [event["run"]["facets"] for event in events]
    assert [each["ai_assets_release"]["number"] for each in facets] == [1, 2, 1]
    assert [each["ai_assets_release"]["partitions"] for each in facets] == [[DAY, OTHER], [DAY], [DAY, OTHER]]
    assert all(each["ai_assets_release"]["approvedBy"] for each in facets)
    assert back["run"]["facets"]["ai_assets_rollback"].items() >= {"fromNumber": 2, "by": "eve"}.items()
    assert "a test" not in written.read_text()
    assert version_in(back) == version_in(first) != version_in(second)
    assert len({event["run"]["runId"] for event in events}) == 3


def version_in(event: Event) -> str:
    (output,) = event["outputs"]
    return str(output["facets"]["version"]["datasetVersion"])


def test_a_consumer_in_trouble_changes_no_publication_and_no_rollback(
    project: Project, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.documents(per_day=1, days=1)
    project.refresh(project.declare())
    collection = published_twice(project)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(project.root / "not" / "there.jsonl"))
    stores, said = project.stores(), list[str]()
    eve = known(stores.state, "eve")
    assert going_live.roll_back(collection, stores, 1, by=eve, reason="a test", say=said.append).number == 1
    with stores.state.read() as connection:
        assert releases.require_live(connection, "notes").number == 1
    (line,) = [line for line in said if "lineage" in line.lower()]
    assert "there.jsonl: no such file or directory" in line, line
    assert "The rollback to release 1 is not affected" in line, line


def test_nothing_goes_live_by_another_way() -> None:
    """Whoever calls these two himself tells nobody."""
    package = Path(going_live.__file__).parents[1]
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"signoff\.publication import [^\n]*\bpublish\b|live_index\.roll_back\(", path.read_text())
    }
    assert found == {"run/going_live.py"}
    assert "publication.publish(" in Path(going_live.__file__).read_text()


# The package dagster-openlineage: why we do not use it, so that its next version is looked at again


def test_under_dagster_openlineage_our_runs_fail(project: Project, tmp_path: Path) -> None:
    """0.2.1 hands on what is abstract of an event log storage. `get_maximum_record_id`, by which we say of a
    materialization which inputs it has seen, is not, and so raises NotImplementedError. It also sends while Dagster
    stores the event, in the thread of the run."""
    project.documents(1, days=1)
    collection = project.declare()
    file = tmp_path / "theirs.jsonl"
    client = OpenLineageClient(transport=FileTransport(FileConfig(log_file_path=str(file), append=True)))
    sent_in: set[str] = set()

    class Emitter(OpenLineageEmitter):
        def emit(self, event: Any) -> None:
            sent_in.add(threading.current_thread().name)
            super().emit(event)

    with project.instance() as instance:
        adapter = OpenLineageAdapter(emitter=Emitter(client=client))
        storage = OpenLineageEventLogStorage(instance._event_storage, adapter=adapter)
        storage.register_instance(instance)
        instance._event_storage = storage
        with pytest.raises(NotImplementedError):
            storage.get_maximum_record_id()
        done = project.execute(instance, collection, "notes", **{"dagster/partition": DAY})
    assert not done.success
    assert sent_in == {threading.current_thread().name}
