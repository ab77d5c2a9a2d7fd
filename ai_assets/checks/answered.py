"""Whether a stage that asks models has enough answers. It stops the candidate and no stage: what follows asks about the
documents that do have an answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset
from ai_assets.collection.settings import ANSWERED_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection


class AnsweredCheck(Check):
    stops_at_once = False

    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        return [
            CheckSpec(
                name=ANSWERED_CHECK,
                asset=str(gate.stage),
                description=f"At least {gate.least:.0%} of the documents that were asked about have a usable answer, "
                "and one of them at least. Otherwise no candidate is made.",
                blocking=not gate.waivable,
            )
            for gate in collection.settings.answered_gates
        ]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.run.datasets.answered import verdict_of

        verdict = verdict_of(context.work, dataset.manifest)
        baseline = verdict.baseline
        return CheckResult(
            passed=verdict.passed,
            blocking=verdict.stops,
            failures=[verdict.sentence] if verdict.holds else [],
            details={
                "documents_asked": verdict.n,
                "minimum": baseline.value if baseline else None,
                **({} if verdict.value is None else {"answered_share": verdict.value}),
                "verdicts": [verdict.as_data()],
            },
        )
