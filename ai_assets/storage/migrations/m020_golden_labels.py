"""Golden labels that people give: on the desk, from samples drawn for it, or from a file."""

import sqlalchemy as sa

STATEMENTS = (
    # A draw: who drew how many documents of how many, and which share of them at random.
    """CREATE TABLE golden_samples (
        collection TEXT NOT NULL, stage TEXT NOT NULL, number BIGINT NOT NULL, drawn_at TEXT NOT NULL,
        drawn_by TEXT NOT NULL, population BIGINT NOT NULL, random_size BIGINT NOT NULL, uncertain_size BIGINT NOT NULL,
        opinions BIGINT NOT NULL, PRIMARY KEY (collection, stage, number))""",
    # Its documents in the order in which they are asked about. `inclusion` is the probability with which the draw took
    # the document: below 1 in the random part, 1 in the uncertain part, which is not drawn by chance.
    """CREATE TABLE golden_sample_documents (
        collection TEXT NOT NULL, stage TEXT NOT NULL, number BIGINT NOT NULL, place BIGINT NOT NULL,
        document_id TEXT NOT NULL, partition TEXT NOT NULL, document_digest TEXT NOT NULL, stratum TEXT NOT NULL,
        inclusion DOUBLE PRECISION NOT NULL, PRIMARY KEY (collection, stage, number, place))""",
    # Append-only; the highest number of a document, stage and author counts. `answer`: label, unsure or withdrawn.
    # `recorded_by` is who was signed in: of an import somebody else than the author.
    """CREATE TABLE golden_labels (
        collection TEXT NOT NULL, stage TEXT NOT NULL, document_id TEXT NOT NULL, author TEXT NOT NULL,
        number BIGINT NOT NULL, partition TEXT NOT NULL, document_digest TEXT NOT NULL, answer TEXT NOT NULL,
        label TEXT, stratum TEXT NOT NULL, inclusion DOUBLE PRECISION, sample BIGINT, origin TEXT NOT NULL,
        note TEXT NOT NULL, recorded_by TEXT NOT NULL, made_at TEXT NOT NULL,
        PRIMARY KEY (collection, stage, document_id, author, number))""",
    "CREATE INDEX golden_labels_partition ON golden_labels (collection, partition)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
