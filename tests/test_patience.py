"""Claims about endpoints that do not answer: they are named while the work waits, and end it by their patience."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from conftest import Project, free_port
from engines import CALLER, ask, check_books, declare, endpoint, question, questions, settings
from provider import Provider

from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import EndpointDown
from ai_assets.inference.records import Answer, Request
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.silence import FIRST_SAID_S, SLOW_SAID_S, Silence
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
PATIENCE_S = 1.0


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


@contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections and requests, and never answers."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@contextmanager
def closed_port() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_port()}/v1"


@contextmanager
def refusing_a_parameter() -> Iterator[str]:
    with Provider(script=[{"match": "response_format", "fault": "server_error", "times": None}]) as provider:
        yield provider.url


def impatient(url: str, **more: Any) -> dict[str, Any]:
    return endpoint(url, **{"patience_s": PATIENCE_S, "timeout_s": 0.3, "limits": {"concurrency": 8}, **more})


def heard(state_url: str, declared: InferenceSettings, requests: list[Request]) -> tuple[list[str], str]:
    """What is said while the requests wait, and what ends them."""
    lines: list[str] = []
    state = StateStore(state_url)
    try:
        with Engine(declared, state, lines.append) as engine, pytest.raises(EndpointDown) as ended:
            list(engine.map(requests, CALLER))
    finally:
        state.close()
    return lines, str(ended.value)


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        pytest.param(refusing_a_parameter, "HTTP 500", id="a server that answers 500 to a parameter"),
        pytest.param(closed_port, "no connection", id="a closed port"),
        pytest.param(black_hole, "no answer within", id="a server that takes everything and answers nothing"),
    ],
)
def test_an_endpoint_without_one_answer_is_named_first_and_then_ends_the_work(
    failing: Callable[[], Any], words: str, state_url: str
) -> None:
    with failing() as url:
        lines, ended = heard(state_url, settings({"mini": impatient(url)}), questions(30, schema=SCHEMA))
    assert lines
    assert all(line.startswith("endpoint 'mini' (model small) has not answered for ") for line in lines)
    assert words in lines[-1]
    assert "The run ends after 1 s without an answer (patience_s)" in lines[-1]
    assert ended.startswith("Endpoint 'mini' has not responded for ")
    assert words in ended
    assert "ai-assets inference test mini" in ended
    assert "endpoints.mini.patience_s" in ended
    check_books(state_url)


def test_patience_goes_by_the_endpoint_and_not_by_how_many_documents_there_are(state_url: str) -> None:
    """One document's attempts alone would end after a fraction of it, and its row says why."""
    with closed_port() as url:
        declared = settings({"mini": impatient(url, patience_s=60)})
        (result,) = ask(state_url, declared, [question(1)])
    assert not isinstance(result, Answer)
    assert result.error == "unreachable"


def test_another_endpoint_of_the_route_is_asked_before_patience_is_over(state_url: str) -> None:
    lines: list[str] = []
    with Provider() as provider, black_hole() as url:
        near = impatient(url, model="dark", timeout_s=0.1, patience_s=0.2)
        declared = settings({"near": near, "far": endpoint(provider.url)})
        state = StateStore(state_url)
        with Engine(declared, state, lines.append) as engine:
            results = list(engine.map(questions(20), CALLER))
        state.close()
    assert {result.endpoint for result in results if isinstance(result, Answer)} == {"far"}
    assert len(results) == 20
    assert all(isinstance(result, Answer) for result in results)
    assert all("Its requests go to the next endpoint of their route" in line for line in lines if "patience" in line)


def test_a_slow_answer_is_no_outage(state_url: str) -> None:
    with Provider(latency_ms=900) as provider:
        declared = settings({"mini": endpoint(provider.url, patience_s=0.1)})
        (result,) = ask(state_url, declared, [question(1)])
    assert isinstance(result, Answer)


