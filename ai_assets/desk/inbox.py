"""The inbox: requests over all collections a person may see. Small columns only: 10,000 of them are still one page."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import SignoffSettings, SlaSettings
from ai_assets.desk.access import collection_seen, known_view, told
from ai_assets.desk.context import Desk
from ai_assets.desk.held_query import held_counts
from ai_assets.desk.inbox_order import aged_risk, closed_requests, count, open_requests
from ai_assets.desk.unanswered_query import need_a_person, stopped_candidates
from ai_assets.desk.views import Inbox, InboxRow, SlaState
from ai_assets.embedding.spec import WITHOUT
from ai_assets.evaluation.verdict import verdicts_of
from ai_assets.signoff import claims, decisions, outbox, requests
from ai_assets.signoff.claims import RequestClaim
from ai_assets.signoff.decisions import DecisionState
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.signoff.people import EVERYWHERE, Person
from ai_assets.signoff.requests import SignoffRequest, Status
from ai_assets.signoff.sla import age_hours, deadline
from ai_assets.storage.state import now, storable

STATUSES: tuple[Status, ...] = get_args(Status)
STATES = ("open", "closed", "all", *(status for status in STATUSES if status != "open"))
SORTS = ("risk", "age", "size", "collection")
CLAIMS = ("any", "mine", "unclaimed")
NEAR_EXPIRY_HOURS = 24.0
_T = requests.TABLE.c
_MADE: Mapping[str, Any] = {"authors": [], "launch": None}
"""What the rules look at of how a candidate was made."""
_LIGHT = tuple(column for column in _T if column.name not in ("summary", "facts"))


def inbox(
    desk: Desk,
    person: Person,
    *,
    collection: str | None = None,
    status: str = "open",
    text: str = "",
    sort: str = "risk",
    claim: str = "any",
    page: int = 1,
    per_page: int = 50,
) -> Inbox:
    """Open requests come before all others."""
    known_view("state", status, STATES)
    known_view("order", sort, SORTS)
    known_view("claim", claim, CLAIMS)
    seen = desk.seen_by(person)
    chosen = seen if collection is None else {collection: collection_seen(desk, person, collection)}
    wanted = [*_containing(text), *_claimed(person, claim)]
    matching = [_T.collection.in_([*chosen]), *wanted]
    over = [item for item in STATUSES if item != "open" and status in ("all", "closed", item)]
    at = now()
    with desk.stores.state.read() as connection:
        counts = _counts(connection, list(seen))
        waiting = count(connection, [*matching, _T.status == "open"]) if status in ("open", "all") else 0
        closed = [*matching, _T.status.in_(over)]
        total = waiting + (count(connection, closed) if over else 0)
        pages = max(1, math.ceil(total / per_page))
        page = min(max(1, page), pages)
        start = (page - 1) * per_page
        shown = open_requests(connection, wanted, chosen, sort, at, start, min(per_page, waiting - start))
        if len(shown) < per_page and start + len(shown) < total:
            shown += closed_requests(connection, closed, sort, max(0, start - waiting), per_page - len(shown))
        rows = _rows(connection, person, shown, seen, at)
        failing = _failing(connection, desk, person, seen)
        people = need_a_person(connection, seen)
        stopped = stopped_candidates(connection, seen)
        held = held_counts(connection, seen)
        claimed = claims.of_open_requests(connection, list(seen), person.name)
    return Inbox(
        rows=rows,
        total=total,
        page=page,
        pages=pages,
        counts=counts,
        collections=sorted(seen),
        failing_channels=failing,
        held=held,
        need_a_person=people,
        stopped=stopped,
        claims={"mine": claimed.mine, "unclaimed": counts["open"] - claimed.all},
    )


def _failing(connection: sa.Connection, desk: Desk, person: Person, seen: Mapping[str, Collection]) -> dict[str, str]:
    """Channels whose last message could not be sent; where tenants are declared, those that one's collections name."""
    found = outbox.failing(connection)
    if not desk.tenants() or person.may("viewer", EVERYWHERE):
        return found
    rules = [collection.settings.signoff for collection in seen.values()]
    named = {channel for each in rules for channel in (*each.notify, *each.escalate_notify)}
    return {channel: error for channel, error in found.items() if channel in named}


def row_of(
    person: Person,
    request: SignoffRequest,
    facts: Mapping[str, Any],
    standing: DecisionState,
    collection: Collection,
    at: str,
    claim: RequestClaim | None = None,
) -> InboxRow:
    """`request.changes` needs to hold the authors and the launch only."""
    rules = collection.settings.signoff
    waits = request.status == "open"
    age = age_hours(request.opened_at, at if waits else request.closed_at or at, rules.sla)
    expires = None
    if waits and rules.sla.expire_after_days is not None:
        expires = deadline(request.opened_at, rules.sla.expire_after_days * 24, rules.sla)
    problem = _why_not(person, request, standing, rules)
    return InboxRow(
        request_id=request.request_id,
        collection=request.collection,
        partition=request.partition,
        number=request.number,
        digest=request.digest,
        status=request.status,
        opened_at=request.opened_at,
        age_hours=round(age, 2),
        sla=_sla_state(request, age, rules.sla),
        expires_at=expires,
        risk=aged_risk(request.risk, age, rules.sla) if waits else request.risk,
        **{name: int(facts.get(name) or 0) for name in _COUNTED},
        gates=facts.get("gates"),
        passed_gates=facts.get("passed_gates"),
        cost_usd=facts.get("cost_usd"),
        given=len(standing.signers),
        needed=standing.needed(rules),
        claimed_by=claim.person if claim else None,
        claimed_at=claim.made_at if claim else None,
        unknown_author=standing.unknown_author,
        may_decide=problem is None,
        why_not=None if problem is None else str(DecisionRefused(person.name, problem)),
    )


