"""Claims about what readers are given: the bytes that were published, or one sentence that says what is not."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from conftest import STAGE, Project
from desks import desk_of
from signing import current, decide, known

from ai_assets.base.errors import AiAssetsError, DatasetAltered
from ai_assets.collection.loading import Collection
from ai_assets.desk import reading
from ai_assets.desk.release_opened import opened_release
from ai_assets.run.explain import explain, search
from ai_assets.run.status import collection_status, due_partitions
from ai_assets.signoff import audit, people, releases, verification
from ai_assets.signoff.errors import IndexAltered, ReleaseAltered
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import anything_to_publish, publish
from ai_assets.signoff.releases import Release
from ai_assets.signoff.served import altered_index
from ai_assets.storage.stores import Stores

DAY = "2026-10-05"
DAYS = [DAY, "2026-10-06", "2026-10-07"]
SECRET = "Total due 141 EUR"


@pytest.fixture
def notes(project: Project) -> Collection:
    """Published, with a document that says 141."""
    project.documents(per_day=2)
    project.document(f"{DAY}/0.txt", f"Invoice of the pump works. {SECRET}, to be paid within a month.")
    collection = project.declare(stages=[dict(STAGE)])
    project.refresh(collection)
    stores = project.stores()
    known(stores.state)
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    return collection


@pytest.fixture
def stores(project: Project, notes: Collection) -> Stores:
    return project.stores()


def live(stores: Stores) -> Release:
    with stores.state.read() as connection:
        return releases.require_live(connection, "notes")


def known_as_ann(stores: Stores) -> Person:
    with stores.state.read() as connection:
        found = people.find(connection, "ann")
    assert found is not None
    return found


def releases_at(stores: Stores, moment: str) -> Release | None:
    with stores.state.read() as connection:
        return releases.live_at(connection, "notes", moment)


def texts(stores: Stores, collection: Collection) -> str:
    return "\n".join(hit.text for hit in search(collection, stores, "invoice total due", 10)[1])


def forge_index(project: Project) -> list[Path]:
    """Every file of the live index that holds the amount in plain bytes gets another."""
    changed = []
    for path in sorted((project.home.index / "notes").rglob("*")):
        if path.is_file() and b"141" in (data := path.read_bytes()):
            path.write_bytes(data.replace(b"141", b"999"))
            changed.append(path)
    return changed


def change(stores: Stores, *statements: str) -> None:
    with stores.state.write() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


# The index


def test_changed_bytes_of_the_live_index_are_neither_found_nor_shown(
    project: Project, stores: Stores, notes: Collection
) -> None:
    assert SECRET in texts(stores, notes)
    assert any(path.parent.name == "data" for path in forge_index(project))
    with pytest.raises(IndexAltered, match=r"index of release 1 of notes was altered: .* has the SHA-256 .* and had "):
        search(notes, stores, "invoice", 5)
    said = project.cli("search", "notes", "invoice")
    assert (said.returncode, said.stdout) == (2, "")
    assert "It is not searched. Make it again from the release's files: ai-assets publish notes" in said.stderr
    (row,) = reading.release_rows(desk_of(project), known_as_ann(stores), "notes")
    assert (row.live, row.number) == (False, 1)
    assert row.problem is not None
    assert "was altered" in row.problem


def test_publishing_makes_an_altered_index_again_from_what_was_signed(
    project: Project, stores: Stores, notes: Collection
) -> None:
    before = live(stores)
    forge_index(project)
    assert anything_to_publish(notes, stores)
    said: list[str] = []
    release = publish(notes, stores, by="test", say=said.append).release
    assert (release.number, release.digest) == (2, before.digest)
    assert release.index_branch != before.index_branch
    assert any("was altered" in line and line.endswith("it is made again") for line in said)
    assert SECRET in texts(stores, notes)
    assert "999" not in texts(stores, notes)


def test_an_altered_index_is_not_built_upon(project: Project, stores: Stores, notes: Collection) -> None:
    """An edit elsewhere would carry the changed rows of this day into the next version."""
    project.document(f"{DAYS[2]}/5.txt", "The dock door was repaired.")
    project.refresh(notes)
    decide(stores.state, notes)
    forge_index(project)
    publish(notes, stores, by="test")
    assert SECRET in texts(stores, notes)
    assert altered_index(stores, live(stores)) is None


def test_a_release_without_a_seal_is_searched_and_the_next_one_has_its_own(
    project: Project, stores: Stores, notes: Collection
) -> None:
    """As an earlier version published it."""
    published_without_a_seal(stores)
    unsealed = live(stores)
    assert (unsealed.number, unsealed.index_seal) == (2, None)
    assert SECRET in texts(stores, notes)
    project.edit(notes, f"{DAYS[2]}/5.txt", "The dock door was repaired.")
    decide(stores.state, notes)
    sealed = publish(notes, stores, by="test").release
    assert sealed.index_seal
    assert sealed.index_branch != unsealed.index_branch


def published_without_a_seal(stores: Stores) -> None:
    release = replace(live(stores), number=2, index_seal=None)
    with stores.state.write() as connection:
        releases.publish_release(connection, release, {})


# The release and the pointer


FORGERIES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "digest": (("UPDATE releases SET digest = 'd'",), "Release 1 of notes is not what was published: its row is not"),
    "files": (
        ("UPDATE releases SET manifest = replace(manifest, '.parquet', '.parquets')",),
        "Release 1 of notes is not what was published: its row is not",
    ),
    "signer": (
        ("UPDATE releases SET manifest = replace(manifest, '\"ann\"', '\"eve\"')",),
        "Release 1 of notes is not what was published: its row is not",
    ),
    "seal": (
        ("UPDATE releases SET manifest = replace(manifest, '\"index\"', '\"other\"')",),
        "Release 1 of notes is not what was published: its row is not",
    ),
    "index": (("UPDATE releases SET index_version = 1",), "Release 1 of notes is not what was published: its row is"),
    "another release": (
        (
            "INSERT INTO releases SELECT collection, 2, digest, index_name, index_version, manifest, created_at, "
            "created_by FROM releases",
            "UPDATE live_releases SET number = 2",
        ),
        "The live pointer of notes is not what was published: it names release 2, and the audit chain 1",
    ),
    "pointer taken away": (
        ("DELETE FROM live_releases",),
        "The live pointer of notes is not what was published: it names release none, and the audit chain 1",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_release_is_refused_by_every_reader(
    project: Project, stores: Stores, notes: Collection, forgery: str
) -> None:
    statements, says = FORGERIES[forgery]
    change(stores, *statements)
    readers: Mapping[str, Callable[[], object]] = {
        "search": lambda: search(notes, stores, "invoice", 5),
        "explain": lambda: explain(notes, stores, f"{DAY}/0.txt"),
        "status": lambda: collection_status(notes, stores),
        "publish": lambda: publish(notes, stores, by="test"),
        "anything to publish": lambda: anything_to_publish(notes, stores),
        "refresh": lambda: project.refresh(notes),
    }
    for name, reader in readers.items():
        with pytest.raises(AiAssetsError, match=r"not what was published|does not verify") as found:
            reader()
        assert "Traceback" not in str(found.value), name
    with pytest.raises(ReleaseAltered) as refused:
        search(notes, stores, "invoice", 5)
    assert str(refused.value).startswith(says)
    rows = reading.release_rows(desk_of(project), known_as_ann(stores), "notes")
    assert not any(row.live for row in rows)
    assert any(row.problem for row in rows)
    for command in (("search", "notes", "x"), ("releases", "show", "notes"), ("releases", "list", "notes")):
        said = project.cli(*command)
        assert (said.returncode, said.stdout) == (2, ""), command
        assert "not what was published" in said.stderr


def test_a_publication_written_into_the_chain_without_the_key_is_no_release(stores: Stores, notes: Collection) -> None:
    """Whoever owns the database can compute the hash of a record, and not its signature."""
    with stores.state.write() as connection:
        last = list(audit.records(connection))[-1]
        forged = audit.Record(
            seq=last.seq + 1, recorded_at=last.recorded_at, actor="ai-assets", action="published",
            subject={**last.subject, "release": 2}, previous_hash=last.hash, hash="", key_id=last.key_id,
            signature=last.signature,
        )  # fmt: skip
        values = {
            **vars(forged), "hash": forged.computed_hash(), "collection": "notes", "request_id": None,
            "subject": json.dumps(forged.subject),
        }  # fmt: skip
        connection.execute(sa.insert(audit.TABLE).values(values))
    change(
        stores,
        "INSERT INTO releases SELECT collection, 2, digest, index_name, index_version, manifest, created_at, "
        "created_by FROM releases",
        "UPDATE live_releases SET number = 2",
    )
    for reader in (live, lambda stores: releases_at(stores, "2099-01-01")):
        with pytest.raises(ReleaseAltered, match=r"its record in the audit chain does not hold: .*signature"):
            reader(stores)


SINCE_READ = {
    "another actor": ("UPDATE audit SET actor = 'ben' WHERE seq = {seq}", False),
    "the same, written otherwise": ("UPDATE audit SET subject = replace(subject, ',', ', ') WHERE seq = {seq}", True),
}


@pytest.mark.parametrize("how", SINCE_READ)
def test_a_large_record_is_hashed_again_where_its_row_is_another_than_it_was(
    how: str, stores: Stores, notes: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LARGE", 0)
    first, record = live(stores), live_record(stores)
    assert live_record(stores) is record
    statement, holds = SINCE_READ[how]
    change(stores, statement.format(seq=record.seq))
    assert live_record(stores) is not record
    if holds:
        assert live(stores) == first
        return
    with pytest.raises(ReleaseAltered, match="its content is not what was recorded"):
        live(stores)


def live_record(stores: Stores) -> audit.Record:
    with stores.state.read() as connection:
        record = releases.live_record(connection, "notes")
    assert record is not None
    return record


BACK_TO_1 = ("DELETE FROM releases WHERE number = 2", "UPDATE live_releases SET number = 1")
HIDDEN: Mapping[str, tuple[str, str]] = {
    "taken away": ("DELETE FROM audit WHERE seq = {seq}", "does not follow from the one before"),
    "made another record": (
        "UPDATE audit SET action = 'viewed' WHERE seq = {seq}", "does not follow from the one before",
    ),
    "cut off with all after it": ("DELETE FROM audit WHERE seq >= {seq}", "and a checkpoint says"),
}  # fmt: skip


@pytest.mark.parametrize("how", HIDDEN)
def test_an_older_release_is_not_served_because_the_newest_was_hidden(
    how: str, project: Project, stores: Stores, notes: Collection
) -> None:
    """The older one was published, and its record is signed; that it was replaced is what somebody hides."""
    project.edit(notes, f"{DAY}/0.txt", "Another text of the first document.")
    decide(stores.state, notes)
    assert publish(notes, stores, by="test").release.number == 2
    known_as_ann(stores)
    with stores.state.write() as connection:
        audit.append(connection, "ann", "viewed", {"collection": "notes"})
        record = releases.live_record(connection, "notes")
    assert record is not None
    statement, says = HIDDEN[how]
    change(stores, *BACK_TO_1, statement.format(seq=record.seq))
    with pytest.raises(ReleaseAltered, match=says):
        search(notes, project.stores(), "invoice", 5)


def test_no_page_of_a_release_says_what_is_live_where_a_rollback_was_hidden(
    project: Project, stores: Stores, notes: Collection
) -> None:
    project.edit(notes, f"{DAY}/0.txt", "Another text of the first document.")
    decide(stores.state, notes)
    publish(notes, stores, by="test")
    ann = known(stores.state, "ann")
    record = releases.rollback(stores.state, "notes", 1, by=ann, reason="as before").record
    assert record is not None
    with stores.state.write() as connection:
        audit.append(connection, "ann", "viewed", {"collection": "notes"})
    change(stores, "UPDATE live_releases SET number = 2", HIDDEN["taken away"][0].format(seq=record.seq))
    for number in (1, 2):
        with pytest.raises(ReleaseAltered, match="does not follow from the one before"):
            opened_release(desk_of(project), ann, "notes", number)


def test_naming_the_release_that_should_be_live_puts_the_pointer_right(stores: Stores, notes: Collection) -> None:
    change(stores, "UPDATE live_releases SET number = 7")
    with pytest.raises(ReleaseAltered, match=r"Point to release 1 again: ai-assets releases rollback notes --to 1"):
        live(stores)
    releases.rollback(stores.state, "notes", 1, by=known_as_ann(stores), reason="the pointer was moved")
    assert live(stores).number == 1
    verification.verify(stores.state)


# The lake


def test_a_file_replaced_under_its_own_name_is_not_taken_over_into_the_next_candidate(
    project: Project, stores: Stores, notes: Collection
) -> None:
    """Rows of another text, under the name that the first rows' SHA-256 gave the file."""
    for asset, column in (("documents", "text"), ("chunks", "text"), ("kind", "label")):
        manifest = stores.lake.manifest("notes", asset, DAY)
        assert manifest is not None
        path = stores.lake.path(manifest)
        table = pq.read_table(path)
        place = table.column_names.index(column)
        forged = ["forged 999"] * table.num_rows
        pq.write_table(table.set_column(place, table.schema.field(place), [forged]), path)
        with pytest.raises(DatasetAltered):
            stores.lake.read(manifest)
    project.edit(notes, f"{DAY}/1.txt", "Another text, which makes a new candidate.")
    assert current(stores.state, DAY).status == "open"
    files = current(stores.state, DAY).changes["files"]
    folder = stores.lake.folder("notes", "release_snapshots", DAY)
    for name in files.values():
        assert "forged 999" not in str(pq.read_table(folder / name).to_pylist())
    assert current(stores.state, DAY).changes["changed"] == [f"{DAY}/1.txt"]
    for asset in ("documents", "chunks", "kind"):
        manifest = stores.lake.manifest("notes", asset, DAY)
        assert manifest is not None
        assert stores.lake.holds(manifest)


