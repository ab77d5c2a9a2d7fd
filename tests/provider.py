"""A rehearsal provider in a process of its own, for tests: `with Provider(latency_ms=5) as provider: ...`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from warm import LOOK_S, PROVIDER, WarmCommand, WarmProcess

REPOSITORY = Path(__file__).parent.parent
START_S, STOP_S = 300.0, 10.0
_PROVIDERS = WarmCommand(PROVIDER)


class Provider:
    """Options are those of `ai-assets provider`, with underscores: `fault={"server_error": 0.1}`, `models=["a"]`.

    `script` is a list of rules, or a path as the command takes it.
    """

    url: str
    """With /v1: what `base_url` is set to."""
    port: int
    pid: int

    def __init__(self, *, script: Sequence[Mapping[str, Any]] | Path = (), **options: Any) -> None:
        self._script = [] if isinstance(script, Path) else list(script)
        self._arguments = ["--port", "0", "--json"]
        if isinstance(script, Path):
            options["script"] = script
        for name, value in options.items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, Mapping):
                self._arguments += [each for kind, share in value.items() for each in (option, f"{kind}={share}")]
            elif isinstance(value, list | tuple):
                self._arguments += [option, ",".join(map(str, value))]
            elif value is not None:
                self._arguments += [option, str(value)]
        self._process: WarmProcess | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """To one test: its books are empty, and afterwards it behaves as before."""
        before = self.configure()
        self.reset()
        yield
        self.configure(**{name: value for name, value in before.items() if name != "key"})
        self.script([])

    def start(self) -> Self:
        process = _PROVIDERS.start(self._arguments, cwd=REPOSITORY, env=os.environ)
        self._process = process
        deadline = time.monotonic() + START_S
        while not (line := process.stdout).endswith("\n"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the provider ended with {self.stop()} before it listened")
            time.sleep(LOOK_S)
        said = json.loads(line)
        self.url, self.port, self.pid = said["url"], said["port"], said["pid"]
        if self._script:
            self.script(self._script)
        return self

    def stop(self) -> int:
        """Its exit code. It gets SIGTERM, as a run would send it."""
        process = self._process
        if process is None:
            return 0
        process.send(signal.SIGTERM)
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.send(signal.SIGKILL)
            code = -signal.SIGKILL
        process.place.cleanup()
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def root(self) -> str:
        """The address without /v1."""
        return self.url.removesuffix("/v1")

    def stats(self) -> dict[str, Any]:
        return self._get("/rehearsal/stats")

    def bills(self, *, every: bool = False) -> list[dict[str, Any]]:
        """Requests billed more than once; with `every`, all."""
        return self._get(f"/rehearsal/bills?all={int(every)}")

    def usage(self) -> dict[str, Any]:
        """What was billed by day, key id and model."""
        return self._get("/rehearsal/usage")

    def usage_csv(self) -> str:
        return requests.get(f"{self.root}/rehearsal/usage?format=csv", timeout=300).text

    def wait_delivered(self, number: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """The stats once so many answers were delivered."""
        return self._get(f"/rehearsal/wait?delivered={number}", timeout_s)

    def configure(self, **config: Any) -> dict[str, Any]:
        """Change settings while it runs: `configure(fault={"hang": 1.0}, hang_s=2)`."""
        return self._post("/rehearsal/config", config)

    def script(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """These rules instead of those before."""
        self._post("/rehearsal/script", list(rules))

    def batch_script(self, *rules: Mapping[str, Any]) -> None:
        """What happens to requests about files and batches."""
        self._post("/rehearsal/batch-script", list(rules))

    def batches(self) -> list[dict[str, Any]]:
        """All that were created, the newest first."""
        found: list[dict[str, Any]] = []
        while True:
            after = f"&after={found[-1]['id']}" if found else ""
            page = _checked(requests.get(f"{self.url}/batches?limit=100{after}", timeout=300))
            if isinstance(page, list):  # as Together has it, all at once
                return page
            found += page["data"]
            if not page["has_more"]:
                return found

    def crowd(self, number: int) -> None:
        """So many batches of somebody else, which hold nothing and cost nothing."""
        kept = requests.post(f"{self.url}/files", files={"file": ("x", b"x")}, data={"purpose": "batch"}, timeout=300)
        body = {"input_file_id": _checked(kept)["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        for each in range(number):
            _checked(requests.post(f"{self.url}/batches", json={**body, "metadata": {"job": str(each)}}, timeout=300))

    def reset(self) -> None:
        """Counts from nought, and no rules; settings stay."""
        self._post("/rehearsal/reset", {})

    def _get(self, path: str, timeout_s: float = 60.0) -> Any:
        return _checked(requests.get(f"{self.root}{path}", timeout=timeout_s))

    def _post(self, path: str, body: Any) -> Any:
        return _checked(requests.post(f"{self.root}{path}", json=body, timeout=300))


def _checked(response: requests.Response) -> Any:
    if response.status_code != 200:
        raise AssertionError(f"{response.url}: {response.status_code} {response.text}")
    return response.json()
