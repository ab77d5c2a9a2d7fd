"""Claims about who is next where many calls wait for one endpoint: order, places that are kept, and partitions."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from engines import CALLER, one, opened, questions, rows
from provider import Provider

from ai_assets.inference.endpoint_pool import EndpointPool
from ai_assets.inference.engine import MOST_UNDER_WAY, Engine
from ai_assets.inference.silence import Silence


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(answers="quick", latency_ms=5, jitter_ms=10) as started:
        yield started


@pytest.fixture
def local(each_url: str) -> str:
    return each_url


def sent(local: str) -> list[str]:
    return [row.document for row in rows(local, "SELECT document FROM attempts ORDER BY attempt_id")]


@pytest.mark.slow
def test_a_place_is_given_to_another_once_the_ledger_knows_that_it_is_free(
    provider: Provider, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the ledger finds the endpoint full, and all calls wait."""
    told: list[str] = []
    blocked = Silence.blocked

    def heard(silence: Silence, reason: str) -> None:
        told.append(reason)
        blocked(silence, reason)

    monkeypatch.setattr(Silence, "blocked", heard)
    with opened(local, one(provider.url, limits={"concurrency": 64})) as engine:
        list(engine.map(questions(1000), CALLER))
    assert told == []


def test_who_could_not_use_a_place_keeps_its_own_in_the_line(provider: Provider) -> None:
    async def order() -> list[str]:
        endpoint = one(provider.url, limits={"concurrency": 1}).endpoints["mini"]
        pool, found = EndpointPool("mini", endpoint, provider.url, None), list[str]()

        async def go(name: str, rank: int, times: int) -> None:
            place = pool.place(rank)
            for _ in range(times):
                await pool.enter(place)
                found.append(name)
                pool.leave()

        held = pool.place(0)
        await pool.enter(held)
        waiting = [asyncio.create_task(go(*each)) for each in (("a", 1, 2), ("b", 1, 1), ("c", 1, 1), ("first", 0, 1))]
        await asyncio.sleep(0)
        pool.leave()
        await asyncio.gather(*waiting)
        await pool.channel.close()
        return found

    assert asyncio.run(order()) == ["first", "a", "b", "a", "c"]


def test_a_partition_that_began_to_ask_first_is_served_first(provider: Provider, local: str) -> None:
    """Also with what it asks when others wait already: then a run's partitions end one after another."""
    each = MOST_UNDER_WAY + 88

    def ask(engine: Engine, at: int) -> None:
        caller = replace(CALLER, partition=f"part-{at}")
        list(engine.map(questions(each, first=at * each), caller))

    with (
        opened(local, one(provider.url, limits={"concurrency": 8})) as engine,
        ThreadPoolExecutor(2) as pool,
    ):
        maps = []
        for at in range(2):
            maps.append(pool.submit(ask, engine, at))
            while len(engine._ranks) <= at:
                time.sleep(0.001)
        for done in maps:
            done.result()
    order = [int(document) // each for document in sent(local)]
    last_of_the_first = len(order) - 1 - order[::-1].index(0)
    assert order[: last_of_the_first + 1].count(1) < each // 4
    assert order.count(0) == order.count(1) == each
