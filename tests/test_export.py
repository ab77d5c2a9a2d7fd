"""Claims about `ai-assets export`: other engines read one whole release, whichever was written before or killed."""

import importlib.util
import json
import os
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, get_args

import duckdb
import pyarrow as pa
import pytest
from conftest import Project
from published import FIRST

import ai_assets
from ai_assets.base.errors import UserError
from ai_assets.reading import delta
from ai_assets.reading.export import LIVE, Format, export
from ai_assets.reading.published import Published

ENGINES = importlib.util.find_spec("deltalake") is None or importlib.util.find_spec("pyiceberg") is None
needs_engines = pytest.mark.skipif(
    ENGINES, reason="deltalake, pyiceberg and polars are not here: pip install -r tests/engines.txt"
)


def texts(rows: list[tuple[Any, ...]]) -> dict[str, str]:
    return {document: text for document, text in rows}  # noqa: C416  # two columns


def test_a_glob_below_live_sees_one_release(live: Published, tmp_path: Path) -> None:
    for release in (live.release(1), live, live.release(1)):  # the last is a rollback
        for into, read in (("parquet", "read_parquet"), ("jsonl", "read_json")):
            found = export(release, tmp_path / into, into)  # type: ignore[arg-type]
            documents, chunks = (getattr(duckdb, read)(found.tables[table]) for table in ("documents", "chunks"))
            rows = texts(documents.select("document_id", "text").fetchall())
            assert ("heron" in rows[FIRST], len(rows), found.rows["documents"]) == (release.number == 2, 6, 6)
            assert len(chunks.select("vector").fetchall()) == found.rows["chunks"]
    assert export(live.release(1), tmp_path / "parquet", "parquet").was_there
    assert sorted(path.name for path in (tmp_path / "parquet").iterdir()) == [
        ".ai-assets-export", LIVE, f"release-1-{live.release(1).digest[:12]}", f"release-2-{live.digest[:12]}",
    ]  # fmt: skip


def test_delta_keeps_files_of_partitions_that_did_not_change(live: Published, tmp_path: Path) -> None:
    export(live.release(1), tmp_path, "delta")
    export(live, tmp_path, "delta")
    log = [json.loads(line) for line in (tmp_path / "documents" / delta.LOG / f"{1:020}.json").read_text().splitlines()]
    assert [*(next(iter(action)) for action in log)] == ["commitInfo", "remove", "add"]
    assert log[0]["commitInfo"]["ai_assets"]["digest"] == live.digest
    assert export(live, tmp_path, "delta").was_there
    table = delta.DeltaTable(tmp_path / "documents")
    (table.path / delta.LOG / f"{2:020}.json").write_text('{"commitInfo": {}}\n')  # somebody else's commit
    with pytest.raises(UserError, match="Somebody else committed to the Delta table"):
        table._commit(2, [])


def test_a_folder_of_somebody_else_is_not_touched(live: Published, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"has thesis.txt in it, which an export as parquet did not write"):
        export(live, tmp_path, "parquet")
    export(live, tmp_path / "own", "jsonl")
    with pytest.raises(UserError, match=r"has jsonl in it, which an export as delta did not write"):
        export(live, tmp_path / "own", "delta")


def test_a_column_that_delta_cannot_hold_is_named() -> None:
    with pytest.raises(UserError, match=r"Delta has no type for the column 'row.took' \(duration\[us\]\)"):
        delta._field(pa.field("row.took", pa.duration("us")))


def test_the_command_says_that_there_is_no_such_collection(published_project: Project, tmp_path: Path) -> None:
    elsewhere = {"AI_ASSETS_HOME": str(tmp_path / "home")}
    for name, environment, said in (
        ("noted", {}, "error: There is no collection 'noted' in "),
        ("notes", elsewhere, "error: notes has no live release yet."),
        ("noted", elsewhere, "error: There is no collection 'noted' in "),
    ):
        done = published_project.cli("export", name, str(tmp_path / "to"), **environment)
        assert (done.returncode, done.stderr.startswith(said)) == (2, True), done.stderr


