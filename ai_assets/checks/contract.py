"""Whether a candidate keeps what readers were promised, as a check of `release_candidate`.

Where it does not, that holds the candidate back as a gate of the request; see `signoff/contracts.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset
from ai_assets.collection.settings import CONTRACT_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection


class ContractCheck(Check):
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        if collection.contract is None:
            return []
        description = (
            f"Columns, types, values and vectors that version {collection.contract.contract.version} promises."
        )
        return [CheckSpec(name=CONTRACT_CHECK, asset="release_candidate", description=description, blocking=False)]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.signoff.frozen_candidate import FrozenCandidate

        found = context.work.contract(FrozenCandidate.of(dataset.manifest))
        assert found is not None
        failures = [] if found.passed else [found.sentence]
        return CheckResult(
            passed=found.passed, failures=failures, details={"said": found.sentence, "broken": found.value}
        )
