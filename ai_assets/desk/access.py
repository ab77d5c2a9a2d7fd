"""What a person may see: everything below asks here first. What they may not see looks like what does not exist."""

from dataclasses import replace

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection
from ai_assets.desk.context import Desk
from ai_assets.signoff import requests
from ai_assets.signoff.errors import SignedAssetElsewhere
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import Json, canonical_json
from ai_assets.storage.state import storable

_LIGHT = tuple(column for column in requests.TABLE.c if column.name != "summary")


class NotSeen(UserError):
    """It does not exist, or this person may not see it: nobody learns which."""

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what} that you may see. What exists is shown to whoever has a role in it.")


class ViewUnknown(UserError):
    def __init__(self, name: str, asked: str, known: tuple[str, ...]) -> None:
        super().__init__(f"'{asked}' is no {name}; known are {', '.join(known)}.")


def collection_seen(desk: Desk, person: Person, name: str) -> Collection:
    found = desk.seen_by(person).get(name)
    if found is None:
        raise NotSeen(f"collection '{name}'")
    return found


def collection_run_here(desk: Desk, person: Person, name: str) -> Collection:
    """One whose runs are ours to start; those of a signed asset are its own project's."""
    found = collection_seen(desk, person, name)
    if found.signed_asset is not None:
        raise SignedAssetElsewhere(name, found.signed_asset)
    return found


def request_seen(
    desk: Desk, person: Person, connection: sa.Connection, request_id: str
) -> tuple[SignoffRequest, Collection]:
    """The request without its summary, which may be of any size; `Request.changes` is empty."""
    query = sa.select(*_LIGHT).where(requests.TABLE.c.request_id == storable(request_id))
    row = connection.execute(query).mappings().one_or_none()
    collection = desk.seen_by(person).get(row["collection"]) if row is not None else None
    if row is None or collection is None:
        raise NotSeen(f"request '{request_id}'")
    return SignoffRequest(**row, summary="{}"), collection


def whole_request_seen(desk: Desk, person: Person, request_id: str) -> tuple[SignoffRequest, Collection]:
    """The same with its summary, for what is decided or corrected."""
    with desk.stores.state.read() as connection:
        _, collection = request_seen(desk, person, connection, request_id)
        found = requests.get(connection, request_id)
    if found is None:
        raise NotSeen(f"request '{request_id}'")
    return found, collection


def told(request: SignoffRequest, **changes: Json) -> SignoffRequest:
    """The request with the few parts of its summary that rules look at."""
    return replace(request, summary=canonical_json(changes))


def known_view(name: str, asked: str, known: tuple[str, ...]) -> str:
    if asked not in known:
        raise ViewUnknown(name, asked, known)
    return asked
