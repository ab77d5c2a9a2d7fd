"""One turn of the ledger: all that ended and all that is claimed, in one look at the tables and one write."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.inference.accounts import Balance, first_short, of_backfill
from ai_assets.inference.admission import EndpointState, Wait
from ai_assets.inference.earmarks import Earmarks
from ai_assets.inference.fairness import CallLane
from ai_assets.inference.ledger_messages import (
    AttemptEnd,
    BudgetShortage,
    Claim,
    Decision,
    HeldAttempt,
    Hop,
    Intent,
    OpenElsewhere,
    Operation,
    Parcel,
    Recall,
    ReusedAnswer,
    TakenOver,
    answer_to,
    held_by,
)
from ai_assets.inference.ledger_sql import ENDPOINT_COLUMNS, OWNER_SHIFT, KnownAttempt
from ai_assets.inference.place_turn import PlaceTurn
from ai_assets.inference.tenant_answers import with_own_answers
from ai_assets.protocols.registry import protocol_of
from ai_assets.storage.state import storable

if TYPE_CHECKING:
    from ai_assets.inference.ledger import Ledger


class LedgerTurn:
    def __init__(
        self,
        ledger: "Ledger",
        connection: sa.Connection,
        operations: Sequence[Operation],
    ) -> None:
        """What it reads first is on its way at once."""
        self._ledger = ledger
        self._connection = connection
        self._operations = operations
        self._endings = [operation for operation in operations if isinstance(operation, AttemptEnd)]
        self._claims = [claim for each in operations if not isinstance(each, AttemptEnd) for claim in each.claims]
        self._accounts = {account.budget: account for claim in self._claims for account in claim.accounts}
        self._wanted = {item.opened.hop.name for item in self._endings} | {
            claim.hops[claim.at].name for claim in self._claims
        }
        self._call_keys = list({hop.key for claim in self._claims for hop in claim.hops})
        ending = {item.opened.hop.key for item in self._endings}
        self._asks_what_ends = not ending.isdisjoint(self._call_keys)
        """A call is claimed that ends in this very turn: what is known of it is read after that was written."""
        self._first_reads = {name: self._ledger.sql.send(connection, name, keys) for name, keys in self._keys() if keys}
        self._known: Mapping[str, KnownAttempt] = {}
        self._attempts: list[list[Any]] = []
        self._pointers: list[list[Any]] = []
        self._sent: list[list[Any]] = []
        self._sent_before: list[int] = []
        """Earlier attempts of the same calls: what was sent is kept once."""
        self._reuses: list[list[Any]] = []
        self._opened: set[str] = set()
        self._in_batch: Counter[str] = Counter()
        """By budget, what lines of this turn have reserved."""
        self._of_batches: dict[str, Mapping[str, int]] = {}
        """By budget, what batches had reserved before."""
        self._used: dict[int, ReusedAnswer] = {}
        """By attempt that was answered: the answer that is used instead, because it came first."""

    def run(self, moment_s: float, *, fenced: bool, taken_for_dead: bool) -> list[Any]:
        """First what ended, so that its answer, its place and its money are there for what is claimed.

        `fenced`: another process has taken over from this one: it may end calls, and open none. `taken_for_dead`:
        others have made this process's calls ambiguous while it did not respond; it was alive after all.
        """
        self._moment, self._fenced, self._taken_for_dead = moment_s, fenced, taken_for_dead
        self._at = self._ledger.clock.text()
        self._earmarks = Earmarks(self._read_first("earmarks"))
        self._balances = self._load_balances()
        self._endpoints = self._load_endpoints()
        if self._endings:
            self._end()
        if self._claims:
            self._known = with_own_answers(self._connection, self._claims, self._look_up(), self._look_up_now)
        results: list[Any] = []
        for operation in self._operations:
            if isinstance(operation, AttemptEnd):
                results.append(self._used.get(operation.opened.attempt_id))
            elif isinstance(operation, Recall):
                results.append([self._recall(claim) for claim in operation.claims])
            else:
                results.append(self._decide_all(operation))
        self._write_all()
        return results

    def _keys(self) -> Iterator[tuple[str, list[Any]]]:
        """Of what is read first; earmarks only of backfills that are concerned."""
        concerned = {item.opened.backfill for item in self._endings} | {claim.caller.backfill for claim in self._claims}
        touched = {budget for item in self._endings for budget in item.opened.budgets} | set(self._accounts)
        yield "earmarks", [storable(name) for name in concerned if name]
        yield "balances", [[name, self._accounts[name].name if name in self._accounts else None] for name in touched]
        yield "endpoints", list(self._wanted)
        answered = [[i.opened.hop.key, i.opened.attempt_id] for i in self._endings if i.state == "settled"]
        yield "answered_before", answered
        if not self._asks_what_ends:
            yield "look_up", self._call_keys

    def _read_first(self, name: str) -> Sequence[Any]:
        sent = self._first_reads.get(name)
        return sent.all() if sent is not None else ()

    def _look_up(self) -> Mapping[str, KnownAttempt]:
        sent = self._first_reads.get("look_up")
        return self._look_up_now(self._call_keys) if sent is None else self._ledger.sql.known(sent)

    def _look_up_now(self, keys: Sequence[str]) -> Mapping[str, KnownAttempt]:
        return self._ledger.sql.known(self._ledger.sql.send(self._connection, "look_up", keys))

    def _write(self, name: str, rows: Sequence[Sequence[Any]]) -> None:
        self._ledger.sql.write(self._connection, name, rows)

    # What is there

    def _load_balances(self) -> dict[str, tuple[str, Balance]]:
        """Name and balance by budget; the limit is as set or declared now, and else as it was last."""
        balances: dict[str, tuple[str, Balance]] = {}
        for row in self._read_first("balances"):
            account = self._accounts.get(row.asked)
            if row.budget is None:
                assert account is not None  # what an attempt has reserved from has a row
                balance = Balance(limit_nusd=0)
            else:
                balance = Balance(
                    limit_nusd=row.limit_nusd,
                    spent_nusd=row.spent_nusd,
                    reserved_nusd=row.reserved_nusd,
                    held_nusd=row.held_nusd,
                    earmarked_nusd=row.earmarked_nusd,
                )
            if account is not None and account.backfill:
                if not self._earmarks.is_open(account.backfill):
                    balance.limit_nusd -= max(balance.left_nusd, 0)
            elif account is not None:
                balance.limit_nusd = account.limit_nusd if row.set_nusd is None else row.set_nusd
            balances[row.asked] = (row.name or self._accounts[row.asked].name, balance)
        return balances

    def _load_endpoints(self) -> dict[str, PlaceTurn]:
        asked: dict[str, Counter[CallLane]] = {}
        for operation in self._operations:
            if isinstance(operation, Parcel) and operation.claims:
                hop = operation.claims[0].hops[operation.claims[0].at]
                asked.setdefault(hop.name, Counter())[hop.lane] += not hop.in_batch
        found = {row.endpoint: row for row in self._read_first("endpoints")}
        return {
            name: PlaceTurn(
                name,
                EndpointState(**{column: getattr(found[name], column) for column in ENDPOINT_COLUMNS})
                if name in found
                else EndpointState(),
                self._ledger.owner_id,
                self._ledger.own,
                asked.get(name, Counter()),
                self._moment,
            )
            for name in self._wanted
        }

    # What ended

    def _end(self) -> None:
        was: dict[int, Any] = {}
        if self._taken_for_dead:
            ids = [item.opened.attempt_id for item in self._endings]
            was = {row.attempt_id: row for row in self._ledger.sql.read(self._connection, "states", ids)}
        first = {row.attempt_id: row for row in self._read_first("answered_before")}
        rows, bodies, settled, kept, twice, tiers = [], [], [], [], [], []
        for item in self._endings:
            usage, attempt_id = item.usage, item.opened.attempt_id
            before = was.get(attempt_id)
            if before is not None and before.state == "failed" and item.state != "settled":
                continue  # somebody has resolved it meanwhile; only an answer that came after all proves them wrong
            if attempt_id in first:
                twice.append([attempt_id, first[attempt_id].first_id])
                self._used[attempt_id] = ReusedAnswer(
                    attempt_id=first[attempt_id].first_id, hop=item.opened.hop, body=first[attempt_id].body,
                    cost_nusd=first[attempt_id].cost_nusd or 0,
                )  # fmt: skip
            latency_s = None if item.latency_s is None else round(item.latency_s, 6)
            rows.append([
                attempt_id, item.state, item.error, storable(item.message), self._at, latency_s,
                usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens, item.cost_nusd,
                storable(item.provider_id), storable(item.answered_model),
            ])  # fmt: skip
            if item.body is not None:
                bodies.append([attempt_id, storable(item.body)])
            if item.served is not None:
                tier, price = item.served
                tiers.append([attempt_id, storable(tier) or None, price])
            if item.state == "settled" and attempt_id not in first:
                settled.append([item.opened.hop.key, attempt_id])
            if item.state == "failed" and item.opened.expired_id is not None and not self._taken_for_dead:
                kept.append([item.opened.hop.key, item.opened.expired_id])
            self._account_for(item, before)
        self._write("end", rows)
        self._write("note_tiers", tiers)
        self._write("mark_duplicates", twice)
        self._write("add_answers", bodies)
        self._write("point", kept)
        if self._taken_for_dead:  # only then can somebody have made a newer attempt
            self._write("point", settled)

    def _account_for(self, item: AttemptEnd, before: Any) -> None:
        """`before`: the attempt as it is, where others may have changed it."""
        reserved, was = item.opened.hop.reserve_nusd, "intent" if before is None else before.state
        for budget in item.opened.budgets:
            _, balance = self._balances[budget]
            match was:
                case "intent":
                    balance.reserved_nusd -= reserved
                case "ambiguous":
                    balance.held_nusd -= reserved
                case _:
                    balance.spent_nusd -= before.cost_nusd or 0
            if item.cost_nusd is None:
                balance.held_nusd += reserved
            else:
                balance.spent_nusd += item.cost_nusd
        if item.opened.backfill and item.cost_nusd is not None and was != "failed":
            self._put_back(item.opened, reserved - item.cost_nusd)
        if was == "intent" and not item.opened.hop.in_batch:
            state, hop = self._endpoints[item.opened.hop.name].state, item.opened.hop
            if item.state != "ambiguous":
                state.give_back(hop.tokens - item.usage.input_tokens - item.usage.output_tokens)
            if not item.opened.carried:
                state.end(self._moment, error=item.error, chance=random.random())
                if not self._taken_for_dead:
                    self._ledger.own.ended(hop)

    def _put_back(self, opened: Intent, unused_nusd: int) -> None:
        """What the call did not need stays set aside for its backfill."""
        _, own = self._balances[of_backfill(opened.backfill).budget]
        for budget in opened.budgets:
            _, balance = self._balances[budget]
            balance.earmarked_nusd += self._earmarks.give(opened.backfill, budget, unused_nusd, own.left_nusd)

    # What is claimed

    def _recall(self, claim: Claim) -> ReusedAnswer | None:
        found = answer_to(claim, self._known)
        if found is None:
            return None
        hop, row = found
        assert row.body is not None  # what is settled has an answer
        caller, cost = self._ledger.caller_id(self._connection, claim.caller), row.cost_nusd or 0
        self._reuses.append([row.attempt_id, caller, storable(claim.document), cost, self._at])
        return ReusedAnswer(attempt_id=row.attempt_id, hop=hop, body=row.body, cost_nusd=cost)

    def _decide_all(self, parcel: Parcel) -> list[Decision]:
        decisions: list[Decision] = []
        carried = waits = False
        for claim in parcel.claims:
            decisions.append(self._decide(claim, carried=carried, waits=waits))
            carried = carried or isinstance(decisions[-1], Intent)
            waits = waits or isinstance(decisions[-1], Wait)
        return decisions

    def _decide(self, claim: Claim, *, carried: bool, waits: bool) -> Decision:
        """`carried`: in the request of another one of its parcel. `waits`: another one was refused a place."""
        if (reused := self._recall(claim)) is not None:
            return reused
        if self._fenced:
            return TakenOver()
        hop = claim.hops[claim.at]
        row = self._known.get(hop.key)
        if hop.key in self._opened or (row is not None and row.state == "intent"):
            self._ledger.suspect()
            return OpenElsewhere(job="" if row is None else self._ledger.batch_of(self._connection, row.attempt_id))
        if (held := self._held(claim)) is not None:
            return held
        if (short := self._short(claim, hop.reserve_nusd)) is not None:
            self._ledger.suspect()
            return short
        if hop.in_batch:
            return self._open(claim, hop, row, carried=True)
        place = self._endpoints[hop.name]
        if carried:
            place.state.charge(hop.endpoint.limits, hop.tokens)
        else:
            wait = place.admit(hop, again=waits)
            if wait is not None:
                self._ledger.suspect()
                return wait
            self._ledger.own.opened(hop)
        return self._open(claim, hop, row, carried=carried)

    def _held(self, claim: Claim) -> HeldAttempt | None:
        row = held_by(claim, self._known)
        return None if row is None else HeldAttempt(attempt_id=row.attempt_id, reserved_nusd=row.reserved_nusd)

    def _short(self, claim: Claim, amount_nusd: int) -> BudgetShortage | None:
        balances = {account.budget: self._balances[account.budget][1] for account in claim.accounts}
        own = self._earmarks.of(claim.caller.backfill)
        account = first_short(claim.accounts, balances, own, amount_nusd)
        if account is None:
            return None
        balance = balances[account.budget]
        missing = amount_nusd - own.get(account.budget, 0)
        final = not balance.could_ever_hold(missing)
        held = {} if final else self._held_by_batches(account.budget, in_batch=claim.hops[claim.at].in_batch)
        batches = tuple(sorted(held)) if not balance.could_ever_hold(missing, batches_nusd=sum(held.values())) else ()
        return BudgetShortage(
            account=account, balance=balance, amount_nusd=amount_nusd, final=final, batches=batches
        )  # fmt: skip

    def _held_by_batches(self, budget: str, *, in_batch: bool) -> Mapping[str, int]:
        """With the lines of this very turn, which are not written yet. Read once a turn."""
        if budget not in self._of_batches:
            self._of_batches[budget] = dict(self._ledger.held_by_batches(self._connection, budget, fresh=in_batch))
        found = dict(self._of_batches[budget])
        if mine := self._in_batch[budget]:
            job = self._ledger.batch_of(self._connection, self._ledger.owner_id << OWNER_SHIFT)
            found[job] = found.get(job, 0) + mine
        return found

    def _open(self, claim: Claim, hop: Hop, row: Any, *, carried: bool) -> Intent:
        attempt_id = self._ledger.next_attempt()
        budgets = tuple(account.budget for account in claim.accounts)
        backfill = claim.caller.backfill
        for budget in budgets:
            _, balance = self._balances[budget]
            balance.reserved_nusd += hop.reserve_nusd
            if hop.in_batch:
                self._in_batch[budget] += hop.reserve_nusd
            if backfill:
                balance.earmarked_nusd -= self._earmarks.take(backfill, budget, hop.reserve_nusd)
        self._attempts.append([
            attempt_id, hop.key, row.attempt_id if row is not None else None,
            self._ledger.caller_id(self._connection, claim.caller), storable(claim.document), hop.name,
            hop.endpoint.llm, claim.kind, "intent", int(carried), self._at, hop.reserve_nusd, json.dumps(budgets),
            hop.price_version, storable(claim.prompt), hop.endpoint.key_id, protocol_of(hop.endpoint.protocol).name,
        ])  # fmt: skip
        self._pointers.append([hop.key, attempt_id])
        if claim.sent is not None:
            self._sent.append([attempt_id, claim.sent])
            if row is not None:
                self._sent_before.append(row.attempt_id)
        self._opened.add(hop.key)
        expired_id = row.attempt_id if row is not None and row.state == "settled" else None
        return Intent(
            attempt_id=attempt_id, hop=hop, budgets=budgets, carried=carried, backfill=backfill, expired_id=expired_id
        )

    # The write

    def _write_all(self) -> None:
        self._write("add_reuses", self._reuses)
        self._write("add_attempts", self._attempts)
        self._write("drop_sent", [[before] for before in self._sent_before])
        self._write("add_sent", self._sent)
        self._write("repoint", self._pointers)
        if self._attempts or self._endings or any(place.is_refused for place in self._endpoints.values()):
            self._write_endpoints()
        if self._attempts or self._endings:
            self._write("write_budgets", [
                [budget, name, b.limit_nusd, b.spent_nusd, b.reserved_nusd, b.held_nusd, b.earmarked_nusd]
                for budget, (name, b) in self._balances.items()
            ])  # fmt: skip
            self._write("write_earmarks", self._earmarks.changed())

    def _write_endpoints(self) -> None:
        rows = []
        for name, place in self._endpoints.items():
            place.write()
            rows.append([name, *(getattr(place.state, column) for column in ENDPOINT_COLUMNS)])
        self._write("write_endpoints", rows)