def test_the_command_says_where_it_is(live: Published, published_project: Project, tmp_path: Path) -> None:
    done = published_project.cli("export", "notes", str(tmp_path / "to"), "--release", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["release"], found["rows"]["documents"]) == (1, 6)
    assert Path(found["tables"]["documents"]).parent.is_dir()


def killed(folder: Path, variables: dict[str, str], into: Format, number: int) -> None:
    """In a process of its own, which dies at that file-system call of the export."""
    os.environ.update(variables)
    left = [number]
    for name in ("fsync", "link", "rename", "replace"):
        real = getattr(os, name)

        def counted(*arguments: Any, real: Any = real, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(os, name, counted)
    export(ai_assets.live("notes", project=variables["PROJECT"]), folder, into)


@pytest.mark.slow
@pytest.mark.parametrize("into", ["parquet", "delta"])
def test_a_killed_export_shows_the_release_before_or_the_new_one(
    live: Published, published_project: Project, tmp_path: Path, into: Format, processes: ForkServerContext
) -> None:
    variables = {**published_project.home.variables(), "PROJECT": str(published_project.root)}
    export(live.release(1), tmp_path, into)

    def seen() -> bool:
        if into == "parquet":
            paths = [str(tmp_path / "live" / "documents" / "*.parquet")]
        else:
            _, files, _, _ = delta.DeltaTable(tmp_path / "documents")._read()
            paths = [str(tmp_path / "documents" / name) for name in files]
        rows = duckdb.read_parquet(paths).select("document_id", "text").fetchall()
        return "heron" in texts(rows)[FIRST]

    ended = []
    for number in range(1, 40, 3):
        process = processes.Process(target=killed, args=(tmp_path, variables, into, number))
        process.start()
        process.join()
        ended.append(process.exitcode)
        seen()  # reads whole files, whichever
        if process.exitcode == 0:
            break
        export(live.release(1), tmp_path, into)
        assert not seen()
    assert ended[0] == -signal.SIGKILL
    assert ended[-1] == 0
    assert seen()
    assert not list(tmp_path.glob(".begun-*"))


@needs_engines
@pytest.mark.slow
def test_real_engines_read_what_was_written(live: Published, published_project: Project, tmp_path: Path) -> None:
    import polars as pl
    from deltalake import DeltaTable
    from pyiceberg.catalog.sql import SqlCatalog

    assert live.polars().filter(pl.col("text").str.contains("heron"))["document_id"].to_list() == [FIRST]
    for number in (1, 2):
        release = live.release(number)
        export(release, tmp_path / "delta", "delta")
        export(release, tmp_path / "iceberg", "iceberg")
    table = DeltaTable(tmp_path / "delta" / "documents")
    assert table.version() == 1
    assert len(texts_of(table.to_pyarrow_table())) == 6
    assert "heron" in texts_of(table.to_pyarrow_table())[FIRST]
    table.load_as_version(0)
    assert "heron" not in texts_of(table.to_pyarrow_table())[FIRST]
    passages = pl.scan_delta(str(tmp_path / "delta" / "chunks")).collect()
    assert len(passages["vector"][0]) == 256
    place = tmp_path / "iceberg"
    catalog = SqlCatalog("ai_assets", uri=f"sqlite:///{place}/catalog.db", warehouse=place.as_uri())
    kept = catalog.load_table("notes.documents")
    assert "heron" in texts_of(kept.scan().to_arrow())[FIRST]
    assert len(catalog.load_table("notes.chunks").scan().to_arrow()["vector"][0]) == 256
    catalog.close()
    assert export(live, place, "iceberg").was_there
    assert set(get_args(Format)) == {"parquet", "jsonl", "delta", "iceberg"}


def texts_of(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["document_id"].to_pylist(), table["text"].to_pylist(), strict=True))
