"""What a node asks of an API server, ours or a real one: plain JSON over HTTPS."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml

from kubelet.refusals import ApiRefused

_MERGE = "application/merge-patch+json"


class ApiAway(Exception):
    """No answer, or one that says to try again."""


@dataclass(frozen=True, kw_only=True)
class ApiAccess:
    """Where an API server is, and who asks: by a token, or by a certificate of a client."""

    url: str
    certificate: Path
    """Of the server's authority."""
    token: str = ""
    client_certificate: Path | None = None
    client_key: Path | None = None

    @classmethod
    def of_kubeconfig(cls, file: Path, folder: Path) -> "ApiAccess":
        """Of the current context. What the file holds itself is written into `folder`."""
        found = yaml.safe_load(file.read_text())
        context = next(it["context"] for it in found["contexts"] if it["name"] == found["current-context"])
        cluster = next(it["cluster"] for it in found["clusters"] if it["name"] == context["cluster"])
        user = next(it["user"] for it in found["users"] if it["name"] == context["user"])
        authority = _file_of(cluster, "certificate-authority", folder)
        if authority is None:
            raise ValueError(f"{file} names no certificate-authority of its cluster; the tests must have one")
        return cls(
            url=cluster["server"],
            certificate=authority,
            token=user.get("token", ""),
            client_certificate=_file_of(user, "client-certificate", folder),
            client_key=_file_of(user, "client-key", folder),
        )

    def write_kubeconfig(self, file: Path, namespace: str = "default") -> Path:
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url, "certificate-authority": str(self.certificate)}}],
            "users": [{"name": "test", "user": self._user()}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        }  # fmt: skip
        file.write_text(yaml.safe_dump(content))
        return file

    def _user(self) -> dict[str, str]:
        if self.client_certificate is None:
            return {"token": self.token}
        return {"client-certificate": str(self.client_certificate), "client-key": str(self.client_key)}


class ApiClient:
    def __init__(self, access: ApiAccess) -> None:
        self.access = access
        who = {} if access.client_certificate is None else {
            "cert_file": str(access.client_certificate), "key_file": str(access.client_key)}  # fmt: skip
        self._pool = urllib3.PoolManager(ca_certs=str(access.certificate), assert_hostname=False, maxsize=32, **who)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def create(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("PATCH", path, body, _MERGE)

    def delete(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask("DELETE", path, body or {})

    def text(self, path: str) -> str:
        """Such as a log."""
        return self._answer("GET", path, None, "application/json", 30).data.decode()

    def watch(self, path: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Until the server ends it; a server that has forgotten that version raises ApiRefused with 410."""
        joint = "&" if "?" in path else "?"
        url = f"{path}{joint}watch=true&resourceVersion={version}&timeoutSeconds=120"
        answered = self._answer("GET", url, None, "application/json", 125, stream=True)
        try:
            for line in _lines(answered):
                change = json.loads(line)
                if change["type"] == "ERROR":
                    raise ApiRefused(change["object"]["code"], change["object"]["reason"], change["object"]["message"])
                yield change["type"], change["object"]
        except (urllib3.exceptions.HTTPError, OSError, json.JSONDecodeError) as error:
            raise ApiAway(str(error)) from error
        finally:
            answered.close()

    def _ask(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        answered = self._answer(method, path, body, content, 30)
        return json.loads(answered.data) if answered.data else None

    def _answer(self, method: str, path: str, body: Any, content: str, timeout_s: float, stream: bool = False) -> Any:
        headers = {"Content-Type": content}
        if self.access.token:
            headers["Authorization"] = f"Bearer {self.access.token}"
        try:
            answered = self._pool.request(
                method, self.access.url + path, body=None if body is None else json.dumps(body), headers=headers,
                timeout=timeout_s, retries=False, preload_content=not stream,
            )  # fmt: skip
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiAway(f"{method} {path}: {error}") from error
        if answered.status >= 500:
            raise ApiAway(f"{method} {path}: {answered.status}")
        if answered.status >= 400:
            said = json.loads(answered.data or answered.read() or b"{}")
            raise ApiRefused(answered.status, str(said.get("reason")), str(said.get("message")))
        return answered


def _lines(answered: Any) -> Iterator[bytes]:
    rest = b""
    while piece := answered.read1(65536):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _file_of(found: dict[str, str], name: str, folder: Path) -> Path | None:
    if f"{name}-data" in found:
        file = folder / name
        file.write_bytes(base64.b64decode(found[f"{name}-data"]))
        file.chmod(0o600 if name == "client-key" else 0o644)
        return file
    return Path(found[name]) if name in found else None
