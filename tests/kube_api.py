"""A loopback API server that keeps Jobs and says what became of their pods, as a test decides. It runs nothing: it is
for what dagster-k8s asks for, and how our executor takes the answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml


@dataclass
class KubeApi:
    """Its answers are fields; `jobs` is all that was ever created, `deleted` the names of what was ended."""

    port: int
    jobs: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    refused: tuple[int, str] | None = None
    """Status and message for whoever creates a Job."""
    job_status: dict[str, Any] = field(default_factory=lambda: {"active": 1})
    status_of_later_jobs: dict[str, Any] | None = None
    """Of those after the first, where theirs is another."""
    pod_status: dict[str, Any] | None = None
    """Of the pod of each Job; None where there is none."""
    events: list[dict[str, Any]] = field(default_factory=list)

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}
        declared = {
            "apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x",
        }  # fmt: skip
        path.write_text(yaml.safe_dump(declared))
        return path

    def answer(self, method: str, target: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        url = urlsplit(target)
        *_, kind, name = ["", *url.path.strip("/").split("/")]
        if kind == "jobs" and method == "DELETE":
            self.deleted.append(name)
            return 200, {"kind": "Status", "status": "Success"}
        match name:
            case "jobs" if method == "POST" and body is not None:
                if self.refused is not None:
                    return self.refused[0], {"kind": "Status", "message": self.refused[1]}
                self.jobs.append(body)
                return 201, body
            case "pods":
                (selector,) = parse_qs(url.query).get("labelSelector", [""])
                pod = {"metadata": {"name": selector.partition("=")[2]}, "spec": {"containers": []}}
                items = [] if self.pod_status is None else [{**pod, "status": self.pod_status}]
                return 200, {"kind": "PodList", "apiVersion": "v1", "items": items}
            case "events":
                return 200, {"kind": "EventList", "apiVersion": "v1", "items": self.events}
        found = [job for job in self.jobs if job["metadata"]["name"] in (name, kind)]
        if sum(self.deleted.count(each) for each in (name, kind)) >= len(found):
            return 404, {"kind": "Status", "message": f"{target} not found", "reason": "NotFound"}
        is_later = self.status_of_later_jobs is not None and found[-1] is not self.jobs[0]
        return 200, {**found[-1], "status": self.status_of_later_jobs if is_later else self.job_status}


@contextmanager
def serving_kube_api() -> Iterator[KubeApi]:
    api: KubeApi

    class Answering(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, found = api.answer(self.command, self.path, body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - http.server looks for these names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    api = KubeApi(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
