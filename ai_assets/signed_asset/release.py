"""The release of a signed asset: publishing what is approved, and giving back exactly the rows that were signed."""

from collections.abc import Callable
from typing import Any

from ai_assets.collection.loading import Collection
from ai_assets.run.going_live import publish
from ai_assets.signed_asset.rows import Kind, as_kind, released
from ai_assets.signoff import releases, requests
from ai_assets.signoff.candidate import content_of_files
from ai_assets.signoff.errors import ReleaseAltered
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.publication import anything_to_publish
from ai_assets.signoff.releases import Release
from ai_assets.signoff.served import require_newest
from ai_assets.storage.stores import Stores


def publish_or_live(collection: Collection, stores: Stores, say: Callable[[str], None]) -> Release:
    """What is approved is published; else the live release, which a run that was killed may not have given out yet."""
    with stores.state.read() as connection:
        live = releases.live(connection, collection.name)
        approved = requests.find(connection, collection.name, statuses=("approved",))
    if approved or live is None or anything_to_publish(collection, stores):
        return publish(collection, stores, by="ai-assets", say=say).release
    return live


def rows_of(stores: Stores, release: Release) -> Any:
    """Of all partitions, in order of their names and of the rows' keys. Refused where they are not what was signed."""
    with stores.state.read() as connection:
        if (record := releases.live_record(connection, release.collection)) is not None:
            require_newest(stores, connection, record)
    tables, kind = [], "rows"
    for partition in sorted(release.parts):
        part = release.parts[partition]
        documents, chunks = snapshot_paths(stores.lake, release.collection, partition, part)
        found = content_of_files(documents, chunks)
        if found.content != part.content:
            what = f"the rows of {partition} amount to {found.content[:12]}, and {part.content[:12]} was signed"
            raise ReleaseAltered(f"Release {release.number} of {release.collection}", what, release.collection)
        tables.append(released(documents))
        kind = part.code_versions.get("kind", kind)
    return as_kind(tables, _kind(kind))


def _kind(found: str) -> Kind:
    return "pandas" if found == "pandas" else "arrow" if found == "arrow" else "rows"
