# ruff: noqa: S608 - the parts put together are all from here
"""The statements of the ledger, the same in SQLite and PostgreSQL but for how a JSON array becomes rows."""

from collections.abc import Mapping

import sqlalchemy as sa

from resources.state import rows_of

OWNER_SHIFT = 32
"""Attempt ids hold their owner above this bit; a process makes fewer calls than that."""
ENDPOINT_COLUMNS = (
    "in_flight", "requests", "tokens", "measured_at", "failures", "openings", "blocked_until", "probing_until",
)  # fmt: skip


def statements(dialect: str) -> dict[str, sa.TextClause]:
    """By name. Many rows go in as one JSON text (`:rows`, or `:keys` of a list)."""

    def rows(**columns: str) -> str:
        return rows_of(dialect, **columns)

    postgresql = "json_array_elements_text(CAST(:keys AS json)) AS json_each(value)"
    keys = "json_each(:keys)" if dialect == "sqlite" else postgresql
    n, t, f = "BIGINT", "TEXT", "DOUBLE PRECISION"
    endpoint_types = dict(zip(ENDPOINT_COLUMNS, (n, f, f, f, n, n, f, f), strict=True))
    owner = f"(attempts.attempt_id >> {OWNER_SHIFT})"
    texts: Mapping[str, str] = {
        "mark": "UPDATE owners SET batch = :batch WHERE owner_id = :owner",
        "marked": "SELECT batch FROM owners WHERE owner_id = :owner",
        "owners_in_flight": f"SELECT DISTINCT owners.owner_id, owners.lease FROM attempts JOIN owners "
        f"ON owners.owner_id = {owner} WHERE attempts.state = 'intent'",
        "in_flight_of": "SELECT attempt_id, endpoint, reserved_nusd, budgets FROM attempts "
        "WHERE state = 'intent' AND attempt_id >= :low AND attempt_id < :high",
        "orphan": "UPDATE attempts SET state = 'ambiguous', error = 'connection_lost', ended_at = :at, "
        "message = 'the process that sent it ended before the answer was written' "
        "WHERE state = 'intent' AND attempt_id >= :low AND attempt_id < :high",
        "change_budgets": "UPDATE budgets SET reserved_nusd = reserved_nusd + given.reserved, "
        "spent_nusd = spent_nusd + given.spent, held_nusd = held_nusd + given.held "
        f"FROM ({rows(budget=t, reserved=n, spent=n, held=n)}) AS given WHERE budgets.budget = given.budget",
        "free_places": f"UPDATE endpoints SET in_flight = in_flight - given.number "
        f"FROM ({rows(name=t, number=n)}) AS given WHERE endpoints.endpoint = given.name",
        "find_caller": "SELECT caller_id FROM callers WHERE run_id = :run_id AND collection = :collection "
        "AND asset = :asset AND partition = :partition AND tenant = :tenant",
        "add_caller": "INSERT INTO callers (tenant, collection, asset, partition, run_id) "
        "VALUES (:tenant, :collection, :asset, :partition, :run_id) RETURNING caller_id",
        "states": f"SELECT attempt_id, state FROM {keys} "
        f"JOIN attempts ON attempts.attempt_id = CAST(json_each.value AS {n})",
        "end": "UPDATE attempts SET state = given.state, error = given.error, message = given.message, "
        "ended_at = given.ended_at, latency_s = given.latency_s, input_tokens = given.input_tokens, "
        "cached_tokens = given.cached_tokens, output_tokens = given.output_tokens, "
        "reasoning_tokens = given.reasoning_tokens, cost_nusd = given.cost_nusd, provider_id = given.provider_id, "
        "answered_model = given.answered_model FROM ("
        + rows(attempt_id=n, state=t, error=t, message=t, ended_at=t, latency_s=f, input_tokens=n, cached_tokens=n,
               output_tokens=n, reasoning_tokens=n, cost_nusd=n, provider_id=t, answered_model=t)
        + ") AS given WHERE attempts.attempt_id = given.attempt_id",
        "add_answers": f"INSERT INTO answers (attempt_id, body) {rows(attempt_id=n, body=t)} "
        "ON CONFLICT (attempt_id) DO NOTHING",
        # An answer that comes after a newer attempt was made is still the answer.
        "point": f"UPDATE calls SET attempt_id = given.attempt_id FROM ({rows(call_key=t, attempt_id=n)}) AS given "
        "WHERE calls.call_key = given.call_key AND calls.attempt_id <> given.attempt_id",
        "endpoints": f"SELECT endpoints.* FROM {keys} JOIN endpoints ON endpoints.endpoint = json_each.value",
        "write_endpoints": f"INSERT INTO endpoints (endpoint, {', '.join(ENDPOINT_COLUMNS)}) "
        f"{rows(endpoint=t, **endpoint_types)} ON CONFLICT (endpoint) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in ENDPOINT_COLUMNS),
        "look_up": "SELECT calls.call_key, attempts.attempt_id, attempts.state, attempts.ended_at, attempts.cost_nusd, "
        f"attempts.reserved_nusd, answers.body FROM {keys} CROSS JOIN calls "
        "JOIN attempts ON attempts.attempt_id = calls.attempt_id "
        "LEFT JOIN answers ON answers.attempt_id = calls.attempt_id AND attempts.state = 'settled' "
        "WHERE calls.call_key = json_each.value",
        "balances": f"SELECT budgets.* FROM {keys} JOIN budgets ON budgets.budget = json_each.value",
        "add_reuses": "INSERT INTO reuses (attempt_id, caller_id, document, saved_nusd, reused_at) "
        + rows(attempt_id=n, caller_id=n, document=t, saved_nusd=n, reused_at=t),
        "add_attempts": "INSERT INTO attempts (attempt_id, call_key, previous_id, caller_id, document, endpoint, "
        "model, kind, state, sent_at, reserved_nusd, budgets) "
        + rows(attempt_id=n, call_key=t, previous_id=n, caller_id=n, document=t, endpoint=t, model=t, kind=t, state=t,
               sent_at=t, reserved_nusd=n, budgets=t),
        "repoint": f"INSERT INTO calls (call_key, attempt_id) {rows(call_key=t, attempt_id=n)} "
        "ON CONFLICT (call_key) DO UPDATE SET attempt_id = excluded.attempt_id",
        "write_budgets": "INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd) "
        + rows(budget=t, name=t, limit_nusd=n, spent_nusd=n, reserved_nusd=n, held_nusd=n)
        + " ON CONFLICT (budget) DO UPDATE SET limit_nusd = excluded.limit_nusd, spent_nusd = excluded.spent_nusd, "
        "reserved_nusd = excluded.reserved_nusd, held_nusd = excluded.held_nusd",
    }  # fmt: skip
    return {name: sa.text(statement) for name, statement in texts.items()}
