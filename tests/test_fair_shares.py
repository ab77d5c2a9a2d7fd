"""Claims about how places are shared out: nothing lies idle, weights hold, nobody starves. Pure, on made-up loads."""

import json
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.inference.admission import EndpointState
from ai_assets.inference.fairness import AGED_S, DUE, CallLane, Capacity, LaneLoad, allotted, lane_of
from ai_assets.inference.place_queue import ASKED_FOR_S, KEPT_AFTER_WAIT_S, PlaceQueue, forgotten
from ai_assets.inference.records import PRIORITIES, Caller
from ai_assets.inference.settings import EndpointLimits

NOW_S = 1000.0
lanes = st.builds(CallLane, st.sampled_from(PRIORITIES), st.sampled_from(["a", "b", "c", "d"]))
loads_of_lanes = st.dictionaries(
    lanes,
    st.builds(
        LaneLoad,
        in_flight=st.integers(0, 40),
        waiting=st.integers(0, 40),
        since_s=st.floats(NOW_S - 2 * AGED_S, NOW_S),
        requests=st.floats(0, 100),
        tokens=st.floats(0, 10_000),
        weight=st.floats(0.1, 10),
    ),
    max_size=12,
)
capacities = st.builds(
    Capacity,
    places=st.integers(1, 64),
    requests=st.none() | st.floats(1, 100),
    tokens=st.none() | st.floats(100, 10_000),
    tokens_each=st.integers(1, 500),
)


def flooded(**weights: float) -> dict[CallLane, LaneLoad]:
    return {CallLane("normal", name): LaneLoad(waiting=1000, weight=weight) for name, weight in weights.items()}


def settled(loads: Mapping[CallLane, LaneLoad], places: int, *, interactive: int = 0) -> Counter[CallLane]:
    """Who holds what once all have waited for a while: places are freed one by one, the oldest first."""
    held: list[CallLane] = []
    capacity = Capacity(places=places)
    for step in range(20 * places):
        if len(held) == places:
            held.pop(0)
        in_flight = Counter(held)
        for lane, load in loads.items():
            load.in_flight = in_flight[lane]
        others = places - interactive - sum(1 for lane in held if lane.priority != "interactive")
        given_now = allotted(places - len(held), loads, capacity, NOW_S + step / 1000, most_others=max(others, 0))
        held += list(given_now.elements())
    return Counter(held)


@given(st.integers(0, 64), loads_of_lanes, capacities, st.none() | st.integers(0, 64))
def test_no_place_lies_idle_and_nobody_gets_more_than_it_wants(
    free: int, loads: dict[CallLane, LaneLoad], capacity: Capacity, others: int | None
) -> None:
    found = allotted(free, loads, capacity, NOW_S, most_others=others)
    assert all(0 < count <= loads[lane].waiting for lane, count in found.items())
    interactive = sum(load.waiting for lane, load in loads.items() if lane.priority == "interactive")
    other = sum(load.waiting for load in loads.values()) - interactive
    takes = other if others is None else min(other, others)
    assert sum(found.values()) == min(free, interactive + takes)
    assert sum(count for lane, count in found.items() if lane.priority != "interactive") <= takes


@given(st.integers(1, 32), loads_of_lanes, capacities)
def test_one_more_place_takes_none_away(free: int, loads: dict[CallLane, LaneLoad], capacity: Capacity) -> None:
    less, more = (allotted(places, loads, capacity, NOW_S) for places in (free, free + 1))
    assert not less - more
    assert allotted(free, dict(reversed(loads.items())), capacity, NOW_S) == less


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 8), min_size=2), st.integers(8, 64))
def test_in_a_flood_of_all_each_holds_what_its_weight_says(weights: dict[str, int], places: int) -> None:
    held = settled(flooded(**weights), places)
    assert sum(held.values()) == places
    for name, weight in weights.items():
        due = places * weight / sum(weights.values())
        assert due - len(weights) <= held[CallLane("normal", name)] <= due + len(weights)


@given(loads_of_lanes, st.integers(1, 64))
def test_who_has_waited_long_goes_first(loads: dict[CallLane, LaneLoad], free: int) -> None:
    waiting = [lane for lane, load in loads.items() if load.waiting]
    aged = [lane for lane in waiting if NOW_S - loads[lane].since_s >= AGED_S]
    found = allotted(free, loads, Capacity(places=8), NOW_S)
    assert sum(lane in found for lane in aged) >= min(free, len(aged))


def test_priorities_that_all_flood_hold_places_as_they_are_due() -> None:
    loads = {CallLane(priority, "a"): LaneLoad(waiting=1000) for priority in PRIORITIES}
    held = settled(loads, 63)
    assert {lane.priority: count for lane, count in held.items()} == {"interactive": 48, "normal": 12, "batch": 3}
    assert [DUE[priority] for priority in PRIORITIES] == [16, 4, 1]


@pytest.mark.parametrize("places", [2, 3, 8])
def test_batch_has_a_place_in_any_flood(places: int) -> None:
    loads = {CallLane("interactive", "a"): LaneLoad(waiting=1000), CallLane("batch", "b"): LaneLoad(waiting=1000)}
    assert settled(loads, places, interactive=1)[CallLane("batch", "b")] >= 1


