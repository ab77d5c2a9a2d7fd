"""A release as tables: `ai_assets.live("handbook").pandas()`.

What is read is what was published: the release is taken from the audit chain or from the signed `live.json`, which name
each file by its SHA-256, and no row of a file with other bytes is given to anybody. Nothing is written.
"""

import datetime
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from ai_assets.base.errors import UserError
from ai_assets.base.home import TRUST_VARIABLE, Home, variable
from ai_assets.base.plural import plural
from ai_assets.collection.contract import SOMETIMES
from ai_assets.inference.history import CallCost
from ai_assets.inference.prices import usd_of
from ai_assets.reading.errors import ColumnsMissing, MomentUnclear, PartitionUnreleased, TableUnknown
from ai_assets.reading.places import DataPlace, Dollars, HomePlace, ReleasePlace
from ai_assets.run.released import ABSENT
from ai_assets.signoff.candidate import as_read, content_of_files, is_of_asset
from ai_assets.signoff.errors import ReleaseAltered
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.release_costs import calls_by_stage, costs_path
from ai_assets.signoff.releases import Release, ReleasedContract, release_digest
from ai_assets.storage.lake import parquet_schema, read_batches
from ai_assets.storage.lance_library import lancedb
from ai_assets.storage.ranking import Hit

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from lancedb.table import Table as LanceTable

Table = Literal["documents", "chunks"]
SIGNED_BY, RELEASE, REQUEST = "signed_by", "release", "request"


def live(
    collection: str,
    *,
    project: str | Path | None = None,
    data: str | Path | None = None,
    trust: str | Path | None = None,
) -> "Published":
    """The release of a collection that is live now. It stays that one: ask again for what is live later.

    `project` is its folder, by default that of the working directory. Who has the data alone says where it lies
    (`data="s3://bucket/prefix"`, or a folder that holds `lake` and `index`) and whose signature counts (`trust`, the
    file `keys/trust.json` of the home that publishes).
    """
    try:
        if data is not None:
            believed = trust or variable(TRUST_VARIABLE)
            place: ReleasePlace = DataPlace.of(collection, str(data), Path(believed) if believed else None)
        else:
            place = HomePlace(collection, Home.from_environment(Path(project).absolute() if project else None))
        return Published(place, place.live())
    except UserError as error:  # its sentence says all; what led to it would stand above it, where nobody catches it
        raise error.with_traceback(None) from None


