"""Claims about Together's Batch API, whose requests, answers and lines are others than OpenAI's (`wire: together`)."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import Project
from engines import attempts, check_books, question, questions, rows, states, to_embed
from http_servers import QuietHandler, serving
from provider import Provider
from test_batches import Desk, declared, kinds

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.batch.provider import provider_of, read_file
from ai_assets.inference.errors import BatchUndeclared
from ai_assets.inference.settings import Endpoint

BATCH = {"price_share": 0.5, "wire": "together"}


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.1) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.reset()
    running.configure(batch_wire="together", batch_seconds=0.1, batch_late_seconds=0.5, fault={})
    return running


@pytest.fixture
def desk(each_url: str, provider: Provider) -> Iterator[Desk]:
    found = Desk(each_url, declared(provider, BATCH))
    yield found
    found.state.close()


def test_calls_travel_there_and_are_answered_at_the_price_of_a_line(desk: Desk, provider: Provider) -> None:
    asked = questions(20)
    assert kinds(desk.ask(asked)) == ["Pending"] * 20
    (job,) = desk.until_ended()
    assert (job.provider_state, job.lines, job.provider_done) == ("completed", 20, 20)
    assert job.turnaround_s is not None
    assert job.expires_at is not None
    assert kinds(desk.ask(asked)) == ["Answer"] * 20
    (balance,) = check_books(desk.state).values()
    stats = provider.stats()
    assert balance.spent_nusd / 1e9 == pytest.approx(stats["billed_usd"], abs=1e-8)
    assert (stats["billed"], stats["billed_batch"]) == (0, 20)


@pytest.mark.parametrize("fault", ["lost", "lost_later"])
def test_a_batch_whose_creation_was_not_answered_is_known_by_its_file(
    desk: Desk, provider: Provider, fault: str
) -> None:
    provider.batch_script({"request": "create", "fault": fault})
    desk.ask(questions(5))
    desk.until_ended()
    assert len(provider.batches()) == 1
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5
    assert provider.stats()["billed_batch"] == 5


def test_a_batch_that_was_made_twice_has_a_row_for_every_line(desk: Desk, provider: Provider) -> None:
    provider.batch_script({"request": "create", "fault": "twice"}, {"request": "cancel", "fault": "reset", "times": 99})
    desk.ask(questions(10))
    assert [job.duplicate_of is None for job in desk.jobs] == [True, False]
    desk.until_ended()
    assert provider.stats()["billed_twice"] == 10
    assert states(desk.url) == {"settled": 20}
    check_books(desk.state)


def test_another_batch_of_a_file_of_that_name_is_not_taken_for_this_one(desk: Desk, provider: Provider) -> None:
    """The same calls again, after those of the first one expired: a file of the same name, and a batch of its own."""
    provider.script([{"match": "Note", "fault": "hang", "times": 2}])
    desk.ask(questions(2))
    (first,) = desk.until_ended()
    provider.batch_script({"request": "create", "fault": "lost"})
    desk.ask(questions(2))
    first, second = desk.until_ended()
    assert first.provider_id != second.provider_id
    assert kinds(desk.ask(questions(2))) == ["Answer"] * 2


@pytest.mark.parametrize("fault", ["lost", "twice"])
def test_a_file_whose_upload_was_not_answered_is_found_by_its_name(desk: Desk, provider: Provider, fault: str) -> None:
    provider.batch_script({"request": "upload", "fault": fault})
    desk.ask(questions(5))
    desk.until_ended()
    assert kinds(desk.ask(questions(5))) == ["Answer"] * 5
    assert provider.stats()["billed_batch"] == 5


def test_what_has_no_result_when_it_expired_may_have_been_billed(desk: Desk, provider: Provider) -> None:
    """It says no counts: nothing shows that the file of results is whole."""
    provider.script([{"match": "Note 3.", "fault": "hang"}, {"match": "Note 7.", "fault": "hang"}])
    desk.ask(questions(10))
    (job,) = desk.until_ended()
    assert job.provider_state == "expired"
    assert states(desk.url) == {"settled": 8, "ambiguous": 2}
    check_books(desk.state)
    assert sorted(kinds(desk.ask(questions(10)))) == ["Answer"] * 8 + ["Pending"] * 2
    desk.until_ended()
    assert kinds(desk.ask(questions(10))) == ["Answer"] * 10


def test_a_batch_that_is_stopped_is_paid_for_what_was_done(desk: Desk, provider: Provider) -> None:
    provider.configure(batch_seconds=30)
    desk.ask(questions(20))
    with Collector(desk.settings, desk.state) as collector:
        collector.cancel(desk.jobs[0], "ada")
    (job,) = desk.until_ended()
    assert (job.provider_state, job.cancelled_by) == ("cancelled", "ada")
    done = provider.stats()["billed_batch"]
    assert states(desk.url) == {name: count for name, count in (("settled", done), ("ambiguous", 20 - done)) if count}


def test_a_line_that_failed_has_the_providers_words(desk: Desk, provider: Provider) -> None:
    provider.script([{"match": "Note 1.", "fault": "content_filter"}])
    desk.ask([question(1), question(2)])
    desk.until_ended()
    failed = [row for row in attempts(desk.url) if row.state == "failed"]
    assert [(row.error, bool(row.message)) for row in failed] == [("refused", True)]
    assert kinds(desk.ask([question(2)])) == ["Answer"]


def test_a_file_that_is_there_already_is_used(tmp_path: Any) -> None:
    """A provider that compares what it stores says 409, and which file it is."""
    file = {"id": "file-7", "bytes": 3, "created_at": 1764000000, "filename": "a.jsonl", "purpose": "batch-api"}

    class Handler(QuietHandler):
        def answer(self) -> None:
            self.given()
            if self.command == "POST":
                self.say(409, json.dumps({"file_id": "file-7"}).encode())
            else:
                self.say(200 if self.path == "/v1/files/file-7" else 404, json.dumps(file).encode())

    (tmp_path / "a.jsonl").write_text("{}\n")
    with serving(Handler) as url:
        endpoint = {"base_url": f"{url}/v1", "model": "m", "free": True, "batch": BATCH}
        provider = provider_of("mini", Endpoint.model_validate(endpoint))
        found = provider.upload("a.jsonl", tmp_path / "a.jsonl")
        provider.close()
    assert (found.file_id, found.bytes) == ("file-7", 3)


def test_texts_to_embed_are_refused_before_anything_is_sent(desk: Desk, provider: Provider) -> None:
    with pytest.raises(BatchUndeclared, match="takes chats alone"):
        desk.ask([to_embed(1)])
    assert provider.stats()["calls"] == 0
    assert rows(desk.url, "SELECT job_id FROM batch_jobs") == []


@pytest.mark.parametrize("batch", [None, BATCH])
def test_a_collection_that_embeds_by_batch_where_there_is_none_is_refused_when_it_is_loaded(
    project: Project, batch: dict[str, Any] | None
) -> None:
    endpoint = {"base_url": "rehearsal", "model": "m", "free": True, **({} if batch is None else {"batch": batch})}
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": {"mini": endpoint}}))
    with pytest.raises(CollectionInvalid, match=r"embedding\.tier: Route 'mini' is asked by batch"):
        project.declare(embedding={"route": "mini", "dimensions": 256, "tier": "batch"})


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("2026-01-15T14:30:00.123456789Z", "2026-01-15T14:30:00.123456+00:00"),
        ("2026-01-15T14:30:00", "2026-01-15T14:30:00+00:00"),
        (1768487400, "2026-01-15T14:30:00+00:00"),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_moment_is_seconds_or_a_date_and_nothing_else(said: object, read: str | None) -> None:
    found = read_file(SimpleNamespace(id="file", bytes=3, created_at=said)).created_at
    assert (None if found is None else found.isoformat()) == read
