# ruff: noqa: S608 - the parts put together are all from here
"""The statements of a ledger's turn, the same in SQLite and PostgreSQL but for how a JSON array becomes rows.

Each takes one parameter: a JSON array of keys, or of rows. So however many rows there are, it is one statement.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from ai_assets.base.fast_json import read_json, rows_json
from ai_assets.storage.pipeline import Sent
from ai_assets.storage.state import keys_of, rows_of

OWNER_SHIFT = 32
"""Attempt ids hold their owner above this bit; a process makes fewer calls than that."""
_UNENDED = "attempts.state IN ('intent', 'ambiguous')"
IN_FLIGHT = f"{_UNENDED} AND attempts.state = 'intent'"
AMBIGUOUS = f"{_UNENDED} AND attempts.state = 'ambiguous'"
"""Both by the index `attempts_unended`: SQLite takes it only where the condition of the index stands word for word."""
ENDPOINT_COLUMNS = (
    "in_flight", "requests", "tokens", "measured_at", "failures", "openings", "blocked_until", "probing_until", "queue",
)  # fmt: skip
_N, _T, _F = "BIGINT", "TEXT", "DOUBLE PRECISION"
_ENDPOINT_TYPES = dict(zip(ENDPOINT_COLUMNS, (_N, _F, _F, _F, _N, _N, _F, _F, _T), strict=True))
_ENDED = {
    "attempt_id": _N, "state": _T, "error": _T, "message": _T, "ended_at": _T, "latency_s": _F, "input_tokens": _N,
    "cached_tokens": _N, "output_tokens": _N, "reasoning_tokens": _N, "cost_nusd": _N, "provider_id": _T,
    "answered_model": _T,
}  # fmt: skip
_OPENED = {
    "attempt_id": _N, "call_key": _T, "previous_id": _N, "caller_id": _N, "document": _T, "endpoint": _T, "model": _T,
    "kind": _T, "state": _T, "carried": _N, "sent_at": _T, "reserved_nusd": _N, "budgets": _T, "price": _T,
    "prompt": _T, "key_id": _T, "protocol": _T,
}  # fmt: skip
_REUSED = {"attempt_id": _N, "caller_id": _N, "document": _T, "saved_nusd": _N, "reused_at": _T}
_BUDGET = {
    "budget": _T, "name": _T, "limit_nusd": _N, "spent_nusd": _N, "reserved_nusd": _N, "held_nusd": _N,
    "earmarked_nusd": _N,
}  # fmt: skip
_EARMARK = {"backfill": _T, "budget": _T, "left_nusd": _N}


class KnownAttempt(NamedTuple):
    """The attempt that a call points to: its answered one, and where there is none its last."""

    call_key: str
    attempt_id: int
    state: str
    ended_at: str | None
    cost_nusd: int | None
    reserved_nusd: int
    error: str | None
    body: str | None


class LedgerSql:
    def __init__(self, dialect: str) -> None:
        self._texts = _texts(dialect)

    @staticmethod
    def known(looked_up: Sent) -> dict[str, KnownAttempt]:
        """By key. All of it is one row: SQLite gives the interpreter away and takes it back for every single one."""
        ((found,),) = looked_up.all()
        return {row[0]: KnownAttempt(*row) for row in read_json(found or "[]")}

    def send(self, connection: sa.Connection, name: str, keys: Sequence[Any]) -> Sent:
        return Sent(connection, self._texts[name], (rows_json(keys),))

    def take_turn(self, connection: sa.Connection, batch: int, owner: int) -> Sent:
        return Sent(connection, self._texts["take_turn"], (batch, owner))

    def read(self, connection: sa.Connection, name: str, keys: Sequence[Any]) -> Sequence[Any]:
        return self.send(connection, name, keys).all()

    def write(self, connection: sa.Connection, name: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            self.send(connection, name, rows)


def _texts(dialect: str) -> Mapping[str, str]:
    given = "?" if dialect == "sqlite" else "%s"
    keys = keys_of(dialect, given)

    def rows(columns: Mapping[str, str]) -> str:
        return rows_of(dialect, given, **columns)

    def insert(table: str, columns: Mapping[str, str]) -> str:
        return f"INSERT INTO {table} ({', '.join(columns)}) {rows(columns)}"

    def replaced(columns: Mapping[str, str]) -> str:
        key, *others = columns
        return f"ON CONFLICT ({key}) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others)

    of_attempt = (f"attempts.{name}" for name in KnownAttempt._fields if name not in ("call_key", "body"))
    known = f"({', '.join(('calls.call_key', *of_attempt, 'answers.body'))})"
    if dialect == "sqlite":
        known = f"json_group_array(json_array{known})"
    else:
        known = f"CAST(json_agg(json_build_array{known}) AS TEXT)"
    pointer, amount = {"call_key": _T, "attempt_id": _N}, {"name": _T, "amount": _N}
    ended = ", ".join(f"{name} = given.{name}" for name in _ENDED if name != "attempt_id")
    endpoint = {"endpoint": _T, **_ENDPOINT_TYPES}
    server_s = "NULL" if dialect == "sqlite" else "extract(epoch FROM clock_timestamp())"
    return {
        "take_turn": f"UPDATE owners SET batch = {given} WHERE owner_id = {given} RETURNING reaped, "
        "(SELECT count(*) FROM workers WHERE workers.worker_id = owners.worker_id) AS may_act, "
        f"{server_s} AS server_s",
        "states": f"SELECT attempt_id, state, cost_nusd FROM {keys} "
        f"JOIN attempts ON attempts.attempt_id = CAST(json_each.value AS {_N})",
        "look_up": f"SELECT {known} FROM {keys} CROSS JOIN calls "
        "JOIN attempts ON attempts.attempt_id = calls.attempt_id "
        "LEFT JOIN answers ON answers.attempt_id = calls.attempt_id AND attempts.state = 'settled' "
        "WHERE calls.call_key = json_each.value",
        # By row and name, so that a limit that a person set is there before the row is.
        "balances": "SELECT given.budget AS asked, budget_limits.limit_nusd AS set_nusd, budgets.* "
        f"FROM ({rows({'budget': _T, 'name': _T})}) AS given LEFT JOIN budgets ON budgets.budget = given.budget "
        "LEFT JOIN budget_limits ON budget_limits.name = given.name",
        # A backfill without earmarks is a row too: it is open.
        "earmarks": f"SELECT backfills.backfill, earmarks.budget, earmarks.left_nusd FROM {keys} "
        "JOIN backfills ON backfills.backfill = json_each.value AND backfills.state = 'open' "
        "LEFT JOIN earmarks ON earmarks.backfill = backfills.backfill",
        "endpoints": f"SELECT endpoints.* FROM {keys} JOIN endpoints ON endpoints.endpoint = json_each.value",
        # Calls that another attempt has answered already: those of a process that was taken over while it waited.
        "answered_before": f"SELECT given.attempt_id, first.attempt_id AS first_id, first.cost_nusd, answers.body "
        f"FROM ({rows(pointer)}) AS given "
        "JOIN calls ON calls.call_key = given.call_key AND calls.attempt_id <> given.attempt_id "
        "JOIN attempts AS first ON first.attempt_id = calls.attempt_id AND first.state = 'settled' "
        "JOIN answers ON answers.attempt_id = first.attempt_id",
        "mark_duplicates": "UPDATE attempts SET duplicate_of = given.duplicate_of "
        f"FROM ({rows({'attempt_id': _N, 'duplicate_of': _N})}) AS given WHERE attempts.attempt_id = given.attempt_id",
        "end": f"UPDATE attempts SET {ended} FROM ({rows(_ENDED)}) AS given "
        "WHERE attempts.attempt_id = given.attempt_id",
        "note_tiers": "UPDATE attempts SET tier = given.tier, price = given.price "
        f"FROM ({rows({'attempt_id': _N, 'tier': _T, 'price': _T})}) AS given "
        "WHERE attempts.attempt_id = given.attempt_id",
        "add_answers": insert("answers", {"attempt_id": _N, "body": _T}) + " ON CONFLICT (attempt_id) DO NOTHING",
        # An answer that comes after a newer attempt was made is still the answer.
        "point": f"UPDATE calls SET attempt_id = given.attempt_id FROM ({rows(pointer)}) AS given "
        "WHERE calls.call_key = given.call_key AND calls.attempt_id <> given.attempt_id",
        "add_reuses": insert("reuses", _REUSED),
        "drop_sent": "DELETE FROM sent_requests WHERE attempt_id IN "
        f"(SELECT given.attempt_id FROM ({rows({'attempt_id': _N})}) AS given)",
        "add_sent": insert("sent_requests", {"attempt_id": _N, "body": _T}),
        "add_attempts": insert("attempts", _OPENED),
        "repoint": f"{insert('calls', pointer)} {replaced(pointer)}",
        "write_budgets": f"{insert('budgets', _BUDGET)} {replaced(_BUDGET)}",
        "write_earmarks": f"UPDATE earmarks SET left_nusd = given.left_nusd FROM ({rows(_EARMARK)}) AS given "
        "WHERE earmarks.backfill = given.backfill AND earmarks.budget = given.budget",
        "write_endpoints": f"{insert('endpoints', endpoint)} {replaced(endpoint)}",
        "hold_reserved": "UPDATE budgets SET reserved_nusd = reserved_nusd - given.amount, "
        f"held_nusd = held_nusd + given.amount FROM ({rows(amount)}) AS given WHERE budgets.budget = given.name",
        "free_places": f"UPDATE endpoints SET in_flight = in_flight - given.amount FROM ({rows(amount)}) AS given "
        "WHERE endpoints.endpoint = given.name",
    }
