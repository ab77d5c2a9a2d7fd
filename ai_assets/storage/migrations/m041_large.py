"""What questions over all partitions are answered from, kept up by who writes: see `storage/partition_facts.py`."""

import sqlalchemy as sa

NOTHING = "4f53cda18c2baa0c0354bb5f9a3ecbe5"
"""Digest of the listing of a partition without files."""
STATEMENTS = (
    # What decides the state of a partition and needs no settings to be known.
    """CREATE TABLE partition_facts (
        collection TEXT NOT NULL, partition TEXT NOT NULL, listed INTEGER NOT NULL, refreshed TEXT NOT NULL,
        is_current INTEGER NOT NULL, settings_digest TEXT NOT NULL, corrections_digest TEXT NOT NULL,
        request TEXT NOT NULL, unreadable INTEGER NOT NULL,
        PRIMARY KEY (collection, partition))""",
    """CREATE INDEX partition_facts_grouped ON partition_facts (
        collection, listed, refreshed, is_current, settings_digest, corrections_digest, request, unreadable,
        partition)""",
    # Sums over the partitions of an asset, of numbers that its manifests hold.
    """CREATE TABLE dataset_totals (
        collection TEXT NOT NULL, asset TEXT NOT NULL, name TEXT NOT NULL, number BIGINT NOT NULL,
        PRIMARY KEY (collection, asset, name))""",
    # Which observation of a source `listings` shows.
    "CREATE TABLE listing_versions (collection TEXT PRIMARY KEY, version TEXT NOT NULL)",
    # Behind which partition the next run goes on looking whether all files are there.
    "CREATE TABLE file_looks (collection TEXT PRIMARY KEY, after TEXT NOT NULL)",
    "ALTER TABLE datasets ADD COLUMN unanswered BIGINT NOT NULL DEFAULT 0",
    "CREATE INDEX datasets_unanswered ON datasets (collection, asset, partition, unanswered) WHERE unanswered > 0",
    "CREATE INDEX refreshes_failed ON refreshes (collection, partition) WHERE status = 'failed'",
    # How much a request changes, as its facts say: the inbox is ordered by it.
    "ALTER TABLE review_requests ADD COLUMN size BIGINT NOT NULL DEFAULT 0",
    "DROP INDEX review_requests_status",
    """CREATE INDEX review_requests_by_risk ON review_requests (risk DESC, opened_at, request_id, collection, status)
        WHERE status = 'open'""",
    """CREATE INDEX review_requests_by_age ON review_requests (opened_at, request_id, collection, risk, status)
        WHERE status = 'open'""",
    """CREATE INDEX review_requests_by_size ON review_requests (size DESC, opened_at, request_id, collection, status)
        WHERE status = 'open'""",
    # The last publication, however many requests were opened since.
    "CREATE INDEX audit_of_action ON audit (collection, action, seq)",
)
FILL_FACTS = """INSERT INTO partition_facts
    SELECT known.collection, known.partition,
        CASE WHEN listings.digest IS NULL THEN 0 ELSE 1 END, COALESCE(refreshes.status, ''),
        CASE WHEN refreshes.listing_digest = COALESCE(listings.digest, :nothing) THEN 1 ELSE 0 END,
        COALESCE(refreshes.settings_digest, ''), COALESCE(refreshes.corrections_digest, ''),
        COALESCE((SELECT status FROM review_requests WHERE review_requests.collection = known.collection
            AND review_requests.partition = known.partition ORDER BY number DESC LIMIT 1), ''),
        CASE WHEN COALESCE({quarantined}, 0) > 0 AND COALESCE({ok}, 0) + COALESCE({duplicate}, 0) = 0
            THEN 1 ELSE 0 END
    FROM (SELECT collection, partition FROM listings UNION SELECT collection, partition FROM refreshes) AS known
    LEFT JOIN listings ON listings.collection = known.collection AND listings.partition = known.partition
    LEFT JOIN refreshes ON refreshes.collection = known.collection AND refreshes.partition = known.partition
    LEFT JOIN datasets ON datasets.collection = known.collection AND datasets.partition = known.partition
        AND datasets.asset = 'documents'"""
FILL_STATUSES = """INSERT INTO dataset_totals
    SELECT collection, asset, 'statuses.' || counted.key, SUM(CAST(counted.value AS BIGINT)) FROM datasets, {counted}
    WHERE asset = 'documents' GROUP BY collection, asset, counted.key"""
FILL_NUMBERS = """INSERT INTO dataset_totals
    SELECT collection, asset, '{name}', SUM({number}) FROM datasets WHERE {number} IS NOT NULL
    GROUP BY collection, asset"""


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
    sqlite = connection.dialect.name == "sqlite"

    def number(column: str, *path: str) -> str:
        if sqlite:
            return f"json_extract({column}, '$.{'.'.join(path)}')"
        steps = " -> ".join(f"'{step}'" for step in path[:-1])
        return f"CAST(CAST({column} AS json) {'-> ' + steps if steps else ''} ->> '{path[-1]}' AS BIGINT)"

    statuses = {name: number("datasets.stats", "statuses", name) for name in ("ok", "duplicate", "quarantined")}
    connection.execute(sa.text(FILL_FACTS.format(**statuses)), {"nothing": NOTHING})
    unanswered = number("stats", "unanswered")
    connection.execute(sa.text(f"UPDATE datasets SET unanswered = {unanswered} WHERE {unanswered} > 0"))  # noqa: S608
    counted = "json_each(stats, '$.statuses') AS counted" if sqlite else (
        "json_each_text(CAST(stats AS json) -> 'statuses') AS counted"
    )  # fmt: skip
    connection.execute(sa.text(FILL_STATUSES.format(counted=counted)))
    for name in ("documents_out", "without_vectors"):
        connection.execute(sa.text(FILL_NUMBERS.format(name=name, number=number("stats", name))))
    sizes = " + ".join(f"COALESCE({number('facts', name)}, 0)" for name in ("added", "changed", "removed"))
    connection.execute(sa.text(f"UPDATE review_requests SET size = {sizes} WHERE facts <> '{{}}'"))  # noqa: S608
