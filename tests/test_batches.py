"""Claims about batches: calls travel as lines of a file, each settles its own row, and no line is paid twice unseen."""

import datetime
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from collector import Collector as Collecting
from conftest import eventually
from engines import CALLER, PRICE, ask, attempts, check_books, one, question, questions, rows, states, to_embed
from provider import Provider

from ai_assets.inference.batch import collecting, jobs, settling
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collected, Collector
from ai_assets.inference.batch.errors import BatchRefused, BatchUnreachable
from ai_assets.inference.batch.jobs import BatchJob, BatchWait
from ai_assets.inference.batch.lines import LineResult
from ai_assets.inference.batch.pending import Pending
from ai_assets.inference.errors import BatchUndeclared, BudgetExhausted
from ai_assets.inference.records import Answer, Request, Result, Unanswered
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import StateStore
from ai_assets.storage.state import now as store_now
from ai_assets.telemetry.command_span import batches_told
from ai_assets.telemetry.trace_context import trace_of_run

PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.1) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.reset()
    running.configure(batch_seconds=0.1, batch_late_seconds=0.5, clock_ahead_s=0, fault={}, batch_queue_tokens=None,
                      key=None)  # fmt: skip
    return running


def declared(provider: Provider, batch: Mapping[str, Any] = {"price_share": 0.5}, **more: Any) -> InferenceSettings:
    found = one(provider.url, batch=dict(batch), **more).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return InferenceSettings.model_validate({**found, "budgets": [{"name": "all", "limit_usd": 100}]})


@dataclass
class Desk:
    """A state store and its settings, and what is done with batches there."""

    url: str
    settings: InferenceSettings
    state: StateStore = field(init=False)

    def __post_init__(self) -> None:
        self.state = StateStore(self.url)

    def ask(self, requests: list[Request], *, submit: bool = True) -> list[Result | Pending]:
        with BatchAsker(self.settings, self.state) as asker:
            found = list(asker.map(requests, CALLER))
            if submit:
                asker.submit()
            return found

    def collect(self) -> Collected:
        with batches_told(print) as told, Collector(self.settings, self.state, listener=told) as collector:
            return collector.collect()

    def until_ended(self) -> list[BatchJob]:
        """Look until no batch is on the way; all of them."""
        deadline = time.monotonic() + PATIENCE_S
        while self.collect().open:
            assert time.monotonic() < deadline, [job for job in self.jobs if job.state != "ended"]
            time.sleep(0.05)
        return self.jobs

    @property
    def jobs(self) -> list[BatchJob]:
        with self.state.read() as connection:
            return jobs.listed(connection, ended=True)[::-1]

    @property
    def waits(self) -> list[BatchWait]:
        with self.state.read() as connection:
            return jobs.waits(connection)

    def hurry(self) -> None:
        """As if every pause were over."""
        with self.state.write() as connection:
            for job in jobs.unended(connection):
                moment = jobs.plus(job.creating_at, -3600) if job.creating_at else None
                jobs.change(connection, job, next_look_at=None, creating_at=moment)


@pytest.fixture
def local(each_url: str) -> str:
    """Where it does not matter which database it is."""
    return each_url


@pytest.fixture
def desk(local: str, provider: Provider) -> Iterator[Desk]:
    found = Desk(local, declared(provider))
    yield found
    found.state.close()


def kinds(results: list[Result | Pending]) -> list[str]:
    return [type(result).__name__ for result in results]


# The ordinary way


def test_calls_travel_as_a_batch_and_are_answered_by_the_ledger(provider: Provider, state_url: str) -> None:
    desk = Desk(state_url, declared(provider))
    asked = questions(20)
    assert kinds(desk.ask(asked)) == ["Pending"] * 20
    (job,) = desk.jobs
    assert (job.state, job.lines, job.kind) == ("submitted", 20, "chat")
    (wait,) = desk.waits
    assert (wait.calls, wait.waiting, wait.answered) == (20, 20, 0)
    (job,) = desk.until_ended()
    assert job.provider_state == "completed"
    assert [wait.waiting for wait in desk.waits] == [0]
    again = desk.ask(asked)
    assert kinds(again) == ["Answer"] * 20
    assert all(isinstance(found, Answer) and found.reused and found.cost_usd == 0 for found in again)
    assert desk.waits == []
    assert len(desk.jobs) == 1
    check_books(desk.state)
    stats = provider.stats()
    assert (stats["billed"], stats["billed_batch"]) == (0, 20)
    desk.state.close()


