"""One stage of one partition: its questions put together as a run would, and what the ledger says of each."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.inference.call_state import CallState, judged, read, ticket_for
from ai_assets.inference.ledger_messages import Hop, answer_to, held_by
from ai_assets.inference.records import Request
from ai_assets.planning.findings import BLOCK, COUNTED_FIRST, StageFindings, new_call, size_of
from ai_assets.planning.past import PastAttempt, PastQuestions, look_up_claims
from ai_assets.planning.preview import UnreadFiles
from ai_assets.planning.records import CERTAIN, Chance
from ai_assets.run.datasets.llm_stage import AnsweredRows, examples_of, of_this_text
from ai_assets.run.datasets.tries import Tries
from ai_assets.signoff.corrections import Correction, applied
from ai_assets.stages.base import Row
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.llm import DocumentQuestion, PromptDocument, Question, row_of
from ai_assets.storage.spool import Spool

if TYPE_CHECKING:
    from ai_assets.planning.partition_plan import PartitionPlanner


@dataclass(frozen=True, slots=True)
class _PlannedQuestion:
    """A question put together, with the chance that it is asked at all."""

    asked: DocumentQuestion
    ticket: CallState
    chance: Chance
    told: int | None
    """How many bytes of earlier answers it lacks; None where nothing is missing, and the question is the very one."""


class StagePlanner:
    """One stage of one partition whose dataset a run would make again."""

    def __init__(self, walk: "PartitionPlanner", question: Question, found: StageFindings) -> None:
        self._walk, self._stage, self._question, self._found = walk, question.stage, question, found
        stage = question.stage
        self._around = walk.around
        self._work = walk.around.work
        self._caller = self._work.caller(stage.name, walk.partition)
        self._past = self._around.past.get(stage.name, PastQuestions())
        self._put: list[_PlannedQuestion] = []
        self._rows: dict[str, Row] = {}
        self._chances: dict[str, tuple[Chance, Row | None]] = {}
        self._reads = _reader(question)
        self._given: Mapping[str, Correction] = {}
        if isinstance(stage, ClassifyStage):
            self._given = self._work.corrections.of(walk.partition, stage)

    def run(self) -> None:
        texts = {each.document_id: each.digest for each in self._walk.texts.documents}
        self._given = of_this_text(self._given, texts)
        tries = Tries(self._work, self._walk.partition, self._stage)
        with Spool(Path(tempfile.gettempdir())) as spool:
            self._run(AnsweredRows(self._work, self._walk.partition, self._stage, self._given, tries, spool))

    def _run(self, kept: AnsweredRows) -> None:
        texts = self._walk.texts
        examples = examples_of(self._work, self._question)
        for document in texts.documents:
            self._question_about(document, kept, examples)
            if len(self._put) >= BLOCK:
                self._look_up()
        self._look_up()
        chance = self._walk.unread_chance(self._stage)
        if texts.unread.files:
            self._found.unread.append((chance, texts.unread))
            self._found.unknown += round(texts.unread.documents)
        if self._stage.name in self._around.needed:
            rows = list(self._rows.values())
            if isinstance(self._stage, ClassifyStage):
                rows = applied(rows, self._given, {d.document_id: d.digest for d in texts.documents})
            self._walk.leave_open(self._stage, {row["document_id"]: row for row in rows}, self._chances)

    def _question_about(self, document: PromptDocument, kept: AnsweredRows, examples: Sequence[Any]) -> None:
        name, found = document.document_id, self._found
        chance = self._walk.chance(self._stage, name)
        if chance is None:
            return
        earlier, missing = {}, []
        for each in self._stage.upstream:
            open_row = self._walk.open(each).get(name)
            earlier[each] = self._walk.row(each, name)
            if open_row is not None and open_row.row is None and self._reads(each):
                missing.append(each)
        prepared = kept.prepare(self._question, document, earlier, examples)
        asked = prepared.asked
        found.documents += 1
        if missing:
            self._chances[name] = (chance, None)
            found.unknown += 1
            told = sum(self._around.answer_bytes.get(each, 0) for each in missing)
            if asked.request is not None:
                self._put.append(_PlannedQuestion(asked, self._ticket(asked.request), chance, told))
            elif document.text.strip():
                size = len(asked.text.encode()) + told
                found.unread.append((chance, UnreadFiles(files=1, documents=1, text_bytes=size)))
            return
        if chance != CERTAIN:
            found.unknown += 1
        if prepared.place is not None:
            row = kept.spool.row(prepared.place)
            found.kept += 1
            self._know(name, {**row, "document_id": name}, chance)
            self._pair(asked, row.get("call"))
        elif asked.request is None:
            self._know(name, row_of(asked, None), chance)
        else:
            self._put.append(_PlannedQuestion(asked, self._ticket(asked.request), chance, None))

    def _know(self, document: str, row: Row, chance: Chance) -> None:
        if chance == CERTAIN:
            self._rows[document] = row
        else:
            self._chances[document] = (chance, row)

    def _ticket(self, request: Request) -> CallState:
        leaving, name = self._around.departures, self._stage.name
        moment = leaving.moment(name)
        return leaving.ticket(
            name, ticket_for(self._around.inference, self._around.accounts, request, self._caller, moment)
        )

    def _pair(self, asked: DocumentQuestion, call: str | None) -> None:
        tokens = self._past.by_key.get(call or "")
        if tokens is not None and asked.request is not None and len(self._found.pairs) < COUNTED_FIRST:
            size = size_of(self._ticket(asked.request).claim.hops[0], asked.request)
            self._found.pairs.append((size, tokens, True))

    def _look_up(self) -> None:
        """Of the questions put together so far, which are answered."""
        put, self._put = self._put, []
        claims = [item.ticket.claim for item in put if item.told is None]
        bodies = self._stage.name in self._around.needed
        with self._work.stores.state.read() as connection:
            known = look_up_claims(connection, claims, bodies=bodies) if claims else {}
        for item in put:
            self._decide(item, known)

    def _decide(self, put: _PlannedQuestion, known: Mapping[str, PastAttempt]) -> None:
        found, asked, ticket, chance = self._found, put.asked, put.ticket, put.chance
        first, request = ticket.claim.hops[0], ticket.request
        size = size_of(first, request)
        found.asked += 1
        found.asked_bytes += size
        found.text_bytes += len(asked.text.encode())
        past = self._past.by_key.get(first.key)
        about = self._past.by_document.get(asked.document_id) if past is None else past
        if about is not None and len(found.pairs) < COUNTED_FIRST:
            found.pairs.append((size, about, past is not None))
        answered = answer_to(ticket.claim, known)
        if answered is not None:
            hop, answer = answered
            found.reused += 1
            found.reused_nusd += answer.cost_nusd or 0
            if answer.body is None:
                return
            row, repair = self._row(asked, ticket, hop, answer.body)
            if row is not None:
                self._know(asked.document_id, row, chance)
                return
            if repair is not None:
                self._chances[asked.document_id] = (chance, None)
                self._add(put, repair)
            return
        self._chances[asked.document_id] = (chance, None)
        if held_by(ticket.claim, known) is not None:
            found.held += 1
            return
        self._add(put, first)

    def _add(self, put: _PlannedQuestion, hop: Hop) -> None:
        self._found.calls.append(new_call(self._around, self._stage.name, put.ticket, hop, put.chance, put.told))

    def _row(self, asked: DocumentQuestion, ticket: CallState, hop: Hop, body: str) -> tuple[Row | None, Hop | None]:
        """The row that the answer gives; or the repair that is still to be asked for."""
        while True:
            result = judged(ticket, hop, read(hop.endpoint, body, ticket.request))
            if result is not None:
                return row_of(asked, result), None
            (hop,) = ticket.claim.hops
            with self._work.stores.state.read() as connection:
                again = look_up_claims(connection, [ticket.claim], bodies=True).get(hop.key)
            if again is None or again.body is None:
                return None, hop
            self._found.reused_nusd += again.cost_nusd or 0
            body = again.body


def _reader(question: Question) -> Callable[[str], bool]:
    """Whether the prompt may show what an earlier stage said: its name stands in a template that uses `stages`."""
    text = question.prompt.system + question.prompt.user
    used = "stages" in text
    return lambda name: used and (name in text or name == question.stage.judges)
