"""Claims about the desk at the worst moments: killed, raced, replayed, overtaken, its store away."""

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
import sqlalchemy as sa
from conftest import Postgres, Project
from desks import DeskProcess, Visitor, desk, known

from ai_assets.collection import Collection
from ai_assets.refresh import refresh
from ai_assets.signoff import people, proof
from ai_assets.signoff.publication import publish
from ai_assets.signoff.requests import Request, close, find
from ai_assets.work import Stores

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]


@pytest.fixture
def notes(project: Project) -> Collection:
    """Three days with two documents each: three requests wait."""
    project.documents(per_day=2)
    collection = project.declare()
    project.refresh(collection)
    return collection


@pytest.fixture
def stores(project: Project, notes: Collection) -> Stores:
    return project.stores()


@pytest.fixture
def running(project: Project, stores: Stores) -> Iterator[DeskProcess]:
    with desk(project) as started:
        yield started


def waiting(stores: Stores) -> list[Request]:
    with stores.state.read() as connection:
        return find(connection, "notes")


def decision(request: Request, verdict: str = "approve", reason: str | None = None) -> dict[str, object]:
    choice = {"request_id": request.request_id, "digest": request.digest}
    return {"choices": [choice], "verdict": verdict, "reason": reason, "waivers": {}}


def counted(stores: Stores, request: Request) -> int:
    """Decisions on a request, as the chain has them."""
    query = sa.text("SELECT count(*) FROM audit WHERE request_id = :id AND action IN ('approved', 'rejected')")
    with stores.state.read() as connection:
        return int(connection.execute(query, {"id": request.request_id}).scalar_one())


def test_a_desk_killed_during_a_decision_has_taken_it_whole_or_not_at_all(
    project: Project, stores: Stores, notes: Collection
) -> None:
    known(stores, "ann")
    moments = random.Random(4)
    with desk(project) as running:
        for draft in range(8):
            project.document(f"{DAYS[0]}/0.txt", f"Draft {draft} on the pump.")
            project.refresh(notes, [DAYS[0]])
            request = next(r for r in waiting(stores) if (r.partition, r.status) == (DAYS[0], "open"))
            visitor = running.visitor("ann")
            answers: list[int] = []
            sender = threading.Thread(target=sent, args=(visitor, decision(request), answers))
            sender.start()
            time.sleep(moments.uniform(0, 0.03))
            running.kill()
            sender.join()
            proof.verify(stores.state)
            taken = counted(stores, request)
            status = next(r.status for r in waiting(stores) if r.request_id == request.request_id)
            assert (taken, status) in ((0, "open"), (1, "approved"))
            assert taken == 1 or 200 not in answers  # what was confirmed is there
            running.start()
            again = running.visitor("ann").post("/decisions", decision(request))
            assert again.status_code == (200 if taken == 0 else 409), again.text
            assert counted(stores, request) == 1


def sent(visitor: Visitor, body: object, answers: list[int]) -> None:
    try:
        answers.append(visitor.post("/decisions", body).status_code)
    except requests.RequestException:
        answers.append(0)


def test_of_two_who_decide_at_the_same_instant_one_counts_and_the_other_is_told(
    running: DeskProcess, stores: Stores
) -> None:
    ann, ben = running.visitor(known(stores, "ann")), running.visitor(known(stores, "ben"))
    for request in waiting(stores):
        gate, said = threading.Barrier(2), {}

        def act(visitor: Visitor, verdict: str, request: Request = request, gate: threading.Barrier = gate,
                said: dict[str, requests.Response] = said) -> None:  # fmt: skip
            gate.wait()
            said[verdict] = visitor.post("/decisions", decision(request, verdict, "a reason"))

        people_at_it = [threading.Thread(target=act, args=each) for each in ((ann, "approve"), (ben, "reject"))]
        for thread in people_at_it:
            thread.start()
        for thread in people_at_it:
            thread.join()
        assert sorted(answer.status_code for answer in said.values()) == [200, 409]
        lost = next(answer for answer in said.values() if answer.status_code == 409)
        winner = "ann" if said["approve"].status_code == 200 else "ben"
        assert f"by {winner} at" in lost.json()["error"]
        assert counted(stores, request) == 1
    proof.verify(stores.state)


def test_a_replayed_form_decides_nothing_twice(running: DeskProcess, stores: Stores) -> None:
    request = waiting(stores)[0]
    ann = running.visitor(known(stores, "ann"))
    form = {"digest": request.digest, "verdict": "approve", "reason": "", "confirmed": "yes"}
    first = ann.submit(f"/requests/{request.request_id}/decision", **form)
    assert first.status_code == 200
    again = ann.submit(f"/requests/{request.request_id}/decision", **form)
    assert again.status_code == 409
    assert "was approved by ann" in again.text
    assert counted(stores, request) == 1


