"""Asking by batch: answers that the ledger has come at once, and all other calls become lines of a file.

One `BatchAsker` per run: stages and partitions that ask the same endpoint share its files. Nothing is sent before
`submit`, except files that are full.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ai_assets.base.errors import LeaseBusy, LeaseLost, UserError
from ai_assets.base.temporary import TemporaryFolder
from ai_assets.inference.accounts import Account, Accounts
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.errors import BatchRefused, BatchRefusedGoesOn, RawInBatch
from ai_assets.inference.batch.job_deadline import JobDeadline
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.lines import head_of, request_line
from ai_assets.inference.batch.pending import AwaitedCalls, HeldBudget, Pending
from ai_assets.inference.batch.provider import BatchProvider, provider_of
from ai_assets.inference.batch.standing import Given, Verdict, given_of, verdict
from ai_assets.inference.batch.submitting import Submitting
from ai_assets.inference.call_listener import CallListener
from ai_assets.inference.call_state import CallState, held, judged, reply_of, ticket_for, unanswered
from ai_assets.inference.dispatch import exhausted, key_of_endpoint, short_of, with_body
from ai_assets.inference.identity import Unhashable
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.ledger_messages import (
    BudgetShortage,
    HeldAttempt,
    Hop,
    Intent,
    OpenElsewhere,
    Parcel,
    Recall,
    ReusedAnswer,
)
from ai_assets.inference.opening import outside_said
from ai_assets.inference.prices import estimated_tokens
from ai_assets.inference.records import Caller, Request, RequestKind, Result, Unanswered
from ai_assets.inference.settings import BatchSettings, InferenceSettings
from ai_assets.inference.validation import text_problem
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import StateStore, now

CHUNK = 256
"""Requests that are looked up and claimed together."""
AROUND_BYTES = 64
"""Of a line beside its body and what all lines share: its key and the marks around it."""


@dataclass
class _Filling:
    """A file that takes more lines, and its job."""

    job: BatchJob
    lease: Lease
    ledger: Ledger
    path: Path
    out: BinaryIO
    head: bytes
    limits: BatchSettings
    lines: int = 0
    size: int = 0
    tokens: int = 0
    worst_nusd: int = 0

    def takes(self, lines: int, size: int, tokens: int) -> bool:
        """So much more; a single line goes whatever it holds, for the provider to refuse."""
        limits = self.limits
        fits = self.lines + lines <= limits.max_lines and self.size + size <= limits.most_bytes
        if limits.enqueued_tokens is not None:
            fits = fits and self.tokens + tokens <= limits.enqueued_tokens
        return fits or self.lines + lines == 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """On whose behalf, since when, and by when."""

    caller: Caller
    began: str | None
    deadline: JobDeadline | None


_FileKey = tuple[str, RequestKind, JobDeadline | None]
"""What the lines of a file have in common."""


@dataclass
class BatchAsker:
    """Close it, or use it in a `with` block: what was not submitted by then is free again."""

    settings: InferenceSettings
    state: StateStore
    step: Callable[[str], None] = lambda _name: None
    listener: CallListener | None = None
    """Hears of answers that are there."""
    unsent: dict[tuple[str, str, str], UserError] = field(default_factory=dict)
    """Why the provider did not take a file, by collection, asset and partition whose calls are in it."""
    _errors: list[UserError] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _filling: dict[_FileKey, _Filling] = field(default_factory=dict)
    _submitted: list[str] = field(default_factory=list)
    _providers: dict[str, BatchProvider] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._accounts = Accounts(self.settings.budgets)
        self._folder: TemporaryFolder | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def has_lines(self) -> bool:
        """Whether there is something to submit."""
        return bool(self._filling)

    def map(
        self, requests: Iterable[Request], caller: Caller, deadline: JobDeadline | None = None
    ) -> Iterator[Result | Pending]:
        """In order. When it has ended, who asks is known to wait, or to have all of its answers.

        What is due at the same time shares files, so that one can be stopped without the others.
        """
        wanted, calls, awaited = iter(requests), 0, AwaitedCalls()
        with self.state.read() as connection:
            order = _Order(caller=caller, began=jobs.since(connection, caller), deadline=deadline)
        while chunk := list(islice(wanted, CHUNK)):
            for result in self._chunk(chunk, order):
                calls += 1
                if isinstance(result, Pending):
                    awaited.add(result)
                yield result
        with self.state.write() as connection:
            if awaited.number:
                jobs.keep_wait(connection, caller, calls, now(), awaited, deadline)
            else:
                jobs.end_wait(connection, caller)

    def submit(self) -> list[str]:
        """Upload what was collected and have it begun; the ids of all jobs of this asker. Where some could not be sent
        the others are all the same; then the first error is raised, and `unsent` says whose calls it concerns."""
        with self._lock:
            for key in list(self._filling):
                with contextlib.suppress(UserError):  # it is in `unsent`
                    self._submit(key)
            if self._errors:
                raise self._errors[0]
            return list(self._submitted)

    def close(self) -> None:
        with self._lock:
            for filling in self._filling.values():
                filling.out.close()
                with contextlib.suppress(UserError):  # who takes the lease over does it too
                    self._submitting(filling).give_up("the run ended before it was submitted")
                filling.lease.give_back()
            self._filling.clear()
            for provider in self._providers.values():
                provider.close()
            self._providers.clear()
            if self._folder is not None:
                self._folder.close()
                self._folder = None

    # What is asked

    def _chunk(self, requests: Sequence[Request], order: _Order) -> Iterator[Result | Pending]:
        results: dict[int, Result | Pending] = {}
        tickets: dict[int, CallState] = {}
        for place, request in enumerate(requests):
            if request.raw is not None:
                raise RawInBatch
            try:
                tickets[place] = ticket_for(self.settings, self._accounts, request, order.caller, in_batch=True)
            except Unhashable as error:
                said = f"a part of the request cannot be written as JSON, so it has no identity: {error}"
                results[place] = Unanswered(request=request, error="unhashable", message=said)
        for ticket in tickets.values():  # a key that is missing is named before anything is noted
            hop = _hop_of(ticket)
            key_of_endpoint(hop.name, hop.endpoint)
        self._recall(tickets, results, order)
        left = {place: ticket for place, ticket in tickets.items() if place not in results}
        if left:
            self._claim(left, results, order)
        yield from (results[place] for place in range(len(requests)))

    def _recall(self, tickets: dict[int, CallState], results: dict[int, Result | Pending], order: _Order) -> None:
        """Answers that are there; one that does not fit makes of its request a repair, which may be there too."""
        left = dict(tickets)
        while left:
            with self.state.write() as connection:
                ledger = Ledger(connection.dialect.name, 0)
                recall = Recall(claims=[ticket.claim for ticket in left.values()])
                (found,) = ledger.apply_in_batch(connection, [recall])
            repaired: dict[int, CallState] = {}
            for (place, ticket), reused in zip(left.items(), found, strict=True):
                if reused is None:
                    continue
                ticket.saved_nusd += reused.cost_nusd
                reply = reply_of(ticket, reused)
                result = judged(ticket, reused.hop, reply)
                if result is None and ticket.claim.unfit and order.began is not None:  # this very wait has asked it
                    problem = text_problem(ticket.request, reply) or ""
                    result = unanswered(ticket, reused.hop, "invalid_output", problem)
                if result is not None:
                    results[place] = result
                    if self.listener is not None:
                        self.listener.recalled(ticket, result)
                elif not ticket.claim.hops[0].in_batch:
                    said = "the answer does not fit, and the endpoint that gave it has no batches to repair it in"
                    results[place] = unanswered(ticket, ticket.claim.hops[0], "invalid_output", said)
                else:
                    repaired[place] = ticket
            left = repaired

    def _claim(self, tickets: dict[int, CallState], results: dict[int, Result | Pending], order: _Order) -> None:
        """Each becomes a line of a file, unless it is one already or has failed for good."""
        with self.state.read() as connection:
            known = given_of(connection, [_hop_of(ticket).key for ticket in tickets.values()])
        wanted: dict[int, CallState] = {}
        moment = store_moment(self.state)
        for place, ticket in tickets.items():
            row = known.get(_hop_of(ticket).key)
            found = verdict(row, order.began, ticket.request.on_ambiguous)
            if found is Verdict.ASK:
                # Files leave in the hours of who asks. When the provider runs a line is its own affair.
                if ticket.request.hours.allowed(moment, ticket.request.priority):
                    wanted[place] = ticket
                else:
                    opens = ticket.request.hours.next_opening(moment)
                    said = outside_said(opens, moment)
                    results[place] = unanswered(ticket, _hop_of(ticket), "outside_window", said, opens=opens)
            elif found is Verdict.WAIT:
                results[place] = Pending(request=ticket.asked, job=row.job if row is not None else "")
            else:
                results[place] = _failed(ticket, row, found)
        if wanted:
            self._put(wanted, results, order)

    def _put(self, tickets: dict[int, CallState], results: dict[int, Result | Pending], order: _Order) -> None:
        with self._lock:
            left = deque(tickets.items())
            while left:
                filling = self._file_for(left[0][1], order)
                part = self._taken(filling, left)
                if not part:
                    self._submit((filling.job.endpoint, filling.job.kind, filling.job.deadline))
                    continue
                short = self._open(filling, part, results, order.caller)
                if short is None:
                    continue
                if short.final:
                    raise exhausted(short)
                # What comes back of lines on their way pays for them.
                held = HeldBudget(name=short.account.name, jobs=short.batches) if short.batches else None
                for place, ticket in [*part, *left]:
                    results.setdefault(place, Pending(request=ticket.asked, held=held))
                return

    def _taken(self, filling: _Filling, left: "deque[tuple[int, CallState]]") -> list[tuple[int, CallState]]:
        """From the left, as many as the file takes."""
        part: list[tuple[int, CallState]] = []
        size = tokens = 0
        while left:
            ticket = left[0][1]
            hop = _hop_of(ticket)
            size += len(hop.body) + len(filling.head) + AROUND_BYTES
            tokens += estimated_tokens(ticket.request)
            alike = _key_of(ticket) == (filling.job.endpoint, filling.job.kind) and hop.price == filling.job.price
            if not alike or not filling.takes(len(part) + 1, size, tokens):
                break
            part.append(left.popleft())
        return part

    def _open(
        self,
        filling: _Filling,
        part: Sequence[tuple[int, CallState]],
        results: dict[int, Result | Pending],
        caller: Caller,
    ) -> BudgetShortage | None:
        """Intents first, then their lines; the first shortage of money that is not one document's own."""
        claims = [Parcel(claims=[with_body(ticket.claim, ticket.claim.at)]) for _, ticket in part]
        with filling.lease.fenced() as connection:
            jobs.begin_wait(connection, caller, now())
            decisions = [found for (found,) in filling.ledger.apply_in_batch(connection, claims)]
        short: BudgetShortage | None = None
        for (place, ticket), decision in zip(part, decisions, strict=True):
            match decision:
                case Intent():
                    self._write(filling, ticket, decision.hop)
                    results[place] = Pending(request=ticket.asked, job=filling.job.job_id)
                case OpenElsewhere(job=job):
                    results[place] = Pending(request=ticket.asked, job=job)
                case ReusedAnswer():  # it came this very moment: the next run reads it
                    results[place] = Pending(request=ticket.asked)
                case HeldAttempt():
                    hop = _hop_of(ticket)
                    results[place] = held(ticket, hop, decision.reserved_nusd, "an earlier attempt")
                case BudgetShortage(final=True, account=Account(of_document=True)):
                    results[place] = unanswered(ticket, _hop_of(ticket), "budget", short_of(decision))
                case BudgetShortage():
                    short = short or decision
                case _:
                    results[place] = Pending(request=ticket.asked)
        return short

    def _write(self, filling: _Filling, ticket: CallState, hop: Hop) -> None:
        line = request_line(hop.key, filling.head, hop.body)
        filling.out.write(line)
        filling.lines += 1
        filling.size += len(line)
        filling.tokens += estimated_tokens(ticket.request)
        filling.worst_nusd += hop.reserve_nusd

    # Files

    def _file_for(self, ticket: CallState, order: _Order) -> _Filling:
        hop = _hop_of(ticket)
        key = (*_key_of(ticket), order.deadline)
        found = self._filling.get(key)
        if found is not None and found.job.price != hop.price:
            self._submit(key)
            found = None
        if found is None:
            found = self._filling[key] = self._new(hop, ticket.request.asks_for, order)
        return found

    def _new(self, hop: Hop, kind: RequestKind, order: _Order) -> _Filling:
        assert hop.endpoint.batch is not None
        if self._folder is None:
            self._folder = TemporaryFolder("batch")
        with self.state.write() as connection:
            job = jobs.new(
                connection,
                endpoint=hop.name,
                kind=kind,
                collection=order.caller.collection,
                run_id=order.caller.run_id,
                price=hop.price,
                deadline=order.deadline,
            )
        lease = Lease(self.state, job.lease)
        if (holder := lease.try_take()) is not None:  # a collector that was quicker frees it
            raise LeaseBusy(job.lease, holder, 0.0)
        path = self._folder.path / f"{job.job_id}.jsonl"
        out = path.open("wb", buffering=2**20)
        head = head_of(hop.endpoint.batch, kind)
        ledger = Ledger(self.state.dialect, job.owner_id)
        return _Filling(job, lease, ledger, path, out, head, hop.endpoint.batch)

    def _submitting(self, filling: _Filling) -> Submitting:
        name = filling.job.endpoint
        endpoint = self.settings.endpoints[name]
        if name not in self._providers:
            self._providers[name] = provider_of(name, endpoint)
        return Submitting(self.state, filling.lease, filling.job, endpoint, self._providers[name], self.step)

    def _submit(self, key: _FileKey) -> None:
        filling = self._filling.pop(key)
        try:
            filling.out.close()
            submitting = self._submitting(filling)
            if not filling.lines:  # no budget had money for it
                with filling.lease.fenced() as connection:
                    jobs.drop(connection, filling.job)
                return
            submitting.seal(
                lines=filling.lines, size=filling.size, tokens=filling.tokens, worst_nusd=filling.worst_nusd
            )
            self._submitted.append(filling.job.job_id)
            self.step("sealed")
            submitting.upload(filling.path)
            filling.path.unlink(missing_ok=True)
            self.step("uploaded")
            submitting.create()
        except UserError as error:
            raise self._not_sent(filling.job, error) from error
        finally:
            filling.lease.give_back()

    def _not_sent(self, job: BatchJob, error: UserError) -> UserError:
        if isinstance(error, LeaseLost):  # who has it now sees to its lines
            self._errors.append(error)
            return error
        with self.state.write() as connection:
            deadline = jobs.get(connection, job.job_id).deadline
            waiting = jobs.waiting_on(connection, job)
            if deadline is None and not isinstance(error, BatchRefused):
                jobs.never_left(connection, job)
        if deadline is not None and isinstance(error, BatchRefused):
            error = BatchRefusedGoesOn(error, deadline.then)
        self._errors.append(error)
        self.unsent |= dict.fromkeys(waiting, error)
        return error


def _key_of(ticket: CallState) -> tuple[str, RequestKind]:
    return _hop_of(ticket).name, ticket.request.asks_for


def _hop_of(ticket: CallState) -> Hop:
    return ticket.claim.hops[ticket.claim.at]


def _failed(ticket: CallState, row: Given | None, found: Verdict) -> Unanswered:
    assert row is not None
    hop = _hop_of(ticket)
    if found is Verdict.HELD:
        return held(ticket, hop, row.reserved_nusd, row.message or "an earlier attempt")
    if row.state == "ambiguous":
        ticket.maybe_nusd += row.reserved_nusd
    ticket.spent_nusd += row.cost_nusd or 0
    return unanswered(ticket, hop, row.error or "connection_lost", row.message or "", row.body)
