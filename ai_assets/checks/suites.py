"""The declared quality suites, run on a dataset of one partition; a verdict on the same rows is not asked for twice."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.settings import QUALITY_CHECK
from ai_assets.work import Work
from resources.digest import canonical_json, digest
from resources.lake import Manifest
from resources.state import upsert


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """One check of one asset of one partition, as Dagster and people are to see it."""

    asset: str
    partition: str
    name: str
    passed: bool
    blocking: bool
    """Whether a failure stops what is downstream."""
    failures: list[str]
    details: dict[str, Any]


def check_quality(work: Work, manifest: Manifest) -> CheckOutcome | None:
    """The suite declared for the asset, or None where there is none."""
    declared = work.collection.settings.quality.get(manifest.asset)
    if not declared:
        return None
    fingerprint = digest([manifest.version, [item.model_dump(mode="json") for item in declared]])
    key = {
        "collection": manifest.collection,
        "asset": manifest.asset,
        "partition": manifest.partition,
        "check_name": QUALITY_CHECK,
    }
    with work.stores.state.read() as connection:
        known = connection.execute(
            sa.text(
                "SELECT details FROM check_results WHERE collection = :collection AND asset = :asset "
                "AND partition = :partition AND check_name = :check_name AND fingerprint = :fingerprint"
            ),
            {**key, "fingerprint": fingerprint},
        ).scalar_one_or_none()
    if known is not None:
        return CheckOutcome(**json.loads(known))
    outcome = _run(work, manifest)
    with work.fenced() as connection:
        upsert(
            connection,
            "check_results",
            key,
            {
                "fingerprint": fingerprint,
                "passed": int(outcome.passed),
                "blocking": int(outcome.blocking),
                "details": canonical_json(asdict(outcome)),
            },
        )
    return outcome


def _run(work: Work, manifest: Manifest) -> CheckOutcome:
    from ai_assets.checks.quality import QualitySuite

    table = work.read(manifest)
    if manifest.asset == "documents":
        import pyarrow.compute as pc

        table = table.filter(pc.not_equal(table["status"], "deleted"))
    suite = QualitySuite(manifest.asset, work.collection.settings.quality[manifest.asset], ["document_id"])
    results = suite.run(table)
    failed = [result for result in results if not result.passed]
    return CheckOutcome(
        asset=manifest.asset,
        partition=manifest.partition,
        name=QUALITY_CHECK,
        passed=not failed,
        blocking=any(result.blocking for result in failed),
        failures=[f"{result.expectation}({result.column or 'table'}): {result.observed}" for result in failed],
        details={
            "expectations": len(results),
            "results": [{k: v for k, v in asdict(result).items() if k != "failing_rows"} for result in results],
            "failing_rows": [
                {"expectation": result.expectation, **row} for result in failed for row in result.failing_rows
            ],
        },
    )
