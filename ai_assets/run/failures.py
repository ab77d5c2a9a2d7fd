"""What became of the partitions of a run that did not come to their end: which failed and why, and which wait."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.inference.errors import WorkStops
from ai_assets.inference.postponed import AssetPostponed, PartitionPostponed


@dataclass
class Failures:
    """A user's error ends its partition only; anything else is a bug or a dying machine and ends the run."""

    errors: dict[str, str] = field(default_factory=dict)
    walls: dict[type[WorkStops], str] = field(default_factory=dict)
    """What the first partition said of what stops all of them: the others say the same, with the same amounts."""
    passing: set[str] = field(default_factory=set)
    """Partitions whose error may go away by itself."""
    lost: LeaseLost | None = None
    waiting: dict[str, Sequence[AssetPostponed]] = field(default_factory=dict)
    """Partitions of which calls travel in batches, or must not leave yet."""

    def waiting_said(self, partition: str) -> str | None:
        waits = self.waiting.get(partition)
        return "; ".join(f"{wait.asset}: {wait}" for wait in waits) if waits else None

    @contextmanager
    def collecting(self, partition: str) -> Iterator[None]:
        try:
            yield
        except PartitionPostponed as found:
            self.waiting[partition] = found.waits
        except AssetPostponed as found:
            self.waiting[partition] = (found,)
        except LeaseLost as error:
            self.lost = self.lost or error
            self.errors[partition] = str(self.lost)
        except WorkStops as error:
            self.errors[partition] = self.walls.setdefault(type(error), str(error))
        except UserError as error:
            self.errors[partition] = str(error)
            if error.passes:
                self.passing.add(partition)

    def refuse_if_lost(self) -> None:
        """Call it when no partition is under way: those that have sent calls still wait for the answers."""
        if self.lost is not None:
            raise self.lost
