"""Claims about /health and /ready: what is missing is named, to anybody, without a secret, and no page waits for it."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
import sqlalchemy as sa
from conftest import Project, eventually
from desks import PLAIN, desk_of, served
from postgres_server import running_postgres
from s3_server import CREDENTIALS, s3_server

from ai_assets.desk.context import Desk
from ai_assets.desk.probes import KEPT_S
from ai_assets.signoff import audit
from ai_assets.storage import fences
from ai_assets.storage.state import StateStore

GOOD = {"ready": True, "not_ready": []}


@contextmanager
def asked(found: Desk) -> Iterator[httpx.Client]:
    with served(found) as running, httpx.Client(base_url=running.url, **PLAIN) as client:
        yield client


def missing(client: httpx.Client) -> dict[str, str]:
    answer = client.get("/ready", headers={"Host": "10.1.2.3:3001"})  # as a kubelet calls
    body = answer.json()
    assert answer.status_code == (200 if body["ready"] else 503)
    assert body["ready"] is (not body["not_ready"])
    assert client.get("/health").text == "ok", "the process lives in any case"
    return {each["what"]: each["said"] for each in body["not_ready"]}


@pytest.fixture
def begun(project: Project) -> Desk:
    found = desk_of(project)
    with found.stores.state.write() as connection:
        audit.begin(connection)
    return found


def test_a_desk_that_can_work_is_ready(begun: Desk) -> None:
    with asked(begun) as client:
        assert missing(client) == {}
        assert client.get("/ready").json() == GOOD


def test_keys_that_are_gone_are_named(begun: Desk) -> None:
    key = begun.stores.home.keys / "decision.pem"
    key.unlink()
    with asked(begun) as client:
        assert missing(client) == {"keys": "these keys are not there: decision"}
        (begun.stores.home.keys / "recorder.pem").write_text("no key at all, but secret-words\n")
        time.sleep(KEPT_S)
        found = missing(client)
    assert "cannot be used" in found["keys"]
    assert "secret-words" not in str(found)
    assert str(begun.stores.home.root) not in str(found)


def test_a_key_that_is_withheld_on_purpose_is_not_missing(begun: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (begun.stores.home.keys / "decision.pem").unlink()
    monkeypatch.setenv("AI_ASSETS_DECISION_KEY", "none")
    with asked(begun) as client:
        assert missing(client) == {}


@pytest.mark.parametrize("statement", [
    "DELETE FROM schema_migrations WHERE name = 'm035_run_steps'",
    "INSERT INTO store_fences VALUES ('moved', 'postgresql://elsewhere/db')",
    "INSERT INTO store_fences VALUES ('needs', 'm999_later')",
])  # fmt: skip
def test_a_store_of_another_version_is_named(begun: Desk, statement: str) -> None:
    with begun.stores.state.write() as connection:
        connection.execute(sa.text(statement))
    with asked(begun) as client:
        found = missing(client)
    assert found == {"database": "the state store is of another version of ai-assets, or was moved"}


def test_a_migration_that_only_adds_leaves_the_desk_of_before_ready(begun: Desk) -> None:
    """Otherwise no page would answer from the migration to the end of a rolling upgrade."""
    with begun.stores.state.write() as connection:
        connection.execute(sa.text("INSERT INTO schema_migrations VALUES ('m999_adds', '2026-01-01')"))
        assert fences.found(connection) is None
    with asked(begun) as client:
        assert missing(client) == {}


def test_a_bucket_is_asked_for(begun: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server("there") as server:
        for bucket, wanted in (("there", {}), ("gone", {"bucket": "the bucket cannot be reached, or refuses"})):
            home = replace(
                begun.stores.home, data_url=f"s3://{bucket}/data?endpoint_override={server}&region=us-east-1"
            )
            with asked(replace(begun, stores=replace(begun.stores, home=home))) as client:
                found = missing(client)
            assert found == wanted
            assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(found)


@pytest.mark.slow
def test_what_hangs_is_named_in_time_and_no_page_waits_for_it(begun: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        url = f"s3://b/d?endpoint_override=http://127.0.0.1:{silent.getsockname()[1]}&region=us-east-1"
        home = replace(begun.stores.home, data_url=url)
        with asked(replace(begun, stores=replace(begun.stores, home=home))) as client:
            assert missing(client) == {"bucket": "it did not answer in time"}
            for _ in range(3):
                assert client.get("/sign-in").status_code == 200
            assert missing(client)["bucket"]


@pytest.mark.slow
def test_a_postgresql_that_ends_and_comes_back(begun: Desk) -> None:
    with running_postgres() as own:
        state = StateStore(own.database("ready"), keys=begun.stores.home.keys)
        with asked(replace(begun, stores=replace(begun.stores, state=state))) as client:
            assert missing(client) == {}
            own.stop()
            time.sleep(KEPT_S)
            assert missing(client) == {"database": "the state store cannot be reached"}
            own.start()
            eventually(lambda: not missing(client))


def test_a_desk_alone_does_not_wait_for_dagster(begun: Desk) -> None:
    with asked(replace(begun, dagster_api="http://127.0.0.1:9")) as client:
        assert missing(client) == {}


def test_one_that_up_started_says_when_dagster_is_gone(begun: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_ASSETS_UP", "1:2@home")
    with asked(replace(begun, dagster_api="http://127.0.0.1:9")) as client:
        assert missing(client) == {"dagster": "Dagster's pages do not answer"}
