"""What PostgreSQL refuses is one sentence with what to do, never a hang and never the password."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Project, free_port
from postgres_server import POSTGRES_PASSWORD, Postgres

from ai_assets.base.errors import StateUnavailable
from ai_assets.storage.postgres import described
from ai_assets.storage.state import StateStore

ROLE_PASSWORD = "an0ther-secret"


@pytest.fixture
def role(postgres_with_tables: Postgres) -> Iterator["Role"]:
    """A user of its own, who may connect to a database with a state store, and nothing else."""
    name = f"r{uuid.uuid4().hex[:8]}"
    url = postgres_with_tables.database(f"t{uuid.uuid4().hex}", template="tables")
    made = Role(name=name, owner_url=url, url=url.replace(f"keeper:{POSTGRES_PASSWORD}", f"{name}:{ROLE_PASSWORD}"))
    made.run(f"CREATE ROLE {name} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    yield made
    made.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@dataclass(frozen=True, kw_only=True)
class Role:
    name: str
    owner_url: str
    url: str

    @property
    def database(self) -> str:
        return self.owner_url.rpartition("/")[2]

    def run(self, *statements: str) -> None:
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def may_read(self) -> None:
        self.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {self.name}")


def refusal(url: str, *, write: bool = False) -> str:
    with pytest.raises(StateUnavailable) as refused, closing(StateStore(url)) as store:  # noqa: PT012
        if write:
            with store.write() as connection:
                connection.execute(sa.text("DELETE FROM index_versions"))
    said = str(refused.value)
    assert said.count("\n") == 0
    assert POSTGRES_PASSWORD not in said
    assert ROLE_PASSWORD not in said
    return said


def test_an_address_that_leads_nowhere(postgres: Postgres) -> None:
    closed = postgres.url().replace(f":{postgres.port}/", f":{free_port()}/")
    assert "nothing answers at that host and port" in refusal(closed)
    assert "that host name is not known here" in refusal(postgres.url().replace("127.0.0.1", "nowhere.invalid"))
    assert 'database "nowhere" does not exist: make it, or mend' in refusal(postgres.url("nowhere"))
    assert "a parameter that PostgreSQL does not know" in refusal(f"{postgres.url()}?sslmood=require")
    assert "it is not a database URL" in refusal("postgresql://keeper:pa55@w0rd@host:port/db")


def test_wrong_credentials(postgres: Postgres, role: Role) -> None:
    assert "it refuses the user or the password" in refusal(postgres.url(password="wr0ng"))
    assert "it refuses the user or the password" in refusal(role.url.replace(role.name, "nobody"))
    assert "it asks for a password, and the address has none" in refusal(
        postgres.url().replace(f":{POSTGRES_PASSWORD}", "")
    )
    role.run(f"REVOKE CONNECT ON DATABASE {role.database} FROM PUBLIC")
    assert "the user may not connect to this database: GRANT CONNECT" in refusal(role.url)


def test_missing_rights(role: Role) -> None:
    assert "lacks a right there (permission denied for table schema_migrations): GRANT it" in refusal(role.url)
    role.may_read()
    assert "lacks a right there (permission denied for table index_versions)" in refusal(role.url, write=True)
    role.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", f"GRANT USAGE ON SCHEMA public TO {role.name}")
    assert "lacks a right there (permission denied for schema public)" in refusal(role.url)


def test_a_replica_is_read_and_not_written(role: Role) -> None:
    role.may_read()
    role.run(
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role.name}",
        f"ALTER ROLE {role.name} SET default_transaction_read_only = on",
    )
    with closing(StateStore(role.url)) as store, store.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM audit")).scalar_one() == 0
    assert "it is read-only (a replica, or set so): give the address of the primary" in refusal(role.url, write=True)


def test_no_connection_left_there(role: Role) -> None:
    role.may_read()
    role.run(f"ALTER ROLE {role.name} CONNECTION LIMIT 1")
    with psycopg.connect(role.url):
        assert "it has no connection left: see `connections`" in refusal(role.url)


def test_no_connection_left_here(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ai_assets.storage.postgres.FREE_CONNECTION_TIMEOUT_S", 0.2)
    store = StateStore(postgres.database(f"t{uuid.uuid4().hex}"), connections=2)
    done = threading.Event()
    inside = threading.Event()

    def hold() -> None:
        with store.read():
            inside.set()
            done.wait(60)

    held = threading.Thread(target=hold)
    held.start()
    assert inside.wait(60)
    with pytest.raises(StateUnavailable, match="all connections of this process were in use"), store.read():
        pass
    done.set()
    held.join()
    with store.read():
        pass
    store.close()


@contextmanager
def silent() -> Iterator[int]:
    """It takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_a_server_that_says_nothing_is_given_up() -> None:
    with silent() as port:
        began = time.monotonic()
        assert "it does not answer in time" in refusal(f"postgresql://u:p@127.0.0.1:{port}/d?connect_timeout=2")
        assert time.monotonic() - began < 60


def test_a_password_may_stand_in_two_places_and_is_shown_in_none() -> None:
    shown = described("postgresql://u:s3cret@h/d?password=0ther&sslmode=require")
    assert "s3cret" not in shown
    assert "0ther" not in shown
    assert "sslmode=require" in shown


COMMANDS = (["status", "notes"], ["run", "notes"], ["ledger", "list"], ["audit", "verify"], ["up", "--no-first-run"])


@pytest.mark.parametrize("environment", ["local", "server"])
def test_commands_say_it_in_one_sentence(environment: str, project: Project, postgres: Postgres) -> None:
    (project.root / "operations.yaml").write_text(f"environment: {environment}\n")
    project.declare()
    for command in COMMANDS if environment == "server" else COMMANDS[:2]:
        refused = project.cli(*command, AI_ASSETS_STATE_URL=postgres.url(password="wr0ng-one"))
        said = " ".join(refused.stderr.split())
        assert refused.returncode == 2, (command, refused.stderr, refused.stdout)
        assert "it refuses the user or the password" in said, command
        assert "Traceback" not in said
        assert "wr0ng-one" not in said + refused.stdout


def test_who_may_only_read_sees_the_status(project: Project, role: Role) -> None:
    project.declare()
    role.may_read()
    shown = project.cli("status", "notes", AI_ASSETS_STATE_URL=role.url)
    assert shown.returncode == 0, shown.stderr
    refused = project.cli("run", "notes", AI_ASSETS_STATE_URL=role.url)
    assert (refused.returncode, "lacks a right" in refused.stderr + refused.stdout) == (2, True), refused.stderr
