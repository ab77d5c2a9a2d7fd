"""A small model server that speaks no OpenAI, for protocols of one's own."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Llama:
    """A server that speaks llama.cpp's `/completion`, and the plain one of docs/extending.md."""

    url: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    content: str = "Pump leaks."
    more: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((path, body))
        if path == "/complete":
            return {"text": self.content, "read": 11, "written": 3}
        if "json_schema" in body:
            return {"content": '{"n": 3}', "tokens_evaluated": 20, "tokens_predicted": 5, "stop_type": "eos"}
        said = {"content": self.content, "tokens_evaluated": 20, "tokens_predicted": 5, "stop_type": "eos"}
        return {**said, "model": "qwen", **self.more}


@contextmanager
def serving() -> Iterator[Llama]:
    found = Llama()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an answer

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = json.dumps(found.answer(self.path, body)).encode()
            self.send_response(found.status)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
