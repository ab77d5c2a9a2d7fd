"""One batch of the rehearsal provider: its lines, from validation to the files of its results."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ai_assets.rehearsal import faults, together
from ai_assets.rehearsal.calls import ReceivedCall, read_request
from ai_assets.rehearsal.chat import ChatRequest
from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.session import RehearsalSession
from ai_assets.rehearsal.settings import UNBILLED, FaultKind
from ai_assets.rehearsal.wire import GARBAGE

WINDOW_S = 24 * 3600
ENDED = ("completed", "failed", "expired", "cancelled")
_STEPS = 10
CLOCK_S = 0.01
"""The clock may be set meanwhile, and is looked at so often."""
_VALIDATION_SHARE = 0.1
_MOST_ERRORS = 20


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
    tokens: int = 0
    """Of its input, once it is accepted."""
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def expires_at(self) -> int:
        return self.created_at + WINDOW_S

    @property
    def ended_at(self) -> int | None:
        return self.times.get(f"{self.status}_at") if self.status in ENDED else None

    def enter(self, status: str, at: float) -> None:
        self.status = status
        self.times[f"{status}_at"] = int(at)

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
            "expires_at": self.expires_at,
            **{f"{name}_at": self.times.get(f"{name}_at") for name in moments},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


Store = Callable[[str, bytes, str], StoredFile]
"""Name, content, purpose."""


class BatchWork:
    """One batch, from validation to its files."""

    def __init__(
        self, session: RehearsalSession, batch: Batch, content: bytes, store: Store, queued: Callable[[], int]
    ) -> None:
        self._session = session
        self._batch = batch
        self._content = content
        self._store = store
        self._queued = queued
        """Input tokens of all batches that have not ended."""
        self._answers: list[bytes] = []
        self._errors: list[bytes] = []
        self._billed: list[str] = []
        self._expired = False

    async def run(self) -> None:
        batch, seconds = self._batch, self._session.behaviour.batch_seconds
        began = self._session.now()
        await self._pause_until(began + seconds * _VALIDATION_SHARE)
        lines, batch.errors = read_lines(
            self._content, None if self._session.behaviour.is_togethers else batch.endpoint
        )
        if batch.errors:
            batch.enter("failed", self._session.now())
            return
        batch.total = len(lines)
        if (limit := self._session.behaviour.batch_queue_tokens) is not None:
            tokens = sum(map(self._tokens, lines))
            if self._queued() + tokens > limit:
                batch.errors = [_token_limit(limit)]
                batch.enter("failed", self._session.now())
                return
            batch.tokens = tokens
        if not batch.cancelled.is_set():
            batch.enter("in_progress", self._session.now())
        shuffled = sorted(lines, key=lambda line: faults.share(f"{self._session.behaviour.seed}:{line.custom_id}"))
        size = max(1, -(-len(shuffled) // _STEPS))
        steps = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
        for number, step in enumerate(steps, start=1):
            share = _VALIDATION_SHARE + (1 - _VALIDATION_SHARE) * number / len(steps)
            await self._pause_until(began + seconds * share)
            for line in step:
                if batch.cancelled.is_set():
                    self._leave(line, "batch_cancelled", "This request was cancelled before it was executed.")
                else:
                    self._answer(line)
        if not batch.cancelled.is_set():
            batch.enter("finalizing", self._session.now())
        elif (stopped_at := batch.times.get("cancelling_at")) is not None:
            await self._wait_until(stopped_at + self._session.behaviour.batch_cancel_seconds)
        self._write()
        ended = "cancelled" if batch.cancelled.is_set() else "expired" if self._expired else "completed"
        batch.enter(ended, self._session.now())

    def _tokens(self, line: BatchLine) -> int:
        try:
            size = len(json.dumps(line.body))
            return read_request(self._batch.endpoint, line.body, size, self._session.behaviour).input_tokens
        except Refusal:
            return 0

    async def _pause_until(self, moment: float) -> None:
        """By the provider's clock, or until the batch is cancelled."""
        while not self._batch.cancelled.is_set() and (left_s := moment - self._session.now()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._batch.cancelled.wait(), min(left_s, CLOCK_S))

    async def _wait_until(self, moment: float) -> None:
        while (left_s := moment - self._session.now()) > 0:
            await asyncio.sleep(min(left_s, CLOCK_S))

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
        body = json.loads(said)
        self._answers.append(
            _written(together.result(line.custom_id, body)) if self._session.behaviour.is_togethers
            else _line(line, {"status_code": 200, "request_id": _request_id(line), "body": body})
        )  # fmt: skip

    def _fail(self, line: BatchLine, refused: Refusal) -> None:
        self._batch.failed += 1
        if self._session.behaviour.is_togethers:
            error: Any = refused.body["error"]
            self._errors.append(_written(together.failure(line.custom_id, error)))
            return
        response = {"status_code": refused.status, "request_id": _request_id(line), "body": refused.body}
        self._errors.append(_line(line, response))

    def _expire(self, line: BatchLine) -> None:
        self._expired = True
        self._leave(line, "batch_expired", "This request could not be executed before the completion window expired.")

    def _leave(self, line: BatchLine, code: str, message: str) -> None:
        if self._session.behaviour.is_togethers:
            return  # nothing is said of it
        self._batch.failed += 1
        self._errors.append(_line(line, None, {"code": code, "message": message}))


def _token_limit(limit: int) -> dict[str, Any]:
    message = f"Enqueued token limit reached. Limit: {limit:,} enqueued tokens. Please try again once some in_progress "
    message += "batches have been completed."
    return {"code": "token_limit_exceeded", "message": message, "param": None, "line": None}


def _refusal(fault: FaultKind, session: RehearsalSession) -> Refusal | None:
    """A batch has no connection that could break, nor a gateway: what would be one is a server error."""
    refused = faults.refusal(fault, session.behaviour)
    if fault in ("reset_before", "reset_after") or (refused is not None and refused.page is not None):
        return faults.refusal("server_error", session.behaviour)
    return refused


def read_lines(content: bytes, endpoint: str | None) -> tuple[list[BatchLine], list[dict[str, Any]]]:
    """The requests of a file, or all that is wrong with it. Without an endpoint no line has to name one."""
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
        elif endpoint is not None and found.get("method") != "POST":
            wrong(number, "invalid_method", "Only 'POST' is supported.", "method")
        elif endpoint is not None and found.get("url") != endpoint:
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
    return _written({
        "id": f"batch_{_request_id(line)}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    })  # fmt: skip


def _written(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
