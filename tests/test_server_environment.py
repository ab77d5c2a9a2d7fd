"""`environment: server`: all state in one PostgreSQL, ours and Dagster's, and what is said where it cannot be."""

import os
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import yaml
from conftest import Project, eventually
from engines import check_books
from engines import declare as declare_endpoint
from postgres_server import POSTGRES_PASSWORD, Postgres
from provider import Provider
from signing import PASSWORD, known
from test_stage_settings import KIND

from ai_assets.base.environment import EnvironmentUnknown, OperationsInvalid, StateUrlMissing, StateUrlUnfit
from ai_assets.base.home import ENVIRONMENT_VARIABLE, Home
from ai_assets.orchestration.instance import instance, write_instance_file
from ai_assets.storage.known_tables import known_tables

SERVER = "environment: server\n"


@pytest.fixture
def server(project: Project, postgres_with_tables: Postgres, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose state is all in PostgreSQL."""
    url = postgres_with_tables.database(f"t{uuid.uuid4().hex}", template="tables")
    (project.root / "operations.yaml").write_text(SERVER)
    monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
    (project.home.root / "state.db").unlink()
    return replace(project, home=replace(project.home, declared_state_url=url))


def test_runs_and_events_are_in_the_database_and_nothing_is_in_sqlite(server: Project) -> None:
    server.documents(per_day=1, days=1)
    collection = server.declare(stages=[])
    with server.instance() as opened:
        assert server.execute(opened, collection, "notes", **{"dagster/partition": "2026-10-05"}).success
        assert opened.get_runs_count() == 1
    assert not list(server.home.root.rglob("*.db"))
    with psycopg.connect(server.home.state_url) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) > 0 FROM datasets").fetchall() == [(True,)]


def test_a_document_is_forgotten_in_the_events_too(server: Project) -> None:
    server.document("2026-10-05/secret.txt", "The Zanzibar agreement of Tuesday.")
    collection = server.declare(stages=[])
    with server.instance() as opened:
        assert server.execute(opened, collection, "notes", **{"dagster/partition": "2026-10-05"}).success
    shown = "SELECT count(*) FROM event_logs WHERE event LIKE '%Zanzibar%'"
    with psycopg.connect(server.home.state_url) as connection:
        assert connection.execute(shown).fetchall() != [(0,)]
    with server.stores() as stores:
        known(stores.state, "ada", "admin")
    given = ("--by", "ada", "--reason", "asked")
    done = server.cli("forget", "notes", "2026-10-05/secret.txt", *given, AI_ASSETS_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(server.home.state_url) as connection:
        assert connection.execute(shown).fetchall() == [(0,)]


def test_the_file_of_dagster_holds_no_address_and_no_password(server: Project) -> None:
    text = write_instance_file(server.home).path.read_text()
    assert "HomeStorage" in text
    assert "postgresql://" not in text
    assert POSTGRES_PASSWORD not in text


def test_no_table_of_ours_is_one_of_dagsters(server: Project) -> None:
    with instance(server.home), psycopg.connect(server.home.state_url) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    of_dagster = {name for (name,) in found} - set(known_tables())
    assert {"runs", "event_logs", "jobs", "kvs", "concurrency_slots", "alembic_version"} <= of_dagster
    assert len(found) == len(of_dagster) + len(known_tables())  # none was counted for both


def test_without_the_variable_every_command_says_what_is_missing(project: Project) -> None:
    (project.root / "operations.yaml").write_text(SERVER)
    (project.home.root / "state.db").unlink()
    project.declare()
    for command in (["status", "notes"], ["run", "notes"], ["ledger", "list"], ["up", "--no-first-run"]):
        done = project.cli(*command)
        assert done.returncode == 2, command
        assert "AI_ASSETS_STATE_URL does not say where" in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr
    assert not list(project.home.root.rglob("*.db"))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "operations.yaml").write_text(SERVER)
    home = Home(root=tmp_path / "home", project=tmp_path)
    with pytest.raises(StateUrlMissing, match=r"operations\.yaml"):
        _ = home.state_url
    with pytest.raises(StateUrlUnfit, match="a store of kind 'sqlite'"):
        _ = replace(home, declared_state_url="sqlite:///state.db").state_url
    (tmp_path / "operations.yaml").write_text("environment: sever\n")
    with pytest.raises(OperationsInvalid, match="environment is 'sever'; known are: local, server"):
        _ = home.state_url
    with pytest.raises(EnvironmentUnknown, match=ENVIRONMENT_VARIABLE):
        _ = replace(home, declared_environment="moon").state_url


def test_what_up_starts_stays_with_the_environment_it_was_started_in(project: Project) -> None:
    told = project.home.child_environment("7:1.00")
    assert told[ENVIRONMENT_VARIABLE] == "local"
    (project.root / "operations.yaml").write_text(SERVER)
    assert replace(project.home, declared_environment=told[ENVIRONMENT_VARIABLE]).state_url.startswith("sqlite:")


def test_a_home_changes_its_environment_and_its_file_follows(server: Project) -> None:
    path = write_instance_file(server.home).path
    (server.root / "operations.yaml").unlink()
    assert write_instance_file(server.home).written
    assert "storage" not in yaml.safe_load(path.read_text())
    assert "AI_ASSETS_ENVIRONMENT" not in os.environ


@pytest.mark.slow
def test_a_run_goes_on_after_the_database_restarted_three_times(
    server: Project, provider: Provider, postgres: Postgres
) -> None:
    """Its own state and Dagster's are both away meanwhile; nothing is asked twice."""
    declare_endpoint(server.root, provider.url, limits={"concurrency": 4})
    provider.configure(latency_ms=300)
    server.declare("notes", stages=[dict(KIND)])
    server.documents(per_day=30)
    running = subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "run", "notes", "--all"],
        cwd=server.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for calls in (5, 30, 60):
        eventually(lambda calls=calls: provider.stats()["calls"] >= calls or running.poll() is not None, timeout_s=120)
        postgres.stop()
        time.sleep(2)
        postgres.start()
    said, _ = running.communicate(timeout=240)
    assert running.returncode == 0, said
    assert provider.stats()["billed"] == 90
    check_books(server.home.state_url)
    with psycopg.connect(server.home.state_url) as connection:
        assert connection.execute("SELECT count(*), min(status) FROM runs").fetchall() == [(1, "SUCCESS")]
