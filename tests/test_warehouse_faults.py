"""Claims about builders that meet, that are killed, and that find no room: nobody reads half a warehouse.

Four kills by default; AI_ASSETS_KILLS=50 makes it fifty.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from warehouses import Ledger, ask, build, home_at, random_ledger

import ai_assets.base.child_main
from ai_assets.base.home import Home
from ai_assets.costs import building
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import SCHEMA_VERSION, WarehouseTooNew, WarehouseUnwritable

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("AI_ASSETS_KILLS", "4"))
DAYS = ["2026-11-01", "2026-11-02"]
SPENT = "SELECT sum(cost_usd) FROM marts.spend"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A warehouse of two days."""
    found = home_at(tmp_path)
    with Stores.at(found) as stores:
        random_ledger(stores, seed=3, days=DAYS)
        build(stores)
    return found


class Program:
    """`programs.costs` in a process of its own, which ends with this one."""

    def __init__(self, what: str, home: Home) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                ai_assets.base.child_main.__file__,
                str(os.getpid()),
                "programs.costs",
                what,
                str(home.project),
            ],
            cwd=REPOSITORY / "tests",
            env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> "Program":
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self

    def said(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, out
        return dict(json.loads(out.splitlines()[-1]))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=300)


def spend_more(home: Home, amount_nusd: int) -> None:
    with Stores.at(home) as stores:
        ledger = Ledger(stores)
        ledger._next = 10**6 + amount_nusd
        ledger.attempt(ledger.caller(), now(), cost_nusd=amount_nusd)


def litter(home: Home) -> list[str]:
    return sorted(path.name for path in home.warehouse.parent.iterdir() if path != home.warehouse)


def test_two_build_at_once_while_a_third_reads_and_nobody_fails_and_nothing_is_torn(home: Home) -> None:
    before = ask(home, SPENT)[0][0]
    spend_more(home, 777)
    builders, reader = [Program("build", home) for _ in range(2)], Program("read", home)
    reader.go()
    time.sleep(0.5)
    for program in builders:
        program.go()
    said = [program.said() for program in builders]
    (home.root / "stop").touch()
    found = reader.said()
    assert sorted(item["unchanged"] for item in said) == [False, True]
    assert found["torn"] == 0
    after = ask(home, SPENT)[0][0]
    assert found["seen"] in ([str(before), str(after)], [str(before)])
    assert int((after - before) * 10**9) == 777
    assert found["looks"] > 10
    assert litter(home) == []


def test_a_builder_killed_at_any_moment_leaves_the_old_or_the_new_and_the_next_one_tidies_up(home: Home) -> None:
    dice, expected = random.Random(TRIES), ask(home, SPENT)[0][0]
    for number in range(TRIES):
        spend_more(home, number + 1)
        program = Program("build", home).go()
        time.sleep(dice.uniform(0.1, 7.0))
        program.kill()
        seen = ask(home, SPENT)[0][0]
        expected_now = int(expected * 10**9) + sum(range(1, number + 2))
        assert int(expected * 10**9) <= int(seen * 10**9) <= expected_now
    with Stores.at(home) as stores:
        build(stores)
        assert not building.is_due(stores)
    assert int(ask(home, SPENT)[0][0] * 10**9) == int(expected * 10**9) + sum(range(1, TRIES + 1))
    assert litter(home) == []


# A disk that refuses


@pytest.fixture
def small_disk(home: Home, skip_loudly: Callable[[str], None]) -> Iterator[Path]:
    """The folder of the warehouse, with the live one, on a file system of its own of 12 MB."""
    folder, live = home.warehouse.parent, home.warehouse.read_bytes()
    home.warehouse.unlink()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        skip_loudly("a full and a read-only disk need the right to mount one: their tests did not run")
    home.warehouse.write_bytes(live)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("room", [4096, 3_000_000])
def test_on_a_disk_that_fills_up_the_old_warehouse_stays_and_nothing_else(
    home: Home, small_disk: Path, room: int
) -> None:
    """With so many bytes left it fails while loading, or in the middle of dbt."""
    before = ask(home, SPENT)
    spend_more(home, 5)
    status = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"\0" * (status.f_bavail * status.f_frsize - room))
    with (
        Stores.at(home) as stores,
        pytest.raises(WarehouseUnwritable, match=r"could not be built in .*Free some space .*still readable\.$"),
    ):
        build(stores)
    assert ask(home, SPENT) == before
    assert litter(home) == ["filler"]
    (small_disk / "filler").unlink()
    with Stores.at(home) as stores:
        assert not build(stores).unchanged


def test_on_a_read_only_disk_the_old_warehouse_stays(home: Home, small_disk: Path) -> None:
    before = ask(home, SPENT)
    spend_more(home, 5)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Stores.at(home) as stores, pytest.raises(WarehouseUnwritable, match="read-only file system"):
        build(stores)
    assert ask(home, SPENT) == before


def test_a_newer_warehouse_is_refused_before_anything_is_built_and_is_left_as_it_is(home: Home) -> None:
    import duckdb

    with duckdb.connect(str(home.warehouse)) as connection:
        connection.execute("UPDATE raw.built SET schema_version = ?", [SCHEMA_VERSION + 1])
    before = home.warehouse.read_bytes()
    spend_more(home, 5)
    with Stores.at(home) as stores, pytest.raises(WarehouseTooNew, match="Install that version"):
        build(stores)
    assert home.warehouse.read_bytes() == before


def test_a_damaged_warehouse_is_made_again(home: Home) -> None:
    before = ask(home, SPENT)
    home.warehouse.write_bytes(home.warehouse.read_bytes()[:5000])
    with Stores.at(home) as stores:
        assert building.is_due(stores)
        assert not build(stores).unchanged
    assert ask(home, SPENT) == before
