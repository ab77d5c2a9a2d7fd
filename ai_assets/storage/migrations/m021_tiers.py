"""At which tier of service each attempt was served, as its answer says; NULL where that says nothing."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE attempts ADD COLUMN tier TEXT"))
