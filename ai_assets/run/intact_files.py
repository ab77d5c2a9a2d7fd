"""Whether the files of partitions are all there, without reading any of them. In a bucket a look is a request."""

from collections.abc import Collection as Some
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ai_assets.base.errors import DatasetDamaged
from ai_assets.collection.loading import Collection
from ai_assets.signoff.frozen_candidate import FrozenCandidate, has_snapshot
from ai_assets.storage.lake import MANIFEST, Manifest
from ai_assets.storage.stores import Stores

AT_ONCE = 16


def intact_partitions(collection: Collection, stores: Stores, keys: Sequence[str]) -> Some[str]:
    """Those of the partitions that have all their files."""
    if stores.lake.in_bucket() is None:
        return {
            key for key in keys if all(_is_intact(collection, stores, asset, key) for asset in collection.asset_names)
        }
    looks = [(asset, key) for key in keys for asset in collection.asset_names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda look: _is_intact(collection, stores, *look), looks)
        return {*keys} - {key for (_, key), intact in zip(looks, found, strict=True) if not intact}


def _is_intact(collection: Collection, stores: Stores, asset: str, partition: str) -> bool:
    folder = stores.lake.folder(collection.name, asset, partition)
    try:
        manifest = stores.lake.read_manifest(folder / MANIFEST)
    except DatasetDamaged:
        return False
    if manifest is None or not stores.lake.has(folder / manifest.file):
        return False
    return asset != "release_candidate" or _is_frozen(stores, manifest)


def _is_frozen(stores: Stores, candidate: Manifest) -> bool:
    """Whether the files that it would publish, or has published, are there."""
    return has_snapshot(stores.lake, candidate.collection, candidate.partition, FrozenCandidate.of(candidate))
