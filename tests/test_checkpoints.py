"""Claims about checkpoints: a store that is cut, rewritten or older than its last checkpoint is refused, by name."""

import base64
import contextlib
import itertools
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from chains import a_note, execute, forged, record, with_checkpoints
from conftest import Project
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st
from pymerkle import InmemoryTree
from signing import decide

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, checkpoints, keys, verification
from ai_assets.signoff.audit_errors import (
    AuditBroken,
    ChainRewritten,
    ChainRolledBack,
    CheckpointUntrusted,
    NoteUnreadable,
    NothingRecorded,
    NothingToExtend,
    SignatureInvalid,
)
from ai_assets.signoff.merkle import consistent
from ai_assets.signoff.publication import publish
from ai_assets.signoff.signed_note import SignedNote, verifier_key
from ai_assets.storage.stores import Stores

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]


@pytest.fixture
def stores(store_url: str, tmp_path: Path) -> Stores:
    """A home with its keys, and a state store of each kind."""
    home = Home(root=tmp_path / "home", project=tmp_path, declared_state_url=store_url).ensure()
    return Stores.at(home)


@pytest.fixture
def local(project: Project) -> Stores:
    return project.stores()


def leaves(stores: Stores) -> list[bytes]:
    with stores.state.read() as connection:
        return [audit.leaf_bytes(found) for found in audit.records(connection)]


def files(stores: Stores) -> list[Path]:
    return sorted(stores.home.checkpoints.glob("*.note"))


# The note


def test_a_checkpoint_is_a_signed_note_of_the_tree_of_all_records(stores: Stores) -> None:
    record(stores, 5)
    made = checkpoints.make(stores)
    with stores.state.read() as connection:
        ring = keys.of(connection)
    theirs = InmemoryTree(algorithm="sha256")
    theirs.append_entries(leaves(stores))
    origin, size, root, empty, signed, end = made.note.text.split("\n")
    assert (origin, size, root) == (f"ai-assets/{ring.trust.chain}", "5", base64.b64encode(theirs.get_root()).decode())
    assert (empty, end) == ("", "")
    dash, name, signature = signed.split(" ")
    assert (dash, name) == ("—", origin)
    key = ring.public("recorder")
    raw = base64.b64decode(signature)
    assert raw[:4].hex() == verifier_key(origin, key).split("+")[1]
    Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], f"{origin}\n{size}\n{root}\n".encode())
    assert [path.read_text() for path in files(stores)] == [made.note.text]


