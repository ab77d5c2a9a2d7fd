"""A stage that is a function of the user's: its rows, each kept while its document, its source and its inputs are.

Every question it puts is in the ledger by its bytes. So a function that was killed in its seventh call runs again and
finds six answers there: nothing is kept of where it stood.
"""

import asyncio
import concurrent.futures
import math
import multiprocessing
import threading
import time
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import AiAssetsError, LeaseLost
from ai_assets.base.plural import plural
from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.inference.errors import WorkStops
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.inference.records import Answer, Request, Result, Unanswered
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.admitted import admitted, count_admitted
from ai_assets.run.datasets.documents import versions_of
from ai_assets.run.datasets.llm_stage import COLUMNS, schema_of
from ai_assets.run.datasets.tries import Tries, settled
from ai_assets.run.errors import StageProcessDied, StageWithoutRoute
from ai_assets.stages.function import Document, FunctionSpec, Quarantine, checked, resolve, why
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.prompt import PromptFailed, rendered_file
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Manifest, parquet_columns
from ai_assets.storage.spool import Spool

AT_ONCE = 16
"""Documents under way at once, of a stage that asks no model; of one that does, as many as its endpoints take."""
BLOCK = 32
"""Documents that a process is given at a time."""


def build(work: Work, partition: str, stage: FunctionStage) -> Outcome:
    started = time.perf_counter()
    documents = work.input(stage.name, partition, "documents")
    earlier = {name: work.input(stage.name, partition, name) for name in stage.upstream}
    inputs = versions_of(documents, earlier)
    if same := settled(work, partition, stage, inputs):
        return same
    tries, said = Tries(work, partition, stage), _RowCounts()
    with work.spool(stage.name, partition) as spool:
        rows = _Rows(spool)
        _compute(work, partition, stage, documents, earlier, tries, rows, said)
        with work.writing(stage.name, partition, schema_of(stage.columns)) as out:
            for row in rows:
                out.append(row)
                said.see(row, stage)
    tries.record(said.failed)
    spent = work.spent(stage.name, partition) if stage.models else None
    outcome = work.commit(
        stage.name,
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=len(rows.places),
        documents_out=len(rows.places) - said.quarantined,
        reused=rows.reused,
        quarantined=said.quarantined,
        preview=said.preview,
        unanswered=len(said.failed),
        paid_usd=round(math.fsum(said.costs), 9),
        **({"spend": spent} if spent else {}),
        **({"not_deterministic": sorted(said.otherwise)} if said.otherwise else {}),
    )
    return replace(outcome, cost_usd=spent["cost_usd"]) if spent else outcome


@dataclass
class _RowCounts:
    """What is counted of rows on their way to the dataset."""

    quarantined: int = 0
    failed: list[str] = field(default_factory=list)
    """Documents that are tried again."""
    preview: list[Row] = field(default_factory=list)
    costs: "array[float]" = field(default_factory=lambda: array("d"))
    otherwise: set[str] = field(default_factory=set)
    """Documents about which the function asked otherwise than before it was interrupted."""
    passing: set[str] = field(default_factory=set)

    def see(self, row: Row, stage: FunctionStage) -> None:
        self.costs.append(row["cost_usd"] or 0.0)
        if row["status"] == "quarantined":
            self.quarantined += 1
            if row["document_id"] in self.passing:
                self.failed.append(row["document_id"])
        if len(self.preview) < PREVIEW_ROWS:
            self.preview.append({name: row[name] for name in stage.columns.preview})


