"""Asking a variant about the drawn documents: questions as a run puts them together, answers through the ledger."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from ai_assets.base.windows import Opening, earliest
from ai_assets.collection.loading import Collection
from ai_assets.documents.source_listing import Listing, stored_listing
from ai_assets.inference.call_listener import CallListener
from ai_assets.inference.errors import BudgetExhausted
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import SHADOW, Request, Unanswered
from ai_assets.inference.settings import Budget, InferenceSettings
from ai_assets.planning.preview import PreviewWork
from ai_assets.planning.words import dollars
from ai_assets.run.datasets.admitted import admitted
from ai_assets.run.datasets.llm_stage import AnsweredRows, asked_of, examples_of
from ai_assets.run.datasets.tries import Tries
from ai_assets.shadow.drawing import Drawn, DrawnDocument, said_of
from ai_assets.shadow.errors import ShadowCapped, ShadowWaits
from ai_assets.shadow.spec import ComparedDocument, Shadow
from ai_assets.stages.base import Row
from ai_assets.stages.llm import DocumentQuestion, PromptDocument, Question, row_of
from ai_assets.storage.spool import Spool
from ai_assets.storage.stores import Stores


class ShadowWork(PreviewWork):
    """A bench at which nothing is made: the source as it was last looked at, the lake as it is."""

    def __init__(
        self,
        collection: Collection,
        stores: Stores,
        run_id: str,
        cap: "ShadowCap | None" = None,
        call_listener: CallListener | None = None,
    ) -> None:
        super().__init__(collection, stores, run_id, priority="batch", call_listener=call_listener)
        self.cap = cap

    @cached_property
    def listing(self) -> Listing:
        return stored_listing(self.collection.name, self.stores.lake) or Listing(())

    @cached_property
    def inference(self) -> InferenceSettings:
        """With the approved price as a budget, which the ledger holds over all processes and after a kill."""
        declared = super().inference
        if self.cap is None:
            return declared
        own = Budget.model_construct(name=self.cap.budget, limit_usd=usd_of(self.cap.nusd), each=None, of={}, per=None)
        return declared.model_copy(update={"budgets": (*declared.budgets, own)})


@dataclass(frozen=True, kw_only=True)
class ShadowCap:
    """The budget that a shadow has for itself."""

    shadow: Shadow
    nusd: int
    """What was approved now, and what it used before it was interrupted."""

    @classmethod
    def approved(cls, stores: Stores, shadow: Shadow, nusd: int) -> Self:
        query = sa.text(
            "SELECT COALESCE(SUM(spent_nusd + held_nusd + reserved_nusd), 0) FROM budgets WHERE name = :name"
        )
        with stores.state.read() as connection:
            used: int = connection.execute(query, {"name": _budget_of(shadow)}).scalar_one()
        return cls(shadow=shadow, nusd=nusd + int(used))

    @property
    def budget(self) -> str:
        return _budget_of(self.shadow)


def _budget_of(shadow: Shadow) -> str:
    """No declared one can have that name."""
    return f"shadow cap {shadow.collection} {shadow.number}"


def run_id_of(shadow: Shadow, variant: str) -> str:
    return f"shadow {shadow.collection} {shadow.number} {variant}"


def compared(
    work: ShadowWork, shadow: Shadow, variant: str, question: Question, drawn: Drawn, advance: Callable[[int], None]
) -> tuple[list[ComparedDocument], int]:
    """What the variant says beside what is live, and how many answers were there already."""
    found: list[ComparedDocument] = []
    closed: list[Opening | None] = []
    reused = 0
    try:
        for document, row, is_there in _rows(work, question, drawn, closed):
            reused += is_there
            found.append(_compared(variant, question, document, row))
            advance(len(found))
    except BudgetExhausted as error:
        if work.cap is None or error.budget != work.cap.budget:
            raise
        raise ShadowCapped(shadow.name, dollars(work.cap.nusd)) from error
    if closed:
        opens = earliest(closed)
        when = "later" if opens is None else opens.said(store_moment(work.stores.state))
        raise ShadowWaits(shadow.name, len(closed), when)
    return found, reused


def _rows(
    work: ShadowWork, question: Question, drawn: Drawn, closed: list[Opening | None]
) -> Iterator[tuple[DrawnDocument, Row, bool]]:
    """Each with the row that a run would make, and whether its answer was there."""
    ready: deque[tuple[DrawnDocument, Row, bool]] = deque()
    waiting: deque[tuple[DrawnDocument, DocumentQuestion]] = deque()
    with Spool(Path(tempfile.gettempdir())) as spool:
        caller = work.caller(question.stage.name + SHADOW, "")
        for result in work.engine.map(_requests(work, question, drawn, spool, ready, waiting), caller):
            document, asked = waiting.popleft()
            if isinstance(result, Unanswered) and result.error == "outside_window":
                closed.append(result.opens)
                continue
            row = row_of(asked, result)
            yield document, row, bool(row["reused"])
            while ready:
                yield ready.popleft()
    yield from ready


def _requests(
    work: ShadowWork,
    question: Question,
    drawn: Drawn,
    spool: Spool,
    ready: "deque[tuple[DrawnDocument, Row, bool]]",
    waiting: "deque[tuple[DrawnDocument, DocumentQuestion]]",
) -> Iterator[Request]:
    """The questions to ask, in order; what needs none is `ready`."""
    stage, examples = question.stage, examples_of(work, question)
    for partition, chosen in drawn.by_partition.items():
        documents = work.input(stage.name, partition, "documents")
        earlier = {name: work.input(stage.name, partition, name) for name in stage.upstream}
        known = AnsweredRows(work, partition, stage, {}, Tries(work, partition, stage), spool)
        for row, found in admitted(work, stage, documents, earlier, asked_of(work)):
            document = chosen.get(row["document_id"])
            if document is None:
                continue
            prepared = known.prepare(question, PromptDocument(**row), found, examples)
            if prepared.place is not None:
                ready.append((document, spool.row(prepared.place), True))
            elif prepared.asked.request is None:
                ready.append((document, row_of(prepared.asked, None), True))
            else:
                waiting.append((document, prepared.asked))
                yield replace(prepared.asked.request, priority="batch")


def _compared(variant: str, question: Question, document: DrawnDocument, row: Row) -> ComparedDocument:
    return ComparedDocument(
        variant=variant,
        document_id=document.document_id,
        partition=document.partition,
        is_sampled=document.is_sampled,
        live_said=document.live.said,
        new_said=said_of(question.stage, row),
        live_call=document.live.call,
        new_call=row["call"],
        golden=document.golden,
        why=row["reason"] if row["status"] != "ok" else None,
    )
