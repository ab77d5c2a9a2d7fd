"""Vectors of texts while a dataset is made: on disk, by the digest of their text; in memory is where each lies."""

from typing import TYPE_CHECKING

from ai_assets.storage.arrow_columns import floats, numbers, truths
from ai_assets.storage.index_writing import VECTOR
from ai_assets.storage.spool import Spool, digests_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

UNKNOWN, ASKED_FOR = -1, -2


class TextVectors:
    """A vector for each of the distinct texts that a dataset has."""

    def __init__(self, spool: Spool, digests: "np.ndarray", dimensions: int) -> None:
        import numpy as np

        self._spool, self._dimensions = spool, dimensions
        self._texts = np.unique(digests)
        self._places = np.full(len(self._texts), UNKNOWN, dtype=np.int64)
        self._usd = np.zeros(len(self._texts))
        self.known = np.zeros(len(self._texts), dtype=bool)
        """Those that had a vector before anything was embedded."""
        self.refused: dict[int, str] = {}
        """Texts that the model does not embed, and why."""

    def __len__(self) -> int:
        return len(self._texts)

    def take_over(self, digests: "np.ndarray", vectors: "np.ndarray", usd: "np.ndarray | None") -> None:
        """Keep those that are needed of a batch of the dataset before."""
        import numpy as np

        missing = np.isnan(vectors[:, 0])
        for row, number in enumerate(self.numbers(digests).tolist()):
            if number >= 0 and not missing[row] and not self.known[number]:
                self.put(number, vectors[row], 0.0 if usd is None else usd[row])
                self.known[number] = True

    def numbers(self, digests: "np.ndarray") -> "np.ndarray":
        """Which of the texts each is; -1 for none of them."""
        import numpy as np

        if not len(self._texts):
            return np.full(len(digests), UNKNOWN)
        places = np.minimum(np.searchsorted(self._texts, digests), len(self._texts) - 1)
        return np.where(self._texts[places] == digests, places, UNKNOWN)

    def ask_for(self, number: int) -> bool:
        """Whether the text has no vector, and was not asked for before."""
        if self._places[number] != UNKNOWN:
            return False
        self._places[number] = ASKED_FOR
        return True

    def there(self) -> "np.ndarray":
        """Which of the texts have a vector."""
        import numpy as np

        return np.flatnonzero(self._places >= 0)

    def digests(self, numbers: "np.ndarray") -> list[bytes]:
        """Of these texts; without zero bytes at the end, as numpy has them."""
        found: list[bytes] = self._texts[numbers].tolist()
        return found

    def lacks(self, numbers: "np.ndarray") -> "np.ndarray":
        """Of each of these, whether it has no vector."""
        lacking: np.ndarray = self._places[numbers] < 0
        return lacking

    def put(self, number: int, vector: "np.ndarray", usd: float = 0.0) -> None:
        import numpy as np

        self._places[number] = self._spool.append(np.ascontiguousarray(vector, dtype=np.float32).tobytes())
        self._usd[number] = usd

    def refuse(self, number: int, reason: str) -> None:
        self.refused[number] = reason

    def column(self, numbers: "np.ndarray", left_out: "np.ndarray") -> "pa.FixedSizeListArray":
        """The vectors of these texts; null where one is left out."""
        import pyarrow as pa

        nothing = bytes(4 * self._dimensions)
        places = zip(self._places[numbers].tolist(), left_out.tolist(), strict=True)
        joined = b"".join(nothing if out else self._spool[place] for place, out in places)
        flat = floats(joined, len(joined) // 4)
        mask = pa.array(left_out) if left_out.any() else None
        return pa.FixedSizeListArray.from_arrays(flat, self._dimensions, mask=mask)

    def usd(self, numbers: "np.ndarray") -> "pa.Array":
        import pyarrow as pa

        return pa.array(self._usd[numbers], type=pa.float64())

    @property
    def paid_usd(self) -> list[float]:
        found: list[float] = self._usd.tolist()
        return found


def digests_in(batch: "pa.RecordBatch", name: str = "text_digest") -> "np.ndarray":
    return digests_of(bytes.fromhex("".join(batch[name].to_pylist())))


def vectors_in(batch: "pa.RecordBatch | pa.Table", name: str = VECTOR) -> "np.ndarray":
    """The vector column as a matrix, one row per row; not a number where there is no vector."""
    import numpy as np
    import pyarrow as pa

    column = batch[name]
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not column.null_count:
        return numbers(column.flatten(), np.float32).reshape(len(column), column.type.list_size)
    matrix = np.full((len(column), column.type.list_size), np.nan, dtype=np.float32)
    there = truths(column.is_valid())
    matrix[there] = numbers(column.flatten(), np.float32).reshape(-1, column.type.list_size)
    return matrix
