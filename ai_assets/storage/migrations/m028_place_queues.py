"""Who holds and who waits for the places of an endpoint, over all processes, while somebody waits."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    # JSON that a turn reads and writes with the row it reads and writes anyway (docs/adr/0086); empty: nobody waits.
    connection.execute(sa.text("ALTER TABLE endpoints ADD COLUMN queue TEXT NOT NULL DEFAULT ''"))
