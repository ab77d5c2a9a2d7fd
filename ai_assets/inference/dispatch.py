"""Getting an answer: along a route, attempt by attempt, with waits in between. Lives in the engine's event loop."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ai_assets.base.errors import LeaseLost
from ai_assets.base.home import variable
from ai_assets.base.money import in_full
from ai_assets.inference.accounts import Account
from ai_assets.inference.admission import Wait
from ai_assets.inference.allowance import RetryAllowance
from ai_assets.inference.call_state import CallState, ended, held, judged, reply_of, unanswered
from ai_assets.inference.endpoint_pool import EndpointPool
from ai_assets.inference.errors import (
    BackfillSpent,
    BudgetExhausted,
    EndpointDown,
    EndpointRefuses,
    KeyMissing,
    KeyUnusable,
    ProtocolFailed,
    WorkStops,
)
from ai_assets.inference.group_commit import Turns
from ai_assets.inference.ledger_messages import (
    BUDGET_S,
    BudgetShortage,
    Claim,
    Decision,
    HeldAttempt,
    Hop,
    Intent,
    OpenElsewhere,
    Parcel,
    ReusedAnswer,
    TakenOver,
)
from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import LOST, Caller, ErrorClass, Result, Unanswered
from ai_assets.inference.retry import delay_s, rule_for
from ai_assets.inference.sent import packed
from ai_assets.inference.settings import REHEARSAL, InferenceSettings
from ai_assets.protocols.base import Fault, Reply

LONGEST_WAIT_S = 0.25
"""How long a line that must wait for others does not ask again."""
PATIENCE_S = 600.0
"""How long requests wait for an endpoint that answers nobody, or for a Retry-After."""
ONE_OF_THEM: frozenset[ErrorClass] = frozenset({"malformed", "context_too_long", "refused"})
"""What one text can bring on all that were sent with it."""

_Outcome = tuple[Hop, Reply] | Unanswered


@dataclass(slots=True)
class Job:
    """One `map`: what ends it ends all of it."""

    caller: Caller
    changed: Callable[[], object]
    """Tells the consumer that there is a result, or room for more requests."""
    rank: int = 0
    """Of calls that wait for an endpoint those of the lowest go first."""
    fed: int = 0
    """Requests taken from the consumer; only its thread counts here."""
    ended: int = 0
    """Only the engine's thread counts here, so none is lost between two of them."""
    stopped: BaseException | None = None
    tasks: dict["asyncio.Task[list[Result]]", Sequence[CallState]] = field(default_factory=dict)

    @property
    def under_way(self) -> int:
        return self.fed - self.ended

    def stop(self, error: BaseException) -> None:
        """Nothing more is asked; what is in flight is awaited."""
        if self.stopped is None:
            self.stopped = error
            for task, tickets in self.tasks.items():
                if not any(ticket.busy for ticket in tickets):
                    task.cancel()
        self.changed()

    async def pause(self, seconds: float) -> None:
        self.go_on()
        await asyncio.sleep(seconds)
        self.go_on()

    def go_on(self) -> None:
        if self.stopped is not None:
            raise self.stopped


