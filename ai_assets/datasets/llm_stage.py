"""A stage on a route: one row per document it applies to, with a model's answer or the reason why there is none."""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ai_assets.datasets.documents import ok_rows
from ai_assets.datasets.lessons import EXAMPLES, lessons, place_of, read, taught_places
from ai_assets.datasets.tries import Tries
from ai_assets.errors import ExampleUnreadable
from ai_assets.signoff.corrections import CORRECTIONS, NONE, Correction, applied, uncorrected
from ai_assets.stage_settings import ClassifyStage, Stage
from ai_assets.stages.columns import Columns, ColumnType
from ai_assets.stages.llm import Asked, Document, Question, ask, row_of
from ai_assets.stages.prompt import Example
from ai_assets.work import Outcome, Work
from resources.digest import Json, digest
from resources.inference.records import Request
from resources.lake import Manifest

Row = dict[str, Any]
COLUMNS = ("document_id", "digest", "title", "text", "language", "path")


def build(work: Work, partition: str, stage: Stage) -> Outcome:
    """Ask about what is new or changed. Rows of the same question about the same document are taken over."""
    started = time.perf_counter()
    question = work.collection.questions[stage.name]
    documents = work.input(stage.name, partition, "documents")
    earlier = {name: work.input(stage.name, partition, name) for name in stage.upstream}
    inputs = inputs_of(work, partition, question, documents, earlier)
    if same := settled(work, partition, stage, inputs):
        return same
    asked = list(_asked(work, question, documents, earlier))
    given = work.corrections.of(partition, stage) if isinstance(stage, ClassifyStage) else {}
    texts = _texts(work, documents) if given else {}
    given = of_this_text(given, texts)
    tries = Tries(work, partition, stage)
    rows, reused = _rows(work, partition, stage, asked, given, tries)
    if isinstance(stage, ClassifyStage):
        rows = applied(rows, given, texts)
    unanswered = _unanswered(asked, rows)
    tries.record(unanswered)
    spent = work.spent(stage.name, partition)
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "quarantined")}
    outcome = work.commit(
        stage.name,
        partition,
        table_of(stage.columns, rows),
        inputs,
        started=started,
        documents_in=len(rows),
        documents_out=counts["ok"],
        reused=reused,
        quarantined=counts["quarantined"],
        preview=[{name: row[name] for name in stage.columns.preview} for row in rows],
        unanswered=len(unanswered),
        paid_usd=round(math.fsum(row["cost_usd"] for row in rows if row["status"] == "ok"), 9),
        spend=spent,
        **_said(stage, rows),
    )
    return replace(outcome, cost_usd=spent["cost_usd"])


def inputs_of(
    work: Work, partition: str, question: Question, documents: Manifest, earlier: Mapping[str, Manifest]
) -> dict[str, str]:
    """The versions of all that the rows are made from."""
    stage = question.stage
    inputs = {"documents": documents.version, **{name: manifest.version for name, manifest in earlier.items()}}
    if isinstance(stage, ClassifyStage):
        inputs[CORRECTIONS] = work.corrections.version(partition, stage.name) or NONE
    if places := _places(work, question):
        inputs[EXAMPLES] = digest([[name, found] for name, found in places.items()])
    return inputs


def settled(work: Work, partition: str, stage: Stage, inputs: Mapping[str, str]) -> Outcome | None:
    """The dataset, where a run would leave it as it is.

    Answers that expire are asked for again by every run; the ledger has what is still good. Rows without one are asked
    about by a run that a person names, and by others when that is due.
    """
    same = work.unchanged(stage.name, partition, inputs)
    if same is None or stage.reuse_for is not None:
        return None
    unanswered = same.manifest.stats["unanswered"]
    return same if not unanswered or Tries(work, partition, stage).nothing_due(unanswered) else None


def of_this_text(given: Mapping[str, Correction], texts: Mapping[str, str]) -> dict[str, Correction]:
    """The corrections of documents that still have the text which was read; `texts` holds digests by document."""
    return {name: item for name, item in given.items() if item.document_digest == texts.get(name)}


def _unanswered(asked: Sequence[Asked], rows: Sequence[Row]) -> list[str]:
    """The documents that were asked about, now or before, and have no answer."""
    return [
        item.document_id
        for item, row in zip(asked, rows, strict=True)
        if item.request is not None and row["status"] == "quarantined"
    ]


def _said(stage: Stage, rows: Sequence[Row]) -> dict[str, Json]:
    """What is only known of labels."""
    if not isinstance(stage, ClassifyStage):
        return {}
    sure = [row["confidence"] for row in rows if row["confidence"] is not None]
    labels: dict[str, Json] = {label.name: sum(row["label"] == label.name for row in rows) for label in stage.labels}
    return {
        "labels": labels,
        "corrected": sum(row["corrected_by"] is not None for row in rows),
        "mean_confidence": sum(sure) / len(sure) if sure else None,
    }


def _texts(work: Work, documents: Manifest) -> dict[str, str]:
    return {row["document_id"]: row["digest"] for row in ok_rows(work, documents, ["document_id", "digest"])}


