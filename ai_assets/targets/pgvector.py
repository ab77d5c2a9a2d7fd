"""Releases in PostgreSQL with the extension pgvector: two views that show what is live, moved in one transaction.

Rows are kept once for each content of a partition, so a release that changes one of two hundred writes one, and a
rollback moves one row. Nothing is removed but what a rebuild replaced: earlier releases stay to be gone back to.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

from ai_assets.base.extras import need
from ai_assets.base.home import variable
from ai_assets.storage.index_writing import VECTOR
from ai_assets.storage.state import storable
from ai_assets.targets.base import Receipt, Row, Target, TargetRelease
from ai_assets.targets.errors import (
    ReleaseNotWritten,
    TargetAddressMissing,
    TargetNameUnfit,
    TargetUnreached,
    VectorsOfAnotherLength,
)

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

URL_VARIABLE = "AI_ASSETS_PGVECTOR_URL"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LOCK = 726_355
"""Of those who make the tables; rows are written under the lease of the target."""
_REPLACE = """
    UPDATE {releases} SET part = %s WHERE part = %s OR starts_with(part, %s);
    DELETE FROM {documents_rows} WHERE part <> %s AND (part = %s OR starts_with(part, %s));
    DELETE FROM {chunks_rows} WHERE part <> %s AND (part = %s OR starts_with(part, %s));
    DELETE FROM {parts} WHERE part <> %s AND (part = %s OR starts_with(part, %s))
"""
_TABLES = """
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE TABLE IF NOT EXISTS {documents_rows} (
        part TEXT NOT NULL, document_id TEXT NOT NULL, place BIGINT NOT NULL, partition TEXT NOT NULL, title TEXT,
        text TEXT, status TEXT, row JSONB NOT NULL, PRIMARY KEY (part, place));
    CREATE TABLE IF NOT EXISTS {chunks_rows} (
        part TEXT NOT NULL, chunk_id TEXT NOT NULL, document_id TEXT NOT NULL, partition TEXT NOT NULL, text TEXT,
        vector vector({dimensions}), row JSONB NOT NULL, PRIMARY KEY (part, chunk_id));
    CREATE TABLE IF NOT EXISTS {parts} (part TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS {releases} (
        number BIGINT NOT NULL, digest TEXT NOT NULL, part TEXT NOT NULL, PRIMARY KEY (number, part));
    CREATE TABLE IF NOT EXISTS {live} (one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one), number BIGINT NOT NULL,
        digest TEXT NOT NULL, pointed_at TIMESTAMPTZ NOT NULL DEFAULT now());
    CREATE OR REPLACE VIEW {documents} AS SELECT l.number AS release, l.digest AS release_digest, d.document_id,
        d.partition, d.title, d.text, d.status, d.row
        FROM {live} l JOIN {releases} r USING (number, digest) JOIN {documents_rows} d USING (part);
    CREATE OR REPLACE VIEW {chunks} AS SELECT l.number AS release, l.digest AS release_digest, c.chunk_id,
        c.document_id, c.partition, c.text, c.vector, c.row
        FROM {live} l JOIN {releases} r USING (number, digest) JOIN {chunks_rows} c USING (part)
