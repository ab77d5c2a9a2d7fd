"""The outbox: messages about requests, made in the transaction of what they tell of, and sent afterwards.

A message is a row per request and channel, and its id says what it is about, so none is made twice. What waits for one
channel, collection and kind goes out as one message, and the next of that kind not before `QUIET_S`. One process sends
at a time. A process killed between sending and noting it leaves a message that is sent again, with the same number.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.signoff import channels
from ai_assets.signoff.channels import Message, Sending
from ai_assets.signoff.requests import Request
from resources.digest import digest
from resources.errors import LeaseBusy
from resources.leases import hold
from resources.settings import variable
from resources.state import StateStore

Kind = Literal["opened", "reminded", "escalated", "expired"]
EARLIER: Mapping[Kind, tuple[Kind, ...]] = {
    "opened": (),
    "reminded": ("opened",),
    "escalated": ("opened", "reminded"),
    "expired": ("opened", "reminded", "escalated"),
}
"""What a message makes pointless when it is still unsent."""
QUIET_S = 600.0
FIRST_RETRY_S, LAST_RETRY_S = 30.0, 3600.0
MOST_ATTEMPTS = 30
"""A day, with those delays; counted, because the clock may jump."""
MOST_MESSAGES = 10
"""To one channel in one go."""
LISTED = 25
"""Requests named in one message; the others are counted."""
LEASE = "notices"


@dataclass(frozen=True, kw_only=True)
class News:
    """What there is to tell of a request."""

    kind: Kind
    request: Request
    waited: str
    next: str
    """What happens next and when, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    messages: int = 0
    """Sent."""
    failed: int = 0
    """Tried without success; they are tried again."""


@dataclass(frozen=True, kw_only=True)
class Unsent:
    """A row that goes out with a message."""

    notice_id: str
    attempts: int
    due: bool
    """Its own time had come; otherwise it was taken along."""


def make(connection: sa.Connection, news: Sequence[News], to: Sequence[str], moment: str) -> int:
    """Put messages into the outbox, in the caller's transaction; how many were not there yet."""
    made = 0
    for item in news:
        request = item.request
        for channel in dict.fromkeys(to):
            row = {
                "notice_id": notice_id(request.request_id, item.kind, channel),
                "collection": request.collection,
                "request_id": request.request_id,
                "kind": item.kind,
                "channel": channel,
                "title": _title(item),
                "body": _body(item),
                "moment": moment,
            }
            done = connection.execute(
                sa.text(
                    "INSERT INTO notices (notice_id, collection, request_id, kind, channel, title, body, state, "
                    "attempts, next_try_at, made_at) VALUES (:notice_id, :collection, :request_id, :kind, :channel, "
                    ":title, :body, 'waiting', 0, :moment, :moment) ON CONFLICT (notice_id) DO NOTHING"
                ),
                row,
            )
            made += done.rowcount
            pointless = [notice_id(request.request_id, kind, channel) for kind in EARLIER[item.kind]]
            _set(connection, pointless, "state = 'moot'", "state = 'waiting'")
    return made


def notice_id(request_id: str, kind: Kind, channel: str) -> str:
    return digest([request_id, kind, channel])[:16]


def _title(news: News) -> str:
    name = _one_line(f"{news.request.collection} {news.request.partition}")
    return {
        "opened": f"{name} waits for sign-off",
        "reminded": f"Reminder: {name} has waited {news.waited} for sign-off",
        "escalated": f"Escalated: {name} has waited {news.waited} for sign-off",
        "expired": f"Expired: {name} was not decided in {news.waited}",
    }[news.kind]


def _body(news: News) -> str:
    """Numbers only: what the documents say stays on the desk."""
    facts: dict[str, Any] = json.loads(news.request.facts)
    told = [f"{facts[name]:,} {name.replace('_', ' ')}" for name in
            ("documents", "added", "changed", "removed", "relabelled", "quarantined", "low_confidence", "failed_gates")
            if facts.get(name) or (name == "documents" and name in facts)]  # fmt: skip
    if facts.get("cost_usd") is not None:
        told.append(f"${facts['cost_usd']:.2f}")
    opened = f"Open since {news.request.opened_at[:16].replace('T', ' ')} UTC ({news.waited})."
    return "\n".join([*([f"{', '.join(told)}."] if told else []), opened, news.next])


def _one_line(text: str) -> str:
    """A partition may be a folder of any name, and a title is a header of a mail."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))[:200]
