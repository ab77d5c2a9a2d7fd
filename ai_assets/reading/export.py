"""A release as files for other engines, written whole beside what is there and then shown in one step.

Parquet and JSON lines: a folder for each release, and a link `live` that is replaced at once. Delta and Iceberg: a
commit that takes away the files of the release before and adds those of this one, so that a reader sees either.
"""

import datetime
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import quote

from ai_assets.base.durable import sync, write_whole
from ai_assets.base.extras import need
from ai_assets.base.plural import plural
from ai_assets.base.printable import readable_json
from ai_assets.reading.delta import DeltaTable, delta_schema
from ai_assets.reading.errors import ExportPlaceTaken
from ai_assets.reading.published import RELEASE, Published, Table
from ai_assets.storage.lake import writing_rows

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "jsonl", "delta", "iceberg"]
LIVE = "live"
MARK = "release.json"
"""Written last: a folder with it is whole."""
_MARK_OF_FOLDER = ".ai-assets-export"
_BEGUN = ".begun-"
Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how it is read."""

    path: Path
    tables: Mapping[str, str]
    """By table, what to give to the engine: a glob, a folder or a name."""
    rows: Mapping[str, int]
    was_there: bool
    """Nothing was written: this release was there already."""


def export(release: Published, to: Path, into: Format, say: Say = lambda _line: None) -> Exported:
    """Both tables. What an export wrote before is replaced; a folder with anything else in it is not touched."""
    _require_ours(to, into)
    if into == "delta":
        return _as_delta(release, to, say)
    if into == "iceberg":
        return _as_iceberg(release, to, say)
    return _as_files(release, to, into, say)


def _as_files(release: Published, to: Path, into: Format, say: Say) -> Exported:
    name = f"release-{release.number}-{release.digest[:12]}"
    folder, ending = to / name, "parquet" if into == "parquet" else "jsonl"
    was_there = (folder / MARK).is_file()
    if not was_there:
        begun = to / f"{_BEGUN}{uuid.uuid4().hex}"
        rows = {table: _written(release, table, begun / table, ending, say) for table in get_args(Table)}
        (begun / MARK).write_text(readable_json({**_about(release), "rows": rows}, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        begun.rename(folder)
        sync(to)
    link = to / f"{_BEGUN}{uuid.uuid4().hex}"
    link.symlink_to(name)
    link.replace(to / LIVE)
    _sweep(to, keep=name)
    kept = json.loads((folder / MARK).read_bytes())
    tables = {table: str(to / LIVE / table / f"*.{ending}") for table in get_args(Table)}
    return Exported(path=to / LIVE, tables=tables, rows=kept["rows"], was_there=was_there)


def _written(release: Published, table: Table, folder: Path, ending: str, say: Say) -> int:
    """One file for each partition; how many rows in all."""
    folder.mkdir(parents=True)
    schema, rows = release.schema(table), 0
    for number, partition in enumerate(release.partitions, start=1):
        if ending == "parquet":
            rows += _content_file(release, table, partition, folder, schema)[1]
        else:
            batches = release.batches(table, partitions=[partition])
            rows += _write_lines(folder / f"{quote(partition, safe='')}.{ending}", batches)
        say(f"{table}: {partition} ({number} of {len(release.partitions)}), {plural(rows, 'row')}")
    return rows


def _write_lines(path: Path, batches: "pa.RecordBatchReader") -> int:
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            for row in batch.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
                rows += 1
        file.flush()
        os.fsync(file.fileno())
    return rows


def _plain(value: object) -> object:
    """Of what somebody's own columns hold and JSON does not."""
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def _sweep(to: Path, *, keep: str) -> None:
    """Other releases and what a killed export left, but for the newest that was live before: somebody may read it."""
    for begun in to.glob(f"{_BEGUN}*"):
        shutil.rmtree(begun, ignore_errors=True) if begun.is_dir() and not begun.is_symlink() else begun.unlink()
    others = [path for path in to.glob("release-*") if path.name != keep]
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-1]:
        shutil.rmtree(path, ignore_errors=True)


def _as_delta(release: Published, to: Path, say: Say) -> Exported:
    """Two tables. A partition whose rows are those of the release before keeps its file."""
    tables, rows, was_there = {}, {}, True
    for table in get_args(Table):
        delta, whole = DeltaTable(to / table), release.schema(table)
        # Which release it is stands in the commit: else every row would be another one with each release.
        schema = delta_schema(whole.remove(whole.get_field_index(RELEASE)).remove_metadata())
        files = dict(_content_file(release, table, name, delta.path, schema) for name in release.partitions)
        was_there &= not delta.replace(schema, files, _about(release))
        rows[table], tables[table] = sum(files.values()), str(delta.path)
        say(f"{table}: {plural(len(files), 'file')}, {plural(rows[table], 'row')}")
    return Exported(path=to, tables=tables, rows=rows, was_there=was_there)


def _content_file(
    release: Published, table: Table, partition: str, folder: Path, schema: "pa.Schema"
) -> tuple[str, int]:
    """The rows of a partition under the name of their digest; the name, and how many they are."""
    with writing_rows(folder, schema) as writer:
        for batch in release.batches(table, columns=schema.names, partitions=[partition]):
            writer.extend(batch.cast(schema))
    return writer.path.name, writer.rows


def _as_iceberg(release: Published, to: Path, say: Say) -> Exported:
    """Two tables in a catalog of SQLite beside them."""
    need("iceberg", "A table for Iceberg")
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.exceptions import NoSuchTableError

    catalog = SqlCatalog("ai_assets", uri=f"sqlite:///{to.absolute()}/catalog.db", warehouse=to.absolute().as_uri())
    try:
        catalog.create_namespace_if_not_exists(release.collection)
        tables, rows, was_there = {}, {}, True
        for table in get_args(Table):
            name = f"{release.collection}.{table}"
            found = release.arrow(table).replace_schema_metadata(None)
            try:
                kept = catalog.load_table(name)
            except NoSuchTableError:
                kept = catalog.create_table(name, schema=found.schema)
            rows[table], tables[table] = found.num_rows, name
            snapshot = kept.current_snapshot()
            about = {f"ai_assets.{key}": str(value) for key, value in _about(release).items()}
            if snapshot is not None and snapshot.summary is not None and (
                snapshot.summary.additional_properties.get("ai_assets.digest"),
                snapshot.summary.additional_properties.get("ai_assets.release"),
            ) == (release.digest, str(release.number)):  # fmt: skip
                continue
            with kept.update_schema(allow_incompatible_changes=True) as update:
                update.union_by_name(found.schema)
            write = kept.append if snapshot is None else kept.overwrite
            write(found, snapshot_properties=about)
            was_there = False
            say(f"{table}: {plural(found.num_rows, 'row')}")
    finally:
        catalog.close()
    return Exported(path=to / "catalog.db", tables=tables, rows=rows, was_there=was_there)


def _about(release: Published) -> dict[str, Any]:
    return {"collection": release.collection, "release": release.number, "digest": release.digest,
            "published_at": release.published_at,
            **({"contract": {"version": promised.version, "digest": promised.digest}}
               if (promised := release.contract) is not None else {})}  # fmt: skip


def _require_ours(to: Path, into: Format) -> None:
    """Makes the folder; raises where an export of this format did not make what is in it."""
    to.mkdir(parents=True, exist_ok=True)
    mark = to / _MARK_OF_FOLDER
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() == into:
        return
    if found := sorted(path.name for path in to.iterdir()):
        raise ExportPlaceTaken(to, into, mark.read_text(encoding="utf-8").strip() if mark.is_file() else found[0])
    write_whole(mark, f"{into}\n".encode())
