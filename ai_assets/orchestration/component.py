"""`DocumentCollection`: a collection as a Dagster component, and a folder of collections as Definitions."""

from pathlib import Path
from typing import Self

import dagster as dg
from pydantic import BaseModel

from ai_assets.collection.loading import DEFS_FILE, Collection, build_collection, collection_names, load_collection
from ai_assets.collection.settings import CollectionSettings
from ai_assets.errors import CollectionInvalid
from ai_assets.orchestration.published import published, sign_off
from ai_assets.orchestration.segment import segment
from ai_assets.orchestration.sources import corrections, source_files
from ai_assets.orchestration.specs import key_of


class DocumentCollection(dg.Component):
    """Documents from a source, what is made of them, what must hold, and who signs before it is published."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    @classmethod
    def get_model_cls(cls) -> type[CollectionSettings]:
        return CollectionSettings

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        if not isinstance(attributes, CollectionSettings):
            raise CollectionInvalid(context.path / DEFS_FILE, None, "'attributes:' is missing")
        return cls(build_collection(context.path.name, context.path, attributes))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return collection_definitions(self.collection)


def collection_definitions(collection: Collection) -> dg.Definitions:
    """The assets, checks and jobs of one collection."""
    assets: list[dg.AssetsDefinition | dg.SourceAsset | dg.AssetSpec] = [
        segment(collection),
        source_files(collection),
        *([corrections(collection)] if collection.labelling else []),
        published(collection),
        sign_off(collection),
    ]
    return dg.Definitions(assets=assets, jobs=[refresh_job(collection), publish_job(collection)])


def refresh_job(collection: Collection) -> "dg.UnresolvedAssetJobDefinition":
    """Everything up to the release candidate: what the schedule, the sensor and the command line run."""
    return dg.define_asset_job(
        collection.name,
        dg.AssetSelection.assets(*(key_of(collection, asset) for asset in collection.asset_names)),
        description=f"Bring partitions of {collection.name} up to date, from the source to the release candidate.",
    )


def publish_job(collection: Collection) -> "dg.UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        f"{collection.name}__publish",
        dg.AssetSelection.assets(key_of(collection, "published")),
        description=f"Publish what is approved of {collection.name}.",
    )


def load_collections(root: Path) -> list[Collection]:
    """Every collection below the folder, in order of name. A wrong one is an error that says where."""
    return [load_collection(root, name) for name in collection_names(root)]
