"""Batch APIs that lie, forget or never end: nothing is paid twice without a row that says so, and nothing hangs."""

import datetime
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engines import CALLER, attempts, check_books, one, questions, states, to_embed
from odd_batch_api import Answer, OddBatchApi, answered, embedded, not_run, refused, said

from ai_assets.inference import history
from ai_assets.inference.batch import collecting, jobs
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collected, Collector
from ai_assets.inference.batch.errors import BatchBusy, BatchEndpointGone, BatchRefused, ProviderSilent
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.pending import Pending
from ai_assets.inference.batch.provider import BatchProvider
from ai_assets.inference.records import Unanswered
from ai_assets.inference.resolving import Resolution, StillInBatch, resolve
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import StateStore

HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def api() -> Iterator[OddBatchApi]:
    with OddBatchApi().served() as found:
        yield found


@pytest.fixture
def settings(api: OddBatchApi) -> InferenceSettings:
    return one(api.url, batch={"price_share": 0.5})


def ask(settings: InferenceSettings, state: StateStore, number: int = 4) -> None:
    with BatchAsker(settings, state) as asker:
        list(asker.map(questions(number), CALLER))
        asker.submit()


def collect(settings: InferenceSettings, state: StateStore) -> Collected:
    with Collector(settings, state) as collector:
        return collector.collect()


def all_jobs(state: StateStore) -> list[BatchJob]:
    with state.read() as connection:
        return jobs.listed(connection, ended=True)[::-1]


def earlier(state: StateStore, seconds: float) -> None:
    """As if all of it had begun so long ago."""
    with state.write() as connection:
        for job in jobs.unended(connection):
            moments = ("made_at", "intent_at", "creating_at", "submitted_at", "next_look_at")
            found = {name: jobs.plus(moment, -seconds) for name in moments if (moment := getattr(job, name))}
            jobs.change(connection, job, **found)


def once(answer: Callable[[Callable[[], Answer]], Answer]) -> Callable[[Callable[[], Answer]], Answer]:
    """The first request is answered so, the others as usual."""
    left = [answer]

    def answering(usual: Callable[[], Answer]) -> Answer:
        return left.pop()(usual) if left else usual()

    return answering


def lost(usual: Callable[[], Answer]) -> Answer:
    """It is done, and the answer is a gateway's."""
    usual()
    return 502, b"bad gateway"


def timed_out(usual: Callable[[], Answer]) -> Answer:
    usual()
    return 408, said("the request took too long")


# A lost answer to `create`


@pytest.mark.parametrize(
    "odd",
    [
        {"clock_ahead_s": -600},
        {"clock_ahead_s": 600},
        {"oldest_first": True},
        {"says_metadata": False},
        {"says_metadata": False, "oldest_first": True, "clock_ahead_s": -7200},
    ],
    ids=str,
)
@pytest.mark.parametrize("answer", [lost, timed_out], ids=["502", "408"])
def test_a_batch_whose_creation_had_no_answer_is_found_in_any_list(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, odd: dict[str, Any], answer: Any
) -> None:
    for name, value in odd.items():
        setattr(api, name, value)
    api.do_create("", json.dumps({"input_file_id": "of others", "endpoint": "", "metadata": {}}).encode())
    api.batches[0] |= {"status": "completed", "created_at": 1_700_000_000}
    api.instead["create"] = once(answer)
    ask(settings, state)
    (job,) = all_jobs(state)
    assert (job.state, job.provider_id, job.doubted) == ("submitted", "batch_2", True)
    api.finish()
    collect(settings, state)
    assert states(state.url) == {"settled": 4}
    assert api.asked.count("create") == 1


