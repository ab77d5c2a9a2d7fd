"""Claims about the days of the cost asset in Dagster: its axis begins where there are figures and ends today."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from warehouses import Ledger, home_at

from ai_assets.base.home import Home
from ai_assets.costs.ledger_days import export_day
from ai_assets.orchestration.inference_cost import LEDGER, cost_assets, first_day
from ai_assets.storage.stores import Stores

CALLED, COPIED, EARLIER = "2026-10-20", "2026-10-07", "2026-09-30"


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


@pytest.fixture
def home(tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = home_at(tmp_path, store_url)
    monkeypatch.setenv("AI_ASSETS_HOME", str(made.root))
    monkeypatch.setenv("AI_ASSETS_STATE_URL", store_url)
    return made


@pytest.fixture
def stores(home: Home) -> Iterator[Stores]:
    with Stores.at(home) as opened:
        yield opened


def called(stores: Stores, *days: str) -> None:
    ledger = Ledger(stores)
    for day in days:
        ledger.attempt(ledger.caller(), f"{day}T09:00:00.000+00:00")


def axis() -> tuple[str, str]:
    """The first and the last day that Dagster shows."""
    days = cost_assets()[0].specs_by_key[LEDGER].partitions_def
    assert isinstance(days, dg.DailyPartitionsDefinition)
    keys = days.get_partition_keys()
    return keys[0], keys[-1]


def test_without_a_call_the_axis_is_today(stores: Stores) -> None:
    assert axis() == (today(), today())


def test_before_anything_is_copied_it_begins_with_the_first_call(stores: Stores) -> None:
    called(stores, CALLED, EARLIER)
    assert axis() == (EARLIER, today())


def test_it_begins_with_the_first_day_that_is_copied(stores: Stores) -> None:
    called(stores, CALLED, COPIED)
    export_day(stores, CALLED, "run")
    export_day(stores, COPIED, "run")
    for odd in ("2025-01-01.tmp", "20250101", "costs"):
        (stores.home.lake / "costs" / "inference_cost" / odd).mkdir()
    assert axis() == (COPIED, today())


def test_looking_makes_no_home_and_a_store_that_is_no_database_is_left_to_others(tmp_path: Path) -> None:
    none = Home(root=tmp_path / "home", project=tmp_path)
    assert first_day(none) == today()
    assert not none.root.exists()
    none.root.mkdir()
    (none.root / "state.db").write_text("no database at all, but long enough to be read as one" * 40)
    assert first_day(none) == today()
    assert [path.name for path in none.root.iterdir()] == ["state.db"]
