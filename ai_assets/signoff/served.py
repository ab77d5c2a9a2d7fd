"""What readers are given: the live release, only if it is what was published, down to the bytes of its index.

That its row and the pointer hold is seen to by `releases.live`; that a snapshot's rows hold, by the lake when it reads
the file. Here are the files of the search index, and what can be said of them without raising.
"""

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.embedding.spec import FIRST, further_columns
from ai_assets.signoff import audit, authority, checkpoints, releases
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import IndexAltered, IndexLost, ReleaseAltered
from ai_assets.signoff.frozen_candidate import has_snapshot, snapshot_paths
from ai_assets.signoff.releases import Part, Release
from ai_assets.storage import shared_lake
from ai_assets.storage.content import has_own_bytes
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.stores import Stores


def index_of(stores: Stores, release: Release) -> SearchIndex:
    embeddings = release.embeddings
    dimensions = embeddings[FIRST].dimensions if embeddings else None
    further = further_columns(embeddings)
    return stores.index(release.collection, release.index_name, dimensions, further, release.index_branch)


def require_index(stores: Stores, release: Release) -> SearchIndex:
    """The index of a release, if it is there with the bytes that were published."""
    return require_as_published(index_of(stores, release), release)


def require_as_published(index: SearchIndex, release: Release) -> SearchIndex:
    if not index.holds(release.index_version):
        raise IndexLost(release.collection, release.number)
    if (found := _altered(index, release)) is not None:
        raise IndexAltered(release.collection, release.number, found)
    return index


def altered_index(stores: Stores, release: Release) -> str | None:
    """The first file of the index that is not as it was published, in words. Of a release that an earlier version
    published nothing is known."""
    return _altered(index_of(stores, release), release)


def _altered(index: SearchIndex, release: Release) -> str | None:
    return None if release.index_seal is None else index.difference(release.index_version, release.index_seal)


def newest_live(stores: Stores, collection: str) -> Release:
    """The live release, if no later record was taken away; its index is not looked at."""
    with stores.state.read() as connection:
        live, record = releases.require_live_by_record(connection, collection)
        require_newest(stores, connection, record)
        return live


_walked: dict[tuple[str, int, str], tuple[int, str]] = {}
"""How far the chain was walked from a record on, by store and record."""


def require_newest(stores: Stores, connection: sa.Connection, record: Record) -> None:
    """Raises `ReleaseAltered` where a later record, which may say that another release is live, was taken away.

    From `record`, which says what is live, every link is followed up to the last record, whose signature stands for all
    before it; and the chain is not shorter than the newest checkpoint of this home says.
    """
    collection = str(record.subject["collection"])
    name = f"The live pointer of {collection}"
    kept = max((held.note.size for held in checkpoints.kept_notes(stores.home.checkpoints)), default=0)
    with stores.state.read() as now:  # a checkpoint that is made meanwhile may be ahead of the other transaction
        found: int = now.execute(sa.text("SELECT coalesce(max(seq), 0) FROM audit")).scalar_one()
    if found < kept:
        raise ReleaseAltered(
            name, f"the audit chain has {plural(found, 'record')}, and a checkpoint says {kept}", collection
        )
    begun = (stores.state.url, record.seq, record.hash)
    seq, last_hash = _walked.get(begun, (record.seq, record.hash))
    if (there := audit.get(connection, seq)) is None or there.hash != last_hash:
        seq, last_hash = record.seq, record.hash
    last = record
    for last in audit.records(connection, after=seq):
        if (last.seq, last.previous_hash) != (seq + 1, last_hash) or last.computed_hash() != last.hash:
            raise ReleaseAltered(
                name, f"{last.name} in the audit chain does not follow from the one before", collection
            )
        seq, last_hash = last.seq, last.hash
    try:
        authority.require_signed(connection, last)
    except AuditBroken as error:
        raise ReleaseAltered(name, f"the audit chain does not hold: {error}", collection) from error
    _walked[begun] = (seq, last_hash)


def lost_snapshots(stores: Stores, release: Release) -> list[str]:
    """Partitions of a release whose files are gone. Not looked for where each look is a request and they are many."""
    if stores.lake.in_bucket() is not None and len(release.parts) > shared_lake.LOOKED_AT:
        return []
    return [
        partition
        for partition, part in release.parts.items()
        if not has_snapshot(stores.lake, release.collection, partition, part)
    ]


def is_whole(stores: Stores, collection: str, partition: str, part: Part) -> bool:
    """Whether the frozen files of a partition are there with their own bytes."""
    return all(map(has_own_bytes, snapshot_paths(stores.lake, collection, partition, part)))
