"""Releases of a collection, and which one readers saw at a time. What was altered is not shown as live."""

from collections.abc import Mapping

import sqlalchemy as sa

from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.views import ReleaseRow
from ai_assets.signoff import releases
from ai_assets.signoff.errors import IndexAltered, IndexLost, NothingLive, ReleaseAltered
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release
from ai_assets.signoff.served import require_served
from ai_assets.signoff.timestamps import moment
from ai_assets.targets.serving import failures_in_words, states


def release_rows(desk: Desk, person: Person, collection: str) -> list[ReleaseRow]:
    """The newest first."""
    name = collection_seen(desk, person, collection).name
    with desk.stores.state.read() as connection:
        live, problem = _live(desk, connection, name)
        pruned = releases.pruned(connection, name)
        found = [
            _altered(number, release) if isinstance(release, ReleaseAltered) else _row(release, live, problem, pruned)
            for number, release in releases.read_all(connection, name)
        ]
    if problem is not None and not any(row.problem for row in found):
        raise problem
    return found[::-1]


def targets_in_trouble(desk: Desk, person: Person, collection: str) -> list[str]:
    """Which targets do not serve what is live, and why their last try failed."""
    found = collection_seen(desk, person, collection)
    with desk.stores.state.read() as connection:
        return failures_in_words(states(connection, found))


def _live(
    desk: Desk, connection: sa.Connection, collection: str
) -> tuple[int | None, ReleaseAltered | IndexAltered | IndexLost | None]:
    """The release that should be live, and why it is not served where it is not."""
    try:
        return require_served(desk.stores, connection, collection).number, None
    except NothingLive:
        return None, None
    except ReleaseAltered as error:
        return error.told, error
    except (IndexAltered, IndexLost) as error:
        return releases.live_number(connection, collection), error


def live_at(desk: Desk, person: Person, collection: str, at: str) -> ReleaseRow | None:
    """What readers saw at that moment; `live` says whether they see it still."""
    name = collection_seen(desk, person, collection).name
    with desk.stores.state.read() as connection:
        found = releases.live_at(connection, name, moment(at))
        pruned = releases.pruned(connection, name)
        return _row(found, *_live(desk, connection, name), pruned) if found else None


def _row(release: Release, live: int | None, problem: Exception | None, pruned: Mapping[int, str]) -> ReleaseRow:
    is_live = release.number == live
    return ReleaseRow(
        number=release.number,
        digest=release.digest,
        created_at=release.created_at,
        partitions=len(release.parts),
        documents=release.documents,
        signers=sorted({name for part in release.parts.values() for name in part.approved_by}),
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