class _Rows:
    """Of all documents in order, as places in a spool; a document may have several."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.places: list[list[int]] = []
        self.reused = 0
        """Documents whose rows were there, or all of whose answers were in the ledger."""

    def reserve(self) -> int:
        self.places.append([])
        return len(self.places) - 1

    def put(self, number: int, rows: Sequence[Row]) -> None:
        self.places[number] = [self.spool.append_row(row) for row in rows]

    def __iter__(self) -> Iterator[Row]:
        for places in self.places:
            for place in places:
                yield self.spool.row(place)


def _compute(
    work: Work, partition: str, stage: FunctionStage, documents: Manifest, earlier: Mapping[str, Manifest],
    tries: Tries, rows: _Rows, said: _RowCounts,
) -> None:  # fmt: skip
    known = ByDocument(_known(work, partition, stage))
    total, done = count_admitted(work, stage, documents, earlier), 0
    identity = digest(work.collection.functions[stage.name])

    def wanted() -> Iterator[tuple[int, str, Document]]:
        nonlocal done
        for row, found in admitted(work, stage, documents, earlier, COLUMNS):
            document = _document(work, stage, row, found)
            question = digest([identity, document.digest, document.title, document.path, dict(document.stages)])
            number = rows.reserve()
            kept = [each for each in known.of(document.id) if each["input_digest"] == question]
            if kept and _stays(kept[0], question, tries):
                rows.put(number, kept)
                rows.reused += 1
                if kept[0]["status"] == "quarantined" and document.id in tries.known:
                    said.passing.add(document.id)
                done += 1
                work.advance(stage.name, partition, done, total, rows.reused)
            else:
                yield number, question, document

    work.advance(stage.name, partition, 0, total)
    try:
        with _Runner.of(work, partition, stage) as runner, _patiently(work, stage):
            for number, question, outcome in runner.map(wanted()):
                rows.put(number, _made(stage, question, outcome))
                rows.reused += outcome.from_ledger
                if outcome.passes:
                    said.passing.add(outcome.document)
                    tries.count(outcome.document, question, {"reason": outcome.reason, "call": outcome.call})
                if outcome.otherwise:
                    said.otherwise.add(outcome.document)
                    _say_otherwise(work, partition, stage, outcome)
                done += 1
                work.advance(stage.name, partition, done, total, rows.reused)
    except _OutsideWindow as found:
        raise WaitingForWindow(
            stage.name, partition, opens=found.opens, moment=store_moment(work.stores.state), documents=total - done
        ) from None
    work.advance(stage.name, partition, total, total, rows.reused)


def _say_otherwise(work: Work, partition: str, stage: FunctionStage, outcome: "_DocumentOutcome") -> None:
    work.say(
        f"{partition}: {stage.name} of {outcome.document} asked otherwise than before it was interrupted: "
        f"{plural(outcome.otherwise, 'paid answer is', 'paid answers are')} not used. "
        "A function that is to go on where it was has to "
        "ask the same again (no random numbers, no clock)"
    )


@contextmanager
def _patiently(work: Work, stage: FunctionStage) -> Iterator[None]:
    """Others compute while this one waits: for models, or for processes of its own."""
    if stage.models is None and not stage.spec.cpu:
        yield
    else:
        with work.waiting():
            yield


def _known(work: Work, partition: str, stage: FunctionStage) -> Iterator[Row]:
    previous = work.previous(stage.name, partition)
    if previous is None or set(parquet_columns(work.stores.lake.path(previous))) != set(stage.columns.dataset):
        return iter(())
    return iter(work.rows(previous))


def _stays(row: Row, question: str, tries: Tries) -> bool:
    """What was made, or set aside by the function itself. What failed is tried again when that is due."""
    if row["status"] != "quarantined" or row["document_id"] not in tries.known:
        return True
    return tries.leaves_alone(row["document_id"], question)


def _document(work: Work, stage: FunctionStage, row: Row, found: Mapping[str, Row | None]) -> Document:
    offered = {each.name: each.columns.offered for each in work.collection.stages if each.name in found}
    return Document(
        id=row["document_id"],
        text=row["text"],
        title=row["title"],
        language=row["language"],
        path=row["path"],
        digest=row["digest"],
        stages={
            name: {column: made[column] for column in offered[name]} if (made := found[name]) is not None else {}
            for name in found
        },
    )


@dataclass(kw_only=True)
class _DocumentOutcome:
    """What became of one document."""

    document: str
    rows: list[dict[str, Any]] | None = None
    """None where it is set aside."""
    reason: str = ""
    passes: bool = False
    """It failed, and is tried again."""
    call: str = ""
    calls: int = 0
    cost_usd: float = 0.0
    otherwise: int = 0
    from_ledger: bool = False
    """It was asked about, and all answers were there already."""


def _made(stage: FunctionStage, question: str, outcome: _DocumentOutcome) -> list[Row]:
    empty = dict.fromkeys(stage.columns.dataset)
    about = {"document_id": outcome.document, "input_digest": question, "calls": outcome.calls}
    if outcome.rows is None:
        row = {**empty, **about, "status": "quarantined", "reason": outcome.reason, "cost_usd": outcome.cost_usd}
        return [{**row, "row_key": ""} if "row_key" in empty else row]
    if not outcome.rows:
        return [{**empty, **about, "row_key": "", "status": "empty", "cost_usd": outcome.cost_usd}]
    # What it cost stands once, beside the first of its rows.
    costs = [outcome.cost_usd, *(0.0 for _ in outcome.rows[1:])]
    return [{**empty, **about, **row, "status": "ok", "cost_usd": cost}
            for row, cost in zip(outcome.rows, costs, strict=True)]  # fmt: skip


# Running it


class _NoAnswer(Quarantine):
    """A question was not answered: raised out of `ask`, so that the function need not look."""

    def __init__(self, found: Unanswered) -> None:
        super().__init__(f"{found.error}: {found.message}")
        self.call = found.call


class _OutsideWindow(AiAssetsError):
    """Its stage ends here, and another run goes on: answers that came are in the ledger."""

    def __init__(self, found: Unanswered) -> None:
        super().__init__(found.message)
        self.opens = found.opens


@dataclass
class _Reply:
    text: str
    data: Any
    cost_usd: float


class _Context:
    """`ctx` of a stage, for one document."""

    def __init__(self, runner: "_Runner", document: Document, question: str) -> None:
        self._runner, self._document = runner, document
        self.tag = f"{runner.stage.name} {question[:16]}"
        self.keys: set[str] = set()
        self.calls, self.sent, self.cost_usd = 0, 0, 0.0

    def log(self, line: str) -> None:
        self._runner.work.say(f"{self._runner.stage.name} of {self._document.id}: {line}")

    def ask(self, text: str | None = None, **given: Any) -> Any:
        request = self._request(text, **given)
        if self._runner.spec.is_async:
            return self._aask(request)
        self._runner.refuse_if_stopped()
        try:
            result = self._runner.work.engine.call(request, self._runner.caller)
        except (WorkStops, LeaseLost) as error:
            raise self._runner.stops(error) from error
        return self._reply(result)

    async def _aask(self, request: Request) -> _Reply:
        self._runner.refuse_if_stopped()
        try:
            result = await self._runner.work.engine.acall(request, self._runner.caller)
        except (WorkStops, LeaseLost) as error:
            raise self._runner.stops(error) from error
        return self._reply(result)

    def _request(
        self, text: str | None, *, prompt: str | None = None, schema: Mapping[str, Any] | None = None,
        system: str | None = None, **variables: Any,
    ) -> Request:  # fmt: skip
        stage = self._runner.stage
        if stage.models is None:
            raise self._runner.stops(StageWithoutRoute(stage.name))
        if (text is None) == (prompt is None):
            raise TypeError("ask takes a text, or prompt= and what its template names")
        if prompt is not None:
            try:
                found, text = rendered_file(self._runner.work.collection.folder / prompt, variables)
            except (PromptFailed, OSError) as error:
                raise Quarantine(f"the prompt {prompt} cannot be used: {error}") from error
            system = found if system is None else system
        messages = [{"role": "system", "content": system}] if system else []
        return Request(
            messages=(*messages, {"role": "user", "content": text or ""}),
            schema=schema,
            temperature=stage.temperature,
            seed=stage.seed,
            max_output_tokens=stage.max_output_tokens,
            route=stage.models,
            kind="function",
            document=self._document.id,
            prompt=self.tag,
            timeout_s=stage.timeout_s,
            tier=stage.served_at,
            priority=stage.priority,
            hours=stage.hours,
            reuse_for_s=stage.reuse_for_s,
            on_ambiguous=stage.on_ambiguous,
        )

    def _reply(self, result: Result) -> _Reply:
        self.calls += 1
        self.sent += result.attempts > 0
        self.cost_usd += result.cost_usd + result.saved_usd
        if result.call:
            self.keys.add(result.call)
        if isinstance(result, Unanswered):
            if result.error == "outside_window":
                raise self._runner.stops(_OutsideWindow(result))
            raise _NoAnswer(result)
        assert isinstance(result, Answer)
        return _Reply(text=result.text, data=result.data, cost_usd=result.cost_usd + result.saved_usd)


class _Runner:
    """Runs the function on documents, some at a time, and gives their outcomes in order."""

    def __init__(self, work: Work, partition: str, stage: FunctionStage) -> None:
        self.work, self.partition, self.stage, self.spec = work, partition, stage, stage.spec
        self._stopped: BaseException | None = None
        self._closing = ExitStack()

    @classmethod
    def of(cls, work: Work, partition: str, stage: FunctionStage) -> "_Runner":
        return _InProcesses(work, partition, stage) if stage.spec.cpu else cls(work, partition, stage)

    def __enter__(self) -> "_Runner":
        self.caller = self.work.caller(self.stage.name, self.partition)
        self._before = self._answered_before() if self.stage.models else {}
        if self.spec.is_async:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._loop.run_forever, name=self.stage.name, daemon=True)
            thread.start()
            self._closing.callback(self._loop.close)
            self._closing.callback(thread.join)
            self._closing.callback(self._loop.call_soon_threadsafe, self._loop.stop)
        else:
            self._pool: Executor = ThreadPoolExecutor(self._at_once, thread_name_prefix=self.stage.name)
            self._closing.callback(lambda: self._pool.shutdown(wait=True, cancel_futures=True))
        return self

    def __exit__(self, *_exit: object) -> None:
        self._closing.close()

    @property
    def _at_once(self) -> int:
        from ai_assets.inference.routes import names_of

        if self.stage.models is None:
            return AT_ONCE
        declared = self.work.inference
        names = names_of(declared, self.stage.models)
        return max(1, sum(declared.endpoints[name].limits.concurrency for name in names))

    def refuse_if_stopped(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def stops(self, error: BaseException) -> BaseException:
        """What ends the whole stage, whatever the function does with it."""
        self._stopped = self._stopped or error
        return error

    def map(self, wanted: Iterator[tuple[int, str, Document]]) -> Iterator[tuple[int, str, _DocumentOutcome]]:
        under_way: deque[tuple[int, str, Future[_DocumentOutcome]]] = deque()
        try:
            for number, question, document in wanted:
                under_way.append((number, question, self._submit(question, document)))
                if len(under_way) >= 2 * self._at_once:
                    yield self._next(under_way)
            while under_way:
                yield self._next(under_way)
        finally:
            # What has asked is waited for, as it is paid for; no other question leaves.
            self._stopped = self._stopped or (Quarantine("the stage has ended") if under_way else None)
            left = [future for _, _, future in under_way if self.spec.is_async or not future.cancel()]
            concurrent.futures.wait(left)

    def _next(self, under_way: "deque[tuple[int, str, Future[_DocumentOutcome]]]") -> tuple[int, str, _DocumentOutcome]:
        number, question, future = under_way.popleft()
        outcome = future.result()
        if self._stopped is not None:
            raise self._stopped
        return number, question, outcome

    def _submit(self, question: str, document: Document) -> "Future[_DocumentOutcome]":
        context = _Context(self, document, question)
        if self.spec.is_async:
            return asyncio.run_coroutine_threadsafe(self._awaited(context, document), self._loop)
        return self._pool.submit(self._called, context, document)

    def _called(self, context: _Context, document: Document) -> _DocumentOutcome:
        try:
            given = (document, context) if self.spec.takes_context else (document,)
            return self._outcome(context, document, checked(self.spec, self.spec.function(*given)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's function raises concerns its document
            return self._failed(context, document, error)

    async def _awaited(self, context: _Context, document: Document) -> _DocumentOutcome:
        try:
            given = (document, context) if self.spec.takes_context else (document,)
            return self._outcome(context, document, checked(self.spec, await self.spec.function(*given)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the same
            return self._failed(context, document, error)

    def _outcome(self, context: _Context, document: Document, rows: list[dict[str, Any]]) -> _DocumentOutcome:
        unused = self._before.get((document.id, context.tag), set()) - context.keys
        return _DocumentOutcome(
            document=document.id,
            rows=rows,
            calls=context.calls,
            cost_usd=context.cost_usd,
            otherwise=len(unused),
            from_ledger=context.calls > 0 and not context.sent,
        )

    def _failed(self, context: _Context, document: Document, error: BaseException) -> _DocumentOutcome:
        deliberate = isinstance(error, Quarantine) and not isinstance(error, _NoAnswer)
        return _DocumentOutcome(
            document=document.id,
            reason=why(error, self.spec.function),
            passes=not deliberate,
            call=error.call if isinstance(error, _NoAnswer) else "",
            calls=context.calls,
            cost_usd=context.cost_usd,
        )

    def _answered_before(self) -> Mapping[tuple[str, str], set[str]]:
        """Keys of answers to this stage, by document and question: of runs that were interrupted, or ended well."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        given = {"c": self.work.collection.name, "a": self.stage.name, "p": self.partition}
        with self.work.stores.state.read() as connection:
            for row in connection.execute(sa.text(_ANSWERED), given):
                found[row.document, row.prompt].add(row.call_key)
        return found