def _asked(work: Work, question: Question, documents: Manifest, earlier: Mapping[str, Manifest]) -> Iterator[Asked]:
    """The question about every document that the conditions let through."""
    stage = question.stage
    upstream = {
        name: {row["document_id"]: row for row in work.read(manifest).to_pylist()} for name, manifest in earlier.items()
    }
    examples = examples_of(work, question)
    for row in ok_rows(work, documents, COLUMNS):
        found = {name: rows.get(row["document_id"]) for name, rows in upstream.items()}
        if all((found[name] or {}).get("label") in labels for name, labels in stage.when.items()):
            yield ask(question, Document(**row), found, examples)


def _rows(
    work: Work, partition: str, stage: Stage, asked: Sequence[Asked], given: Mapping[str, Correction], tries: Tries
) -> tuple[list[Row], int]:
    """Rows in the order of the documents as the model made them, and how many were there already."""
    known = answered_rows(work, partition, stage, given)
    kept = {
        item.document_id: known[item.input_digest]
        for item in asked
        if item.input_digest in known and lasts(stage, known[item.input_digest])
    }
    rows = {name: {**row} for name, row in kept.items()}
    for item in asked:
        if item.request is None:
            rows[item.document_id] = row_of(item, None)
    caller = work.caller(stage.name, partition)
    waiting: deque[Asked] = deque()

    def requests() -> Iterator[Request]:
        for item in asked:
            if item.request is not None and item.document_id not in rows:
                waiting.append(item)
                yield item.request

    reused = len(kept)
    if any(item.document_id not in rows for item in asked):
        engine = work.engine
        with work.waiting():
            for result in engine.map(requests(), caller):
                item = waiting.popleft()
                row = tries.judged(item, row_of(item, result))
                before = known.get(item.input_digest)
                if before is not None and row["reused"]:
                    row, reused = before, reused + 1  # the same answer: the dataset shall not differ for asking again
                rows[item.document_id] = row
                work.advance(stage.name, partition, len(rows), len(asked))
    work.advance(stage.name, partition, len(asked), len(asked))
    return [{**rows[item.document_id], "document_id": item.document_id} for item in asked], reused


def lasts(stage: Stage, row: Row) -> bool:
    """Whether a row is kept as long as its question is the same; an answer that may expire is looked up each time."""
    return not (stage.reuse_for and row["status"] == "ok")


def answered_rows(work: Work, partition: str, stage: Stage, given: Mapping[str, Correction]) -> dict[str, Row]:
    """Answered rows of the partition by their question, whatever the code version: a question holds all that counts.

    Where a person gave the label, a row without an answer does too: nobody need be asked again.
    """
    previous = work.previous(stage.name, partition)
    if previous is None:
        return {}
    table = work.read(previous)
    if set(table.column_names) != set(stage.columns.dataset):
        return {}  # it was another kind of stage
    rows: list[Row] = table.to_pylist()
    if isinstance(stage, ClassifyStage):
        rows = [uncorrected(row) for row in rows]
    kept = {row["input_digest"]: row for row in rows if row["status"] == "ok" or row["document_id"] in given}
    return {**Tries(work, partition, stage).left_alone(), **kept}


# Examples


def _places(work: Work, question: Question) -> dict[str, str]:
    """Digests of the files of all documents to show; one that is declared must be there."""
    entries = {entry.path: entry for entry in work.listing.entries}
    stage, found = question.stage, {}
    for item in question.examples:
        entry = place_of(entries, item.document)
        if entry is None:
            raise ExampleUnreadable(work.collection.name, stage.name, item.document, "the source has no such file")
        found[item.document] = entry.digest
    return {**found, **(taught_places(work, stage) if isinstance(stage, ClassifyStage) else {})}


def examples_of(work: Work, question: Question) -> list[Example]:
    """Those that are declared, and those that it learns; of a document that is both, what it learns."""
    stage = question.stage
    learned = lessons(work, stage) if isinstance(stage, ClassifyStage) else ()
    entries = {entry.path: entry for entry in work.listing.entries}
    found = []
    for item in question.examples:
        if item.document in {lesson.document for lesson in learned}:
            continue
        entry = place_of(entries, item.document)
        document = None if entry is None else read(work, entry, item.document)
        if document is None or document.status != "ok":
            why = document.reason if document else "the file has no such row"
            raise ExampleUnreadable(work.collection.name, stage.name, item.document, why or "it has no text")
        text = document.text[: stage.max_input_characters]
        found.append(Example(title=document.title or "", text=text, output=item.label))
    return found + [
        Example(title=lesson.title, text=lesson.text[: stage.max_input_characters], output=lesson.label)
        for lesson in learned
    ]


def table_of(columns: Columns, rows: Sequence[Row]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(
        list(rows), schema=pa.schema([(n, arrow_type(kind)) for n, kind in columns.dataset.items()])
    )


def arrow_type(kind: ColumnType) -> Any:
    import pyarrow as pa

    types = {"text": pa.string, "number": pa.float64, "integer": pa.int64, "truth": pa.bool_}
    return types[kind]()
