"""Files of releases and candidates that nothing needs any more: snapshots in the lake, versions of search indexes.

A release is first recorded as pruned, in the transaction that sees that it may be, and its files go later. So a
rollback either comes first and keeps it, or is refused.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.retention.leftovers import Leftover, RetentionContext, size_of, unlink
from ai_assets.retention.needed import releases_kept
from ai_assets.run.datasets.evaluation_index import INDEX, index_name
from ai_assets.signoff import audit, releases
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.frozen_candidate import CANDIDATE, FrozenCandidate
from ai_assets.storage.digest import Json
from ai_assets.storage.lake import MANIFEST, Manifest
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


@dataclass(frozen=True)
class _Index:
    """A table of the releases of one collection, and the versions that must stay."""

    name: str
    keep: frozenset[int]


def _indexes(bench: RetentionContext, collection: str) -> Iterator[Leftover]:
    folder = bench.stores.home.index / collection
    needed = needed_versions(bench.stores, collection)
    for path in sorted(folder.glob("*.lance")):
        name = path.name.removesuffix(".lance")
        if name.startswith(INDEX):
            continue
        keep = needed.get(name, frozenset())
        if not keep:
            yield Leftover(
                kind="index", what=f"index {name} of {collection}", size=size_of(path),
                remove=partial(_remove_index, bench, collection, name),
            )  # fmt: skip
        elif gone := len(set(_index(bench.stores, collection, name).versions()) - keep):
            yield Leftover(
                kind="index", what=f"{gone} version{'s' * (gone > 1)} of index {name} of {collection}", size=None,
                remove=partial(_prune_index, bench, collection, name),
            )  # fmt: skip


def needed_versions(stores: Stores, collection: str) -> dict[str, frozenset[int]]:
    with stores.state.read() as connection:
        kept = releases_kept(connection, collection)
    names = {release.index_name for release in kept}
    return {name: frozenset(release.index_version for release in kept if release.index_name == name) for name in names}


def _index(stores: Stores, collection: str, name: str) -> "SearchIndex":
    return stores.index(collection, name)


def _prune_index(bench: RetentionContext, collection: str, name: str) -> None:
    """While no publication writes: the version that it has just made is named by no release yet."""
    with hold(bench.stores.state, f"publish:{collection}", wait_s=0):
        index = _index(bench.stores, collection, name)
        keep = needed_versions(bench.stores, collection).get(name, frozenset())
        if keep and keep <= set(index.versions()):
            index.prune(keep)


def _remove_index(bench: RetentionContext, collection: str, name: str) -> None:
    with hold(bench.stores.state, f"publish:{collection}", wait_s=0):
        if name not in needed_versions(bench.stores, collection):
            remove_table(bench.stores.home.index / collection, name)


def remove_table(folder: Path, name: str) -> None:
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(folder / f"{name}.lance", ignore_errors=True)


def _evaluation_indexes(bench: RetentionContext) -> Iterator[Leftover]:
    """Those of embedders that a collection had before; the current one prunes itself."""
    for collection in bench.collections:
        current = index_name(collection.spaces)
        folder = bench.stores.home.index / collection.name
        for path in sorted(folder.glob(f"{INDEX}*.lance")):
            name = path.name.removesuffix(".lance")
            if name != current and bench.is_older(path, bench.settings.litter_hours * 3600):
                yield Leftover(
                    kind="index", what=f"index {name} of {collection.name}, of an earlier embedder",
                    size=size_of(path),
                    remove=partial(_remove_evaluation, bench, collection.name, name),
                )  # fmt: skip


def _remove_evaluation(bench: RetentionContext, collection: str, name: str) -> None:
    with hold(bench.stores.state, f"index:{collection}", wait_s=0):
        remove_table(bench.stores.home.index / collection, name)


# Snapshots


def _snapshots(bench: RetentionContext, collection: str) -> Iterator[Leftover]:
    """Named by no release that is kept, and not by the candidate of its partition."""
    root = snapshot_folder(bench.stores.lake.root, collection, "x").parent
    needed = _needed_snapshots(bench.stores, collection)
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        try:
            candidate = _candidate(folder)
        except DatasetDamaged:
            continue  # it cannot say what it needs
        keep = needed.get(folder, set()) | _files_of(candidate)
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
    candidate = _candidate(path.parent)
    partition = candidate.partition if candidate else path.parent.name
    with (
        hold(bench.stores.state, f"publish:{collection}", wait_s=0),
        hold(bench.stores.state, f"refresh:{collection}:{partition}", wait_s=0),
    ):
        needed = _needed_snapshots(bench.stores, collection).get(path.parent, set())
        if path.name not in needed | _files_of(_candidate(path.parent)):
            unlink(path)


def _needed_snapshots(stores: Stores, collection: str) -> dict[Path, set[str]]:
    found: dict[Path, set[str]] = {}
    with stores.state.read() as connection:
        for release in releases_kept(connection, collection):
            for partition, part in release.parts.items():
                folder = snapshot_folder(stores.lake.root, collection, partition)
                found.setdefault(folder, set()).update((part.documents_file, part.chunks_file))
    return found


def _candidate(snapshots: Path) -> FrozenCandidate | None:
    """The candidate of the partition to which a folder of snapshots belongs."""
    path = snapshots.parent.parent / CANDIDATE / snapshots.name / MANIFEST
    try:
        return FrozenCandidate.of(Manifest(**json.loads(path.read_bytes())))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetDamaged(path, "it is not a manifest") from error


def _files_of(candidate: FrozenCandidate | None) -> set[str]:
    return set() if candidate is None else {candidate.documents_file, candidate.chunks_file}