def test_a_line_costs_its_share_of_the_price(desk: Desk, provider: Provider, collector: Collecting) -> None:
    desk.ask(questions(5))
    desk.until_ended()
    (balance,) = check_books(desk.state).values()
    assert balance.spent_nusd / 1e9 == pytest.approx(provider.stats()["billed_usd"], abs=1e-8)
    made = {row.attempt_id: row for row in attempts(desk.url)}
    assert {row.price for row in made.values()} == {"2026-01-01 batch 0.075/-/0.3"}
    (job,) = desk.jobs
    (batch,) = collector.named("batch")
    about = {"collection": "notes", "run.id": "run", "endpoint": "mini", "batch.state": "completed", "calls": 5,
             "batch.id": job.job_id, "batch.provider_id": job.provider_id}  # fmt: skip
    assert batch.attributes == {f"ai_assets.{name}": value for name, value in about.items()}
    assert (batch.name, batch.parent_id, batch.status) == (f"batch {job.job_id}", "", 0)
    lines = collector.below(batch)
    assert {line["ai_assets.attempt.id"] for line in lines} == set(made)
    for line in lines:
        row = made[line["ai_assets.attempt.id"]]
        assert (line.name, line.kind, line.status) == ("call kind", 3, 0)
        assert line["ai_assets.batch.id"] == job.job_id
        assert (line["ai_assets.call.key"], line["ai_assets.partition"]) == (row.call_key, CALLER.partition)
        assert line["ai_assets.cost.usd"] == row.cost_nusd / 1e9 > 0
        assert line["gen_ai.usage.input_tokens"] == row.input_tokens > 0
        assert line["gen_ai.operation.name"] == "chat"
        assert batch.began_ns <= line.began_ns < line.ended_ns <= batch.ended_ns
    assert {span.trace_id for span in collector.spans} == {f"{trace_of_run('run'):032x}"}
    assert collector.total("ai_assets.cost") == pytest.approx(balance.spent_nusd / 1e9)
    assert collector.total("ai_assets.attempts", **{"ai_assets.stage": "kind"}) == 5
    assert not [labels for _, labels, _ in collector.metrics if any("batch" in name for name in labels)]
    assert "gen_ai.client.operation.duration" not in {name for name, _, _ in collector.metrics}


def test_a_price_that_is_declared_for_the_tier_is_what_a_line_costs(local: str, provider: Provider) -> None:
    prices = [dict(PRICE), {"from": "2026-01-01", "tier": "batch", "input": 0.01, "output": 0.02}]
    desk = Desk(local, declared(provider, {}, prices=prices))
    desk.ask(questions(2))
    desk.until_ended()
    assert {row.price for row in attempts(desk.url)} == {"2026-01-01 batch 0.01/-/0.02"}
    desk.state.close()


def test_what_travels_is_reserved_at_the_price_of_the_batch(desk: Desk) -> None:
    desk.ask(questions(5))
    (balance,) = check_books(desk.state, at_rest=False).values()
    assert balance.reserved_nusd == desk.jobs[0].worst_nusd > 0
    assert balance.spent_nusd == 0


def test_an_answer_that_came_one_by_one_is_not_asked_by_batch(desk: Desk, provider: Provider) -> None:
    ask(desk.url, desk.settings, questions(3))
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 3 + ["Pending"] * 2
    desk.until_ended()
    assert provider.stats()["billed_batch"] == 2


def test_an_answer_of_a_batch_is_not_asked_one_by_one(desk: Desk, provider: Provider) -> None:
    desk.ask(questions(3))
    desk.until_ended()
    assert all(isinstance(result, Answer) and result.reused for result in ask(desk.url, desk.settings, questions(3)))
    assert provider.stats()["billed"] == 0


def test_what_travels_is_not_asked_one_by_one_meanwhile(desk: Desk, provider: Provider) -> None:
    provider.configure(batch_seconds=30)
    desk.ask(questions(2))
    found = ask(desk.url, desk.settings, questions(2))
    assert [getattr(result, "error", None) for result in found] == ["in_batch"] * 2
    assert provider.stats()["calls"] == 0


