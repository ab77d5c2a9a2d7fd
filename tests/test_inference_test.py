"""Claims about `ai-assets inference test`: a tiny call where all is well, and a sentence with a remedy where not."""

import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project, free_port
from engines import endpoint, rows, settings
from provider import Provider
from test_patience import black_hole, closed_port

from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.trial import CALLER, Trial, tried
from ai_assets.storage.state import StateStore

SHORT_S = 0.5


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as found:
        yield found


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, models=[], key=None, tei_type=None, batch_wire="openai")
    running.reset()
    running.script([])
    return running


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    found = StateStore(f"sqlite:///{tmp_path}/state.db")
    yield found
    found.close()


Page = tuple[int, str]
Pages = Mapping[tuple[str, str], Page | Callable[[bytes], Page]]


@dataclass
class Answering:
    """What a server that is none of ours answers, by method and path."""

    pages: "Pages"
    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def answering(pages: Pages, certificate: Path | None = None) -> Iterator[Answering]:
    found = Answering(pages)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.asked.append(f"{self.command} {self.path}")
            page = found.pages.get((self.command, self.path), (404, '{"detail":"Not Found"}'))
            status, text = page(body) if callable(page) else page
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", text)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        found.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def trial(state: StateStore | None, url: str, **more: Any) -> Trial:
    return tried("mini", declared(url, **more), state)


def declared(url: str, **more: Any) -> InferenceSettings:
    return settings({"mini": endpoint(url, **more)})


def test_where_all_is_as_declared_one_chat_and_one_embedding_say_everything(
    provider: Provider, state: StateStore
) -> None:
    found = trial(state, provider.url)
    assert (found.works, found.changes, found.calls) == (True, {}, 2)
    assert (found.structured, found.logprobs, found.usage) == ("json_schema", True, True)
    assert (found.answered_model, found.embedding_dimensions) == ("small", 256)
    assert found.latency_s is not None
    assert found.price == "$0.15 in, $0.6 out per million tokens since 2026-01-01"
    assert provider.stats()["calls"] == 2


def test_its_calls_are_in_the_ledger_under_its_name_and_cost_what_it_says(
    provider: Provider, state: StateStore
) -> None:
    found = trial(state, provider.url)
    booked = rows(state, "SELECT c.asset, a.cost_nusd FROM attempts a JOIN callers c USING (caller_id)")
    assert {row.asset for row in booked} == {CALLER.asset}
    assert sum(row.cost_nusd for row in booked) == round(found.cost_usd * 1e9) > 0


def test_each_test_asks_again_instead_of_reading_the_ledger(provider: Provider, state: StateStore) -> None:
    assert trial(state, provider.url).calls == trial(state, provider.url).calls == 2


def test_it_is_bound_by_budgets_like_any_call(provider: Provider, state: StateStore) -> None:
    budgets = [{"name": "none", "limit_usd": 0}]
    found = tried("mini", settings({"mini": endpoint(provider.url)}, budgets=budgets), state)
    assert found.problem is not None
    assert found.problem.startswith("Budget 'none'")
    assert provider.stats()["calls"] == 0


def test_without_calls_it_is_only_reached_and_nothing_is_booked(provider: Provider) -> None:
    found = trial(None, provider.url)
    assert (found.works, found.reached, found.models, found.calls) == (True, True, ("rehearsal",), 0)
    assert provider.stats()["calls"] == 0


@pytest.mark.parametrize(
    ("refused", "changes"),
    [
        pytest.param(["json_schema"], {"structured": "json_object"}, id="wants json_object"),
        pytest.param(["json_schema", "json_object"], {"structured": "none"}, id="wants to be told in words"),
        pytest.param(["logprobs"], {"logprobs": "false"}, id="knows no logprobs"),
        pytest.param(["max_tokens"], {"output_limit": "max_completion_tokens"}, id="another name of the limit"),
        pytest.param(["logprobs", "json_schema"], {"logprobs": "false", "structured": "json_object"}, id="two at once"),
    ],
)
@pytest.mark.parametrize("fault", ["server_error", "error_page"])
def test_the_parameter_that_a_server_does_not_take_is_found_by_trying(
    refused: list[str], changes: Mapping[str, str], fault: str, provider: Provider, state: StateStore
) -> None:
    provider.script([{"match": f'"{word}"', "fault": fault, "times": None} for word in refused])
    found = trial(state, provider.url)
    assert found.works, found.problem
    assert dict(found.changes) == changes
    assert found.lines[:2] == ["endpoints:", "  mini:"]
    read = yaml.safe_load("\n".join(found.lines))["endpoints"]["mini"]
    assert trial(state, provider.url, **read).changes == {}


