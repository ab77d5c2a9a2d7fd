"""Paid calls: every attempt, its answer and its dollars; budgets; what processes know together of an endpoint.

Money is in whole nano-dollars. Rows are only added, except that an attempt ends once and the small tables at the end.
"""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    counted = "INTEGER PRIMARY KEY" if connection.dialect.name == "sqlite" else "BIGSERIAL PRIMARY KEY"
    keyed = "INTEGER PRIMARY KEY" if connection.dialect.name == "sqlite" else "BIGINT PRIMARY KEY"
    compact = "WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    for statement in (
        # A process that makes calls, and the lease that shows whether it lives. `batch`: its last committed turn;
        # `reaped`: others took it for dead.
        f"CREATE TABLE owners (owner_id {counted}, lease TEXT NOT NULL, batch BIGINT NOT NULL, reaped BIGINT NOT NULL)",
        f"""CREATE TABLE callers (
            caller_id {counted}, tenant TEXT NOT NULL, collection TEXT NOT NULL, asset TEXT NOT NULL,
            partition TEXT NOT NULL, run_id TEXT NOT NULL, UNIQUE (run_id, collection, asset, partition, tenant))""",
        "CREATE INDEX callers_asset ON callers (collection, asset, partition)",
        # One row per identity: its answered attempt, and where there is none its last.
        f"CREATE TABLE calls (call_key TEXT PRIMARY KEY, attempt_id BIGINT NOT NULL) {compact}",
        # attempt_id: the owner in the high bits, so that each process adds at an end of its own.
        f"""CREATE TABLE attempts (
            attempt_id {keyed}, call_key TEXT NOT NULL, previous_id BIGINT, caller_id BIGINT NOT NULL,
            document TEXT NOT NULL, endpoint TEXT NOT NULL, model TEXT NOT NULL, kind TEXT NOT NULL,
            state TEXT NOT NULL, carried BIGINT NOT NULL, error TEXT, message TEXT, sent_at TEXT NOT NULL,
            ended_at TEXT, latency_s DOUBLE PRECISION, input_tokens BIGINT, cached_tokens BIGINT, output_tokens BIGINT,
            reasoning_tokens BIGINT, reserved_nusd BIGINT NOT NULL, cost_nusd BIGINT, budgets TEXT NOT NULL,
            provider_id TEXT, answered_model TEXT)""",
        "CREATE INDEX attempts_caller ON attempts (caller_id)",
        "CREATE INDEX attempts_sent ON attempts (sent_at)",
        # Few attempts follow another; an index on the key itself would cost every call a fifth more.
        "CREATE INDEX attempts_previous ON attempts (previous_id) WHERE previous_id IS NOT NULL",
        "CREATE INDEX attempts_unended ON attempts (state) WHERE state IN ('intent', 'ambiguous')",
        f"CREATE TABLE answers (attempt_id {keyed}, body TEXT NOT NULL)",
        f"""CREATE TABLE reuses (
            reuse_id {counted}, attempt_id BIGINT NOT NULL, caller_id BIGINT NOT NULL, document TEXT NOT NULL,
            saved_nusd BIGINT NOT NULL, reused_at TEXT NOT NULL)""",
        "CREATE INDEX reuses_caller ON reuses (caller_id)",
        "CREATE INDEX reuses_answer ON reuses (attempt_id)",
        """CREATE TABLE budgets (
            budget TEXT PRIMARY KEY, name TEXT NOT NULL, limit_nusd BIGINT NOT NULL, spent_nusd BIGINT NOT NULL,
            reserved_nusd BIGINT NOT NULL, held_nusd BIGINT NOT NULL)""",
        """CREATE TABLE endpoints (
            endpoint TEXT PRIMARY KEY, in_flight BIGINT NOT NULL, requests DOUBLE PRECISION NOT NULL,
            tokens DOUBLE PRECISION NOT NULL, measured_at DOUBLE PRECISION NOT NULL, failures BIGINT NOT NULL,
            openings BIGINT NOT NULL, blocked_until DOUBLE PRECISION NOT NULL,
            probing_until DOUBLE PRECISION NOT NULL)""",
    ):
        connection.execute(sa.text(statement))