def test_a_run_of_an_unchanged_partition_makes_an_altered_file_again(
    project: Project, stores: Stores, notes: Collection
) -> None:
    manifest = stores.lake.manifest("notes", "chunks", DAY)
    assert manifest is not None
    path = stores.lake.path(manifest)
    written = path.read_bytes()
    path.write_bytes(b"PAR1 forged")
    project.refresh(notes, [DAY])
    assert path.read_bytes() == written


def test_a_released_snapshot_that_is_shown_is_not_one_that_was_altered(
    project: Project, stores: Stores, notes: Collection
) -> None:
    part = live(stores).parts[DAY]
    path = stores.lake.folder("notes", "release_snapshots", DAY) / part.documents_file
    path.write_bytes(b"forged")
    with pytest.raises(DatasetAltered, match=part.documents_file):
        explain(notes, stores, f"{DAY}/0.txt")


# Released snapshots


def test_a_run_makes_deleted_snapshots_of_the_live_release_again_under_the_same_names(
    project: Project, stores: Stores, notes: Collection
) -> None:
    folder = stores.lake.root / "notes" / "release_snapshots"
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet")}
    shutil.rmtree(folder)
    assert due_partitions(notes, stores, DAYS) == DAYS
    said = project.cli("run", "notes")
    assert said.returncode == 0, said.stderr
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.parquet")} == before
    assert due_partitions(notes, stores, DAYS) == []
    assert explain(notes, stores, f"{DAY}/0.txt")["live"]["release"] == 1


