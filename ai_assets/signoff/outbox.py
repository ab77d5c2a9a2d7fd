"""The outbox: messages about requests and budgets, made in the transaction of what they tell of. `delivery` sends them.

A message is a row per subject and channel, and its id says what it is about, so none is made twice. What waits for one
channel, collection and kind goes out as one letter, and the next of that kind not before `QUIET_S`.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.base.money import dollars
from ai_assets.signoff.channels import Message
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import digest

Kind = Literal["opened", "reminded", "escalated", "expired", "budget", "hold reminded", "hold escalated", "canary"]
EARLIER: Mapping[Kind, tuple[Kind, ...]] = {
    "opened": (),
    "reminded": ("opened",),
    "escalated": ("opened", "reminded"),
    "expired": ("opened", "reminded", "escalated"),
    "budget": (),
    "hold reminded": (),
    "hold escalated": (),
    "canary": (),
}
"""What a message makes pointless where it is still unsent."""
HELD_KINDS: tuple[Kind, ...] = ("hold reminded", "hold escalated")
QUIET_S = 600.0
FIRST_RETRY_S, LAST_RETRY_S = 30.0, 3600.0
MOST_ATTEMPTS = 30
"""A day, with those delays; counted, because the clock may jump."""
LISTED = 25
"""Subjects named in one message; the others are counted."""
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class News:
    """What there is to tell of a request."""

    kind: Kind
    request: SignoffRequest
    waited: str
    next: str
    """What happens next and when, in one sentence."""

    @property
    def about(self) -> str:
        return self.request.request_id


@dataclass(frozen=True, kw_only=True)
class BudgetNews:
    """What there is to tell of a budget."""

    about: str
    """The account, its limit, and the share of it that was reached."""
    title: str
    body: str
    kind: Literal["budget"] = "budget"


@dataclass(frozen=True, kw_only=True)
class HeldNews:
    """What there is to tell of held documents."""

    about: str
    """The documents, and since when each waits."""
    collection: str
    title: str
    body: str
    kind: Literal["hold reminded", "hold escalated"]


@dataclass(frozen=True, kw_only=True)
class CanaryNews:
    """What there is to tell of a model that was changed under its name."""

    about: str
    """The change."""
    title: str
    body: str
    kind: Literal["canary"] = "canary"


def make(
    connection: sa.Connection, news: Sequence[News | BudgetNews | HeldNews | CanaryNews], to: Sequence[str], moment: str
) -> int:
    """Put messages into the outbox, in the caller's transaction; how many were not there yet."""
    made = 0
    for item in news:
        told = _told(item)
        for channel in dict.fromkeys(to):
            row = {
                "notice_id": notice_id(item.about, item.kind, channel),
                "kind": item.kind,
                "channel": channel,
                "moment": moment,
                **told,
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
            pointless = [notice_id(item.about, kind, channel) for kind in EARLIER[item.kind]]
            _update(connection, pointless, "state = 'moot'")
    return made


def _told(news: News | BudgetNews | HeldNews | CanaryNews) -> dict[str, str]:
    if isinstance(news, HeldNews):
        return {"collection": news.collection, "request_id": "", "title": _one_line(news.title), "body": news.body}
    if isinstance(news, BudgetNews | CanaryNews):
        return {"collection": "", "request_id": "", "title": _one_line(news.title), "body": news.body}
    request = news.request
    names = {"collection": request.collection, "request_id": request.request_id}
    return {**names, "title": _title(news), "body": _body(news)}


def notice_id(about: str, kind: Kind, channel: str) -> str:
    return digest([about, kind, channel])[:16]


@dataclass(frozen=True, kw_only=True)
class NoticeGroup:
    """What goes out together."""

    channel: str
    collection: str
    kind: Kind


def any_due(connection: sa.Connection, moment: str) -> bool:
    query = sa.text(f"SELECT 1 FROM notices WHERE state = 'waiting' AND {_DUE} LIMIT 1")  # noqa: S608
    return connection.execute(query, _due_at(moment)).first() is not None


def due(connection: sa.Connection, moment: str, busy: Collection[str]) -> list[NoticeGroup]:
    """The longest waiting first; without channels that are busy, and what its channel heard of just now."""
    query = sa.text(
        "SELECT channel, collection, kind FROM notices "  # noqa: S608
        f"WHERE state = 'waiting' AND {_DUE} GROUP BY channel, collection, kind ORDER BY min(made_at), channel"
    )
    recent = sa.text(
        "SELECT 1 FROM notices WHERE channel = :channel AND collection = :collection AND kind = :kind "
        "AND state = 'sent' AND sent_at > :since AND sent_at <= :moment LIMIT 1"
    )
    span = {"since": _later(moment, -QUIET_S), "moment": moment}
    groups = [
        NoticeGroup(**row) for row in connection.execute(query, _due_at(moment)).mappings() if row.channel not in busy
    ]
    return [group for group in groups if connection.execute(recent, {**vars(group), **span}).first() is None]


def drop_decided(connection: sa.Connection) -> None:
    """Nobody needs to hear that something waits which does not any more."""
    connection.execute(
        sa.text(
            "UPDATE notices SET state = 'moot' WHERE state = 'waiting' AND kind <> 'expired' AND request_id <> '' "
            "AND NOT EXISTS "
            "(SELECT 1 FROM review_requests r WHERE r.request_id = notices.request_id AND r.status = 'open')"
        )
    )


def message(connection: sa.Connection, group: NoticeGroup, desk_url: str | None) -> Message | None:
    """All that waits in the group, those too that were tried and would wait longer. None where nothing does."""
    query = sa.text(
        "SELECT notice_id, request_id, title, body FROM notices WHERE channel = :channel "
        "AND collection = :collection AND kind = :kind AND state = 'waiting' ORDER BY made_at, title"
    )
    rows = connection.execute(query, vars(group)).all()
    if not rows:
        return None
    ids = [row.notice_id for row in rows]
    if len(rows) == 1:
        (row,) = rows
        body = [row.body, _link(desk_url, _page(group, row.request_id), group), f"Message {row.notice_id}."]
        return Message(title=row.title, body="\n".join(line for line in body if line), rows=ids)
    shown = [
        f"- {row.title}{f': {desk_url}/{_page(group, row.request_id)}' if desk_url and row.request_id else ''}"
        for row in rows[:LISTED]
    ]
    if len(rows) > LISTED:
        shown.append(f"and {len(rows) - LISTED:,} more.")
    number = digest(sorted(ids))[:16]
    body = [*shown, _link(desk_url, _page(group), group), f"Message {number}."]
    of_all = "Models" if group.kind == "canary" else "Budgets"
    title = _one_line(f"{group.collection or of_all}: {len(rows):,} {_PLURAL[group.kind]}")
    return Message(title=title, body="\n".join(line for line in body if line), rows=ids)


def note_sent(connection: sa.Connection, channel: str, ids: Sequence[str], moment: str) -> None:
    """They arrived, so the channel works again: what else waits for it is tried at once."""
    _update(connection, ids, "state = 'sent', sent_at = :moment, error = NULL", ("waiting", "failed"), moment=moment)
    connection.execute(
        sa.text(
            "UPDATE notices SET next_try_at = :moment, error = NULL "
            "WHERE state = 'waiting' AND channel = :channel AND error IS NOT NULL"
        ),
        {"moment": moment, "channel": channel},
    )
    connection.execute(
        sa.text("UPDATE notices SET state = 'lost' WHERE state = 'failed' AND channel = :channel"),
        {"channel": channel},
    )


def note_failed(connection: sa.Connection, ids: Sequence[str], error: str, moment: str) -> None:
    """They wait longer each time, and after a day for good. What was only taken along loses no attempt."""
    _update(connection, ids, "error = :error", error=error)
    by_attempts: dict[int, list[str]] = {}
    for some in _chunks(ids):
        query = sa.text(
            f"SELECT notice_id, attempts FROM notices WHERE notice_id IN :ids AND state = 'waiting' AND {_DUE}"  # noqa: S608
        ).bindparams(sa.bindparam("ids", expanding=True))
        for row in connection.execute(query, {"ids": some, **_due_at(moment)}):
            by_attempts.setdefault(row.attempts + 1, []).append(row.notice_id)
    for attempts, these in by_attempts.items():
        _update(
            connection,
            these,
            "attempts = :attempts, next_try_at = :next, state = :state",
            attempts=attempts,
            next=_later(moment, min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (attempts - 1))),
            state="failed" if attempts >= MOST_ATTEMPTS else "waiting",
        )


