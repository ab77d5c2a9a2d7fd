"""Tenants as they are declared, and what that means for money, endpoints, answers and places."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from conftest import Project
from desks import desk_of
from engines import endpoint, question, settings
from provider import Provider
from test_spans import ended, written

from ai_assets import load_collections, signed
from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.errors import DeclarationInvalid, UserError
from ai_assets.base.tenants import Tenants, load_tenants
from ai_assets.collection.catalog import Catalog
from ai_assets.costs.limits import touched
from ai_assets.inference.accounts import accounts_of
from ai_assets.inference.earmarks import CannotSetAside
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import BudgetExhausted, EndpointNotForTenant
from ai_assets.inference.fairness import CallLane
from ai_assets.inference.load import inference_at
from ai_assets.inference.place_queue import PlaceQueue
from ai_assets.inference.records import Answer, Caller, Result
from ai_assets.orchestration.cut_segment import segment_of
from ai_assets.orchestration.segment import segment
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import sweep
from ai_assets.run import spans
from ai_assets.run.operations import RetentionSettings, load_operations
from ai_assets.storage.state import StateStore

TODAY = datetime.date(2026, 11, 28)
MONEY = {"budget": {"limit_usd": 5}}
NORTH, SOUTH = Caller(tenant="north", collection="a"), Caller(tenant="south", collection="b")


def operations(folder: Path, **tenants: Mapping[str, Any]) -> Path:
    path = folder / "operations.yaml"
    path.write_text(yaml.safe_dump({"tenants": tenants}))
    return path


def declared(folder: Path, **tenants: Mapping[str, Any]) -> Tenants:
    return load_tenants(operations(folder, **tenants))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    found = StateStore(f"sqlite:///{tmp_path / 'state.db'}")
    yield found
    found.close()


@pytest.mark.parametrize(("tenants", "said"), [
    ({"legal": {}}, "yaml:2: tenants.legal: tenant 'legal' has no budget; write budget: {limit_usd: 500, per: month}"),
    ({"a": {**MONEY, "share": 0}}, "tenants.a.share: should be more than 0"),
    ({"a": {**MONEY, "endpoint": ["x"]}}, "unknown key 'endpoint'; did you mean 'endpoints'?"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_wherever_the_file_is_read(
    tmp_path: Path, tenants: dict[str, Any], said: str
) -> None:
    path = operations(tmp_path, **tenants)
    for read in (load_tenants, load_operations):
        with pytest.raises(OperationsInvalid) as found:
            read(path)
        assert said in str(found.value)


def test_a_collection_of_an_undeclared_tenant_is_refused_by_name(project: Project) -> None:
    project.declare("a", tenant="legal")
    project.declare("b")
    operations(project.root, legal=MONEY)
    catalog = Catalog(project.home)
    assert catalog.load("a").settings.tenant == "legal"
    with pytest.raises(DeclarationInvalid, match="collection 'b' is of tenant 'default', and operations"):
        catalog.load("b")
    done = project.cli("status", "b")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "no such tenant" in done.stderr


def test_who_edits_inference_yaml_cannot_give_a_tenant_more(project: Project) -> None:
    operations(project.root, legal=MONEY)
    endpoints = {"mini": endpoint("http://x", shares={"reports": 2})}
    made = settings(endpoints, budgets=[{"name": "tenant-legal", "limit_usd": 9}])
    text = yaml.safe_dump(made.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    project.home.inference.write_text(text)
    with pytest.raises(DeclarationInvalid) as found:
        inference_at(project.home)
    assert "'reports' is no tenant, and where tenants are declared they share the places" in str(found.value)
    assert "operations.yaml declares the budget 'tenant-legal' with its tenant; choose another name" in str(found.value)


def test_the_budget_of_a_tenant_is_for_the_operator_to_set(project: Project) -> None:
    collection = project.declare("a", tenant="default")
    operations(project.root, default=MONEY)
    (budget,) = inference_at(project.home).budgets
    assert touched(budget, [collection]) == ["*"]


# Calls


def under(tmp_path: Path, url: str, tenants: Mapping[str, Any], **more: Any) -> Any:
    return settings({"mini": endpoint(url), "other": endpoint(url, model="large", key="SOUTH_KEY")}, route=["mini"],
                    **more).under(declared(tmp_path, **tenants))  # fmt: skip


def asked(state: StateStore, found: Any, caller: Caller, number: int = 1, **more: Any) -> Result:
    with Engine(found, state) as engine:
        return engine.call(question(number, **more), caller)


def test_an_answer_is_used_again_within_its_tenant_alone(tmp_path: Path, state: StateStore, running: Provider) -> None:
    """Also one from before tenants were declared: whoever paid for it has it, and nobody else."""
    before = asked(state, settings({"mini": endpoint(running.url)}), NORTH)
    found = under(tmp_path, running.url, {"north": MONEY, "south": MONEY})
    answers = [asked(state, found, caller) for caller in (NORTH, SOUTH, SOUTH, NORTH)]
    assert all(isinstance(answer, Answer) for answer in (before, *answers))
    assert [answer.reused for answer in answers if isinstance(answer, Answer)] == [True, False, True, True]
    assert len({answer.call for answer in (before, *answers)}) == 3
    again = [asked(state, found, caller, number=2).call for caller in (NORTH, SOUTH)]
    assert again[0] != again[1]


def test_a_tenant_asks_its_own_endpoints_with_its_own_keys(
    tmp_path: Path, state: StateStore, running: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUTH_KEY", "anything")
    found = under(
        tmp_path, running.url,
        {"north": {**MONEY, "endpoints": ["other"]}, "south": {**MONEY, "keys": ["SOUTH_KEY"]}, "west": MONEY},
    )  # fmt: skip
    with pytest.raises(EndpointNotForTenant, match=r"'mini' is not for tenant 'north': tenant 'north' may ask other"):
        asked(state, found, NORTH)
    for caller in (NORTH, Caller(tenant="west")):
        with pytest.raises(EndpointNotForTenant, match="its key SOUTH_KEY is another tenant's"):
            asked(state, found, caller, route="other")
    assert isinstance(asked(state, found, SOUTH, route="other"), Answer)
    with pytest.raises(UserError, match="collection 'x' is of tenant 'east', and operations"):
        asked(state, found, Caller(tenant="east", collection="x"))


def test_a_budget_that_counts_several_tenants_tells_none_of_them_its_sums(
    tmp_path: Path, state: StateStore, running: Provider
) -> None:
    tenants = {"north": {"budget": {"limit_usd": 0.000_001}}, "south": MONEY}
    common = [{"name": "everything", "limit_usd": 0.000_023}]
    with pytest.raises(BudgetExhausted) as own:
        asked(state, under(tmp_path, running.url, tenants), NORTH)
    assert "of $0.000001 $0.000000 are spent" in str(own.value)
    with pytest.raises(BudgetExhausted) as found:
        asked(state, under(tmp_path, running.url, {**tenants, "north": MONEY}, budgets=common), NORTH)
    assert "counts calls of several tenants, so its sums are not shown" in str(found.value)
    assert "0.000023" not in str(found.value)
    (account,) = accounts_of(
        under(tmp_path, "http://x", {"north": MONEY}, budgets=common).budgets[:1], NORTH, "", TODAY
    )
    assert "0.000019" not in str(CannotSetAside(account, 19_000, 40_000_000))


def test_who_waits_learns_neither_who_the_others_are_nor_how_much_they_ask() -> None:
    queue, mine, theirs = PlaceQueue(), CallLane("normal", "north"), CallLane("batch", "south")
    queue.enter(1, {}, {theirs: 7}, 100.0)
    queue.leave(1, {theirs: 7}, {theirs: 7}, 100.0)
    assert queue.before(mine, {}, 100.5) == "batch calls of 'south' (7 waiting)"
    assert queue.before(mine, {}, 100.5, by_tenant=True) == "batch calls of another tenant"


def test_tenants_are_the_parties_that_share_an_endpoint(tmp_path: Path) -> None:
    found = under(tmp_path, "http://x", {"north": {**MONEY, "share": 3.0}, "south": MONEY})
    assert found.endpoints["mini"].shares == {"north": 3.0, "south": 1.0}


def test_a_tenant_keeps_its_things_as_long_as_it_says(project: Project) -> None:
    stores = project.stores()
    here = [project.declare("a", tenant="north"), project.declare("b", tenant="south")]
    tenants = declared(
        project.root, north={**MONEY, "retention": {"span_days": 1, "rollback_releases": 3}}, south=MONEY
    )
    old = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)).isoformat(timespec="milliseconds")
    written(stores.state, *(ended(collection=each.name, run_id=each.name, began_at=old, at=old) for each in here))
    bench = RetentionContext(stores=stores, settings=RetentionSettings(), tenants=tenants, collections=here)
    assert [bench.settings_of(name).rollback_releases for name in ("a", "b")] == [3, 10]
    assert sweep(bench).number["rows"] == 1
    with stores.state.read() as connection:
        assert [spans.of_run(connection, name, name) is None for name in ("a", "b")] == [True, False]


def test_the_steps_of_a_tenant_take_a_slot_of_its_pool(project: Project) -> None:
    collection = project.declare("a", tenant="north")
    operations(project.root, north={**MONEY, "pool": "north_steps"})
    assert segment(collection).op.pool == "north_steps"
    cut = project.declare("a", tenant="north", embedding={"compute": {"cpu": 1}})
    graph = segment_of(cut).node_def
    assert isinstance(graph, dg.GraphDefinition)
    ops = [node.definition for node in graph.nodes if isinstance(node.definition, dg.OpDefinition)]
    assert [op.pool for op in ops] == ["north_steps"] * 3


def test_an_edit_that_breaks_the_file_opens_nothing(project: Project) -> None:
    """A desk goes on with the tenants from before; one that starts says what is wrong."""
    project.declare("a", tenant="north")
    path = operations(project.root, north=MONEY)
    running = desk_of(project)
    assert set(running.collections()) == {"a"}
    path.write_text("tenants: {north: {}}")
    assert list(running.tenants().declared) == ["north"]
    with pytest.raises(OperationsInvalid, match="tenant 'north' has no budget"):
        desk_of(project).tenants()
    operations(project.root, south=MONEY)
    assert list(running.tenants().declared) == ["south"]
    assert running.collections() == {}


# Namespaces, code locations of one tenant, signed assets


CLUSTER = {"legal": {"namespace": "ai-assets-legal"}}


@pytest.mark.parametrize(("spaces", "said"), [
    ({**CLUSTER, "lega": {"namespace": "x"}},
     "cluster.tenants.lega: cluster.tenants names 'lega', and `tenants` declares no such tenant; did you mean 'legal'"),
    ({"default": {"namespace": "x"}},
     "tenants.legal: tenant 'legal' has no namespace under cluster.tenants, so its pods would share quota and secrets"),
    ({"default": {"namespace": "x"}, "other": {"namespace": "y"}}, "`tenants` declares no such tenant"),
])  # fmt: skip
def test_namespaces_of_a_cluster_are_held_against_the_tenants_wherever_the_file_is_read(
    project: Project, spaces: dict[str, Any], said: str
) -> None:
    project.declare("a", tenant="legal")
    path = project.root / "operations.yaml"
    path.write_text(yaml.safe_dump({"tenants": {"legal": MONEY}, "cluster": {"tenants": spaces}}))
    for read in (load_tenants, load_operations):
        with pytest.raises(OperationsInvalid) as found:
            read(path)
        assert said in str(found.value)
    with pytest.raises(OperationsInvalid, match=r"cluster\.tenants"):
        Catalog(project.home).load("a")


def test_default_may_stay_in_the_namespace_of_the_deployment(tmp_path: Path) -> None:
    path = tmp_path / "operations.yaml"
    path.write_text(yaml.safe_dump({"tenants": {"legal": MONEY, "default": MONEY}, "cluster": {"tenants": CLUSTER}}))
    assert sorted(load_tenants(path).declared) == sorted(load_operations(path).tenants) == ["default", "legal"]


@pytest.mark.parametrize(("tenants", "said"), [
    ({"legal": MONEY}, "operations.yaml declares no such tenant; did you mean 'legal'"),
    ({}, "the collections here have no such tenant; did you mean 'legal'"),
])  # fmt: skip
def test_a_code_location_of_a_tenant_that_nobody_is_does_not_load(
    project: Project, monkeypatch: pytest.MonkeyPatch, tenants: dict[str, Any], said: str
) -> None:
    """It would have no collection, and nobody would be told."""
    project.declare("a", tenant="legal")
    if tenants:
        operations(project.root, **tenants)
    monkeypatch.setenv("AI_ASSETS_TENANT", "legal")
    assert [each.name for each in load_collections(project.root / "collections")] == ["a"]
    monkeypatch.setenv("AI_ASSETS_TENANT", "lega")
    with pytest.raises(UserError) as found:
        load_collections(project.root / "collections")
    assert str(found.value).startswith("AI_ASSETS_TENANT is 'lega', and ")
    assert said in str(found.value)


def test_a_signed_asset_is_of_a_declared_tenant(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.asset
    def replies() -> list[dict[str, object]]:
        return []

    operations(project.root, legal=MONEY, claims=MONEY)
    with pytest.raises(UserError, match="the signed asset 'replies' is of tenant 'default', and operations"):
        signed(replies)
    (candidate,) = (each for each in signed(replies, tenant="legal").assets or () if "candidate" in str(each.key))
    assert candidate.tags_by_key[candidate.key]["tenant"] == "legal"
    monkeypatch.setenv("AI_ASSETS_TENANT", "claims")
    assert not signed(replies, tenant="legal").assets
