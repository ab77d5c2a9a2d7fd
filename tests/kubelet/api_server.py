"""The API server for tests: HTTPS on loopback, the part of the Kubernetes API that dagster-k8s, kubectl and we use."""

import base64
import copy
import json
import secrets
import socket
import ssl
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubelet.access import ADMINISTRATOR, AccessControl, Attempt, service_account
from kubelet.api_paths import ApiPath, discovery, parsed
from kubelet.certificate import write_certificate
from kubelet.controllers import Controllers
from kubelet.kinds import BY_PLURAL, JOBS, NAMESPACES, PODS, ResourceKind
from kubelet.quota import check_quota
from kubelet.refusals import ApiRefused, malformed
from kubelet.rules import check_admission, check_object
from kubelet.store import Object, ObjectStore, Selection

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiServer:
    """The state outlives `go_away()`, as etcd outlives its server."""

    def __init__(self, folder: Path) -> None:
        self.store = ObjectStore()
        self.access = AccessControl(self.store)
        self.administrator = self.access.token_of(ADMINISTRATOR)
        self.certificate, self._key = write_certificate(folder)
        self.controllers = Controllers(self.store, self.create, self.delete)
        self.watches_until = 0.0
        """Watches that began before this moment are cut."""
        self.requests: list[tuple[str, str, str]] = []
        """Who did what where, in order."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._server: _HttpsServer | None = None
        self.create(NAMESPACES, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.controllers.start()
        self.come_back()

    def stop(self) -> None:
        if self._server is not None:
            self.go_away()
        self.controllers.stop()

    def come_back(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self._key)
        self._server = _HttpsServer(("127.0.0.1", self.port), self, context)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="api").start()

    def go_away(self) -> None:
        """Connections are cut, new ones are refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server.cut_connections()
        self._server = None

    def drop_watches(self, *, forgotten: bool = False) -> None:
        """Every watch ends now; with `forgotten`, none can go on from where it was (410 Gone)."""
        self.watches_until = time.monotonic()
        if forgotten:
            self.store.forget_changes()
        with self.store.changed:
            self.store.changed.notify_all()

    def create(self, kind: ResourceKind, namespace: str, new: Object) -> Object:
        new = copy.deepcopy(new)
        if "generateName" in new["metadata"] and "name" not in new["metadata"]:
            new["metadata"]["name"] = new["metadata"].pop("generateName") + secrets.token_hex(3)[:5]
        check_object(kind, new, self.store, namespace)
        for name, text in new.pop("stringData", {}).items():
            new.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
        if kind in {PODS, JOBS}:
            new["status"] = {"phase": "Pending", "qosClass": "Burstable"} if kind == PODS else {}

        def check() -> None:
            check_admission(kind, new, self.store, namespace)
            check_quota(kind, new, self.store, namespace)

        made = self.store.add(kind, namespace, new, check)
        if kind == NAMESPACES:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            self.create(BY_PLURAL["serviceaccounts"], new["metadata"]["name"], account)
        return made

    def delete(
        self, kind: ResourceKind, namespace: str, name: str, propagation: str, grace_s: int | None = None
    ) -> None:
        """Pods that are on a node end there first. A Job's pods stay behind unless told otherwise, as in batch/v1."""
        found = self.store.get(kind, namespace, name)
        running = kind == PODS and found["spec"].get("nodeName") and found["status"].get("phase") not in {
            "Succeeded", "Failed"}  # fmt: skip
        if grace_s is None:
            grace_s = int(found["spec"].get("terminationGracePeriodSeconds", 30)) if kind == PODS else 0
        if (running and grace_s > 0) or kind == NAMESPACES:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            mark = {"deletionTimestamp": now, "deletionGracePeriodSeconds": grace_s}
            self.store.change(kind, namespace, name, lambda it: it["metadata"].update(mark))
            return
        if propagation == "Orphan":
            for owned, dependent in self.store.dependents_of(found["metadata"]["uid"]):
                place = dependent["metadata"].get("namespace", "")
                self.store.change(owned, place, dependent["metadata"]["name"],
                                  lambda it: it["metadata"].pop("ownerReferences"))  # fmt: skip
        self.store.remove(kind, namespace, name)

    def answer(self, method: str, user: str, path: ApiPath, query: dict[str, str], body: Object | None) -> Object:
        kind = path.kind
        verb = _VERBS.get(method) or ("get" if path.name else "list")
        plural = f"{kind.plural}/{path.subresource}" if path.subresource else kind.plural
        self.access.check(user, Attempt(verb=verb, group=kind.group, plural=plural, namespace=path.namespace))
        self.requests.append((user, verb, f"{path.namespace}/{plural}/{path.name}"))
        match method:
            case "GET" if not path.name:
                return self._listed(path, query)
            case "GET":
                return self.store.get(kind, path.namespace, path.name)
            case "POST" if path.subresource == "token":
                token = self.access.token_of(service_account(path.namespace, path.name))
                return {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": {"token": token}}
            case "POST" if path.subresource == "binding":
                node = (body or {})["target"]["name"]
                self.store.change(PODS, path.namespace, path.name, lambda pod: pod["spec"].update(nodeName=node))
                return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
            case "POST":
                return self.create(kind, path.namespace, _typed(kind, body))
            case "PUT" | "PATCH":
                return self._edited(method, path, body or {})
            case _:
                return self._deleted(path, query, body or {})

    def _listed(self, path: ApiPath, query: dict[str, str]) -> Object:
        with self.store.changed:
            items = self.store.all(path.selection(query))
            return {"kind": f"{path.kind.kind}List", "apiVersion": path.kind.api_version, "items": items,
                    "metadata": {"resourceVersion": str(self.store.version)}}  # fmt: skip

    def _edited(self, method: str, path: ApiPath, body: Object) -> Object:
        def edit(found: Object) -> None:
            new = body if method == "PUT" else merged(found, body)
            status = found.get("status")
            if path.subresource == "status":
                found["status"] = new.get("status", {})
                return
            found.clear()
            found.update(new | ({"status": status} if status is not None else {}))
            check_object(path.kind, found, self.store, path.namespace)

        return self.store.change(path.kind, path.namespace, path.name, edit)

    def _deleted(self, path: ApiPath, query: dict[str, str], options: Object) -> Object:
        default = "Orphan" if path.kind == JOBS else "Background"
        propagation = options.get("propagationPolicy") or query.get("propagationPolicy") or default
        said = options.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        self.delete(path.kind, path.namespace, path.name, propagation, None if said is None else int(said))
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}

    def log_of(self, user: str, path: ApiPath, query: dict[str, str]) -> bytes:
        """Asked of the node that has the pod, as a real one does."""
        self.access.check(user, Attempt(verb="get", group="", plural="pods/log", namespace=path.namespace))
        pod = self.store.get(PODS, path.namespace, path.name)
        if not pod["spec"].get("nodeName"):
            return b""
        status = self.store.get(BY_PLURAL["nodes"], "", pod["spec"]["nodeName"])["status"]
        address, port = status["addresses"][0]["address"], status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        container = query.get("container") or pod["spec"]["containers"][0]["name"]
        url = f"https://{address}:{port}/containerLogs/{path.namespace}/{path.name}/{container}"
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(url, context=context, timeout=10) as answered:
            log = bytes(answered.read())
        tail = query.get("tailLines")
        return log if tail is None else b"".join(log.splitlines(keepends=True)[-int(tail) :])


