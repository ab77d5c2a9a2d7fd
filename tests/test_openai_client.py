"""Claims about OpenAI's own client over the ledger: its calls are reserved, priced and paid once."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from conftest import Project
from engines import attempts, declare
from llama import Llama
from provider import Provider

from ai_assets.orchestration.llm_resource import LLMResource

CHAT: dict[str, Any] = {"model": "rehearsal-mini", "messages": [{"role": "user", "content": "Is the pump due?"}]}


@pytest.fixture
def llm(project: Project, provider: Provider) -> Iterator[LLMResource]:
    declare(project.root, provider.url, key="HOUSE_KEY")
    found = LLMResource()
    yield found
    found.teardown_after_execution(None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", "s3cret-house")


def test_a_call_of_the_client_is_ledgered_at_its_price_and_paid_once(
    project: Project, provider: Provider, llm: LLMResource
) -> None:
    client = llm.client(asset="notes")
    first, second = (client.chat.completions.create(**CHAT, max_tokens=40, stop=["#"]) for _ in range(2))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.id == second.id
    assert provider.stats()["calls"] == 1
    (row,) = attempts(project.home.state_url)
    assert (row.state, row.input_tokens) == ("settled", first.usage.prompt_tokens if first.usage else None)
    assert row.cost_nusd == first.usage.prompt_tokens * 150 + first.usage.completion_tokens * 600  # type: ignore[union-attr]
    assert llm.spend(asset="notes").calls == 1
    llm.client(sample=1).chat.completions.create(**CHAT, max_tokens=40, stop=["#"])
    assert provider.stats()["calls"] == 2


def test_embeddings_of_the_client_are_calls_too(project: Project, provider: Provider, llm: LLMResource) -> None:
    found = llm.client().embeddings.create(model="rehearsal-mini", input=["a pump", "a bill"])
    assert len(found.data) == 2
    assert [row.state for row in attempts(project.home.state_url)] == ["settled"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda client: client.chat.completions.create(**CHAT), "has no limit of its output"),
        (lambda client: client.chat.completions.create(**{**CHAT, "model": "gpt-9"}, max_tokens=9),
         "leads to rehearsal-mini, and this call asks for 'gpt-9'"),
        (lambda client: client.chat.completions.create(**CHAT, max_tokens=9, stream=True), "streams are not for this"),
        (lambda client: client.models.list(), "GET models"),
        (lambda client: client.moderations.create(model="rehearsal-mini", input="x"),
         "nothing is known of what moderations costs"),
        (lambda client: client.chat.completions.create(model="rehearsal-mini", max_tokens=9, messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]),
         "has more than text"),
        (lambda client: client.chat.completions.create(**CHAT, max_tokens=9, service_tier="priority"),
         "the service tier 'priority' has another price"),
        (lambda client: client.responses.create(
            model="rehearsal-mini", input="x", max_output_tokens=9, tools=[{"type": "web_search"}]),
         "the provider's own tool 'web_search' costs more than tokens"),
        (lambda client: client.audio.transcriptions.create(model="rehearsal-mini", file=("a.wav", b"x")),
         "is no call that the ledger can hold"),
    ],
    ids=["no limit", "another model", "stream", "get", "unknown path", "an image", "tier", "tool", "a file"],
)  # fmt: skip
def test_what_cannot_be_priced_or_held_is_refused_before_anything_is_sent(
    project: Project, provider: Provider, llm: LLMResource, call: Any, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says):
        call(llm.client())
    assert provider.stats()["calls"] == 0
    assert attempts(project.home.state_url) == []


def test_with_the_most_that_it_may_cost_an_unknown_path_is_reserved_at_that(
    project: Project, llama: Llama, llm: LLMResource
) -> None:
    declare(project.root, llama.url, key="HOUSE_KEY")
    found = llm.client(max_usd=0.25).post("/rerank", body={"model": "rehearsal-mini", "query": "x"}, cast_to=object)
    assert found == {"content": "Pump leaks.", "tokens_evaluated": 20, "tokens_predicted": 5, "stop_type": "eos",
                     "model": "qwen"}  # fmt: skip
    assert llama.calls[0][0] == "/rerank"
    (row,) = attempts(project.home.state_url)
    assert (row.state, row.reserved_nusd, row.cost_nusd) == ("settled", 250_000_000, 250_000_000)
    assert "the most that was declared was counted" in row.message


def test_the_most_is_counted_where_tokens_do_not_say_the_price_whatever_usage_says(
    project: Project, provider: Provider, llm: LLMResource
) -> None:
    llm.client(max_usd=0.01).chat.completions.create(**CHAT)
    (row,) = attempts(project.home.state_url)
    assert (row.reserved_nusd, row.cost_nusd, row.input_tokens > 0) == (10_000_000, 10_000_000, True)


def test_what_stands_behind_the_path_is_sent_too(project: Project, llama: Llama, llm: LLMResource) -> None:
    declare(project.root, llama.url, key="HOUSE_KEY")
    body = {"model": "rehearsal-mini", "query": "x"}
    llm.client(max_usd=0.01).post("/rerank", body=body, cast_to=object, options={"params": {"api-version": "2"}})
    assert llama.calls[0][0] == "/rerank?api-version=2"


def test_a_budget_holds_for_the_client_and_its_sentence_is_in_the_error(
    project: Project, provider: Provider, llm: LLMResource
) -> None:
    declare(project.root, provider.url, key="HOUSE_KEY", more="budgets: [{name: tight, limit_usd: 0.000001}]\n")
    with pytest.raises(openai.APIStatusError, match="Budget 'tight'") as raised:
        llm.client().chat.completions.create(**CHAT, max_tokens=40)
    assert raised.value.status_code == 402
    assert provider.stats()["calls"] == 0


def test_the_client_knows_no_key_and_repeats_nothing_by_itself(llm: LLMResource) -> None:
    client = llm.client()
    assert client.max_retries == 0
    assert "s3cret" not in str(vars(client))


def test_an_endpoint_that_speaks_otherwise_cannot_take_it(project: Project, llama: Llama, llm: LLMResource) -> None:
    declare(project.root, llama.url, key="HOUSE_KEY", protocol="examples.own_protocol:LlamaCpp")
    with pytest.raises(openai.APIStatusError, match=r"its protocol 'llama.cpp' cannot"):
        llm.client().chat.completions.create(**CHAT, max_tokens=40)
    assert not llama.calls
