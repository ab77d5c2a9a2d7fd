"""Deadlines of open requests: how old one is, and what its age leads to. Nothing is ever approved by waiting.

A step is a record in the audit chain, messages to the channels, and for the last one the end of the request, all in
one transaction. Where several are due at once, as after a week without a daemon, only the last is taken: the chain then
does not say that anybody was reminded, because nobody was.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import SignoffSettings, SlaSettings
from ai_assets.signoff import audit, outbox, requests
from ai_assets.signoff.outbox import Kind, News
from ai_assets.signoff.people import SYSTEM
from ai_assets.signoff.requests import TABLE, SignoffRequest
from ai_assets.storage.state import StateStore

BATCH = 100
"""Requests in one transaction: whoever wants to decide meanwhile waits some ten milliseconds."""
BUDGET_S = 10.0
"""What is still due after that is done at the next tick."""
LONGEST_HOURS = 100 * 365 * 24.0
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_WEEK, _WORKING_WEEK = timedelta(days=7), timedelta(days=5)
_LIGHT: list[sa.ColumnElement[Any]] = [
    sa.literal("{}").label("summary") if column.name == "summary" else column for column in TABLE.c
]
"""A request without its summary, which may be large and which no message tells of."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    kind: Literal["reminded", "escalated", "expired"]
    number: int
    """A request whose `sla_step` is lower has not taken it yet."""
    hours: float


def age_hours(opened_at: str, moment: str, sla: SlaSettings) -> float:
    """How long a request has waited by then, of the days that count; 0 where the clock was moved back."""
    passed = _counted(datetime.fromisoformat(moment), sla) - _counted(datetime.fromisoformat(opened_at), sla)
    return max(0.0, passed / timedelta(hours=1))


def deadline(opened_at: str, hours: float, sla: SlaSettings) -> str:
    """The first moment at which a request is that old."""
    total = _counted(datetime.fromisoformat(opened_at), sla) + _span(hours)
    if sla.business_days:
        weeks, rest = divmod(total, _WORKING_WEEK)
        # At the end of a working week it is reached on Friday's midnight, not on Monday's.
        total = (weeks - 1) * _WEEK + _WORKING_WEEK if not rest else weeks * _WEEK + rest
    found = _MONDAY + total
    return _text(found + timedelta(microseconds=-found.microsecond % 1000))


def opened_by(moment: str, hours: float, sla: SlaSettings) -> str:
    """The last moment at which a request that is that old now was opened."""
    total = _counted(datetime.fromisoformat(moment), sla) - _span(hours)
    if sla.business_days:
        weeks, rest = divmod(total, _WORKING_WEEK)
        total = weeks * _WEEK + rest
    return _text(_MONDAY + total)


def _counted(at: datetime, sla: SlaSettings) -> timedelta:
    """Time since a Monday long ago, without weekends where they do not count."""
    total = at - _MONDAY
    if not sla.business_days:
        return total
    weeks, rest = divmod(total, _WEEK)
    return weeks * _WORKING_WEEK + min(rest, _WORKING_WEEK)


def _span(hours: float) -> timedelta:
    return timedelta(hours=min(hours, LONGEST_HOURS))


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def advance(state: StateStore, collections: Sequence[Collection], moment: str) -> int:
    """Take the steps that are due, each once whatever restarts, runs twice, or moves the clock; how many there were."""
    taken = 0
    stop_at = time.monotonic() + BUDGET_S
    for collection in collections:
        rules = collection.settings.signoff
        for step in _steps(rules.sla):
            cutoff = opened_by(moment, step.hours, rules.sla)
            while _any_due(state, collection.name, step, cutoff):
                if time.monotonic() > stop_at:
                    return taken
                taken += _take(state, collection.name, rules, step, cutoff, moment)
    return taken


def _steps(sla: SlaSettings) -> Iterator[_Step]:
    """The last first, so that a request takes only the last that is due."""
    if sla.expire_after_days is not None:
        yield _Step(kind="expired", number=3, hours=sla.expire_after_days * 24)
    if sla.escalate_after_hours is not None:
        yield _Step(kind="escalated", number=2, hours=sla.escalate_after_hours)
    if sla.remind_after_hours is not None:
        yield _Step(kind="reminded", number=1, hours=sla.remind_after_hours)


def _due(collection: str, step: _Step, cutoff: str, *columns: sa.ColumnElement[Any]) -> sa.Select[*tuple[Any, ...]]:
    """Read off the index `review_requests_waiting` alone, whatever else is open or was decided."""
    return (
        sa.select(*columns)
        .where(TABLE.c.collection == collection, TABLE.c.status == "open")
        .where(TABLE.c.sla_step.in_(range(step.number)), TABLE.c.opened_at <= cutoff)
    )


