"""Publication: approved candidates become the live release, or nothing changes.

Before anything is written the candidate's digest is computed again from its files, and the approval is looked up in
the audit chain, which must be what its last checkpoint says it was. The index gets a new version beside the old ones,
on a branch; then one transaction moves the pointer, and the tag and `live.json` follow it.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import AiAssetsError, DatasetAltered, UserError
from ai_assets.base.plural import plural
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import OWN_TEXT
from ai_assets.documents.passages import OF
from ai_assets.embedding.searched_by import AS_ALWAYS, SEARCHED_BY
from ai_assets.embedding.spec import FIRST, Embedding, further_columns, in_words, spaces_key
from ai_assets.policy.errors import PublicationDenied
from ai_assets.signoff import (
    checkpoints,
    contracts,
    decisions,
    forgotten,
    live_index,
    release_cards,
    release_costs,
    releases,
    requests,
    served,
    verification,
)
from ai_assets.signoff.canaries import GATE, canary_finding
from ai_assets.signoff.candidate import Leaves, candidate_digest, content_of_files
from ai_assets.signoff.errors import (
    ApprovalInsufficient,
    CanaryHolds,
    CandidateChanged,
    ContractHolds,
    ContractNotKept,
    EmbeddingsMixed,
    IndexAltered,
    IndexLost,
    IndexMixed,
    NothingApproved,
    PublicationOvertaken,
    SearchesMixed,
    SignedAssetElsewhere,
)
from ai_assets.signoff.frozen_candidate import FrozenCandidate, SnapshotFiles, current_candidate, snapshot_paths
from ai_assets.signoff.live_index import FIRST_INDEX
from ai_assets.signoff.policy_facts import publication_verdict
from ai_assets.signoff.releases import Part, Release, ReleasedContract
from ai_assets.storage.content import file_sha256, named_by_content
from ai_assets.storage.index import IndexUnavailable, SearchIndex
from ai_assets.storage.lake import parquet_columns, parquet_rows, read_batches
from ai_assets.storage.leases import hold
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores

INDEXED = ["chunk_id", "document_id", "title", "text", "vector"]


@dataclass(frozen=True)
class PublicationResult:
    release: Release
    partitions: Sequence[str]
    """What changed against the release before."""


def publish(
    collection: Collection,
    stores: Stores,
    *,
    by: str,
    say: Callable[[str], None] = lambda _line: None,
    instead: Mapping[str, Part] | None = None,
    judge: Callable[[SearchIndex, int, Mapping[str, Part]], None] | None = None,
) -> PublicationResult:
    """Publish all that is approved and still current. Raises when there is nothing, or when one was tampered with.

    A live release whose index is gone or was altered is published again as it is, with a new one. So is what is
    embedded anew, for vectors of two embedders cannot be compared: all partitions are published together then, or none
    is.

    `instead`: parts of the live release in other files that amount to the same, because documents were forgotten. Then
    nothing else is published, and the index is a new one: the old one's files hold what was deleted from it, too.

    `judge` raises where the index as it would go live must not. What is live already is not judged again, nor is what
    was to be forgotten.
    """
    if collection.is_record:
        raise SignedAssetElsewhere(collection.name, str(collection.signed_asset))
    with hold(stores.state, f"publish:{collection.name}", say=say) as lease:
        kept = checkpoints.kept_notes(stores.home.checkpoints)
        with stores.state.read() as connection:
            reached = checkpoints.require_kept(connection, kept)
            verification.require_sound(connection, reached.record if reached else None)
            before = releases.live(connection, collection.name)
            number = releases.last_number(connection, collection.name) + 1
            every = requests.find(connection, collection.name, statuses=("approved",))
            approved = [] if instead is not None else every
            waiting = requests.find(connection, collection.name, statuses=("open",))
            standings = decisions.standings(connection, approved)
            gone = forgotten.of(connection, collection.name)
        lost = before is not None and (problem := _unsearchable(stores, before)) is not None
        if lost:
            say(f"{problem}: it is made again")
        if not approved and not lost and instead is None:
            raise NothingApproved(collection.name, len(waiting))
        parts: dict[str, Part] = dict(instead or {})
        files: dict[str, _VerifiedFiles] = {}
        for request in approved:
            standing = standings[request.request_id]
            if problem := decisions.why_not_publishable(request, standing, collection.settings):
                raise ApprovalInsufficient(collection.name, request.partition, request.digest, problem)
            signers = standing.signers
            say(f"{request.partition}: checking {request.digest[:12]}, approved by {', '.join(signers)}")
            parts[request.partition], files[request.partition] = _verified(collection, stores, gone, request, signers)
        approved = _admitted(collection, stores, approved, standings, before, parts, say, required=not lost)
        files = {partition: found for partition, found in files.items() if partition in parts}
        lease.check()
        merged = {**(before.parts if before else {}), **parts}
        embeddings = _one_set(collection, merged)
        _require_one_search(collection, merged)
        contract = _contract(collection, stores, approved, standings, before, merged, say)
        for partition in instead or {}:
            files[partition] = _still_published(collection, stores, gone, partition, parts[partition])
        base = None if lost or instead is not None else _to_build_on(before, embeddings)
        if base is None:
            for partition in merged.keys() - parts.keys():
                files[partition] = _still_published(collection, stores, gone, partition, merged[partition])
        say(f"writing the index: {len(files)} partition(s)")
        further = further_columns(embeddings)
        branch = base.index_branch if base else f"releases-{number}-{secrets.token_hex(4)}"
        index = stores.index(collection.name, FIRST_INDEX, embeddings[FIRST].dimensions, further, branch)
        with _removed_if_refused(index, is_new=base is None):
            version = index.replace(
                {partition: found.index_rows(partition, further) for partition, found in files.items()},
                base_version=base.index_version if base else None,
                check=lease.check,
            )
            _require_only(collection, index, version, merged)
            if base and (problem := served.altered_index(stores, base)):
                raise IndexAltered(collection.name, base.number, problem)
            if judge is not None and approved:
                judge(index, version, merged)
            for partition, found in files.items():
                if not found.unchanged():
                    problem = "its files were altered while they were published"
                    raise CandidateChanged(collection.name, partition, merged[partition].digest, problem)
            merged = release_costs.with_costs(collection, stores, merged, check=lease.check, say=say)
            release = Release(
                collection=collection.name,
                number=number,
                digest=releases.release_digest(merged),
                index_name=FIRST_INDEX,
                index_version=version,
                index_branch=branch,
                index_seal=index.seal(version, base.index_seal if base else None),
                parts=merged,
                created_at=now(),
                created_by=by,
                contract=contract,
            )
            with stores.state.read() as connection:
                earlier = release_cards.card_before(connection, before)
                card = release_cards.gathered(connection, stores.lake, release, before=earlier, anew=parts)
            with lease.fenced() as connection:
                _make_live(connection, release, before, approved, parts, card.encoded())
        if lost:
            with stores.state.read() as connection:
                read = [item for _, item in releases.read_all(connection, collection.name)]
            _discard_altered(stores, [item for item in read if isinstance(item, Release)])
        say(f"release {release.number} is live: {plural(release.documents, 'document')}")
        live_index.try_to_show(stores, collection.name, say)
        _checkpoint(stores, say)
    return PublicationResult(release, sorted(parts))


def _to_build_on(before: Release | None, embeddings: Mapping[str, Embedding]) -> Release | None:
    """The live release, where its index can be continued; else all of it is written into a branch of its own.

    What is not sealed is not built upon: its bytes are not known to be those that were published. Nor is what an
    earlier version of ai-assets wrote into the table itself: a branch of it would name its files by where they lie now.
    """
    if before is None or before.index_seal is None or before.index_branch is None:
        return None
    return None if _embedded_otherwise(before, embeddings) else before


@contextmanager
def _removed_if_refused(index: SearchIndex, *, is_new: bool) -> Iterator[None]:
    """A branch that no release will name does not stay. What a killed publication leaves, retention removes."""
    try:
        yield
    except AiAssetsError:
        if is_new:
            with suppress(AiAssetsError):
                index.remove()
        raise


def _require_only(collection: Collection, index: SearchIndex, version: int, parts: Mapping[str, Part]) -> None:
    """The index has the passages of the release and no others, such as those of a writer that was taken over."""
    wanted = {partition: part.chunks for partition, part in parts.items() if part.chunks}
    if (found := index.partitions(version)) != wanted:
        wrong = next(name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name))
        raise IndexMixed(collection.name, wrong, found.get(wrong, 0), wanted.get(wrong, 0))


def _make_live(
    connection: sa.Connection,
    release: Release,
    before: Release | None,
    approved: Sequence[requests.SignoffRequest],
    parts: Mapping[str, Part],
    card: str,
) -> None:
    name = release.collection
    overtaken = releases.live(connection, name)
    if overtaken != before:
        raise PublicationOvertaken(name, overtaken.number if overtaken else None)
    still = {r.request_id for r in requests.find(connection, name, statuses=("approved",))}
    for request in approved:
        if request.request_id not in still:
            problem = "a newer candidate replaced it meanwhile"
            raise CandidateChanged(name, request.partition, request.digest, problem)
        requests.mark_published(connection, request)
    release_cards.keep(connection, name, release.number, card)
    releases.publish_release(connection, release, parts, release_cards.card_digest(card))


def _admitted(
    collection: Collection,
    stores: Stores,
    approved: Sequence[requests.SignoffRequest],
    standings: Mapping[str, decisions.DecisionState],
    before: Release | None,
    parts: dict[str, Part],
    say: Callable[[str], None],
    *,
    required: bool,
) -> list[requests.SignoffRequest]:
    """What the policies, as they are now, let go live; what they forbid is taken out of `parts`, and waits.

    So does what a changed model made, where it holds, and what breaks the contract as it is declared now. Raises the
    first of them where nothing is left and something is `required`.
    """
    policies = collection.policies
    found: list[requests.SignoffRequest] = []
    denied: list[UserError] = []
    with stores.state.read() as connection:
        promised = contracts.published_contracts(connection, collection.name)
    for request in approved:
        candidate = current_candidate(stores.lake, collection.name, request.partition)
        assert candidate is not None
        standing = standings[request.request_id]
        said = publication_verdict(collection, request, standing, candidate, before, policies)
        held: UserError | None = _held_by_canary(collection, stores, candidate, standing)
        held = held or _held_by_contract(collection, stores, candidate, request, standing, promised)
        if said.denied or held is not None:
            del parts[request.partition]
            denied.append(held or PublicationDenied(collection.name, request.partition, said.denied))
            say(str(denied[-1]))
        else:
            parts[request.partition] = replace(parts[request.partition], policy=said.digest)
            found.append(request)
    if denied and not found and required:
        raise denied[0]
    return found


def _held_by_canary(
    collection: Collection, stores: Stores, candidate: FrozenCandidate, standing: decisions.DecisionState
) -> CanaryHolds | None:
    """As it is known now, which may be later than the approval."""
    if not collection.canaries:
        return None
    inference = Catalog(stores.home).inference_of(collection.name)
    verdict = canary_finding(stores, collection.name, candidate.partition, candidate, inference).verdict
    if not verdict.holds or (verdict.waivable and GATE in standing.waived):
        return None
    return CanaryHolds(collection.name, candidate.partition, verdict.sentence)


def _held_by_contract(
    collection: Collection,
    stores: Stores,
    candidate: FrozenCandidate,
    request: requests.SignoffRequest,
    standing: decisions.DecisionState,
    promised: contracts.PublishedContracts,
) -> ContractHolds | None:
    """As the contract is declared now. A waiver is of what its sentence said."""
    verdict = contracts.contract_verdict(collection, stores.lake, candidate, promised)
    if verdict is None or not verdict.holds:
        return None
    waived = verdict.waivable and contracts.GATE in standing.waived
    shown = [each.sentence for each in request.verdicts if each.name == contracts.GATE]
    if waived and shown == [verdict.sentence]:
        return None
    return ContractHolds(collection.name, candidate.partition, verdict.sentence, otherwise=waived)


def _contract(
    collection: Collection,
    stores: Stores,
    approved: Sequence[requests.SignoffRequest],
    standings: Mapping[str, decisions.DecisionState],
    before: Release | None,
    merged: Mapping[str, Part],
    say: Callable[[str], None],
) -> ReleasedContract | None:
    """What readers of the new release are promised; what is published again as it is promises what it did.

    Partitions that are live already were held against the contract of their time, and are against another one.
    """
    if not approved:
        return before.contract if before else None
    if collection.contract is None:
        return None
    contract, last = collection.contract.contract, before.contract if before else None
    new = {request.partition for request in approved}
    same = last is not None and last.digest == contract.digest
    waived = {each.partition for each in approved if contracts.GATE in standings[each.request_id].waived}
    known = {name for name in last.broken if name not in new} if last is not None and same else set[str]()
    older = {} if same else {name: part for name, part in merged.items() if name not in new}
    broken = contracts.broken_parts(contract, stores.lake, collection.name, older)
    if broken and collection.contract.on_break == "refuse":
        raise ContractNotKept(collection.name, str(contract), broken)
    for name, why in broken.items():
        say(f"{name}, which is live already, breaks {contract}: {why[0]}")
    return ReleasedContract(contract=contract, broken=tuple(sorted({*waived, *known, *broken})))


def _checkpoint(stores: Stores, say: Callable[[str], None]) -> None:
    """The release is live, whatever becomes of its checkpoint: the sensor of deadlines makes one later."""
    try:
        made = checkpoints.make(stores)
    except (UserError, OSError) as error:
        say(f"no checkpoint of the audit chain was made: {error}")
    else:
        say(f"checkpoint of {plural(made.note.size, 'audit record')}")


def _one_set(collection: Collection, parts: Mapping[str, Part]) -> Mapping[str, Embedding]:
    """By name, what made the vectors of a release to be. Partitions without chunks have none, and fit with any."""
    found = {spaces_key(part.embeddings): part.embeddings for part in parts.values() if part.chunks}
    if len(found) > 1:
        wanted = collection.spaces
        others = [
            name for name, part in parts.items() if part.chunks and spaces_key(part.embeddings) != spaces_key(wanted)
        ]
        raise EmbeddingsMixed(collection.name, in_words(wanted), sorted(others))
    return next(iter(found.values()), collection.spaces)


def _require_one_search(collection: Collection, parts: Mapping[str, Part]) -> None:
    """One search answers for all partitions, so all must have been judged with it."""
    found = {part.searched_by.key: part.searched_by for part in parts.values() if part.chunks}
    if len(found) > 1:
        by_key = {key: [name for name, part in parts.items() if part.searched_by.key == key] for key in found}
        raise SearchesMixed(collection.name, {found[key].in_words: names for key, names in by_key.items()})


def anything_to_publish(collection: Collection, stores: Stores) -> bool:
    """Something is approved, or the index of the live release is gone or was altered."""
    with stores.state.read() as connection:
        approved = requests.find(connection, collection.name, statuses=("approved",))
        live = releases.live(connection, collection.name)
    return bool(approved) or (live is not None and _unsearchable(stores, live) is not None)


def _unsearchable(stores: Stores, release: Release) -> str | None:
    """Why the index of a release has to be made again; None where it is there as it was published."""
    try:
        index = served.require_index(stores, release)
        if release.index_seal and (missing := index.missing(release.index_seal)):
            raise IndexAltered(release.collection, release.number, f"{missing[0]} is gone")
    except (IndexLost, IndexAltered, IndexUnavailable) as error:
        return str(error).partition(". ")[0]
    return None


def _discard_altered(stores: Stores, every: Sequence[Release]) -> None:
    """Versions of the index whose bytes are not those that were published are not gone back to: a release that was
    published with one gets its index made again once it is live."""
    for release in every:
        with suppress(IndexUnavailable):
            if served.altered_index(stores, release) is not None:
                served.index_of(stores, release).discard(release.index_version)


def _embedded_otherwise(before: Release, embeddings: Mapping[str, Embedding]) -> bool:
    return not before.embeddings or spaces_key(before.embeddings) != spaces_key(embeddings)


@dataclass(frozen=True, kw_only=True)
class _VerifiedFiles:
    """Files that hold what was approved. They are read a second time for the index, and must be the same then."""

    chunks: Path
    rows: int
    sha256: str

    def index_rows(self, partition: str, further: Iterable[str]) -> Iterator[Any] | None:
        """`further`: columns of vectors beside the first."""
        if not self.rows:
            return None
        columns = [*INDEXED, *further, *(set(parquet_columns(self.chunks)) & {OF})]
        return index_rows(partition, read_batches(self.chunks, columns), further)

    def unchanged(self) -> bool:
        return file_sha256(self.chunks) == self.sha256


def _read(
    collection: Collection, stores: Stores, gone: forgotten.Register, partition: str, files: SnapshotFiles
) -> tuple[Leaves, _VerifiedFiles]:
    documents, chunks = snapshot_paths(stores.lake, collection.name, partition, files)
    rows = parquet_rows(chunks)
    found = _VerifiedFiles(chunks=chunks, rows=rows, sha256=file_sha256(chunks))
    return content_of_files(documents, chunks, gone), found


@contextmanager
def _reading(collection: Collection, partition: str, approved: str) -> Iterator[None]:
    """A frozen file that does not hold its own bytes is not what was approved."""
    try:
        yield
    except DatasetAltered as error:
        what = f"its file {error.path.name} now has the SHA-256 {error.found[:12]}"
        raise CandidateChanged(collection.name, partition, approved, what) from error


def _still_published(
    collection: Collection, stores: Stores, gone: forgotten.Register, partition: str, part: Part
) -> _VerifiedFiles:
    """What is live already, if its files still are what was approved."""
    with _reading(collection, partition, part.digest):
        leaves, found = _read(collection, stores, gone, partition, part)
    if leaves.content != part.content:
        raise CandidateChanged(
            collection.name, partition, part.digest, f"the rows of its files now amount to {leaves.content[:12]}"
        )
    return found


def _verified(
    collection: Collection,
    stores: Stores,
    gone: forgotten.Register,
    request: requests.SignoffRequest,
    signers: Sequence[str],
) -> tuple[Part, _VerifiedFiles]:
    """The approved candidate's files, if they still are what was approved."""
    candidate = current_candidate(stores.lake, collection.name, request.partition)
    if candidate is None or candidate.digest != request.digest:
        what = f"the candidate there now is {candidate.digest[:12]}" if candidate else "there is no candidate any more"
        raise CandidateChanged(collection.name, request.partition, request.digest, what)
    for name in (candidate.documents_file, candidate.chunks_file):
        if named_by_content(name) is None:
            what = f"its file {name} is not named by its content"
            raise CandidateChanged(collection.name, request.partition, request.digest, what)
    with _reading(collection, request.partition, request.digest):
        leaves, files = _read(collection, stores, gone, request.partition, candidate)
    recomputed = candidate_digest(
        collection.name, request.partition, leaves.content, candidate.code_versions, candidate.scores,
        candidate.cost_usd,
    )  # fmt: skip
    if candidate.searched_by.key != candidate.code_versions.get(SEARCHED_BY, AS_ALWAYS.key):
        what = f"it now says that it is searched by {candidate.searched_by.in_words}"
        raise CandidateChanged(collection.name, request.partition, request.digest, what)
    if recomputed != request.digest:
        raise CandidateChanged(
            collection.name, request.partition, request.digest, f"its files now amount to {recomputed[:12]}"
        )
    return _part(candidate, leaves.content, leaves.documents, files.rows, request, signers), files


def _part(
    candidate: FrozenCandidate,
    content: str,
    documents: int,
    chunks: int,
    request: requests.SignoffRequest,
    signers: Sequence[str],
) -> Part:
    return Part(
        digest=request.digest,
        content=content,
        documents_file=candidate.documents_file,
        chunks_file=candidate.chunks_file,
        documents=documents,
        chunks=chunks,
        request_id=request.request_id,
        approved_by=tuple(signers),
        quarantined=candidate.quarantined,
        code_versions=candidate.code_versions,
        run_id=candidate.run_id,
        embeddings=candidate.embeddings,
        searched_by=candidate.searched_by,
    )


def index_rows(partition: str, batches: Iterable[Any], further: Iterable[str] = ()) -> Iterator[Any]:
    """Chunks as the search index wants them. Where they have several vectors, with the text that each is of."""
    import pyarrow as pa

    more = list(further)
    for batch in batches:
        place = pa.array([partition] * batch.num_rows, pa.string())
        rows = batch.select([*INDEXED, *more]).append_column("partition", place)
        if more:
            own = pa.array([OWN_TEXT] * batch.num_rows, pa.string())
            rows = rows.append_column(OF, batch[OF] if OF in batch.schema.names else own)
        yield rows
