"""Files and batches, in memory: requests line by line, answers later and in another order, at half the price."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from ai_assets.rehearsal import faults
from ai_assets.rehearsal.calls import CHAT, EMBEDDINGS, ReceivedCall, read_request
from ai_assets.rehearsal.chat import ChatRequest
from ai_assets.rehearsal.daily_usage import key_id_of
from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.session import RehearsalSession
from ai_assets.rehearsal.settings import UNBILLED, FaultKind
from ai_assets.rehearsal.wire import GARBAGE, json_body, json_response, unknown_url

WINDOW_S = 24 * 3600
_STEPS = 10
_VALIDATION_SHARE = 0.1
_MOST_ERRORS = 20
_ENDPOINTS = (CHAT, EMBEDDINGS)
_ENDED = ("completed", "failed", "expired", "cancelled")
_DEFAULT_PAGE = 20


@dataclass
class StoredFile:
    id: str
    name: str
    purpose: str
    content: bytes
    created_at: int
    undelivered: list[str] = field(default_factory=list)
    """Digests of the billed requests whose answers nobody has fetched."""

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass(frozen=True, kw_only=True)
class BatchLine:
    """One request of a batch."""

    custom_id: str
    body: Mapping[str, Any]


@dataclass
class Batch:
    id: str
    endpoint: str
    input_file_id: str
    metadata: Mapping[str, str] | None
    created_at: int
    key_id: str
    """Of the key that ordered it."""
    status: str = "validating"
    times: dict[str, int] = field(default_factory=dict)
    """When each later status began, under OpenAI's names."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self, status: str) -> None:
        self.status = status
        self.times[f"{status}_at"] = int(time.time())

    def shown(self) -> dict[str, Any]:
        moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.created_at + WINDOW_S,
            **{f"{name}_at": self.times.get(f"{name}_at") for name in moments},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


