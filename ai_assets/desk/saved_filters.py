"""Filters of the inbox that a person keeps under a name. They are theirs alone and show only what they may see."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore, now, upsert

MOST = 30
LONGEST_NAME, LONGEST_QUERY = 60, 1_000
KEYS = ("collection", "status", "text", "sort", "claim")


class FilterRefused(UserError):
    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"The filter '{name}' is not kept: {problem}.")


@dataclass(frozen=True, kw_only=True)
class SavedFilter:
    name: str
    query: str
    """Of the inbox's address."""


def save(state: StateStore, person: Person, name: str, chosen: Mapping[str, str]) -> SavedFilter:
    """In place of the one they have under that name."""
    name = " ".join(name.split())
    found = urlencode({key: value for key in KEYS if (value := chosen.get(key, ""))})
    if not name or len(name) > LONGEST_NAME:
        raise FilterRefused(name[:LONGEST_NAME], f"a name has 1 to {LONGEST_NAME} characters")
    if len(found) > LONGEST_QUERY:
        raise FilterRefused(name, f"it has more than {LONGEST_QUERY} characters")
    with state.write() as connection:
        kept = [each.name for each in of(connection, person)]
        if name not in kept and len(kept) >= MOST:
            raise FilterRefused(name, f"you have {MOST} already; remove one first")
        upsert(connection, "saved_filters", {"person": person.name, "name": name}, {"query": found, "made_at": now()})
    return SavedFilter(name=name, query=found)


def remove(state: StateStore, person: Person, name: str) -> None:
    with state.write() as connection:
        query = sa.text("DELETE FROM saved_filters WHERE person = :person AND name = :name")
        connection.execute(query, {"person": person.name, "name": name})


def of(connection: sa.Connection, person: Person) -> list[SavedFilter]:
    query = sa.text("SELECT name, query FROM saved_filters WHERE person = :person ORDER BY name")
    return [SavedFilter(name=row.name, query=row.query) for row in connection.execute(query, {"person": person.name})]


def chosen_in(query: str) -> dict[str, str]:
    """What a kept filter chooses; what is no key of ours is dropped."""
    return {key: value for key, value in parse_qsl(query) if key in KEYS}
