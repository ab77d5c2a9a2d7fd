"""Claims about `ai-assets cost`: the real command on a ledger that a real engine filled."""

import contextlib
import csv
import datetime
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import duckdb
import pytest
import sqlalchemy as sa
from conftest import Project, project_at
from engines import ask, one, questions
from provider import Provider
from spent import FORMULA, LOST, TODAY, Spending

from ai_assets.costs import cost_query
from ai_assets.costs.figures import DIMENSIONS, Dimension, WarehouseTimes
from ai_assets.costs.tables import dollars
from ai_assets.costs.window import Scope, Window, WindowInvalid, since
from ai_assets.inference.records import Caller
from ai_assets.orchestration.in_process import bring_costs_up_to_date as bring_up_to_date
from ai_assets.storage.state import StateStore
from ai_assets.storage.warehouse import reading as opened

pytestmark = pytest.mark.slow

ALL_DAYS = ("--since", "60d")
ALL = Scope(window=Window.of_days(60, TODAY))


@pytest.fixture(scope="module")
def spending(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spending]:
    """Built once; claims that change it come last."""
    with pytest.MonkeyPatch.context() as patch, Provider() as provider:
        made = Spending(project=project_at(tmp_path_factory.mktemp("cost"), patch), provider=provider)
        made.everything()
        bring_up_to_date(made.project.home)
        yield made


@pytest.fixture(scope="module")
def ledger_nusd(spending: Spending) -> Callable[[], int]:
    def paid() -> int:
        with closing(StateStore(spending.project.home.state_url)) as state, state.read() as connection:
            return int(connection.execute(sa.text("SELECT sum(cost_nusd) FROM attempts")).scalar_one())

    return paid


def run(project: Project, *arguments: str, as_is: bool = True) -> "subprocess.CompletedProcess[str]":
    return project.cli("cost", *(["--as-is"] if as_is else []), *arguments)


def told(project: Project, *arguments: str, as_is: bool = True) -> Any:
    found = run(project, *arguments, "--json", as_is=as_is)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_people_get_a_head_line_a_table_with_bars_and_the_waste(spending: Spending) -> None:
    found = run(spending.project, "--since", "7d")
    assert (found.returncode, found.stderr) == (0, "")
    head, *lines = found.stdout.splitlines()
    assert head.startswith(f"{TODAY - datetime.timedelta(days=6)} to {TODAY}: 12 calls, $0.")
    for said in (" paid", " saved by reuse", " maybe billed", "against the 7 days before", "will likely come to $"):
        assert said in head
    (small,) = [line for line in lines if " small " in line]
    assert "100 %" in small
    assert "█" in small
    assert any("never published" in line for line in lines)
    assert any("ambiguous" in line and "nobody knows" in line for line in lines)
    assert lines[-1].startswith("As of ")


@pytest.mark.parametrize(("width", "kept"), [(80, False), (170, True)])
def test_the_table_fits_the_terminal(spending: Spending, width: int, kept: bool) -> None:
    """On a narrow one the columns that matter least make room for the bars."""
    terminal, its_end = pty.openpty()
    fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    command = [Path(sys.executable).parent / "ai-assets", "cost", "--as-is", "--by", "asset"]
    sized = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment = {**sized, "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen(command, cwd=spending.project.root, env=environment, stdout=its_end)
    os.close(its_end)
    with open(terminal, encoding="utf-8") as screen:  # noqa: PTH123 - a descriptor
        lines = list(read(screen))
    assert process.wait() == 0
    assert max(len(line) for line in lines) <= width
    (header,) = [line for line in lines if "collection" in line and "paid" in line]
    assert ("attempts" in header) is kept
    assert any("triage" in line and "█" in line for line in lines)


def read(screen: TextIO) -> Iterator[str]:
    """Lines until the other end is closed, which Linux tells as an error."""
    with contextlib.suppress(OSError):
        for line in screen:
            yield re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()


@pytest.mark.parametrize("by", [by for by in DIMENSIONS if by != "error"])
def test_the_lines_of_every_dimension_add_up_to_the_ledger(
    spending: Spending, ledger_nusd: Callable[[], int], by: Dimension
) -> None:
    with opened(spending.project.home.warehouse) as warehouse:
        found, count = cost_query.lines(warehouse, ALL, by)
        totals = cost_query.totals(warehouse, ALL)
        few, still = cost_query.lines(warehouse, ALL, by, 1)
    assert len(found) == count == still
    assert few == found[:1]
    assert sum((line.cost_usd for line in found), Decimal(0)) == totals.cost_usd == Decimal(ledger_nusd()).scaleb(-9)
    assert sum(line.attempts for line in found) == totals.attempts
    assert sum(line.reused for line in found) == totals.reused == 1
    assert sum((line.maybe_usd for line in found), Decimal(0)) == totals.maybe_usd > 0


def test_errors_are_counted_by_their_class(spending: Spending) -> None:
    lines = told(spending.project, "--by", "error")["lines"]
    assert {line["error"]: line["attempts"] for line in lines} == {"connection_lost": 1, "context_too_long": 1}
    assert set(lines[0]) == {"error", "attempts", "cost_usd", "maybe_usd", "share"}


def test_programs_get_money_as_plain_decimals(spending: Spending, ledger_nusd: Callable[[], int]) -> None:
    found = told(spending.project, *ALL_DAYS, "--by", "asset")
    assert Decimal(found["totals"]["cost_usd"]) == Decimal(ledger_nusd()).scaleb(-9)
    amounts = [value for line in found["lines"] for name, value in line.items() if name.endswith("_usd")]
    assert all(
        isinstance(amount, str) and "E" not in amount and len(amount.partition(".")[2]) == 9 for amount in amounts
    )
    assert {waste["category"] for waste in found["waste"]} == {"never published", "ambiguous"}
    of_one = told(spending.project, *ALL_DAYS, "--by", "day", "--collection", "handbook", "--tenant", "people")
    assert [line["day"] for line in of_one["lines"]] == [str(TODAY)]
    assert of_one["totals"]["calls"] == 2


def test_spreadsheets_get_no_formula(spending: Spending) -> None:
    found = run(spending.project, "--by", "document", "--csv", *ALL_DAYS)
    lines = list(csv.reader(io.StringIO(found.stdout, newline="")))
    assert lines[0][:3] == ["collection", "document", "calls"]
    names = [line[1] for line in lines[1:]]
    assert f"'{FORMULA}" in names
    assert FORMULA not in names
    assert "1 cell begins with an apostrophe" in found.stderr
    assert all(len(line) == len(lines[0]) and "E" not in line[5] for line in lines)
    whole = told(spending.project, "--by", "document", *ALL_DAYS)["lines"]
    assert [line[5] for line in lines[1:]] == [line["cost_usd"] for line in whole]
    assert LOST in names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "30x"), "'30x' is neither a number of days nor a day"),
        (("--since", "2999-01-01"), "has not come yet"),
        (("--since", "2026-02-30"), "is no day of the calendar"),
        (("--collection", "report"), "did you mean 'reports'?"),
        (("--tenant", "poeple"), "did you mean 'people'?"),
        (("--json", "--csv"), "choose one of --json and --csv"),
    ],
)
def test_wrong_input_is_one_sentence(spending: Spending, arguments: tuple[str, ...], said: str) -> None:
    found = run(spending.project, *arguments)
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("asked", ["1d", "30d", str(TODAY), "2026-01-01", " 7d "])
def test_a_window_ends_today(asked: str) -> None:
    assert since(asked, TODAY).last == TODAY


