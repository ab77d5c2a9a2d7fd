"""Rows of an asset as documents that people sign, and back: the very same rows, of the same types.

A row is frozen as a document whose columns `row.<name>` are those of the asset. They are part of its leaf, so the
digest that people sign is of every value.
"""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ai_assets.signed_asset.errors import SignedAssetWrong
from ai_assets.signoff.candidate import ROW, signable
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import parquet_schema, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

Kind: TypeAlias = Literal["rows", "pandas", "arrow"]
"""What the asset returned, and so what its release gives back: a list of dicts, a DataFrame, a Table."""
TITLE_CHARACTERS = 80


def table_of(asset: str, value: object) -> "tuple[pa.Table, Kind]":
    """What an asset returned, as a table."""
    import pyarrow as pa

    try:
        table, kind = _table(value)
    except pa.ArrowException as error:
        raise SignedAssetWrong(asset, f"its rows are no table: {' '.join(str(error).split())}") from error
    if table is None:
        raise SignedAssetWrong(
            asset, f"it returned {type(value).__name__}; return a list of dicts, a pandas DataFrame or an Arrow table"
        )
    names = table.column_names
    for name in names:
        if not name or names.count(name) > 1:
            raise SignedAssetWrong(asset, f"it has {'two columns' if name else 'a column'} named '{name}'")
    return table, kind


def _table(value: object) -> "tuple[pa.Table | None, Kind]":
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value.replace_schema_metadata(None), "arrow"
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value]).replace_schema_metadata(None), "arrow"
    if _is_frame(value):
        return _of_frame(value), "pandas"
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value).replace_schema_metadata(None), "arrow"
    if isinstance(value, Sequence) and all(isinstance(row, Mapping) for row in value):
        names = list(dict.fromkeys(name for row in value for name in row))  # Arrow alone looks at the first row only
        if all(isinstance(name, str) for name in names):
            return pa.table({name: [row.get(name) for row in value] for name in names}), "rows"
    return None, "rows"


def _is_frame(value: object) -> bool:
    return type(value).__name__ == "DataFrame" and type(value).__module__.partition(".")[0] == "pandas"


def _of_frame(value: Any) -> "pa.Table":
    """With its index as columns, unless that only counts the rows."""
    import pandas as pd
    import pyarrow as pa

    counts = isinstance(value.index, pd.RangeIndex) and value.index.name is None
    frame = value if counts else value.reset_index()
    frame = frame.rename(columns=str)
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


@dataclass(frozen=True, kw_only=True)
class FrozenRows:
    """Rows as documents, in order of their names."""

    documents: Sequence[dict[str, Any]]
    places: Sequence[int]
    """Of each document, its row in the table."""

    @property
    def version(self) -> str:
        return digest([[row["document_id"], row["digest"]] for row in self.documents])


def documents_of(asset: str, table: "pa.Table", key: Sequence[str]) -> FrozenRows:
    """A document per row. Equal rows without a key are told apart by a number."""
    if unknown := [name for name in key if name not in table.column_names]:
        raise SignedAssetWrong(asset, f"it has no column '{unknown[0]}', which is its key")
    found, seen = [], Counter[str]()
    for row in table.to_pylist():
        values = {f"{ROW}{name}": value for name, value in row.items()}
        try:
            content = digest({name: signable(value) for name, value in values.items()})
        except TypeError as error:
            raise SignedAssetWrong(asset, f"a row cannot be signed: {error}") from error
        name = _named(asset, row, key) if key else content[:16]
        seen[name] += 1
        if key and seen[name] > 1:
            raise SignedAssetWrong(asset, f"two rows have the key {name!r}; a key ({', '.join(key)}) names one row")
        name = name if seen[name] == 1 else f"{name}-{seen[name]}"
        found.append(
            {
                "document_id": name, "path": name, "row_key": None, "status": "ok", "reason": None,
                "duplicate_of": None, "source_digest": content, "digest": content, "title": _title(row, name, key),
                "text": _text(row), "language": None, **values,
            }
        )  # fmt: skip
    order = sorted(range(len(found)), key=lambda place: str(found[place]["document_id"]))
    return FrozenRows(documents=[found[place] for place in order], places=order)


def _named(asset: str, row: Mapping[str, Any], key: Sequence[str]) -> str:
    values = [row[name] for name in key]
    if missing := [name for name, value in zip(key, values, strict=True) if value is None or value == ""]:
        raise SignedAssetWrong(asset, f"a row has no value in '{missing[0]}', which is its key")
    return " / ".join(" ".join(str(value).split()) for value in values)


def _title(row: Mapping[str, Any], name: str, key: Sequence[str]) -> str:
    if key:
        return name
    first = next((value for value in row.values() if isinstance(value, str) and value.strip()), name)
    return " ".join(first.split())[:TITLE_CHARACTERS]


def _text(row: Mapping[str, Any]) -> str:
    """As people read it: a line per column."""
    return "\n".join(f"{name}: {_shown(value)}" for name, value in row.items())


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def file_of(table: "pa.Table", frozen: FrozenRows, leaves: Sequence[str]) -> "pa.Table":
    """What the file of documents holds: what people see of each, and its row as it was."""
    import pyarrow as pa

    from ai_assets.run.datasets.release_candidate import DOCUMENT_COLUMNS

    told = [{name: row[name] for name in DOCUMENT_COLUMNS} for row in frozen.documents]
    schema = pa.schema([(name, pa.string()) for name in DOCUMENT_COLUMNS])
    columns = dict(zip(schema.names, pa.Table.from_pylist(told, schema=schema).columns, strict=True))
    own = table.take(pa.array(frozen.places, pa.int64()))
    columns |= {f"{ROW}{name}": own[name] for name in own.column_names}
    return pa.table({**columns, "leaf": pa.array(leaves, pa.string())}).combine_chunks()


def released(path: Path) -> "pa.Table":
    """The rows of a file of documents, with the columns and types that they had. An altered file is not read."""
    names = [name for name in parquet_schema(path).names if name.startswith(ROW)]
    table = read_parquet(path, names) if names else read_parquet(path, ["leaf"]).select([])
    return table.rename_columns([name.removeprefix(ROW) for name in names]).replace_schema_metadata(None)


def as_kind(tables: "Sequence[pa.Table]", kind: Kind) -> Any:
    """All partitions together, as what the asset returned."""
    import pyarrow as pa

    if kind == "rows":
        return [row for table in tables for row in table.to_pylist()]
    table = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    return table if kind == "arrow" else table.to_pandas()
