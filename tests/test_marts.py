# ruff: noqa: S608 - the parts put together are all from here
"""Claims about the marts: every sum is the ledger's to the last nano-dollar, and each means what it says."""

import contextlib
import datetime
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from warehouses import PRICES, Ledger, ask, build, declare, home_at, random_ledger

from ai_assets.base.home import Home
from ai_assets.costs.cost_query import unit_costs
from ai_assets.costs.marts import assets_of_sources, models, project
from ai_assets.costs.window import Scope, Window
from ai_assets.embedding.spec import recorded_embeddings
from ai_assets.inference.prices import cost_nusd, price_at
from ai_assets.inference.records import Usage
from ai_assets.inference.settings import InferenceSettings
from ai_assets.signoff.releases import Part, Release, publish_release
from ai_assets.storage.lake import write_parquet
from ai_assets.storage.stores import Stores
from ai_assets.storage.warehouse import reading

pytestmark = pytest.mark.slow

DAYS = ["2026-10-30", "2026-11-01", "2026-11-20"]
GRAIN = ("tenant", "collection", "asset", "partition", "run_id", "backfill", "endpoint", "model", "kind", "prompt")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A ledger of any content, once per kind of database, in a warehouse."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").database("marts")
    with Stores.at(home_at(tmp_path_factory.mktemp(request.param), url)) as stores:
        random_ledger(stores, seed=len(request.param), days=DAYS, attempts=300)
        build(stores)
        yield stores


def ledger_rows(stores: Stores, table: str) -> list[Any]:
    query = (
        "SELECT attempts.*, callers.tenant, callers.collection, callers.asset, callers.partition, callers.run_id, "
        "callers.backfill FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id"
        if table == "attempts"
        else "SELECT reuses.*, attempts.endpoint, attempts.model, attempts.kind, attempts.prompt, callers.tenant, "
        "callers.collection, callers.asset, callers.partition, callers.run_id, callers.backfill FROM reuses "
        "JOIN callers ON callers.caller_id = reuses.caller_id JOIN attempts ON attempts.attempt_id = reuses.attempt_id"
    )
    with stores.state.read() as connection:
        return list(connection.execute(sa.text(query)))


def nano(amount: Decimal | None) -> int:
    return int(Fraction(amount or 0) * 10**9)


@pytest.mark.parametrize("column", GRAIN)
def test_spend_is_the_ledgers_by_every_column(built: Stores, column: str) -> None:
    expected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in ledger_rows(built, "attempts"):
        found = expected[(getattr(row, column), row.sent_at[:10])]
        found.update(
            attempts=1, calls=row.previous_id is None, cost=row.cost_nusd or 0, input=row.input_tokens or 0,
            maybe=row.reserved_nusd if row.state == "ambiguous" else 0, **{row.state: 1},
        )  # fmt: skip
    for row in ledger_rows(built, "reuses"):
        expected[(getattr(row, column), row.reused_at[:10])].update(reused=1, saved=row.saved_nusd)
    rows = ask(
        built.home,
        f"SELECT {column}, day, sum(attempts), sum(calls), sum(cost_usd), sum(maybe_usd), sum(saved_usd), sum(reused), "
        "sum(answers), sum(failed), sum(ambiguous), sum(in_flight), sum(input_tokens) FROM marts.spend GROUP BY ALL",
    )
    found_rows = {
        (str(row[0]), row[1].isoformat()): Counter(
            attempts=int(row[2]), calls=int(row[3]), cost=nano(row[4]), maybe=nano(row[5]), saved=nano(row[6]),
            reused=int(row[7]), settled=int(row[8]), failed=int(row[9]), ambiguous=int(row[10]), intent=int(row[11]),
            input=int(row[12]),
        )
        for row in rows
    }  # fmt: skip
    assert {key: +count for key, count in found_rows.items()} == {key: +count for key, count in expected.items()}


def test_every_mart_that_divides_the_spend_adds_up_to_it(built: Stores) -> None:
    rows = ledger_rows(built, "attempts")
    cost = sum(row.cost_nusd or 0 for row in rows)
    maybe = sum(row.reserved_nusd for row in rows if row.state == "ambiguous")
    saved = sum(row.saved_nusd for row in ledger_rows(built, "reuses"))
    for mart in ("spend", "spend_by_document", "waste", "cost_per_document"):
        assert nano(ask(built.home, f"SELECT sum(cost_usd) FROM marts.{mart}")[0][0]) == cost, mart
    for mart in ("spend", "spend_by_document", "waste"):
        assert nano(ask(built.home, f"SELECT sum(maybe_usd) FROM marts.{mart}")[0][0]) == maybe, mart
    for mart in ("spend", "spend_by_document"):
        assert nano(ask(built.home, f"SELECT sum(saved_usd) FROM marts.{mart}")[0][0]) == saved, mart
    assert cost > 0 < maybe


