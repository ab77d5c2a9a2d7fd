"""The gate on how many documents a model gave a usable answer for: every stage on a route has one. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.evaluation.scoring import ANSWERED_SHARE, Gate, GateResult

LEAST_SHARE = 0.8
"""Unless declared otherwise, and then an approver may waive it: in a partition of three documents one refusal is enough
to fall below it. See docs/adr/0026-asking-again.md.
"""


@dataclass(frozen=True, kw_only=True)
class Answered:
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


def judge_answered(gate: Gate, found: Answered) -> GateResult:
    """A stage that asked nothing passes. One without a single answer fails, and nobody can waive that; a declared
    minimum of 0 lets everything through.
    """
    if not found.asked:
        message = f"{gate.name}: no document came to this stage"
        return GateResult(gate=gate, passed=True, value=None, n=0, message=message)
    share = found.answered / found.asked
    passed = share >= gate.min and (found.answered > 0 or gate.min == 0)
    if not found.answered:
        gate = gate.model_copy(update={"waivable": False})
    why = ", ".join(f"{number} {error}" for error, number in sorted(found.errors.items(), key=lambda item: -item[1]))
    message = (
        f"{gate.name} {share:.3g} {'reaches' if passed else 'is below'} the minimum {gate.min:g}: {found.answered} of "
        f"{found.asked} documents have an answer{f' (the others: {why})' if why else ''}"
    )
    return GateResult(gate=gate, passed=passed, value=share, n=found.asked, message=message)
