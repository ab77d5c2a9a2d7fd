"""A sink of runs that tells of what was made, from what, and how it was judged."""

import datetime
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from openlineage.client.event_v2 import RunEvent as LineageEvent
from openlineage.client.event_v2 import RunState

from ai_assets.base.home import Home, variable
from ai_assets.base.masking import masked
from ai_assets.collection.loading import Collection
from ai_assets.lineage.client import EventSender
from ai_assets.lineage.columns import origins
from ai_assets.lineage.events import (
    DatasetRef,
    Maker,
    ReleaseRunFacet,
    RollbackRunFacet,
    SpendRunFacet,
    part_of,
)
from ai_assets.run.events import CheckMade, DatasetMade, RunBegan, RunEnded, RunEvent, StageBegan, StageEnded
from ai_assets.run.sinks import Sink
from ai_assets.storage.lake import Lake, Manifest, parquet_schema
from ai_assets.storage.state import now

if TYPE_CHECKING:
    from ai_assets.signoff.audit import Record
    from ai_assets.signoff.releases import Release

NAMESPACE = "ai-assets"
"""Where OPENLINEAGE_NAMESPACE says nothing."""
LONGEST_ERROR = 2000


def maker_of(collection: Collection, descriptions: Mapping[str, str]) -> Maker:
    return Maker(
        namespace=variable("OPENLINEAGE_NAMESPACE") or NAMESPACE,
        collection=collection.name,
        version=version("ai-assets"),
        owners=tuple(collection.settings.owners),
        descriptions=descriptions,
    )


class LineageSink(Sink):
    hears = (RunBegan, RunEnded, StageBegan, StageEnded, DatasetMade, CheckMade)

    def __init__(
        self,
        collection: Collection,
        lake: Lake,
        home: Home,
        descriptions: Mapping[str, str],
        report: Callable[[str], None],
    ) -> None:
        self._collection, self._lake = collection, lake
        self._maker = maker_of(collection, descriptions)
        self._sender = EventSender(home, report)
        self._began: dict[tuple[str, str], str] = {}
        self._ended: dict[tuple[str, str], StageEnded] = {}
        self._versions: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        self._sender.close()

    def hear(self, event: RunEvent) -> None:
        match event:
            case RunBegan():
                self._put(self._maker.run_event(RunState.START, event.run_id, event.at))
            case RunEnded():
                state = RunState.COMPLETE if event.error is None else RunState.FAIL
                self._put(self._maker.run_event(state, event.run_id, event.at, said_of(event.error)))
            case StageBegan():
                self._began[event.partition, event.asset] = event.at
            case StageEnded():
                self._stage_ended(event)
            case DatasetMade():
                self._made(event)
            case CheckMade():
                self._checked(event)

    def _put(self, event: LineageEvent) -> None:
        self._sender.put(event)

    def _stage_ended(self, event: StageEnded) -> None:
        if event.error is None:
            self._ended[event.partition, event.asset] = event
            return
        inputs = self._inputs(event.asset, {})
        self._put(
            self._maker.asset_event(
                RunState.FAIL, event.at, run_id=event.run_id, partition=event.partition,
                output=DatasetRef(asset=event.asset), inputs=inputs, error=said_of(event.error),
                day=day_of(event.partition),
            )
        )  # fmt: skip

    def _made(self, event: DatasetMade) -> None:
        """Once it is committed; of what was unchanged nothing is new."""
        outcome, manifest = event.outcome, event.outcome.manifest
        place = manifest.partition, manifest.asset
        span, began_at = self._ended.pop(place, None), self._began.pop(place, manifest.written_at)
        self._versions[place] = manifest.version
        if outcome.unchanged:
            return
        inputs = self._inputs(manifest.asset, manifest.inputs)
        spend = SpendRunFacet(
            costUsd=outcome.cost_usd,
            calls=span.calls if span is not None else 0,
            documents=outcome.documents_in,
            reused=outcome.reused,
            quarantined=outcome.quarantined,
        )
        told = (RunState.START, began_at, None), (RunState.COMPLETE, span.at if span is not None else now(), spend)
        output = self._output(manifest)
        for state, at, facet in told:
            self._put(
                self._maker.asset_event(
                    state, at, run_id=event.run_id, partition=manifest.partition, output=output, inputs=inputs,
                    code_version=manifest.code_version, spend=facet, day=day_of(manifest.partition),
                )
            )  # fmt: skip

    def _checked(self, event: CheckMade) -> None:
        check = event.check
        judged = DatasetRef(asset=check.asset, version=self._versions.get((check.partition, check.asset), ""))
        self._put(
            self._maker.check_event(
                now(), run_id=event.run_id, partition=check.partition, of=judged, name=check.name, passed=check.passed,
                blocking=check.blocking, said=said_of("; ".join(check.failures)) or "",
            )
        )  # fmt: skip

    def _inputs(self, asset: str, versions: Mapping[str, str]) -> list[DatasetRef]:
        if (signed := self._collection.signed_asset) is not None:
            return [DatasetRef(asset=signed, is_of_others=True, version=versions.get("rows", ""))]
        return [self._input(name, versions.get(name, "")) for name in self._collection.inputs_of(asset)]

    def _input(self, asset: str, of_version: str) -> DatasetRef:
        return DatasetRef(
            asset=asset, version=of_version, location=location_of(self._collection) if asset == "source_files" else None
        )

    def _output(self, manifest: Manifest) -> DatasetRef:
        columns = columns_of(self._lake, manifest)
        return DatasetRef(
            asset=manifest.asset,
            version=manifest.version,
            columns=columns,
            origins=origins(self._collection, manifest.asset, list(columns)),
            rows=manifest.rows,
        )


