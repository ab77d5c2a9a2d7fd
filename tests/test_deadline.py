"""Claims about deadlines without any I/O: when something is due, how long things take, and which way is taken."""

import datetime
from dataclasses import dataclass

import pytest

from ai_assets.base.due import DeclaredDeadline
from ai_assets.inference.deadline import (
    IN_TIME,
    CallLoad,
    Observed,
    Offers,
    batch_turnaround,
    choose,
    pace_of,
    stop_time,
)
from bench.deadline import lived

HOUR, DAY = 3600.0, 86_400.0
PRIOR = (420.0, 3600.0)
BERLIN = "Europe/Berlin"


@dataclass(frozen=True, kw_only=True)
class DueCase:
    id: str
    due: str
    since: str
    at: str
    timezone: str = BERLIN
    note: str | None = None


DUE = (
    DueCase(id="tonight", due="06:00", since="2026-11-28T21:00Z", at="2026-11-29T05:00Z"),
    DueCase(id="later today", due="06:00", since="2026-11-28T01:00Z", at="2026-11-28T05:00Z"),
    DueCase(id="at this very minute", due="06:00", since="2026-11-28T05:00Z", at="2026-11-29T05:00Z"),
    DueCase(id="summer", due="06:00", since="2026-07-28T21:00Z", at="2026-07-29T04:00Z"),
    DueCase(id="the short night", due="06:00", since="2026-03-28T21:00Z", at="2026-03-29T04:00Z"),
    DueCase(id="the long night", due="06:00", since="2026-10-24T21:00Z", at="2026-10-25T05:00Z"),
    DueCase(
        id="skipped", due="02:30", since="2026-03-28T21:00Z", at="2026-03-29T01:00Z",
        note="2026-03-29 has no 02:30 in Europe/Berlin: the clocks go forward, and it is due at 03:00",
    ),
    DueCase(
        id="repeated", due="02:30", since="2026-10-24T21:00Z", at="2026-10-25T00:30Z",
        note="2026-10-25 has 02:30 twice in Europe/Berlin: the clocks go back, and the first one counts",
    ),
    DueCase(id="between the two", due="02:30", since="2026-10-25T00:45Z", at="2026-10-26T01:30Z"),
    DueCase(id="another day there", due="00:15", since="2026-11-28T10:00Z", at="2026-11-28T10:15Z",
            timezone="Pacific/Kiritimati"),
    DueCase(id="half an hour of daylight saving", due="02:15", since="2026-10-03T00:00Z", at="2026-10-03T15:30Z",
            timezone="Australia/Lord_Howe",
            note="2026-10-04 has no 02:15 in Australia/Lord_Howe: the clocks go forward, and it is due at 02:30"),
    DueCase(id="a moment", due="2026-12-24T06:00", since="2026-11-28T05:00Z", at="2026-12-24T05:00Z"),
    DueCase(id="a moment with its offset", due="2026-12-24T06:00+05:00", since="2026-11-28T05:00Z",
            at="2026-12-24T01:00Z"),
)  # fmt: skip


@pytest.mark.parametrize("case", DUE, ids=lambda each: each.id)
def test_when_it_is_due(case: DueCase) -> None:
    found = DeclaredDeadline(due=case.due, timezone=case.timezone).moment(datetime.datetime.fromisoformat(case.since))
    assert found.at == datetime.datetime.fromisoformat(case.at)
    assert found.note == case.note


def test_a_span_counts_from_when_it_was_wanted_whatever_the_clocks_do() -> None:
    since = datetime.datetime.fromisoformat("2026-03-28T23:00Z")
    assert (DeclaredDeadline(within_s=4 * HOUR).moment(since).at - since).total_seconds() == 4 * HOUR
    assert str(DeclaredDeadline(within_s=90 * 60)) == "within 90m"
    assert str(DeclaredDeadline(within_s=4 * HOUR)) == "within 4h"


# How long things take


def test_what_is_believed_of_batches_is_what_providers_say() -> None:
    believed = batch_turnaround([], *PRIOR)
    assert believed.quantile(0.5) == pytest.approx(420, rel=0.15)
    assert believed.chance(HOUR) == pytest.approx(0.88, abs=0.03)
    assert 1 - believed.chance(12 * HOUR) == pytest.approx(0.03, abs=0.01)
    assert believed.chance(DAY) == pytest.approx(1.0)


def test_history_takes_the_place_of_what_is_believed_as_it_grows() -> None:
    chances = [
        batch_turnaround([Observed(seconds=7200.0)] * number, *PRIOR).chance(HOUR) for number in (0, 10, 100, 1000)
    ]
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < 0.03


def test_batches_that_were_stopped_count_with_what_is_known_of_them() -> None:
    quick, stopped = [Observed(seconds=300.0)] * 50, [Observed(seconds=4 * HOUR, ended=False)] * 50
    forgotten, known = batch_turnaround(quick, *PRIOR), batch_turnaround([*quick, *stopped], *PRIOR)
    assert forgotten.chance(4 * HOUR) > 0.97
    assert known.chance(4 * HOUR) < 0.6
    on_the_way = batch_turnaround([*quick, *[Observed(seconds=60.0, ended=False)] * 50], *PRIOR)
    assert on_the_way.chance(4 * HOUR) == pytest.approx(forgotten.chance(4 * HOUR), abs=0.02)


