"""Releases: which candidate of each partition is published together, and which release readers see.

The tables only mirror the audit chain: a release is read only where its row is what the chain says was published, and
the live release only where the pointer names what the chain last made live.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from ai_assets.collection.contract import Contract
from ai_assets.embedding.searched_by import AS_ALWAYS, SearchedBy, as_recorded_search, recorded_search
from ai_assets.embedding.spec import Embedding, as_recorded, recorded_embeddings
from ai_assets.signoff import audit, authority
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import NothingLive, ReleaseAltered, ReleasePruned, ReleaseUnknown
from ai_assets.signoff.people import Person
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.index_place import SealedFile
from ai_assets.storage.index_seal import Seal, as_recorded_seal
from ai_assets.storage.state import StateStore, now, upsert

LIVE_ACTIONS: tuple[audit.Action, ...] = ("published", "rolled back")
"""What moves the live pointer."""
_COLUMNS = (
    "collection", "number", "digest", "index_name", "index_version", "manifest", "created_at", "created_by",
)  # fmt: skip


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
    embeddings: Mapping[str, Embedding]
    """By name, what made the vectors of its chunks."""
    quarantined: int = 0
    """Of its documents, those that nobody could read; unknown of what an earlier version published."""
    searched_by: SearchedBy = AS_ALWAYS
    """How it was searched when it was judged."""
    policy: str | None = None
    """Digest of the policies that let it be published; None where there were none."""
    costs_file: str | None = None
    """What the calls behind its rows cost, as the ledger knew then: `release_costs`. Empty where no model was asked;
    None where an earlier version published it."""

    @property
    def files(self) -> tuple[str, ...]:
        """All that is kept of it, in one folder."""
        return (self.documents_file, self.chunks_file, *((self.costs_file,) if self.costs_file else ()))

    @property
    def released(self) -> int:
        """Documents that readers get."""
        return self.documents - self.quarantined


@dataclass(frozen=True, kw_only=True)
class ReleasedContract:
    """What readers of a release were promised when it was published."""

    contract: Contract
    broken: tuple[str, ...] = ()
    """Partitions whose rows break it, as somebody who approved them said they may."""

    @property
    def version(self) -> int:
        return self.contract.version

    @property
    def digest(self) -> str:
        return self.contract.digest

    def as_data(self) -> dict[str, Any]:
        return {**self.contract.as_data(), **({"broken": list(self.broken)} if self.broken else {})}

    @classmethod
    def from_data(cls, found: Mapping[str, Any]) -> "ReleasedContract":
        return cls(contract=Contract.from_data(found), broken=tuple(found.get("broken", ())))


@dataclass(frozen=True, kw_only=True)
class Release:
    collection: str
    number: int
    digest: str
    index_name: str
    index_version: int
    """Where search finds exactly these rows."""
    index_branch: str | None = None
    """Of that table; None where an earlier version of ai-assets published it, as a version of the table itself."""
    index_seal: Seal | None = None
    """The files of that version; None where an earlier version published it."""
    parts: Mapping[str, Part]
    created_at: str
    created_by: str
    contract: ReleasedContract | None = None
    """None where none was declared."""

    @cached_property
    def documents(self) -> int:
        return sum(part.released for part in self.parts.values())

    @cached_property
    def contents(self) -> Mapping[str, tuple[str, str]]:
        """By partition, what readers see of it, by content and file: a forgotten document leaves a tombstone in another
        file, under the content that was signed."""
        return {name: (part.content, part.documents_file) for name, part in self.parts.items()}

    @cached_property
    def signers(self) -> Sequence[str]:
        return sorted({name for part in self.parts.values() for name in part.approved_by})

    @property
    def embeddings(self) -> Mapping[str, Embedding]:
        """By name, what made its vectors, those of all parts; empty where it has none."""
        return next((part.embeddings for part in self.parts.values() if part.chunks), {})

    @property
    def searched_by(self) -> SearchedBy:
        """How it is searched: as all its parts were when they were judged."""
        return searched_by_of(self.parts)

    @cached_property
    def content(self) -> bytes:
        """All of it, for who has no state store; `of_file` reads it. A sensor compares it every few seconds, and of
        thousands of partitions it is some megabytes."""
        return canonical_json(_as_file(self)).encode()


def searched_by_of(parts: Mapping[str, Part]) -> SearchedBy:
    return next((part.searched_by for part in parts.values() if part.chunks), AS_ALWAYS)


def release_digest(parts: Mapping[str, Part]) -> str:
    return digest(signed_parts(parts))


def signed_parts(parts: Mapping[str, Part]) -> dict[str, Json]:
    """All that the digest of a release is of: what people approved, and the policies that let it be published."""
    return {
        partition: part.digest if part.policy is None else [part.digest, part.policy]
        for partition, part in parts.items()
    }


def find(connection: sa.Connection, collection: str) -> list[Release]:
    """All, in order. Raises `ReleaseAltered` for the first that is not what was published."""
    found = []
    for _, release in read_all(connection, collection):
        if isinstance(release, ReleaseAltered):
            raise release
        found.append(release)
    return found


def read_all(
    connection: sa.Connection, collection: str, *, newest: int | None = None
) -> Iterator[tuple[int, Release | ReleaseAltered]]:
    """All by number, or the newest so many, in order; what is wrong with one, in its place."""
    known = numbers(connection, collection)
    first = known[-newest] if newest is not None and newest < len(known) else 0
    rows = connection.execute(
        sa.text("SELECT * FROM releases WHERE collection = :c AND number >= :first ORDER BY number"),
        {"c": collection, "first": first},
    ).mappings()
    found = _records(connection, collection, "published", limit=newest)
    records = {record.subject["release"]: record for record in found}
    for row in rows:
        try:
            yield row["number"], _published(connection, row, records.get(row["number"]))
        except ReleaseAltered as error:
            yield row["number"], error


def numbers(connection: sa.Connection, collection: str) -> Sequence[int]:
    """Of all, in order; nothing of what they are is looked at."""
    query = sa.text("SELECT number FROM releases WHERE collection = :c ORDER BY number")
    found: Sequence[int] = connection.execute(query, {"c": collection}).scalars().all()
    return found


def last_number(connection: sa.Connection, collection: str) -> int:
    """Of the newest release, as the chain tells; 0 before the first."""
    numbers = [int(str(record.subject["release"])) for record in _records(connection, collection, "published")]
    query = sa.text("SELECT max(number) FROM releases WHERE collection = :c")
    return max(*numbers, connection.execute(query, {"c": collection}).scalar_one() or 0, 0)


def get(connection: sa.Connection, collection: str, number: int) -> Release:
    """Raises `ReleaseAltered` where it is not what was published."""
    return _get(connection, collection, number, None)


def _get(connection: sa.Connection, collection: str, number: int, publication: Record | None) -> Release:
    """`publication`: its record, where it was read already."""
    row = connection.execute(
        sa.text("SELECT * FROM releases WHERE collection = :c AND number = :n"), {"c": collection, "n": number}
    ).mappings().one_or_none()  # fmt: skip
    if row is None:
        raise ReleaseUnknown(collection, number, numbers(connection, collection))
    if publication is None:
        records = _records(connection, collection, "published")
        publication = next((record for record in records if record.subject["release"] == number), None)
    return _published(connection, row, publication)


def _records(
    connection: sa.Connection, collection: str, *actions: audit.Action, limit: int | None = None
) -> list[Record]:
    """The newest first."""
    return audit.select(connection, collections=[collection], actions=actions, limit=limit)


def _published(connection: sa.Connection, row: sa.RowMapping, record: Record | None) -> Release:
    """The row as a release, if it is what the record says was published."""
    name = f"Release {row['number']} of {row['collection']}"
    if record is None:
        raise ReleaseAltered(name, "the audit chain has no such publication", row["collection"])
    _require_signed(connection, name, record)
    kept = _kept(row)
    if (row["digest"], kept.record) != (record.subject["digest"], record.subject["record"]):
        raise ReleaseAltered(name, "its row is not what was published, by the audit chain", row["collection"])
    return kept.release


def _require_signed(connection: sa.Connection, name: str, record: Record) -> None:
    try:
        authority.require_signed(connection, record)
    except AuditBroken as error:
        raise ReleaseAltered(
            name, f"its record in the audit chain does not hold: {error}", str(record.subject["collection"])
        ) from error


def live_number(connection: sa.Connection, collection: str) -> int | None:
    """As the chain last said, which the pointer must say too."""
    record = pointing(connection, collection)
    return None if record is None else number_in(record)


def pointing(connection: sa.Connection, collection: str) -> Record | None:
    """The record that says what readers see, where the pointer says the same and its signature holds."""
    query = sa.text("SELECT number FROM live_releases WHERE collection = :c")
    stored: int | None = connection.execute(query, {"c": collection}).scalar_one_or_none()
    record = live_record(connection, collection)
    told = number_in(record) if record else None
    if stored != told:
        found = f"it names release {stored or 'none'}, and the audit chain {told or 'none'}"
        raise ReleaseAltered(f"The live pointer of {collection}", found, collection, told)
    if record is not None:
        _require_signed(connection, f"Release {told} of {collection}", record)
    return record


def number_in(record: Record) -> int:
    return int(str(record.subject["release"]))


def live_record(connection: sa.Connection, collection: str) -> Record | None:
    """The last that says what readers see."""
    found = [
        record
        for action in LIVE_ACTIONS
        for record in _records(connection, collection, action, limit=1)  # each the last entry of an index
    ]
    return max(found, key=lambda record: record.seq, default=None)


def live(connection: sa.Connection, collection: str) -> Release | None:
    """What readers see. Raises `ReleaseAltered` where that is not what was published."""
    found = live_by_record(connection, collection)
    return None if found is None else found[0]


def live_by_record(connection: sa.Connection, collection: str) -> tuple[Release, Record] | None:
    """The same, with the record that says so."""
    if (record := pointing(connection, collection)) is None:
        return None
    publication = record if record.action == "published" else None
    return _get(connection, collection, number_in(record), publication), record


def require_live(connection: sa.Connection, collection: str) -> Release:
    return require_live_by_record(connection, collection)[0]


def require_live_by_record(connection: sa.Connection, collection: str) -> tuple[Release, Record]:
    found = live_by_record(connection, collection)
    if found is None:
        raise NothingLive(collection)
    return found


class _Kept:
    """A row that was read before, with what was made of it: that of the live release is read for each question, and
    is some megabytes where it has thousands of partitions. They are compared to the letter, which costs less than a
    hash of them."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.row = row

    @cached_property
    def record(self) -> str:
        """As the audit chain names it."""
        said = dict(zip(_COLUMNS, self.row, strict=True))
        place = said["index_name"], said["index_version"]
        return audit.release_record(said["manifest"], place, said["created_at"], said["created_by"])

    @cached_property
    def release(self) -> Release:
        return _read(*self.row)


