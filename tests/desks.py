"""A desk in a process of its own, and people at it over real HTTP."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from conftest import Project, free_port

from ai_assets.dagster_api import answers
from ai_assets.signoff import people
from ai_assets.signoff.passwords import hashed
from ai_assets.signoff.people import EVERYWHERE, Role
from ai_assets.work import Stores

PASSWORD = "a walk in the autumn rain"
START_S = 30.0


def known(stores: Stores, name: str, role: Role | None = "approver", collection: str = EVERYWHERE) -> str:
    """Somebody with a local account."""
    with stores.state.write() as connection:
        people.add(connection, name, email=None, password_hash=hashed(PASSWORD), by="test")
        if role is not None:
            people.give(connection, name, role, collection, by="test")
    return name


@dataclass
class DeskProcess:
    project: Project
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.project.home.root / "desk-test.log"

    def start(self, **environment: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).parent / "ai-assets", "desk", "--port", str(self.port)],
                cwd=self.project.root,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_S
        while not answers(f"{self.url}/health"):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the desk did not start in time"
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def visitor(self, name: str, password: str = PASSWORD) -> "Visitor":
        visitor = Visitor(self.url)
        visitor.sign_in(name, password)
        return visitor


class Visitor:
    """A browser without a window: cookies, and the token that forms carry."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.csrf = ""
        self.http = requests.Session()
        self.http.trust_env = False

    def sign_in(self, name: str, password: str = PASSWORD) -> requests.Response:
        form = {"name": name, "password": password, "csrf": token(self.get("/sign-in"))}
        answer = self.http.post(f"{self.url}/sign-in", data=form, timeout=30)
        self.csrf = str(self.get("/api/me").json().get("csrf", ""))
        return answer

    def get(self, path: str) -> requests.Response:
        return self.http.get(f"{self.url}{path}", timeout=30)

    def submit(self, path: str, **fields: str) -> requests.Response:
        """A form, as a page sends it."""
        return self.http.post(f"{self.url}{path}", data={"csrf": self.csrf, **fields}, timeout=30)

    def post(self, path: str, body: object) -> requests.Response:
        """A call of the API, as the pages' script makes it."""
        headers = {"X-CSRF-Token": self.csrf}
        return self.http.post(f"{self.url}/api{path}", json=body, headers=headers, timeout=30)


def token(page: requests.Response) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


@contextmanager
def desk(project: Project, **environment: str) -> Iterator[DeskProcess]:
    running = DeskProcess(project)
    running.start(**environment)
    try:
        yield running
    finally:
        running.kill()
