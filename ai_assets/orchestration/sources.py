"""`source_files` and `corrections`: the observed beginnings of the graph."""

from collections.abc import Callable

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.specs import DESCRIPTIONS, KINDS, key_of, without_preview_warnings

Observe = Callable[[dg.OpExecutionContext], dg.DataVersionsByPartition]


def source_files(collection: Collection) -> dg.SourceAsset:
    """Observing it looks at the source and gives each partition the digest of its listing as data version."""

    def body(context: dg.OpExecutionContext) -> dg.DataVersionsByPartition:
        from ai_assets.documents.source_listing import observe
        from ai_assets.storage.stores import Stores

        stores = Stores.at(Home.from_environment())
        listing = observe(collection, stores.lake, stores.state)
        for entry in listing.unassigned:
            context.log.warning(printable(f"{entry.path} belongs to no partition: {entry.problem}"))
        register_folders(collection, context.instance, listing.by_partition)
        return dg.DataVersionsByPartition({key: listing.digest_of(key) for key in listing.by_partition})

    return _observed(collection, "source_files", body)


def corrections(collection: Collection) -> dg.SourceAsset:
    """Observing it gives each partition that was ever corrected the digest of what is in force; others are silent.

    Where a stage learns from corrections, they are about every partition.
    """

    def body(_context: dg.OpExecutionContext) -> dg.DataVersionsByPartition:
        from ai_assets.documents.source_listing import known_folders
        from ai_assets.signoff.corrections import NONE, in_force
        from ai_assets.storage.stores import Stores

        with Stores.at(Home.from_environment()) as stores:
            with stores.state.read() as connection:
                given = in_force(connection, collection)
            keys = collection.scheme.keys(known_folders(stores.state, collection.name))
        return dg.DataVersionsByPartition({key: given.version(key) or NONE for key in keys if given.concern(key)})

    return _observed(collection, "corrections", body)


@without_preview_warnings
def _observed(collection: Collection, asset: str, body: Observe) -> dg.SourceAsset:
    declare = dg.observable_source_asset(
        key=key_of(collection, asset),
        description=DESCRIPTIONS[asset],
        group_name=collection.name,
        tags={"tenant": collection.settings.tenant, **{f"dagster/kind/{kind}": "" for kind in KINDS[asset]}},
        partitions_def=collection.scheme.definition(),
    )
    return declare(body)


def register_folders(collection: Collection, instance: dg.DagsterInstance, partitions: object) -> list[str]:
    """Tell Dagster of folders it does not know; partitions by time or shard need no telling. Returns the new ones."""
    if collection.settings.partitions.by != "folder":
        return []
    name = collection.scheme.dynamic_name
    known = set(instance.get_dynamic_partitions(name))
    new = sorted(set(partitions) - known)  # type: ignore[call-overload]
    if new:
        instance.add_dynamic_partitions(name, new)
    return new