def test_texts_to_embed_travel_too(desk: Desk) -> None:
    texts = [to_embed(number) for number in range(12)]
    desk.ask(texts)
    (job,) = desk.until_ended()
    assert job.kind == "embedding"
    vectors = desk.ask(texts)
    assert all(isinstance(found, Answer) and len(found.vector) > 10 for found in vectors)
    (alone,) = ask(desk.url, desk.settings, [to_embed(99)])
    assert isinstance(alone, Answer)
    assert len(alone.vector) == len(getattr(vectors[0], "vector", ()))


def test_chats_and_texts_to_embed_are_in_files_of_their_own(desk: Desk) -> None:
    desk.ask([*questions(3), *(to_embed(number) for number in range(3))])
    assert sorted((job.kind, job.lines) for job in desk.jobs) == [("chat", 3), ("embedding", 3)]


def test_a_file_is_named_by_the_digest_of_its_calls_and_so_is_its_batch(desk: Desk, provider: Provider) -> None:
    desk.ask(questions(3))
    (job,) = desk.jobs
    (made,) = provider.batches()
    assert made["metadata"] == {"digest": job.digest, "job": job.job_id}
    assert len(job.digest) == 40


def test_equal_questions_share_a_line(desk: Desk, provider: Provider) -> None:
    assert kinds(desk.ask([question(1), question(1)])) == ["Pending"] * 2
    desk.until_ended()
    assert kinds(desk.ask([question(1), question(1)])) == ["Answer"] * 2
    assert provider.stats()["billed_batch"] == 1


def test_two_runs_that_ask_the_same_share_its_lines(desk: Desk, provider: Provider) -> None:
    with BatchAsker(desk.settings, desk.state) as first, BatchAsker(desk.settings, desk.state) as second:
        assert kinds(list(first.map(questions(10), CALLER))) == ["Pending"] * 10
        assert kinds(list(second.map(questions(15), CALLER))) == ["Pending"] * 15
        first.submit()
        second.submit()
    assert sorted(job.lines for job in desk.jobs) == [5, 10]
    desk.until_ended()
    assert provider.stats()["billed_twice"] == 0
    assert kinds(desk.ask(questions(15))) == ["Answer"] * 15


# Shards


@pytest.mark.parametrize(
    ("limits", "shards"),
    [({"max_lines": 4}, [4, 4, 2]), ({"max_mb": 0.0013}, [4, 4, 2]), ({}, [10])],
    ids=["lines", "bytes", "none"],
)
def test_a_file_holds_what_the_provider_takes(
    local: str, provider: Provider, limits: dict[str, Any], shards: list[int]
) -> None:
    desk = Desk(local, declared(provider, {"price_share": 0.5, **limits}))
    desk.ask(questions(10))
    assert sorted((job.lines for job in desk.jobs), reverse=True) == shards
    most = desk.settings.endpoints["mini"].batch
    assert most is not None
    assert all(job.bytes <= most.most_bytes for job in desk.jobs)
    desk.until_ended()
    assert kinds(desk.ask(questions(10))) == ["Answer"] * 10
    desk.state.close()


def test_declared_tokens_wait_for_their_turn(local: str, provider: Provider) -> None:
    provider.configure(batch_seconds=0.5)
    desk = Desk(local, declared(provider, {"price_share": 0.5, "enqueued_tokens": 100}))
    desk.ask(questions(12))
    assert [job.state for job in desk.jobs].count("submitted") == 1
    assert len(desk.jobs) > 2
    desk.until_ended()
    assert kinds(desk.ask(questions(12))) == ["Answer"] * 12
    desk.state.close()


def test_a_full_queue_at_the_provider_is_waited_for(desk: Desk, provider: Provider) -> None:
    provider.configure(batch_queue_tokens=10)
    desk.ask(questions(5))
    deadline = time.monotonic() + PATIENCE_S
    while not desk.jobs[0].past_ids:
        assert time.monotonic() < deadline
        desk.collect()
    (job,) = desk.jobs
    assert (job.state, job.message.startswith("waits: token_limit_exceeded")) == ("uploaded", True)
    assert states(desk.url) == {"intent": 5}
    provider.configure(batch_queue_tokens=None)
    desk.hurry()
    (job,) = desk.until_ended()
    assert len(job.past_ids) == 1
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5
    assert provider.stats()["billed_twice"] == 0


# What becomes of lines


