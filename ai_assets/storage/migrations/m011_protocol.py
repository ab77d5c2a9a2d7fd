"""By which protocol each attempt was made, so that its answer is read by what wrote it."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE attempts ADD COLUMN protocol TEXT NOT NULL DEFAULT 'openai'"))
