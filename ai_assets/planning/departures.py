"""When calls of a plan would leave, and for which endpoint of their route then: windows and prices by the hour."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ai_assets.base.windows import Opening
from ai_assets.collection.loading import Collection
from ai_assets.inference.call_state import CallState
from ai_assets.inference.opening import may_leave
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import InferenceSettings
from ai_assets.run.window_waits import hours_of_asset


@dataclass
class Departures:
    """Of each asset: now, or when its window opens."""

    collection: Collection
    inference: InferenceSettings
    now: datetime.datetime
    _openings: dict[str, Opening | None] = field(default_factory=dict)

    def opening(self, asset: str) -> Opening | None:
        """None where it is open now, or never."""
        if asset not in self._openings:
            found = hours_of_asset(self.collection, self.inference, asset).next_opening(self.now)
            self._openings[asset] = found if found is not None and found.at > self.now else None
        return self._openings[asset]

    def moment(self, asset: str) -> datetime.datetime:
        opening = self.opening(asset)
        return self.now if opening is None else opening.at

    def opens(self, asset: str) -> str | None:
        """The same for programs, in UTC."""
        opening = self.opening(asset)
        return None if opening is None else opening.at.astimezone(datetime.UTC).isoformat(timespec="seconds")

    def said(self, asset: str) -> str | None:
        opening = self.opening(asset)
        return None if opening is None else f"waits for its window until {opening.said(self.now)}"

    def names(self, asset: str, route: str) -> Sequence[str]:
        """The endpoints of its route, those that are open then first."""
        moment, endpoints = self.moment(asset), self.inference.endpoints
        return sorted(names_of(self.inference, route), key=lambda name: not endpoints[name].hours.open_at(moment))

    def ticket(self, asset: str, ticket: CallState) -> CallState:
        """As it would leave then: to the first endpoint that is open."""
        if not any(hop.endpoint.hours for hop in ticket.claim.hops):
            return ticket
        moment = self.moment(asset)
        hops = sorted(ticket.claim.hops, key=lambda hop: not may_leave(ticket.request, hop, moment))
        ticket.claim = replace(ticket.claim, hops=tuple(hops))
        return ticket
