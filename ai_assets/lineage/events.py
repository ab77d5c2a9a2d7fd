"""What happens in a run, as events of OpenLineage. Pure, but that it imports the package."""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    documentation_dataset,
    documentation_job,
    error_message_run,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    ownership_dataset,
    ownership_job,
    parent_run,
    processing_engine_run,
    schema_dataset,
    storage_dataset,
    symlinks_dataset,
)

from ai_assets.lineage.columns import ColumnOrigin

PRODUCER = "https://pypi.org/project/ai-assets"
JOB_TYPES = {"run": "DAG", "asset": "ASSET", "check": "CHECK", "publication": "PUBLICATION"}
_NAMES = uuid.UUID("5c1f1a53-2c59-4f0a-9d0b-0d8c8d6f6c11")


@attr.define
class SpendRunFacet(RunFacet):
    """`ai_assets_spend`: what calls to models came to, by our own price list."""

    costUsd: float  # noqa: N815
    calls: int
    documents: int
    reused: int
    quarantined: int


@attr.define
class ReleaseRunFacet(RunFacet):
    """`ai_assets_release`: what was published, and who signed it."""

    number: int
    digest: str
    approvedBy: list[str]  # noqa: N815
    partitions: list[str]


@attr.define
class RollbackRunFacet(RunFacet):
    """`ai_assets_rollback`: which release was live before, and who decided it."""

    fromNumber: int  # noqa: N815
    by: str


