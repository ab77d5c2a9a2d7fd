"""Claims about hours of the week: over both changes of the clocks, in odd zones, and as a user writes them."""

import datetime
import zoneinfo
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ai_assets.base.window_settings import WindowSettings, hours_of
from ai_assets.base.windows import (
    ALWAYS,
    DAY_MINUTES,
    Opening,
    WeeklyHours,
    WeeklyWindow,
    common_opening,
    earliest,
    instant_of,
)

BERLIN = "Europe/Berlin"
UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)
ZONES = [BERLIN, "UTC", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo",
         "America/Havana", "Pacific/Apia", "Europe/Dublin"]  # fmt: skip
DAYS = tuple(range(7))

minutes = st.integers(0, DAY_MINUTES - 1)
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime.datetime(2026, 1, 1), datetime.datetime(2027, 12, 31), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(second=0, microsecond=0)
)


@st.composite
def windows(draw: st.DrawFn) -> WeeklyWindow:
    start, end = draw(minutes), draw(minutes)
    days = draw(st.sets(st.integers(0, 6), min_size=1))
    return WeeklyWindow(tuple(sorted(days)), start, end if end != start else (end + 1) % DAY_MINUTES, draw(zones))


hours = st.lists(windows(), min_size=1, max_size=3).map(lambda found: WeeklyHours(tuple(found)))


def berlin(text: str, *, fold: int = 0) -> datetime.datetime:
    local = datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(BERLIN), fold=fold)
    return local.astimezone(UTC)


def window(start: str, end: str, *days: str, timezone: str = BERLIN) -> WeeklyHours:
    given = {"from": start, "to": end, "timezone": timezone, **({"days": days} if days else {})}
    return hours_of([WindowSettings.model_validate(given)])


# When it holds


@dataclass(frozen=True, kw_only=True)
class At:
    id: str
    hours: WeeklyHours
    moment: datetime.datetime
    open: bool


