"""The sign-off desk: who may decide, sessions, corrections and notes on documents, deadlines and notices."""

import json

import sqlalchemy as sa

STATEMENTS = (
    # What the inbox shows of a request, beside its summary of any size. `sla_step`: what its age has led to so far.
    "ALTER TABLE review_requests ADD COLUMN facts TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE review_requests ADD COLUMN risk DOUBLE PRECISION NOT NULL DEFAULT 0",
    "ALTER TABLE review_requests ADD COLUMN sla_step BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX review_requests_waiting ON review_requests (collection, status, sla_step, opened_at)",
    "CREATE INDEX review_requests_listed ON review_requests (collection, status, partition, number)",
    # Of which corrections a partition was refreshed.
    "ALTER TABLE refreshes ADD COLUMN corrections_digest TEXT NOT NULL DEFAULT ''",
    # Where to find the records about one request, or one collection, in a long chain.
    "ALTER TABLE audit ADD COLUMN collection TEXT",
    "ALTER TABLE audit ADD COLUMN request_id TEXT",
    "CREATE INDEX audit_collection ON audit (collection, seq)",
    "CREATE INDEX audit_request ON audit (request_id, seq)",
    # Known people. `password_hash` is NULL for whom a proxy or an OpenID provider signs in.
    """CREATE TABLE people (
        name TEXT PRIMARY KEY, email TEXT, password_hash TEXT, created_at TEXT NOT NULL, disabled_at TEXT)""",
    # `holder` is a person's name or 'group:<name>'; `collection` may be '*'.
    """CREATE TABLE grants (
        holder TEXT NOT NULL, collection TEXT NOT NULL, role TEXT NOT NULL, PRIMARY KEY (holder, collection))""",
    "CREATE TABLE group_members (group_name TEXT NOT NULL, person TEXT NOT NULL, PRIMARY KEY (group_name, person))",
    # Only the digest of a session's token is kept. `groups` are those that a proxy or provider told of.
    """CREATE TABLE sessions (
        token_digest TEXT PRIMARY KEY, person TEXT NOT NULL, via TEXT NOT NULL, groups TEXT NOT NULL,
        created_at TEXT NOT NULL, seen_at TEXT NOT NULL, expires_at TEXT NOT NULL, address TEXT NOT NULL,
        agent TEXT NOT NULL)""",
    "CREATE INDEX sessions_person ON sessions (person)",
    # Failed sign-ins, by what they are counted for: a name or an address.
    "CREATE TABLE sign_in_failures (counted_for TEXT NOT NULL, failed_at DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX sign_in_failures_for ON sign_in_failures (counted_for, failed_at)",
    # Comments, reviews and asked-for second looks. `leaf` is the document's digest in the candidate: what has the same
    # leaf in a later candidate is unchanged, and its reviews go with it.
    """CREATE TABLE document_notes (
        note_id TEXT PRIMARY KEY, collection TEXT NOT NULL, document_id TEXT NOT NULL, leaf TEXT NOT NULL,
        request_id TEXT NOT NULL, kind TEXT NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL,
        made_at TEXT NOT NULL)""",
    "CREATE INDEX document_notes_document ON document_notes (collection, document_id)",
    # Append-only; the highest number of a document and stage counts. `label` NULL: the correction is taken back.
    """CREATE TABLE corrections (
        collection TEXT NOT NULL, stage TEXT NOT NULL, document_id TEXT NOT NULL, number BIGINT NOT NULL,
        partition TEXT NOT NULL, document_digest TEXT NOT NULL, label TEXT, was TEXT, author TEXT NOT NULL,
        reason TEXT NOT NULL, made_at TEXT NOT NULL, PRIMARY KEY (collection, stage, document_id, number))""",
    "CREATE INDEX corrections_partition ON corrections (collection, partition)",
    # The outbox: one row per message and channel, made in the transaction of what it tells of.
    """CREATE TABLE notices (
        notice_id TEXT PRIMARY KEY, collection TEXT NOT NULL, request_id TEXT NOT NULL, kind TEXT NOT NULL,
        channel TEXT NOT NULL, title TEXT NOT NULL, body TEXT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL,
        next_try_at TEXT NOT NULL, error TEXT, made_at TEXT NOT NULL, sent_at TEXT)""",
    "CREATE INDEX notices_due ON notices (state, next_try_at)",
    "CREATE INDEX notices_group ON notices (channel, collection, kind, state, sent_at)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
    for row in connection.execute(sa.text("SELECT seq, subject FROM audit")).all():
        subject = json.loads(row.subject)
        connection.execute(
            sa.text("UPDATE audit SET collection = :collection, request_id = :request_id WHERE seq = :seq"),
            {"seq": row.seq, "collection": subject.get("collection"), "request_id": subject.get("request_id")},
        )
