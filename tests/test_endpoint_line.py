"""Claims about who is next where many calls wait for one endpoint: order, places that are kept, and partitions."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from engines import CALLER, one, opened, questions, rows
from provider import Provider

from ai_assets.inference.engine import MOST_UNDER_WAY, Engine


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(answers="quick", latency_ms=5, jitter_ms=10) as started:
        yield started


@pytest.fixture
def local(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


def sent(local: str) -> list[str]:
    return [row.document for row in rows(local, "SELECT document FROM attempts ORDER BY attempt_id")]


def test_calls_leave_in_the_order_of_their_requests(provider: Provider, local: str) -> None:
    """Where the ledger learns of an end too late, whoever follows finds the endpoint full and loses its place."""
    with opened(local, one(provider.url, limits={"concurrency": 64})) as engine:
        list(engine.map(questions(1200), CALLER))
    assert sent(local) == [str(number) for number in range(1200)]


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