def test_documents_errors_and_times_are_the_ledgers(built: Stores) -> None:
    by_document: Counter[tuple[str, ...]] = Counter()
    errors: Counter[tuple[str, ...]] = Counter()
    times: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in ledger_rows(built, "attempts"):
        by_document[(row.tenant, row.collection, row.asset, row.document)] += row.cost_nusd or 0
        if row.error is not None:
            errors[(row.sent_at[:10], row.collection, row.error)] += 1
        if row.state == "settled":
            times[(row.sent_at[:10], row.endpoint, row.model, row.kind)].append(row.latency_s)
    found = ask(built.home, "SELECT tenant, collection, asset, document, cost_usd FROM marts.spend_by_document")
    assert +Counter({tuple(row[:4]): nano(row[4]) for row in found}) == +by_document
    found = ask(
        built.home, "SELECT CAST(day AS VARCHAR), collection, error, sum(attempts) FROM marts.errors GROUP BY ALL"
    )
    assert {tuple(row[:3]): row[3] for row in found} == errors
    for day, endpoint, model, kind, p50, p95, p99 in ask(
        built.home,
        "SELECT CAST(day AS VARCHAR), endpoint, model, kind, p50_s, p95_s, p99_s FROM marts.latency WHERE answers > 0",
    ):
        sorted_times = sorted(times.pop((day, endpoint, model, kind)))
        for share, value in ((50, p50), (95, p95), (99, p99)):
            place = -(-len(sorted_times) * share // 100)
            assert value == sorted_times[place - 1]
    assert not times


def test_what_it_would_cost_today_is_counted_as_the_ledger_counts(built: Stores) -> None:
    settings = InferenceSettings.model_validate(PRICES)
    expected = 0
    for row in ledger_rows(built, "attempts"):
        price = price_at(settings.endpoints[row.endpoint], datetime.datetime.now(datetime.UTC).date())
        if price is not None and row.cost_nusd is not None:
            expected += cost_nusd(
                price,
                Usage(input_tokens=row.input_tokens, cached_tokens=row.cached_tokens, output_tokens=row.output_tokens),
            )
    assert nano(ask(built.home, "SELECT sum(cost_today_usd) FROM staging.stg_attempts")[0][0]) == expected > 0


def test_money_is_decimal_everywhere(built: Stores) -> None:
    found = ask(
        built.home,
        "SELECT DISTINCT data_type FROM information_schema.columns WHERE table_catalog = current_database() "
        "AND (column_name LIKE '%usd' OR column_name LIKE 'usd%')",
    )
    assert {row[0].partition("(")[0] for row in found} == {"DECIMAL"}


def test_a_budget_shows_its_balance_and_burns_down_within_its_period(built: Stores) -> None:
    month = f"{datetime.datetime.now(datetime.UTC):%Y-%m}"
    (row,) = ask(built.home, f"SELECT * EXCLUDE (used_share) FROM marts.budget_use WHERE budget = 'everything/{month}'")
    assert row[1:4] == ("everything", month, "")
    assert nano(row[9]) == 5 * 10**9 - nano(row[5]) - 1 - 2 - 3
    runs = ask(built.home, "SELECT period, holder, burns FROM marts.budget_use WHERE name = 'each-run'")
    assert runs == [("ever", "run-1", False)]
    burn = ask(built.home, "SELECT day, spent_usd, cumulative_usd FROM marts.budget_burn ORDER BY day")
    assert burn[0][0].isoformat() == f"{month}-01"
    assert burn[-1][0] == datetime.datetime.now(datetime.UTC).date()
    assert burn[-1][2] == sum(row[1] for row in burn)


def test_the_forecast_lies_between_what_is_spent_and_its_high_end(built: Stores) -> None:
    rows = ask(built.home, "SELECT tenant, collection, spent_usd, low_usd, likely_usd, high_usd FROM marts.forecast")
    assert {(row[0], row[1]) for row in rows} == {
        ("", ""), ("default", ""), ("claims", ""), ("default", "notes"), ("claims", "claims"),
    }  # fmt: skip
    assert all(spent <= low <= likely <= high for _, _, spent, low, likely, high in rows)


# What became of the money


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path)


