"""OpenDocument texts: headings, paragraphs, lists, tables, notes, comments, headers and footers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_assets.documents.formats.read import Read, blocks, opened, refuse_doctypes, table, xml_of
from ai_assets.documents.parse_worker import FileRefused

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SPACE = "{urn:oasis:names:tc:opendocument:xmlns:%s:1.0}"
_TEXT, _TABLE, _OFFICE, _STYLE = (_SPACE % name for name in ("text", "table", "office", "style"))
_DC = "{http://purl.org/dc/elements/1.1/}"
_MOST_REPEATED = 100


def read(data: bytes) -> Read:
    with opened(data, "text in OpenDocument", ".odt", "content.xml") as archive:
        manifest = archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in archive.NameToInfo else b""
        if b"encryption-data" in manifest:
            raise FileRefused("it is encrypted; save it without a password")
        refuse_doctypes(archive)
        content, styles, meta = (xml_of(archive, name) for name in ("content.xml", "styles.xml", "meta.xml"))
    body = content.find(f"{_OFFICE}body/{_OFFICE}text") if content is not None else None
    if body is None:
        raise FileRefused("could not be read: not an OpenDocument text")
    title = meta.findtext(f".//{_DC}title") if meta is not None else None
    return Read(text=blocks([*_blocks(body), *_beside(styles)]), title=title or None)


def _blocks(element: "Element", indent: str = "") -> Iterator[str]:
    for child in element:
        match child.tag:
            case t if t == f"{_TEXT}h":
                level = min(int(child.get(f"{_TEXT}outline-level") or 1), 6)
                yield f"{'#' * level} {_said(child)}"
                yield from _notes(child)
            case t if t == f"{_TEXT}p":
                yield _said(child)
                yield from _notes(child)
            case t if t == f"{_TEXT}list":
                yield "\n".join(_items(child, indent))
            case t if t == f"{_TABLE}table":
                yield table(_rows(child))
            case t if t.startswith((_TEXT, _TABLE)):
                yield from _blocks(child, indent)


def _items(found: "Element", indent: str) -> Iterator[str]:
    for item in found:
        for child in item:
            if child.tag == f"{_TEXT}list":
                yield from _items(child, f"{indent}  ")
            elif said := _said(child):
                yield f"{indent}- {said}"


def _rows(found: "Element") -> Iterator[list[str]]:
    for row in found.iter(f"{_TABLE}table-row"):
        cells: list[str] = []
        for cell in row:
            said = " ".join(filter(None, map(_said, cell)))
            times = min(int(cell.get(f"{_TABLE}number-columns-repeated") or 1), _MOST_REPEATED)
            cells += [said] * times
        yield cells


def _notes(element: "Element") -> Iterator[str]:
    for note in element.iter(f"{_TEXT}note"):
        body = note.find(f"{_TEXT}note-body")
        if body is not None:
            yield f"Note {note.findtext(f'{_TEXT}note-citation') or ''}: {' '.join(filter(None, map(_said, body)))}"
    for comment in element.iter(f"{_OFFICE}annotation"):
        said = " ".join(_said(child) for child in comment if child.tag.startswith(_TEXT))
        yield f"Comment by {comment.findtext(f'{_DC}creator') or 'unknown'}: {said}"


def _beside(styles: "Element | None") -> Iterator[str]:
    for what in ("header", "footer"):
        found = (
            said for each in (styles.iter(f"{_STYLE}{what}") if styles is not None else ()) for said in map(_said, each)
        )
        seen = dict.fromkeys(filter(None, found))
        if seen:
            yield f"{what.capitalize()}: {' / '.join(seen)}"


def _said(element: "Element") -> str:
    """Its text on one line, without the notes in it."""
    found: list[str] = []

    def add(part: "Element") -> None:
        found.append(part.text or "")
        for child in part:
            if child.tag in (f"{_TEXT}s", f"{_TEXT}tab", f"{_TEXT}line-break"):
                found.append(" ")
            elif child.tag not in (f"{_TEXT}note", f"{_OFFICE}annotation"):
                add(child)
            found.append(child.tail or "")

    add(element)
    return " ".join("".join(found).split())
