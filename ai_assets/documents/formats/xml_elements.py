"""XML: paragraphs where elements stand amid text, `name: value` where they hold data; entities are refused."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ai_assets.documents.formats.read import Read, blocks, parsed_xml
from ai_assets.documents.parse_encodings import declared_in_html, decoded
from ai_assets.documents.parse_worker import FileRefused

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TITLES = ("title", "name", "subject", "heading", "head")
_DEEPEST = 200


def read(data: bytes) -> Read:
    declared = declared_in_html(data)
    found = decoded(data, declared)
    # Without its declaration, which no longer holds.
    text = found.text.lstrip("\ufeff \t\r\n")
    if text.startswith("<?xml"):
        text = text.partition("?>")[2]
    root = parsed_xml(text.encode("utf-8", "surrogatepass"))
    title = next((_said(element) for element in root.iter() if _name(element) in _TITLES and _said(element)), None)
    return Read(text=blocks(_blocks(root, 0)), title=title, encoding=found.encoding, certainty=found.certainty)


def _blocks(element: "Element", depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise FileRefused("could not be read: nested too deeply")
    own = bool((element.text or "").strip())
    amid = any((child.tail or "").strip() for child in element)
    facts = [f"{key.rpartition('}')[2]}: {value}" for key, value in element.attrib.items() if value.strip()]
    if own or amid:
        said = _said(element)
        yield said if _is_prose(element, said) else "\n".join([f"{_name(element)}: {said}", *facts])
        return
    if facts:
        yield "\n".join([f"{_name(element)}:", *(f"  {fact}" for fact in facts)])
    simple: list[str] = []
    for child in element:
        if len(child) == 0 and not child.attrib and not _is_prose(child, _said(child)):
            if said := _said(child):
                simple.append(f"{_name(child)}: {said}")
            continue
        yield "\n".join(simple)
        simple = []
        yield from _blocks(child, depth + 1)
    yield "\n".join(simple)


def _is_prose(element: "Element", said: str) -> bool:
    """Text with elements in it, or in elements of one or two letters such as p, or of several sentences."""
    return len(element) > 0 or _name(element) in ("p", "para", "title", "head", "li") or ". " in said


def _said(element: "Element") -> str:
    return " ".join("".join(element.itertext()).split())


def _name(element: "Element") -> str:
    return str(element.tag).rpartition("}")[2]
