# ruff: noqa: S608 - the parts put together are all from here
"""Batches as the state store knows them: a row per file, and which assets wait for theirs. Queries only.

    filling -> sealed -> uploaded -> creating -> submitted -> ended
                            ^------------/ nothing was made of it, or the queue of the provider is full

A step is noted before its request leaves where a lost answer matters (`creating`), and otherwise after it. All of it is
written under the job's lease, `batch:JOB`.
"""

import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.inference.batch.errors import waiting_said
from ai_assets.inference.batch.job_deadline import JobDeadline
from ai_assets.inference.batch.pending import AwaitedCalls
from ai_assets.inference.ledger import BATCH_LEASE
from ai_assets.inference.ledger_sql import OWNER_SHIFT
from ai_assets.inference.records import Caller, RequestKind
from ai_assets.inference.settings import TokenPrice
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import now

BY_REFUSAL = "the provider's refusal"
"""Recorded as who holds a wait whose batch was refused for good."""
JobState = Literal["filling", "sealed", "uploaded", "creating", "submitted", "ended"]


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One file of calls, and the batch that it is at the provider."""

    job_id: str
    owner_id: int
    digest: str
    endpoint: str
    kind: RequestKind
    collection: str
    run_id: str
    """The run that filled it."""
    state: JobState
    provider_state: str
    """As the provider last said it; empty before."""
    file_id: str | None
    provider_id: str | None
    past_ids: tuple[str, ...]
    """Batches of it of which the provider ran nothing, because its queue was full."""
    doubted: bool
    """An answer about it was lost, so there may be more than one."""
    duplicate_of: str | None
    lines: int
    bytes: int
    tokens: int
    """Of the input, about."""
    worst_nusd: int
    price: TokenPrice
    made_at: str
    intent_at: str | None
    creating_at: str | None
    submitted_at: str | None
    expires_at: str | None
    next_look_at: str | None
    cancelled_by: str | None
    ended_at: str | None
    message: str
    provider_done: int
    """Lines that the provider has done, as it last said."""
    unknown_lines: int
    """Results that settled nothing: of calls that nobody asked, or that could not be read."""
    deadline: JobDeadline | None
    turnaround_s: float | None
    """From its creation to its final state, by the provider's clock."""
    cancel_s: float | None
    """From the request to cancel it to its final state, by the provider's clock."""

    @property
    def lease(self) -> str:
        return f"{BATCH_LEASE}{self.job_id}"

    @property
    def file_name(self) -> str:
        return f"{self.digest}.jsonl"

    @property
    def bounds(self) -> dict[str, int]:
        """Its attempts: from `low` up to, and without, `high`."""
        return {"low": self.owner_id << OWNER_SHIFT, "high": (self.owner_id + 1) << OWNER_SHIFT}


def new(
    connection: sa.Connection,
    *,
    endpoint: str,
    kind: RequestKind,
    collection: str,
    run_id: str,
    price: TokenPrice,
    duplicate_of: str | None = None,
    deadline: JobDeadline | None = None,
) -> BatchJob:
    """A job with an owner for its attempts."""
    job_id = uuid.uuid4().hex[:12]
    owner: int = connection.execute(
        sa.text("INSERT INTO owners (lease, batch, reaped, worker_id) VALUES (:lease, 0, 0, NULL) RETURNING owner_id"),
        {"lease": f"{BATCH_LEASE}{job_id}"},
    ).scalar_one()
    row: dict[str, Any] = {
        "job_id": job_id, "owner_id": owner, "digest": "", "endpoint": endpoint, "kind": kind, "collection": collection,
        "run_id": run_id,
        "state": "filling", "provider_state": "", "past_ids": "[]", "doubted": 0, "duplicate_of": duplicate_of,
        "lines": 0, "bytes": 0, "tokens": 0, "worst_nusd": 0,
        "price": price.model_dump_json(by_alias=True, exclude_defaults=True),
        "made_at": now(), "message": "", "provider_done": 0, "unknown_lines": 0,
        "deadline": deadline.text if deadline is not None else None,
    }  # fmt: skip
    connection.execute(
        sa.text(f"INSERT INTO batch_jobs ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"), row
    )
    return get(connection, job_id)