"""


class PgVector(Target):
    """The views `NAME_documents` and `NAME_chunks`."""

    def __init__(self, name: str, url_variable: str = URL_VARIABLE) -> None:
        if not _NAME.fullmatch(name):
            raise TargetNameUnfit(name)
        self._name = name
        self._url_variable = url_variable

    def write(self, release: TargetRelease) -> Receipt:
        with self._connected() as connection:
            self._make_tables(connection, release.dimensions or 1)
            parts = []
            for partition, content in release.partitions.items():
                with connection.transaction():
                    part = self._known_part(connection, f"{partition} {content}")
                    if part is None:
                        part = f"{partition} {content}"
                        self._write_part(connection, release, partition, part)
                parts.append(part)
            with connection.transaction():
                self._take_as_release(connection, release, parts)
        return self._receipt(release)

    def rebuild(self, release: TargetRelease, attempt: str) -> Receipt:
        """Every partition is written beside what is there; then they take its place in one transaction, in all releases
        that have the same content, and what was there is removed."""
        with self._connected() as connection:
            self._make_tables(connection, release.dimensions or 1)
            parts = {f"{name} {content}": f"{name} {content} {attempt}" for name, content in release.partitions.items()}
            for partition, part in zip(release.partitions, parts.values(), strict=True):
                with connection.transaction():
                    if self._known_part(connection, part) is None:
                        self._write_part(connection, release, partition, part)
            with connection.transaction():
                for content, part in parts.items():
                    self._replace_part(connection, content, part)
                given = [release.number, release.digest, list(parts.values())]
                others = self._sql("DELETE FROM {releases} WHERE number = %s AND digest = %s AND part <> ALL(%s)")
                connection.execute(others, given)
                self._take_as_release(connection, release, list(parts.values()))
        return self._receipt(release)

    def _receipt(self, release: TargetRelease) -> Receipt:
        return {
            "name": self._name, "release": release.number, "digest": release.digest,
            "partitions": len(release.partitions),
        }  # fmt: skip

    def _known_part(self, connection: "psycopg.Connection[Any]", content: str) -> str | None:
        """Where the content of a partition is whole already: as it was written first, or by a rebuild."""
        query = self._sql("SELECT part FROM {parts} WHERE part = %s OR starts_with(part, %s) ORDER BY part LIMIT 1")
        found = connection.execute(query, [content, f"{content} "]).fetchone()
        return None if found is None else str(found[0])

    def _replace_part(self, connection: "psycopg.Connection[Any]", content: str, part: str) -> None:
        """All releases with this content have it in `part` from now on, and every other copy of it goes."""
        given = [part, content, f"{content} "]
        for statement in _REPLACE.split(";"):
            connection.execute(self._sql(statement), given)

    def _take_as_release(
        self, connection: "psycopg.Connection[Any]", release: TargetRelease, parts: Sequence[str]
    ) -> None:
        with connection.cursor() as cursor:
            cursor.executemany(
                self._sql("INSERT INTO {releases} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"),
                [(release.number, release.digest, part) for part in parts],
            )

    def point(self, receipt: Receipt) -> None:
        given = {"number": receipt["release"], "digest": receipt["digest"]}
        with self._connected() as connection, connection.transaction():
            query = self._sql("SELECT count(*) FROM {releases} WHERE number = %(number)s AND digest = %(digest)s")
            found = connection.execute(query, given).fetchone()
            if found is None or found[0] != receipt["partitions"]:
                raise ReleaseNotWritten(self._name, int(str(receipt["release"])))
            connection.execute(
                self._sql(
                    "INSERT INTO {live} (number, digest) VALUES (%(number)s, %(digest)s) ON CONFLICT (one) DO UPDATE "
                    "SET number = excluded.number, digest = excluded.digest, pointed_at = now()"
                ),
                given,
            )

    def read(self) -> Receipt | None:
        with self._connected() as connection:
            there = connection.execute("SELECT to_regclass(%s)", [f"{self._name}_live"]).fetchone()
            if there is None or there[0] is None:
                return None
            row = connection.execute(
                self._sql(
                    "SELECT l.number, l.digest, count(r.part) FROM {live} l JOIN {releases} r USING (number, digest) "
                    "GROUP BY l.number, l.digest"
                )
            ).fetchone()
        return None if row is None else {"name": self._name, "release": row[0], "digest": row[1], "partitions": row[2]}

    def _make_tables(self, connection: "psycopg.Connection[Any]", dimensions: int) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            for statement in _TABLES.split(";"):
                connection.execute(self._sql(statement, dimensions=dimensions))
            there = connection.execute(
                "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'vector'",
                [f"{self._name}_chunks_rows"],
            ).fetchone()
            if there is not None and there[0] != dimensions:
                raise VectorsOfAnotherLength(self._name, there[0], dimensions)

    def _write_part(
        self, connection: "psycopg.Connection[Any]", release: TargetRelease, partition: str, part: str
    ) -> None:
        def documents() -> Iterator[tuple[Any, ...]]:
            for place, row in enumerate(release.documents([partition])):
                own = (row["document_id"], place, partition, storable(row.get("title")), storable(row.get("text")))
                yield part, *own, row.get("status"), _as_json(row)

        def chunks() -> Iterator[tuple[Any, ...]]:
            for row in release.chunks([partition]):
                vector = None if row.get(VECTOR) is None else json.dumps(row[VECTOR])
                own = (row["chunk_id"], row["document_id"], partition, storable(row.get("text")), vector)
                yield part, *own, _as_json({name: value for name, value in row.items() if not name.startswith(VECTOR)})

        self._copy(connection, "COPY {documents_rows} FROM STDIN", documents())
        self._copy(connection, "COPY {chunks_rows} FROM STDIN", chunks())
        connection.execute(self._sql("INSERT INTO {parts} VALUES (%s)"), [part])

    def _copy(
        self, connection: "psycopg.Connection[Any]", statement: LiteralString, rows: Iterable[tuple[Any, ...]]
    ) -> None:
        with connection.cursor() as cursor, cursor.copy(self._sql(statement)) as copy:
            for row in rows:
                copy.write_row(row)

    def _sql(self, text: LiteralString, **values: int) -> "Composed":
        from psycopg.sql import SQL, Identifier, Literal

        tables = ("documents_rows", "chunks_rows", "parts", "releases", "live", "documents", "chunks")
        names = {table: Identifier(f"{self._name}_{table}") for table in tables}
        return SQL(text).format(**names, **{name: Literal(value) for name, value in values.items()})

    @contextmanager
    def _connected(self) -> "Iterator[psycopg.Connection[Any]]":
        need("postgres", "A target in PostgreSQL")
        import psycopg

        url = variable(self._url_variable)
        if url is None:
            raise TargetAddressMissing(self._url_variable, "postgresql://user:password@host:5432/database")
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
                yield connection
        except psycopg.Error as error:  # its words hold no password
            raise TargetUnreached("The database of the target", " ".join(str(error).split())) from error


def _as_json(row: Row) -> str:
    return json.dumps(dict(row), ensure_ascii=False, default=str).replace("\\u0000", "")
