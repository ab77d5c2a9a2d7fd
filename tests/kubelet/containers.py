"""How a pod's container runs here: by podman as a real container, or as a process where that is forbidden."""

import contextlib
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BASE = "localhost/ai-assets-test:base"
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Mount:
    source: Path
    target: str
    read_only: bool = True

    def __str__(self) -> str:
        return f"{self.source}:{self.target}:{'ro' if self.read_only else 'rw'}"


@dataclass(frozen=True, kw_only=True)
class ContainerTask:
    namespace: str
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    mounts: Sequence[Mount]
    log: Path
    memory_bytes: int | None = None
    cpus: float | None = None
    user: str | None = None
    read_only_root: bool = False
    folder: str = "/"


@dataclass(frozen=True, kw_only=True)
class ContainerEnd:
    exit_code: int
    out_of_memory: bool = False


class StartedContainer(Protocol):
    def wait(self) -> ContainerEnd: ...

    def send(self, number: signal.Signals) -> None: ...


class Runtime(Protocol):
    real: bool
    """Containers with limits, not only processes."""

    def start(self, task: ContainerTask) -> StartedContainer: ...


@contextlib.contextmanager
def runtime() -> Iterator[Runtime]:
    """Podman where it works here; else processes, and the summary of the tests says so."""
    with tempfile.TemporaryDirectory(prefix="ai-assets-pods-", ignore_cleanup_errors=True) as folder:
        podman = Podman(Path(folder))
        why = podman.begin()
        try:
            if why is None:
                yield podman
                return
            said = f"containers are not possible here ({why}): pods ran as PROCESSES, no memory limit was tested"
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                warnings.warn(said, stacklevel=3)
            yield Processes()
        finally:
            podman.end()


class Podman:
    """Debian's podman, in a mount namespace and with images of its own; nothing of it outlives the tests.

    The namespace is there because podman refuses a machine that mounts both versions of control groups.
    """

    real = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._namespace: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}

    def begin(self) -> str | None:
        """Why it does not work here; None where it does."""
        if os.geteuid() != 0:
            return "not root"
        if shutil.which("podman") is None:
            return "podman is not installed: apt-get install podman crun catatonit"
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        (self._folder / "containers.conf").write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        )
        alone = "umount /sys/fs/cgroup/unified 2>/dev/null; echo; exec sleep infinity"
        self._namespace = subprocess.Popen(["unshare", "-m", "sh", "-c", alone], stdout=subprocess.PIPE)
        assert self._namespace.stdout is not None
        self._namespace.stdout.readline()
        (self._folder / "base.tar").write_bytes(_root_of_an_image())
        made = self.run("import", str(self._folder / "base.tar"), BASE)
        tried = made if made.returncode else self.run(
            "run", "--rm", "--network", "host", "--memory", "64m", "-v", "/usr:/usr:ro", BASE, "/usr/bin/true"
        )  # fmt: skip
        return None if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["no reason given"])[-1]

    def end(self) -> None:
        if self._namespace is None:
            return
        self.run("rm", "--all", "--force", "--time", "0")
        self.run("image", "rm", "--all", "--force")
        self._namespace.kill()
        self._namespace.wait()
        assert self._namespace.stdout is not None
        self._namespace.stdout.close()

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.command(*arguments), env=self._environment, capture_output=True, text=True)

    def command(self, *arguments: str) -> list[str]:
        assert self._namespace is not None
        inside = ["nsenter", f"--mount=/proc/{self._namespace.pid}/ns/mnt", "podman"]
        return [*inside, "--root", str(self._folder / "root"), "--runroot", str(self._folder / "run"), *arguments]

    def start(self, task: ContainerTask) -> "PodmanContainer":
        name = f"{task.namespace}.{task.name}"  # namespaces may have pods of one name
        options = ["--name", name, "--network", "host", "--hostname", task.name, "--workdir", task.folder]
        options += ["--pids-limit", "2048", "--shm-size", "256m"]
        if task.memory_bytes is not None:
            options += ["--memory", str(task.memory_bytes), "--memory-swap", str(task.memory_bytes)]
        if task.cpus is not None:
            options += ["--cpu-shares", str(max(2, int(task.cpus * 1024)))]
        if task.user is not None:
            options += ["--user", task.user]
        if task.read_only_root:
            options += ["--read-only", "--read-only-tmpfs=false"]
        for mount in task.mounts:
            options += ["--volume", str(mount)]
        for variable, value in task.environment.items():
            options += ["--env", f"{variable}={value}"]
        with task.log.open("ab") as log:
            started = subprocess.Popen(
                self.command("run", *options, BASE, *task.command), env=self._environment, stdout=log,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return PodmanContainer(podman=self, name=name, process=started)


@dataclass(frozen=True, kw_only=True)
class PodmanContainer:
    podman: Podman
    name: str
    process: "subprocess.Popen[bytes]"

    def wait(self) -> ContainerEnd:
        code = self.process.wait()
        inspected = self.podman.run("inspect", "--format", "{{.State.OOMKilled}} {{.Id}}", self.name).stdout.split()
        self.podman.run("rm", "--force", "--time", "0", self.name)
        killed = code == 137 and len(inspected) == 2 and (inspected[0] == "true" or _in_kernel_log(inspected[1]))
        return ContainerEnd(exit_code=code, out_of_memory=killed)

    def send(self, number: signal.Signals) -> None:
        deadline = time.monotonic() + 10
        while self.podman.run("kill", "--signal", str(int(number)), self.name).returncode and (
            self.process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.1)  # it is being created


def _in_kernel_log(container: str) -> bool:
    """Debian's conmon misses the event in our mount namespace; the kernel writes down whose group ran out."""
    logged = subprocess.run(["dmesg"], capture_output=True, text=True)
    return any("oom_memcg=" in line and container in line for line in logged.stdout.splitlines())


class Processes:
    """Without a file system of its own, without limits: what a pod runs, and no more."""

    real = False

    def start(self, task: ContainerTask) -> "ProcessContainer":
        places = [mount for mount in task.mounts if str(mount.source) != mount.target]
        command = [_at_home(part, places) for part in task.command]
        environment = {name: _at_home(value, places) for name, value in task.environment.items()}
        with task.log.open("ab") as log:
            started = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True, cwd=_at_home(task.folder, places),
            )  # fmt: skip
        return ProcessContainer(process=started)