_ANSWERED = """
SELECT attempts.document, attempts.prompt, attempts.call_key FROM attempts
JOIN callers ON callers.caller_id = attempts.caller_id
WHERE callers.collection = :c AND callers.asset = :a AND callers.partition = :p AND attempts.state = 'settled'
AND NOT EXISTS (SELECT 1 FROM attempts AS later WHERE later.previous_id = attempts.attempt_id)"""


# Pure Python, in processes


class _InProcesses(_Runner):
    """`cpu=True`: the function runs in processes of its own, which can ask nothing."""

    def __enter__(self) -> "_Runner":
        self._workers = self.work.cores
        self._processes = ProcessPoolExecutor(self._workers, mp_context=multiprocessing.get_context("spawn"))
        self._closing.callback(lambda: self._processes.shutdown(wait=True, cancel_futures=True))
        return self

    def map(self, wanted: Iterator[tuple[int, str, Document]]) -> Iterator[tuple[int, str, _DocumentOutcome]]:
        under_way: deque[tuple[list[tuple[int, str, Document]], Future[list[_DocumentOutcome]]]] = deque()
        for block in _blocks(wanted):
            documents = [document for _, _, document in block]
            under_way.append((block, self._processes.submit(_in_process, self.stage.function, documents)))
            if len(under_way) >= 2 * self._workers:
                yield from self._of_block(*under_way.popleft())
        while under_way:
            yield from self._of_block(*under_way.popleft())

    def _of_block(
        self, block: list[tuple[int, str, Document]], future: "Future[list[_DocumentOutcome]]"
    ) -> Iterator[tuple[int, str, _DocumentOutcome]]:
        try:
            outcomes = future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            names = [document.id for _, _, document in block]
            raise StageProcessDied(self.stage.name, names[0], names[-1]) from error
        for (number, question, _), outcome in zip(block, outcomes, strict=True):
            yield number, question, outcome


def _blocks(wanted: Iterator[tuple[int, str, Document]]) -> Iterator[list[tuple[int, str, Document]]]:
    block: list[tuple[int, str, Document]] = []
    for each in wanted:
        block.append(each)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _in_process(reference: str, documents: list[Document]) -> list[_DocumentOutcome]:
    spec = resolve(reference)
    return [_alone(spec, document) for document in documents]


def _alone(spec: FunctionSpec, document: Document) -> _DocumentOutcome:
    call: Callable[..., Any] = spec.function
    try:
        return _DocumentOutcome(document=document.id, rows=checked(spec, call(document)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises concerns its document
        passes = not isinstance(error, Quarantine)
        return _DocumentOutcome(document=document.id, reason=why(error, spec.function), passes=passes)
