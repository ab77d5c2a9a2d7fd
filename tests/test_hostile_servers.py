"""Claims about servers and settings that go wrong in odd ways: each is named, costs no time and hides no other."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project
from engines import CALLER, one, opened, questions, settings, to_embed
from http_servers import scripted
from test_counted_tokens import counting

from ai_assets.inference.errors import InferenceInvalid, ServerMisfit
from ai_assets.inference.load import load_inference
from ai_assets.inference.queue_signal import METRIC, unread, waiting_in
from ai_assets.inference.records import Answer
from ai_assets.inference.settings import Endpoint, InferenceSettings
from ai_assets.inference.trial import tried
from ai_assets.inference.trial_reach import Reach, reach
from ai_assets.protocols.base import AS_USUAL, NotAnAnswer
from ai_assets.protocols.faults import retry_after_s
from ai_assets.protocols.http import Channel
from ai_assets.protocols.reading import packed
from ai_assets.protocols.registry import protocol_of
from ai_assets.storage.state import StateStore

CHAT = counting(10, 3)
LISTED = {"data": [{"id": "small"}]}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    found = StateStore(f"sqlite:///{tmp_path}/state.db")
    yield found
    found.close()


@pytest.fixture
def state_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


def tei(url: str, **more: Any) -> InferenceSettings:
    return settings({"mini": {"protocol": "tei", "base_url": url, "model": "org/small", "free": True, **more}})


def answers(state_url: str, declared: InferenceSettings, count: int, heard: list[str] | None = None) -> list[Answer]:
    say = None if heard is None else heard.append
    with opened(state_url, declared) as engine:
        found = list(engine.map(questions(count), CALLER, say))
    assert all(isinstance(result, Answer) for result in found), found
    return [result for result in found if isinstance(result, Answer)]


# What a model server says of its queue


def test_a_queue_that_holds_calls_back_is_said_although_each_is_answered(
    state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_assets.inference.queue_signal.POLL_S", 0.1)
    monkeypatch.setattr("ai_assets.inference.queue_signal.PATIENCE_S", 0.4)
    monkeypatch.setattr("ai_assets.inference.queue_signal.FIRST_SAID_S", 1.0)
    heard: list[str] = []
    with scripted(completions=CHAT, metrics=lambda _: f'{METRIC}{{model="x"}} 7.0\n') as server:
        answers(state_url, one(f"{server.url}/v1", options={"metrics": True}), 5, heard)
    assert 1 <= len(heard) <= 2, heard
    assert heard[0].startswith(f"endpoint 'mini' has requests waiting (7 now, by {METRIC}): calls have been held back")


def test_the_test_of_an_endpoint_notes_the_queue(state: StateStore) -> None:
    with scripted(models=lambda _: LISTED, metrics=lambda _: f"{METRIC} 7\n") as server:
        declared = one(f"{server.url}/v1", options={"metrics": True})
        found = tried("mini", declared, None)
    (note,) = found.notes
    assert note.startswith(f"7 requests wait at the server ({METRIC})")


def test_metrics_that_cannot_be_reached_are_said_in_the_run_and_noted_in_the_test(
    state_url: str, state: StateStore
) -> None:
    heard: list[str] = []
    nowhere = {"metrics": "http://127.0.0.1:9/metrics"}
    slow = counting(10, 3, wait_s=0.4)
    with scripted(completions=slow, models=lambda _: LISTED) as server:
        declared = one(f"{server.url}/v1", options=nowhere)
        answers(state_url, declared, 2, heard)
        found = tried("mini", declared, None)
    (line,) = heard
    assert "how many requests wait there is not known" in line
    assert "http://127.0.0.1:9/metrics, its option 'metrics', cannot be reached" in line
    (note,) = found.notes
    assert note.startswith("Its option 'metrics' leads to http://127.0.0.1:9/metrics, which cannot be reached")


def test_metrics_that_trickle_cost_one_look_and_not_each_call(state_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_assets.inference.queue_signal.READ_S", 1.2)
    monkeypatch.setattr("ai_assets.inference.queue_signal.POLL_S", 0.01)
    with silent() as address, scripted(completions=CHAT) as server:
        began = time.monotonic()
        answers(state_url, one(server.url, limits={"concurrency": 1}, options={"metrics": f"{address}/metrics"}), 6)
        assert time.monotonic() - began < 4


@contextmanager
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    "address", ["http://[::1/metrics", "http://a..b/metrics", f"http://{'a' * 80}.example/metrics"]
)
def test_an_address_of_metrics_that_is_none_is_refused_when_it_is_read(address: str, tmp_path: Path) -> None:
    declared = {"base_url": "http://h/v1", "model": "m", "free": True, "options": {"metrics": address}}
    assert "option 'metrics' should be true, or an address" in refused({"own": declared}, tmp_path)


def refused(endpoints: dict[str, Any], folder: Path) -> str:
    (folder / "inference.yaml").write_text(yaml.safe_dump({"endpoints": endpoints}))
    with pytest.raises(InferenceInvalid) as found:
        load_inference(folder / "inference.yaml")
    return str(found.value)


@pytest.mark.parametrize(
    ("line", "waiting", "why"),
    [
        (f'{METRIC}{{model="x"}} 2 1395066363000', 2.0, None),
        (f"{METRIC} 1.2.3", None, f"has {METRIC} 1.2.3, which is no count of requests"),
        (f"{METRIC} -1", None, f"has {METRIC} -1, which is no count of requests"),
        (f"{METRIC} NaN", None, f"has {METRIC} NaN, which is no count of requests"),
        (f"{METRIC} 1e999", None, f"has {METRIC} 1e999, which is no count of requests"),
        ("other 3", None, f"has no {METRIC}"),
    ],
)
def test_a_count_that_is_none_is_named(line: str, waiting: float | None, why: str | None) -> None:
    assert (waiting_in(f"{line}\n"), unread(200, f"{line}\n")) == (waiting, why)


def test_a_count_that_is_none_ends_the_work_with_one_sentence(state_url: str) -> None:
    with (
        scripted(completions=CHAT, metrics=lambda _: f"{METRIC} 1.2.3\n") as server,
        pytest.raises(ServerMisfit, match=r"1\.2\.3, which is no count of requests"),
    ):
        answers(state_url, one(f"{server.url}/v1", options={"metrics": True}), 1)


# What cannot be sent


def test_a_key_with_a_line_break_is_named_and_never_shown(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN_KEY", "sk-first\nsk-second")
    found = tried("mini", one("http://127.0.0.1:9", key="BROKEN_KEY"), state)
    assert "BROKEN_KEY" in (found.problem or "")
    assert "sk-" not in (found.problem or "")


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 80}.example"])
def test_a_host_that_cannot_be_written_is_refused_when_it_is_read(host: str, tmp_path: Path) -> None:
    said = refused({"own": {"base_url": f"http://{host}/v1", "model": "m", "free": True}}, tmp_path)
    assert f"'{host}' is no name of a host" in said
    assert Endpoint.model_validate({"base_url": "http://bücher.example/v1", "model": "m", "free": True})


async def sent_nowhere() -> Any:
    declared = Endpoint.model_validate({"base_url": "http://h/v1", "model": "m", "free": True})
    channel = Channel(declared, "http://a..b/v1", None)
    try:
        return await channel.send([b"{}"], "chat", timeout_s=5, delivery=AS_USUAL), await channel.read_aside(
            "models", 5
        )
    finally:
        await channel.close()


def test_a_name_that_cannot_be_looked_up_is_no_call_that_may_be_billed() -> None:
    (fault,), aside = asyncio.run(sent_nowhere())
    assert (fault.error, aside) == ("unreachable", None)


def test_kserve_is_refused_for_shorter_vectors_when_the_collection_is_read(project: Project) -> None:
    from ai_assets.collection.errors import CollectionInvalid

    kserve = {"protocol": "kserve", "base_url": "http://h", "model": "m", "free": True}
    kserve["options"] = {"input": "text", "output": "embedding"}
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": {"own": kserve}}))
    with pytest.raises(
        CollectionInvalid, match=r"embedding\.shorten: endpoint 'own' speaks 'kserve', which cannot ask"
    ):
        project.declare(embedding={"route": "own", "dimensions": 8, "shorten": True})


# What an answer may hold


def test_a_name_that_no_terminal_can_show_is_shown_without_it(project: Project) -> None:
    odd = {**CHAT({}), "model": "sm\ud800all"}
    with scripted(completions=lambda _: odd, models=lambda _: LISTED) as server:
        declared = {"mini": {"base_url": server.url, "model": "small", "free": True}}
        (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": declared}))
        said = project.cli("inference", "test", "mini")
    assert "Traceback" not in said.stderr
    assert "as small" in said.stdout


@pytest.mark.parametrize(
    "value",
    ["Wed, 21 Oct 99999999999 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 +99999999999999", "soon", "", "²"],
)
def test_a_time_to_wait_that_is_none_is_none(value: str) -> None:
    assert retry_after_s({"retry-after": value}) is None
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT", "date": value}) is None


TWICE = [{"index": place, "score": 0.5} for place in (0, 1, 0, 1)]


@pytest.mark.parametrize(
    ("answer", "asked", "says"),
    [
        ([[0.1], [0.2], [0.3]], {"inputs": "a"}, "2 texts were sent, and 3 answers came back"),
        (TWICE, {"texts": ["a"]}, "2 texts were sent, and 4 scores came back"),
        ([[], []], {"inputs": "a", "raw_scores": False}, "a text has no label"),
        ([[], []], {"inputs": "a"}, "a vector is empty"),
        ([[0.1, None], [0.2, 0.3]], {"inputs": "a"}, "a vector holds what is no number"),
    ],
)
def test_what_a_tei_server_gives_instead_is_said_in_plain_words(answer: Any, asked: Any, says: str) -> None:
    protocol = protocol_of("tei")
    text = protocol.text({}, json.dumps(answer).encode())
    with pytest.raises(NotAnAnswer) as found:
        protocol.split(text, [json.dumps(asked).encode()] * 2)
    assert str(found.value).removesuffix(", not one for each") == says


def test_a_body_with_a_second_answer_in_it_is_none() -> None:
    protocol = protocol_of("tei")
    text = protocol.text({}, b'[[1,2]],"tokens":5,"answer":[[1,2,3]]')
    with pytest.raises(NotAnAnswer, match="no JSON"):
        protocol.split(text, [b'{"inputs":"a"}'])


@pytest.mark.parametrize("vector", [[None], ["a"], None])
def test_no_word_of_python_is_in_what_is_said_of_a_vector(vector: Any) -> None:
    with pytest.raises(NotAnAnswer, match=r"^a vector holds what is no number$"):
        packed(vector)


# What a server says of itself


@pytest.mark.parametrize("says", [{}, {"model_id": None}, (404, {}, "nope")], ids=["nothing", "no name", "404"])
def test_what_is_no_such_server_says_what_to_correct(says: Any, state: StateStore) -> None:
    with scripted(info=lambda _: says) as server:
        found = tried("mini", tei(server.url), state)
    assert "correct base_url" in (found.problem or "")
    assert "None" not in (found.problem or "")


def test_a_look_that_hangs_is_made_once_and_said(state_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_assets.protocols.http.ASIDE_TIMEOUT_S", 1.2)
    heard: list[str] = []

    def hangs(_body: dict[str, Any]) -> Any:
        time.sleep(3)
        return {}

    def vector(_body: dict[str, Any]) -> Any:
        time.sleep(0.4)
        return [[0.6, 0.8]]

    vectors = {"embed": vector, "info": hangs}
    with scripted(**vectors) as server, opened(state_url, tei(server.url, texts_per_request=1)) as engine:
        began = time.monotonic()
        found = list(engine.map([to_embed(number) for number in range(6)], CALLER, heard.append))
        assert time.monotonic() - began < 3
        assert all(isinstance(result, Answer) for result in found)
        found = list(engine.map([to_embed(7)], CALLER, heard.append))
        assert [path for path in server.asked if path.endswith("info")] == ["/info"]
    (line,) = heard
    assert line.startswith("endpoint 'mini' did not say in 1 s what it has and takes; it is asked as it is declared")


def other(kind: str, answer: Any) -> dict[str, Any]:
    refusal: tuple[int, dict[str, str], str] = (
        424,
        {},
        json.dumps({"error": "`/embed` is only available for embedding models", "error_type": "backend"}),
    )
    path = {"reranker": "rerank", "classifier": "predict"}[kind]
    return {
        "info": lambda _: {"model_id": "org/small", "model_type": {kind: {}}},
        "embed": lambda _: refusal,
        path: lambda _: answer,
    }


@pytest.mark.parametrize(
    ("kind", "answer", "says"),
    [
        ("reranker", '[{"index": 0, "score": NaN}]', "is no number"),
        ("reranker", [], "1 text was sent, and 0 scores came back"),
        ("classifier", [[]], "a text has no label"),
        ("classifier", '[[{"label": "pos", "score": NaN}]]', "is no number"),
    ],
)
def test_a_reranker_or_classifier_that_fails_is_named_by_its_own_fault(
    kind: str, answer: Any, says: str, state: StateStore
) -> None:
    with scripted(**other(kind, answer)) as server:
        found = tried("mini", tei(server.url), state)
    assert says in (found.problem or "")
    assert "/embed" not in (found.problem or "")


def test_one_endpoint_that_cannot_be_tried_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach_or_not(endpoint: Endpoint, *given: Any) -> Reach:
        if endpoint.llm == "bad":
            raise ZeroDivisionError("nobody foresaw this")
        return reach(endpoint, *given)

    monkeypatch.setattr("ai_assets.inference.trial.reach", reach_or_not)
    with scripted(models=lambda _: LISTED, completions=CHAT) as server:
        mini = {"base_url": server.url, "model": "small", "free": True}
        declared = InferenceSettings.model_validate({"endpoints": {"bad": {**mini, "model": "bad"}, "good": mini}})
        bad, good = (tried(name, declared, None) for name in declared.endpoints)
    assert "Endpoint 'bad' could not be tried: ZeroDivisionError: nobody foresaw this." in (bad.problem or "")
    assert good.works


def test_a_chat_server_whose_vectors_are_none_is_noted(state: StateStore) -> None:
    nothing = {"data": [{"index": 0, "embedding": [float("nan")] * 2}], "model": "small"}
    with scripted(models=lambda _: LISTED, completions=CHAT, embeddings=lambda _: nothing) as server:
        found = tried("mini", one(server.url), state)
    assert found.works
    assert "not by a vector that can be used: its vector has numbers that are not finite." in " ".join(found.notes)