def test_a_batch_of_another_job_is_not_taken_for_ones_own(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    """A provider that keeps one file of what was uploaded twice, and no metadata."""
    api.says_metadata = False
    ask(settings, state)
    api.instead["upload"] = lambda _usual: (200, api._file("file-1"))
    api.instead["create"] = once(lambda _usual: (502, b"bad gateway"))
    with BatchAsker(settings, state) as asker:
        list(asker.map(questions(8)[4:], CALLER))
        asker.submit()
    first, second = all_jobs(state)
    assert (first.provider_id, second.provider_id, second.state) == ("batch_1", None, "creating")


def test_a_run_whose_batch_is_in_doubt_ends_as_one_that_waits(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    api.instead |= {"create": lost, "list": lambda _usual: (503, b"away")}
    ask(settings, state)
    (job,) = all_jobs(state)
    assert job.state == "creating"
    assert "the list of batches cannot be read: HTTP 503" in job.message
    assert "HTTP 503" in collect(settings, state).in_words
    del api.instead["list"]
    api.finish()
    collect(settings, state)
    collect(settings, state)
    assert states(state.url) == {"settled": 4}


@pytest.mark.parametrize(("stopped", "hours"), [(False, 25), (True, 2)])
def test_a_list_that_is_never_readable_ends_as_maybe_billed(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, stopped: bool, hours: int
) -> None:
    api.instead |= {"create": lost, "list": lambda _usual: (403, said("no list for this key"))}
    ask(settings, state)
    if stopped:
        with Collector(settings, state) as collector:
            collector.cancel(all_jobs(state)[0], "ada")
    assert len(collect(settings, state).open) == 1
    earlier(state, hours * HOUR)
    collect(settings, state)
    (job,) = all_jobs(state)
    assert job.state == "ended"
    assert "the provider's list of batches cannot be read" in job.message
    assert states(state.url) == {"ambiguous": 4}
    check_books(state)


@pytest.mark.parametrize("more", [{"has_more": True}, {}], ids=["no end", "drops"])
def test_a_list_that_never_ends_is_given_up(
    api: OddBatchApi, settings: InferenceSettings, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_assets.inference.batch.provider.MOST_PAGES", 5)
    number = iter(range(100_000))

    def page(_usual: Callable[[], Answer]) -> Answer:
        batch = {"id": f"batch_{next(number)}", "status": "completed", "created_at": 1_700_000_000}
        return 200, {"object": "list", "data": [batch], **more}

    def dripping(_usual: Callable[[], Answer]) -> Answer:
        return 200, _drops

    api.instead["list"] = page if more else dripping
    provider = BatchProvider("mini", settings.endpoints["mini"], timeout_s=0.3)
    with pytest.raises(ProviderSilent, match="goes on beyond 5 pages" if more else r"only .* bytes? of it came in"):
        provider.batches(None)
    provider.close()


def _drops(out: Any) -> None:
    try:
        while True:
            out.write(b" ")
            out.flush()
            time.sleep(0.05)
    except OSError:
        return


# Refusals


def test_an_account_without_money_is_a_refusal_and_no_pause(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    api.instead["create"] = lambda _usual: (429, said("You exceeded your current quota", "insufficient_quota"))
    with pytest.raises(BatchRefused, match=r"did not create the batch: HTTP 429: .*quota"):
        ask(settings, state)
    assert [job.state for job in all_jobs(state)] == ["ended"]
    check_books(state)


def test_what_a_batch_waits_for_is_said_at_each_look(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    api.instead["create"] = lambda _usual: (429, said("Rate limit reached"))
    ask(settings, state)
    assert "waits: the provider is busy: HTTP 429" in collect(settings, state).in_words
    del api.instead["create"]
    earlier(state, 120)
    collect(settings, state)
    assert all_jobs(state)[0].state == "submitted"


# Results


@pytest.mark.parametrize("order", ["before", "after"])
def test_an_answer_counts_more_than_the_word_that_it_was_not_run(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, order: str
) -> None:
    ask(settings, state)
    keys = api.keys(api.batches[0])
    lines = [not_run(key) for key in keys], [answered(keys[0])]
    both = [*lines[0], *lines[1]] if order == "before" else [*lines[1], *lines[0]]
    api.finish(state="expired", done=1, output="\n".join(both))
    collect(settings, state)
    assert states(state.url) == {"settled": 1, "failed": 3}


def test_lines_that_the_provider_counted_and_nobody_has_may_be_billed(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    """Six were completed; the output has two of them, and the errors of the other four are no answers either."""
    ask(settings, state, 10)
    keys = api.keys(api.batches[0])
    api.finish(
        state="expired", done=6, failed=4, output="\n".join(map(answered, keys[:2])),
        errors="\n".join(map(refused, keys[6:])),
    )  # fmt: skip
    collect(settings, state)
    found = [(row.state, row.error) for row in attempts(state.url)]
    assert sorted(found, key=str) == sorted(
        [("settled", None)] * 2 + [("failed", "malformed")] * 4 + [("ambiguous", "connection_lost")] * 4, key=str
    )
    check_books(state)


def test_lines_of_a_batch_that_counts_nothing_may_be_billed(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    ask(settings, state)
    api.finish(state="cancelled", done=0, output=answered(api.keys(api.batches[0])[0]))
    api.batches[0]["request_counts"] = None
    collect(settings, state)
    assert states(state.url) == {"settled": 1, "ambiguous": 3}


def empty(api: OddBatchApi) -> None:
    api.finish(output=b"")


def unnamed(api: OddBatchApi) -> None:
    api.finish()
    api.batches[0]["output_file_id"] = None


def page_of_a_proxy(api: OddBatchApi) -> None:
    keys = api.keys(api.batches[0])
    api.finish(done=3, failed=1, output="<html>\n" * 9, errors=refused(keys[3]))


def cut(api: OddBatchApi) -> None:
    api.finish(output="\n".join(map(answered, api.keys(api.batches[0])[:2])))


def gone(api: OddBatchApi) -> None:
    api.finish()
    api.outputs.clear()


def uncounted(api: OddBatchApi) -> None:
    api.finish()
    api.batches[0] |= {"request_counts": None, "output_file_id": None, "completed_at": None}


@pytest.mark.parametrize("spoil", [empty, unnamed, page_of_a_proxy, cut, gone, uncounted])
def test_results_that_are_not_whole_are_read_again_for_a_day(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, spoil: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(settings, state)
    spoil(api)
    found = collect(settings, state)
    assert "results are not whole, and are read again" in found.in_words or "no such file" in found.in_words
    assert "ambiguous" not in states(state.url)
    monkeypatch.setattr(collecting, "UNREADABLE_FOR", datetime.timedelta(0))
    collect(settings, state)
    (job,) = all_jobs(state)
    assert (job.state, "its results were never whole" in job.message) == ("ended", True)
    assert states(state.url)["ambiguous"] >= 2
    check_books(state)


def test_results_that_are_whole_again_are_taken(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    ask(settings, state)
    api.finish()
    whole = dict(api.outputs)
    api.outputs |= {name: text[: len(text) // 2] for name, text in whole.items()}
    collect(settings, state)
    api.outputs |= whole
    collect(settings, state)
    assert states(state.url) == {"settled": 4}


# What is no batch


@pytest.mark.parametrize("state_said", ["COMPLETED", "Completed"])
def test_a_state_is_read_whatever_its_case(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, state_said: str
) -> None:
    ask(settings, state)
    api.finish()
    api.batches[0]["status"] = state_said
    collect(settings, state)
    assert states(state.url) == {"settled": 4}


def test_a_state_that_nobody_knows_is_said_and_can_be_given_up(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    ask(settings, state)
    api.batches[0]["status"] = "archived"
    (job,) = all_jobs(state)
    assert "the provider calls it 'archived', which is no state of a Batch API" in collect(settings, state).in_words
    with state.write() as connection:
        chosen = history.attempts_of(connection, attempts(state.url)[0].call_key)
        with pytest.raises(StillInBatch, match=rf"travels in batch {job.job_id} .*ai-assets batches give-up"):
            resolve(connection, chosen, Resolution(billed=False, by="ada"))
    with Collector(settings, state) as collector:
        assert collector.give_up(job, "ada") == "is given up"
        assert collector.give_up(job, "ada") == "had ended already"
    assert states(state.url) == {"ambiguous": 4}
    (job,) = all_jobs(state)
    assert (job.state, job.message) == ("ended", "given up by ada; 4 lines have no result")


@pytest.mark.parametrize(
    "odd",
    [
        {"request_counts": {"total": 4, "completed": 10**30, "failed": 0}},
        {"status": "\ud800"},
        {"status": "in\0progress"},
        {"status": "x" * 100_000},
        {"output_file_id": 7, "status": "completed"},
    ],
    ids=lambda odd: str(odd)[:40],
)
def test_one_odd_batch_does_not_stop_the_others(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, odd: dict[str, Any]
) -> None:
    ask(settings, state)
    api.batches[0] |= odd
    with BatchAsker(settings, state) as asker:
        list(asker.map(questions(8), CALLER))
        asker.submit()
    api.batches[0].setdefault("status", "in_progress")
    second = api.batches[1]
    keys = api.keys(second)
    api.outputs["second"] = "\n".join(map(answered, keys)).encode()
    second |= {"status": "completed", "completed_at": api.now(), "output_file_id": "second"}
    second["request_counts"] = {"total": 4, "completed": 4, "failed": 0}
    found = collect(settings, state)
    assert found.settled == 4
    assert len(found.open) == 1


# Commands


def test_a_batch_that_another_process_holds_is_not_said_to_be_cancelled(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    ask(settings, state)
    (job,) = all_jobs(state)
    other = Lease(state, job.lease)
    assert other.try_take() is None
    with Collector(settings, state) as collector, pytest.raises(BatchBusy, match=f"batch {job.job_id} at this moment"):
        collector.cancel(job, "ada")
    other.give_back()
    assert all_jobs(state)[0].cancelled_by is None


def test_a_batch_whose_endpoint_is_gone_cannot_be_cancelled(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    ask(settings, state)
    (job,) = all_jobs(state)
    others = InferenceSettings.model_validate({"endpoints": {}})
    with Collector(others, state) as collector, pytest.raises(BatchEndpointGone, match=r"inference\.yaml has no more"):
        collector.cancel(job, "ada")
    assert all_jobs(state)[0].cancelled_by is None


def test_a_batch_that_had_ended_at_its_provider_is_said_not_to_be_stopped(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore
) -> None:
    ask(settings, state)
    api.finish()
    (job,) = all_jobs(state)
    with Collector(settings, state) as collector:
        assert "was not stopped yet" in collector.cancel(job, "ada")
    collect(settings, state)
    assert states(state.url) == {"settled": 4}


# Vectors that are none


@pytest.mark.parametrize(
    ("vector", "says"), [([math.nan, 0.8], "not finite"), ([0.6, 0.8, 0.0], "has 3 numbers")], ids=["nan", "length"]
)
def test_a_vector_that_is_none_is_no_answer_and_the_next_run_asks_for_it_in_another_batch(
    api: OddBatchApi, settings: InferenceSettings, state: StateStore, vector: list[float], says: str
) -> None:
    texts = [to_embed(number, vector_length=2) for number in range(3)]

    def asked() -> list[Any]:
        with BatchAsker(settings, state) as asker:
            found = list(asker.map(texts, CALLER))
            asker.submit()
            return found

    def ended_with(vector: list[float]) -> None:
        api.finish(output="\n".join(embedded(key, vector) for key in api.keys(api.batches[-1])))
        assert collect(settings, state).open == []

    assert [type(each) for each in asked()] == [Pending] * 3
    ended_with(vector)
    for each in asked():
        assert isinstance(each, Unanswered)
        assert each.error == "invalid_output"
        assert says in each.message
    assert len(api.batches) == 1
    assert [type(each) for each in asked()] == [Pending] * 3
    ended_with([0.6, 0.8])
    assert [each.vector for each in asked()] == [pytest.approx((0.6, 0.8))] * 3
    assert len(api.batches) == 2
    check_books(state)