def test_limits_and_latency_make_the_pace() -> None:
    load = CallLoad(calls=6000, tokens=3_000_000)
    by_latency = pace_of([2.0] * 100, (5.0, 20.0), (60, None, None))
    assert by_latency.likely_s(load) == pytest.approx(200)
    assert pace_of([2.0] * 100, (5.0, 20.0), (60, 600, None)).likely_s(load) == pytest.approx(600)
    assert pace_of([2.0] * 100, (5.0, 20.0), (60, 600, 100_000)).likely_s(load) == pytest.approx(1800)
    assert by_latency.sure_s(load) > by_latency.likely_s(load)
    assert by_latency.chance(load, 200) == pytest.approx(0.5, abs=0.01)
    assert by_latency.chance(load, by_latency.sure_s(load)) > 0.97
    assert (by_latency.chance(load, 0), by_latency.chance(CallLoad(calls=0, tokens=0), 0)) == (0.0, 1.0)


# Which way


LOAD = CallLoad(calls=1000, tokens=1_500_000)
SYNC = pace_of([2.0] * 200, (5.0, 20.0), (64, 600, None))
SLOW = pace_of([30.0] * 200, (20.0, 120.0), (64, 600, None))


def offers(*, flex: float | None = None, batch: float | None = 0.5, sync: float = 1.0) -> Offers:
    return Offers(
        sync_price=sync, sync=SYNC, flex_price=flex, flex=None if flex is None else SLOW, batch_price=batch,
        turnaround=None if batch is None else batch_turnaround([], *PRIOR),
        stopping=None if batch is None else stop_time([]),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ChoiceCase:
    id: str
    left_s: float
    offers: Offers
    way: str
    then: str | None
    said: str


CHOICES = (
    ChoiceCase(id="a night", left_s=8 * HOUR, offers=offers(), way="batch", then="sync", said="by sync"),
    ChoiceCase(id="with flex", left_s=8 * HOUR, offers=offers(flex=0.5), way="batch", then="flex", said="by flex"),
    ChoiceCase(
        id="half an hour", left_s=1800, offers=offers(flex=0.5), way="flex", then="sync", said="by flex it takes"
    ),
    ChoiceCase(id="minutes", left_s=600, offers=offers(), way="sync", then=None, said="asking its rest takes"),
    ChoiceCase(id="no batch", left_s=8 * HOUR, offers=offers(batch=None), way="sync", then=None, said="no other way"),
    ChoiceCase(id="dear flex", left_s=HOUR, offers=offers(flex=1.0, batch=None), way="sync", then=None, said="flex"),
    ChoiceCase(id="dear batch", left_s=8 * HOUR, offers=offers(batch=1.0), way="sync", then=None, said="end early"),
    ChoiceCase(
        id="free", left_s=8 * HOUR, offers=offers(batch=0.0, sync=0.0), way="sync", then=None, said="h are left"
    ),
    ChoiceCase(id="too late", left_s=-60, offers=offers(flex=0.5), way="sync", then=None, said="it is late"),
    ChoiceCase(id="hopeless", left_s=30, offers=offers(), way="sync", then=None, said="no way is likely to be in time"),
)


@pytest.mark.parametrize("case", CHOICES, ids=lambda each: each.id)
def test_the_cheapest_way_that_is_in_time(case: ChoiceCase) -> None:
    found = choose(case.left_s, LOAD, case.offers)
    assert (found.way, found.then) == (case.way, case.then), found.reason
    assert case.said in found.reason
    assert [each.way for each in found.outlook] == ["batch", "flex", "sync"]


def test_the_buffer_has_time_for_stopping_and_for_all_that_is_left() -> None:
    small, large = CallLoad(calls=100, tokens=0), CallLoad(calls=20_000, tokens=0)
    found = offers()
    assert found.buffer_s(large, "sync") - found.buffer_s(small, "sync") > SYNC.likely_s(large)
    assert found.buffer_s(small, "sync") > found.stop_s
    assert choose(8 * HOUR, large, found).buffer_s == found.buffer_s(large, "sync")


def test_a_way_is_only_taken_where_its_chance_is_good_enough() -> None:
    for minutes in range(1, 600, 7):
        found = choose(60.0 * minutes, LOAD, offers(flex=0.5))
        best = max(each.chance for each in (choose(60.0 * minutes, LOAD, o) for o in (offers(batch=None), offers())))
        assert found.chance >= min(IN_TIME, best) - 1e-9


@pytest.mark.parametrize("flex", [False, True])
@pytest.mark.parametrize("seed", range(20261100, 20261106))
def test_two_hundred_nights(seed: int, *, flex: bool) -> None:
    found = lived(seed, flex=flex)
    assert found.late <= 4
    assert found.dearer <= 0.05
    assert found.ways["batch"] > 150
