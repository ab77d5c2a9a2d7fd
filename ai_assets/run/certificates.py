"""The certified threshold of a stage, as a run finds it once: from the labels and rows that are there when its first
candidate is frozen."""

from dataclasses import dataclass

from ai_assets.run.context import Work
from ai_assets.signoff import hold_certificates
from ai_assets.signoff.hold_certificates import HoldCertificate
from ai_assets.signoff.hold_labels import judged_labels
from ai_assets.stages.base import StageSettings
from ai_assets.stages.hold_settings import CertifiedSettings
from ai_assets.statistics.selective import Certified, CoveragePoint, certify, coverage_curve
from ai_assets.storage.digest import Json

CURVE_ROWS = 10
"""In a table beside the candidate; the desk draws all."""


@dataclass(frozen=True, kw_only=True)
class RunCertificate:
    certified: Certified
    record: HoldCertificate
    curve: tuple[CoveragePoint, ...]

    @property
    def told(self) -> dict[str, Json]:
        """What the candidate's manifest says of it: it is no part of the digest."""
        every = max(1, len(self.curve) // CURVE_ROWS)
        points = [*self.curve[::-1][::every][::-1]]
        return {
            "said": self.certified.sentence,
            "threshold": self.certified.threshold,
            "coverage": round(self.certified.coverage, 4),
            "certificate": self.record.number,
            "curve": [
                {"from": point.threshold, "accepted": round(point.coverage, 4), "error": round(point.error, 4),
                 "at_most": round(point.upper, 4)} for point in points
            ],
        }  # fmt: skip


def certificate(work: Work, stage: StageSettings, declared: CertifiedSettings) -> RunCertificate:
    found: RunCertificate | None = work.certificates.get(stage.name)
    if found is None:
        found = work.certificates[stage.name] = _certify(work, stage, declared)
    return found


def _certify(work: Work, stage: StageSettings, declared: CertifiedSettings) -> RunCertificate:
    given = judged_labels(work.stores, work.collection, stage, work.golden_labels)
    certified = certify(given.labels, error=declared.error, confidence=declared.confidence)
    made = HoldCertificate(
        collection=work.collection.name,
        stage=stage.name,
        number=0,
        threshold=certified.threshold,
        error=declared.error,
        confidence=declared.confidence,
        labels=certified.labels,
        labels_digest=given.digest,
        said=certified.sentence,
        run_id=work.run_id,
        made_at="",
    )
    with work.fenced() as connection:
        recorded = hold_certificates.record(connection, made)
    work.say(f"{stage.name}: {certified.sentence}")
    curve = coverage_curve(given.labels, declared.confidence)
    return RunCertificate(certified=certified, record=recorded, curve=curve)
