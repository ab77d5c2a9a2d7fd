"""Files and batches, in memory: requests line by line, answers later and in another order, at half the price."""

import asyncio
from typing import Any

from aiohttp import web

from ai_assets.rehearsal import together
from ai_assets.rehearsal.batch_work import CLOCK_S, ENDED, Batch, BatchWork, StoredFile
from ai_assets.rehearsal.calls import CHAT, EMBEDDINGS
from ai_assets.rehearsal.daily_usage import key_id_of
from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.session import RehearsalSession
from ai_assets.rehearsal.settings import BatchRequestKind
from ai_assets.rehearsal.wire import close, json_body, json_response, reset, unknown_url

_DEFAULT_PAGE = 20
_LARGEST_PAGE = 100


class BatchDesk:
    """Takes files and batches in, works on them, and hands them out. Everything is lost when the provider stops."""

    def __init__(self, session: RehearsalSession) -> None:
        self._session = session
        self._files: dict[str, StoredFile] = {}
        self._batches: dict[str, Batch] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """What is asked, or the fault that a rule has for it."""
        fault = self._session.batch_fault(_kind_of(request))
        match fault:
            case "reset":
                return reset(request)
            case "unavailable":
                raise Refusal(503, "The server is overloaded or not ready yet.", kind="service_unavailable")
            case "busy":
                raise Refusal(429, "Rate limit reached for requests. Please try again later.", kind="requests")
            case "refused":
                raise Refusal(400, "Invalid request: refused by a rule of the rehearsal.")
            case "lost" | "twice":
                await self._done(request)
                if fault == "twice":
                    await self._done(request)
                return reset(request)
            case "lost_later":
                await request.read()
                later = asyncio.create_task(self._done_later(request))
                self._working.add(later)
                later.add_done_callback(self._working.discard)
                return reset(request)
            case "cut" | "altered" if request.path.endswith("/content"):
                stored = self._file(request.path.split("/")[3])
                content = stored.content
                changed = content[: len(content) // 2] if fault == "cut" else _altered(content)
                return await self._content(request, stored, changed, cut=fault == "cut")
        return await self._done(request)

    async def _done_later(self, request: web.BaseRequest) -> None:
        asked = self._session.now()
        while self._session.now() - asked < self._session.behaviour.batch_late_seconds:  # until then it may change
            await asyncio.sleep(CLOCK_S)
        await self._done(request)

    async def _done(self, request: web.BaseRequest) -> web.StreamResponse:
        match (request.method, request.path.removeprefix("/v1/").split("/")):
            case "POST", ["files"] if not self._session.behaviour.is_togethers:
                return await self._upload(request)
            case "POST", ["files", "upload"] if self._session.behaviour.is_togethers:
                return await self._upload(request)
            case "GET", ["files"]:
                return self._list_files(request)
            case "GET", ["files", id_]:
                return json_response(self._file_shown(self._file(id_)))
            case "GET", ["files", id_, "content"]:
                return await self._content(request, self._file(id_))
            case "POST", ["batches"]:
                return await self._create(request)
            case "GET", ["batches"]:
                return self._list(request)
            case "GET", ["batches", id_]:
                return json_response(self._shown(self._batch(id_)))
            case "POST", ["batches", id_, "cancel"]:
                return self._cancel(self._batch(id_))
            case _:
                raise unknown_url(request)

    def _shown(self, batch: Batch) -> dict[str, Any]:
        if self._session.behaviour.is_togethers:
            return together.batch_shown(batch, input_bytes=len(self._file(batch.input_file_id).content))
        return batch.shown()

    def _file_shown(self, stored: StoredFile) -> dict[str, Any]:
        return together.file_shown(stored) if self._session.behaviour.is_togethers else stored.shown()

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
        wanted = together.PURPOSE if self._session.behaviour.is_togethers else "batch"
        if purpose != wanted:
            raise Refusal(400, f"{purpose!r} is not one of ['{wanted}'] - 'purpose'", param="purpose")
        name = form.get("file_name") if self._session.behaviour.is_togethers else uploaded.filename
        if not isinstance(name, str):
            raise Refusal(400, "'file_name' is a required property", param="file_name")
        stored = self._store(name, uploaded.file.read(), wanted)
        uploaded.file.close()
        return json_response(self._file_shown(stored))

    def _store(self, name: str, content: bytes, purpose: str) -> StoredFile:
        id_ = f"file-{len(self._files) + 1:024d}"
        stored = self._files[id_] = StoredFile(id_, name, purpose, content, int(self._session.now()))
        return stored

    async def _content(
        self, request: web.BaseRequest, stored: StoredFile, changed: bytes | None = None, *, cut: bool = False
    ) -> web.StreamResponse:
        books = self._session.books
        if cut and changed is not None:
            begun = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            begun.content_length = len(stored.content)
            await begun.prepare(request)
            await begun.write(changed)
            return close(request, begun.status)
        response = web.Response(
            body=stored.content if changed is None else changed, content_type="application/octet-stream"
        )
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
        endpoints = (CHAT,) if self._session.behaviour.is_togethers else (CHAT, EMBEDDINGS)
        declared = {**({"completion_window": "24h"} if self._session.behaviour.is_togethers else {}), **declared}
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(declared.get(name), str):
                message = f"Missing required parameter: '{name}'."
                raise Refusal(400, message, code="missing_required_parameter", param=name)
        stored = self._file(declared["input_file_id"])
        if declared["endpoint"] not in endpoints:
            message = f"Invalid value: '{declared['endpoint']}'. Supported values are: {', '.join(endpoints)}."
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
            created_at=int(self._session.now()),
            key_id=key_id_of(request),
        )
        self._batches[id_] = batch
        task = asyncio.create_task(BatchWork(self._session, batch, stored.content, self._store, self._queued).run())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        shown = self._shown(batch)
        return json_response({"job": shown, "warning": ""} if self._session.behaviour.is_togethers else shown)

    def forget(self) -> None:
        """All files and batches, those that are being worked on included."""
        for task in self._working:
            task.cancel()
        self._files.clear()
        self._batches.clear()

    def _queued(self) -> int:
        return sum(batch.tokens for batch in self._batches.values() if batch.status not in ENDED)

    def _list(self, request: web.BaseRequest) -> web.StreamResponse:
        found = [self._shown(batch) for batch in reversed(self._batches.values())]
        return json_response(found) if self._session.behaviour.is_togethers else _page(request, found)

    def _list_files(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._session.behaviour.is_togethers:
            return json_response({"data": [self._file_shown(each) for each in self._files.values()]})
        purpose, newest_first = request.query.get("purpose"), request.query.get("order", "desc") == "desc"
        found = [each.shown() for each in self._files.values() if purpose in (None, each.purpose)]
        return _page(request, found[::-1] if newest_first else found)

    def _cancel(self, batch: Batch) -> web.StreamResponse:
        if batch.status in ENDED:
            raise Refusal(409, f"Cannot cancel a batch with status '{batch.status}'.")
        if batch.status != "cancelling":
            batch.enter("cancelling", self._session.now())
            batch.cancelled.set()
        return json_response(self._shown(batch))


def _kind_of(request: web.BaseRequest) -> BatchRequestKind:
    match (request.method, request.path.removeprefix("/v1/").split("/")):
        case "POST", ["files", *_]:
            return "upload"
        case "GET", ["files"]:
            return "list_files"
        case "GET", ["files", _, "content"]:
            return "content"
        case "POST", ["batches"]:
            return "create"
        case "GET", ["batches"]:
            return "list"
        case "POST", ["batches", _, "cancel"]:
            return "cancel"
        case _:
            return "retrieve"


def _page(request: web.BaseRequest, found: list[dict[str, Any]]) -> web.StreamResponse:
    """As much as one answer holds: at most a hundred, whatever is asked for."""
    limit, after = request.query.get("limit", str(_DEFAULT_PAGE)), request.query.get("after")
    ids = [each["id"] for each in found]
    start = ids.index(after) + 1 if after in ids else 0
    size = min(int(limit), _LARGEST_PAGE) if limit.isdecimal() else _DEFAULT_PAGE
    shown = found[start : start + size]
    return json_response({
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": start + size < len(found),
    })  # fmt: skip


def _altered(content: bytes) -> bytes:
    """Results that settle nothing, among those that do."""
    foreign = b'{"id":"x","custom_id":"' + b"0" * 40 + b'","response":{"status_code":200,"body":{}},"error":null}\n'
    return foreign + content + b"no JSON\n" + content
