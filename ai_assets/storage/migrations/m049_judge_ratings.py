"""What people say on the desk of outputs that a judge rates; beside the ratings of the collection's file."""

import sqlalchemy as sa

STATEMENTS = (
    # Append-only; the highest number of an output and author counts. `output`: the digest of the text that was rated.
    # `rating` is JSON: a number of the scale, or a word.
    """CREATE TABLE judge_ratings (
        collection TEXT NOT NULL, stage TEXT NOT NULL, document_id TEXT NOT NULL, output TEXT NOT NULL,
        author TEXT NOT NULL, number BIGINT NOT NULL, partition TEXT NOT NULL, rating TEXT NOT NULL,
        made_at TEXT NOT NULL, PRIMARY KEY (collection, stage, document_id, output, author, number))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
