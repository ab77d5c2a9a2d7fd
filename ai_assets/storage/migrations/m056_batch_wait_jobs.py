"""Which batches an asset of a partition waits for, whoever made them."""

import sqlalchemy as sa

STATEMENTS = (
    # `lines` of its calls are in that batch. With a `budget` they are not: they could not be asked, because the batch
    # holds money of that budget, and the first of those that hold it to end lets a run try again.
    """CREATE TABLE batch_wait_jobs (
        collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, job_id TEXT NOT NULL,
        budget TEXT NOT NULL, lines BIGINT NOT NULL,
        PRIMARY KEY (collection, asset, partition, job_id, budget))""",
    "CREATE INDEX batch_wait_jobs_job ON batch_wait_jobs (job_id)",
    # Until now a wait stood on the lines that its own runs had put into a batch.
    """INSERT INTO batch_wait_jobs (collection, asset, partition, job_id, budget, lines)
        SELECT callers.collection, callers.asset, callers.partition, batch_jobs.job_id, '', count(*) FROM attempts
        JOIN batch_jobs ON batch_jobs.owner_id = (attempts.attempt_id >> 32)
        AND batch_jobs.state <> 'ended' AND batch_jobs.duplicate_of IS NULL
        JOIN callers ON callers.caller_id = attempts.caller_id
        JOIN batch_waits ON batch_waits.collection = callers.collection AND batch_waits.asset = callers.asset
        AND batch_waits.partition = callers.partition
        WHERE attempts.state IN ('intent', 'ambiguous') AND attempts.state = 'intent'
        GROUP BY callers.collection, callers.asset, callers.partition, batch_jobs.job_id""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
