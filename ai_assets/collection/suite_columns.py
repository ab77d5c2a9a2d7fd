"""The columns that a quality suite may judge, by asset, and those whose values may be shown beside a failure.

What is said of a document is shown to whoever sees the check, in Dagster and on the desk; its text is not.
"""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.expectations import SCHEMA_EXPECTATIONS, Expectation
from ai_assets.stages.classify.kind import ClassifyStage

if TYPE_CHECKING:
    import pyarrow as pa

    from ai_assets.collection.loading import Collection

CANDIDATE = "release_candidate"
_OF_DOCUMENTS = frozenset({
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "entry_digest", "source_digest", "digest",
    "title", "text", "language", "made_by", "read_by", "pages", "encoding", "encoding_certainty",
})  # fmt: skip
_NEAR = frozenset({"near_duplicate_of", "similarity"})
_OF_CHUNKS = frozenset({
    "chunk_id", "document_id", "document_digest", "title", "text", "text_digest", "made_by", "of", "headings", "kind",
    "page", "page_end", "ordinal", "start", "end",
})  # fmt: skip
_OF_CANDIDATE = frozenset({
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "source_digest", "digest", "title", "text",
    "language", "encoding", "encoding_certainty", "without_vectors", "held", "leaf",
})  # fmt: skip
_SHOWN = frozenset({
    "document_id", "chunk_id", "path", "status", "duplicate_of", "near_duplicate_of", "language", "encoding", "made_by",
    "read_by", "entry_digest", "source_digest", "digest", "document_digest", "text_digest", "leaf", "kind", "of",
})  # fmt: skip
"""Of documents, chunks and candidates: identities, digests and closed vocabularies."""
_SHOWN_OF_STAGES = frozenset({
    "document_id", "input_digest", "status", "model", "endpoint", "call", "prompt_version", "finish_reason",
})  # fmt: skip
_SHOWN_OF_LABELS = frozenset({"label", "runner_up", "model_label", "corrected_by"})


def columns_of(collection: "Collection", asset: str) -> AbstractSet[str]:
    """All that rows of the asset may have; some of them only some datasets do."""
    near = _NEAR if collection.settings.near_duplicates is not None else frozenset()
    if asset == "documents":
        return _OF_DOCUMENTS | near
    if asset == "chunks":
        return _OF_CHUNKS
    if asset == CANDIDATE:
        made = (f"{stage.name}_{name}" for stage in collection.stages for name in stage.columns.published)
        return _OF_CANDIDATE | near | frozenset(made)
    return frozenset(next(stage.columns.dataset for stage in collection.stages if stage.name == asset))


def withheld_of(collection: "Collection", asset: str, schema: "pa.Schema") -> AbstractSet[str]:
    """Columns that hold texts of documents, or what was made of them: their values are counted and never shown."""
    import pyarrow.types as kinds

    shown = _shown_of(collection, asset)
    plain = (kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_boolean, kinds.is_temporal)
    return {
        field.name for field in schema if field.name not in shown and not any(kind(field.type) for kind in plain)
    }  # fmt: skip


def _shown_of(collection: "Collection", asset: str) -> AbstractSet[str]:
    labels = {stage.name: _SHOWN_OF_LABELS for stage in collection.stages if isinstance(stage, ClassifyStage)}
    if asset == CANDIDATE:
        return _SHOWN | {
            f"{stage.name}_{name}"
            for stage in collection.stages
            for name in _SHOWN_OF_STAGES | labels.get(stage.name, frozenset())
        }
    return _SHOWN if asset in ("documents", "chunks") else _SHOWN_OF_STAGES | labels.get(asset, frozenset())


def unknown_column(collection: "Collection", asset: str, item: Expectation) -> str | None:
    """Why no row of the asset can ever fit the expectation; None where its columns are there."""
    known = columns_of(collection, asset)
    judged = [item.kwargs["column"]] if item.expect == "expect_column_to_exist" else item.columns
    if item.expect in SCHEMA_EXPECTATIONS - {"expect_column_to_exist"}:
        return None
    for name in judged:
        if name not in known:
            return f"{item.expect}: {asset} has no column '{name}'{nearest(name, sorted(known))}"
    return None
