"""The first tables: what is in the lake, what the source holds, who holds what, sign-off, releases, audit."""

import sqlalchemy as sa

TABLES = (
    # A view of the lake's manifests, so that a question over 10,000 partitions is one query.
    """CREATE TABLE datasets (
        collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL,
        version TEXT NOT NULL, code_version TEXT NOT NULL, row_count BIGINT NOT NULL, stats TEXT NOT NULL,
        run_id TEXT NOT NULL, written_at TEXT NOT NULL,
        PRIMARY KEY (collection, asset, partition))""",
    # The last attempt to bring a partition up to date: from which source and settings, and how it ended.
    """CREATE TABLE refreshes (
        collection TEXT NOT NULL, partition TEXT NOT NULL, status TEXT NOT NULL, error TEXT,
        listing_digest TEXT NOT NULL, settings_digest TEXT NOT NULL, run_id TEXT NOT NULL, finished_at TEXT NOT NULL,
        PRIMARY KEY (collection, partition))""",
    # What the source holds, as last observed.
    """CREATE TABLE listings (
        collection TEXT NOT NULL, partition TEXT NOT NULL, digest TEXT NOT NULL, files BIGINT NOT NULL,
        observed_at TEXT NOT NULL, PRIMARY KEY (collection, partition))""",
    # Append-only: one row each time a document appears, changes, breaks or goes.
    """CREATE TABLE document_history (
        collection TEXT NOT NULL, document_id TEXT NOT NULL, partition TEXT NOT NULL, event TEXT NOT NULL,
        digest TEXT, reason TEXT, run_id TEXT NOT NULL, happened_at TEXT NOT NULL, cause TEXT NOT NULL,
        PRIMARY KEY (collection, document_id, cause))""",
    """CREATE TABLE check_results (
        collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, check_name TEXT NOT NULL,
        fingerprint TEXT NOT NULL, passed INTEGER NOT NULL, blocking INTEGER NOT NULL, details TEXT NOT NULL,
        PRIMARY KEY (collection, asset, partition, check_name))""",
    # Which dataset version of a partition the evaluation index holds.
    """CREATE TABLE index_parts (
        collection TEXT NOT NULL, partition TEXT NOT NULL, version TEXT NOT NULL,
        PRIMARY KEY (collection, partition))""",
    "CREATE TABLE index_versions (collection TEXT PRIMARY KEY, version BIGINT NOT NULL)",
    """CREATE TABLE leases (
        name TEXT PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, process TEXT NOT NULL,
        expires_at DOUBLE PRECISION NOT NULL)""",
    """CREATE TABLE review_requests (
        request_id TEXT PRIMARY KEY, collection TEXT NOT NULL, partition TEXT NOT NULL, number BIGINT NOT NULL,
        digest TEXT NOT NULL,
        status TEXT NOT NULL, opened_at TEXT NOT NULL, closed_at TEXT, closed_by TEXT, reason TEXT,
        summary TEXT NOT NULL)""",
    "CREATE INDEX review_requests_partition ON review_requests (collection, partition)",
    "CREATE INDEX review_requests_status ON review_requests (status)",
    """CREATE TABLE releases (
        collection TEXT NOT NULL, number BIGINT NOT NULL, digest TEXT NOT NULL, index_name TEXT NOT NULL,
        index_version BIGINT NOT NULL,
        manifest TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
        PRIMARY KEY (collection, number))""",
    # The atomic pointer: which release readers see.
    "CREATE TABLE live_releases (collection TEXT PRIMARY KEY, number BIGINT NOT NULL)",
    """CREATE TABLE audit (
        seq BIGINT PRIMARY KEY, recorded_at TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, previous_hash TEXT NOT NULL, hash TEXT NOT NULL)""",
)


def up(connection: sa.Connection) -> None:
    for statement in TABLES:
        connection.execute(sa.text(statement))