def test_a_snapshot_that_can_no_longer_be_made_is_named_and_its_partition_goes_on(
    project: Project, stores: Stores, notes: Collection
) -> None:
    folder = stores.lake.root / "notes" / "release_snapshots"
    shutil.rmtree(folder)
    project.document(f"{DAY}/1.txt", "The documents have changed since.")
    said = project.cli("run", "notes")
    assert said.returncode == 0, said.stderr
    assert f"{DAY}: the files of the live release are gone, and its documents have changed since" in said.stderr
    assert DAYS[1] not in said.stderr
    asked = current(stores.state, DAY)
    assert asked.status == "open"
    assert asked.changes["added"] == [f"{DAY}/0.txt", f"{DAY}/1.txt"]
    decide(stores.state, notes)
    assert publish(notes, stores, by="test").release.number == 2


# What is remembered


def test_a_long_lived_reader_sees_a_change_that_keeps_size_and_time(
    project: Project, stores: Stores, notes: Collection
) -> None:
    assert altered_index(stores, live(stores)) is None
    for path in sorted((project.home.index / "notes").rglob("*.lance")):
        if path.is_file() and b"141" in (data := path.read_bytes()):
            before = path.stat()
            path.write_bytes(data.replace(b"141", b"999"))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert altered_index(stores, live(stores)) is not None
