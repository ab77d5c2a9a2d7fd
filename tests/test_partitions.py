# ruff: noqa: E501  a document is a row, and a row is a line
"""Claims about partitions: our keys are Dagster's own, and every document has one of them or a reason why not."""

import datetime
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_assets.collection.errors import PartitionUnknown, RangeReversed
from ai_assets.collection.partitions import PartitionScheme, Unassigned, consecutive
from ai_assets.collection.settings import PartitionSettings

By = Literal["day", "week", "month"]
DATES = st.dates(datetime.date(1999, 1, 1), datetime.date(2040, 12, 31))
SPANS = st.tuples(DATES, st.integers(0, 400)).map(lambda span: (span[0], span[0] + datetime.timedelta(days=span[1])))
KINDS: st.SearchStrategy[By] = st.sampled_from(["day", "week", "month"])


def scheme(**declared: Any) -> PartitionScheme:
    return PartitionScheme("notes", PartitionSettings.model_validate(declared))


def keys_of_dagster(found: PartitionScheme) -> Sequence[str]:
    return found.definition().get_partition_keys()


@given(KINDS, SPANS)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_keys_are_those_of_dagster_whatever_the_dates(by: By, span: tuple[datetime.date, datetime.date]) -> None:
    found = scheme(by=by, start=span[0], end=span[1])
    assert found.keys() == keys_of_dagster(found)


@given(KINDS, st.integers(0, 400))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_without_an_end_keys_go_on_to_the_period_of_today(by: By, days_ago: int) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    found = scheme(by=by, start=today - datetime.timedelta(days=days_ago))
    assert found.keys() == keys_of_dagster(found)
    assert found.key_for(f"{today}/note.txt") == found.keys()[-1]


@pytest.mark.parametrize("by", ["day", "week", "month"])
def test_before_its_start_a_collection_has_no_partitions(by: By) -> None:
    far = scheme(by=by, start=datetime.date(2190, 5, 5))
    assert far.keys() == keys_of_dagster(far) == []


@given(st.integers(1, 10_000))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_shards_are_those_of_dagster_and_in_order(count: int) -> None:
    found = scheme(by="shards", count=count)
    keys = found.keys()
    assert keys == keys_of_dagster(found) == sorted(keys)
    assert len(set(keys)) == count


@given(KINDS, SPANS, DATES)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_a_dated_document_is_in_a_partition_that_exists_or_in_none(
    by: By, span: tuple[datetime.date, datetime.date], date: datetime.date
) -> None:
    found = scheme(by=by, start=span[0], end=span[1])
    try:
        key = found.key_for(f"reports/{date}.txt")
    except Unassigned:
        assert not span[0] <= date <= span[1]
    else:
        assert key in found.keys()
        later = [other for other in found.keys() if other > key]
        assert key <= date.isoformat()
        assert not later or date.isoformat() < later[0]


@given(st.integers(1, 50), st.text(min_size=1, max_size=30), st.text(max_size=10))
@settings(deadline=None, derandomize=True)
def test_every_document_has_the_same_shard_for_good(count: int, path: str, row: str) -> None:
    found = scheme(by="shards", count=count)
    for row_key in (None, row):
        key = found.key_for(path, row_key)
        assert key in found.keys()
        assert key == scheme(by="shards", count=count).key_for(path, row_key)


@dataclass(frozen=True, kw_only=True)
class Placed:
    id: str
    by: str
    path: str
    key: str
    row: str | None = None
    column: str | None = None


RANGE = {"start": "2026-10-05", "end": "2026-11-20"}
PLACED = [
    Placed(id="day in a folder", by="day", path="2026-10-05/a.txt", key="2026-10-05"),
    Placed(id="day in a name", by="day", path="in/memo_20261006_v2.txt", key="2026-10-06"),
    Placed(id="folders per part", by="day", path="2026/10/07/a.txt", key="2026-10-07"),
    Placed(id="the first that is a date", by="day", path="9999-99-99/2026-10-08/2026-10-09.txt", key="2026-10-08"),
    Placed(id="the Monday of its week", by="week", path="2026-10-18/a.txt", key="2026-10-12"),
    Placed(id="week of the start", by="week", path="2026-10-05/a.txt", key="2026-10-05"),
    Placed(id="the first of its month", by="month", path="2026-11-20/a.txt", key="2026-11-01"),
    Placed(id="a month alone", by="month", path="2026-11/a.txt", key="2026-11-01"),
    Placed(id="month before the first day", by="month", path="2026-10-02/a.txt", key="2026-10-01"),
    Placed(id="by column", by="day", path="x.csv", row="2026-10-06", column="day", key="2026-10-06"),
    Placed(
        id="by column with a time", by="day", path="x.csv", row=" 2026-10-06T23:59:59Z", column="day", key="2026-10-06"
    ),
    Placed(id="column before path", by="day", path="2026-10-05.csv", row="2026-10-06", column="day", key="2026-10-06"),
]


@pytest.mark.parametrize("case", PLACED, ids=lambda case: case.id)
def test_a_document_is_placed_by_its_date(case: Placed) -> None:
    found = scheme(by=case.by, column=case.column, **RANGE)
    assert found.key_for(case.path, "1" if case.row else None, case.row) == case.key
    assert case.key in keys_of_dagster(found)


@dataclass(frozen=True, kw_only=True)
class Refused:
    id: str
    by: str
    path: str
    reason: str
    row: str | None = None
    column: str | None = None