_MOST_KEPT = 16
_rows: dict[tuple[str, int, str], _Kept] = {}
"""The newest of each release, of the last ones that were asked for."""


def _kept(row: Mapping[str, Any] | sa.RowMapping) -> _Kept:
    said = tuple(row[name] for name in _COLUMNS)
    place = row["collection"], row["number"], row["digest"]
    found = _rows.pop(place, None)
    if found is None or found.row != said:
        found = _Kept(said)
    _rows[place] = found
    for oldest in list(_rows)[:-_MOST_KEPT]:
        _rows.pop(oldest, None)
    return found


def _read(
    collection: str, number: int, digest: str, index_name: str, index_version: int, stored: str, at: str, by: str
) -> Release:  # fmt: skip
    manifest: dict[str, Any] = json.loads(stored)
    parts, sealed, promised = manifest["parts"], manifest.get("index"), manifest.get("contract")
    costs: dict[str, str] = manifest.get("costs", {})
    return Release(
        collection=collection,
        number=number,
        digest=digest,
        index_name=index_name,
        index_version=index_version,
        index_branch=manifest.get("branch"),
        index_seal=None if sealed is None else {name: SealedFile(*file) for name, file in sealed.items()},
        parts={name: _part(part, costs.get(name)) for name, part in parts.items()},
        created_at=at,
        created_by=by,
        contract=None if promised is None else ReleasedContract.from_data(promised),
    )


