"""Whether the files of partitions are all there, without reading any of them.

On a disk each is looked at. In a bucket a look is a request: of a few partitions all are looked at, many at once; of
more the state store says what was committed, and `ai-assets verify` looks at every object.
"""

from collections import defaultdict
from collections.abc import Collection as Some
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.collection.loading import Collection
from ai_assets.signoff.frozen_candidate import FrozenCandidate, has_snapshot
from ai_assets.storage import shared_lake
from ai_assets.storage.lake import Manifest
from ai_assets.storage.stores import Stores

AT_ONCE = 16


def intact_partitions(collection: Collection, stores: Stores, keys: Sequence[str]) -> Some[str]:
    """Those of the partitions that have all their files."""
    if stores.lake.in_bucket() is None:
        return {
            key for key in keys if all(_is_intact(collection, stores, asset, key) for asset in collection.asset_names)
        }
    committed = _committed(collection, stores, keys)
    if len(committed) > shared_lake.LOOKED_AT:
        return committed
    looks = [(asset, key) for key in committed for asset in collection.asset_names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda look: _is_intact(collection, stores, *look), looks)
        return committed - {key for (_, key), intact in zip(looks, found, strict=True) if not intact}


def _committed(collection: Collection, stores: Stores, keys: Sequence[str]) -> set[str]:
    """Those of which the state store has every dataset."""
    with stores.state.read() as connection:
        rows = connection.execute(
            sa.text("SELECT asset, partition FROM datasets WHERE collection = :c"), {"c": collection.name}
        ).all()
    known: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        known[row.partition].add(row.asset)
    wanted = set(collection.asset_names)
    return {key for key in keys if wanted <= known[key]}


def _is_intact(collection: Collection, stores: Stores, asset: str, partition: str) -> bool:
    try:
        manifest = stores.lake.manifest(collection.name, asset, partition)
    except DatasetDamaged:
        return False
    if manifest is None or not stores.lake.has(stores.lake.folder_of(manifest) / manifest.file):
        return False
    return asset != "release_candidate" or _is_frozen(stores, manifest)


def _is_frozen(stores: Stores, candidate: Manifest) -> bool:
    """Whether the files that it would publish, or has published, are there."""
    return has_snapshot(stores.lake, candidate.collection, candidate.partition, FrozenCandidate.of(candidate))
