"""Claims about /metrics: its figures are those of the store, it costs no scan, and only a scraper gets it."""

# ruff: noqa: S608 - statements are put together from what stands here

import datetime
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import STAGE, Project
from desks import desk_of
from postgres_server import POSTGRES_PASSWORD, Postgres
from prometheus_client.parser import text_string_to_metric_families
from provider import Provider
from signing import decide, known
from spent import LOST, REFUSED, Spending
from starlette.testclient import TestClient

from ai_assets.base.errors import UserError
from ai_assets.base.tenants import NO_TENANTS
from ai_assets.desk.app import create_app
from ai_assets.desk.context import Desk
from ai_assets.desk.metrics.families import FAMILIES, MetricFamily
from ai_assets.desk.metrics.scrapers import MetricsTokenUnusable, Scraper, scrapers
from ai_assets.desk.metrics.scraping import MOST_SERIES, DeskMetrics, written
from ai_assets.desk.metrics.state_figures import StateLook, state_figures
from ai_assets.desk.settings import DeskSettings, MetricsSettings, load_desk
from ai_assets.inference import resolving
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.load import inference_at
from ai_assets.inference.queue_query import endpoint_places
from ai_assets.inference.recent_calls import WINDOW_MINUTES, RecentCallsMemory
from ai_assets.inference.settings import InferenceSettings
from ai_assets.signoff.publication import publish
from ai_assets.storage.state import StateStore

TOKEN = "a-token-of-thirty-two-characters"
EVERYTHING = Scraper(tenant=None)
Labels = Mapping[str, str]


def parsed(text: str) -> dict[str, list[tuple[Labels, float]]]:
    """By name of the sample, as another program reads the text."""
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def one(found: Mapping[str, list[tuple[Labels, float]]], name: str, **labels: str) -> float:
    matching = [value for said, value in found[f"ai_assets_{name}"] if labels.items() <= said.items()]
    assert len(matching) == 1, (name, labels, found[f"ai_assets_{name}"])
    return matching[0]


def read(desk: Desk, scraper: Scraper = EVERYTHING) -> dict[str, list[tuple[Labels, float]]]:
    return parsed(DeskMetrics(desk).text(scraper).decode())


