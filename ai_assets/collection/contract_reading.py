"""Contracts as they are written: read with the line of each mistake, compared with definitions, made as a file."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.errors import Gathered
from ai_assets.base.yaml_settings import alike, line_of, located, read_yaml
from ai_assets.collection.contract import (
    ADDED_BY_READER,
    BrokenPromise,
    ColumnPromise,
    Contract,
    ContractFile,
    ContractSettings,
    DeclaredContract,
    PromisedTable,
    broken_columns,
)
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.release_columns import release_columns

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.collection.settings import CollectionSettings

TABLES: Mapping[PromisedTable, str] = {"documents": "columns", "chunks": "chunks"}
"""By table, the key that its columns stand under."""
_passed_over: ContextVar[bool] = ContextVar("contracts_passed_over", default=False)


@contextmanager
def broken_passed_over() -> Iterator[None]:
    """Within the block a contract is neither read nor held against the definitions: for the command that writes it."""
    token = _passed_over.set(True)
    try:
        yield
    finally:
        _passed_over.reset(token)


def read_contract(
    name: str, settings: "CollectionSettings", folder: Path, path: Path, node: yaml.Node | None
) -> DeclaredContract | None:
    declared = settings.contract
    if declared is None or _passed_over.get():
        return None
    if declared.file is None:
        return _in_defs(declared, path, node)
    file = folder / declared.file
    if not file.is_file():
        line = line_of(node, "attributes", "contract", "file")
        problem = f"contract file {file} does not exist; make it of what is live: ai-assets contract {name} --write"
        raise CollectionInvalid(path, line, problem)
    return read_contract_file(file, name, declared)


def _in_defs(declared: ContractSettings, path: Path, node: yaml.Node | None) -> DeclaredContract:
    assert declared.version is not None
    contract = Contract(version=declared.version, columns=declared.columns, chunks=declared.chunks)
    return _declared(contract, declared, path, node, "attributes", "contract")


def read_contract_file(file: Path, name: str, declared: ContractSettings) -> DeclaredContract:
    """Raises CollectionInvalid with the file and the line of each mistake."""
    node, data = read_yaml(file, CollectionInvalid)
    try:
        found = ContractFile.model_validate(data)
    except ValidationError as error:
        raise located(file, node, error, CollectionInvalid) from error
    if found.collection != name:
        problem = f"collection: this is the contract of '{found.collection}', and '{name}' names it as its own"
        raise CollectionInvalid(file, line_of(node, "collection"), problem)
    contract = Contract(version=found.version, columns=found.columns, chunks=found.chunks)
    return _declared(contract, declared, file, node)


def _declared(
    contract: Contract, declared: ContractSettings, path: Path, node: yaml.Node | None, *under: str
) -> DeclaredContract:
    lines: dict[tuple[PromisedTable, str] | None, int | None] = {None: line_of(node, *under, "version")}
    for table, key in TABLES.items():
        for column in contract.of(table):
            lines[table, column] = line_of(node, *under, key, column)
    return DeclaredContract(contract=contract, on_break=declared.on_break, path=path, lines=lines)


def broken_by_definition(collection: "Collection") -> list[BrokenPromise]:
    """What the definitions alone break, before anything is computed. Of a signed asset only its rows tell."""
    if collection.contract is None or collection.signed_asset is not None:
        return []
    contract = collection.contract.contract
    return [
        broken for table in TABLES for broken in broken_columns(contract, table, release_columns(collection, table))
    ]


def require_kept(collection: "Collection") -> None:
    """Raises CollectionInvalid, with the line of each promise that the definitions break, unless that can be waived."""
    declared = collection.contract
    if declared is None or declared.on_break != "refuse":
        return
    assert declared.path is not None
    gathered = Gathered()
    for broken in broken_by_definition(collection):
        made = release_columns(collection, broken.table)
        line = declared.lines.get((broken.table, broken.column))
        meant = [] if broken.column in made else alike(broken.column, [*made, *ADDED_BY_READER])
        hint = f" (did you mean '{meant[0]}'?)" if meant else ""
        gathered.errors.append(
            CollectionInvalid(declared.path, line, f"contract: {broken}{hint}. {remedy(collection.name, declared)}")
        )
    gathered.refuse(CollectionInvalid)


def remedy(name: str, declared: DeclaredContract) -> str:
    """What to do about a contract that is broken."""
    how = f"ai-assets contract {name} --write --of definitions"
    if declared.asset is not None or declared.place.startswith(DEFS_FILE):
        there = f" in {declared.path.name}" if declared.asset is not None and declared.path is not None else ""
        how = f"what holds now{there}, with version: {declared.contract.version + 1}"
    return f"Bring it back, or declare the break with the next version: {how}"


def contract_text(name: str, contract: Contract, said: str) -> str:
    """The file, as `read_contract_file` reads it; a column a line."""
    lines = [f"# {said}", "# Every key: docs/contracts.md", f"collection: {name}", f"version: {contract.version}"]
    for table, key in TABLES.items():
        promised = contract.of(table)
        lines += [f"{key}:"] if promised else []
        lines += [f"  {column}: {_flow(each)}" for column, each in promised.items()]
    return "\n".join(lines) + "\n"


def _flow(promise: ColumnPromise) -> str:
    data = promise.as_data()
    return str(yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)).strip()
