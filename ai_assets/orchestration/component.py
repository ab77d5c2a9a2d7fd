"""`DocumentCollection`: a collection as a Dagster component, and a folder of collections as Definitions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, ConfigDict, ValidationError

from ai_assets.base import structured_log
from ai_assets.base.collection_files import DEFS_FILE, CatalogEntry, collection_names
from ai_assets.base.home import Home
from ai_assets.base.tenants import is_served, load_tenants, refuse_serving_none
from ai_assets.base.yaml_settings import located, node_of
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import (
    Collection,
    beside,
    build_collection,
    load_collection,
)
from ai_assets.collection.settings import CollectionSettings
from ai_assets.inference.load import inference_at
from ai_assets.orchestration import automation
from ai_assets.orchestration.code_location import folders_to_import
from ai_assets.orchestration.cut_segment import segment_of
from ai_assets.orchestration.executor import cluster_executor_or_none, run_executor
from ai_assets.orchestration.inference_cost import cost_assets, costs_job
from ai_assets.orchestration.published import published, sign_off
from ai_assets.orchestration.scaffolder import CollectionScaffolder
from ai_assets.orchestration.sources import corrections, source_files
from ai_assets.orchestration.specs import key_of


class DeclaredAttributes(BaseModel):
    """What stands under `attributes:`, unchecked: Dagster's own check of it would say less than ours, and cannot pass
    on what a check of ours says. The schema is for editors and `dg docs`."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        relaxed: dict[str, Any] = described(CollectionSettings.model_json_schema(*args, **kwargs))
        return relaxed


_DESCRIBING = ("$defs", "$ref", "anyOf", "allOf", "default", "description", "items", "properties", "title")


def described(schema: Any, *, by_name: bool = False) -> Any:
    """A JSON schema without what it demands."""
    if isinstance(schema, list):
        return [described(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {("anyOf" if key == "oneOf" and not by_name else key): value for key, value in schema.items()}
    kept = {
        key: described(value, by_name=not by_name and key in ("$defs", "properties"))
        for key, value in schema.items()
        if by_name or key in _DESCRIBING
    }
    return kept if by_name or "enum" not in schema else {**kept, "examples": schema["enum"]}


@dg.scaffold_with(CollectionScaffolder)
class DocumentCollection(dg.Component):
    """Documents from a source, what is made of them, what must hold, and who signs before it is published.

    It brings its assets, checks, jobs, schedule and sensors. What a code location has once, such as deadlines, budgets
    and costs, comes with the first of its collections.
    """

    def __init__(self, collection: Collection, folder: Path) -> None:
        self.collection = collection
        self.folder = folder

    @classmethod
    def get_model_cls(cls) -> type[DeclaredAttributes]:
        return DeclaredAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        file = context.path / DEFS_FILE
        if not isinstance(attributes, DeclaredAttributes):
            raise CollectionInvalid(file, None, "'attributes:' is missing")
        home = Home.from_environment(context.project_root)
        node = node_of(file, CollectionInvalid)
        try:
            settings = CollectionSettings.model_validate(beside(attributes.model_extra, context.path))
        except ValidationError as error:
            raise located(file, node, error, CollectionInvalid, under=("attributes",)) from None
        collection = build_collection(
            context.path.name, context.path, settings, file, node, lambda: inference_at(home),
            load_tenants(home.operations),
        )  # fmt: skip
        imports = tuple(folders_to_import(context.project_root))
        Catalog(home).record(
            collection.name, CatalogEntry(folder=context.path, project=context.project_root, imports=imports)
        )
        return cls(collection, context.path)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        home = Home.from_environment(context.project_root)
        found = context.component_tree.get_all_components(DocumentCollection)
        refuse_serving_none([each.collection.settings.tenant for each in found], home)
        if not is_served(self.collection.settings.tenant, home):
            return dg.Definitions()
        served = (each for each in found if is_served(each.collection.settings.tenant, home))
        beside = sorted(served, key=lambda each: each.folder)
        mine = [collection_definitions(self.collection), collection_automation(self.collection)]
        if beside and beside[0].folder == self.folder:
            mine.append(shared_definitions([found.collection for found in beside]))
        return dg.Definitions.merge(*mine)


def collection_definitions(collection: Collection) -> dg.Definitions:
    """The assets, checks and jobs of one collection."""
    structured_log.begin()  # in code servers, runs and their steps: whatever they do, they load this first
    assets: list[dg.AssetsDefinition | dg.SourceAsset | dg.AssetSpec] = [
        segment_of(collection),
        source_files(collection),
        *([corrections(collection)] if collection.labelling else []),
        published(collection),
        sign_off(collection),
    ]
    return dg.Definitions(assets=assets, jobs=[refresh_job(collection), publish_job(collection)])


def collection_automation(collection: Collection) -> dg.Definitions:
    """The schedule and the sensors of one collection: changes of the source, and the gate to publication."""
    return dg.Definitions(
        schedules=list(automation.nightly(collection)),
        sensors=[
            automation.source_changes(collection),
            automation.publication(collection),
            *automation.batches(collection),
            *automation.windows(collection),
        ],
    )


def shared_definitions(collections: Sequence[Collection]) -> dg.Definitions:
    """What a code location has once: costs and marts, deadlines of requests, budgets, canaries, what may be removed."""
    watching = [
        automation.deadlines(collections),
        automation.budgets(collections),
        automation.canaries(),
        automation.inference_cost(),
        automation.retention(collections),
    ]
    return dg.Definitions.merge(
        cost_definitions(), dg.Definitions(sensors=watching, executor=cluster_executor_or_none())
    )


def cost_definitions() -> dg.Definitions:
    """The ledger day by day and the tables made of it, for all collections of a home."""
    return dg.Definitions(assets=cost_assets(), jobs=[costs_job()])


def refresh_job(collection: Collection) -> "dg.UnresolvedAssetJobDefinition":
    """Everything up to the release candidate: what the schedule, the sensor and the command line run."""
    return dg.define_asset_job(
        collection.name,
        dg.AssetSelection.assets(*(key_of(collection, asset) for asset in collection.asset_names)),
        description=f"Bring partitions of {collection.name} up to date, from the source to the release candidate.",
        executor_def=run_executor(),
    )


def publish_job(collection: Collection) -> "dg.UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        f"{collection.name}__publish",
        dg.AssetSelection.assets(key_of(collection, "published")),
        description=f"Publish what is approved of {collection.name}.",
        executor_def=dg.in_process_executor,
    )


def load_collections(root: Path) -> list[Collection]:
    """Every collection below the folder, in order of name. A wrong one is an error that says where."""
    home = Home.from_environment()
    found = [load_collection(root, name) for name in collection_names(root)]
    refuse_serving_none([each.settings.tenant for each in found], home)
    served = [each for each in found if is_served(each.settings.tenant, home)]
    for collection in served:
        if root.absolute() != home.project / "collections":  # those there are found without
            Catalog(home).record(collection.name, CatalogEntry(folder=collection.folder, project=home.project))
    return served
