"""Claims about messages: each arrives once, a channel that fails is retried and shown, and holds up nobody."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from conftest import Project, free_port

from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, outbox, requests
from ai_assets.signoff.channels import without_secrets
from ai_assets.signoff.delivery import DeliveryCounts, deliver
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore

SECRET = "T0kenOfTheTeam"
DESK = "https://desk.example"
NOTHING = DeliveryCounts()
# Apprise imports a module of the standard library that goes with Python 3.13.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@dataclass
class Receiver:
    """A webhook that answers as it is told."""

    port: int
    got: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    may_answer: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    @property
    def numbers(self) -> list[str]:
        return [message["message"].rpartition("Message ")[2] for message in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver(port=0)
    found.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.got.append(body)
            found.may_answer.wait(60)
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_said: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def team(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """One channel, `team`, to the receiver."""
    monkeypatch.setenv("TEAM_URL", receiver.url)
    return {"team": "TEAM_URL"}


def ask(state: StateStore, number: int = 1, collection: str = "notes") -> list[SignoffRequest]:
    asked = []
    facts = {"documents": 12, "added": 3, "changed": 0, "low_confidence": 2, "cost_usd": 0.5}
    with state.write() as connection:
        for each in range(number):
            found = requests.open_request(
                connection, collection, f"part-{each}", f"{each:064x}", summary={}, facts=facts, risk=0.1,
                nothing_new=False,
            )  # fmt: skip
            assert found is not None
            asked.append(found)
    return asked


def later(hours: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="milliseconds")


def tell(state: StateStore, asked: list[SignoffRequest], kind: outbox.Kind = "opened", *to: str) -> None:
    with state.write() as connection:
        news = [outbox.News(kind=kind, request=each, waited="2 days", next="Something follows.") for each in asked]
        outbox.make(connection, news, to or ["team"], later())


def states(state: StateStore) -> list[str]:
    with state.read() as connection:
        return list(connection.execute(sa.text("SELECT state FROM notices ORDER BY made_at, notice_id")).scalars())


def failing(state: StateStore) -> dict[str, str]:
    with state.read() as connection:
        return outbox.failing(connection)


# What arrives


def test_a_message_tells_numbers_and_where_to_look_and_arrives_once(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    (request,) = ask(state)
    tell(state, [request])
    tell(state, [request])
    assert deliver(state, team, later(), desk_url=DESK) == DeliveryCounts(messages=1)
    assert [deliver(state, team, later(hours), desk_url=DESK) for hours in (0, 1, 100, -100)] == [NOTHING] * 4
    (got,) = receiver.got
    assert got["title"] == "notes part-0 waits for sign-off"
    lines = got["message"].splitlines()
    assert lines[0] == "12 documents, 3 added, 2 low confidence, $0.50."
    assert lines[2:] == [
        "Something follows.", f"{DESK}/requests/{request.request_id}",
        f"Message {outbox.notice_id(request.request_id, 'opened', 'team')}.",
    ]  # fmt: skip


def test_many_at_once_are_one_message_and_the_next_comes_later(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    asked = ask(state, 40)
    tell(state, asked[:30])
    assert deliver(state, team, later(), desk_url=DESK).messages == 1
    tell(state, asked[30:])
    assert deliver(state, team, later(0.05), desk_url=DESK) == NOTHING
    assert deliver(state, team, later(0.2), desk_url=DESK).messages == 1
    first, second = receiver.got
    assert (first["title"], second["title"]) == (
        "notes: 30 requests wait for sign-off", "notes: 10 requests wait for sign-off",
    )  # fmt: skip
    assert "and 5 more." in first["message"]
    assert f"{DESK}/requests/{asked[0].request_id}" in first["message"]
    assert set(states(state)) == {"sent"}


def test_collections_and_kinds_are_told_apart(state: StateStore, receiver: Receiver, team: dict[str, str]) -> None:
    tell(state, ask(state, 3), "reminded")
    tell(state, ask(state, 3, "papers"), "escalated")
    assert deliver(state, team, later()).messages == 2
    assert sorted(got["title"] for got in receiver.got) == [
        "notes: 3 requests still wait for sign-off (reminder)",
        "papers: 3 requests still wait for sign-off (escalated)",
    ]


def test_nobody_hears_that_something_waits_which_was_decided(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    first, second = ask(state, 2)
    tell(state, [first, second])
    with state.write() as connection:
        requests.close(connection, first, "rejected", "ann", "no")
    assert deliver(state, team, later()).messages == 1
    assert receiver.got[0]["title"] == "notes part-1 waits for sign-off"
    assert sorted(states(state)) == ["moot", "sent"]


def test_a_partition_with_an_odd_name_breaks_no_title(state: StateStore, team: dict[str, str]) -> None:
    with state.write() as connection:
        request = requests.open_request(
            connection, "notes", "a\r\nBcc: x@y\u202e", "d", summary={}, facts={}, risk=0, nothing_new=False
        )
    assert request is not None
    tell(state, [request])
    with state.read() as connection:
        title = connection.execute(sa.text("SELECT title FROM notices")).scalar_one()
    assert title == "notes a Bcc: x@y  waits for sign-off"


def test_a_mail_arrives_at_a_real_server(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    mails: list[Any] = []

    class Sink:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            mails.append(envelope)
            return "250 OK"

    sink = Controller(Sink(), hostname="127.0.0.1", port=free_port())
    sink.start()
    try:
        monkeypatch.setenv("MAIL", f"mailto://127.0.0.1:{sink.port}?from=desk@example.org&to=ann@example.org")
        tell(state, ask(state), "reminded", "mail")
        assert deliver(state, {"mail": "MAIL"}, later(), desk_url=DESK) == DeliveryCounts(messages=1)
    finally:
        sink.stop()
    (mail,) = mails
    assert mail.rcpt_tos == ["ann@example.org"]
    assert b"Subject: Reminder: notes part-0 has waited 2 days for sign-off" in mail.content
    assert b"12 documents, 3 added" in mail.content


# A channel that fails


def test_a_failing_channel_is_tried_again_ever_later_and_shown_until_it_works(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    receiver.status = 500
    tell(state, ask(state))
    at, tried = datetime.now(UTC), []
    for _ in range(600):  # ten hours of ticks
        at += timedelta(minutes=1)
        if deliver(state, team, at.isoformat(timespec="milliseconds")).failed:
            tried.append(at)
        if len(tried) == 9:
            break
    waits = [(b - a) / timedelta(minutes=1) for a, b in itertools.pairwise(tried)]
    assert waits == [1, 1, 2, 4, 8, 16, 32, 60]
    assert "error=500" in failing(state)["team"]
    receiver.status = 200
    assert deliver(state, team, (at + timedelta(hours=1)).isoformat(timespec="milliseconds")).messages == 1
    assert (failing(state), states(state)) == ({}, ["sent"])
    assert len(set(receiver.numbers)) == 1


def test_after_a_day_it_is_given_up_and_shown_until_something_arrives(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    receiver.status = 500
    first, second = ask(state, 2)
    tell(state, [first])
    for hour in range(2 * outbox.MOST_ATTEMPTS):
        deliver(state, team, later(hour + 1))
    assert (len(receiver.got), states(state)) == (outbox.MOST_ATTEMPTS, ["failed"])
    assert failing(state).keys() == {"team"}
    receiver.status = 200
    tell(state, [second])
    assert deliver(state, team, later(100)).messages == 1
    assert (failing(state), sorted(states(state))) == ({}, ["lost", "sent"])


def test_what_piled_up_while_it_failed_goes_out_as_one_message(
    state: StateStore, receiver: Receiver, team: dict[str, str]
) -> None:
    receiver.status = 503
    asked = ask(state, 5)
    for number, request in enumerate(asked):
        tell(state, [request])
        deliver(state, team, later(number / 60))
    receiver.status, receiver.got[:] = 200, []
    assert deliver(state, team, later(2)).messages == 1
    assert [got["title"] for got in receiver.got] == ["notes: 5 requests wait for sign-off"]


@pytest.mark.parametrize(
    ("channels", "url", "said"),
    [
        ({}, "", "desk.yaml declares no channel 'team' (it has: none)"),
        ({"team": "TEAM_URL"}, "", "the environment variable TEAM_URL, which should hold its address, is not set"),
        ({"team": "TEAM_URL"}, f"nonsense://{SECRET}", "the variable holds no address that Apprise knows"),
        ({"team": "TEAM_URL"}, f"json://ann:{SECRET}@127.0.0.1:1/{SECRET}?x={SECRET}", "Connection error"),
    ],
    ids=["not declared", "not set", "not an address", "refused"],
)
def test_an_error_says_what_is_wrong_and_holds_no_secret(
    state: StateStore, channels: dict[str, str], url: str, said: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TEAM_URL", url)
    tell(state, ask(state))
    assert deliver(state, channels, later()) == DeliveryCounts(failed=1)
    assert said in failing(state)["team"]
    with state.read() as connection:
        stored = [str(row) for row in connection.execute(sa.text("SELECT * FROM notices"))]
        stored += [str(record) for record in audit.records(connection)]
    assert SECRET not in "".join([*stored, caplog.text, *capfd.readouterr()])


def test_a_secret_is_taken_out_however_it_is_written() -> None:
    url = "tgram://123456:AA%2FBB-token@host.example/chat%40room/?format=html&pass=hunter2"
    said = "no route to host.example for AA%2FBB-token or AA/BB-token, chat@room (hunter2), in format html"
    assert without_secrets(said, url) == "no route to *** for *** or ***, *** (***), in format ***"


def test_a_channel_without_an_answer_holds_up_no_other_and_its_late_answer_counts(
    state: StateStore, receiver: Receiver, team: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as slow:
        monkeypatch.setenv("SLOW_URL", slow.url + "?rto=20")
        channels = {**team, "slow": "SLOW_URL"}
        slow.may_answer.clear()
        (request,) = ask(state)
        tell(state, [request], "opened", "slow", "team")
        started = time.monotonic()
        assert deliver(state, channels, later(), budget_s=0.5) == DeliveryCounts(messages=1, failed=1)
        assert time.monotonic() - started < 15
        assert len(receiver.got) == 1
        assert [*failing(state)] == ["slow"]
        assert failing(state)["slow"].startswith("no answer yet after ")
        deliver(state, channels, later(0.1), budget_s=0.2)
        assert len(slow.got) == 1  # it still has the message, so it does not get it again
        slow.may_answer.set()
        while "waiting" in states(state):
            deliver(state, channels, later(0.2), budget_s=0.2)
        assert (failing(state), len(slow.got)) == ({}, 1)


# Exactly once


def deliver_when_told(receiver_url: str, url: str, channels: dict[str, str], moment: str, gate: Barrier) -> None:
    os.environ["TEAM_URL"] = receiver_url
    state = StateStore(url)
    gate.wait(60)
    deliver(state, channels, moment)


def test_two_processes_at_once_send_each_message_once(
    state: StateStore, receiver: Receiver, team: dict[str, str], processes: ForkServerContext
) -> None:
    for name in "abcdefgh":
        tell(state, ask(state, 2, name))
    gate = processes.Barrier(2)
    both = [
        processes.Process(target=deliver_when_told, args=(receiver.url, state.url, team, later(), gate)) for _ in "ab"
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    deliver(state, team, later())
    assert sorted(got["title"][0] for got in receiver.got) == list("abcdefgh")


def test_a_process_killed_before_or_while_sending_loses_no_message(
    state: StateStore, receiver: Receiver, team: dict[str, str], processes: ForkServerContext
) -> None:
    """Killed while the receiver had it, the message comes again with the same number: it may be a second time."""
    tell(state, ask(state))  # and the process that made it is gone
    receiver.may_answer.clear()
    gate = processes.Barrier(1)
    doomed = processes.Process(target=deliver_when_told, args=(receiver.url, state.url, team, later(), gate))
    doomed.start()
    while not receiver.got:
        time.sleep(0.01)
    assert doomed.pid is not None
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    receiver.may_answer.set()
    assert states(state) == ["waiting"]
    assert deliver(state, team, later()).messages == 1  # at once: a dead process holds no lease
    assert (len(receiver.got), len(set(receiver.numbers))) == (2, 1)
    assert deliver(state, team, later(1)) == NOTHING


# The sensor


@pytest.fixture
def notes(project: Project) -> Collection:
    return project.declare(signoff={"notify": ["team"]})


def tick(project: Project, collection: Collection, cursor: str | None = None) -> tuple[str, str | None]:
    import dagster as dg  # here, because the processes above import this module, and need none of it

    from ai_assets.orchestration.automation import deadlines

    with project.instance() as instance, dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        found = deadlines([collection])(context)
        assert isinstance(found, dg.SkipReason)
        return found.skip_message or "", context.cursor


def test_a_tick_tells_of_what_is_new_and_then_of_nothing(
    project: Project, notes: Collection, receiver: Receiver, team: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_DESK_URL", DESK)
    (project.root / "desk.yaml").write_text("channels: {team: {url_env: TEAM_URL}}\n")
    ask(project.stores().state, 3)
    said, cursor = tick(project, notes)
    assert (said, cursor) == ("0 steps taken; 1 message sent; checkpoint of 3 audit records", "3")
    assert tick(project, notes, cursor) == ("0 steps taken; 0 messages sent", "3")
    assert f"{DESK}/" in receiver.got[0]["message"]


def test_a_wrong_desk_yaml_is_told_and_the_deadlines_go_on(project: Project, notes: Collection) -> None:
    (project.root / "desk.yaml").write_text("chanels: {}\n")
    said, _ = tick(project, notes)
    assert said.startswith("0 steps taken; no message was sent: ")
    assert "did you mean 'channels'" in said


def test_loading_the_definitions_loads_nothing_that_sends(project: Project, notes: Collection) -> None:
    asked = "import sys, definitions; print([m for m in ('apprise', 'starlette') if m in sys.modules])"
    path = os.pathsep.join([str(project.root), str(Path(__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
