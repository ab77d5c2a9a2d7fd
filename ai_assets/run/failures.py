"""What became of the partitions of a run that did not come to their end: which failed and why, and which wait."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.inference.errors import WorkStops
from ai_assets.inference.postponed import AssetPostponed, PartitionPostponed
from ai_assets.run.hand_over import HandedOver


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

    before: HandedOver = field(default_factory=HandedOver)
    """By earlier steps of the run."""

    def waits(self, partition: str) -> dict[str, str]:
        """By asset, why it is postponed."""
        own = {wait.asset: str(wait) for wait in self.waiting.get(partition, ())}
        return {**self.before.waits.get(partition, {}), **own}

    def waiting_said(self, partition: str) -> str | None:
        return "; ".join(f"{asset}: {why}" for asset, why in self.waits(partition).items()) or None

    @property
    def left(self) -> HandedOver:
        """By this step alone."""
        return HandedOver(
            errors={key: error for key, error in self.errors.items() if key not in self.before.errors},
            passing=frozenset(self.passing - self.before.passing),
            waits={key: {wait.asset: str(wait) for wait in waits} for key, waits in self.waiting.items()},
        )

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