@attr.define
class CodeVersionJobFacet(JobFacet):
    """`ai_assets_codeVersion`: the digest of all that decides how rows are computed."""

    codeVersion: str  # noqa: N815


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """An asset as input or output."""

    asset: str
    is_of_others: bool = False
    """Not of the collection: `asset` is its whole key."""
    version: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name and type."""
    origins: Mapping[str, Sequence[ColumnOrigin]] = field(default_factory=dict)
    rows: int | None = None
    location: tuple[str, str] | None = None
    """Namespace and name of where it really is, for what others know by that."""
    file_format: str = "parquet"


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What all events of a collection have in common."""

    namespace: str
    collection: str
    version: str
    """Of ai-assets."""
    owners: Sequence[str]
    descriptions: Mapping[str, str]

    def run_event(self, state: RunState, run_id: str, at: str, error: str | None = None) -> RunEvent:
        """Of the run as a whole."""
        facets: dict[str, Any] = {"processing_engine": self._engine()}
        if error is not None:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=error, programmingLanguage="python")
        job = Job(self.namespace, self.collection, {"jobType": self._type("run"), **self._owned_job()})
        return RunEvent(
            eventTime=_time(at), producer=PRODUCER, eventType=state, run=Run(uuid_of(run_id), facets), job=job
        )

    def asset_event(
        self,
        state: RunState,
        at: str,
        *,
        run_id: str,
        partition: str,
        output: DatasetRef,
        inputs: Sequence[DatasetRef],
        code_version: str = "",
        spend: SpendRunFacet | None = None,
        error: str | None = None,
        day: datetime.date | None = None,
    ) -> RunEvent:
        facets = {"processing_engine": self._engine(), "parent": self._parent(run_id)}
        if spend is not None:
            facets["ai_assets_spend"] = spend
        if error is not None:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=error, programmingLanguage="python")
        if day is not None:
            after = day + datetime.timedelta(days=1)
            facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(
                nominalStartTime=f"{day.isoformat()}T00:00:00Z", nominalEndTime=f"{after.isoformat()}T00:00:00Z"
            )
        job = self._job("asset", output.asset, code_version)
        run = Run(part_of(run_id, partition, output.asset), facets)
        return RunEvent(
            eventTime=_time(at), producer=PRODUCER, eventType=state, run=run, job=job,
            inputs=[self._input(each) for each in inputs], outputs=[self._output(output)],
        )  # fmt: skip

    def check_event(
        self,
        at: str,
        *,
        run_id: str,
        partition: str,
        of: DatasetRef,
        name: str,
        passed: bool,
        blocking: bool,
        said: str,
    ) -> RunEvent:
        """A check has read the dataset: its verdict is a facet of that input."""
        assertion = data_quality_assertions_dataset.Assertion(
            assertion=name,
            success=passed,
            name=name,
            severity="error" if blocking else "warn",
            description=said or None,
        )
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=[assertion])
        read = self._input(of)
        read.inputFacets = {"dataQualityAssertions": facet}
        facets = {"processing_engine": self._engine(), "parent": self._parent(run_id)}
        return RunEvent(
            eventTime=_time(at), producer=PRODUCER, eventType=RunState.COMPLETE,
            run=Run(part_of(run_id, partition, of.asset, name), facets),
            job=Job(self.namespace, f"{self.collection}.{of.asset}.{name}", {"jobType": self._type("check")}),
            inputs=[read], outputs=[],
        )  # fmt: skip

    def release_event(
        self,
        at: str,
        run_id: str,
        *,
        output: DatasetRef,
        inputs: Sequence[DatasetRef],
        release: ReleaseRunFacet,
        rollback: RollbackRunFacet | None = None,
    ) -> RunEvent:
        """The release is live from then on."""
        facets: dict[str, Any] = {"processing_engine": self._engine(), "ai_assets_release": release}
        if rollback is not None:
            facets["ai_assets_rollback"] = rollback
        return RunEvent(
            eventTime=_time(at), producer=PRODUCER, eventType=RunState.COMPLETE, run=Run(run_id, facets),
            job=self._job("publication", output.asset, ""), inputs=[self._input(each) for each in inputs],
            outputs=[self._output(output)],
        )  # fmt: skip

    def dataset_name(self, asset: str) -> str:
        return f"{self.collection}.{asset}"

    def _job(self, kind: str, asset: str, code_version: str) -> Job:
        facets: dict[str, Any] = {"jobType": self._type(kind), **self._owned_job()}
        if asset in self.descriptions:
            facets["documentation"] = documentation_job.DocumentationJobFacet(description=self.descriptions[asset])
        if code_version:
            facets["ai_assets_codeVersion"] = CodeVersionJobFacet(codeVersion=code_version)
        return Job(self.namespace, self.dataset_name(asset), facets)

    def _input(self, of: DatasetRef) -> InputDataset:
        name = of.asset if of.is_of_others else self.dataset_name(of.asset)
        return InputDataset(namespace=self.namespace, name=name, facets=self._facets(of))

    def _output(self, of: DatasetRef) -> OutputDataset:
        facets = self._facets(of)
        if of.asset in self.descriptions:
            facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(
                description=self.descriptions[of.asset]
            )
        if self.owners:
            owned = [ownership_dataset.Owner(name=owner) for owner in self.owners]
            facets["ownership"] = ownership_dataset.OwnershipDatasetFacet(owners=owned)
        if of.columns:
            fields = [
                schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in of.columns.items()
            ]
            facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
        if of.origins:
            facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
                fields={column: self._column(found) for column, found in of.origins.items()}
            )
        facets["storage"] = storage_dataset.StorageDatasetFacet(storageLayer="ai-assets", fileFormat=of.file_format)
        if of.rows is None:
            return OutputDataset(namespace=self.namespace, name=self.dataset_name(of.asset), facets=facets)
        counted = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=of.rows)
        return OutputDataset(
            namespace=self.namespace,
            name=self.dataset_name(of.asset),
            facets=facets,
            outputFacets={"outputStatistics": counted},
        )

    def _facets(self, of: DatasetRef) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if of.version:
            found["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=of.version)
        if of.location is not None:
            namespace, name = of.location
            known = symlinks_dataset.Identifier(namespace=namespace, name=name, type="LOCATION")
            found["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[known])
        return found

    def _column(self, origins: Sequence[ColumnOrigin]) -> column_lineage_dataset.Fields:
        return column_lineage_dataset.Fields(
            inputFields=[
                column_lineage_dataset.InputField(
                    namespace=self.namespace,
                    name=self.dataset_name(origin.asset),
                    field=origin.column,
                    transformations=[
                        column_lineage_dataset.Transformation(
                            type="DIRECT",
                            subtype="IDENTITY" if origin.copied else "TRANSFORMATION",
                            description=origin.said,
                            masking=False,
                        )
                    ],
                )
                for origin in origins
            ]
        )

    def _parent(self, run_id: str) -> parent_run.ParentRunFacet:
        return parent_run.ParentRunFacet(
            run=parent_run.Run(runId=uuid_of(run_id)),
            job=parent_run.Job(namespace=self.namespace, name=self.collection),
        )

    def _engine(self) -> processing_engine_run.ProcessingEngineRunFacet:
        return processing_engine_run.ProcessingEngineRunFacet(version=self.version, name="ai-assets")

    def _type(self, kind: str) -> job_type_job.JobTypeJobFacet:
        return job_type_job.JobTypeJobFacet(processingType="BATCH", integration="AI_ASSETS", jobType=JOB_TYPES[kind])

    def _owned_job(self) -> dict[str, Any]:
        owners = [ownership_job.Owner(name=owner) for owner in self.owners]
        return {"ownership": ownership_job.OwnershipJobFacet(owners=owners)} if owners else {}


def uuid_of(run_id: str) -> str:
    """Dagster's ids are UUIDs already."""
    try:
        return str(uuid.UUID(run_id))
    except ValueError:
        return part_of(run_id)


def part_of(*names: str) -> str:
    """The id of a part of a run: the same, however often it is told."""
    return str(uuid.uuid5(_NAMES, "\0".join(names)))


def _time(at: str) -> str:
    return at.replace("+00:00", "Z")
