"""The call ledger: what was asked, what came back, what it cost, and what may have been billed.

    intent --answer--> settled
       |-----error---> failed       (with its class; refusals may have cost something)
       \\---no answer--> ambiguous   (keeps its reservation until somebody resolves it)

An intent is durable before its request leaves, an answer before anyone sees it. Everything that decides whether a call
may leave (an earlier answer, budgets, rate limits, the breaker) is read and written in one turn under the write lock of
the state store, so it holds over all processes. What a turn does is `ledger_turn.py`; who takes turns, and how many
operations share one, is `turns.py`.
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.base.processes import boot_clock_s, boot_id
from ai_assets.inference import latency, place_queue
from ai_assets.inference.ledger_clock import LedgerClock
from ai_assets.inference.ledger_messages import Operation
from ai_assets.inference.ledger_sql import IN_FLIGHT, OWNER_SHIFT, LedgerSql
from ai_assets.inference.ledger_turn import LedgerTurn
from ai_assets.inference.own_places import OwnPlaces
from ai_assets.inference.records import Caller
from ai_assets.storage import workers
from ai_assets.storage.pipeline import unpipelined
from ai_assets.storage.state import now, storable

REAP_EVERY_S = 0.5
HELD_FOR_S = 1.0
BATCH_LEASE = "batch:"
"""Before the id of a job: the lease of an owner that is a batch, whose attempts outlive every process."""


class Ledger:
    """Applies operations within a transaction of the state store. Every engine has its own."""

    def __init__(self, dialect: str, owner_id: int) -> None:
        self.owner_id = owner_id
        self.sql = LedgerSql(dialect)
        self._sequence = 0
        self._callers: dict[Caller, int] = {}
        self._batches: dict[int, str] = {}
        self._held: dict[str, tuple[float, Mapping[str, int]]] = {}
        """By budget, what batches had of it, and when that was read."""
        self._reaped_at = 0.0
        self._suspects = False
        self.clock = LedgerClock()
        self.own = OwnPlaces()

    @classmethod
    def open(cls, connection: sa.Connection, worker_id: int | None) -> "Ledger":
        """Register the owner, and see to what dead ones have left."""
        statement = sa.text(
            "INSERT INTO owners (lease, batch, reaped, worker_id) VALUES ('', 0, 0, :worker) RETURNING owner_id"
        )
        owner_id: int = connection.execute(statement, {"worker": worker_id}).scalar_one()
        ledger = cls(connection.dialect.name, owner_id)
        ledger.reap(connection)
        if connection.dialect.name == "sqlite":
            _forget_other_boots(connection)
        else:
            ledger.clock.set_by(workers.read_clock(connection).now_s)
        return ledger

    def apply(self, connection: sa.Connection, operations: Sequence[Operation], batch: int) -> list[Any]:
        """One turn, under its number; a result per operation, which counts once the transaction is committed."""
        begun = self.sql.take_turn(connection, batch, self.owner_id)
        if self._suspects and time.monotonic() - self._reaped_at > REAP_EVERY_S:
            (row,) = begun.all()
            with unpipelined(connection):
                self.reap(connection)
            turn = LedgerTurn(self, connection, operations)
        else:
            turn = LedgerTurn(self, connection, operations)
            (row,) = begun.all()
        moment_s = boot_clock_s()
        if row.server_s is not None:
            moment_s = float(row.server_s)
            self.clock.set_by(moment_s)
        self.own.begin(batch)
        if row.reaped:
            self.own.clear()
        return turn.run(moment_s, fenced=not row.may_act, taken_for_dead=bool(row.reaped))

    def apply_in_batch(
        self, connection: sa.Connection, operations: Sequence[Operation], *, late: bool = False
    ) -> list[Any]:
        """A turn of a batch, whose lease the caller holds. `late`: its attempts may have been resolved meanwhile."""
        moment_s = boot_clock_s()
        if connection.dialect.name != "sqlite":
            moment_s = workers.read_clock(connection).now_s
            self.clock.set_by(moment_s)
        return LedgerTurn(self, connection, operations).run(moment_s, fenced=False, taken_for_dead=late)

    def batch_of(self, connection: sa.Connection, attempt_id: int) -> str:
        """The batch that an open attempt is a line of; empty where a process has sent it."""
        owner = attempt_id >> OWNER_SHIFT
        if owner not in self._batches:
            if len(self._batches) > 10_000:
                self._batches.clear()
            with unpipelined(connection):
                lease: str = connection.execute(
                    sa.text("SELECT lease FROM owners WHERE owner_id = :owner"), {"owner": owner}
                ).scalar_one()
            self._batches[owner] = lease.removeprefix(BATCH_LEASE) if lease.startswith(BATCH_LEASE) else ""
        return self._batches[owner]

    def held_by_batches(self, connection: sa.Connection, budget: str, *, fresh: bool) -> Mapping[str, int]:
        """What lines of batches that have not ended have reserved of a budget, by batch; without `fresh` as it was a
        moment ago, for who asks many times a second."""
        read_at, found = self._held.get(budget, (-HELD_FOR_S, {}))
        if fresh or time.monotonic() - read_at >= HELD_FOR_S:
            with unpipelined(connection):
                given = {"shift": OWNER_SHIFT, "named": json.dumps(budget)}
                found = {row.job_id: int(row.reserved) for row in connection.execute(_HELD_BY_BATCHES, given)}
            self._held[budget] = time.monotonic(), found
        return found

    def applied(self, connection: sa.Connection) -> int:
        """The last turn that was committed: after a broken connection it tells whether a commit had come through."""
        statement = sa.text("SELECT batch FROM owners WHERE owner_id = :owner")
        with unpipelined(connection):
            return int(connection.execute(statement, {"owner": self.owner_id}).scalar_one())

    def reap(self, connection: sa.Connection) -> int:
        """Make ambiguous what dead processes had in flight; how many calls that were."""
        self._reaped_at, self._suspects = time.monotonic(), False
        statement = sa.text(
            "SELECT DISTINCT owners.owner_id, owners.worker_id FROM attempts "  # noqa: S608 - nothing of others
            "JOIN owners ON owners.owner_id = (attempts.attempt_id >> :shift) "
            f"WHERE {IN_FLIGHT} AND owners.lease NOT LIKE :batches"
        )
        found = 0
        for row in connection.execute(statement, {"shift": OWNER_SHIFT, "batches": f"{BATCH_LEASE}%"}).all():
            if row.owner_id != self.owner_id and not workers.is_live(connection, row.worker_id):
                workers.end(connection, row.worker_id)
                found += self._orphan(connection, row.owner_id)
        return found

    def give_up(self, connection: sa.Connection) -> None:
        """The same for what this process has in flight: nobody waits for it any more."""
        self._orphan(connection, self.owner_id)

    def suspect(self) -> None:
        """Something is in the way that a dead process may have left: the next turn looks."""
        self._suspects = True

    def _orphan(self, connection: sa.Connection, owner: int) -> int:
        bounds = {"low": owner << OWNER_SHIFT, "high": (owner + 1) << OWNER_SHIFT, "at": now()}
        statement = sa.text(
            "UPDATE attempts SET state = 'ambiguous', error = 'connection_lost', ended_at = :at, "
            "message = 'the process that sent it ended before the answer was written' "
            "WHERE state = 'intent' AND attempt_id >= :low AND attempt_id < :high "
            "RETURNING endpoint, carried, reserved_nusd, budgets"
        )
        rows = connection.execute(statement, bounds).all()
        connection.execute(sa.text("UPDATE owners SET reaped = 1 WHERE owner_id = :owner"), {"owner": owner})
        reserved: dict[str, int] = {}
        places: dict[str, int] = {}
        for row in rows:
            places[row.endpoint] = places.get(row.endpoint, 0) + (0 if row.carried else 1)
            for budget in json.loads(row.budgets):
                reserved[budget] = reserved.get(budget, 0) + row.reserved_nusd
        self.sql.write(connection, "hold_reserved", list(reserved.items()))
        self.sql.write(connection, "free_places", list(places.items()))
        for row in connection.execute(sa.text("SELECT endpoint, queue FROM endpoints WHERE queue <> ''")).all():
            if (queue := place_queue.forgotten(row.queue, owner)) is not None:
                given = {"endpoint": row.endpoint, "queue": queue}
                connection.execute(sa.text("UPDATE endpoints SET queue = :queue WHERE endpoint = :endpoint"), given)
        return len(rows)

    def next_attempt(self) -> int:
        self._sequence += 1
        return (self.owner_id << OWNER_SHIFT) | self._sequence

    def caller_id(self, connection: sa.Connection, caller: Caller) -> int:
        found = self._callers.get(caller)
        if found is None:
            with unpipelined(connection):
                found = self._known_caller(connection, caller)
            if len(self._callers) > 10_000:
                self._callers.clear()
            self._callers[caller] = found
        return found

    @staticmethod
    def _known_caller(connection: sa.Connection, caller: Caller) -> int:
        names, given = list(vars(caller)), {name: storable(text) for name, text in vars(caller).items()}
        known = sa.text(f"SELECT caller_id FROM callers WHERE {' AND '.join(f'{n} = :{n}' for n in names)}")  # noqa: S608
        row: int | None = connection.execute(known, given).scalar_one_or_none()
        if row is None:
            values = ", ".join(f":{name}" for name in names)
            new = sa.text(f"INSERT INTO callers ({', '.join(names)}) VALUES ({values}) RETURNING caller_id")  # noqa: S608
            row = connection.execute(new, given).scalar_one()
        return int(row)

    def forget_callers(self) -> None:
        """After a turn that was rolled back: ids it had given do not exist."""
        self._callers.clear()

    def undo(self) -> None:
        """A turn that was given up."""
        self.forget_callers()
        self.own.undo()


_HELD_BY_BATCHES = sa.text(
    "SELECT batch_jobs.job_id, sum(attempts.reserved_nusd) AS reserved FROM attempts "  # noqa: S608 - nothing of others
    "JOIN batch_jobs ON batch_jobs.owner_id = (attempts.attempt_id >> :shift) AND batch_jobs.state <> 'ended' "
    f"WHERE {IN_FLIGHT} AND replace(attempts.budgets, :named, '') <> attempts.budgets GROUP BY batch_jobs.job_id"
)


def is_owner_live(connection: sa.Connection, owner_id: int) -> bool:
    """Whether the process that made an attempt, by the bits above OWNER_SHIFT of its number, may still end it."""
    statement = sa.text("SELECT lease, worker_id FROM owners WHERE owner_id = :owner")
    row = connection.execute(statement, {"owner": owner_id}).one_or_none()
    if row is None:
        return False
    return row.lease.startswith(BATCH_LEASE) or workers.is_live(connection, row.worker_id)


def _forget_other_boots(connection: sa.Connection) -> None:
    boots: Sequence[str] = connection.execute(sa.text("SELECT boot FROM clock")).scalars().all()
    if boots != [boot_id()]:
        forget_measured(connection)
        connection.execute(sa.text("INSERT INTO clock (boot) VALUES (:boot)"), {"boot": boot_id()})


def forget_measured(connection: sa.Connection) -> None:
    """What is known of endpoints is measured by a clock; after another boot, or by another clock, it says nothing."""
    for statement in (
        "UPDATE endpoints SET measured_at = 0, blocked_until = 0, probing_until = 0, queue = ''",
        "DELETE FROM clock",
    ):
        connection.execute(sa.text(statement))
    latency.forget(connection)
