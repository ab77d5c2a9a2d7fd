"""Answers from before tenants were declared: a tenant finds those again that it has paid for, and no other's.

Where tenants are apart, a call has a key of its own for each (`identity.key_within`). What the ledger knows under the
key from before counts for the tenant whose attempt it was.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa

from ai_assets.inference.ledger_messages import Claim
from ai_assets.storage.pipeline import unpipelined
from ai_assets.storage.state import keys_of

_Row = TypeVar("_Row")
KEYS_PER_QUERY = 5_000


def with_own_answers(
    connection: sa.Connection,
    claims: Iterable[Claim],
    known: Mapping[str, _Row],
    look_up: Callable[[Sequence[str]], Mapping[str, _Row]],
) -> Mapping[str, _Row]:
    """What is known of these calls, with the earlier answers under the keys of now."""
    wanted: dict[str, dict[str, str]] = {}
    for claim in claims:
        for hop in claim.hops if claim.apart else ():
            if hop.key not in known:
                wanted.setdefault(claim.apart, {})[hop.earlier_key] = hop.key
    if not wanted:
        return known
    found = dict(known)
    for tenant, keys in wanted.items():
        if own := _paid_by(connection, tenant, list(keys)):
            found.update({keys[earlier]: row for earlier, row in look_up(own).items()})
    return found


def _paid_by(connection: sa.Connection, tenant: str, keys: Sequence[str]) -> list[str]:
    """Of these calls, those that an attempt of the tenant has answered."""
    statement = sa.text(
        f"SELECT calls.call_key FROM {keys_of(connection.dialect.name, ':keys')} CROSS JOIN calls "  # noqa: S608
        "JOIN attempts ON attempts.attempt_id = calls.attempt_id AND attempts.state = 'settled' "
        "JOIN callers ON callers.caller_id = attempts.caller_id AND callers.tenant = :tenant "
        "WHERE calls.call_key = json_each.value"
    )
    found: list[str] = []
    with unpipelined(connection):
        for start in range(0, len(keys), KEYS_PER_QUERY):
            given = {"keys": json.dumps(keys[start : start + KEYS_PER_QUERY]), "tenant": tenant}
            found += connection.execute(statement, given).scalars()
    return found
