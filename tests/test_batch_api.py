"""Claims about servers that answer requests for files and batches in another way: it is told, and never a hang."""

import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from engines import CALLER, one, questions, rows
from http_servers import QuietHandler, serving
from provider import Provider

from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.batch.errors import BatchUnreachable, ProviderSilent
from ai_assets.inference.batch.provider import BatchProvider
from ai_assets.inference.settings import Endpoint
from ai_assets.storage.state import StateStore

SINCE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
REQUESTS: dict[str, Callable[[BatchProvider, Path], Any]] = {
    "upload": lambda provider, path: provider.upload("name", path),
    "create": lambda provider, _path: provider.create("file", "/v1/chat/completions", {}),
    "look": lambda provider, _path: provider.look("batch"),
}


@contextmanager
def answering(body: str, others: Mapping[str, str] = {}) -> Iterator[str]:
    """The same to whatever is asked, but for what has one of these in its path."""

    class Handler(QuietHandler):
        def answer(self) -> None:
            self.given()
            self.say(200, next((each for part, each in others.items() if part in self.path), body).encode())

    with serving(Handler) as url:
        yield f"{url}/v1"


def provider_at(url: str) -> BatchProvider:
    return BatchProvider("mini", Endpoint.model_validate({"base_url": url, "model": "m", "free": True}))


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines.jsonl").write_text("{}\n")
    return tmp_path / "lines.jsonl"


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("body", ["{}", "[]", "null", '"<html>"', "<html>", '{"object": "list", "data": []}'])
def test_an_answer_of_another_kind_says_nothing_of_what_was_done(body: str, request_: str, lines: Path) -> None:
    with answering(body) as url:
        provider = provider_at(url)
        with pytest.raises(ProviderSilent, match="not as a Batch API has it"):
            REQUESTS[request_](provider, lines)
        provider.close()


@pytest.mark.parametrize("more", ["", ', "has_more": true'])
def test_a_list_without_pages_is_read_once(more: str) -> None:
    """A server that does not know `after` gives its first page again, to whoever asks for the next."""
    each = '{"id": "a", "filename": "name", "bytes": 3, "status": "completed", "created_at": 1764000000}'
    with answering(f'{{"data": [{each}]{more}}}') as url:
        provider = provider_at(url)
        found = provider.find_file("name")
        assert found is not None
        assert (found.file_id, provider.find_file("another")) == ("a", None)
        assert [batch.batch_id for batch in provider.batches(SINCE)] == ["a"]
        provider.close()


def test_a_run_ends_with_a_sentence_and_its_calls_are_free(state: StateStore) -> None:
    with answering('{"data": [{"id": "m"}]}') as url:
        settings = one(url, batch={"price_share": 0.5})
        with BatchAsker(settings, state) as asker:
            list(asker.map(questions(2), CALLER))
            with pytest.raises(BatchUnreachable, match="to take the file: what it answers is not as a Batch API"):
                asker.submit()
    ended = rows(state, "SELECT DISTINCT state, error FROM attempts")
    assert [(row.state, row.error) for row in ended] == [("failed", "not_run")]


def test_a_file_of_results_that_holds_none_is_read_again_and_makes_no_line_maybe_billed(
    running: Provider, state: StateStore
) -> None:
    """Such as the page of a proxy, while the provider behind it is away."""
    asked = questions(3)
    settings = one(running.url, batch={"price_share": 0.5})
    with running.lent():
        running.configure(batch_seconds=0.1)
        with BatchAsker(settings, state) as asker:
            list(asker.map(asked, CALLER))
            asker.submit()
        batch = {**finished(running), "status": "completed", "output_file_id": "results"}
        with (
            answering("<html>", {"/batches/": json.dumps(batch)}) as url,
            Collector(one(url, batch={"price_share": 0.5}), state) as collector,
        ):
            (note,) = collector.collect().notes
        assert "one of them holds nothing that is a result" in note
        assert {row.state for row in rows(state, "SELECT state FROM attempts")} == {"intent"}
        with Collector(settings, state) as collector:
            collector.collect()
    assert {row.state for row in rows(state, "SELECT state FROM attempts")} == {"settled"}


def finished(provider: Provider) -> dict[str, Any]:
    eventually(lambda: provider.batches()[0]["status"] == "completed")
    return provider.batches()[0]
