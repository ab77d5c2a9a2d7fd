"""Claims about `ai-assets doctor`: each mistake is one finding with its remedy, the other checks go on, nothing is
made, no secret is shown, and what hangs is said."""

import base64
import datetime
import json
import os
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from conftest import Project
from doctoring import levels, one, seen
from kubelet.certificate import write_certificate
from test_patience import black_hole, closed_port
from typer.testing import CliRunner

from ai_assets.backup.restoring import RESTORING
from ai_assets.base.processes import identity
from ai_assets.base.temporary import TemporaryFolder, folder_beside
from ai_assets.cli.app import app
from ai_assets.doctor.checks import CHECKS
from ai_assets.doctor.clock import skew
from ai_assets.doctor.examination import HealthCheck, examined
from ai_assets.doctor.findings import Finding, fine
from ai_assets.doctor.installation import Installation
from ai_assets.inference.batch import jobs
from ai_assets.inference.settings import TokenPrice
from ai_assets.storage.state import StateStore

SECRET = "sk-very-secret-key"


def declare_models(project: Project, **endpoint: object) -> None:
    whole = {"base_url": "http://127.0.0.1:9", "model": "m", "free": True, **endpoint}
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": {"far": whole}}))


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Without the two files that SQLite makes for whoever reads a store."""
    found = (path for path in root.rglob("*") if not path.name.endswith(("-wal", "-shm")))
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


# Nothing is made


def test_looking_at_a_new_installation_makes_nothing_and_finds_nothing_wrong(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_HOME", str(tmp_path / "nowhere"))
    project.declare()
    for check in CHECKS:
        if check.name != "code":
            assert "error" not in levels(seen(check.name)), check.name
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_looking_at_a_home_that_was_used_changes_no_file_of_it(project: Project) -> None:
    project.documents(per_day=1)
    project.refresh(project.declare())
    before = tree(project.home.root)
    for check in CHECKS:
        if check.name != "code":
            assert "error" not in levels(seen(check.name)), check.name
    after = {path: stamp for path, stamp in tree(project.home.root).items() if not path.endswith(("-shm", "-wal"))}
    assert after.items() <= before.items()


def test_a_lock_for_several_pythons_is_read_for_this_one(project: Project) -> None:
    lock = project.root / "requirements.lock"
    lock.write_text(
        f"numpy=={version('numpy')} ; python_version >= '3' \\\n    --hash=sha256:00\n"
        "numpy==0.1 ; python_version < '3' \\\n    --hash=sha256:00\n"
    )
    assert "has its versions" in next(each for each in seen("versions") if each.looked_at == str(lock)).found
    lock.write_text("numpy==0.1\n")
    assert "instead of 0.1" in next(each for each in seen("versions") if each.looked_at == str(lock)).found


# Home, disk, keys


def test_a_home_that_others_can_enter_or_that_is_a_file_is_told(project: Project, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    assert levels(seen("home")) == {"ok"}
    project.home.root.chmod(0o755)
    assert "mode 0755" in one(seen("home"), "warning").found
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("AI_ASSETS_HOME", str(file))
    assert "a file, not a folder" in one(seen("home"), "error").found


def test_temporary_folders_of_killed_processes_are_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with TemporaryFolder("batch"):
        (tmp_path / "ai-assets.state.1.01234567").mkdir()
        assert "left 1 folder" in next(each for each in seen("disk") if each.looked_at == "temporary files").found


def test_what_a_killed_restore_left_is_told(project: Project) -> None:
    root = project.home.root
    root.with_name(f"{root.name}.restoring-0a1b2c3d").mkdir()
    with folder_beside(root.with_name("other"), RESTORING):
        (found,) = [each for each in seen("disk") if each.looked_at == f"restores to {root}"]
    assert found.found == f"killed ones left 1 folder beside it, such as {root.name}.restoring-0a1b2c3d"


def test_keys_that_are_open_missing_or_of_another_chain_are_told(project: Project, tmp_path: Path) -> None:
    from ai_assets.signoff import keys

    with project.stores().state.write() as connection:
        keys.of(connection)
    assert levels(seen("secrets")) == {"ok"}
    recorder = keys.file_of(project.home.keys, "recorder")
    recorder.chmod(0o644)
    assert "chmod 600" in one(seen("secrets"), "error").found
    recorder.unlink()
    assert f"there is no {recorder}" in one(seen("secrets"), "warning").found
    keys.new_private(recorder)
    assert "none of the keys that this chain believes" in one(seen("secrets"), "error").found
    (project.home.keys / keys.TRUST).unlink()
    assert "nothing says which keys to believe" in one(seen("secrets"), "error").found


def test_a_key_that_the_chain_vouched_for_later_is_believed(project: Project) -> None:
    from ai_assets.signoff import key_changes, keys

    state = project.stores().state
    with state.write() as connection:
        keys.of(connection)
    key_changes.rotate(state, "recorder", by="test")
    assert levels(seen("secrets")) == {"ok"}


def test_a_desk_key_that_others_can_read_is_told(project: Project) -> None:
    key = project.home.root / "desk.key"
    key.write_bytes(b"0" * 32)
    key.chmod(0o640)
    assert "mode 0640" in one(seen("secrets"), "error").found


# Declarations


def test_a_broken_file_is_one_finding_and_what_needs_it_is_not_looked_at(project: Project) -> None:
    project.declare()
    project.home.operations.write_text("workers: many\n")
    found = seen("declarations")
    assert f"{project.home.operations}:1" in next(each for each in found if each.level == "error").found
    assert "operations.yaml cannot be used" in one(seen("cluster"), "note").found
    assert levels(seen("home")) == {"ok"}


def test_a_broken_collection_is_named_and_the_others_are_looked_at(project: Project) -> None:
    project.declare("notes")
    project.declare("letters")
    (project.root / "collections/letters/defs.yaml").write_text("type: ai_assets.DocumentCollection\nattributes: {}\n")
    found = seen("declarations")
    assert one(found, "error").looked_at == "collection letters"
    assert any("1 can be loaded: notes" in each.found for each in found)


def test_an_unknown_type_of_gpu_is_told(project: Project) -> None:
    project.declare()
    path = project.root / "collections/notes/defs.yaml"
    declared = yaml.safe_load(path.read_text())
    declared["attributes"]["embedding"] = {"compute": {"gpu": {"count": 1, "type": "h999"}}}
    path.write_text(yaml.safe_dump(declared))
    found = one(seen("declarations"), "error")
    assert "GPU type 'h999' is not declared" in found.found


def test_a_tenant_without_a_budget_is_told_and_so_is_a_collection_of_none(project: Project) -> None:
    project.declare()
    project.home.operations.write_text("tenants:\n  legal: {share: 2}\n")
    found = seen("declarations")
    assert any("tenant 'legal' has no budget" in each.found for each in found if each.level == "error")
    project.home.operations.write_text("tenants:\n  legal: {budget: {limit_usd: 5}}\n")
    assert any("declares no such tenant" in each.found for each in seen("declarations") if each.level == "error")


def test_the_budget_of_a_tenant_that_has_no_collection_yet_is_no_mistake(project: Project) -> None:
    project.home.operations.write_text("tenants:\n  legal: {budget: {limit_usd: 5}}\n")
    assert "error" not in levels(seen("declarations"))
    done = CliRunner().invoke(app, ["budget", "show", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_the_address_of_another_kind_of_database_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_ASSETS_STATE_URL", "mysql://u:very-secret-password@h/x")
    found = one(seen("database"), "error")
    assert "of kind 'mysql'" in found.found
    assert "very-secret" not in str(found)


# The state store in SQLite


def test_a_store_of_an_older_version_is_told_and_not_upgraded(project: Project) -> None:
    url = project.home.state_url
    StateStore(url).close()
    with sa.create_engine(url).begin() as connection:
        connection.exec_driver_sql("DELETE FROM schema_migrations WHERE name = "
                                   "(SELECT max(name) FROM schema_migrations)")  # fmt: skip
    for _ in range(2):
        assert "1 upgrade(s) are due" in one(seen("database"), "note").found


def test_a_store_of_a_newer_version_is_told(project: Project) -> None:
    url = project.home.state_url
    StateStore(url).close()
    with sa.create_engine(url).begin() as connection:
        connection.exec_driver_sql("INSERT INTO schema_migrations VALUES ('m999_next', 'now')")
    assert "written by a newer version" in one(seen("database"), "error").found


def test_what_is_no_database_is_told(project: Project) -> None:
    (project.home.root / "state.db").write_bytes(b"x" * 5000)
    assert "not a database" in one(seen("database"), "error").found


def test_a_server_that_says_nothing_is_given_up_and_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as address:
        host = address.removeprefix("http://")
        monkeypatch.setenv("AI_ASSETS_STATE_URL", f"postgresql://u:very-secret-password@{host}/x?connect_timeout=2")
        found = one(seen("database"), "error")
    assert "does not answer in time" in found.found
    assert "very-secret" not in str(found)


def test_a_server_that_is_not_there_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as address:
        monkeypatch.setenv("AI_ASSETS_STATE_URL", f"postgresql://u:p@{address.removeprefix('http://')}/x")
        assert "nothing answers at that host and port" in one(seen("database"), "error").found


# Endpoints and money


def test_an_endpoint_without_its_key_or_without_anybody_there_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAR_KEY", raising=False)
    declare_models(project, key="FAR_KEY")
    assert "FAR_KEY" in one(seen("endpoints"), "warning").found
    monkeypatch.setenv("FAR_KEY", SECRET)
    with closed_port() as address:
        declare_models(project, key="FAR_KEY", base_url=address)
        found = one(seen("endpoints"), "warning")
    assert "refuses the connection" in found.found
    assert "start the server" in found.fix
    assert SECRET not in str(found)


def token(claims: object, header: object) -> str:
    parts = (json.dumps(each).encode() for each in (header, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), SECRET])


@pytest.mark.parametrize(
    ("claims", "level", "said"),
    [
        ({"exp": time.time() - 60}, "error", "it expired at 20"),
        ({"exp": time.time() + 3.5 * 86_400}, "warning", "it expires in 3 day(s), at 20"),
        ({"exp": time.time() + 40 * 86_400}, "ok", "it holds until 20"),
        ({"exp": 1e30}, None, ""),
        ({"exp": "soon"}, None, ""),
        ({}, None, ""),
        ([], None, ""),
    ],
)
def test_a_key_that_is_a_jwt_tells_its_end_and_is_not_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch, claims: object, level: str | None, said: str
) -> None:
    key = token(claims, {"alg": "RS256", "typ": "JWT"})
    monkeypatch.setenv("FAR_KEY", key)
    declare_models(project, key="FAR_KEY")
    found = seen("endpoints")
    of_key = [each for each in found if each.looked_at == "key FAR_KEY (a JWT)"]
    assert [each.level for each in of_key] == ([level] if level else [])
    assert said in "".join(each.found for each in of_key)
    assert not [part for part in key.split(".") if part in str(found)]
    monkeypatch.setenv("FAR_KEY", token(claims, {"kind": "of our own"}))
    assert not [each for each in seen("endpoints") if "JWT" in each.looked_at]


@contextmanager
def tls_server(folder: Path, days: float) -> Iterator[tuple[str, str]]:
    """Ends every connection after the handshake. Its address, and its certificate, which nobody else vouches for."""
    folder.mkdir()
    certificate, key = write_certificate(folder, days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    taken, _ = server.accept()
                except OSError:
                    return
                with taken, suppress(OSError), context.wrap_socket(taken, server_side=True):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.getsockname()[1]}/v1", certificate.read_text()
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_certificates_that_end_soon_have_ended_or_are_not_believed_are_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(seen("certificates"), "ok").found == "nothing that is declared is reached by TLS"
    with ExitStack() as running:
        days = {"later": 40, "soon": 3.5, "ended": -1, "stranger": 40}
        made = {name: running.enter_context(tls_server(tmp_path / name, each)) for name, each in days.items()}
        silent = running.enter_context(black_hole()).replace("http:", "https:")
        away = running.enter_context(closed_port()).replace("http:", "https:")
        believed = tmp_path / "believed.pem"
        believed.write_text("".join(made[name][1] for name in ("later", "soon", "ended")))
        monkeypatch.setenv("SSL_CERT_FILE", str(believed))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(believed))
        store = made["soon"][0].removesuffix("/v1")
        monkeypatch.setenv("AI_ASSETS_DATA_URL", f"s3://bucket/prefix?endpoint_override={store}")
        addresses = {**{name: address for name, (address, _) in made.items()}, "silent": silent, "away": away}
        endpoints = {name: {"base_url": url, "model": "m", "free": True} for name, url in addresses.items()}
        endpoints["plain"] = {"base_url": "http://127.0.0.1:9", "model": "m", "free": True}
        (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": endpoints}))
        found = {each.looked_at.rpartition("(")[2].rstrip(")"): each for each in seen("certificates", 6.0)}
    told = {name: (each.level, each.found) for name, each in found.items()}
    assert told.keys() == {*(f"endpoint {name}" for name in addresses), "bucket"}
    assert told["endpoint later"][0] == "ok"
    assert told["endpoint later"][1].startswith("it holds until 20")
    for name in ("endpoint soon", "bucket"):
        assert told[name][0] == "warning"
        assert told[name][1].startswith("it expires in 3 day(s), at 20")
    assert told["endpoint ended"] == ("error", "it is not accepted: certificate has expired")
    assert "renewed" in found["endpoint ended"].fix
    assert told["endpoint stranger"][0] == "error"
    assert "self-signed certificate" in told["endpoint stranger"][1].replace("self signed", "self-signed")
    assert "SSL_CERT_FILE" in found["endpoint stranger"].fix
    assert told["endpoint silent"][0] == "note"
    assert "timed out" in told["endpoint silent"][1]
    assert told["endpoint away"][0] == "note"


def test_an_endpoint_that_a_collection_may_ask_is_an_error_where_another_is_a_warning(project: Project) -> None:
    with closed_port() as address:
        declare_models(project, base_url=address)
        assert levels(seen("endpoints")) == {"warning"}
        project.declare(stages=[{"name": "summary", "kind": "summarise", "route": "far"}])
        assert levels(seen("endpoints")) == {"error"}


def test_an_endpoint_without_a_price_is_told(project: Project) -> None:
    declare_models(project, free=False)
    found = one(seen("endpoints"), "warning")
    assert "price" in found.found


def test_a_budget_that_is_used_up_is_told_with_the_command_that_raises_it(project: Project) -> None:
    declared = {
        "endpoints": {"far": {"base_url": "http://127.0.0.1:9", "model": "m", "free": True}},
        "budgets": [{"name": "all", "limit_usd": 1, "per": "month"}, {"name": "ever", "limit_usd": 10}],
    }
    (project.root / "inference.yaml").write_text(yaml.safe_dump(declared))
    month = datetime.datetime.now(datetime.UTC).strftime("%Y-%m")
    with project.stores().state.write() as connection:
        for row, name, spent in ((f"all/{month}", "all", 10**9), ("ever/ever", "ever", 9 * 10**9)):
            connection.execute(
                sa.text("INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd) "
                        "VALUES (:row, :name, 1000000000, :spent, 0, 0)"),
                {"row": row, "name": name, "spent": spent},
            )  # fmt: skip
    found = seen("budgets")
    assert "all of $1.00 is used" in one(found, "error").found
    assert "ai-assets budget set all" in one(found, "error").fix
    assert "90 % of $10.00 is used" in one(found, "warning").found


@dataclass(frozen=True, kw_only=True)
class OldBatch:
    id: str
    collection: str = "notes"
    endpoint: str = "far"
    made_h: float = 0.5
    """Hours ago."""
    expires_h: float | None = None
    """Hours from now."""
    message: str = ""
    level: str = "warning"
    found: str
    fix: str = (
        "ai-assets batches cancel {job} stops it; where that does not end it, ai-assets batches give-up {job} ends"
    )


OLD_BATCHES = (
    OldBatch(
        id="endpoint", endpoint="near", level="error", found="its endpoint 'near' is not in inference.yaml",
        fix="Declare the endpoint again as it was until the batch has ended; or ai-assets batches give-up {job} ends",
    ),
    OldBatch(id="collection", collection="letters", found="its collection 'letters' is gone"),
    OldBatch(id="expired", made_h=25, expires_h=-1, found="and is not known to have ended"),
    OldBatch(id="old", made_h=49, found="more than two days ago, and is still submitted"),
    OldBatch(
        id="waits", made_h=1.5, message="waits: HTTP 400", found="it has waited for more than an hour: waits: HTTP 400"
    ),
    OldBatch(id="on its way", made_h=23, expires_h=1, level="ok", found="1 is on the way", fix=""),
    OldBatch(id="waits since now", message="waits: HTTP 400", level="ok", found="1 is on the way", fix=""),
)  # fmt: skip


@pytest.mark.parametrize("old", OLD_BATCHES, ids=lambda each: each.id)
def test_a_batch_that_nobody_reads_or_that_does_not_end_is_told(project: Project, old: OldBatch) -> None:
    declared = {"endpoints": {"far": {"base_url": "http://127.0.0.1:9", "model": "m", "free": True}}}
    (project.root / "inference.yaml").write_text(yaml.safe_dump(declared))
    project.declare()
    at = datetime.datetime.now(datetime.UTC)

    def hours(number: float) -> str:
        return (at + datetime.timedelta(hours=number)).isoformat(timespec="milliseconds")

    price = TokenPrice.model_validate({"from": "2026-01-01", "input": 1})
    with project.stores().state.write() as connection:
        job = jobs.new(
            connection, endpoint=old.endpoint, kind="chat", collection=old.collection, run_id="run", price=price
        )
        expires = None if old.expires_h is None else hours(old.expires_h)
        jobs.change(
            connection, job, state="submitted", message=old.message, expires_at=expires,
            made_at=hours(-old.made_h), submitted_at=hours(-old.made_h),
        )  # fmt: skip
    (found,) = seen("batches")
    assert (found.level, old.found in found.found) == (old.level, True)
    assert old.fix.format(job=job.job_id) in found.fix


def test_a_tenant_sees_its_own_budget_and_collections_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    tenants = {"legal": {"budget": {"limit_usd": 1}}, "claims": {"budget": {"limit_usd": 1}}}
    project.home.operations.write_text(yaml.safe_dump({"tenants": tenants}))
    project.declare("contracts", tenant="legal")
    project.declare("injuries", tenant="claims")
    with project.stores().state.write() as connection:
        for name in tenants:
            connection.execute(
                sa.text("INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd) "
                        "VALUES (:row, :name, 1000000000, 1000000000, 0, 0)"),
                {"row": f"tenant-{name}/ever", "name": f"tenant-{name}"},
            )  # fmt: skip
    assert len([each for each in seen("budgets") if each.level == "error"]) == 2
    monkeypatch.setenv("AI_ASSETS_TENANT", "legal")
    assert one(seen("budgets"), "error").looked_at == "budget tenant-legal"
    for check in CHECKS:
        if check.name != "code":
            told = str(seen(check.name))
            assert "claims" not in told, check.name
            assert "injuries" not in told, check.name


# What starts runs


def test_a_sensor_whose_last_tick_failed_is_told_until_one_succeeds(project: Project) -> None:
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import TickData, TickStatus
    from dagster._utils.error import SerializableErrorInfo

    def tick(opened: dg.DagsterInstance, status: TickStatus, said: str | None) -> None:
        error = (
            SerializableErrorInfo(message=f"ValueError: {said}\n", stack=[], cls_name="ValueError") if said else None
        )
        opened.create_tick(TickData(instigator_origin_id="o", instigator_name="publication", status=status,
                                    instigator_type=InstigatorType.SENSOR, timestamp=time.time(), error=error,
                                    selector_id="s", run_ids=[]))  # fmt: skip

    project.declare()
    with project.instance() as opened:
        tick(opened, TickStatus.FAILURE, "no such release")
        found = one(seen("daemon"), "warning")
        assert found.looked_at == "sensor or schedule publication"
        assert "its last tick failed: ValueError: no such release" in found.found
        tick(opened, TickStatus.SUCCESS, None)
        assert "warning" not in levels(seen("daemon"))


def test_tables_of_an_older_or_newer_dagster_are_told_with_what_brings_them_up_to_date(project: Project) -> None:
    with project.instance():
        assert levels(seen("dagster")) == {"ok"}
    runs = project.home.dagster / "history" / "runs.db"
    with closing(sqlite3.connect(runs)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '7e2f3204cf8e'")
        connection.commit()
        before = one(seen("dagster"), "warning")
        connection.execute("UPDATE alembic_version SET version_num = 'cafe00000000'")
        connection.commit()
    assert before.looked_at == f"Dagster's tables in {runs}"
    assert "an older Dagster made them: 2 of its migrations are due (revision 7e2f3204cf8e, head " in before.found
    assert before.fix.endswith(f"then: DAGSTER_HOME={project.home.dagster} dagster instance migrate")
    assert "a newer Dagster has changed them (revision cafe00000000" in one(seen("dagster"), "warning").found
    runs.write_text("no database")
    assert levels(seen("dagster")) == {"ok"}


def test_an_up_that_ended_is_told_and_one_whose_pages_do_not_answer_too(project: Project) -> None:
    lock = project.home.root / "up.lock"
    assert "it has not run here" in one(seen("daemon"), "note").found
    lock.write_text(f"{identity().replace(str(os.getpid()), '999999', 1)}\nhttp://127.0.0.1:9\n")
    assert "it does not run" in one(seen("daemon"), "note").found
    with closed_port() as address:
        lock.write_text(f"{identity()}\n{address.removesuffix('/v1')}\n")
        assert "does not answer" in one(seen("daemon"), "error").found


# What hangs, what breaks


def test_a_check_that_hangs_or_breaks_is_one_finding_and_holds_up_nothing(project: Project) -> None:
    held = threading.Event()

    def hangs(_at: Installation) -> Iterator[Finding]:
        held.wait(60)
        yield fine("late", "late")

    def breaks(_at: Installation) -> Iterator[Finding]:
        yield fine("first", "fine")
        raise RuntimeError(f"an odd library says {os.environ['ODD_TOKEN']}")

    os.environ["ODD_TOKEN"] = SECRET
    checks = [
        HealthCheck(name="hangs", title="what hangs", look=hangs),
        HealthCheck(name="breaks", title="what breaks", look=breaks),
        HealthCheck(name="fine", title="what is fine", look=lambda _at: [fine("it", "well")]),
    ]
    try:
        found = {each.check.name: each for each in examined(checks, Installation(home=project.home, timeout_s=1))}
    finally:
        held.set()
        del os.environ["ODD_TOKEN"]
    assert found["hangs"].late
    assert "no answer within 1 s" in found["hangs"].findings[0].found
    assert "RuntimeError" in found["breaks"].findings[0].found
    assert SECRET not in str(found)
    assert levels(list(found["fine"].findings)) == {"ok"}


@pytest.mark.parametrize(("seconds", "level"), [(0.5, "ok"), (-3.5, "warning"), (90, "error"), (-90, "error")])
def test_clocks_that_differ_are_told(seconds: float, level: str) -> None:
    (found,) = skew("the database", seconds, 0.1)
    assert found.level == level


# The command


def test_the_command_prints_findings_with_remedies_and_its_code_says_whether_something_is_wrong(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = tuple(check for check in CHECKS if check.name != "code")
    monkeypatch.setattr("ai_assets.doctor.checks.CHECKS", quick)
    project.declare()
    done = CliRunner().invoke(app, ["doctor", "--json", "--timeout-s", "60"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0, found
    assert found["well"]
    assert {each["check"] for each in found["findings"]} == {check.name for check in quick}
    project.home.operations.write_text("nonsense: 1\n")
    done = CliRunner().invoke(app, ["doctor", "--timeout-s", "60"])
    assert done.exit_code == 1
    assert "unknown key 'nonsense'" in done.stdout
    assert "Correct it there" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 error, ")  # one mistake, however much needs the file
    project.home.operations.write_text("environment: server\n")
    done = CliRunner().invoke(app, ["doctor", "--timeout-s", "60"])
    assert done.stdout.count("AI_ASSETS_STATE_URL does not say where") == 1, done.stdout
    assert "the same as of environment (see above)" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 error, ")


@pytest.mark.slow
def test_the_code_is_loaded_in_a_home_of_its_own_and_why_it_does_not_load_is_told(project: Project) -> None:
    project.declare()
    before = tree(project.home.root)
    found = project.cli("doctor", "--json", "--timeout-s", "60")
    assert found.returncode == 0, found.stdout + found.stderr
    code = next(each for each in json.loads(found.stdout)["findings"] if each["check"] == "code")
    assert code["found"] == "it loads, with 1 collection(s)"
    assert tree(project.home.root) == before
    (project.root / "definitions.py").write_text("raise ValueError('half of an edit')\n")
    found = project.cli("doctor", "--json", "--timeout-s", "60")
    assert found.returncode == 1
    code = next(each for each in json.loads(found.stdout)["findings"] if each["check"] == "code")
    assert "half of an edit" in code["found"]


@pytest.mark.slow
def test_a_command_whose_check_hangs_ends(project: Project) -> None:
    project.declare()
    with black_hole() as address:
        declare_models(project, base_url=address, key="FAR_KEY")
        url = f"postgresql://u:p@{address.removeprefix('http://')}/x?connect_timeout=600"
        found = project.cli("doctor", "--json", "--timeout-s", "3", AI_ASSETS_STATE_URL=url, FAR_KEY=SECRET)
    assert found.returncode == 1
    told = json.loads(found.stdout)["findings"]
    assert any(each["check"] == "database" and "no answer within 3 s" in each["found"] for each in told)
    assert SECRET not in found.stdout + found.stderr
