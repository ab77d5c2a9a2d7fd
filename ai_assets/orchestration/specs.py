"""Asset specs of a collection: keys, kinds, owners; what a row is, what it comes from, what makes it stale."""

import datetime
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import dagster as dg

from ai_assets.collection.loading import Collection
from ai_assets.embedding.spec import VECTORS

DESCRIPTIONS: Mapping[str, str] = {
    "source_files": "A row is a file of the source, as last looked at: path, size, digest. "
    "Its data version per partition is a digest of the listing; an unchanged source causes no run.",
    "documents": "A row is a document: its normalised text, title, language and digest; or why it was quarantined, "
    "what it duplicates, or that it was deleted. Stale when a file of the partition or the parser changes.",
    "chunks": "A row is a passage of a readable document, under an identity that survives edits elsewhere in it. "
    "Stale when the documents or the chunking settings change.",
    "embeddings": "A row is the vector of a chunk. Stale when the chunks, the embedder or its model change; "
    "a text that has a vector is not embedded again.",
    "evaluation_scores": "A row is a metric on the golden data, over the corpus or over the partition. "
    "Stale when what the partition publishes, or the golden data, change.",
    "corrections": "A row is a label that a person gave in place of a model's (`ai-assets corrections list`). "
    "Its data version per partition is a digest of those in force; a new one makes the stage it corrects stale.",
    "release_candidate": "A row is a document with the digest of all that would be published of it. The candidate's "
    "own digest is what people sign. Stale when anything before it changes.",
    "sign_off": "A mirror of people's decisions: the data version is the digest that was approved. The authority is "
    "the audit chain (`ai-assets audit verify`), never this event.",
    "published": "A row is a document of the live release: approved candidates of all partitions behind one pointer. "
    "Materializing publishes what is approved, and fails when nothing is.",
}
KINDS: Mapping[str, set[str]] = {
    "source_files": {"file"},
    "documents": {"parquet"},
    "chunks": {"parquet"},
    "evaluation_scores": {"parquet"},
    "corrections": {"person"},
    "release_candidate": {"parquet"},
    "sign_off": {"person"},
    "published": {"lancedb", "parquet"},
}


Made = TypeVar("Made")
Parameters = ParamSpec("Parameters")


def without_preview_warnings(make: Callable[Parameters, Made]) -> Callable[Parameters, Made]:
    """Partitioned checks and observable sources are preview and beta in this Dagster; our tests pin what we use."""

    @functools.wraps(make)
    def quietly(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Made:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.PreviewWarning)
            warnings.simplefilter("ignore", dg.BetaWarning)
            return make(*args, **kwargs)

    return quietly


def key_of(collection: Collection, asset: str) -> dg.AssetKey:
    return dg.AssetKey([collection.name, asset])


def group_of(collection: Collection, asset: str) -> str:
    """`published` has a group of its own, so that "Materialize all" on the collection's asks for candidates only.

    Together, Dagster would go on to publish what nobody has signed, and the whole backfill would end red. See
    docs/adr/0005-published-in-its-own-group.md.
    """
    return f"{collection.name}__published" if asset == "published" else collection.name


def asset_spec(collection: Collection, asset: str) -> dg.AssetSpec:
    """The spec of any asset of the collection."""
    settings = collection.settings
    stage = next((stage for stage in collection.stages if stage.name == asset), None)
    description = _description(collection, asset) if stage is None else stage.describe()
    in_segment = asset in collection.asset_names
    return dg.AssetSpec(
        key_of(collection, asset),
        deps=[key_of(collection, needed) for needed in collection.inputs_of(asset)]
        if in_segment or asset == "published"
        else [],
        description=description,
        group_name=group_of(collection, asset),
        owners=list(settings.owners),
        kinds=_kinds(collection, asset),
        tags={"tenant": settings.tenant},
        code_version=collection.code_versions.get(asset),
        skippable=in_segment,
        partitions_def=None if asset == "published" else collection.scheme.definition(),
        freshness_policy=_freshness(collection) if asset == "documents" else None,
    )


def _description(collection: Collection, asset: str) -> str:
    vectors = collection.embedding_of(asset)
    if vectors is None or asset in DESCRIPTIONS:
        return DESCRIPTIONS[asset]
    texts = f" of {' and '.join(vectors.embedding.of)}" if vectors.embedding.of else ""
    return f"{DESCRIPTIONS[VECTORS]} This is the embedding '{vectors.name}'{texts}, by {vectors.embedding}."


def _kinds(collection: Collection, asset: str) -> set[str]:
    """`llm` marks what asks models, and so may cost money."""
    if asset in collection.asking:
        return {"parquet", "llm"}
    vectors = collection.embedding_of(asset)
    if vectors is not None:
        return {"parquet", "wordllama"} if vectors.embedding.is_builtin else {"parquet"}
    return KINDS.get(asset, {"parquet"})


@without_preview_warnings
def check_specs(collection: Collection) -> list[dg.AssetCheckSpec]:
    """Of every check of the collection, per partition. The body does the blocking: it stops just that partition."""
    from ai_assets.checks.registry import specs_of

    partitions = collection.scheme.definition()
    return [
        dg.AssetCheckSpec(
            spec.name,
            asset=key_of(collection, spec.asset),
            description=spec.description,
            blocking=spec.blocking,
            partitions_def=partitions,
        )
        for _, spec in specs_of(collection)
    ]


def _freshness(collection: Collection) -> dg.FreshnessPolicy | None:
    declared = collection.settings.freshness
    if declared is None:
        return None
    warn = declared.warn_after_hours
    return dg.FreshnessPolicy.time_window(
        fail_window=datetime.timedelta(hours=declared.fail_after_hours),
        warn_window=datetime.timedelta(hours=warn) if warn else None,
    )
