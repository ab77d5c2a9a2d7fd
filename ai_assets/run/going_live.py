"""The one way to what is live: everything that publishes a release or rolls back to one goes through here, so that each
change is told to others exactly once, after it is recorded. Who listens changes nothing of it.
"""

from collections.abc import Callable, Mapping

from ai_assets.collection.loading import Collection
from ai_assets.lineage.opening import tell_release, tell_rollback
from ai_assets.signoff import live_index, publication
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import PublicationResult
from ai_assets.signoff.releases import Part, Release
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.stores import Stores


def publish(
    collection: Collection,
    stores: Stores,
    *,
    by: str,
    say: Callable[[str], None] = lambda _line: None,
    instead: Mapping[str, Part] | None = None,
    judge: Callable[[SearchIndex, int, Mapping[str, Part]], None] | None = None,
    description: str = "",
) -> PublicationResult:
    """`description`: of the asset `published`, for others."""
    done = publication.publish(collection, stores, by=by, say=say, instead=instead, judge=judge)
    tell_release(collection, done.release, done.partitions, stores.home, description, say)
    return done


def roll_back(
    collection: Collection,
    stores: Stores,
    number: int | None,
    *,
    by: Person,
    reason: str | None,
    say: Callable[[str], None] = lambda _line: None,
) -> Release:
    done = live_index.roll_back(stores, collection.name, number, by=by, reason=reason, say=say)
    if done.record is not None:
        tell_rollback(collection, done.release, done.record, stores.home, say)
    return done.release