class BatchDesk:
    """Takes files and batches in, works on them, and hands them out. Everything is lost when the provider stops."""

    def __init__(self, session: RehearsalSession) -> None:
        self._session = session
        self._files: dict[str, StoredFile] = {}
        self._batches: dict[str, Batch] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        match (request.method, request.path.removeprefix("/v1/").split("/")):
            case "POST", ["files"]:
                return await self._upload(request)
            case "GET", ["files", id_]:
                return json_response(self._file(id_).shown())
            case "GET", ["files", id_, "content"]:
                return await self._content(request, self._file(id_))
            case "POST", ["batches"]:
                return await self._create(request)
            case "GET", ["batches"]:
                return self._list(request)
            case "GET", ["batches", id_]:
                return json_response(self._batch(id_).shown())
            case "POST", ["batches", id_, "cancel"]:
                return self._cancel(self._batch(id_))
            case _:
                raise unknown_url(request)

    def _file(self, id_: str) -> StoredFile:
        if id_ not in self._files:
            raise Refusal(404, f"No such File object: {id_}", param="id")
        return self._files[id_]

    def _batch(self, id_: str) -> Batch:
        if id_ not in self._batches:
            raise Refusal(404, f"No batch found with id '{id_}'.")
        return self._batches[id_]

    async def _upload(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            form = await request.post()
        except (ValueError, web.HTTPException) as e:
            raise Refusal(400, f"The form cannot be read: {e}") from e
        uploaded, purpose = form.get("file"), form.get("purpose")
        if not isinstance(uploaded, web.FileField):
            raise Refusal(400, "'file' is a required property", param="file")
        if not isinstance(purpose, str) or purpose != "batch":
            raise Refusal(400, f"{purpose!r} is not one of ['batch'] - 'purpose'", param="purpose")
        stored = self._store(uploaded.filename, uploaded.file.read(), purpose)
        uploaded.file.close()
        return json_response(stored.shown())

    def _store(self, name: str, content: bytes, purpose: str) -> StoredFile:
        id_ = f"file-{len(self._files) + 1:024d}"
        stored = self._files[id_] = StoredFile(id_, name, purpose, content, int(time.time()))
        return stored

    async def _content(self, request: web.BaseRequest, stored: StoredFile) -> web.StreamResponse:
        books = self._session.books
        response = web.Response(body=stored.content, content_type="application/octet-stream")
        await response.prepare(request)
        await response.write_eof()
        fetched, stored.undelivered = stored.undelivered, []
        for digest in fetched:
            if digest in books.bills:
                books.deliver(digest)
        return response

    async def _create(self, request: web.BaseRequest) -> web.StreamResponse:
        declared = await json_body(request, self._session.behaviour)
        if not isinstance(declared, dict):
            raise Refusal(400, "Invalid request: the body is no JSON object.")
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(declared.get(name), str):
                message = f"Missing required parameter: '{name}'."
                raise Refusal(400, message, code="missing_required_parameter", param=name)
        stored = self._file(declared["input_file_id"])
        if declared["endpoint"] not in _ENDPOINTS:
            message = f"Invalid value: '{declared['endpoint']}'. Supported values are: {', '.join(_ENDPOINTS)}."
            raise Refusal(400, message, code="invalid_value", param="endpoint")
        if declared["completion_window"] != "24h":
            message = f"Invalid value: '{declared['completion_window']}'. Value must be '24h'."
            raise Refusal(400, message, code="invalid_value", param="completion_window")
        id_ = f"batch_{len(self._batches) + 1:024d}"
        batch = Batch(
            id=id_,
            endpoint=declared["endpoint"],
            input_file_id=stored.id,
            metadata=declared.get("metadata"),
            created_at=int(time.time()),
            key_id=key_id_of(request),
        )
        self._batches[id_] = batch
        task = asyncio.create_task(_Work(self._session, batch, stored.content, self._store).run())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return json_response(batch.shown())

    def _list(self, request: web.BaseRequest) -> web.StreamResponse:
        limit, after = request.query.get("limit", str(_DEFAULT_PAGE)), request.query.get("after")
        found = [batch.shown() for batch in reversed(self._batches.values())]
        ids = [batch["id"] for batch in found]
        start = ids.index(after) + 1 if after in ids else 0
        size = int(limit) if limit.isdecimal() else _DEFAULT_PAGE
        shown = found[start : start + size]
        return json_response({
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": start + size < len(found),
        })  # fmt: skip

    def _cancel(self, batch: Batch) -> web.StreamResponse:
        if batch.status in _ENDED:
            raise Refusal(409, f"Cannot cancel a batch with status '{batch.status}'.")
        if batch.status != "cancelling":
            batch.enter("cancelling")
            batch.cancelled.set()
        return json_response(batch.shown())


Store = Callable[[str, bytes, str], StoredFile]
"""Name, content, purpose."""


class _Work:
    """One batch, from validation to its files."""

    def __init__(self, session: RehearsalSession, batch: Batch, content: bytes, store: Store) -> None:
        self._session = session
        self._batch = batch
        self._content = content
        self._store = store
        self._answers: list[bytes] = []
        self._errors: list[bytes] = []
        self._billed: list[str] = []
        self._expired = False

    async def run(self) -> None:
        batch, seconds = self._batch, self._session.behaviour.batch_seconds
        await self._pause(seconds * _VALIDATION_SHARE)
        lines, batch.errors = read_lines(self._content, batch.endpoint)
        if batch.errors:
            batch.enter("failed")
            return
        batch.total = len(lines)
        if not batch.cancelled.is_set():
            batch.enter("in_progress")
        shuffled = sorted(lines, key=lambda line: faults.share(f"{self._session.behaviour.seed}:{line.custom_id}"))
        size = max(1, -(-len(shuffled) // _STEPS))
        steps = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
        for step in steps:
            await self._pause(seconds * (1 - _VALIDATION_SHARE) / len(steps))
            if batch.cancelled.is_set():
                break
            for line in step:
                self._answer(line)
        if not batch.cancelled.is_set():
            batch.enter("finalizing")
        self._write()
        batch.enter("cancelled" if batch.cancelled.is_set() else "expired" if self._expired else "completed")

    async def _pause(self, seconds: float) -> None:
        """Until the time is over or the batch is cancelled."""
        try:
            await asyncio.wait_for(self._batch.cancelled.wait(), seconds)
        except TimeoutError:
            return

    def _write(self) -> None:
        if self._answers:
            stored = self._store(f"{self._batch.id}_output.jsonl", b"".join(self._answers), "batch_output")
            stored.undelivered = self._billed
            self._batch.output_file_id = stored.id
        if self._errors:
            stored = self._store(f"{self._batch.id}_error.jsonl", b"".join(self._errors), "batch_output")
            self._batch.error_file_id = stored.id

    def _answer(self, line: BatchLine) -> None:
        session, path = self._session, self._batch.endpoint
        body = json.dumps(line.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        try:
            request = read_request(path, line.body, len(body), session.behaviour)
        except Refusal as e:
            self._fail(line, e)
            return
        if isinstance(request, ChatRequest):
            request = replace(request, stream=False)
        call = ReceivedCall(digest=hashlib.sha256(path.encode() + b"\n" + body).hexdigest(), body=body, request=request)
        fault = session.fault_for(call)
        if fault == "hang":
            self._expire(line)
        elif fault is not None and (refused := _refusal(fault, session)) is not None:
            if fault not in UNBILLED:
                self._bill(call, fault)
            self._fail(line, refused)
        else:
            said = self._bill(call, fault)
            self._take(line, call, said, fault)

    def _bill(self, call: ReceivedCall, fault: FaultKind | None) -> bytes:
        said = self._session.answer(call, fault)
        behaviour = self._session.behaviour
        self._session.books.bill(call, said.usage, behaviour, key_id=self._batch.key_id, batch=True)
        return said.pieces[0]

    def _take(self, line: BatchLine, call: ReceivedCall, said: bytes, fault: FaultKind | None) -> None:
        self._batch.completed += 1
        if fault == "truncated":
            return  # the answer is lost: its line is missing
        if fault == "garbage":
            self._answers.append(GARBAGE + b"\n")
            return
        self._billed.append(call.digest)
        self._answers.append(
            _line(line, {"status_code": 200, "request_id": _request_id(line), "body": json.loads(said)})
        )

    def _fail(self, line: BatchLine, refused: Refusal) -> None:
        self._batch.failed += 1
        response = {"status_code": refused.status, "request_id": _request_id(line), "body": refused.body}
        self._errors.append(_line(line, response))

    def _expire(self, line: BatchLine) -> None:
        self._expired = True
        self._batch.failed += 1
        message = "This request could not be executed before the completion window expired."
        self._errors.append(_line(line, None, {"code": "batch_expired", "message": message}))


def _refusal(fault: FaultKind, session: RehearsalSession) -> Refusal | None:
    """A batch has no connection that could break, nor a gateway: what would be one is a server error."""
    refused = faults.refusal(fault, session.behaviour)
    if fault in ("reset_before", "reset_after") or (refused is not None and refused.page is not None):
        return faults.refusal("server_error", session.behaviour)
    return refused


def read_lines(content: bytes, endpoint: str) -> tuple[list[BatchLine], list[dict[str, Any]]]:
    """The requests of a file, or all that is wrong with it."""
    lines: list[BatchLine] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()

    def wrong(number: int, code: str, message: str, param: str | None = None) -> None:
        if len(errors) < _MOST_ERRORS:
            errors.append({"code": code, "message": message, "param": param, "line": number})

    for number, raw in enumerate(content.splitlines(), start=1):
        if not raw.strip():
            continue
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            wrong(number, "invalid_json_line", "This line is not parseable as valid JSON.")
            continue
        if not isinstance(found, dict):
            wrong(number, "invalid_json_line", "This line is no JSON object.")
            continue
        custom_id, body = found.get("custom_id"), found.get("body")
        if not isinstance(custom_id, str) or not isinstance(body, dict):
            name = "body" if isinstance(custom_id, str) else "custom_id"
            wrong(number, "missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        elif custom_id in seen:
            message = f"The custom_id '{custom_id}' for this request is a duplicate of another request."
            message += " The custom_id parameter must be unique for each request in a batch."
            wrong(number, "duplicate_custom_id", message, "custom_id")
        elif found.get("method") != "POST":
            wrong(number, "invalid_method", "Only 'POST' is supported.", "method")
        elif found.get("url") != endpoint:
            wrong(number, "mismatched_url", f"The URL of this request is not the batch's endpoint {endpoint}.", "url")
        else:
            lines.append(BatchLine(custom_id=custom_id, body=body))
            seen.add(custom_id)
    if not lines and not errors:
        errors.append({"code": "empty_file", "message": "The file holds no request.", "param": None, "line": None})
    return lines, errors


def _request_id(line: BatchLine) -> str:
    return f"req_{hashlib.sha256(line.custom_id.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _line(line: BatchLine, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None = None) -> bytes:
    value = {
        "id": f"batch_{_request_id(line)}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
