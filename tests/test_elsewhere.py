"""Claims about state in PostgreSQL and data in a bucket together: the same as at home, and whole after any kill."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from backups import furnish
from conftest import Project, project_at
from postgres_server import Postgres
from provider import Provider
from s3_server import CREDENTIALS, bucket_credentials, s3_server  # noqa: F401 - a fixture
from test_llm_stages import BILL, DAY, FIRE, PRICED
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.base.home import DATA_URL_VARIABLE, REHEARSAL_VARIABLE, STATE_URL_VARIABLE, Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import sweep
from ai_assets.run.context import Work
from ai_assets.run.operations import RetentionSettings
from ai_assets.run.refresh import refresh
from ai_assets.signoff import integrity, releases, verification
from ai_assets.storage.lake import MANIFEST
from ai_assets.storage.objects import DataBucket
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("data") as url:
        yield url


def in_bucket(project: Project, server: str, monkeypatch: pytest.MonkeyPatch, state_url: str | None = None) -> Project:
    url = f"s3://data/{uuid.uuid4().hex}?endpoint_override={server}"
    found = replace(project, home=replace(project.home, data_url=url, declared_state_url=state_url))
    monkeypatch.chdir(project.root)
    for name, value in {**found.home.variables(), DATA_URL_VARIABLE: url}.items():
        monkeypatch.setenv(name, value)
    return found


def made(stores: Stores, collection: Collection) -> dict[str, str]:
    """Each dataset, the live release, and each answer that was paid for."""
    found = {}
    for asset in collection.asset_names:
        manifest = stores.lake.manifest("notes", asset, DAY)
        assert manifest is not None
        found[asset] = f"{manifest.version} {manifest.fingerprint}"
    with stores.state.read() as connection:
        live = releases.live(connection, "notes")
        calls = connection.execute(
            sa.text(
                "SELECT calls.call_key, answers.body FROM calls JOIN answers ON answers.attempt_id = calls.attempt_id"
            )
        ).all()
    found |= {row.call_key: "answered" for row in calls}
    return found | ({} if live is None else {"release": live.digest})


def answers_of(stores: Stores, collection: Collection) -> dict[str, list[dict[str, Any]]]:
    """Rows of each dataset; whether a run took an answer over or asked itself depends on when one before it ended."""
    found = {}
    for asset in collection.asset_names:
        manifest = stores.lake.manifest("notes", asset, DAY)
        assert manifest is not None
        rows = stores.lake.read(manifest).to_pylist()
        found[asset] = [{name: value for name, value in row.items() if name != "reused"} for row in rows]
    return found


def test_the_same_run_at_home_and_in_postgresql_and_a_bucket(
    project: Project, provider: Provider, server: str, postgres_with_tables: Postgres, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    at_home = project_at(tmp_path / "disk", monkeypatch)
    furnish(at_home)
    billed = provider.stats()["billed"]
    away = in_bucket(project, server, monkeypatch, postgres_with_tables.database("elsewhere", template="tables"))
    assert away.home.variables()[STATE_URL_VARIABLE].startswith("postgresql")
    collection = furnish(away)
    assert provider.stats()["billed"] == 2 * billed  # of two ledgers none knows the other
    with at_home.stores() as one, away.stores() as other:
        assert made(one, collection) == made(other, collection)
        assert "release" in made(one, collection)
        verification.verify(other.state)
        assert [area.first for area in integrity.verify(other) if area.differences] == []
    away.refresh(collection, [DAY])
    assert provider.stats()["billed"] == 2 * billed


def killed_run(folder: Path, variables: dict[str, str], number: int, after: bool) -> None:
    """In a process of its own, which dies before or after the put of that number."""
    os.environ.update(variables)
    os.chdir(folder)
    real, left = DataBucket._patiently, [number]

    def counted(bucket: DataBucket, request: str, key: str, act: Callable[[], Any]) -> Any:
        if request == "put_object" and bucket.prefix.endswith("/lake"):
            left[0] -= 1
            if left[0] == 0:
                if after:
                    act()
                os.kill(os.getpid(), signal.SIGKILL)
        return real(bucket, request, key, act)

    DataBucket._patiently = counted  # type: ignore[method-assign,assignment]
    collection = load_collection(folder / "collections", "notes")
    with Work(collection, Stores.at(Home.from_environment(folder)), "killed") as work:
        for _ in refresh(work, [DAY]):
            pass


def test_a_run_killed_between_any_two_puts_loses_nothing_and_pays_nothing_twice(
    project: Project, provider: Provider, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    processes: ForkServerContext,
) -> None:  # fmt: skip
    """Each put of data and manifest of one small run in its turn: the next one begins where the last was killed."""
    shared = in_bucket(project, server, monkeypatch)
    (shared.root / "inference.yaml").write_text(PRICED)
    shared.document(f"{DAY}/bill.txt", BILL.format(n=1))
    shared.document(f"{DAY}/fire.txt", FIRE.format(n=1))
    collection = declare(shared, [KIND, BRIEF])
    variables = {**shared.home.variables(), **CREDENTIALS, REHEARSAL_VARIABLE: provider.url}
    for number, after in [(1, False), (1, True), (2, False), (2, True), (3, True), (4, True), (6, True)]:
        process = processes.Process(target=killed_run, args=(shared.root, variables, number, after))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        with shared.stores() as stores:
            for path in stores.lake.manifests("notes"):
                manifest = stores.lake.read_manifest(path)
                assert manifest is not None
                assert stores.lake.read(manifest).num_rows == manifest.rows
    shared.refresh(collection, [DAY])
    billed = provider.stats()["billed"]
    with shared.stores() as stores:
        verification.verify(stores.state)
        with stores.state.read() as connection:
            paid = connection.execute(
                sa.text(
                    "SELECT call_key, count(answers.attempt_id) AS answered, count(*) AS sent FROM attempts "
                    "LEFT JOIN answers ON answers.attempt_id = attempts.attempt_id GROUP BY call_key"
                )
            ).all()
            assert {row.answered for row in paid} == {1}  # what was in flight at a kill was sent again
            assert len(paid) <= billed <= sum(row.sent for row in paid)
        whole, answers = made(stores, collection), answers_of(stores, collection)
        lake = stores.lake.in_bucket()
        assert lake is not None
        now_s = lake.bucket.now_s() + 7200
        monkeypatch.setattr(DataBucket, "now_s", lambda _self: now_s)
        settings = RetentionSettings(litter_hours=1, candidate_days=1)
        sweep(RetentionContext(stores=stores, settings=settings, collections=[collection]))
        assert made(stores, collection) == whole
        left = [found.path for found in lake.objects() if found.path.parent.parent.name != "release_snapshots"]
        named = {manifest.file for path in left if path.name == MANIFEST and (manifest := lake.read_manifest(path))}
        assert {path.name for path in left if path.name != MANIFEST} == named
        assert [area.first for area in integrity.verify(stores) if area.differences] == []
    reference = project_at(tmp_path / "reference", monkeypatch)
    monkeypatch.delenv(DATA_URL_VARIABLE)
    (reference.root / "inference.yaml").write_text(PRICED)
    reference.document(f"{DAY}/bill.txt", BILL.format(n=1))
    reference.document(f"{DAY}/fire.txt", FIRE.format(n=1))
    again = declare(reference, [KIND, BRIEF])
    reference.refresh(again, [DAY])
    with reference.stores() as stores:
        assert answers_of(stores, again) == answers
        assert set(made(stores, again)) == set(whole)
