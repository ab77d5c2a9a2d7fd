"""The process that reads the formats of `formats/`, and unpacks .gz, one file after another, for
`parse_format_reader.py`.

It has the limits of `parse_worker.py`, and of ours it imports only what parses. Run by its path.

Protocol: each message is its length (8 bytes) and a body. In: a kind, a newline, the file; the kind of a packed file
begins with `gz:`, and `gz:` alone asks for its bytes. Out: a `FormatReply` as JSON.
"""

import base64
import sys
import zlib
from collections.abc import Mapping
from importlib import import_module

from ai_assets.base.plural import plural
from ai_assets.documents.formats.kinds import MODULES
from ai_assets.documents.formats.read import Read
from ai_assets.documents.parse_text import Unreadable, too_many_characters
from ai_assets.documents.parse_worker import ConverterReply, FileRefused, reason_of, serve

GZ = "gz:"


class FormatReply(ConverterReply, total=False):
    attachments: list[tuple[str, str]]
    """Name, and bytes in base 64."""
    encoding: str | None
    certainty: float | None
    new: bool
    data: str
    """Of a file that was only unpacked, in base 64."""


def main() -> None:
    parent, memory_bytes, max_characters, max_bytes = map(int, sys.argv[1:])

    def answer(_loaded: None, kind: str, data: bytes) -> Mapping[str, object]:
        return _reply(kind, data, max_characters, max_bytes)

    serve(parent, memory_bytes, _libraries, answer)


def _libraries() -> None:
    import defusedxml.ElementTree  # noqa: F401
    import markitdown.converters  # noqa: F401
    import openpyxl  # noqa: F401
    import pptx  # noqa: F401


def _reply(kind: str, data: bytes, max_characters: int, max_bytes: int) -> FormatReply:
    try:
        if kind.startswith(GZ):
            kind, data = kind.removeprefix(GZ), unpacked(data, max_bytes)
            if not kind:
                return {"data": base64.b64encode(data).decode()}
        found: Read = import_module(f"ai_assets.documents.formats.{MODULES[kind]}").read(data)  # type: ignore[index]
    except (FileRefused, Unreadable) as refused:
        return {"reason": str(refused)}
    except MemoryError:
        return {"exhausted": True}
    except RecursionError:
        return {"reason": "could not be read: nested too deeply"}
    # The one boundary around the third-party libraries: what they raise at a broken file is anybody's guess.
    except Exception as error:  # noqa: BLE001
        return {"reason": reason_of(error)}
    if len(found.text) > max_characters:
        return {"reason": too_many_characters(len(found.text), max_characters)}
    return {
        "text": found.text,
        "title": found.title,
        "attachments": [(each.name, base64.b64encode(each.data).decode()) for each in found.attachments],
        "encoding": found.encoding,
        "certainty": found.certainty,
        "new": found.new,
    }


def unpacked(data: bytes, max_bytes: int) -> bytes:
    """All members of a .gz file; never more than `max_bytes`, whatever it claims."""
    found = bytearray()
    rest = data
    while rest:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            found += member.decompress(rest, max_bytes + 1 - len(found))
        except zlib.error as error:
            if found and not rest.startswith(b"\x1f\x8b"):
                break  # padding after the last member, as gzip itself passes over it
            raise FileRefused(f"could not be unpacked: {error}") from error
        if len(found) > max_bytes:
            times = f"more than {plural(max_bytes // max(len(data), 1), 'time')} as much"
            raise FileRefused(f"it unpacks to more than the limit of {plural(max_bytes, 'byte')}, {times}")
        if not member.eof:
            raise FileRefused("could not be unpacked: it ends early")
        rest = member.unused_data
    return bytes(found)


if __name__ == "__main__":
    main()