def test_lines_that_expired_go_into_the_next_batch(desk: Desk, provider: Provider, collector: Collecting) -> None:
    provider.script([{"match": "Note 3.", "fault": "hang"}, {"match": "Note 7.", "fault": "hang"}])
    desk.ask(questions(10))
    (job,) = desk.until_ended()
    assert job.provider_state == "expired"
    assert states(desk.url) == {"settled": 8, "failed": 2}
    assert {row.error for row in attempts(desk.url) if row.state == "failed"} == {"not_run"}
    assert (
        sorted(line.attributes.get("error.type", "") for line in collector.named("call")) == [""] * 8 + ["not_run"] * 2
    )
    (batch,) = collector.named("batch")
    assert (batch.status, batch["ai_assets.batch.state"]) == (2, "expired")
    check_books(desk.state)
    assert sorted(kinds(desk.ask(questions(10)))) == ["Answer"] * 8 + ["Pending"] * 2
    assert [job.lines for job in desk.until_ended()] == [10, 2]
    assert kinds(desk.ask(questions(10))) == ["Answer"] * 10
    assert provider.stats()["billed_twice"] == 0


def test_a_line_that_failed_for_good_is_unanswered_and_asked_again_by_a_later_run(
    desk: Desk, provider: Provider
) -> None:
    provider.script([{"match": "Note 3.", "fault": "content_filter", "times": 1}])
    desk.ask(questions(5))
    desk.until_ended()
    found = desk.ask(questions(5))
    assert kinds(found) == ["Answer"] * 3 + ["Unanswered", "Answer"]
    assert isinstance(found[3], Unanswered)
    assert found[3].error == "refused"
    assert desk.waits == []
    assert kinds(desk.ask(questions(5)))[3] == "Pending"  # the wait was over: this is another run
    desk.until_ended()
    assert kinds(desk.ask(questions(5)))[3] == "Answer"


def test_what_may_pass_goes_into_one_more_batch(desk: Desk, provider: Provider) -> None:
    provider.script([{"match": "Note 3.", "fault": "server_error", "times": 2}])
    desk.ask(questions(5))
    desk.until_ended()
    assert kinds(desk.ask(questions(5)))[3] == "Pending"
    desk.until_ended()
    found = desk.ask(questions(5))[3]
    assert isinstance(found, Unanswered)
    assert found.error == "server_error"


@pytest.mark.parametrize("fault", ["truncated", "garbage"], ids=["missing", "spoilt"])
def test_a_lost_line_may_have_been_billed(
    desk: Desk, provider: Provider, collector: Collecting, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "UNREADABLE_FOR", datetime.timedelta(0))
    provider.script([{"match": "Note 3.", "fault": fault}])
    desk.ask(questions(5))
    (job,) = desk.until_ended()
    assert states(desk.url) == {"settled": 4, "ambiguous": 1}
    (balance,) = check_books(desk.state).values()
    assert balance.held_nusd > 0
    (lost,) = [line for line in collector.named("call") if line.status]
    assert lost["ai_assets.cost.maybe_usd"] == collector.total("ai_assets.cost.maybe") == balance.held_nusd / 1e9
    assert ("1 line could not be read" in job.message) == (fault == "garbage")
    (held,) = [found for found in desk.ask([question(n, on_ambiguous="hold") for n in range(5)]) if _is_held(found)]
    assert held.maybe_usd == 0


def _is_held(found: Result | Pending) -> bool:
    return isinstance(found, Unanswered) and found.error == "held"


def test_an_answer_that_does_not_fit_is_repaired_in_the_next_batch(desk: Desk, provider: Provider) -> None:
    schema = {
        "type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"],
        "additionalProperties": False,
    }  # fmt: skip
    provider.script([{"match": "Note 1.", "fault": "schema_violation", "times": 1}])
    asked = [question(number, schema=schema) for number in range(3)]
    desk.ask(asked)
    desk.until_ended()
    assert kinds(desk.ask(asked)) == ["Answer", "Pending", "Answer"]
    desk.until_ended()
    found = desk.ask(asked)
    assert kinds(found) == ["Answer"] * 3
    assert isinstance(found[1], Answer)
    assert found[1].repaired


def test_results_that_settle_nothing_are_counted_and_said(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "content", "fault": "altered"})
    desk.ask(questions(4))
    (job,) = desk.until_ended()
    assert states(desk.url) == {"settled": 4}
    assert job.unknown_lines == 5
    assert "5 results were of calls that were not asked or had one already" in job.message
    assert "1 line could not be read" in job.message
    check_books(desk.state)