class _HttpsServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: ApiServer, context: ssl.SSLContext) -> None:
        super().__init__(address, _Exchange)
        self.api = api
        self._context = context
        self._open: set[socket.socket] = set()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        wrapped = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up is no news; a fault of this server is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def cut_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an answer
    server: _HttpsServer

    def do_GET(self) -> None:
        self._exchange("GET")

    def do_POST(self) -> None:
        self._exchange("POST")

    def do_PUT(self) -> None:
        self._exchange("PUT")

    def do_PATCH(self) -> None:
        self._exchange("PATCH")

    def do_DELETE(self) -> None:
        self._exchange("DELETE")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The requests are kept in `ApiServer.requests`."""

    def _exchange(self, method: str) -> None:
        api = self.server.api
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        split = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        try:
            body = _json_of(sent, self.headers.get("Content-Type") or "")
            user = api.access.user_of(self.headers.get("Authorization"))
            found = discovery(split.path)
            if found is not None:
                return self._send(200, json.dumps(found).encode())
            path = parsed(split.path)
            if path.subresource == "log":
                return self._send(200, api.log_of(user, path, query), "text/plain")
            if method == "GET" and query.get("watch") in {"1", "true", "True"}:
                return self._watch(user, path, query)
            made = api.answer(method, user, path, query, body)
            self._send(201 if method == "POST" else 200, json.dumps(made).encode())
        except ApiRefused as error:
            self._send(error.code, json.dumps(error.status).encode())

    def _send(self, code: int, body: bytes, content: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _watch(self, user: str, path: ApiPath, query: dict[str, str]) -> None:
        api, selection = self.server.api, path.selection(query)
        api.access.check(user, Attempt(verb="watch", group=path.kind.group, plural=path.kind.plural,
                                       namespace=path.namespace))  # fmt: skip
        version = int(query.get("resourceVersion") or api.store.version)
        began, ends = time.monotonic(), time.monotonic() + float(query.get("timeoutSeconds") or 300)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while began > api.watches_until and time.monotonic() < ends:
            try:
                with api.store.changed:
                    if api.store.version <= version:
                        api.store.changed.wait(timeout=1)
                    changes = api.store.changes_after(version, selection)
                    version = api.store.version
            except ApiRefused as error:
                self.wfile.write(json.dumps({"type": "ERROR", "object": error.status}).encode() + b"\n")
                return
            for change in changes:
                self.wfile.write(json.dumps({"type": change.event, "object": change.object}).encode() + b"\n")


def merged(found: Any, patch: Any) -> Any:
    """JSON merge patch; lists are replaced."""
    if not isinstance(patch, dict) or not isinstance(found, dict):
        return copy.deepcopy(patch)
    new = copy.deepcopy(found)
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merged(new.get(name, {}), value)
    return new


def _json_of(sent: bytes, content: str) -> Object | None:
    """`kubectl create` speaks protobuf where it can; `kubectl apply` and clients in Python speak JSON."""
    if not sent:
        return None
    if "protobuf" in content or "apply-patch" in content:
        raise ApiRefused(415, "UnsupportedMediaType", f"this test server reads JSON, not {content}")
    return dict(json.loads(sent))


def _typed(kind: ResourceKind, body: Object | None) -> Object:
    if not body or "metadata" not in body:
        raise malformed(kind, "there is no object in the request")
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body}


__all__ = ["ApiServer", "Selection", "merged"]
