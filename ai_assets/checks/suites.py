"""The declared quality suites, run on a dataset of one partition; a verdict on the same rows is not asked for twice."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.collection.settings import QUALITY_CHECK
from ai_assets.run.context import Work
from ai_assets.storage.digest import canonical_json, digest
from ai_assets.storage.lake import Manifest, parquet_schema
from ai_assets.storage.state import upsert

if TYPE_CHECKING:
    import pyarrow as pa


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

    declared = work.collection.settings.quality[manifest.asset]
    suite = QualitySuite(manifest.asset, declared, ["document_id"])
    results = suite.run(_judged(work, manifest, {name for item in declared for name in item.columns}))
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


def _judged(work: Work, manifest: Manifest, judged: Collection[str]) -> "pa.Table":
    """The rows with what is judged of them; Great Expectations needs whole columns, and the others stay empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = parquet_schema(work.stores.lake.path(manifest))
    documents = manifest.asset == "documents"
    wanted = {"document_id", *judged, *(("status",) if documents else ())}
    table = work.read(manifest, [name for name in schema.names if name in wanted])
    if documents:
        table = table.filter(pc.not_equal(table["status"], "deleted"))
    columns = [table[field.name] if field.name in wanted else pa.nulls(table.num_rows, field.type) for field in schema]
    return pa.table(columns, schema=schema)
