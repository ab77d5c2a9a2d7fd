"""Claims about `ai_assets.signed`: any asset's rows are released only as people signed them, and exactly those."""

import datetime
import decimal
import html
import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from conftest import Project, eventually, free_port
from desks import desk as desk_process
from desks import desk_of
from lineage_events import appended_to, check_valid, completed, events_in, needs_openlineage
from signing import PASSWORD, current, known, somebody
from strangers import ANSWERS, QUIET, Stranger, by_ticket

import ai_assets
from ai_assets.base.home import Home
from ai_assets.desk.inbox import inbox
from ai_assets.desk.request_query import request_view
from ai_assets.signed_asset.declaration import SignedAsset, record, recorded
from ai_assets.signed_asset.errors import SignedAssetTaken, SignedAssetWrong
from ai_assets.signed_asset.release import rows_of
from ai_assets.signed_asset.rows import as_kind, documents_of, table_of
from ai_assets.signoff import checkpoints, proving, releases, requests
from ai_assets.signoff.errors import DecisionRefused, SignedAssetElsewhere
from ai_assets.signoff.publication import publish

# --- the whole way


def test_rows_are_published_as_they_were_signed_and_not_before(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    request = stranger.ask(opened)
    assert request.status == "open"
    assert request.changes["added"] == ["3", "7"]
    assert stranger.published(opened) is None
    assert "1 partition waits for sign-off" in stranger.said
    stranger.approve()
    stranger.rows = [{"ticket": 7, "reply": "changed after the approval", "refund": 0.0}]
    assert stranger.run(opened, "answers").success
    assert by_ticket(stranger.published(opened)) == by_ticket(ANSWERS)


def test_a_changed_asset_voids_the_approval_and_asks_again(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    first = stranger.ask(opened)
    stranger.approve()
    stranger.rows[0]["refund"] = 99.0
    second = stranger.ask(opened)
    assert second.request_id != first.request_id
    assert current(stranger.project.stores().state, "all", "answers").digest == second.digest != first.digest
    with stranger.project.stores().state.read() as connection:
        assert requests.get(connection, first.request_id).status == "void"  # type: ignore[union-attr]
    assert stranger.published(opened) is None
    stranger.approve()
    assert by_ticket(stranger.published(opened))[1]["refund"] == 99.0


def test_the_same_rows_in_another_order_ask_nothing_new(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    first = stranger.ask(opened)
    stranger.rows.reverse()
    assert stranger.ask(opened) == first
    stranger.approve()
    assert len(stranger.published(opened)) == 2
    assert stranger.ask(opened).status == "published"


def test_a_row_that_is_gone_is_shown_as_removed_and_gone_from_the_next_release(
    stranger: Stranger, opened: dg.DagsterInstance
) -> None:
    stranger.ask(opened)
    stranger.approve()
    stranger.published(opened)
    stranger.rows = stranger.rows[:1]
    request = stranger.ask(opened)
    assert (request.changes["removed"], request.changes["unchanged"]) == (["3"], 1)
    stranger.approve()
    assert [row["ticket"] for row in stranger.published(opened)] == [7]


def test_partitions_are_signed_one_by_one_and_published_together(
    project: Project, stranger: Stranger, opened: dg.DagsterInstance
) -> None:
    stranger.partitions = dg.StaticPartitionsDefinition(["north", "south"])
    for name in ("north", "south"):
        stranger.rows = [{"ticket": 1, "reply": name, "refund": None}]
        stranger.ask(opened, name)
    stranger.approve()
    assert [row["reply"] for row in stranger.published(opened)] == ["north", "south"]
    stranger.rows = [{"ticket": 1, "reply": "north again", "refund": None}]
    stranger.ask(opened, "north")
    stranger.approve()
    assert [row["reply"] for row in stranger.published(opened)] == ["north again", "south"]


def test_the_whole_way_holds_on_every_state_store(
    store_url: str, stranger: Stranger, opened: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", store_url)
    home = replace(stranger.project.home, declared_state_url=store_url)
    stranger.project = replace(stranger.project, home=home)
    stranger.ask(opened)
    stranger.approve()
    assert by_ticket(stranger.published(opened)) == by_ticket(ANSWERS)
    assert list(recorded(stranger.project.stores().state)) == ["answers"]


def test_a_signed_row_is_proved_without_the_installation(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.rows = [{"ticket": 7, "moment": MOMENT, "amount": decimal.Decimal("1.10")}]
    stranger.ask(opened)
    stranger.approve()
    assert stranger.published(opened)
    stores = stranger.project.stores()
    checkpoints.make(stores)
    path = stranger.project.root / "proof.json"
    verifier = proving.write(proving.prove(stores, "answers", None, "7"), path)
    with stores.state.read() as connection:
        keys = [word for key in proving.key_words(connection) for word in ("--key", key)]
    done = subprocess.run([sys.executable, "-I", verifier, path, *keys], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "row.amount" in path.read_text()


# --- the rules of sign-off


def test_two_approvals_are_two(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.declared = {"key": "ticket", "approvals": 2}
    stranger.ask(opened)
    stranger.approve(somebody("ann"))
    assert stranger.published(opened) is None
    stranger.approve(somebody("ben"))
    assert len(stranger.published(opened)) == 2


def test_who_edited_the_file_of_the_asset_last_does_not_approve(
    stranger: Stranger, opened: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "elsewhere" / "own_answers.py"
    module.parent.mkdir()
    module.write_text("import dagster as dg\n\n@dg.asset\ndef answers():\n    return [{'ticket': 1}]\n")
    git = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=module.parent, check=True)
    monkeypatch.syspath_prepend(module.parent)
    answers = importlib.import_module("own_answers").answers
    assets: Any = [answers, *(ai_assets.signed(answers, key="ticket").assets or ())]
    assert dg.materialize(
        assets, instance=opened, run_config=QUIET, raise_on_error=False
    ).asset_materializations_for_node("signed__answers_candidate")
    with pytest.raises(DecisionRefused, match=r"they edited own_answers\.py last, and nobody signs what they made"):
        stranger.approve(somebody("ann", email="ann@example.org"))
    stranger.approve(somebody("ben", email="ben@example.org"))


def test_weaker_rules_written_into_the_record_publish_nothing(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.declared = {"key": "ticket", "approvals": 2}
    stranger.ask(opened)
    state = stranger.project.stores().state
    with state.write() as connection:
        weaker = sa.text("UPDATE signed_assets SET declared = replace(declared, :two, :one)")
        connection.execute(weaker, {"two": '"approvals":2', "one": '"approvals":1'})
    stranger.approve()
    assert current(state, "all", "answers").status == "approved"
    assert stranger.published(opened) is None
    collection = recorded(state)["answers"]
    with pytest.raises(SignedAssetElsewhere, match="published there"):
        publish(collection, stranger.project.stores(), by="test")


def test_a_snapshot_that_was_altered_is_neither_published_nor_given_out(
    stranger: Stranger, opened: dg.DagsterInstance
) -> None:
    stranger.ask(opened)
    stranger.approve()
    snapshots = stranger.project.home.lake.glob("answers/release_snapshots/*/*.parquet")
    (path,) = [each for each in snapshots if rows_in(each)]
    data = path.read_bytes()
    path.chmod(0o600)
    assert data.replace(b"sorry", b"happy") != data
    path.write_bytes(data.replace(b"sorry", b"happy"))
    assert stranger.published(opened) is None
    assert "approved was" in stranger.said
    path.write_bytes(data)
    assert len(stranger.published(opened)) == 2
    path.write_bytes(data.replace(b"sorry", b"happy"))
    assert stranger.published(opened) is None


def rows_in(path: Path) -> bool:
    import pyarrow.parquet as pq

    return bool(pq.read_metadata(path).num_rows)


# --- what watches


def test_the_sensors_ask_publish_and_give_out_again_after_a_kill(
    stranger: Stranger, opened: dg.DagsterInstance
) -> None:
    assert stranger.run(opened, "answers").success
    first = stranger.tick(opened, "requests")
    assert len(first.runs) == 1
    again = stranger.tick(opened, "requests", first.cursor)  # the run was killed before it began
    assert len(again.runs) == 1
    assert again.runs != first.runs
    assert stranger.run(opened, "signed/answers_candidate").success
    assert stranger.tick(opened, "requests", again.cursor).runs == []
    assert stranger.tick(opened, "publication").runs == []
    stranger.approve()
    due = stranger.tick(opened, "publication")
    assert (len(due.runs), due.events) == (1, 1)
    # The run is killed after the release is live and before Dagster hears of it.
    publish(SignedAsset(name="answers", asset="answers").collection(), stranger.project.stores(), by="test")
    assert len(stranger.tick(opened, "publication", due.cursor).runs) == 1
    assert by_ticket(stranger.published(opened)) == by_ticket(ANSWERS)
    assert stranger.tick(opened, "publication", due.cursor).runs == []


def test_asking_that_fails_again_and_again_is_given_up_and_said(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.rows = "no rows at all"
    assert stranger.run(opened, "answers").success
    cursor, asked = None, 0
    for _ in range(5):
        tick = stranger.tick(opened, "requests", cursor)
        cursor, asked = tick.cursor, asked + len(tick.runs)
        stranger.run(opened, "signed/answers_candidate")
    assert asked == 3
    assert tick.said == "asking for sign-off failed 3 times: answers; see its runs"
    stranger.rows = ANSWERS
    assert stranger.run(opened, "answers").success
    assert len(stranger.tick(opened, "requests", cursor).runs) == 1


def test_run_sinks_hear_of_it_too(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    file = stranger.project.root / "spans.jsonl"
    declared = {"sinks": [{"use": "examples.own_sink:Spans", "options": {"file": str(file)}}]}
    (stranger.project.root / "operations.yaml").write_text(json.dumps(declared))
    stranger.ask(opened)
    span, ended = map(json.loads, file.read_text().splitlines())
    assert (span["collection"], span["asset"], span["documents"]) == ("answers", "release_candidate", 2)
    assert (ended["event"], ended["error"]) == ("RunEnded", None)


@needs_openlineage
def test_lineage_names_the_asset_that_was_signed(
    stranger: Stranger, opened: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = appended_to(tmp_path / "events.jsonl", monkeypatch)
    stranger.ask(opened)
    stranger.approve()
    stranger.published(opened)
    events = events_in(file)
    for event in events:
        check_valid(event)
    assert [each["name"] for each in completed(events, "answers.release_candidate")["inputs"]] == ["answers"]
    assert completed(events, "answers.published")["run"]["facets"]["ai_assets_release"]["number"] == 1


def test_a_rollback_is_followed(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    for refund in (1.0, 2.0):
        stranger.rows = [{"ticket": 1, "reply": "x", "refund": refund}]
        stranger.ask(opened)
        stranger.approve()
        assert stranger.published(opened)[0]["refund"] == refund
    state = stranger.project.stores().state
    releases.rollback(state, "answers", 1, by=somebody("ann"), reason="wrong")
    assert len(stranger.tick(opened, "publication").runs) == 1
    assert stranger.published(opened)[0]["refund"] == 1.0
    assert stranger.tick(opened, "publication").runs == []


# --- where people look


def test_the_desk_shows_the_rows_and_takes_the_decision(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    request = stranger.ask(opened)
    desk = desk_of(stranger.project)
    ann = known(desk.stores.state, "ann")
    (row,) = inbox(desk, ann).rows
    assert (row.collection, row.partition, row.added, row.unknown_author) == ("answers", "all", 2, True)
    view = request_view(desk, ann, request.request_id)
    assert {line.document_id for line in view.sample} == {"3", "7"}
    assert view.refusals["approve"] is None


@pytest.mark.slow
def test_every_page_of_the_desk_takes_a_signed_asset(stranger: Stranger, opened: dg.DagsterInstance) -> None:
    request = stranger.ask(opened)
    known(stranger.project.stores().state, "ann", "admin")
    with desk_process(stranger.project) as running:
        ann = running.visitor("ann")
        page = ann.get(f"/requests/{request.request_id}").text
        assert "What would go live" in page
        (address,) = {
            found for found in re.findall(r'href="([^"]*/document[^"]*)"', page) if found.endswith(("/7", "=7"))
        }
        document = ann.get(html.unescape(address))
        assert document.status_code == 200
        assert "We are sorry about the pump." in document.text
        for path in ("/", "/runs", "/releases", "/unanswered", "/audit", "/people", "/costs"):
            assert ann.get(path).status_code == 200, path
        assert "signed asset answers of a Dagster project" in html.unescape(ann.get("/runs/answers").text)
        sent = ann.submit(
            f"/requests/{request.request_id}/decision", digest=request.digest, verdict="approve", confirmed="yes"
        )
        assert sent.status_code == 200
    assert current(stranger.project.stores().state, "all", "answers").status == "approved"
    assert len(stranger.published(opened)) == 2


@pytest.mark.slow
def test_the_command_line_finds_and_decides_it_in_a_project_without_collections(
    stranger: Stranger, opened: dg.DagsterInstance
) -> None:
    stranger.ask(opened)
    known(stranger.project.stores().state, "ann")
    listed = stranger.project.cli("signoff", "list", "--json")
    assert [request["collection"] for request in json.loads(listed.stdout)] == ["answers"], listed.stderr
    shown = stranger.project.cli("signoff", "show", "answers", "all")
    assert "2 added" in shown.stdout, shown.stderr
    approved = stranger.project.cli("signoff", "approve", "answers", "all", "--by", "ann", AI_ASSETS_PASSWORD=PASSWORD)
    assert approved.returncode == 0, approved.stderr
    status = json.loads(stranger.project.cli("status", "--json").stdout)
    assert [(item["collection"], item["partitions"]) for item in status] == [("answers", {"all": "approved"})]
    for command in (["run", "answers"], ["publish", "answers"]):
        refused = stranger.project.cli(*command)
        assert "signed asset answers of a Dagster project" in " ".join(refused.stderr.split()), refused.stderr


# --- what rows may be


MOMENT = datetime.datetime(2026, 11, 27, 5, 30, tzinfo=datetime.UTC)
TABLES: dict[str, Callable[[], Any]] = {
    "list": lambda: [{"a": 1, "b": "x"}, {"a": 2, "c": [1, 2]}],
    "no rows": lambda: [],
    "pandas": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "pandas with an index": lambda: pd.DataFrame({"b": [1.5, 2.5]}, index=pd.Index([7, 8], name="a")),
    "arrow": lambda: pa.table(
        {
            "a": pa.array([1, 2], pa.int8()),
            "moment": pa.array([MOMENT, None], pa.timestamp("us", "UTC")),
            "amount": pa.array([decimal.Decimal("1.10"), decimal.Decimal("2.20")]),
            "day": pa.array([datetime.date(2026, 1, 2), None]),
            "raw": pa.array([b"\x00\xff", b""]),
            "nested": pa.array([{"x": [1.0, float("nan")]}, None]),
            "span": pa.array([datetime.timedelta(seconds=3), None]),
        }
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_of_every_kind_come_back_as_they_were(name: str, stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.rows, stranger.declared = TABLES[name](), {}
    if name == "no rows":
        stranger.run(opened, "answers", "signed/answers_candidate")
        with stranger.project.stores().state.read() as connection:
            assert requests.find(connection, "answers") == []  # nothing is live, and nothing would be
        return
    stranger.ask(opened)
    stranger.approve()
    found = stranger.published(opened)
    if isinstance(found, pa.Table):
        assert found.schema == stranger.rows.schema
        found, expected = (sorted(map(str, table.to_pylist())) for table in (found, stranger.rows))
        assert found == expected
    elif isinstance(found, pd.DataFrame):
        expected_frame = stranger.rows if name == "pandas" else stranger.rows.reset_index()
        pd.testing.assert_frame_equal(found.sort_values("a", ignore_index=True), expected_frame)
    else:
        assert sorted(found, key=lambda row: int(row["a"])) == [
            {"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": [1, 2]},
        ]  # fmt: skip


UNUSABLE: list[tuple[object, Sequence[str], str]] = [
    ("text", (), "it returned str; return a list of dicts"),
    (None, (), "it returned NoneType"),
    ([{"a": 1}, 2], (), "it returned list"),
    ([{"a": 1}, {"a": "x"}], (), "its rows are no table"),
    ([{"": 1}], (), "a column named ''"),
    ([{"a": 1}], ("b",), "it has no column 'b', which is its key"),
    ([{"a": 1}, {"a": 1}], ("a",), "two rows have the key '1'"),
    ([{"a": None}], ("a",), "a row has no value in 'a'"),
]


@pytest.mark.parametrize(("value", "key", "says"), UNUSABLE, ids=[says for _, _, says in UNUSABLE])
def test_what_cannot_be_signed_is_refused_by_name(value: object, key: Sequence[str], says: str) -> None:
    def frozen() -> None:
        table, _ = table_of("answers", value)
        documents_of("answers", table, key)

    with pytest.raises(SignedAssetWrong, match="The asset answers cannot be signed") as refused:
        frozen()
    assert says in str(refused.value)


def test_equal_rows_without_a_key_are_both_there() -> None:
    table, kind = table_of("answers", [{"a": 1}, {"a": 1}])
    names = [row["document_id"] for row in documents_of("answers", table, ()).documents]
    assert len(set(names)) == 2
    assert as_kind([table], kind) == [{"a": 1}, {"a": 1}]


DECLARED: list[tuple[Mapping[str, Any], str]] = [
    ({"name": "My Answers"}, "it cannot be called 'My Answers'"),
    ({"approvals": 0}, "approvals"),
    ({"signoff": {"approval": 2}}, "unknown key 'approval'; did you mean 'approvals'?"),
]


@pytest.mark.parametrize(("declared", "says"), DECLARED, ids=[says for _, says in DECLARED])
def test_a_wrong_declaration_is_refused_when_it_loads(declared: Mapping[str, Any], says: str) -> None:
    with pytest.raises(SignedAssetWrong) as refused:
        ai_assets.signed("answers", **declared)
    assert says in str(refused.value)


def test_one_name_is_not_taken_by_two(project: Project, stranger: Stranger, opened: dg.DagsterInstance) -> None:
    stranger.ask(opened)
    state = project.stores().state
    with pytest.raises(SignedAssetTaken, match="that is the asset answers already"):
        record(state, SignedAsset(name="answers", asset="other"), Home.from_environment())
    project.declare("taken")
    with pytest.raises(SignedAssetTaken, match="that is a collection of this project already"):
        record(state, SignedAsset(name="taken", asset="other"), Home.from_environment())


PROGRAM = """
import sys

import dagster as dg

import ai_assets
from ai_assets.orchestration.instance import instance
from ai_assets.base.home import Home


@dg.asset
def answers():
    return [{"ticket": n, "reply": f"reply {n} " * 20} for n in range(400)]


with instance(Home.from_environment()) as opened:
    assets = [answers, *ai_assets.signed(answers, key="ticket").assets]
    print("begun", flush=True)
    done = dg.materialize(assets, instance=opened, selection=sys.argv[1].split(","), raise_on_error=False)
sys.exit(0 if done.success else 1)
"""


def killed(stranger: Stranger, selection: str, moments: Sequence[float]) -> None:
    """The run, killed after so many seconds each time, and then let finish."""
    program = stranger.project.root / "program.py"
    program.write_text(PROGRAM)
    for moment in [*moments, None]:
        running = subprocess.Popen(
            [sys.executable, program, selection], cwd=stranger.project.root, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert running.stdout is not None
        with running.stdout:
            running.stdout.readline()
            if moment is not None:
                time.sleep(moment)
                running.kill()
        code = running.wait(timeout=300)
        assert moment is not None or code == 0


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_and_one_request_and_one_release_come_of_it(stranger: Stranger) -> None:
    chance = random.Random(13)
    killed(stranger, "answers,signed/answers_candidate", [chance.uniform(0.1, 1.6) for _ in range(12)])
    stores = stranger.project.stores()
    with stores.state.read() as connection:
        (request,) = requests.find(connection, "answers")
    assert (request.status, len(request.changes["added"])) == ("open", 400)
    stranger.approve()
    killed(stranger, "signed/answers", [chance.uniform(0.1, 2.0) for _ in range(12)])
    with stores.state.read() as connection:
        (release,) = releases.find(connection, "answers")
        assert releases.require_live(connection, "answers").number == 1
    assert [row["ticket"] for row in sorted(rows_of(stores, release), key=lambda row: int(row["ticket"]))] == list(
        range(400)
    )


DEV = """
import dagster as dg

import ai_assets


@dg.asset
def answers():
    return [{"ticket": 7, "reply": "We are sorry."}]


@dg.asset(ins={"signed": dg.AssetIn(["signed", "answers"])}, automation_condition=dg.AutomationCondition.eager())
def letters(signed):
    return [row["reply"] for row in signed]


defs = dg.Definitions.merge(dg.Definitions(assets=[answers, letters]), ai_assets.signed(answers, key="ticket"))
"""


@pytest.mark.slow
def test_in_a_project_of_ones_own_under_dagster_dev_the_sensors_ask_and_publish(stranger: Stranger) -> None:
    root = stranger.project.root
    (root / "definitions.py").write_text(DEV)
    tools = Path(sys.executable).parent
    made = subprocess.run(
        [tools / "dagster", "asset", "materialize", "-f", "definitions.py", "--select", "answers"], cwd=root,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    log = (root / "dev.log").open("wb")
    running = subprocess.Popen(
        [tools / "dagster", "dev", "-f", "definitions.py", "-p", str(free_port())], cwd=root, stdout=log,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        state = stranger.project.stores().state

        def status() -> str | None:
            with state.read() as connection:
                found = requests.latest_of(connection, "answers", "all")
            return found.status if found else None

        def stands(wanted: str) -> bool:
            assert running.poll() is None, said()
            return status() == wanted

        def said() -> str:
            return (root / "dev.log").read_text()[-3000:]

        eventually(lambda: stands("open"), 180, said=said)
        stranger.approve()
        eventually(lambda: stands("published"), 180, said=said)
        eventually(lambda: materialized(stranger), 180, said=said)
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(timeout=300)
        log.close()


def materialized(stranger: Stranger) -> bool:
    with stranger.project.instance() as opened:
        return opened.get_latest_materialization_event(dg.AssetKey(["signed", "answers"])) is not None