def _any_due(state: StateStore, collection: str, step: _Step, cutoff: str) -> bool:
    with state.read() as connection:
        return connection.execute(_due(collection, step, cutoff, sa.literal(1)).limit(1)).first() is not None


def _take(state: StateStore, collection: str, rules: SignoffSettings, step: _Step, cutoff: str, moment: str) -> int:
    """The step for some requests, looked up again where no other writer comes between."""
    channels = (rules.escalate_notify or rules.notify) if step.kind == "escalated" else rules.notify
    with state.write() as connection:
        query = _due(collection, step, cutoff, *_LIGHT).order_by(TABLE.c.opened_at).limit(BATCH)
        found = [SignoffRequest(**row) for row in connection.execute(query).mappings()]
        news = []
        for request in found:
            news.append(_news(request, step.kind, rules, moment))
            if step.kind == "expired":
                waited = in_words((rules.sla.expire_after_days or 0) * 24, rules.sla)
                requests.close(connection, request, "expired", SYSTEM, f"nobody decided within {waited}")
                continue
            age = round(age_hours(request.opened_at, moment, rules.sla), 1)
            told: dict[str, Any] = {**requests.subject(request), "age_hours": age, "channels": list(channels)}
            if step.kind == "escalated":
                told["to"] = rules.sla.escalate_to
            audit.append(connection, SYSTEM, step.kind, told)
            connection.execute(
                sa.text("UPDATE review_requests SET sla_step = :step WHERE request_id = :id"),
                {"step": step.number, "id": request.request_id},
            )
        outbox.make(connection, news, channels, moment)
    return len(found)


def announce(state: StateStore, collections: Sequence[Collection], moment: str, after: int) -> int:
    """Tell of requests that were opened since number `after` of the audit chain, and wait; how far it has looked.

    Told twice, it makes the same messages, and those are there already.
    """
    by_name = {collection.name: collection.settings.signoff for collection in collections}
    with state.read() as connection:
        head: int = connection.execute(sa.text("SELECT max(seq) FROM audit")).scalar_one() or 0
        query = sa.text(
            "SELECT request_id, collection FROM audit WHERE seq > :after AND action = 'requested' ORDER BY seq"
        )
        opened = connection.execute(query, {"after": after if after <= head else 0}).all()
    wanted = [row.request_id for row in opened if row.collection in by_name and by_name[row.collection].notify]
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        with state.write() as connection:
            waiting = sa.and_(TABLE.c.request_id.in_(batch), TABLE.c.status == "open", TABLE.c.sla_step == 0)
            for row in connection.execute(sa.select(*_LIGHT).where(waiting).order_by(TABLE.c.opened_at)).mappings():
                request = SignoffRequest(**row)
                rules = by_name[request.collection]
                outbox.make(connection, [_news(request, "opened", rules, moment)], rules.notify, moment)
    return int(head)


def _news(request: SignoffRequest, kind: Kind, rules: SignoffSettings, moment: str) -> News:
    age = age_hours(request.opened_at, moment, rules.sla)
    return News(kind=kind, request=request, waited=in_words(age, rules.sla), next=_ahead(request, kind, rules))


def _ahead(request: SignoffRequest, kind: Kind, rules: SignoffSettings) -> str:
    """What happens next and when, in one sentence."""
    if kind == "expired":
        return "It is closed and nothing went live; whoever still wants it can ask again on its page."
    to = f" to group {rules.sla.escalate_to}" if rules.sla.escalate_to else ""
    words = {"reminded": "a reminder follows", "escalated": f"it is escalated{to}", "expired": "it expires"}
    order = ("opened", "reminded", "escalated", "expired")
    ahead = [
        f"{words[step.kind]} on {deadline(request.opened_at, step.hours, rules.sla)[:16].replace('T', ' ')} UTC"
        for step in reversed(list(_steps(rules.sla)))
        if order.index(step.kind) > order.index(kind)
    ]
    return (
        f"Undecided, {', '.join(ahead)}. Nothing is approved by waiting." if ahead else "It waits until it is decided."
    )


def in_words(hours: float, sla: SlaSettings) -> str:
    """A span as people say it."""
    number, unit = (round(hours), "hour") if hours < 48 else (round(hours / 24), "day")
    kind = "business " if sla.business_days and unit == "day" else ""
    return plural(number, f"{kind}{unit}")
