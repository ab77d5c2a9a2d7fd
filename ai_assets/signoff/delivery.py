"""Sending what is in the outbox, one process at a time, each channel in a thread of its own.

A slow channel holds up nobody: its thread goes on, and the outcome is noted the next time. A message arrives once, but
for two cases: the process was killed after sending and before noting it, or ended while a slow channel still had the
message. Then it is sent again, with the same number at its end.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ai_assets.base.errors import LeaseBusy
from ai_assets.base.home import variable
from ai_assets.signoff import outbox
from ai_assets.signoff.channels import Message, MessageDelivery
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import StateStore

LEASE = "notices"
MOST_MESSAGES = 10
"""To one channel in one go."""
STUCK_S = 600.0
"""A thread that had no answer for so long is forgotten."""
_UNDER_WAY: dict[tuple[str, str], MessageDelivery] = {}
"""By store and channel, in this process; changed only by who holds the lease."""


@dataclass(frozen=True, kw_only=True)
class DeliveryCounts:
    messages: int = 0
    """Sent."""
    failed: int = 0
    """Tried without success, or still without an answer; they are tried again."""


def deliver(
    state: StateStore,
    channels: Mapping[str, str],
    moment: str,
    *,
    desk_url: str | None = None,
    budget_s: float = 10.0,
) -> DeliveryCounts:
    """Send what is due, and return within the budget. `channels`: by name, the environment variable of its URL."""
    with state.read() as connection:
        if not outbox.any_due(connection, moment) and not _mine(state):
            return DeliveryCounts()
    try:
        with hold(state, LEASE, wait_s=0) as lease:
            until = time.monotonic() + budget_s
            first = _note_outcomes(state, moment, time.monotonic())
            refused = _begin(state, channels, moment, desk_url, until, lease)
            then = _note_outcomes(state, moment, until)
    except LeaseBusy:
        return DeliveryCounts()
    return DeliveryCounts(messages=first.messages + then.messages, failed=first.failed + then.failed + refused)


def _mine(state: StateStore) -> dict[str, MessageDelivery]:
    return {channel: sending for (url, channel), sending in _UNDER_WAY.items() if url == state.url}


def _begin(
    state: StateStore, channels: Mapping[str, str], moment: str, desk_url: str | None, until: float, lease: Lease
) -> int:
    """Give each channel its messages to send; how many could not even be tried."""
    outgoing: dict[str, list[Message]] = {}
    refused = 0
    with state.write() as connection:
        outbox.drop_decided(connection)
        for group in outbox.due(connection, moment, _mine(state)):
            message = outbox.message(connection, group, desk_url)
            if message is None or len(outgoing.get(group.channel, ())) >= MOST_MESSAGES:
                continue
            if (problem := _why_unusable(group.channel, channels)) is not None:
                outbox.note_failed(connection, message.rows, problem, moment)
                refused += 1
            else:
                outgoing.setdefault(group.channel, []).append(message)
    lease.check()
    for channel, messages in outgoing.items():
        _UNDER_WAY[state.url, channel] = MessageDelivery(variable(channels[channel]) or "", messages, until)
    return refused


def _why_unusable(channel: str, channels: Mapping[str, str]) -> str | None:
    if channel not in channels:
        return f"desk.yaml declares no channel '{channel}' (it has: {', '.join(sorted(channels)) or 'none'})"
    if variable(channels[channel]) is None:
        return f"the environment variable {channels[channel]}, which should hold its address, is not set"
    return None


def _note_outcomes(state: StateStore, moment: str, until: float) -> DeliveryCounts:
    """Wait for what is under way, and write down how it went."""
    messages = failed = 0
    for channel, sending in _mine(state).items():
        ended = sending.wait(until)
        results = sending.take()
        with state.write() as connection:
            for message, error in sorted(results, key=lambda result: result[1] is not None):
                if error is None:
                    outbox.note_sent(connection, channel, message.rows, moment)
                    messages += 1
                else:
                    outbox.note_failed(connection, message.rows, error, moment)
                    failed += 1
            if not ended and (slow := sending.under_way) is not None:
                waited_s = time.monotonic() - sending.started_at
                outbox.note_failed(connection, slow.rows, f"no answer yet after {waited_s:.0f} s", moment)
                failed += 1
        if ended or time.monotonic() - sending.started_at > STUCK_S:
            del _UNDER_WAY[state.url, channel]
    return DeliveryCounts(messages=messages, failed=failed)