def put(stores: Stores, asset: str, rows: list[dict[str, Any]], collection: str = "notes") -> None:
    """Rows of a stage as the lake's current dataset."""
    from ai_assets.storage.stores import record_dataset

    manifest = stores.lake.commit(
        collection, asset, "p", pa.Table.from_pylist(rows), code_version="1", fingerprint="1", inputs={}, stats={},
        run_id="run", fenced=contextlib.nullcontext,
    )  # fmt: skip
    with stores.state.write() as connection:
        record_dataset(connection, manifest)


def publish(stores: Stores, rows: list[dict[str, Any]], collection: str = "notes") -> None:
    """A release with these documents."""
    file = write_parquet(stores.lake.folder(collection, "release_snapshots", "p"), pa.Table.from_pylist(rows))
    part = Part(
        digest="d", content="c", documents_file=file.name, chunks_file="none.parquet", documents=1, chunks=0,
        request_id="r", approved_by=(), code_versions={}, run_id="run", embeddings=recorded_embeddings({}),
    )  # fmt: skip
    release = Release(
        collection=collection, number=1, digest="d", index_name="live", index_version=1, parts={"p": part},
        created_at="2026-11-01", created_by="ann",
    )  # fmt: skip
    with stores.state.write() as connection:
        publish_release(connection, release, {})


def test_every_attempt_that_costs_has_the_one_category_that_fits(home: Home) -> None:
    at = "2026-11-01T12:00:00.000+00:00"
    with Stores.at(home) as stores:
        ledger = Ledger(stores)
        stage, vectors = ledger.caller(), ledger.caller(asset="embeddings")
        elsewhere = ledger.caller(collection="", asset="chat")

        def made(price: int, caller: int = stage, **what: Any) -> int:
            return ledger.attempt(caller, at, cost_nusd=price, **what)

        made(1, call_key="published")
        current = made(2, call_key="current")
        made(16384, call_key="current", previous_id=current, duplicate_of=current)
        made(4, call_key="forgotten")
        made(8, call_key="unusable")
        first = made(16, call_key="retried", state="failed", error="refused")
        made(32, call_key="retried", state="failed", error="refused", previous_id=first)
        made(0, call_key="free failure", state="failed", error="rate_limited")
        ledger.attempt(stage, at, state="ambiguous", cost_nusd=None, reserved_nusd=64, call_key="lost")
        ledger.attempt(stage, at, state="intent", cost_nusd=None, reserved_nusd=10**9, call_key="under way")
        old = made(128, call_key="renewed")
        made(256, call_key="renewed", previous_id=old)
        made(512, caller=vectors, kind="embed", call_key="v1", document="a.txt")
        made(1024, caller=vectors, kind="embed", call_key="v2", document="b.txt")
        shared = made(2048, caller=vectors, kind="embed", call_key="v3", document="gone.txt")
        ledger.reuse(shared, vectors, at, document="b.txt")
        made(4096, caller=vectors, kind="embed", call_key="v4", document="gone.txt")
        made(8192, caller=elsewhere, call_key="a question of another program")
        put(stores, "kind", [
            {"document_id": "a.txt", "call": "published", "status": "ok"},
            {"document_id": "b.txt", "call": "current", "status": "ok"},
            {"document_id": "c.txt", "call": "unusable", "status": "quarantined"},
            {"document_id": "d.txt", "call": "renewed", "status": "ok"},
        ])  # fmt: skip
        put(stores, "embeddings", [{"document_id": "a.txt"}, {"document_id": "b.txt"}])
        publish(stores, [{"document_id": "a.txt", "kind_call": "published", "kind_label": "x"}])
        build(stores)
    found = {row[0]: (nano(row[1]), nano(row[2])) for row in ask(
        home, "SELECT category, sum(cost_usd), sum(maybe_usd) FROM marts.waste GROUP BY ALL"
    )}  # fmt: skip
    assert found == {
        "published": (1 + 512, 0),
        "never published": (2 + 256 + 1024 + 2048 + 8192, 0),
        "superseded": (4 + 128 + 4096, 0),
        "failed": (8 + 32, 0),
        "retried": (16, 0),
        "paid twice": (16384, 0),
        "ambiguous": (0, 64),
    }
    assert ask(
        home, "SELECT published_documents, documents FROM marts.cost_per_document WHERE collection = 'notes'"
    ) == [(1, 3)]
    assert ask(home, "SELECT document FROM marts.spend_by_document WHERE published ORDER BY 1")[0] == ("a.txt",)


