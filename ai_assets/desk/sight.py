"""What a person may see: everything below asks here first. What they may not see looks like what does not exist."""

import datetime
import re

import sqlalchemy as sa

from ai_assets.collection import Collection
from ai_assets.desk.context import Desk
from ai_assets.signoff import requests
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import Request
from resources.digest import canonical_json
from resources.errors import UserError
from resources.state import storable

EARLIEST = datetime.datetime.min.replace(tzinfo=datetime.UTC)
LATEST = datetime.datetime.max.replace(tzinfo=datetime.UTC)
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:[Tt ](?P<minute>\d\d:\d\d)(?::(?P<second>\d\d)(?:\.(?P<part>\d{1,9}))?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_LIGHT = tuple(column for column in requests.TABLE.c if column.name != "summary")


class NotSeen(UserError):
    """It does not exist, or this person may not see it: nobody learns which."""

    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what} that you may see. What exists is shown to whoever has a role in it.")


class ViewUnknown(UserError):
    def __init__(self, name: str, asked: str, known: tuple[str, ...]) -> None:
        super().__init__(f"'{asked}' is no {name}; known are {', '.join(known)}.")


class MomentInvalid(UserError):
    def __init__(self, asked: str) -> None:
        super().__init__(
            f"'{asked}' is no moment: write a date (2026-11-21), or date and time (2026-11-21T14:30, in UTC unless a "
            "zone is given)."
        )


def collection_seen(desk: Desk, person: Person, name: str) -> Collection:
    found = desk.seen_by(person).get(name)
    if found is None:
        raise NotSeen(f"collection '{name}'")
    return found


def request_seen(desk: Desk, person: Person, connection: sa.Connection, request_id: str) -> tuple[Request, Collection]:
    """The request without its summary, which may be of any size; `Request.changes` is empty."""
    query = sa.select(*_LIGHT).where(requests.TABLE.c.request_id == storable(request_id))
    row = connection.execute(query).mappings().one_or_none()
    collection = desk.seen_by(person).get(row["collection"]) if row is not None else None
    if row is None or collection is None:
        raise NotSeen(f"request '{request_id}'")
    return Request(**row, summary="{}"), collection


def told(request: Request, **changes: object) -> Request:
    """The request with the few parts of its summary that rules look at."""
    return Request(**{**vars(request), "summary": canonical_json(changes)})  # type: ignore[arg-type]


def known_view(name: str, asked: str, known: tuple[str, ...]) -> str:
    if asked not in known:
        raise ViewUnknown(name, asked, known)
    return asked


def moment(asked: str, *, end: bool = False) -> str:
    """As the tables write it: UTC with milliseconds. A date alone is its beginning or, if told so, its end."""
    match = _MOMENT.fullmatch(asked.strip())
    if match is None:
        raise MomentInvalid(asked)
    rest = "23:59:59.999" if end else "00:00:00.000"
    if match["minute"]:
        # A leap second, which RFC 3339 has and Python has not, is the second before it.
        second = "59" if match["second"] == "60" else match["second"] or "00"
        rest = f"{match['minute']}:{second}.{(match['part'] or '0')[:3]:0<3}"
    zone = (match["zone"] or "Z").upper().replace("Z", "+00:00")
    try:
        local = datetime.datetime.fromisoformat(f"{match['day']}T{rest}")
        offset = datetime.datetime.fromisoformat(f"2000-01-01T00:00{zone}").utcoffset() or datetime.timedelta()
    except ValueError as error:
        raise MomentInvalid(asked) from error
    try:
        found = local.replace(tzinfo=datetime.UTC) - offset
    except OverflowError:
        found = EARLIEST if offset > datetime.timedelta() else LATEST
    return found.isoformat(timespec="milliseconds")
