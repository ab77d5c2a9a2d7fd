"""Word documents: what markitdown makes of the body, and what it leaves out: headers, footers, comments."""

import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_assets.documents.formats.read import Read, blocks, opened, refuse_doctypes, xml_of
from ai_assets.documents.formats.web import converted

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read(data: bytes) -> Read:
    from markitdown.converters import DocxConverter

    with opened(data, "Word document", ".docx", "[Content_Types].xml") as archive:
        refuse_doctypes(archive)
        body, title = converted(DocxConverter(), data)  # type: ignore[no-untyped-call]
        parts = list(_beside(archive))
    if not parts:
        return Read(text=body, title=title, new=False)
    return Read(text=blocks([body, *parts]), title=title)


def _beside(archive: zipfile.ZipFile) -> Iterator[str]:
    for what in ("header", "footer"):
        seen: dict[str, None] = {}
        for name in sorted(archive.NameToInfo):
            if (
                name.startswith(f"word/{what}")
                and name.endswith(".xml")
                and (root := xml_of(archive, name)) is not None
            ):
                seen.update(dict.fromkeys(filter(None, map(_said, root.iter(f"{_W}p")))))
        if seen:
            yield f"{what.capitalize()}: {' / '.join(seen)}"
    comments = xml_of(archive, "word/comments.xml")
    for comment in comments if comments is not None else ():
        said = " ".join(filter(None, map(_said, comment.iter(f"{_W}p"))))
        if said:
            yield f"Comment by {comment.get(f'{_W}author') or 'unknown'}: {said}"


def _said(paragraph: "Element") -> str:
    found = []
    for element in paragraph.iter():
        if element.tag == f"{_W}t":
            found.append(element.text or "")
        elif element.tag in (f"{_W}tab", f"{_W}br"):
            found.append(" ")
    return " ".join("".join(found).split())