def get(connection: sa.Connection, job_id: str) -> BatchJob:
    return _read(connection.execute(sa.text("SELECT * FROM batch_jobs WHERE job_id = :job"), {"job": job_id}).one())


def change(connection: sa.Connection, job: BatchJob, **values: Any) -> BatchJob:
    if "past_ids" in values:
        values["past_ids"] = json.dumps(values["past_ids"])
    changes = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        sa.text(f"UPDATE batch_jobs SET {changes} WHERE job_id = :job_id"), {**values, "job_id": job.job_id}
    )
    return get(connection, job.job_id)


def drop(connection: sa.Connection, job: BatchJob) -> None:
    """One that no call was ever put into."""
    connection.execute(sa.text("DELETE FROM batch_jobs WHERE job_id = :job"), {"job": job.job_id})


def unended(connection: sa.Connection, collection: str | None = None) -> list[BatchJob]:
    """The oldest first; of a collection also those that it waits for, whoever made them."""
    where, given = "", {}
    if collection is not None:
        awaited = "SELECT job_id FROM batch_wait_jobs WHERE collection = :collection"
        where = f" AND (collection = :collection OR job_id IN ({awaited}) OR duplicate_of IN ({awaited}))"
        given = {"collection": collection}
    query = sa.text(f"SELECT * FROM batch_jobs WHERE state <> 'ended'{where} ORDER BY made_at, job_id")
    return [_read(row) for row in connection.execute(query, given)]


def after_restore(connection: sa.Connection) -> None:
    """The store is older than what happened: what had not been created by then may have been since, so it is looked up.

    A file that was being filled is not known by its name, so its lines may have been billed.
    """
    connection.execute(
        sa.text(
            "UPDATE batch_jobs SET doubted = 1, state = CASE WHEN state = 'uploaded' THEN 'creating' ELSE state END "
            "WHERE state IN ('filling', 'sealed', 'uploaded', 'creating')"
        )
    )


def listed(connection: sa.Connection, *, ended: bool, most: int = 200) -> list[BatchJob]:
    """The newest first; with `ended` those that are over too."""
    where = "" if ended else "WHERE state <> 'ended'"
    query = sa.text(f"SELECT * FROM batch_jobs {where} ORDER BY made_at DESC, job_id LIMIT :most")
    return [_read(row) for row in connection.execute(query, {"most": most})]


def found(connection: sa.Connection, named: str) -> list[BatchJob]:
    """Those whose id begins so, or which the provider calls so."""
    query = sa.text("SELECT * FROM batch_jobs WHERE substr(job_id, 1, :long) = :named OR provider_id = :named")
    return [_read(row) for row in connection.execute(query, {"named": named, "long": len(named)})]


def enqueued_tokens(connection: sa.Connection, endpoint: str) -> int:
    """Of the batches that are at the provider of this endpoint."""
    query = sa.text(
        "SELECT COALESCE(sum(tokens), 0) FROM batch_jobs WHERE endpoint = :endpoint AND duplicate_of IS NULL "
        "AND state IN ('creating', 'submitted')"
    )
    return int(connection.execute(query, {"endpoint": endpoint}).scalar_one())


def attempt_counts(connection: sa.Connection, job: BatchJob) -> Mapping[str, int]:
    """Attempts of its calls by state."""
    query = sa.text(
        "SELECT state, count(*) AS number FROM attempts WHERE attempt_id >= :low AND attempt_id < :high GROUP BY state"
    )
    return {row.state: int(row.number) for row in connection.execute(query, job.bounds)}


def cost_nusd(connection: sa.Connection, job: BatchJob) -> int:
    query = sa.text("SELECT COALESCE(sum(cost_nusd), 0) FROM attempts WHERE attempt_id >= :low AND attempt_id < :high")
    return int(connection.execute(query, job.bounds).scalar_one())


def _read(row: Any) -> BatchJob:
    values = dict(row._mapping)
    values["price"] = TokenPrice.model_validate_json(values["price"])
    values["past_ids"] = tuple(json.loads(values["past_ids"]))
    values["doubted"] = bool(values["doubted"])
    values["deadline"] = JobDeadline.of(values["deadline"])
    return BatchJob(**values)


# Who waits