NIGHT = window("22:00", "06:00")
CASES = [
    At(id="begins", hours=NIGHT, moment=berlin("2026-10-05 22:00"), open=True),
    At(id="a minute before", hours=NIGHT, moment=berlin("2026-10-05 21:59"), open=False),
    At(id="after midnight", hours=NIGHT, moment=berlin("2026-10-06 05:59"), open=True),
    At(id="its end is outside", hours=NIGHT, moment=berlin("2026-10-06 06:00"), open=False),
    At(id="friday's night", hours=window("22:00", "06:00", "fri"), moment=berlin("2026-10-10 03:00"), open=True),
    At(id="not saturday's", hours=window("22:00", "06:00", "fri"), moment=berlin("2026-10-10 23:00"), open=False),
    At(id="not thursday's", hours=window("22:00", "06:00", "fri"), moment=berlin("2026-10-09 03:00"), open=False),
    At(id="a whole day", hours=window("00:00", "24:00", "sat"), moment=berlin("2026-10-10 23:59"), open=True),
    At(id="and no more", hours=window("00:00", "24:00", "sat"), moment=berlin("2026-10-11 00:00"), open=False),
    At(id="to midnight", hours=window("22:00", "00:00"), moment=berlin("2026-10-10 23:59"), open=True),
    At(id="a day elsewhere", hours=window("00:00", "24:00", "sat"), moment=berlin("2026-10-10 00:00"), open=True),
    At(id="an hour that comes twice", hours=window("02:00", "03:00"), moment=berlin("2026-10-25 02:30"), open=True),
    At(id="the second time", hours=window("02:00", "03:00"), moment=berlin("2026-10-25 02:30", fold=1), open=True),
    At(id="half of it twice", hours=window("02:00", "02:30"), moment=berlin("2026-10-25 02:15", fold=1), open=False),
    At(id="skipped: from", hours=window("02:30", "06:00"), moment=berlin("2026-03-29 03:00"), open=True),
    At(id="skipped: before", hours=window("02:30", "06:00"), moment=berlin("2026-03-29 01:59"), open=False),
    At(id="skipped: all of it", hours=window("02:15", "02:45"), moment=berlin("2026-03-29 03:00"), open=False),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_window_holds_from_its_beginning_to_its_end(case: At) -> None:
    assert case.hours.open_at(case.moment) is case.open


@pytest.mark.parametrize(("day", "length"), [("2026-03-28", 7), ("2026-10-24", 9), ("2026-06-01", 8)])
def test_a_night_over_a_change_of_the_clocks_is_an_hour_shorter_or_longer(day: str, length: int) -> None:
    begins = berlin(f"{day} 22:00")
    assert NIGHT.next_opening(begins - MINUTE) == Opening(begins, BERLIN)
    assert NIGHT.closes_at(begins) == begins + datetime.timedelta(hours=length)


def test_a_window_that_a_change_of_the_clocks_swallows_opens_a_week_later() -> None:
    swallowed = window("02:15", "02:45", "sun")
    opening = swallowed.next_opening(berlin("2026-03-28 12:00"))
    assert opening == Opening(berlin("2026-04-05 02:15"), BERLIN)


def test_without_windows_it_always_holds() -> None:
    now = berlin("2026-10-05 12:00")
    assert ALWAYS.open_at(now)
    assert ALWAYS.next_opening(now) == Opening(now, "UTC")
    assert not ALWAYS


def test_windows_that_meet_are_one() -> None:
    both = WeeklyHours((*window("22:00", "24:00").windows, *window("00:00", "06:00").windows))
    assert both.closes_at(berlin("2026-10-05 23:00")) == berlin("2026-10-06 06:00")
    whole = WeeklyHours((*window("06:00", "22:00").windows, *NIGHT.windows))
    assert whole.closes_at(berlin("2026-10-05 23:00")) is None


def test_an_interactive_call_may_leave_at_any_time() -> None:
    noon = berlin("2026-10-05 12:00")
    allowed = [NIGHT.allowed(noon, priority) for priority in (None, "batch", "normal", "interactive")]
    assert allowed == [False, False, False, True]


@pytest.mark.parametrize(
    ("at", "said"),
    [("2026-10-05 22:00", "Mon 22:00 Europe/Berlin"), ("2026-10-12 22:00", "Mon 2026-10-12 22:00 Europe/Berlin")],
)
def test_an_opening_is_said_by_its_own_clock(at: str, said: str) -> None:
    assert Opening(berlin(at), BERLIN).said(berlin("2026-10-05 12:00")) == said


# Properties


@settings(max_examples=150)
@given(st.dates(datetime.date(2026, 1, 1), datetime.date(2027, 12, 31)), minutes, zones)
def test_a_time_of_day_is_the_first_instant_that_shows_it_or_has_gone_past_it(
    date: datetime.date, minute: int, zone: str
) -> None:
    wanted = datetime.datetime.combine(date, datetime.time()) + minute * MINUTE
    found = instant_of(date, minute, zone)

    def shows(moment: datetime.datetime) -> datetime.datetime:
        return moment.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)

    assert shows(found) >= wanted
    before = [found - step * MINUTE for step in range(1, 26 * 60)]
    assert all(shows(moment) < wanted for moment in before)


def test_a_day_that_a_zone_left_out_has_no_length() -> None:
    """Samoa went from Thursday evening to Saturday."""
    jump = datetime.datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert [instant_of(datetime.date(2011, 12, 30), minute, "Pacific/Apia") for minute in (0, 720, 1440)] == [jump] * 3


@given(st.data(), minutes, minutes, zones)
def test_two_windows_that_meet_by_the_clock_leave_no_gap_and_do_not_overlap(
    data: st.DataObject, one: int, other: int, zone: str
) -> None:
    if one == other:
        return
    first, second = (WeeklyHours((WeeklyWindow(DAYS, *ends, zone),)) for ends in ((one, other), (other, one)))
    moment = data.draw(moments)
    assert first.open_at(moment) != second.open_at(moment)


