"""Asking by a deadline: calls go the way that `deadline.py` chooses, and the choice is noted with its reason.

One `DeadlineAsker` per run, so that all that it wants within a span of time is due at the same moment. Calls that
travel in a batch stay there until its final state is known, whatever is chosen; a run finds them pending and ends.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.due import DeclaredDeadline, DueMoment
from ai_assets.inference.accounts import Accounts
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.asking import CHUNK, BatchAsker
from ai_assets.inference.batch.job_deadline import JobDeadline
from ai_assets.inference.batch.pending import AwaitedCalls, Pending
from ai_assets.inference.batch.standing import given_of
from ai_assets.inference.call_state import ticket_for
from ai_assets.inference.deadline import START_S, CallLoad, Offers, WayChoice, choose, span_of
from ai_assets.inference.errors import DueOver
from ai_assets.inference.identity import Unhashable
from ai_assets.inference.ledger_clock import Clock, store_clock
from ai_assets.inference.records import Caller, Request, RequestKind, Result, Unanswered
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import DEFAULT_TIER, InferenceSettings
from ai_assets.inference.way_offers import FLEX, call_tokens, offers_of
from ai_assets.inference.ways import (
    ChosenWay,
    batch_standing,
    keep_wanted,
    note_answered,
    note_way,
    text_of,
    wanted,
)
from ai_assets.storage.state import StateStore, now

if TYPE_CHECKING:
    from ai_assets.inference.engine import Engine


LOOK_AT_CLOCK_S = 0.25
"""So often at most, for it may be the server's."""
KNOWN_FOR_S = 60.0
"""What endpoints offer is read so often: partition after partition asks the same ones."""


@dataclass(frozen=True, kw_only=True)
class DueWork:
    """What is asked, and by when."""

    deadline: DeclaredDeadline
    route: str
    calls: int
    """At most."""
    asks_for: RequestKind = "chat"
    levels: int = 0
    """So many stages are asked about these answers before the collection is done."""


