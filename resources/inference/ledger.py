"""The call ledger: what was asked, what came back, what it cost, and what may have been billed.

    intent --answer--> settled
       |-----error---> failed       (with its class; refusals may have cost something)
       \\---no answer--> ambiguous   (keeps its reservation until somebody resolves it)

An intent is durable before its request leaves, an answer before anyone sees it. Everything that decides whether a call
may leave (an earlier answer, budgets, rate limits, the breaker) is read and written in one turn under the write lock of
the state store, so it holds over all processes. Who takes turns, and how many operations share one, is `turns.py`.
"""

import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from resources.inference.admission import EndpointState, Wait
from resources.inference.budget import Account, Balance, first_short
from resources.inference.ledger_sql import ENDPOINT_COLUMNS, OWNER_SHIFT, statements
from resources.inference.records import NO_USAGE, Caller, ErrorClass, Usage
from resources.inference.settings import Endpoint, Price
from resources.leases import is_held
from resources.state import now

ELSEWHERE_S = 0.1
BUDGET_S = 0.05
REAP_EVERY_S = 0.5

State = Literal["intent", "settled", "failed", "ambiguous"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hop:
    """One endpoint of a request's route, and the call it would be there."""

    name: str
    endpoint: Endpoint
    price: Price
    key: str
    body: bytes
    reserve_nusd: int
    """The most it can cost."""
    tokens: int
    """The most tokens it can use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """The wish to make a call at one hop, unless any hop of the route has an answer already."""

    hops: tuple[Hop, ...]
    at: int
    caller: Caller
    document: str
    kind: str
    accounts: tuple[Account, ...]
    oldest: str | None
    """Answers from before this moment have expired."""
    on_ambiguous: Literal["retry", "hold"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """Claims that shall leave in one request to the provider: texts to embed; or a single one."""

    claims: Sequence[Claim]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """The wish for answers that are there already, for many requests at once."""

    claims: Sequence[Claim]


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """An intent: it may leave now."""

    attempt_id: int
    hop: Hop
    budgets: tuple[str, ...]
    carried: bool
    """Leaves in the request of another one of its parcel, so it takes no place of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reused:
    """An answer from the ledger."""

    attempt_id: int
    hop: Hop
    body: str
    cost_nusd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """Another process is asking this very question; look again soon."""

    seconds: float = ELSEWHERE_S


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An attempt may have been billed, and the policy is to wait for a person."""

    attempt_id: int
    reserved_nusd: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Short:
    """A budget has not this much left. `final`: nor will it when all calls in flight have ended."""

    account: Account
    balance: Balance
    amount_nusd: int
    final: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How an attempt ended."""

    opened: Opened
    state: State
    error: ErrorClass | None = None
    message: str | None = None
    latency_s: float
    usage: Usage = NO_USAGE
    cost_nusd: int | None = None
    """None where nobody knows: the reservation is held."""
    body: str | None = None
    provider_id: str | None = None
    answered_model: str | None = None


Decision = Opened | Reused | Elsewhere | Held | Short | Wait
Operation = Parcel | Recall | Ended


class Ledger:
    """Applies operations within a transaction of the state store. Every engine has its own."""

    def __init__(self, dialect: str, owner_id: int, lease: str) -> None:
        self.owner_id = owner_id
        self.lease = lease
        self._sql = statements(dialect)
        self._sequence = 0
        self._callers: dict[Caller, int] = {}
        self._reaped_at = 0.0
        self._suspects = False

    @classmethod
    def open(cls, connection: sa.Connection, lease: str) -> "Ledger":
        """Register the owner, and see to what dead ones have left."""
        statement = sa.text("INSERT INTO owners (lease, batch) VALUES (:lease, 0) RETURNING owner_id")
        owner_id = connection.execute(statement, {"lease": lease}).scalar_one()
        ledger = cls(connection.dialect.name, owner_id, lease)
        ledger.reap(connection)
        return ledger

    def apply(self, connection: sa.Connection, operations: Sequence[Operation]) -> list[Any]:
        """One turn: first what ended, so that its place and money are free for what is claimed."""
        results: list[Any] = [None] * len(operations)
        endings = [operation for operation in operations if isinstance(operation, Ended)]
        if endings:
            self._end(connection, endings)
        asked = [(place, each) for place, each in enumerate(operations) if not isinstance(each, Ended)]
        if asked:
            if self._suspects and time.monotonic() - self._reaped_at > REAP_EVERY_S:
                self.reap(connection)
            turn = _Turn(self, connection, [claim for _, each in asked for claim in each.claims])
            for place, each in asked:
                if isinstance(each, Recall):
                    results[place] = [turn.recall(claim) for claim in each.claims]
                else:
                    results[place] = turn.decide_all(each)
            turn.write()
        return results

    def mark(self, connection: sa.Connection, batch: int) -> None:
        connection.execute(self._sql["mark"], {"batch": batch, "owner": self.owner_id})

    def marked(self, connection: sa.Connection) -> int:
        """The last turn that was committed: after a broken connection it tells whether a commit had come through."""
        return int(connection.execute(self._sql["marked"], {"owner": self.owner_id}).scalar_one())

    def reap(self, connection: sa.Connection) -> int:
        """Make ambiguous what dead processes had in flight; how many calls that were."""
        self._reaped_at, self._suspects = time.monotonic(), False
        found = 0
        for owner, lease in connection.execute(self._sql["owners_in_flight"]):
            if owner != self.owner_id and not is_held(connection, lease):
                found += self._orphan(connection, owner)
        return found

    def suspect(self) -> None:
        """Something is in the way that a dead process may have left: the next turn looks."""
        self._suspects = True

    def _orphan(self, connection: sa.Connection, owner: int) -> int:
        bounds = {"low": owner << OWNER_SHIFT, "high": (owner + 1) << OWNER_SHIFT}
        rows = connection.execute(self._sql["in_flight_of"], bounds).all()
        reserved: dict[str, int] = {}
        for row in rows:
            for budget in json.loads(row.budgets):
                reserved[budget] = reserved.get(budget, 0) + row.reserved_nusd
        connection.execute(self._sql["orphan"], {**bounds, "at": now()})
        if reserved:
            moved = [[budget, -amount, 0, amount] for budget, amount in reserved.items()]
            connection.execute(self._sql["change_budgets"], {"rows": json.dumps(moved)})
        endpoints: dict[str, int] = {}
        for row in rows:
            endpoints[row.endpoint] = endpoints.get(row.endpoint, 0) + 1
        if endpoints:
            connection.execute(
                self._sql["free_places"], {"rows": json.dumps([list(pair) for pair in endpoints.items()])}
            )
        return len(rows)

    def next_attempt(self) -> int:
        self._sequence += 1
        return (self.owner_id << OWNER_SHIFT) | self._sequence

    def caller_id(self, connection: sa.Connection, caller: Caller) -> int:
        found = self._callers.get(caller)
        if found is None:
            values = vars(caller)
            row = connection.execute(self._sql["find_caller"], values).scalar_one_or_none()
            found = int(row if row is not None else connection.execute(self._sql["add_caller"], values).scalar_one())
            if len(self._callers) > 10_000:
                self._callers.clear()
            self._callers[caller] = found
        return found

    def forget_callers(self) -> None:
        """After a turn that was rolled back: ids it had given do not exist."""
        self._callers.clear()

    def _end(self, connection: sa.Connection, endings: Sequence[Ended]) -> None:
        ids = json.dumps([item.opened.attempt_id for item in endings])
        was = {row.attempt_id: row.state for row in connection.execute(self._sql["states"], {"keys": ids})}
        self._write_endings(connection, endings)
        changes: dict[str, list[int]] = {}
        for item in endings:
            reserved, cost, state = item.opened.hop.reserve_nusd, item.cost_nusd, was[item.opened.attempt_id]
            if state not in ("intent", "ambiguous"):
                continue  # a person has resolved it meanwhile
            for budget in item.opened.budgets:
                change = changes.setdefault(budget, [0, 0, 0])
                # This process may have been taken for dead: what its calls reserved is then held already.
                change[0 if state == "intent" else 2] -= reserved
                if cost is None:
                    change[2] += reserved
                else:
                    change[1] += cost
        if changes:
            rows = [[budget, *amounts] for budget, amounts in changes.items()]
            connection.execute(self._sql["change_budgets"], {"rows": json.dumps(rows)})
        self._free(connection, [item for item in endings if was[item.opened.attempt_id] == "intent"])

    def _write_endings(self, connection: sa.Connection, endings: Sequence[Ended]) -> None:
        at = now()
        rows, bodies, settled = [], [], []
        for item in endings:
            usage, attempt_id = item.usage, item.opened.attempt_id
            rows.append([
                attempt_id, item.state, item.error, _text(item.message), at, round(item.latency_s, 6),
                usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens, item.cost_nusd,
                _text(item.provider_id), _text(item.answered_model),
            ])  # fmt: skip
            if item.body is not None:
                bodies.append([attempt_id, _text(item.body)])
            if item.state == "settled":
                settled.append([item.opened.hop.key, attempt_id])
        connection.execute(self._sql["end"], {"rows": json.dumps(rows)})
        if bodies:
            connection.execute(self._sql["add_answers"], {"rows": json.dumps(bodies)})
        if settled:
            connection.execute(self._sql["point"], {"rows": json.dumps(settled)})

    def _free(self, connection: sa.Connection, endings: Sequence[Ended]) -> None:
        states = self.endpoint_states(connection, {item.opened.hop.name for item in endings})
        moment = time.time()
        for item in endings:
            hop, used = item.opened.hop, item.usage.input_tokens + item.usage.output_tokens
            unused = 0 if item.state == "ambiguous" else hop.tokens - used
            states[hop.name].give_back(unused)
            if not item.opened.carried:
                states[hop.name].end(moment, error=item.error, chance=random.random())
        self.write_endpoints(connection, states)

    def endpoint_states(self, connection: sa.Connection, rows: Iterable[str]) -> dict[str, EndpointState]:
        wanted = list(rows)
        found = connection.execute(self._sql["endpoints"], {"keys": json.dumps(wanted)}).mappings()
        known = {row["endpoint"]: {key: row[key] for key in row if key != "endpoint"} for row in found}
        return {row: EndpointState(**known.get(row, {})) for row in wanted}

    def write_endpoints(self, connection: sa.Connection, states: Mapping[str, EndpointState]) -> None:
        rows = [[name, *(getattr(state, column) for column in ENDPOINT_COLUMNS)] for name, state in states.items()]
        if rows:
            connection.execute(self._sql["write_endpoints"], {"rows": json.dumps(rows)})


class _Turn:
    """All claims of one transaction: one look at the tables, decisions in order, one write."""

    def __init__(self, ledger: Ledger, connection: sa.Connection, claims: Sequence[Claim]) -> None:
        self._ledger = ledger
        self._connection = connection
        self._sql = ledger._sql
        self._known = self._look_up({hop.key for claim in claims for hop in claim.hops})
        self._balances: dict[str, Balance] = {}
        self._accounts: dict[str, Account] = {}
        self._load_balances(claims)
        self._endpoints = ledger.endpoint_states(connection, {claim.hops[claim.at].name for claim in claims})
        self._moment = time.time()
        self._at = now()
        self._attempts: list[list[Any]] = []
        self._pointers: list[list[Any]] = []
        self._reuses: list[list[Any]] = []
        self._opened: set[str] = set()

    def _look_up(self, keys: Iterable[str]) -> dict[str, Any]:
        found = self._connection.execute(self._sql["look_up"], {"keys": json.dumps(list(keys))})
        return {row.call_key: row for row in found}

    def _load_balances(self, claims: Sequence[Claim]) -> None:
        self._accounts = {account.budget: account for claim in claims for account in claim.accounts}
        found = {}
        if self._accounts:
            rows = self._connection.execute(self._sql["balances"], {"keys": json.dumps(list(self._accounts))})
            found = {row.budget: row for row in rows}
        for budget, account in self._accounts.items():
            row = found.get(budget)
            self._balances[budget] = Balance(
                limit_nusd=account.limit_nusd,
                spent_nusd=row.spent_nusd if row else 0,
                reserved_nusd=row.reserved_nusd if row else 0,
                held_nusd=row.held_nusd if row else 0,
            )

    def recall(self, claim: Claim) -> Reused | None:
        """The answer that is there, if it has not expired."""
        for hop in claim.hops:
            row = self._known.get(hop.key)
            if row is not None and row.state == "settled" and (claim.oldest is None or row.ended_at >= claim.oldest):
                caller = self._ledger.caller_id(self._connection, claim.caller)
                self._reuses.append([row.attempt_id, caller, _text(claim.document), row.cost_nusd or 0, self._at])
                return Reused(attempt_id=row.attempt_id, hop=hop, body=row.body, cost_nusd=row.cost_nusd or 0)
        return None

    def decide_all(self, parcel: Parcel) -> list[Decision]:
        decisions: list[Decision] = []
        carried = False
        for claim in parcel.claims:
            decisions.append(self._decide(claim, carried=carried))
            carried = carried or isinstance(decisions[-1], Opened)
        return decisions

    def _decide(self, claim: Claim, *, carried: bool) -> Decision:
        if (reused := self.recall(claim)) is not None:
            return reused
        hop = claim.hops[claim.at]
        row = self._known.get(hop.key)
        if hop.key in self._opened or (row is not None and row.state == "intent"):
            self._ledger.suspect()
            return Elsewhere()
        if (held := self._held(claim)) is not None:
            return held
        amount = hop.reserve_nusd
        short = first_short(claim.accounts, self._balances, amount)
        if short is not None:
            self._ledger.suspect()
            balance = self._balances[short.budget]
            final = not balance.could_ever_hold(amount)
            return Short(account=short, balance=balance, amount_nusd=amount, final=final)
        state, limits = self._endpoints[hop.name], hop.endpoint.limits
        if carried:
            state.charge(limits, hop.tokens)
        else:
            wait = state.admit(limits, self._moment, tokens=hop.tokens, probe_s=hop.endpoint.timeout_s)
            if wait is not None:
                self._ledger.suspect()
                return wait
        return self._open(claim, hop, row, carried=carried)

    def _held(self, claim: Claim) -> Held | None:
        if claim.on_ambiguous != "hold":
            return None
        for hop in claim.hops:
            row = self._known.get(hop.key)
            if row is not None and row.state == "ambiguous":
                return Held(attempt_id=row.attempt_id, reserved_nusd=row.reserved_nusd)
        return None

    def _open(self, claim: Claim, hop: Hop, row: Any, *, carried: bool) -> Opened:
        attempt_id = self._ledger.next_attempt()
        budgets = tuple(account.budget for account in claim.accounts)
        for budget in budgets:
            self._balances[budget].reserved_nusd += hop.reserve_nusd
        self._attempts.append([
            attempt_id, hop.key, row.attempt_id if row is not None else None,
            self._ledger.caller_id(self._connection, claim.caller), _text(claim.document), hop.name,
            hop.endpoint.llm, claim.kind, "intent", self._at, hop.reserve_nusd, json.dumps(budgets),
        ])  # fmt: skip
        self._pointers.append([hop.key, attempt_id])
        self._opened.add(hop.key)
        return Opened(attempt_id=attempt_id, hop=hop, budgets=budgets, carried=carried)

    def write(self) -> None:
        execute = self._connection.execute
        if self._reuses:
            execute(self._sql["add_reuses"], {"rows": json.dumps(self._reuses)})
        if not self._attempts:
            return
        execute(self._sql["add_attempts"], {"rows": json.dumps(self._attempts)})
        execute(self._sql["repoint"], {"rows": json.dumps(self._pointers)})
        touched = {budget for row in self._attempts for budget in json.loads(row[-1])}
        if touched:
            rows = [
                [
                    b,
                    self._accounts[b].name,
                    balance.limit_nusd,
                    balance.spent_nusd,
                    balance.reserved_nusd,
                    balance.held_nusd,
                ]
                for b, balance in self._balances.items()
                if b in touched
            ]
            execute(self._sql["write_budgets"], {"rows": json.dumps(rows)})
        self._ledger.write_endpoints(self._connection, self._endpoints)


def _text(value: str | None) -> str | None:
    """What every database can hold: no NUL, no half of a character."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
