"""Getting an answer: along a route, attempt by attempt, with waits in between. Lives in the engine's event loop."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ai_assets.base.errors import LeaseLost
from ai_assets.base.home import variable
from ai_assets.base.money import in_full
from ai_assets.base.structured_log import log_fields
from ai_assets.inference.accounts import Account
from ai_assets.inference.admission import Wait
from ai_assets.inference.allowance import RetryAllowance
from ai_assets.inference.call_listener import CallListener
from ai_assets.inference.call_state import CallState, ended, held, judged, reply_of, unanswered
from ai_assets.inference.doubt import usage_doubt
from ai_assets.inference.endpoint_pool import EndpointPool, TurnedAway
from ai_assets.inference.errors import (
    BackfillSpent,
    BudgetExhausted,
    BudgetInBatches,
    CommonBudgetExhausted,
    EndpointRefuses,
    KeyMissing,
    KeyUnusable,
    ProtocolFailed,
    WorkStops,
)
from ai_assets.inference.group_commit import Turns
from ai_assets.inference.latency import CallClass, LatencyMemory
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
from ai_assets.inference.live_spend import LiveSpend
from ai_assets.inference.opening import at_this_hour, may_leave, recalled_or_outside
from ai_assets.inference.place_line import Place
from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import LOST, Caller, ErrorClass, Result, Unanswered
from ai_assets.inference.retry import delay_s, rule_for
from ai_assets.inference.sent import packed
from ai_assets.inference.settings import REHEARSAL, Endpoint, InferenceSettings
from ai_assets.inference.silence import ASKED_ELSEWHERE
from ai_assets.inference.speed_rules import SpeedRules
from ai_assets.protocols.base import Fault, Reply
from ai_assets.protocols.http import NO_TRACE

LONGEST_WAIT_S = 0.25
"""How long a line that must wait for others does not ask again."""
LONGEST_RETRY_AFTER_S = 600.0
"""How long requests wait because a provider says so."""
_log = logging.getLogger(__name__)
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
    say: Callable[[str], object] | None = None
    """Hears what its requests wait for; without it the engine's own listener does."""
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
    def __init__(
        self,
        settings: InferenceSettings,
        turns: Turns,
        latency: LatencyMemory,
        rehearsal_url: Callable[[], str],
        live: LiveSpend | None = None,
        listener: CallListener | None = None,
    ) -> None:
        self._settings = settings
        self._live = live
        self._listener = listener
        self._turns = turns
        self._latency = latency
        self._speed = SpeedRules(settings, latency, self._turn_away)
        self._rehearsal_url = rehearsal_url
        self._lines: dict[str, EndpointPool] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}
        """Calls being made, by key: who asks the same waits, and then finds the answer in the ledger."""
        self._allowance = RetryAllowance(settings.retry_share, time.monotonic())

    async def close(self) -> None:
        await self._speed.close()
        for line in self._lines.values():
            await line.channel.close()

    def news(self) -> list[str]:
        """What is to be said now of endpoints that do not answer, or answer again."""
        return [said for line in self._lines.values() for said in line.news(time.monotonic())]

    def _turn_away(self) -> None:
        for line in self._lines.values():
            line.turn_away()

    def most_texts(self, name: str) -> int | None:
        """In one request, as far as the server has said or shown."""
        line = self._lines.get(name)
        return line.most_texts if line else None

    async def answer(self, job: Job, tickets: Sequence[CallState]) -> list[Result]:
        """Of tickets that may share one request to the provider: one chat, or texts to embed."""
        results: dict[CallState, Result] = {}
        left = list(tickets)
        if self._listener is not None:
            self._listener.began(tickets)
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
        finally:
            if self._listener is not None:
                self._listener.ended(tickets, results)
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
        while True:
            self._speed.order(tickets)
            with contextlib.suppress(TurnedAway):
                return await self._by_this_order(job, tickets, found)

    async def _by_this_order(
        self, job: Job, tickets: Sequence[CallState], found: dict[CallState, _Outcome]
    ) -> list[_Outcome]:
        hops = tickets[0].claim.hops
        for hop in hops:
            _key_of(hop)  # one that is missing is named before anything is sent
        for at, hop in enumerate(hops):
            if not self._is_open(tickets[0], hop):
                continue
            more = any(self._is_open(tickets[0], later) for later in hops[at + 1 :])
            left = [ticket for ticket in tickets if ticket not in found]
            fault = await self._at_one_endpoint(job, left, at, found, may_skip=more)
            if fault is None:
                break
            if not (more and self._falls_back(tickets[0], fault)):
                if fault.error in ("auth", "quota"):
                    raise EndpointRefuses(hop.name, hop.endpoint.key, fault.error, fault.message)
                for ticket in tickets:
                    if ticket not in found:
                        reached = ticket.claim.hops[at]
                        found[ticket] = unanswered(ticket, reached, fault.error, fault.message, fault.body)
                break
        if closed := [ticket for ticket in tickets if ticket not in found]:
            for ticket, outcome in zip(closed, await recalled_or_outside(self._turns, closed), strict=True):
                if isinstance(outcome, ReusedAnswer):
                    self._reuse(ticket, outcome, found)
                else:
                    found[ticket] = outcome
        return [found[ticket] for ticket in tickets]

    def _is_open(self, ticket: CallState, hop: Hop) -> bool:
        return may_leave(ticket.request, hop, self._turns.clock.now())

    def _reuse(self, ticket: CallState, reused: ReusedAnswer, found: dict[CallState, _Outcome]) -> None:
        ticket.saved_nusd += reused.cost_nusd
        if self._live is not None:
            self._live.reused(ticket.claim.caller)
        found[ticket] = reused.hop, reply_of(ticket, reused)

    def _falls_back(self, ticket: CallState, fault: Fault) -> bool:
        route = self._settings.routes.get(ticket.request.route)
        return route is not None and fault.error in route.fallback_on

    async def _at_one_endpoint(
        self, job: Job, left: list[CallState], at: int, found: dict[CallState, _Outcome], *, may_skip: bool
    ) -> Fault | None:
        """Fill `found` as far as this endpoint answers; the fault after which it is not asked any more."""
        line = await self._line(left[0].claim.hops[at])
        line.silence.begin(time.monotonic(), stays=not may_skip)
        try:
            return await self._tried(job, line, left, at, found, may_skip=may_skip)
        finally:
            line.silence.end(time.monotonic(), stays=not may_skip)

    async def _tried(
        self,
        job: Job,
        line: EndpointPool,
        left: list[CallState],
        at: int,
        found: dict[CallState, _Outcome],
        *,
        may_skip: bool,
    ) -> Fault | None:
        failures: dict[ErrorClass, int] = {}
        if len(left) > 1:
            most = line.most_texts
            if most is not None and len(left) > most:
                await self._in_parts(job, left, most, found)
                return None
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
                        self._reuse(ticket, decision, found)
                    case HeldAttempt():
                        found[ticket] = held(ticket, hop, decision.reserved_nusd, "an earlier attempt")
                    case OpenElsewhere(job=batch) if batch:
                        found[ticket] = unanswered(ticket, hop, "in_batch", _in_batch(batch))
                    case Intent():
                        sent.append((ticket, decision))
                    case BudgetShortage(final=True, account=Account(of_document=True)):
                        found[ticket] = unanswered(ticket, hop, "budget", short_of(decision))
            fault = await self._send_all(sent, found) if sent else None
            if fault is not None and fault.too_many and len(sent) > 1:
                self._lines[sent[0][1].hop.name].too_many(len(sent))
                await self._in_parts(job, [ticket for ticket, _ in sent], -(-len(sent) // 2), found)
                fault = None
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
                if wait_s is None and fault.error == "tier_unavailable" and _without_tier(left, at):
                    continue
                given_up = line.is_given_up(time.monotonic())
                if given_up and not (may_skip and self._falls_back(left[0], fault)):
                    raise line.down(time.monotonic())
                if wait_s is None or given_up:
                    return fault
                await job.pause(wait_s)
                while (missing_s := self._allowance.take(time.monotonic())) > 0:
                    await job.pause(missing_s)
        return None

    async def _in_parts(
        self, job: Job, tickets: Sequence[CallState], most: int, found: dict[CallState, _Outcome]
    ) -> None:
        """One part after another, so that what the first one shows of the server counts for the others."""
        for first in range(0, len(tickets), most):
            part = tickets[first : first + most]
            found.update(zip(part, await self._along_the_route(job, part), strict=True))

    def _wait_s(self, ticket: CallState, fault: Fault, failures: int) -> float | None:
        """How long to wait before the next attempt at the same endpoint; None: there is none."""
        rule = rule_for(self._settings, ticket.request.kind, fault.error)
        attempts = 0 if rule is None else min(rule.attempts, fault.attempts or rule.attempts)
        if rule is None or failures >= attempts or (fault.retry_after_s or 0) > LONGEST_RETRY_AFTER_S:
            return None
        return delay_s(rule, failures, fault.retry_after_s, random.random)

    async def _claim(self, job: Job, tickets: Sequence[CallState], at: int, *, may_skip: bool) -> Sequence[Decision]:
        """Decisions of which at least one can be acted on; with a place in the line if a call may leave. Raises
        TurnedAway where the endpoint's window has closed meanwhile."""
        claims = [ticket.claim for ticket in tickets]
        parcel = Parcel(claims=[with_body(claim, at) for claim in claims])
        line, lane = await self._line(claims[0].hops[at]), claims[0].hops[at].lane
        place = line.place(job.rank, lane)
        while True:
            await self._enter(line, place, tickets, at)
            opened = False
            try:
                job.go_on()
                if line.signal is not None and await line.waits_there(lane):
                    line.silence.obstacle = f"{line.signal.waiting:g} requests wait at the server"
                    continue
                if not at_this_hour(tickets, at, self._turns.clock.now()):
                    raise TurnedAway
                if any(ticket.claim is not claim for ticket, claim in zip(tickets, claims, strict=True)):
                    claims = [ticket.claim for ticket in tickets]
                    parcel = Parcel(claims=[with_body(claim, at) for claim in claims])
                for ticket in tickets:
                    ticket.busy = True
                decisions: Sequence[Decision] = await self._turns.take(parcel)
                opened = any(isinstance(decision, Intent) for decision in decisions)
            finally:
                line.decided(lane, opened=opened)
                if not opened:
                    for ticket in tickets:
                        ticket.busy = False
            if opened:
                line.silence.obstacle = ""
            if opened or any(_is_answer(decision) for decision in decisions):
                return decisions
            job.go_on()
            match decisions[0]:
                case TakenOver():
                    raise LeaseLost
                case OpenElsewhere(seconds=seconds):
                    line.silence.obstacle = ASKED_ELSEWHERE
                    await job.pause(seconds * (0.5 + random.random()))
                case BudgetShortage(final=True) as short:
                    raise exhausted(short)
                case BudgetShortage(batches=batches) as short if batches:
                    needed_usd = usd_of(short.amount_nusd)
                    raise BudgetInBatches(short.account.name, batches, needed_usd=needed_usd)
                case BudgetShortage() as short:
                    line.silence.obstacle = f"what is left of budget '{short.account.name}' is reserved by other calls"
                    line.pause(BUDGET_S)
                case Wait(reason="broken") if may_skip:
                    return decisions
                case Wait(reason="broken") if line.is_given_up(time.monotonic()):
                    raise line.down(time.monotonic())
                case Wait(reason=reason, seconds=seconds, behind=behind):
                    line.silence.blocked(reason)
                    line.silence.behind = behind
                    if reason == "broken":
                        line.pause(min(seconds, LONGEST_WAIT_S))
                    else:
                        until_free = reason in ("full", "behind")
                        line.refuse(lane, min(seconds, LONGEST_WAIT_S), until_a_place_is_free=until_free)

    async def _enter(self, line: EndpointPool, place: Place, tickets: Sequence[CallState], at: int) -> None:
        """Enters the line; raises TurnedAway where another endpoint has become the first meanwhile."""
        while True:
            with contextlib.suppress(TurnedAway):
                await line.enter(place)
                return
            if at == 0 and self._speed.would_reorder(tickets):
                raise TurnedAway

    async def _send_all(
        self, sent: Sequence[tuple[CallState, Intent]], found: dict[CallState, _Outcome]
    ) -> Fault | None:
        """One request to the provider; when this returns, its outcome is durable."""
        (first, opened), caller = sent[0], sent[0][0].claim.caller
        with log_fields(
            run=caller.run_id, collection=caller.collection, partition=caller.partition, stage=caller.asset,
            tenant=caller.tenant, call=str(opened.attempt_id),
        ):  # fmt: skip
            fault = await self._sent_all(sent, found)
            if fault is not None:  # without its message, which may hold words of the document
                name, took_s = opened.hop.name, first.latency_s
                _log.info("endpoint '%s' did not answer: %s, after %.2f s", name, fault.error, took_s)
            return fault

    async def _sent_all(
        self, sent: Sequence[tuple[CallState, Intent]], found: dict[CallState, _Outcome]
    ) -> Fault | None:
        first, opened = sent[0]
        line, timeout_s = self._lines[opened.hop.name], first.request.timeout_s or opened.hop.endpoint.timeout_s
        for ticket, one in sent:
            ticket.attempts += 1
            if self._live is not None:
                self._live.sent(ticket.claim.caller, again=ticket.sent_key == one.hop.key)
            ticket.sent_key = one.hop.key
        if first.attempts == 1:
            self._allowance.attempted()
        started, in_flight, delivery = time.perf_counter(), line.in_flight, opened.hop.delivery
        # A tier that is cheap because it may take long says nothing about how fast the endpoint is.
        flight = self._latency.began(CallClass.of(opened.hop.name, first.request)) if delivery.tier is None else None
        outcomes: Sequence[Reply | Fault] = [Fault(error="connection_lost", message="stopped before the answer came")]
        trace = self._listener.leaves(sent) if self._listener is not None else NO_TRACE
        line.sent += 1
        try:
            bodies = [one.hop.body for _, one in sent]
            if first.request.hear is not None and line.channel.streams:
                hear = partial(_hear, first)
                outcomes = [
                    await line.channel.stream(bodies[0], hear, timeout_s=timeout_s, delivery=delivery, trace=trace)
                ]
            else:
                asks_for = first.request.asks_for
                outcomes = await line.channel.send(
                    bodies, asks_for, timeout_s=timeout_s, delivery=delivery, trace=trace
                )
        except ProtocolFailed as error:
            sent_nothing = error.body is None
            outcomes = [Fault(error="unreachable" if sent_nothing else "garbled", message=str(error), body=error.body)]
            raise
        finally:
            if delivery.tier is None:
                outcomes = [_of_no_tier(outcome) for outcome in outcomes]
            taken_s = time.perf_counter() - started
            if flight is not None:
                self._latency.ended(flight, taken_s, outcomes[0].error if isinstance(outcomes[0], Fault) else None)
            line.note(outcomes[0], time.monotonic())
            if isinstance(outcomes[0], Fault) and outcomes[0].error == "rate_limited":
                line.limited(in_flight, outcomes[0].retry_after_s)
            else:
                line.answered()
            line.sent -= 1
            # A fault is everyone's.
            outcomes = outcomes if len(outcomes) == len(sent) else [outcomes[0]] * len(sent)
            written = self._end(sent, outcomes, taken_s)
            # Once its end is on its way to the ledger: else whoever enters finds the endpoint full there.
            line.leave(opened.hop.lane)
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
        written, endings = [], []
        for (ticket, opened), outcome in zip(sent, outcomes, strict=True):
            ending = ended(opened, outcome, taken_s)
            endings.append(ending)
            if (doubt := usage_doubt(opened.hop, outcome.usage)) is not None:
                self._lines[opened.hop.name].doubted(doubt)
            ticket.latency_s = taken_s
            ticket.spent_nusd += ending.cost_nusd or 0
            ticket.maybe_nusd += opened.hop.reserve_nusd if ending.cost_nusd is None else 0
            if self._live is not None:
                self._live.ended(ticket.claim.caller, ending)
            written.append(self._turns.take(ending))
        if self._listener is not None:
            self._listener.came(sent, outcomes, endings)
        return written

    async def _line(self, hop: Hop) -> EndpointPool:
        line = self._lines.get(hop.name)
        if line is None:
            line = await self._new_line(hop)
        if not line.is_known:
            await line.learn()
        return line

    async def _new_line(self, hop: Hop) -> EndpointPool:
        base_url = hop.endpoint.base_url
        if base_url == REHEARSAL:
            base_url = await asyncio.get_running_loop().run_in_executor(None, self._rehearsal_url)
        if hop.name not in self._lines:
            self._lines[hop.name] = EndpointPool(hop.name, hop.endpoint, base_url, _key_of(hop))
        return self._lines[hop.name]


def _without_tier(tickets: Sequence[CallState], at: int) -> bool:
    """Ask the same endpoint without the tier that has no room; False where it was not asked for, or nothing else is."""
    hop = tickets[0].claim.hops[at]
    if hop.delivery.tier is None or not hop.endpoint.tier_fallback:
        return False
    for ticket in tickets:
        hops = list(ticket.claim.hops)
        hops[at] = replace(hops[at], delivery=replace(hops[at].delivery, tier=None))
        ticket.claim = replace(ticket.claim, hops=tuple(hops))
    return True


def _of_no_tier(outcome: Reply | Fault) -> Reply | Fault:
    """Where no tier was asked for, none can lack room: the provider is busy."""
    if isinstance(outcome, Fault) and outcome.error == "tier_unavailable":
        return replace(outcome, error="rate_limited")
    return outcome


def _hear(ticket: CallState, piece: str) -> None:
    ticket.heard = True
    assert ticket.request.hear is not None
    ticket.request.hear(piece)


def _key_of(hop: Hop) -> str | None:
    return key_of_endpoint(hop.name, hop.endpoint)


def key_of_endpoint(endpoint: str, declared: Endpoint) -> str | None:
    """A line break at its end comes from the file that it was read from."""
    name = declared.key
    if name is None:
        return None
    key = (variable(name) or "").strip()
    if not key:
        raise KeyMissing(endpoint, name)
    if not key.isprintable():
        raise KeyUnusable(endpoint, name)
    return key


def _is_answer(decision: Decision) -> bool:
    """Whether it settles what becomes of a ticket, with nothing sent."""
    match decision:
        case OpenElsewhere(job=batch) if batch:
            return True
        case ReusedAnswer() | HeldAttempt() | BudgetShortage(final=True, account=Account(of_document=True)):
            return True
        case _:
            return False


def _in_batch(batch: str) -> str:
    return f"it is a line of batch {batch}, which has not ended; asking here too would pay twice: ai-assets batches"


def short_of(short: BudgetShortage) -> str:
    left, needed = usd_of(max(short.balance.left_nusd, 0)), usd_of(short.amount_nusd)
    maybe = usd_of(short.balance.held_nusd)
    held = f" ({in_full(maybe)} held: it may have been billed)" if maybe else ""
    return (
        f"budget '{short.account.name}' has {in_full(left)} left for this document{held}, and a call may cost "
        f"{in_full(needed)}"
    )


def with_body(claim: Claim, at: int) -> Claim:
    """At one endpoint of the route, with what would be sent there: packed here, where nobody waits for the ledger."""
    return replace(claim, at=at, sent=packed(claim.hops[at].body))


def exhausted(short: BudgetShortage) -> WorkStops:
    account, balance = short.account, short.balance
    limit, spent, held, needed = map(
        usd_of, (balance.limit_nusd, balance.spent_nusd, balance.held_nusd, short.amount_nusd)
    )
    if account.backfill:
        return BackfillSpent(account.backfill, limit_usd=limit, spent_usd=spent, held_usd=held, needed_usd=needed)
    if account.is_among_tenants:
        return CommonBudgetExhausted(account.name, needed_usd=needed)
    return BudgetExhausted(
        account.name,
        account.budget,
        limit_usd=limit,
        spent_usd=spent,
        held_usd=held,
        earmarked_usd=usd_of(balance.earmarked_nusd),
        needed_usd=needed,
    )
