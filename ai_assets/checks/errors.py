"""Errors of checks. They hang below `UserError`.

QualityFailed, GateFailed, CheckFailed  a blocking check refused a partition
AnswersMissing                          a stage has no usable answer for too many documents
"""

from collections.abc import Sequence

from ai_assets.base.errors import UserError
from ai_assets.evaluation.verdict import NO_CANDIDATE, GateVerdict


class QualityFailed(UserError):
    def __init__(self, asset: str, failures: Sequence[str]) -> None:
        super().__init__(f"the quality suite of {asset} refuses it: {'; '.join(failures)}")


class GateFailed(UserError):
    """`verdicts`: those that stop the candidate."""

    def __init__(self, verdicts: Sequence[GateVerdict]) -> None:
        super().__init__(f"{'; '.join(each.sentence for each in verdicts)}. {NO_CANDIDATE}")
        self.verdicts = verdicts


class AnswersMissing(GateFailed):
    """`next_at`: when the next run asks again by itself."""

    def __init__(
        self, collection: str, partition: str, verdicts: Sequence[GateVerdict], stage: str, next_at: str | None
    ) -> None:
        again = (
            f"The next run after {next_at} asks again"
            if next_at
            else f"Nothing asks again by itself (what it takes: ai-assets status {collection})"
        )
        super().__init__(verdicts)
        self.args = (
            f"{self} {again}; at once: ai-assets run {collection} --partition {partition}. To make a candidate all the "
            f"same, declare under gates: {{metric: answered_share, stage: {stage}, min: 0}}.",
        )


class CheckFailed(UserError):
    def __init__(self, name: str, asset: str, failures: Sequence[str]) -> None:
        super().__init__(f"the check {name} of {asset} refuses it: {'; '.join(failures)}")