def columns_of(lake: Lake, manifest: Manifest) -> dict[str, str]:
    """Read from the end of its file, which was just written."""
    return {field.name: str(field.type) for field in parquet_schema(lake.path(manifest))}


def location_of(collection: Collection) -> tuple[str, str]:
    """Of its source, as others name it."""
    path = str(collection.source_path)
    if "://" not in path:
        return "file", path
    scheme, _, rest = masked(path).partition("://")
    place, _, name = rest.partition("/")
    return f"{scheme}://{place}", name or "/"


def release_event(collection: Collection, release: "Release", partitions: list[str], description: str) -> LineageEvent:
    """Of a publication."""
    return maker_of(collection, {"published": description} if description else {}).release_event(
        release.created_at,
        part_of("release", collection.name, release.digest, str(release.number)),
        output=_published(release),
        inputs=[DatasetRef(asset="release_candidate")],
        release=_of_release(release, partitions),
    )


def rollback_event(collection: Collection, release: "Release", record: "Record") -> LineageEvent:
    """Another release is live: it was made before, so it has no inputs."""
    return maker_of(collection, {}).release_event(
        str(record.subject["at"]),
        part_of("rollback", collection.name, release.digest, str(record.seq)),
        output=_published(release),
        inputs=[],
        release=_of_release(release, sorted(release.parts)),
        rollback=RollbackRunFacet(fromNumber=int(str(record.subject["from"])), by=record.actor),
    )


def _published(release: "Release") -> DatasetRef:
    return DatasetRef(asset="published", version=release.digest, rows=release.documents)


def _of_release(release: "Release", partitions: list[str]) -> ReleaseRunFacet:
    signers = sorted({name for partition in partitions for name in release.parts[partition].approved_by})
    return ReleaseRunFacet(number=release.number, digest=release.digest, approvedBy=signers, partitions=partitions)


def said_of(error: str | None) -> str | None:
    return None if error is None else masked(error)[:LONGEST_ERROR]


def day_of(partition: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(partition)
    except ValueError:
        return None
