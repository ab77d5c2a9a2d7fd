"""A release candidate: what a partition would publish, as immutable files, and the one digest that stands for it.

The digest is made from rows, not from file bytes: a Merkle root over one leaf per document, the code versions, the
evaluation and the cost. Whoever approves it approves exactly this.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.digest import Json, digest, merkle_root

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
HIDDEN = frozenset({"leaf", "partition"})


def leaves_of(documents: "pa.Table", chunks: "pa.Table") -> dict[str, str]:
    """One digest per document: its row with what the stages made of it, its chunks and their vectors."""
    vectors = _chunk_digests(chunks)
    return {
        row["document_id"]: digest(
            [{k: v for k, v in row.items() if k not in HIDDEN}, vectors.get(row["document_id"], [])]
        )
        for row in documents.to_pylist()
    }


def _chunk_digests(chunks: "pa.Table") -> Mapping[str, list[Json]]:
    from ai_assets.datasets.text_vectors import vectors_in

    found: dict[str, list[Json]] = defaultdict(list)
    matrix = vectors_in(chunks)
    columns = [chunks[name].to_pylist() for name in ("document_id", "chunk_id", "text")]
    for number, (document_id, chunk_id, text) in enumerate(zip(*columns, strict=True)):
        found[document_id].append(
            [chunk_id, hashlib.sha256(text.encode()).hexdigest(), hashlib.sha256(matrix[number].tobytes()).hexdigest()]
        )
    return found


def content_digest(leaves: Mapping[str, str]) -> str:
    """The Merkle root over the documents: equal ones publish the same rows."""
    return merkle_root(f"{document}\n{leaf}" for document, leaf in sorted(leaves.items()))


def candidate_digest(
    collection: str,
    partition: str,
    content: str,
    code_versions: Mapping[str, str],
    scores: Sequence[Mapping[str, Json]],
    cost_usd: float | None,
) -> str:
    return digest(
        {
            "format": FORMAT,
            "collection": collection,
            "partition": partition,
            "documents": content,
            "code_versions": dict(code_versions),
            "scores": list(scores),
            "cost_usd": cost_usd,
        }
    )


def snapshot_folder(lake_root: Path, collection: str, partition: str) -> Path:
    from resources.lake import Lake

    return Lake(lake_root).folder(collection, "release_snapshots", partition)


def difference(
    candidate: Mapping[str, tuple[str, Mapping[str, Any]]],
    live: Mapping[str, tuple[str, Mapping[str, Any]]],
    stages: Iterable[str],
) -> dict[str, Any]:
    """What publishing would change: by document `(leaf, headline of each stage)`. Relabelled ones are changed too."""
    added = sorted(set(candidate) - set(live))
    removed = sorted(set(live) - set(candidate))
    changed = sorted(name for name in set(candidate) & set(live) if candidate[name][0] != live[name][0])
    relabelled = {
        name: [{"stage": s, "from": live[name][1].get(s), "to": candidate[name][1].get(s)} for s in stages
               if live[name][1].get(s) != candidate[name][1].get(s)]
        for name in changed
    }  # fmt: skip
    return {
        "added": added,
        "changed": changed,
        "removed": removed,
        "unchanged": len(set(candidate) & set(live)) - len(changed),
        "relabelled": {name: moves for name, moves in relabelled.items() if moves},
    }
