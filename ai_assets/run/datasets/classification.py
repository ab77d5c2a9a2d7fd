"""A `classify` stage without a route: one row per document it applies to, labelled by the built-in classifier."""

import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.admitted import admitted, count_admitted
from ai_assets.run.datasets.builtin_classifier import (
    calibration_input,
    calibration_stats,
    classifier_of,
    current_models,
    model_of,
)
from ai_assets.run.datasets.documents import versions_of
from ai_assets.run.datasets.few_shot import EXAMPLES, taught_places
from ai_assets.run.datasets.label_counts import LabelCounts
from ai_assets.signoff.corrections import CORRECTIONS, NONE, applied, uncorrected
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import CORRECTED
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Manifest
from ai_assets.storage.spool import Spool

BLOCK = 500
BLOCK_CHARACTERS = 4 << 20
COLUMNS = ("document_id", "digest", "title", "text")
TEXT = ("document_id", "input_digest", "label", "runner_up", "evidence", "model", *CORRECTED)
DIGEST = "digest"
"""Of the document's text, beside its row while that waits to be written."""
NUMBERS = ("confidence", "runner_up_confidence")


def build(work: Work, partition: str, stage: ClassifyStage) -> Outcome:
    """Label what is new or changed; unchanged documents keep their label while classifier and labels are the same."""
    started = time.perf_counter()
    documents = work.input(stage.name, partition, "documents")
    earlier = {name: work.input(stage.name, partition, name) for name in stage.when}
    inputs = versions_of(documents, earlier)
    inputs[CORRECTIONS] = work.corrections.version(partition, stage.name) or NONE
    if taught := taught_places(work, stage):
        inputs[EXAMPLES] = digest(taught)
    inputs |= calibration_input(work, stage)
    if same := work.unchanged(stage.name, partition, inputs):
        return same
    given = work.corrections.of(partition, stage)
    said = LabelCounts(stage)
    preview: list[Row] = []
    with work.spool(stage.name, partition) as spool:
        places, reused = _classified(work, partition, stage, documents, earlier, spool)
        with work.writing(stage.name, partition, _schema()) as out:
            for place in places:
                stored = spool.row(place)
                texts = {stored["document_id"]: stored.pop(DIGEST)}
                (row,) = applied([stored], given, texts)
                out.append(row)
                said.count(row)
                if len(preview) < PREVIEW_ROWS:
                    preview.append({k: row[k] for k in ("document_id", "label", "confidence", "evidence")})
    return work.commit(
        stage.name,
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=out.rows,
        documents_out=out.rows,
        reused=reused,
        quarantined=0,
        preview=preview,
        **said.stats,
        **calibration_stats(work, stage, inputs),
    )


def _classified(
    work: Work,
    partition: str,
    stage: ClassifyStage,
    documents: Manifest,
    earlier: Mapping[str, Manifest],
    spool: Spool,
) -> tuple[Sequence[int], int]:
    """Where in the spool the row of each document is, in order, as the classifier made it; and how many were known."""
    classifier = classifier_of(work, stage, partition)
    total = count_admitted(work, stage, documents, earlier)
    known = ByDocument(_known(work, partition, stage, current_models(work, classifier)))
    places = array("q")
    block: list[Row] = []
    waiting: list[int] = []
    reused = characters = 0

    def classify() -> None:
        results = classifier.classify([(row["title"] or "", row["text"]) for row in block])
        for place, row, result in zip(waiting, block, results, strict=True):
            made = {"input_digest": input_digest(row["title"], row["digest"]), "model": model_of(classifier)}
            places[place] = spool.append_row(
                {"document_id": row["document_id"], **made, **asdict(result), DIGEST: row["digest"]}
            )
        block.clear()
        waiting.clear()

    for row, _ in admitted(work, stage, documents, earlier, COLUMNS, conditions_only=True):
        wanted = input_digest(row["title"], row["digest"])
        found = next((each for each in known.of(row["document_id"]) if each["input_digest"] == wanted), None)
        if found is None:
            block.append(row)
            characters += len(row["text"])
            waiting.append(len(places))
            places.append(-1)
        else:
            reused += 1
            places.append(spool.append_row({**found, DIGEST: row["digest"]}))
        if len(block) == BLOCK or characters >= BLOCK_CHARACTERS:
            characters = 0
            classify()
            work.advance(stage.name, partition, len(places), total, reused)
    classify()
    return places, reused


def input_digest(title: str | None, text: str) -> str:
    """Of all that the classifier reads, the digest of the text and the title, which can change while the text stays."""
    return digest([title, text])


def _known(work: Work, partition: str, stage: ClassifyStage, models: frozenset[str]) -> Iterator[Row]:
    previous = work.previous(stage.name, partition)
    if previous and previous.code_version == work.collection.code_versions[stage.name]:
        yield from (uncorrected(row) for row in work.rows(previous) if row["model"] in models)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [*((n, pa.string()) for n in TEXT), *((n, pa.float64()) for n in NUMBERS), ("evidence_start", pa.int64())]
    )
