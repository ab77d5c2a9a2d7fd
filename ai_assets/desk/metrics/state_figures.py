"""What the state store says at this moment. Every statement is bounded by an index or by what is declared."""

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.desk.metrics import families as of
from ai_assets.desk.metrics.families import MetricSample
from ai_assets.inference import budget_status, latency
from ai_assets.inference.accounts import Account, accounts_of
from ai_assets.inference.ledger_sql import AMBIGUOUS
from ai_assets.inference.place_queue import PlaceQueue
from ai_assets.inference.prices import NUSD
from ai_assets.inference.recent_calls import RecentCalls, RecentCallsMemory
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import Budget, EndpointLimits, InferenceSettings
from ai_assets.signoff import sla
from ai_assets.storage import workers

QUANTILES = (0.5, 0.95, 0.99)
_COUNTLESS = ("run", "partition", "document")
"""A budget for each of these has as many rows as there are of them."""


@dataclass(frozen=True, kw_only=True)
class StateLook:
    """One look at the store, for one scraper."""

    connection: sa.Connection
    collections: Mapping[str, Collection]
    """Those that the scraper sees."""
    tenant: str | None
    """The only one that it sees; None for all."""
    inference: InferenceSettings | None
    """None where inference.yaml is broken now."""
    recent: RecentCallsMemory
    moment: datetime.datetime

    def sees(self, tenant: str) -> bool:
        return self.tenant is None or tenant == self.tenant

    def tenant_of(self, collection: str) -> str | None:
        """None where the scraper does not see it."""
        found = self.collections.get(collection)
        return found.settings.tenant if found is not None else None

    def age_s(self, at: str) -> float:
        return max(0.0, (self.moment - datetime.datetime.fromisoformat(at)).total_seconds())


def state_figures(look: StateLook) -> Iterator[MetricSample]:
    for part in _PARTS:
        yield from part(look)
    if look.tenant is None:
        for part in _PARTS_OF_ALL:
            yield from part(look)


def _reviews(look: StateLook) -> Iterator[MetricSample]:
    rows = {row.collection: row for row in look.connection.execute(_OPEN_REQUESTS)}
    for name, collection in look.collections.items():
        tenant, row = collection.settings.tenant, rows.get(name)
        yield of.REVIEWS.of(row.open if row else 0, tenant, name)
        if row:
            yield of.OLDEST.of(look.age_s(row.oldest), tenant, name)
        rules = collection.settings.signoff.sla
        for step, hours in (("reminder", rules.remind_after_hours), ("escalation", rules.escalate_after_hours)):
            if hours is None:
                continue
            cutoff = sla.opened_by(look.moment.isoformat(timespec="milliseconds"), hours, rules)
            late = 0
            if row and row.oldest <= cutoff:
                late = look.connection.execute(_OVERDUE, {"name": name, "cutoff": cutoff}).scalar_one()
            yield of.OVERDUE.of(late, tenant, name, step)


def _releases(look: StateLook) -> Iterator[MetricSample]:
    for row in look.connection.execute(_LIVE):
        if (tenant := look.tenant_of(row.collection)) is not None:
            yield of.RELEASE_NUMBER.of(row.number, tenant, row.collection)
            yield of.RELEASE_AGE.of(look.age_s(row.created_at), tenant, row.collection)


def _budgets(look: StateLook) -> Iterator[MetricSample]:
    if look.inference is None:
        return
    accounts = dict[str, tuple[Account, str]]()
    bounded = [budget for budget in look.inference.budgets if budget.each not in _COUNTLESS]
    apart = {budget.name: _counts_one_tenant(budget) for budget in bounded}
    for name, collection in look.collections.items():
        for asset in ("", *collection.asking):
            caller = Caller(tenant=collection.settings.tenant, collection=name, asset=asset)
            for account in accounts_of(bounded, caller, "", look.moment.date()):
                accounts[account.budget] = account, caller.tenant if apart[account.name] else ""
    seen = {key: (account, tenant) for key, (account, tenant) in accounts.items() if tenant or look.tenant is None}
    found = [account for account, _ in seen.values()]
    for each in budget_status.standing_among(look.connection, look.inference, found, look.moment.date()):
        labels = seen[each.budget][1], each.name, each.holder
        yield of.BUDGET_LIMIT.of(each.limit_nusd / NUSD, *labels)
        yield of.BUDGET_USED.of(each.used_nusd / NUSD, *labels)
        yield of.BUDGET_LEFT.of(each.left_nusd / NUSD, *labels)


def _counts_one_tenant(budget: Budget) -> bool:
    return budget.each in ("tenant", "collection", "asset") or bool(budget.of.keys() & {"tenant", "collection"})


def _maybe_billed(look: StateLook) -> Iterator[MetricSample]:
    for row in look.connection.execute(_MAYBE):
        if look.sees(row.tenant):
            yield of.MAYBE.of(int(row.nusd) / NUSD, row.tenant, row.endpoint)
            yield of.MAYBE_CALLS.of(row.attempts, row.tenant, row.endpoint)


