"""The labels that a threshold is certified by: of documents that were drawn at random, of the text that is there now.

Corrections do not count: people make them where they look, and they look where something is wrong. Labels of several
draws are thinned to the smallest chance among them, and of copies of a text one counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.collection.loading import Collection
from ai_assets.signoff import golden_labels
from ai_assets.signoff.golden_labels import AgreedLabel, GoldenInForce
from ai_assets.stages.base import StageSettings
from ai_assets.statistics.selective import Judged, of_equal_chance, one_of_each_cluster
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import parquet_columns

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

NEAR = "near_duplicate_of"
_SCALE = 16**15


@dataclass(frozen=True, kw_only=True)
class CertifyingLabels:
    labels: Sequence[Judged]
    digest: str
    """Of all that they are made of."""
    drawn: int
    """Labels of documents drawn at random, before they were thinned and copies left out."""


@dataclass(frozen=True, kw_only=True)
class _Said:
    label: str | None
    confidence: float | None
    cluster: str


def number_of(*said: str) -> float:
    """Of [0, 1): the same for the same words, and nobody can choose it."""
    return int(digest(list(said))[:15], 16) / _SCALE


def judged_labels(
    stores: "Stores", collection: Collection, stage: StageSettings, golden: GoldenInForce
) -> CertifyingLabels:
    drawn = [
        item
        for name, item in golden.agreed.items()
        if item.stratum == "random" and item.inclusion and name not in collection.shown
    ]
    present = golden_labels.of_present_texts(stores, collection.name, drawn)
    said = _said(stores, collection.name, stage.name, present)
    known = {item.document_id: item for item in present if item.document_id in said}
    numbers = {name: number_of("draw", name, item.document_digest) for name, item in known.items()}
    chances = {name: float(item.inclusion or 1.0) for name, item in known.items()}
    kept = sorted(of_equal_chance(chances, numbers), key=lambda name: (numbers[name], name))
    labels = [
        Judged(
            confidence=found.confidence if found.confidence is not None else float("nan"),
            correct=found.label == known[name].label,
        )
        for name in kept
        if (found := said[name])
    ]
    described = [
        [name, known[name].document_digest, known[name].label, said[name].label, repr(said[name].confidence)]
        for name in sorted(kept)
    ]
    return CertifyingLabels(
        labels=one_of_each_cluster(labels, [said[name].cluster for name in kept]),
        digest=digest(described)[:32],
        drawn=len(present),
    )


def _said(stores: "Stores", collection: str, stage: str, items: Sequence[AgreedLabel]) -> Mapping[str, _Said]:
    """What the model says of each: of a partition, its rows are read once."""
    wanted = {item.document_id for item in items}
    found = {}
    for partition in sorted({item.partition for item in items}):
        manifest = stores.lake.manifest(collection, stage, partition)
        documents = stores.lake.manifest(collection, "documents", partition)
        if manifest is None or documents is None:
            continue
        near = {}
        if NEAR in parquet_columns(stores.lake.path(documents)):
            near = {row["document_id"]: row[NEAR] for row in stores.lake.rows(documents, ["document_id", NEAR])}
        for row in stores.lake.rows(manifest, ["document_id", "model_label", "confidence"]):
            name = row["document_id"]
            if name in wanted:
                found[name] = _Said(
                    label=row["model_label"], confidence=row["confidence"], cluster=near.get(name) or name
                )
    return found
