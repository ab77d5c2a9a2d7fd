"""Documents that wait for a person, what people say of them, and thresholds that were certified."""

import sqlalchemy as sa

STATEMENTS = (
    # What of each partition waits, as its newest candidate left it; the next candidate writes it again. `kinds` and
    # `why` are JSON lists. `held_at` stays while text and answer do.
    """CREATE TABLE held_documents (
        collection TEXT NOT NULL, partition TEXT NOT NULL, stage TEXT NOT NULL, document_id TEXT NOT NULL,
        document_digest TEXT NOT NULL, answer_digest TEXT NOT NULL, answer TEXT, confidence DOUBLE PRECISION,
        kinds TEXT NOT NULL, why TEXT NOT NULL, value DOUBLE PRECISION NOT NULL, held_at TEXT NOT NULL,
        sla_step BIGINT NOT NULL, PRIMARY KEY (collection, stage, document_id))""",
    "CREATE INDEX held_documents_partition ON held_documents (collection, partition)",
    # Append-only. `seq` counts those of a collection: a candidate says up to which it knows them. The highest number
    # of a document, stage and author counts, of the same text and answer.
    """CREATE TABLE hold_decisions (
        collection TEXT NOT NULL, stage TEXT NOT NULL, document_id TEXT NOT NULL, author TEXT NOT NULL,
        number BIGINT NOT NULL, seq BIGINT NOT NULL, partition TEXT NOT NULL, document_digest TEXT NOT NULL,
        answer_digest TEXT NOT NULL, decision TEXT NOT NULL, label TEXT, said TEXT, reason TEXT NOT NULL,
        made_at TEXT NOT NULL, PRIMARY KEY (collection, stage, document_id, author, number))""",
    "CREATE UNIQUE INDEX hold_decisions_seq ON hold_decisions (collection, seq)",
    # A threshold as a refresh found it; a row where it differs from the one before.
    """CREATE TABLE hold_certificates (
        collection TEXT NOT NULL, stage TEXT NOT NULL, number BIGINT NOT NULL, threshold DOUBLE PRECISION,
        error DOUBLE PRECISION NOT NULL, confidence DOUBLE PRECISION NOT NULL, labels BIGINT NOT NULL,
        labels_digest TEXT NOT NULL, said TEXT NOT NULL, run_id TEXT NOT NULL, made_at TEXT NOT NULL,
        PRIMARY KEY (collection, stage, number))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
