"""Claims about who gets the places of an endpoint, over real processes that hammer it, on SQLite and PostgreSQL."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from conftest import Project, eventually
from engines import CALLER, REPOSITORY, ask, check_books, declare, endpoint, one, opened, question, questions, rows
from provider import Provider

import ai_assets.base.child_main
from ai_assets.inference.endpoint_pool import EndpointPool
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import PriorityUnknown
from ai_assets.inference.fairness import CallLane
from ai_assets.inference.ledger_messages import Hop
from ai_assets.inference.own_places import OwnPlaces
from ai_assets.inference.prices import FREE
from ai_assets.inference.queue_query import EndpointPlaces, endpoint_places
from ai_assets.inference.records import PRIORITIES, PRIORITY_TAG, Answer
from ai_assets.inference.settings import Endpoint, InferenceSettings
from ai_assets.inference.silence import FIRST_SAID_S, SLOW_SAID_S, Silence, waiting_line
from ai_assets.orchestration.llm_resource import LLMResource
from ai_assets.orchestration.run_tags import priority_of
from ai_assets.storage.state import StateStore

PLACES = 4


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, latency_ms=60, jitter_ms=20)
    running.reset()
    return running


def declared(provider: Provider, **more: Any) -> InferenceSettings:
    return one(provider.url, limits={"concurrency": PLACES}, **more)


class Hammer:
    """`programs/place_hammer.py`: asks without end, or so many `calls`."""

    def __init__(self, state_url: str, settings: InferenceSettings, name: str, **what: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), "programs.place_hammer"],
            cwd=REPOSITORY / "tests", env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        shown = settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        self._say(json.dumps({"state_url": state_url, "settings": shown, "name": name, "collection": name, **what}))

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def go(self) -> "Hammer":
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self._say("go")
        return self

    def ended(self) -> dict[str, Any]:
        out, _ = self.process.communicate(timeout=300)
        return dict(json.loads(out.splitlines()[-1]))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def hammering(*made: Hammer) -> Iterator[None]:
    try:
        for each in made:
            each.go()
        yield
    finally:
        for each in made:
            each.kill()


def made(state_url: str) -> list[Any]:
    """Every attempt with the collection that asked, in the order in which they left."""
    return rows(
        state_url,
        "SELECT attempts.sent_at, attempts.ended_at, callers.collection FROM attempts "
        "JOIN callers ON callers.caller_id = attempts.caller_id ORDER BY sent_at, attempt_id",
    )


def places(state_url: str, settings: InferenceSettings) -> EndpointPlaces:
    state = StateStore(state_url)
    try:
        with state.read() as connection:
            found = endpoint_places(connection, settings)
            return found[0] if found else EndpointPlaces(endpoint="", places=0, in_flight=0, kept=0, calls=())
    finally:
        state.close()


def wait_for_calls(provider: Provider, number: int) -> None:
    eventually(lambda: provider.stats()["calls"] >= number, timeout_s=120)


@pytest.mark.slow
def test_a_place_is_free_for_whoever_is_interactive_in_a_flood_of_batch(provider: Provider, store_url: str) -> None:
    settings = declared(provider)
    with hammering(*(Hammer(store_url, settings, f"flood-{at}", priority="batch") for at in range(2))):
        wait_for_calls(provider, 3 * PLACES)
        desk = Hammer(store_url, settings, "desk", priority="interactive", calls=12).go()
        assert len(desk.ended()["waited_s"]) == 12
        wait_for_calls(provider, provider.stats()["calls"] + PLACES)
    found = made(store_url)
    mine = [at for at, row in enumerate(found) if row.collection == "desk"]
    flood = [row for row in found if row.collection != "desk"]
    # What left before the first interactive call was known ends meanwhile.
    for row in (row for row in flood if row.sent_at > found[mine[1]].sent_at):
        held = [other for other in flood if other.sent_at <= row.sent_at and (other.ended_at or "9999") > row.sent_at]
        assert len(held) <= PLACES - 1
    assert provider.stats()["peak_in_flight"] <= PLACES


@pytest.mark.slow
def test_shares_hold_over_processes_and_what_is_not_used_goes_to_others(provider: Provider, store_url: str) -> None:
    settings = one(provider.url, limits={"concurrency": 8}, shares={"claims": 3, "mail": 1})
    claims, mail = Hammer(store_url, settings, "claims"), Hammer(store_url, settings, "mail")
    with hammering(mail):
        wait_for_calls(provider, 40)
        eventually(lambda: places(store_url, settings).in_flight >= 7)  # nobody else wants the places
        with hammering(claims):
            eventually(lambda: any(row.collection == "claims" for row in made(store_url)), timeout_s=60)
            wait_for_calls(provider, provider.stats()["calls"] + 40)
            begin = len(made(store_url))
            wait_for_calls(provider, provider.stats()["calls"] + 160)
            found = Counter(row.collection for row in made(store_url)[begin:])
    assert 1.7 <= found["claims"] / found["mail"] <= 4.5
    assert provider.stats()["peak_in_flight"] <= 8


@pytest.mark.slow
def test_batch_goes_on_in_a_flood_of_interactive_calls(provider: Provider, store_url: str) -> None:
    settings = declared(provider)
    flood = (Hammer(store_url, settings, f"desk-{at}", priority="interactive") for at in range(2))
    with hammering(*flood, Hammer(store_url, settings, "archive", priority="batch")):
        eventually(lambda: len({row.collection for row in made(store_url)}) == 3, timeout_s=60)
        begin = len(made(store_url))
        wait_for_calls(provider, provider.stats()["calls"] + 80)
        found = Counter(row.collection for row in made(store_url)[begin:])
    assert found["archive"] >= 5, "it has one place of four at any time"
    assert found["desk-0"] + found["desk-1"] > found["archive"]


@pytest.mark.slow
def test_a_flood_that_is_killed_gives_its_places_and_its_turn_back(provider: Provider, store_url: str) -> None:
    settings = declared(provider)
    provider.configure(fault={"hang": 1.0}, hang_s=600)
    flood = Hammer(store_url, settings, "flood").go()
    eventually(lambda: provider.stats()["in_flight"] >= PLACES, timeout_s=60)
    waiting = Hammer(store_url, settings, "claims", calls=3).go()
    eventually(lambda: any(calls.party == "claims" for calls in places(store_url, settings).calls), timeout_s=60)
    seen = {calls.party: calls for calls in places(store_url, settings).calls}
    assert seen["claims"].waiting == 1
    provider.configure(fault={})
    flood.kill()
    assert len(waiting.ended()["waited_s"]) == 3
    assert not places(store_url, settings).calls
    assert places(store_url, settings).in_flight == 0
    check_books(store_url)


@pytest.mark.slow
def test_two_processes_of_one_collection_do_not_wait_for_each_other_to_end(provider: Provider, store_url: str) -> None:
    settings = declared(provider)
    first, second = (Hammer(store_url, settings, name, collection="notes") for name in ("first", "second"))
    with hammering(first):
        wait_for_calls(provider, 5 * PLACES)
        with hammering(second):
            wait_for_calls(provider, provider.stats()["calls"] + 60)
    by_owner = rows(
        store_url, "SELECT attempt_id >> 32 AS owner, count(*) AS calls FROM attempts GROUP BY 1 ORDER BY 1"
    )
    assert [row.calls >= 10 for row in by_owner] == [True, True]


@pytest.mark.slow
def test_within_one_process_a_collection_is_not_behind_another(provider: Provider, store_url: str) -> None:
    """Its line is shared out as the ledger does it."""
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    with opened(store_url, declared(provider)) as engine, ThreadPoolExecutor(2) as pool:
        flood = pool.submit(list, engine.map(questions(120), replace(CALLER, collection="flood")))
        wait_for_calls(provider, PLACES)
        few = list(engine.map(questions(4, first=1000), replace(CALLER, collection="few")))
        left = sum(row.collection == "flood" for row in made(store_url))
        flood.result()
    assert all(isinstance(result, Answer) for result in few)
    assert left < 60


def test_nothing_is_kept_where_nobody_waits(provider: Provider, store_url: str) -> None:
    ask(store_url, declared(provider), questions(30))
    assert rows(store_url, "SELECT queue FROM endpoints") == [("",)]
    check_books(store_url)


def test_a_reserve_that_is_declared_always_holds(provider: Provider, store_url: str) -> None:
    settings = one(provider.url, limits={"concurrency": PLACES, "interactive_places": 3})
    ask(store_url, settings, questions(12))
    assert provider.stats()["peak_in_flight"] == 1
    ask(store_url, settings, questions(12, first=100, priority="interactive"))
    assert provider.stats()["peak_in_flight"] == PLACES


def test_the_priority_of_a_request_goes_before_that_of_its_run(provider: Provider, store_url: str) -> None:
    state, heard = StateStore(store_url), list[str]()
    place = EndpointPool.place

    def noted(pool: EndpointPool, rank: int, lane: CallLane) -> Any:
        heard.append(lane.priority)
        return place(pool, rank, lane)

    with pytest.MonkeyPatch.context() as patch, Engine(declared(provider), state, priority="batch") as engine:
        patch.setattr(EndpointPool, "place", noted)
        results = [
            engine.call(question(number, priority=each), CALLER) for number, each in enumerate((None, *PRIORITIES))
        ]
    state.close()
    assert heard == ["batch", *PRIORITIES]
    assert [result.request.priority for result in results] == [None, *PRIORITIES], "what was asked comes back as it was"


def test_plain_code_says_how_urgent_it_is_and_a_run_for_all_its_calls(
    provider: Provider, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(project.root, provider.url)
    heard: list[str] = []
    place = EndpointPool.place

    def noted(pool: EndpointPool, rank: int, lane: CallLane) -> Any:
        heard.append(lane.priority)
        return place(pool, rank, lane)

    monkeypatch.setattr(EndpointPool, "place", noted)

    @dg.asset
    def asked(llm: LLMResource) -> None:
        llm.ask("Is the pump due?")
        llm.ask("Is the pump due now?", priority="interactive")
        list(llm.map(["Is the valve due?"]))
        llm.embed(["pump"], priority="normal")

    def run(priority: str) -> dg.ExecuteInProcessResult:
        tags = {PRIORITY_TAG: priority}
        return dg.materialize([asked], resources={"llm": LLMResource()}, tags=tags, raise_on_error=False)

    assert run("batch").success
    assert heard == ["batch", "interactive", "batch", "normal"]
    assert not run("urgent").success
    project.declare()
    done = project.cli("run", "notes", "--priority", "urgent")
    assert done.returncode == 2
    assert "is 'urgent'; known here: batch, interactive, normal" in done.stderr


# Counting


def test_a_turn_that_is_rolled_back_counts_once() -> None:
    declared_endpoint = Endpoint.model_validate(endpoint("http://h/v1", free=True))
    lane = CallLane("normal", "a")
    hop = Hop(
        name="mini", endpoint=declared_endpoint, price=FREE, key="", body=b"", reserve_nusd=0, tokens=1, lane=lane
    )
    own = OwnPlaces()
    for turn in (1, 1, 2):
        own.begin(turn)
        own.opened(hop)
    assert own.of("mini") == {lane: 2}
    own.undo()
    own.begin(3)
    assert own.of("mini") == {lane: 1}
    own.ended(hop)
    assert not own.of("mini")


# What people hear


def test_a_wait_for_a_place_says_behind_whom() -> None:
    silence, declared_endpoint = Silence(), Endpoint.model_validate(endpoint("http://h/v1", free=True))
    silence.begin(100.0, stays=True)
    silence.blocked("full")
    silence.behind = "batch calls of 'archive' (6 in flight, 12 waiting)"
    assert not silence.is_due(300.0, 100.0 + FIRST_SAID_S - 1)
    assert silence.is_due(300.0, 100.0 + FIRST_SAID_S)
    assert waiting_line("mini", declared_endpoint, silence, 0, 110.0) == (
        "1 request waits for a place at endpoint 'mini' (model small): none has had one for 10 s, behind batch calls "
        "of 'archive' (6 in flight, 12 waiting); ai-assets inference queue shows who waits and who holds"
    )
    silence.answered(111.0)
    assert not silence.is_due(300.0, 111.0 + SLOW_SAID_S - 1)


def test_the_queue_is_shown(project: Project, provider: Provider) -> None:
    declare(project.root, provider.url, limits={"concurrency": PLACES}, shares={"claims": 2, "clams": 1})
    project.declare("claims")
    project.cli("status")
    state_url = project.stores().state.url
    empty = project.cli("inference", "queue")
    assert "Nobody holds or waits for a place at any endpoint." in empty.stdout
    assert "no collection here is called 'clams' or has that tenant; did you mean 'claims'?" in empty.stderr
    settings = one(provider.url, limits={"concurrency": PLACES}, shares={"claims": 2})
    provider.configure(latency_ms=500)
    with hammering(*(Hammer(state_url, settings, name) for name in ("claims", "mail"))):
        eventually(lambda: len(places(state_url, settings).calls) == 2, timeout_s=60)
        (found,) = json.loads(project.cli("inference", "queue", "--json").stdout)["endpoints"]
        table = project.cli("inference", "queue").stdout
    assert {calls["party"]: calls["weight"] for calls in found["calls"]} == {"claims": 2.0, "mail": 1.0}
    assert found["in_flight"] == sum(calls["in_flight"] for calls in found["calls"])
    assert f"{PLACES} places are taken" in table
    assert "normal" in table


# Mistakes


def test_a_priority_that_there_is_not_is_one_sentence(provider: Provider, store_url: str) -> None:
    said = r"The priority of a request is 'interactiv'; did you mean 'interactive'\?"
    with pytest.raises(PriorityUnknown, match=said):
        ask(store_url, declared(provider), [question(1, priority="interactiv")])
    assert not rows(store_url, "SELECT * FROM attempts")
    with pytest.raises(PriorityUnknown, match=r"of this run \(tag ai_assets/priority\) is 'urgent'"):
        priority_of({"ai_assets/priority": "urgent"})
    assert [priority_of({"ai_assets/priority": each}) for each in PRIORITIES] == list(PRIORITIES)
    assert priority_of({}) is None
