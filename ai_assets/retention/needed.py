"""Which releases must stay: the live one, the newest for a rollback, those just read, and those under a legal hold."""

import datetime

import sqlalchemy as sa

from ai_assets.retention import holds
from ai_assets.run.operations import RetentionSettings
from ai_assets.signoff import audit, releases
from ai_assets.signoff.releases import Release
from ai_assets.storage.state import now


def ago(**span: float) -> str:
    """A moment before now, as the state store writes moments."""
    moved = datetime.datetime.fromisoformat(now()) - datetime.timedelta(**span)
    return moved.isoformat(timespec="milliseconds")


def releases_kept(
    connection: sa.Connection, collection: str, settings: RetentionSettings | None = None
) -> list[Release]:
    """In order. Without settings, all that can still be rolled back to."""
    every = releases.find(connection, collection)
    gone = releases.pruned(connection, collection)
    there = [release for release in every if release.number not in gone]
    if settings is None:
        return there
    live = releases.live_number(connection, collection)
    in_force = holds.current(connection)
    others = [release.number for release in every if release.number != live]
    kept = {live, *others[-settings.rollback_releases :], *_just_live(connection, collection, settings)}
    return [
        release
        for release in there
        if release.number in kept or any(hold.covers(collection, release.number) for hold in in_force)
    ]


def _just_live(connection: sa.Connection, collection: str, settings: RetentionSettings) -> set[int]:
    """What readers may have open: live now or a little while ago."""
    since = ago(minutes=settings.reader_minutes)
    moved = audit.select(connection, collections=[collection], actions=["published", "rolled back"], since=since)
    found = {int(str(record.subject["release"])) for record in moved}
    before = releases.live_at(connection, collection, since)
    return found | ({before.number} if before is not None else set())
