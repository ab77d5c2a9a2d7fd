"""Releases of a collection, and which one readers saw at a time. What was altered is not shown as live."""

from collections.abc import Mapping

import sqlalchemy as sa

from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.views import ReleaseRow
from ai_assets.signoff import releases
from ai_assets.signoff.errors import IndexAltered, IndexLost, ReleaseAltered
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release
from ai_assets.signoff.served import require_index, require_newest
from ai_assets.signoff.timestamps import moment
from ai_assets.targets.serving import failures_in_words, states


def release_rows(desk: Desk, person: Person, collection: str) -> list[ReleaseRow]:
    """The newest first."""
    name = collection_seen(desk, person, collection).name
    with desk.stores.state.read() as connection:
        pruned = releases.pruned(connection, name)
        found = dict(releases.read_all(connection, name))
        live, problem = _live(desk, connection, name, found)
    rows = [
        _altered(number, release) if isinstance(release, ReleaseAltered) else _row(release, live, problem, pruned)
        for number, release in found.items()
    ]
    if problem is not None and not any(row.problem for row in rows):
        raise problem
    return rows[::-1]


def release_row(desk: Desk, connection: sa.Connection, release: Release) -> ReleaseRow:
    """One that was read."""
    live, problem = _live(desk, connection, release.collection, {release.number: release})
    if problem is not None and live is None:
        raise problem
    return _row(release, live, problem, releases.pruned(connection, release.collection))


def targets_in_trouble(desk: Desk, person: Person, collection: str) -> list[str]:
    """Which targets do not serve what is live, and why their last try failed."""
    found = collection_seen(desk, person, collection)
    with desk.stores.state.read() as connection:
        return failures_in_words(states(connection, found))


def _live(
    desk: Desk, connection: sa.Connection, collection: str, found: Mapping[int, Release | ReleaseAltered]
) -> tuple[int | None, ReleaseAltered | IndexAltered | IndexLost | None]:
    """The release that should be live, and why it is not served where it is one of those and is not."""
    number = None
    try:
        if (record := releases.pointing(connection, collection)) is None:
            return None, None
        number = releases.number_in(record)
        require_newest(desk.stores, connection, record)
        match found.get(number):
            case Release() as live:
                require_index(desk.stores, live)
            case ReleaseAltered() as altered:
                raise altered
    except ReleaseAltered as error:
        return error.told, error
    except (IndexAltered, IndexLost) as error:
        return number, error
    return number, None


def live_at(desk: Desk, person: Person, collection: str, at: str) -> ReleaseRow | None:
    """What readers saw at that moment; `live` says whether they see it still."""
    name = collection_seen(desk, person, collection).name
    with desk.stores.state.read() as connection:
        found = releases.live_at(connection, name, moment(at))
        if found is None:
            return None
        live, problem = _live(desk, connection, name, {found.number: found})
        return _row(found, live, problem, releases.pruned(connection, name))


def _row(release: Release, live: int | None, problem: Exception | None, pruned: Mapping[int, str]) -> ReleaseRow:
    is_live = release.number == live
    return ReleaseRow(
        number=release.number,
        digest=release.digest,
        created_at=release.created_at,
        partitions=len(release.parts),
        documents=release.documents,
        signers=release.signers,
        live=is_live and problem is None,
        problem=str(problem) if is_live and problem is not None else None,
        pruned_at=pruned.get(release.number),
    )


def _altered(number: int, problem: ReleaseAltered) -> ReleaseRow:
    """Nothing that such a row says is shown."""
    return ReleaseRow(
        number=number, digest="", created_at="", partitions=0, documents=0, signers=(), live=False,
        problem=str(problem),
    )  # fmt: skip
