"""A release candidate: what a partition would publish, as immutable files, and the one digest that stands for it.

The digest is made from rows, not from file bytes: a Merkle root over one leaf per document, the code versions, the
evaluation and the cost. Whoever approves it approves exactly this.
"""

import datetime
import decimal
import hashlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.embedding.spec import WITHOUT
from ai_assets.signoff.forgotten import NONE, Register
from ai_assets.signoff.risk import UNREADABLE
from ai_assets.storage.digest import Json, MerkleRoot, digest, sha256_hex
from ai_assets.storage.index_writing import VECTOR
from ai_assets.storage.lake import Lake, parquet_columns, read_batches, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
ROW = "row."
"""Before the names of columns that are somebody's own: of an asset that is signed."""
HIDDEN = frozenset({"leaf", "partition"})
_ADDED = frozenset({"document_id", "partition", "release", "request", "signed_by"})
"""Names that readers have with every row. A column of somebody's own that has one keeps what is before its name."""
CHUNK_COLUMNS = ("document_id", "chunk_id", "text", "vector")


def as_read(names: Sequence[str]) -> dict[str, str]:
    """By the name that readers know, the columns of a frozen file. Of a signed asset those are its own."""
    own = [name for name in names if name.startswith(ROW)]
    if not own:
        return {name: name for name in names if name not in HIDDEN}
    plain = {name: name.removeprefix(ROW) for name in own}
    return {"document_id": "document_id", **{name if plain[name] in _ADDED else plain[name]: name for name in own}}


def is_of_asset(code_versions: Mapping[str, str]) -> bool:
    """Whether a candidate or a part of a release has the rows of a signed asset."""
    return code_versions.keys() == {"rows", "kind"}


class Leaves:
    """The documents of a candidate in order, each with its digest: of its row with what the stages made of it, of its
    chunks and their vectors. Read along with the chunks, so that neither is in memory as a whole."""

    def __init__(
        self, documents: "Iterable[Row]", chunks: "Iterable[pa.RecordBatch]", forgotten: Register = NONE
    ) -> None:
        self._documents = documents
        self._forgotten = forgotten
        self._chunks = ByDocument(chunk_digests(chunks))
        self._root = MerkleRoot()
        self.documents = 0

    def __iter__(self) -> Iterator[tuple[Row, str]]:
        for document, group in groupby(self._documents, key=itemgetter("document_id")):
            chunks: list[Json] = [row["digests"] for row in self._chunks.of(document)]
            rows = list(group)
            told = None if chunks else self._forgotten.leaf(rows[-1])
            leaf = told or digest([signed_row(rows[-1]), chunks])
            self._root.add(f"{document}\n{leaf}")
            self.documents += len(rows)
            yield from ((row, leaf) for row in rows)
        self.strays = self._chunks.rest()

    @property
    def content(self) -> str:
        """When all have gone by, the Merkle root over them: equal ones publish the same rows."""
        if self.strays:  # a passage of no document would be published unsigned
            return sha256_hex(f"{self.strays} passages of no document\n{self._root.hex()}".encode())
        return self._root.hex()


SOMETIMES = (WITHOUT, "held", "encoding", "encoding_certainty", "near_duplicate_of", "similarity")
"""Columns that a candidate may have or not: a document that says nothing in them has the leaf it has without them."""


def signed_row(row: Row) -> Row:
    """What of a document's row people sign."""
    found = {
        name: signable(value) if name.startswith(ROW) else value for name, value in row.items() if name not in HIDDEN
    }
    for name in SOMETIMES:
        if found.get(name) is None:
            found.pop(name, None)  # the column is there only where some document has something in it
    return found


def signable(value: Any) -> Json:
    """A value as JSON that no other value has: for rows whose columns are not ours."""
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case dict():
            return {"struct": {str(name): signable(each) for name, each in value.items()}}
        case list() | tuple():
            return [signable(each) for each in value]
        case datetime.datetime():
            return {"datetime": value.isoformat()}
        case datetime.date():
            return {"date": value.isoformat()}
        case datetime.time():
            return {"time": value.isoformat()}
        case datetime.timedelta():  # of pandas it has nanoseconds too
            parts = (value.days, value.seconds, value.microseconds, getattr(value, "nanoseconds", 0))
            return {"timedelta": list(parts)}
        case decimal.Decimal():
            return {"decimal": str(value)}
        case bytes():
            return {"bytes": value.hex()}
    raise TypeError(f"a value of type {type(value).__name__} has no digest")