@pytest.mark.parametrize("asked", ["0d", "d", "-3d", "1e3d", "99999999d", "٣d", "2026-1-1", "", "0000-01-01"])
def test_what_is_no_window_is_refused(asked: str) -> None:
    with pytest.raises(WindowInvalid):
        since(asked, TODAY)


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("0", "$0.00"), ("1E-9", "$0.000000001"), ("0.000012345", "$0.0000123"), ("0.0123", "$0.0123"),
        ("0.5", "$0.50"), ("0.9999", "$1.00"), ("1234.567", "$1,234.57"), ("-0.25", "−$0.25"),
    ],
)  # fmt: skip
def test_small_amounts_keep_their_digits(amount: str, said: str) -> None:
    assert dollars(Decimal(amount)) == said


def test_without_any_call_there_is_a_sentence(project: Project) -> None:
    for as_is, said in ((True, "nothing was built yet"), (False, "No model was asked yet")):
        found = run(project, as_is=as_is)
        assert (found.returncode, found.stdout) == (2, "")
        assert said in found.stderr


def test_new_calls_are_built_in_first_unless_told_otherwise(spending: Spending, ledger_nusd: Callable[[], int]) -> None:
    before = ledger_nusd()
    spending.ask("later.txt", run_id="run-later")
    as_is = run(spending.project, *ALL_DAYS)
    assert "1 call since not counted" in as_is.stdout
    assert Decimal(told(spending.project, *ALL_DAYS)["totals"]["cost_usd"]) == Decimal(before).scaleb(-9)
    found = run(spending.project, *ALL_DAYS, as_is=False)
    assert f"copying the ledger of {TODAY}" in found.stderr
    assert "since not counted" not in found.stdout
    assert Decimal(told(spending.project, *ALL_DAYS)["totals"]["cost_usd"]) == Decimal(ledger_nusd()).scaleb(-9)


def test_what_cannot_be_built_is_told_and_what_is_there_is_shown(spending: Spending) -> None:
    declared = spending.project.root / "inference.yaml"
    text = declared.read_text()
    declared.write_text(f"{text}\nbudgetz: []\n")
    try:
        found = run(spending.project, as_is=False)
    finally:
        declared.write_text(text)
    assert found.returncode == 0
    assert "not brought up to date: " in found.stderr
    assert "budgetz" in found.stderr
    assert " calls, $" in found.stdout


def test_a_newer_warehouse_is_a_sentence_and_stays(spending: Spending) -> None:
    path = spending.project.home.warehouse
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE raw.built SET schema_version = 99")
    before = path.read_bytes()
    for as_is in (True, False):
        found = run(spending.project, as_is=as_is)
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr.replace("\n", " ").count("was written by a newer version") == 1
    assert path.read_bytes() == before


def test_calls_that_are_not_in_the_figures_yet_are_counted_in_either_store(store_url: str, provider: Provider) -> None:
    made = one(provider.url)
    ask(store_url, made, questions(2), Caller(collection="reports", run_id="one"))
    ask(store_url, made, questions(1, first=5), Caller(collection="handbook", run_id="two"))
    with closing(StateStore(store_url)) as state, state.read() as connection:
        sent = connection.execute(sa.text("SELECT sent_at FROM attempts ORDER BY sent_at")).scalars().all()
        nothing, half = (WarehouseTimes(built_at=sent[0], ledger_at=moment) for moment in (None, sent[1]))
        assert cost_query.behind(connection, nothing, None) == 3
        assert cost_query.behind(connection, nothing, ["reports"]) == 2
        assert cost_query.behind(connection, nothing, []) == 0
        assert cost_query.behind(connection, half, None) == sum(at > sent[1] for at in sent)
        assert cost_query.behind(connection, WarehouseTimes(built_at=sent[0], ledger_at=sent[2]), None) == 0
