"""What the endpoints of a route offer, and how fast they have been: from the settings, the batches and the ledger."""

import datetime
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.inference.deadline import (
    NO_ROOM,
    CallPace,
    Observed,
    Offers,
    Turnaround,
    batch_turnaround,
    pace_of,
    stop_time,
)
from ai_assets.inference.prices import batch_price, call_price, price_at
from ai_assets.inference.records import RequestKind
from ai_assets.inference.settings import Endpoint, InferenceSettings, TokenPrice
from ai_assets.protocols.registry import protocol_of

FLEX = "flex"
BATCHES_READ = 200
HISTORY_DAYS = 90
ATTEMPTS_READ = 20_000
SYNC_LATENCY_S = (5.0, 20.0)
"""Median and 95 % of what a call takes, before one was made."""
FLEX_LATENCY_S = (20.0, 120.0)
NO_ROOM_WEIGHT = 20
CALL_TOKENS = 1500.0
"""Of a call, before one was made."""
OUTPUT_WEIGHT = 0.2
"""Tokens of output to one of input, for comparing prices; only their ratio counts."""


def offers_of(
    connection: sa.Connection,
    settings: InferenceSettings,
    names: Sequence[str],
    at: datetime.datetime,
    *,
    asks_for: RequestKind = "chat",
    no_batch: str | None = None,
) -> Offers:
    """Of a route's endpoints in their order: the first one by one and by flex, the first that has batches by batch.

    `no_batch`: why there is none just now.
    """
    name, today = names[0], at.date()
    endpoint = settings.endpoints[name]
    has_tiers = not endpoint.free and asks_for in protocol_of(endpoint.protocol).tiered
    flex_price = price_at(endpoint, today, FLEX) if has_tiers else None
    sync, flex, no_room = _paces(connection, name, endpoint)
    taking = (each for each in names if settings.endpoints[each].has_batches_of(asks_for))
    by_batch = None if no_batch is not None else next(taking, None)
    turnaround = stopping = None
    if by_batch is not None:
        turnaround, stopping = batch_history(connection, by_batch, settings.endpoints[by_batch], at)
    return Offers(
        sync_price=_weighed(call_price(name, endpoint, today)),
        sync=sync,
        flex_price=None if flex_price is None else _weighed(flex_price),
        flex=None if flex_price is None else flex,
        no_room=no_room,
        batch_price=None if by_batch is None else _weighed(batch_price(by_batch, settings.endpoints[by_batch], today)),
        turnaround=turnaround,
        stopping=stopping,
        no_batch=no_batch,
        history="" if turnaround is None else _said_of(turnaround.seen),
    )


def call_tokens(connection: sa.Connection, endpoint: str) -> float:
    """Of a call, on average."""
    query = sa.text(
        f"SELECT avg(input_tokens + output_tokens) AS mean FROM ({_LATEST}) AS latest "  # noqa: S608
        "WHERE endpoint = :endpoint AND state = 'settled' AND input_tokens IS NOT NULL"
    )
    found: Any = connection.execute(query, {"endpoint": endpoint, "most": ATTEMPTS_READ}).scalar_one()
    return CALL_TOKENS if found is None else float(found)


def batch_history(
    connection: sa.Connection, name: str, endpoint: Endpoint, at: datetime.datetime
) -> tuple[Turnaround, Turnaround]:
    """How long its batches took, and how long cancellations took to be final."""
    assert endpoint.batch is not None
    query = sa.text(
        "SELECT state, provider_state, submitted_at, ended_at, turnaround_s, cancel_s FROM batch_jobs "
        "WHERE endpoint = :endpoint AND duplicate_of IS NULL AND submitted_at IS NOT NULL "
        "AND (ended_at IS NULL OR ended_at >= :since) ORDER BY made_at DESC LIMIT :most"
    )
    since = (at - datetime.timedelta(days=HISTORY_DAYS)).isoformat(timespec="milliseconds")
    rows = connection.execute(query, {"endpoint": name, "since": since, "most": BATCHES_READ}).all()
    took, stopped = [], []
    for row in rows:
        seconds = _seconds(row.submitted_at, row.ended_at or at.isoformat()) if row.turnaround_s is None else row[4]
        if row.state != "ended":
            took.append(Observed(seconds=seconds, ended=False))
        elif row.provider_state == "completed":
            took.append(Observed(seconds=seconds))
        elif row.provider_state in ("cancelled", "expired"):
            took.append(Observed(seconds=max(seconds - (row.cancel_s or 0.0), 0.0), ended=False))
        if row.cancel_s is not None:
            stopped.append(Observed(seconds=row.cancel_s))
    believed = endpoint.batch
    return batch_turnaround(took, 60 * believed.minutes_p50, 60 * believed.minutes_p90), stop_time(stopped)


def _paces(connection: sa.Connection, name: str, endpoint: Endpoint) -> tuple[CallPace, CallPace, float]:
    """One by one, by flex, and the share of flex calls that the tier had no room for."""
    query = sa.text(
        f"SELECT latency_s, tier, error FROM ({_LATEST}) AS latest WHERE endpoint = :endpoint "  # noqa: S608
        "AND ((state = 'settled' AND latency_s IS NOT NULL) OR error = 'tier_unavailable')"
    )
    rows = connection.execute(query, {"endpoint": name, "most": ATTEMPTS_READ}).all()
    flex = [row.latency_s for row in rows if row.error is None and row.tier == FLEX]
    sync = [row.latency_s for row in rows if row.error is None and row.tier != FLEX]
    refused = sum(row.error is not None for row in rows)
    limits = endpoint.limits
    bounds = limits.concurrency, limits.requests_per_minute, limits.tokens_per_minute
    no_room = (refused + NO_ROOM * NO_ROOM_WEIGHT) / (refused + len(flex) + NO_ROOM_WEIGHT)
    return pace_of(sync, SYNC_LATENCY_S, bounds), pace_of(flex, FLEX_LATENCY_S, bounds), no_room


_LATEST = (
    "SELECT endpoint, state, latency_s, tier, error, input_tokens, output_tokens FROM attempts "
    "ORDER BY sent_at DESC LIMIT :most"
)
"""Batches have no latency, and a call that is not there yet neither."""


def _said_of(seen: int) -> str:
    return f" ({seen:,} seen)" if seen else " (as is believed; none was seen yet)"


def _weighed(price: TokenPrice) -> float:
    return price.input + OUTPUT_WEIGHT * price.output


def _seconds(begin: str, end: str) -> float:
    """Clocks of two machines may differ."""
    began, ended = map(datetime.datetime.fromisoformat, (begin, end))
    return max((ended - began).total_seconds(), 0.0)
