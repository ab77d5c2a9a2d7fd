"""Releases of a collection, and which one readers saw at a time."""

from collections.abc import Mapping

from ai_assets.desk.context import Desk
from ai_assets.desk.sight import collection_seen
from ai_assets.desk.views import ReleaseRow
from ai_assets.signoff import releases
from ai_assets.signoff.moments import moment
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release


def release_rows(desk: Desk, person: Person, collection: str) -> list[ReleaseRow]:
    """The newest first."""
    name = collection_seen(desk, person, collection).name
    with desk.stores.state.read() as connection:
        live = releases.live_number(connection, name)
        pruned = releases.pruned(connection, name)
        return [_row(release, live, pruned) for release in reversed(releases.find(connection, name))]


def live_at(desk: Desk, person: Person, collection: str, at: str) -> ReleaseRow | None:
    """What readers saw at that moment; `live` says whether they see it still."""
    name = collection_seen(desk, person, collection).name
    with desk.stores.state.read() as connection:
        found = releases.live_at(connection, name, moment(at))
        live, pruned = releases.live_number(connection, name), releases.pruned(connection, name)
        return _row(found, live, pruned) if found else None


def _row(release: Release, live: int | None, pruned: Mapping[int, str]) -> ReleaseRow:
    return ReleaseRow(
        number=release.number,
        digest=release.digest,
        created_at=release.created_at,
        partitions=len(release.parts),
        documents=release.documents,
        signers=sorted({name for part in release.parts.values() for name in part.approved_by}),
        live=release.number == live,
        pruned_at=pruned.get(release.number),
    )