class Asker:
    def __init__(self, settings: InferenceSettings, turns: Turns, rehearsal_url: Callable[[], str]) -> None:
        self._settings = settings
        self._turns = turns
        self._rehearsal_url = rehearsal_url
        self._lines: dict[str, EndpointPool] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}
        """Calls being made, by key: who asks the same waits, and then finds the answer in the ledger."""
        self._allowance = RetryAllowance(settings.retry_share, time.monotonic())

    async def close(self) -> None:
        for line in self._lines.values():
            await line.channel.close()

    def p95_s(self, name: str) -> float | None:
        line = self._lines.get(name)
        return line.p95_s() if line else None

    async def answer(self, job: Job, tickets: Sequence[CallState]) -> list[Result]:
        """Of tickets that may share one request to the provider: one chat, or texts to embed."""
        results: dict[CallState, Result] = {}
        left = list(tickets)
        try:
            while left:
                outcomes = await self._once_at_a_time(job, left)
                for ticket, outcome in zip(left, outcomes, strict=True):
                    result = outcome if isinstance(outcome, Unanswered) else judged(ticket, *outcome)
                    if result is not None:
                        results[ticket] = result
                left = [ticket for ticket in left if ticket not in results]
        except Exception as error:
            job.stop(error)
            raise
        return [results[ticket] for ticket in tickets]

    async def _once_at_a_time(self, job: Job, tickets: Sequence[CallState]) -> list[_Outcome]:
        keys = {ticket.claim.hops[0].key for ticket in tickets}
        while others := [self._asking[key] for key in keys if key in self._asking]:
            await asyncio.shield(others[0])
        mine = asyncio.get_running_loop().create_future()
        self._asking.update(dict.fromkeys(keys, mine))
        try:
            return await self._along_the_route(job, tickets)
        finally:
            for key in keys:
                del self._asking[key]
            mine.set_result(None)

    async def _along_the_route(self, job: Job, tickets: Sequence[CallState]) -> list[_Outcome]:
        found: dict[CallState, _Outcome] = {}
        hops = tickets[0].claim.hops
        for hop in hops:
            _key_of(hop)  # one that is missing is named before anything is sent
        route = self._settings.routes.get(tickets[0].request.route)
        for at, hop in enumerate(hops):
            more = at + 1 < len(hops)
            left = [ticket for ticket in tickets if ticket not in found]
            fault = await self._at_one_endpoint(job, left, at, found, may_skip=more)
            if fault is None:
                break
            if not (more and route and fault.error in route.fallback_on):
                if fault.error in ("auth", "quota"):
                    raise EndpointRefuses(hop.name, hop.endpoint.key, fault.error, fault.message)
                for ticket in tickets:
                    if ticket not in found:
                        reached = ticket.claim.hops[at]
                        found[ticket] = unanswered(ticket, reached, fault.error, fault.message, fault.body)
                break
        return [found[ticket] for ticket in tickets]

    async def _at_one_endpoint(
        self, job: Job, left: list[CallState], at: int, found: dict[CallState, _Outcome], *, may_skip: bool
    ) -> Fault | None:
        """Fill `found` as far as this endpoint answers; the fault after which it is not asked any more."""
        failures: dict[ErrorClass, int] = {}
        while left:
            decisions = await self._claim(job, left, at, may_skip=may_skip)
            if all(isinstance(decision, Wait) for decision in decisions):
                said = f"endpoint '{left[0].claim.hops[at].name}' has been failing and is left alone"
                return Fault(error="overloaded", message=said)
            sent: list[tuple[CallState, Intent]] = []
            for ticket, decision in zip(left, decisions, strict=True):
                hop = ticket.claim.hops[at]
                match decision:
                    case ReusedAnswer():
                        ticket.saved_nusd += decision.cost_nusd
                        found[ticket] = decision.hop, reply_of(ticket, decision)
                    case HeldAttempt():
                        found[ticket] = held(ticket, hop, decision.reserved_nusd, "an earlier attempt")
                    case Intent():
                        sent.append((ticket, decision))
                    case BudgetShortage(final=True, account=Account(of_document=True)):
                        found[ticket] = unanswered(ticket, hop, "budget", _short_of(decision))
            fault = await self._send_all(sent, found) if sent else None
            if fault is not None and len(sent) > 1 and fault.error in ONE_OF_THEM:
                for ticket, _ in sent:
                    (found[ticket],) = await self._along_the_route(job, [ticket])
                fault = None
            if fault is not None and left[0].heard:  # a second answer would not go on from what was heard
                said = f"the answer broke off after it had begun: {fault.message}"
                found[left[0]] = unanswered(left[0], left[0].claim.hops[at], fault.error, said, fault.body)
            left = [ticket for ticket in left if ticket not in found]
            if fault is not None and left:
                failures[fault.error] = failures.get(fault.error, 0) + 1
                wait_s = self._wait_s(left[0], fault, failures[fault.error])
                if wait_s is None:
                    return fault
                await job.pause(wait_s)
                while (missing_s := self._allowance.take(time.monotonic())) > 0:
                    await job.pause(missing_s)
        return None

    def _wait_s(self, ticket: CallState, fault: Fault, failures: int) -> float | None:
        """How long to wait before the next attempt at the same endpoint; None: there is none."""
        rule = rule_for(self._settings, ticket.request.kind, fault.error)
        if rule is None or failures >= rule.attempts or (fault.retry_after_s or 0) > PATIENCE_S:
            return None
        return delay_s(rule, failures, fault.retry_after_s, random.random)

    async def _claim(self, job: Job, tickets: Sequence[CallState], at: int, *, may_skip: bool) -> Sequence[Decision]:
        """Decisions of which at least one can be acted on; with a place in the line if a call may leave."""
        parcel = Parcel(claims=[_at(ticket.claim, at) for ticket in tickets])
        line = await self._line(tickets[0].claim.hops[at])
        patient_until, place = time.monotonic() + PATIENCE_S, line.place(job.rank)
        while True:
            await line.enter(place)
            opened = False
            try:
                job.go_on()
                for ticket in tickets:
                    ticket.busy = True
                decisions: Sequence[Decision] = await self._turns.take(parcel)
                opened = any(isinstance(decision, Intent) for decision in decisions)
            finally:
                if not opened:
                    for ticket in tickets:
                        ticket.busy = False
                    line.leave()
            if opened or any(_is_answer(decision) for decision in decisions):
                return decisions
            job.go_on()
            match decisions[0]:
                case TakenOver():
                    raise LeaseLost
                case OpenElsewhere(seconds=seconds):
                    await job.pause(seconds * (0.5 + random.random()))
                case BudgetShortage(final=True) as short:
                    raise _exhausted(short)
                case BudgetShortage():
                    line.pause(BUDGET_S)
                case Wait(reason="broken") if may_skip:
                    return decisions
                case Wait(reason="broken") if time.monotonic() > patient_until:
                    raise EndpointDown(line.name, PATIENCE_S, line.trouble)
                case Wait(seconds=seconds):
                    line.pause(min(seconds, LONGEST_WAIT_S))

    async def _send_all(
        self, sent: Sequence[tuple[CallState, Intent]], found: dict[CallState, _Outcome]
    ) -> Fault | None:
        """One request to the provider; when this returns, its outcome is durable."""
        first, opened = sent[0]
        line, timeout_s = self._lines[opened.hop.name], first.request.timeout_s or opened.hop.endpoint.timeout_s
        for ticket, _ in sent:
            ticket.attempts += 1
        if first.attempts == 1:
            self._allowance.attempted()
        started, in_flight = time.perf_counter(), line.in_flight
        outcomes: Sequence[Reply | Fault] = [Fault(error="connection_lost", message="stopped before the answer came")]
        try:
            bodies = [one.hop.body for _, one in sent]
            if first.request.hear is not None and line.channel.streams:
                outcomes = [await line.channel.stream(bodies[0], partial(_hear, first), timeout_s=timeout_s)]
            else:
                outcomes = await line.channel.send(bodies, first.request.asks_for, timeout_s=timeout_s)
        except ProtocolFailed as error:
            sent_nothing = error.body is None
            outcomes = [Fault(error="unreachable" if sent_nothing else "garbled", message=str(error), body=error.body)]
            raise
        finally:
            taken_s = time.perf_counter() - started
            if isinstance(outcomes[0], Fault):
                line.trouble = outcomes[0].message
            if isinstance(outcomes[0], Fault) and outcomes[0].error == "rate_limited":
                line.limited(in_flight, outcomes[0].retry_after_s)
            else:
                line.answered(taken_s)
            # A fault is everyone's.
            outcomes = outcomes if len(outcomes) == len(sent) else [outcomes[0]] * len(sent)
            written = self._end(sent, outcomes, taken_s)
            line.leave()  # once its end is on its way to the ledger: else whoever enters finds the endpoint full there
            # Each alone: a future that is shielded needs no task.
            settled = [await asyncio.shield(turn) for turn in written]
            for ticket, _ in sent:
                ticket.busy = False
        fault: Fault | None = None
        for (ticket, one), outcome, before in zip(sent, outcomes, settled, strict=True):
            if isinstance(outcome, Reply):
                found[ticket] = one.hop, outcome if before is None else reply_of(ticket, before)
            elif outcome.error in LOST and ticket.request.on_ambiguous == "hold":
                found[ticket] = held(ticket, one.hop, one.hop.reserve_nusd, outcome.message)
            else:
                fault = outcome
        return fault

    def _end(
        self, sent: Sequence[tuple[CallState, Intent]], outcomes: Sequence[Reply | Fault], taken_s: float
    ) -> list[asyncio.Future[ReusedAnswer | None]]:
        written = []
        for (ticket, opened), outcome in zip(sent, outcomes, strict=True):
            ending = ended(opened, outcome, taken_s)
            ticket.latency_s = taken_s
            ticket.spent_nusd += ending.cost_nusd or 0
            ticket.maybe_nusd += opened.hop.reserve_nusd if ending.cost_nusd is None else 0
            written.append(self._turns.take(ending))
        return written

    async def _line(self, hop: Hop) -> EndpointPool:
        line = self._lines.get(hop.name)
        if line is not None:
            return line
        base_url = hop.endpoint.base_url
        if base_url == REHEARSAL:
            base_url = await asyncio.get_running_loop().run_in_executor(None, self._rehearsal_url)
        if hop.name not in self._lines:
            self._lines[hop.name] = EndpointPool(hop.name, hop.endpoint, base_url, _key_of(hop))
        return self._lines[hop.name]