REFUSED = [
    Refused(id="no date", by="day", path="notes/a.txt", reason="there is no date such as 2026-10-05 in its path"),
    Refused(id="no real date", by="day", path="2026-02-30/a.txt", reason="there is no date such as 2026-10-05 in its path"),
    Refused(id="digits on either side", by="day", path="1202610051.txt", reason="there is no date such as 2026-10-05 in its path"),
    Refused(id="a month alone", by="day", path="2026-10/a.txt", reason="there is no date such as 2026-10-05 in its path"),
    Refused(id="too early", by="day", path="2026-10-04/a.txt", reason="its date 2026-10-04 is outside 2026-10-05 to 2026-11-20"),
    Refused(id="too late", by="week", path="2026-11-21/a.txt", reason="its date 2026-11-21 is outside 2026-10-05 to 2026-11-20"),
    Refused(id="bad cell", by="day", path="x.csv", column="day", row="tomorrow", reason="'tomorrow' is not a date such as 2026-10-05"),
    Refused(id="empty cell", by="day", path="2026-10-05.csv", column="day", row="", reason="it has no value in the column 'day'"),
    Refused(id="no folder", by="folder", path="a.txt", reason="it lies in no folder, and this collection is partitioned by folder"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_a_document_without_a_place_has_a_reason(case: Refused) -> None:
    span = {} if case.by == "folder" else RANGE
    with pytest.raises(Unassigned) as refused:
        scheme(by=case.by, column=case.column, **span).key_for(
            case.path, None if case.row is None else "1", case.row or None
        )
    assert str(refused.value) == case.reason


def test_folders_are_partitions_under_their_own_names() -> None:
    assert scheme(by="folder").key_for("Über uns/a/b.txt") == "Über uns"


def test_a_range_of_partitions_is_taken_with_both_ends() -> None:
    found = scheme(by="day", start="2026-10-05", end="2026-10-09")
    assert found.select("2026-10-06", "2026-10-08") == ["2026-10-06", "2026-10-07", "2026-10-08"]


@pytest.mark.parametrize(
    ("first", "last", "culprit"),
    [
        ("2026-10-04", "2026-10-06", "2026-10-04"),
        ("2026-10-06", "2027-01-01", "2027-01-01"),
        ("6 October", "6 October", "6 October"),
    ],
)
def test_a_range_that_is_none_is_refused_with_the_one_there_is(first: str, last: str, culprit: str) -> None:
    with pytest.raises(PartitionUnknown) as refused:
        scheme(by="day", start="2026-10-05", end="2026-10-09").select(first, last)
    assert str(refused.value) == (
        f"'{culprit}' is no partition of notes (by day: they go from 2026-10-05 to 2026-10-09)."
    )


def test_a_range_the_wrong_way_round_is_said_to_be() -> None:
    with pytest.raises(RangeReversed) as refused:
        scheme(by="day", start="2026-10-05", end="2026-10-09").select("2026-10-07", "2026-10-06")
    assert "2026-10-06 comes before 2026-10-07. Write 2026-10-06...2026-10-07." in str(refused.value)


@pytest.mark.parametrize(
    ("declared", "written", "meant"),
    [
        ({"by": "day", "start": "2026-10-05", "end": "2026-10-09"}, "2026-10-5", "2026-10-05"),
        ({"by": "day", "start": "2026-10-05", "end": "2026-10-09"}, "2026-11-05", None),
        ({"by": "month", "start": "2026-10-01", "end": "2026-12-31"}, "2026-11-17", "2026-11-01"),
        ({"by": "week", "start": "2026-10-05", "end": "2026-12-31"}, "2026-10-15", "2026-10-12"),
        ({"by": "week", "start": "2026-10-05", "end": "2026-12-31"}, "2025-10-15", None),
        ({"by": "shards", "count": 12}, "shard-3", "shard-03"),
        ({"by": "folder"}, "Contracts", "contracts"),
        ({"by": "folder"}, "invoices", None),
    ],
)
def test_a_partition_that_is_written_nearly_right_is_named(
    declared: dict[str, Any], written: str, meant: str | None
) -> None:
    with pytest.raises(PartitionUnknown) as refused:
        scheme(**declared).select(written, written, ["contracts", "letters"])
    hint = str(refused.value).partition("). ")[2] or str(refused.value).partition(").")[2].strip()
    assert hint == (f"Did you mean '{meant}'?" if meant else "")


@given(st.lists(st.integers(0, 40), unique=True).map(sorted), st.sets(st.integers(0, 40)), st.integers(1, 10))
@settings(deadline=None, derandomize=True)
def test_groups_are_neighbours_and_hold_every_chosen_key_once_and_nothing_else(
    numbers: list[int], chosen: set[int], most: int
) -> None:
    order = [str(number) for number in numbers]
    wanted = [key for key in order if int(key) in chosen]
    groups = list(consecutive(order, wanted, most))
    assert [key for group in groups for key in group] == wanted
    for group in groups:
        assert 1 <= len(group) <= most
        start = order.index(group[0])
        assert order[start : start + len(group)] == group
    full = [a for a, b in itertools.pairwise(groups) if order.index(b[0]) == order.index(a[-1]) + 1]
    assert all(len(group) == most for group in full)


def test_a_group_is_what_dagster_makes_of_its_two_ends() -> None:
    found = scheme(by="day", start="2026-10-05", end="2026-10-14")
    for group in consecutive(found.keys(), found.keys()[1:4] + found.keys()[6:], 2):
        ends = dg.PartitionKeyRange(group[0], group[-1])
        assert found.definition().get_partition_keys_in_range(ends) == group
