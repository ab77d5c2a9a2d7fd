"""Which columns an asset's columns are made from: what the code of each asset reads. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection

KEYS = frozenset({"document_id", "chunk_id", "document_digest"})
"""Columns by which rows are found again: taken over as they are."""


@dataclass(frozen=True, kw_only=True)
class ColumnOrigin:
    asset: str
    column: str
    copied: bool
    said: str


def origins(collection: "Collection", asset: str, columns: Sequence[str]) -> Mapping[str, Sequence[ColumnOrigin]]:
    """By column, what it is made from; a column that nothing is known of is not among them."""
    match asset:
        case "documents":
            return _documents(columns)
        case "chunks":
            texts = [_made("documents", "text", "cut into passages")]
            written = _written(collection, collection.embedded_stages)
            texts += [_made(stage, name, "passages of what a stage wrote") for stage, name in written]
            return _found(columns, "documents", {"text": texts})
        case "evaluation_scores" | "release_candidate":
            return {}
        case _ if (vectors := collection.embedding_of(asset)) is not None:
            return _found(columns, "chunks", {"vector": [_made("chunks", "text", f"embedded by {vectors.embedding}")]})
        case _:
            return _stage(collection, asset, columns)


def _documents(columns: Sequence[str]) -> Mapping[str, Sequence[ColumnOrigin]]:
    whole = ColumnOrigin(asset="source_files", column="digest", copied=False, said="read from the file")
    named = {"document_id": ColumnOrigin(asset="source_files", column="path", copied=False, said="named by its path")}
    named |= {"path": ColumnOrigin(asset="source_files", column="path", copied=True, said="")}
    return {column: [named.get(column, whole)] for column in columns}


def _stage(collection: "Collection", asset: str, columns: Sequence[str]) -> Mapping[str, Sequence[ColumnOrigin]]:
    """All that a stage writes of a document comes from the text that it is shown, and from the stages before it."""
    stage = next(stage for stage in collection.stages if stage.name == asset)
    how = f"by the stage '{asset}' ({stage.kind})"
    asked = [_made("documents", "text", how), *(_made(*each, how) for each in _written(collection, stage.upstream))]
    own = [column for column in columns if column not in KEYS]
    return _found(columns, "documents", dict.fromkeys(own, asked))


def _written(collection: "Collection", names: Sequence[str]) -> list[tuple[str, str]]:
    """The stages, each with the column that people read first."""
    stages = {stage.name: stage for stage in collection.stages}
    return [(name, column) for name in names if (column := stages[name].columns.headline)]


def _found(
    columns: Sequence[str], keys_from: str, made: Mapping[str, Sequence[ColumnOrigin]]
) -> Mapping[str, Sequence[ColumnOrigin]]:
    key = {"document_id": ColumnOrigin(asset=keys_from, column="document_id", copied=True, said="")}
    if keys_from == "chunks":
        key["chunk_id"] = ColumnOrigin(asset=keys_from, column="chunk_id", copied=True, said="")
    return {column: made.get(column) or [key[column]] for column in columns if column in made or column in key}


def _made(asset: str, column: str, how: str) -> ColumnOrigin:
    return ColumnOrigin(asset=asset, column=column, copied=False, said=how)
