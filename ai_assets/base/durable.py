"""Files that survive a power cut: whole or not there, and on the disk when a call returns."""

import os
import uuid
from pathlib import Path


def sync(path: Path) -> None:
    """The content of a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """The file with that content in place of any of its name, in one step."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # in every container there is a process 1
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """A file that did not exist before, with that mode from its first moment."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
