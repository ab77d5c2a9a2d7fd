"""The search index: chunks as rows of one LanceDB table or branch, in immutable versions.

It knows partitions and versions, and nothing of releases. A version is complete when it carries its tag, written after
everything else: a writer killed anywhere leaves an untagged version, which nobody reads or builds on.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ai_assets.base.allocator import give_back
from ai_assets.base.errors import AiAssetsError
from ai_assets.base.plural import plural
from ai_assets.storage import batch_search, index_reader, index_seal
from ai_assets.storage.filtered_search import FilteredQuestion, best_among
from ai_assets.storage.index_place import FolderPlace, IndexPlace, TableFiles
from ai_assets.storage.index_reader import IndexReader
from ai_assets.storage.index_table import IndexTable, in_one_sentence
from ai_assets.storage.index_writing import (
    VECTOR,
    IncomingRows,
    batches_of,
    complete_indexes,
    delete_partitions,
    rows_to_take_in,
)
from ai_assets.storage.large_search import AS_SERVED, computed, sampled, shared_share
from ai_assets.storage.lasting_search import LastingSearch
from ai_assets.storage.ranked_documents import Depth, ranked
from ai_assets.storage.ranking import Hit, combined
from ai_assets.storage.search_rules import FIRST_RULES, SearchRules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import numpy as np
    import pyarrow as pa

    from ai_assets.storage.index_seal import Seal

Mode = Literal["hybrid", "vector", "text"]

PRUNE_MARGIN = timedelta(seconds=60)
"""LanceDB counts ages after it has compacted; should that take longer than this, the tags refuse the removal."""

_READERS = 8
_FUSED_DOCUMENTS = 50
_QUERY_CHARACTERS = 2_000


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
NO_MORE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of many questions."""

    documents: Sequence[Sequence[str]]
    """For each, best first."""
    asked: int
    """How many LanceDB was asked, because scores computed beside it did not decide them."""


class _KeptReaders:
    """Of the versions on a disk that were asked last."""

    def __init__(self, most: int) -> None:
        self._most, self._guard = most, threading.Lock()
        self._kept: OrderedDict[Hashable, IndexReader] = OrderedDict()

    def get(self, key: Hashable) -> IndexReader | None:
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, reader: IndexReader) -> None:
        with self._guard:
            self._kept[key] = reader
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def drop(self, reader: IndexReader) -> None:
        with self._guard:
            for key in [key for key, kept in self._kept.items() if kept is reader]:
                del self._kept[key]


_KEPT = _KeptReaders(_READERS)
"""Of this process."""


