# ruff: noqa: S608 - the parts put together are all from here
"""What the ledger remembers, for people: attempts, calls, what may have been billed, budgets. Queries only.

What people decide about it is `resolving.py`.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.inference.ledger_messages import State
from ai_assets.inference.ledger_sql import OWNER_SHIFT
from ai_assets.inference.prices import usd_of
from ai_assets.storage.state import keys_of

MOST_NAMED = 10
"""So many candidates are named where a beginning fits several."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One request that left for a provider, or was about to."""

    attempt: str
    """The process that made it and its number there, such as `3-17`."""
    call: str
    previous: str | None
    """The attempt of the same call that was the last one before."""
    tenant: str
    collection: str
    asset: str
    partition: str
    run_id: str
    backfill: str
    """The backfill that the run belonged to; empty where it belonged to none."""
    document: str
    endpoint: str
    model: str
    answered_model: str | None
    kind: str
    state: State
    error: str | None
    message: str | None
    sent_at: str
    ended_at: str | None
    latency_s: float | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    reserved_usd: float
    cost_usd: float | None
    """None where nobody knows, or not yet."""
    price: str | None
    """The price that it was reserved at, as `Price.version` has it, or `free`; once served, that of its tier."""
    prompt: str
    """The version of the prompt; empty where the request had none."""
    provider_id: str | None
    duplicate_of: str | None
    """The attempt whose answer is used, where this one was answered and paid for as well."""
    protocol: str
    """How the endpoint was spoken to, and so how its answer reads."""
    key_id: str | None
    """The provider's public id of the key it was made with; None where the endpoint declared none then."""
    tier: str | None = None
    """The tier of service that its answer named; None where prices did not differ by tier, or it named none."""
    gpu_s: float | None = None
    """Of a model that ran here: for how long a GPU was ours for it."""
    cpu_s: float | None = None
    """The same of all cores together."""


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """A run that took the answer of a call from the ledger."""

    tenant: str
    collection: str
    asset: str
    partition: str
    run_id: str
    times: int
    saved_usd: float
    latest_at: str


@dataclass(frozen=True, kw_only=True)
class Call:
    call: str
    attempts: Sequence[Attempt]
    """In the order in which they were made."""
    answered_by: str | None
    body: str | None
    """The answer as it came; of a call without one, the last thing that came."""
    reuses: Sequence[Reuse]
    cost_usd: float
    maybe_usd: float
    saved_usd: float


class CallCost(NamedTuple):
    """Of all attempts of a call, in nano-dollars."""

    cost_nusd: int
    maybe_nusd: int
    """Reserved for those of which nobody knows whether they were billed."""


@dataclass(frozen=True, kw_only=True)
class BudgetRow:
    budget: str
    """Name, period, and whose it is."""
    name: str
    limit_usd: float
    spent_usd: float
    in_flight_usd: float
    maybe_usd: float
    earmarked_usd: float
    """Set aside for backfills."""
    left_usd: float


class CallUnknown(UserError):
    def __init__(self, asked: str, latest: Sequence[str]) -> None:
        found = f"the latest calls are {', '.join(latest)}" if latest else "no call has been made"
        super().__init__(
            f"The ledger has no call or attempt '{asked}': {found}. See all: ai-assets ledger list. A call is named by "
            "the beginning of its key, an attempt in full, such as 3-17."
        )


class CallAmbiguous(UserError):
    def __init__(self, asked: str, keys: Sequence[str]) -> None:
        listed = ", ".join(keys[:MOST_NAMED]) + (", ..." if len(keys) > MOST_NAMED else "")
        super().__init__(f"Several calls begin with '{asked}': {listed}. Write more of the key.")


_COLUMNS = """
SELECT attempts.*, callers.tenant, callers.collection, callers.asset, callers.partition, callers.run_id,
    callers.backfill
FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id"""


def attempts(
    connection: sa.Connection,
    *,
    collection: str | None = None,
    asset: str | None = None,
    run: str | None = None,
    document: str | None = None,
    state: State | None = None,
    limit: int | None = None,
) -> list[Attempt]:
    """The latest first. A run is named by its id or the beginning of it."""
    scope = {"collection": collection, "asset": asset, "run": run}
    given = {name: value for name, value in scope.items() if value is not None}
    conditions = [_SCOPES[name] for name in given]
    theirs = f"attempts.caller_id IN (SELECT caller_id FROM callers WHERE {' AND '.join(conditions)})"
    wanted = [theirs] if given else []
    if document is not None:
        wanted.append("attempts.document = :document")
    if state is not None:
        wanted.append(_STATES[state])
    where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
    most = " LIMIT :limit" if limit is not None else ""
    statement = f"{_COLUMNS}{where} ORDER BY attempts.sent_at DESC, attempts.attempt_id DESC{most}"
    rows = connection.execute(sa.text(statement), {**given, "document": document, "limit": limit})
    return [_attempt(row) for row in rows]


