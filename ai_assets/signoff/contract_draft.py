"""A contract made of what is there: of the live release, or of what the definitions make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from ai_assets.collection.contract import (
    BrokenPromise,
    ColumnPromise,
    Contract,
    FoundColumn,
    PromisedTable,
    PromisedType,
    broken_columns,
    broken_promises,
)
from ai_assets.collection.contract_reading import TABLES
from ai_assets.collection.loading import Collection
from ai_assets.collection.release_columns import never_empty, release_columns
from ai_assets.signoff.contracts import PublishedContracts, broken_in, columns_in
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Release
from ai_assets.storage.stores import Stores

MadeOf: TypeAlias = Literal["live", "definitions"]
Found: TypeAlias = Mapping[PromisedTable, Mapping[str, FoundColumn]]


@dataclass(frozen=True, kw_only=True)
class ContractDraft:
    contract: Contract
    before: Contract | None
    """What is written now."""
    changes: tuple[BrokenPromise, ...]
    """What readers of that could rely on, and cannot any more."""
    left_out: tuple[str, ...]
    """Columns that are there and are not promised: those are of who wrote the contract to add."""


def drafted(
    collection: Collection,
    found: Found,
    before: Contract | None,
    published: PublishedContracts,
    broken: Mapping[PromisedTable, Sequence[str]],
    *,
    every: bool,
) -> ContractDraft:
    """The next contract. One that is there keeps its choice of columns, and what it says of them as long as it holds;
    its version is raised where that takes it. `broken`: columns whose rows do not keep what was promised of them."""
    tables = {
        table: _promised(collection, table, found[table], before, set(broken.get(table, ())), every=every)
        for table in TABLES
    }
    contract = Contract(version=before.version if before else 1, columns=tables["documents"], chunks=tables["chunks"])
    if published.why_not(contract):
        contract = replace(contract, version=published.next_version)
    known = [f"{table}.{name}" for table in TABLES for name in found[table] if name not in tables[table]]
    return ContractDraft(
        contract=contract,
        before=before,
        changes=tuple(broken_promises(before, contract)) if before else (),
        left_out=tuple(known) if before else (),
    )


def _promised(
    collection: Collection,
    table: PromisedTable,
    found: Mapping[str, FoundColumn],
    before: Contract | None,
    broken: set[str],
    *,
    every: bool,
) -> dict[str, ColumnPromise]:
    kept = before.of(table) if before else {}
    of_asset = collection.signed_asset is not None
    gone = {each.column for each in broken_columns(before, table, found, of_asset=of_asset)} if before else set[str]()
    chosen = {name: each for name, each in kept.items() if name not in gone | broken}
    anew = [
        name
        for name, column in found.items()
        if name not in chosen and (name in kept or ((every or before is None) and not column.sometimes))
    ]
    made = {
        name: promise
        for name in anew
        if (promise := _promise(collection, table, name, found[name], weak=name in broken)) is not None
    }
    order = [*kept, *(name for name in found if name not in kept)]
    every_one = {**chosen, **made}
    return {name: every_one[name] for name in order if name in every_one}


def _promise(
    collection: Collection, table: PromisedTable, name: str, column: FoundColumn, *, weak: bool
) -> ColumnPromise | None:
    """None of a type that no contract knows."""
    if column.type not in get_args(PromisedType):
        return None
    is_label = name.endswith("_label") and not name.endswith("_model_label")
    values = column.values if is_label and not weak else None
    return ColumnPromise.model_validate({
        "type": column.type,
        "required": not weak and never_empty(collection, table, name),
        "values": values,
        "dimensions": column.dimensions,
        "space": column.space,
    })  # fmt: skip


def found_in_definitions(collection: Collection) -> Found:
    """Nothing of a signed asset: its columns are what its function returns."""
    if collection.signed_asset is not None:
        return {table: {} for table in TABLES}
    return {table: release_columns(collection, table) for table in TABLES}


def said_in_definitions(collection: Collection) -> dict[str, dict[str, str]]:
    """What the definitions say of each column, by table."""
    return {
        table: {name: column.description for name, column in columns.items()}
        for table, columns in found_in_definitions(collection).items()
    }


def found_in_release(collection: Collection, stores: Stores, release: Release) -> Found:
    """Of all its partitions, with the labels that the definitions know."""
    documents: dict[str, FoundColumn] = {}
    chunks: dict[str, FoundColumn] = {}
    for partition, part in sorted(release.parts.items()):
        paths = snapshot_paths(stores.lake, release.collection, partition, part)
        for into, path in zip((documents, chunks), paths, strict=True):
            into.update(columns_in(path, part.embeddings))
    if collection.signed_asset is not None:
        return {"documents": {name: each for name, each in documents.items() if name != "document_id"}, "chunks": {}}
    made = release_columns(collection, "documents")
    told = {
        name: replace(column, values=made[name].values) if name in made else column
        for name, column in documents.items()
    }
    return {"documents": told, "chunks": chunks}


def broken_in_release(contract: Contract, stores: Stores, release: Release) -> dict[PromisedTable, list[str]]:
    """Columns whose promise some partition breaks."""
    found: dict[PromisedTable, list[str]] = {table: [] for table in TABLES}
    for partition, part in sorted(release.parts.items()):
        for each in broken_in(contract, stores.lake, release.collection, partition, part):
            found[each.table].append(each.column)
    return found
