"""Building a target anew from the files of a release: what is there is not trusted, and readers see old or new.

A rebuild has an attempt, which is recorded before the target is touched: after a kill the same one goes on. Its receipt
takes the place of the one before, and the pointer of the state store stays what decides which release is served.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.base.errors import LeaseLost
from ai_assets.collection.loading import Collection
from ai_assets.own import OwnTarget
from ai_assets.signoff import audit, authority, releases
from ai_assets.signoff.frozen_candidate import has_snapshot
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import Stores
from ai_assets.targets import serving
from ai_assets.targets.base import Row, Target, TargetRelease
from ai_assets.targets.errors import NoSuchTarget, ReleaseBytesGone

if TYPE_CHECKING:
    import pyarrow as pa

Seen = Callable[[str, int], None]
"""Told of a target and how many rows of the release it has read so far."""


@dataclass(frozen=True, kw_only=True)
class PlannedRebuild:
    """What would be done to one target."""

    target: str
    release: int
    documents: int
    chunks: int
    shown: bool
    """Whether readers will see it then: the release is the live one."""
    beside: bool
    """Whether readers of the target see old or new and nothing between; else it writes over what they see."""
    begun_at: str | None
    """Of a rebuild of the same release that did not end; it goes on."""

    @property
    def rows(self) -> int:
        return self.documents + self.chunks


@dataclass(frozen=True, kw_only=True)
class TargetRebuild:
    """The last rebuild of a target."""

    target: str
    attempt: str
    release_number: int
    release_digest: str
    begun_by: str
    begun_at: str
    written_at: str | None
    finished_at: str | None
    error: str | None


def rebuilds(connection: sa.Connection, collection: str) -> list[TargetRebuild]:
    query = sa.text("SELECT * FROM target_rebuilds WHERE collection = :c ORDER BY target")
    rows = connection.execute(query, {"c": collection}).mappings()
    return [TargetRebuild(**{name: row[name] for name in TargetRebuild.__annotations__}) for row in rows]


def plan(
    stores: Stores, collection: Collection, name: str | None, number: int | None
) -> tuple[Release, list[PlannedRebuild]]:
    """Of one target or all, from a release or the live one. Raises where there is none, or its files are gone."""
    chosen = _chosen(collection, name)
    with stores.state.read() as connection:
        live = releases.live_number(connection, collection.name)
        release = (
            releases.require_live(connection, collection.name)
            if number is None
            else releases.get(connection, collection.name, number)
        )
        _require_files(stores, connection, release)
        begun = {each.target: each for each in rebuilds(connection, collection.name) if _goes_on(each, release)}
    return release, [
        PlannedRebuild(
            target=target.name,
            release=release.number,
            documents=sum(part.documents for part in release.parts.values()),
            chunks=sum(part.chunks for part in release.parts.values()),
            shown=release.number == live,
            beside=target.kind.rebuild is not Target.rebuild,
            begun_at=begun[target.name].begun_at if target.name in begun else None,
        )
        for target in chosen
    ]


def rebuild(
    stores: Stores,
    collection: Collection,
    release: Release,
    names: Sequence[str],
    *,
    by: Person,
    say: Callable[[str], None],
    seen: Seen = lambda _target, _rows: None,
) -> list[TargetRebuild]:
    """These targets, one after the other; one that fails leaves the others. How each went."""
    with stores.state.read() as connection:
        authority.require_approver(connection, by, collection.name, "rebuilding a target")
    for target in collection.own.targets:
        if target.name in names:
            with hold(stores.state, f"target:{collection.name}:{target.name}", say=say) as lease:
                _rebuild(stores, lease, target, release, by, say, seen)
    with stores.state.read() as connection:
        return [each for each in rebuilds(connection, collection.name) if each.target in names]


def _rebuild(
    stores: Stores,
    lease: Lease,
    target: OwnTarget,
    release: Release,
    by: Person,
    say: Callable[[str], None],
    seen: Seen,
) -> None:
    key = {"collection": release.collection, "target": target.name}
    begun = _begun(lease, key, release, by)
    try:
        with closing(target.make()) as made:
            if begun.written_at is None:
                given = _watched(serving.release_of(stores, release), lambda rows: seen(target.name, rows))
                receipt = made.rebuild(given, begun.attempt)
                with lease.fenced() as connection:
                    serving.record_receipt(connection, key, release, receipt)
                    _note(connection, key, written_at=now())
            with stores.state.read() as connection:
                recorded = serving.receipt_of(connection, key, release)
                shown = releases.live_number(connection, release.collection) == release.number
            assert recorded is not None
            if shown:
                lease.check()
                serving.point(made, target, recorded)
    except LeaseLost:
        raise
    except Exception as error:  # noqa: BLE001  # what a target raises is its own; the other targets go on
        with lease.fenced() as connection:
            _note(connection, key, error=serving.in_words(error))
        say(f"{target.name} is not rebuilt: {serving.in_words(error)}")
    else:
        _finish(lease, key, release, begun, by, shown=shown)
        then = "and serves it" if shown else "which is not live and not shown"
        say(f"{target.name} is rebuilt from release {release.number}, {then}")


def _begun(lease: Lease, key: dict[str, str], release: Release, by: Person) -> TargetRebuild:
    """The attempt, on record before anything is written: a new one, or one of the same release that did not end."""
    with lease.fenced() as connection:
        found = {each.target: each for each in rebuilds(connection, key["collection"])}.get(key["target"])
        if found is not None and _goes_on(found, release):
            return found
        values: dict[str, Any] = {
            "attempt": uuid.uuid4().hex[:12], "release_number": release.number, "release_digest": release.digest,
            "begun_by": by.name, "begun_at": now(), "written_at": None, "finished_at": None, "error": None,
        }  # fmt: skip
        upsert(connection, "target_rebuilds", key, values)
    return TargetRebuild(target=key["target"], **values)


def _finish(
    lease: Lease, key: dict[str, str], release: Release, begun: TargetRebuild, by: Person, *, shown: bool
) -> None:
    with lease.fenced() as connection:
        if shown:
            serving.record_served(connection, key, release.number)
        _note(connection, key, finished_at=now(), error=None)
        subject = {
            **key, "release": release.number, "digest": release.digest, "attempt": begun.attempt, "shown": shown,
            **by.recorded_rights(release.collection),
        }  # fmt: skip
        audit.append(connection, by.name, "target rebuilt", subject)


def _note(connection: sa.Connection, key: dict[str, str], **values: str | None) -> None:
    changes = ", ".join(f"{name} = :{name}" for name in values)
    query = f"UPDATE target_rebuilds SET {changes} WHERE collection = :collection AND target = :target"  # noqa: S608
    connection.execute(sa.text(query), {**key, **values})


def _goes_on(found: TargetRebuild, release: Release) -> bool:
    """After a kill, or an error while it was written. What was written and could not be shown is not trusted again."""
    same = (found.release_number, found.release_digest) == (release.number, release.digest)
    return same and found.finished_at is None and (found.written_at is None or found.error is None)


def _watched(release: TargetRelease, seen: Callable[[int], None]) -> TargetRelease:
    """The same release, telling how many rows were read of it."""
    read = 0

    def counted(number: int) -> None:
        nonlocal read
        read += number
        seen(read)

    def reading(table: str, partition: str) -> Iterator[Row]:
        for row in release.reading(table, partition):
            counted(1)
            yield row

    def reading_batches(table: str, partition: str) -> "pa.RecordBatchReader":
        import pyarrow as pa

        def batches(inner: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
            for batch in inner:
                counted(batch.num_rows)
                yield batch

        found = release.reading_batches(table, partition)
        return pa.RecordBatchReader.from_batches(found.schema, batches(found))

    return replace(release, reading=reading, reading_batches=reading_batches)


def _chosen(collection: Collection, name: str | None) -> list[OwnTarget]:
    known = [target for target in collection.own.targets if name in (None, target.name)]
    if not known:
        raise NoSuchTarget(collection.name, name, [target.name for target in collection.own.targets])
    return known


def _require_files(stores: Stores, connection: sa.Connection, release: Release) -> None:
    if (at := releases.pruned(connection, release.collection).get(release.number)) is not None:
        raise ReleaseBytesGone(release.collection, release.number, f"its files were removed by retention at {at[:16]}")
    for partition, part in release.parts.items():
        if not has_snapshot(stores.lake, release.collection, partition, part):
            raise ReleaseBytesGone(release.collection, release.number, f"files of partition {partition} are not there")
