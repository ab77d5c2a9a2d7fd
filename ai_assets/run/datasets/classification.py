"""A `classify` stage without a route: one row per document it applies to, labelled by the built-in classifier or by a
model that is loaded here."""

import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from heapq import merge
from operator import itemgetter
from typing import Any

from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.local_models.errors import DeviceClosed
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets import unfinished
from ai_assets.run.datasets.admitted import admitted, count_admitted
from ai_assets.run.datasets.builtin_classifier import calibration_input
from ai_assets.run.datasets.documents import versions_of
from ai_assets.run.datasets.few_shot import EXAMPLES, taught_places
from ai_assets.run.datasets.label_counts import LabelCounts
from ai_assets.run.datasets.labelling import Labelling, input_digest, labelling_of
from ai_assets.signoff.corrections import CORRECTIONS, NONE, applied, uncorrected
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import CORRECTED
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Manifest, read_batches
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
    by = labelling_of(work, stage, partition)
    with work.spool(stage.name, partition) as spool:
        places, reused = _classified(work, partition, stage, documents, earlier, by, spool)
        with work.writing(stage.name, partition, _schema()) as out:
            for place in places:
                stored = spool.row(place)
                texts = {stored["document_id"]: stored.pop(DIGEST)}
                (row,) = applied([stored], given, texts)
                out.append(row)
                said.count(row)
                if len(preview) < PREVIEW_ROWS:
                    preview.append({k: row[k] for k in ("document_id", "label", "confidence", "evidence")})
    outcome = work.commit(
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
        **by.stats(inputs),
    )
    unfinished.drop(work, stage.name, partition)
    return replace(outcome, cost_usd=by.cost_usd)


def _classified(
    work: Work,
    partition: str,
    stage: ClassifyStage,
    documents: Manifest,
    earlier: Mapping[str, Manifest],
    by: Labelling,
    spool: Spool,
) -> tuple[Sequence[int], int]:
    """Where in the spool the row of each document is, in order, as the classifier made it; and how many were known.

    Where the window of the device closes, what was labelled until then is kept for the run that goes on."""
    total = count_admitted(work, stage, documents, earlier)
    known = ByDocument(_known(work, partition, stage, by.models))
    places = array("q")
    block: list[Row] = []
    waiting: list[int] = []
    reused = characters = 0

    def classify() -> None:
        try:
            results = by.classify(block)
        except DeviceClosed as closed:
            there = [place for place in places if place >= 0]
            _keep(work, partition, stage, spool, there)
            raise WaitingForWindow(
                stage.name, partition, opens=closed.opens, moment=closed.moment, documents=total - len(there)
            ) from None
        for place, row, result in zip(waiting, block, results, strict=True):
            made = {"input_digest": input_digest(stage, row["title"], row["digest"]), "model": by.model}
            places[place] = spool.append_row(
                {"document_id": row["document_id"], **made, **asdict(result), DIGEST: row["digest"]}
            )
        block.clear()
        waiting.clear()

    for row, _ in admitted(work, stage, documents, earlier, COLUMNS, conditions_only=True):
        wanted = input_digest(stage, row["title"], row["digest"])
        found = next((each for each in known.of(row["document_id"]) if each["input_digest"] == wanted), None)
        if found is None:
            block.append(row)
            characters += len(row["text"])
            waiting.append(len(places))
            places.append(-1)
        else:
            reused += 1
            places.append(spool.append_row({**found, DIGEST: row["digest"]}))
        if len(block) == work.at_once(BLOCK) or characters >= BLOCK_CHARACTERS:
            characters = 0
            classify()
            work.advance(stage.name, partition, len(places), total, reused)
    classify()
    return places, reused


def _keep(work: Work, partition: str, stage: ClassifyStage, spool: Spool, places: Sequence[int]) -> None:
    if not places:
        return
    schema = _schema()
    with unfinished.keeping(work, stage.name, partition, work.collection.code_versions[stage.name], schema) as out:
        for place in places:
            row = spool.row(place)
            out.append({name: row.get(name) for name in schema.names})


def _known(work: Work, partition: str, stage: ClassifyStage, models: frozenset[str]) -> Iterator[Row]:
    previous, version = work.previous(stage.name, partition), work.collection.code_versions[stage.name]
    made: list[Iterator[Row]] = []
    if previous and previous.code_version == version:
        made.append(uncorrected(row) for row in work.rows(previous))
    if stage.is_local:
        kept = unfinished.kept(work, stage.name, partition, version)
        made += [(row for batch in read_batches(path) for row in batch.to_pylist()) for path in kept]
    yield from (row for row in merge(*made, key=itemgetter("document_id")) if row["model"] in models)


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [*((n, pa.string()) for n in TEXT), *((n, pa.float64()) for n in NUMBERS), ("evidence_start", pa.int64())]
    )
