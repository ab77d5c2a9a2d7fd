"""Claims about what the cost warehouse says of itself: comments in DuckDB, one page of documentation, sources."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project
from warehouses import ask, build, home_at, random_ledger

from ai_assets.base.home import Home
from ai_assets.costs import day_rows, load_raw
from ai_assets.costs.dbt_docs import DocsUnwritable, write_docs
from ai_assets.costs.marts import models, raw_tables, warehouse_sources
from ai_assets.costs.marts import project as project_folder
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import WarehouseMissing


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = home_at(tmp_path_factory.mktemp("documented"))
    with Stores.at(home) as stores:
        random_ledger(stores, seed=3, days=["2026-10-30"], attempts=40)
        build(stores)
    return home


def test_every_table_that_is_loaded_is_described_with_its_columns() -> None:
    said = {table.name: table for table in raw_tables()}
    filled: dict[str, dict[str, Any]] = {
        "days": load_raw._DAYS, "prices": load_raw._PRICES, "devices": load_raw._DEVICES,
        "budgets": load_raw._BUDGETS, "built": load_raw._BUILT,
    }  # fmt: skip
    for name, columns in filled.items():
        assert [*said[name].columns] == [re.sub("_nusd$", "_usd", each) for each in columns]
    for name, rows in (("attempts", day_rows.ATTEMPTS), ("reuses", day_rows.REUSES)):
        assert [*said[name].columns] == [*rows.columns, "origin", "day"]
    assert all(description for table in (*raw_tables(), *models()) for _, description in table.columns.values())
    for path in (project_folder() / "models").rglob("*.yml"):  # a comma in a text that is not quoted begins a new key
        for table in re.findall(r"- (\{name: .*\})", path.read_text()):
            assert set(yaml.safe_load(table)) <= {"name", "description", "data_type"}, table
    [source] = yaml.safe_load(warehouse_sources())["sources"]
    assert {table["name"] for table in source["tables"]} == {
        model.name for model in models() if model.schema == "marts"
    }


@pytest.mark.slow
def test_every_column_of_the_warehouse_has_a_comment(built: Home) -> None:
    tables = "SELECT schema_name || '.' || table_name, comment FROM duckdb_tables() WHERE NOT internal"
    views = "SELECT schema_name || '.' || view_name, comment FROM duckdb_views() WHERE NOT internal"
    columns = "SELECT schema_name, table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    found = ask(built, f"{tables} UNION ALL {views}")
    assert {"marts.spend", "raw.built", "staging.stg_attempts"} <= {name for name, _ in found}
    assert [name for name, comment in found if not comment] == []
    assert [row[:3] for row in ask(built, columns) if not row[3]] == []


@pytest.mark.slow
def test_the_page_says_what_every_table_is_and_needs_nothing_else(built: Home, tmp_path: Path) -> None:
    before = built.warehouse.read_bytes()
    page = write_docs(built, tmp_path / "docs").read_text(encoding="utf-8")
    assert all(f'"{model.name}"' in page for model in models())
    assert "What was paid." in page
    assert [said for said in (str(built.root), str(Path.cwd()), "ai-assets.docs.") if said in page] == []
    assert built.warehouse.read_bytes() == before
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["index.html"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DocsUnwritable, match="Name another folder: ai-assets warehouse docs --out FOLDER"):
        write_docs(built, tmp_path / "file")


def test_before_anything_was_built_it_says_what_to_do(project: Project) -> None:
    with pytest.raises(WarehouseMissing, match="or now by: ai-assets cost"):
        write_docs(project.home, project.root / "docs")
