"""An answer that holds data, as a tree of named fields: beside the live one where there is one to compare with."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ai_assets.desk.evidence import EvidenceAt
from ai_assets.stages.evidence import parsed_json

FieldChange = Literal["same", "added", "removed", "changed"]
MOST_FIELDS = 200
"""Of one level; the rest are counted."""
DEEPEST = 8
LONGEST_VALUE = 2_000
Find = Callable[[str, object], EvidenceAt | None]
"""Where the document has the value of a field of this name."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of an answer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    name: str
    value: str | None
    """None where the field is empty, is gone, or holds others."""
    before: str | None = None
    """What the live release says; only where it differs."""
    change: FieldChange = "same"
    """Of the field or of anything in it; `same` too where nothing is compared."""
    fields: "Sequence[Field]" = ()
    more: int = 0
    """Further fields in it that are not listed."""
    at: EvidenceAt | None = None
    """Where the document has this value word for word; null where it does not, or the value is too short to tell."""


class _Missing:
    """In the place of a value that is not there."""


MISSING = _Missing()


def parsed(text: str | None) -> object:
    """What a column of JSON holds; MISSING where it holds something else than a record or a list."""
    found = parsed_json(text)
    return MISSING if found is None else found


def fields_of(
    now: object, before: object = MISSING, *, depth: int = 0, find: Find | None = None
) -> list[Field]:  # fmt: skip
    """The members of a record or a list. What only the one before has comes last, as removed."""
    new, old = _members(now), _members(before)
    compared = not isinstance(before, _Missing)
    names = list(dict.fromkeys([*new, *old]))
    return [
        _field(name, new.get(name, MISSING), old.get(name, MISSING), compared, depth, find)
        for name in names[:MOST_FIELDS]
    ]


def _members(value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return {str(name): member for name, member in value.items()}
    if isinstance(value, list):
        return {str(number): member for number, member in enumerate(value, start=1)}
    return {}


def _field(name: str, now: object, before: object, compared: bool, depth: int, find: Find | None) -> Field:
    change = _change(now, before) if compared else "same"
    shown = before if isinstance(now, _Missing) else now
    if _is_nested(shown) and depth < DEEPEST:
        inner = fields_of(now, before if compared else MISSING, depth=depth + 1, find=find)
        was = None if change != "changed" or _is_nested(before) else _in_words(before)
        more = max(0, len(_members(shown)) - MOST_FIELDS)
        return Field(name=name, value=None, before=was, change=change, fields=inner, more=more)
    return Field(
        name=name,
        value=_in_words(now),
        before=_in_words(before) if change in ("changed", "removed") else None,
        change=change,
        at=find(name, now) if find is not None and not isinstance(now, _Missing) else None,
    )


def _change(now: object, before: object) -> FieldChange:
    if isinstance(now, _Missing):
        return "removed"
    if isinstance(before, _Missing):
        return "added"
    return "same" if now == before and type(now) is type(before) else "changed"


def _is_nested(value: object) -> bool:
    """Records, and lists that hold any; a list of plain values is read in one line."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and any(isinstance(member, dict | list) for member in value)


def _in_words(value: object) -> str | None:
    match value:
        case None | _Missing():
            return None
        case bool():
            return "yes" if value else "no"
        case str():
            text = value
        case list() if not any(isinstance(member, dict | list) for member in value):
            text = ", ".join(_in_words(member) or "none" for member in value) or "none"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False) if value else "none"
        case _:
            text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
