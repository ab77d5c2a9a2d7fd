"""What a format gives back, and what all of those in archives check first."""

import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai_assets.base.plural import plural
from ai_assets.documents.parse_worker import FileRefused

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

ZIP_BYTES = 300_000_000
"""Word's own largest documents unpack to some 100 MB; the memory limit alone would stop a bomb only after seconds."""
ZIP_RATIO = 200
"""XML packs 10 to 50 times smaller. Only counted above `ZIP_SMALL_BYTES`: a short, dull document packs very well."""
ZIP_SMALL_BYTES = 20_000_000
_OLE = b"\xd0\xcf\x11\xe0"
_ENCRYPTED_BIT = 1
_DOCTYPE = re.compile(rb"<!(?:DOCTYPE|ENTITY)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A file within a file; a document of its own."""

    name: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    text: str
    """Markdown."""
    title: str | None = None
    attachments: Sequence[Attachment] = field(default_factory=tuple)
    encoding: str | None = None
    """Where it was guessed."""
    certainty: float | None = None
    pages: Sequence[int] = ()
    """Where in the text the pages begin; empty where the format has none."""
    read_by: str | None = None
    """Which of several libraries for the format read it."""
    new: bool = True
    """Whether the first version of the parser would have made another text."""


def opened(data: bytes, what: str, ending: str, needed: str) -> zipfile.ZipFile:
    """The archive of an office document; refused where it is a bomb, encrypted, or something else."""
    if data.startswith(_OLE):
        raise FileRefused(f"it is encrypted, or an old {ending[:-1]}; save it as {ending} without a password")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise FileRefused(f"could not be read: not a {what} ({error})") from error
    unpacked = sum(member.file_size for member in members)
    if unpacked > ZIP_BYTES or (unpacked > ZIP_SMALL_BYTES and unpacked > ZIP_RATIO * len(data)):
        raise FileRefused(
            f"zip bomb: {plural(len(data), 'byte')} unpack to {unpacked:,}, "
            f"{plural(unpacked // len(data), 'time')} as much"
        )
    if any(member.flag_bits & _ENCRYPTED_BIT for member in members):
        raise FileRefused("it is encrypted; save it without a password")
    if needed not in {member.filename for member in members}:
        raise FileRefused(f"could not be read: a zip archive, but no {what} in it")
    return archive


def refuse_doctypes(archive: zipfile.ZipFile) -> None:
    """Office documents declare none: one in them is there to unfold."""
    for member in archive.infolist():
        if member.filename.endswith((".xml", ".rels")):
            with archive.open(member) as stream:
                if _DOCTYPE.search(stream.read(4_096)):
                    raise FileRefused(f"its part {member.filename[:100]} declares entities, which may unfold endlessly")


def xml_of(archive: zipfile.ZipFile, name: str) -> "Element | None":
    """A part of it; None where it has none."""
    if name not in archive.NameToInfo:
        return None
    return parsed_xml(archive.read(name))


def parsed_xml(data: bytes) -> "Element":
    from defusedxml import EntitiesForbidden
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        root: Element = fromstring(data)
    except EntitiesForbidden as error:
        raise FileRefused(f"it declares the entity '{error.name[:60]}', which may unfold endlessly") from error
    except ParseError as error:
        raise FileRefused(f"could not be read: not valid XML: {error}") from error
    return root


def table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose first row is its head; empty where there is nothing in it."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if not cells:
        return ""
    width = max(max((at for at, cell in enumerate(row, 1) if cell), default=0) for row in cells)
    lines = [f"| {' | '.join([*row, *[''] * width][:width])} |" for row in cells]
    return "\n".join([lines[0], f"|{' --- |' * width}", *lines[1:]])


def blocks(parts: Iterable[str]) -> str:
    return "\n\n".join(stripped for part in parts if (stripped := part.strip("\n").rstrip()))
