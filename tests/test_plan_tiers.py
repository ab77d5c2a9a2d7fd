"""Claims about a plan where prices differ by tier of service: it counts what would be reserved and paid."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project, text_of
from provider import Provider

from ai_assets.costs.funding import asking, smallest_call_nusd
from ai_assets.inference.load import load_inference
from ai_assets.inference.prices import REQUEST_TOKENS
from ai_assets.planning.plan import Plan, plan

LABELS = [
    {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
    {"name": "incident", "description": "A report on an accident, a fire, a leak or an outage, and its cause."},
]
KIND: dict[str, Any] = {"name": "kind", "kind": "classify", "route": "small", "labels": LABELS}
VECTORS: dict[str, Any] = {"route": "vectors", "dimensions": 256}
USUAL = {"from": "2026-01-01", "input": 1, "output": 2}
FLEX = {"from": "2026-01-01", "tier": "flex", "input": 0.5, "output": 1}
PRIORITY = {"from": "2026-01-01", "tier": "priority", "input": 4, "output": 8}
DAY = "2026-10-05"


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    for number in range(4):
        project.document(f"{DAY}/{number}.txt", text_of(number))
    return project


def planned(office: Project, *stages: dict[str, Any], embedding: dict[str, Any] | None = None, **small: Any) -> Plan:
    """`small`: more about the endpoint of that name."""
    endpoints = {
        "small": {"base_url": "rehearsal", "model": "mini", "prices": [USUAL], **small},
        "vectors": {
            "base_url": "rehearsal", "model": "vectors", "prices": [{"from": "2026-01-01", "input": 0.1}],
            "batch": {"price_share": 0.25},
        },
    }  # fmt: skip
    (office.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": endpoints}))
    collection = office.declare(stages=list(stages), **({"embedding": embedding} if embedding else {}))
    with office.stores() as stores:
        return plan(collection, stores, inference_of(office.root), partitions=[DAY])


def inference_of(root: Path) -> Any:
    return load_inference(root / "inference.yaml")


def by_batch(found: Plan) -> tuple[int, str] | None:
    return next(((way.money.likely_nusd, way.note) for way in found.alternatives if way.name == "by batch"), None)


def test_the_way_by_batch_costs_what_is_declared_of_it(office: Project) -> None:
    undeclared = planned(office, KIND)
    assert by_batch(undeclared) == (
        pytest.approx(undeclared.money.likely_nusd / 2, abs=1),
        "at half the price, as providers have it; by tier: batch (docs/batch.md)",
    )
    declared = planned(office, KIND, batch={"price_share": 0.25})
    assert by_batch(declared) == (
        pytest.approx(declared.money.likely_nusd / 4, abs=1),
        "at what is declared for a line of a batch; by tier: batch (docs/batch.md)",
    )


def test_what_goes_by_batch_as_it_is_has_no_such_way(office: Project) -> None:
    usual = planned(office, KIND)
    found = planned(office, {**KIND, "tier": "batch"}, batch={"price_share": 0.25})
    assert found.money.likely_nusd == pytest.approx(usual.money.likely_nusd / 4, abs=1)
    assert by_batch(found) is None


def test_vectors_that_travel_by_batch_are_planned_at_its_price(office: Project) -> None:
    usual = planned(office, embedding=VECTORS)
    found = planned(office, embedding={**VECTORS, "tier": "batch"})
    assert found.money.likely_nusd == pytest.approx(usual.money.likely_nusd / 4, abs=1)
    assert any("its calls travel by batch" in note for note in found.notes)


def test_another_endpoint_is_compared_at_the_tier_that_it_is_asked_at(office: Project) -> None:
    def elsewhere(**small: Any) -> int:
        found = planned(office, {**KIND, "route": "vectors"}, **small)
        return next(way.money.likely_nusd for way in found.alternatives if way.name == "small")

    assert elsewhere(prices=[USUAL, FLEX], tier="flex") == pytest.approx(elsewhere() / 2, abs=1)


@pytest.mark.parametrize(
    ("stage", "small", "input_usd", "output_usd"),
    [
        ({}, {}, 1, 2),
        ({}, {"prices": [USUAL, FLEX], "tier": "flex"}, 1, 2),
        ({}, {"prices": [USUAL, PRIORITY]}, 4, 8),
        ({"tier": "batch"}, {"batch": {"price_share": 0.25}}, 0.25, 0.5),
        ({"tier": "batch"}, {"prices": [USUAL, {**FLEX, "tier": "batch"}], "batch": {}}, 0.5, 1),
    ],
    ids=["usual", "flex may be served as usual", "whatever the answer names", "a share", "a price of a batch"],
)
def test_the_smallest_call_is_the_dearest_that_its_tier_may_become(
    stage: dict[str, Any], small: dict[str, Any], input_usd: float, output_usd: float, office: Project
) -> None:
    planned(office, {**KIND, **stage}, **small)
    (asks,) = asking(office.declare(stages=[{**KIND, **stage}]))
    today = datetime.datetime.now(datetime.UTC).date()
    assert asks.least_input_tokens > REQUEST_TOKENS
    expected = (asks.least_input_tokens * input_usd + asks.max_output_tokens * output_usd) * 1000
    assert smallest_call_nusd(asks, inference_of(office.root), today) == pytest.approx(expected, abs=1)
