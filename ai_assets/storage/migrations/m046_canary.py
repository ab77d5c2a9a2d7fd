"""Fixed sets that are asked of endpoints, and the changes that their answers show."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    counted = "INTEGER PRIMARY KEY" if connection.dialect.name == "sqlite" else "BIGSERIAL PRIMARY KEY"
    for statement in (
        # `epoch` counts what an endpoint is held against: another declared model or set, or an accepted change, begins
        # the next one. `subject`: a digest of address, model and set. `answers` is JSON.
        f"""CREATE TABLE canary_runs (
            run_id {counted}, endpoint TEXT NOT NULL, epoch BIGINT NOT NULL, subject TEXT NOT NULL,
            model TEXT NOT NULL, state TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, answers TEXT NOT NULL,
            problem TEXT, cost_nusd BIGINT NOT NULL)""",
        "CREATE INDEX canary_runs_endpoint ON canary_runs (endpoint, run_id)",
        # `alike_at`: when the last run began that was as the baseline. `facts` is a JSON list.
        f"""CREATE TABLE canary_changes (
            change_id {counted}, endpoint TEXT NOT NULL, model TEXT NOT NULL, run_id BIGINT NOT NULL,
            alike_at TEXT NOT NULL, found_at TEXT NOT NULL, facts TEXT NOT NULL,
            accepted_at TEXT, accepted_by TEXT, reason TEXT)""",
        "CREATE INDEX canary_changes_endpoint ON canary_changes (endpoint, change_id)",
    ):
        connection.execute(sa.text(statement))