def test_a_400_to_a_parameter_is_found_as_well(state: StateStore) -> None:
    said = {"model": "m", "choices": [{"message": {"content": '{"answer": "yes"}'}, "finish_reason": "stop"}]}

    def page(body: bytes) -> Page:
        refused = b"response_format" in body
        return (400, '{"error": {"message": "Unrecognized request argument"}}') if refused else (200, json.dumps(said))

    with answering({CHAT: page}) as server:
        found = trial(state, f"{server.url}/v1", free=True)
    assert dict(found.changes) == {"structured": "none"}


MODELS = '{"object": "list", "data": [{"id": "small"}, {"id": "large"}]}'
CHAT = ("POST", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        pytest.param({CHAT: (404, '{"error": {"message": "The model `small` does not exist"}}')},
                     ["has no model 'small'", "correct `model`"], id="404 of the model"),
        pytest.param({("GET", "/v1/models"): (200, MODELS)},
                     ["has nothing at ", "/v1/chat/completions", "HTTP 404", "correct `base_url`"], id="no such path"),
        pytest.param({("GET", "/v1/models"): (401, "{}")},
                     ["refuses the key (HTTP 401)", "name the variable of a `key:`"], id="401 of the list"),
        pytest.param({CHAT: (401, '{"error": {"message": "no key"}}')},
                     ["refuses the key (HTTP 401: no key)"], id="401 of the call"),
        pytest.param({CHAT: (500, '{"error": {"message": "out of memory"}}')},
                     ["fails at the smallest request (HTTP 500: out of memory)", "log of the server"], id="always 500"),
        pytest.param({("GET", "/v1/models"): (200, "<html>hello</html>"), CHAT: (200, "<html>hello</html>")},
                     ["not as the protocol 'openai' has it", "is `base_url` right?"], id="a web page"),
        pytest.param({CHAT: (200, '{"choices": []}')},
                     ["promises: a list in it is empty, or too short)"], id="no choice"),
        pytest.param({CHAT: (200, "{}")}, ["promises: it has no 'choices')"], id="another object"),
        pytest.param({CHAT: (200, "[]")}, ["promises: a list stands where an object should)"], id="a list"),
        pytest.param({CHAT: (503, '{"error": {"message": "loading"}}')},
                     ["takes no call now (HTTP 503: loading)", "still loads its model"], id="503"),
        pytest.param({("GET", "/v1/models"): (301, "https://elsewhere.example/v1/models")},
                     ["redirect to https://elsewhere.example/v1/models"], id="a redirect"),
        pytest.param({CHAT: (429, '{"error": {"message": "slow down"}}')},
                     ["takes no call now (HTTP 429: slow down)"], id="429"),
        pytest.param({CHAT: (402, '{"error": {"message": "no money"}}')},
                     ["the account has no money left"], id="no money"),
    ],
)  # fmt: skip
def test_each_failure_is_one_sentence_with_what_to_do(pages: Pages, words: list[str], state: StateStore) -> None:
    with answering(pages) as server:
        found = trial(state, f"{server.url}/v1", free=True)
    assert found.problem is not None
    assert found.problem.startswith("Endpoint 'mini' ")
    assert found.problem[-2:] not in ("?.", "..")
    assert "\n" not in found.problem
    for word in words:
        assert word in found.problem


@pytest.mark.parametrize("state_of", ["with calls", "without"])
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://no-such-host.invalid/v1", ["no address is known for 'no-such-host.invalid'", "spelling"]),
        (f"http://127.0.0.1:{free_port()}/v1", ["refuses the connection", "start the server"]),
    ],
    ids=["unknown name", "closed port"],
)
def test_what_is_not_there_is_told_without_a_call(url: str, words: list[str], state_of: str, state: StateStore) -> None:
    found = trial(state if state_of == "with calls" else None, url)
    assert found.calls == 0
    assert found.problem is not None
    assert all(word in found.problem for word in words)


def test_a_server_that_takes_everything_and_answers_nothing_is_told_by_the_time_limit() -> None:
    with black_hole() as url:
        found = tried("mini", declared(url), None, timeout_s=SHORT_S)
    assert found.problem is not None
    assert "does not answer within 0.5 s" in found.problem


