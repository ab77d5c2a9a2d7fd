"""Claims about witnesses: each gets the newest checkpoint, a failure is shown and tried again, and what a witness holds
shows that a chain was cut, rewritten or put back."""

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from chains import a_note, execute, forged, record, with_checkpoints
from conftest import Project, eventually
from s3_server import s3_server

from ai_assets.base.extras import ExtraMissing
from ai_assets.base.home import Home
from ai_assets.desk.settings import DeskInvalid, load_desk
from ai_assets.signoff import checkpoints, witnesses
from ai_assets.signoff.against import compare, ours_at
from ai_assets.signoff.audit_errors import (
    ChainRewritten,
    ChainRolledBack,
    CheckpointUntrusted,
    NoCheckpointThere,
    WitnessFailed,
)
from ai_assets.signoff.signed_note import SignedNote
from ai_assets.signoff.witness_kinds import WitnessContext, file_name, give
from ai_assets.signoff.witness_settings import WitnessSettings
from ai_assets.signoff.witnesses import WitnessStatus, deliver
from ai_assets.storage.stores import Stores

TWO = "checkpoints: {{witnesses: [{{file: {}/held}}, {{git: nowhere}}]}}\n"
MOMENT = "2026-11-27T10:00:00.000+00:00"
SECRET = "T0kenOfTheTeam"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def local(project: Project) -> Stores:
    found = project.stores()
    record(found, 4)
    checkpoints.make(found)
    return found


def witness(**declared: Any) -> WitnessSettings:
    return WitnessSettings.model_validate(declared)


def around(stores: Stores, **channels: str) -> WitnessContext:
    return WitnessContext(project=stores.home.project, channels=channels)


def newest(stores: Stores) -> SignedNote:
    return checkpoints.make(stores).note


def standing(stores: Stores, *declared: WitnessSettings) -> list[WitnessStatus]:
    with stores.state.read() as connection:
        return witnesses.standings(connection, declared)


# Every kind


@pytest.mark.parametrize("path", ["notes.txt", "deep/in/notes.txt", "folder/"])
def test_a_file_elsewhere_holds_every_note_once(local: Stores, tmp_path: Path, path: str) -> None:
    place = witness(file=str(tmp_path / path) + ("/" if path.endswith("/") else ""))
    notes = []
    for _ in range(3):
        record(local)
        notes.append(newest(local))
        receipts = [give(place, notes[-1], around(local)) for _ in range(2)]
        assert receipts[0] == receipts[1]
    found = compare(local, str(tmp_path / path))
    assert (found.notes, found.newest, found.records, found.lost) == (3, 7, 7, ())


def test_a_relative_file_lies_beside_desk_yaml(local: Stores) -> None:
    give(witness(file="held/notes"), newest(local), around(local))
    assert (local.home.project / "held" / "notes").is_file()


