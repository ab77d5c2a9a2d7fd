"""Where one row comes from, as one record: from its bytes to where it was published. The command, JSON, the signed
statement and the desk's page all show this.

Each question to the state store is answered from an index, however large the ledger is (tests/test_provenance.py).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.collection.loading import Collection
from ai_assets.run.explain import hint
from ai_assets.run.provenance_records import Facts, FoundRow, ProvenanceStep
from ai_assets.run.provenance_signed import signed_steps
from ai_assets.run.provenance_steps import made_steps
from ai_assets.signoff import attestation, forgotten, releases
from ai_assets.signoff.audit_errors import NotProvable
from ai_assets.signoff.errors import DocumentUnknown
from ai_assets.signoff.forgotten import STATUS as FORGOTTEN
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.golden_labels import computed_partitions
from ai_assets.signoff.releases import Release
from ai_assets.storage.digest import Json
from ai_assets.storage.lake import place_in_parquet, read_parquet_row
from ai_assets.storage.state import storable
from ai_assets.storage.stores import Stores

FORMAT = 1
Standing = Literal["live", "released", "not released"]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Whose eyes it is for."""

    sees: Callable[[str], bool] = lambda _collection: True
    """Whether they may see a collection: one answer may have been asked for by several."""
    own_only: bool = False
    """Attempts for others are left out, not only without their names: tenants are declared."""


EVERYTHING = Sight()


@dataclass(frozen=True, kw_only=True)
class Provenance:
    format: int
    collection: str
    document: str
    chunk: str | None
    """The passage that was asked about."""
    partition: str
    standing: Standing
    release: int | None
    """The one that it is explained as it is in; None for a row that is in none."""
    row: str | None
    """Digest of the signed row: what the release's digest is of."""
    forgotten: str | None
    """Why its text is gone, in a sentence; steps say what is left."""
    cost_usd: float
    """Of all attempts of its calls."""
    maybe_usd: float
    """What attempts that nobody has resolved may have cost beside."""
    steps: tuple[ProvenanceStep, ...]

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)

    @property
    def without_texts(self) -> dict[str, Any]:
        """For a statement that goes elsewhere: digests in place of what was sent."""
        steps = [{**dataclasses.asdict(step), "messages": []} for step in self.steps]
        return {**self.plain, "steps": steps}


def provenance_of(
    collection: Collection, stores: Stores, asked: str, *, number: int | None = None, sight: Sight = EVERYTHING
) -> Provenance:
    """Of a document or a passage, as it is live; where it is not live, as it was computed last; or as in a release.

    Raises `DocumentUnknown`, or what is wrong with the release or its files.
    """
    with stores.state.read() as connection:
        live = releases.live_number(connection, collection.name)
        wanted = live if number is None else number
        release = None if wanted is None else releases.get(connection, collection.name, wanted)
        gone = forgotten.of(connection, collection.name).documents
        missing = None
        found = None
        if release is not None and wanted in (pruned := releases.pruned(connection, collection.name)):
            missing = f"the files of release {wanted} were removed on {pruned[wanted][:10]} (retention)"
            found = _without_files(connection, collection.name, asked, release)
        elif release is not None:
            found = _in_release(connection, stores, release, asked)
        if found is None and number is None:
            found = _current(connection, stores, collection, asked)
        if found is None:
            end = hint(connection, collection.name, asked) if number is None else f" in release {number}."
            raise DocumentUnknown(collection.name, asked, end)
        facts = Facts(
            connection=connection, collection=collection, stores=stores, found=found, sees=sight.sees,
            own_only=sight.own_only, live=live, missing=missing,
        )  # fmt: skip
        steps = (*made_steps(facts), *signed_steps(facts))
        told = gone.get(found.document)
    is_gone = found.row.get("status") == FORGOTTEN or (told is not None and not found.row.get("text"))
    return Provenance(
        format=FORMAT,
        collection=collection.name,
        document=found.document,
        chunk=found.chunk,
        partition=found.partition,
        standing="not released" if found.release is None else "live" if found.release.number == live else "released",
        release=None if found.release is None else found.release.number,
        row=found.row.get("leaf"),
        forgotten=f"'{found.document}' was {told.reason}" if told is not None and is_gone else None,
        cost_usd=facts.cost_usd,
        maybe_usd=facts.maybe_usd,
        steps=steps,
    )