@dataclass(frozen=True, kw_only=True)
class BatchWait:
    """An asset of a partition that batches hold up: some of its calls travel in them, or they have its money."""

    collection: str
    asset: str
    partition: str
    since: str
    run_id: str
    calls: int
    """What it asks in all; 0 where it asks one by one, and waits for money only."""
    waiting: int
    """Of them, those that no run can go on with before a batch has ended."""
    held_by: str | None
    """Who cancelled a batch of it, or that the provider refused one: a person has it go on."""
    budgets: tuple[str, ...]
    """Whose money batches on their way hold, so that it could not ask more."""
    has_news: bool
    """All that it stood on has ended, and no run has looked since."""

    @property
    def answered(self) -> int:
        return max(self.calls - self.waiting, 0)

    @property
    def said(self) -> str:
        return waiting_said(self.answered, self.calls, self.budgets)


def since(connection: sa.Connection, caller: Caller) -> str | None:
    """When the asset began to wait; None where it does not."""
    query = sa.text(f"SELECT since FROM batch_waits WHERE {_OF}")
    found: str | None = connection.execute(query, _of(caller)).scalar_one_or_none()
    return found


def begin_wait(connection: sa.Connection, caller: Caller, at: str) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO batch_waits (collection, asset, partition, since, run_id, calls) "
            "VALUES (:c, :a, :p, :at, :run, 0) ON CONFLICT (collection, asset, partition) DO NOTHING"
        ),
        {**_of(caller), "at": at, "run": caller.run_id},
    )


def keep_wait(
    connection: sa.Connection,
    caller: Caller,
    calls: int,
    at: str,
    awaited: AwaitedCalls,
    deadline: JobDeadline | None = None,
) -> None:
    """It goes on waiting, of so many calls, for the batches that these stand on. With a deadline none of them that its
    calls are lines of stays longer than that allows."""
    begin_wait(connection, caller, at)
    connection.execute(
        sa.text(f"UPDATE batch_waits SET calls = :calls, run_id = :run, held_by = NULL WHERE {_OF}"),
        {**_of(caller), "calls": calls, "run": caller.run_id},
    )
    connection.execute(sa.text(f"DELETE FROM batch_wait_jobs WHERE {_OF}"), _of(caller))
    stood_on = {(job, ""): lines for job, lines in awaited.lines.items()}
    for held, number in awaited.held.items():
        stood_on |= {(job, held.name): number for job in held.jobs}
    if stood_on:
        connection.execute(
            sa.text(
                "INSERT INTO batch_wait_jobs (collection, asset, partition, job_id, budget, lines) "
                "VALUES (:c, :a, :p, :job, :budget, :lines)"
            ),
            [
                {**_of(caller), "job": job, "budget": budget, "lines": lines}
                for (job, budget), lines in stood_on.items()
            ],
        )
    if deadline is not None:
        for job in awaited.lines:
            _due_earlier(connection, job, deadline)


def _due_earlier(connection: sa.Connection, job_id: str, deadline: JobDeadline) -> None:
    """Where it has none or a later one, somebody who put no call into it needs the answers by then."""
    job = get(connection, job_id)
    if job.state != "ended" and (job.deadline is None or job.deadline.due_at > deadline.due_at):
        change(connection, job, deadline=deadline.text)


def take_up(connection: sa.Connection, collection: str, partition: str, asset: str) -> None:
    """A run looks again at what it waited for: what has ended is no news any more."""
    connection.execute(
        sa.text(
            f"DELETE FROM batch_wait_jobs WHERE {_OF} AND NOT EXISTS (SELECT 1 FROM batch_jobs "
            "WHERE batch_jobs.job_id = batch_wait_jobs.job_id AND batch_jobs.state <> 'ended')"
        ),
        {"c": collection, "a": asset, "p": partition},
    )


def end_wait(connection: sa.Connection, caller: Caller) -> None:
    forget_wait(connection, caller.collection, caller.partition, caller.asset)


def forget_wait(connection: sa.Connection, collection: str, partition: str, asset: str) -> None:
    for table in ("batch_waits", "batch_wait_jobs"):
        connection.execute(sa.text(f"DELETE FROM {table} WHERE {_OF}"), {"c": collection, "a": asset, "p": partition})


