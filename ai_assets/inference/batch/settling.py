"""The attempts of a job, each ended by its own line: settled, failed, free again, or maybe billed.

Safe to repeat: what has ended already stays as it is, so a collector that is killed goes on where it was.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa

from ai_assets.inference.batch.batch_listener import BatchListener
from ai_assets.inference.batch.errors import ProviderSilent
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.lines import LineResult
from ai_assets.inference.call_state import ended
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_messages import AttemptEnd, Hop, Intent
from ai_assets.inference.records import Caller, ErrorClass
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols import faults
from ai_assets.protocols.base import MESSAGE_CHARACTERS, Fault, NotAnAnswer, Reply
from ai_assets.protocols.registry import protocol_of
from ai_assets.storage.leases import Lease

GROUP = 1000
"""Lines that share a transaction."""
WINDOW_LINES, WINDOW_CHARACTERS = 50 * GROUP, 32_000_000
"""So many results are put in the order of their attempts before they are written: results come in any order, and rows
that are far apart are as many pages to write."""


@dataclass(slots=True)
class OpenLine:
    """One attempt of the job."""

    attempt_id: int
    state: str
    reserved_nusd: int
    budgets: tuple[str, ...]
    backfill: str
    caller_id: int


class Settling:
    """Of one job, whose lease is held. What it remembers of 50,000 lines takes some 20 MB."""

    def __init__(
        self,
        lease: Lease,
        connection: sa.Connection,
        job: BatchJob,
        endpoint: Endpoint,
        listener: BatchListener | None = None,
    ) -> None:
        self._lease, self._job, self._endpoint = lease, job, endpoint
        self._listener = listener
        self._callers = _callers_of(connection, job) if listener is not None else {}
        self._ledger = Ledger(connection.dialect.name, job.owner_id)
        budgets: dict[str, tuple[str, ...]] = {}
        rows = connection.execute(
            sa.text(
                "SELECT attempt_id, call_key, attempts.state, reserved_nusd, budgets, backfill, attempts.caller_id "
                "FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
                "WHERE attempt_id >= :low AND attempt_id < :high"
            ),
            job.bounds,
        )
        self.lines: dict[str, OpenLine] = {}
        for row in rows:
            drawn = budgets.get(row.budgets)
            if drawn is None:
                drawn = budgets[row.budgets] = tuple(json.loads(row.budgets))
            self.lines[row.call_key] = OpenLine(
                row.attempt_id,
                row.state,
                int(row.reserved_nusd),
                drawn,
                "" if job.duplicate_of else row.backfill or "",
                row.caller_id,
            )

    @property
    def unended(self) -> list[str]:
        """The calls of which nobody knows yet what became of them."""
        wanted = ("intent", "ambiguous") if self._job.duplicate_of is not None else ("intent",)
        return [key for key, line in self.lines.items() if line.state in wanted]

    def settle(self, results: Iterable[LineResult]) -> Iterator[int]:
        """End those that have a result; tells after each transaction how many results it had.

        Where the file breaks off, what was read until then is ended first.
        """
        wanted, broken = iter(results), None
        while broken is None:
            window, broken = _window(wanted)
            window.sort(key=lambda result: self.lines[result.key].attempt_id)
            for first in range(0, len(window), GROUP):
                group = window[first : first + GROUP]
                self._end([self._ended(result) for result in group])
                yield len(group)
            if not window:
                break
        if broken is not None:
            raise broken

    def free(self, keys: Iterable[str], message: str) -> int:
        """They were not run: nothing was billed, and the next batch has them."""
        return self._all(keys, "not_run", message, 0)

    def doubt(self, keys: Iterable[str], message: str) -> int:
        """They may have been billed, and their answers are lost."""
        return self._all(keys, "connection_lost", message, 0 if self._endpoint.free else None)

    def keep_older_answers(self) -> None:
        """An answer that was too old for who asked is good enough for others, where the line brought none."""
        with self._lease.fenced() as connection:
            connection.execute(_KEEP_OLDER, self._job.bounds)

    def _all(self, keys: Iterable[str], error: ErrorClass, message: str, cost: int | None) -> int:
        wanted, number = iter(keys), 0
        while group := list(islice(wanted, GROUP)):
            number += len(group)
            self._end([
                AttemptEnd(
                    opened=self._opened(key), state="failed" if cost is not None else "ambiguous", error=error,
                    message=message, latency_s=None, cost_nusd=cost,
                )
                for key in group
            ])  # fmt: skip
        return number

    def _ended(self, result: LineResult) -> AttemptEnd:
        opened = self._opened(result.key)
        if result.not_run:
            return AttemptEnd(
                opened=opened, state="failed", error="not_run", message=f"{result.error}: {result.message}",
                latency_s=None, cost_nusd=0,
            )  # fmt: skip
        return ended(opened, outcome_of(result, self._endpoint, self._job), None)

    def _opened(self, key: str) -> Intent:
        line = self.lines[key]
        hop = Hop(
            name=self._job.endpoint, endpoint=self._endpoint, price=self._job.price, key=key, body=b"",
            reserve_nusd=line.reserved_nusd, tokens=0, in_batch=True,
        )  # fmt: skip
        return Intent(attempt_id=line.attempt_id, hop=hop, budgets=line.budgets, carried=True, backfill=line.backfill)

    def _end(self, endings: Sequence[AttemptEnd]) -> None:
        with self._lease.fenced() as connection:
            self._ledger.apply_in_batch(connection, endings, late=True)
        for ending in endings:
            self.lines[ending.opened.hop.key].state = ending.state
        if self._listener is not None:
            of = [self._callers[self.lines[ending.opened.hop.key].caller_id] for ending in endings]
            self._listener.settled(self._job, list(zip(of, endings, strict=True)))


def _callers_of(connection: sa.Connection, job: BatchJob) -> dict[int, Caller]:
    rows = connection.execute(
        sa.text(
            "SELECT caller_id, tenant, collection, asset, partition, run_id, backfill FROM callers WHERE caller_id IN "
            "(SELECT caller_id FROM attempts WHERE attempt_id >= :low AND attempt_id < :high)"
        ),
        job.bounds,
    )
    return {
        row.caller_id: Caller(
            tenant=row.tenant, collection=row.collection, asset=row.asset, partition=row.partition, run_id=row.run_id,
            backfill=row.backfill or "",
        )
        for row in rows
    }  # fmt: skip


_KEEP_OLDER = sa.text(
    "UPDATE calls SET attempt_id = (SELECT previous_id FROM attempts WHERE attempts.attempt_id = calls.attempt_id) "
    "WHERE attempt_id IN (SELECT mine.attempt_id FROM attempts AS mine "
    "JOIN attempts AS older ON older.attempt_id = mine.previous_id AND older.state = 'settled' "
    "WHERE mine.attempt_id >= :low AND mine.attempt_id < :high AND mine.state = 'failed' "
    "AND mine.previous_id IS NOT NULL)"
)


def _window(results: Iterator[LineResult]) -> tuple[list[LineResult], ProviderSilent | None]:
    """The next results, none at the end; and what ended them where that is not their end."""
    found: list[LineResult] = []
    characters = 0
    try:
        for result in islice(results, WINDOW_LINES):
            found.append(result)
            characters += len(result.body)
            if characters > WINDOW_CHARACTERS:
                break
    except ProviderSilent as error:
        return found, error
    return found, None


def outcome_of(result: LineResult, endpoint: Endpoint, job: BatchJob) -> Reply | Fault:
    """What a line says, as if it had come over a connection of its own."""
    protocol = protocol_of(endpoint.protocol)
    if result.error:
        told = faults.ErrorBody(said=result.message, code=result.error, is_protocol=True)
        error = faults.class_of(400, told)
        return Fault(
            error="server_error" if error == "malformed" else error, message=f"{result.error}: {result.message}"
        )
    if result.status != 200:
        found = protocol.fault(result.status, {}, result.body.encode("utf-8", "surrogatepass"))
        return Fault(error=found.error, message=found.message[:MESSAGE_CHARACTERS], provider_id=result.request_id)
    try:
        text = result.body
        if job.kind == "embedding" and protocol.joins_texts:
            (text,) = protocol.split(text, [b"."])
        said = protocol.decode(text, job.kind)
    except NotAnAnswer as error:
        return Fault(
            error="garbled", message=str(error)[:MESSAGE_CHARACTERS], answered=True, body=result.body,
            provider_id=result.request_id,
        )  # fmt: skip
    if isinstance(said, Reply):
        return Reply(
            text=said.text, tool_calls=said.tool_calls, vector=said.vector, finish_reason=said.finish_reason,
            usage=said.usage, model=said.model, body=text, provider_id=result.request_id,
        )  # fmt: skip
    return Fault(
        error=said.error, message=said.message, usage=said.usage, answered=True, body=text,
        provider_id=result.request_id,
    )  # fmt: skip
