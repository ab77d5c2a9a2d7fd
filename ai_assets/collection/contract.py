"""`contract:` of a collection: what readers of its releases may rely on, and what breaks that. Pure.

What a release must be is in `broken_columns`, `broken_by_definition`; what a contract may become under the same version
is in `broken_promises`. A column that is added breaks nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.yaml_settings import Strict, refuse, wrong
from ai_assets.storage.digest import Json, digest

NAME = "contract"
"""Of the gate, the check and the key."""
FILE = "contract.yaml"
PromisedType: TypeAlias = Literal[
    "string", "integer", "number", "boolean", "strings", "vector", "date", "timestamp", "decimal"
]
PromisedTable: TypeAlias = Literal["documents", "chunks"]
OnBreak: TypeAlias = Literal["refuse", "waive"]
ADDED_BY_READER: Mapping[str, PromisedType] = {
    "partition": "string", "release": "integer", "request": "string", "signed_by": "strings",
}  # fmt: skip
"""Columns that readers get with every row."""
SOMETIMES: Mapping[PromisedTable, Mapping[str, PromisedType]] = {
    "documents": {
        "encoding": "string", "encoding_certainty": "number", "near_duplicate_of": "string", "similarity": "number",
        "without_vectors": "string", "held": "string",
    },
    "chunks": {"headings": "string", "kind": "string", "page": "integer", "page_end": "integer"},
}  # fmt: skip
"""Columns that are written only where a row says something there, or only by newer built-in parts. Readers of a
contract that promises one have it all the same, and empty."""
NOTHING = "nothing"
"""The type of a column that is empty in every row: it keeps any promise that does not require a value."""
_MOST_SHOWN = 5


class ColumnPromise(Strict):
    """What may be relied on of one column."""

    type: PromisedType
    required: bool = False
    """Every row has a value there; without it, some may have none."""
    values: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Of a string, the only ones that occur."""
    dimensions: int | None = Field(default=None, ge=1)
    """Of a vector, how long it is (needed)."""
    space: str | None = Field(default=None, min_length=1)
    """Of a vector, what made it: vectors of two spaces cannot be compared."""
    description: str = ""

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for number, value in enumerate(values or ()):
            if value in (values or ())[:number]:
                raise ValueError(f"'{value}' is here twice")
        return values

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[PydanticCustomError]:
        if self.values is not None and self.type != "string":
            yield wrong(f"values are listed of a string, and this is '{self.type}'", "values")
        if self.type == "vector" and self.dimensions is None:
            yield wrong("is missing: say how long the vectors are", "dimensions")
        for key in ("dimensions", "space"):
            if self.type != "vector" and getattr(self, key) is not None:
                yield wrong(f"only a vector has it, and this is '{self.type}'", key)

    @property
    def in_words(self) -> str:
        return _type_in_words(self.type, self.dimensions, self.space)

    def as_data(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_defaults=True)


_SAID = {"strings": "list of strings"}


def _type_in_words(kind: str, dimensions: int | None, space: str | None) -> str:
    if kind == "vector":
        return f"a vector of {dimensions}{f' ({space})' if space else ''}"
    return f"{'an' if kind == 'integer' else 'a'} {_SAID.get(kind, kind)}"


class Promises(Strict):
    """The tables of a contract, wherever it is written."""

    columns: dict[str, ColumnPromise] = Field(default={})
    """Of the table `documents`."""
    chunks: dict[str, ColumnPromise] = Field(default={})
    """Of the table `chunks`."""

    @model_validator(mode="after")
    def _as_readers_have_them(self) -> Self:
        refuse(
            wrong(f"every reader has it as '{wanted}'", key, name, "type")
            for key, promised in (("columns", self.columns), ("chunks", self.chunks))
            for name, wanted in ADDED_BY_READER.items()
            if name in promised and promised[name].type != wanted
        )
        return self


class ContractSettings(Promises):
    """What readers of a release may rely on."""

    file: str | None = Field(default=None, min_length=1)
    """Where it is written, relative to this file, in place of `version`, `columns` and `chunks`."""
    version: int | None = Field(default=None, ge=1)
    """Raised with a change that breaks it (needed without `file`)."""
    on_break: OnBreak = "refuse"
    """Whether a candidate that breaks it is refused, or an approver may pass it over with a reason."""

    @model_validator(mode="after")
    def _in_one_place(self) -> Self:
        refuse(self._misplaced())
        return self

    def _misplaced(self) -> Iterator[PydanticCustomError]:
        if self.file is None:
            if self.version is None:
                yield wrong("is missing: the first version of a contract is 1", "version")
            if not self.columns and not self.chunks:
                yield wrong("it promises no column", "columns")
            return
        for key in ("version", "columns", "chunks"):
            if key in self.model_fields_set:
                yield wrong(f"'{self.file}' says it; write it there or here, not in both", key)


