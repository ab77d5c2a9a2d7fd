"""Runs of a canary and the changes they found, as the state store keeps them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.inference.records import NO_USAGE, Answer
from ai_assets.storage.state import now

RunState = Literal["open", "asked", "no answer"]
FactKind = Literal[
    "model", "fingerprint", "input tokens", "answers", "confidence", "length", "output tokens", "vectors", "dimensions"
]


@dataclass(frozen=True, kw_only=True)
class CanaryAnswer:
    """One answer to one question; what the provider does not say is None."""

    question: str
    answer: str
    confidence: float | None
    """How probable its tokens were: all together where it had choices, each on average else."""
    characters: int
    input_tokens: int | None
    output_tokens: int | None
    model: str
    fingerprint: str | None
    dimensions: int | None = None
    """Of a text that was embedded: how many numbers its vector has."""
    distance: float | None = None
    """How far its vector is from the one that is kept, by cosine: 0 is the same direction, 1 none in common."""
    vector: str | None = None
    """At length one; of the runs that others are held against."""


def answer_of(question: str, answer: Answer) -> CanaryAnswer:
    from ai_assets.inference.canary.vectors import packed

    chosen = answer.data.get("answer") if isinstance(answer.data, Mapping) else None
    said = str(chosen) if chosen is not None else answer.text.strip()
    sure = None
    if answer.token_logprobs:
        total = math.fsum(logprob for _, logprob in answer.token_logprobs)
        sure = math.exp(total if chosen is not None else total / len(answer.token_logprobs))
    usage = None if answer.usage == NO_USAGE else answer.usage
    return CanaryAnswer(
        question=question, answer=said, confidence=sure, characters=len(said),
        input_tokens=usage.input_tokens if usage else None, output_tokens=usage.output_tokens if usage else None,
        model=answer.model, fingerprint=answer.fingerprint, dimensions=len(answer.vector) or None,
        vector=packed(answer.vector) if answer.vector else None,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CanaryRun:
    run_id: int
    endpoint: str
    epoch: int
    subject: str
    model: str
    """As it is declared."""
    state: RunState
    started_at: str
    ended_at: str | None
    answers: tuple[CanaryAnswer, ...] = ()
    problem: str | None = None
    """Why there is no answer."""
    cost_nusd: int = 0


@dataclass(frozen=True, kw_only=True)
class CanaryFact:
    """What differs, in a sentence; `p` is None of what is no matter of chance."""

    kind: FactKind
    sentence: str
    size: float | None = None
    p: float | None = None


@dataclass(frozen=True, kw_only=True)
class CanaryChange:
    change_id: int
    endpoint: str
    model: str
    run_id: int
    alike_at: str
    """When the last run began whose answers were as before."""
    found_at: str
    """When the first run ended whose answers were not."""
    facts: tuple[CanaryFact, ...]
    accepted_at: str | None = None
    accepted_by: str | None = None
    reason: str | None = None

    @property
    def dated(self) -> str:
        return f"between {self.alike_at[:16]} and {self.found_at[:16]} UTC"

    @property
    def sentence(self) -> str:
        said = "; ".join(fact.sentence for fact in self.facts)
        return f"{self.endpoint} ({self.model}) changed {self.dated}: {said}"

    @property
    def open(self) -> bool:
        return self.accepted_at is None


def _as_kept(answer: CanaryAnswer) -> dict[str, Any]:
    """What only vectors have is there only where there are some."""
    of_vectors = ("dimensions", "distance", "vector")
    return {name: value for name, value in asdict(answer).items() if name not in of_vectors or value is not None}


def _run(row: Any) -> CanaryRun:
    answers = tuple(CanaryAnswer(**each) for each in json.loads(row["answers"]))
    return CanaryRun(**{**row, "answers": answers})


def runs_of(connection: sa.Connection, endpoint: str, *, epoch: int | None = None) -> list[CanaryRun]:
    """In order."""
    only = "" if epoch is None else " AND epoch = :epoch"
    query = sa.text(f"SELECT * FROM canary_runs WHERE endpoint = :endpoint{only} ORDER BY run_id")  # noqa: S608
    given = {"endpoint": endpoint, "epoch": epoch} if only else {"endpoint": endpoint}
    return [_run(dict(row)) for row in connection.execute(query, given).mappings()]


def last_run(connection: sa.Connection, endpoint: str) -> CanaryRun | None:
    query = sa.text("SELECT * FROM canary_runs WHERE endpoint = :endpoint ORDER BY run_id DESC LIMIT 1")
    row = connection.execute(query, {"endpoint": endpoint}).mappings().one_or_none()
    return None if row is None else _run(dict(row))


def begin_run(connection: sa.Connection, endpoint: str, model: str, subject: str) -> CanaryRun:
    """Another subject than the last run's is held against nothing that was before."""
    last = last_run(connection, endpoint)
    epoch = 1 if last is None else last.epoch + (last.subject != subject)
    given = {"endpoint": endpoint, "epoch": epoch, "subject": subject, "model": model, "started_at": now()}
    run_id: int = connection.execute(
        sa.text(
            "INSERT INTO canary_runs (endpoint, epoch, subject, model, state, started_at, answers, cost_nusd) "
            "VALUES (:endpoint, :epoch, :subject, :model, 'open', :started_at, '[]', 0) RETURNING run_id"
        ),
        given,
    ).scalar_one()
    return CanaryRun(
        run_id=run_id, endpoint=endpoint, epoch=epoch, subject=subject, model=model, state="open",
        started_at=str(given["started_at"]), ended_at=None,
    )  # fmt: skip