def test_a_form_of_a_candidate_that_was_replaced_decides_nothing(
    project: Project, running: DeskProcess, stores: Stores, notes: Collection
) -> None:
    seen = waiting(stores)[0]
    ann = running.visitor(known(stores, "ann"))
    project.document(f"{DAYS[0]}/0.txt", "Another text, drafted while ann was reading.")
    project.refresh(notes)
    form = {"verdict": "approve", "reason": "", "confirmed": "yes"}
    refused = ann.submit(f"/requests/{seen.request_id}/decision", digest=seen.digest, **form)
    assert refused.status_code == 409
    newer = next(r for r in waiting(stores) if (r.partition, r.status) == (DAYS[0], "open"))
    assert ann.submit(f"/requests/{newer.request_id}/decision", digest=seen.digest, **form).status_code == 409
    assert newer.request_id in ann.get(f"/requests/{seen.request_id}").text  # the way to what waits now
    assert [counted(stores, request) for request in (seen, newer)] == [0, 0]


def test_who_may_not_decide_is_refused_on_the_page_and_by_the_api(
    project: Project, running: DeskProcess, stores: Stores, notes: Collection
) -> None:
    with project.work(notes) as work:
        work.launched_by = "ann"
        project.document(f"{DAYS[0]}/0.txt", "What ann wrote.")
        list(refresh(work, [DAYS[0]]))
    request = next(r for r in waiting(stores) if (r.partition, r.status) == (DAYS[0], "open"))
    for name, role, says in (
        ("ann", "approver", "nobody signs what they made themselves"),
        ("rita", "reviewer", "takes the role approver"),
    ):
        visitor = running.visitor(known(stores, name, role))  # type: ignore[arg-type]
        refused = visitor.post("/decisions", decision(request))
        assert (refused.status_code, says in refused.json()["error"]) == (403, True), refused.text
        form = {"digest": request.digest, "verdict": "approve", "reason": "", "confirmed": "yes"}
        page = visitor.submit(f"/requests/{request.request_id}/decision", **form)
        assert (page.status_code, says in page.text) == (403, True)
    stranger = running.visitor(known(stores, "eve", None))
    hidden = stranger.get(f"/requests/{request.request_id}")
    missing = stranger.get("/requests/0000000000000000")
    assert hidden.status_code == missing.status_code == 404
    assert stranger.post("/decisions", decision(request)).status_code in (403, 404, 409)
    assert counted(stores, request) == 0


def test_an_expired_request_is_not_decided(running: DeskProcess, stores: Stores) -> None:
    request = waiting(stores)[0]
    with stores.state.write() as connection:
        close(connection, request, "expired", people.SYSTEM, "nobody decided in 14 days")
    ann = running.visitor(known(stores, "ann"))
    refused = ann.post("/decisions", decision(request))
    assert refused.status_code == 409
    assert "expired" in refused.json()["error"]
    assert "ask again" in ann.get(f"/requests/{request.request_id}").text.lower()


def test_a_role_taken_away_counts_at_once(running: DeskProcess, stores: Stores) -> None:
    request = waiting(stores)[0]
    ann = running.visitor(known(stores, "ann"))
    with stores.state.write() as connection:
        people.give(connection, "ann", "viewer", "*", by="test")
    assert ann.post("/decisions", decision(request)).status_code == 403
    with stores.state.write() as connection:
        people.disable(connection, "ann", by="test")
    assert ann.post("/decisions", decision(request)).status_code == 401


def test_the_desk_outlives_a_restart_of_its_database(
    project: Project, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", postgres.database("desk_faults"))
    project = Project(root=project.root, home=project.home.from_environment().ensure())
    project.documents(per_day=2)
    notes = project.declare()
    project.refresh(notes)
    stores = project.stores()
    request = waiting(stores)[0]
    known(stores, "ann")
    with desk(project) as running:
        ann = running.visitor("ann")
        assert ann.get("/").status_code == 200
        postgres.stop()
        try:
            away = ann.get("/")
            assert away.status_code == 503
            assert "Traceback" not in away.text
        finally:
            postgres.start()
        eventually(lambda: ann.get("/").status_code == 200)
        assert ann.post("/decisions", decision(request)).status_code == 200
        proof.verify(stores.state)
        assert publish(notes, stores, by="test").release.number == 1


def eventually(claim: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