def waits(connection: sa.Connection, collection: str | None = None) -> list[BatchWait]:
    where, given = "", {}
    if collection is not None:
        where, given = "WHERE waits.collection = :collection", {"collection": collection}
    rows: Sequence[Any] = connection.execute(
        sa.text(
            "SELECT waits.collection, waits.asset, waits.partition, since, waits.run_id, calls, held_by, "
            "on_jobs.budget, on_jobs.lines, CASE WHEN batch_jobs.state <> 'ended' THEN 1 ELSE 0 END AS is_open "
            "FROM batch_waits AS waits LEFT JOIN batch_wait_jobs AS on_jobs ON on_jobs.collection = waits.collection "
            "AND on_jobs.asset = waits.asset AND on_jobs.partition = waits.partition "
            f"LEFT JOIN batch_jobs ON batch_jobs.job_id = on_jobs.job_id {where} "
            "ORDER BY waits.collection, waits.partition, waits.asset"
        ),
        given,
    ).all()
    return [_wait([*found]) for _, found in groupby(rows, key=lambda row: (row.collection, row.partition, row.asset))]


def _wait(rows: Sequence[Any]) -> BatchWait:
    """One asset of a partition, by the batches that it stands on."""
    stood_on = [row for row in rows if row.lines is not None]
    waiting = sum(int(row.lines) for row in stood_on if row.is_open and not row.budget)
    by_budget: dict[str, list[Any]] = {}
    for row in stood_on:
        if row.budget:
            by_budget.setdefault(row.budget, []).append(row)
    # The first of them to end brings money back.
    held = {name: found for name, found in by_budget.items() if all(row.is_open for row in found)}
    waiting += sum(max(int(row.lines) for row in found) for found in held.values())
    row = rows[0]
    return BatchWait(
        collection=row.collection, asset=row.asset, partition=row.partition, since=row.since, run_id=row.run_id,
        calls=int(row.calls), waiting=waiting, held_by=row.held_by, budgets=tuple(sorted(held)),
        has_news=bool(stood_on) and not waiting,
    )  # fmt: skip


def hold_waits(connection: sa.Connection, job: BatchJob, by: str) -> None:
    """Of the assets whose calls are in this job: somebody cancelled it, or it was refused for good, so that no run is
    asked for by itself. Other collections make a batch of their own."""
    connection.execute(
        sa.text(
            "UPDATE batch_waits SET held_by = :by WHERE collection = :collection AND EXISTS (SELECT 1 "
            "FROM batch_wait_jobs AS on_jobs WHERE on_jobs.collection = batch_waits.collection "
            "AND on_jobs.asset = batch_waits.asset AND on_jobs.partition = batch_waits.partition "
            "AND on_jobs.job_id = :job AND on_jobs.budget = '')"
        ),
        {"by": by, "job": job.job_id, "collection": job.collection},
    )


def refused(lease: Lease, job: BatchJob) -> None:
    """For good: the same calls in another batch would be refused as well, so that a person has them go on. What is due
    goes another way by itself."""
    if job.deadline is None and job.duplicate_of is None:
        with lease.fenced() as connection:
            hold_waits(connection, job, BY_REFUSAL)


def never_left(connection: sa.Connection, job: BatchJob) -> None:
    """Its provider could not be reached: what waits for it goes by the back-off of what failed."""
    connection.execute(sa.text("DELETE FROM batch_wait_jobs WHERE job_id = :job"), {"job": job.job_id})


def waiting_on(connection: sa.Connection, job: BatchJob) -> set[tuple[str, str, str]]:
    """Collections, assets and partitions whose calls are in it."""
    query = sa.text("SELECT collection, asset, partition FROM batch_wait_jobs WHERE job_id = :job AND budget = ''")
    return {(row.collection, row.asset, row.partition) for row in connection.execute(query, {"job": job.job_id})}


_OF = "collection = :c AND asset = :a AND partition = :p"


def _of(caller: Caller) -> dict[str, str]:
    return {"c": caller.collection, "a": caller.asset, "p": caller.partition}


def plus(moment: str, seconds: float) -> str:
    found = datetime.datetime.fromisoformat(moment) + datetime.timedelta(seconds=seconds)
    return found.isoformat(timespec="milliseconds")
