"""Claims about servers that answer without end, by real ones: no more is read than an endpoint may answer, and each
place where something is read says so or goes on."""

import asyncio
import contextlib
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from http_servers import serving

from ai_assets.inference.batch import provider
from ai_assets.inference.batch.errors import ProviderSilent
from ai_assets.inference.batch.provider import BatchProvider
from ai_assets.inference.records import RequestKind
from ai_assets.inference.settings import Endpoint, InferenceSettings
from ai_assets.inference.trial import tried
from ai_assets.inference.trial_reach import PAGE_BYTES
from ai_assets.protocols.base import Fault
from ai_assets.protocols.http import ASIDE_BYTES, ERROR_BYTES, Channel
from ai_assets.storage.state import StateStore

PIECE = b'{"a": "' + b"x" * 65_529


def endless(piece: bytes = PIECE, status: int = 200, *, packed: bool = False) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if packed:
                self.send_header("content-encoding", "deflate")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            packer = zlib.compressobj()
            with contextlib.suppress(OSError):  # whoever asked has left
                while True:
                    sent = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) if packed else piece
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(sent), sent))
            self.close_connection = True

        def do_POST(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def log_message(self, *said: Any) -> None: ...

    return Handler


def endpoint(url: str, **more: Any) -> Endpoint:
    said = {"base_url": url, "model": "m", "free": True, "max_answer_mb": 2, **more}
    return InferenceSettings.model_validate({"endpoints": {"e": said}}).endpoints["e"]


def sent(declared: Endpoint, kind: RequestKind, *, streams: bool = False) -> Any:
    async def ask() -> Any:
        channel = Channel(declared, declared.base_url, None)
        try:
            if streams:
                return await channel.stream(b'{"messages": []}', lambda _piece: None, timeout_s=60)
            body = b'{"inputs": "a", "texts": ["a"], "text": "a"}'
            return (await channel.send([body], kind, timeout_s=60))[0]
        finally:
            await channel.close()

    return asyncio.run(ask())


KSERVE = {"protocol": "kserve", "options": {"text": "text", "output": "vector"}}
PROTOCOLS: list[tuple[dict[str, Any], RequestKind]] = [
    ({}, "chat"),
    ({}, "embedding"),
    ({"protocol": "tei"}, "embedding"),
    ({"protocol": "tei"}, "rerank"),
    ({"protocol": "tei"}, "predict"),
    (KSERVE, "embedding"),
    (KSERVE, "predict"),
]


@pytest.mark.parametrize(("more", "kind"), PROTOCOLS)
def test_an_answer_without_end_is_left_and_said_in_one_sentence(more: dict[str, Any], kind: RequestKind) -> None:
    with serving(endless()) as url:
        outcome = sent(endpoint(url, **more), kind)
    assert isinstance(outcome, Fault)
    assert outcome.error == "too_large"
    assert outcome.message.startswith(
        "the answer is longer than 2 MB and was not read to its end; if the model is to answer"
    )
    assert outcome.body is None


def test_a_packed_answer_counts_as_what_it_unpacks_to() -> None:
    with serving(endless(b" " * 2**20, packed=True)) as url:
        assert sent(endpoint(url), "chat").error == "too_large"


@pytest.mark.parametrize("piece", [b'data: {"choices": []}\n\n' * 1000, b"data: " + b"x" * 65_530])
def test_a_stream_without_end_and_a_line_without_end_are_left(piece: bytes) -> None:
    with serving(endless(piece)) as url:
        assert sent(endpoint(url), "chat", streams=True).error == "too_large"


def test_a_line_of_a_stream_may_be_as_long_as_the_answer() -> None:
    text = "x" * 300_000

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            said = b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}, "finish_reason": "stop"}]}\n\n'
            self.wfile.write(said % text.encode() + b"data: [DONE]\n\n")

        def log_message(self, *said: Any) -> None: ...

    with serving(Handler) as url:
        assert sent(endpoint(url), "chat", streams=True).text == text


def test_an_error_without_end_is_what_its_status_says() -> None:
    with serving(endless(status=400)) as url:
        assert sent(endpoint(url), "chat").error == "malformed"
    assert ERROR_BYTES < 2 * 10**6, "less than an answer may have"


def test_an_answer_as_long_as_it_may_be_is_read() -> None:
    text = "x" * 1_900_000

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = (
                b'{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}], "model": "m"}' % text.encode()
            )
            self.send_response(200)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *said: Any) -> None: ...

    with serving(Handler) as url:
        assert sent(endpoint(url), "chat").text == text
        assert sent(endpoint(url, max_answer_mb=1.9), "chat").error == "too_large"


@pytest.mark.parametrize("more", [{"protocol": "tei"}, KSERVE])
def test_what_a_server_says_of_itself_is_cut(more: dict[str, Any]) -> None:
    async def learn(declared: Endpoint) -> Any:
        channel = Channel(declared, declared.base_url, None)
        try:
            return await channel.read_aside("info"), await channel.learn()
        finally:
            await channel.close()

    with serving(endless()) as url:
        (status, text), limits = asyncio.run(learn(endpoint(url, **more)))
    assert (status, len(text)) == (200, ASIDE_BYTES)
    assert limits is not None


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    found = StateStore(f"sqlite:///{tmp_path}/state.db")
    yield found
    found.close()


def test_inference_test_says_it(state: StateStore) -> None:
    with serving(endless()) as url:
        trial = tried("e", InferenceSettings(endpoints={"e": endpoint(url)}), state, timeout_s=60)
    assert trial.problem is not None
    assert "answers more than is read (the answer is longer than 2 MB" in trial.problem
    assert PAGE_BYTES < ASIDE_BYTES


def test_a_file_of_results_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "MOST_RESULT_BYTES", 3_000_000)
    with serving(endless()) as url:
        found = BatchProvider("e", endpoint(url))
        with pytest.raises(ProviderSilent, match="a file of results goes on beyond 3,000,000 bytes"):
            for _piece in found.content("file-1"):
                pass
        found.close()
