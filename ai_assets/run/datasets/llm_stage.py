"""A stage on a route: one row per document it applies to, with a model's answer or the reason why there is none."""

import math
import time
from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from ai_assets.base.windows import earliest
from ai_assets.documents.by_document import Row
from ai_assets.inference.batch.errors import WaitingForBatch
from ai_assets.inference.batch.pending import AwaitedCalls, Pending
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.inference.records import Request, Unanswered
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.admitted import admitted, count_admitted
from ai_assets.run.datasets.documents import ok_rows, versions_of
from ai_assets.run.datasets.few_shot import EXAMPLES, lessons, place_of, read_documents, taught_places
from ai_assets.run.datasets.label_counts import LabelCounts
from ai_assets.run.datasets.tries import Tries, settled
from ai_assets.run.deadlines import asking_of
from ai_assets.run.errors import ExampleUnreadable
from ai_assets.signoff.corrections import CORRECTIONS, NONE, Correction, applied, uncorrected
from ai_assets.stages.base import PromptStage
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import Columns, ColumnType
from ai_assets.stages.judge import JudgeStage
from ai_assets.stages.llm import DocumentQuestion, PromptDocument, Question, ask, row_of
from ai_assets.stages.prompt import Example
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.lake import Manifest, parquet_columns
from ai_assets.storage.spool import DigestIndex, Spool

DIGEST, ASKED = "document_digest", "asked"
"""Beside a row while it waits to be written: of the document's text, and whether a model is asked about it."""
COLUMNS = ("document_id", "digest", "title", "text", "language", "path")


def build(work: Work, partition: str, question: Question) -> Outcome:
    """Ask about what is new or changed. Rows of the same question about the same document are taken over."""
    started = time.perf_counter()
    stage = question.stage
    documents = work.input(stage.name, partition, "documents")
    earlier = {name: work.input(stage.name, partition, name) for name in stage.upstream}
    inputs = inputs_of(work, partition, question, documents, earlier)
    if same := settled(work, partition, stage, inputs):
        return same
    given = work.corrections.of(partition, stage) if isinstance(stage, ClassifyStage) else {}
    given = of_this_text(given, _texts(work, documents, given))
    written, tries = _Written(stage, given), Tries(work, partition, stage)
    with work.spool(stage.name, partition) as spool:
        known = AnsweredRows(work, partition, stage, given, tries, spool)
        answers = _answers(work, question, documents, earlier, known, tries)
        with work.writing(stage.name, partition, schema_of(stage.columns)) as out:
            for row in answers.rows():
                out.append(written.row(row))
    tries.record(written.unanswered)
    spent = work.spent(stage.name, partition)
    outcome = work.commit(
        stage.name,
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=out.rows,
        documents_out=written.answered,
        reused=answers.reused,
        quarantined=out.rows - written.answered,
        preview=written.preview,
        unanswered=len(written.unanswered),
        paid_usd=round(math.fsum(written.costs), 9),
        spend=spent,
        **written.stats,
    )
    return replace(outcome, cost_usd=spent["cost_usd"])


class _Written:
    """Rows on their way to the dataset: corrected where people gave the label, and counted."""

    def __init__(self, stage: PromptStage, given: Mapping[str, Correction]) -> None:
        self._stage, self._given = stage, given
        self._counts = LabelCounts(stage) if isinstance(stage, ClassifyStage) else None
        self._scores = dict.fromkeys(map(str, stage.points), 0) if isinstance(stage, JudgeStage) else None
        self.preview: list[Row] = []
        self.answered = 0
        self.unanswered: list[str] = []
        """Documents that were asked about, now or before, and have no answer."""
        self.costs = array("d")

    def row(self, stored: Row) -> Row:
        text, asked = stored.pop(DIGEST), stored.pop(ASKED)
        row = stored
        if self._counts is not None:
            (row,) = applied([stored], self._given, {row["document_id"]: text})
            self._counts.count(row)
        if row["status"] == "ok":
            self.answered += 1
            if self._scores is not None:
                self._scores[str(round(row["score"]))] += 1
            self.costs.append(row["cost_usd"])
        elif asked:
            self.unanswered.append(row["document_id"])
        if len(self.preview) < PREVIEW_ROWS:
            self.preview.append({name: row[name] for name in self._stage.columns.preview})
        return row

    @property
    def stats(self) -> dict[str, Json]:
        """What is only known of labels, and of a judge's ratings."""
        if self._scores is not None:
            return {"judged_scores": self._scores}
        return {} if self._counts is None else self._counts.stats


