"""A Batch API that answers as no provider should: what the rehearsal provider, which keeps its word, cannot be."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from http_servers import QuietHandler, serving

Answer = tuple[int, Any]
"""A status, and a body: bytes as they are, or what is written as JSON."""


@dataclass
class OddBatchApi:
    """Keeps files and batches; each request may be answered otherwise by a function of that name in `instead`."""

    instead: dict[str, Callable[[Callable[[], Answer]], Answer]] = field(default_factory=dict)
    clock_ahead_s: int = 0
    oldest_first: bool = False
    says_metadata: bool = True
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    outputs: dict[str, bytes] = field(default_factory=dict)
    batches: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def served(self) -> Iterator["OddBatchApi"]:
        api = self

        class Handler(QuietHandler):
            def answer(self) -> None:
                body = self.given()
                path = self.path.split("?")[0].removeprefix("/v1/")
                name = api.name_of(self.command, path)
                api.asked.append(name)
                usual: Callable[[], Answer] = lambda: getattr(api, f"do_{name}")(path, body)  # noqa: E731
                with api._lock:
                    status, found = api.instead[name](usual) if name in api.instead else usual()
                if callable(found):  # it answers piece by piece, until the client has had enough
                    self.send_response(status)
                    self.end_headers()
                    found(self.wfile)
                    return
                self.say(status, found if isinstance(found, bytes) else json.dumps(found).encode())

        with serving(Handler) as address:
            self.url = f"{address}/v1"
            yield self

    @staticmethod
    def name_of(command: str, path: str) -> str:
        if path == "files":
            return "upload" if command == "POST" else "files"
        if path == "batches":
            return "create" if command == "POST" else "list"
        if path.endswith("/content"):
            return "content"
        if path.endswith("/cancel"):
            return "cancel"
        return "look" if path.startswith("batches/") else "file"

    def finish(
        self, *, state: str = "completed", done: int | None = None, failed: int = 0, **files: str | bytes
    ) -> None:
        """The oldest batch that goes on ends so: `output` and `errors`, or an answer for each of the first `done`."""
        batch = next(each for each in self.batches if each["status"] == "in_progress")
        keys = self.keys(batch)
        done = len(keys) if done is None else done
        batch |= {
            "status": state, f"{state}_at": self.now(),
            "request_counts": {"total": len(keys), "completed": done, "failed": failed},
        }  # fmt: skip
        if done and "output" not in files:
            files = {"output": "\n".join(map(answered, keys[:done])), **files}
        for name, text in files.items():
            self.outputs[f"{name}-{batch['id']}"] = text if isinstance(text, bytes) else text.encode()
            batch["output_file_id" if name == "output" else "error_file_id"] = f"{name}-{batch['id']}"

    def keys(self, batch: dict[str, Any]) -> list[str]:
        return [json.loads(line)["custom_id"] for line in self.files[batch["input_file_id"]][1].splitlines()]

    def now(self) -> int:
        return int(time.time()) + self.clock_ahead_s

    # As a provider does

    def do_upload(self, _path: str, body: bytes) -> Answer:
        found = re.search(rb'filename="([^"]+)"', body)
        assert found is not None
        content = body[found.start() :].split(b"\r\n\r\n", 1)[1]
        name = f"file-{len(self.files) + 1}"
        self.files[name] = (found[1].decode(), content[: content.index(b"\r\n--")])
        return 200, self._file(name)

    def do_files(self, _path: str, _body: bytes) -> Answer:
        return 200, {"object": "list", "data": [self._file(name) for name in reversed(self.files)], "has_more": False}

    def do_file(self, path: str, _body: bytes) -> Answer:
        return 200, self._file(path.split("/")[1])

    def _file(self, name: str) -> dict[str, Any]:
        filename, content = self.files[name]
        return {
            "id": name, "object": "file", "bytes": len(content), "filename": filename, "purpose": "batch",
            "created_at": self.now(), "status": "processed",
        }  # fmt: skip

    def do_create(self, _path: str, body: bytes) -> Answer:
        asked = json.loads(body)
        batch = {
            "id": f"batch_{len(self.batches) + 1}", "object": "batch", "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"], "completion_window": "24h", "status": "in_progress",
            "created_at": self.now(), "metadata": asked["metadata"] if self.says_metadata else None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "output_file_id": None, "error_file_id": None,
        }  # fmt: skip
        self.batches.append(batch)
        return 200, batch

    def do_list(self, _path: str, _body: bytes) -> Answer:
        found = self.batches if self.oldest_first else self.batches[::-1]
        return 200, {"object": "list", "data": found, "has_more": False}

    def do_look(self, path: str, _body: bytes) -> Answer:
        found = [each for each in self.batches if each["id"] == path.split("/")[1]]
        return (200, found[0]) if found else (404, said("no such batch"))

    def do_cancel(self, path: str, _body: bytes) -> Answer:
        batch = next(each for each in self.batches if each["id"] == path.split("/")[1])
        if batch["status"] != "in_progress":
            return 409, said(f"a batch that is {batch['status']} cannot be cancelled")
        batch |= {"status": "cancelled", "cancelled_at": self.now()}
        return 200, batch

    def do_content(self, path: str, _body: bytes) -> Answer:
        found = self.outputs.get(path.split("/")[1])
        return (200, found) if found is not None else (404, said("no such file"))


def said(message: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}


def answered(key: str) -> str:
    body = {
        "id": "chat", "object": "chat.completion", "created": 1, "model": "small",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is so."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35},
    }  # fmt: skip
    return json.dumps({"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None})


def embedded(key: str, vector: list[float]) -> str:
    body = {
        "object": "list", "model": "small", "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }  # fmt: skip
    return json.dumps({"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None})


def refused(key: str) -> str:
    return json.dumps({"custom_id": key, "response": {"status_code": 400, "body": said("bad request")}, "error": None})


def not_run(key: str, code: str = "batch_expired") -> str:
    return json.dumps({"custom_id": key, "response": None, "error": {"code": code, "message": "not in time"}})
