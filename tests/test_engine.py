"""Claims about the engine as a part of a program: order, laziness, threads, asyncio, interruptions, odd inputs."""

import asyncio
import gc
import itertools
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engines import (
    CALLER,
    Asking,
    ask,
    attempts,
    check_books,
    endpoint,
    one,
    opened,
    question,
    questions,
    rows,
    settings,
    states,
    to_embed,
    together,
)
from provider import Provider

from ai_assets.inference.engine import CHUNK, MOST_CHUNKS, Engine
from ai_assets.inference.errors import EngineClosed, RouteUnknown
from ai_assets.inference.records import Answer, Caller, Request, Result
from ai_assets.storage.state import StateStore


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, latency_ms=10, jitter_ms=20, hang_s=300)
    running.reset()
    running.script([])
    return running


@pytest.fixture
def local(each_url: str) -> str:
    return each_url


def documents(results: list[Result]) -> list[str]:
    return [result.request.document for result in results]


def check_quiet(provider: Provider) -> None:
    """Nothing is asked any more."""
    calls = provider.stats()["calls"]
    time.sleep(0.15)
    stats = provider.stats()
    assert (stats["calls"], stats["in_flight"]) == (calls, 0)


# Order and laziness


def test_results_come_in_the_order_of_the_requests_whatever_fails(provider: Provider, local: str) -> None:
    provider.configure(fault={"server_error": 0.1, "rate_limited_bare": 0.05, "content_filter": 0.05})
    results = ask(local, one(provider.url), questions(500))
    assert documents(results) == [str(number) for number in range(500)]
    assert {type(result).__name__ for result in results} == {"Answer", "Unanswered"}


def test_an_endless_stream_is_read_as_far_as_it_is_needed_and_left_in_order(provider: Provider, local: str) -> None:
    read = itertools.count()
    with opened(local, one(provider.url)) as engine:
        results = engine.map((question(number) for number in read), CALLER)
        first = list(itertools.islice(results, 100))
        results.close()  # type: ignore[attr-defined]
        assert documents(first) == [str(number) for number in range(100)]
        assert next(read) <= 100 + (MOST_CHUNKS + 1) * CHUNK
        check_quiet(provider)
        assert set(states(local)) == {"settled"}
        check_books(local)
        assert isinstance(engine.call(question("later"), CALLER), Answer)
    assert provider.stats()["billed_twice"] == 0


def test_a_slow_consumer_is_not_run_over(provider: Provider, local: str) -> None:
    provider.configure(latency_ms=0, jitter_ms=0)
    read = itertools.count()
    with opened(local, one(provider.url)) as engine:
        results = engine.map((question(number) for number in read), CALLER)
        next(results)
        time.sleep(1.0)
        assert next(read) <= (MOST_CHUNKS + 2) * CHUNK
        results.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_consumer_that_fails_leaves_nothing_running_even_if_the_collector_finds_it(
    provider: Provider, local: str
) -> None:
    """A cycle may keep the iterator until any thread collects it, the engine's own included."""
    with opened(local, one(provider.url)) as engine:
        kept: dict[str, Any] = {}
        kept["self"], kept["results"] = kept, engine.map(questions(2000), CALLER)
        next(kept["results"])
        loop = engine._loop
        assert loop is not None
        gc.disable()
        try:
            del kept
            collected = threading.Event()
            loop.call_soon_threadsafe(lambda: (gc.collect(), collected.set()))
            assert collected.wait(60)
            calls = -1
            while calls != (calls := provider.stats()["calls"]):
                time.sleep(0.5)
        finally:
            gc.enable()
        check_quiet(provider)
        assert provider.stats()["calls"] < 2000
        assert isinstance(engine.call(question("later"), CALLER), Answer)
    assert set(states(local)) == {"settled"}


def test_an_error_of_the_requests_themselves_is_the_consumers(provider: Provider, local: str) -> None:
    def made() -> Iterator[Request]:
        yield from questions(100)
        raise ZeroDivisionError

    with opened(local, one(provider.url)) as engine:
        with pytest.raises(ZeroDivisionError):
            list(engine.map(made(), CALLER))
        check_quiet(provider)
    assert set(states(local)) <= {"settled"}


def test_no_requests_are_no_results(local: str) -> None:
    assert ask(local, one("http://127.0.0.1:1/v1"), []) == []


def test_a_route_that_nobody_declared_is_named(local: str) -> None:
    with pytest.raises(RouteUnknown, match=r"'mimi'.*'mini'"):
        ask(local, one("http://127.0.0.1:1/v1"), [question(1, route="mimi")])


# Several at once


def test_threads_share_one_engine_and_equal_questions_are_paid_for_once(provider: Provider, local: str) -> None:
    with opened(local, one(provider.url)) as engine, ThreadPoolExecutor(4) as threads:
        made = [threads.submit(lambda: list(engine.map(questions(200), CALLER))) for _ in range(4)]
        results = [each.result(timeout=300) for each in made]
    assert all(documents(each) == [str(number) for number in range(200)] for each in results)
    assert all(isinstance(result, Answer) for each in results for result in each)
    assert provider.stats()["billed"] == 200
    assert len(rows(local, "SELECT * FROM reuses")) == 600


