"""What this process has in flight, by endpoint and lane: counted in memory, as of the last turn that was committed."""

from collections import Counter

from ai_assets.inference.fairness import CallLane
from ai_assets.inference.ledger_messages import Hop

_Held = Counter[tuple[str, CallLane]]


class OwnPlaces:
    def __init__(self) -> None:
        self._held: _Held = Counter()
        self._changes: _Held = Counter()
        """Of the turn that is under way, or was the last."""
        self._turn = 0

    def begin(self, turn: int) -> None:
        """A turn with a number of its own: the one before was committed. The same again: it was rolled back."""
        if turn != self._turn:
            for key, change in self._changes.items():
                self._held[key] += change
            self._held = +self._held
        self._turn = turn
        self._changes.clear()

    def undo(self) -> None:
        """The last turn came to nothing."""
        self._changes.clear()

    def clear(self) -> None:
        """Another process has reaped its calls."""
        self._held.clear()
        self._changes.clear()

    def opened(self, hop: Hop) -> None:
        self._changes[hop.name, hop.lane] += 1

    def ended(self, hop: Hop) -> None:
        self._changes[hop.name, hop.lane] -= 1

    def of(self, endpoint: str) -> Counter[CallLane]:
        found: Counter[CallLane] = Counter()
        for held in (self._held, self._changes):
            for (name, lane), count in held.items():
                if name == endpoint:
                    found[lane] += count
        return +found
