"""How much there is to look at, from 0 to 1: of a document, and of a request, and what that number is made of. It
orders, and decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ai_assets.evaluation.verdict import GateVerdict

Change = Literal["added", "changed", "relabelled", "removed", "unchanged", "unreadable"]
"""`removed`: readers lose it, because it is gone or because it cannot be read any more. `unreadable`: it cannot be read
and is not live either, so readers see no change."""
UNREADABLE = "quarantined"
"""The status of a document without a text: nothing of it is published."""

LOW_CONFIDENCE = 0.8  # of the 72 held-out texts the built-in classifier is right on 0.59 below it and 0.98 above
"""Below it a label is shown as unsure."""
NEAR_GATE = 0.1
"""A score this far above its gate is no risk any more; at the gate it is a full one."""
_OF_CHANGE: Mapping[Change, float] = {
    "relabelled": 0.4, "removed": 0.3, "added": 0.2, "changed": 0.2, "unchanged": 0.0, "unreadable": 0.2,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RiskPart:
    """One reason to look, and what it adds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    name: str
    share: float
    """How much of it there is, 0 to 1."""
    weight: float
    """What all of it would add."""

    @property
    def points(self) -> float:
        return self.share * self.weight


def summed(parts: Sequence[RiskPart]) -> float:
    return round(min(1.0, sum(part.points for part in parts)), 4)


def document_risk(change: Change, status: str | None, confidences: Sequence[float]) -> float:
    return summed(document_risk_parts(change, status, confidences))


def document_risk_parts(change: Change, status: str | None, confidences: Sequence[float]) -> list[RiskPart]:
    """Unsure labels first, then what changed most. `confidences` are those of all stages that give one."""
    broken = status not in ("ok", "duplicate", None)
    parts = [
        RiskPart(name=f"it is {change}", share=1.0, weight=_OF_CHANGE[change]),
        RiskPart(name="its least sure answer", share=1 - min(confidences, default=1.0), weight=0.6),
        RiskPart(name=f"it is {status}", share=1.0 if broken else 0.0, weight=0.3),
    ]
    return [part for part in parts if part.points]


def request_risk(facts: Mapping[str, Any], verdicts: Sequence[GateVerdict]) -> float:
    return summed(request_risk_parts(facts, verdicts))


def request_risk_parts(facts: Mapping[str, Any], verdicts: Sequence[GateVerdict]) -> list[RiskPart]:
    """What is there and what is not: a part that adds nothing says that it was looked at."""
    added, changed, removed = (int(facts[name]) for name in ("added", "changed", "removed"))
    unreadable, quarantined = int(facts.get("unreadable") or 0), int(facts.get("quarantined") or 0)
    lost = max(0, quarantined - unreadable) if "unreadable" in facts else 0
    documents = max(1, int(facts["documents"]) - lost + removed)
    touched = added + changed + removed
    live = max(1, int(facts["documents"]) - lost - added - unreadable + removed)
    near = max((_nearness(verdict) for verdict in verdicts), default=0.0)
    return [
        RiskPart(name="files that cannot be read", share=min(1.0, quarantined / documents), weight=0.65),
        RiskPart(name="a score near its gate, or a gate that did not pass", share=near, weight=0.35),
        RiskPart(name="live documents that readers lose", share=min(1.0, removed / live), weight=0.35),
        RiskPart(name="unsure answers among what is new or changed",
                 share=min(1.0, facts["low_confidence"] / max(1, touched)), weight=0.30),
        RiskPart(name="documents that change at all", share=min(1.0, touched / documents), weight=0.20),
        RiskPart(name="other answers than the live ones", share=min(1.0, facts["relabelled"] / max(1, touched)),
                 weight=0.15),
    ]  # fmt: skip


def _nearness(verdict: GateVerdict) -> float:
    if verdict.holds:
        return 1.0
    return 0.0 if verdict.margin is None else max(0.0, 1 - verdict.margin / NEAR_GATE)
