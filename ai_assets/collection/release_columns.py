"""The columns that a release of a collection will have, by its definitions alone: names, types, and what each says.

What a candidate really has is read from its files; tests/test_contracts.py holds the two together.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ai_assets.collection.contract import SOMETIMES, FoundColumn, PromisedTable, PromisedType
from ai_assets.documents.passages import OF
from ai_assets.embedding.spec import FIRST, Embedding, vector_column
from ai_assets.stages.base import StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import ColumnType

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection

TYPES: Mapping[ColumnType, PromisedType] = {
    "text": "string", "number": "number", "integer": "integer", "truth": "boolean", "texts": "strings",
}  # fmt: skip
_DOCUMENT = {
    "document_id": "What the document is called for good: its path, or the path and key of its row.",
    "path": "The file that it is, or is a row of.",
    "row_key": "Of a row of a table file, what identifies it there.",
    "status": "`ok`, or `duplicate` where another document of the partition has the same bytes.",
    "reason": "Why it is not `ok`.",
    "duplicate_of": "The document that has the same bytes.",
    "source_digest": "SHA-256 of its bytes.",
    "digest": "SHA-256 of its text.",
    "title": "Its title, or its name where it has none.",
    "text": "All of its text.",
    "language": "The language it is written in, as two or three letters; nothing where that is not sure.",
}
_SOMETIMES = {
    "encoding": "The encoding that was guessed for its bytes.",
    "encoding_certainty": "How sure that guess is, from 0 to 1.",
    "near_duplicate_of": "A document of the partition that says nearly the same.",
    "similarity": "The share of runs of three words that the two have in common.",
    "without_vectors": "Why some of its text has no vector.",
    "held": "That it waits for a person, and why.",
    "headings": "The headings above the passage.",
    "kind": "What the passage is: text, list, table.",
    "page": "The page on which it begins.",
    "page_end": "The page on which it ends.",
}
_CHUNK = {
    "chunk_id": "What the passage is called for good.",
    "document_id": "The document that it is from.",
    "ordinal": "Its place among the passages of the document, from 0.",
    "start": "Where it begins in the text, in characters.",
    "end": "Where it ends in the text, in characters.",
    "title": "The title of its document.",
    "text": "What it says.",
}
ADDED_BY_READER_SAID = {
    "partition": "The partition of the collection that the row is in.",
    "release": "The number of the release.",
    "request": "The request for sign-off by which the row was signed.",
    "signed_by": "Who approved it.",
}
_STAGE = {
    "label": "What kind of document it is, by {stage}.",
    "confidence": "How sure {stage} is of its label, from 0 to 1.",
    "runner_up": "The label that comes second.",
    "runner_up_confidence": "How sure {stage} is of the second.",
    "evidence": "A passage of the document that speaks for the label.",
    "evidence_start": "Where that passage begins in the text, in characters.",
    "model": "The model that answered.",
    "model_label": "What the model itself said, where a person corrected it.",
    "corrected_by": "Who corrected the label.",
    "status": "`ok`, or why {stage} says nothing of the document.",
    "reason": "The same in words.",
    "prompt_version": "The version of the prompt that was asked.",
    "truncated": "Whether the document was cut to fit the model.",
    "call": "The call that was answered, as `ai-assets answer` takes it.",
    "rows": "All rows that {stage} made of the document, as JSON.",
}


def release_columns(collection: "Collection", table: PromisedTable) -> Mapping[str, FoundColumn]:
    return dict(_documents(collection) if table == "documents" else _chunks(collection))


def _documents(collection: "Collection") -> Iterator[tuple[str, FoundColumn]]:
    for name, said in _DOCUMENT.items():
        yield name, FoundColumn(type="string", description=said)
    for stage in collection.stages:
        yield from _of_stage(stage)
    yield from _sometimes("documents")


def _sometimes(table: PromisedTable) -> Iterator[tuple[str, FoundColumn]]:
    for name, kind in SOMETIMES[table].items():
        yield name, FoundColumn(type=kind, sometimes=True, description=_SOMETIMES[name])


def _of_stage(stage: StageSettings) -> Iterator[tuple[str, FoundColumn]]:
    columns = stage.columns
    for name in columns.published:
        said = _STAGE.get(name, "What {stage} says of the document.").format(stage=stage.name)
        kind = TYPES[columns.dataset.get(name, "text")]
        yield f"{stage.name}_{name}", FoundColumn(type=kind, description=said, values=_values(stage, name))


def _values(stage: StageSettings, column: str) -> tuple[str, ...] | None:
    labels = isinstance(stage, ClassifyStage) and column in ("label", "runner_up", "model_label")
    return tuple(stage.names) if isinstance(stage, ClassifyStage) and labels else None


def _chunks(collection: "Collection") -> Iterator[tuple[str, FoundColumn]]:
    for name, said in _CHUNK.items():
        kind = "integer" if name in ("ordinal", "start", "end") else "string"
        yield name, FoundColumn(type=kind, description=said)
    if collection.embedded_stages:
        yield OF, FoundColumn(type="string", description="The text that it is from: `text`, or a stage's column.")
    yield from _sometimes("chunks")
    for name, embedding in collection.spaces.items():
        yield vector_column(name), vector_found(name, embedding)


def vector_found(name: str, embedding: Embedding) -> FoundColumn:
    """As the vectors of that name are made."""
    said = f"Its vector by {embedding.model}{'' if name == FIRST else f', of {name}'}."
    return FoundColumn(
        type="vector", dimensions=embedding.dimensions, space=space_in_words(embedding), description=said
    )


def space_in_words(embedding: Embedding) -> str:
    """What made the vectors, as a contract writes it."""
    return f"{embedding.model}@{embedding.version}" if embedding.version else embedding.model


def never_empty(collection: "Collection", table: PromisedTable, column: str) -> bool:
    """Whether the definitions give every row that readers get a value there."""
    if table == "chunks":
        return column in ("chunk_id", "document_id", "ordinal", "text")
    if column in ("document_id", "status", "source_digest", "digest", "text"):
        return True
    stages = {stage.name: stage for stage in collection.stages if not stage.when and stage.route is None}
    return any(
        isinstance(stage, ClassifyStage) and column in (f"{name}_label", f"{name}_confidence", f"{name}_model")
        for name, stage in stages.items()
    )
