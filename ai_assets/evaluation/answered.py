"""The gate on how many documents a model gave a usable answer for: every stage on a route has one. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.base.plural import plural
from ai_assets.evaluation.figures import figure
from ai_assets.evaluation.gates import Gate, GateCase
from ai_assets.evaluation.scoring import ANSWERED_SHARE, Score
from ai_assets.evaluation.verdict import Baseline, GateVerdict

LEAST_SHARE = 0.8
"""Unless declared otherwise, and then an approver may waive it: in a partition of three documents one refusal is enough
to fall below it. See docs/adr/0026-asking-again.md.
"""


@dataclass(frozen=True, kw_only=True)
class AnswerCounts:
    """One stage of one partition, without the documents that it did not ask about."""

    stage: str
    asked: int
    answered: int
    """With a usable answer, or a person's label."""
    errors: Mapping[str, int]
    """Of the others, by class."""


def answered_gate(declared: Sequence[Gate], stage: str) -> Gate:
    """The gate that names the stage, else the one for all of them, else the default."""
    found = [gate for gate in declared if gate.metric == ANSWERED_SHARE and gate.stage in (stage, None)]
    found.sort(key=lambda gate: gate.stage is None)
    if not found:
        return Gate(metric=ANSWERED_SHARE, stage=stage, min=LEAST_SHARE, waivable=True)
    return Gate(metric=ANSWERED_SHARE, stage=stage, min=found[0].min, waivable=found[0].waivable)


def judge_answered(gate: Gate, found: AnswerCounts) -> GateVerdict:
    """A stage that asked nothing passes. One without a single answer fails, and nobody can waive that; a declared
    minimum of 0 lets everything through.
    """
    share = found.answered / found.asked if found.asked else None
    if not found.answered:
        gate = gate.model_copy(update={"waivable": False})
    score = Score(metric=gate.metric, scope="partition", stage=gate.stage, value=share, n=found.asked)
    case = GateCase(gate=gate, score=score, live=None, live_release=None, pending=0, absent=0)
    declared = Baseline(kind="declared", value=gate.least)
    if share is None:
        return case.passed(f"{gate.name}: no document came to this stage", baseline=declared)
    passed = share >= gate.least and (found.answered > 0 or gate.least == 0)
    why = ", ".join(f"{number} {error}" for error, number in sorted(found.errors.items(), key=lambda item: -item[1]))
    say = case.passed if passed else case.failed
    return say(
        f"{gate.name} {figure(share, gate.least)} {'reaches' if passed else 'is below'} the minimum {gate.least:g}: "
        f"{found.answered} of {plural(found.asked, 'document has', 'documents have')} "
        f"an answer{f' (the others: {why})' if why else ''}",
        baseline=declared,
        margin=share - gate.least,
    )
