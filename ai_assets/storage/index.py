"""The search index: chunks as rows of one LanceDB table, in immutable versions.

It knows partitions and versions, and nothing of releases. A version is complete when it carries the tag `complete-<n>`,
written after everything else: a writer killed anywhere leaves an untagged version, which nobody reads or builds on.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ai_assets.base.errors import AiAssetsError
from ai_assets.storage import batch_search, index_seal
from ai_assets.storage.batch_search import within
from ai_assets.storage.ranked_documents import Depth, ranked
from ai_assets.storage.ranking import VECTOR_WEIGHT, Hit, best_first, fuse, weigh_by_words
from ai_assets.storage.text_scores import INDEX_OPTIONS, lance_query

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa

    from ai_assets.storage.index_seal import Seal

Mode = Literal["hybrid", "vector", "text"]

EXACT_BELOW_ROWS = 50_000
"""Every vector is compared below this many rows (10 ms on two cores); above it an approximate index answers."""

KEEP_EVERYTHING = timedelta(days=36_500)
"""`optimize` removes old versions after 7 days unless told otherwise; ours are removed by `prune` alone."""

PRUNE_MARGIN = timedelta(seconds=60)
"""LanceDB counts ages after it has compacted; should that take longer than this, the tags refuse the removal."""

_COMPLETE = "complete-"
_READERS = 8
_LISTINGS = 100
"""How often the tags are listed while a removal is under way, which takes many away one after the other."""
_FUSED_DOCUMENTS = 50
_QUERY_CHARACTERS = 2_000

_READING = {"LANCE_DEFAULT_IO_BUFFER_SIZE": str(16 << 20), "LANCE_DEFAULT_BATCH_SIZE": "1024"}
"""Exact search over 200,000 vectors takes 130 ms so and 200 ms with LanceDB's own, and a third of the memory."""

_SAMPLE = 64
"""Vectors per cell that the cells are made from. LanceDB's own 256 takes four times the memory."""

_REFINED = 2
"""In cells vectors are kept in a byte per number, so that making them does not take all vectors into memory; so many
times the passages that are wanted are compared by their whole vectors."""


class IndexUnavailable(AiAssetsError):
    """LanceDB failed. Versions that were complete before are complete still."""

    def __init__(self, index: str, doing: str, found: object) -> None:
        super().__init__(
            f"Search index {index}: {doing} failed: {found}. Its complete versions are unchanged; run again, and if it "
            "fails again, delete the folder and publish again: the index is made from the lake."
        )


class IndexVersionMissing(IndexUnavailable):
    """The version was pruned, or never completed."""

    def __init__(self, index: str, version: int) -> None:
        super().__init__(index, f"reading version {version}", "there is no such complete version")
        self.version = version


