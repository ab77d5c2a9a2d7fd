"""The process that converts pdf and html to Markdown, one file after another, for `parse_converter.py`.

It alone loads the converters, under a memory limit, without the network, and dies with its parent. It is run by its
path and imports nothing of ours, so that no file of a hostile author ever meets the rest of the program.

Protocol: each message is its length (8 bytes) and a body. In: a format, a newline, the file. Out: a `ConverterReply`
as JSON.
"""

import ctypes
import io
import json
import logging
import os
import re
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

if TYPE_CHECKING:
    from markitdown import DocumentConverter

LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1
_DATA_IMAGE = re.compile(r"!\[([^\]]*)\]\(data:[^)]*\)")


class ConverterReply(TypedDict, total=False):
    text: str
    title: str | None
    reason: str
    """Instead of a text: why there is none."""
    exhausted: bool
    """The memory limit was hit; this process ends."""


class FileRefused(Exception):
    """Why a file is not looked into any further."""


def main() -> None:
    parent, memory_bytes, max_characters = map(int, sys.argv[1:])
    die_with(parent)
    requests, replies = channel()
    logging.disable()
    warnings.simplefilter("ignore")
    try:
        converters = _converters()
    except ImportError as error:
        _send(replies, {"reason": str(error)})
        return
    confine(memory_bytes)
    _send(replies, {})
    while (message := receive(requests)) is not None:
        format_name, _, data = message.partition(b"\n")
        reply = _convert(converters[format_name.decode()], data, max_characters)
        _send(replies, reply)
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


def _converters() -> "dict[str, Callable[[bytes], tuple[str, str | None]]]":
    # markitdown wants pandas for spreadsheets, which never come here; without it this process starts in half the time.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    # The converters themselves and not `MarkItDown`: it would ask a neural network what each file is, 30 ms a time.
    from markitdown import StreamInfo
    from markitdown.converters import HtmlConverter, PdfConverter

    def by(
        converter: "DocumentConverter", before: Callable[[bytes], bytes]
    ) -> Callable[[bytes], tuple[str, str | None]]:
        def convert(data: bytes) -> tuple[str, str | None]:
            result = converter.convert(io.BytesIO(before(data)), StreamInfo(charset="utf-8"))
            return _DATA_IMAGE.sub(r"\1", result.markdown), result.title

        return convert

    return {
        "pdf": by(PdfConverter(), bytes),
        "html": by(HtmlConverter(), _html_as_utf8),
    }


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


def _convert(convert: Callable[[bytes], tuple[str, str | None]], data: bytes, max_characters: int) -> ConverterReply:
    try:
        text, title = convert(data)
    except FileRefused as refused:
        return {"reason": str(refused)}
    except MemoryError:
        return {"exhausted": True}
    # The one boundary around the third-party converters: what they raise at a broken file is anybody's guess.
    except Exception as error:  # noqa: BLE001
        return {"reason": reason_of(error)}
    if len(text) > max_characters:
        return {"reason": f"{len(text):,} characters of text; the limit is {max_characters:,}"}
    return {"text": text, "title": title}


def reason_of(error: Exception) -> str:
    chain = [error, *error.args, error.__cause__, error.__context__]
    if any(type(link).__name__ in ("PDFPasswordIncorrect", "PDFEncryptionError") for link in chain):
        return "it is encrypted; save it without a password"
    said = (str(error).strip() or "no details").splitlines()[0]
    return f"could not be read: {type(error).__name__}: {said[:200]}"


def _html_as_utf8(data: bytes) -> bytes:
    """UTF-8 or what the page declares. Left to itself the converter takes anything for Windows text."""
    from bs4.dammit import EncodingDetector

    marks = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
    marked = next((encoding for mark, encoding in marks if data.startswith(mark)), "utf-8")
    try:
        return data.decode(marked).encode()
    except UnicodeDecodeError as error:
        declared = EncodingDetector.find_declared_encoding(data, is_html=True)
        try:
            return data.decode(declared or "utf-8").encode()
        except (UnicodeDecodeError, LookupError):
            saying = f"nor the declared {declared}" if declared else "and no charset is declared"
            raise FileRefused(f"not valid UTF-8 at byte {error.start}, {saying}") from error


def _send(replies: BinaryIO, reply: ConverterReply) -> None:
    body = json.dumps(reply).encode()  # ASCII, so that a lone surrogate passes
    replies.write(LENGTH.pack(len(body)) + body)
    replies.flush()


if __name__ == "__main__":
    main()
