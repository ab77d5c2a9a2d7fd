"""Releases: which candidate of each partition is published together, and which release readers see."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from ai_assets.embedding import Embedding, recorded_embedding
from ai_assets.errors import DecisionRefused, NothingLive, ReleasePruned, ReleaseUnknown
from ai_assets.signoff import audit, authority
from ai_assets.signoff.people import Person
from resources.digest import canonical_json, digest
from resources.state import StateStore, now, upsert


@dataclass(frozen=True, kw_only=True)
class Part:
    """One partition of a release: the approved digest, its files, who asked and who signed."""

    digest: str
    content: str
    """Digest of the rows alone: a candidate with the same would publish nothing new."""
    documents_file: str
    chunks_file: str
    documents: int
    chunks: int
    request_id: str
    approved_by: tuple[str, ...]
    code_versions: Mapping[str, str]
    run_id: str
    embedding: Embedding
    """What made the vectors of its chunks."""


@dataclass(frozen=True, kw_only=True)
class Release:
    collection: str
    number: int
    digest: str
    index_name: str
    index_version: int
    """Where search finds exactly these rows."""
    parts: Mapping[str, Part]
    created_at: str
    created_by: str

    @property
    def documents(self) -> int:
        return sum(part.documents for part in self.parts.values())

    @property
    def embedding(self) -> Embedding | None:
        """What made its vectors, all of them; None where it has none."""
        return next((part.embedding for part in self.parts.values() if part.chunks), None)


def release_digest(parts: Mapping[str, Part]) -> str:
    return digest({partition: part.digest for partition, part in parts.items()})


def find(connection: sa.Connection, collection: str) -> list[Release]:
    rows = connection.execute(
        sa.text("SELECT * FROM releases WHERE collection = :c ORDER BY number"), {"c": collection}
    ).mappings()
    return [_release(row) for row in rows]


def get(connection: sa.Connection, collection: str, number: int) -> Release:
    row = connection.execute(
        sa.text("SELECT * FROM releases WHERE collection = :c AND number = :n"), {"c": collection, "n": number}
    ).mappings().one_or_none()  # fmt: skip
    if row is None:
        query = sa.text("SELECT number FROM releases WHERE collection = :c ORDER BY number")
        raise ReleaseUnknown(collection, number, list(connection.execute(query, {"c": collection}).scalars()))
    return _release(row)


def live_number(connection: sa.Connection, collection: str) -> int | None:
    query = sa.text("SELECT number FROM live_releases WHERE collection = :c")
    found: int | None = connection.execute(query, {"c": collection}).scalar_one_or_none()
    return found


def live(connection: sa.Connection, collection: str) -> Release | None:
    number = live_number(connection, collection)
    return None if number is None else get(connection, collection, number)


def require_live(connection: sa.Connection, collection: str) -> Release:
    found = live(connection, collection)
    if found is None:
        raise NothingLive(collection)
    return found


def _release(row: sa.RowMapping) -> Release:
    parts = json.loads(row["manifest"])["parts"]
    return Release(
        collection=row["collection"],
        number=row["number"],
        digest=row["digest"],
        index_name=row["index_name"],
        index_version=row["index_version"],
        parts={
            name: Part(**{**part, "approved_by": tuple(part["approved_by"]), "embedding": recorded_embedding(part)})
            for name, part in parts.items()
        },
        created_at=row["created_at"],
        created_by=row["created_by"],
    )


def publish_release(connection: sa.Connection, release: Release, published: Mapping[str, Part]) -> None:
    """Store the release, move the pointer and record it, in the caller's one transaction."""
    manifest = canonical_json({"parts": {name: asdict(part) for name, part in release.parts.items()}})
    connection.execute(
        sa.text(
            "INSERT INTO releases VALUES "
            "(:collection, :number, :digest, :index_name, :index_version, :manifest, :at, :by)"
        ),
        {
            "collection": release.collection,
            "number": release.number,
            "digest": release.digest,
            "index_name": release.index_name,
            "index_version": release.index_version,
            "manifest": manifest,
            "at": release.created_at,
            "by": release.created_by,
        },
    )
    upsert(connection, "live_releases", {"collection": release.collection}, {"number": release.number})
    audit.append(
        connection,
        release.created_by,
        "published",
        {
            "collection": release.collection,
            "release": release.number,
            "digest": release.digest,
            "record": audit.release_record(
                manifest, (release.index_name, release.index_version), release.created_at, release.created_by
            ),
            "partitions": sorted(published),
            "requests": sorted(part.request_id for part in published.values()),
        },
    )


def live_at(connection: sa.Connection, collection: str, moment: str) -> Release | None:
    """What readers saw at that time (UTC, as the chain writes it); None before the first release."""
    records = audit.select(
        connection, collections=[collection], actions=["published", "rolled back"], until=moment, limit=1
    )
    return get(connection, collection, int(str(records[0].subject["release"]))) if records else None


def pruned(connection: sa.Connection, collection: str) -> dict[int, str]:
    """Releases whose files were removed, with the time: they cannot be rolled back to."""
    records = audit.select(connection, collections=[collection], actions=["release pruned"])
    return {int(str(record.subject["release"])): record.recorded_at for record in records}


def rollback(state: StateStore, collection: str, number: int | None, *, by: Person, reason: str | None) -> Release:
    """Point readers at an earlier (or later) release; without a number, at the one before the live one."""
    if not by.may("approver", collection):
        raise DecisionRefused(by.name, f"rolling back takes the role approver in {collection}")
    with state.write() as connection:
        if problem := authority.of(connection).why_no_approver(by.name, collection, by.groups):
            raise DecisionRefused(by.name, f"by the audit chain {problem}")
        current = require_live(connection, collection)
        target = get(connection, collection, current.number - 1 if number is None else number)
        if (at := pruned(connection, collection).get(target.number)) is not None:
            raise ReleasePruned(collection, target.number, at)
        if target.number != current.number:
            upsert(connection, "live_releases", {"collection": collection}, {"number": target.number})
            audit.append(
                connection,
                by.name,
                "rolled back",
                {
                    "collection": collection, "release": target.number, "from": current.number,
                    "digest": target.digest, "reason": reason, "at": now(), "groups": sorted(by.groups),
                },
            )  # fmt: skip
    return target
