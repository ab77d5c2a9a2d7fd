"""The model card of each release, as it was written when it was published; the audit chain has its digest."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    # `card` is canonical JSON: its SHA-256 is what the chain says.
    connection.execute(
        sa.text(
            "CREATE TABLE release_cards (collection TEXT NOT NULL, number BIGINT NOT NULL, card TEXT NOT NULL, "
            "PRIMARY KEY (collection, number))"
        )
    )
