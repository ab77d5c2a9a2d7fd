"""Claims about the desk at the worst moments: killed, raced, replayed, overtaken, its store away."""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import sqlalchemy as sa
from conftest import Postgres, Project, eventually, project_at
from desks import DeskProcess, Visitor, desk
from signing import current, known

from ai_assets.collection.loading import Collection
from ai_assets.run.refresh import refresh
from ai_assets.signoff import people, verification
from ai_assets.signoff.launches import Launch, Launcher
from ai_assets.signoff.people import Role
from ai_assets.signoff.publication import publish
from ai_assets.signoff.requests import SignoffRequest, close
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Office:
    """A desk in a process of its own, and days enough that no claim decides on the day of another."""

    project: Project
    notes: Collection
    stores: Stores
    running: DeskProcess
    days: Iterator[str]

    def visitor(self, name: str, role: Role | None = "approver") -> Visitor:
        return self.running.visitor(known(self.stores.state, name, role))

    def waiting(self) -> SignoffRequest:
        """A request that nobody else has touched."""
        return current(self.stores.state, next(self.days))

    def redraft(self, day: str, text: str, launch: Launch | None = None) -> SignoffRequest:
        """A new candidate of a day, and the request that waits now."""
        self.project.document(f"{day}/0.txt", text)
        with self.project.work(self.notes) as work:
            work.launch = launch or work.launch
            list(refresh(work, [day]))
        return current(self.stores.state, day)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    days = [f"2026-10-{day:02d}" for day in range(5, 15)]
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("office"), patch)
        project.documents(per_day=1, days=len(days))
        notes = project.declare(partitions={"by": "day", "start": days[0], "end": days[-1]})
        project.refresh(notes)
        with project.stores() as stores, desk(project) as running:
            yield Office(project=project, notes=notes, stores=stores, running=running, days=iter(days))


def decision(request: SignoffRequest, verdict: str = "approve", reason: str | None = None) -> dict[str, object]:
    choice = {"request_id": request.request_id, "digest": request.digest}
    return {"choices": [choice], "verdict": verdict, "reason": reason, "waivers": {}}


def counted(stores: Stores, request: SignoffRequest) -> int:
    """Decisions on a request, as the chain has them."""
    query = sa.text("SELECT count(*) FROM audit WHERE request_id = :id AND action IN ('approved', 'rejected')")
    with stores.state.read() as connection:
        return int(connection.execute(query, {"id": request.request_id}).scalar_one())


def test_a_desk_killed_during_a_decision_has_taken_it_whole_or_not_at_all(office: Office) -> None:
    visitor, day = office.visitor("ann"), next(office.days)
    moments = random.Random(4)
    for draft in range(5):
        request = office.redraft(day, f"Draft {draft} on the pump.")
        answers: list[int] = []
        sender = threading.Thread(target=sent, args=(visitor, decision(request), answers))
        sender.start()
        time.sleep(moments.uniform(0, 0.03))
        office.running.kill()
        sender.join()
        verification.verify(office.stores.state)
        taken = counted(office.stores, request)
        assert (taken, current(office.stores.state, day).status) in ((0, "open"), (1, "approved"))
        assert taken == 1 or 200 not in answers  # what was confirmed is there
        office.running.start()
        again = visitor.post("/decisions", decision(request))  # her session outlives the process
        assert again.status_code == (200 if taken == 0 else 409), again.text
        assert counted(office.stores, request) == 1


def sent(visitor: Visitor, body: object, answers: list[int]) -> None:
    try:
        answers.append(visitor.post("/decisions", body).status_code)
    except httpx.HTTPError:
        answers.append(0)


def test_of_two_who_decide_at_the_same_instant_one_counts_and_the_other_is_told(office: Office) -> None:
    ann, ben = office.visitor("ann"), office.visitor("ben")
    for _ in range(3):
        request, gate, said = office.waiting(), threading.Barrier(2), {}

        def act(visitor: Visitor, verdict: str, request: SignoffRequest = request, gate: threading.Barrier = gate,
                said: dict[str, httpx.Response] = said) -> None:  # fmt: skip
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
        assert counted(office.stores, request) == 1
    verification.verify(office.stores.state)