def test_an_address_without_v1_is_corrected(state: StateStore) -> None:
    with answering({("GET", "/v1/models"): (200, MODELS)}) as server:
        found = trial(state, server.url)
        assert found.lines == ["endpoints:", "  mini:", f"    base_url: {server.url}/v1"]
    assert found.problem is not None
    assert found.calls == 0


def test_plain_http_and_tls_are_told_apart(tmp_path: Path) -> None:
    with answering({}) as server:
        tls = trial(None, server.url.replace("http://", "https://") + "/v1")
    assert tls.problem is not None
    assert f"speaks no TLS at {server.url.removeprefix('http://')}" in tls.problem
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine, so the certificate that is not trusted was not tried")
    key = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", tmp_path / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    key.write_text(key.read_text() + (tmp_path / "cert.pem").read_text())
    with answering({}, key) as server:
        untrusted = trial(None, f"{server.url}/v1")
    assert untrusted.problem is not None
    assert "certificate" in untrusted.problem
    assert "SSL_CERT_FILE" in untrusted.problem


def test_a_server_that_only_embeds_works(state: StateStore) -> None:
    vector = json.dumps({"model": "e5", "data": [{"index": 0, "embedding": [0.5] * 8}], "usage": {"prompt_tokens": 3}})
    with answering({("POST", "/v1/embeddings"): (200, vector)}) as server:
        found = trial(state, f"{server.url}/v1", free=True)
    assert (found.works, found.embedding_dimensions, found.structured) == (True, 8, None)
    assert found.answered_model == "e5"


@pytest.mark.parametrize(
    ("output", "words"),
    [("embedding", None), ("score", "refuses even the smallest request (HTTP 400: the output 'score'")],
)
def test_a_model_of_kserve_that_only_embeds_works_and_what_neither_chats_nor_embeds_is_told(
    output: str, words: str | None, provider: Provider, state: StateStore
) -> None:
    options = {"input": "text", "output": output}
    found = trial(state, provider.root, protocol="kserve", options=options, free=True)
    assert found.works is (words is None), found.problem
    assert found.embedding_dimensions == (256 if words is None else 0)
    assert (words or "") in (found.problem or "")


@pytest.mark.parametrize(
    ("kind", "declared"),
    [
        ("reranker", {"protocol": "tei", "model": "rehearsal-embed"}),
        ("classifier", {"protocol": "tei", "model": "rehearsal-embed"}),
        ("reranker", {"protocol": "kserve", "options": {"input": "text", "output": "score", "query": "query"}}),
    ],
)
def test_a_server_that_only_reranks_or_only_classifies_works(
    kind: str, declared: dict[str, Any], provider: Provider, state: StateStore
) -> None:
    provider.configure(tei_type=kind)
    found = trial(state, provider.root, free=True, **declared)
    assert found.works, found.problem
    assert (found.embedding_dimensions, found.structured) == (0, None)
    assert (found.scores is True, bool(found.labels)) == (kind == "reranker", kind == "classifier")


