"""Claims about what an endpoint is spared: rates, calls at once, and everything while it is ill; over all processes.

AI_ASSETS_LONG=1 looks at more cases.
"""

import datetime
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from engines import Asking, ask, asking, attempts, check_books, endpoint, one, questions, rows, settings, together
from provider import Provider

from ai_assets.inference.records import Answer
from ai_assets.storage.state import StateStore

LONG = bool(os.environ.get("AI_ASSETS_LONG"))


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(answers="quick", retry_after_s=0.05) as found:
        yield found


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, latency_ms=5, jitter_ms=0, concurrency=None)
    running.reset()
    return running


@pytest.fixture
def local(each_url: str) -> str:
    url = each_url
    StateStore(url).close()
    return url


def three(state_url: str, declared: Any, count: int, **what: Any) -> list[dict[str, Any]]:
    """What three processes got that asked different questions at once."""
    made = (Asking(state_url, declared, first=number * count, count=count, **what) for number in range(3))
    return [process.said() for process in together(*made)]


def seconds(stats: dict[str, Any]) -> float:
    return float(stats["last_call_at"] - stats["first_call_at"])


@pytest.mark.slow
def test_requests_per_minute_hold_over_three_processes(provider: Provider, local: str) -> None:
    declared = one(provider.url, limits={"requests_per_minute": 1200})
    said = three(local, declared, 30)
    assert [each["answers"] for each in said] == [30] * 3
    stats = provider.stats()
    assert stats["calls"] == 90
    assert stats["rate_window_max"]["requests_1s"] <= 2 * 20
    assert (90 - 20 - 1) / 20 <= seconds(stats) < 6, "it is not slower than it must be"
    sent = sorted(datetime.datetime.fromisoformat(row.sent_at).timestamp() for row in attempts(local))
    for start in range(len(sent)):
        for end in range(start, len(sent)):
            assert end - start + 1 <= 20 + 20 * (sent[end] - sent[start]) + 1


@pytest.mark.slow
@pytest.mark.parametrize("embed", [True, False] if LONG else [True], ids=["embeddings", "chat"][: 1 + LONG])
def test_tokens_per_minute_hold_over_three_processes(embed: bool, provider: Provider, local: str) -> None:
    per_minute, count = (12_000, 24) if embed else (24_000, 20)
    declared = one(provider.url, limits={"tokens_per_minute": per_minute}, texts_per_request=4)
    said = three(local, declared, count, embed=embed)
    assert [each["answers"] for each in said] == [count] * 3
    stats = provider.stats()
    used = stats["tokens"]["input"] + stats["tokens"]["output"]
    per_second = per_minute / 60
    largest = used if embed else 500
    assert used <= per_second + per_second * seconds(stats) + largest
    assert stats["rate_window_max"]["tokens"] <= per_minute
    assert seconds(stats) < 20


@pytest.mark.slow
@pytest.mark.parametrize("embed", [False, True], ids=["chat", "embeddings"])
def test_calls_at_once_hold_over_three_processes(embed: bool, provider: Provider, local: str) -> None:
    provider.configure(latency_ms=20)
    said = three(local, one(provider.url, limits={"concurrency": 6}, texts_per_request=4), 80, embed=embed)
    assert [each["answers"] for each in said] == [80] * 3
    assert provider.stats()["peak_in_flight"] <= 6
    check_books(local)


def test_places_of_a_killed_process_are_given_back(provider: Provider, local: str) -> None:
    provider.configure(fault={"hang": 1.0}, hang_s=60)
    declared = one(provider.url, limits={"concurrency": 6}, texts_per_request=4)
    for embed in (False, True):
        process = asking(local, declared, count=50, embed=embed)
        while provider.stats()["in_flight"] < 6:
            time.sleep(0.01)
        process.kill()
        while provider.stats()["in_flight"]:
            time.sleep(0.01)
    provider.configure(fault={})
    results = ask(local, declared, questions(100, first=500))
    assert all(isinstance(result, Answer) for result in results)
    check_books(local)


def sent_since(state_url: str, moment: float) -> int:
    at = datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")
    (row,) = rows(state_url, "SELECT count(*) AS number FROM attempts WHERE sent_at >= :at", at=at)
    return int(row.number)


@pytest.mark.parametrize("illness", ["refuses", "stopped"] if LONG else ["refuses"])
@pytest.mark.slow
def test_a_dead_endpoint_is_left_alone_by_all_processes_probed_and_taken_back(
    illness: str, provider: Provider, local: str
) -> None:
    declared = one(provider.url, timeout_s=0.3, limits={"concurrency": 12})
    processes = together(*(Asking(local, declared, first=number * 800, count=800) for number in range(3)))
    provider.wait_delivered(100)
    fell = time.time()
    if illness == "refuses":
        provider.configure(fault={"server_error": 1.0})
    else:
        os.kill(provider.pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 300
        while not any(row.openings for row in rows(local, "SELECT openings FROM endpoints")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        opened = time.time()
        time.sleep(0.5)  # those that were in flight then come to their end
        quiet = time.time()
        time.sleep(3.0)
        # Pauses of about 1, 2 and 4 seconds, with one call to try it after each.
        assert 1 <= sent_since(local, quiet) <= 3
        assert opened - fell < 30
    except BaseException:
        for process in processes:
            process.kill()
        raise
    finally:
        if illness == "refuses":
            provider.configure(fault={})
        else:
            os.kill(provider.pid, signal.SIGCONT)
    said = [process.said() for process in processes]
    assert [each["answers"] for each in said] == [800] * 3
    assert rows(local, "SELECT openings, failures FROM endpoints") == [(0, 0)]
    check_books(local)


@pytest.mark.slow
def test_a_provider_that_takes_twenty_at_once_is_seldom_asked_more(provider: Provider, local: str) -> None:
    provider.configure(concurrency=20, latency_ms=20, jitter_ms=30)
    results = ask(local, one(provider.url), questions(2000))
    assert all(isinstance(result, Answer) for result in results)
    made = [row.error for row in attempts(local)]
    later = made[200:]
    assert later.count("rate_limited") < 0.05 * len(later)
    assert set(made) == {None, "rate_limited"}


def test_two_endpoints_of_one_provider_have_limits_of_their_own(provider: Provider, local: str) -> None:
    provider.configure(latency_ms=30)
    small = endpoint(provider.url, limits={"concurrency": 2})
    declared = settings({"mini": small, "maxi": {**small, "model": "large"}})
    asked = [*questions(20, route="mini"), *questions(20, route="maxi")]
    results = ask(local, declared, asked)
    assert all(isinstance(result, Answer) for result in results)
    assert 3 <= provider.stats()["peak_in_flight"] <= 4


def test_sent_at_is_when_it_left(provider: Provider, local: str) -> None:
    """What the claims above count by: the ledger's times agree with what the provider saw."""
    provider.configure(latency_ms=50)
    ask(local, one(provider.url, limits={"concurrency": 1}), questions(8))
    sent = [datetime.datetime.fromisoformat(row.sent_at) for row in attempts(local)]
    assert all(0.04 < (later - earlier).total_seconds() < 1 for earlier, later in pairwise(sent))