def statement_of(stores: Stores, found: Provenance) -> dict[str, Json]:
    """It as a signed statement. Raises `NotProvable` where it is in no release, or its row cannot be proved."""
    if found.release is None:
        raise NotProvable(f"'{found.document}'", "it is in no release, and only what was published can be proved")
    return attestation.attest(stores, found.collection, found.release, found.document, found.without_texts)


# Finding the row


def _in_release(connection: sa.Connection, stores: Stores, release: Release, asked: str) -> FoundRow | None:
    for partition in _places(connection, release.collection, asked, list(release.parts)):
        documents, chunks = snapshot_paths(stores.lake, release.collection, partition, release.parts[partition])
        if (found := _row_at(documents, chunks, asked)) is not None:
            row, chunk = found
            return FoundRow(
                document=row["document_id"], partition=partition, chunk=chunk, release=release, row=row, chunks=chunks
            )
    return None


def _current(connection: sa.Connection, stores: Stores, collection: Collection, asked: str) -> FoundRow | None:
    """As it was computed last."""
    every = computed_partitions(connection, collection.name, "documents")
    for partition in _places(connection, collection.name, asked, every):
        manifest = stores.lake.manifest(collection.name, "documents", partition)
        if manifest is None:
            continue
        cut = stores.lake.manifest(collection.name, "chunks", partition)
        chunks = None if cut is None else stores.lake.path(cut)
        if (found := _row_at(stores.lake.path(manifest), chunks, asked)) is not None:
            row = {**found[0], **_said(stores, collection, partition, found[0]["document_id"])}
            return FoundRow(
                document=row["document_id"], partition=partition, chunk=found[1], release=None, row=row, chunks=chunks
            )
    return None


def _said(stores: Stores, collection: Collection, partition: str, document: str) -> dict[str, Any]:
    """What stages say of it, in the columns that a release would have."""
    found: dict[str, Any] = {}
    for stage in collection.stages:
        manifest = stores.lake.manifest(collection.name, stage.name, partition)
        if manifest is None:
            continue
        path = stores.lake.path(manifest)
        if (place := place_in_parquet(path, "document_id", document)) is not None:
            row = read_parquet_row(path, place)
            found |= {f"{stage.name}_{name}": value for name, value in row.items() if name != "document_id"}
    return found


def _without_files(connection: sa.Connection, collection: str, asked: str, release: Release) -> FoundRow | None:
    """What is known of it where the release's files are gone: that its partition was in it."""
    for partition in places_by_history(connection, collection, asked):
        if partition in release.parts:
            return FoundRow(
                document=asked, partition=partition, chunk=None, release=release, row={"document_id": asked},
                chunks=None,
            )  # fmt: skip
    return None


def _places(connection: sa.Connection, collection: str, asked: str, every: Sequence[str]) -> Iterator[str]:
    """Partitions in which it may be: those that its history names, else all of them."""
    named = [name for name in places_by_history(connection, collection, asked) if name in set(every)]
    yield from named
    if not named:
        yield from every


def places_by_history(connection: sa.Connection, collection: str, asked: str) -> list[str]:
    """Partitions in which a document was seen, the last first."""
    query = sa.text(
        "SELECT partition FROM document_history WHERE collection = :c AND document_id = :d ORDER BY happened_at DESC"
    )
    found: list[str] = list(connection.execute(query, {"c": collection, "d": storable(asked) or ""}).scalars())
    return list(dict.fromkeys(found))


def _row_at(documents: Path, chunks: Path | None, asked: str) -> tuple[Mapping[str, Any], str | None] | None:
    """The whole row of a document, or of the one that a passage is of, and the passage."""
    place = place_in_parquet(documents, "document_id", asked)
    if place is not None:
        return read_parquet_row(documents, place), None
    cut = None if chunks is None else place_in_parquet(chunks, "chunk_id", asked)
    if chunks is None or cut is None:
        return None
    document = read_parquet_row(chunks, cut)["document_id"]
    place = place_in_parquet(documents, "document_id", document)
    if place is None:
        raise DatasetDamaged(chunks, f"it has passages of '{document}', which is not among its documents")
    return read_parquet_row(documents, place), asked