@dataclass(frozen=True, kw_only=True)
class ProcessContainer:
    process: "subprocess.Popen[bytes]"

    def wait(self) -> ContainerEnd:
        code = self.process.wait()
        self._signal_group(signal.SIGKILL)  # in a container nothing outlives the first process
        return ContainerEnd(exit_code=code if code >= 0 else 128 - code)

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self._signal_group(number) if number == signal.SIGKILL else self.process.send_signal(number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def _at_home(text: str, places: Sequence[Mount]) -> str:
    """A path of the container as one of this machine, because a process has no mounts of its own."""
    for mount in sorted(places, key=lambda it: len(it.target), reverse=True):
        if text == mount.target or text.startswith(f"{mount.target}/"):
            return f"{mount.source}{text.removeprefix(mount.target)}"
    return text


def environment_of_the_interpreter() -> tuple[list[Mount], dict[str, str]]:
    """What stands for an image with our package: this machine's programs and this virtual environment, read-only."""
    folders = {Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), REPOSITORY}
    folders |= {
        path for path in map(Path, ("/etc/ssl", "/etc/alternatives", "/etc/postgresql-common")) if path.exists()
    }
    folders = {path for path in folders if not any(path != other and path.is_relative_to(other) for other in folders)}
    variables = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return [Mount(source=path, target=str(path)) for path in sorted(folders)], variables


def _root_of_an_image() -> bytes:
    """A tar file of the few names that a file system needs before anything is mounted."""
    files = {
        "etc/passwd": "root:x:0:0::/root:/bin/sh\nai-assets:x:10001:10001::/home/ai-assets:/bin/sh\n",
        "etc/group": "root:x:0:\nai-assets:x:10001:\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, mode in (("etc", 0o755), ("usr", 0o755), ("tmp", 0o1777), ("root", 0o755), ("var", 0o755)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for name in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for name, text in files.items():
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(text), 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
    return packed.getvalue()
