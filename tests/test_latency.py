"""Claims about how fast endpoints are: judged over all processes, for each call when it leaves, and taken back."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from engines import CALLER, attempts, check_books, endpoint, opened, question, questions, settings
from hypothesis import given
from hypothesis import strategies as st
from provider import Provider

from ai_assets.base.errors import StateUnavailable
from ai_assets.inference import latency
from ai_assets.inference.engine import Engine
from ai_assets.inference.latency import (
    BACK_ANSWERS,
    CallClass,
    LatencyMemory,
    Slowness,
    Watch,
    bucket_of,
    judged,
    quantile,
    seconds_of,
    speeds,
)
from ai_assets.inference.records import Answer
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

NEAR = CallClass(endpoint="near", kind="classify", size="short")
WATCH = Watch(calls=NEAR, limit_s=0.4)


@pytest.fixture
def fast() -> Iterator[Provider]:
    with Provider() as found:
        yield found


@pytest.fixture
def slow() -> Iterator[Provider]:
    with Provider(latency_ms=800) as found:
        yield found


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


def near_and_far(slow: Provider, fast: Provider, **more: Any) -> InferenceSettings:
    rules = [{"use": "far", "slower_than_s": 0.4}]
    near, far = endpoint(slow.url, **more), endpoint(fast.url)
    return settings({"near": near, "far": far}, route={"endpoints": ["near", "far"], "rules": rules})


def seen(*seconds: float) -> dict[int, int]:
    return dict(Counter(bucket_of(each) for each in seconds))


# The judgement


@given(st.floats(0.001, 3600))
def test_a_bucket_ends_at_most_five_percent_later(seconds: float) -> None:
    ends = seconds_of(bucket_of(seconds))
    assert seconds * 0.999999 <= ends <= seconds * latency.STEP * 1.000001


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_right_within_five_percent(taken: list[float], share: float) -> None:
    found = quantile(seen(*taken), share)
    exact = sorted(taken)[max(-(-int(share * 1000) * len(taken) // 1000) - 1, 0)]
    assert found is not None
    assert exact * 0.999999 <= found <= exact * latency.STEP * 1.000001


UNKNOWN = Slowness()


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    before: Slowness = UNKNOWN
    taken: tuple[float, ...] = ()
    overdue: int = 0
    slow: bool
    since_s: float = 0.0


WAS_SLOW = Slowness(slow=True, since_s=500.0, probe_at_s=505.0)
CASES = [
    Case(id="nothing is known", slow=False),
    Case(id="fast", taken=(0.1,) * 100, slow=False),
    Case(id="one in twenty is slow", taken=(0.1,) * 95 + (0.9,) * 5, slow=False),
    Case(id="more than one in twenty", taken=(0.1,) * 94 + (0.9,) * 6, slow=True, since_s=1010.0),
    Case(id="two slow ones may be chance", taken=(0.9, 0.9), slow=False),
    Case(id="those in flight for too long count before they end", overdue=3, slow=True, since_s=1010.0),
    Case(id="at the limit", taken=(0.4,) * 9, slow=False),
    Case(id="too few probes yet", before=WAS_SLOW, taken=(0.1,) * 4, slow=True, since_s=500.0),
    Case(id="probes were fast", before=WAS_SLOW, taken=(0.1,) * 5, slow=False, since_s=500.0),
    Case(id="probes were near the limit", before=WAS_SLOW, taken=(0.38,) * 9, slow=True, since_s=1010.0),
    Case(id="a probe was slow: counted afresh", before=WAS_SLOW, taken=(0.1,) * 9 + (0.9,), slow=True, since_s=1010.0),
    Case(id="a probe has not come back", before=WAS_SLOW, taken=(0.1,) * 9, overdue=1, slow=True, since_s=1010.0),
    Case(id="long ago", before=Slowness(slow=True, since_s=300.0), slow=False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_slow_is_judged_with_hysteresis(case: Case) -> None:
    after = judged(case.before, seen(*case.taken), case.overdue, 0.4, 1004.0)
    assert (after.slow, after.since_s) == (case.slow, case.since_s)


# The memory of all processes


def tell(memory: LatencyMemory, seconds: float, count: int, calls: CallClass = NEAR) -> None:
    for _ in range(count):
        memory.ended(memory.began(calls), seconds, None)


def test_what_one_process_has_seen_another_goes_by(state: StateStore) -> None:
    one, other = LatencyMemory(state), LatencyMemory(state)
    tell(one, 0.8, 10)
    one.share()
    assert not other.is_slow(WATCH)
    assert other.share()
    assert other.is_slow(WATCH)
    for different in (
        Watch(calls=NEAR, limit_s=0.9),
        Watch(calls=CallClass(endpoint="near", kind="embed", size="short"), limit_s=0.4),
        Watch(calls=CallClass(endpoint="near", kind="classify", size="long"), limit_s=0.4),
    ):
        assert not other.is_slow(different)
        other.share()
        assert not other.is_slow(different)


def test_one_process_gets_each_probe_and_all_learn_that_the_endpoint_is_fast_again(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "PROBE_EVERY_S", 0.0)
    monkeypatch.setattr(latency, "SLICE_S", 1)
    one, other = LatencyMemory(state), LatencyMemory(state)
    tell(one, 0.8, 10)
    for memory in (one, other):
        memory.is_slow(WATCH)
        memory.share()
    assert not one.may_probe(WATCH), "the one that found it slow does not probe at once"
    probes, back = 0, threading.Event()
    for _ in range(400):
        for memory in (one, other):
            if not memory.is_slow(WATCH):
                back.set()
            memory.share()
            if memory.may_probe(WATCH):
                assert not memory.may_probe(WATCH)
                probes += 1
                tell(memory, 0.1, 1)
        if back.wait(0.02):
            break
    assert back.is_set()
    assert probes >= BACK_ANSWERS
    for memory in (one, other):
        memory.is_slow(WATCH)
        memory.share()
        assert not memory.is_slow(WATCH), "what was seen before does not make it slow again"


def test_calls_that_fail_at_once_do_not_make_an_endpoint_fast(state: StateStore) -> None:
    memory = LatencyMemory(state)
    for error in ("unreachable", "rate_limited", "malformed", "server_error"):
        memory.ended(memory.began(NEAR), 0.001, error)  # type: ignore[arg-type]
    memory.ended(memory.began(NEAR), 60.0, "timeout")
    memory.share()
    with state.read() as connection:
        (found,) = speeds(connection)
    assert found.answers == 1
    assert 60.0 <= found.p50_s <= 63.0


def test_what_was_seen_is_told_again_after_a_store_that_was_away(state: StateStore) -> None:
    memory = LatencyMemory(state)
    tell(memory, 0.2, 7)
    with state.write() as connection:
        connection.execute(sa.text("ALTER TABLE latencies RENAME TO away"))
    with pytest.raises((StateUnavailable, sa.exc.SQLAlchemyError)):
        memory.share()
    with state.write() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO latencies"))
    memory.share()
    with state.read() as connection:
        assert [found.answers for found in speeds(connection)] == [7]


def test_eight_writers_lose_no_answer(state: StateStore) -> None:
    memories = [LatencyMemory(state) for _ in range(8)]

    def work(memory: LatencyMemory) -> None:
        for _ in range(10):
            tell(memory, 0.2, 5)
            memory.share()

    threads = [threading.Thread(target=work, args=(memory,)) for memory in memories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with state.read() as connection:
        assert [found.answers for found in speeds(connection)] == [400]


# The engine


def of(engine_url: str) -> Counter[str]:
    return Counter(row.endpoint for row in attempts(engine_url))


def test_of_600_calls_few_go_to_the_slow_endpoint(slow: Provider, fast: Provider, state_url: str) -> None:
    with opened(state_url, near_and_far(slow, fast)) as engine:
        results = list(engine.map(questions(600), CALLER))
    assert all(isinstance(result, Answer) for result in results)
    went = of(state_url)
    assert went["near"] + went["far"] == 600
    assert went["near"] <= 64 + 64 + 5, "those in flight before it was known, and probes"
    check_books(state_url)


def test_calls_that_wait_for_a_place_go_elsewhere_before_the_first_answer(fast: Provider, state_url: str) -> None:
    with Provider(latency_ms=6000) as hanging:
        declared = near_and_far(hanging, fast, limits={"concurrency": 4})
        with opened(state_url, declared) as engine:
            results = engine.map([question(number) for number in range(100)], CALLER)
            list(results)
    assert of(state_url)["near"] == 4


def test_a_slow_endpoint_is_taken_back(
    slow: Provider, fast: Provider, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(latency, "SLICE_S", 1)
    with opened(state_url, near_and_far(slow, fast)) as engine:
        list(engine.map(questions(100), CALLER))
        slow.configure(latency_ms=0)
        at = 1000
        while at < 9000 and _went_to_near(engine, at) < 50:
            at += 50
    assert at < 9000
    check_books(state_url)


def _went_to_near(engine: Engine, first: int) -> int:
    results = engine.map(questions(50, first=first), CALLER)
    return sum(1 for result in results if result.endpoint == "near")


def test_the_command_shows_what_is_known(project: Project) -> None:
    assert "No endpoint has answered" in project.cli("inference", "speed").stdout
    memory = LatencyMemory(project.stores().state)
    tell(memory, 0.8, 10)
    memory.is_slow(WATCH)
    memory.share()
    shown = project.cli("inference", "speed").stdout
    assert "slower than 0.4 s" in shown
    (found,) = json.loads(project.cli("inference", "speed", "--json").stdout)["endpoints"]
    assert (found["endpoint"], found["kind"], found["size"], found["answers"]) == ("near", "classify", "short", 10)
    assert 0.8 <= found["p95_s"] <= 0.84
    assert found["slow_limits_s"] == [0.4]
