"""The seam: what a target is, and the release as it is given to one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    import pyarrow as pa

Receipt: TypeAlias = Mapping[str, Json]
"""What a target says of a release that it has: enough to find it again. Kept in the state store as JSON."""
Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TargetRelease:
    """A release as a target gets it: the rows that people signed, read from the frozen files and checked on the way."""

    collection: str
    number: int
    digest: str
    """The same digest is the same rows."""
    partitions: Mapping[str, str]
    """By partition, the digest of its rows: what has not changed since another release need not be written again."""
    dimensions: int | None
    """Of the vectors; None where there are none."""
    further: Mapping[str, int] = field(default_factory=dict)
    """Where a collection has several embeddings: columns of `chunks` with further vectors, and how long they are."""
    reading: Callable[[str, str], Iterator[Row]]
    reading_batches: "Callable[[str, str], pa.RecordBatchReader]"

    def documents(self, partitions: Sequence[str] | None = None) -> Iterator[Row]:
        """With what each stage made of them, in order of partition and document."""
        for partition in self._chosen(partitions):
            yield from self.reading("documents", partition)

    def chunks(self, partitions: Sequence[str] | None = None) -> Iterator[Row]:
        """Passages with their vectors."""
        for partition in self._chosen(partitions):
            yield from self.reading("chunks", partition)

    def batches(self, table: str, partition: str) -> "pa.RecordBatchReader":
        """The rows of `documents` or `chunks` of one partition with their types, a row group in memory at a time."""
        return self.reading_batches(table, partition)

    def _chosen(self, partitions: Sequence[str] | None) -> Sequence[str]:
        return sorted(self.partitions if partitions is None else partitions)


class Target(ABC):
    """Where releases go. It is made from its `options` for each use, and closed after it.

    A run can be killed between any two of these calls, and calls them again: each must be safe to repeat, and `write`
    must not change what `point` made readers see.
    """

    @abstractmethod
    def write(self, release: TargetRelease) -> Receipt:
        """Put all rows of the release where they can be found, beside those of other releases."""

    @abstractmethod
    def point(self, receipt: Receipt) -> None:
        """Make readers see the release with this receipt, and no other."""

    @abstractmethod
    def read(self) -> Receipt | None:
        """The receipt of what readers see now; None where they see nothing of this collection."""

    def rebuild(self, release: TargetRelease, attempt: str) -> Receipt:
        """Put all rows of the release as if none of them were there yet, for what is there may be damaged.

        `attempt` is the same after a kill and another for another rebuild: a place named by it can be written while
        readers see the old one, until `point`. Without a method of its own a target writes once more.
        """
        return self.write(release)

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Give connections back."""
