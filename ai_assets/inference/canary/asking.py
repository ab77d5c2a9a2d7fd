"""A run of a canary: its questions are asked once, by one process, within a budget of its own, and compared.

The answers are in the ledger under keys of that run alone: a stage never finds one, another run neither. A run that was
killed goes on, and what was answered then is not asked again.
"""

import datetime
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.inference.call_listener import CallListener, Hearing
from ai_assets.inference.canary import records
from ai_assets.inference.canary.comparing import compared
from ai_assets.inference.canary.question_set import KIND, CanarySet, question_set
from ai_assets.inference.canary.records import CanaryChange, CanaryRun
from ai_assets.inference.canary.vectors import measured, reference, without_vectors
from ai_assets.inference.canary_settings import CanarySettings
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import CanaryClosed, CanaryUndeclared
from ai_assets.inference.identity import model_of
from ai_assets.inference.prices import nusd_of, usd_of
from ai_assets.inference.records import Answer, Caller, Request
from ai_assets.inference.settings import Budget, Endpoint, InferenceSettings
from ai_assets.storage.digest import digest
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore, now

SAMPLES = 1 << 40
"""Above the samples of any stage: the key of a call holds its sample, so no other call has a canary's key."""
MOST_REPEATS = 16
TIMEOUT_S = 30.0
PATIENCE_S = 60.0
"""Nobody waits for a canary: an endpoint that does not answer is asked again at the next time."""
LEAST_ANSWERED = 0.5
"""Of the questions; with fewer answers there is nothing to compare."""


@dataclass(frozen=True, kw_only=True)
class DeclaredCanary:
    """What an endpoint declares, with all that is needed to ask."""

    endpoint: str
    declared: Endpoint
    settings: CanarySettings
    questions: CanarySet

    @property
    def subject(self) -> str:
        """With another one nothing that was answered before is comparable."""
        return digest([*model_of(self.declared), self.questions.digest])


def declared(name: str, settings: InferenceSettings, inference: Path) -> DeclaredCanary:
    """Raises CanaryUndeclared, or CanaryInvalid where its file is wrong."""
    found = settings.endpoints.get(name)
    if found is None or found.canary is None:
        raise CanaryUndeclared(name, list(settings.endpoints), canaries(settings), inference)
    return DeclaredCanary(
        endpoint=name, declared=found, settings=found.canary, questions=question_set(found.canary, inference)
    )


def canaries(settings: InferenceSettings) -> list[str]:
    return [name for name, endpoint in settings.endpoints.items() if endpoint.canary is not None]


def due_at(last: CanaryRun | None, settings: CanarySettings) -> str | None:
    """When it is to be asked next; None: now."""
    if last is None or last.state == "open":
        return None
    began = datetime.datetime.fromisoformat(last.started_at)
    found = (began + datetime.timedelta(seconds=settings.every_s)).isoformat(timespec="milliseconds")
    return None if found <= now() else found


Tell = Callable[[sa.Connection, CanaryChange], object]
"""Tells people of a change, in the transaction that records it."""


Hear = Callable[[CanaryRun], AbstractContextManager[Hearing]]
"""Who hears of the calls of a run, such as for traces; asked only where there is one."""


