"""The ceilings on cost, latency and shares, as a check of what each of them is of. They stop the candidate and no
stage, so that all of them are said."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset
from ai_assets.checks.gates import as_result
from ai_assets.collection.ceilings import asset_of
from ai_assets.collection.settings import CEILINGS_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection


class CeilingsCheck(Check):
    stops_at_once = False

    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        ceilings = collection.settings.ceilings
        return [
            CheckSpec(
                name=CEILINGS_CHECK,
                asset=asset,
                description=f"Declared maximums: {', '.join(each.in_words for each in found)}. "
                "Above one of them no candidate is made.",
                blocking=asset != "release_candidate" and not all(each.waivable for each in found),
            )
            for asset in dict.fromkeys(map(asset_of, ceilings))
            if (found := [each for each in ceilings if asset_of(each) == asset])
        ]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.run.datasets.ceilings import ceiling_verdicts

        verdicts = ceiling_verdicts(context.work, dataset.partition, dataset.asset)
        return as_result(
            verdicts, {verdict.name: verdict.value for verdict in verdicts if verdict.value is not None}
        )  # fmt: skip