def test_a_new_price_changes_no_history_and_only_what_it_would_cost_today(home: Home) -> None:
    spent = "SELECT sum(cost_usd), sum(cost_today_usd) FROM marts.spend"
    with Stores.at(home) as stores:
        ledger = Ledger(stores)
        ledger.attempt(
            ledger.caller(), "2026-11-01T12:00:00.000+00:00", input_tokens=1_000_000, cached_tokens=0, output_tokens=0
        )
        build(stores)
        before = ask(home, spent)
        dearer = json.loads(json.dumps(PRICES))
        dearer["endpoints"]["mini"]["prices"].append({"from": "2026-11-02", "input": 3, "output": 1})
        declare(home, dearer)
        assert not build(stores).unchanged
    assert before == [(Decimal("0.000026000"), Decimal("0.123457000"))]
    assert ask(home, spent) == [(Decimal("0.000026000"), Decimal("3.000000000"))]


def test_what_nobody_has_a_price_for_is_unknown_and_not_nothing(home: Home) -> None:
    with Stores.at(home) as stores:
        ledger = Ledger(stores)
        ledger.attempt(ledger.caller(), "2026-11-01T12:00:00.000+00:00", endpoint="gone")
        build(stores)
    assert ask(home, "SELECT cost_today_usd FROM marts.spend") == [(None,)]


# Tiers of service, and models that run here

TIERED: dict[str, Any] = {
    "endpoints": {
        "mini": {
            "base_url": "http://mini", "model": "small", "batch": {"price_share": 0.25},
            "prices": [{"from": "2026-01-01", "input": 2, "output": 4},
                       {"from": "2026-01-01", "tier": "flex", "input": 1, "output": 2}],
        },
        "big": {
            "base_url": "http://big", "model": "large", "batch": {},
            "prices": [{"from": "2026-01-01", "input": 8, "output": 8},
                       {"from": "2026-01-01", "tier": "batch", "input": 3, "output": 3}],
        },
        "own": {"base_url": "http://own", "model": "local", "free": True},
    },
    "devices": {"cuda": {"usd_per_hour": 1.8}},
}  # fmt: skip
SENT = "2026-11-01T12:00:00.000+00:00"


