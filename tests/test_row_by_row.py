"""Rows written and read a group at a time: the same files, digests and joins as with all of them at hand."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import REPOSITORY, Project, text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import current, decide

from ai_assets.base.errors import DatasetDamaged, LakeUnwritable
from ai_assets.documents.by_document import ByDocument
from ai_assets.signoff.candidate import difference
from ai_assets.signoff.errors import CandidateChanged
from ai_assets.signoff.publication import publish
from ai_assets.storage.digest import MerkleRoot, sha256_hex
from ai_assets.storage.lake import (
    KEPT_S,
    MANIFEST,
    ROW_GROUP_ROWS,
    ROW_GROUP_TEXT_BYTES,
    read_batches,
    read_rows,
    write_parquet,
    writing_rows,
)
from ai_assets.storage.spool import DigestIndex, Spool, digests_of, repeated

DAY = "2026-10-05"
SCHEMA = pa.schema({
    "name": pa.string(), "text": pa.string(), "share": pa.float64(), "number": pa.int64(), "right": pa.bool_(),
})  # fmt: skip


def rows(count: int) -> list[dict[str, Any]]:
    noise = random.Random(7)
    return [
        {
            "name": f"{number:09d}",
            "text": None if number % 7 == 0 else noise.choice("xyzé") * noise.randint(0, 4_000),
            "share": noise.random() if number % 3 else None,
            "number": number if number > 1_500 else None,
            "right": bool(number % 2) if number % 5 else None,
        }
        for number in range(count)
    ]


def with_vectors(table: pa.Table, holes: bool) -> pa.Table:
    flat = np.random.default_rng(1).random(table.num_rows * 8, dtype=np.float32)
    mask = pa.array([number % 9 == 0 for number in range(table.num_rows)], pa.bool_()) if holes else None
    return table.append_column("vector", pa.FixedSizeListArray.from_arrays(pa.array(flat), 8, mask=mask))


@pytest.mark.parametrize("count", [0, 1, ROW_GROUP_ROWS, ROW_GROUP_ROWS + 1, 2 * ROW_GROUP_ROWS + 723])
def test_rows_make_the_same_file_one_by_one_in_batches_and_all_at_once(tmp_path: Path, count: int) -> None:
    given_rows = rows(count)
    whole = pa.Table.from_pylist(given_rows, schema=SCHEMA)
    with writing_rows(tmp_path, SCHEMA) as single:
        for row in given_rows:
            single.append(row)
    assert single.path == write_parquet(tmp_path, whole)
    assert list(read_rows(single.path)) == given_rows
    for holes in (False, True):
        table = with_vectors(whole, holes)
        with writing_rows(tmp_path, table.schema) as batched:
            for batch in table.to_batches(max_chunksize=777):
                batched.extend(batch)
        assert batched.path == write_parquet(tmp_path, table)
        assert max((batch.num_rows for batch in read_batches(batched.path)), default=0) <= ROW_GROUP_ROWS


def long_rows(count: int) -> list[dict[str, Any]]:
    """Some are a row group by themselves, others are many to one."""
    noise = random.Random(11)
    sizes = [noise.choice([10, 3_000, ROW_GROUP_TEXT_BYTES // 5, ROW_GROUP_TEXT_BYTES + 7]) for _ in range(count)]
    return [
        {"name": f"{number:09d}", "text": "xé"[number % 2] * size, "share": 0.5, "number": number, "right": None}
        for number, size in enumerate(sizes)
    ]


def test_a_row_group_ends_where_its_texts_are_long_however_the_rows_come(tmp_path: Path) -> None:
    given_rows = [*rows(300), *long_rows(16), *rows(ROW_GROUP_ROWS + 5)]
    whole = pa.Table.from_pylist(given_rows, schema=SCHEMA)
    with writing_rows(tmp_path, SCHEMA) as single:
        for row in given_rows:
            single.append(row)
    assert single.path == write_parquet(tmp_path, whole)
    with writing_rows(tmp_path, SCHEMA) as batched:
        for batch in whole.to_batches(max_chunksize=7):
            batched.extend(batch)
    assert batched.path == single.path
    groups = list(read_batches(single.path))
    assert [row for group in groups for row in group.to_pylist()] == given_rows
    for group in groups:
        *before, _last = [len((row["text"] or "").encode()) + len(row["name"]) for row in group.to_pylist()]
        assert sum(before) < ROW_GROUP_TEXT_BYTES
        assert group.num_rows <= ROW_GROUP_ROWS


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, pa.Table.from_pylist(rows(3), schema=SCHEMA))
    with pytest.raises(DatasetDamaged, match="it has no column 'leaf'"):
        list(read_rows(path, ["name", "leaf"]))


def test_rows_that_cannot_be_finished_leave_no_file(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with writing_rows(tmp_path, SCHEMA) as out:
            for row in rows(ROW_GROUP_ROWS + 1):
                out.append(row)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_half_way()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from pathlib import Path
import pyarrow as pa
from ai_assets.storage.lake import writing_rows
from ai_assets.storage.spool import Spool
folder = Path(sys.argv[1])
with Spool(folder) as spool, writing_rows(folder, pa.schema([("name", pa.string())])) as out:
    for number in range(5000):
        out.append({"name": str(number)})
        spool.append(b"x" * 1000)
    print("half way", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_leaves_is_swept_by_the_next_one_after_a_while(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half way\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".tmp", "of the spool nothing has a name"
    with writing_rows(tmp_path, SCHEMA):
        pass
    assert left.exists(), "it may be a writer's that is still at work"
    os.utime(left, (time.time() - KEPT_S - 1,) * 2)
    with writing_rows(tmp_path, SCHEMA) as out:
        pass
    assert list(tmp_path.iterdir()) == [out.path]


# In a temporary file


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300_000 // 20), max_size=30), st.randoms())
def test_a_spool_gives_back_each_record_in_any_order_also_while_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, records: Sequence[bytes], order: random.Random
) -> None:
    with Spool(tmp_path_factory.mktemp("spool")) as spool:
        for number, record in enumerate(records):
            assert spool.append(record) == number
            chosen = order.randrange(number + 1)
            assert spool[chosen] == records[chosen]
        assert [spool[number] for number in range(len(spool))] == list(records)


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    row = {"text": "é\ud800\x00", "share": 0.1 + 0.2, "number": 2**53 + 1, "right": True, "none": None}
    with Spool(tmp_path) as spool:
        assert spool.row(spool.append_row(row)) == row


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeUnwritable, match="file"):
        Spool(tmp_path / "file")


def digest_of(number: int) -> str:
    """Some end in zero bytes."""
    return f"{hashlib.sha256(bytes([number])).hexdigest()[:62]}00" if number % 3 else f"{number:064x}"


@given(st.lists(st.integers(0, 20), max_size=40))
def test_digests_are_looked_up_and_counted_as_in_a_dictionary(numbers: list[int]) -> None:
    index, plain = DigestIndex(), {}
    for place, number in enumerate(numbers):
        index.add(digest_of(number), place)
        plain[digest_of(number)] = place
    assert [index.get(digest_of(number)) for number in range(22)] == [plain.get(digest_of(n)) for n in range(22)]
    joined = bytes.fromhex("".join(map(digest_of, numbers)))
    assert len(digests_of(joined)) == len(numbers)
    assert repeated(joined) == {digest_of(number) for number in numbers if numbers.count(number) > 1}


# Side by side


def levels(leaves: Sequence[str]) -> str:
    """Level by level, as the root was made before."""
    level = [hashlib.sha256(b"leaf:" + leaf.encode()).digest() for leaf in leaves]
    if not level:
        return sha256_hex(b"empty")
    while len(level) > 1:
        pairs = [level[place : place + 2] for place in range(0, len(level), 2)]
        level = [hashlib.sha256(b"node:" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0].hex()


@pytest.mark.parametrize("count", [*range(18), 127, 128, 129, 1000])
def test_the_merkle_root_is_that_of_whole_levels(count: int) -> None:
    leaves, root = [f"leaf {number}" for number in range(count)], MerkleRoot()
    for leaf in leaves:
        root.add(leaf)
    assert root.hex() == levels(leaves)


NAMES = st.lists(st.text("abé#~", max_size=3), max_size=12)


@given(NAMES, NAMES)
def test_rows_are_given_to_their_documents_and_the_others_are_counted(stored: list[str], asked: list[str]) -> None:
    found = [{"document_id": name, "number": number} for number, name in enumerate(sorted(stored))]
    by_document = ByDocument(found)
    for name in sorted(asked):
        assert by_document.of(name) == [row for row in found if row["document_id"] == name]
    assert by_document.rest() == sum(name not in asked for name in stored)


LEAVES = st.dictionaries(st.text("abé", max_size=2), st.sampled_from("12"))


@given(LEAVES, LEAVES)
def test_a_difference_is_that_of_dictionaries(new: dict[str, str], old: dict[str, str]) -> None:
    def headed(leaves: dict[str, str]) -> list[tuple[str, str, dict[str, str], str]]:
        return [(name, leaf, {"kind": leaf}, "ok") for name, leaf in sorted(leaves.items())]

    found = difference(headed(new), headed(old), ["kind"])
    both = set(new) & set(old)
    changed = sorted(name for name in both if new[name] != old[name])
    assert (found["added"], found["removed"]) == (sorted(set(new) - set(old)), sorted(set(old) - set(new)))
    assert (found["changed"], found["unchanged"]) == (changed, len(both) - len(changed))
    assert set(found["relabelled"]) == set(changed)


SIDES = {"ok": ("leaf of a text", "ok"), "quarantined": ("leaf of a problem", "quarantined"), "not there": None}


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ("quarantined", "ok", "removed"),
        ("ok", "quarantined", "added"),
        ("quarantined", "not there", "unreadable"),
        ("not there", "quarantined", None),
        ("quarantined", "quarantined", "unchanged"),
        ("not there", "ok", "removed"),
    ],
)
def test_a_document_that_nobody_can_read_is_lost_and_not_relabelled(new: str, old: str, expected: str | None) -> None:
    def side(name: str) -> list[tuple[str, str, dict[str, str | None], str]]:
        found = SIDES[name]
        return [] if found is None else [("a.txt", found[0], {"kind": "invoice" if name == "ok" else None}, found[1])]

    found = difference(side(new), side(old), ["kind"])
    counted = {name: found[name] if name == "unchanged" else len(found[name]) for name in found}
    assert {name for name, number in counted.items() if number} == ({expected} if expected else set())


# What it must not let through


def tamper(project: Project, table: pa.Table, name: str) -> None:
    """Other rows in the place of a file that was signed, which the manifest then names."""
    lake = project.stores().lake
    other = write_parquet(lake.folder("notes", "release_snapshots", DAY), table)
    manifest = lake.folder("notes", "release_candidate", DAY) / MANIFEST
    manifest.write_text(manifest.read_text().replace(name, other.name))


def test_a_passage_of_no_document_is_not_published(project: Project) -> None:
    project.documents(per_day=2, days=1)
    collection = project.declare()
    project.refresh(collection, [DAY])
    stores = project.stores()
    decide(stores.state, collection)
    name = current(stores.state, DAY).changes["files"]["chunks_file"]
    path = stores.lake.folder("notes", "release_snapshots", DAY) / name
    table = pa.Table.from_batches(list(read_batches(path)))
    stray = table.slice(0, 1).set_column(1, "document_id", pa.array(["unsigned.txt"]))
    tamper(project, pa.concat_tables([table, stray]), name)
    with pytest.raises(CandidateChanged, match="its files now amount to"):
        publish(collection, stores, by="test")


def test_texts_shared_by_files_in_any_order_are_linked_to_the_first_by_name(project: Project) -> None:
    table = "key,text\nb,same words\na,same words\nc,other words\n"
    project.document(f"{DAY}/t.csv", table)
    project.document(f"{DAY}/s.txt", "same words")
    declared = {"path": "documents", "tables": {"csv": {"key": "key", "text": ["text"]}}}
    collection = project.declare(source=declared)

    def linked() -> dict[str, tuple[str, str | None]]:
        project.refresh(collection, [DAY])
        manifest = project.stores().lake.manifest("notes", "documents", DAY)
        assert manifest is not None
        found = list(project.stores().lake.rows(manifest))
        assert [row["document_id"] for row in found] == sorted(row["document_id"] for row in found)
        return {row["document_id"]: (row["status"], row["duplicate_of"]) for row in found}

    assert linked() == {
        f"{DAY}/s.txt": ("ok", None), f"{DAY}/t.csv#a": ("duplicate", f"{DAY}/s.txt"),
        f"{DAY}/t.csv#b": ("duplicate", f"{DAY}/s.txt"), f"{DAY}/t.csv#c": ("ok", None),
    }  # fmt: skip
    project.document(f"{DAY}/s.txt", text_of(5))
    found = linked()
    assert (found[f"{DAY}/t.csv#a"], found[f"{DAY}/t.csv#b"]) == (("ok", None), ("duplicate", f"{DAY}/t.csv#a"))
