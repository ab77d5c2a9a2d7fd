"""Publication: approved candidates become the live release, or nothing changes.

Before anything is written the candidate's digest is computed again from its files, and the approval is looked up in
the audit chain. The index gets a new version beside the old ones; then one transaction moves the pointer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_assets.collection import Collection
from ai_assets.embedding import Embedding, recorded_embedding
from ai_assets.errors import (
    ApprovalInsufficient,
    CandidateChanged,
    EmbeddingsMixed,
    NothingApproved,
    PublicationOvertaken,
)
from ai_assets.signoff import decisions, releases, requests
from ai_assets.signoff.candidate import candidate_digest, content_digest, leaves_of, snapshot_folder
from ai_assets.signoff.releases import Part, Release
from ai_assets.work import Stores
from resources.lake import Manifest, read_parquet
from resources.leases import hold
from resources.state import now

FIRST_INDEX = "live"


@dataclass(frozen=True)
class Publication:
    release: Release
    partitions: Sequence[str]
    """What changed against the release before."""


def publish(
    collection: Collection, stores: Stores, *, by: str, say: Callable[[str], None] = lambda _line: None
) -> Publication:
    """Publish all that is approved and still current. Raises when there is nothing, or when one was tampered with.

    A live release whose index is gone is published again as it is, with a new one. So is what is embedded anew, for
    vectors of two embedders cannot be compared: all partitions are published together then, or none is.
    """
    with hold(stores.state, f"publish:{collection.name}", say=say) as lease:
        with stores.state.read() as connection:
            before = releases.live(connection, collection.name)
            every = releases.find(connection, collection.name)
            approved = requests.find(connection, collection.name, statuses=("approved",))
            waiting = requests.find(connection, collection.name, statuses=("open",))
            standings = decisions.standings(connection, approved)
        lost = before is not None and not _searchable(collection, stores, before)
        if not approved and not lost:
            raise NothingApproved(collection.name, len(waiting))
        parts: dict[str, Part] = {}
        tables: dict[str, Any] = {}
        for request in approved:
            standing = standings[request.request_id]
            if problem := decisions.why_not_publishable(request, standing, collection.settings):
                raise ApprovalInsufficient(collection.name, request.partition, request.digest, problem)
            signers = standing.signers
            say(f"{request.partition}: checking {request.digest[:12]}, approved by {', '.join(signers)}")
            parts[request.partition], tables[request.partition] = _verified(collection, stores, request, signers)
        lease.check()
        number = (every[-1].number if every else 0) + 1
        merged = {**(before.parts if before else {}), **parts}
        embedding = _one_embedding(collection, merged)
        name, base = (before.index_name, before.index_version) if before else (FIRST_INDEX, None)
        if before and (lost or before.embedding is None or before.embedding.space != embedding.space):
            # A new name: LanceDB counts versions from 1 again, and an old release must not find another's rows.
            name, base = f"live-{number}", None
            for partition in merged.keys() - parts.keys():
                tables[partition] = _published_rows(collection, stores, partition, merged[partition])
        say(f"writing the index: {len(tables)} partition(s)")
        version = stores.index(collection.name, name, embedding.dimensions).replace(
            {partition: table if table.num_rows else None for partition, table in tables.items()}, base_version=base
        )
        release = Release(
            collection=collection.name,
            number=number,
            digest=releases.release_digest(merged),
            index_name=name,
            index_version=version,
            parts=merged,
            created_at=now(),
            created_by=by,
        )
        with lease.fenced() as connection:
            overtaken = releases.live(connection, collection.name)
            if overtaken != before:
                raise PublicationOvertaken(collection.name, overtaken.number if overtaken else None)
            still = {r.request_id for r in requests.find(connection, collection.name, statuses=("approved",))}
            for request in approved:
                if request.request_id not in still:
                    raise CandidateChanged(
                        collection.name, request.partition, request.digest, "a newer candidate replaced it meanwhile"
                    )
                requests.mark_published(connection, request)
            releases.publish_release(connection, release, parts)
        say(f"release {release.number} is live: {release.documents} documents")
    return Publication(release, sorted(parts))


def _one_embedding(collection: Collection, parts: Mapping[str, Part]) -> Embedding:
    """What made all vectors of a release to be. Partitions without chunks have none, and fit with any."""
    found = {part.embedding.space: part.embedding for part in parts.values() if part.chunks}
    if len(found) > 1:
        wanted = collection.embedding
        others = [name for name, part in parts.items() if part.chunks and part.embedding.space != wanted.space]
        raise EmbeddingsMixed(collection.name, str(wanted), sorted(others))
    return next(iter(found.values()), collection.embedding)


def anything_to_publish(collection: Collection, stores: Stores) -> bool:
    """Something is approved, or the live release lost its index."""
    with stores.state.read() as connection:
        approved = requests.find(connection, collection.name, statuses=("approved",))
        live = releases.live(connection, collection.name)
    return bool(approved) or (live is not None and not _searchable(collection, stores, live))


def _searchable(collection: Collection, stores: Stores, release: Release) -> bool:
    return stores.index(collection.name, release.index_name).holds(release.index_version)


def _published_rows(collection: Collection, stores: Stores, partition: str, part: Part) -> Any:
    """Index rows of what is live already, if its files still are what was approved."""
    documents, chunks = read_snapshot(collection.name, stores, partition, vars(part))
    if (found := content_digest(leaves_of(documents, chunks))) != part.content:
        raise CandidateChanged(
            collection.name, partition, part.digest, f"the rows of its files now amount to {found[:12]}"
        )
    return index_rows(partition, chunks)


def _verified(
    collection: Collection, stores: Stores, request: requests.Request, signers: Sequence[str]
) -> tuple[Part, Any]:
    """The approved candidate's files, if they still are what was approved, and the index rows made from them."""
    manifest = stores.lake.manifest(collection.name, "release_candidate", request.partition)
    found = manifest.stats["digest"] if manifest else None
    if manifest is None or found != request.digest:
        what = f"the candidate there now is {str(found)[:12]}" if found else "there is no candidate any more"
        raise CandidateChanged(collection.name, request.partition, request.digest, what)
    documents, chunks = read_snapshot(collection.name, stores, request.partition, manifest.stats)
    content = content_digest(leaves_of(documents, chunks))
    recomputed = candidate_digest(
        collection.name, request.partition, content, manifest.stats["code_versions"], manifest.stats["scores"],
        manifest.stats["cost_usd"],
    )  # fmt: skip
    if recomputed != request.digest:
        raise CandidateChanged(
            collection.name, request.partition, request.digest, f"its files now amount to {recomputed[:12]}"
        )
    part = _part(manifest, content, documents.num_rows, chunks.num_rows, request, signers)
    return part, index_rows(request.partition, chunks)


def _part(
    manifest: Manifest, content: str, documents: int, chunks: int, request: requests.Request, signers: Sequence[str]
) -> Part:
    return Part(
        digest=request.digest,
        content=content,
        documents_file=manifest.stats["documents_file"],
        chunks_file=manifest.stats["chunks_file"],
        documents=documents,
        chunks=chunks,
        request_id=request.request_id,
        approved_by=tuple(signers),
        code_versions=manifest.stats["code_versions"],
        run_id=manifest.run_id,
        embedding=recorded_embedding(manifest.stats),
    )


def read_snapshot(collection: str, stores: Stores, partition: str, files: Mapping[str, Any]) -> tuple[Any, Any]:
    """The documents and chunks of one partition, as a candidate or a release holds them."""
    folder = snapshot_folder(stores.lake.root, collection, partition)
    return read_parquet(folder / files["documents_file"]), read_parquet(folder / files["chunks_file"])


def index_rows(partition: str, chunks: Any) -> Any:
    """Chunks as the search index wants them."""
    import pyarrow as pa

    named = chunks.select(["chunk_id", "document_id", "title", "text", "vector"])
    return named.append_column("partition", pa.array([partition] * chunks.num_rows, pa.string()))
