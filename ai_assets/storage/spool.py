"""Rows that wait on disk until their order or their fellows are known; in memory is only where each begins.

The file has no name, so that nothing of it is left however the process ends.
"""

import json
import os
import tempfile
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ai_assets.base.errors import LakeUnwritable
from ai_assets.base.fast_json import read_json

if TYPE_CHECKING:
    import numpy as np

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
BUFFER_BYTES = 1 << 18
DIGEST_BYTES = 32


class Spool:
    """Records by number, in the order in which they came. One thread writes and reads it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starts = array("Q", [0])
        self._waiting = bytearray()
        self._written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `__exit__`
        except OSError as error:
            raise LakeUnwritable(folder, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def append(self, record: bytes) -> int:
        """Its number."""
        self._waiting += record
        self._starts.append(self._starts[-1] + len(record))
        if len(self._waiting) >= BUFFER_BYTES:
            self._write()
        return len(self) - 1

    def __getitem__(self, number: int) -> bytes:
        start, end = self._starts[number], self._starts[number + 1]
        if end > self._written:
            self._write()
        return os.pread(self._file.fileno(), end - start, start)

    def append_row(self, row: Mapping[str, Any]) -> int:
        text = _encode(row)
        return self.append(text.encode("utf-8", "surrogatepass"))

    def row(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self[number].decode("utf-8", "surrogatepass"))
        return found

    def _write(self) -> None:
        try:
            view = memoryview(self._waiting)
            while view:
                taken = self._file.write(view)
                self._written += taken
                view = view[taken:]
        except OSError as error:
            raise LakeUnwritable(self._folder, error) from error
        finally:
            del view
            self._waiting = bytearray()


class DigestIndex:
    """Which number belongs to a SHA-256, in 40 bytes each; of several the last one added counts."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._numbers = array("q")
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, digest: str, number: int) -> None:
        self._digests += bytes.fromhex(digest)
        self._numbers.append(number)
        self._sorted = None

    def get(self, digest: str) -> int | None:
        if not self._numbers:
            return None
        number = int(self.find(digests_of(bytes.fromhex(digest)))[0])
        return None if number < 0 else number

    def find(self, digests: "np.ndarray") -> "np.ndarray":
        """The number of each, -1 where it is not known."""
        import numpy as np

        if self._sorted is None:
            keys = digests_of(self._digests)
            order = np.argsort(keys, kind="stable")
            self._sorted = keys[order], np.array(self._numbers, dtype=np.int64)[order]
        keys, numbers = self._sorted
        if not len(keys):
            return np.full(len(digests), -1, dtype=np.int64)
        places = np.searchsorted(keys, digests, side="right") - 1
        return np.where((places >= 0) & (keys[places] == digests), numbers[places], -1)


def digests_of(joined: bytes | bytearray) -> "np.ndarray":
    """As an array that sorts. Numpy leaves zero bytes at the end of one out, which changes neither order nor equality
    of what is all of one length."""
    import numpy as np

    return np.frombuffer(bytes(joined), dtype=f"S{DIGEST_BYTES}")


def repeated(joined: bytes | bytearray) -> frozenset[str]:
    """Those of the digests that are there more than once."""
    import numpy as np

    keys = np.sort(digests_of(joined))
    return frozenset(key.ljust(DIGEST_BYTES, b"\0").hex() for key in keys[1:][keys[1:] == keys[:-1]].tolist())
