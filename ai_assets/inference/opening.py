"""Which endpoints a call may leave for at a moment, by their windows and those of who asks, and what it costs then.

The moment is by the ledger's clock. Work that somebody waits for (`interactive`) may leave at any time.
"""

import datetime
from collections.abc import Sequence

from ai_assets.base.windows import Opening, common_opening, earliest
from ai_assets.inference.call_state import CallState, repriced, unanswered
from ai_assets.inference.group_commit import Turns
from ai_assets.inference.ledger_messages import Hop, Recall, ReusedAnswer
from ai_assets.inference.records import Request, Unanswered


def may_leave(request: Request, hop: Hop, moment: datetime.datetime) -> bool:
    priority = hop.delivery.priority
    return request.hours.allowed(moment, priority) and hop.endpoint.hours.allowed(moment, priority)


def at_this_hour(tickets: Sequence[CallState], at: int, moment: datetime.datetime) -> bool:
    """Whether they may leave for this endpoint; then they cost what calls cost there now."""
    if not may_leave(tickets[0].request, tickets[0].claim.hops[at], moment):
        return False
    for ticket in tickets:
        repriced(ticket, at, moment)
    return True


async def recalled_or_outside(turns: Turns, tickets: Sequence[CallState]) -> list[ReusedAnswer | Unanswered]:
    """Of calls for which no endpoint is open. What was in flight for the same call may have brought its answer."""
    recalled = await turns.take(Recall(claims=[ticket.claim for ticket in tickets]))
    moment = turns.clock.now()
    return [reused or outside_window(ticket, moment) for ticket, reused in zip(tickets, recalled, strict=True)]


def outside_window(ticket: CallState, moment: datetime.datetime) -> Unanswered:
    """Nothing was sent, and nothing is lost: whoever asks again once it is open goes on."""
    hops, hours = ticket.claim.hops, ticket.request.hours
    opens = earliest(common_opening([hours, hop.endpoint.hours], moment) for hop in hops)
    return unanswered(ticket, hops[0], "outside_window", outside_said(opens, moment), opens=opens)


def outside_said(opens: Opening | None, moment: datetime.datetime) -> str:
    if opens is None:
        return "the windows of who asks and of what is asked never meet; nothing was sent"
    return f"its window is closed until {opens.said(moment)}; nothing was sent"
