"""Requests for sign-off: opened by a candidate, closed by people, by time or by the next candidate. Nothing runs
meanwhile. What people say to them is `decisions`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.evaluation.verdict import GateVerdict, verdicts_of
from ai_assets.signoff import audit
from ai_assets.signoff.launches import Launch
from ai_assets.signoff.people import SYSTEM
from ai_assets.storage import partition_facts
from ai_assets.storage.digest import canonical_json, digest
from ai_assets.storage.state import keys_of, now

Status = Literal["open", "approved", "rejected", "sent back", "void", "expired", "published"]
ANSWERED: tuple[Status, ...] = ("open", "approved", "rejected", "sent back")
"""The same candidate asks no second time; one that expired may."""


@dataclass(frozen=True, kw_only=True)
class SignoffRequest:
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
    facts: str
    """The few numbers an inbox shows, as JSON."""
    risk: float
    """0 to 1: how much there is to look at; without its age, which grows."""
    sla_step: int
    """What its age has led to: 0 nothing yet, 1 reminded, 2 escalated."""
    size: int = 0
    """Documents that it adds, changes and removes, as `facts` says."""

    @property
    def changes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.summary)
        return found

    @property
    def verdicts(self) -> tuple[GateVerdict, ...]:
        """Of the gates, as people were shown them."""
        return verdicts_of(self.changes)


TABLE = sa.table("review_requests", *(sa.column(field.name) for field in fields(SignoffRequest)))


def find(
    connection: sa.Connection,
    collection: str,
    *,
    statuses: Sequence[Status] | None = None,
    partitions: Sequence[str] | None = None,
) -> list[SignoffRequest]:
    query = sa.select(TABLE).where(TABLE.c.collection == collection).order_by(TABLE.c.partition, TABLE.c.number)
    if statuses is not None:
        query = query.where(TABLE.c.status.in_(statuses))
    if partitions is not None:
        query = query.where(TABLE.c.partition.in_(partitions))
    return [_request(row) for row in connection.execute(query).mappings()]


def get(connection: sa.Connection, request_id: str) -> SignoffRequest | None:
    row = connection.execute(sa.select(TABLE).where(TABLE.c.request_id == request_id)).mappings().one_or_none()
    return None if row is None else _request(row)


def newest_of(connection: sa.Connection, ids: Sequence[str]) -> str | None:
    """Of these, the one that was opened last; None where none is known. They may be thousands."""
    among = keys_of(connection.dialect.name, ":ids")
    query = sa.text(
        f"SELECT request_id FROM review_requests WHERE request_id IN (SELECT value FROM {among}) "  # noqa: S608
        "ORDER BY opened_at DESC, request_id DESC LIMIT 1"
    )
    found: str | None = connection.execute(query, {"ids": json.dumps(list(ids))}).scalar_one_or_none()
    return found


def latest(connection: sa.Connection, collection: str) -> dict[str, SignoffRequest]:
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


def latest_of(connection: sa.Connection, collection: str, partition: str) -> SignoffRequest | None:
    """The newest request of one partition."""
    query = sa.select(TABLE).where(TABLE.c.collection == collection, TABLE.c.partition == partition)
    row = connection.execute(query.order_by(TABLE.c.number.desc()).limit(1)).mappings().one_or_none()
    return None if row is None else _request(row)


def count_open(connection: sa.Connection, collection: str) -> int:
    query = sa.select(sa.func.count()).select_from(TABLE)
    found = connection.execute(query.where(TABLE.c.collection == collection, TABLE.c.status == "open"))
    return int(found.scalar_one())


def _request(row: sa.RowMapping) -> SignoffRequest:
    return SignoffRequest(**row)


def open_request(
    connection: sa.Connection,
    collection: str,
    partition: str,
    candidate: str,
    *,
    summary: Mapping[str, Any],
    facts: Mapping[str, Any],
    risk: float,
    nothing_new: bool,
    author_known: bool = False,
    news: str = "",
) -> SignoffRequest | None:
    """Ask for sign-off of a candidate, once. An open request or unpublished approval of an earlier one is voided.

    `author_known`: so is an open request for the same candidate, which was asked when its author was not known. `news`:
    the same for another reason, said here.

    Nothing is asked when publishing would change nothing: the same rows are live, or there are none on either side.
    """
    found = find(connection, collection, partitions=[partition])
    last = found[-1] if found else None
    current = last if last and last.digest == candidate and last.status in ANSWERED else None
    reason = f"replaced by candidate {candidate[:12]}"
    if current is not None and author_known and current.status == "open":
        current, reason = None, "the same candidate is asked about again, now with a known author"
    if current is not None and news and current.status in ("open", "approved"):
        current, reason = None, news
    replaced = ANSWERED if nothing_new else ("open", "approved")
    for request in found:
        if request is not current and request.status in replaced:
            close(connection, request, "voided", SYSTEM, reason)
    if current is not None:
        return current
    if nothing_new:
        return None
    return _open(connection, collection, partition, candidate, len(found), canonical_json(summary),
                 canonical_json(facts), risk)  # fmt: skip


def open_again(connection: sa.Connection, request: SignoffRequest) -> SignoffRequest:
    """The same question in a new request, because the one before was answered or ran out of time."""
    return _open(connection, request.collection, request.partition, request.digest, request.number, request.summary,
                 request.facts, request.risk)  # fmt: skip


def _open(
    connection: sa.Connection, collection: str, partition: str, candidate: str, before: int, summary: str, facts: str,
    risk: float,
) -> SignoffRequest:  # fmt: skip
    request = SignoffRequest(
        request_id=digest([collection, partition, candidate, before])[:16],
        collection=collection,
        partition=partition,
        number=before + 1,
        digest=candidate,
        status="open",
        opened_at=now(),
        closed_at=None,
        closed_by=None,
        reason=None,
        summary=summary,
        facts=facts,
        risk=risk,
        sla_step=0,
        size=size_of(facts),
    )
    connection.execute(sa.insert(TABLE).values(vars(request)))
    partition_facts.derive(connection, collection, [partition])
    told: dict[str, Any] = {"number": request.number, "summary": digest(summary), "launched": launch_of(request).kind}
    audit.append(connection, SYSTEM, "requested", {**subject(request), **told})
    return request


def size_of(facts: str) -> int:
    found = json.loads(facts)
    return sum(int(found.get(name) or 0) for name in ("added", "changed", "removed"))


def launch_of(request: SignoffRequest) -> Launch:
    """Who started the run that made its candidate."""
    return Launch.told(request.changes.get("launch"))


def close(
    connection: sa.Connection,
    request: SignoffRequest,
    action: Literal["approved", "rejected", "sent back", "voided", "expired"],
    by: str,
    reason: str | None,
    **told: Any,
) -> None:
    """The end of a request and its record, in the caller's transaction."""
    audit.append(connection, by, action, {**subject(request), "reason": reason, **told})
    status: Status = "void" if action == "voided" else action
    connection.execute(
        sa.text(
            "UPDATE review_requests SET status = :status, closed_at = :at, closed_by = :by, reason = :reason "
            "WHERE request_id = :id"
        ),
        {"status": status, "at": now(), "by": by, "reason": reason, "id": request.request_id},
    )
    partition_facts.derive(connection, request.collection, [request.partition])


def mark_published(connection: sa.Connection, request: SignoffRequest) -> None:
    connection.execute(
        sa.text("UPDATE review_requests SET status = 'published' WHERE request_id = :id"), {"id": request.request_id}
    )
    partition_facts.derive(connection, request.collection, [request.partition])


def subject(request: SignoffRequest) -> dict[str, Any]:
    """What every record about a request says."""
    return {
        "collection": request.collection,
        "partition": request.partition,
        "request_id": request.request_id,
        "digest": request.digest,
    }
