"""The search index: versions that never change, writers that may die, and queries that find what people type."""

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_assets.base.errors import AiAssetsError
from ai_assets.storage import index as index_module
from ai_assets.storage import index_reader
from ai_assets.storage.index import IndexUnavailable, IndexVersionMissing, SearchIndex
from ai_assets.storage.ranking import Hit, fuse

ROOT = Path(__file__).resolve().parents[1]
DIMENSIONS = 8


def vector_of(text: str) -> np.ndarray:
    row = np.random.default_rng(list(text.encode())).standard_normal(DIMENSIONS).astype(np.float32)
    return row / np.linalg.norm(row)


def rows(partition: str, texts: dict[str, str], title: str = "") -> pa.Table:
    """One chunk per text, in a document of the text's key up to a slash."""
    vectors = np.array([vector_of(text) for text in texts.values()], dtype=np.float32)
    return pa.table(
        {
            "chunk_id": list(texts),
            "document_id": [name.partition("/")[0] for name in texts],
            "partition": [partition] * len(texts),
            "title": [title] * len(texts),
            "text": list(texts.values()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), DIMENSIONS),
        }
    )


def small(partition: str, number: int, word: str = "") -> pa.Table:
    return rows(partition, {f"{partition}-{i}": f"{word} text {i} of {partition}" for i in range(number)})


@pytest.fixture
def index(tmp_path):
    return SearchIndex(tmp_path, "chunks", DIMENSIONS)


LIBRARY = {
    "a": "Invoice INV-2043/77 from Copperline, total due 1,204.00 EUR",
    "b": "Invoice INV-2044/77 from Copperline, total due 99.50 EUR",
    "c": "Ticket T-1041 was opened by Zażółć Gęślą about a leaking valve",
    "d": "Ticket T-1042 about T-shirts, 1041 of them",
    "e/1": "The committee discussed pumps running in winter",
    "e/2": "The committee discussed pumps and more pumps, pump after pump",
    "f": "Łódź and Zürich are cities; so is IT a department?",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    index = SearchIndex(tmp_path_factory.mktemp("library"), "chunks", DIMENSIONS)
    titled = rows("q", {"g": "nothing of note"}, title="Handbook")
    return index, index.replace({"p": rows("p", LIBRARY), "q": titled}, base_version=None)


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("INV-2043/77", "a"),
        ("inv-2044/77", "b"),
        ("T-1041", "c"),
        ("t-1042", "d"),
        ("1,204.00", "a"),
        ("zazolc", "c"),
        ("GĘŚLĄ", "c"),
        ("Lodz", "f"),
        ("zürich", "f"),
        ("pump", "e"),
        ("handbook", "g"),
        ('the "leaking valve"', "c"),
    ],
)
def test_text_search_finds_names_codes_and_words(library, query, document):
    index, version = library
    assert index.search(version, None, query, 3, "text")[0].document_id == document


def test_a_document_is_one_hit_with_its_best_passage(library):
    index, version = library
    hits = index.search(version, None, "pump pumps", 10, "text")
    assert [(hit.document_id, hit.chunk_id) for hit in hits] == [("e", "e/2")]
    assert hits[0].partition == "p"
    assert hits[0].text == LIBRARY["e/2"]


def test_vector_search_ranks_by_likeness(library):
    index, version = library
    for name, text in LIBRARY.items():
        hit = index.search(version, vector_of(text), "anything", 1, "vector")[0]
        assert (hit.document_id, hit.chunk_id) == (name.partition("/")[0], name)
        assert hit.score == pytest.approx(1, abs=1e-5)


def test_hybrid_search_keeps_an_exact_code_first_whatever_the_vector_says(library):
    index, version = library
    assert index.search(version, vector_of(LIBRARY["f"]), "INV-2043/77", 5)[0].document_id == "a"


@settings(max_examples=120, deadline=None)
@given(query=st.text(st.characters(exclude_categories=["Cs"])) | st.text("\"'()[]{}:*~^+-&|!\\/ ANDORT1", max_size=30))
def test_no_query_raises(library, query):
    index, version = library
    hits = index.search(version, vector_of("x"), query, 4)
    assert len({hit.document_id for hit in hits}) == len(hits) <= 4
    assert hits == sorted(hits, key=lambda hit: -hit.score)


@pytest.mark.parametrize("mode", ["hybrid", "vector", "text"])
@pytest.mark.parametrize("query", ["", "  \n"], ids=["empty", "blank"])
def test_an_empty_query_finds_nothing(library, query, mode):
    index, version = library
    assert index.search(version, vector_of("x"), query, 5, mode) == []


def test_a_vector_of_zeros_finds_nothing_and_leaves_hybrid_to_the_text(library):
    index, version = library
    assert index.search(version, np.zeros(DIMENSIONS), "T-1041", 5, "vector") == []
    assert index.search(version, np.zeros(DIMENSIONS), "T-1041", 5)[0].document_id == "c"