def test_what_one_does_not_want_is_for_the_others() -> None:
    loads = flooded(a=100, b=1)
    loads[CallLane("normal", "a")].waiting = 0
    assert settled(loads, 10) == {CallLane("normal", "b"): 10}


def test_many_collections_of_one_priority_do_not_outweigh_another_priority() -> None:
    loads = {CallLane("batch", str(number)): LaneLoad(waiting=100) for number in range(50)}
    loads[CallLane("interactive", "desk")] = LaneLoad(waiting=100)
    assert settled(loads, 17)[CallLane("interactive", "desk")] == 16


def test_rates_are_shared_by_what_was_used_lately() -> None:
    """Calls end at once, so no place in flight says who had how many."""
    loads = flooded(a=3, b=1)
    capacity, given_in_all = Capacity(places=64, requests=100), Counter[CallLane]()
    for _ in range(400):
        now = allotted(1, loads, capacity, NOW_S)
        given_in_all += now
        for lane, load in loads.items():
            load.requests = load.requests * 0.99 + now[lane]
    assert given_in_all[CallLane("normal", "a")] == pytest.approx(300, abs=10)


# Whose calls they are


@pytest.mark.parametrize(("shares", "caller", "party"), [
    ({}, Caller(collection="claims"), "claims"),
    ({}, Caller(tenant="legal", collection="claims"), "legal/claims"),
    ({}, Caller(tenant="legal"), "legal"),
    ({}, Caller(), "default"),
    ({"claims": 2.0, "legal": 3.0}, Caller(tenant="legal", collection="claims"), "claims"),
    ({"legal": 3.0}, Caller(tenant="legal", collection="claims"), "legal"),
    ({"legal": 3.0}, Caller(tenant="legal", collection="mail"), "legal"),
    ({"other": 3.0}, Caller(collection="mail"), "mail"),
])  # fmt: skip
def test_a_named_collection_is_a_party_before_a_named_tenant(
    shares: dict[str, float], caller: Caller, party: str
) -> None:
    assert lane_of(shares, "normal", caller) == CallLane("normal", party)


# What stands in the row


LIMITS = EndpointLimits(concurrency=8)
A, B = CallLane("batch", "a"), CallLane("interactive", "b")


def queue_of(held: Mapping[CallLane, int], asked: Mapping[CallLane, int], refused: Mapping[CallLane, int]) -> str:
    queue = PlaceQueue()
    queue.enter(1, held, asked, NOW_S)
    queue.leave(1, asked, refused, NOW_S)
    return queue.text(NOW_S)


def test_what_is_written_is_what_is_read() -> None:
    text = queue_of({A: 3}, {A: 2, B: 1}, {A: 2})
    assert PlaceQueue.read(text, NOW_S) is not None
    assert PlaceQueue.read(text, NOW_S).text(NOW_S) == text  # type: ignore[union-attr]


def test_nothing_is_kept_once_nobody_has_waited_for_a_while() -> None:
    text = queue_of({A: 3}, {A: 2}, {A: 2})
    assert PlaceQueue.read(text, NOW_S + KEPT_AFTER_WAIT_S) is not None
    assert PlaceQueue.read(text, NOW_S + KEPT_AFTER_WAIT_S + 0.1) is None
    assert PlaceQueue.read("", NOW_S) is None


def test_who_asks_no_more_is_waited_for_no_longer_than_a_second() -> None:
    queue = PlaceQueue.read(queue_of({A: 3}, {A: 2}, {A: 2}), NOW_S)
    assert queue is not None
    assert queue.loads({}, NOW_S + ASKED_FOR_S)[A].waiting == 2
    assert queue.loads({}, NOW_S + ASKED_FOR_S + 0.1)[A].waiting == 0


def test_what_a_dead_process_had_is_taken_out() -> None:
    text = queue_of({A: 3}, {A: 2}, {A: 2})
    assert forgotten(text, 2) is None
    left = forgotten(text, 1)
    assert left is not None
    assert json.loads(left)["owners"] == {}
    assert forgotten("", 1) is None


def test_places_are_kept_for_interactive_calls_while_there_are_some() -> None:
    queue = PlaceQueue()
    assert queue.most_others(LIMITS, 5, NOW_S) is None
    queue.enter(1, {}, {B: 1}, NOW_S)
    assert queue.most_others(LIMITS, 5, NOW_S) == 2
    queue.admit(1, B, NOW_S, 100)
    assert queue.most_others(LIMITS, 6, NOW_S) == 2, "the one that is used is not kept free once more"
    assert queue.most_others(LIMITS, 6, NOW_S + 301) is None
    declared = EndpointLimits(concurrency=8, interactive_places=3)
    assert PlaceQueue().most_others(declared, 0, NOW_S) == 5
    assert queue.most_others(EndpointLimits(concurrency=8, interactive_places=0), 6, NOW_S) is None


def test_rates_keep_a_part_for_interactive_calls() -> None:
    limits = EndpointLimits(requests_per_minute=480, concurrency=8)
    state = EndpointState()
    for _ in range(7):
        assert state.why_not(limits, NOW_S, tokens=1, kept_share=1 / 8) is None
        state.take(limits, NOW_S, tokens=1, probe_s=1)
    state.in_flight = 0
    wait = state.why_not(limits, NOW_S, tokens=1, kept_share=1 / 8)
    assert wait is not None
    assert wait.reason == "rate"
    assert state.why_not(limits, NOW_S, tokens=1) is None
