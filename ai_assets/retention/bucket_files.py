"""Of a lake in a bucket: objects that nothing names any more, and copies on this machine beyond what may be kept.

Looking takes one request per thousand objects, and one per dataset that has files beside its current one.
"""

import urllib.parse
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ai_assets.base.errors import DatasetDamaged, DatasetTooNew
from ai_assets.base.folders import files_below
from ai_assets.retention.leftovers import Kind, Leftover, RetentionContext, unlink
from ai_assets.retention.release_files import SNAPSHOTS, candidate_beside, files_of, needed_snapshots
from ai_assets.storage.lake import MANIFEST
from ai_assets.storage.leases import hold
from ai_assets.storage.objects import DataBucket
from ai_assets.storage.shared_lake import LakeObject, SharedLake
from ai_assets.storage.shared_warehouse import POINTER, named, warehouse_bucket
from ai_assets.storage.warehouse import LEASE, WarehouseDamaged

IN_USE_S = 3600.0
"""A copy that came so recently may be about to be read."""


def find(bench: RetentionContext) -> Iterator[Leftover]:
    if (lake := bench.stores.lake.in_bucket()) is not None:
        yield from _unnamed(bench, lake)
        yield from _copies(bench, lake)
        yield from _warehouses(bench)


def _unnamed(bench: RetentionContext, lake: SharedLake) -> Iterator[Leftover]:
    clocks = {bucket.url: bucket.now_s() for bucket in lake.buckets}
    folders: dict[Path, list[LakeObject]] = defaultdict(list)
    for found in lake.objects():
        folders[found.path.parent].append(found)
    for folder, files in folders.items():
        frozen = folder.parent.name == SNAPSHOTS
        if len(files) < 3 and not frozen and any(file.path.name == MANIFEST for file in files):
            continue  # a manifest and its file
        for file in _not_kept(bench, lake, folder, files, clocks[lake.bucket_of(folder).url]):
            kind: Kind = "candidates" if frozen else "litter"
            yield Leftover(
                kind=kind, what=f"{lake.key(file.path)} in the bucket", size=file.size,
                remove=partial(_remove, bench, lake, file.path),
            )  # fmt: skip


def _not_kept(
    bench: RetentionContext, lake: SharedLake, folder: Path, files: list[LakeObject], now_s: float
) -> Iterator[LakeObject]:
    """Old ones, where also what replaced them is old: whoever read the manifest before it has read its file by now."""
    try:
        keep = _named(bench, lake, folder)
    except (DatasetDamaged, DatasetTooNew):
        return  # it cannot say what it needs
    hours = bench.settings.litter_hours
    if folder.parent.name == SNAPSHOTS and keep:
        hours = max(hours, bench.settings.candidate_days * 24)
    newest = max((file.modified_s for file in files if file.path.name == MANIFEST), default=0.0)
    for file in files:
        is_old = now_s - max(file.modified_s, newest) >= hours * 3600
        if is_old and file.path.suffix == ".parquet" and file.path.name not in keep:
            yield file


def _named(bench: RetentionContext, lake: SharedLake, folder: Path) -> set[str]:
    """By a manifest, or by a release that is kept and the candidate of the partition."""
    if folder.parent.name != SNAPSHOTS:
        manifest = lake.read_manifest(folder / MANIFEST)
        return set() if manifest is None else {manifest.file}
    collection, _ = _names_of(bench, lake, folder)
    candidate = candidate_beside(bench.stores, folder)
    return needed_snapshots(bench.stores, collection).get(folder, set()) | files_of(candidate)


def _names_of(bench: RetentionContext, lake: SharedLake, folder: Path) -> tuple[str, str]:
    """Collection and partition of a folder, by its manifest if there is one: its own name is quoted, or shortened."""
    frozen = folder.parent.name == SNAPSHOTS
    named = candidate_beside(bench.stores, folder) if frozen else lake.read_manifest(folder / MANIFEST)
    if named is not None:
        return named.collection, named.partition
    return urllib.parse.unquote(folder.parent.parent.name), urllib.parse.unquote(folder.name)


def _remove(bench: RetentionContext, lake: SharedLake, path: Path) -> None:
    """Looked at again, while nobody writes or publishes the partition."""
    collection, partition = _names_of(bench, lake, path.parent)
    with (
        hold(bench.stores.state, f"publish:{collection}", wait_s=0),
        hold(bench.stores.state, f"refresh:{collection}:{partition}", wait_s=0),
    ):
        if path.name not in _named(bench, lake, path.parent):
            lake.bucket_of(path).delete([lake.key(path)])
            unlink(path)


def _copies(bench: RetentionContext, lake: SharedLake) -> Iterator[Leftover]:
    """The oldest first, until what is left is as much as may be kept."""
    found = [(path.lstat(), path) for path in files_below(lake.root) if path.suffix == ".parquet"]
    over = sum(stat.st_size for stat, _ in found) - bench.settings.copies_gb * 1e9
    for stat, path in sorted(found, key=lambda each: each[0].st_mtime):
        if over <= 0:
            return
        if bench.is_older(path, IN_USE_S):
            over -= stat.st_size
            yield Leftover(
                kind="copies", what=lake.key(path), size=stat.st_size, remove=partial(_forget_copy, lake, path)
            )


def _forget_copy(lake: SharedLake, path: Path) -> None:
    """Only what the bucket has: a file that is being written is nowhere else."""
    if lake.bucket_of(path).size(lake.key(path)) is not None:
        unlink(path)


def _warehouses(bench: RetentionContext) -> Iterator[Leftover]:
    """Those that were replaced long enough ago that whoever read the pointer before has fetched its file."""
    if (url := bench.stores.home.data_url) is None:
        return
    bucket = warehouse_bucket(url)
    found = {entry.key: entry for entry in bucket.objects()}
    if (pointer := found.get(POINTER)) is None or (current := _current(bucket)) is None:
        return
    now_s = bucket.now_s()
    for name, entry in found.items():
        is_old = now_s - max(entry.modified_s, pointer.modified_s) >= bench.settings.litter_hours * 3600
        if name not in (POINTER, current) and is_old:
            yield Leftover(
                kind="litter", what=f"warehouse/{name} in the bucket", size=entry.size,
                remove=partial(_remove_warehouse, bench, bucket, name),
            )  # fmt: skip


def _current(bucket: DataBucket) -> str | None:
    pointer = bucket.get(POINTER)
    try:
        return None if pointer is None else named(pointer, bucket)
    except WarehouseDamaged:
        return None  # it cannot say what it needs


def _remove_warehouse(bench: RetentionContext, bucket: DataBucket, name: str) -> None:
    with hold(bench.stores.state, LEASE, wait_s=0):  # nobody builds now
        if _current(bucket) not in (None, name):
            bucket.delete([name])