def test_a_folder_that_holds_another_note_of_as_many_records_is_a_failure(local: Stores, tmp_path: Path) -> None:
    note = newest(local)
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / file_name(note)).write_text("another")
    with pytest.raises(WitnessFailed, match="holds another note of as many records"):
        give(witness(file=str(tmp_path / "held")), note, around(local))
    assert [path.name for path in (tmp_path / "held").iterdir()] == [file_name(note)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A real server that speaks S3, with a bucket that has Object Lock and one that has not."""
    with s3_server("locked", "plain", locked="locked") as url:
        yield url


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("credentials")
def test_an_object_is_locked_and_read_back(local: Stores, bucket: str) -> None:
    import boto3

    address = f"s3://locked/audit?endpoint_override={bucket}&region=us-east-1"
    place, note = witness(s3=address, lock_days=30), newest(local)
    receipts = [give(place, note, around(local)) for _ in range(2)]
    assert receipts[0].startswith(f"s3://locked/audit/{file_name(note)}, version ")
    assert receipts[0] == receipts[1]
    client = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1")
    held = client.head_object(Bucket="locked", Key=f"audit/{file_name(note)}")
    assert held["ObjectLockMode"] == "COMPLIANCE"
    found = compare(local, address)
    assert (found.notes, found.newest, found.place) == (1, note.size, "s3://locked/audit")


@pytest.mark.usefixtures("credentials")
def test_an_object_that_was_overwritten_with_another_is_a_failure(local: Stores, bucket: str) -> None:
    import boto3

    note = newest(local)
    place = witness(s3=f"s3://plain/audit?endpoint_override={bucket}&region=us-east-1")
    client = boto3.client("s3", endpoint_url=bucket, region_name="us-east-1")
    client.put_object(Bucket="plain", Key=f"audit/{file_name(note)}", Body=b"another")
    with pytest.raises(WitnessFailed, match="holds another note"):
        give(place, note, around(local))


@pytest.mark.usefixtures("credentials")
def test_a_store_that_refuses_is_said_without_secrets(local: Stores, bucket: str) -> None:
    cases = {
        f"s3://nowhere/a?endpoint_override={bucket}&region=us-east-1": "NoSuchBucket",
        "s3://plain/a?endpoint_override=http://127.0.0.1:9&region=us-east-1": "connect",
    }
    for address, says in cases.items():
        with pytest.raises(WitnessFailed, match=says) as refused:
            give(witness(s3=address), newest(local), around(local))
        assert SECRET not in str(refused.value)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_repository_gets_a_commit_per_note_and_what_is_staged_there_stays(local: Stores, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "held")
    here = tmp_path / "held"
    (here / "own.txt").write_text("not yours")
    git(here, "add", "own.txt")
    receipts = [give(witness(git=str(here)), newest(local), around(local)) for _ in range(2)]
    assert receipts[0] == receipts[1] == f"commit {git(here, 'rev-parse', 'HEAD').strip()}"
    assert git(here, "show", "--name-only", "--format=", "HEAD").split() == [f"checkpoints/{file_name(newest(local))}"]
    assert git(here, "status", "--porcelain") == "A  own.txt\n"
    assert compare(local, str(here)).notes == 1


@pytest.mark.parametrize("how", ["bare", "address", "with a remote"])
def test_a_repository_elsewhere_is_pushed_to(local: Stores, tmp_path: Path, how: str) -> None:
    git(tmp_path, "init", "-q", "--bare", "held.git")
    place = str(tmp_path / "held.git")
    if how == "address":
        place = (tmp_path / "held.git").as_uri()
    elif how == "with a remote":
        git(tmp_path, "clone", "-q", str(tmp_path / "held.git"), "work")
        place = str(tmp_path / "work")
    for _ in range(2):
        record(local)
        give(witness(git=place), newest(local), around(local))
    assert git(tmp_path / "held.git", "log", "--all", "--format=%s").count("Checkpoint of ai-assets/") == 2
    address = str(tmp_path / "held.git") if how == "bare" else (tmp_path / "held.git").as_uri()
    assert compare(local, address).notes == 2


def test_a_note_that_was_removed_by_a_later_commit_is_found(local: Stores, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "held")
    give(witness(git=str(tmp_path / "held")), newest(local), around(local))
    git(tmp_path / "held", "rm", "-q", "-r", "checkpoints")
    git(tmp_path / "held", "commit", "-q", "-m", "away with it")
    assert compare(local, str(tmp_path / "held")).notes == 1


def test_a_repository_that_cannot_be_reached_is_said_without_its_password(local: Stores) -> None:
    place = witness(git=f"http://ann:{SECRET}@127.0.0.1:9/audit.git")
    assert place.name == "git http://127.0.0.1:9/audit.git"
    with pytest.raises(WitnessFailed, match="git clone") as refused:
        give(place, newest(local), around(local))
    assert SECRET not in str(refused.value)


@dataclass
class Web:
    """A server that remembers what it was sent and answers with what it is told to."""

    port: int = 0
    got: list[bytes] = field(default_factory=list)
    status: int = 200
    answer: Callable[[bytes], bytes] = lambda _body: b""
    may_answer: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving() -> Iterator[Web]:
    found = Web()
    found.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(body)
            found.may_answer.wait(60)
            self.send_response(found.status)
            self.end_headers()
            self.wfile.write(found.answer(body))

        def log_message(self, *_said: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield found
    finally:
        found.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


def test_a_message_holds_the_note_and_a_file_with_the_message_verifies(
    local: Stores, web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEAM_URL", f"json://127.0.0.1:{web.port}/{SECRET}")
    place = witness(channel="team")
    assert give(place, newest(local), around(local, team="TEAM_URL")) == "sent"
    message = json.loads(web.got[0])["message"]
    (tmp_path / "mail.txt").write_text(f"From: desk\n\n{message}\n\n-- \nsent by us")
    assert compare(local, str(tmp_path / "mail.txt")).newest == newest(local).size
    web.status = 500
    with pytest.raises(WitnessFailed) as refused:
        give(place, newest(local), around(local, team="TEAM_URL"))
    assert SECRET not in str(refused.value)
    monkeypatch.delenv("TEAM_URL")
    with pytest.raises(WitnessFailed, match="the environment variable TEAM_URL"):
        give(place, newest(local), around(local, team="TEAM_URL"))


@dataclass(frozen=True)
class Authority:
    """A time stamp authority of openssl, with a root of its own."""

    folder: Path

    def stamped(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        self.run("ts", "-reply", "-queryfile", "query", "-config", "tsa.cnf", "-section", "tsa", "-out", "answer")
        return (self.folder / "answer").read_bytes()

    def run(self, *arguments: str) -> str:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    found = Authority(tmp_path_factory.mktemp("tsa"))
    (found.folder / "serial").write_text("01\n")
    (found.folder / "tsa.cnf").write_text(
        "[tsa]\ndir=.\nserial=serial\ncrypto_device=builtin\nsigner_cert=tsa.pem\nsigner_key=tsa.key\n"
        "signer_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256,sha512\naccuracy=secs:1\nordering=no\n"
        "tsa_name=no\ness_cert_id_chain=no\ness_cert_id_alg=sha256\n"
    )
    (found.folder / "ext").write_text("extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n")
    for name in ("root", "other"):
        found.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", f"/CN={name}",
                  "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    found.run("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tsa", "-keyout", "tsa.key", "-out", "tsa.csr")
    found.run("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
              "-days", "9", "-extfile", "ext", "-out", "tsa.pem")  # fmt: skip
    return found


def test_an_authority_stamps_the_note_and_openssl_agrees(local: Stores, web: Web, authority: Authority) -> None:
    web.answer = authority.stamped
    place = witness(timestamp=f"http://127.0.0.1:{web.port}/tsr", certificates=str(authority.folder / "root.pem"))
    done = deliver(local, [place], {}, MOMENT)
    assert (done.sent, done.failed) == (1, 0), standing(local, place)
    (stamp,) = local.home.checkpoints.glob("*.tsr")
    note = next(local.home.checkpoints.glob("*.note"))
    assert stamp.name.startswith(note.stem)
    said = authority.run("ts", "-verify", "-data", str(note), "-in", str(stamp), "-CAfile", "root.pem",
                         "-untrusted", "tsa.pem")  # fmt: skip
    assert "Verification: OK" in said
    receipt = json.loads(standing(local, place)[0].receipt or "")
    assert base64.b64decode(receipt["answer"]) == stamp.read_bytes()


def test_a_stamp_that_is_not_ours_is_refused(local: Stores, web: Web, authority: Authority) -> None:
    from rfc3161_client import TimestampRequestBuilder

    url = f"http://127.0.0.1:{web.port}/tsr"
    another = authority.stamped(TimestampRequestBuilder().data(b"another").build().as_bytes())
    cases: list[tuple[Callable[[bytes], bytes], str, str]] = [
        (lambda _query: another, "root.pem", "its answer is to another question"),
        (lambda _query: b"hello", "root.pem", "does not verify"),
        (authority.stamped, "other.pem", "does not verify"),
    ]
    for answer, root, says in cases:
        web.answer = answer
        with pytest.raises(WitnessFailed, match=says):
            give(witness(timestamp=url, certificates=str(authority.folder / root)), newest(local), around(local))
    web.status = 503
    with pytest.raises(WitnessFailed, match="it answered 503"):
        give(witness(timestamp=url), newest(local), around(local))
    with pytest.raises(WitnessFailed, match="cannot be reached"):
        give(witness(timestamp="http://127.0.0.1:9/"), newest(local), around(local))


EXTRAS = [("s3", {"s3": "s3://b/p"}, "boto3"), ("timestamps", {"timestamp": "https://t"}, "rfc3161_client")]


@pytest.mark.parametrize(("extra", "declared", "module"), EXTRAS, ids=[extra[0] for extra in EXTRAS])
def test_a_missing_package_is_named_with_its_extra(
    local: Stores, monkeypatch: pytest.MonkeyPatch, extra: str, declared: dict[str, str], module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExtraMissing, match=rf"pip install 'ai-assets\[{extra}\]'"):
        give(witness(**declared), newest(local), around(local))


# Trying again


def test_the_newest_is_given_once_and_a_failure_waits_longer_each_time(local: Stores, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    good, bad = witness(file=str(tmp_path / "good")), witness(file=f"{blocked}/")
    at = ["2026-11-27T10:00:00.000+00:00", "2026-11-27T10:00:30.000+00:00", "2026-11-27T10:01:00.000+00:00",
          "2026-11-27T10:02:00.000+00:00", "2026-11-27T10:03:00.000+00:00"]  # fmt: skip
    assert [deliver(local, [good, bad], {}, moment).failed for moment in at] == [1, 0, 1, 0, 1]
    found = standing(local, good, bad)
    assert (found[0].size, found[0].error) == (4, None)
    assert (found[1].size, found[1].attempts, found[1].next_try_at) == (None, 3, "2026-11-27T10:07:00.000+00:00")
    assert str(blocked) in (found[1].error or "")
    record(local)
    checkpoints.make(local)  # a newer one does not begin the count again
    assert deliver(local, [good, bad], {}, at[-1]).failed == 0
    assert deliver(local, [good, bad], {}, at[-1], at_once=True).failed == 1
    assert standing(local, bad)[0].attempts == 4
    blocked.unlink()
    assert deliver(local, [good, bad], {}, "2026-11-27T12:00:00.000+00:00").sent == 1
    assert [one.size for one in standing(local, good, bad)] == [5, 5]
    assert [one.error for one in standing(local, good, bad)] == [None, None]


def test_a_clock_that_was_set_back_puts_nothing_off(local: Stores, tmp_path: Path) -> None:
    place = witness(file=f"{tmp_path / 'x'}/")
    (tmp_path / "x").write_text("")
    deliver(local, [place], {}, "2027-11-27T10:00:00.000+00:00")
    assert deliver(local, [place], {}, MOMENT).failed == 1


def test_a_slow_witness_holds_up_nobody(local: Stores, web: Web, tmp_path: Path, authority: Authority) -> None:
    web.may_answer.clear()
    web.answer = authority.stamped
    slow, good = witness(timestamp=f"http://127.0.0.1:{web.port}/"), witness(file=str(tmp_path / "good"))
    first = deliver(local, [slow, good], {}, MOMENT, budget_s=0.5)
    assert (first.sent, first.under_way) == (1, 1)
    assert deliver(local, [slow, good], {}, MOMENT, budget_s=0.1).under_way == 1
    assert len(web.got) == 1
    web.may_answer.set()
    eventually(lambda: deliver(local, [slow, good], {}, MOMENT, budget_s=1).sent == 1)
    assert [one.size for one in standing(local, slow, good)] == [4, 4]


def test_the_sensor_makes_and_gives_and_says_so(project: Project, tmp_path: Path) -> None:
    from ai_assets.orchestration.automation import deadlines

    stores = project.stores()
    record(stores, 3)
    (project.root / "desk.yaml").write_text(TWO.format(tmp_path))

    def tick(opened: dg.DagsterInstance) -> str:
        with dg.build_sensor_context(instance=opened) as context:
            found = deadlines([])(context)
        assert isinstance(found, dg.SkipReason)
        return found.skip_message or ""

    with project.instance() as opened:
        assert tick(opened).endswith("checkpoint of 3 audit records; given to 1 witness; 1 witness to try again")
        assert tick(opened) == "0 steps taken; 0 messages sent"
        record(stores)
        assert tick(opened) == "0 steps taken; 0 messages sent"  # the last one is young
        execute(
            stores, "DELETE FROM audit WHERE seq > 2", "UPDATE checkpoints SET made_at = '2020-01-01T00:00:00+00:00'"
        )
        assert "no checkpoint was made: The state store holds 2 audit records" in tick(opened)


# Against


def test_nothing_is_proved_by_a_place_without_checkpoints_of_this_chain(local: Stores, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoCheckpointThere, match="none at all"):
        compare(local, str(tmp_path / "empty"))
    with pytest.raises(WitnessFailed, match="no such file or folder"):
        compare(local, str(tmp_path / "missing"))
    other = Project(root=tmp_path, home=Home(root=tmp_path / "other", project=tmp_path).ensure()).stores()
    record(other)
    give(witness(file=str(tmp_path / "held")), newest(other), around(other))
    with pytest.raises(NoCheckpointThere, match="only of ai-assets/"):
        compare(local, str(tmp_path / "held"))
    give(witness(file=str(tmp_path / "held")), newest(local), around(local))
    found = compare(local, str(tmp_path / "held"))
    assert (found.notes, found.others) == (1, 1)


def held_by(stores: Stores, place: Path) -> str:
    """A witness that has every checkpoint of the store; what the home itself keeps is gone."""
    for held in checkpoints.kept_notes(stores.home.checkpoints):
        give(witness(file=str(place)), held.note, around(stores))
    shutil.rmtree(stores.home.checkpoints)
    return str(place)


def test_a_witness_shows_what_was_done_even_where_the_files_of_the_home_are_gone(
    project: Project, tmp_path: Path
) -> None:
    chain = with_checkpoints(project.stores())
    place = held_by(chain, tmp_path / "held")
    assert compare(chain, place).notes == 3
    execute(chain, "DELETE FROM audit WHERE seq > 8")
    with pytest.raises(ChainRolledBack, match=rf"holds 8 audit records.*{place}.*of 9: record 9 was cut off"):
        compare(chain, place)
    forged(chain, 6, actor="eve")
    with pytest.raises(ChainRewritten, match="among records 5 to 7"):
        compare(chain, place)


def test_a_note_that_somebody_else_signed_is_not_taken_for_ours(local: Stores, tmp_path: Path) -> None:
    (tmp_path / "held").write_text(a_note(3, newest(local).origin).text)
    with pytest.raises(CheckpointUntrusted, match="nobody vouches for that key"):
        compare(local, str(tmp_path / "held"))


def test_a_restore_on_purpose_explains_what_a_witness_has_more_and_nothing_else_does(
    project: Project, local: Stores, tmp_path: Path
) -> None:
    older = tmp_path / "older.db"
    with closing(sqlite3.connect(project.home.root / "state.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(older)])
    record(local, 3)
    place = tmp_path / "held"
    give(witness(file=str(place)), newest(local), around(local))
    local.state.close()
    for path in project.home.root.glob("state.db*"):
        path.unlink()
    shutil.move(older, project.home.root / "state.db")
    restored = project.stores()
    with pytest.raises(ChainRolledBack):
        compare(restored, str(place))
    checkpoints.accept_restored(restored, by="ann", reason="a broken disk")
    record(restored, 5)
    found = compare(restored, str(place))
    assert [(size, why.endswith("a broken disk")) for size, why in found.lost] == [(7, True)]
    with restored.state.write() as connection:  # the record is believed by its signature, not by what it says
        connection.execute(sa.text("UPDATE audit SET signature = NULL, key_id = NULL WHERE action = 'restored'"))
    with pytest.raises(Exception, match="not signed"):
        compare(restored, str(place))


def test_a_restore_on_another_machine_is_explained_by_what_a_witness_knows(
    project: Project, local: Stores, tmp_path: Path
) -> None:
    """That home has no file of the records that were lost."""
    older = tmp_path / "older.db"
    with closing(sqlite3.connect(project.home.root / "state.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(older)])
    record(local, 3)
    give(witness(file=str(tmp_path / "held")), newest(local), around(local))
    strangers = a_note(99, newest(local).origin).text  # counts for nothing
    (tmp_path / "held").write_text((tmp_path / "held").read_text() + strangers)
    new = Home(root=tmp_path / "new", project=project.root).ensure()
    shutil.copytree(project.home.keys, new.keys)
    shutil.copy(older, new.root / "state.db")
    restored = Stores.at(new)
    lost = ours_at(restored, str(tmp_path / "held"))
    checkpoints.accept_restored(restored, by="ann", reason="moved", lost=lost)
    (tmp_path / "held").write_text(newest(local).text)
    assert [size for size, _ in compare(restored, str(tmp_path / "held")).lost] == [7]


# Declaring them

WRONG = [
    ("two kinds", "[{file: a, git: b}]", "declare one of file, s3, git, channel, timestamp (found: file, git)"),
    ("none", "[{}]", "(found: none)"),
    ("a lock without a bucket", "[{file: a, lock_days: 3}]", "belongs to a witness with 's3'"),
    ("certificates without an authority", "[{file: a, certificates: c.pem}]", "belongs to a witness with 'timestamp'"),
    ("credentials in the address", "[{s3: 's3://k:s@bucket/p'}]", "the credentials go into AWS_ACCESS_KEY_ID"),
    ("no address", "[{timestamp: tsa.example}]", "'tsa.example' is no web address"),
    ("the same twice", "[{file: a}, {file: a}]", "'file a' is declared twice"),
    ("an unknown channel", "[{channel: board}]", "names the channel 'board', which is not declared"),
]


@pytest.mark.parametrize(("declared", "says"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_declaration_is_refused_by_name(tmp_path: Path, declared: str, says: str) -> None:
    (tmp_path / "desk.yaml").write_text(f"checkpoints:\n  witnesses: {declared}\n")
    with pytest.raises(DeskInvalid) as refused:
        load_desk(tmp_path / "desk.yaml")
    assert says in str(refused.value)
    assert "k:s@" not in str(refused.value)


# The commands


@pytest.mark.slow
def test_the_commands_tell_a_person_all_this(project: Project, tmp_path: Path) -> None:
    stores = project.stores()
    assert "has no record yet" in project.cli("audit", "checkpoint").stderr
    record(stores, 2)
    (project.root / "desk.yaml").write_text(TWO.format(tmp_path))
    shown = project.cli("audit", "checkpoint")
    assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 5)
    assert f"file {tmp_path}/held: has it" in shown.stderr
    assert "git nowhere: has not got it. git clone" in shown.stderr
    assert "Witness git nowhere has not got the newest checkpoint" in project.cli("status").stdout
    record(stores, 2)
    asked = project.cli("audit", "checkpoint", "--since", "2").stdout.splitlines()
    assert asked[0] == "old 2"
    found = json.loads(project.cli("audit", "checkpoint", "--json").stdout)
    assert (found["size"], [one["size"] for one in found["witnesses"]]) == (4, [4, None])
    verified = project.cli("audit", "verify", "--against", f"{tmp_path}/held")
    assert "the newest of 4 records" in verified.stdout, verified.stderr
    execute(stores, "DELETE FROM audit WHERE seq > 3")
    for arguments in (("audit", "verify"), ("audit", "verify", "--against", f"{tmp_path}/held")):
        refused = project.cli(*arguments)
        assert (refused.returncode, "holds 3 audit records" in refused.stderr) == (2, True), refused.stderr