def test_an_endpoint_that_recovers_is_said_to_answer_again(state_url: str) -> None:
    lines: list[str] = []
    with Provider(fault={"overloaded": 1.0}) as provider:

        def recover(line: str) -> None:
            lines.append(line)
            provider.configure(fault={})

        state = StateStore(state_url)
        with Engine(settings({"mini": impatient(provider.url, patience_s=8)}), state, recover) as engine:
            results = list(engine.map(questions(40), CALLER))
            if not any("answers again" in line for line in lines):  # what is said is said beside the calls
                results += list(engine.map(questions(200, first=100), CALLER))
        state.close()
    assert "HTTP 503" in lines[0]
    assert any(line.startswith("endpoint 'mini' answers again, after ") for line in lines)
    assert sum(isinstance(result, Answer) for result in results) >= 40


def test_each_caller_of_a_shared_engine_hears_of_its_own_waits(state_url: str) -> None:
    of_engine, of_job = list[str](), list[str]()
    state = StateStore(state_url)
    with (
        closed_port() as url,
        Engine(settings({"mini": impatient(url)}), state, of_engine.append) as engine,
        pytest.raises(EndpointDown),
    ):
        list(engine.map(questions(30), CALLER, of_job.append))
    state.close()
    assert of_job
    assert not of_engine


def test_a_run_names_the_endpoint_on_the_terminal_and_in_the_log_of_dagster_and_ends(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {"name": "brief", "kind": "summarise"}
    with closed_port() as url:
        declare(project.root, url, patience_s=2.0)
        project.declare(stages=[stage])
        project.documents(per_day=12, days=1)
        done = project.cli("run", "notes")
    assert done.returncode == 1
    assert "endpoint 'mini' (model rehearsal-mini) has not answered for " in done.stderr
    assert "Endpoint 'mini' has not responded for " in done.stderr
    assert "patience_s" in done.stderr
    with project.instance() as dagster:
        (run,) = dagster.get_runs(limit=1)
        logged = [entry.user_message for entry in dagster.all_logs(run.run_id)]
    assert any("endpoint 'mini' (model rehearsal-mini) has not answered for " in line for line in logged)


# The measure itself


def failing(silence: Silence, *, at: float) -> Silence:
    silence.begin(at, stays=True)
    silence.failed("unreachable", "no connection")
    return silence


def test_only_time_in_which_something_waits_counts() -> None:
    silence = failing(Silence(), at=100)
    silence.end(105, stays=True)
    silence.begin(3700, stays=True)
    assert silence.seconds(3701) == 6
    assert not silence.outlasts(10, 3701)
    assert silence.outlasts(10, 3705)


def test_an_answer_begins_the_time_again() -> None:
    silence = failing(Silence(), at=100)
    silence.answered(109)
    assert silence.seconds(112) == 3
    assert not silence.outlasts(2, 112)  # nothing has failed since


def test_a_429_is_no_outage_and_still_is_spoken_of() -> None:
    silence = Silence()
    silence.begin(0, stays=True)
    silence.failed("rate_limited", "HTTP 429: slow down")
    assert not silence.outlasts(300, 1000)
    assert silence.is_due(300, SLOW_SAID_S)


@pytest.mark.parametrize(
    ("patience_s", "first_s"), [(300, FIRST_SAID_S), (8, 2.0), (4000, FIRST_SAID_S)], ids=["default", "short", "long"]
)
def test_what_fails_is_named_at_growing_intervals_and_within_a_minute(patience_s: float, first_s: float) -> None:
    silence = failing(Silence(), at=0)
    said = []
    for tick in range(400 * 4):
        if silence.is_due(patience_s, tick / 4):
            silence.said_at_s = silence.seconds(tick / 4)
            said.append(tick / 4)
    assert said[0] == first_s
    gaps = [after - before for before, after in pairwise(said)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= 60


def test_nothing_is_said_of_an_endpoint_that_nobody_waits_for() -> None:
    silence = failing(Silence(), at=0)
    silence.end(1, stays=True)
    assert not silence.is_due(300, 1000)