class ContractFile(Promises):
    """`contract.yaml`: the contract of one collection, in a file of its own."""

    collection: str
    version: int = Field(ge=1)

    @model_validator(mode="after")
    def _promises_something(self) -> Self:
        if not self.columns and not self.chunks:
            raise wrong("it promises no column", "columns")
        return self


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What was promised, as a release records it."""

    version: int
    columns: Mapping[str, ColumnPromise]
    chunks: Mapping[str, ColumnPromise]

    @property
    def digest(self) -> str:
        """Of what it promises; descriptions promise nothing."""
        said: list[Json] = [self.version]
        for promised in (self.columns, self.chunks):
            each = {name: {**found.as_data(), "description": ""} for name, found in promised.items()}
            said.append({name: {key: each[name][key] for key in sorted(each[name])} for name in sorted(each)})
        return digest(said)

    def of(self, table: PromisedTable) -> Mapping[str, ColumnPromise]:
        return self.columns if table == "documents" else self.chunks

    def as_data(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "columns": {name: found.as_data() for name, found in self.columns.items()},
            "chunks": {name: found.as_data() for name, found in self.chunks.items()},
        }

    @classmethod
    def from_data(cls, found: Mapping[str, Any]) -> "Contract":
        def promised(said: Mapping[str, Any]) -> dict[str, ColumnPromise]:
            return {name: ColumnPromise.model_validate(each) for name, each in said.items()}

        return cls(version=found["version"], columns=promised(found["columns"]), chunks=promised(found["chunks"]))

    def __str__(self) -> str:
        return f"contract version {self.version} ({self.digest[:12]})"


@dataclass(frozen=True, kw_only=True)
class DeclaredContract:
    """A contract, with where it is written."""

    contract: Contract
    on_break: OnBreak
    path: Path | None
    """None where a signed asset declares it in its code."""
    lines: Mapping[tuple[PromisedTable, str] | None, int | None]
    """Of each column; of the version under None."""
    asset: str | None = None
    """The signed asset that it is of."""

    @property
    def place(self) -> str:
        """Of its version, as people are told on any machine."""
        if self.path is None:
            return f"signed({self.asset})"
        line = self.lines.get(None)
        return f"{self.path.name}:{line}" if line is not None else self.path.name


@dataclass(frozen=True, kw_only=True)
class FoundColumn:
    """A column as it is, or as the definitions make it."""

    type: str
    """One of those a contract knows, or as the file calls it."""
    dimensions: int | None = None
    space: str | None = None
    values: tuple[str, ...] | None = None
    """All that can stand there; None where that is not known."""
    sometimes: bool = False
    """It is written only where a document says something in it."""
    description: str = ""

    @property
    def in_words(self) -> str:
        return _type_in_words(self.type, self.dimensions, self.space)


@dataclass(frozen=True, kw_only=True)
class BrokenPromise:
    table: PromisedTable
    column: str
    problem: str
    """What it was and what it is."""

    def __str__(self) -> str:
        return f"{self.table}.{self.column} {self.problem}"


def broken_columns(
    contract: Contract, table: PromisedTable, found: Mapping[str, FoundColumn], *, of_asset: bool = False
) -> Iterator[BrokenPromise]:
    """By names, types and what is known of values. Whether required ones are there is seen in rows alone.

    `of_asset`: the columns are somebody's own, of an asset that is signed, and none is written only sometimes.
    """
    for name, promised in contract.of(table).items():
        if name in ADDED_BY_READER:
            continue
        there = found.get(name)
        if there is None:
            if promised.required or of_asset or name not in SOMETIMES[table]:
                yield BrokenPromise(table=table, column=name, problem=f"was {promised.in_words} and is gone")
        elif problem := _changed(promised, there):
            yield BrokenPromise(table=table, column=name, problem=problem)


def _changed(promised: ColumnPromise, there: FoundColumn) -> str | None:
    if there.type == NOTHING:
        return None
    is_number = promised.type == "number" and there.type == "integer"
    same = (promised.type == there.type or is_number) and promised.dimensions in (None, there.dimensions)
    if not same or (promised.space is not None and there.space is not None and promised.space != there.space):
        return f"was {promised.in_words} and is {there.in_words}"
    known = there.values or () if promised.values is not None else ()
    more = [value for value in known if value not in (promised.values or ())]
    return f"was one of {listed(promised.values or ())} and can be {listed(more)} too" if more else None


def broken_promises(before: Contract, after: Contract) -> list[BrokenPromise]:
    """What readers of the one could rely on and those of the other cannot."""
    return [
        broken
        for table in _TABLES
        for name, promised in before.of(table).items()
        if (broken := _weaker(table, name, promised, after.of(table).get(name))) is not None
    ]


_TABLES: tuple[PromisedTable, ...] = ("documents", "chunks")


def _weaker(
    table: PromisedTable, name: str, before: ColumnPromise, after: ColumnPromise | None
) -> BrokenPromise | None:
    if after is None:
        problem: str | None = f"was {before.in_words} and is not promised any more"
    elif (before.type, before.dimensions) != (after.type, after.dimensions) or before.space not in (None, after.space):
        problem = f"was {before.in_words} and is {after.in_words}"
    elif before.required and not after.required:
        problem = "was required and is not any more"
    elif before.values is not None and after.values is None:
        problem = f"was one of {listed(before.values)} and can be any string"
    elif before.values is not None and after.values is not None and not set(after.values) <= set(before.values):
        more = [value for value in after.values if value not in before.values]
        problem = f"was one of {listed(before.values)} and can be {listed(more)} too"
    else:
        problem = None
    return None if problem is None else BrokenPromise(table=table, column=name, problem=problem)


def why_not_declared(declared: Contract, live: Contract | None, newest: Contract | None) -> list[str]:
    """Why this cannot be the next contract after what is published: the live one, and the one of the newest release
    (another one after a rollback)."""
    for published, was in ((live, "is"), (newest, "was")):
        if published is None or declared.version > published.version:
            continue
        if declared.version < published.version:
            return [f"version {published.version} {was} published, and version {declared.version} is an earlier one"]
        return [
            f"{broken} under the same version {declared.version}" for broken in broken_promises(published, declared)
        ]
    return []


def listed(values: Iterable[str]) -> str:
    every = list(values)
    more = f" and {len(every) - _MOST_SHOWN} more" if len(every) > _MOST_SHOWN else ""
    return f"{', '.join(every[:_MOST_SHOWN])}{more}"