def test_the_hash_of_a_key_is_that_of_the_specification() -> None:
    """The example of c2sp.org/signed-note, made by golang.org/x/mod/sumdb/note."""
    word = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text = (
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    public = base64.b64decode(word.split("+", 2)[2])[1:]
    assert verifier_key("PeterNeumann", public) == word
    note = SignedNote(origin="PeterNeumann", size=0, root=b"", text=text)
    assert note.require_signed([public]) == public


@given(place=st.integers(0, 10_000), other=st.characters(exclude_categories=("Cs",)))
@example(place=a_note().text.index("=\n"), other="A")
@example(place=a_note().text.rindex("=\n"), other="A")
@example(place=a_note().text.rindex("=\n"), other="")
def test_a_note_with_another_character_is_refused(place: int, other: str) -> None:
    note = a_note()
    place %= len(note.text)
    changed = note.text[:place] + other + note.text[place + 1 :]
    public = Ed25519PrivateKey.from_private_bytes(b"\7" * 32).public_key().public_bytes_raw()
    if changed != note.text:
        with pytest.raises((NoteUnreadable, SignatureInvalid)):
            SignedNote.read(changed).require_signed([public])


def test_notes_are_found_in_whatever_text_holds_them() -> None:
    notes = [a_note(3), a_note(12), a_note(0)]
    mail = "Keep this message.\r\n\r\n" + notes[0].text.replace("\n", "\r\n")
    assert SignedNote.all_in(mail) == notes[:1]
    assert SignedNote.all_in("\n".join(note.text for note in notes)) == notes
    assert SignedNote.all_in("nothing of the kind\n") == []
    assert SignedNote.all_in(notes[0].text.rstrip("\n")) == notes[:1]


# Making them


def test_only_new_records_make_a_new_checkpoint(stores: Stores) -> None:
    with pytest.raises(NothingRecorded):
        checkpoints.make(stores)
    record(stores, 3)
    first = checkpoints.make(stores)
    again = checkpoints.make(stores)
    assert (first.new, again.new, again.note) == (True, False, first.note)
    record(stores)
    third = checkpoints.make(stores)
    assert (third.new, third.note.size) == (True, 4)
    assert len(files(stores)) == 2
    assert checkpoints.require_whole(stores) == 2


def test_a_checkpoint_extends_the_one_before_as_a_consistency_proof_shows(stores: Stores) -> None:
    sizes = []
    for number in (1, 2, 4, 1, 6):
        record(stores, number)
        sizes.append(checkpoints.make(stores).note)
    with stores.state.read() as connection:
        for old, new in itertools.combinations(sizes, 2):
            path = [base64.b64decode(step) for step in checkpoints.extension(connection, old.size, new.size)]
            assert consistent(old.size, old.root, new.size, new.root, path)
        with pytest.raises(NothingToExtend, match=r"has 14 records"):
            checkpoints.extension(connection, 15, 14)


def test_a_checkpoint_reads_only_the_records_since_the_last(local: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    record(local, 40)
    checkpoints.make(local)
    record(local, 2)
    read: list[int] = []
    original = audit.leaf_bytes

    def counted(found: audit.Record) -> bytes:
        read.append(found.seq)
        return original(found)

    monkeypatch.setattr(audit, "leaf_bytes", counted)
    checkpoints.make(local)
    assert set(read) == {40, 41, 42}


def test_the_newest_files_are_kept_and_the_oldest_go(local: Stores) -> None:
    for _ in range(checkpoints.KEPT + 3):
        record(local)
        checkpoints.make(local)
    kept = [int(path.name.split("-")[0]) for path in files(local)]
    assert kept == list(range(4, checkpoints.KEPT + 4))
    with local.state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM checkpoints")).scalar_one() == checkpoints.KEPT + 3


def test_a_file_that_another_process_removes_meanwhile_is_no_damage(local: Stores) -> None:
    folder, done = local.home.checkpoints, threading.Event()

    def save() -> None:
        try:
            for size in range(1, 400):
                checkpoints.save(folder, a_note(size))
        finally:
            done.set()

    writer = threading.Thread(target=save)
    writer.start()
    while not done.is_set():
        checkpoints.kept_notes(folder)
    writer.join()
    assert len(checkpoints.kept_notes(folder)) == checkpoints.KEPT


def test_a_lost_file_is_written_again(local: Stores) -> None:
    record(local)
    checkpoints.make(local)
    files(local)[0].unlink()
    checkpoints.make(local)
    assert len(files(local)) == 1


def test_no_checkpoint_is_made_of_a_record_that_nobody_signed(stores: Stores) -> None:
    record(stores, 2)
    checkpoints.make(stores)
    record(stores, 1)
    execute(stores, "UPDATE audit SET signature = NULL, key_id = NULL WHERE seq = 3")
    with pytest.raises(AuditBroken, match=r"number 3.*not signed"):
        checkpoints.make(stores)


DUE = [
    ("nothing was recorded", 0, None, 60, False),
    ("there is none yet", 1, None, 60, True),
    ("the last is young", 1, "2026-11-27T10:30:00.000+00:00", 60, False),
    ("the last is old", 1, "2026-11-27T09:59:00.000+00:00", 60, True),
    ("the last is from the future", 1, "2026-11-27T19:00:00.000+00:00", 60, True),
    ("its time was overwritten", 1, "whenever", 60, True),
]


@pytest.mark.parametrize(("records", "made_at", "minutes", "due"), [d[1:] for d in DUE], ids=[d[0] for d in DUE])
def test_when_one_is_due(local: Stores, records: int, made_at: str | None, minutes: float, due: bool) -> None:
    record(local, records)
    if made_at is not None:
        checkpoints.make(local)
        record(local)
        with local.state.write() as connection:
            connection.execute(sa.text("UPDATE checkpoints SET made_at = :at"), {"at": made_at})
    with local.state.read() as connection:
        assert checkpoints.is_due(connection, minutes, "2026-11-27T11:00:00.000+00:00") is due


def test_none_is_due_while_nothing_was_recorded_since(local: Stores) -> None:
    record(local)
    checkpoints.make(local)
    with local.state.read() as connection:
        assert not checkpoints.is_due(connection, 60, "2030-01-01T00:00:00.000+00:00")


# What they are for


@dataclass(frozen=True)
class Attack:
    id: str
    does: Callable[[Stores], None]
    error: type[Exception]
    says: str


ATTACKS = [
    Attack("records cut off the end", lambda stores: execute(stores, "DELETE FROM audit WHERE seq > 6"),
           ChainRolledBack, "holds 6 audit records.*checkpoint of 9: records 7 to 9 were cut off"),
    Attack("all records gone", lambda stores: execute(stores, "DELETE FROM audit"),
           ChainRolledBack, "holds 0 audit records"),
    Attack("cut off with their checkpoints", lambda stores: execute(
        stores, "DELETE FROM audit WHERE seq > 6", "DELETE FROM checkpoints WHERE size > 6"),
           ChainRolledBack, "holds 6 audit records"),
    Attack("the last record rewritten", lambda stores: forged(stores, 9, actor="eve"),
           ChainRewritten, "among records 8 to 9 at least one is another"),
    Attack("a record between two checkpoints rewritten", lambda stores: forged(stores, 5, actor="eve"),
           ChainRewritten, "among records 5 to 7 at least one is another"),
    Attack("the first record rewritten, and the table of checkpoints emptied", lambda stores: (
        forged(stores, 1, actor="eve"), execute(stores, "DELETE FROM checkpoints"))[-1],
           ChainRewritten, "among records 1 to 4 at least one is another"),
    Attack("only a signature of the last record changed", lambda stores: execute(
        stores, "UPDATE audit SET signature = 'AAAA' WHERE seq = 9"), ChainRewritten, "records 8 to 9"),
]  # fmt: skip


@pytest.fixture
def chain(stores: Stores) -> Stores:
    """Checkpoints of 4, 7 and 9 records."""
    return with_checkpoints(stores)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_a_store_other_than_its_checkpoints_is_refused_and_the_range_named(chain: Stores, attack: Attack) -> None:
    attack.does(chain)
    kept = checkpoints.kept_notes(chain.home.checkpoints)
    refused: tuple[Callable[[], object], ...] = (
        lambda: checkpoints.make(chain),
        lambda: checkpoints.require_whole(chain),
    )
    for action in refused:
        with pytest.raises(attack.error, match=attack.says):
            action()
    with chain.state.read() as connection, pytest.raises(attack.error, match=attack.says):
        checkpoints.require_kept(connection, kept)
    assert len(files(chain)) == 3  # nothing was put away


def test_a_record_before_the_last_checkpoint_that_is_altered_alone_is_found_by_verification(chain: Stores) -> None:
    execute(chain, "UPDATE audit SET actor = 'eve' WHERE seq = 2")
    with pytest.raises(AuditBroken, match="number 2"):
        checkpoints.require_whole(chain)


def test_a_table_of_checkpoints_that_was_tampered_with_misleads_nobody(chain: Stores) -> None:
    execute(chain, "UPDATE checkpoints SET frontier = '[]'")
    with chain.state.read() as connection:
        reached = checkpoints.require_kept(connection, checkpoints.kept_notes(chain.home.checkpoints))
    assert reached is not None
    assert reached.record.seq == 9
    record(chain)
    assert checkpoints.make(chain).note.size == 10
    execute(chain, "UPDATE checkpoints SET note = 'something' WHERE size = 10")
    with pytest.raises(NoteUnreadable, match="A row of the table checkpoints is no checkpoint"):
        checkpoints.require_whole(chain)


def test_a_checkpoint_of_another_key_or_chain_is_not_believed(chain: Stores, tmp_path: Path) -> None:
    with chain.state.read() as connection:
        ring = keys.of(connection)
        stranger = a_note(9, checkpoints.origin(ring.trust.chain))
        elsewhere = a_note(9, "ai-assets/another")
        for note, says in ((stranger, "nobody vouches for that key"), (elsewhere, "it is of the chain ai-assets/anot")):
            with pytest.raises(CheckpointUntrusted, match=says):
                checkpoints.require_extends(connection, [checkpoints.LocatedNote(note, "a file")])


def test_a_damaged_file_is_named(chain: Stores) -> None:
    files(chain)[0].write_text("half a no")
    with pytest.raises(NoteUnreadable, match=re.escape(f"{files(chain)[0]} is no checkpoint")):
        checkpoints.make(chain)


def test_an_older_store_put_back_is_refused_until_it_is_accepted(project: Project, local: Stores) -> None:
    record(local, 4)
    checkpoints.make(local)
    local.state.close()
    older = project.home.root / "older.db"
    with contextlib.closing(sqlite3.connect(project.home.root / "state.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(older)])
    record(local, 3)
    lost = checkpoints.make(local).note
    for path in project.home.root.glob("state.db*"):
        path.unlink()
    shutil.move(older, project.home.root / "state.db")
    restored = project.stores()
    with pytest.raises(ChainRolledBack, match=r"holds 4 audit records.*of 7.*audit accept-restored"):
        checkpoints.make(restored)
    made = checkpoints.accept_restored(restored, by="ann", reason="the disk was lost")
    assert made.note.size == 5
    with restored.state.read() as connection:
        told = audit.get(connection, 5)
    assert told is not None
    assert (told.action, told.actor) == ("restored", "ann")
    assert dict(told.subject) == {
        "records": 4, "head": told.previous_hash, "lost": 7, "lost_root": lost.root.hex(),
        "reason": "the disk was lost",
    }  # fmt: skip
    put_away = list(restored.home.checkpoints.glob("before-*/*.note"))
    assert [path.read_text() for path in put_away] == [lost.text]
    record(restored)
    assert checkpoints.make(restored).note.size == 6
    assert checkpoints.require_whole(restored) == 3


def test_a_restore_that_lost_nothing_is_recorded_too(local: Stores) -> None:
    record(local, 2)
    checkpoints.make(local)
    checkpoints.accept_restored(local, by="ann", reason="a drill")
    with local.state.read() as connection:
        found = audit.get(connection, 3)
    assert found is not None
    assert (found.action, found.subject["lost"]) == ("restored", None)


def test_another_process_may_be_ahead_of_what_is_read(local: Stores) -> None:
    """Files are read first: one that is made meanwhile stands for records that this transaction does not see."""
    record(local)
    checkpoints.make(local)
    kept = checkpoints.kept_notes(local.home.checkpoints)
    with local.state.read() as connection:
        connection.execute(sa.text("SELECT 1 FROM audit")).all()
        record(local)
        checkpoints.make(local)
        assert checkpoints.require_kept(connection, kept) is not None


# Publication


@pytest.fixture
def notes(project: Project) -> Collection:
    project.documents(per_day=2)
    collection = project.declare()
    project.refresh(collection)
    return collection


def test_a_publication_ends_with_a_checkpoint(project: Project, notes: Collection) -> None:
    stores = project.stores()
    decide(stores.state, notes)
    said: list[str] = []
    publish(notes, stores, by="test", say=said.append)
    with stores.state.read() as connection:
        last = audit.select(connection, limit=1)[0]
    assert (last.action, said[-1]) == ("published", f"checkpoint of {last.seq} audit records")
    assert [int(path.name.split("-")[0]) for path in files(stores)] == [last.seq]


@pytest.mark.parametrize("does", ["cut", "rewritten"])
def test_nothing_is_published_from_a_store_other_than_its_checkpoint(
    project: Project, notes: Collection, does: str
) -> None:
    stores = project.stores()
    record(stores, 2)
    checkpoints.make(stores)
    if does == "cut":
        execute(stores, "DELETE FROM audit WHERE seq > (SELECT max(seq) - 1 FROM audit)")
    else:
        decide(stores.state, notes, DAYS[:1])
        forged(stores, 5, actor="eve")
    with pytest.raises((ChainRolledBack, AuditBroken)):
        publish(notes, stores, by="test")
    with stores.state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM releases")).scalar_one() == 0


def test_a_release_is_live_even_where_no_checkpoint_can_be_made(project: Project, notes: Collection) -> None:
    stores = project.stores()
    decide(stores.state, notes)
    stores.home.checkpoints.write_text("in the way")
    said: list[str] = []
    assert publish(notes, stores, by="test", say=said.append).release.number == 1
    assert said[-1].startswith("no checkpoint of the audit chain was made")


@pytest.mark.slow
def test_killed_while_it_makes_checkpoints_it_leaves_a_store_that_goes_on(project: Project) -> None:
    stores = project.stores()
    record(stores, 3)
    program = (
        "import itertools, sys\n"
        "from ai_assets.signoff import audit, checkpoints\n"
        "from ai_assets.run.context import Stores\n"
        "from ai_assets.base.home import Home\n"
        "stores = Stores.at(Home.from_environment())\n"
        "for n in itertools.count():\n"
        "    with stores.state.write() as connection:\n"
        "        audit.append(connection, 'ann', 'noted', {'n': n})\n"
        "    print(checkpoints.make(stores).note.size, flush=True)\n"
    )
    for pause_s in (0.0, 0.013, 0.029):
        started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert started.stdout is not None
        assert started.stdout.readline()
        time.sleep(pause_s)
        started.send_signal(signal.SIGKILL)
        started.communicate()
        assert started.returncode == -signal.SIGKILL
        record(stores)
        made = checkpoints.make(stores)
        assert made.note.size == len(leaves(stores))
        checkpoints.require_whole(stores)
        verification.verify(stores.state)
