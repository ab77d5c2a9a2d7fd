"""Where the API server fetches the log of a pod: HTTPS on loopback, as a node serves it."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kubelet.certificate import write_certificate
from kubelet.pod_setup import PodSetup


class NodeLogs:
    """`/containerLogs/<namespace>/<pod>/<container>`."""

    def __init__(self, setup: PodSetup) -> None:
        self._setup = setup
        self.log_files: dict[tuple[str, str], Path] = {}
        own = setup.folder / "logs-certificate"
        own.mkdir(parents=True, exist_ok=True)
        certificate, key = write_certificate(own)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        logs = self

        class Exchange(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, _, namespace, pod, *_ = self.path.split("?")[0].split("/")
                file = logs.log_files.get((namespace, pod))
                found = file.read_bytes() if file is not None and file.exists() else b""
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="logs").start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