def test_more_documents_are_found_when_one_has_most_of_the_best_passages(index):
    crowd = {f"big/{i}": f"apple apple apple {i}" for i in range(600)}
    others = {f"small{i}": f"apple and many other words of number {i}" for i in range(5)}
    version = index.replace({"p": rows("p", crowd | others)}, base_version=None)
    assert len(index.search(version, None, "apple", 6, "text")) == 6


@pytest.mark.parametrize("vector", [np.ones(3), np.full(DIMENSIONS, np.nan)], ids=["wrong length", "not a number"])
def test_an_impossible_vector_is_refused(library, vector):
    index, version = library
    with pytest.raises(ValueError, match="finite numbers"):
        index.search(version, vector, "x", 1)


def hit(document: str, score: float) -> Hit:
    return Hit(document_id=document, chunk_id=document, partition="p", title="", text=document, score=score)


def test_fusion_agrees_with_both_rankings_where_they_agree():
    fused = fuse([hit("a", 0.9), hit("b", 0.5), hit("c", 0.1)], [hit("a", 12.0), hit("b", 11.0), hit("d", 1.0)])
    assert [each.document_id for each in fused][:2] == ["a", "b"]
    assert [each.document_id for each in fuse([], [hit("x", 2.0)])] == ["x"]
    assert [each.document_id for each in fuse([hit("y", 0.4)], [])] == ["y"]


changes = st.dictionaries(st.sampled_from("abc'd"), st.none() | st.integers(0, 4), min_size=1)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(changes, st.integers(0, 10)), min_size=1, max_size=5))
def test_every_version_is_its_base_with_the_named_partitions_replaced(tmp_path_factory, steps):
    index = SearchIndex(tmp_path_factory.mktemp("model"), "chunks", DIMENSIONS)
    model: dict[int | None, dict[str, int]] = {None: {}}
    for step, (change, pick) in enumerate(steps):
        base = list(model)[pick % len(model)]
        tables = {name: None if size is None else small(name, size, f"step{step}") for name, size in change.items()}
        version = index.replace(tables, base_version=base)
        expected = {name: n for name, n in {**model[base], **{k: v or 0 for k, v in change.items()}}.items() if n}
        assert model.setdefault(version, expected) == expected
    assert index.version() == max(v for v in model if v)
    for version, expected in model.items():
        if version is not None:
            assert index.partitions(version) == expected
            assert index.count(version) == sum(expected.values())
            found = index.search(version, None, "text", 100, "text")
            assert len(found) == sum(expected.values()), "the text index is complete"


def test_every_row_of_a_version_is_in_its_text_index(index):
    version = index.replace({"a": small("a", 30), "b": small("b", 30)}, base_version=None)
    version = index.replace({"a": small("a", 20, "fresh")}, base_version=version)
    table = index._at(version).table
    assert {table.index_stats(entry.name).num_unindexed_rows for entry in table.list_indices()} == {0}
    assert len(index.search(version, None, "fresh", 100, "text")) == 20


def test_before_the_first_version_there_is_none(index):
    assert index.version() is None
    with pytest.raises(IndexVersionMissing, match="no such complete version"):
        index.count(1)
    with pytest.raises(IndexVersionMissing):
        index.replace({"a": None}, base_version=3)


def test_rows_of_another_partition_are_refused_before_anything_is_written(index):
    with pytest.raises(ValueError, match="belong to"):
        index.replace({"a": small("b", 2)}, base_version=None)
    assert index.version() is None


def test_a_failing_store_is_one_kind_of_error(tmp_path):
    (tmp_path / "chunks.lance").mkdir()
    (tmp_path / "chunks.lance" / "_versions").mkdir()
    (tmp_path / "chunks.lance" / "_versions" / "1.manifest").write_bytes(b"not a manifest")
    with pytest.raises(IndexUnavailable, match="Search index chunks: listing versions failed") as raised:
        SearchIndex(tmp_path, "chunks", DIMENSIONS).version()
    assert isinstance(raised.value, AiAssetsError)
    assert raised.value.__cause__ is not None


def test_a_reader_keeps_its_version_while_another_is_written(index):
    first = index.replace({"a": small("a", 50), "b": small("b", 50)}, base_version=None)
    expected = index.search(first, vector_of("q"), "text of a", 5)
    stop, seen = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            seen.append(index.search(first, vector_of("q"), "text of a", 5) == expected and index.count(first) == 100)

    reader = threading.Thread(target=read)
    reader.start()
    version = first
    for step in range(4):
        version = index.replace({"a": small("a", 10 + step, "new"), "b": None}, base_version=version)
    stop.set()
    reader.join()
    assert len(seen) > 1
    assert all(seen)
    assert index.partitions(version) == {"a": 13}


