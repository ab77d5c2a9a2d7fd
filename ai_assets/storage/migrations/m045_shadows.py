"""Comparisons of a changed prompt or route with what is live, and what both said of each document."""

import sqlalchemy as sa

STATEMENTS = (
    # `spec` says what was compared, by digests; `results` what came of it, null until all was asked.
    """CREATE TABLE shadows (
        collection TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, stage TEXT NOT NULL,
        spec_digest TEXT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL, made_by TEXT NOT NULL,
        made_at TEXT NOT NULL, ended_at TEXT, results TEXT, promoted TEXT,
        PRIMARY KEY (collection, number))""",
    "CREATE UNIQUE INDEX shadows_name ON shadows (collection, name)",
    # `live_said` and `new_said` are labels, or digests of what is no label: the texts are in the lake and the ledger.
    """CREATE TABLE shadow_documents (
        collection TEXT NOT NULL, number BIGINT NOT NULL, variant TEXT NOT NULL, document_id TEXT NOT NULL,
        partition TEXT NOT NULL, is_sampled INTEGER NOT NULL, live_said TEXT, new_said TEXT, live_call TEXT,
        new_call TEXT, golden TEXT, why TEXT, PRIMARY KEY (collection, number, variant, document_id))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
