"""Which endings of names are which format, and where it is read. Nothing is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import splitext
from typing import Literal

TextKind = Literal["txt", "md", "html"]
TableKind = Literal["csv", "jsonl", "parquet"]
ReadKind = Literal["rst", "json", "xml", "eml", "docx", "pptx", "xlsx", "epub", "odt"]
Format = Literal[TextKind, TableKind, ReadKind, "pdf"]

MODULES: Mapping[ReadKind, str] = {
    "rst": "rst", "json": "json_values", "xml": "xml_elements", "eml": "mail", "docx": "word", "pptx": "slides",
    "xlsx": "sheets", "epub": "book", "odt": "odt",
}  # fmt: skip
"""In this package; each has a `read(data: bytes) -> Read`."""

ENDINGS: Mapping[str, Format] = {
    ".txt": "txt", ".text": "txt", ".log": "txt", ".md": "md", ".markdown": "md", ".html": "html", ".htm": "html",
    ".xhtml": "html", ".pdf": "pdf", ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".rst": "rst", ".json": "json", ".xml": "xml", ".eml": "eml", ".docx": "docx",
    ".pptx": "pptx", ".xlsx": "xlsx", ".xlsm": "xlsx", ".epub": "epub", ".odt": "odt",
}  # fmt: skip
PACKED = ".gz"
"""Around any of them, unpacked within bounds; parquet is packed itself."""
_PLAIN_NAMES = frozenset(
    "README CHANGES CHANGELOG NEWS TODO COPYING COPYRIGHT LICENSE LICENCE AUTHORS CONTRIBUTORS INSTALL HISTORY NOTICE "
    "THANKS CREDITS FAQ BUGS RELEASE".split()
)


@dataclass(frozen=True, slots=True)
class FileKind:
    format: Format
    packed: bool = False


def kind_of(path: str) -> FileKind | None:
    """By its name alone; a file without an ending is text, until its bytes say otherwise."""
    name = path.rpartition("/")[2]
    packed = name.lower().endswith(PACKED)
    if packed:
        name = name[: -len(PACKED)]
    stem, ending = splitext(name)
    found = ENDINGS.get(ending.lower())
    if found is None and name and (not ending or stem.partition(".")[0].upper() in _PLAIN_NAMES):
        found = "txt"
    if found is None or (packed and found == "parquet"):
        return None
    return FileKind(found, packed)
