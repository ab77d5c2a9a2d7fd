"""Where words of a document stand, read from the passages of a dataset or of a frozen candidate."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import DatasetDamaged
from ai_assets.documents.passages import OF
from ai_assets.documents.places import FoundPassage, TextPlaces
from ai_assets.run.datasets.documents import PAGES
from ai_assets.storage.lake import Lake, parquet_columns, read_batches

if TYPE_CHECKING:
    import pyarrow as pa

OWN_TEXT = "text"
_READ = ("document_id", "chunk_id", "start", "end", "kind", "page", "page_end", OF)


def places_of(lake: Lake, collection: str, partition: str, row: Mapping[str, Any], chunks: Path | None) -> TextPlaces:
    """`row`: the document, as a dataset or a frozen file has it; `chunks`: the file that has its passages."""
    text = row.get("text") or ""
    if not text:
        return TextPlaces("")
    starts = _page_starts(lake, collection, partition, row)
    return TextPlaces(text, passages_of(chunks, row["document_id"]) if chunks is not None else (), starts)


def places_or_why(
    lake: Lake, collection: str, partition: str, row: Mapping[str, Any], chunks: Path | None
) -> tuple[TextPlaces, str | None]:
    """Where a file is damaged: what the text alone says, and a sentence why that is all."""
    try:
        return places_of(lake, collection, partition, row, chunks), None
    except DatasetDamaged as error:
        return TextPlaces(row.get("text") or ""), f"Pages and passages of this document cannot be shown: {error}"


def passages_of(chunks: Path, document_id: str) -> list[FoundPassage]:
    """Those of its own text."""
    there = set(parquet_columns(chunks))
    names = [name for name in _READ if name in there]
    return [
        FoundPassage.of(found)
        for batch in read_batches(chunks, names)
        for found in rows_of(batch, document_id)
        if found.get(OF) in (None, OWN_TEXT)
    ]


def _page_starts(lake: Lake, collection: str, partition: str, row: Mapping[str, Any]) -> Sequence[int]:
    """Exact, where the dataset of documents holds the same text of the same file; pages are not frozen."""
    if row.get(PAGES):
        return list(json.loads(row[PAGES]))
    manifest = lake.manifest(collection, "documents", partition)
    if manifest is None or not lake.holds(manifest):
        return ()
    path = lake.path(manifest)
    if PAGES not in parquet_columns(path):
        return ()
    for batch in read_batches(path, ["document_id", "digest", "source_digest", PAGES]):
        for found in rows_of(batch, row["document_id"]):
            if all(found[name] == row.get(name) for name in ("digest", "source_digest")):
                return list(json.loads(found[PAGES] or "[]"))
    return ()


def rows_of(batch: "pa.RecordBatch", document_id: str) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    found: list[dict[str, Any]] = batch.filter(pc.equal(batch["document_id"], document_id)).to_pylist()
    return found