@contextmanager
def client(desk: Desk, address: str = "127.0.0.1", url: str = "http://127.0.0.1:1") -> Iterator[TestClient]:
    yield TestClient(create_app(desk), base_url=url, client=(address, 50_000))


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A collection with a live release and a request that waits, and two tenants that asked models."""
    from conftest import project_at

    with pytest.MonkeyPatch.context() as patch, Provider() as provider:
        project = project_at(tmp_path_factory.mktemp("spent"), patch)
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        spending = Spending(project=project, provider=provider)
        spending.declare("reports", "handbook")
        spending.ask("old.txt", days_ago=12)
        spending.ask("a.txt", "b.txt")
        spending.ask("a.txt", run_id="run-again")
        spending.ask("other.md", tenant="people", collection="handbook", asset="kind", run_id="run-handbook")
        spending.lose(LOST)
        provider.script([{"match": REFUSED, "fault": "context_too_long"}])
        spending.ask(REFUSED)
        provider.script([])
        project.documents(per_day=2)
        notes = project.declare(stages=[dict(STAGE)], tenant="claims")
        project.refresh(notes)
        stores = project.stores()
        known(stores.state)
        decide(stores.state, notes, ["2026-10-05"])
        publish(notes, stores, by="test")
        project.declare("reports", tenant="claims")
        project.declare("handbook", tenant="people")
        yield project


def test_figures_are_those_of_the_store(spent: Project) -> None:
    found = read(desk_of(spent))
    assert one(found, "reviews_waiting", collection="notes", tenant="claims") == 2
    assert one(found, "reviews_waiting", collection="reports") == 0
    assert one(found, "release_number", collection="notes") == 1
    assert 0 <= one(found, "release_age_seconds", collection="notes") < 3600
    assert one(found, "partitions", collection="notes", state="published") == 1
    assert one(found, "partitions_due", collection="notes") == 0
    with spent.stores().state.read() as connection:
        rows = connection.execute(sa.text(
            "SELECT tenant, endpoint, model, state, error, input_tokens, cost_nusd, reserved_nusd, sent_at "
            "FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id"
        )).all()  # fmt: skip
        reused = connection.execute(sa.text("SELECT count(*) FROM reuses")).scalar_one()
        records = connection.execute(sa.text("SELECT max(seq) FROM audit")).scalar_one()
    start = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)).isoformat()
    recent = [row for row in rows if row.sent_at > start]
    assert len(recent) < len(rows), "some attempts are old"
    of_claims = [row for row in recent if row.tenant == "claims"]
    assert one(found, "recent_attempts", tenant="claims", endpoint="mini", **{"class": "paid"}) == sum(
        row.state == "settled" for row in of_claims
    )
    assert one(found, "recent_attempts", tenant="claims", endpoint="mini", **{"class": "reused"}) == reused == 1
    dollars = sum(value for _, value in found["ai_assets_recent_spend_dollars"])
    assert dollars == pytest.approx(sum(row.cost_nusd or 0 for row in recent) / 1e9)
    assert one(found, "recent_tokens", tenant="claims", endpoint="mini", kind="input") == sum(
        row.input_tokens or 0 for row in of_claims if row.endpoint == "mini"
    )
    by_collection = {said["collection"]: value for said, value in found["ai_assets_recent_collection_spend_dollars"]}
    assert set(by_collection) == {"reports", "handbook"}
    assert sum(by_collection.values()) == pytest.approx(dollars)
    errors = Counter(row.error for row in recent if row.state == "failed")
    assert sum(value for _, value in found["ai_assets_recent_errors"]) == sum(errors.values()) > 0
    maybe = [row for row in rows if row.state == "ambiguous"]
    assert one(found, "maybe_billed_dollars") == pytest.approx(sum(row.reserved_nusd for row in maybe) / 1e9)
    assert one(found, "maybe_billed_attempts", tenant="claims", endpoint="mini") == len(maybe) == 1, LOST
    assert one(found, "audit_records") == records
    assert one(found, "endpoint_breaker_open", endpoint="mini") == 0
    assert 0 < one(found, "disk_free_bytes") < one(found, "disk_size_bytes")


def test_budgets_are_told_by_holder_and_never_by_document(spent: Project) -> None:
    found = read(desk_of(spent))
    assert {(said["budget"], said["holder"], said["tenant"]) for said, _ in found["ai_assets_budget_used_dollars"]} == {
        ("everything", "", ""), ("of-people", "", "people"), ("each-collection", "reports", "claims"),
        ("each-collection", "handbook", "people"), ("each-collection", "notes", "claims"),
    }  # fmt: skip
    for said, left in found["ai_assets_budget_left_dollars"]:
        assert left <= one(found, "budget_limit_dollars", **said) - one(found, "budget_used_dollars", **said) + 1e-9
    assert one(found, "budget_used_dollars", budget="each-collection", holder="reports") > 0
    with spent.stores().state.read() as connection:
        accounts = connection.execute(sa.text("SELECT count(*) FROM budgets WHERE name = 'each-document'")).scalar_one()
    assert accounts == 6


def test_latencies_are_quantiles_over_all_processes(spent: Project) -> None:
    state = spent.stores().state
    from ai_assets.storage import workers

    with state.write() as connection:
        slice_now = int(workers.read_clock(connection).now_s // 10)
        row = "INSERT INTO latencies VALUES ('slow-one', 'chat', 'short', :slice, :bucket, :answers)"
        for bucket, answers in ((100, 90), (150, 8), (200, 2)):
            connection.execute(sa.text(row), {"slice": slice_now, "bucket": bucket, "answers": answers})
    found = read(desk_of(spent))
    told = [
        one(found, "endpoint_latency_seconds", endpoint="slow-one", quantile=each) for each in ("0.5", "0.95", "0.99")
    ]
    assert told == pytest.approx([0.001 * 1.05**bucket for bucket in (100, 150, 200)])


def test_a_scraper_of_a_tenant_gets_its_own_series_and_no_others(spent: Project) -> None:
    settings = MetricsSettings(tenants={"people": "PEOPLE_TOKEN"})
    desk = replace(desk_of(spent), settings=DeskSettings(metrics=settings))
    metrics = DeskMetrics(desk)
    samples = metrics.found(Scraper(tenant="people"))
    assert samples
    assert {each.family.labels[0] for each in samples} == {"tenant"}
    assert {each.labels[0] for each in samples} == {"people"}
    whole = {(each.family.name, each.labels) for each in metrics.found(EVERYTHING) if each.labels[:1] == ("people",)}
    assert {(each.family.name, each.labels) for each in samples} == whole


def test_no_label_names_a_document_prompt_run_or_person(spent: Project) -> None:
    forbidden = {
        "document",
        "document_id",
        "prompt",
        "partition",
        "run",
        "run_id",
        "person",
        "actor",
        "request",
        "call",
    }
    assert not [name for name, family in FAMILIES.items() if forbidden & set(family.labels)]
    values = {label for each in DeskMetrics(desk_of(spent)).found(EVERYTHING) for label in each.labels}
    with spent.stores().state.read() as connection:
        documents = set(connection.execute(sa.text("SELECT DISTINCT document FROM attempts")).scalars())
        runs = set(connection.execute(sa.text("SELECT DISTINCT run_id FROM callers")).scalars())
    assert not values & (documents | runs | {"ann"})


def test_a_metric_has_only_so_many_series() -> None:
    family: MetricFamily = FAMILIES["ai_assets_recent_spend_dollars"]
    many = [family.of(number, "t", "e", f"model-{number}") for number in range(MOST_SERIES + 7)]
    found = parsed(written(many).decode())
    assert len(found[family.name]) == MOST_SERIES
    assert min(value for _, value in found[family.name]) == 7
    assert one(found, "series_left_out", metric=family.name) == 7


def test_what_a_label_holds_is_written_so_that_others_read_it() -> None:
    family = FAMILIES["ai_assets_recent_spend_dollars"]
    odd = 'a "b" \\ c\nd \u2603'
    ((said, value),) = parsed(written([family.of(1.5, "t", "e", odd)]).decode())[family.name]
    assert (said["model"], value) == (odd, 1.5)


@pytest.mark.parametrize(("address", "url", "headers", "status"), [
    ("127.0.0.1", "http://127.0.0.1:1", {}, 200),
    ("10.0.0.7", "http://127.0.0.1:1", {}, 401),
    ("127.0.0.1", "http://127.0.0.1:1", {"X-Forwarded-For": "10.0.0.7"}, 401),
    ("127.0.0.1", "http://attacker.example:1", {}, 401),
    ("127.0.0.1", "http://127.0.0.1:1", {"Authorization": f"Bearer {TOKEN}"}, 401),
    ("127.0.0.1", "http://127.0.0.1:1", {"Authorization": "Basic eDp5"}, 401),
])  # fmt: skip
def test_without_a_token_only_this_machine_may_ask_a_desk_of_this_machine(
    spent: Project, address: str, url: str, headers: dict[str, str], status: int
) -> None:
    with client(desk_of(spent), address, url) as asked:
        assert asked.get("/metrics", headers=headers).status_code == status


def test_a_desk_that_others_reach_takes_a_token_even_from_this_machine(spent: Project) -> None:
    """A proxy of the same machine would hand on what it hears from anywhere."""
    with client(desk_of(spent, url="https://desk.example.org")) as asked:
        assert asked.get("/metrics").status_code == 401


def test_a_token_opens_it_by_any_name_and_a_wrong_one_does_not(spent: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_ASSETS_METRICS_TOKEN", TOKEN)
    with client(desk_of(spent), "10.1.2.3", "http://10.9.9.9:3001") as asked:
        answer = asked.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "ai_assets_reviews_waiting" in answer.text
        for wrong in ("", TOKEN[:-1], TOKEN + "x", "\xe4" * 32):
            refused = asked.get("/metrics", headers={"Authorization": f"Bearer {wrong}".encode("latin-1")})
            assert (refused.status_code, "ai_assets_" in refused.text) == (401, False)
            assert refused.headers["www-authenticate"].startswith("Bearer")
    with client(desk_of(spent)) as asked:
        assert asked.get("/metrics").status_code == 401, "where a token is declared, it is needed"


@pytest.mark.parametrize(("first", "second", "said"), [
    ("short", None, "is shorter than 16 characters"), (TOKEN, TOKEN, "is that of another scraper"),
    ("ä" * 40, None, "not plain ASCII"),
])  # fmt: skip
def test_a_token_that_is_of_no_use_is_refused_when_the_desk_starts(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str | None, said: str
) -> None:
    monkeypatch.setenv("AI_ASSETS_METRICS_TOKEN", first)
    if second:
        monkeypatch.setenv("PEOPLE_TOKEN", second)
    with pytest.raises(MetricsTokenUnusable, match=said) as refused:
        scrapers(MetricsSettings(tenants={"people": "PEOPLE_TOKEN"}), NO_TENANTS)
    assert first == "short" or first not in str(refused.value)


def test_a_variable_that_would_not_be_masked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text("metrics:\n  token_env: PROMETHEUS\n  tenants: {a: X_TOKEN, b: X_TOKEN}\n")
    with pytest.raises(UserError, match=r"desk\.yaml:2.*token_env"):
        load_desk(tmp_path / "desk.yaml")
    (tmp_path / "desk.yaml").write_text("metrics:\n  tenants: {a: X_TOKEN, b: X_TOKEN}\n")
    with pytest.raises(UserError, match="names X_TOKEN, which is that of another scraper"):
        load_desk(tmp_path / "desk.yaml")


def test_a_session_of_a_person_is_no_scraper(spent: Project) -> None:
    """Even an administrator's: what tells tenants apart is the token."""
    with client(desk_of(spent, url="https://desk.example.org"), url="https://desk.example.org") as asked:
        asked.cookies.set("__Host-session", "x" * 43)
        assert asked.get("/metrics").status_code == 401