@given(hours, moments)
def test_the_next_opening_is_open_and_nothing_before_it_is(declared: WeeklyHours, moment: datetime.datetime) -> None:
    found = declared.next_opening(moment)
    assert found is not None
    assert found.at >= moment
    assert declared.open_at(found.at)
    step = max((found.at - moment) / 50, MINUTE)
    between = [moment + number * step for number in range(50) if moment + number * step < found.at]
    assert not any(map(declared.open_at, [*between, *([found.at - MINUTE] if found.at > moment else [])]))


@given(hours, moments)
def test_it_holds_until_it_closes(declared: WeeklyHours, moment: datetime.datetime) -> None:
    opening = declared.next_opening(moment)
    assert opening is not None
    closes = declared.closes_at(opening.at)
    if closes is None:
        closes = opening.at + datetime.timedelta(days=9)
    else:
        assert not declared.open_at(closes)
    step = (closes - opening.at) / 50
    assert all(declared.open_at(opening.at + number * step) for number in range(50))


@settings(max_examples=50)
@given(st.lists(hours, min_size=1, max_size=3), moments)
def test_a_common_opening_is_open_for_all_and_the_first(found: list[WeeklyHours], moment: datetime.datetime) -> None:
    opening = common_opening(found, moment)
    if opening is None:
        later = [moment + datetime.timedelta(hours=number) for number in range(24 * 60)]
        assert not any(all(each.open_at(at) for each in found) for at in later)
        return
    assert all(each.open_at(opening.at) for each in found)
    step = max((opening.at - moment) / 100, MINUTE)
    between = [moment + number * step for number in range(100) if moment + number * step < opening.at]
    assert not any(all(each.open_at(at) for each in found) for at in between)


def test_hours_that_never_meet_have_no_common_opening() -> None:
    now = berlin("2026-10-05 12:00")
    assert common_opening([NIGHT, window("06:00", "22:00")], now) is None
    assert common_opening([window("22:00", "24:00", "sat"), window("22:00", "24:00", "sun")], now) is None


def test_hours_of_two_zones_may_meet_only_while_their_clocks_differ() -> None:
    """New York sets its clocks weeks before Berlin does; else 18:00 there is midnight here."""
    berlin_hour, york_hour = window("23:00", "24:00"), window("18:00", "19:00", timezone="America/New_York")
    opening = common_opening([berlin_hour, york_hour], berlin("2026-06-01 12:00"))
    assert opening is not None
    assert opening.at == berlin("2026-10-25 23:00")


def test_of_several_ways_the_first_counts() -> None:
    one, other = Opening(berlin("2026-10-05 22:00"), BERLIN), Opening(berlin("2026-10-05 20:00"), "UTC")
    assert earliest([one, None, other]) == other
    assert earliest([None]) is None


# As a user writes them


def test_times_may_be_written_without_quotes_as_yaml_reads_them() -> None:
    found = WindowSettings.model_validate({"from": 1320, "to": "6:00", "timezone": BERLIN})
    assert found.window == WeeklyWindow(DAYS, 1320, 360, BERLIN)
    assert WindowSettings.model_validate(found.model_dump(by_alias=True)) == found
    assert found.window.said == "daily 22:00-06:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"from": "25:00"}, "'25:00' is no time of day such as \"22:00\", in quotes, between 00:00 and 24:00"),
        ({"from": 22}, "'22' is no time of day"),
        ({"from": "22"}, "'22' is no time of day"),
        ({"from": True}, "'True' is no time of day"),
        ({"to": "24:01"}, "'24:01' is no time of day"),
        ({"from": "24:00"}, "a window begins before 24:00"),
        ({"from": "06:00", "to": "06:00"}, "it is open from 06:00 to 06:00, which is no time at all; a whole day is"),
        ({"timezone": "Europe/Berlim"}, "unknown time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'?"),
        ({"days": ["monday"]}, "days.0"),
        ({"days": []}, "days"),
        ({"day": ["mon"]}, "unknown key 'day'; did you mean 'days'?"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WindowSettings.model_validate({"timezone": BERLIN, **given})
    assert says in str(refused.value)
