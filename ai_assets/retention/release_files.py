"""Files of releases and candidates that nothing needs any more: snapshots in the lake, versions of search indexes.

A release is first recorded as pruned, in the transaction that sees that it may be, and its files go later. So a
rollback either comes first and keeps it, or is refused.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.retention.leftovers import Leftover, RetentionContext, size_of, unlink
from ai_assets.retention.needed import releases_kept
from ai_assets.run.datasets.evaluation_index import INDEX, index_name
from ai_assets.signoff import audit, live_index, releases
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.frozen_candidate import CANDIDATE, FrozenCandidate
from ai_assets.storage.digest import Json
from ai_assets.storage.lake import MANIFEST
from ai_assets.storage.leases import hold
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from ai_assets.storage.index import SearchIndex

SNAPSHOTS = "release_snapshots"


def find(bench: RetentionContext) -> Iterator[Leftover]:
    """Of every collection that ever published, declared or not."""
    with bench.stores.state.read() as connection:
        query = sa.text("SELECT DISTINCT collection FROM releases ORDER BY collection")
        published: list[str] = list(connection.execute(query).scalars())
    for collection in published:
        yield from _releases(bench, collection)
        yield from _indexes(bench, collection)
    for collection in sorted({*published, *(declared.name for declared in bench.collections)}):
        yield from _snapshots(bench, collection)
    yield from _evaluation_indexes(bench)


def _releases(bench: RetentionContext, collection: str) -> Iterator[Leftover]:
    with bench.stores.state.read() as connection:
        found = _prunable(connection, bench, collection)
    for release in found:
        yield Leftover(
            kind="releases",
            what=f"release {release.number} of {collection}, of {release.created_at[:10]}",
            size=None,
            remove=partial(_record_pruned, bench, collection, release.number),
        )


def _prunable(connection: sa.Connection, bench: RetentionContext, collection: str) -> list[releases.Release]:
    kept = {release.number for release in releases_kept(connection, collection, bench.settings_of(collection))}
    return [release for release in releases_kept(connection, collection) if release.number not in kept]


def _record_pruned(bench: RetentionContext, collection: str, number: int) -> None:
    with bench.stores.state.write() as connection:
        for release in _prunable(connection, bench, collection):
            if release.number == number:
                subject: dict[str, Json] = {"collection": collection, "release": number, "digest": release.digest}
                audit.append(connection, audit.SYSTEM, "release pruned", subject)


# Search indexes


Place = tuple[str, str | None]
"""A table, and a branch of it; None for what is the table's own."""


def _indexes(bench: RetentionContext, collection: str) -> Iterator[Leftover]:
    """Tables and branches that no release names, and versions of the others."""
    place, needed = bench.stores.index_place(collection), needed_versions(bench.stores, collection)
    for table in place.tables():
        if table.startswith(INDEX):
            continue
        if not any(name == table for name, _ in needed):
            yield Leftover(
                kind="index", what=f"index {table} of {collection}", size=place.size(table),
                remove=partial(_remove_index, bench, collection, table),
            )  # fmt: skip
            continue
        for branch in (None, *place.branches(table)):
            keep = needed.get((table, branch), frozenset())
            if keep:
                yield from _versions(bench, collection, (table, branch), keep)
            elif branch is not None or bench.stores.index(collection, table).versions():
                what = f"index {table} of {collection}" + (f", branch {branch}" if branch else ", of earlier versions")
                yield Leftover(
                    kind="index", what=what, size=place.size(table, branch) if branch else None,
                    remove=partial(_remove_branch, bench, collection, (table, branch)),
                )  # fmt: skip


def _versions(bench: RetentionContext, collection: str, place: Place, keep: frozenset[int]) -> Iterator[Leftover]:
    if gone := len(set(_index(bench.stores, collection, place).versions()) - keep):
        yield Leftover(
            kind="index", what=f"{gone} version{'s' * (gone > 1)} of index {place[0]} of {collection}", size=None,
            remove=partial(_prune_index, bench, collection, place),
        )  # fmt: skip


def needed_versions(stores: Stores, collection: str) -> dict[Place, frozenset[int]]:
    with stores.state.read() as connection:
        kept = releases_kept(connection, collection)
    found: dict[Place, set[int]] = {}
    for release in kept:
        found.setdefault((release.index_name, release.index_branch), set()).add(release.index_version)
    return {place: frozenset(versions) for place, versions in found.items()}


def _index(stores: Stores, collection: str, place: Place) -> "SearchIndex":
    return stores.index(collection, place[0], branch=place[1])


