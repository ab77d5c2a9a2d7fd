"""Claims about the picture of a run: bars lie where their time is, it says itself in words, and no name breaks out."""

import xml.etree.ElementTree as ET

import pytest
from test_charts import HOSTILE, SVG, bars_of, drawn

from ai_assets.desk.timeline import MOST_TICKS, Lane, Stretch, length, timeline

DAY = "2026-10-05T12"


def stretch(began: str, ended: str, *, failed: bool = False, said: str = "said") -> Stretch:
    moments = (f"{DAY}:{part}.000+00:00" for part in (began, ended))
    began_at, ended_at = moments
    return Stretch(began_at=began_at, ended_at=ended_at, failed=failed, said=said)


def lane(*stretches: Stretch, label: str = "documents", series: int = 0) -> Lane:
    return Lane(label=label, said="10 s", series=series, stretches=stretches)


def share(bar: ET.Element, name: str) -> float:
    return float(bar.attrib[name].removesuffix("%"))


def test_a_bar_begins_and_ends_where_its_time_does() -> None:
    first, second = lane(stretch("00:00", "00:10")), lane(stretch("00:05", "00:40"), series=1)
    bars = bars_of(drawn(timeline("spans", "Title", "Finding", [first, second])))
    assert [(share(bar, "x"), share(bar, "width")) for bar in bars] == [(0, 25), (12.5, 87.5)]
    assert float(bars[0].attrib["y"]) < float(bars[1].attrib["y"])
    assert bars[0].attrib["fill"] != bars[1].attrib["fill"]


def test_a_failed_one_looks_otherwise_and_says_so() -> None:
    failed = Lane(label="kind", said="failed", series=0, stretches=[stretch("00:00", "00:01", failed=True)])
    svg = drawn(timeline("spans", "Title", "Finding", [failed, lane(stretch("00:00", "00:09"))]))
    assert [bar.attrib.get("class") for bar in bars_of(svg)] == ["failed", None]
    assert "failed" in [text.text for text in svg.iter(f"{SVG}text")]


def test_what_took_no_time_is_seen_and_stays_inside_the_picture() -> None:
    bars = bars_of(
        drawn(timeline("spans", "T", "F", [lane(stretch("00:00", "59:59")), lane(stretch("59:59", "59:59"))]))
    )
    assert all(share(bar, "width") > 0 and share(bar, "x") + share(bar, "width") <= 100.01 for bar in bars)
    alone = bars_of(drawn(timeline("spans", "T", "F", [lane(stretch("00:00", "00:00"))])))
    assert share(alone[0], "width") > 0


def test_the_picture_is_an_image_with_a_name_and_its_finding_in_words() -> None:
    svg = drawn(timeline("spans", "When it was computed", "One hour.", [lane(stretch("00:00", "00:01"))]))
    assert svg.attrib["role"] == "img"
    named = {item.attrib["id"]: item.text for item in (svg.find(f"{SVG}title"), svg.find(f"{SVG}desc"))}  # type: ignore[union-attr]
    assert [named[name] for name in svg.attrib["aria-labelledby"].split()] == ["When it was computed", "One hour."]


def test_no_name_breaks_out_of_the_picture() -> None:
    svg = drawn(timeline("spans", HOSTILE, HOSTILE, [lane(stretch("00:00", "00:01", said=HOSTILE), label=HOSTILE)]))
    assert not list(svg.iter(f"{SVG}script"))
    assert bars_of(svg)[0].find(f"{SVG}title").text == HOSTILE  # type: ignore[union-attr]


@pytest.mark.parametrize("ended", ["00:01", "00:07", "03:20", "59:59"])
def test_a_few_moments_are_named_below_and_the_first_is_the_beginning(ended: str) -> None:
    svg = drawn(timeline("spans", "T", "F", [lane(stretch("00:00", ended))]))
    ticks = [text.text for text in svg.iter(f"{SVG}text") if (text.attrib.get("class") or "").startswith("day")]
    assert ticks[0] == "0 s"
    assert 2 <= len(ticks) <= MOST_TICKS + 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"), (0.254, "0.25 s"), (9.5, "9.5 s"), (12.4, "12 s"), (60, "1 min"), (200, "3 min 20 s"),
        (3600, "1 h"), (7500, "2 h 5 min"), (90_000, "1 d 1 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert length(seconds) == said
