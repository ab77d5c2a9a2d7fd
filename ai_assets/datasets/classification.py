"""A `classify` stage without a route: one row per document it applies to, labelled by the built-in classifier."""

import time
from dataclasses import asdict
from typing import Any

from ai_assets.datasets.documents import ok_rows
from ai_assets.datasets.lessons import EXAMPLES, lessons, taught_places
from ai_assets.signoff.corrections import CORRECTIONS, NONE, applied, uncorrected
from ai_assets.stage_settings import ClassifyStage
from ai_assets.stages.classify import BuiltinClassifier, Label
from ai_assets.stages.columns import CORRECTED
from ai_assets.work import Outcome, Work
from resources.backends.builtin import BuiltinEmbedder
from resources.digest import digest
from resources.lake import Manifest

BLOCK = 500
TEXT = ("document_id", "input_digest", "label", "runner_up", "evidence", "model", *CORRECTED)
LESSON_CHARACTERS = 300
"""Of a document that teaches: examples are phrases, and what a document is shows early."""
NUMBERS = ("confidence", "runner_up_confidence")


def build(work: Work, partition: str, stage: ClassifyStage) -> Outcome:
    """Label what is new or changed; unchanged documents keep their label while classifier and labels are the same."""
    started = time.perf_counter()
    documents = work.input(stage.name, partition, "documents")
    earlier = {name: work.input(stage.name, partition, name) for name in stage.when}
    inputs = {"documents": documents.version, **{name: manifest.version for name, manifest in earlier.items()}}
    inputs[CORRECTIONS] = work.corrections.version(partition, stage.name) or NONE
    if places := taught_places(work, stage):
        inputs[EXAMPLES] = digest(places)
    if same := work.unchanged(stage.name, partition, inputs):
        return same
    sources = ok_rows(work, documents, ["document_id", "digest", "title", "text"])
    for name, manifest in earlier.items():
        admitted = _labelled(work, manifest, stage.when[name])
        sources = [row for row in sources if row["document_id"] in admitted]
    rows, fresh = {}, []
    known = _known(work, partition, stage)
    for row in sources:
        found = known.get((row["document_id"], input_digest(row["title"], row["digest"])))
        if found is None:
            fresh.append(row)
        else:
            rows[row["document_id"]] = found
    reused = len(rows)
    for start in range(0, len(fresh), BLOCK):
        block = fresh[start : start + BLOCK]
        results = classifier_of(work, stage).classify([(row["title"] or "", row["text"]) for row in block])
        for row, result in zip(block, results, strict=True):
            rows[row["document_id"]] = {
                "document_id": row["document_id"],
                "input_digest": input_digest(row["title"], row["digest"]),
                "model": _model(work, stage),
                **asdict(result),
            }
        work.advance(stage.name, partition, reused + start + len(block), len(sources))
    texts = {row["document_id"]: row["digest"] for row in sources}
    ordered = applied([rows[name] for name in texts], work.corrections.of(partition, stage), texts)
    labels = {label.name: sum(row["label"] == label.name for row in ordered) for label in stage.labels}
    return work.commit(
        stage.name,
        partition,
        _table(ordered),
        inputs,
        started=started,
        documents_in=len(sources),
        documents_out=len(ordered),
        reused=reused,
        preview=[{k: row[k] for k in ("document_id", "label", "confidence", "evidence")} for row in ordered],
        labels=labels,
        corrected=sum(row["corrected_by"] is not None for row in ordered),
        mean_confidence=sum(row["confidence"] for row in ordered) / len(ordered) if ordered else None,
    )


def classifier_of(work: Work, stage: ClassifyStage) -> BuiltinClassifier:
    """Made once per run and stage: it embeds the label descriptions and what it learns from."""
    if stage.name not in work.classifiers:
        learned = {
            item.name: tuple(each.text[:LESSON_CHARACTERS] for each in lessons(work, stage) if each.label == item.name)
            for item in stage.labels
        }
        labels = [
            Label(name=item.name, description=item.description, examples=item.examples + learned[item.name])
            for item in stage.labels
        ]
        work.classifiers[stage.name] = BuiltinClassifier(labels, BuiltinEmbedder())
    return work.classifiers[stage.name]


def input_digest(title: str | None, text: str) -> str:
    """Of all that the classifier reads, the digest of the text and the title, which can change while the text stays."""
    return digest([title, text])


def _labelled(work: Work, manifest: Manifest, labels: tuple[str, ...]) -> set[str]:
    rows = work.read(manifest, ["document_id", "label"]).to_pylist()
    return {row["document_id"] for row in rows if row["label"] in labels}


def _known(work: Work, partition: str, stage: ClassifyStage) -> dict[tuple[str, str], dict[str, Any]]:
    previous = work.previous(stage.name, partition)
    if not previous or previous.code_version != work.collection.code_versions[stage.name]:
        return {}
    rows = map(uncorrected, work.read(previous).to_pylist())
    model = _model(work, stage)
    return {(row["document_id"], row["input_digest"]): row for row in rows if row["model"] == model}


def _model(work: Work, stage: ClassifyStage) -> str:
    return f"builtin/zero-shot {classifier_of(work, stage).version}"


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    schema = pa.schema(
        [*((n, pa.string()) for n in TEXT), *((n, pa.float64()) for n in NUMBERS), ("evidence_start", pa.int64())]
    )
    return pa.Table.from_pylist(rows, schema=schema)
