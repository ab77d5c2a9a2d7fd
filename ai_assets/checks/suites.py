"""The declared quality suites, run on a dataset of one partition."""

from collections.abc import Collection as Names
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import UserError
from ai_assets.checks.base import Check, CheckContext, CheckOutcome, CheckResult, CheckSpec, Dataset
from ai_assets.checks.errors import QualityFailed
from ai_assets.collection.settings import QUALITY_CHECK
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    import pyarrow as pa

    from ai_assets.collection.loading import Collection
    from ai_assets.run.context import Work
    from ai_assets.storage.lake import Manifest


class SuiteCheck(Check):
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        return [
            CheckSpec(
                name=QUALITY_CHECK,
                asset=asset,
                description=f"{len(suite)} Great Expectations expectations declared in defs.yaml.",
                blocking=any(item.blocking for item in suite),
            )
            for asset, suite in collection.settings.quality.items()
            if suite
        ]

    def identity(self, collection: "Collection", asset: str) -> Json:
        return [item.model_dump(mode="json") for item in collection.settings.quality[asset]]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.checks.quality import QualitySuite

        declared = context.collection.settings.quality[dataset.asset]
        suite = QualitySuite(dataset.asset, declared, ["document_id"])
        judged = {name for item in declared for name in item.columns}
        results = suite.run(_judged(context.work, dataset.manifest, judged))
        failed = [result for result in results if not result.passed]
        details: dict[str, Any] = {
            "expectations": len(results),
            "results": [{k: v for k, v in asdict(result).items() if k != "failing_rows"} for result in results],
            "failing_rows": [
                {"expectation": result.expectation, **row} for result in failed for row in result.failing_rows
            ],
        }
        return CheckResult(
            passed=not failed,
            blocking=any(result.blocking for result in failed),
            failures=[f"{result.expectation}({result.column or 'table'}): {result.observed}" for result in failed],
            details=details,
        )

    def refusal(self, outcome: CheckOutcome) -> UserError:
        return QualityFailed(outcome.asset, outcome.failures)


def _judged(work: "Work", manifest: "Manifest", judged: Names[str]) -> "pa.Table":
    """The rows with what is judged of them; Great Expectations needs whole columns, and the others stay empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from ai_assets.storage.lake import parquet_schema

    schema = parquet_schema(work.stores.lake.path(manifest))
    documents = manifest.asset == "documents"
    wanted = {"document_id", *judged, *(("status",) if documents else ())}
    table = work.read(manifest, [name for name in schema.names if name in wanted])
    if documents:
        table = table.filter(pc.not_equal(table["status"], "deleted"))
    columns = [table[field.name] if field.name in wanted else pa.nulls(table.num_rows, field.type) for field in schema]
    return pa.table(columns, schema=schema)