def failing(connection: sa.Connection) -> dict[str, str]:
    """By channel whose last message could not be sent, why."""
    query = sa.text(
        "SELECT channel, error FROM notices WHERE state IN ('waiting', 'failed') AND error IS NOT NULL "
        "GROUP BY channel, error ORDER BY max(next_try_at)"
    )
    return {row.channel: row.error for row in connection.execute(query)}


_DUE = "(next_try_at <= :moment OR next_try_at > :horizon)"
"""Nothing is put off further than the horizon, unless the clock was moved back since."""


def _due_at(moment: str) -> dict[str, str]:
    return {"moment": moment, "horizon": _later(moment, 2 * LAST_RETRY_S)}


def _later(moment: str, seconds: float) -> str:
    return (datetime.fromisoformat(moment) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _update(
    connection: sa.Connection,
    ids: Sequence[str],
    change: str,
    states: Sequence[str] = ("waiting",),
    **values: str | int,
) -> None:
    query = sa.text(f"UPDATE notices SET {change} WHERE notice_id IN :ids AND state IN :states")  # noqa: S608
    query = query.bindparams(sa.bindparam("ids", expanding=True), sa.bindparam("states", type_=sa.Text, expanding=True))
    for some in _chunks(ids):
        connection.execute(query, {"ids": some, "states": list(states), **values})


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """A statement takes only so many parameters."""
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


_PLURAL: Mapping[Kind, str] = {
    "opened": "requests wait for sign-off",
    "reminded": "requests still wait for sign-off (reminder)",
    "escalated": "requests still wait for sign-off (escalated)",
    "expired": "requests have expired undecided",
    "budget": "shares of limits were reached",
    "hold reminded": "stages hold documents that still wait (reminder)",
    "hold escalated": "stages hold documents that still wait (escalated)",
    "canary": "models answer otherwise under the same name",
}


def _page(group: NoticeGroup, request_id: str = "") -> str:
    """Of the desk: where people see more."""
    if group.kind == "budget":
        return "costs"
    if group.kind in HELD_KINDS:
        return "held"
    if group.kind == "canary":
        return "runs"
    return f"requests/{request_id}" if request_id else ""


def _link(desk_url: str | None, page: str, group: NoticeGroup) -> str:
    if desk_url:
        return f"{desk_url}/{page}"
    if group.kind in HELD_KINDS:
        return f"Look: ai-assets held list {group.collection}"
    return {"budget": "Look: ai-assets budget show", "canary": "Look: ai-assets canary status"}.get(
        group.kind, "Look: ai-assets signoff list"
    )


def _title(news: News) -> str:
    name = _one_line(f"{news.request.collection} {news.request.partition}")
    titles: Mapping[Kind, str] = {
        "opened": f"{name} waits for sign-off",
        "reminded": f"Reminder: {name} has waited {news.waited} for sign-off",
        "escalated": f"Escalated: {name} has waited {news.waited} for sign-off",
        "expired": f"Expired: {name} was not decided in {news.waited}",
    }
    return titles[news.kind]


def _body(news: News) -> str:
    """Numbers only: what the documents say stays on the desk."""
    facts: dict[str, Any] = json.loads(news.request.facts)
    told = [f"{facts[name]:,} {name.replace('_', ' ')}" for name in _COUNTED if facts.get(name)]
    if facts.get("cost_usd") is not None:
        told.append(dollars(facts["cost_usd"]))
    opened = f"Open since {news.request.opened_at[:16].replace('T', ' ')} UTC ({news.waited})."
    return "\n".join([*([f"{', '.join(told)}."] if told else []), opened, news.next])


_COUNTED = (
    "documents", "added", "changed", "removed", "relabelled", "quarantined", "without_vectors", "low_confidence",
    "failed_gates",
)  # fmt: skip


def _one_line(text: str) -> str:
    """A partition may be a folder of any name, and a title is a header of a mail."""
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))[:200]