def end_run(connection: sa.Connection, run: CanaryRun) -> None:
    connection.execute(
        sa.text(
            "UPDATE canary_runs SET state = :state, ended_at = :ended_at, answers = :answers, problem = :problem, "
            "cost_nusd = :cost_nusd WHERE run_id = :run_id"
        ),
        {
            "state": run.state, "ended_at": run.ended_at, "problem": run.problem, "cost_nusd": run.cost_nusd,
            "run_id": run.run_id, "answers": json.dumps([_as_kept(each) for each in run.answers]),
        },
    )  # fmt: skip


def changes_of(
    connection: sa.Connection, endpoint: str | None = None, *, only_open: bool = False
) -> list[CanaryChange]:
    """In order."""
    wanted = ["endpoint = :endpoint"] if endpoint is not None else []
    wanted += ["accepted_at IS NULL"] if only_open else []
    where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
    query = sa.text(f"SELECT * FROM canary_changes{where} ORDER BY change_id")  # noqa: S608
    rows = connection.execute(query, {"endpoint": endpoint} if endpoint is not None else {}).mappings()
    return [CanaryChange(**{**row, "facts": tuple(CanaryFact(**each) for each in json.loads(row["facts"]))})
            for row in rows]  # fmt: skip


def add_change(connection: sa.Connection, run: CanaryRun, alike_at: str, facts: Sequence[CanaryFact]) -> CanaryChange:
    connection.execute(
        sa.text(
            "INSERT INTO canary_changes (endpoint, model, run_id, alike_at, found_at, facts) "
            "VALUES (:endpoint, :model, :run_id, :alike_at, :found_at, :facts)"
        ),
        {
            "endpoint": run.endpoint, "model": run.model, "run_id": run.run_id, "alike_at": alike_at,
            "found_at": run.ended_at, "facts": json.dumps([asdict(fact) for fact in facts]),
        },
    )  # fmt: skip
    return changes_of(connection, run.endpoint)[-1]


def last_accepted(connection: sa.Connection) -> str | None:
    """When somebody took a changed model as it is for the last time."""
    found: str | None = connection.execute(sa.text("SELECT max(accepted_at) FROM canary_changes")).scalar_one()
    return found


def close_changes(connection: sa.Connection, endpoint: str, *, by: str, reason: str, at: str) -> None:
    """What the last change left is the new baseline: runs from then on are held against each other."""
    open_ones = changes_of(connection, endpoint, only_open=True)
    connection.execute(
        sa.text(
            "UPDATE canary_changes SET accepted_at = :at, accepted_by = :by, reason = :reason "
            "WHERE endpoint = :endpoint AND accepted_at IS NULL"
        ),
        {"at": at, "by": by, "reason": reason, "endpoint": endpoint},
    )
    connection.execute(
        sa.text("UPDATE canary_runs SET epoch = epoch + 1 WHERE endpoint = :endpoint AND run_id >= :first"),
        {"endpoint": endpoint, "first": open_ones[-1].run_id},
    )
