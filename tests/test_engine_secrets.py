"""Claims about keys: whatever goes wrong, and whatever a provider repeats, a key is nowhere but in the environment."""

import json
import logging
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from conftest import free_port
from engines import CALLER, Asking, ask, attempts, endpoint, opened, question, settings, to_embed, together
from http_servers import serving
from provider import Provider

from ai_assets.inference.errors import EndpointRefuses, KeyMissing, KeyUnusable
from ai_assets.inference.records import Answer, Unanswered
from ai_assets.inference.settings import InferenceSettings

KEY = "sk-test-Zx81Qm7LkP0vR4tYw92HnB6cDs53Fg"
PIECE = KEY[8:24]
"""A part of it is a leak too."""
VARIABLE = "TEST_PROVIDER_KEY"


class Parrot(BaseHTTPRequestHandler):
    """A provider that repeats the key that it is given, in the way that the model's name says."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["authorization"].removeprefix("Bearer ")
        said = {"choices": [{"message": {"content": f"Your key is {key}."}}], "usage": {"prompt_tokens": 5}}
        match body["model"]:
            case "answers":
                self._say(200, json.dumps(said))
            case "refuses":
                self._say(200, json.dumps({"choices": [{"message": {"refusal": f"Not with {key}."}}]}))
            case "garbles":
                self._say(200, f"<html>{key}</html>")
            case "miscounts":
                self._say(200, json.dumps({**said, "usage": {"prompt_tokens": key}}))
            case "complains":
                self._say(401, json.dumps({"error": {"message": f"Incorrect API key provided: {key}"}}))
            case "complains late":
                self._say(400, json.dumps({"error": {"message": "x" * 270 + key}}))
            case "in plain words":
                self._say(500, f"upstream said: {key}")

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.send_header("x-request-id", self.headers["authorization"])
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


WAYS = ("answers", "refuses", "garbles", "miscounts", "complains", "complains late", "in plain words")


@pytest.fixture(scope="module")
def parrot() -> Iterator[str]:
    with serving(Parrot) as url:
        yield f"{url}/v1"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def one(url: str, model: str = "small") -> InferenceSettings:
    return settings({"mini": endpoint(url, key=VARIABLE, model=model, timeout_s=0.5)})


def check_nowhere(*said: str, folder: Path) -> None:
    for text in said:
        assert PIECE not in text
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert PIECE.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_the_provider_repeats_is_not_kept(
    way: str, parrot: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = ""
    with opened(f"sqlite:///{tmp_path}/state.db", one(parrot, way)) as engine:
        try:
            (result,) = engine.map([question(1)], CALLER)
            said = repr(result)
            assert isinstance(result, Answer) == (way == "answers")
        except EndpointRefuses as error:
            said = f"{error!r} {error} {''.join(traceback.format_exception(error))}"
            assert way == "complains"
        said += repr(engine) + repr(vars(engine))
        check_nowhere(said, caplog.text, folder=tmp_path)
    check_nowhere(repr(attempts(f"sqlite:///{tmp_path}/state.db")), folder=tmp_path)
    if way == "answers":
        assert "Your key is ***." in said


def test_a_key_works_and_is_nowhere_after_success_and_after_faults(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    state_url = f"sqlite:///{tmp_path}/state.db"
    faults = {"garbage": 0.08, "reset_after": 0.08, "truncated": 0.08, "server_error": 0.1}
    with Provider(key=KEY, fault=faults) as provider:
        asked = [make(number) for make in (question, to_embed) for number in range(30)]
        results = ask(state_url, one(provider.url), asked)
        assert sum(isinstance(result, Answer) for result in results) > 40
        check_nowhere(repr(results), caplog.text, folder=tmp_path)
        (program,) = together(Asking(state_url, one(provider.url), first=100, count=50))
        out, _ = program.process.communicate(timeout=300)
        check_nowhere(out, program.complaints(), folder=tmp_path)
        program.kill()


def test_a_refused_key_is_named_by_its_variable_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Provider(key="sk-another") as provider:
        (program,) = together(Asking(f"sqlite:///{tmp_path}/child.db", one(provider.url), count=10))
        said = program.said()
        assert f"Check the environment variable {VARIABLE}" in said["raised"]
        with pytest.raises(EndpointRefuses) as caught:
            ask(f"sqlite:///{tmp_path}/state.db", one(provider.url), [question(1)])
    shown = "".join(traceback.format_exception(caught.value))
    check_nowhere(shown, json.dumps(said), caplog.text, folder=tmp_path)


def test_a_key_is_nowhere_when_nobody_is_there_to_take_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (result,) = ask(f"sqlite:///{tmp_path}/state.db", one(f"http://127.0.0.1:{free_port()}/v1"), [question(1)])
    assert isinstance(result, Unanswered)
    assert result.error == "unreachable"
    check_nowhere(repr(result), caplog.text, folder=tmp_path)


@pytest.mark.parametrize("found", [f"{KEY}\n", f" {KEY} ", f"{KEY}\r\n"])
def test_a_key_from_a_file_may_end_with_a_line_break(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, found)
    with Provider(key=KEY) as provider:
        (result,) = ask(f"sqlite:///{tmp_path}/state.db", one(provider.url), [question(1)])
    assert isinstance(result, Answer)


@pytest.mark.parametrize("found", [f"{KEY}\nx", f"{KEY}\r\nx: y", f"{KEY}ö", "\n"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, found)
    with Provider(key=KEY) as provider, pytest.raises((KeyMissing, KeyUnusable, EndpointRefuses)) as caught:
        ask(f"sqlite:///{tmp_path}/state.db", one(provider.url), [question(1)])
    check_nowhere("".join(traceback.format_exception(caught.value)), folder=tmp_path)
    assert VARIABLE in str(caught.value)
