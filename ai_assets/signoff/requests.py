"""Requests for sign-off: opened by a candidate, closed by people or by the next candidate. Nothing runs meanwhile."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.errors import DecisionRefused, RequestUnknown
from ai_assets.settings import SignoffSettings
from ai_assets.signoff import audit
from resources.digest import canonical_json, digest
from resources.state import StateStore, now

TABLE = sa.table(
    "review_requests",
    *(
        sa.column(name)
        for name in (
            "request_id", "collection", "partition", "number", "digest", "status", "opened_at", "closed_at",
            "closed_by", "reason", "summary",
        )
    ),
)  # fmt: skip
Status = Literal["open", "approved", "rejected", "void", "published"]


@dataclass(frozen=True, kw_only=True)
class Request:
    request_id: str
    collection: str
    partition: str
    number: int
    """Counts the requests of the partition; the highest is the current one."""
    digest: str
    """The candidate this is about: documents, derived rows, versions, evaluation and cost, in one hash."""
    status: Status
    opened_at: str
    closed_at: str | None
    closed_by: str | None
    reason: str | None
    summary: str
    """What would change against the live release, as JSON; read it through `changes`."""

    @property
    def changes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.summary)
        return found


def find(
    connection: sa.Connection,
    collection: str,
    *,
    statuses: Sequence[Status] | None = None,
    partitions: Sequence[str] | None = None,
) -> list[Request]:
    query = sa.select(TABLE).where(TABLE.c.collection == collection).order_by(TABLE.c.partition, TABLE.c.number)
    if statuses is not None:
        query = query.where(TABLE.c.status.in_(statuses))
    if partitions is not None:
        query = query.where(TABLE.c.partition.in_(partitions))
    return [_request(row) for row in connection.execute(query).mappings()]


def latest(connection: sa.Connection, collection: str) -> dict[str, Request]:
    """The newest request of each partition."""
    newest = (
        sa.select(TABLE.c.partition, sa.func.max(TABLE.c.number).label("number"))
        .where(TABLE.c.collection == collection)
        .group_by(TABLE.c.partition)
        .subquery()
    )
    query = (
        sa.select(TABLE)
        .join(newest, sa.and_(TABLE.c.partition == newest.c.partition, TABLE.c.number == newest.c.number))
        .where(TABLE.c.collection == collection)
    )
    return {row["partition"]: _request(row) for row in connection.execute(query).mappings()}


def latest_of(connection: sa.Connection, collection: str, partition: str) -> Request | None:
    """The newest request of one partition."""
    found = find(connection, collection, partitions=[partition])
    return found[-1] if found else None


def count_open(connection: sa.Connection, collection: str) -> int:
    query = sa.select(sa.func.count()).select_from(TABLE)
    found = connection.execute(query.where(TABLE.c.collection == collection, TABLE.c.status == "open"))
    return int(found.scalar_one())


def _request(row: sa.RowMapping) -> Request:
    return Request(**row)


def open_request(
    connection: sa.Connection,
    collection: str,
    partition: str,
    candidate: str,
    *,
    summary: Mapping[str, Any],
    nothing_new: bool,
) -> Request | None:
    """Ask for sign-off of a candidate, once. An open request or unpublished approval of an earlier one is voided.

    Nothing is asked when publishing would change nothing: the same rows are live, or there are none on either side.
    """
    found = find(connection, collection, partitions=[partition])
    last = found[-1] if found else None
    current = last if last and last.digest == candidate and last.status in ("open", "approved", "rejected") else None
    replaced = ("open", "approved", "rejected") if nothing_new else ("open", "approved")
    for request in found:
        if request is not current and request.status in replaced:
            _close(connection, request, "void", "ai-assets", f"replaced by candidate {candidate[:12]}")
    if current is not None:
        return current
    if nothing_new:
        return None
    request = Request(
        request_id=digest([collection, partition, candidate, len(found)])[:16],
        collection=collection,
        partition=partition,
        number=len(found) + 1,
        digest=candidate,
        status="open",
        opened_at=now(),
        closed_at=None,
        closed_by=None,
        reason=None,
        summary=canonical_json(summary),
    )
    connection.execute(sa.insert(TABLE).values(vars(request)))
    said = {**_subject(request), "number": request.number, "summary": digest(request.summary)}
    audit.append(connection, "ai-assets", "requested", said)
    return request


def decide(
    state: StateStore,
    collection: str,
    partitions: Sequence[str] | None,
    verdict: Literal["approve", "reject"],
    *,
    by: str,
    reason: str | None,
    rules: SignoffSettings,
) -> list[Request]:
    """Record one person's decision on the named partitions, or on all that wait. All of it, or nothing.

    What was approved waits again when the rules have come to ask for more approvals than it has.
    """
    if not by.strip():
        raise DecisionRefused(by, "a decision needs a name")
    if rules.approvers and by not in rules.approvers:
        raise DecisionRefused(by, f"{collection} is signed by {', '.join(rules.approvers)}")
    if verdict == "reject" and not (reason or "").strip():
        raise DecisionRefused(by, "a rejection needs a reason (--reason)")
    with state.write() as connection:
        given = approvals(connection, collection)
        waiting = [
            request
            for request in find(connection, collection, statuses=("open", "approved"), partitions=partitions)
            if request.status == "open" or len(given.get((request.request_id, request.digest), [])) < rules.approvals
        ]
        for partition in partitions if partitions is not None else ():
            if partition not in {request.partition for request in waiting}:
                last = latest(connection, collection).get(partition)
                raise RequestUnknown(collection, partition, last.status if last else None)
        if not waiting:
            raise RequestUnknown(collection, "(all)", None)
        decided = []
        for request in waiting:
            if verdict == "reject":
                _close(connection, request, "rejected", by, reason)
            else:
                _approve(connection, request, given.get((request.request_id, request.digest), []), by, reason, rules)
            decided += find(connection, collection, partitions=[request.partition])[-1:]
    return decided


def _approve(
    connection: sa.Connection,
    request: Request,
    given: Sequence[str],
    by: str,
    reason: str | None,
    rules: SignoffSettings,
) -> None:
    if by in given:
        raise DecisionRefused(by, f"{request.collection} {request.partition} has their approval already")
    complete = len(given) + 1 >= rules.approvals
    audit.append(connection, by, "approved", {**_subject(request), "reason": reason, "complete": complete})
    if complete:
        _update(connection, request, "approved", by, reason)


def approvals(connection: sa.Connection, collection: str) -> dict[tuple[str, str], list[str]]:
    """Who approved, by request and digest, as the audit chain has it: the only authority publication asks."""
    given: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in audit.records(connection, collection):
        if record.action == "approved" and record.computed_hash() == record.hash:
            given[str(record.subject["request_id"]), str(record.subject["digest"])].append(record.actor)
    return given


def _close(connection: sa.Connection, request: Request, status: Status, by: str, reason: str | None) -> None:
    action: audit.Action = "voided" if status == "void" else "rejected"
    audit.append(connection, by, action, {**_subject(request), "reason": reason})
    _update(connection, request, status, by, reason)


def mark_published(connection: sa.Connection, request: Request) -> None:
    connection.execute(
        sa.text("UPDATE review_requests SET status = 'published' WHERE request_id = :id"), {"id": request.request_id}
    )


def _update(connection: sa.Connection, request: Request, status: Status, by: str, reason: str | None) -> None:
    connection.execute(
        sa.text(
            "UPDATE review_requests SET status = :status, closed_at = :at, closed_by = :by, reason = :reason "
            "WHERE request_id = :id"
        ),
        {"status": status, "at": now(), "by": by, "reason": reason, "id": request.request_id},
    )


def _subject(request: Request) -> dict[str, Any]:
    return {
        "collection": request.collection,
        "partition": request.partition,
        "request_id": request.request_id,
        "digest": request.digest,
    }
