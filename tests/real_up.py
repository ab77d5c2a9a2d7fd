"""A real `ai-assets up` in a project's folder, as a person would start it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conftest import eventually, free_port

from ai_assets.base.home import Home
from ai_assets.ops.dagster_client import DagsterApi

COMMAND = Path(sys.executable).parent / "ai-assets"


@dataclass
class Up:
    root: Path
    port: int
    desk_port: int
    process: "subprocess.Popen[bytes]"

    @property
    def home(self) -> Home:
        return Home(root=self.root / ".ai-assets", project=self.root)

    @property
    def said(self) -> str:
        return (self.root / "up.txt").read_text()

    @property
    def api(self) -> DagsterApi:
        return DagsterApi(f"http://127.0.0.1:{self.port}", timeout_s=60)

    def says(self, text: str, times: int = 1, timeout_s: float = 180) -> None:
        eventually(lambda: self.said.count(text) >= times or self.process.poll() is not None, timeout_s)
        assert self.said.count(text) >= times, self.said

    def ai_assets(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [COMMAND, *arguments], cwd=self.root, env={**clean(), **environment}, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AI_ASSETS", "DAGSTER"))}


@contextmanager
def up(root: Path, *options: str, **environment: str) -> Iterator[Up]:
    port, desk_port = free_port(), free_port()
    ports = ["--port", str(port), "--desk-port", str(desk_port)]
    with (root / "up.txt").open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "up", *options, *ports],
            cwd=root,
            env={**clean(), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Up(root, port, desk_port, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
