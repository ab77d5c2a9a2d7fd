"""`published` and the `sign_off` mirror before it."""

import dagster as dg

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.events import version_tags
from ai_assets.orchestration.segment import failure
from ai_assets.orchestration.specs import asset_spec, key_of


def published(collection: Collection) -> dg.AssetsDefinition:
    """Publishes what the audit chain says is approved, whoever pressed the button, and fails when nothing is."""

    @dg.multi_asset(name=f"{collection.name}__published", specs=[asset_spec(collection, "published")])
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        from ai_assets.signoff.publication import publish
        from ai_assets.storage.stores import Stores

        try:
            stores = Stores.at(Home.from_environment())
            done = publish(collection, stores, by="ai-assets", say=lambda line: context.log.info(printable(line)))
        except AiAssetsError as error:
            raise failure(error) from None
        release = done.release
        signers = sorted({name for partition in done.partitions for name in release.parts[partition].approved_by})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(release.digest),
            metadata={
                "release": release.number,
                "documents": release.documents,
                "chunks": sum(part.chunks for part in release.parts.values()),
                "partitions": len(release.parts),
                "partitions_changed": len(done.partitions),
                "approved_by": ", ".join(signers),
                "digest": release.digest,
                "index_version": release.index_version,
                "changed": dg.MetadataValue.json(list(done.partitions)),
            },
        )

    return body


def sign_off(collection: Collection) -> dg.AssetSpec:
    """External: people make it, nobody materializes it."""
    return asset_spec(collection, "sign_off")


def sign_off_event(collection: Collection, partition: str, digest: str, by: str) -> dg.AssetMaterialization:
    """The mirror of one approval."""
    return dg.AssetMaterialization(
        key_of(collection, "sign_off"),
        partition=partition,
        metadata={"digest": digest, "approved_by": by},
        tags=version_tags(digest),
    )
