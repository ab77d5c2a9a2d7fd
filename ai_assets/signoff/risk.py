"""How much there is to look at, from 0 to 1: of a document, and of a request. It orders, and decides nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ai_assets.evaluation.verdict import GateVerdict

Change = Literal["added", "changed", "relabelled", "removed", "unchanged"]

LOW_CONFIDENCE = 0.8  # of the 72 held-out texts the built-in classifier is right on 0.59 below it and 0.98 above
"""Below it a label is shown as unsure."""
NEAR_GATE = 0.1
"""A score this far above its gate is no risk any more; at the gate it is a full one."""
_OF_CHANGE: Mapping[Change, float] = {
    "relabelled": 0.4, "removed": 0.3, "added": 0.2, "changed": 0.2, "unchanged": 0.0,
}  # fmt: skip


def document_risk(change: Change, status: str | None, confidences: Sequence[float]) -> float:
    """Unsure labels first, then what changed most. `confidences` are those of all stages that give one."""
    unsure = 1 - min(confidences, default=1.0)
    broken = 0.3 if status not in ("ok", "duplicate", None) else 0.0
    return round(min(1.0, _OF_CHANGE[change] + 0.6 * unsure + broken), 4)


def request_risk(facts: Mapping[str, Any], verdicts: Sequence[GateVerdict]) -> float:
    documents = max(1, int(facts["documents"]) + int(facts["removed"]))
    touched = facts["added"] + facts["changed"] + facts["removed"]
    near = max((_nearness(verdict) for verdict in verdicts), default=0.0)
    parts = (
        0.35 * near,
        0.30 * min(1.0, facts["low_confidence"] / max(1, touched)),
        0.20 * min(1.0, touched / documents),
        0.15 * min(1.0, facts["relabelled"] / max(1, touched)),
    )
    return round(sum(parts), 4)


def _nearness(verdict: GateVerdict) -> float:
    if verdict.holds:
        return 1.0
    return 0.0 if verdict.margin is None else max(0.0, 1 - verdict.margin / NEAR_GATE)