def test_a_file_of_results_that_breaks_off_is_read_again(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "content", "fault": "cut"})
    desk.ask(questions(30))
    deadline = time.monotonic() + PATIENCE_S
    while not (notes := desk.collect().notes):
        assert time.monotonic() < deadline
    assert desk.jobs[0].job_id in notes[0]
    desk.until_ended()
    assert states(desk.url) == {"settled": 30}
    assert provider.stats()["billed_batch"] == 30


def test_what_was_read_before_a_file_broke_off_is_settled(
    desk: Desk, provider: Provider, collector: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_assets.inference.batch.provider.PIECE_BYTES", 1000)
    provider.batch_script({"request": "content", "fault": "cut"})
    desk.ask(questions(30))
    deadline = time.monotonic() + PATIENCE_S
    while not (found := desk.collect()).notes:
        assert time.monotonic() < deadline
    assert 0 < found.settled < 30
    assert states(desk.url)["settled"] == found.settled == len(collector.named("call"))
    assert not collector.named("batch")
    desk.until_ended()
    assert states(desk.url) == {"settled": 30}
    (batch,) = collector.named("batch")
    assert len({line["ai_assets.attempt.id"] for line in collector.below(batch)}) == len(collector.named("call")) == 30


def test_results_that_come_in_any_order_are_settled_in_that_of_their_attempts_a_window_at_a_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "WINDOW_LINES", 10)
    monkeypatch.setattr(settling, "GROUP", 4)
    desk.ask(questions(25))
    (job,) = desk.jobs
    lease = Lease(desk.state, job.lease)
    assert lease.try_take() is None
    with desk.state.read() as connection:
        held = settling.Settling(lease, connection, job, desk.settings.endpoints[job.endpoint])
    shuffled = sorted(held.lines, key=lambda key: key[::-1])
    done: list[list[int]] = []
    for number in held.settle(LineResult(key=key, error="batch_expired") for key in shuffled):
        ended = {row.attempt_id for row in rows(desk.state, "SELECT attempt_id FROM attempts WHERE state <> 'intent'")}
        done.append(sorted(ended - {each for group in done for each in group}))
        assert len(done[-1]) == number, "each group is written before it is told of"
    assert [len(group) for group in done] == [4, 4, 2, 4, 4, 2, 4, 1]
    windows = [done[:3], done[3:6], done[6:]]
    assert all(
        each == sorted(each) for each in ([number for group in window for number in group] for window in windows)
    )
    lease.give_back()


