"""What somebody sent: fields of a form, parameters of an address, and who they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest

from ai_assets.base.errors import UserError
from ai_assets.signoff.people import Person
from ai_assets.storage.state import storable

LAST_PAGE = 1_000_000


class FormIncomplete(UserError):
    """A field is missing that every page of ours sends."""

    def __init__(self, field: str, found: str) -> None:
        super().__init__(f"The form's field '{field}' holds '{found}'. Open the page again and send it from there.")


@dataclass(frozen=True, kw_only=True)
class Form:
    fields: Mapping[str, Sequence[str]]

    @classmethod
    async def of(cls, request: HttpRequest) -> Self:
        data = await request.form()
        found: dict[str, list[str]] = {}
        for name, value in data.multi_items():
            if isinstance(value, str):
                found.setdefault(name, []).append(storable(value) or "")
        return cls(fields=found)

    def one(self, name: str) -> str:
        """The field without space around it; empty where it is missing."""
        return self.fields.get(name, [""])[-1].strip()

    def exact(self, name: str) -> str:
        """The field as it was sent: the id of a document may begin or end with a space."""
        return self.fields.get(name, [""])[-1]

    def every(self, name: str) -> Sequence[str]:
        return self.fields.get(name, [])

    def below(self, prefix: str) -> dict[str, str]:
        """All fields that begin so, by what follows."""
        return {name.removeprefix(prefix): self.one(name) for name in self.fields if name.startswith(prefix)}


def person_of(request: HttpRequest) -> Person:
    """Who is signed in. The protection around the pages lets nobody else in; without it nobody is."""
    found: Person | None = getattr(request.state, "person", None)
    if found is None:
        raise HTTPException(403)
    return found


def parameter(query: QueryParams, name: str, default: str = "") -> str:
    return (storable(query.get(name)) or "").strip() or default


def page_number(query: QueryParams, name: str = "page") -> int:
    """What is no number of a page is the first."""
    text = query.get(name, "1")
    return min(max(1, int(text)), LAST_PAGE) if text.isascii() and text.isdigit() and len(text) < 10 else 1


def place_in_text(query: QueryParams) -> int:
    """In characters; what is no number is the beginning."""
    text = query.get("at", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
