"""How the model of an endpoint stands: what its canary found last, and what waits for somebody."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from ai_assets.base.blocking import Blocks
from ai_assets.base.plural import plural
from ai_assets.inference.canary import records
from ai_assets.inference.canary.asking import canaries, cost_usd, due_at
from ai_assets.inference.canary.records import CanaryChange
from ai_assets.inference.settings import InferenceSettings

CanaryState = Literal["never asked", "learning", "alike", "changed", "no answer", "asking"]


@dataclass(frozen=True, kw_only=True)
class CanaryStatus:
    endpoint: str
    model: str
    state: CanaryState
    said: str
    """One sentence."""
    blocks: Blocks
    last_at: str | None
    """When the last run began."""
    due_at: str | None
    """When it is asked next; None: now."""
    alike_at: str | None
    """When the last run began that had an answer and showed no change."""
    runs: int
    """With an answer, since the baseline began."""
    cost_usd: float
    """Of all its runs."""
    changes: tuple[CanaryChange, ...]
    """Those that wait to be accepted."""


def statuses(connection: sa.Connection, settings: InferenceSettings, names: Sequence[str] = ()) -> list[CanaryStatus]:
    """Of the endpoints that declare a canary, or of some of them."""
    return [_status(connection, settings, name) for name in names or canaries(settings)]


def _status(connection: sa.Connection, settings: InferenceSettings, name: str) -> CanaryStatus:
    endpoint = settings.endpoints[name]
    declared = endpoint.canary
    assert declared is not None
    every = records.runs_of(connection, name)
    waiting = tuple(records.changes_of(connection, name, only_open=True))
    last = every[-1] if every else None
    answered = [run for run in every if last is not None and run.epoch == last.epoch and run.state == "asked"]
    alike = [run for run in answered if not waiting or run.run_id < waiting[0].run_id]
    state: CanaryState
    if last is None:
        state, said = "never asked", "it was never asked"
    elif waiting:
        state, said = "changed", "; ".join(change.sentence for change in waiting)
    elif last.state == "no answer":
        state, said = "no answer", f"no answer at {last.started_at[:16]} UTC: {last.problem}"
    elif last.state == "open":
        state, said = "asking", f"it is being asked, or the process that asked died, since {last.started_at[:16]} UTC"
    elif len(answered) < declared.baseline:
        state, said = "learning", f"run {len(answered)} of the {declared.baseline} that are its baseline"
    elif len(answered) == declared.baseline:
        state, said = "alike", "the baseline is complete"
    else:
        state, said = "alike", f"{plural(len(answered) - declared.baseline, 'run')} since the baseline, all alike"
    return CanaryStatus(
        endpoint=name, model=endpoint.llm, state=state, said=said, blocks=declared.blocks,
        last_at=last.started_at if last else None, due_at=due_at(last, declared),
        alike_at=alike[-1].started_at if alike else None, runs=len(answered),
        cost_usd=sum(map(cost_usd, every)), changes=waiting,
    )  # fmt: skip
