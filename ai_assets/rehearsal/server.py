"""The rehearsal provider: an HTTP server that answers as OpenAI does, fails on demand, and keeps books."""

import asyncio
import hmac
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from ai_assets.base.collector import old_objects_left_alone
from ai_assets.base.errors import UserError
from ai_assets.rehearsal import faults, kserve, tei
from ai_assets.rehearsal.batches import BatchDesk
from ai_assets.rehearsal.books import Books
from ai_assets.rehearsal.calls import CHAT, EMBEDDINGS, ReceivedCall, read_call, read_texts
from ai_assets.rehearsal.daily_usage import key_id_of
from ai_assets.rehearsal.errors import PortTaken, Refusal, SettingWrong
from ai_assets.rehearsal.limits import ConcurrencyGate
from ai_assets.rehearsal.page import page
from ai_assets.rehearsal.session import RehearsalSession
from ai_assets.rehearsal.settings import UNBILLED, Behaviour, Rule, batch_rules, rules
from ai_assets.rehearsal.wire import (
    ClosedConnection,
    Delivery,
    Refuse,
    close,
    json_body,
    json_response,
    read_body,
    refusal_of_kserve,
    refusal_of_tei,
    refusal_response,
    reset,
    unknown_url,
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Ready = Callable[[str, int], None]
"""Told host and port once it listens."""
AZURE_FOLDER = "/openai/"
_AZURE = re.compile(r"/openai/(?:v1|deployments/(?P<deployment>[^/]+))/(?P<rest>chat/completions|embeddings)")
UNANSWERED = "none"
"""The status of calls whose connection ended without one."""
_SHUTDOWN_S = 0.5


class Provider:
    """What is done with each request."""

    def __init__(self, session: RehearsalSession) -> None:
        self.session = session
        self._gate = ConcurrencyGate()
        self._desk = BatchDesk(session)
        self._routes: dict[tuple[str, str], Handler] = {
            ("GET", "/"): self._page,
            ("GET", "/v1/models"): self._models,
            ("POST", CHAT): lambda request: self._call(request, CHAT),
            ("POST", EMBEDDINGS): lambda request: self._call(request, EMBEDDINGS),
            ("GET", "/rehearsal/stats"): self._stats,
            ("GET", "/rehearsal/bills"): self._bills,
            ("GET", "/rehearsal/usage"): self._usage,
            ("GET", "/rehearsal/wait"): self._wait,
            ("GET", "/rehearsal/config"): self._config,
            ("POST", "/rehearsal/config"): self._configure,
            ("POST", "/rehearsal/script"): self._take_script,
            ("POST", "/rehearsal/batch-script"): self._take_batch_script,
            ("POST", "/rehearsal/reset"): self._reset,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The one place where a refusal becomes a response."""
        try:
            found = self._routes.get((request.method, request.path)) or self._of_other_servers(request)
            if found is not None:
                return await found(request)
            if not request.path.startswith("/v1/"):
                raise unknown_url(request)
            self._check_key(request)
            return await self._desk.handle(request)
        except Refusal as e:
            return json_response(e.body, status=e.status, headers=e.headers)
        except UserError as e:
            return json_response(Refusal(400, str(e)).body, status=400)

    def _check_key(self, request: web.BaseRequest) -> None:
        key = self.session.behaviour.key
        if key is None:
            return
        if request.path.startswith(AZURE_FOLDER):
            given = request.headers.get("api-key", "")
        else:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
            shown = f"{given[:3]}***{given[-2:]}" if len(given) > 8 else "***"
            raise Refusal(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")

    def _of_other_servers(self, request: web.BaseRequest) -> Handler | None:
        """Azure, text-embeddings-inference, the Open Inference Protocol, and vLLM's metrics."""
        path, is_post = request.path, request.method == "POST"
        if is_post and (found := _AZURE.fullmatch(path)) is not None:
            if found["deployment"] and not request.query.get("api-version"):
                raise Refusal(404, "Resource not found", code="404")
            return lambda asked: self._call(asked, f"/v1/{found['rest']}")
        if is_post and path in tei.PATHS:
            return lambda asked: self._call(asked, path)
        if request.method == "GET" and path == tei.INFO:
            return self._info
        if (model := kserve.PATH.fullmatch(path)) is not None:
            if is_post and model["verb"] == "infer":
                return lambda asked: self._call(asked, path)
            if not is_post:
                return self._model
        if not is_post and path in ("/v2", "/v2/health/live", "/v2/health/ready"):
            return self._health
        return self._metrics if path == "/metrics" and self.session.behaviour.vllm else None

    async def _info(self, _request: web.BaseRequest) -> web.StreamResponse:
        return json_response(tei.info(self.session.behaviour))

    async def _model(self, request: web.BaseRequest) -> web.StreamResponse:
        found = kserve.PATH.fullmatch(request.path)
        assert found is not None
        try:
            said = kserve.metadata(unquote(found["model"]), self.session.behaviour)
        except Refusal as refused:
            return refusal_of_kserve(refused, {})
        return json_response({"name": said["name"], "ready": True} if found["verb"] == "ready" else said)

    async def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v2":
            return json_response({"name": "rehearsal", "version": "2", "extensions": ["binary_tensor_data"]})
        return json_response({request.path.rpartition("/")[2]: True})

    async def _metrics(self, _request: web.BaseRequest) -> web.StreamResponse:
        self.session.books.metrics_read += 1
        waiting, running = self._gate.waiting + self.session.behaviour.queued, self._gate.in_flight
        label = '{engine="0",model_name="rehearsal-mini"}'
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{label} {float(running)}",
            "# HELP vllm:num_requests_waiting Number of requests waiting to be processed.",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{label} {float(waiting)}",
        ]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")

    async def _call(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        session, books, entered, status = self.session, self.session.books, False, UNANSWERED
        session.in_flight += 1
        books.call(session.in_flight)
        number = books.calls
        try:
            self._check_key(request)
            body = await read_body(request, session.behaviour)
            await self._gate.enter(session.behaviour)
            entered = True
            if path in (CHAT, EMBEDDINGS):
                call = read_call(path, body, session.behaviour)
            else:
                call = read_texts(path, body, request.headers, session.behaviour)
            response = await self._answer(request, call, books, f"req_{number:012x}")
            sent = response.answered if isinstance(response, ClosedConnection) else response.status
            status = str(sent) if sent else UNANSWERED
            return response
        except Refusal as e:
            status = str(e.status)
            return _refuse(path)(e, {"x-request-id": f"req_{number:012x}", **e.headers})
        finally:
            session.in_flight -= 1
            books.statuses[status] += 1
            if entered:
                self._gate.leave()

    async def _answer(
        self, request: web.BaseRequest, call: ReceivedCall, books: Books, request_id: str
    ) -> web.StreamResponse:
        """From an understood request to its answer or its fault. It is billed once the answer is computed."""
        session, behaviour = self.session, self.session.behaviour
        now = asyncio.get_running_loop().time()
        if (full := books.windows.refusal(behaviour, now, call.request.input_tokens)) is not None:
            raise full
        fault = session.fault_for(call)
        if fault in UNBILLED:
            if (refused := faults.refusal(fault, behaviour)) is not None:
                raise refused
            return reset(request)
        said = session.answer(call, fault)
        if (full := books.windows.refusal(behaviour, now, said.usage.total_tokens)) is not None:
            raise full
        books.windows.accept(now, said.usage.total_tokens)
        books.bill(call, said.usage, behaviour, key_id=key_id_of(request))
        delivered = False
        try:
            if (wait_s := _latency_s(behaviour, call.digest)) > 0:
                await asyncio.sleep(wait_s)
            headers = {"x-request-id": request_id, **books.windows.headers(behaviour, now)}
            delivery = Delivery(request, said, headers, behaviour, _refuse(request.path))
            response, delivered = await delivery.send(fault)
            return response
        except ConnectionResetError:  # the client has gone; what it asked for is billed all the same
            return close(request)
        finally:
            if delivered:
                books.deliver(call.digest)
            else:
                books.undelivered += 1

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        self._check_key(request)
        names = self.session.behaviour.models or ("rehearsal",)
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "rehearsal"} for name in names]
        return json_response({"object": "list", "data": data})

    async def _page(self, _request: web.BaseRequest) -> web.StreamResponse:
        session = self.session
        text = page(session.behaviour, session.rules, session.stats(), session.books.repeated())
        return web.Response(body=text.encode("utf-8", "replace"), content_type="text/html", charset="utf-8")

    async def _stats(self, _request: web.BaseRequest) -> web.StreamResponse:
        return json_response(self.session.stats())

    async def _bills(self, request: web.BaseRequest) -> web.StreamResponse:
        return json_response(self.session.books.repeated(every=request.query.get("all") in ("1", "true")))

    async def _usage(self, request: web.BaseRequest) -> web.StreamResponse:
        days = self.session.books.days
        if request.query.get("format") == "csv":
            return web.Response(text=days.as_csv(), content_type="text/csv")
        return json_response(days.as_json())

    async def _wait(self, request: web.BaseRequest) -> web.StreamResponse:
        wanted = request.query.get("delivered", "")
        if not wanted.isdecimal():
            raise SettingWrong("delivered", wanted, "give a number of answers, as in /rehearsal/wait?delivered=3")
        await self.session.books.wait_delivered(int(wanted))
        return json_response(self.session.stats())

    async def _config(self, _request: web.BaseRequest) -> web.StreamResponse:
        return json_response(self.session.behaviour.shown())

    async def _configure(self, request: web.BaseRequest) -> web.StreamResponse:
        declared = await json_body(request, self.session.behaviour)
        if not isinstance(declared, Mapping):
            raise SettingWrong("config", declared, "give a JSON object of settings")
        self.session.change(declared)
        return json_response(self.session.behaviour.shown())

    async def _take_script(self, request: web.BaseRequest) -> web.StreamResponse:
        self.session.rules = rules(await json_body(request, self.session.behaviour))
        return json_response({"rules": len(self.session.rules)})

    async def _take_batch_script(self, request: web.BaseRequest) -> web.StreamResponse:
        self.session.batch_rules = batch_rules(await json_body(request, self.session.behaviour))
        return json_response({"rules": len(self.session.batch_rules)})

    async def _reset(self, _request: web.BaseRequest) -> web.StreamResponse:
        self.session.reset()
        self._desk.forget()
        return json_response(self.session.stats())


