"""A contract in the words of other tools: JSON Schema of a row, and the sources of a dbt project."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import yaml

from ai_assets.collection.contract import ADDED_BY_READER, ColumnPromise, Contract, PromisedTable, PromisedType
from ai_assets.collection.release_columns import ADDED_BY_READER_SAID

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_JSON: Mapping[PromisedType, Mapping[str, Any]] = {
    "string": {"type": "string"}, "integer": {"type": "integer"}, "number": {"type": "number"},
    "boolean": {"type": "boolean"}, "strings": {"type": "array", "items": {"type": "string"}},
    "vector": {"type": "array", "items": {"type": "number"}}, "date": {"type": "string", "format": "date"},
    "timestamp": {"type": "string", "format": "date-time"}, "decimal": {"type": "string", "format": "decimal"},
}  # fmt: skip
_DUCKDB: Mapping[PromisedType, str] = {
    "string": "varchar", "integer": "bigint", "number": "double", "boolean": "boolean", "strings": "varchar[]",
    "vector": "float[]", "date": "date", "timestamp": "timestamp", "decimal": "decimal",
}  # fmt: skip
_TABLE_SAID: Mapping[PromisedTable, str] = {
    "documents": "Documents of the live release, with what each stage made of them.",
    "chunks": "Passages of those documents, with their vectors.",
}
_OF_ASSET: Mapping[PromisedTable, str] = {"documents": "Rows of the live release."}
Said: TypeAlias = Mapping[str, Mapping[str, str]]
"""By table and column, what the definitions say of it; what the contract says itself counts before that."""


def promised_columns(contract: Contract, table: PromisedTable, said: Said) -> dict[str, ColumnPromise]:
    """With those that every reader has."""
    known = said.get(table, {})
    added = {
        name: ColumnPromise(type=kind, required=True, description=ADDED_BY_READER_SAID[name])
        for name, kind in ADDED_BY_READER.items()
    }
    return {
        name: each if each.description else each.model_copy(update={"description": known.get(name, "")})
        for name, each in {**added, **contract.of(table)}.items()
    }


def json_schema(collection: str, contract: Contract, said: Said, *, of_asset: bool = False) -> dict[str, Any]:
    """Of one row of `documents`; that of `chunks` is under `$defs`. Further columns may be there.

    `of_asset`: of a row of a signed asset, which in Dagster has its own columns alone.
    """
    if of_asset:
        said_of = {"documents": _row(contract.columns, _OF_ASSET["documents"])}
    else:
        said_of = {name: _row(promised_columns(contract, name, said), about) for name, about in _TABLE_SAID.items()}
    return {
        "$schema": DIALECT,
        "$id": f"urn:ai-assets:{collection}:contract:{contract.version}:{contract.digest[:12]}",
        "title": f"{collection}, contract version {contract.version}",
        "$ref": "#/$defs/documents",
        "$defs": said_of,
    }


def _row(columns: Mapping[str, ColumnPromise], about: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "properties": {name: _property(each) for name, each in columns.items()},
        "required": [name for name, each in columns.items() if each.required],
    }


def _property(promise: ColumnPromise) -> dict[str, Any]:
    found = dict(_JSON[promise.type])
    if promise.dimensions is not None:
        found |= {"minItems": promise.dimensions, "maxItems": promise.dimensions}
    if promise.values is not None:
        found["enum"] = [*promise.values, *([] if promise.required else [None])]
    if not promise.required:
        found["type"] = [found["type"], "null"]
    words = " ".join(filter(None, (promise.description, f"Space: {promise.space}." if promise.space else "")))
    return {**found, "description": words} if words else found


def dbt_sources(
    collection: str, contract: Contract, said: Said, location: str | None = None, *, of_asset: bool = False
) -> str:
    """`sources.yml`. `location`: the folder of an export as Parquet, which dbt-duckdb then reads itself.

    `of_asset`: of a signed asset, whose rows have no chunks.
    """
    tables = [
        {
            "name": table,
            "description": described,
            **({"config": {"meta": {"external_location": f"{location.rstrip('/')}/live/{table}/*.parquet"}}}
               if location else {}),
            "columns": list(_dbt_columns(promised_columns(contract, table, said))),
        }
        for table, described in (_OF_ASSET if of_asset else _TABLE_SAID).items()
    ]  # fmt: skip
    about = f"Releases of {collection}. What may be relied on: contract version {contract.version}."
    meta = {"contract_version": contract.version, "contract_digest": contract.digest}
    source = {"name": collection, "description": about, "config": {"meta": meta}, "tables": tables}
    head = f"# Made by: ai-assets contract {collection} --dbt-sources\n"
    return head + str(yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, width=110))


def _dbt_columns(columns: Mapping[str, ColumnPromise]) -> Iterator[dict[str, Any]]:
    for name, promise in columns.items():
        tests: list[Any] = ["not_null"] if promise.required else []
        if promise.values is not None:
            tests.append({"accepted_values": {"arguments": {"values": list(promise.values)}}})
        yield {
            "name": name,
            **({"description": promise.description} if promise.description else {}),
            "data_type": _DUCKDB[promise.type],
            **({"data_tests": tests} if tests else {}),
        }