def inputs_of(
    work: Work, partition: str, question: Question, documents: Manifest, earlier: Mapping[str, Manifest]
) -> dict[str, str]:
    """The versions of all that the rows are made from."""
    stage = question.stage
    inputs = versions_of(documents, earlier)
    if isinstance(stage, ClassifyStage):
        inputs[CORRECTIONS] = work.corrections.version(partition, stage.name) or NONE
    if places := _places(work, question):
        inputs[EXAMPLES] = digest([[name, found] for name, found in places.items()])
    return inputs


def of_this_text(given: Mapping[str, Correction], texts: Mapping[str, str]) -> dict[str, Correction]:
    """The corrections of documents that still have the text which was read; `texts` holds digests by document."""
    return {name: item for name, item in given.items() if item.document_digest == texts.get(name)}


def _texts(work: Work, documents: Manifest, given: Mapping[str, Correction]) -> dict[str, str]:
    """Digests of the texts of those documents that somebody corrected."""
    if not given:
        return {}
    rows = ok_rows(work, documents, ["document_id", "digest"])
    return {row["document_id"]: row["digest"] for row in rows if row["document_id"] in given}


@dataclass
class _Answers:
    """The rows of all documents in order, as places in a spool."""

    spool: Spool
    places: "array[int]" = field(default_factory=lambda: array("q"))
    about: "array[int]" = field(default_factory=lambda: array("q"))
    """Where the spool says which document each row is about, and whether a model is asked about it."""
    reused: int = 0
    """Documents about which nothing had to be sent: their rows were there, or their answers in the ledger."""

    def reserve(self, asked: DocumentQuestion, text: str) -> int:
        """A place for the row of a document."""
        about = {"document_id": asked.document_id, DIGEST: text, ASKED: asked.request is not None}
        self.about.append(self.spool.append_row(about))
        self.places.append(-1)
        return len(self.places) - 1

    def keep(self, number: int, place: int) -> None:
        self.places[number] = place
        self.reused += 1

    def stay(self, number: int, row: Row, before: int | None) -> None:
        """A row without an answer, or the one that stood there before: asking in vain must not change the dataset."""
        if before is None:
            self.put(number, row)
        else:
            self.places[number] = before

    def put(self, number: int, row: Row) -> None:
        self.places[number] = self.spool.append_row(row)

    def rows(self) -> Iterator[Row]:
        for place, about in zip(self.places, self.about, strict=True):
            yield {**self.spool.row(place), **self.spool.row(about)}


def _answers(
    work: Work,
    question: Question,
    documents: Manifest,
    earlier: Mapping[str, Manifest],
    known: "AnsweredRows",
    tries: Tries,
) -> _Answers:
    """Of each document the row as the model made it; what is known already is not asked.

    While answers are awaited in turn, rows that come after them wait on disk.
    """
    stage, partition, spool = question.stage, tries.partition, known.spool
    answers = _Answers(spool)
    total = count_admitted(work, stage, documents, earlier)
    examples = examples_of(work, question)
    waiting: deque[tuple[int, DocumentQuestion]] = deque()
    done = 0

    def requests() -> Iterator[Request]:
        nonlocal done
        for row, found in admitted(work, stage, documents, earlier, asked_of(work)):
            prepared = known.prepare(question, PromptDocument(**row), found, examples)
            asked = prepared.asked
            number = answers.reserve(asked, row["digest"])
            if prepared.place is not None:
                answers.keep(number, prepared.place)
            elif asked.request is None:
                answers.put(number, row_of(asked, None))
            else:
                waiting.append((number, asked))
                yield asked.request
                continue
            done += 1
            work.advance(stage.name, partition, done, total, answers.reused)

    work.advance(stage.name, partition, 0, total)
    wanted = requests()
    if (first := next(wanted, None)) is not None:
        caller = work.caller(stage.name, partition)
        asking = asking_of(work, stage.name, stage.route, total, by_batch=stage.by_batch)
        in_batch, asked_now = AwaitedCalls(), 0
        outside: list[Unanswered] = []
        with work.waiting():
            for result in asking(chain([first], wanted), caller):
                number, asked = waiting.popleft()
                if isinstance(result, Pending):
                    in_batch.add(result)
                    continue
                if isinstance(result, Unanswered) and result.error == "outside_window":
                    outside.append(result)
                    continue
                asked_now += 1
                row = row_of(asked, result)
                before = known.place(asked.input_digest)
                if row["status"] == "quarantined":
                    tries.count(asked.document_id, asked.input_digest, row)
                    answers.stay(number, row, known.without_answer(asked.input_digest))
                elif before is not None and row["reused"]:
                    answers.keep(number, before)  # the same answer: asking again must not change the dataset
                else:
                    answers.put(number, row)
                    answers.reused += bool(row["reused"])
                done += 1
                work.advance(stage.name, partition, done, total, answers.reused)
        if waiting_for := in_batch.number:
            calls, budgets = waiting_for + asked_now, in_batch.budgets
            raise WaitingForBatch(stage.name, partition, calls=calls, waiting=waiting_for, budgets=budgets)
        if outside:
            opens = earliest(each.opens for each in outside)
            moment = store_moment(work.stores.state)
            raise WaitingForWindow(stage.name, partition, opens=opens, moment=moment, documents=len(outside))
    work.advance(stage.name, partition, total, total, answers.reused)
    return answers


