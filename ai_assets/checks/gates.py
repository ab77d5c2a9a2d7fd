"""The gates on evaluation scores, as a check of `evaluation_scores`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import UserError
from ai_assets.checks.base import Check, CheckContext, CheckOutcome, CheckResult, CheckSpec, Dataset
from ai_assets.checks.errors import GateFailed
from ai_assets.collection.settings import GATES_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.evaluation.verdict import GateVerdict


def _judged_by(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The golden set of the scores, and which of its items a prompt shows."""
    golden, leaked = stats.get("golden"), stats["details"].get("leaked", ())
    found = {} if golden is None else {"golden set": f"{golden['set']} ({golden['digest']})"}
    shown = "\n".join(f"{each['item']}: {each['where']}" for each in leaked)
    return {**found, f"leaked, {golden['leaked are']}": shown} if golden is not None and shown else found


def as_result(
    verdicts: "Sequence[GateVerdict]", values: Mapping[str, float], more: Mapping[str, Any] | None = None
) -> CheckResult:
    """What a check says of them: the values first, as Dagster plots them, then the sentences."""
    failed = [verdict.sentence for verdict in verdicts if verdict.holds]
    return CheckResult(
        passed=not failed,
        blocking=any(verdict.stops for verdict in verdicts),
        failures=failed,
        details={
            **values,
            "gates": "\n".join(verdict.sentence for verdict in verdicts),
            **(more or {}),
            "verdicts": [verdict.as_data() for verdict in verdicts],
        },
    )


class GatesCheck(Check):
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        gates = collection.settings.score_gates
        if not gates:
            return []
        listed = ", ".join(gate.in_words for gate in gates)
        kind = "minimums" if all(gate.use is None for gate in gates) else "gates"
        description = f"Declared {kind}: {listed}. Below one of them no candidate is made."
        return [CheckSpec(name=GATES_CHECK, asset="evaluation_scores", description=description, blocking=True)]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.run.datasets.score_gates import gate_verdicts

        verdicts = gate_verdicts(context.work, dataset.manifest)
        metrics = [verdict.metric for verdict in verdicts]
        values = {
            verdict.metric if metrics.count(verdict.metric) == 1 else verdict.name: verdict.value
            for verdict in verdicts
            if verdict.value is not None
        }
        return as_result(verdicts, values, _judged_by(dataset.manifest.stats))

    def refusal(self, outcome: CheckOutcome) -> UserError:
        """Of all gates that failed those that nobody can waive."""
        from ai_assets.evaluation.verdict import GateVerdict

        verdicts = map(GateVerdict.of, outcome.details["verdicts"])
        return GateFailed([each for each in verdicts if each.stops])