def asked(
    canary: DeclaredCanary,
    settings: InferenceSettings,
    state: StateStore,
    *,
    only_due: bool = False,
    tell: Tell = lambda _connection, _change: None,
    hear: Hear = lambda _run: nullcontext(Hearing()),
) -> CanaryRun | None:
    """The run, and its change where it shows one; None: it is not due. Raises LeaseBusy where another process asks."""
    if not canary.declared.hours.allowed(datetime.datetime.now(datetime.UTC)):
        raise CanaryClosed(canary.endpoint)
    with hold(state, f"canary:{canary.endpoint}", wait_s=0) as lease:
        with lease.fenced() as connection:
            last = records.last_run(connection, canary.endpoint)
            if only_due and due_at(last, canary.settings) is not None:
                return None
            if last is not None and last.state == "open" and not _goes_on(last, canary):
                records.end_run(
                    connection, replace(last, state="no answer", ended_at=now(), problem="it was broken off")
                )
            goes_on = last is not None and last.state == "open" and _goes_on(last, canary)
            run = last if goes_on and last is not None else records.begin_run(
                connection, canary.endpoint, canary.declared.llm, canary.subject
            )  # fmt: skip
        with hear(run) as hearing:
            run = _answered(run, canary, settings, state, hearing.calls)
            hearing.problem = (run.problem or "no answer") if run.state == "no answer" else None
        with state.read() as connection:
            epoch = records.runs_of(connection, canary.endpoint, epoch=run.epoch)
            waiting = [
                each for each in records.changes_of(connection, canary.endpoint, only_open=True)
                if epoch and each.run_id >= epoch[0].run_id
            ]  # fmt: skip
        verdict, others = None, _of_epoch([each for each in epoch if each.run_id != run.run_id])
        run = replace(run, answers=measured(run.answers, reference(others)))
        if run.state == "asked":
            verdict = compared([*others, run], canary.settings, waiting)
        if reference(others) and not (verdict and verdict.facts):
            run = replace(run, answers=without_vectors(run.answers))
        with lease.fenced() as connection:
            records.end_run(connection, run)
            if verdict is not None and verdict.facts:
                tell(connection, records.add_change(connection, run, verdict.alike_at, verdict.facts))
        return run


def _of_epoch(runs: Sequence[CanaryRun]) -> list[CanaryRun]:
    """The first of an epoch is what the others are held against: after an accepted change, not what was before it."""
    return [*(replace(run, answers=measured(run.answers, {})) for run in runs[:1]), *runs[1:]]


def _goes_on(run: CanaryRun, canary: DeclaredCanary) -> bool:
    """A killed run is of one time: answers of another day and of another set do not belong to it."""
    began = datetime.datetime.fromisoformat(run.started_at)
    age_s = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
    return run.subject == canary.subject and age_s < min(canary.settings.every_s, 3600.0)


def requests_of(canary: DeclaredCanary, run_id: int) -> list[Request]:
    return [
        question.request(canary.endpoint, canary.questions.temperature, SAMPLES + run_id * MOST_REPEATS + repeat)
        for question in canary.questions.questions
        for repeat in range(canary.settings.repeats)
    ]


def _answered(
    run: CanaryRun,
    canary: DeclaredCanary,
    settings: InferenceSettings,
    state: StateStore,
    listener: CallListener | None,
) -> CanaryRun:
    own = Budget(
        name=f"{KIND}-{canary.endpoint}"[:60], limit_usd=canary.settings.budget_usd, each="run", of={"asset": KIND}
    )
    endpoint = canary.declared.model_copy(update={
        "patience_s": min(canary.declared.patience_s, PATIENCE_S),
        "timeout_s": min(canary.declared.timeout_s, TIMEOUT_S),
    })  # fmt: skip
    once = InferenceSettings.model_validate({
        "endpoints": {canary.endpoint: endpoint}, "budgets": [*settings.budgets, own], "retries": settings.retries,
        "retry_share": settings.retry_share,
    })  # fmt: skip
    caller = Caller(asset=KIND, run_id=f"{KIND}-{run.run_id}")
    asked_for = requests_of(canary, run.run_id)
    answers, problems, cost_nusd = [], [], 0
    try:
        with Engine(once, state, listener=listener) as engine:
            for result in engine.map(asked_for, caller):
                cost_nusd += nusd_of(round(result.cost_usd + result.saved_usd, 9))
                if isinstance(result, Answer):
                    answers.append(records.answer_of(result.request.document, result))
                else:
                    problems.append(f"{result.error}: {result.message}")
    except UserError as error:
        problems.append(str(error))
    enough = len({each.question for each in answers}) >= LEAST_ANSWERED * len(canary.questions.questions)
    problem = problems[0] if problems else None
    return replace(
        run, state="asked" if enough else "no answer", ended_at=now(), answers=tuple(answers), problem=problem,
        cost_nusd=cost_nusd,
    )  # fmt: skip


def cost_usd(run: CanaryRun) -> float:
    return usd_of(run.cost_nusd)
