"""Claims about `ai-assets doctor` with a real PostgreSQL, a real S3 API and an API server of Kubernetes' shape: what
keeps a run from beginning is one sentence, said by the doctor and by whoever would run."""

import os
import pwd
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from conftest import Project
from doctoring import levels, one, seen
from kubelet.api_client import ApiAccess, ApiClient
from kubelet.api_server import ApiServer
from kubelet.certificate import write_certificate
from postgres_server import Postgres
from s3_server import CREDENTIALS, FaultyStore, client_of, s3_server

from ai_assets.base.errors import StateUnavailable
from ai_assets.base.home import Home
from ai_assets.orchestration.dagster_storage import HomeStorage
from ai_assets.storage.objects import DataStoreUnusable
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow


# PostgreSQL


@pytest.fixture
def database(postgres: Postgres, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An address of a database of its own, which this process is told to use."""
    url = postgres.database(f"doctor_{tmp_path.name.replace('-', '_')}"[:60].lower())
    project.home.operations.write_text("environment: server\n")
    monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
    return url


def asked(postgres: Postgres, *statements: str) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def test_a_database_is_looked_at_and_not_migrated(database: str, postgres: Postgres) -> None:
    assert "no tables yet" in one(seen("database"), "note").found
    assert "no tables yet" in one(seen("database"), "note").found
    StateStore(database).close()
    found = seen("database")
    assert levels(found) == {"ok"}
    told = " ".join(each.found for each in found)
    assert "PostgreSQL " in told
    assert "are in use" in told
    assert "agrees with the one here" in told
    assert levels(seen("budgets")) | levels(seen("daemon")) <= {"ok", "note"}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE name = (SELECT max(name) FROM schema_migrations)")
    for _ in range(2):
        assert "1 upgrade(s) are due" in one(seen("database"), "note").found
    assert one(seen("dagster"), "ok").found == "there are none yet"
    HomeStorage.at(Home.from_environment())
    assert "they are those of this Dagster" in one(seen("dagster"), "ok").found
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '7e2f3204cf8e'")
    assert "2 of its migrations are due" in one(seen("dagster"), "warning").found


def with_tls(postgres: Postgres, certificate: Path, key: Path) -> None:
    """The server shows that certificate to whoever connects from now on."""
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        for path in (certificate.parent, key, certificate):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    files = (f"ALTER SYSTEM SET ssl_{name}_file = '{path}'" for name, path in (("cert", certificate), ("key", key)))
    asked(postgres, *files, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
    until_tls(postgres, is_on=True)


def until_tls(postgres: Postgres, *, is_on: bool) -> None:
    """Each connection is served by what the server has read of its settings when it was made."""
    for _ in range(500):
        with psycopg.connect(postgres.url(), sslmode="prefer") as connection:
            if connection.pgconn.ssl_in_use == is_on:
                return
        time.sleep(0.02)
    raise AssertionError


def test_the_certificate_of_the_database_is_told(
    database: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "speaks without TLS" in one(seen("certificates"), "ok").found
    with tempfile.TemporaryDirectory(dir=postgres.folder) as folder:
        certificate, key = write_certificate(Path(folder), days=5.5)
        with_tls(postgres, certificate, key)
        try:
            assert "it expires in 5 day(s)" in one(seen("certificates"), "warning").found
            monkeypatch.setenv("AI_ASSETS_STATE_URL", f"{database}?sslmode=verify-full&sslrootcert={certificate}")
            assert "it expires in 5 day(s)" in one(seen("certificates"), "warning").found
            (other := Path(folder) / "other").mkdir()
            stranger, _ = write_certificate(other)
            monkeypatch.setenv("AI_ASSETS_STATE_URL", f"{database}?sslmode=verify-ca&sslrootcert={stranger}")
            found = one(seen("certificates"), "error")
            assert "it is not accepted" in found.found
            assert "sslrootcert" in found.fix
        finally:
            asked(postgres, *(f"ALTER SYSTEM RESET {name}" for name in ("ssl", "ssl_cert_file", "ssl_key_file")))
            asked(postgres, "SELECT pg_reload_conf()")
            until_tls(postgres, is_on=False)


def test_wrong_credentials_and_a_missing_database_are_said_by_the_doctor_and_at_the_start(
    database: str, postgres: Postgres, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, said in (
        (postgres.url("nowhere_at_all"), "does not exist"),
        (postgres.url(password="very-wrong-secret"), "it refuses the user or the password"),
    ):
        monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
        found = one(seen("database"), "error")
        assert said in found.found
        assert "very-wrong-secret" not in str(found)
        with pytest.raises(StateUnavailable, match=said):
            Stores.at(Home.from_environment())


def test_a_user_without_rights_one_whose_password_ends_and_too_few_connections_are_told(
    database: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    StateStore(database).close()
    password = "a-long-password"
    with suppress(psycopg.Error):
        asked(postgres, "DROP OWNED BY auditor", "DROP ROLE auditor")
    asked(postgres, f"CREATE ROLE auditor LOGIN PASSWORD '{password}' CONNECTION LIMIT 8 "
                    "VALID UNTIL 'tomorrow'")  # fmt: skip
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor")
    monkeypatch.setenv("AI_ASSETS_STATE_URL", database.replace("keeper", "auditor").replace(
        database.split(":")[2].split("@")[0], password))  # fmt: skip
    told = {each.found for each in seen("database") if each.level == "warning"}
    assert any("may not write the table calls" in each for each in told)
    assert any("ends in" in each for each in told)
    assert any("5 processes of `ai-assets up` with 10 each may open 50" in each for each in told)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM auditor")
    assert "lacks a right" in one(seen("database"), "error").found


# The bucket


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("data") as url:
        yield url


@pytest.fixture
def in_bucket(project: Project, server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    url = f"s3://data/doctor?endpoint_override={server}"
    monkeypatch.setenv("AI_ASSETS_DATA_URL", url)
    return url


def test_a_bucket_is_proved_its_versions_are_told_and_nothing_stays_in_it(in_bucket: str, server: str) -> None:
    client = client_of(server)
    found = seen("bucket")
    assert levels(found) == {"ok", "warning"}
    assert "keeps no versions" in one(found, "warning").found
    assert any("agrees with the one here" in each.found for each in found)
    assert not client.list_objects_v2(Bucket="data").get("Contents")
    client.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    assert levels(seen("bucket")) == {"ok"}
    client.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Suspended"})


def test_a_bucket_that_is_missing_or_refuses_is_told(
    in_bucket: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_DATA_URL", f"s3://nobodys/x?endpoint_override={server}")
    assert "there is no bucket 'nobodys'" in one(seen("bucket"), "error").found
    with FaultyStore(server) as store:
        monkeypatch.setenv("AI_ASSETS_DATA_URL", f"s3://data/x?endpoint_override={store.url}")
        for code, said in (("AccessDenied", "the right to write is missing"),
                           ("SignatureDoesNotMatch", "the credentials were refused")):  # fmt: skip
            store.refuse = (403, code)
            found = one(seen("bucket"), "error")
            assert said in found.found
            assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(found)
    monkeypatch.setenv("AI_ASSETS_DATA_URL", "s3://data/x?endpoint_override=http://127.0.0.1:1")
    assert "could not be reached" in one(seen("bucket"), "error").found


class CarelessStore(FaultyStore):
    """A real server whose conditions are taken out on their way."""

    drops = ("if-none-match", "if-match")


def test_a_bucket_that_ignores_conditions_is_refused_by_the_doctor_and_by_a_run_before_it_writes(
    project: Project, in_bucket: str, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = replace(project.home, data_url=in_bucket)
    Stores.of_run(home).state.close()
    with CarelessStore(server) as store:
        url = f"s3://data/careless?endpoint_override={store.url}"
        monkeypatch.setenv("AI_ASSETS_DATA_URL", url)
        assert "ignores the condition" in one(seen("bucket"), "error").found
        with pytest.raises(DataStoreUnusable, match="ignores the condition If-None-Match"):
            Stores.of_run(replace(home, data_url=url))
    with FaultyStore(server) as counted:
        Stores.of_run(replace(home, data_url=f"s3://data/doctor?endpoint_override={counted.url}")).state.close()
        assert [method for method, _ in counted.seen] == ["PUT", "GET", "PUT", "GET"]


# The cluster


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    (tmp_path / "api").mkdir()
    started = ApiServer(tmp_path / "api")
    started.start()
    yield started
    started.stop()


@pytest.fixture
def in_cluster(project: Project, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> ApiClient:
    access = ApiAccess(url=api.url, token=api.administrator, certificate=api.certificate)
    kubeconfig = access.write_kubeconfig(api.certificate.parent / "kubeconfig")
    declare_cluster(project, kubeconfig=str(kubeconfig))
    monkeypatch.setenv("AI_ASSETS_STATE_URL", "postgresql://u@127.0.0.1:1/x")
    project.declare()
    return ApiClient(access)


def declare_cluster(project: Project, **cluster: Any) -> None:
    declared: dict[str, Any] = {"environment": "cluster", "cluster": {"image": "x/y:1", **cluster}}
    project.home.operations.write_text(yaml.safe_dump(declared))


def make(client: ApiClient, kind: str, name: str, **more: Any) -> None:
    where = "namespaces" if kind == "Namespace" else f"namespaces/ai-assets/{kind.lower()}s"
    client.create(f"/api/v1/{where}", {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more})


def errors(found: list[Any]) -> Mapping[str, str]:
    return {each.found: each.fix for each in found if each.level == "error"}


def test_a_namespace_or_secret_that_is_missing_is_told(in_cluster: ApiClient) -> None:
    assert list(errors(seen("cluster"))) == ["it is missing"]
    make(in_cluster, "Namespace", "ai-assets")
    missing = errors(seen("cluster"))
    assert "the Secret 'ai-assets-secrets' is missing there" in missing
    make(in_cluster, "Secret", "ai-assets-secrets")
    for name in ("ai-assets-environment", "dagster-instance"):
        make(in_cluster, "ConfigMap", name)
    for name in ("ai-assets-run", "ai-assets-step"):
        make(in_cluster, "ServiceAccount", name)
    (lost,) = errors(seen("cluster"))
    assert "AI_ASSETS_DATA_URL is in no ConfigMap and no Secret of its pods" in lost
    in_cluster.delete("/api/v1/namespaces/ai-assets/configmaps/ai-assets-environment")
    make(in_cluster, "ConfigMap", "ai-assets-environment", data={"AI_ASSETS_DATA_URL": "s3://papers/live"})
    assert not errors(seen("cluster"))


def test_a_quota_that_is_too_small_for_a_pod_is_told_as_declared_and_as_it_is_in_the_cluster(
    in_cluster: ApiClient, project: Project, api: ApiServer
) -> None:
    kubeconfig = str(api.certificate.parent / "kubeconfig")
    make(in_cluster, "Namespace", "ai-assets")
    make(in_cluster, "ResourceQuota", "small", spec={"hard": {"requests.memory": "512Mi"}})
    assert any("it allows 512Mi of requests.memory" in said for said in errors(seen("cluster")))
    declare_cluster(project, kubeconfig=kubeconfig, quota={"memory": "2Gi"})
    assert any("allows 2Gi of memory" in said for said in errors(seen("cluster")))


def test_an_api_server_that_is_away_or_not_there_to_be_asked_is_told(
    in_cluster: ApiClient, project: Project, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.go_away()
    assert any("cannot be reached" in said for said in errors(seen("cluster")))
    api.come_back()
    declare_cluster(project)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert "it was not asked" in one(seen("cluster"), "note").found
    declare_cluster(project, kubeconfig="/nowhere/kubeconfig")
    assert any("the kubeconfig /nowhere/kubeconfig cannot be used" in said for said in errors(seen("cluster")))
    monkeypatch.delenv("AI_ASSETS_DATA_URL", raising=False)
    assert "is not set here: what a pod writes to its home is lost" in one(seen("bucket"), "warning").found
    declare_cluster(project, image=None)
    assert any("does not say from which image" in said for said in errors(seen("cluster")))
