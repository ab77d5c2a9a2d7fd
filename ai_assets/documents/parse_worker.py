"""The process that converts pdf and html to Markdown, one file after another, for `parse_converter.py`.

It alone loads the converters, under a memory limit, without the network, and dies with its parent. It is run by its
path, and of ours it imports only what parses, so that no file of a hostile author ever meets the rest of the program.

Protocol: each message is its length (8 bytes) and a body. In: a format, a newline, the file. Out: a `ConverterReply`
as JSON.
"""

import base64
import ctypes
import json
import logging
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict, TypeVar

from ai_assets.documents.parse_text import too_many_characters

LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1


class ConverterReply(TypedDict, total=False):
    text: str
    title: str | None
    pages: Sequence[int]
    """Where in the text the pages begin; empty where the format has none."""
    read_by: str | None
    """Which of several libraries for the format read it."""
    scanned: Sequence[int]
    """Pages that show something and say nothing, counted from 0."""
    picture: str
    """Instead of a text: a page as a PGM picture, in base64."""
    reason: str
    """Instead of a text: why there is none."""
    exhausted: bool
    """The memory limit was hit; this process ends."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What a file says."""

    text: str
    title: str | None = None
    pages: Sequence[int] = ()
    read_by: str | None = None
    scanned: Sequence[int] = ()
    picture: str | None = None


Convert = Callable[[bytes], Converted]
Loaded = TypeVar("Loaded")


class FileRefused(Exception):
    """Why a file is not looked into any further."""


def main() -> None:
    parent, memory_bytes, max_characters = map(int, sys.argv[1:])

    def answer(converters: Mapping[str, Convert], format_name: str, data: bytes) -> Mapping[str, object]:
        return _convert(converters[format_name], data, max_characters)

    serve(parent, memory_bytes, _converters, answer)


def serve(
    parent: int,
    memory_bytes: int,
    load: Callable[[], Loaded],
    answer: Callable[[Loaded, str, bytes], Mapping[str, object]],
) -> None:
    """One file after another, until the parent hangs up or memory is used up. `load` imports what they are read with,
    before the limit: libraries themselves claim address space."""
    die_with(parent)
    requests, replies = channel()
    logging.disable()
    warnings.simplefilter("ignore")
    # markitdown wants pandas for spreadsheets, which it never sees here; without it, it loads in half the time.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        loaded = load()
    except ImportError as error:
        send(replies, {"reason": str(error)})
        return
    confine(memory_bytes)
    send(replies, {})
    while (message := receive(requests)) is not None:
        kind, _, data = message.partition(b"\n")
        reply = answer(loaded, kind.decode(), data)
        send(replies, reply)
        if reply.get("exhausted"):
            return


def die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def channel() -> tuple[BinaryIO, BinaryIO]:
    """Requests come and replies go through the socket that was given as standard input."""
    return os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(0), "wb")


def receive(requests: BinaryIO) -> bytes | None:
    """The next message; None when the parent has hung up."""
    head = requests.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = requests.read(size)
    return body if len(body) == size else None


def _converters() -> dict[str, Convert]:
    # The converter itself and not `MarkItDown`: it would ask a neural network what each file is, 30 ms a time.
    import markitdown.converters  # noqa: F401

    from ai_assets.documents.formats.web import html_converted

    def html(data: bytes) -> Converted:
        text, title = html_converted(data)
        return Converted(text=text, title=title)

    return {**_pdf(), "html": html}


def _pdf() -> dict[str, Convert]:
    import pdfminer.high_level  # noqa: F401
    import pypdfium2  # noqa: F401

    from ai_assets.documents.parse_pdf import read_pdf
    from ai_assets.documents.parse_pdf_scan import picture_of, scanned_pages

    last = b""

    def convert(data: bytes) -> Converted:
        nonlocal last
        read, last = read_pdf(data), data
        return Converted(
            text=read.text, pages=read.pages, read_by=read.read_by, scanned=scanned_pages(data, read.text, read.pages)
        )

    def draw(number: bytes) -> Converted:
        return Converted(text="", picture=base64.b64encode(picture_of(last, int(number))).decode())

    return {"pdf": convert, "page": draw}


def confine(memory_bytes: int) -> None:
    """No more than `memory_bytes` beyond what is loaded; no core dumps, no network, no other process."""
    if sys.platform == "linux":
        loaded = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (loaded + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # complaints were for the start; a hostile file may cause gigabytes
    sys.addaudithook(_refuse_outside)


def _refuse_outside(event: str, _: tuple[object, ...]) -> None:
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")):
        raise FileRefused(f"it tried to reach outside ({event})")


def _convert(convert: Convert, data: bytes, max_characters: int) -> ConverterReply:
    try:
        found = convert(data)
    except FileRefused as refused:
        return {"reason": str(refused)}
    except MemoryError:
        return {"exhausted": True}
    # The one boundary around the third-party converters: what they raise at a broken file is anybody's guess.
    except Exception as error:  # noqa: BLE001
        return {"reason": reason_of(error)}
    if len(found.text) > max_characters:
        return {"reason": too_many_characters(len(found.text), max_characters)}
    if found.picture is not None:
        return {"picture": found.picture}
    told: ConverterReply = {"text": found.text, "title": found.title, "pages": found.pages, "read_by": found.read_by}
    return {**told, "scanned": found.scanned}


def reason_of(error: Exception) -> str:
    chain = [error, *error.args, error.__cause__, error.__context__]
    if any(type(link).__name__ in ("PDFPasswordIncorrect", "PDFEncryptionError") for link in chain):
        return "it is encrypted; save it without a password"
    said = (str(error).strip() or "no details").splitlines()[0]
    return f"could not be read: {type(error).__name__}: {said[:200]}"


def send(replies: BinaryIO, reply: Mapping[str, object]) -> None:
    body = json.dumps(reply).encode()  # ASCII, so that a lone surrogate passes
    replies.write(LENGTH.pack(len(body)) + body)
    replies.flush()


if __name__ == "__main__":
    main()
