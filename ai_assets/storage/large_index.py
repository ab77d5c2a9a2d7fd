"""All passages of a version of the index in memory, and by word which of them have it how often."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from ai_assets.storage.batch_search import condition, within
from ai_assets.storage.text_scores import SATURATION, Vocabulary, length_norms, rarity

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

DIGEST_BYTES = 16
_BLOCK = 16_384
"""Passages whose words are counted at once."""
PART = 32_768
"""Passages that are read at once, where much is asked of each part."""
FEW = 16_384
"""Where little is."""
_COUNT_BITS = 16
_MOST_COUNTED = 2**_COUNT_BITS - 1
"""Of one word in one passage."""


@dataclass(frozen=True)
class PassagePart:
    """Some passages of a large index."""

    rows: np.ndarray
    """Their numbers in the index; all else is in this order."""
    texts: pa.Table
    vectors: np.ndarray
    without_vector: np.ndarray

    def of(self, chosen: np.ndarray) -> PassagePart:
        import pyarrow as pa

        texts = self.texts.filter(pa.array(chosen))
        return PassagePart(self.rows[chosen], texts, self.vectors[chosen], self.without_vector[chosen])

    @staticmethod
    def together(parts: Sequence[PassagePart]) -> PassagePart:
        """In the order of their numbers."""
        import numpy as np
        import pyarrow as pa

        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)
        return PassagePart(
            rows[order],
            pa.concat_tables([part.texts for part in parts]).take(pa.array(order)),
            np.concatenate([part.vectors for part in parts])[order],
            np.concatenate([part.without_vector for part in parts])[order],
        )

    def column(self, name: str) -> list[str]:
        return [text or "" for text in self.texts[name].to_pylist()]

    def digests(self) -> np.ndarray:
        """Of each passage with its vector: two of one digest are the same in every question."""
        import numpy as np

        found = []
        columns = [self.column(name) for name in self.texts.column_names]
        for place, said in enumerate(zip(*columns, strict=True)):
            digest = hashlib.blake2b("\0".join(said).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES)
            if not self.without_vector[place]:
                digest.update(self.vectors[place])
            found.append(digest.digest())
        return np.frombuffer(b"".join(found), np.uint64).reshape(-1, 2)


class LargeIndex:
    """Passages are numbered as they lie in the table, documents in the order of their names. What is not asked for is
    not read."""

    def __init__(self, table: Any, rows: int, column: str, of: Sequence[str]) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        self._table, self._column = table, column
        self._several = "of" in table.schema.names
        wanted = ["document_id", "chunk_id", "partition", *(["of"] if self._several else [])]
        read = table.search().select(wanted).with_row_id(True).limit(max(rows, 1)).to_arrow()
        order = pc.sort_indices(read, [("document_id", "ascending"), ("chunk_id", "ascending")]).to_numpy()
        self.rank = np.empty(rows, np.int32)
        """Of each passage, in the order of documents and their passages."""
        self.rank[order] = np.arange(rows, dtype=np.int32)
        names = pc.dictionary_encode(read["document_id"]).combine_chunks().indices.to_numpy()[order]
        begins = np.concatenate([[True], names[1:] != names[:-1]])
        self.document_of = np.empty(rows, np.int32)
        self.document_of[order] = np.cumsum(begins, dtype=np.int32) - 1
        self.names: list[str] = read["document_id"].take(pa.array(order[begins])).to_pylist()
        """Of the documents."""
        partitions = pc.dictionary_encode(read["partition"]).combine_chunks()
        self.partitions: list[str] = partitions.dictionary.to_pylist()
        self.partition_of = partitions.indices.to_numpy()
        self.left_out = np.zeros(rows, bool)
        if of:
            self.left_out = ~pc.is_in(read["of"], pa.array(list(of))).to_numpy()
        row_ids = read["_rowid"].to_numpy()
        self._by_id = np.argsort(row_ids)
        self._row_ids = row_ids[self._by_id]

    def __len__(self) -> int:
        return len(self.left_out)

    def parts(
        self, partitions: Sequence[str] | None = None, *, at_once: int = PART, with_texts: bool = True
    ) -> Iterator[PassagePart]:
        """Its passages with their vectors, some at a time, and not kept; of all partitions unless some are named."""
        import numpy as np

        texts = ["document_id", "chunk_id", "title", "text", *(["of"] if self._several else [])] if with_texts else []
        names = set(self.partitions if partitions is None else partitions)
        codes = [place for place, name in enumerate(self.partitions) if name in names]
        number = int(np.isin(self.partition_of, codes).sum())
        among = None if len(codes) == len(self.partitions) else condition("partition", sorted(names))
        for start in range(0, number, at_once):
            most = min(at_once, number - start)
            # Apart: what LanceDB brings together is in memory as long as any of it.
            said, near = (self._part(columns, among, start, most) for columns in (texts, [self._column]))
            if not np.array_equal(said["_rowid"].to_numpy(), near["_rowid"].to_numpy()):
                raise ValueError("texts and vectors were read in another order")
            column = near[self._column].combine_chunks()
            there = column.is_valid().to_numpy(zero_copy_only=False)
            vectors = np.zeros((len(column), column.type.list_size), np.float32)
            vectors[there] = column.flatten().to_numpy().reshape(-1, column.type.list_size)
            yield PassagePart(self._rows_of(said), said.select(texts), vectors, ~there)

    def _part(self, columns: Sequence[str], among: str | None, start: int, most: int) -> pa.Table:
        search = within(self._table.search().select(list(columns)).with_row_id(True), among)
        return search.limit(most).offset(start).to_arrow()

    def _rows_of(self, read: pa.Table) -> np.ndarray:
        import numpy as np

        rows: np.ndarray = self._by_id[np.searchsorted(self._row_ids, read["_rowid"].to_numpy())]
        return rows

    @functools.cached_property
    def _texts(self) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        columns = ["title", "text"]
        found = [self._part(columns, None, start, PART) for start in range(0, len(self), PART)]
        places = np.empty(len(self), np.int64)
        places[np.concatenate([self._rows_of(part) for part in found])] = np.arange(len(self))
        texts = pa.concat_tables([part.select(columns) for part in found])
        return texts if (places == np.arange(len(self))).all() else texts.take(pa.array(places))

    def column(self, name: str) -> Iterator[Sequence[str]]:
        """Its texts, some at a time."""
        for start in range(0, len(self), _BLOCK):
            if name == "document_id":
                yield [self.names[number] for number in self.document_of[start : start + _BLOCK].tolist()]
            else:
                yield [text or "" for text in self._texts[name].slice(start, _BLOCK).to_pylist()]

    def text(self, row: int, name: str = "text") -> str:
        return self._texts[name][row].as_py() or ""

    def name(self, row: int) -> str:
        """Of its document."""
        return self.names[int(self.document_of[row])]


@dataclass(frozen=True, kw_only=True)
class Postings:
    """One column of all passages."""

    starts: np.ndarray
    """Where each word's passages begin in `rows`; one more at the end."""
    rows: np.ndarray
    """Of each word, in order."""
    counts: np.ndarray
    """How often it is there."""
    lengths: np.ndarray
    """Words of each passage."""

    @classmethod
    def counted(
        cls, texts: Iterable[Sequence[str]], vocabulary: Vocabulary, rows: Iterable[int], passages: int
    ) -> Self:
        """`rows`: which passages the texts are of, in order."""
        import numpy as np

        found: list[np.ndarray] = []
        start = 0
        places, lengths = np.fromiter(rows, np.int64), np.zeros(passages, np.int32)
        for block in texts:
            numbers = [vocabulary.of(text) for text in block]
            sizes = np.fromiter(map(len, numbers), np.int64, len(numbers))
            of_block = places[start : start + len(block)]
            lengths[of_block] = sizes
            flat = np.fromiter(itertools.chain.from_iterable(numbers), np.int64, int(sizes.sum()))
            keys = flat * passages + np.repeat(of_block, sizes)
            there, times = np.unique(keys[flat >= 0], return_counts=True)
            found.append(there << _COUNT_BITS | np.minimum(times, _MOST_COUNTED))
            start += len(block)
        packed = _joined(found)
        packed.sort(kind="stable")  # of what is in order in parts, and in its place
        return cls._of_packed(packed, lengths, len(vocabulary))

    @classmethod
    def _of_packed(cls, packed: np.ndarray, lengths: np.ndarray, words: int) -> Self:
        """`packed`: word by word the passages that have it, and how often, as one number each, in order. It is used
        up: there are millions."""
        import numpy as np

        counts = (packed & _MOST_COUNTED).astype(np.uint16)
        packed >>= _COUNT_BITS
        starts = np.searchsorted(packed, np.arange(words + 1) * len(lengths))
        packed %= max(len(lengths), 1)
        return cls(starts=starts, rows=packed.astype(np.int32), counts=counts, lengths=lengths)

    @property
    def having(self) -> np.ndarray:
        """How many passages have each word."""
        import numpy as np

        return np.diff(self.starts)

    @functools.cached_property
    def weights(self) -> Weights:
        return Weights(self)

    def of(self, word: int) -> slice:
        return slice(self.starts[word], self.starts[word + 1])

    def of_rows(self, rows: np.ndarray) -> Postings:
        """Those of some passages alone."""
        import numpy as np

        chosen = np.isin(self.rows, rows)
        starts = np.concatenate([[0], np.cumsum(chosen)])[self.starts]
        return replace(self, starts=starts, rows=self.rows[chosen], counts=self.counts[chosen])

    def words_of_rows(self) -> np.ndarray:
        import numpy as np

        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int64), self.having)

    def moved(self, new_row: np.ndarray, added: Postings) -> Postings:
        """The same of passages of which some are gone (-1), the others elsewhere, and some new."""
        import numpy as np

        passages, words = len(added.lengths), len(self.starts) - 1
        rows, number = new_row[self.rows], len(self.rows)
        packed = np.empty(number + len(added.rows), np.int64)
        self._pack(packed[:number], rows, passages)
        packed[:number][rows < 0] = np.iinfo(np.int64).max  # after all others
        added._pack(packed[number:], added.rows, passages)
        gone = int((rows < 0).sum())
        del rows
        packed.sort(kind="stable")
        packed = packed[: len(packed) - gone]
        lengths = added.lengths.copy()
        lengths[new_row[new_row >= 0]] = self.lengths[new_row >= 0]
        return Postings._of_packed(packed, lengths, words)

    def _pack(self, into: np.ndarray, rows: np.ndarray, passages: int) -> None:
        into[:] = self.words_of_rows()
        into *= passages
        into += rows
        into <<= _COUNT_BITS
        into |= self.counts


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Each part is given up once it is copied."""
    import numpy as np

    joined, start = np.empty(sum(map(len, parts)), np.int64), 0
    while parts:
        part = parts.pop(0)
        joined[start : start + len(part)] = part
        start += len(part)
    return joined


class Weights:
    """What the words of a column count, by how many of its passages have them."""

    def __init__(self, postings: Postings) -> None:
        self.norms = length_norms(postings.lengths)
        self.of_words = rarity(int((postings.lengths > 0).sum()), postings.having) * (SATURATION + 1)
        self.mean = float(postings.lengths.sum()) / max(int((postings.lengths > 0).sum()), 1)

    def scores(self, words: np.ndarray, rows: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """BM25 of one word in one passage each."""
        found: np.ndarray = self.of_words[words] * counts / (self.norms[rows] + counts)
        return found
