"""Claims about the desk's API and its process: it does what its document says, and refuses in words."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests as http
from candidates import asked, document
from conftest import STAGE, Project, eventually, free_port
from desks import Caller, desk_of, served
from fastapi import FastAPI
from signing import current, decide, known

from ai_assets.desk.api import create_api
from ai_assets.desk.context import Desk
from ai_assets.desk.server import address
from ai_assets.signoff import audit, verification
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.signoff.publication import publish
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import now

pytestmark = pytest.mark.slow

DAY, NEXT_DAY = "2026-10-05", "2026-10-06"


@pytest.fixture
def desk(bare: Desk) -> Iterator[Desk]:
    """Served, with two requests of five documents each."""
    for day in (DAY, NEXT_DAY):
        asked(bare.stores, "notes", day, [document(n) for n in range(5)])
    with served(bare) as running:
        yield running


@pytest.fixture
def ann(desk: Desk) -> Caller:
    return Caller.of(desk, known(desk.stores.state, "ann"))


def decision(*found: SignoffRequest, verdict: str = "approve", reason: str | None = None) -> dict[str, Any]:
    choices = [{"request_id": item.request_id, "digest": item.digest} for item in found]
    return {"choices": choices, "verdict": verdict, "reason": reason}


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


# Its document


def test_the_document_says_everything_of_every_operation(bare: Desk) -> None:
    found = create_api(bare).openapi()
    operations = [
        (f"{method} {path}", operation) for path, item in found["paths"].items() for method, operation in item.items()
    ]
    assert len(operations) == len({operation["operationId"] for _, operation in operations}) == 38
    for name, operation in operations:
        assert operation["description"], name
        changes = name.startswith("post ")
        statuses = {"200", "400", "401", "403", "404", "414", "422", "503"} | ({"409", "413"} if changes else set())
        assert set(operation["responses"]) == statuses, name
        for status, answer in operation["responses"].items():
            assert answer["description"], (name, status)
            reference = answer["content"]["application/json"]["schema"].get("$ref", "")
            assert reference.endswith("/Problem") == (status != "200"), (name, status)
        assert operation["security"] == [{"session": [], "csrf": []} if changes else {"session": []}]


def test_the_document_explains_fields_as_the_code_does(bare: Desk) -> None:
    schemas = create_api(bare).openapi()["components"]["schemas"]
    assert schemas["InboxRow"]["properties"]["risk"]["description"] == "0 to 1, with its age against the SLA."
    assert "HTTPValidationError" not in schemas
    assert schemas["Problem"]["properties"]["error"]["type"] == "string"


def test_a_schema_keeps_its_name_whatever_its_class_is_called(bare: Desk) -> None:
    """Clients are generated from them; these share a word with a class of the library, or did."""
    document_ = create_api(bare).openapi()
    schemas = document_["components"]["schemas"]
    assert {"Asked", "Price", "Publication", "Refused", "Span", "Started", "Unanswered"} <= set(schemas)
    assert schemas["Unanswered"]["title"] == "Unanswered"
    answer = document_["paths"]["/unanswered"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Unanswered"}
    assert "UnansweredPage" not in str(document_)


def test_there_is_no_page_that_would_load_scripts_from_elsewhere(ann: Caller) -> None:
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert said(ann.get(path)) == (404, "Not Found")
    document_ = http.get(f"{ann.url}/api/openapi.json", timeout=300)  # for who is not signed in, too
    assert document_.json()["info"]["title"] == "Sign-off desk"


@pytest.mark.parametrize(
    ("store_url", "phases", "of_one_request"),
    [("sqlite", "coverage,fuzzing", False), ("postgresql", "fuzzing", True)],
    indirect=["store_url"],
)
def test_the_api_keeps_to_its_document_whatever_is_sent(
    project: Project, store_url: str, phases: str, of_one_request: bool, tmp_path: Path
) -> None:
    project.declare(stages=[dict(STAGE)])
    found = desk_of(replace(project, home=replace(project.home, declared_state_url=store_url)))
    asked(found.stores, "notes", DAY, [document(n) for n in range(20)])
    ann = known(found.stores.state, "ann", "admin")
    with served(found) as running:
        there = current(found.stores.state, DAY).request_id if of_one_request else None
        done = schemathesis(Caller.of(running, ann), phases, there, tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "38 selected / 38 total" in done.stdout
    verification.verify(found.stores.state)


def schemathesis(
    person: Caller, phases: str, request_id: str | None, folder: Path
) -> "subprocess.CompletedProcess[str]":
    """The tool as its users run it, with all its checks, for a person who may do everything.

    400 is an answer to what the document allows where only the present state says no: a label that is not declared.
    """
    always = f'"path.request_id" = "{request_id}"\n' if request_id else ""
    config = folder / "schemathesis.toml"
    config.write_text(
        f'[auth.openapi.session]\napi_key = "{person.cookie}"\n[auth.openapi.csrf]\napi_key = "{person.csrf}"\n'
        f'[parameters]\n"path.collection" = "notes"\n{always}'
        '[checks.positive_data_acceptance]\nexpected-statuses = ["2xx", "400", "403", "404", "409"]\n'
    )
    program = Path(sys.executable).parent / "schemathesis"
    return subprocess.run(
        [
            program, "--config-file", config, "run", f"{person.url}/api/openapi.json",
            "--checks", "all", "--mode", "all", "--phases", phases, "--max-examples", "4", "--seed", "1", "--no-color",
            "--generation-database", "none", "--suppress-health-check", "all",
        ],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "NO_PROXY": "*"},
    )  # fmt: skip


# Asking


def test_who_is_not_signed_in_learns_nothing(desk: Desk) -> None:
    nobody = Caller(url=desk.url, cookie="made-up", csrf="made-up")
    there = current(desk.stores.state, DAY).request_id
    for path in ("/me", "/inbox", f"/requests/{there}", f"/requests/{'0' * 16}", "/audit", "/releases/notes"):
        answer = nobody.get(path)
        assert answer.status_code == 401
        assert set(answer.json()) == {"error"}


def test_an_api_without_its_middleware_lets_nobody_in(bare: Desk) -> None:
    from starlette.testclient import TestClient

    api: FastAPI = create_api(bare)
    assert TestClient(api).get("/inbox").status_code == 401


def test_who_asks_is_told_who_they_are_and_their_token(desk: Desk, ann: Caller) -> None:
    assert ann.get("/me").json() == {
        "name": "ann", "email": None, "groups": [], "roles": {"*": "approver"}, "csrf": ann.csrf,
    }  # fmt: skip


def test_inbox_request_documents_and_document_are_what_the_pages_show(desk: Desk, ann: Caller) -> None:
    box = ann.get("/inbox", sort="collection").json()
    assert [row["partition"] for row in box["rows"]] == [DAY, NEXT_DAY]
    view = ann.get(f"/requests/{box['rows'][0]['request_id']}").json()
    assert (view["row"]["added"], view["missing"]) == (5, ["0 of 1 approval"])
    where = f"/requests/{view['row']['request_id']}"
    page = ann.get(f"{where}/documents", per_page=2, sort="name", page=2).json()
    assert [row["document_id"] for row in page["rows"]] == ["00002.txt", "00003.txt"]
    one = ann.get(f"{where}/document", id="00002.txt").json()
    marked = {"text": "Text of note 2.", "stages": ["kind"], "anchors": ["passage-1"], "values": [], "page": None}
    assert one["spans"][0] == marked
    assert ann.get(f"{where}/state").json() == {
        "status": "open",
        "publication": {
            "state": "not approved", "release": None, "run_id": None, "run_url": None,
            "said": "It is not approved, so nothing of it is published.",
        },
        "missing": ["0 of 1 approval"],
    }  # fmt: skip


SENSELESS = {
    "/requests/%00": 400,
    "/requests/../../etc/passwd": 400,
    "/requests/NOTHEX": 422,
    "/requests/0123456789abcdef": 404,
    "/requests/0123456789abcdef/document": 422,
    "/releases/elsewhere": 404,
    "/releases/notes/at": 422,
    "/releases/notes/at?moment=yesterday": 422,
    "/releases/notes/at?moment=2026-11-21%00": 422,
    "/inbox?page=0": 422,
    "/inbox?page=99999999999999999999999": 422,
    "/inbox?text=%00": 422,
    "/inbox?status=lost": 422,
    "/audit?before=-1": 422,
    "/audit?actor=%00": 422,
    "/nothing": 404,
    f"/inbox?text={'x' * 9_000}": 414,
}


def test_what_makes_no_sense_is_refused_as_a_problem(ann: Caller) -> None:
    for path, status in SENSELESS.items():
        asking = http.Request("GET", f"{ann.url}/api{path}", headers=ann.headers).prepare()
        asking.url = f"{ann.url}/api{path}"  # as it is, with no step up resolved
        with http.Session() as session:
            session.trust_env = False
            found = session.send(asking, timeout=300)
        assert (found.status_code, set(found.json())) == (status, {"error"}), path


BODIES = (
    b"", b"{", b"null", b"[]", b'{"choices": []}', b'{"choices": [{"request_id": "\\ud800", "digest": "a"}]}',
    b'{"choices": [], "\\ud800": 1}', b"\xff\xfe", b"[" * 20_000, b'{"verdict": ' + b"9" * 5_000 + b"}",
    b'{"choices": "x", "verdict": NaN}',
)  # fmt: skip


def test_no_body_makes_the_server_fail(ann: Caller) -> None:
    headers = {**ann.headers, "Content-Type": "application/json"}
    for body in BODIES:
        answer = http.post(f"{ann.url}/api/decisions", data=body, headers=headers, timeout=300)
        assert (answer.status_code in (400, 422), set(answer.json())) == (True, {"error"}), body[:80]


# Deciding


def test_a_decision_over_the_api_is_in_the_chain_under_the_name_of_who_is_signed_in(desk: Desk, ann: Caller) -> None:
    found = current(desk.stores.state, DAY)
    done = ann.post("/decisions", decision(found)).json()
    assert done == {
        "decided": [
            {"request_id": found.request_id, "collection": "notes", "partition": DAY, "status": "approved",
             "missing": []}
        ],
        "refused": [],
    }  # fmt: skip
    with desk.stores.state.read() as connection:
        record = audit.select(connection, actions=["approved"])[0]
    assert (record.actor, record.subject["request_id"]) == ("ann", found.request_id)
    status, problem = said(ann.post("/decisions", decision(found)))
    assert (status, "it was approved by ann at" in problem) == (409, True)


def test_a_digest_that_was_not_seen_decides_nothing(desk: Desk, ann: Caller) -> None:
    found = replace(current(desk.stores.state, DAY), digest="0" * 64)
    status, problem = said(ann.post("/decisions", decision(found)))
    assert (status, "what was seen was 000000000000, not this" in problem) == (409, True)
    assert current(desk.stores.state, DAY).status == "open"


def test_of_one_collection_all_is_decided_or_nothing(desk: Desk, ann: Caller) -> None:
    good, bad = current(desk.stores.state, DAY), replace(current(desk.stores.state, NEXT_DAY), digest="0" * 64)
    assert ann.post("/decisions", decision(good, bad)).status_code == 409
    assert current(desk.stores.state, DAY).status == "open"
    assert ann.post("/decisions", decision(good, good, current(desk.stores.state, NEXT_DAY))).status_code == 200
    assert [current(desk.stores.state, day).status for day in (DAY, NEXT_DAY)] == ["approved", "approved"]


def test_one_collection_may_refuse_what_another_takes(desk: Desk, project: Project) -> None:
    project.declare("mail", stages=[dict(STAGE)], signoff={"approvers": ["zoe"]})
    other = asked(desk.stores, "mail", DAY, [document(1)])
    ann = Caller.of(desk, known(desk.stores.state, "ann"))
    done = ann.post("/decisions", decision(current(desk.stores.state, DAY), other)).json()
    assert [item["collection"] for item in done["decided"]] == ["notes"]
    refusal = str(DecisionRefused("ann", "mail is signed by zoe"))
    assert done["refused"] == [{"collection": "mail", "status": 403, "error": refusal}]
    assert said(ann.post("/decisions", decision(other))) == (403, refusal)


def test_a_decision_on_what_may_not_be_seen_is_one_on_what_is_not_there(desk: Desk) -> None:
    eve = Caller.of(desk, known(desk.stores.state, "eve", "approver", "mail"))
    found = current(desk.stores.state, DAY)
    for one in (found, replace(found, request_id="0" * 16)):
        status, problem = said(eve.post("/decisions", decision(one)))
        assert (status, problem.startswith(f"There is no request '{one.request_id}' that you may see")) == (404, True)
    assert current(desk.stores.state, DAY).status == "open"


def test_a_decision_without_the_token_of_the_session_is_refused(desk: Desk, ann: Caller) -> None:
    forged = replace(ann, csrf="0" * 64)
    assert forged.post("/decisions", decision(current(desk.stores.state, DAY))).status_code == 403
    assert current(desk.stores.state, DAY).status == "open"


def test_a_rejection_without_a_reason_is_refused_and_one_with_can_be_asked_again(desk: Desk, ann: Caller) -> None:
    found = current(desk.stores.state, DAY)
    status, problem = said(ann.post("/decisions", decision(found, verdict="reject")))
    assert (status, "a rejection needs a reason" in problem) == (403, True)
    assert ann.post("/decisions", decision(found, verdict="reject", reason="wrong")).status_code == 200
    where = f"/requests/{found.request_id}/ask-again"
    assert ann.post(where, {"reason": "  "}).status_code == 422
    opened = ann.post(where, {"reason": "look again"}).json()["request_id"]
    assert current(desk.stores.state, DAY).request_id == opened != found.request_id
    status, problem = said(ann.post(where, {"reason": "once more"}))
    assert (status, "a newer request is there" in problem) == (409, True)


def test_a_failed_gate_is_waived_with_a_reason_or_not_at_all(desk: Desk, ann: Caller) -> None:
    gate = {"name": "accuracy", "min": 1, "value": 0, "n": 1, "passed": False, "waivable": True, "message": "low"}
    found = asked(desk.stores, "notes", "2026-10-07", [document(1)], gates=[gate])
    status, problem = said(ann.post("/decisions", decision(found)))
    assert (status, "say why it may be waived" in problem) == (403, True)
    assert ann.post("/decisions", {**decision(found), "waivers": {"accuracy": " "}}).status_code == 422
    assert ann.post("/decisions", {**decision(found), "waivers": {"accuracy": "few items"}}).status_code == 200
    view = ann.get(f"/requests/{found.request_id}").json()
    assert view["gates"][0]["waived_because"] == "few items"


# Documents


def test_a_note_over_the_api_shows_on_its_document(desk: Desk, ann: Caller) -> None:
    where = f"/requests/{current(desk.stores.state, DAY).request_id}"
    made = ann.post(f"{where}/notes", {"document_id": "00001.txt", "kind": "comment", "text": "Hm."}).json()
    assert (made["kind"], made["author"]) == ("comment", "ann")
    assert [note["text"] for note in ann.get(f"{where}/document", id="00001.txt").json()["notes"]] == ["Hm."]
    assert ann.post(f"{where}/notes", {"document_id": "00001.txt", "kind": "comment"}).status_code == 400
    assert ann.post(f"{where}/notes", {"document_id": "none.txt", "kind": "reviewed"}).status_code == 404
    viewer = Caller.of(desk, known(desk.stores.state, "vic", "viewer", "notes"))
    assert viewer.post(f"{where}/notes", {"document_id": "00001.txt", "kind": "reviewed"}).status_code == 403


def test_a_label_is_corrected_and_taken_back_over_the_api(desk: Desk, ann: Caller) -> None:
    where = f"/requests/{current(desk.stores.state, DAY).request_id}"
    body = {"document_id": "00001.txt", "stage": "kind", "label": "incident", "reason": "a leak"}
    made = ann.post(f"{where}/corrections", body).json()
    assert {name: made[name] for name in ("label", "was", "author", "number")} == {
        "label": "incident", "was": "invoice", "author": "ann", "number": 1,
    }  # fmt: skip
    assert ann.get(f"{where}/document", id="00001.txt").json()["stages"][0]["correction"]["label"] == "incident"
    assert ann.post(f"{where}/corrections", {**body, "label": None}).json()["label"] is None
    status, problem = said(ann.post(f"{where}/corrections", {**body, "label": "invoise"}))
    assert (status, "'invoise' is no label" in problem) == (400, True)
    verification.verify(desk.stores.state)


# Releases and the chain


def test_releases_are_listed_found_by_time_and_rolled_back(project: Project) -> None:
    project.documents(per_day=1, days=2)
    collection = project.declare()
    project.refresh(collection)
    found = desk_of(project)
    ann = known(found.stores.state, "ann")
    times = [now()]
    for day in (DAY, NEXT_DAY):
        decide(found.stores.state, collection, [day], by=ann)
        publish(collection, found.stores, by="test")
        time.sleep(0.005)
        times.append(now())
    with served(found) as running:
        caller_ = Caller.of(running, ann)
        assert [row["number"] for row in caller_.get("/releases/notes").json()] == [2, 1]
        seen = [caller_.get("/releases/notes/at", moment=at).json()["release"] for at in times]
        assert [row and row["number"] for row in seen] == [None, 1, 2]
        assert said(caller_.post("/releases/notes/rollback", {"number": 9, "reason": "x"}))[0] == 404
        viewer = Caller.of(running, known(found.stores.state, "vic", "viewer"))
        assert viewer.post("/releases/notes/rollback", {"number": 1, "reason": "x"}).status_code == 403
        back = caller_.post("/releases/notes/rollback", {"number": 1, "reason": "too soon"}).json()
        assert (back["number"], back["live"]) == (1, True)
        entry = caller_.get("/audit", action="rolled back").json()["entries"][0]
        assert (entry["actor"], entry["text"]) == ("ann", "to release 1 from release 2: too soon")
    verification.verify(found.stores.state)


def test_the_chain_is_paged_over_the_api(desk: Desk, ann: Caller) -> None:
    first = ann.get("/audit", limit=1, collection="notes").json()
    second = ann.get("/audit", limit=1, collection="notes", before=first["next_before"]).json()
    assert [page["entries"][0]["partition"] for page in (first, second)] == [NEXT_DAY, DAY]
    assert second["next_before"] is None


def test_a_store_that_is_away_is_told_as_such(desk: Desk, ann: Caller) -> None:
    """SQLite's file is moved aside; nothing is kept open that could still read it."""
    database = desk.stores.home.root / "state.db"
    desk.stores.state.close()
    aside = database.with_suffix(".aside")
    database.rename(aside)
    database.mkdir()
    try:
        status, problem = said(ann.get("/inbox"))
        assert (status, "state store" in problem) == (503, True)
    finally:
        database.rmdir()
        aside.rename(database)
    assert ann.get("/inbox").status_code == 200