# Back from the attempt that the call points to, then forth: after an answer that came late, others lie behind it.
_CHAIN = """
WITH RECURSIVE
    back(id) AS (
        SELECT attempt_id FROM {table} WHERE call_key {which}
        UNION SELECT previous_id FROM attempts JOIN back ON attempts.attempt_id = back.id
        WHERE previous_id IS NOT NULL),
    chain(id) AS (
        SELECT id FROM back
        UNION SELECT attempts.attempt_id FROM attempts JOIN chain ON attempts.previous_id = chain.id)"""
_OF_CALL, _OF_ERASED = (_CHAIN.format(table=table, which="= :key") for table in ("calls", "erased_calls"))
_OF_CALLS = _CHAIN.format(table="calls", which="IN :keys")
_KEYS_AT_ONCE = 1_000
_PAID = "coalesce(attempts.cost_nusd, 0)"
_MAYBE = "CASE WHEN attempts.state = 'ambiguous' THEN attempts.reserved_nusd ELSE 0 END"

_SCOPES = {
    "collection": "collection = :collection",
    "asset": "asset = :asset",
    "run": "substr(run_id, 1, length(CAST(:run AS TEXT))) = :run",
}
# Written out, because the index of what has not ended is only used for states that the statement names.
_STATES = {state: f"attempts.state = '{state}'" for state in ("intent", "settled", "failed", "ambiguous")}


def find(connection: sa.Connection, asked: str) -> str:
    """The key of the call that is meant: by the beginning of its key, or by one of its attempts."""
    number = attempt_id(asked)
    if number is not None:
        key = connection.execute(
            sa.text("SELECT call_key FROM attempts WHERE attempt_id = :number"), {"number": number}
        ).scalar_one_or_none()
        if key is not None:
            return str(key)
    else:
        # Keys are hexadecimal, and no digit comes after 'f'.
        statement = sa.text(
            "SELECT call_key FROM calls WHERE call_key >= :asked AND call_key < :beyond ORDER BY call_key LIMIT :most"
        )
        limits = {"asked": asked, "beyond": f"{asked}g", "most": MOST_NAMED + 1}
        keys: Sequence[str] = connection.execute(statement, limits).scalars().all()
        found = [key for key in keys if asked and key.startswith(asked)]
        if len(found) > 1:
            raise CallAmbiguous(asked, found)
        if found:
            return found[0]
    latest = attempts(connection, limit=3)
    raise CallUnknown(asked, list(dict.fromkeys(item.call[:12] for item in latest)))


def call(connection: sa.Connection, key: str) -> Call:
    """A call that is there, with all that is known of it."""
    made = attempts_of(connection, key)
    bodies = _bodies(connection, key)
    came = sorted(
        (item for item in made if item.attempt in bodies), key=lambda item: (item.ended_at or "", item.attempt)
    )
    settled = [item for item in came if item.state == "settled" and item.duplicate_of is None]
    answered = settled[-1] if settled else None
    shown = answered or (came[-1] if came else None)
    reuses = _reuses(connection, key)
    return Call(
        call=key,
        attempts=made,
        answered_by=answered.attempt if answered else None,
        body=bodies[shown.attempt] if shown else None,
        reuses=reuses,
        cost_usd=math.fsum(item.cost_usd or 0.0 for item in made),
        maybe_usd=math.fsum(item.reserved_usd for item in made if item.state == "ambiguous"),
        saved_usd=math.fsum(item.saved_usd for item in reuses),
    )


def attempts_of(connection: sa.Connection, key: str) -> list[Attempt]:
    """All attempts of a call, in the order in which they were made."""
    return _along(connection, _OF_CALL, key)


def cost_of_calls(connection: sa.Connection, keys: Sequence[str], *, tenant: str | None = None) -> dict[str, CallCost]:
    """What all attempts of each call cost, as far as that is known; with a tenant, those that it made.

    Nearly all calls have one attempt: those are looked up, and only for the others attempts are followed.
    """
    theirs = "" if tenant is None else "AND attempts.caller_id IN (SELECT caller_id FROM callers WHERE tenant = :t) "
    alone = sa.text(
        f"SELECT calls.call_key, {_PAID}, {_MAYBE} FROM {keys_of(connection.dialect.name, ':keys')} CROSS JOIN calls "
        "JOIN attempts ON attempts.attempt_id = calls.attempt_id WHERE calls.call_key = json_each.value "
        "AND attempts.previous_id IS NULL "
        f"AND NOT EXISTS (SELECT 1 FROM attempts AS later WHERE later.previous_id = attempts.attempt_id) {theirs}"
    )
    followed = sa.text(
        f"{_OF_CALLS} SELECT attempts.call_key, sum({_PAID}), sum({_MAYBE}) FROM attempts "
        f"JOIN chain ON chain.id = attempts.attempt_id {theirs}GROUP BY attempts.call_key"
    ).bindparams(sa.bindparam("keys", type_=sa.Text, expanding=True))
    found: dict[str, CallCost] = {}
    given: dict[str, Any] = {} if tenant is None else {"t": tenant}
    distinct = sorted(set(keys))
    for start in range(0, len(distinct), _KEYS_AT_ONCE):
        part = distinct[start : start + _KEYS_AT_ONCE]
        for row in connection.execute(alone, {"keys": json.dumps(part), **given}):
            found[row[0]] = CallCost(row[1], row[2])
        if left := [key for key in part if key not in found]:
            for row in connection.execute(followed, {"keys": left, **given}):
                found[row[0]] = CallCost(int(row[1]), int(row[2]))
    return found