def test_versions_are_listed_while_tags_of_others_are_removed(index):
    """Each listing fails whose tag is gone when its turn comes; so many removals make some that do."""
    kept = index.replace({"a": small("a", 5)}, base_version=None)
    tags = index.table.opened().tags
    stop, seen, failures = threading.Event(), list[bool](), list[Exception]()

    def read() -> None:
        try:
            while not stop.is_set():
                seen.append(kept in index.versions())
        except Exception as error:  # noqa: BLE001 - whatever it is, the claim fails
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1000):
        tags.create(f"complete-{number + 1000}", kept)
        tags.delete(f"complete-{number + 1000}")
    stop.set()
    reader.join()
    assert not failures, failures[0]
    assert seen
    assert all(seen)


def test_two_writers_from_one_base_each_get_their_own_result(tmp_path):
    base = SearchIndex(tmp_path, "chunks", DIMENSIONS).replace({"a": small("a", 5)}, base_version=None)
    results: dict[str, int] = {}

    def write(name: str) -> None:
        results[name] = SearchIndex(tmp_path, "chunks", DIMENSIONS).replace({name: small(name, 3)}, base_version=base)

    threads = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    assert {name: index.partitions(version) for name, version in results.items()} == {n: {"a": 5, n: 3} for n in "xyz"}


def test_pruning_frees_what_is_older_and_keeps_what_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(index_module, "PRUNE_MARGIN", timedelta(seconds=0.4))
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    versions: list[int] = []
    for step in range(4):
        base = versions[-1] if versions else None
        versions.append(index.replace({"a": small("a", 200, f"step{step}")}, base_version=base))
        time.sleep(0.5)
    before = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    index.prune([versions[2], versions[3]])
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < before
    for kept in versions[2:]:
        assert index.count(kept) == 200
        assert len(index.search(kept, None, "text", 300, "text")) == 200
    for gone in versions[:2]:
        with pytest.raises(IndexVersionMissing):
            index.search(gone, None, "text", 5, "text")
    with pytest.raises(IndexVersionMissing):
        index.prune([versions[0]])
    assert index.partitions(index.replace({"b": small("b", 1)}, base_version=versions[2])) == {"a": 200, "b": 1}


def test_above_the_limit_an_approximate_index_answers_nearly_as_well(index, monkeypatch):
    monkeypatch.setattr(index_reader, "EXACT_BELOW_ROWS", 1_000)
    version = index.replace({"a": small("a", 1_500)}, base_version=None)
    version = index.replace({"b": small("b", 20)}, base_version=version)
    table = index._at(version).table
    assert "vector" in {column for entry in table.list_indices() for column in entry.columns}
    agreed = 0
    for i in range(20):
        query = vector_of(f"query {i}")
        approximate = {found.chunk_id for found in index.search(version, query, "x", 10, "vector")}
        with monkeypatch.context() as exact:
            exact.setattr(index_reader, "EXACT_BELOW_ROWS", 10_000)
            agreed += len(approximate & {found.chunk_id for found in index.search(version, query, "x", 10, "vector")})
    assert agreed >= 180


WRITER = """
import sys
from pathlib import Path
import lancedb
import pyarrow.feather as feather
from ai_assets.storage.index import SearchIndex
folder, base = Path(sys.argv[1]), int(sys.argv[2])
rows = feather.read_table(folder / "rows.arrow")
changes = {f"p{i}": rows.slice(20 * i, 20) for i in range(30)} | {"gone": None}
index = SearchIndex(folder, "chunks", 8)
index.version()
print("writing", flush=True)
index.replace(changes, base_version=base)
"""


@contextlib.contextmanager
def writer(path: Path, base: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has just begun to replace 31 partitions."""
    command = [sys.executable, "-c", WRITER, str(path), str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "writing\n"
        yield child


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_base_whole_and_the_next_one_right(tmp_path):
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    expected = {**{f"p{i}": 10 for i in range(30)}, "gone": 5, "kept": 5}
    base = index.replace({name: small(name, number, "old") for name, number in expected.items()}, base_version=None)
    feather.write_feather(pa.concat_tables([small(f"p{i}", 20, "killed") for i in range(30)]), tmp_path / "rows.arrow")
    with writer(tmp_path, base) as finished:
        started = time.perf_counter()
        assert finished.wait() == 0
        duration = time.perf_counter() - started
    rng = random.Random(20261121)
    killed = 0
    for moment in range(8):
        with writer(tmp_path, base) as child:
            time.sleep(duration * (moment + rng.random()) / 8 * 0.7)
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
        reader = SearchIndex(tmp_path, "chunks", DIMENSIONS)
        assert reader.partitions(base) == expected
        assert len(reader.search(base, None, "old", 1_000, "text")) == 310
        assert reader.search(base, None, "killed", 10, "text") == []
        version = reader.replace({"p3": small("p3", 7, "next"), "gone": None}, base_version=base)
        assert reader.partitions(version) == {**{k: v for k, v in expected.items() if k != "gone"}, "p3": 7}
        assert len(reader.search(version, None, "next", 100, "text")) == 7
        assert reader.search(version, None, "killed", 10, "text") == []
    assert killed >= 4, "most writers died while writing"