def _part(said: Mapping[str, Any], costs_file: str | None) -> Part:
    own = {name: value for name, value in said.items() if name not in ("embedding", "embeddings", "searched_by")}
    records = {"embeddings": recorded_embeddings(said), "searched_by": recorded_search(said)}
    records["costs_file"] = costs_file
    return Part(**{**own, "approved_by": tuple(said["approved_by"]), **records})


def _recorded(part: Part) -> dict[str, Any]:
    elsewhere = ("embeddings", "searched_by", "costs_file")
    own = {name: value for name, value in asdict(part).items() if name not in elsewhere}
    if part.policy is None:
        del own["policy"]  # as it was recorded before there were policies
    return {**own, **as_recorded(part.embeddings), **as_recorded_search(part.searched_by)}


def _as_file(release: Release) -> dict[str, Json]:
    return {
        "collection": release.collection,
        "number": release.number,
        "digest": release.digest,
        "index_name": release.index_name,
        "index_version": release.index_version,
        "manifest": _manifest(release),
        "created_at": release.created_at,
        "created_by": release.created_by,
    }


def of_file(found: Mapping[str, Any]) -> Release:
    return _kept(found).release


def _manifest(release: Release) -> str:
    costs = {name: part.costs_file for name, part in release.parts.items() if part.costs_file is not None}
    return canonical_json(
        {
            "parts": {name: _recorded(part) for name, part in release.parts.items()},
            **({"costs": costs} if costs else {}),  # beside them: earlier versions read this, too
            **({} if release.index_seal is None else {"index": as_recorded_seal(release.index_seal)}),
            **({} if release.index_branch is None else {"branch": release.index_branch}),
            **({} if release.contract is None else {"contract": release.contract.as_data()}),
        }
    )


