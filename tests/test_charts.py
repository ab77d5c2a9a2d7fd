"""Claims about the plots of the cost page: what they say, that they are well-formed, and that no name breaks out."""

import datetime
import xml.etree.ElementTree as ET
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ai_assets.costs.budget_forecast import outlook
from ai_assets.costs.figures import BudgetUse, Burn, Series
from ai_assets.desk import charts
from ai_assets.desk.charts import Bar, Burndown

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"></title><script>alert(1)</script>&amp; {{ 7 * 7 }}'
MONEY = st.decimals(min_value=0, max_value=10**9, places=9)
DAY = datetime.date(2026, 11, 1)


def days(count: int, first: datetime.date = DAY) -> list[datetime.date]:
    return [first + datetime.timedelta(days=place) for place in range(count)]


def drawn(markup: Markup) -> ET.Element:
    """As a browser's parser has it; what is not well-formed raises."""
    return ET.fromstring(f'<div xmlns="http://www.w3.org/2000/svg">{markup}</div>')[0]


def bars_of(svg: ET.Element) -> list[ET.Element]:
    return [rect for rect in svg.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]


def series(**parts: list[str]) -> Series:
    made = [(name, [Decimal(value) for value in values]) for name, values in parts.items()]
    return Series(starts=days(len(made[0][1])), step=1, parts=made)


def test_the_parts_of_a_bar_stand_on_each_other_and_each_says_its_amount() -> None:
    svg = drawn(charts.stacked_days("days", "Paid", "finding", series(mini=["0.5", "0"], large=["0.25", "1"])))
    first, above, second = bars_of(svg)
    assert [bar.find(f"{SVG}title").text for bar in (first, above, second)] == [  # type: ignore[union-attr]
        "1 Nov 2026, mini: $0.50", "1 Nov 2026, large: $0.25", "2 Nov 2026, large: $1.00",
    ]  # fmt: skip
    height = {bar: float(bar.attrib["height"]) for bar in (first, above, second)}
    assert height[first] == 2 * height[above] == height[second] / 2
    assert float(first.attrib["y"]) + height[first] == charts.PLOT_PX  # on the ground
    assert float(above.attrib["y"]) + height[above] == float(first.attrib["y"])
    assert first.attrib["fill"] != above.attrib["fill"] == second.attrib["fill"]


def test_a_plot_is_an_image_with_a_name_and_its_finding_in_words() -> None:
    svg = drawn(charts.bars("models", "Paid by model", "90 % went to mini.", [Bar(label="mini", value=Decimal(1))]))
    assert svg.attrib["role"] == "img"
    named = {item.attrib["id"]: item.text for item in (svg.find(f"{SVG}title"), svg.find(f"{SVG}desc"))}  # type: ignore[union-attr]
    assert [named[name] for name in svg.attrib["aria-labelledby"].split()] == ["Paid by model", "90 % went to mini."]


@pytest.mark.parametrize("name", [HOSTILE, "'onload='x", "<svg/onload=alert(1)>", "a" * 500, "", "ümlaut 日本"])
def test_no_name_breaks_out_of_a_plot(name: str) -> None:
    for markup in (
        charts.bars("x", name, name, [Bar(label=name, value=Decimal("0.1"))]),
        charts.stacked_days("x", name, name, Series(starts=days(1), step=1, parts=[(name, [Decimal(1)])])),
    ):
        svg = drawn(markup)
        tags = {element.tag.removeprefix(SVG) for element in svg.iter()}
        assert tags <= {"svg", "title", "desc", "defs", "pattern", "rect", "g", "path", "circle", "text", "line"}
        assert not any(attribute.startswith("on") for element in svg.iter() for attribute in element.attrib)
        assert name in [element.text or "" for element in svg.iter(f"{SVG}title")]


def test_nothing_in_a_plot_is_against_the_policy_of_the_desk() -> None:
    """No inline style, no script, no address but of its own patterns."""
    many = series(**{f"m{n}": ["0.1"] for n in range(9)})
    for markup in (charts.stacked_days("d", "t", "f", many), charts.burn_down("b", "t", "f", burning())):
        for element in drawn(markup).iter():
            assert not {"style", "href"} & set(element.attrib)
            assert element.attrib.get("fill", "url(#d-0)").startswith("url(#")