def _hear(ticket: CallState, piece: str) -> None:
    ticket.heard = True
    assert ticket.request.hear is not None
    ticket.request.hear(piece)


def _key_of(hop: Hop) -> str | None:
    """A line break at its end comes from the file that it was read from."""
    name = hop.endpoint.key
    if name is None:
        return None
    key = (variable(name) or "").strip()
    if not key:
        raise KeyMissing(hop.name, name)
    if not key.isprintable():
        raise KeyUnusable(hop.name, name)
    return key


def _is_answer(decision: Decision) -> bool:
    """Whether it settles what becomes of a ticket, with nothing sent."""
    match decision:
        case ReusedAnswer() | HeldAttempt() | BudgetShortage(final=True, account=Account(of_document=True)):
            return True
        case _:
            return False


def _short_of(short: BudgetShortage) -> str:
    left, needed = usd_of(max(short.balance.left_nusd, 0)), usd_of(short.amount_nusd)
    maybe = usd_of(short.balance.held_nusd)
    held = f" ({in_full(maybe)} held: it may have been billed)" if maybe else ""
    return (
        f"budget '{short.account.name}' has {in_full(left)} left for this document{held}, and a call may cost "
        f"{in_full(needed)}"
    )


def _at(claim: Claim, at: int) -> Claim:
    """At one endpoint of the route, with what would be sent there: packed here, where nobody waits for the ledger."""
    return replace(claim, at=at, sent=packed(claim.hops[at].body))


def _exhausted(short: BudgetShortage) -> WorkStops:
    account, balance = short.account, short.balance
    limit, spent, held, needed = map(
        usd_of, (balance.limit_nusd, balance.spent_nusd, balance.held_nusd, short.amount_nusd)
    )
    if account.backfill:
        return BackfillSpent(account.backfill, limit_usd=limit, spent_usd=spent, held_usd=held, needed_usd=needed)
    return BudgetExhausted(
        account.name,
        account.budget,
        limit_usd=limit,
        spent_usd=spent,
        held_usd=held,
        earmarked_usd=usd_of(balance.earmarked_nusd),
        needed_usd=needed,
    )