def test_a_cancelled_batch_is_paid_for_what_was_done_and_the_rest_is_free(desk: Desk, provider: Provider) -> None:
    provider.configure(batch_seconds=3)
    desk.ask(questions(20))
    deadline = time.monotonic() + PATIENCE_S
    while not provider.batches()[0]["request_counts"]["completed"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with Collector(desk.settings, desk.state) as collector:
        collector.cancel(desk.jobs[0], "ada")
    assert [wait.held_by for wait in desk.waits] == ["ada"]
    (job,) = desk.until_ended()
    done = provider.stats()["billed_batch"]
    assert (job.provider_state, job.cancelled_by) == ("cancelled", "ada")
    assert states(desk.url) == {"settled": done, "failed": 20 - done}
    check_books(desk.state)


# Money


def test_without_a_price_for_it_nothing_is_asked_by_batch(local: str, provider: Provider) -> None:
    desk = Desk(local, one(provider.url))
    with pytest.raises(BatchUndeclared, match=r"batch: \{price_share: 0\.5\}"):
        desk.ask(questions(1))
    assert desk.jobs == []
    desk.state.close()


def test_a_batch_never_reserves_more_than_a_budget_has(local: str, provider: Provider) -> None:
    found = declared(provider).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    desk = Desk(local, InferenceSettings.model_validate({**found, "budgets": [{"name": "a", "limit_usd": 0.0002}]}))
    assert kinds(desk.ask(questions(40))) == ["Pending"] * 40
    check_books(desk.state, at_rest=False)
    lines = desk.jobs[0].lines
    assert 0 < lines < 40
    desk.until_ended()
    assert sorted(set(kinds(desk.ask(questions(40))))) == ["Answer", "Pending"]
    assert desk.jobs[-1].lines > 0
    desk.state.close()


def test_a_budget_that_holds_no_call_is_named_at_once(local: str, provider: Provider) -> None:
    found = declared(provider).model_dump(mode="json", by_alias=True, exclude_defaults=True)
    desk = Desk(local, InferenceSettings.model_validate({**found, "budgets": [{"name": "a", "limit_usd": 0}]}))
    with pytest.raises(BudgetExhausted):
        desk.ask(questions(2))
    assert states(desk.url) == {}
    desk.state.close()


# Answers that are lost on their way


def test_a_batch_made_twice_is_adopted_once_and_the_other_is_cancelled_and_booked(
    desk: Desk, provider: Provider
) -> None:
    provider.configure(batch_seconds=4)
    provider.batch_script({"request": "create", "fault": "twice"})
    desk.ask(questions(10))
    first, second = desk.jobs
    made = provider.batches()
    assert (first.provider_id, second.provider_id) == (made[1]["id"], made[0]["id"])
    assert second.duplicate_of == first.job_id
    assert states(desk.url) == {"intent": 10, "ambiguous": 10}
    check_books(desk.state, at_rest=False)
    first, second = desk.until_ended()
    assert (first.provider_state, second.provider_state) == ("completed", "cancelled")
    check_books(desk.state)
    by_job = [row for row in attempts(desk.url) if row.attempt_id >> 32 == second.owner_id]
    assert {row.state for row in by_job} == {"failed"}
    assert all(row.cost_nusd == 0 for row in by_job)
    assert kinds(desk.ask(questions(10))) == ["Answer"] * 10


def test_a_second_batch_that_ran_all_the_same_has_a_row_for_every_line(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "twice"}, {"request": "cancel", "fault": "reset", "times": 99})
    desk.ask(questions(10))
    desk.until_ended()
    stats = provider.stats()
    assert stats["billed_twice"] == 10
    assert states(desk.url) == {"settled": 20}
    assert sum(row.duplicate_of is not None for row in attempts(desk.url)) == 10
    (balance,) = check_books(desk.state).values()
    assert balance.spent_nusd / 1e9 == pytest.approx(stats["billed_usd"], abs=1e-8)
    assert kinds(desk.ask(questions(10))) == ["Answer"] * 10


def test_a_lost_answer_to_create_makes_no_second_batch(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "lost"})
    desk.ask(questions(5))
    (job,) = desk.jobs
    assert (job.state, job.doubted) == ("submitted", True)
    desk.until_ended()
    assert provider.stats()["billed_batch"] == 5
    assert len(provider.batches()) == 1


def test_a_batch_that_appears_late_is_waited_for(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "lost_later"})
    desk.ask(questions(5))
    assert [job.state for job in desk.jobs] == ["creating"]
    desk.until_ended()
    assert provider.stats()["billed_batch"] == 5
    assert len(provider.batches()) == 1


def test_a_batch_that_never_appears_is_made_again(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "reset"})
    desk.ask(questions(5))
    desk.collect()
    assert [job.state for job in desk.jobs] == ["creating"]
    desk.hurry()
    desk.until_ended()
    assert len(provider.batches()) == 1
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5


def test_a_batch_that_never_appears_is_given_up_after_an_hour_and_its_lines_may_be_billed(
    desk: Desk, provider: Provider
) -> None:
    provider.batch_script({"request": "create", "fault": "reset", "times": 99})
    desk.ask(questions(5))
    for _try in range(4):
        desk.hurry()
        desk.collect()
    (job,) = desk.jobs
    assert job.state in ("uploaded", "creating"), "within the hour it is made again"
    _lasts(desk, 1800)
    desk.hurry()
    desk.collect()
    desk.hurry()
    desk.collect()
    (job,) = desk.jobs
    if job.state == "creating":
        desk.hurry()
        desk.collect()
        (job,) = desk.jobs
    assert job.state == "uploaded"
    assert job.next_look_at is not None
    assert job.next_look_at > jobs.plus(store_now(), 600), "a pause is as long as all of it so far, up to 15 minutes"
    _lasts(desk, 3700)
    for _step in range(2):
        desk.hurry()
        desk.collect()
    (job,) = desk.jobs
    assert job.state == "ended"
    assert job.message.startswith("the batch was refused: no answer to its creation could be read for an hour")
    assert {row.state for row in attempts(desk.url)} == {"ambiguous"}, "it may appear yet, and be billed"
    check_books(desk.state)