def _recent(look: StateLook) -> Iterator[MetricSample]:
    found = [each for each in look.recent.read(look.connection, look.moment) if look.sees(each.tenant)]
    attempts, errors, dollars, tokens = Counter[_Labels](), Counter[_Labels](), Counter[_Labels](), Counter[_Labels]()
    spent, saved = Counter[_Labels](), Counter[_Labels]()
    for each in found:
        attempts[each.tenant, each.endpoint, each.outcome] += each.calls
        if each.outcome in ("failed", "throttled"):
            errors[each.tenant, each.endpoint, each.error or "unknown"] += each.calls
        collection = each.collection if each.collection in look.collections else ""
        if each.outcome == "reused":
            saved[each.tenant, collection] += each.nusd
            continue
        dollars[each.tenant, each.endpoint, each.model] += each.nusd
        spent[each.tenant, collection] += each.nusd
        for kind, number in _tokens(each):
            tokens[each.tenant, each.endpoint, each.model, kind] += number
    for family, sums, unit in (
        (of.RECENT, attempts, 1), (of.RECENT_ERRORS, errors, 1), (of.RECENT_TOKENS, tokens, 1),
        (of.RECENT_DOLLARS, dollars, NUSD), (of.RECENT_SPEND, spent, NUSD), (of.SAVED, saved, NUSD),
    ):  # fmt: skip
        yield from (family.of(value / unit, *labels) for labels, value in sums.items())


_Labels = tuple[str, ...]


def _tokens(each: RecentCalls) -> Iterator[tuple[str, int]]:
    yield "input", each.input_tokens
    yield "cached_input", each.cached_tokens
    yield "output", each.output_tokens


def _waiting(look: StateLook) -> Iterator[MetricSample]:
    if look.inference is None:
        return
    now_s = workers.read_clock(look.connection).now_s
    for row in look.connection.execute(_QUEUES):
        queue = PlaceQueue.read(row.queue, now_s)
        waiting = Counter[str]()
        for lane, load in (queue.loads({}, now_s) if queue is not None else {}).items():
            waiting[lane.party] += load.waiting
        for party, calls in waiting.items():
            tenant = party if look.inference.tenants else look.tenant_of(party) or ""
            if calls and look.sees(tenant):
                yield of.WAITING.of(calls, tenant, row.endpoint, party)


def _endpoints(look: StateLook) -> Iterator[MetricSample]:
    now_s = workers.read_clock(look.connection).now_s
    for row in look.connection.execute(_ENDPOINTS):
        yield of.BREAKER.of(float(row.openings > 0 or row.blocked_until > now_s), row.endpoint)
        yield of.IN_FLIGHT.of(row.in_flight, row.endpoint)
        declared = look.inference.endpoints.get(row.endpoint) if look.inference is not None else None
        limits = declared.limits if declared is not None else EndpointLimits()
        yield of.PLACES.of(limits.concurrency, row.endpoint)
    for found in latency.quantiles(look.connection, QUANTILES):
        yield of.LATENCY.of(found.seconds, found.endpoint, found.kind, f"{found.share:g}")


def _audit(look: StateLook) -> Iterator[MetricSample]:
    yield of.AUDIT.of(look.connection.execute(_LAST_RECORD).scalar_one() or 0)
    newest = look.connection.execute(_CHECKPOINT).one_or_none()
    if newest is not None:
        yield of.CHECKPOINT_RECORDS.of(newest.size)
        yield of.CHECKPOINT_AGE.of(look.age_s(newest.made_at))


_PARTS: tuple[Callable[[StateLook], Iterator[MetricSample]], ...] = (
    _reviews,
    _releases,
    _budgets,
    _maybe_billed,
    _recent,
    _waiting,
)
_PARTS_OF_ALL = (_endpoints, _audit)

_OPEN_REQUESTS = sa.text(
    "SELECT collection, count(*) AS open, min(opened_at) AS oldest FROM review_requests "
    "WHERE status = 'open' GROUP BY collection"
)
_OVERDUE = sa.text(
    "SELECT count(*) FROM review_requests WHERE collection = :name AND status = 'open' AND opened_at <= :cutoff"
)
_LIVE = sa.text(
    "SELECT live_releases.collection, live_releases.number, releases.created_at FROM live_releases "
    "JOIN releases ON releases.collection = live_releases.collection AND releases.number = live_releases.number"
)
_MAYBE = sa.text(
    "SELECT callers.tenant, attempts.endpoint, count(*) AS attempts, sum(attempts.reserved_nusd) AS nusd "  # noqa: S608
    "FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
    f"WHERE {AMBIGUOUS} GROUP BY callers.tenant, attempts.endpoint"
)
_QUEUES = sa.text("SELECT endpoint, queue FROM endpoints WHERE queue <> ''")
_ENDPOINTS = sa.text("SELECT endpoint, in_flight, openings, blocked_until FROM endpoints ORDER BY endpoint")
_LAST_RECORD = sa.text("SELECT max(seq) FROM audit")
_CHECKPOINT = sa.text("SELECT size, made_at FROM checkpoints ORDER BY size DESC LIMIT 1")