def left_of(connection: sa.Connection, key: str) -> list[Attempt]:
    """Attempts of a call that was erased with a forgotten document: they keep its key and the dollars."""
    return _along(connection, _OF_ERASED, key)


def _along(connection: sa.Connection, chain: str, key: str) -> list[Attempt]:
    statement = sa.text(f"{chain} {_COLUMNS} JOIN chain ON chain.id = attempts.attempt_id")
    return in_order([_attempt(row) for row in connection.execute(statement, {"key": key})])


def in_order(made: Sequence[Attempt]) -> list[Attempt]:
    """Each after the one it followed; of several that followed the same one, the earlier first."""
    by_name = {item.attempt: item for item in made}

    def place(item: Attempt) -> tuple[str, int]:
        depth, before = 0, item.previous
        while before is not None and before in by_name:
            depth, before = depth + 1, by_name[before].previous
        return item.sent_at, depth

    return sorted(made, key=place)


def budgets(connection: sa.Connection) -> list[BudgetRow]:
    """Every budget that a call was ever reserved from, with the limit that a person set, or else had at the latest."""
    statement = (
        "SELECT budgets.*, coalesce(budget_limits.limit_nusd, budgets.limit_nusd) AS in_force_nusd FROM budgets "
        "LEFT JOIN budget_limits ON budget_limits.name = budgets.name ORDER BY budgets.name, budget"
    )
    rows = connection.execute(sa.text(statement))
    return [
        BudgetRow(
            budget=row.budget,
            name=row.name,
            limit_usd=usd_of(row.in_force_nusd),
            spent_usd=usd_of(row.spent_nusd),
            in_flight_usd=usd_of(row.reserved_nusd),
            maybe_usd=usd_of(row.held_nusd),
            earmarked_usd=usd_of(row.earmarked_nusd),
            left_usd=usd_of(
                row.in_force_nusd - row.spent_nusd - row.reserved_nusd - row.held_nusd - row.earmarked_nusd
            ),
        )
        for row in rows
    ]


def name_of(number: int) -> str:
    return f"{number >> OWNER_SHIFT}-{number & ((1 << OWNER_SHIFT) - 1)}"


def attempt_id(name: str) -> int | None:
    """None where this is not the form of an attempt's name."""
    owner, dash, number = name.partition("-")
    if not (dash and owner.isdecimal() and number.isdecimal() and max(int(owner), int(number)) < 1 << OWNER_SHIFT - 1):
        return None
    return int(owner) << OWNER_SHIFT | int(number)


def _attempt(row: Any) -> Attempt:
    named = ("duplicate_of",)
    plain = {n: getattr(row, n) for n in Attempt.__dataclass_fields__ if n in row._fields and n not in named}
    return Attempt(
        attempt=name_of(row.attempt_id),
        call=row.call_key,
        previous=None if row.previous_id is None else name_of(row.previous_id),
        duplicate_of=None if row.duplicate_of is None else name_of(row.duplicate_of),
        reserved_usd=usd_of(row.reserved_nusd),
        cost_usd=None if row.cost_nusd is None else usd_of(row.cost_nusd),
        **plain,
    )


def _bodies(connection: sa.Connection, key: str) -> dict[str, str]:
    """What came, by attempt."""
    statement = f"{_OF_CALL} SELECT attempt_id, body FROM answers JOIN chain ON chain.id = answers.attempt_id"
    return {name_of(row.attempt_id): row.body for row in connection.execute(sa.text(statement), {"key": key})}


def _reuses(connection: sa.Connection, key: str) -> list[Reuse]:
    rows = connection.execute(
        sa.text(
            f"{_OF_CALL} SELECT tenant, collection, asset, partition, run_id, count(*) AS times, "
            "sum(saved_nusd) AS saved_nusd, max(reused_at) AS latest_at "
            "FROM chain JOIN reuses ON reuses.attempt_id = chain.id "
            "JOIN callers ON callers.caller_id = reuses.caller_id "
            "GROUP BY callers.caller_id, tenant, collection, asset, partition, run_id ORDER BY max(reused_at)"
        ),
        {"key": key},
    )
    return [
        Reuse(
            tenant=row.tenant,
            collection=row.collection,
            asset=row.asset,
            partition=row.partition,
            run_id=row.run_id,
            times=row.times,
            saved_usd=usd_of(int(row.saved_nusd)),
            latest_at=row.latest_at,
        )
        for row in rows
    ]
