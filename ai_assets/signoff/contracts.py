"""A candidate, a release and the next contract, held against what readers were promised.

Types and vectors are read from the feet of files; rows are read only for columns that are required or list values.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.base.plural import plural
from ai_assets.collection.contract import (
    NAME,
    NOTHING,
    BrokenPromise,
    Contract,
    DeclaredContract,
    FoundColumn,
    PromisedTable,
    broken_columns,
    listed,
    why_not_declared,
)
from ai_assets.collection.contract_reading import TABLES, remedy
from ai_assets.collection.loading import Collection
from ai_assets.collection.release_columns import space_in_words
from ai_assets.embedding.spec import Embedding, vector_column
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.signoff import releases
from ai_assets.signoff.candidate import as_read, is_of_asset
from ai_assets.signoff.forgotten import STATUS as FORGOTTEN
from ai_assets.signoff.frozen_candidate import FrozenCandidate, snapshot_paths
from ai_assets.signoff.releases import Part, Release, ReleasedContract
from ai_assets.storage.lake import Lake, parquet_schema, read_batches
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import pyarrow as pa

GATE = NAME
NOT_READ = ("quarantined", FORGOTTEN)
"""Documents in such a state are in the files, and readers do not get them."""
MOST_SAID = 4
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class PublishedContracts:
    """What readers were promised so far."""

    live: ReleasedContract | None
    newest: ReleasedContract | None
    """Of the release with the highest number: another one than the live one after a rollback."""

    def why_not(self, declared: Contract) -> list[str]:
        """Why that cannot be the next one."""
        live, newest = self.live, self.newest
        return why_not_declared(declared, live.contract if live else None, newest.contract if newest else None)

    @property
    def next_version(self) -> int:
        return max((each.version for each in (self.live, self.newest) if each is not None), default=0) + 1


def published_contracts(connection: sa.Connection, collection: str) -> PublishedContracts:
    live = releases.live(connection, collection)
    number = releases.last_number(connection, collection)
    newest = live if live is None or live.number == number else releases.get(connection, collection, number)
    return PublishedContracts(live=live.contract if live else None, newest=newest.contract if newest else None)


def why_undeclarable(collection: Collection, published: PublishedContracts) -> str | None:
    """Why what is declared cannot follow on what is published; told from definitions and records, without a row."""
    declared, live = collection.contract, published.live
    if declared is None:
        if live is None:
            return None
        return (
            f"version {live.version} is promised to readers of what is live, and {collection.name} declares none any "
            f"more. Declare it again: ai-assets contract {collection.name} --write"
        )
    found = published.why_not(declared.contract)
    if not found:
        return None
    return (
        f"{_several(found)} ({declared.place}). A change that breaks it takes version {published.next_version}; "
        "else take the change back"
    )


def contract_verdict(
    collection: Collection, lake: Lake, candidate: FrozenCandidate, published: PublishedContracts
) -> GateVerdict | None:
    """Of one candidate; None where readers are and were promised nothing."""
    declared = collection.contract
    if declared is None and published.live is None:
        return None
    undeclarable = why_undeclarable(collection, published)
    broken = (
        [] if declared is None
        else broken_in(declared.contract, lake, collection.name, candidate.partition, candidate)
    )  # fmt: skip
    said = [undeclarable] if undeclarable else []
    if declared is not None and broken:
        said.append(
            f"version {declared.contract.version} is broken by {candidate.partition}: {_several(map(str, broken))}. "
            f"{remedy(collection.name, declared)}"
        )
    return GateVerdict(
        name=GATE, metric="broken promises", stage=None, judge=GATE, value=float(len(broken) + bool(undeclarable)),
        n=0 if declared is None else sum(len(declared.contract.of(table)) for table in TABLES),
        verdict="failed" if said else "passed", holds=bool(said),
        waivable=declared is None or declared.on_break == "waive",
        sentence=f"contract: {'; '.join(said) if said else f'{_kept(declared)} is kept'}",
    )  # fmt: skip


def _kept(declared: DeclaredContract | None) -> str:
    assert declared is not None
    return f"version {declared.contract.version} ({declared.contract.digest[:12]})"


def _several(found: Sequence[str] | Iterator[str]) -> str:
    every = list(found)
    more = f"; and {len(every) - MOST_SAID} more" if len(every) > MOST_SAID else ""
    return f"{'; '.join(every[:MOST_SAID])}{more}"


def broken_in(
    contract: Contract, lake: Lake, collection: str, partition: str, files: FrozenCandidate | Part
) -> list[BrokenPromise]:
    """All that the frozen files of one partition break."""
    found: list[BrokenPromise] = []
    of_asset = is_of_asset(files.code_versions)
    if of_asset and not files.documents:
        return []  # a list without a row has no column either
    for table, path in zip(TABLES, snapshot_paths(lake, collection, partition, files), strict=True):
        columns = columns_in(path, files.embeddings)
        of_columns = list(broken_columns(contract, table, columns, of_asset=of_asset))
        gone = {broken.column for broken in of_columns}
        found += [*of_columns, *_broken_rows(contract, table, path, [name for name in columns if name not in gone])]
    return found


def broken_parts(contract: Contract, lake: Lake, collection: str, parts: Mapping[str, Part]) -> dict[str, list[str]]:
    """By partition, what it breaks; that its files are gone or damaged, where they cannot be read."""
    found: dict[str, list[str]] = {}
    for name, part in sorted(parts.items()):
        try:
            broken = list(map(str, broken_in(contract, lake, collection, name, part)))
        except (DatasetDamaged, OSError) as error:
            broken = [f"its files cannot be read: {error}"]
        if broken:
            found[name] = broken
    return found


def broken_release(contract: Contract, stores: Stores, release: Release) -> dict[str, list[str]]:
    return broken_parts(contract, stores.lake, release.collection, release.parts)


def columns_in(path: Path, embeddings: Mapping[str, Embedding]) -> dict[str, FoundColumn]:
    """Of a frozen file, those that readers get."""
    made_by = {vector_column(name): each for name, each in embeddings.items()}
    schema = parquet_schema(path)
    return {
        name: found_column(schema.field(column).type, made_by.get(column))
        for name, column in as_read(schema.names).items()
    }


def found_column(kind: "pa.DataType", made_by: Embedding | None = None) -> FoundColumn:
    """In the words of a contract; a type that no contract knows, as Arrow calls it."""
    import pyarrow.types as kinds

    if kinds.is_fixed_size_list(kind):
        space = space_in_words(made_by) if made_by is not None else None
        return FoundColumn(type="vector", dimensions=kind.list_size, space=space)
    if kinds.is_dictionary(kind):
        return found_column(kind.value_type)
    if (kinds.is_list(kind) or kinds.is_large_list(kind)) and _is_text(kind.value_type):
        return FoundColumn(type="strings")
    names: Mapping[str, Callable[[pa.DataType], bool]] = {
        NOTHING: kinds.is_null, "string": _is_text, "integer": kinds.is_integer, "number": kinds.is_floating,
        "boolean": kinds.is_boolean, "date": kinds.is_date, "timestamp": kinds.is_timestamp,
        "decimal": kinds.is_decimal,
    }  # fmt: skip
    return FoundColumn(type=next((name for name, is_one in names.items() if is_one(kind)), str(kind)))


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind))


def _broken_rows(contract: Contract, table: PromisedTable, path: Path, there: Sequence[str]) -> Iterator[BrokenPromise]:
    """Empty where something is required, and values that were not promised."""
    promised = {name: each for name, each in contract.of(table).items() if name in there}
    looked_at = [name for name, each in promised.items() if each.required or each.values is not None]
    if not looked_at:
        return
    empty: dict[str, list[str]] = {name: [] for name in looked_at}
    others: dict[str, Counter[str]] = {name: Counter() for name in looked_at}
    names = parquet_schema(path).names
    column = as_read(names)
    status = ["status"] if table == "documents" and "status" in names else []
    wanted = ["document_id", *status, *(column[name] for name in looked_at)]
    for batch in read_batches(path, list(dict.fromkeys(wanted))):
        for name, rows in _without(
            batch, {name: column[name] for name in looked_at}, promised, others, status=bool(status)
        ):
            empty[name] += rows
    for name in looked_at:
        each = promised[name]
        if each.required and empty[name]:
            problem = f"was required and is empty in {plural(len(empty[name]), 'row')} ({_documents(empty[name])})"
            yield BrokenPromise(table=table, column=name, problem=problem)
        if others[name]:
            found = [f"'{value}'" for value, _ in others[name].most_common()]
            problem = (
                f"was one of {listed(each.values or ())} and is {listed(found)} "
                f"in {plural(others[name].total(), 'row')}"
            )
            yield BrokenPromise(table=table, column=name, problem=problem)


def _without(
    batch: "pa.RecordBatch",
    looked_at: Mapping[str, str],
    promised: Mapping[str, object],
    others: Mapping[str, Counter[str]],
    *,
    status: bool,
) -> Iterator[tuple[str, list[str]]]:
    """By column, documents that have nothing there; values that were not promised are counted in `others`.

    `looked_at`: by the name that readers know, the column of the file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if status:
        batch = batch.filter(pc.invert(pc.is_in(batch["status"], pa.array(NOT_READ))))
    for name, there in looked_at.items():
        column = batch[there]
        yield name, batch["document_id"].filter(pc.is_null(column)).to_pylist()
        if (values := getattr(promised[name], "values", None)) is not None:
            column = column.cast(pa.string())
            known = pc.is_in(column, pa.array(values, pa.string()))
            strange = column.filter(pc.and_(pc.is_valid(column), pc.invert(known)))
            others[name].update(strange.to_pylist())


def _documents(names: Sequence[str]) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {plural(len(every) - _NAMED, 'more document')}" if len(every) > _NAMED else ""
    return f"{', '.join(every[:_NAMED])}{more}"
