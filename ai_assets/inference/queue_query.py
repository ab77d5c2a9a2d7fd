"""Who holds and who waits for the places of each endpoint, for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.inference.fairness import CallLane, LaneLoad, lane_of
from ai_assets.inference.ledger import is_owner_live
from ai_assets.inference.ledger_sql import IN_FLIGHT, OWNER_SHIFT
from ai_assets.inference.place_queue import PlaceQueue
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import EndpointLimits, InferenceSettings
from ai_assets.storage import workers


@dataclass(frozen=True, kw_only=True)
class QueuedCalls:
    """Calls of one priority and one collection or tenant."""

    priority: str | None
    """None where it is not known: nobody waits, so nobody keeps it."""
    party: str
    weight: float
    in_flight: int
    waiting: int
    """That have asked for a place; a process asks for a few at a time."""
    waiting_s: float | None
    """How long none of them has had one."""


@dataclass(frozen=True, kw_only=True)
class EndpointPlaces:
    endpoint: str
    places: int
    in_flight: int
    kept: int
    """For interactive calls, now."""
    calls: tuple[QueuedCalls, ...]


def endpoint_places(connection: sa.Connection, settings: InferenceSettings) -> list[EndpointPlaces]:
    """Of every declared endpoint that somebody has asked."""
    now_s = workers.read_clock(connection).now_s
    rows = connection.execute(sa.text("SELECT endpoint, in_flight, queue FROM endpoints ORDER BY endpoint")).all()
    found = []
    for row in rows:
        declared = settings.endpoints.get(row.endpoint)
        limits, shares = (EndpointLimits(), {}) if declared is None else (declared.limits, declared.shares)
        queue = PlaceQueue.read(row.queue, now_s)
        if queue is None:
            calls = _held(connection, row.endpoint, shares, by_tenant=bool(settings.tenants))
        else:
            loads = queue.loads(shares, now_s)
            calls = [_queued(lane, load, now_s) for lane, load in loads.items() if load.in_flight or load.waiting]
        found.append(
            EndpointPlaces(
                endpoint=row.endpoint,
                places=limits.concurrency,
                in_flight=row.in_flight,
                kept=(queue or PlaceQueue()).kept(limits, now_s),
                calls=tuple(sorted(calls, key=lambda each: (-each.waiting, -each.in_flight, each.party))),
            )
        )
    return found


def _queued(lane: CallLane, load: LaneLoad, now_s: float) -> QueuedCalls:
    return QueuedCalls(
        priority=lane.priority,
        party=lane.party,
        weight=load.weight,
        in_flight=load.in_flight,
        waiting=load.waiting,
        waiting_s=max(now_s - load.since_s, 0.0) if load.waiting else None,
    )


def _held(
    connection: sa.Connection, endpoint: str, shares: dict[str, float], *, by_tenant: bool
) -> Sequence[QueuedCalls]:
    """Where nobody waits: what is in flight, as the ledger has it."""
    statement = sa.text(
        f"SELECT callers.tenant, callers.collection, attempt_id >> {OWNER_SHIFT} AS owner, count(*) AS calls "  # noqa: S608
        "FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
        f"WHERE {IN_FLIGHT} AND attempts.carried = 0 AND attempts.endpoint = :endpoint "
        f"GROUP BY callers.tenant, callers.collection, attempt_id >> {OWNER_SHIFT}"
    )
    held: dict[str, int] = {}
    rows = connection.execute(statement, {"endpoint": endpoint}).all()
    live = {owner for owner in {row.owner for row in rows} if is_owner_live(connection, owner)}
    for row in rows:
        if row.owner in live:
            asker = Caller(tenant=row.tenant, collection=row.collection)
            party = lane_of(shares, "normal", asker, by_tenant=by_tenant).party
            held[party] = held.get(party, 0) + int(row.calls)
    return [
        QueuedCalls(
            priority=None, party=party, weight=shares.get(party, 1.0), in_flight=count, waiting=0, waiting_s=None
        )
        for party, count in held.items()
    ]