def test_asynchronous_code_is_served_inside_its_loop(provider: Provider, local: str) -> None:
    async def main(engine: Engine) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        results = [result async for result in engine.amap(questions(300), CALLER)]
        assert documents(results) == [str(number) for number in range(300)]
        several = await asyncio.gather(*(engine.acall(question(number), CALLER) for number in range(290, 310)))
        assert documents(list(several)) == [str(number) for number in range(290, 310)]
        assert sum(result.attempts for result in several) == 10
        stream = engine.amap((question(number) for number in itertools.count(1000)), CALLER)
        async for _ in stream:
            break
        before = ticks
        await stream.aclose()  # type: ignore[attr-defined]
        ticking.cancel()
        assert ticks >= before
        assert ticks > 10

    with opened(local, one(provider.url)) as engine:
        asyncio.run(main(engine))
        check_quiet(provider)
    assert set(states(local)) == {"settled"}
    check_books(local)


def test_a_cancelled_task_asks_nothing_more(provider: Provider, local: str) -> None:
    async def main(engine: Engine) -> None:
        async def asks() -> None:
            async for _ in engine.amap((question(number) for number in itertools.count()), CALLER):
                pass

        task = asyncio.create_task(asks())
        while not provider.stats()["delivered"]:
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with opened(local, one(provider.url)) as engine:
        asyncio.run(main(engine))
        check_quiet(provider)
    assert set(states(local)) == {"settled"}


# Ends


def test_a_closed_engine_says_so(provider: Provider, local: str) -> None:
    with opened(local, one(provider.url)) as engine:
        engine.call(question(1), CALLER)
    with pytest.raises(EngineClosed):
        engine.call(question(2), CALLER)
    engine.close()
    never_used = Engine(one(provider.url), StateStore(local))
    never_used.close()
    with pytest.raises(EngineClosed):
        list(never_used.map(questions(3), CALLER))


@pytest.mark.parametrize("seed", range(6))
def test_an_engine_closed_at_any_moment_ends_every_map_and_leaves_no_intent(
    seed: int, provider: Provider, local: str
) -> None:
    moment = random.Random(seed).uniform(0, 0.5)
    state = StateStore(local)
    engine = Engine(one(provider.url), state)
    ends: list[str] = []

    def consume(make: Any) -> None:
        try:
            for _ in engine.map((make(number) for number in itertools.count()), CALLER):
                pass
        except EngineClosed:
            ends.append("closed")

    threads = [threading.Thread(target=consume, args=(make,), daemon=True) for make in (question, to_embed)]
    for thread in threads:
        thread.start()
    time.sleep(moment)
    engine.close()
    for thread in threads:
        thread.join(60)
    assert ends == ["closed", "closed"]
    state.close()
    assert set(states(local)) <= {"settled"}
    check_books(local)
    assert all(not row.name.startswith("calls:") for row in rows(local, "SELECT name FROM leases"))


def test_an_engine_closed_while_nobody_answers_records_what_was_open_as_ambiguous(
    provider: Provider, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_assets.inference.engine.GRACE_S", 0.3)
    provider.configure(fault={"hang": 1.0})

    def consume(engine: Engine) -> None:
        with pytest.raises(EngineClosed):
            list(engine.map(questions(50), CALLER))

    with opened(local, one(provider.url, limits={"concurrency": 5})) as engine:
        thread = threading.Thread(target=consume, args=(engine,), daemon=True)
        thread.start()
        while provider.stats()["in_flight"] < 5:
            time.sleep(0.01)
        started = time.monotonic()
        engine.close()
        assert time.monotonic() - started < 20  # the calls would hang for a minute
        thread.join(60)
        assert not thread.is_alive()
    assert states(local) == {"ambiguous": 5}
    check_books(local)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "hang"])
def test_an_interrupted_program_ends_promptly_and_accounts_for_every_call(
    fault: str | None, provider: Provider, local: str
) -> None:
    provider.configure(fault={fault: 1.0} if fault else {})
    (program,) = together(Asking(local, one(provider.url, limits={"concurrency": 16}), count=100_000))
    while provider.stats()["calls"] < 16:
        time.sleep(0.01)
    time.sleep(0.3)
    program.process.send_signal(signal.SIGINT)
    started = time.monotonic()
    program.process.wait(timeout=55)
    assert time.monotonic() - started < 50
    complaints = program.complaints()
    program.kill()
    assert complaints.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in complaints
    assert set(states(local)) == {"ambiguous" if fault else "settled"}
    check_books(local)
    check_quiet(provider)


def test_a_second_interruption_is_not_swallowed(provider: Provider, local: str) -> None:
    provider.configure(fault={"hang": 1.0})
    (program,) = together(Asking(local, one(provider.url, limits={"concurrency": 16}), count=100_000))
    while provider.stats()["calls"] < 16:
        time.sleep(0.01)
    for _ in range(3):
        program.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    started = time.monotonic()
    program.process.wait(timeout=55)
    assert time.monotonic() - started < 50
    program.kill()
    # Nothing is lost sight of: the next one that looks finds what was left.
    with opened(local, one(provider.url)) as engine:
        provider.configure(fault={})
        engine.call(question("another"), CALLER)
    assert set(states(local)) == {"ambiguous", "settled"}
    check_books(local)