class Published:
    """One release. Tables are `documents`, with what each stage made of them, and `chunks`, passages with vectors.

    Both say of each row its `partition`, the `release`, who has `signed` for it and in which `request`. Documents that
    could not be read or were forgotten are not among them.
    """

    def __init__(self, place: ReleasePlace, release: Release, *, with_dollars: bool = False) -> None:
        self._place = place
        self._release = release
        self._with_dollars = with_dollars
        self._schemas: dict[Table, pa.Schema] = {}

    def __repr__(self) -> str:
        return (
            f"<release {self.number} of {self.collection}: {plural(self._release.documents, 'document')}, "
            f"{self.digest[:12]}>"
        )

    @property
    def collection(self) -> str:
        return self._release.collection

    @property
    def number(self) -> int:
        return self._release.number

    @property
    def digest(self) -> str:
        """What its approvals add up to: the same digest is the same rows."""
        return self._release.digest

    @property
    def published_at(self) -> str:
        return self._release.created_at

    @property
    def contract(self) -> ReleasedContract | None:
        """What its readers are promised: `version`, `digest`, columns, and partitions that break it; None where nothing
        is."""
        return self._release.contract

    @property
    def partitions(self) -> list[str]:
        return sorted(self._release.parts)

    def release(self, number: int) -> Self:
        """Another release of the collection."""
        return self._other(self._place.numbered(number))

    def at(self, moment: str | datetime.datetime | datetime.date) -> Self:
        """What was live then; a day means its end (UTC)."""
        return self._other(self._place.live_at(_in_chain_words(moment)))

    def with_dollars(self) -> Self:
        """The same release; `documents` has `STAGE_cost_usd` beside each `STAGE_call`: what all attempts of that call
        cost, whoever paid, and `STAGE_maybe_usd`: what was reserved for those that may have been billed.

        It is what the ledger says now; with the data alone, what it said when the partition was published
        (`dollars_as_of`). Rows that share an answer have the same call: a sum counts each call once."""
        self._place.require_dollars(self._release)
        return type(self)(self._place, self._release, with_dollars=True)

    @property
    def dollars_as_of(self) -> str | None:
        """When the ledger was asked about the partition that was looked at longest ago (UTC), where only the data is at
        hand; None where it is asked now, or no model was asked about any row."""
        every = [self._place.dollars_as_of(self._release, name) for name in self.partitions]
        return min(filter(None, every), default=None)

    def _other(self, release: Release) -> Self:
        if self._with_dollars:
            self._place.require_dollars(release)
        return type(self)(self._place, release, with_dollars=self._with_dollars)

    def batches(
        self,
        table: Table = "documents",
        *,
        columns: Sequence[str] | None = None,
        partitions: Sequence[str] | None = None,
    ) -> "pa.RecordBatchReader":
        """All rows, a piece at a time, for what does not fit into memory."""
        import pyarrow as pa

        schema = self.schema(table)
        if columns is not None:
            if missing := [name for name in columns if name not in schema.names]:
                raise ColumnsMissing(self.collection, self.number, missing, schema.names)
            schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
        chosen = self._chosen(partitions)
        return pa.RecordBatchReader.from_batches(schema, self._batches(table, schema, chosen))

    def schema(self, table: Table = "documents") -> "pa.Schema":
        """Of all partitions together: one that was published before a stage was declared has nothing in its columns."""
        if table not in get_args(Table):
            raise TableUnknown(table, get_args(Table))
        if table not in self._schemas:  # it takes a look at every file
            self._schemas[table] = self._read_schema(table)
        return self._schemas[table]

    def _read_schema(self, table: Table) -> "pa.Schema":
        import pyarrow as pa

        found = list(dict.fromkeys(parquet_schema(self._file(table, name)) for name in self.partitions))
        files = pa.unify_schemas(found, promote_options="permissive") if found else pa.schema([])
        own = [files.field(column).with_name(name) for name, column in as_read(files.names).items()]
        own += self._promised_and_empty(table, files.names)
        if self._with_dollars:
            own += [pa.field(name, pa.float64()) for name in _calls_by_cost(files)]
        said = [pa.field("partition", pa.string()), *own, pa.field(RELEASE, pa.int64()),
                pa.field(REQUEST, pa.string()), pa.field(SIGNED_BY, pa.list_(pa.string()))]  # fmt: skip
        about = {"collection": self.collection, "release": str(self.number), "digest": self.digest}
        about |= {"contract": f"{self.contract.version} {self.contract.digest}"} if self.contract else {}
        return pa.schema(said, metadata={f"ai_assets.{name}": value for name, value in about.items()})

    def _promised_and_empty(self, table: Table, there: Sequence[str]) -> "list[pa.Field]":
        """Columns that are written only where a document says something in them: who was promised one has it."""
        import pyarrow as pa

        if self.contract is None or any(is_of_asset(part.code_versions) for part in self._release.parts.values()):
            return []
        kinds = {"string": pa.string(), "number": pa.float64(), "integer": pa.int64()}
        promised = self.contract.contract.of(table)
        return [
            pa.field(name, kinds[kind])
            for name, kind in SOMETIMES[table].items()
            if name in promised and name not in there
        ]

    def arrow(
        self,
        table: Table = "documents",
        *,
        columns: Sequence[str] | None = None,
        partitions: Sequence[str] | None = None,
    ) -> "pa.Table":
        return self.batches(table, columns=columns, partitions=partitions).read_all()

    def pandas(
        self,
        table: Table = "documents",
        *,
        columns: Sequence[str] | None = None,
        partitions: Sequence[str] | None = None,
    ) -> "pd.DataFrame":
        found: pd.DataFrame = self.arrow(table, columns=columns, partitions=partitions).to_pandas()
        return found

    def polars(
        self,
        table: Table = "documents",
        *,
        columns: Sequence[str] | None = None,
        partitions: Sequence[str] | None = None,
    ) -> "pl.DataFrame":
        """Takes the package polars."""
        import polars as pl

        found = pl.from_arrow(self.arrow(table, columns=columns, partitions=partitions))
        assert isinstance(found, pl.DataFrame)
        return found

    def duckdb(self, connection: "duckdb.DuckDBPyConnection | None" = None) -> "duckdb.DuckDBPyConnection":
        """A connection, by default a new one in memory, in which `documents` and `chunks` are tables."""
        import duckdb

        found = duckdb.connect() if connection is None else connection
        for table in get_args(Table):
            rows = self.batches(table)
            found.register("ai_assets_rows", rows)
            found.execute(f'CREATE OR REPLACE TABLE "{table}" AS SELECT * FROM ai_assets_rows')  # noqa: S608  # ours
            found.unregister("ai_assets_rows")
        return found

    def lance(self) -> "LanceTable":
        """The search index of the release in LanceDB, to be read. Its bytes are those that were published."""
        release, index = self._release, self._place.index(self._release)
        options = index.place.options
        database = lancedb().connect(index.place.uri, storage_options=dict(options) if options else None)
        found: LanceTable = database.open_table(
            release.index_name, branch=release.index_branch, version=release.index_version
        )
        return found

    def search(self, text: str, k: int = 5) -> list[Hit]:
        """The best documents, as the release was searched when it was judged; at no cost, so by words alone where a
        question would be a call to a model, or where the project is not at hand."""
        return list(self._place.search(self._release, text, k).hits)

    def verify(self) -> None:
        """Reads all of it, the index included. Raises where anything is not what was signed."""
        name = f"Release {self.number} of {self.collection}"
        if release_digest(self._release.parts) != self.digest:
            raise ReleaseAltered(name, "its partitions do not add up to its digest", self.collection)
        register = self._place.forgotten()
        for partition, part in self._release.parts.items():
            files = self._files(partition)
            if (costs := costs_path(self._place.lake, self.collection, partition, part)) is not None:
                parquet_schema(costs)
            if register is None:
                deque(map(parquet_schema, files), maxlen=0)
            elif content_of_files(*files, register).content != part.content:
                raise ReleaseAltered(name, f"the rows of {partition} are not those that were signed", self.collection)
        self._place.index(self._release)

    def _batches(self, table: Table, schema: "pa.Schema", partitions: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        for partition in partitions:
            part = self._release.parts[partition]
            said = {"partition": partition, RELEASE: self.number, REQUEST: part.request_id,
                    SIGNED_BY: list(part.approved_by)}  # fmt: skip
            dollars = self._place.dollars(self._release, partition) if self._with_dollars else _none
            yield from _with(said, schema, self._file(table, partition), dollars)

    def _chosen(self, partitions: Sequence[str] | None) -> list[str]:
        if unknown := [name for name in partitions or () if name not in self._release.parts]:
            raise PartitionUnreleased(self.collection, self.number, unknown[0], self.partitions)
        return self.partitions if partitions is None else sorted(set(partitions))

    def _files(self, partition: str) -> tuple[Path, Path]:
        return snapshot_paths(self._place.lake, self.collection, partition, self._release.parts[partition])

    def _file(self, table: Table, partition: str) -> Path:
        documents, chunks = self._files(partition)
        return documents if table == "documents" else chunks


def _none(_calls: Sequence[str]) -> Mapping[str, CallCost]:
    return {}


def _calls_by_cost(schema: "pa.Schema") -> dict[str, tuple[str, int]]:
    """By the name of a column with dollars, the one with the keys of calls, and which of their two sums it has."""
    return {
        f"{stage}_{name}": (call, place)
        for stage, call in calls_by_stage(schema).items()
        for place, name in enumerate(("cost_usd", "maybe_usd"))
    }


def _with(said: Mapping[str, Any], schema: "pa.Schema", path: Path, dollars: Dollars) -> "Iterator[pa.RecordBatch]":
    """The rows of a file in the columns of the whole release."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = parquet_schema(path)
    column = as_read(there.names)
    calls = {name: of for name, of in _calls_by_cost(there).items() if name in schema.names}
    asked = sorted({call for call, _ in calls.values()})
    status = "status" if "status" in there.names else None
    wanted = [column[name] for name in schema.names if name in column and name not in said]
    for batch in read_batches(path, list(dict.fromkeys([*wanted, *asked, *([status] if status else [])]))):
        if status is not None:
            batch = batch.filter(pc.invert(pc.is_in(batch[status], pa.array(sorted(ABSENT)))))
        keys = {call: batch[call].to_pylist() for call in asked}
        cost = dollars([key for of_stage in keys.values() for key in of_stage if key]) if keys else {}
        columns = []
        for field in schema:
            if field.name in said:
                columns.append(pa.array([said[field.name]] * batch.num_rows, field.type))
            elif field.name in column:
                columns.append(batch[column[field.name]].cast(field.type))
            elif field.name in calls:
                call, place = calls[field.name]
                usd = [usd_of(cost[key][place]) if key in cost else None for key in keys[call]]
                columns.append(pa.array(usd, field.type))
            else:
                columns.append(pa.nulls(batch.num_rows, field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _in_chain_words(moment: str | datetime.datetime | datetime.date) -> str:
    """As the audit chain writes it, in UTC."""
    if isinstance(moment, str):
        try:
            day_alone = len(moment) == len("2026-11-01")
            found = datetime.date.fromisoformat(moment) if day_alone else datetime.datetime.fromisoformat(moment)
        except ValueError:
            raise MomentUnclear(moment) from None
    else:
        found = moment
    if not isinstance(found, datetime.datetime):
        found = datetime.datetime.combine(found, datetime.time.max)
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    return found.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