def _prune_index(bench: RetentionContext, collection: str, place: Place) -> None:
    """While no publication writes: the version that it has just made is named by no release yet."""
    with hold(bench.stores.state, f"publish:{collection}", wait_s=0):
        live_index.show(bench.stores, collection)
        index = _index(bench.stores, collection, place)
        keep = needed_versions(bench.stores, collection).get(place, frozenset())
        if keep and keep <= set(index.versions()):
            index.prune(keep)


def _remove_index(bench: RetentionContext, collection: str, table: str) -> None:
    with hold(bench.stores.state, f"publish:{collection}", wait_s=0):
        if not any(name == table for name, _ in needed_versions(bench.stores, collection)):
            bench.stores.index_place(collection).remove(table)


def _remove_branch(bench: RetentionContext, collection: str, place: Place) -> None:
    """Also one of a publication that was killed; LanceDB refuses while the tag of the live release is on it."""
    with hold(bench.stores.state, f"publish:{collection}", wait_s=0):
        live_index.show(bench.stores, collection)
        if place not in needed_versions(bench.stores, collection):
            _index(bench.stores, collection, place).remove()


def _evaluation_indexes(bench: RetentionContext) -> Iterator[Leftover]:
    """Those of embedders that a collection had before; the current one prunes itself."""
    for collection in bench.collections:
        current = index_name(collection.spaces)
        place, oldest_s = bench.stores.index_place(collection.name), bench.settings.litter_hours * 3600
        for name in place.tables():
            if name.startswith(INDEX) and name != current and bench.moment_s - place.written_at(name) >= oldest_s:
                yield Leftover(
                    kind="index", what=f"index {name} of {collection.name}, of an earlier embedder",
                    size=place.size(name),
                    remove=partial(_remove_evaluation, bench, collection.name, name),
                )  # fmt: skip


def _remove_evaluation(bench: RetentionContext, collection: str, name: str) -> None:
    with hold(bench.stores.state, f"index:{collection}", wait_s=0):
        bench.stores.index_place(collection).remove(name)


# Snapshots


def _snapshots(bench: RetentionContext, collection: str) -> Iterator[Leftover]:
    """Named by no release that is kept, and not by the candidate of its partition."""
    if bench.stores.lake.in_bucket() is not None:
        return  # bucket_files looks at them
    root = snapshot_folder(bench.stores.lake.root, collection, "x").parent
    needed = needed_snapshots(bench.stores, collection)
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            candidate = candidate_beside(bench.stores, folder)
        except DatasetDamaged:
            continue  # it cannot say what it needs
        keep = needed.get(folder, set()) | files_of(candidate)
        # Without a candidate the first one may be being frozen just now.
        age_s = (
            bench.settings_of(collection).candidate_days * 86400 if candidate else bench.settings.litter_hours * 3600
        )
        for path in sorted(folder.glob("*.parquet")):
            if path.name not in keep and bench.is_older(path, age_s):
                yield Leftover(
                    kind="candidates", what=path.relative_to(bench.stores.lake.root).as_posix(), size=size_of(path),
                    remove=partial(_remove_snapshot, bench, collection, path),
                )  # fmt: skip


def _remove_snapshot(bench: RetentionContext, collection: str, path: Path) -> None:
    """While nobody freezes a candidate of that partition or publishes, either of which may take the file up again."""
    candidate = candidate_beside(bench.stores, path.parent)
    partition = candidate.partition if candidate else path.parent.name
    with (
        hold(bench.stores.state, f"publish:{collection}", wait_s=0),
        hold(bench.stores.state, f"refresh:{collection}:{partition}", wait_s=0),
    ):
        needed = needed_snapshots(bench.stores, collection).get(path.parent, set())
        if path.name not in needed | files_of(candidate_beside(bench.stores, path.parent)):
            unlink(path)


def needed_snapshots(stores: Stores, collection: str) -> dict[Path, set[str]]:
    found: dict[Path, set[str]] = {}
    with stores.state.read() as connection:
        for release in releases_kept(connection, collection):
            for partition, part in release.parts.items():
                folder = snapshot_folder(stores.lake.root, collection, partition)
                found.setdefault(folder, set()).update(part.files)
    return found


def candidate_beside(stores: Stores, snapshots: Path) -> FrozenCandidate | None:
    """The candidate of the partition to which a folder of snapshots belongs."""
    path = snapshots.parent.parent / CANDIDATE / snapshots.name / MANIFEST
    manifest = stores.lake.read_manifest(path)
    try:
        return None if manifest is None else FrozenCandidate.of(manifest)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetDamaged(path, "it is not a manifest") from error


def files_of(candidate: FrozenCandidate | None) -> set[str]:
    return set() if candidate is None else {candidate.documents_file, candidate.chunks_file}
