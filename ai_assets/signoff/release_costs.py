"""What the calls behind the rows of a release cost, frozen beside them: for who has the data and not the ledger.

It is what the ledger knew when the partition was published, and no part of what people sign. The record of the release
names the file, so it is checked as the rows are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.plural import plural
from ai_assets.base.tenants import load_tenants
from ai_assets.collection.loading import Collection
from ai_assets.inference.history import cost_of_calls
from ai_assets.signoff.candidate import ROW, snapshot_folder
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Part
from ai_assets.storage.lake import Lake, parquet_schema, read_batches, writing_rows
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import pyarrow as pa

NO_CALLS = ""
"""Instead of the name of a file, where no model was asked about any row."""
_CALL = "_call"
"""At the end of the name of a column with the key of a call."""


def calls_by_stage(schema: "pa.Schema") -> dict[str, str]:
    """The columns of a frozen file with keys of calls. A signed asset has none: its columns are somebody's own."""
    import pyarrow as pa

    calls = [field.name for field in schema if field.name.endswith(_CALL) and pa.types.is_string(field.type)]
    return {name.removesuffix(_CALL): name for name in calls if not name.startswith(ROW)}


def costs_path(lake: Lake, collection: str, partition: str, part: Part) -> Path | None:
    """To be read; None where there is no such file."""
    if not part.costs_file:
        return None
    return lake.bring(snapshot_folder(lake.root, collection, partition) / part.costs_file)


def with_costs(
    collection: Collection,
    stores: Stores,
    parts: Mapping[str, Part],
    *,
    check: Callable[[], None],
    say: Callable[[str], None],
) -> dict[str, Part]:
    """Those without such a file get one: new ones, and what an earlier version of ai-assets published.

    One whose rows cannot be read any more stays without: what is live already is not held up by it.
    """
    without = [name for name, part in parts.items() if part.costs_file is None]
    if without:
        say(f"writing what the calls of {plural(len(without), 'partition')} cost")
    found = dict(parts)
    for name in without:
        check()
        try:
            found[name] = replace(parts[name], costs_file=_written(collection, stores, name, parts[name]))
        except DatasetDamaged as error:
            say(f"{name}: what its calls cost cannot be written: {error}")
    return found


def _written(collection: Collection, stores: Stores, partition: str, part: Part) -> str:
    path, _ = snapshot_paths(stores.lake, collection.name, partition, part)
    calls = calls_by_stage(parquet_schema(path))
    if not calls:
        return NO_CALLS
    # Who reads the data of a tenant is not told what another one paid for an answer from before there were tenants.
    tenant = collection.settings.tenant if load_tenants(stores.home.operations) else None
    as_of = now()
    batches = (
        rows
        for batch in read_batches(path, ["document_id", *calls.values()])
        for rows in _rows(stores, batch, calls, partition, tenant, as_of)
    )
    if (first := next(batches, None)) is None:
        return NO_CALLS
    with writing_rows(path.parent, first.schema) as out:
        out.extend(first)
        for rows in batches:
            out.extend(rows)
    return stores.lake.keep(out.path).name


def _rows(
    stores: Stores, batch: "pa.RecordBatch", calls: Mapping[str, str], partition: str, tenant: str | None, as_of: str
) -> "Iterator[pa.RecordBatch]":
    """Of each document and stage the call with its dollars; a call that the ledger does not have is left out."""
    import pyarrow as pa

    keys = {stage: batch[column].to_pylist() for stage, column in calls.items()}
    asked = [key for of_stage in keys.values() for key in of_stage if key]
    with stores.state.read() as connection:
        cost = cost_of_calls(connection, asked, tenant=tenant)
    documents = batch["document_id"].to_pylist()
    rows = [
        (document, stage, key, *cost[key])
        for stage, of_stage in keys.items()
        for document, key in zip(documents, of_stage, strict=True)
        if key in cost
    ]
    if not rows:
        return
    document, stage, call, cost_nusd, maybe_nusd = zip(*rows, strict=True)
    yield pa.record_batch(
        {
            "partition": pa.array([partition] * len(rows), pa.string()),
            "document_id": pa.array(document, pa.string()),
            "stage": pa.array(stage, pa.string()),
            "call": pa.array(call, pa.string()),
            "cost_nusd": pa.array(cost_nusd, pa.int64()),
            "maybe_nusd": pa.array(maybe_nusd, pa.int64()),
            "as_of": pa.array([as_of] * len(rows), pa.string()),
        }
    )