def asked_of(work: Work) -> tuple[str, ...]:
    """The columns of a document that decide what is asked about it."""
    near = work.collection.settings.near_duplicates
    return (*COLUMNS, "near_duplicate_of") if near is not None and near.skip else COLUMNS


@dataclass(frozen=True, slots=True)
class PreparedQuestion:
    """What a run and a plan go by: the question about a document, and whether it is put."""

    asked: DocumentQuestion
    place: int | None
    """Of the row that is kept, so that nobody is asked."""


class AnsweredRows:
    """Answered rows of the partition by their question, whatever the code version: a question holds all that counts.

    Where a person gave the label, a row without an answer does too: nobody need be asked again.
    """

    def __init__(
        self,
        work: Work,
        partition: str,
        stage: PromptStage,
        given: Mapping[str, Correction],
        tries: Tries,
        spool: Spool,
    ) -> None:
        self.spool, self._places, self._without = spool, DigestIndex(), DigestIndex()
        self._expires = stage.reuse_for is not None
        self._left_alone: set[str] = set()
        """Questions of rows without an answer that are not asked about now."""
        previous = work.previous(stage.name, partition)
        if previous is None or set(parquet_columns(work.stores.lake.path(previous))) != set(stage.columns.dataset):
            return  # it was another kind of stage
        for row in work.rows(previous):
            made = uncorrected(row) if isinstance(stage, ClassifyStage) else row
            answered = made["status"] == "ok" or made["document_id"] in given
            if answered or made["status"] == "quarantined":
                place, question = spool.append_row(made), made["input_digest"]
                if answered:
                    self._places.add(question, place)
                else:
                    self._without.add(question, place)
                    if tries.leaves_alone(made["document_id"], question):
                        self._left_alone.add(question)

    def prepare(
        self,
        question: Question,
        document: PromptDocument,
        earlier: Mapping[str, Row | None],
        examples: Sequence[Example],
    ) -> PreparedQuestion:
        """The question about a document. A row is kept as long as it is the same; an answer that may expire is looked
        up each time."""
        asked = ask(question, document, earlier, examples)
        place = self.place(asked.input_digest)
        if place is not None and self._expires and self.spool.row(place)["status"] == "ok":
            place = None
        return PreparedQuestion(asked, place)

    def place(self, question: str) -> int | None:
        found = self._places.get(question)
        return self.without_answer(question) if found is None and question in self._left_alone else found

    def without_answer(self, question: str) -> int | None:
        """The row that stands there without an answer: it stays while asking again brings none."""
        return self._without.get(question)


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
    known = {lesson.document for lesson in learned}
    declared = [item for item in question.examples if item.document not in known]
    there = read_documents(work, [item.document for item in declared])
    found = []
    for item in declared:
        document = there.get(item.document)
        if document is None or document.status != "ok":
            why = document.reason if document else "the file has no such row"
            raise ExampleUnreadable(work.collection.name, stage.name, item.document, why or "it has no text")
        text = document.text[: stage.max_input_characters]
        found.append(Example(title=document.title or "", text=text, output=item.label))
    return found + [
        Example(title=lesson.title, text=lesson.text[: stage.max_input_characters], output=lesson.label)
        for lesson in learned
    ]


def schema_of(columns: Columns) -> Any:
    import pyarrow as pa

    return pa.schema([(name, arrow_type(kind)) for name, kind in columns.dataset.items()])


def arrow_type(kind: ColumnType) -> Any:
    import pyarrow as pa

    types = {"text": pa.string, "number": pa.float64, "integer": pa.int64, "truth": pa.bool_}
    return pa.list_(pa.string()) if kind == "texts" else types[kind]()