@pytest.fixture(scope="module")
def tiered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A document for each way in which an attempt was priced: a million tokens each, or a hundred seconds of a GPU."""
    with Stores.at(home_at(tmp_path_factory.mktemp("tiered"), declared=TIERED)) as stores:
        ledger = Ledger(stores)
        small, large = {"endpoint": "mini", "model": "small"}, {"endpoint": "big", "model": "large"}
        for document, served in (
            ("usual", {**small, "price": "2026-01-01 1/-/2"}),
            ("before prices were noted", {**small, "price": None}),
            ("flex", {**small, "price": "2025-11-01 flex 0.9/-/1.8"}),
            ("by batch, at a share", {**small, "price": "2026-01-01 batch 0.5/-/1"}),
            ("by batch, at a price", {**large, "price": "2026-01-01 batch 3/0.3/3"}),
            ("flex where none is", {**large, "price": "2026-01-01 flex 4/-/4"}),
            ("free", {"endpoint": "own", "model": "local", "price": "free"}),
            ("free now", {"endpoint": "own", "model": "local", "price": "2026-01-01 flex 1/-/1"}),
        ):
            tokens = {"input_tokens": 1_000_000, "cached_tokens": 0, "output_tokens": 0}
            ledger.attempt(ledger.caller(), SENT, document=document, **served, **tokens)
        here = {"kind": "embed", "protocol": "here", "model": "e5", "cost_nusd": 7, "output_tokens": 0}
        caller = ledger.caller(asset="embeddings")
        for document, served in (
            ("on a GPU", {"endpoint": "cuda:0", "gpu_s": 100.0, "cpu_s": 30.25, "price": "1/h"}),
            ("on a GPU for a moment", {"endpoint": "cuda:0", "gpu_s": 0.0000004, "cpu_s": 0.1, "price": "1/h"}),
            ("on a processor", {"endpoint": "cpu", "cpu_s": 12.5, "price": "free"}),
            ("on what nobody declares", {"endpoint": "mps", "gpu_s": 1.0, "cpu_s": 1.0, "price": "1/h"}),
        ):
            ledger.attempt(caller, SENT, document=document, **here, **served)
        build(stores)
        yield stores


def test_what_it_would_cost_today_is_at_the_tier_that_it_was_counted_at(tiered: Stores) -> None:
    found = dict(ask(tiered.home, "SELECT document, cost_today_usd FROM staging.stg_attempts"))
    assert found == {
        "usual": Decimal(2), "before prices were noted": Decimal(2), "flex": Decimal(1),
        "by batch, at a share": Decimal("0.5"), "by batch, at a price": Decimal(3), "flex where none is": None,
        "free": Decimal(0), "free now": Decimal(0), "on a GPU": Decimal("0.05"), "on a GPU for a moment": Decimal(0),
        "on a processor": Decimal(0), "on what nobody declares": None,
    }  # fmt: skip


def test_seconds_of_devices_are_the_ledgers_and_of_nothing_else(tiered: Stores) -> None:
    found = ask(tiered.home, "SELECT endpoint, sum(gpu_s), sum(cpu_s), sum(cost_usd) FROM marts.spend GROUP BY 1")
    by_endpoint = {row[0]: row[1:] for row in found}
    assert by_endpoint["cuda:0"] == (Decimal(100), Decimal("30.35"), Decimal("0.000000014"))
    assert by_endpoint["cpu"] == (None, Decimal("12.5"), Decimal("0.000000007"))
    assert by_endpoint["mini"][:2] == (None, None)


def test_own_hardware_is_held_against_providers_by_what_a_million_tokens_cost(tiered: Stores) -> None:
    scope = Scope(window=Window(first=datetime.date(2026, 11, 1), last=datetime.date(2026, 11, 1)))
    with reading(tiered.home.warehouse) as warehouse:
        found = {(item.endpoint, item.is_own): item for item in unit_costs(warehouse, scope)}
    gpu = found["cuda:0", True]
    assert (gpu.gpu_s, gpu.cpu_s, gpu.tokens, gpu.cost_today_usd) == (100.0, 30.35, 200, Decimal("0.05"))
    assert gpu.today_per_million_tokens == Decimal(250)
    assert found["mini", False].cost_today_usd == Decimal("5.5")
    assert found["mini", False].today_per_million_tokens == Decimal("1.375")
    assert found["big", False].today_per_million_tokens is None, "a part of it has no price now"


def test_another_rate_of_a_device_is_built_in_and_changes_no_history(tiered: Stores) -> None:
    dearer = json.loads(json.dumps(TIERED))
    dearer["devices"]["cuda"]["usd_per_hour"] = 3.6
    declare(tiered.home, dearer)
    spent = "SELECT sum(cost_usd), sum(cost_today_usd) FROM marts.spend WHERE endpoint = 'cuda:0'"
    (before,) = ask(tiered.home, spent)
    assert not build(tiered).unchanged
    assert ask(tiered.home, spent) == [(before[0], before[1] * 2)]


# The project as dbt reads it


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    target = tmp_path_factory.mktemp("target")
    environment = {"AI_ASSETS_WAREHOUSE_FILE": str(target / "x.duckdb"), "AI_ASSETS_WAREHOUSE_TEMP": str(target)}
    subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "parse", "--project-dir", project(), "--profiles-dir", project(),
         "--target-path", target, "--log-path", target, "--no-send-anonymous-usage-stats"],
        env={**environment, "PATH": "/usr/bin:/bin", "DO_NOT_TRACK": "1"}, check=True, capture_output=True, cwd=target,
    )  # fmt: skip
    found: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    return found


def test_what_we_read_of_the_project_is_what_dbt_makes_of_it(manifest: dict[str, Any]) -> None:
    nodes = {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    assert {model.name for model in models()} == nodes.keys()
    for model in models():
        node = nodes[model.name]
        upstream = [name.split(".") for name in node["depends_on"]["nodes"]]
        assert set(model.models) == {parts[-1] for parts in upstream if parts[0] == "model"}, model.name
        assert set(model.sources) == {parts[-1] for parts in upstream if parts[0] == "source"}, model.name
        assert model.columns.keys() == node["columns"].keys()
        assert model.description == " ".join(node["description"].split())
    tests: dict[str, set[str]] = defaultdict(set)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            tests[node["attached_node"].rpartition(".")[2]].add(node["name"])
    assert {model.name: set(model.tests) for model in models()} == tests
    assert set(assets_of_sources()) == {"attempts", "attempt_facts", "reuses", "days"}


def test_every_model_and_column_is_described_and_tested(built: Stores) -> None:
    there = defaultdict(dict)
    for table, column, kind in ask(
        built.home,
        "SELECT table_name, column_name, lower(data_type) FROM information_schema.columns "
        "WHERE table_catalog = current_database() AND table_schema IN ('staging', 'marts')",
    ):
        there[table][column] = kind
    assert {model.name: {name: kind for name, (kind, _) in model.columns.items()} for model in models()} == there
    assert all(model.description and model.tests for model in models())
    assert all(description for model in models() for _, description in model.columns.values())
