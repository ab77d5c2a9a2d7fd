"""Batches at a provider: which calls travel in which file, how far each is, and which partitions wait for one."""

import sqlalchemy as sa

STATEMENTS = (
    # A batch owns its attempts: `owner_id` is in their high bits, and its row of `owners` has the lease 'batch:JOB', so
    # that they are never taken for those of a process that died. `digest`: of the sorted keys of its calls, the name of
    # its file. `price` is that of its lines, as JSON. `past_ids`: batches of this job that the provider ran nothing of.
    # `duplicate_of`: another batch of the same file that the provider made because an answer to `create` was lost.
    """CREATE TABLE batch_jobs (
        job_id TEXT PRIMARY KEY, owner_id BIGINT NOT NULL UNIQUE, digest TEXT NOT NULL, endpoint TEXT NOT NULL,
        kind TEXT NOT NULL, collection TEXT NOT NULL, run_id TEXT NOT NULL,
        state TEXT NOT NULL, provider_state TEXT NOT NULL,
        file_id TEXT, provider_id TEXT, past_ids TEXT NOT NULL, doubted BIGINT NOT NULL, duplicate_of TEXT,
        lines BIGINT NOT NULL, bytes BIGINT NOT NULL, tokens BIGINT NOT NULL, worst_nusd BIGINT NOT NULL,
        price TEXT NOT NULL, made_at TEXT NOT NULL, intent_at TEXT, creating_at TEXT, submitted_at TEXT,
        expires_at TEXT, next_look_at TEXT, cancelled_by TEXT, ended_at TEXT, message TEXT NOT NULL,
        provider_done BIGINT NOT NULL, unknown_lines BIGINT NOT NULL)""",
    "CREATE INDEX batch_jobs_open ON batch_jobs (state) WHERE state <> 'ended'",
    # An asset of a partition whose calls are in batches. `since`: what failed before was of an earlier try.
    # `held_by`: who cancelled one of its batches, so that no run is asked for by itself.
    """CREATE TABLE batch_waits (
        collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, since TEXT NOT NULL,
        run_id TEXT NOT NULL, calls BIGINT NOT NULL, held_by TEXT,
        PRIMARY KEY (collection, asset, partition))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
