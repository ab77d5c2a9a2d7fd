"""Admission within one turn of the ledger: the limits of an endpoint, and who of those that want its places is next."""

from collections import Counter
from dataclasses import replace

from ai_assets.inference.admission import FULL_S, EndpointState, Wait
from ai_assets.inference.fairness import CallLane
from ai_assets.inference.ledger_messages import Hop
from ai_assets.inference.own_places import OwnPlaces
from ai_assets.inference.place_queue import PlaceQueue


class PlaceTurn:
    """Of one endpoint, for one process."""

    def __init__(
        self, name: str, state: EndpointState, owner: int, own: OwnPlaces, asked: Counter[CallLane], moment_s: float
    ) -> None:
        """`asked`: requests to the provider that this turn wants to open."""
        self.state = state
        self._name = name
        self._owner = owner
        self._own = own
        self._asked = asked
        self._moment = moment_s
        self._queue = PlaceQueue.read(state.queue, moment_s)
        self._entered = False
        self._grants: Counter[CallLane] = Counter()
        self._refused: Counter[CallLane] = Counter()
        self._before: dict[CallLane, str] = {}

    @property
    def is_refused(self) -> bool:
        return bool(self._refused)

    def admit(self, hop: Hop, *, again: bool = False) -> Wait | None:
        """One more call in flight; or how long to wait. `again`: for a request that was refused before in this turn."""
        limits, state = hop.endpoint.limits, self.state
        if self._queue is None and (hop.lane.priority == "interactive" or limits.interactive_places):
            self._queue = PlaceQueue()
        if self._queue is None:
            wait = state.admit(limits, self._moment, tokens=hop.tokens, probe_s=hop.endpoint.timeout_s)
            if wait is not None and wait.reason != "broken":
                self._queue = PlaceQueue()
                self._enter(hop)
                return self._refuse(hop, wait, again=again)
            return wait
        if not self._entered:
            self._enter(hop)
        kept = 0 if hop.lane.priority == "interactive" else self._queue.kept(limits, self._moment)
        wait = state.why_not(limits, self._moment, tokens=hop.tokens, kept_share=kept / limits.concurrency)
        if wait is None and not state.openings and not self._grants[hop.lane]:
            wait = Wait(reason="behind", seconds=FULL_S)
        if wait is not None:
            return wait if wait.reason == "broken" else self._refuse(hop, wait, again=again)
        state.take(limits, self._moment, tokens=hop.tokens, probe_s=hop.endpoint.timeout_s)
        self._grants[hop.lane] -= 1
        self._queue.admit(self._owner, hop.lane, self._moment, hop.tokens)
        return None

    def write(self) -> None:
        """What the row is to say of it."""
        if self._queue is None:
            self.state.queue = ""
            return
        if not self._entered:
            self._queue.enter(self._owner, self._own.of(self._name), {}, self._moment)
        self._queue.leave(self._owner, self._asked if self._entered else {}, self._refused, self._moment)
        self.state.queue = self._queue.text(self._moment)

    def _enter(self, hop: Hop) -> None:
        assert self._queue is not None
        self._entered = True
        limits, state = hop.endpoint.limits, self.state
        if limits.interactive_places:
            self._queue.keep(self._moment)
        self._queue.enter(self._owner, self._own.of(self._name), self._asked, self._moment)
        state.why_not(limits, self._moment, tokens=hop.tokens)  # so that its buckets are those of now
        free = state.room(limits, tokens=hop.tokens)
        self._grants = self._queue.grants(
            self._owner,
            limits,
            free,
            state.in_flight,
            self._moment,
            weights=hop.endpoint.shares,
            tokens_each=hop.tokens,
        )

    def _refuse(self, hop: Hop, wait: Wait, *, again: bool) -> Wait:
        assert self._queue is not None
        self._refused[hop.lane] += not again
        if hop.lane not in self._before:
            self._before[hop.lane] = self._queue.before(
                hop.lane, hop.endpoint.shares, self._moment, by_tenant=bool(hop.earlier_key)
            )
        return replace(wait, behind=self._before[hop.lane])
