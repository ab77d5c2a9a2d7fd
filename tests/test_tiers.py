"""Claims about tiers of service, priorities, vLLM's own parameters and Azure's paths, on a strict server."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from engines import (
    CALLER,
    PRICE,
    attempts,
    check_books,
    declare,
    endpoint,
    opened,
    question,
    questions,
    settings,
    to_embed,
)
from provider import Provider

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.inference.errors import InferenceInvalid, PriceUnknown, ServerMisfit
from ai_assets.inference.identity import body_of, call_key
from ai_assets.inference.load import load_inference
from ai_assets.inference.prices import served_at, tier_prices
from ai_assets.inference.queue_signal import waiting_in
from ai_assets.inference.records import Answer, Caller, Request, Result, Unanswered, Usage
from ai_assets.inference.settings import Endpoint, InferenceSettings
from ai_assets.protocols.base import CallDelivery
from ai_assets.protocols.choices import instances
from ai_assets.protocols.registry import protocol_of

FLEX = {"from": "2026-01-01", "tier": "flex", "input": 0.075, "output": 0.30}
PRIORITY = {"from": "2026-01-01", "tier": "priority", "input": 0.30, "output": 1.20}
DAY = datetime.date(2026, 11, 27)


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(server: Provider) -> Iterator[Provider]:
    with server.lent():
        yield server


def flex(provider: Provider, **more: Any) -> InferenceSettings:
    return settings({"mini": endpoint(provider.url, tier="flex", prices=[dict(PRICE), FLEX], **more)})


def asked(state_url: str, declared: InferenceSettings, wanted: list[Request], caller: Caller = CALLER) -> list[Result]:
    with opened(state_url, declared) as engine:
        return list(engine.map(wanted, caller))


def answers(found: list[Result]) -> list[Answer]:
    assert all(isinstance(each, Answer) for each in found), found
    return [each for each in found if isinstance(each, Answer)]


def test_flex_is_asked_for_priced_and_recorded(provider: Provider, state_url: str) -> None:
    found = answers(asked(state_url, flex(provider), questions(5)))
    assert {each.tier for each in found} == {"flex"}
    stats = provider.stats()
    assert stats["tiers"] == {"flex": 5}
    assert sum(each.cost_usd for each in found) == pytest.approx(stats["billed_usd"], abs=1e-8)
    rows = attempts(state_url)
    assert {(row.tier, row.price) for row in rows} == {("flex", "2026-01-01 flex 0.075/-/0.3")}
    check_books(state_url)


def test_flex_priority_and_sync_share_every_answer(provider: Provider, state_url: str) -> None:
    answers(asked(state_url, flex(provider), questions(3)))
    plain = settings({"mini": endpoint(provider.url)})
    priority = settings({"mini": endpoint(provider.url, tier="priority", prices=[dict(PRICE), PRIORITY])})
    for declared in (plain, priority):
        assert all(each.reused for each in answers(asked(state_url, declared, questions(3))))
    assert provider.stats()["billed"] == 3


def test_a_flex_request_that_is_served_as_default_costs_what_default_costs(provider: Provider, state_url: str) -> None:
    provider.configure(serve_tier="default")
    found = answers(asked(state_url, flex(provider), questions(4)))
    assert {each.tier for each in found} == {"default"}
    assert sum(each.cost_usd for each in found) == pytest.approx(provider.stats()["billed_usd"], abs=1e-8)
    assert {row.price for row in attempts(state_url)} == {"2026-01-01 0.15/-/0.6"}
    check_books(state_url)


def test_a_tier_without_a_price_is_counted_at_the_dearest_one_and_says_so(provider: Provider, state_url: str) -> None:
    provider.configure(serve_tier="priority")
    (found,) = answers(asked(state_url, flex(provider), questions(1)))
    (row,) = attempts(state_url)
    assert row.tier == "priority"
    assert "served at the tier 'priority', of which no price is declared; the dearest price was counted" in row.message
    assert found.cost_usd == pytest.approx(provider.stats()["billed_usd"] / 2, abs=1e-8)


@pytest.mark.parametrize(
    ("asked_for", "answered", "tier", "has_note"),
    [
        (None, None, "default", False),
        (None, "default", "default", False),
        (None, "flex", "flex", False),
        ("flex", "flex", "flex", False),
        ("flex", "default", "default", False),
        ("flex", "on_demand", "default", False),
        ("flex", None, "default", True),
        ("flex", "scale", "default", True),
    ],
)
def test_the_tier_that_the_answer_names_decides_the_price(
    asked_for: str | None, answered: str | None, tier: str, has_note: bool
) -> None:
    declared = Endpoint.model_validate(endpoint("http://h/v1", prices=[dict(PRICE), FLEX]))
    usage = Usage(input_tokens=1000, output_tokens=10)
    found = served_at(tier_prices(declared, DAY), asked_for, answered, usage)
    assert (found.price.tier, found.note is not None) == (tier, has_note)


def test_the_reservation_holds_the_dearest_tier_it_may_be_served_at(provider: Provider, state_url: str) -> None:
    answers(asked(state_url, flex(provider), [question(1)]))
    answers(asked(state_url, settings({"mini": endpoint(provider.url)}), [question(2)]))
    with_tier, without = attempts(state_url)
    assert with_tier.reserved_nusd == without.reserved_nusd
    assert with_tier.cost_nusd < without.cost_nusd


@pytest.mark.parametrize("fault", ["flex_unavailable", "flex_capacity"])
def test_a_tier_without_room_falls_back_to_the_default_at_the_same_endpoint(
    fault: str, provider: Provider, state_url: str
) -> None:
    provider.configure(fault={fault: 1.0})
    found = answers(asked(state_url, flex(provider), questions(3)))
    assert {each.tier for each in found} == {"default"}
    assert {each.attempts for each in found} == {3}, "two at the tier, one without"
    rows = attempts(state_url)
    assert {(row.error, row.cost_nusd) for row in rows if row.state == "failed"} == {("tier_unavailable", 0)}
    assert provider.stats()["billed_twice"] == 0
    check_books(state_url)


def test_a_tier_comes_back_once_it_has_room(provider: Provider, state_url: str) -> None:
    provider.script([{"fault": "flex_capacity", "times": 2}])
    with opened(state_url, flex(provider)) as engine:
        first, second = (engine.call(question(number), CALLER) for number in (1, 2))
    assert [each.tier for each in answers([first, second])] == ["default", "flex"]


def test_without_a_fallback_the_next_endpoint_is_asked_or_the_row_says_why(provider: Provider, state_url: str) -> None:
    provider.configure(fault={"flex_capacity": 1.0})
    (found,) = asked(state_url, flex(provider, tier_fallback=False), [question(1)])
    assert isinstance(found, Unanswered)
    assert found.error == "tier_unavailable"
    mini = endpoint(provider.url, tier="flex", tier_fallback=False, prices=[dict(PRICE), FLEX])
    both = settings({"mini": mini, "other": endpoint(provider.url, model="other")})
    (found,) = answers(asked(state_url, both, [question(1)]))
    assert found.endpoint == "other"


def test_resource_unavailable_where_no_tier_was_asked_for_is_a_rate_limit(provider: Provider, state_url: str) -> None:
    declared = settings({"mini": endpoint(provider.url, prices=[dict(PRICE), FLEX])})
    provider.configure(fault={"flex_unavailable": 1.0})
    (found,) = answers(asked(state_url, declared, [question(1)]))
    assert found.attempts == 1, "the server has such an answer only for who asked for the tier"


@pytest.mark.parametrize(("tier", "serves"), [("flex", "flex"), ("default", "default"), (None, "flex")])
def test_a_request_may_name_a_tier_instead_of_its_endpoint(
    tier: str | None, serves: str, provider: Provider, state_url: str
) -> None:
    (found,) = answers(asked(state_url, flex(provider), [question(1, tier=tier)]))
    assert found.tier == serves


def test_a_request_for_a_tier_that_has_no_price_is_refused(provider: Provider, state_url: str) -> None:
    with pytest.raises(PriceUnknown, match="has no price of the tier 'priority'"):
        asked(state_url, flex(provider), [question(1, tier="priority")])
    assert provider.stats()["calls"] == 0


def test_a_stream_names_its_tier_too(provider: Provider, state_url: str) -> None:
    heard: list[str] = []
    (found,) = answers(asked(state_url, flex(provider), [question(1, hear=heard.append)]))
    assert heard
    assert found.tier == "flex"


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        (
            "[{from: 2026-01-01, input: 1}]",
            "no price of the tier 'flex' is declared; add one to 'prices' with tier: flex",
        ),
        ("[{from: 2026-01-01, tier: flex, input: 1}]", "so 'prices' needs one without a tier too"),
        (
            "[{from: 2026-01-01, tier: flex, input: 1}, {from: 2026-01-01, tier: flex, input: 2}]",
            "a price of 'flex' from",
        ),
    ],
)
def test_a_tier_without_a_known_price_is_refused_at_load(prices: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "inference.yaml"
    path.write_text(f"endpoints:\n  a: {{base_url: 'http://h/v1', model: m, tier: flex, prices: {prices}}}\n")
    with pytest.raises(InferenceInvalid, match=r"inference.yaml:2") as raised:
        load_inference(path)
    assert says in str(raised.value)


# vLLM


def vllm(provider: Provider, **options: Any) -> InferenceSettings:
    return settings({"own": endpoint(provider.url, free=True, options=options)})


def test_a_priority_is_sent_only_to_who_knows_it_and_changes_no_identity(provider: Provider, state_url: str) -> None:
    answers(asked(state_url, vllm(provider, priority=False), [question(1)]))
    provider.configure(vllm=True)
    (again, new) = answers(asked(state_url, vllm(provider, priority=True), [question(1), question(2)]))
    assert (again.reused, new.reused) == (True, False)


@pytest.mark.parametrize(
    ("priority", "backfill", "sent"),
    [(None, "", 10), (None, "b-1", 20), ("interactive", "b-1", 0), ("batch", "", 20)],
)
def test_batch_work_has_a_positive_number_and_a_person_has_none(priority: Any, backfill: str, sent: int) -> None:
    declared = Endpoint.model_validate(endpoint("http://h/v1", free=True, options={"priority": True}))
    kind = priority or ("batch" if backfill else "normal")
    protocol = protocol_of("openai")
    wire = protocol.wire(declared, protocol.encode(declared, question(1)), "chat", CallDelivery(priority=kind))
    assert wire.body.endswith(b',"priority":%d}' % sent)


CHOICES = {"type": "object", "properties": {"label": {"enum": ["in", "out"]}, "why": {"type": ["string", "null"]}},
           "required": ["label", "why"], "additionalProperties": False}  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"enum": ["a", "b"]}, ['"a"', '"b"']),
        (CHOICES, ['{"label": "in", "why": null}', '{"label": "out", "why": null}']),
        (
            {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            ['{"a": true}', '{"a": false}'],
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, None),
        ({"type": "string"}, None),
        ({"enum": list(range(1000))}, None),
    ],
)
def test_a_schema_that_allows_few_answers_is_a_choice(schema: Any, expected: list[str] | None) -> None:
    assert instances(schema) == expected


@pytest.mark.parametrize("structured", ["vllm", "vllm_choice"])
def test_structured_outputs_are_asked_for_as_vllm_has_them(structured: str, provider: Provider, state_url: str) -> None:
    provider.configure(vllm=True)
    declared = settings({"own": endpoint(provider.url, free=True, structured=structured)})
    (found,) = answers(asked(state_url, declared, [question("out", schema=CHOICES)]))
    assert found.data["label"] in ("in", "out")  # type: ignore[index,call-overload]
    provider.configure(vllm=False)
    (refused,) = asked(state_url, declared, [question("other", schema=CHOICES)])
    assert isinstance(refused, Unanswered)
    assert "structured_outputs" in refused.message


def test_a_label_alone_is_a_choice_among_the_labels(provider: Provider, state_url: str) -> None:
    provider.configure(vllm=True)
    declared = settings({"own": endpoint(provider.url, free=True, structured="vllm_choice")})
    (found,) = answers(asked(state_url, declared, [question("pump", choices=("invoice", "pump"))]))
    assert found.text == "pump"


def test_waiting_requests_stop_us_sending_and_a_free_server_gets_all(provider: Provider, state_url: str) -> None:
    provider.configure(vllm=True, concurrency=4, over_limit="queue", latency_ms=20)
    found = asked(state_url, vllm(provider, metrics=True), questions(60))
    answers(found)
    assert provider.stats()["metrics_read"] >= 1


def test_a_queue_of_others_delays_calls_and_does_not_stop_them_for_ever(
    provider: Provider, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_assets.inference.queue_signal.POLL_S", 0.05)
    monkeypatch.setattr("ai_assets.inference.queue_signal.PATIENCE_S", 0.3)
    provider.configure(vllm=True, queued=5)
    answers(asked(state_url, vllm(provider, metrics=True), questions(3)))
    stats = provider.stats()
    assert stats["peak_in_flight"] == 1, "one call at a time, and only after waiting"
    assert stats["metrics_read"] >= 3 * 4


def test_the_queue_of_a_server_that_orders_it_does_not_delay_a_person(provider: Provider, state_url: str) -> None:
    provider.configure(vllm=True, queued=5, latency_ms=50)
    answers(asked(state_url, vllm(provider, metrics=True, priority=True), questions(8, priority="interactive")))
    stats = provider.stats()
    assert stats["metrics_read"] == 0
    assert stats["peak_in_flight"] > 1


def test_metrics_that_are_none_are_said_before_anything_is_sent(provider: Provider, state_url: str) -> None:
    with pytest.raises(ServerMisfit, match="that answers HTTP 404"):
        asked(state_url, vllm(provider, metrics=True), [question(1)])
    with pytest.raises(ServerMisfit, match="has no vllm:num_requests_waiting"):
        asked(state_url, vllm(provider, metrics=f"{provider.root}/rehearsal/stats"), [question(1)])
    assert provider.stats()["calls"] == 0


@pytest.mark.parametrize(
    ("text", "waiting"),
    [
        ('vllm:num_requests_waiting{model_name="a"} 2.0\nvllm:num_requests_waiting{model_name="b"} 1.0\n', 3.0),
        ("vllm:num_requests_waiting 0\n", 0.0),
        ("# TYPE vllm:num_requests_waiting gauge\n", None),
        ("vllm:num_requests_waiting_total 3\n", None),
    ],
)
def test_the_queue_is_read_over_all_models(text: str, waiting: float | None) -> None:
    assert waiting_in(text) == waiting


# Azure


def azure(provider: Provider, base_url: str, **options: Any) -> InferenceSettings:
    return settings({"mini": endpoint(base_url, key="AZURE_KEY", options=options)})


@pytest.mark.parametrize("form", ["deployment", "v1"])
def test_azure_is_spoken_to_by_its_paths_and_its_key(
    form: str, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", "0123-azure")
    with Provider(key="0123-azure") as provider:
        declared = (
            azure(provider, provider.root, deployment="mini-eu", api_version="2024-10-21")
            if form == "deployment"
            else azure(provider, f"{provider.root}/openai/v1", key_header="api-key")
        )
        chat, vector = answers(asked(state_url, declared, [question(1), to_embed(1)]))
        assert chat.text
        assert vector.vector
        assert provider.stats()["statuses"] == {"200": 2}


def test_another_deployment_is_another_call_and_another_api_version_is_not() -> None:
    def key(**options: Any) -> str:
        declared = Endpoint.model_validate(endpoint("http://h", options=options))
        return call_key(declared, body_of(declared, question(1)), 0, "chat")

    assert key(deployment="a", api_version="1") == key(deployment="a", api_version="2")
    assert len({key(deployment="a"), key(deployment="b"), key()}) == 3
    assert key(priority=True, metrics=True) == key()


# Of a stage


def test_a_stage_asks_at_its_own_tier_and_one_without_a_price_is_refused_at_load(
    project: Project, provider: Provider
) -> None:
    project.document("2026-10-05/a.txt", "The pump in hall 1 leaks. It was seen on Monday.")
    stage = {"name": "brief", "kind": "summarise", "tier": "flex"}
    declare(project.root, provider.url)
    with pytest.raises(CollectionInvalid, match="no price of the tier 'flex' is declared") as raised:
        project.declare(stages=[stage])
    assert "tier: endpoint 'mini' of inference.yaml" in str(raised.value)
    declare(project.root, provider.url, prices=[dict(PRICE), FLEX])
    project.refresh(project.declare(stages=[stage]))
    assert provider.stats()["tiers"] == {"flex": 1}
    project.refresh(project.declare(stages=[{**stage, "tier": "default"}]))
    assert provider.stats()["billed"] == 1, "another tier is no other question"
