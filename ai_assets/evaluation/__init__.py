"""Scoring what a collection makes, and judging the scores: metrics, gates, and the one record of a gate's verdict.

A metric of your own imports `metric`, `Evidence` and `Measure` from here; a gate of your own `gate` and `GateCase`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_assets.evaluation.gates import GateCase, gate
    from ai_assets.evaluation.metrics import Evidence, LabelEvidence, Measure, QueryEvidence, metric
    from ai_assets.evaluation.verdict import Baseline, GateVerdict, Interval

__all__ = [
    "Baseline",
    "Evidence",
    "GateCase",
    "GateVerdict",
    "Interval",
    "LabelEvidence",
    "Measure",
    "QueryEvidence",
    "gate",
    "metric",
]

_HOMES = {"Baseline": "verdict", "GateVerdict": "verdict", "Interval": "verdict", "GateCase": "gates", "gate": "gates"}


def __getattr__(name: str) -> Any:
    """On first use: `stages.evaluate`, from which the metrics take their formulas, imports the records from here."""
    if name not in __all__:
        raise AttributeError(f"module 'ai_assets.evaluation' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'metrics')}"), name)


def __dir__() -> list[str]:
    return __all__