def test_a_replayed_form_decides_nothing_twice(office: Office) -> None:
    request, ann = office.waiting(), office.visitor("ann")
    form = {"digest": request.digest, "verdict": "approve", "reason": "", "confirmed": "yes"}
    first = ann.submit(f"/requests/{request.request_id}/decision", **form)
    assert first.status_code == 200
    again = ann.submit(f"/requests/{request.request_id}/decision", **form)
    assert again.status_code == 409
    assert "was approved by ann" in again.text
    assert counted(office.stores, request) == 1


def test_a_form_of_a_candidate_that_was_replaced_decides_nothing(office: Office) -> None:
    seen, ann = office.waiting(), office.visitor("ann")
    newer = office.redraft(seen.partition, "Another text, drafted while ann was reading.")
    form = {"verdict": "approve", "reason": "", "confirmed": "yes"}
    refused = ann.submit(f"/requests/{seen.request_id}/decision", digest=seen.digest, **form)
    assert refused.status_code == 409
    assert ann.submit(f"/requests/{newer.request_id}/decision", digest=seen.digest, **form).status_code == 409
    assert newer.request_id in ann.get(f"/requests/{seen.request_id}").text  # the way to what waits now
    assert [counted(office.stores, request) for request in (seen, newer)] == [0, 0]


def test_who_may_not_decide_is_refused_on_the_page_and_by_the_api(office: Office) -> None:
    hers = Launch.of(Launcher(kind="person", who="ann", proof="desk"), ["run config"])
    request = office.redraft(next(office.days), "What ann wrote.", launch=hers)
    for visitor, says in (
        (office.visitor("ann"), "nobody signs what they made themselves"),
        (office.visitor("rita", "reviewer"), "takes the role approver"),
    ):
        refused = visitor.post("/decisions", decision(request))
        assert (refused.status_code, says in refused.json()["error"]) == (403, True), refused.text
        form = {"digest": request.digest, "verdict": "approve", "reason": "", "confirmed": "yes"}
        page = visitor.submit(f"/requests/{request.request_id}/decision", **form)
        assert (page.status_code, says in page.text) == (403, True)
    stranger = office.visitor("eve", None)
    hidden = stranger.get(f"/requests/{request.request_id}")
    missing = stranger.get("/requests/0000000000000000")
    assert hidden.status_code == missing.status_code == 404
    assert stranger.post("/decisions", decision(request)).status_code in (403, 404, 409)
    assert counted(office.stores, request) == 0


def test_an_expired_request_is_not_decided(office: Office) -> None:
    request, ann = office.waiting(), office.visitor("ann")
    with office.stores.state.write() as connection:
        close(connection, request, "expired", people.SYSTEM, "nobody decided in 14 days")
    refused = ann.post("/decisions", decision(request))
    assert refused.status_code == 409
    assert "expired" in refused.json()["error"]
    assert "ask again" in ann.get(f"/requests/{request.request_id}").text.lower()


def test_a_role_taken_away_counts_at_once(office: Office) -> None:
    request, tom = office.waiting(), office.visitor("tom")
    with office.stores.state.write() as connection:
        people.give(connection, "tom", "viewer", "*", by="test")
    assert tom.post("/decisions", decision(request)).status_code == 403
    with office.stores.state.write() as connection:
        people.disable(connection, "tom", by="test")
    assert tom.post("/decisions", decision(request)).status_code == 401


def test_the_desk_outlives_a_restart_of_its_database(
    project: Project, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", postgres.database("desk_faults"))
    project = Project(root=project.root, home=project.home.from_environment().ensure())
    project.documents(per_day=1)
    notes = project.declare()
    project.refresh(notes)
    stores = project.stores()
    request = current(stores.state, "2026-10-05")
    with desk(project) as running:
        ann = running.visitor(known(stores.state))
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
        verification.verify(stores.state)
        assert publish(notes, stores, by="test").release.number == 1
