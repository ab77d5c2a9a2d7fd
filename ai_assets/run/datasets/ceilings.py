"""What a partition cost and how asking for it went, held against the ceilings of the collection.

All is read from the manifests of its datasets, so that a verdict is the same whenever it is asked for: of rows that
were taken over, the cost is what they cost when they were paid for.
"""

import math
from collections.abc import Mapping
from typing import Any

from ai_assets.checks.errors import GateFailed
from ai_assets.collection.ceilings import asset_of
from ai_assets.evaluation.ceilings import Ceiling, Measurement, judge_ceiling
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.context import Work
from ai_assets.storage.lake import Manifest


def ceiling_verdicts(work: Work, partition: str, asset: str | None = None) -> list[GateVerdict]:
    """Of all of them, or of those whose check is that of an asset."""
    wanted = [each for each in work.collection.settings.ceilings if asset in (None, asset_of(each))]
    return [judge_ceiling(each, _measured(work, partition, each)) for each in wanted]


def require_within(work: Work, partition: str) -> None:
    """No candidate of what costs too much, or went too badly, where nobody may waive that."""
    if failed := [verdict for verdict in ceiling_verdicts(work, partition) if verdict.stops]:
        raise GateFailed(failed)


def paid_usd(work: Work, manifests: Mapping[str, Manifest]) -> float:
    """What the answers and vectors cost when they were paid for, so that reusing them changes no digest."""
    paying = [*(each.asset for each in work.collection.embeddings), *(stage.name for stage in work.collection.stages)]
    return round(math.fsum(float(manifests[name].stats.get("paid_usd", 0.0)) for name in paying), 9)


def _measured(work: Work, partition: str, ceiling: Ceiling) -> Measurement:
    def stats_of(asset: str) -> Mapping[str, Any]:
        return work.input("release_candidate", partition, asset).stats

    match ceiling.measure:
        case "cost_per_document" if ceiling.stage is None:
            names = work.collection.inputs_of("release_candidate")
            manifests = {name: work.input("release_candidate", partition, name) for name in names}
            return _cost(paid_usd(work, manifests), stats_of("documents")["documents_out"], "no document can be read")
        case "cost_per_document":
            stats = stats_of(str(ceiling.stage))
            return _cost(stats.get("paid_usd", 0.0), stats["documents_out"], "no document has an answer")
        case "p95_latency_s":
            spent = stats_of(str(ceiling.stage)).get("spend") or {}
            nothing = "the run that made its rows asked nothing new"
            return Measurement(value=spent.get("p95_s"), n=spent.get("calls", 0), of="calls", nothing=nothing)
        case "quarantine_share":
            stats = stats_of(ceiling.stage or "documents")
            return _share(stats["quarantined"], stats["documents_in"], "there are no documents")
        case "unanswered_share":
            stats = stats_of(str(ceiling.stage))
            asked = stats["documents_out"] + stats["unanswered"]
            return _share(stats["unanswered"], asked, "no document came to this stage")


def _cost(paid: float, documents: int, nothing: str) -> Measurement:
    value = paid / documents if documents else None
    return Measurement(value=value, n=documents, of="documents", nothing=nothing)


def _share(hits: int, n: int, nothing: str) -> Measurement:
    return Measurement(value=hits / n if n else None, n=n, hits=hits, of="documents", nothing=nothing)
