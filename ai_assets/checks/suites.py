"""The declared quality suites, run on a dataset of one partition."""

from collections.abc import Collection as Names
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import UserError
from ai_assets.checks.base import Check, CheckContext, CheckOutcome, CheckResult, CheckSpec, Dataset
from ai_assets.checks.errors import QualityFailed
from ai_assets.collection.settings import QUALITY_CHECK
from ai_assets.collection.suite_columns import CANDIDATE, withheld_of
from ai_assets.storage.digest import Json

MOST_ROWS = 200
"""Failing rows of one check, over all its expectations."""

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
        suite = [item.model_dump(mode="json") for item in collection.settings.quality[asset]]
        return ["suite-2", *suite]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.checks.quality import QualitySuite
        from ai_assets.storage.state import now

        declared = context.collection.settings.quality[dataset.asset]
        keys = ["chunk_id", "document_id"] if dataset.asset == "chunks" else ["document_id"]
        table = _judged(context.work, dataset.manifest, {*keys, *(name for item in declared for name in item.columns)})
        withheld = withheld_of(context.collection, dataset.asset, table.schema)
        results = QualitySuite(dataset.asset, declared, keys, withheld).run(table)
        failed = [result for result in results if not result.passed]
        most = max(1, MOST_ROWS // max(1, len(failed)))
        details: dict[str, Any] = {
            "expectations": len(results),
            "run_id": dataset.manifest.run_id,
            "judged_at": now(),
            "results": [
                {**{k: v for k, v in asdict(result).items() if k != "failing_rows"}, "note": item.note}
                for item, result in zip(declared, results, strict=True)
            ],
            "failing_rows": [
                {"number": number, "expectation": result.expectation, **row}
                for number, result in enumerate(results)
                if not result.passed
                for row in result.failing_rows[:most]
            ][:MOST_ROWS],
        }
        return CheckResult(
            passed=not failed,
            blocking=any(result.blocking for result in failed),
            failures=[f"{result.expectation}({result.column or 'table'}): {result.observed}" for result in failed],
            details=details,
        )

    def refusal(self, outcome: CheckOutcome) -> UserError:
        return QualityFailed(outcome.asset, outcome.failures)


def _judged(work: "Work", manifest: "Manifest", wanted: Names[str]) -> "pa.Table":
    """The rows with what is judged of them; Great Expectations needs whole columns, and the others stay empty.

    Of a candidate they are those of its frozen file of documents, which is what a release publishes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from ai_assets.signoff.frozen_candidate import FrozenCandidate
    from ai_assets.storage.lake import parquet_schema, read_parquet

    path = work.stores.lake.path(manifest)
    if manifest.asset == CANDIDATE:
        path = FrozenCandidate.of(manifest).paths(work.stores.lake)[0]
    schema = parquet_schema(path)
    documents = manifest.asset == "documents"
    read = {*wanted, *(("status",) if documents else ())}
    table = read_parquet(path, [name for name in schema.names if name in read])
    if documents:
        table = table.filter(pc.not_equal(table["status"], "deleted"))
    columns = [table[field.name] if field.name in read else pa.nulls(table.num_rows, field.type) for field in schema]
    return pa.table(columns, schema=schema)
