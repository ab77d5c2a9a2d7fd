"""What the manifest of a release candidate says, as a record: its digest, all that the digest is of, and its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from ai_assets.embedding.searched_by import SearchedBy, recorded_search
from ai_assets.embedding.spec import WITHOUT, Embedding, recorded_embeddings
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.storage.digest import Json
from ai_assets.storage.lake import Lake, Manifest

CANDIDATE = "release_candidate"


class SnapshotFiles(Protocol):
    """The frozen files of one partition, as a candidate or a release names them."""

    @property
    def documents_file(self) -> str: ...

    @property
    def chunks_file(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class FrozenCandidate:
    collection: str
    partition: str
    run_id: str
    digest: str
    content: str
    """Digest of the rows alone."""
    documents_file: str
    chunks_file: str
    documents: int
    quarantined: int
    without_vectors: int
    code_versions: Mapping[str, str]
    scores: Sequence[Mapping[str, Json]]
    cost_usd: float | None
    embeddings: Mapping[str, Embedding]
    """By name, what made its vectors."""
    searched_by: SearchedBy
    """How it was searched when it was judged."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        stats: Mapping[str, Any] = manifest.stats
        return cls(
            collection=manifest.collection,
            partition=manifest.partition,
            run_id=manifest.run_id,
            digest=stats["digest"],
            content=stats["content"],
            documents_file=stats["documents_file"],
            chunks_file=stats["chunks_file"],
            documents=stats["documents_in"],
            quarantined=stats["quarantined"],
            without_vectors=stats.get(WITHOUT, 0),
            code_versions=stats["code_versions"],
            scores=stats["scores"],
            cost_usd=stats["cost_usd"],
            embeddings=recorded_embeddings(stats),
            searched_by=recorded_search(stats),
        )

    @property
    def is_unreadable(self) -> bool:
        """Whether no document of it can be read: nobody could sign more than a list of reasons."""
        return self.documents == self.quarantined

    def paths(self, lake: Lake) -> tuple[Path, Path]:
        """Of its documents and chunks."""
        return snapshot_paths(lake, self.collection, self.partition, self)


def current_candidate(lake: Lake, collection: str, partition: str) -> FrozenCandidate | None:
    """The newest of the partition."""
    manifest = lake.manifest(collection, CANDIDATE, partition)
    return None if manifest is None else FrozenCandidate.of(manifest)


def snapshot_paths(lake: Lake, collection: str, partition: str, files: SnapshotFiles) -> tuple[Path, Path]:
    """Of the documents and the chunks of one partition, to be read."""
    folder = snapshot_folder(lake.root, collection, partition)
    return lake.bring(folder / files.documents_file), lake.bring(folder / files.chunks_file)


def has_snapshot(lake: Lake, collection: str, partition: str, files: SnapshotFiles) -> bool:
    """Whether its files are there; they are not read."""
    folder = snapshot_folder(lake.root, collection, partition)
    return lake.has(folder / files.documents_file) and lake.has(folder / files.chunks_file)
