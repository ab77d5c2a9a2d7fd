"""Money: what a call was priced at and asked with, limits that people set, money set aside, alerts that were given."""

import sqlalchemy as sa

STATEMENTS = (
    # The price that the reservation was made at, and the version of the prompt; NULL and '' where nobody said.
    "ALTER TABLE attempts ADD COLUMN price TEXT",
    "ALTER TABLE attempts ADD COLUMN prompt TEXT NOT NULL DEFAULT ''",
    # The backfill that the run belongs to, whose money it may use.
    "ALTER TABLE callers ADD COLUMN backfill TEXT NOT NULL DEFAULT ''",
    # The answers used again on one day.
    "CREATE INDEX reuses_at ON reuses (reused_at)",
    # A limit that a person set in place of the declared one, by the budget's name.
    """CREATE TABLE budget_limits (
        name TEXT PRIMARY KEY, limit_nusd BIGINT NOT NULL, set_by TEXT NOT NULL, set_at TEXT NOT NULL,
        reason TEXT NOT NULL)""",
    # A backfill that was approved at a price. Its own budget row is 'backfill/<id>'.
    """CREATE TABLE backfills (
        backfill TEXT PRIMARY KEY, collection TEXT NOT NULL, partitions TEXT NOT NULL, assets TEXT NOT NULL,
        cap_nusd BIGINT, plan TEXT NOT NULL, state TEXT NOT NULL, made_by TEXT NOT NULL, made_at TEXT NOT NULL,
        dagster_id TEXT, ended_at TEXT)""",
    # What of a budget is set aside for a backfill and not reserved by one of its calls. The sum over backfills is in
    # the budget's own row: others may not use it.
    """CREATE TABLE earmarks (
        backfill TEXT NOT NULL, budget TEXT NOT NULL, left_nusd BIGINT NOT NULL, PRIMARY KEY (backfill, budget))""",
    "ALTER TABLE budgets ADD COLUMN earmarked_nusd BIGINT NOT NULL DEFAULT 0",
    # Shares of a limit that were reached, so that each is told of once; a new limit has its own.
    """CREATE TABLE budget_alerts (
        budget TEXT NOT NULL, limit_nusd BIGINT NOT NULL, percent BIGINT NOT NULL, used_nusd BIGINT NOT NULL,
        made_at TEXT NOT NULL, PRIMARY KEY (budget, limit_nusd, percent))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
