"""Legal holds: what must be kept until somebody with the right to says otherwise. The audit chain is the authority."""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.retention.errors import HoldRefused
from ai_assets.signoff import audit, authority, releases
from ai_assets.signoff.audit import Action
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore

PLACED: Action = "hold placed"
RELEASED: Action = "hold released"


@dataclass(frozen=True, kw_only=True)
class Hold:
    collection: str
    release: int | None
    """None: everything of the collection."""
    by: str
    at: str
    reason: str

    def covers(self, collection: str, release: int) -> bool:
        return self.collection == collection and self.release in (None, release)


def current(connection: sa.Connection) -> list[Hold]:
    """Those in force. Each record is checked: a row that somebody wrote into the table releases nothing."""
    found: dict[tuple[str, int | None], Hold] = {}
    known = authority.of(connection)
    for record in reversed(audit.select(connection, actions=[PLACED, RELEASED])):
        known.require_signed(record)
        subject = record.subject
        place = (str(subject["collection"]), _number(subject))
        if record.action == RELEASED:
            found.pop(place, None)
        else:
            found[place] = Hold(
                collection=place[0], release=place[1], by=record.actor, at=record.recorded_at,
                reason=str(subject["reason"]),
            )  # fmt: skip
    return list(found.values())


def place(state: StateStore, collection: str, release: int | None, *, by: Person, reason: str) -> Hold:
    """Keep a release, or everything of a collection, until `lift`."""
    with state.write() as connection:
        authority.require_approver(connection, by, collection, "a legal hold")
        if release is not None:
            releases.get(connection, collection, release)
            if release in releases.pruned(connection, collection):
                raise HoldRefused(collection, release, "its files were removed already")
        if any((each.collection, each.release) == (collection, release) for each in current(connection)):
            raise HoldRefused(collection, release, "there is a hold on it already")
        subject = {"collection": collection, "release": release, "reason": reason, **by.recorded_rights(collection)}
        record = audit.append(connection, by.name, PLACED, subject)
    return Hold(collection=collection, release=release, by=by.name, at=record.recorded_at, reason=reason)


def lift(state: StateStore, collection: str, release: int | None, *, by: Person, reason: str) -> None:
    """From now on retention decides again."""
    with state.write() as connection:
        authority.require_approver(connection, by, collection, "a legal hold")
        if not any((each.collection, each.release) == (collection, release) for each in current(connection)):
            raise HoldRefused(collection, release, "there is no hold on it")
        subject = {"collection": collection, "release": release, "reason": reason, **by.recorded_rights(collection)}
        audit.append(connection, by.name, RELEASED, subject)


def _number(subject: Mapping[str, object]) -> int | None:
    found = subject.get("release")
    return None if found is None else int(str(found))
