"""Claims about an answer that somebody watches as it comes: provisional until it is settled, ambiguous if cut."""

import threading
from collections.abc import Iterator

import pytest
from conftest import Project, eventually
from engines import attempts, declare
from llama import Llama
from provider import Provider
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.inference.errors import BudgetExhausted, ProtocolFailed
from ai_assets.orchestration.llm_resource import LLMResource
from ai_assets.orchestration.typed_output import NoAnswer
from ai_assets.protocols import NotAnAnswer, Reply
from ai_assets.protocols.openai import OpenAI

PROMPT = "Write about the pump in hall 7. It leaks, and nobody has seen to it since Monday. Say what is to be done."


@pytest.fixture
def llm(project: Project) -> Iterator[LLMResource]:
    found = LLMResource()
    yield found
    found.teardown_after_execution(None)  # type: ignore[arg-type]


def declared(project: Project, url: str, **more: object) -> None:
    declare(project.root, url, "retries: {all: {server_error: {attempts: 4, base_s: 0}}}\n", **more)


def test_the_pieces_are_the_answer_and_the_answer_is_the_one_that_everybody_gets(
    project: Project, provider: Provider, llm: LLMResource
) -> None:
    declared(project, provider.url)
    said = llm.stream(PROMPT, system="Be brief.")
    pieces = list(said)
    assert len(pieces) > 1
    assert "".join(pieces).strip() == said.answer.text.strip()
    assert (said.answer.reused, said.answer.usage.output_tokens > 0) == (False, True)
    (row,) = attempts(project.home.state_url)
    assert (row.state, row.cost_nusd > 0) == ("settled", True)
    again = llm.stream(PROMPT, system="Be brief.")
    assert list(again) == [said.answer.text]
    assert again.answer.reused
    assert llm.ask(PROMPT, system="Be brief.") == said.answer.text
    assert provider.stats()["calls"] == 1
    assert provider.stats()["tokens"]["output"] == said.answer.usage.output_tokens


@pytest.mark.slow
def test_pieces_are_heard_before_the_answer_is_there(project: Project, llm: LLMResource) -> None:
    with Provider(fault={"slow_drip": 1}, drip_s=4) as slow:
        declared(project, slow.url)
        said = llm.stream(PROMPT)
        first = next(iter(said))
        assert first
        assert [row.state for row in attempts(project.home.state_url)] == ["intent"]
        assert said.answer.text.startswith(first)


def test_an_answer_that_breaks_off_may_have_been_billed_and_is_not_asked_again(
    project: Project, llm: LLMResource
) -> None:
    with Provider(fault={"truncated": 1}) as cutting:
        declared(project, cutting.url)
        said = llm.stream(PROMPT)
        heard: list[str] = []
        with pytest.raises(NoAnswer, match="the answer broke off after it had begun"):
            heard.extend(said)
        with pytest.raises(NoAnswer):
            _ = said.answer
        assert cutting.stats()["calls"] == 1
    (row,) = attempts(project.home.state_url)
    assert (row.state, row.cost_nusd) == ("ambiguous", None)


def test_what_fails_before_the_first_piece_is_tried_again(project: Project, llm: LLMResource) -> None:
    with Provider(script=[{"fault": "server_error", "times": 2}]) as failing:
        declared(project, failing.url, errors_are_free=True)
        said = llm.stream(PROMPT)
        assert "".join(said).strip() == said.answer.text.strip()
        assert failing.stats()["calls"] == 3
    assert [row.state for row in attempts(project.home.state_url)] == ["failed", "failed", "settled"]


def test_without_money_it_says_so_and_asks_nothing(project: Project, provider: Provider, llm: LLMResource) -> None:
    declared(project, provider.url)
    path = project.root / "inference.yaml"
    path.write_text(path.read_text() + "budgets: [{name: nothing, limit_usd: 0}]\n")
    with pytest.raises(BudgetExhausted):
        list(llm.stream(PROMPT))
    assert provider.stats()["calls"] == 0


def test_who_stops_listening_has_paid_for_the_answer_and_finds_it_later(
    project: Project, provider: Provider, llm: LLMResource
) -> None:
    declared(project, provider.url)
    next(iter(llm.stream(PROMPT)))
    eventually(lambda: [row.state for row in attempts(project.home.state_url)] == ["settled"])
    assert llm.ask(PROMPT)
    assert provider.stats()["calls"] == 1
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "stream"])


def test_an_endpoint_that_tells_no_pieces_tells_it_at_once(project: Project, llama: Llama, llm: LLMResource) -> None:
    declared(project, llama.url, protocol="examples.own_protocol:LlamaCpp")
    assert list(llm.stream(PROMPT)) == ["Pump leaks."]


class Deaf(OpenAI):
    name = "deaf"

    def piece(self, event: str) -> str:
        raise KeyError("missing")


def test_a_protocol_that_fails_on_a_piece_ends_the_work_and_keeps_what_had_come(
    project: Project, provider: Provider, llm: LLMResource
) -> None:
    declared(project, provider.url, protocol=f"{Deaf.__module__}:{Deaf.__name__}")
    with pytest.raises(ProtocolFailed, match="failed while reading an answer: KeyError: 'missing'"):
        list(llm.stream(PROMPT))
    assert provider.stats()["calls"] == 1
    (row,) = attempts(project.home.state_url)
    assert (row.state, row.error, row.protocol) == ("ambiguous", "garbled", "deaf")
    shown = CliRunner().invoke(app, ["ledger", "show", row.call_key], env={"AI_ASSETS_HOME": str(project.home.root)})
    assert "chat.completion.chunk" in shown.output


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (["{}"], "broke off before the answer's end"),
        (['{"choices": [{"delta": {"content": "a"}}]}'], "broke off before the answer's end"),
        (["no json"], "is no JSON"),
        (['{"error": {"message": "boom"}}'], "broke the answer off with an error"),
        (["[1]"], "lacks what the protocol promises"),
    ],
)
def test_what_is_no_whole_answer_is_not_taken_for_one(events: list[str], says: str) -> None:
    with pytest.raises(NotAnAnswer, match=says):
        OpenAI().assembled(events)


def test_usage_and_the_reason_of_its_end_are_read_from_the_last_events() -> None:
    events = [
        '{"id": "x", "model": "m", "choices": [{"delta": {"role": "assistant", "content": "Hel"}}]}',
        '{"model": "m", "choices": [{"delta": {"content": "lo"}, "finish_reason": "length"}]}',
        '{"model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}',
        "[DONE]",
    ]
    reply = OpenAI().decode(OpenAI().assembled(events), "chat")
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish_reason, reply.model) == ("Hello", "length", "m")
    assert reply.usage is not None
    assert reply.usage.input_tokens == 3