_COUNTED = (
    "documents", "added", "changed", "removed", "relabelled", "quarantined", "unreadable", "without_vectors",
    "held",
    "low_confidence", "failed_gates",
)  # fmt: skip


def facts_of(request: SignoffRequest, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the request or, where it was made by an earlier version, what its summary says."""
    found: dict[str, Any] = json.loads(request.facts)
    verdicts = verdicts_of(changes)
    judged = {"gates": len(verdicts), "passed_gates": sum(verdict.verdict == "passed" for verdict in verdicts)}
    if found:
        return found if "gates" in found or "gates" not in changes else {**found, **judged}
    return {
        **{name: changes.get(name) for name in ("documents", "quarantined", WITHOUT, "cost_usd")},
        **{name: len(changes.get(name, ())) for name in ("added", "changed", "removed", "relabelled")},
        "failed_gates": sum(verdict.holds for verdict in verdicts),
        **(judged if "gates" in changes else {}),
    }


def _sla_state(request: SignoffRequest, age: float, sla: SlaSettings) -> SlaState:
    """What was done about it, for only that changes who may decide; and whether it will soon be too late."""
    if request.status != "open":
        return "none"
    if sla.expire_after_days is not None:
        whole = sla.expire_after_days * 24
        if age >= whole - min(NEAR_EXPIRY_HOURS, whole / 4):
            return "near expiry"
    if request.sla_step >= 2:
        return "escalated"
    if request.sla_step == 1:
        return "reminded"
    some = (sla.remind_after_hours, sla.escalate_after_hours, sla.expire_after_days)
    return "fresh" if any(step is not None for step in some) else "none"


def _why_not(person: Person, request: SignoffRequest, standing: DecisionState, rules: SignoffSettings) -> str | None:
    if not decisions.still_waits(request, standing, rules):
        return f"it is {request.status} already" if request.closed_by is None else (
            f"it was {request.status} by {request.closed_by}"
            if request.status != "published"
            else f"it was approved by {request.closed_by} and is published"
        )  # fmt: skip
    if (problem := decisions.why_not_by(person, request, rules, "approve")) is not None:
        return problem
    return "it has their approval already" if person.name in standing.signers else None


def _containing(text: str) -> list[sa.ColumnElement[bool]]:
    wanted = (storable(text) or "").strip()
    if not wanted:
        return []
    return [
        sa.or_(
            _T.collection.icontains(wanted, autoescape=True),
            _T.partition.icontains(wanted, autoescape=True),
            _T.request_id.startswith(wanted, autoescape=True),
            _T.digest.startswith(wanted, autoescape=True),
        )
    ]


def _claimed(person: Person, claim: str) -> list[sa.ColumnElement[bool]]:
    taken = sa.select(claims.TABLE.c.request_id)
    match claim:
        case "mine":
            return [_T.request_id.in_(taken.where(claims.TABLE.c.person == person.name))]
        case "unclaimed":
            return [_T.request_id.not_in(taken)]
        case _:
            return []


def _counts(connection: sa.Connection, names: Sequence[str]) -> dict[str, int]:
    query = sa.select(_T.status, sa.func.count()).where(_T.collection.in_(names)).group_by(_T.status)
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {status: found.get(status, 0) for status in STATUSES}


def _rows(
    connection: sa.Connection, person: Person, ids: Sequence[str], seen: Mapping[str, Collection], at: str
) -> list[InboxRow]:
    query = sa.select(*_LIGHT, _T.facts).where(_T.request_id.in_(ids))
    found = {row["request_id"]: SignoffRequest(**row, summary="{}") for row in connection.execute(query).mappings()}
    bare = [request_id for request_id in ids if found[request_id].facts == "{}"]
    query = sa.select(_T.request_id, _T.summary).where(_T.request_id.in_(bare))
    summaries = {row.request_id: json.loads(row.summary) for row in connection.execute(query)} if bare else {}
    given = decisions.standings(connection, list(found.values())) if found else {}
    claimed = claims.of(connection, ids)
    rows = []
    for request_id in ids:
        request = found[request_id]
        facts = facts_of(request, summaries.get(request_id, {}))
        summary = summaries.get(request_id, {})
        made = {name: facts.get(name, summary.get(name, unsaid)) for name, unsaid in _MADE.items()}
        standing, claim = given[request_id], claimed.get(request_id)
        rows.append(row_of(person, told(request, **made), facts, standing, seen[request.collection], at, claim))
    return rows
