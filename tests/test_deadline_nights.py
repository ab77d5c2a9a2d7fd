"""Claims about deadlines with real batches: what is too slow is stopped in time, its rest goes another way, and no line
is paid twice."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from engines import CALLER, PRICE, check_books, endpoint, one, question, questions, rows, settings, to_embed
from nights import HOUR, NightDesk
from provider import Provider

from ai_assets.base.due import DeclaredDeadline
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.job_deadline import JobDeadline
from ai_assets.inference.batch.pending import Pending
from ai_assets.inference.by_deadline import LOOK_AT_CLOCK_S
from ai_assets.inference.errors import DueOver
from ai_assets.inference.records import Answer
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.ways import way_of

FLEX: dict[str, Any] = {**PRICE, "tier": "flex", "input": 0.075, "output": 0.3}


@pytest.fixture
def provider(running: Provider) -> Iterator[Provider]:
    with running.lent():
        running.configure(batch_seconds=10 * 60)
        yield running


def declared(provider: Provider, **more: Any) -> InferenceSettings:
    return one(provider.url, batch={"price_share": 0.5}, **more)


@pytest.fixture
def night(state_url: str, provider: Provider) -> Iterator[NightDesk]:
    found = NightDesk(state_url, declared(provider), provider)
    yield found
    found.close()


@pytest.fixture
def local(each_url: str, provider: Provider) -> Iterator[NightDesk]:
    """Where it does not matter which database it is."""
    found = NightDesk(each_url, declared(provider), provider)
    yield found
    found.close()


def check_paid_once(night: NightDesk, *, lines: int) -> None:
    stats = night.provider.stats()
    assert stats["billed_twice"] == 0
    assert stats["billed"] + stats["billed_batch"] == lines
    assert night.counts()["settled"] == lines
    assert not any(each.startswith("ambiguous") for each in night.counts())
    check_books(night.state)


def test_with_time_in_hand_it_is_a_batch_and_the_reason_is_noted(night: NightDesk) -> None:
    asked = questions(20)
    assert {type(each) for each in night.ask(asked)} == {Pending}
    (way,) = night.ways()
    assert way.way == "batch"
    assert "of batches have ended" in way.reason
    assert "when the rest would go by sync" in way.reason
    assert way.chance >= 0.98
    night.advance(15 * 60)
    night.wait("completed")
    night.look()
    assert all(isinstance(each, Answer) for each in night.ask(asked))
    check_paid_once(night, lines=20)
    assert night.provider.stats()["billed_batch"] == 20
    assert len(night.ways()) == 1
    assert night.jobs[0].turnaround_s == pytest.approx(900, abs=30)


def test_a_batch_that_is_too_slow_is_stopped_and_what_it_left_is_asked_one_by_one(night: NightDesk) -> None:
    night.provider.configure(batch_seconds=20 * HOUR, batch_cancel_seconds=120)
    asked = questions(40)
    night.ask(asked)
    night.advance(7.6 * HOUR)
    night.look()
    assert night.jobs[0].cancelled_by is None
    night.advance(0.25 * HOUR)
    found = night.look()
    assert "stopped 9 min before it is due" in found.notes[0]
    night.wait("cancelling")
    # Its final state is not known: it keeps its lines, and nothing is asked.
    assert {type(each) for each in night.ask(asked)} == {Pending}
    assert night.provider.stats()["billed"] == 0
    night.advance(180)
    night.wait("cancelled")
    night.look()
    done = night.provider.stats()["billed_batch"]
    assert 0 < done < 40
    results = night.ask(asked)
    assert all(isinstance(each, Answer) for each in results)
    check_paid_once(night, lines=40)
    assert night.provider.stats()["billed"] == 40 - done
    assert [way.way for way in night.ways()] == ["batch", "sync"]
    assert "no batch, because one was stopped because it was due" in night.ways()[-1].reason
    with night.state.read() as connection:
        chosen = {way.way for each in results if (way := way_of(connection, each.call)) is not None}
    assert chosen == {"batch", "sync"}
    assert night.jobs[0].cancel_s == pytest.approx(180, abs=70)


def test_what_a_stopped_batch_left_goes_by_flex_where_there_is_time(local: NightDesk) -> None:
    local.settings = declared(local.provider, prices=[dict(PRICE), FLEX])
    local.provider.configure(batch_seconds=20 * HOUR)
    asked = questions(30)
    local.ask(asked)
    local.advance(7.85 * HOUR)
    local.look()
    local.wait("cancelled")
    local.look()
    assert all(isinstance(each, Answer) for each in local.ask(asked))
    check_paid_once(local, lines=30)
    assert [way.way for way in local.ways()] == ["batch", "flex"]
    assert local.provider.stats()["billed_usd"] == pytest.approx(_paid(local) / 1e9, abs=1e-9)


def _paid(night: NightDesk) -> int:
    return int(rows(night.state, "SELECT sum(cost_nusd) AS paid FROM attempts")[0].paid)


def test_calls_leave_without_flex_once_its_buffer_has_begun(local: NightDesk) -> None:
    local.settings = one(local.provider.url, prices=[dict(PRICE), FLEX])
    local.within_s = HOUR
    asked = iter(questions(200))

    def late() -> Iterator[Any]:
        for number, each in enumerate(asked):
            if number == 100:
                local.ahead_s += 0.98 * HOUR
                time.sleep(LOOK_AT_CLOCK_S)
            yield each

    results = local.ask(_Sized(late(), 200))
    assert all(isinstance(each, Answer) for each in results)
    tiers = [each.tier for each in results if isinstance(each, Answer)]
    assert (tiers[0], tiers[-1]) == ("flex", "default")
    assert [way.way for way in local.ways()] == ["flex", "sync"]
    assert "the buffer of flex has begun" in local.ways()[-1].reason


@pytest.mark.parametrize("further", [{}, {"free": True}])
def test_by_flex_an_endpoint_without_a_price_of_it_is_asked_without_it(
    further: dict[str, Any], local: NightDesk
) -> None:
    """Only the first endpoint of a route is looked at when flex is chosen; the others are there for when it fails."""
    gone = endpoint("http://127.0.0.1:9/v1", prices=[dict(PRICE), FLEX])
    local.settings = settings({"first": gone, "further": endpoint(local.provider.url, **further)})
    local.within_s = HOUR
    results = local.ask(questions(3))
    assert [each.endpoint for each in results if isinstance(each, Answer)] == ["further"] * 3
    assert [way.way for way in local.ways()] == ["flex"]
    assert "flex" not in local.provider.stats()["tiers"]


def test_texts_to_embed_have_no_tier_and_so_no_flex(local: NightDesk) -> None:
    local.settings = one(local.provider.url, model="rehearsal-embed", prices=[dict(PRICE), FLEX], tier="flex")
    local.within_s = HOUR
    results = local.ask([to_embed(number) for number in range(3)], asks_for="embedding")
    assert all(isinstance(each, Answer) for each in results)
    assert [way.way for way in local.ways()] == ["sync"]
    assert {row.price for row in rows(local.state, "SELECT price FROM attempts")} == {"2026-01-01 0.15/-/0.6"}
    assert rows(local.state, "SELECT message FROM attempts WHERE message LIKE '%tier%'") == []


class _Sized(list[Any]):
    """Requests that come one after another, and of which the number is known."""

    def __init__(self, items: Iterator[Any], length: int) -> None:
        super().__init__()
        self._items, self._length = items, length

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def __len__(self) -> int:
        return self._length


def test_with_little_time_nothing_waits_for_a_batch(local: NightDesk) -> None:
    local.within_s = 600
    assert all(isinstance(each, Answer) for each in local.ask(questions(10)))
    (way,) = local.ways()
    assert (way.way, local.provider.batches()) == ("sync", [])
    assert "stopping a batch and asking its rest takes up to" in way.reason


def test_a_time_of_day_stays_that_of_the_first_run(local: NightDesk) -> None:
    at = local.clock()
    due = DeclaredDeadline(due=f"{(at.hour + 8) % 24:02d}:30")
    asked = questions(5)
    local.ask(asked, deadline=due)
    first = local.ways()[0].due_at
    local.advance(9 * HOUR)  # it is over, and the next one of that time of day would be tomorrow's
    local.wait("completed")
    local.look()
    local.ask([*asked, question(99)], deadline=due)
    assert [way.due_at for way in local.ways()] == [first, first]
    assert local.ways()[-1].way == "sync"
    assert "it is late" in local.ways()[-1].reason
    assert any("after it was due" in line for line in local.said)
    local.ask([question(100)], deadline=due)
    assert local.ways()[-1].due_at > first


def test_what_was_due_more_than_a_day_ago_begins_anew(local: NightDesk) -> None:
    due = DeclaredDeadline(due=f"{(local.clock().hour + 8) % 24:02d}:30")
    local.provider.configure(batch_seconds=90 * HOUR)
    local.ask(questions(2), deadline=due)
    local.advance(20 * HOUR)
    local.ask([question(9)], replace(CALLER, run_id="late"), deadline=due)
    assert local.ways()[-1].way == "sync"
    local.advance(30 * HOUR)
    local.ask([*questions(2), question(10)], replace(CALLER, run_id="weeks"), deadline=due)
    first, late, anew = (way.due_at for way in local.ways())
    assert first == late < anew


def test_a_moment_that_is_over_is_refused_unless_the_work_had_begun(local: NightDesk) -> None:
    at = local.clock()
    due = DeclaredDeadline(due=f"{at.replace(microsecond=0).isoformat()}")
    with pytest.raises(DueOver, match=r"'kind' of collection 'notes' was due at .*, which is over"):
        local.ask(questions(2), deadline=due)
    assert local.provider.stats()["billed"] == 0
    soon = DeclaredDeadline(due=local.clock().replace(microsecond=0, year=at.year + 1).isoformat())
    local.ask(questions(2), deadline=soon)
    local.advance(366 * 24 * HOUR)
    local.wait("completed")
    local.look()
    assert all(isinstance(each, Answer) for each in local.ask(questions(2), deadline=soon))


def test_what_is_due_at_different_times_travels_in_different_files(local: NightDesk) -> None:
    with BatchAsker(local.settings, local.state) as batches:
        for number, due_at in enumerate(["2026-01-01T06:00", "2026-01-01T06:00", "2026-01-01T09:00"]):
            caller = replace(CALLER, partition=f"p{number}")
            deadline = JobDeadline(due_at=due_at, levels=0, then="sync", endpoint="mini")
            list(batches.map([question(number)], caller, deadline))
        batches.submit()
    assert [job.lines for job in local.jobs] == [2, 1]


def test_a_line_that_travels_at_another_endpoint_of_the_route_is_not_asked_at_the_first(local: NightDesk) -> None:
    two = {
        "first": endpoint(local.provider.url, model="other"),
        "mini": endpoint(local.provider.url, batch={"price_share": 0.5}),
    }
    local.settings = settings(two)
    asked = questions(6)
    local.ask(asked)
    assert [job.endpoint for job in local.jobs] == ["mini"]
    local.within_s = 60.0  # as if somebody had declared less by now
    found = local.ask([*asked, asked[0], question(50)])
    assert [type(each).__name__ for each in found] == ["Pending"] * 7 + ["Answer"]
    assert local.provider.stats()["billed"] == 1


def test_where_the_provider_takes_no_batch_the_next_run_goes_another_way(local: NightDesk) -> None:
    local.provider.batch_script({"request": "create", "fault": "refused"})
    asked = questions(3)
    with pytest.raises(Exception, match="did not create the batch"):
        local.ask(asked)
    assert all(isinstance(each, Answer) for each in local.ask(asked))
    assert "no batch, because the last one failed" in local.ways()[-1].reason
    check_paid_once(local, lines=3)


def test_stages_that_come_after_it_have_their_time(local: NightDesk) -> None:
    local.within_s = 2700
    local.ask(questions(3), replace(CALLER, run_id="a"))
    local.ask(questions(3, first=10), replace(CALLER, asset="other", run_id="b"), levels=20)
    assert [way.way for way in local.ways()] == ["batch", "sync"]


def test_the_turnaround_of_earlier_batches_decides_later(local: NightDesk) -> None:
    local.within_s = 2700
    local.provider.configure(batch_seconds=20 * 60)
    local.ask(questions(2))
    assert local.ways()[-1].way == "batch"
    for number in range(30):
        with local.state.write() as connection:
            job = jobs.new(connection, endpoint="mini", kind="chat", collection="notes", run_id="old",
                           price=local.jobs[0].price)  # fmt: skip
            at = local.clock().isoformat(timespec="milliseconds")
            jobs.change(connection, job, state="ended", provider_state="completed", submitted_at=at, ended_at=at,
                        turnaround_s=3000.0 + number)  # fmt: skip
    local.ask(questions(2, first=20), replace(CALLER, partition="later", run_id="later"))
    assert local.ways()[-1].way == "sync"