# What it costs.

LARGE = 20_000


def large(state: StateStore) -> StateStore:
    """Many attempts, answers used again, records, requests that are decided and budgets of documents, long ago."""
    is_sqlite = state.dialect == "sqlite"
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {LARGE}) "
        if is_sqlite
        else f"WITH n(i) AS (SELECT generate_series(1, {LARGE})) "
    )
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)
    at = (
        f"strftime('%Y-%m-%dT%H:%M:%S.000+00:00', '{then:%Y-%m-%d %H:%M:%S}', '+' || (i * 40) || ' seconds')"
        if is_sqlite
        else f"to_char(timestamp '{then:%Y-%m-%d %H:%M:%S}' + i * interval '40 seconds', "
        '\'YYYY-MM-DD"T"HH24:MI:SS.MS"+00:00"\')'
    )
    with state.write() as connection:
        for statement in (
            "INSERT INTO callers (tenant, collection, asset, partition, run_id) "
            f"{numbers}SELECT 't', 'c' || i, 'a', 'p', 'r' || i FROM n",
            "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, carried, "
            "sent_at, reserved_nusd, cost_nusd, budgets) "
            f"{numbers}SELECT i, 'k' || i, i, 'd' || i, 'mini', 'small', 'chat', 'settled', 0, {at}, 9, 5, '[]' FROM n",
            "INSERT INTO reuses (attempt_id, caller_id, document, saved_nusd, reused_at) "
            f"{numbers}SELECT i, i, 'd', 5, {at} FROM n",
            "INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd) "
            f"{numbers}SELECT 'each-document/ever/c/' || i, 'each-document', 9, 5, 0, 0 FROM n",
            "INSERT INTO review_requests (request_id, collection, partition, number, digest, status, opened_at, "
            f"summary) {numbers}SELECT 'q' || i, 'c' || (i % 50), 'p' || i, 1, 'd', 'approved', {at}, '{{}}' FROM n",
            "INSERT INTO audit (seq, recorded_at, actor, action, subject, previous_hash, hash) "
            f"{numbers}SELECT i, {at}, 'a', 'x', '{{}}', 'h', 'h' FROM n",
        ):
            connection.execute(sa.text(statement.replace(":", "\\:")))
    if not is_sqlite:
        with state.write() as connection:
            connection.execute(sa.text("ANALYZE"))
    return state


