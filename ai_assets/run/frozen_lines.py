"""Frozen documents of a candidate or a release as lines: what is said of each, without its text."""

from collections.abc import Collection as Names
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.collection.loading import Collection
from ai_assets.embedding.spec import WITHOUT
from ai_assets.run.datasets.review_request import HEADLINE_CHARACTERS, in_short
from ai_assets.signoff.risk import UNREADABLE
from ai_assets.storage.lake import parquet_columns, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

KIND_OF_HEADLINE = {"label": "classify", "data": "extract", "text": "generate"}


@dataclass(frozen=True, kw_only=True)
class StageColumns:
    """A stage as a file holds it, whether it is still declared or not."""

    name: str
    kind: str
    headline: str
    """The column, with the stage's name before it."""


def stages_in(columns: Names[str], collection: Collection) -> list[StageColumns]:
    """In the order of the declaration; what is not declared any more comes last."""
    found = {
        stage.name: StageColumns(name=stage.name, kind=stage.kind_name, headline=headline)
        for stage in collection.stages
        if (headline := f"{stage.name}_{stage.columns.headline}") in columns
    }
    gone = {
        name: StageColumns(name=name, kind=kind, headline=column)
        for column in columns
        for headline, kind in KIND_OF_HEADLINE.items()
        if (name := column.removesuffix(f"_{headline}")) != column and f"{name}_model" in columns
    }
    return [*found.values(), *(stage for name, stage in gone.items() if name not in found)]


def headlines(path: Path, collection: Collection) -> "pa.Table":
    """`document_id`, and as `stage NAME` what each stage says in short: few values take little memory."""
    import pyarrow as pa

    stages = stages_in(parquet_columns(path), collection)
    table = read_parquet(path, list(dict.fromkeys(["document_id", *(stage.headline for stage in stages)])))
    said = {f"stage {stage.name}": pa.array(_cut(table[stage.headline]), pa.string()) for stage in stages}
    columns = {"document_id": table["document_id"].cast(pa.string())}
    return pa.table({**columns, **{name: each.dictionary_encode() for name, each in said.items()}}).combine_chunks()


def light_rows(path: Path, collection: Collection) -> Iterator[dict[str, Any]]:
    """What a line needs of each row. Texts are never read for it."""
    columns = parquet_columns(path)
    stages = stages_in(columns, collection)
    plain = [name for name in ("document_id", "title", "status", "reason", "digest", "leaf", WITHOUT)
             if name in columns]  # fmt: skip
    sure = [name for stage in stages if (name := f"{stage.name}_confidence") in columns]
    statuses = {stage.name: name for stage in stages if (name := f"{stage.name}_status") in columns}
    reasons = {stage.name: name for stage in stages if (name := f"{stage.name}_reason") in columns}
    others = [*plain, *sure, *statuses.values(), *reasons.values()]
    table = read_parquet(path, list(dict.fromkeys([*others, *(stage.headline for stage in stages)])))
    values = {name: table[name].to_pylist() for name in others}
    heads = {stage.name: _cut(table[stage.headline]) for stage in stages}
    for place in range(table.num_rows):
        said = {name: values[column][place] for name, column in statuses.items()}
        yield {
            "leaf": None,
            WITHOUT: None,
            "reason": None,
            **{name: values[name][place] for name in plain},
            "headlines": {name: column[place] for name, column in heads.items()},
            "asked": {name for name, column in heads.items() if column[place] is not None or said.get(name)},
            "confidences": [found for name in sure if (found := values[name][place]) is not None],
            "stage_statuses": set(said.values()),
            "stage_reasons": [
                f"{name}: {why}"
                for name, column in reasons.items()
                if said.get(name) == UNREADABLE and (why := values[column][place])
            ],
            "place": place,
        }


def _cut(column: "pa.ChunkedArray") -> list[str | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(column.type):  # of a function that makes no text
        return list(map(in_short, column.to_pylist()))
    return list(map(in_short, pc.utf8_slice_codeunits(column, 0, HEADLINE_CHARACTERS + 1).to_pylist()))