@dataclass(kw_only=True)
class DeadlineAsker:
    settings: InferenceSettings
    state: StateStore
    engine: Callable[[], "Engine"]
    batches: Callable[[], BatchAsker]
    say: Callable[[str], object] = lambda _line: None
    clock: Clock = store_clock
    _since: datetime.datetime | None = field(default=None)
    _offered: dict[tuple[str, RequestKind, str | None], tuple[float, Offers, float]] = field(default_factory=dict)
    """By route, kind of request and what there is to say against a batch: when it was read, and tokens of a call."""

    def map(self, requests: Iterable[Request], caller: Caller, work: DueWork) -> Iterator[Result | Pending]:
        """In order. When it has ended, who asks is known to wait, or to have all of its answers."""
        with self.state.write() as connection:
            due, since = self._due(connection, caller, work)
        with self.state.read() as connection:
            at, chosen_at = self.clock(connection), store_clock(connection)
            known = self._known(connection, work, since, due, at)
        choice = choose((due.at - at).total_seconds() - known.follows_s, known.load, known.offers)
        course = _Course(
            caller=caller, work=work, due=due, known=known, choice=choice, chosen_at=text_of(chosen_at)
        )  # fmt: skip
        results = self._by_batch(requests, course) if choice.way == "batch" else self._one_by_one(requests, course)
        waiting = 0
        for result in results:
            waiting += isinstance(result, Pending)
            asked = choice.way == "batch" if isinstance(result, Pending) else result.attempts > 0
            if asked:
                self._note(course)
            yield result
        if not waiting:
            with self.state.write() as connection:
                answered_at = self.clock(connection)
                note_answered(connection, caller, answered_at)
            self._say_if_late(course, answered_at)

    def _due(self, connection: sa.Connection, caller: Caller, work: DueWork) -> tuple[DueMoment, datetime.datetime]:
        """When it is due, and since when it has been wanted."""
        at = self._since = self._since or self.clock(connection)
        found = wanted(connection, caller, at, is_date=work.deadline.absolute is not None)
        due = work.deadline.moment(found.since)
        if found.is_new and work.deadline.absolute is not None and due.at <= at:
            raise DueOver(caller.collection, caller.asset, work.deadline.due or "", work.deadline.timezone)
        keep_wanted(connection, caller, found.since, due.at)
        return due, found.since

    def _known(
        self,
        connection: sa.Connection,
        work: DueWork,
        since: datetime.datetime,
        due: DueMoment,
        at: datetime.datetime,
    ) -> "_Known":
        names = names_of(self.settings, work.route)
        standing = batch_standing(connection, self.settings, names, since, due.at)
        refused = standing.refused
        read_at, offers, tokens = self._offered.get((work.route, work.asks_for, refused), (-KNOWN_FOR_S, None, 0.0))
        if offers is None or monotonic() - read_at >= KNOWN_FOR_S:
            offers = offers_of(connection, self.settings, names, at, asks_for=work.asks_for, no_batch=refused)
            tokens = call_tokens(connection, names[0])
            self._offered[work.route, work.asks_for, refused] = monotonic(), offers, tokens
        calls = work.calls + standing.travelling
        load = CallLoad(calls=calls, tokens=calls * tokens)
        follows_s = work.levels * (offers.sync.sure_s(load) + START_S)
        return _Known(offers=offers, load=load, follows_s=follows_s, endpoint=names[0])

    # By batch

    def _by_batch(self, requests: Iterable[Request], course: "_Course") -> Iterator[Result | Pending]:
        assert course.choice.then is not None
        yield from self.batches().map(requests, course.caller, course.deadline)

    # One by one

    def _one_by_one(self, requests: Iterable[Request], course: "_Course") -> Iterator[Result | Pending]:
        """What travels in a batch is pending; the engine is not asked about it, or says so itself."""
        caller, calls, awaited, travelling = course.caller, 0, AwaitedCalls(), list[str]()
        for result in self._not_travelling(requests, course):
            calls += 1
            if isinstance(result, Unanswered) and result.error == "in_batch":
                travelling.append(result.call)
                result = Pending(request=result.request)
            if isinstance(result, Pending):
                awaited.add(result)
            yield result
        with self.state.write() as connection:
            if awaited.number:
                awaited.lines.update(each.job for each in given_of(connection, travelling).values() if each.job)
                jobs.keep_wait(connection, caller, calls, now(), awaited, course.deadline)
            else:
                jobs.end_wait(connection, caller)

    def _not_travelling(self, requests: Iterable[Request], course: "_Course") -> Iterator[Result | Pending]:
        """The engine sees a line that travels at the endpoint that it is about to ask; not one at another endpoint of
        the route, and that is looked up here."""
        names = names_of(self.settings, course.work.route)
        by_batch = {name for name in names[1:] if self.settings.endpoints[name].batch}
        with self.state.read() as connection:
            elsewhere = any(job.endpoint in by_batch for job in jobs.unended(connection)) if by_batch else False
        asked = (self._tiered(request, course) for request in requests)
        if not elsewhere:
            yield from self.engine().map(asked, course.caller)
            return
        accounts = Accounts(self.settings.budgets)
        while chunk := list(islice(asked, CHUNK)):
            travels = self._travelling(chunk, accounts, course.caller)
            answers = self.engine().map((each for each in chunk if id(each) not in travels), course.caller)
            for request in chunk:
                job = travels.get(id(request))
                yield next(answers) if job is None else Pending(request=request, job=job)

    def _travelling(self, chunk: Sequence[Request], accounts: Accounts, caller: Caller) -> dict[int, str]:
        """By request that is a line of a batch, that batch."""
        keys: dict[int, str] = {}
        for request in chunk:
            with contextlib.suppress(Unhashable):  # the engine says so
                ticket = ticket_for(self.settings, accounts, request, caller, in_batch=True)
                keys[id(request)] = ticket.claim.hops[ticket.claim.at].key
        with self.state.read() as connection:
            given = given_of(connection, list(set(keys.values())))
        return {each: given[key].job for each, key in keys.items() if key in given and given[key].state == "intent"}

    def _tiered(self, request: Request, course: "_Course") -> Request:
        """At the tier that is right when it leaves: without flex from when its buffer begins, and where an endpoint has
        no price of it, for only the route's first is known to have one."""
        course.asked += 1
        if course.choice.way == FLEX and monotonic() >= course.looks_at:
            course.looks_at = monotonic() + LOOK_AT_CLOCK_S
            with self.state.read() as connection:
                at, chosen_at = self.clock(connection), store_clock(connection)
            left_s = (course.due.at - at).total_seconds() - course.known.follows_s
            if left_s <= course.known.offers.flex_buffer_s(course.left):
                self._note(course)
                offers = replace(course.known.offers, flex=None, flex_price=None, turnaround=None, batch_price=None)
                again = choose(left_s, course.left, offers)
                course.choice = replace(
                    again, reason=f"the buffer of flex has begun, {span_of(left_s)} before it is due"
                )
                course.chosen_at = text_of(chosen_at)
        by_flex = course.choice.way == FLEX
        return replace(request, tier=FLEX if by_flex else DEFAULT_TIER, tier_where_priced=by_flex)

    # What is said of it

    def _note(self, course: "_Course") -> None:
        """Once for each choice, and only where something was asked."""
        if course.noted is course.choice:
            return
        choice, course.noted = course.choice, course.choice
        reason = choice.reason
        if course.due.note is not None:
            reason = f"{reason}; {course.due.note}"
        chosen = ChosenWay(
            way=choice.way, chosen_at=course.chosen_at, due_at=text_of(course.due.at), chance=choice.chance,
            reason=reason,
        )  # fmt: skip
        with self.state.write() as connection:
            note_way(connection, course.caller, chosen)
        self.say(f"{course.caller.partition} {course.caller.asset}: by {chosen.said}")

    def _say_if_late(self, course: "_Course", at: datetime.datetime) -> None:
        late_s = (at - course.due.at).total_seconds()
        if late_s > 0 and course.noted is not None:
            who = f"{course.caller.partition} {course.caller.asset}"
            self.say(f"{who}: answered {late_s / 60:.0f} min after it was due ({text_of(course.due.at)[:16]} UTC)")


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What the choice goes by."""

    offers: Offers
    load: CallLoad
    follows_s: float
    """What the stages after it need."""
    endpoint: str


@dataclass(kw_only=True)
class _Course:
    """One piece of work on its way."""

    caller: Caller
    work: DueWork
    due: DueMoment
    known: _Known
    chosen_at: str
    choice: WayChoice
    noted: WayChoice | None = None
    asked: int = 0
    looks_at: float = 0.0
    """When the clock is looked at again, by the monotonic one."""

    @property
    def deadline(self) -> JobDeadline:
        """Of the batches that its calls travel in."""
        return JobDeadline(
            due_at=text_of(self.due.at),
            levels=self.work.levels,
            then=self.choice.then or self.choice.way,
            endpoint=self.known.endpoint,
        )

    @property
    def left(self) -> CallLoad:
        """What has not been asked yet."""
        load, calls = self.known.load, max(self.known.load.calls - self.asked, 1)
        return CallLoad(calls=calls, tokens=load.tokens * calls / max(load.calls, 1))