BIG = ("attempts", "reuses", "budgets", "review_requests", "audit", "callers")


def test_no_scrape_reads_a_table_that_grows_from_end_to_end(spent: Project, each_url: str, tmp_path: Path) -> None:
    desk = desk_of(spent)
    with closing(large(StateStore(each_url, keys=tmp_path / "keys"))) as state, state.read() as connection:
        asked: list[tuple[str, Any]] = []
        look = StateLook(
            connection=connection, collections=desk.collections(), tenant=None, inference=inference_at(spent.home),
            recent=RecentCallsMemory(), moment=datetime.datetime.now(datetime.UTC),
        )  # fmt: skip

        def heard(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            asked.append((statement, parameters))

        sa.event.listen(connection, "before_cursor_execute", heard)
        list(state_figures(look))
        sa.event.remove(connection, "before_cursor_execute", heard)
        assert {name for name in BIG if any(name in statement for statement, _ in asked)} == set(BIG)
        for statement, parameters in asked:
            explain = "EXPLAIN QUERY PLAN " if state.dialect == "sqlite" else "EXPLAIN "
            plan = [str(row) for row in connection.exec_driver_sql(explain + statement, parameters)]
            scans = [
                line
                for line in plan
                for table in BIG
                if re.search(rf"SCAN {table}\b(?! USING (COVERING )?INDEX)|Seq Scan on {table}\b", line)
            ]
            assert not scans, (statement, plan)


@pytest.mark.parametrize("statement", ["reap", "places", "budgets"])
def test_nothing_that_looks_for_calls_in_flight_reads_the_ledger_from_end_to_end(
    tmp_path: Path, statement: str
) -> None:
    with closing(large(StateStore(f"sqlite:///{tmp_path}/s.db", keys=tmp_path))) as state, state.write() as connection:
        connection.execute(sa.text("INSERT INTO endpoints VALUES ('mini', 1, 0, 0, 0, 0, 0, 0, 0, '')"))
        asked: list[tuple[str, Any]] = []

        def heard(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
            asked.append((statement, parameters))

        sa.event.listen(connection, "before_cursor_execute", heard)
        match statement:
            case "reap":
                resolving.reap(connection)
            case "places":
                endpoint_places(connection, InferenceSettings())
            case "budgets":
                Ledger("sqlite", 1).held_by_batches(connection, "all", fresh=True)
        sa.event.remove(connection, "before_cursor_execute", heard)
        of_attempts = [each for each in asked if "attempts.state" in each[0]]
        assert of_attempts
        for text, parameters in of_attempts:
            plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", parameters).all())
            assert "SCAN attempts" not in plan, (text, plan)


def test_minutes_in_which_nothing_changes_any_more_are_read_once(spent: Project) -> None:
    state, memory = spent.stores().state, RecentCallsMemory()
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
    counted = Counter[str]()
    with state.read() as connection:

        def heard(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            counted["attempts" if "FROM attempts" in statement else "reuses"] += 1

        sa.event.listen(connection, "before_cursor_execute", heard)
        first = memory.read(connection, moment)
        assert counted["attempts"] == WINDOW_MINUTES
        counted.clear()
        again = memory.read(connection, moment)
        has_open = any(each.outcome in ("in_flight", "maybe_billed") for each in first)
        assert counted["attempts"] <= 2 + (2 if has_open else 0), "the new ones, and those with something open"
        sa.event.remove(connection, "before_cursor_execute", heard)
        later = memory.read(connection, moment + datetime.timedelta(minutes=WINDOW_MINUTES))
    assert sorted(map(repr, again)) == sorted(map(repr, first))
    assert first
    assert later == []


def test_an_attempt_that_ends_later_is_counted_as_it_ended(spent: Project) -> None:
    state, memory = spent.stores().state, RecentCallsMemory()
    moment = datetime.datetime.now(datetime.UTC).replace(second=30, microsecond=0) + datetime.timedelta(days=3)
    sent = moment - datetime.timedelta(minutes=6)
    insert = (
        "INSERT INTO attempts (attempt_id, call_key, caller_id, document, endpoint, model, kind, state, carried, "
        "sent_at, reserved_nusd, budgets) VALUES (987654321, 'late', (SELECT min(caller_id) FROM callers), 'd', "
        "'mini', 'small', 'chat', 'intent', 0, :at, 5, '[]')"
    )
    with state.write() as connection:
        connection.execute(sa.text(insert), {"at": sent.isoformat(timespec="milliseconds")})
    with state.read() as connection:
        assert [each.outcome for each in memory.read(connection, moment)] == ["in_flight"]
    with state.write() as connection:
        connection.execute(sa.text("UPDATE attempts SET state = 'settled', cost_nusd = 7 WHERE attempt_id = 987654321"))
    with state.read() as connection:
        assert [(each.outcome, each.nusd) for each in memory.read(connection, moment)] == [("paid", 7)]
    with state.write() as connection:
        connection.execute(sa.text("DELETE FROM attempts WHERE attempt_id = 987654321"))


@pytest.mark.slow
def test_a_role_that_may_only_read_is_enough(spent: Project, postgres_with_tables: Postgres) -> None:
    name = f"r{uuid.uuid4().hex[:8]}"
    owner = postgres_with_tables.database(f"t{uuid.uuid4().hex}", template="tables")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'only-reads'")  # type: ignore[call-overload]
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")  # type: ignore[call-overload]
        with closing(StateStore(owner.replace(f"keeper:{POSTGRES_PASSWORD}", f"{name}:only-reads"))) as state:
            stores = replace(spent.stores(), state=state)
            found = read(replace(desk_of(spent), stores=stores))
            assert one(found, "audit_records") == 0
            assert one(found, "reviews_waiting", collection="notes") == 0
        connection.execute(f"DROP OWNED BY {name}")  # type: ignore[call-overload]
        connection.execute(f"DROP ROLE {name}")  # type: ignore[call-overload]


def test_a_store_that_is_gone_is_said_and_nothing_else(spent: Project, tmp_path: Path) -> None:
    state = StateStore(f"sqlite:///{tmp_path}/s.db", keys=tmp_path)
    desk = replace(desk_of(spent), stores=replace(spent.stores(), state=state))
    with state.write() as connection:
        connection.execute(sa.text("ALTER TABLE review_requests RENAME TO elsewhere"))
    with client(desk) as asked:
        answer = asked.get("/metrics")
    assert (answer.status_code, answer.text) == (503, "The desk cannot reach its state store.\n")


def test_the_desk_counts_its_own_load_without_probes_and_scrapes(spent: Project) -> None:
    desk = desk_of(spent)
    with client(desk) as asked:
        for path in ("/sign-in", "/sign-in", "/health", "/ready", "/metrics", "/static/desk.css"):
            assert asked.get(path).status_code in (200, 503)
        metrics = parsed(asked.get("/metrics").text)
    assert one(metrics, "desk_requests_total") == 2, "kept for ten seconds: as of the first scrape"
    assert one(metrics, "desk_busy_seconds_total") > 0
    assert one(metrics, "desk_requests_under_way") == 0
