"""`published` and the `sign_off` mirror before it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.errors import TargetsFailed
from ai_assets.orchestration.events import version_tags
from ai_assets.orchestration.segment import failure
from ai_assets.orchestration.specs import asset_spec, key_of

if TYPE_CHECKING:
    from ai_assets.signoff.releases import Release
    from ai_assets.storage.stores import Stores
    from ai_assets.targets.serving import TargetState


def published(collection: Collection) -> dg.AssetsDefinition:
    """Publishes what the audit chain says is approved, whoever pressed the button, and fails when nothing is."""

    @dg.multi_asset(name=f"{collection.name}__published", specs=[asset_spec(collection, "published")])
    def body(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        from ai_assets.storage.stores import Stores
        from ai_assets.targets.serving import failures_in_words, serve

        def say(line: str) -> None:
            context.log.info(printable(line))

        try:
            stores = Stores.of_run(Home.from_environment())
            release, changed = _published(collection, stores, say)
            served = serve(collection, stores, say)
            if not changed and (failed := failures_in_words(served)):
                raise TargetsFailed(collection.name, release.number, failed)
        except AiAssetsError as error:
            raise failure(error) from None
        signers = sorted({name for partition in changed for name in release.parts[partition].approved_by})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(release.digest),
            metadata={
                "release": dg.MetadataValue.text(str(release.number)),
                "documents": release.documents,
                "chunks": sum(part.chunks for part in release.parts.values()),
                "partitions": len(release.parts),
                "approved_by": ", ".join(signers),
                "changed": dg.MetadataValue.json(list(changed)),
                **{f"target/{state.target}": _in_words(state) for state in served},
            },
        )

    return body


def _published(collection: Collection, stores: "Stores", say: Callable[[str], None]) -> "tuple[Release, Sequence[str]]":
    """The release that is live then, and its partitions that changed: none where only a target had to be served."""
    from ai_assets.run.going_live import publish
    from ai_assets.run.judged_index import IndexJudge
    from ai_assets.signoff import releases
    from ai_assets.signoff.publication import anything_to_publish
    from ai_assets.targets.serving import due

    if not anything_to_publish(collection, stores):
        with stores.state.read() as connection:
            if due(connection, collection, at_once=True):
                return releases.require_live(connection, collection.name), ()
    judge = IndexJudge(collection=collection, stores=stores, say=say)
    described = str(asset_spec(collection, "published").description or "")
    done = publish(collection, stores, by="ai-assets", say=say, judge=judge, description=described)
    return done.release, done.partitions


def _in_words(state: "TargetState") -> str:
    serves = f"serves release {state.serves}" if state.serves else "serves nothing yet"
    return serves if state.error is None else f"{serves}; the last try failed: {state.error}"


def sign_off(collection: Collection) -> dg.AssetSpec:
    """External: people make it, nobody materializes it."""
    return asset_spec(collection, "sign_off")


def sign_off_event(collection: Collection, partition: str, digest: str, by: str) -> dg.AssetMaterialization:
    """The mirror of one approval."""
    return dg.AssetMaterialization(
        key_of(collection, "sign_off"),
        partition=partition,
        metadata={"approved_by": by},
        tags=version_tags(digest),
    )