def _lasts(desk: Desk, seconds: float) -> None:
    """As if it had been tried for so long."""
    with desk.state.write() as connection:
        for job in jobs.unended(connection):
            jobs.change(connection, job, intent_at=jobs.plus(store_now(), -seconds))


def test_what_appears_after_it_was_made_again_is_found_at_the_end(desk: Desk, provider: Provider) -> None:
    provider.configure(batch_seconds=600, batch_late_seconds=600)
    provider.batch_script({"request": "create", "fault": "lost_later"})
    desk.ask(questions(5))
    desk.hurry()
    desk.collect()  # not there: it is to be made again
    desk.collect()
    assert len(provider.batches()) == 1
    provider.configure(batch_late_seconds=0)
    eventually(lambda: len(provider.batches()) == 2)
    provider.configure(clock_ahead_s=700)
    desk.until_ended()
    first, second = desk.jobs
    assert second.duplicate_of == first.job_id
    billed = provider.stats()["billed_batch"]
    assert sum(row.state == "settled" for row in attempts(desk.url)) == billed
    check_books(desk.state)


def test_the_list_is_read_to_its_end(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "lost_later"})
    desk.ask(questions(3))
    deadline = time.monotonic() + PATIENCE_S
    while not (made := provider.batches()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    provider.crowd(130)
    desk.collect()
    (job,) = desk.jobs
    assert (job.state, job.provider_id) == ("submitted", made[0]["id"])


@pytest.mark.parametrize("fault", ["lost", "twice"])
def test_a_lost_answer_to_an_upload_is_looked_up_by_name(desk: Desk, provider: Provider, fault: str) -> None:
    provider.batch_script({"request": "upload", "fault": fault})
    desk.ask(questions(5))
    desk.until_ended()
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5
    assert provider.stats()["billed_batch"] == 5


@pytest.mark.parametrize(
    ("request_", "fault", "error"),
    [
        ("upload", "reset", BatchUnreachable),
        ("upload", "refused", BatchRefused),
        ("create", "refused", BatchRefused),
    ],
)
def test_what_the_provider_refuses_leaves_all_lines_free(
    desk: Desk, provider: Provider, request_: str, fault: str, error: type[Exception]
) -> None:
    provider.batch_script({"request": request_, "fault": fault})
    with pytest.raises(error):
        desk.ask(questions(5))
    assert [job.state for job in desk.jobs] == ["ended"]
    assert states(desk.url) == {"failed": 5}
    check_books(desk.state)
    assert kinds(desk.ask(questions(5))) == ["Pending"] * 5


def test_a_busy_provider_is_asked_again_later(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "busy"})
    desk.ask(questions(5))
    assert [job.state for job in desk.jobs] == ["uploaded"]
    desk.collect()
    assert [job.state for job in desk.jobs] == ["uploaded"]
    desk.hurry()
    desk.until_ended()
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5


def test_a_run_that_ends_before_it_submits_leaves_its_calls_free(desk: Desk, provider: Provider) -> None:
    desk.ask(questions(5), submit=False)
    assert [job.state for job in desk.jobs] == ["ended"]
    assert states(desk.url) == {"failed": 5}
    check_books(desk.state)
    assert provider.batches() == []


def test_a_restored_store_adopts_the_batch_that_it_does_not_know(desk: Desk, provider: Provider) -> None:
    desk.ask(questions(5))
    with desk.state.write() as connection:  # as it was when the backup was made
        jobs.change(connection, desk.jobs[0], state="uploaded", provider_id=None, submitted_at=None)
        jobs.after_restore(connection)
    desk.until_ended()
    assert len(provider.batches()) == 1
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5
    assert provider.stats()["billed_batch"] == 5


def test_no_key_appears_in_what_is_kept(local: str, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_KEY", "wrong-key-of-mine")
    provider.configure(key="right-key-of-mine")
    desk = Desk(local, declared(provider, key="BATCH_KEY"))
    with pytest.raises(BatchRefused) as refused:
        desk.ask(questions(2))
    found = rows(desk.state, "SELECT * FROM batch_jobs")
    assert "wrong-key-of-mine" not in json.dumps([dict(row._mapping) for row in found]) + str(refused.value)
    desk.state.close()
