"""The tables of the warehouse as the dbt project declares them, read without dbt: it takes seconds to import.

tests/test_marts.py holds this against the manifest that dbt itself makes of the project.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

_REF = re.compile(r"\bref\('(\w+)'\)")
_SOURCE = re.compile(r"\bsource\('(\w+)', '(\w+)'\)")


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """What the builder loads; most of them are gone when the warehouse is finished."""

    name: str
    description: str
    columns: Mapping[str, tuple[str, str]]
    """Type and description by name."""
    schema: str = "raw"


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str
    schema: str
    description: str
    columns: Mapping[str, tuple[str, str]]
    """Type and description by name."""
    models: tuple[str, ...]
    """Those it is made from."""
    sources: tuple[str, ...]
    """Tables of the schema `raw` that it is made from."""
    tests: Mapping[str, str]
    """What each of its tests claims, by name."""


def project() -> Path:
    """The dbt project: in the wheel below this package, in the source tree beside it."""
    package = Path(__file__).parents[1]
    installed = package / "dbt"
    return installed if installed.is_dir() else package.parent / "dbt"


@lru_cache(maxsize=1)
def models() -> tuple[Model, ...]:
    """All of them, in order of name."""
    found = []
    for folder in sorted((project() / "models").iterdir()):
        if folder.is_dir():
            declared = _read(folder / "schema.yml")["models"]
            found += [
                _model(item, (folder / f"{item['name']}.sql").read_text(encoding="utf-8"), folder.name)
                for item in declared
            ]
    return tuple(sorted(found, key=lambda model: model.name))


def in_order(tables: Sequence[Model]) -> list[str]:
    """Their names, each after those it is made from: Dagster takes a later event of those for a change."""
    return list(TopologicalSorter({table.name: table.models for table in tables}).static_order())


@lru_cache(maxsize=1)
def assets_of_sources() -> Mapping[str, str]:
    """The asset that a table of the schema `raw` is loaded from, where one is."""
    return {table["name"]: table["meta"]["asset"] for table in _raw()["tables"] if "meta" in table}


@lru_cache(maxsize=1)
def raw_tables() -> tuple[RawTable, ...]:
    return tuple(
        RawTable(name=table["name"], description=_line(table["description"]), columns=_columns(table))
        for table in _raw()["tables"]
    )


def _raw() -> Mapping[str, Any]:
    (raw,) = _read(project() / "models" / "sources.yml")["sources"]
    found: Mapping[str, Any] = raw
    return found


def warehouse_sources() -> str:
    """`sources.yml` of what somebody's own dbt project may build on: the marts, and the views of single calls."""
    source = {
        "name": "ai_assets_costs",
        "description": "The cost warehouse of ai-assets, which is replaced as a whole. Attach it to be read.",
        "schema": "marts",
        "tables": [
            {
                "name": model.name,
                "description": model.description,
                "columns": [
                    {"name": name, "description": said, "data_type": kind}
                    for name, (kind, said) in model.columns.items()
                ],
            }
            for model in models()
            if model.schema == "marts"
        ],
    }
    head = "# Made by: ai-assets warehouse sources\n"
    return head + str(yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, width=110))


def _read(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def _line(said: str) -> str:
    return " ".join(said.split())


def _columns(declared: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {column["name"]: (column["data_type"], _line(column["description"])) for column in declared["columns"]}


def _model(declared: Mapping[str, Any], sql: str, schema: str) -> Model:
    return Model(
        name=declared["name"],
        schema=schema,
        description=_line(declared["description"]),
        columns=_columns(declared),
        models=tuple(sorted(set(_REF.findall(sql)))),
        sources=tuple(sorted({table for _, table in _SOURCE.findall(sql)})),
        tests=dict(_tests(declared)),
    )


def _tests(declared: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for test in declared["data_tests"]:
        ((kind, given),) = test.items()
        yield given["name"], _CLAIMS[kind]


_CLAIMS = {
    "unique_together": "No two rows are about the same.",
    "unique_number": "No two rows have the same number.",
    "never_null": "What must be known is.",
    "accepted_values": "No value but those that are documented.",
    "relationships": "What it points at is there.",
    "adds_up": "Its sums are those of what it is made from, to the last digit.",
    "adds_up_each_day": "Its sums of each day are those the ledger itself had, to the last digit.",
}