BUILTIN_DIMENSIONS = 256
MOST_DIMENSIONS = 16_384
"""Of the built-in embedder's vectors."""
VECTOR = "vector"
"""The column that is compared unless another one is named; further ones begin with it."""
NO_MORE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of many questions."""

    documents: Sequence[Sequence[str]]
    """For each, best first."""
    asked: int
    """How many LanceDB was asked, because scores computed beside it did not decide them."""


class SearchIndex:
    """One table below `path`. Writers take turns by a file lock; readers name a version and wait for nobody."""

    def __init__(
        self,
        path: Path,
        name: str,
        dimensions: int,
        *,
        more: Mapping[str, int] = NO_MORE,
        vector_weight: float = VECTOR_WEIGHT,
    ) -> None:
        """`more`: further vectors of a passage by column, and how long they are. Then each row says which text its
        passage is `of`."""
        self._vector_weight = vector_weight
        self._path = path
        self._name = name
        self._vectors = {VECTOR: dimensions, **more}
        self._readers: OrderedDict[int, _Reader] = OrderedDict()
        self._guard = threading.Lock()

    def version(self) -> int | None:
        """The newest complete version; None before the first."""
        with self._lance("listing versions"):
            return max(_complete_versions(self._table()), default=None) if self._exists() else None

    def versions(self) -> list[int]:
        """All complete versions."""
        with self._lance("listing versions"):
            return sorted(_complete_versions(self._table())) if self._exists() else []

    def holds(self, version: int) -> bool:
        """Whether the version is there and complete."""
        with self._lance("listing versions"):
            return self._exists() and version in _complete_versions(self._table())

    def seal(self, version: int) -> Seal:
        """Every file that a complete version consists of, with its bytes."""
        with self._sealing():
            return index_seal.seal(self._folder, version)

    def difference(self, version: int, seal: Seal) -> str | None:
        """The first file of the version that is not as it was sealed, in words."""
        with self._sealing():
            return index_seal.first_difference(self._folder, version, seal)

    def missing(self, seal: Seal) -> list[str]:
        """Files of a seal that are gone."""
        return index_seal.missing(self._folder, seal)

    def count(self, version: int) -> int:
        """How many chunks the version holds."""
        return self._at(version).rows

    def partitions(self, version: int) -> dict[str, int]:
        """Chunks per partition."""
        reader = self._at(version)
        with self._lance("counting partitions"):
            column = reader.table.search().select(["partition"]).limit(max(reader.rows, 1)).to_arrow()["partition"]
            return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}

    def replace(
        self,
        changes: Mapping[str, pa.Table | Iterable[pa.RecordBatch] | None],
        *,
        base_version: int | None,
        words_anew: bool = False,
    ) -> int:
        """Make a version that equals `base_version` (None: empty) with the rows of these partitions replaced.

        None removes a partition; batches are read one at a time. `words_anew`: a text index that takes in new rows
        goes on counting words of removed ones, so what it scores depends on earlier edits; made anew, on the rows
        alone. Below 50,000 rows that takes a second at most. The new version is returned complete, text index
        included. Killed or failed at any point, older versions stay as they were, and the same call again starts from
        `base_version` again.
        """
        import pyarrow as pa

        given = {partition: _batches(rows) for partition, rows in changes.items() if rows is not None}
        incoming = _Incoming(self._schema(), given)
        with self._writing(), incoming.failing_as_itself(), self._lance("replacing partitions"):
            table = self._writable(base_version)
            if base_version is not None:
                _delete_partitions(table, list(changes))
            if given:
                table.add(pa.RecordBatchReader.from_batches(self._schema(), iter(incoming)))
            _complete_indexes(table, words_anew=words_anew)
            version = int(table.version)
            if version not in _complete_versions(table):  # else nothing changed, and nothing was written
                table.tags.create(f"{_COMPLETE}{version}", version)
            return version

    def discard(self, version: int) -> None:
        """Say of a version that it is not complete: nobody reads or builds on it any more."""
        with self._writing(), self._lance("discarding a version"):
            table = self._table()
            if version in _complete_versions(table):
                table.tags.delete(f"{_COMPLETE}{version}")
        with self._guard:
            self._readers.clear()

    def prune(self, keep: Collection[int]) -> None:
        """Forget complete versions that are not in `keep`, and free the files that only versions before the oldest kept
        one need. Those between two kept ones go when the older is no longer kept: LanceDB removes by age alone."""
        if not keep or not self._exists():
            return
        with self._writing(), self._lance("pruning"):
            table = self._table()
            complete = _complete_versions(table)
            if unknown := set(keep) - complete:
                raise IndexVersionMissing(self._name, min(unknown))
            for version in sorted(complete - set(keep)):
                table.tags.delete(f"{_COMPLETE}{version}")
            written_at = next(entry["timestamp"] for entry in table.list_versions() if entry["version"] == min(keep))
            age = datetime.now(tz=written_at.tzinfo) - written_at
            table.optimize(cleanup_older_than=age + PRUNE_MARGIN)
        with self._guard:
            self._readers.clear()

    def search(
        self,
        version: int,
        vector: np.ndarray | Sequence[float] | None,
        text: str,
        k: int,
        mode: Mode = "hybrid",
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
    ) -> list[Hit]:
        """The `k` best documents of a version, each once, with its best passage.

        `text` is words, not a query language: operators and quotes are punctuation. Nothing to search for gives
        nothing: an empty text, or a vector of zeros. `column`: the vectors to compare. `of`: only passages of these
        texts, unless it is empty.
        """
        reader = self._at(version)
        if k < 1 or reader.rows == 0 or not text.strip():
            return []
        query = None if mode == "text" or vector is None else self._query_vector(vector, column)
        among = batch_search.among(of)
        documents = max(_FUSED_DOCUMENTS, k)
        by_vector: list[Hit] = []
        by_text: list[Hit] = []
        with self._lance("searching"):
            if query is not None and query.any():
                by_vector = reader.by_vector(query, documents, column, among)
            if mode != "vector":
                by_text = reader.by_text(text[:_QUERY_CHARACTERS], documents, among)
        if mode != "hybrid":
            return (by_vector or by_text)[:k]
        return fuse(by_vector, by_text, self._vector_weight)[:k]

    def search_many(
        self,
        version: int,
        questions: Sequence[tuple[np.ndarray | Sequence[float], str]],
        k: int,
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
    ) -> list[list[Hit]]:
        """As `search` of each (vector, text), hybrid, in less time."""
        reader = self._at(version)
        few = len(questions) < batch_search.FROM_QUESTIONS
        if few or k < 1 or not 0 < reader.rows < EXACT_BELOW_ROWS:
            return [self.search(version, vector, text, k, column=column, of=of) for vector, text in questions]
        queries = [self._query_vector(vector, column) for vector, _ in questions]
        texts = [text[:_QUERY_CHARACTERS] if text.strip() else "" for _, text in questions]
        among = batch_search.among(of)
        with self._lance("searching"):
            by_vector, by_text = reader.many(queries, texts, max(_FUSED_DOCUMENTS, k), column, among)
        return [fuse(ours, theirs, self._vector_weight)[:k] for ours, theirs in zip(by_vector, by_text, strict=True)]

    def documents_found(
        self,
        version: int,
        questions: Sequence[tuple[np.ndarray | Sequence[float], str]],
        k: int,
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
    ) -> Found:
        """The documents that `search_many` finds, in its order, in a fraction of the time where questions are many."""
        reader = self._at(version)
        answers: list[list[str] | None] = [None for _ in questions]
        if k >= 1 and 0 < reader.rows < EXACT_BELOW_ROWS:
            asked = [
                (self._query_vector(vector, column), text[:_QUERY_CHARACTERS] if text.strip() else "")
                for vector, text in questions
            ]
            depth = Depth(documents=k, of_each=max(_FUSED_DOCUMENTS, k), vector_weight=self._vector_weight)
            with self._lance("searching"):
                answers = ranked(reader.table, reader.rows, asked, depth, column, of)
        left = [number for number, found in enumerate(answers) if found is None]
        for number, hits in zip(
            left, self.search_many(version, [questions[n] for n in left], k, column=column, of=of), strict=True
        ):
            answers[number] = [hit.document_id for hit in hits]
        return Found(documents=[found or [] for found in answers], asked=len(left))

    def _query_vector(self, vector: np.ndarray | Sequence[float], column: str) -> np.ndarray:
        import numpy as np

        query, wanted = np.asarray(vector, dtype=np.float32), self._vectors[column]
        if query.shape != (wanted,) or not np.isfinite(query).all():
            raise ValueError(f"a query vector has {wanted} finite numbers, not shape {query.shape}")
        return query

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        several = ("of",) if len(self._vectors) > 1 else ()
        words = [(name, pa.string()) for name in ("chunk_id", "document_id", "partition", "title", "text", *several)]
        vectors = [(name, pa.list_(pa.float32(), length)) for name, length in self._vectors.items()]
        return pa.schema([*words, *vectors])

    @property
    def _folder(self) -> Path:
        return self._path / f"{self._name}.lance"

    def _exists(self) -> bool:
        return any((self._folder / "_versions").glob("*.manifest"))

    def _table(self) -> Any:
        return _connect(self._path).open_table(self._name)

    def _writable(self, base_version: int | None) -> Any:
        """The table with the content of the base version as its newest, whatever a dead writer left on top."""
        if not self._exists():
            if base_version is not None:
                raise IndexVersionMissing(self._name, base_version)
            return _connect(self._path).create_table(self._name, schema=self._schema(), exist_ok=True)
        table = self._table()
        if base_version is None:
            if table.count_rows():
                table.delete("true")
        elif base_version not in _complete_versions(table):
            raise IndexVersionMissing(self._name, base_version)
        elif base_version != table.version:
            table.checkout(base_version)
            table.restore()
        return table

    def _at(self, version: int) -> _Reader:
        with self._guard, self._lance(f"reading version {version}"):
            if version not in self._readers:
                if not self._exists():
                    raise IndexVersionMissing(self._name, version)
                table = self._table()
                if version not in _complete_versions(table):
                    raise IndexVersionMissing(self._name, version)
                table.checkout(version)
                self._readers[version] = _Reader(table=table, rows=table.count_rows())
                if len(self._readers) > _READERS:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(version)
            return self._readers[version]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._path.mkdir(parents=True, exist_ok=True)
        with (self._path / f"{self._name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _sealing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise IndexUnavailable(self._name, "reading its files", error.strerror or error) from error

    @contextlib.contextmanager
    def _lance(self, doing: str) -> Iterator[None]:
        """The one place where whatever LanceDB raises becomes ours."""
        try:
            yield
        except AiAssetsError:
            raise
        except Exception as error:  # LanceDB raises RuntimeError, OSError, ValueError and its own, undocumented
            raise IndexUnavailable(self._name, doing, error) from error


def _connect(path: Path) -> Any:
    """LanceDB reads ahead up to 2 GiB, which is a whole collection; it has no other way to be told than this."""
    for name, value in _READING.items():
        os.environ.setdefault(name, value)
    import lancedb

    return lancedb.connect(path)


def _batches(rows: pa.Table | Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    import pyarrow as pa

    found: Iterable[pa.RecordBatch] = rows.to_batches() if isinstance(rows, pa.Table) else rows
    return found


class _Incoming:
    """The batches of all partitions as LanceDB takes them. It turns what fails in here into errors of its own."""

    def __init__(self, schema: pa.Schema, given: Mapping[str, Iterable[pa.RecordBatch]]) -> None:
        self._schema, self._given = schema, given
        self._failed: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for partition, batches in self._given.items():
                for batch in batches:
                    yield from self._checked(partition, batch)
        except Exception as error:
            self._failed = error
            raise

    def _checked(self, partition: str, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = pa.Table.from_batches([batch]).select(self._schema.names).cast(self._schema)
        if rows.num_rows and not pc.all(pc.equal(rows["partition"], partition)).as_py():
            raise ValueError(f"the rows given for partition {partition!r} belong to {pc.unique(rows['partition'])}")
        found: list[pa.RecordBatch] = rows.to_batches()
        return found

    @contextlib.contextmanager
    def failing_as_itself(self) -> Iterator[None]:
        try:
            yield
        except AiAssetsError:
            if self._failed is not None:
                raise self._failed from None
            raise


class _Reader:
    """A handle on one version, which never changes; searches of several threads may share it."""

    def __init__(self, *, table: Any, rows: int) -> None:
        self.table = table
        self.rows = rows

    def by_vector(self, query: np.ndarray, documents: int, column: str, among: str | None) -> list[Hit]:
        search = self.table.search(query, vector_column_name=column).distance_type("dot")
        exact = self.rows < EXACT_BELOW_ROWS
        search = search.bypass_vector_index() if exact else search.nprobes(_probes(self.rows)).refine_factor(_REFINED)
        return self._best_passages(within(search, among), "_distance", documents)

    def by_text(self, text: str, documents: int, among: str | None) -> list[Hit]:
        search = within(self.table.search(lance_query(text), query_type="fts"), among)
        return weigh_by_words(self._best_passages(search, "_score", documents), text)

    def many(
        self, queries: Sequence[np.ndarray], texts: Sequence[str], documents: int, column: str, among: str | None
    ) -> tuple[list[list[Hit]], list[list[Hit]]]:
        """As `by_vector` and `by_text` of each; nothing where there is nothing to search for."""
        import numpy as np

        passages = batch_search.PassageRows(self.table, self.rows)
        limit = min(4 * documents, self.rows)
        by_vector: list[list[Hit]] = [[] for _ in queries]
        by_text: list[list[Hit]] = [[] for _ in queries]

        def best(found: batch_search.Found) -> list[Hit] | None:
            """None where a wider search would find more documents."""
            hits = passages.best(found, documents)
            return hits if len(hits) >= documents or len(found) < limit or limit >= self.rows else None

        there = [number for number, text in enumerate(texts) if text and queries[number].any()]
        if there:
            near = batch_search.by_vectors(self.table, np.stack([queries[n] for n in there]), limit, column, among)
            for number, found in zip(there, near, strict=True):
                hits, query = best(found), queries[number]
                by_vector[number] = self.by_vector(query, documents, column, among) if hits is None else hits
        said = [number for number, text in enumerate(texts) if text]
        worded = batch_search.by_texts(self.table, [lance_query(texts[n]) for n in said], limit, among)
        for number, found in zip(said, worded, strict=True):
            hits, text = best(found), texts[number]
            by_text[number] = self.by_text(text, documents, among) if hits is None else weigh_by_words(hits, text)
        return by_vector, by_text

    def _best_passages(self, search: Any, column: str, documents: int) -> list[Hit]:
        """Widen the search until enough documents are among the passages found, or there are no more."""
        limit = min(4 * documents, self.rows)
        while True:
            columns = ["document_id", "chunk_id", "partition", "title", "text", column]
            found = search.select(columns).limit(limit).to_list()
            best: dict[str, Hit] = {}
            for row in found:
                score = 1 - row["_distance"] if column == "_distance" else row["_score"]
                hit = Hit(
                    document_id=row["document_id"],
                    chunk_id=row["chunk_id"],
                    partition=row["partition"],
                    title=row["title"] or "",
                    text=row["text"],
                    score=score,
                )
                held = best.get(hit.document_id)
                if held is None or best_first(hit) < best_first(held):
                    best[hit.document_id] = hit
            if len(best) >= documents or len(found) < limit or limit >= self.rows:
                return sorted(best.values(), key=best_first)[:documents]
            limit = min(4 * limit, self.rows)


def _complete_versions(table: Any) -> set[int]:
    """LanceDB lists the tags and then reads each: one that is removed between the two fails the whole listing."""
    for _ in range(_LISTINGS):
        with contextlib.suppress(RuntimeError):
            return _listed(table)
    return _listed(table)


def _listed(table: Any) -> set[int]:
    return {entry["version"] for tag, entry in table.tags.list().items() if tag.startswith(_COMPLETE)}


def _delete_partitions(table: Any, partitions: Sequence[str]) -> None:
    for start in range(0, len(partitions), 500):
        table.delete(batch_search.condition("partition", partitions[start : start + 500]))


def _complete_indexes(table: Any, *, words_anew: bool) -> None:
    """Make what is missing or wanted anew, then let the indexes take in the rows that are new since they were made."""
    from lancedb.index import FTS, IvfSq

    words = FTS(with_position=True, **INDEX_OPTIONS)
    rows = table.count_rows()
    wanted: dict[str, Any] = {"text": words, "title": words} if rows else {}
    for name in table.schema.names:
        if not name.startswith(VECTOR):
            continue
        vectors = table.count_rows(f"{name} IS NOT NULL")  # a passage without one is found by its words alone
        if vectors >= EXACT_BELOW_ROWS:
            wanted[name] = IvfSq(distance_type="dot", num_partitions=_cells(vectors), sample_rate=_SAMPLE)
    made = {column for index in table.list_indices() for column in index.columns}
    if words_anew and rows < EXACT_BELOW_ROWS:
        made -= {"text", "title"}
    for column, config in wanted.items():
        if column not in made:
            table.create_index(column, config=config)
    table.optimize(cleanup_older_than=KEEP_EVERYTHING)


def _cells(rows: int) -> int:
    return max(1, math.isqrt(rows))


def _probes(rows: int) -> int:
    return max(8, _cells(rows) // 8)