# The state store


@pytest.mark.slow
def test_a_state_store_that_restarts_loses_nothing(provider: Provider, postgres: Any) -> None:
    state_url = postgres.database("restarted_engine")
    with opened(state_url, one(provider.url)) as engine:
        results = engine.map(questions(3000), CALLER)
        found = list(itertools.islice(results, 300))
        postgres.stop()
        time.sleep(1.5)
        postgres.start()
        found += results
    assert documents(found) == [str(number) for number in range(3000)]
    assert all(isinstance(result, Answer) for result in found)
    assert states(state_url) == {"settled": 3000}
    assert provider.stats()["billed"] == 3000
    check_books(state_url)


def test_an_answer_expires_only_for_who_says_so(provider: Provider, local: str) -> None:
    declared = one(provider.url)
    asked = [question(1), to_embed(1)]
    first = ask(local, declared, asked)
    time.sleep(0.05)
    assert [result.attempts for result in ask(local, declared, asked)] == [0, 0]
    fresh = [replace(request, reuse_for_s=60.0) for request in asked]
    assert [result.attempts for result in ask(local, declared, fresh)] == [0, 0]
    expired = [replace(request, reuse_for_s=0.02) for request in asked]
    again = ask(local, declared, expired)
    assert [result.attempts for result in again] == [1, 1]
    assert [result.call for result in again] == [result.call for result in first]
    assert [result.attempts for result in ask(local, declared, asked)] == [0, 0]
    assert states(local) == {"settled": 4}


# Odd inputs

ODD = {
    "empty": "",
    "space": " ",
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b\udfff",
    "ten megabytes": "pump " * 2_000_000,
    "every plane": "".join(chr(code) for code in range(1, 0x110000, 997) if not 0xD800 <= code < 0xE000),
    "right to left": "\u202eabc\u202c שלום",
    "JSON": '{"a": [1, "\\u0000"]}',
    "SQL": "'; DROP TABLE attempts; --",
    "braces": "{0} %s :rows ?",
}


def test_odd_texts_are_asked_and_found_again_in_every_database(provider: Provider, state_url: str) -> None:
    provider.configure(context_tokens=100_000_000, max_body_mb=200)
    budget = {"name": "each", "limit_usd": 100, "each": "document"}
    declared = settings({"mini": endpoint(provider.url)}, budgets=[budget])
    asked = [
        Request(document=text[:40], messages=({"role": "user", "content": text},), max_output_tokens=16)
        for text in ODD.values()
    ]
    odd = Caller(collection="notes\0", asset="kind", partition="fol\udce4der", run_id="run")  # a name that is no UTF-8
    results = ask(state_url, declared, asked, odd)
    assert [type(result).__name__ for result in results] == ["Answer"] * len(ODD)
    again = ask(state_url, declared, asked)
    assert [result.attempts for result in again] == [0] * len(ODD)
    for first, second in zip(results, again, strict=True):
        assert isinstance(first, Answer)
        assert isinstance(second, Answer)
        assert (first.text, first.call) == (second.text, second.call)
    found = check_books(state_url)
    assert len(found) == len(ODD)
    assert {row.document for row in attempts(state_url)} >= {"", " ", "a\ufffdb"}


def test_odd_texts_are_embedded(provider: Provider, state_url: str) -> None:
    texts = [text for text in ODD.values() if text and len(text) < 10_000]
    asked = [Request(document=text, text=text, kind="embed") for text in texts]
    results = ask(state_url, one(provider.url), asked)
    assert [type(result).__name__ for result in results] == ["Answer"] * len(texts)
    alone = ask(f"{state_url}", one(provider.url), asked)
    assert [result.attempts for result in alone] == [0] * len(texts)


def test_a_vector_does_not_depend_on_what_it_is_sent_with(provider: Provider, tmp_path: Path) -> None:
    asked = [to_embed(number) for number in range(20)]
    together_ = ask(f"sqlite:///{tmp_path}/one.db", one(provider.url), asked)
    singly = ask(f"sqlite:///{tmp_path}/two.db", one(provider.url, texts_per_request=1), asked)
    vectors = [[result.vector for result in each if isinstance(result, Answer)] for each in (together_, singly)]
    assert vectors[0] == vectors[1]
    assert [result.call for result in together_] == [result.call for result in singly]
    assert provider.stats()["calls"] == 21


def test_the_rehearsal_provider_of_a_run_is_started_once_and_ends_with_it(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AI_ASSETS_REHEARSAL_URL", raising=False)
    with opened(local, one("rehearsal")) as engine:
        results = list(engine.map(questions(100), CALLER))
    assert all(isinstance(result, Answer) for result in results)
    gc.collect()  # a connection that was left open would complain now