class SearchIndex:
    """One table, or a branch of it. Writers take turns; readers name a version and wait for nobody."""

    def __init__(
        self,
        place: Path | IndexPlace,
        name: str,
        dimensions: int,
        *,
        more: Mapping[str, int] = NO_MORE,
        branch: str | None = None,
    ) -> None:
        """`more`: further vectors of a passage by column, and how long they are. Then each row says which text its
        passage is `of`."""
        self.place = FolderPlace(place) if isinstance(place, Path) else place
        self.table = IndexTable(self.place, name, branch)
        self._name = name
        self._vectors = {VECTOR: dimensions, **more}
        self._readers: OrderedDict[int, IndexReader] = OrderedDict()
        self._seen: dict[int, float] = {}
        """When a version was last seen to be complete."""
        self._guard = threading.Lock()

    def version(self) -> int | None:
        """The newest complete version; None before the first."""
        return max(self.versions(), default=None)

    def versions(self) -> list[int]:
        """All complete versions."""
        with self._lance("listing versions"):
            table = self.table.opened()
            return [] if table is None else sorted(self.table.complete_versions(table))

    def holds(self, version: int) -> bool:
        """Whether the version is there and complete."""
        with self._lance("listing versions"):
            if time.monotonic() - self._seen.get(version, -math.inf) < self.place.known_for_s:
                return True
            found = self.table.is_complete(version)
            if found:
                self._seen[version] = time.monotonic()
            return found

    def seal(self, version: int, known: Seal | None = None) -> Seal:
        """Every file that a complete version consists of, with its bytes; those of an earlier seal are `known`."""
        with self._sealing():
            return index_seal.seal(self._files(fresh=True), version, known)

    def difference(self, version: int, seal: Seal) -> str | None:
        """The first file of the version that is not as it was sealed, in words."""
        with self._sealing():
            found = index_seal.first_difference(self._files(fresh=False), version, seal)
            # Another process may have published since somebody looked.
            return found and index_seal.first_difference(self._files(fresh=True), version, seal)

    def missing(self, seal: Seal) -> list[str]:
        """Files of a seal that are gone."""
        with self._sealing():
            return index_seal.missing(self._files(fresh=True), seal)

    def count(self, version: int) -> int:
        """How many chunks the version holds."""
        return self._at(version).rows

    def searches_names(self, version: int) -> bool:
        """Whether the words of document names can be searched: not in what an earlier version wrote."""
        reader = self._at(version)
        with self._lance("listing indexes"):
            return reader.rows == 0 or any("document_id" in each.columns for each in reader.table.list_indices())

    def lags(self, version: int) -> bool:
        """Whether its indexes have rows to take in: then its older versions are not worth pruning yet."""
        reader = self._at(version)
        with self._lance("listing indexes"):
            return reader.rows >= index_reader.EXACT_BELOW_ROWS and rows_to_take_in(reader.table) > 0

    def documents_there(self, version: int, names: Collection[str]) -> set[str]:
        """Of these documents, those that have a passage."""
        reader, wanted, found = self._at(version), sorted(names), set[str]()
        with self._lance("looking for documents"):
            for start in range(0, len(wanted), 500):
                among = batch_search.condition("document_id", wanted[start : start + 500])
                rows = reader.table.search().where(among).select(["document_id"]).limit(max(reader.rows, 1)).to_arrow()
                found.update(rows["document_id"].to_pylist())
        return found

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
        check: Callable[[], None] = lambda: None,
    ) -> int:
        """Make a version that equals `base_version` (None: empty) with the rows of these partitions replaced.

        None removes a partition; batches are read one at a time. `words_anew`: a text index that takes in new rows
        goes on counting words of removed ones, so what it scores depends on earlier edits; made anew, on the rows
        alone. Below 50,000 rows that takes a second at most; of more, whose answers are computed beside it, indexes
        take in rows once there are many. `check` raises where this process may not write any more,
        and is asked before each step. The new version is returned complete, text index included. Killed or failed at
        any point, older versions stay as they were, and the same call again starts from `base_version` again.
        """
        import pyarrow as pa

        given = {partition: batches_of(rows) for partition, rows in changes.items() if rows is not None}
        incoming = IncomingRows(self._schema(), given)
        with self._writing(), incoming.failing_as_itself(), self._lance("replacing partitions"):
            check()
            table = self._writable(base_version)
            if base_version is not None:
                delete_partitions(table, list(changes))
            if given:
                check()
                table.add(pa.RecordBatchReader.from_batches(self._schema(), iter(incoming)))
            check()
            complete_indexes(table, words_anew=words_anew)
            version = int(table.version)
            check()
            if not self.table.is_complete(version):  # else nothing changed, and nothing was written
                table.tags.create(self.table.tag_of(version), version)
            return version

    def show(self, version: int | None) -> None:
        """Who opens the table without naming a version finds how the live release is read: by a tag, on that one."""
        with self._writing(), self._lance("tagging the live version"):
            if version is not None or self.table.opened() is not None:
                self.table.show(version)

    def discard(self, version: int) -> None:
        """Say of a version that it is not complete: nobody reads or builds on it any more."""
        with self._writing(), self._lance("discarding a version"):
            if (table := self.table.at(version)) is not None:
                table.tags.delete(self.table.tag_of(version))
        self._forget_readers()

    def prune(self, keep: Collection[int]) -> None:
        """Forget complete versions that are not in `keep`, and free the files that only versions before the oldest kept
        one need. Those between two kept ones go when the older is no longer kept: LanceDB removes by age alone."""
        with self._writing(), self._lance("pruning"):
            table = self.table.newest()
            if not keep or table is None:
                return
            complete = self.table.complete_versions(table)
            if unknown := set(keep) - complete:
                raise IndexVersionMissing(self._name, min(unknown))
            for version in sorted(complete - set(keep)):
                table.tags.delete(self.table.tag_of(version))
            written_at = next(entry["timestamp"] for entry in table.list_versions() if entry["version"] == min(keep))
            age = datetime.now(tz=written_at.tzinfo) - written_at
            table.optimize(cleanup_older_than=age + PRUNE_MARGIN)
        self._forget_readers()

    def remove(self) -> None:
        """All versions and their files: the branch, or what the table itself has but for its note."""
        with self._writing(), self._lance("removing versions"):
            table = self.table.entered()
            for version in self.table.complete_versions(table):
                table.tags.delete(self.table.tag_of(version))
            if self.table.branch is None:
                table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
            elif self.table.branch in table.branches.list():
                table.branches.delete(self.table.branch)
        if self.table.branch is not None:  # a killed writer leaves files of a branch that LanceDB does not know
            self.place.remove(self._name, self.table.branch)
        self._forget_readers()

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
        rules: SearchRules = FIRST_RULES,
    ) -> list[Hit]:
        """The `k` best documents of a version, each once, with its best passage.

        `text` is words, not a query language: operators and quotes are punctuation. Nothing to search for gives
        nothing: an empty text, or a vector of zeros. `column`: the vectors to compare. `of`: only passages of these
        texts, unless it is empty. `rules`: how words and vectors become one ranking.
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
            if mode != "vector":  # first, for a filtered search beside it wants the highest score of its words
                by_text = reader.by_text(text[:_QUERY_CHARACTERS], documents, among, by_name=rules.by_name)
            if query is not None and query.any():
                by_vector = reader.by_vector(query, documents, column, among)
        if mode != "hybrid":
            return (by_vector or by_text)[:k]
        return combined(by_vector, by_text, text, rules)[:k]

    def search_among(
        self,
        version: int,
        vector: np.ndarray | Sequence[float] | None,
        text: str,
        k: int,
        documents: pa.Array,
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
        rules: SearchRules = FIRST_RULES,
    ) -> list[Hit]:
        """The `k` best of these documents, in the order that a search for all documents has them in.

        Every vector is compared, also where `search` asks an approximate index; in memory, so that scores closer than
        single precision tells apart may be in another order. Without a vector as `mode="text"`.
        """
        reader = self._at(version)
        if k < 1 or reader.rows == 0 or not text.strip() or not len(documents):
            return []
        query = None if vector is None else self._query_vector(vector, column)
        asked = FilteredQuestion(
            vector=query, text=text[:_QUERY_CHARACTERS], whole_text=text, column=column, of=of, rules=rules
        )
        with self._lance("searching"):
            return best_among(reader, asked, documents, k)

    def search_many(
        self,
        version: int,
        questions: Sequence[tuple[np.ndarray | Sequence[float], str]],
        k: int,
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
        rules: SearchRules = FIRST_RULES,
    ) -> list[list[Hit]]:
        """As `search` of each (vector, text), hybrid, in less time."""
        reader = self._at(version)
        few = len(questions) < batch_search.FROM_QUESTIONS
        if few or k < 1 or not 0 < reader.rows < index_reader.EXACT_BELOW_ROWS:
            return [
                self.search(version, vector, text, k, column=column, of=of, rules=rules) for vector, text in questions
            ]
        found = self.found_apart(version, questions, max(_FUSED_DOCUMENTS, k), column=column, of=of, rules=rules)
        return [
            combined(by_vector, by_text, text, rules)[:k]
            for (by_vector, by_text), (_, text) in zip(found, questions, strict=True)
        ]

    def found_apart(
        self,
        version: int,
        questions: Sequence[tuple[np.ndarray | Sequence[float], str]],
        documents: int = _FUSED_DOCUMENTS,
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
        rules: SearchRules = FIRST_RULES,
    ) -> list[tuple[list[Hit], list[Hit]]]:
        """For each question (vector, text) the best by vectors and the best by words, before they are combined."""
        reader = self._at(version)
        if not reader.rows:
            return [([], []) for _ in questions]
        queries = [self._query_vector(vector, column) for vector, _ in questions]
        texts = [text[:_QUERY_CHARACTERS] if text.strip() else "" for _, text in questions]
        among = batch_search.among(of)
        with self._lance("searching"):
            return reader.many(queries, texts, documents, column, among, by_name=rules.by_name)

    def documents_found(
        self,
        version: int,
        questions: Sequence[tuple[np.ndarray | Sequence[float], str]],
        k: int,
        *,
        column: str = VECTOR,
        of: Sequence[str] = (),
        rules: SearchRules = FIRST_RULES,
        lasting: LastingSearch | None = None,
    ) -> Found:
        """The documents that `search_many` finds, in its order, in a fraction of the time where questions are many. Of
        an index that compares some vectors alone, those that it would find if it compared all; where a sample shows
        that readers would get others, it is asked. `lasting`: where answers of such an index last through edits."""
        reader = self._at(version)
        answers: list[list[str] | None] = [None for _ in questions]

        def asked_of_it(numbers: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
            hits = self.search_many(version, [questions[n] for n in numbers], k, column=column, of=of, rules=rules)
            for number, served in zip(numbers, hits, strict=True):
                yield number, [hit.document_id for hit in served]

        if k >= 1 and reader.rows:
            asked = [
                (self._query_vector(vector, column), text[:_QUERY_CHARACTERS] if text.strip() else "")
                for vector, text in questions
            ]
            depth = Depth(documents=k, of_each=max(_FUSED_DOCUMENTS, k), rules=rules)
            large = reader.rows >= index_reader.EXACT_BELOW_ROWS
            with self._lance("searching"):
                answers = (
                    computed(reader.table, reader.rows, asked, depth, column, of, lasting)
                    if large
                    else ranked(reader.table, reader.rows, asked, depth, column, of)
                )
            is_sampled = large and (lasting is None or lasting.wants_sample(reader.rows))
            if is_sampled and (sample := sampled([number for number, found in enumerate(answers) if found])):
                shared = [shared_share(answers[number] or (), served) for number, served in asked_of_it(sample)]
                if sum(shared) < AS_SERVED * len(sample):
                    answers = [None for _ in questions]
            if lasting is not None and any(answers):
                lasting.keep(sampled=is_sampled)
            elif lasting is not None:
                lasting.forget()
        left = [number for number, found in enumerate(answers) if found is None]
        for number, served in asked_of_it(left):
            answers[number] = served
        if reader.rows >= index_reader.EXACT_BELOW_ROWS:
            self._let_go(version, reader)
        return Found(documents=[found or [] for found in answers], asked=len(left))

    def _query_vector(self, vector: np.ndarray | Sequence[float], column: str) -> np.ndarray:
        import numpy as np

        query, wanted = np.asarray(vector, dtype=np.float32), self._vectors[column]
        if query.shape != (wanted,) or not np.isfinite(query).all():
            raise ValueError(f"a query vector has {plural(wanted, 'finite number')}, not shape {query.shape}")
        return query

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        several = ("of",) if len(self._vectors) > 1 else ()
        words = [(name, pa.string()) for name in ("chunk_id", "document_id", "partition", "title", "text", *several)]
        vectors = [(name, pa.list_(pa.float32(), length)) for name, length in self._vectors.items()]
        return pa.schema([*words, *vectors])

    def _files(self, *, fresh: bool) -> TableFiles:
        return self.place.files(self._name, self.table.branch, fresh=fresh)

    def _writable(self, base_version: int | None) -> Any:
        """The table with the content of the base version as its newest, whatever a dead writer left on top."""
        if base_version is None:
            return self.table.begun(self._schema())
        table = self.table.newest()
        if table is None or not self.table.is_complete(base_version):
            raise IndexVersionMissing(self._name, base_version)
        if base_version != table.version:
            table.checkout(base_version)
            table.restore()
        return table

    def _at(self, version: int) -> IndexReader:
        with self._guard, self._lance(f"reading version {version}"):
            if version not in self._readers:
                self._readers[version] = self._opened(version)
                if len(self._readers) > _READERS:
                    self._readers.popitem(last=False)
            self._readers.move_to_end(version)
            return self._readers[version]

    def _opened(self, version: int) -> IndexReader:
        """The reader that this process has, where the version is the very same one, complete still: it knows its
        indexes, which take longer to open than a question takes."""
        manifest = (
            self._files(fresh=False).facts(index_seal.manifest_name(version)) if self.place.options is None else None
        )
        key = (os.getpid(), self.place.uri, self._name, self.table.branch, version, manifest)
        if manifest is not None and (kept := _KEPT.get(key)) is not None and self._is_complete(version):
            return kept
        if (table := self.table.at(version)) is None:
            raise IndexVersionMissing(self._name, version)
        found = IndexReader(table=table, rows=table.count_rows())
        if manifest is not None:
            _KEPT.put(key, found)
        return found

    def _let_go(self, version: int, reader: IndexReader) -> None:
        """With what LanceDB keeps of its indexes: as much memory as all questions take."""
        with self._guard:
            self._readers.pop(version, None)
        _KEPT.drop(reader)
        give_back()

    def _is_complete(self, version: int) -> bool:
        """As this object saw it, or as it is."""
        return version in self._seen or self.table.is_complete(version)

    def _forget_readers(self) -> None:
        with self._guard:
            self._readers.clear()
            self._seen.clear()

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return self.place.writing(self._name)

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
            self.place.require_reached()
            raise IndexUnavailable(self._name, doing, in_one_sentence(error)) from error