def leaves_of_files(documents: Path, chunks: Path, forgotten: Register = NONE) -> Leaves:
    """As a candidate or a release holds them."""
    return Leaves(read_rows(documents), signed_chunks(chunks), forgotten)


def signed_chunks(path: Path) -> "Iterator[pa.RecordBatch]":
    """Of passages, the columns that people sign: all vectors, where a passage has several."""
    columns = parquet_columns(path)
    return read_batches(path, [*CHUNK_COLUMNS, *further_vectors(columns)])


def further_vectors(columns: Iterable[str]) -> list[str]:
    return sorted(name for name in columns if name.startswith(f"{VECTOR}_"))


def content_of_files(documents: Path, chunks: Path, forgotten: Register = NONE) -> Leaves:
    """All read; only the digest and the number of documents are of interest."""
    leaves = leaves_of_files(documents, chunks, forgotten)
    deque(leaves, maxlen=0)
    return leaves


def chunk_digests(chunks: "Iterable[pa.RecordBatch]") -> Iterator[Row]:
    for batch in chunks:
        columns = [batch[name].to_pylist() for name in ("document_id", "chunk_id", "text")]
        vectors = [_vector_digests(batch, name) for name in (VECTOR, *further_vectors(batch.schema.names))]
        for document, chunk, text, *numbers in zip(*columns, *vectors, strict=True):
            texts = hashlib.sha256(text.encode()).hexdigest()
            yield {"document_id": document, "digests": [chunk, texts, *numbers]}


def _vector_digests(batch: "pa.RecordBatch", column: str) -> "Iterator[str | None]":
    from ai_assets.embedding.text_vectors import vectors_in

    there = batch[column].is_valid().to_pylist()
    for vector, is_there in zip(vectors_in(batch, column), there, strict=True):
        yield hashlib.sha256(vector.tobytes()).hexdigest() if is_there else None


def candidate_digest(
    collection: str,
    partition: str,
    content: str,
    code_versions: Mapping[str, str],
    scores: Sequence[Mapping[str, Json]],
    cost_usd: float | None,
) -> str:
    return digest(described(collection, partition, content, code_versions, scores, cost_usd))


def described(
    collection: str,
    partition: str,
    content: str,
    code_versions: Mapping[str, str],
    scores: Sequence[Mapping[str, Json]],
    cost_usd: float | None,
) -> dict[str, Json]:
    """All that the digest of a candidate is of."""
    return {
        "format": FORMAT,
        "collection": collection,
        "partition": partition,
        "documents": content,
        "code_versions": dict(code_versions),
        "scores": list(scores),
        "cost_usd": cost_usd,
    }


def snapshot_folder(lake_root: Path, collection: str, partition: str) -> Path:
    return Lake(lake_root).folder(collection, "release_snapshots", partition)


Headed = tuple[str, str, Mapping[str, Any], str]
"""A document, its leaf, by stage what is said of it in short, and its status."""


def difference(candidate: Iterable[Headed], live: Iterable[Headed], stages: Iterable[str]) -> dict[str, Any]:
    """What publishing would change for readers; relabelled documents are changed too. Both are read once, in order.

    A document that cannot be read is published without its text: where a readable one is live, readers lose it.
    """
    stages = list(stages)
    added, changed, removed, unreadable = [], [], [], []
    relabelled = {}
    unchanged = 0
    for name, new, old in _side_by_side(candidate, live):
        had, has = old is not None and old[3] != UNREADABLE, new is not None and new[3] != UNREADABLE
        if new is not None and old is not None and new[1] == old[1]:
            unchanged += 1
        elif had and not has:
            removed.append(name)
        elif has and not had:
            added.append(name)
        elif not has:
            unreadable += [name] if new is not None else []
        elif new is not None and old is not None:
            changed.append(name)
            moves = [{"stage": s, "from": old[2].get(s), "to": new[2].get(s)} for s in stages]
            if new[3] == old[3] and (moves := [move for move in moves if move["from"] != move["to"]]):
                relabelled[name] = moves
    return {
        "added": added, "changed": changed, "removed": removed, "unchanged": unchanged, "relabelled": relabelled,
        "unreadable": unreadable,
    }  # fmt: skip


def _side_by_side(
    candidate: Iterable[Headed], live: Iterable[Headed]
) -> Iterator[tuple[str, Headed | None, Headed | None]]:
    new = ((item[0], 0, item) for item in candidate)
    old = ((item[0], 1, item) for item in live)
    for document, group in groupby(merge(new, old, key=itemgetter(0)), key=itemgetter(0)):
        found: dict[int, Headed] = {side: item for _, side, item in group}
        yield document, found.get(0), found.get(1)