@pytest.mark.parametrize("with_calls", [True, False])
def test_where_batches_are_declared_it_is_seen_whether_there_are_any(
    with_calls: bool, provider: Provider, state: StateStore
) -> None:
    store = state if with_calls else None
    found = trial(store, provider.url, batch={"price_share": 0.5})
    assert (found.works, found.batches) == (True, True)
    assert not [note for note in found.notes if "batch" in note]
    assert trial(store, provider.url).batches is None
    answer = {"message": {"content": '{"answer": "yes"}'}, "finish_reason": "stop"}
    said = json.dumps({"model": "m", "choices": [answer], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
    with answering({("GET", "/v1/models"): (200, MODELS), CHAT: (200, said)}) as server:
        found = trial(store, f"{server.url}/v1", batch={"price_share": 0.5})
    assert (found.works, found.batches) == (True, False)
    assert "its batches cannot be listed (HTTP 404" in found.notes[-1]


@pytest.mark.parametrize(("there", "declared"), [("openai", "together"), ("together", "openai")])
def test_another_batch_api_than_the_declared_one_is_named(there: str, declared: str, provider: Provider) -> None:
    provider.configure(batch_wire=there)
    found = trial(None, provider.url, batch={"price_share": 0.5, "wire": declared})
    assert found.batches is False
    assert f"With `wire: {there}` under `batch` they can be listed." in found.notes[-1]
    assert trial(None, provider.url, batch={"price_share": 0.5, "wire": there}).batches is True


def test_of_a_model_that_answers_neither_as_a_chat_nor_as_an_embedder_both_are_said(state: StateStore) -> None:
    other = {"model_name": "small", "outputs": [{"name": "other", "shape": [1], "datatype": "FP32", "data": [0.5]}]}
    pages = {("GET", "/v2/models/small"): (200, "{}"), ("POST", "/v2/models/small/infer"): (200, json.dumps(other))}
    with answering(pages) as server:
        found = trial(state, server.url, protocol="kserve", options={"input": "a", "output": "b"}, free=True)
    assert "a chat is answered by a text" in (found.problem or "")
    assert "the answer has no output 'b'; it has 'other'" in (found.problem or "")


def test_a_call_that_is_not_answered_in_time_is_told_with_what_to_raise_and_nothing_is_said_meanwhile(
    state: StateStore, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(_body: bytes) -> tuple[int, str]:
        time.sleep(1.5)
        return 200, "{}"

    with answering({("GET", "/v1/models"): (200, MODELS), CHAT: slow}) as server:
        found = tried("mini", declared(f"{server.url}/v1", free=True), state, timeout_s=0.5)
    assert "does not answer it (no answer within 0.5 s)" in (found.problem or "")
    assert "--timeout-s" in (found.problem or "")
    assert "inference test mini" not in (found.problem or "")
    assert caplog.messages == []


def test_a_server_that_counts_no_tokens_is_told_of(state: StateStore) -> None:
    said = {"model": "m", "choices": [{"message": {"content": '{"answer": "yes"}'}, "finish_reason": "stop"}]}
    with answering({CHAT: (200, json.dumps(said))}) as server:
        found = trial(state, f"{server.url}/v1", free=True)
    assert (found.works, found.usage, found.logprobs) == (True, False, False)
    assert any("counts as the most it can cost" in note for note in found.notes)


@pytest.mark.parametrize(
    ("more", "words", "lines"),
    [
        ({"key": "NO_SUCH_KEY"}, "NO_SUCH_KEY, which is not set", []),
        ({"prices": []}, "has no price for", ["endpoints:", "  mini:"]),
    ],
)
def test_what_is_missing_in_the_declaration_is_told_before_anything_is_sent(
    more: dict[str, Any], words: str, lines: list[str], provider: Provider, state: StateStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    found = trial(state, provider.url, **more)
    assert found.problem is not None
    assert words in found.problem
    assert found.lines[:2] == lines
    assert provider.stats()["calls"] == 0


def test_a_key_never_shows(provider: Provider, state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINI_KEY", "sk-very-secret")
    with answering({("GET", "/v1/models"): (301, "/login?key=sk-very-secret")}) as server:
        found = trial(state, f"{server.url}/v1", key="MINI_KEY")
    assert found.problem is not None
    assert "sk-very-secret" not in found.problem


# The command


def declare(project: Project, **endpoints: Mapping[str, Any]) -> None:
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": dict(endpoints)}))


def test_the_command_shows_one_endpoint_with_the_lines_to_change(project: Project, provider: Provider) -> None:
    provider.script([{"match": "json_schema", "fault": "server_error", "times": None}])
    declare(project, mini=endpoint(provider.url))
    done = project.cli("inference", "test", "mini")
    assert done.returncode == 0, done.stderr
    for words in ("structured output  json_object", "logprobs", "embeddings", "price"):
        assert words in done.stdout
    assert "  endpoints:\n    mini:\n      structured: json_object\n" in done.stdout


def test_the_command_shows_all_endpoints_in_a_table_and_fails_where_one_does(
    project: Project, provider: Provider
) -> None:
    with closed_port() as url:
        declare(project, mini=endpoint(provider.url), gone=endpoint(url))
        done = project.cli("inference", "test")
    assert done.returncode == 1
    assert "mini" in done.stdout
    assert "gone" in done.stdout
    assert "Endpoint 'gone' is not there" in done.stderr


def test_the_command_gives_programs_all_it_knows(project: Project, provider: Provider) -> None:
    declare(project, mini=endpoint(provider.url))
    done = project.cli("inference", "test", "mini", "--no-call", "--json")
    (found,) = json.loads(done.stdout)["endpoints"]
    assert (found["endpoint"], found["works"], found["reached"], found["calls"]) == ("mini", True, True, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["mni"], "There is no route or endpoint 'mni'; did you mean 'mini'?"), ([], "declares no endpoint")],
)
def test_mistakes_are_one_sentence(project: Project, arguments: list[str], words: str) -> None:
    declare(project, **({"mini": endpoint("http://127.0.0.1:1/v1")} if arguments else {}))
    done = project.cli("inference", "test", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