def burning() -> Burndown:
    left = [(day, Decimal(10 - place)) for place, day in enumerate(days(5))]
    return Burndown(limit_usd=Decimal(10), left=left, last=DAY + datetime.timedelta(days=29),
                    likely_usd=Decimal(2), low_usd=Decimal(-3), high_usd=Decimal(4))  # fmt: skip


def test_a_burn_down_falls_from_the_limit_and_its_band_stays_on_the_plot() -> None:
    svg = drawn(charts.burn_down("b", "t", "f", burning()))
    line = next(item for item in svg.iter(f"{SVG}polyline") if item.attrib["class"] == "left")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points[0] == (0, 0)  # the limit is the top of this axis
    assert points == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points)
    band = next(svg.iter(f"{SVG}polygon")).attrib["points"]
    assert all(0 <= float(point.split(",")[1]) <= charts.PLOT_PX for point in band.split())


@given(st.lists(st.lists(MONEY, min_size=5, max_size=5), min_size=1, max_size=8))
def test_every_bar_fits_its_plot(parts: list[list[Decimal]]) -> None:
    found = Series(starts=days(5), step=1, parts=[(f"p{n}", values) for n, values in enumerate(parts)])
    for bar in bars_of(drawn(charts.stacked_days("x", "t", "f", found))):
        assert -0.1 <= float(bar.attrib["y"]) <= charts.PLOT_PX
        assert 0 <= float(bar.attrib["x"].rstrip("%")) + float(bar.attrib["width"].rstrip("%")) <= 100.1


def test_what_is_left_is_foreseen_from_complete_days_alone() -> None:
    def use(*spent: str, limit: str = "10", period: str = "2026-11") -> BudgetUse:
        amounts = list(map(Decimal, spent))
        burn = [
            Burn(day=day, spent_usd=amount, cumulative_usd=sum(amounts[: place + 1], Decimal(0)))
            for place, (day, amount) in enumerate(zip(days(len(amounts)), amounts, strict=True))
        ]
        nothing, total = Decimal(0), sum(amounts, Decimal(0))
        return BudgetUse(
            budget="b", name="b", period=period, holder="", limit_usd=Decimal(limit), spent_usd=total,
            in_flight_usd=nothing, maybe_usd=nothing, earmarked_usd=nothing, left_usd=Decimal(limit) - total,
            used_share=0.0, burn=burn,
        )  # fmt: skip

    steady = outlook(use("0.1", "0.1", "0.1", "0"), DAY + datetime.timedelta(days=3))
    assert steady is not None
    # Today counts as a usual day, and 26 more follow.
    assert (steady.last, steady.low_usd, steady.likely_usd) == (datetime.date(2026, 11, 30), Decimal("7"), Decimal("7"))
    assert steady.used_up is None
    fast = outlook(use("1", "1", "1", "0", limit="5"), DAY + datetime.timedelta(days=3))
    assert fast is not None
    assert fast.used_up == datetime.date(2026, 11, 6)
    restless = outlook(use("0.3", "0", "0", "0"), DAY + datetime.timedelta(days=3))
    assert restless is not None
    assert restless.low_usd < restless.likely_usd < restless.high_usd <= Decimal("9.7")
    assert outlook(use("1", period="2026-11-01"), DAY) is None  # a day has no days to come


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, ["1 Nov"]), (2, ["1 Nov", "2 Nov"]), (30, ["1 Nov", "11 Nov", "20 Nov", "30 Nov"]),
     (400, ["Nov 2026", "Mar 2027", "Jul 2027", "Dec 2027"])],
)  # fmt: skip
def test_a_few_days_are_named_below_a_plot(count: int, said: list[str]) -> None:
    found = Series(starts=days(count), step=1, parts=[("mini", [Decimal(1)] * count)])
    texts = list(drawn(charts.stacked_days("x", "t", "f", found)).iter(f"{SVG}text"))
    assert [text.text for text in texts if text.attrib["class"].startswith("day")] == said
