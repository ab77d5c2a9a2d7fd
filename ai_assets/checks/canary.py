"""Whether rows of a candidate were made after a model was changed under its name, as a check of `release_candidate`.

Where a canary is declared to hold a candidate back it does so as a gate of the request; see `signoff/canaries.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset
from ai_assets.collection.settings import CANARY_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection


class CanaryCheck(Check):
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        if not collection.canaries:
            return []
        description = f"Rows that were made after a model changed under its name: {', '.join(collection.canaries)}."
        return [CheckSpec(name=CANARY_CHECK, asset="release_candidate", description=description, blocking=False)]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.signoff.frozen_candidate import FrozenCandidate

        found = context.work.canary(FrozenCandidate.of(dataset.manifest))
        return CheckResult(
            passed=not found.made,
            failures=[f"canary: {sentence}" for sentence in found.sentences],
            details={"said": found.verdict.sentence, "rows": found.verdict.n},
        )
