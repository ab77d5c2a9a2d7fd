"""Whether a candidate's documents still look like those that are published, as a check of `release_candidate`.

Where drift is declared to hold a candidate back it does so as a gate of the request; see `signoff/drifting.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset
from ai_assets.collection.settings import DRIFT_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection

MOST_TOLD = 40


class DriftCheck(Check):
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        settings = collection.settings.drift
        if settings is None:
            return []
        sides = " and ".join(settings.sides(collection.settings.partitions))
        description = f"Lengths, languages, sources, labels, confidence, words and vectors against: {sides}."
        return [CheckSpec(name=DRIFT_CHECK, asset="release_candidate", description=description, blocking=False)]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.signoff.frozen_candidate import FrozenCandidate

        found = context.work.drift.found(FrozenCandidate.of(dataset.manifest))
        measured = {
            f"{each.place} against {each.against}": each.effect for each in found.comparisons if each.effect is not None
        }
        return CheckResult(
            passed=not found.drifted,
            failures=[f"drift: {each.in_words}" for each in found.drifted],
            details={
                "said": found.verdict.sentence,
                **measured,
                "comparisons": [each.as_data() for each in found.comparisons[:MOST_TOLD]],
            },
        )