def publish_release(
    connection: sa.Connection, release: Release, published: Mapping[str, Part], card: str | None = None
) -> None:
    """Store the release, move the pointer and record it, in the caller's one transaction.

    `card`: the digest of its model card.
    """
    manifest = _manifest(release)
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
            **({} if card is None else {"card": card}),
        },
    )


def live_at(connection: sa.Connection, collection: str, moment: str) -> Release | None:
    """What readers saw at that time (UTC, as the chain writes it); None before the first release."""
    records = audit.select(
        connection, collections=[collection], actions=["published", "rolled back"], until=moment, limit=1
    )
    if not records:
        return None
    number = int(str(records[0].subject["release"]))
    _require_signed(connection, f"Release {number} of {collection}", records[0])
    return get(connection, collection, number)


def pruned(connection: sa.Connection, collection: str) -> dict[int, str]:
    """Releases whose files were removed, with the time: they cannot be rolled back to.

    Raises `AuditBroken` for a record that was forged: what it says would be removed.
    """
    records = _records(connection, collection, "release pruned")
    for record in records:
        authority.require_signed(connection, record)
    return {int(str(record.subject["release"])): record.recorded_at for record in records}


@dataclass(frozen=True, kw_only=True)
class RollbackResult:
    release: Release
    record: Record | None
    """In the audit chain; None where it was live already."""


def rollback(
    state: StateStore, collection: str, number: int | None, *, by: Person, reason: str | None
) -> RollbackResult:
    """Point readers at an earlier (or later) release; without a number, at the one before the live one.

    A pointer that was moved behind the chain's back is put right by naming the release that the chain says is live.
    """
    with state.write() as connection:
        authority.require_approver(connection, by, collection, "rolling back")
        record = live_record(connection, collection)
        if record is None:
            raise NothingLive(collection)
        current = int(str(record.subject["release"]))
        target = get(connection, collection, current - 1 if number is None else number)
        if (at := pruned(connection, collection).get(target.number)) is not None:
            raise ReleasePruned(collection, target.number, at)
        upsert(connection, "live_releases", {"collection": collection}, {"number": target.number})
        made = None
        if target.number != current:
            made = audit.append(
                connection,
                by.name,
                "rolled back",
                {
                    "collection": collection, "release": target.number, "from": current,
                    "digest": target.digest, "reason": reason, "at": now(), **by.recorded_rights(collection),
                },
            )  # fmt: skip
    return RollbackResult(release=target, record=made)
