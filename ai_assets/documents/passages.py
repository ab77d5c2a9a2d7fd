"""The passages of a document: cut from its own text, from what stages made of it, or from both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_assets.documents.by_document import Row
from ai_assets.documents.chunk import chunk_document
from ai_assets.storage.digest import digest

STRUCTURE = ("headings", "kind", "page", "page_end")
"""Columns that say where a passage stands; passages of the first chunker have none."""
STRUCTURE_NUMBERS = ("page", "page_end")
OF = "of"
"""The column that names the text a passage is from; it is there where that is not always the document's own."""


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """A text of a document that is cut into passages."""

    name: str
    """As it is declared: `text`, `summary` or `summary.column`."""
    stage: str | None
    """None for the document's own text."""
    column: str


def made_from(own_digest: str, texts: Mapping[str, str]) -> str:
    """Of all texts of a document that are cut; of its own text alone that text's digest, as it always was."""
    return own_digest if list(texts) == ["text"] else digest([own_digest if "text" in texts else None, dict(texts)])


def cut(
    document_id: str, texts: Mapping[str, str], *, max_characters: int, overlap: int, pages: Sequence[int] = ()
) -> Iterator[Row]:
    """Passages in order; `start` and `end` are places in the text that `of` names, `pages` those of the own text.

    The same passage in two texts is two passages, so the identity of one that a stage made has the text's name in it.
    """
    ordinal = 0
    for name, text in texts.items():
        of = document_id if name == "text" else f"{document_id}\n{name}"
        own_pages = pages if name == "text" else ()
        for chunk in chunk_document(of, text, max_characters=max_characters, overlap=overlap, pages=own_pages):
            yield {**vars(chunk), "document_id": document_id, "ordinal": ordinal, "of": name}
            ordinal += 1


def texts_of(
    embedded: tuple[EmbeddedText, ...], own_text: str, rows: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, str]:
    """By name, those that a document has; `rows` are its rows of the stages."""
    found = {}
    for each in embedded:
        text = own_text if each.stage is None else (rows.get(each.stage) or {}).get(each.column)
        if text:
            found[each.name] = text
    return found