# The process


@contextmanager
def process(project: Project, port: int, *options: str) -> "Iterator[subprocess.Popen[str]]":
    started = subprocess.Popen(
        [sys.executable, "-m", "ai_assets.desk", "--port", str(port), *options],
        cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def healthy(port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/health", timeout=300).ok
    except http.RequestException:
        return False


def test_the_desk_runs_as_a_module_says_where_and_ends_when_told(project: Project) -> None:
    port = free_port()
    with process(project, port) as desk:
        eventually(lambda: healthy(port))
        answer = http.get(f"http://127.0.0.1:{port}/api/me", timeout=300)
        assert (answer.status_code, "server" in answer.headers) == (401, False)
        with http.Session() as idle:  # a connection that is kept open holds nothing up
            idle.get(f"http://127.0.0.1:{port}/health", timeout=300)
            with process(project, port) as second:
                out, _ = second.communicate(timeout=300)
                assert second.returncode == 2
                assert f"error: Nothing can listen on port {port} of 127.0.0.1" in out
                assert "Traceback" not in out
            desk.send_signal(signal.SIGTERM)
            out, _ = desk.communicate(timeout=300)
    assert f"The sign-off desk is at http://localhost:{port} (stop it with Ctrl-C)" in out
    assert "Nobody can sign in yet. In another terminal: ai-assets reviewers add NAME" in out
    assert "Traceback" not in out


def test_ctrl_c_ends_it_without_a_traceback(project: Project) -> None:
    port = free_port()
    (project.root / "desk.yaml").write_text("url: https://desk.example.org/\n")
    with process(project, port) as desk:
        eventually(lambda: healthy(port))
        desk.send_signal(signal.SIGINT)
        out, _ = desk.communicate(timeout=300)
        assert desk.returncode == 0
    assert "The sign-off desk is at https://desk.example.org (stop" in out
    assert "Traceback" not in out


def test_a_desk_that_is_declared_wrong_says_where(project: Project) -> None:
    (project.root / "desk.yaml").write_text("adress: http://x\n")
    with process(project, free_port()) as desk:
        out, _ = desk.communicate(timeout=300)
    assert desk.returncode == 2
    assert "desk.yaml:1: unknown key 'adress'" in out


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", "http://localhost:3001"),
        ("0.0.0.0", "http://localhost:3001"),
        ("::1", "http://[::1]:3001"),
        ("::", "http://localhost:3001"),
        ("desk.local", "http://desk.local:3001"),
    ],
)
def test_the_address_is_one_that_can_be_opened(host: str, found: str) -> None:
    assert address(host, 3001) == found


def test_the_answers_of_the_api_are_json_that_anybody_reads(desk: Desk, ann: Caller) -> None:
    answer = ann.get("/inbox")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert json.loads(answer.content)["total"] == 2