def _refuse(path: str) -> Refuse:
    if path in tei.PATHS:
        return refusal_of_tei
    return refusal_of_kserve if kserve.PATH.fullmatch(path) else refusal_response


def _latency_s(behaviour: Behaviour, digest: str) -> float:
    if not behaviour.jitter_ms:
        return behaviour.latency_ms / 1000
    return (behaviour.latency_ms + behaviour.jitter_ms * faults.share(f"{behaviour.seed}:{digest}:latency")) / 1000


class _CountingServer(web.Server):
    """Tells the books of every connection."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider.handle, request_factory=self._request, access_log=None, keepalive_timeout=3600.0)
        self._provider = provider

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        limit = self._provider.session.behaviour.max_body_bytes
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=limit)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        self._provider.session.books.connections += 1
        super().connection_made(handler, transport)


async def serve(behaviour: Behaviour, script: list[Rule], host: str, port: int, ready: Ready) -> None:
    """Until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = _CountingServer(Provider(RehearsalSession(behaviour, script)))
    runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError as e:
            raise PortTaken(host, port, (e.strerror or str(e)).lower()) from e
        ready(host, int(runner.addresses[0][1]))
        await stop.wait()
    finally:
        await runner.cleanup()


def run(behaviour: Behaviour, script: list[Rule], host: str, port: int, ready: Ready) -> None:
    """In this process, on the quickest event loop there is."""
    with old_objects_left_alone(), asyncio.Runner(loop_factory=_quickest_loop()) as runner:
        runner.run(serve(behaviour, script, host, port, ready))


def _quickest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
