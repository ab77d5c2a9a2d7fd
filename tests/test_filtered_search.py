"""Claims about a search among some documents: it is the whole ranking with the others left out."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_assets.storage import filtered_search, index_reader
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.name_suffixes import suffix_signs
from ai_assets.storage.passage_places import _Suffixes
from ai_assets.storage.passage_vectors import KeptVectors, PassageVectors
from ai_assets.storage.ranking import Hit
from ai_assets.storage.search_rules import SearchRules

DIMENSIONS, DOCUMENTS = 8, 120
WORDS = "pump valve invoice claim letter refund parcel driver server token outage damage".split()
RULES = [SearchRules(), SearchRules(version="2", vector_weight=0.7)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchIndex, int]:
    """Documents of one to four passages, some with the same text, some without a vector, in pairs by their names."""
    drawn = random.Random(3)
    names, texts, vectors = [], [], []
    for number in range(DOCUMENTS):
        name = f"{WORDS[number % 12]}-{number // 24}{'-manual' if number % 24 >= 12 else ''}.md"
        for _ in range(drawn.randint(1, 4)):
            names.append(name)
            texts.append(" ".join(drawn.choices(WORDS, k=drawn.randint(1, 9))))
            seed = np.random.default_rng(drawn.randrange(40)).standard_normal(DIMENSIONS).astype(np.float32)
            vectors.append(None if number % 17 == 0 else (seed / np.linalg.norm(seed)).tolist())
    table = pa.table(
        {
            "chunk_id": [f"{name}#{place}" for place, name in enumerate(names)],
            "document_id": names,
            "partition": ["p"] * len(names),
            "title": [name.partition("-")[0] for name in names],
            "text": texts,
            "vector": pa.array(vectors, pa.list_(pa.float32(), DIMENSIONS)),
        }
    )
    index = SearchIndex(tmp_path_factory.mktemp("filtered"), "chunks", DIMENSIONS)
    return index, index.replace({"p": table}, base_version=None)


@pytest.fixture
def from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vectors are kept in memory."""
    monkeypatch.setattr(index_reader, "VECTORS", KeptVectors(0))


@pytest.mark.usefixtures("from_files")
@pytest.mark.parametrize("named", [0, 1_000])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from([*WORDS, "manual", "nothing", "the"]), min_size=1, max_size=5),
    chosen=st.sets(st.integers(0, DOCUMENTS - 1), min_size=1),
    k=st.integers(1, DOCUMENTS),
    seed=st.integers(0, 30),
    rules=st.sampled_from(RULES),
    by_words=st.booleans(),
)
def test_it_is_the_whole_ranking_without_the_others(
    shelf: tuple[SearchIndex, int], monkeypatch: pytest.MonkeyPatch, named: int, words: list[str], chosen: set[int],
    k: int, seed: int, rules: SearchRules, by_words: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(filtered_search, "NAMED_IN_QUERY", named)
    monkeypatch.setattr(filtered_search, "_NAMED_SHARE", 1_000)
    monkeypatch.setattr(filtered_search, "_READ_AT_ONCE", 3)
    index, version = shelf
    query = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    vector = None if by_words else query / np.linalg.norm(query)
    text = " ".join(words)
    whole = index.search(version, vector, text, 10 * DOCUMENTS, "text" if by_words else "hybrid", rules=rules)
    every = sorted({hit.document_id for hit in index.search(version, query, "the", 10 * DOCUMENTS)})
    names = [every[number % len(every)] for number in chosen]
    found = index.search_among(version, vector, text, k, pa.array(names, pa.string()), rules=rules)
    expected = [hit for hit in whole if hit.document_id in names][:k]
    assert [_shown(hit) for hit in found] == [_shown(hit) for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.sampled_from([*WORDS, "manual", "nothing"]), min_size=1, max_size=4),
    chosen=st.sets(st.integers(0, DOCUMENTS - 1), min_size=1, max_size=7),
    seed=st.integers(0, 30),
    rules=st.sampled_from(RULES),
)
def test_vectors_in_memory_rank_as_those_that_lancedb_compares(
    shelf: tuple[SearchIndex, int], words: list[str], chosen: set[int], seed: int, rules: SearchRules
) -> None:
    """Passages have equal vectors and equal texts here, whose order is told by their names."""
    index, version = shelf
    query = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    whole = index.search(version, query, " ".join(words), 10 * DOCUMENTS, rules=rules)
    names = [index._at(version).places.names[number].as_py() for number in chosen]
    found = index.search_among(version, query, " ".join(words), 5, pa.array(names), rules=rules)
    expected = [hit for hit in whole if hit.document_id in names][:5]
    assert [_shown(hit) for hit in found] == [_shown(hit) for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def _shown(hit: Hit) -> tuple[str, str]:
    return hit.document_id, hit.chunk_id


def test_a_rare_filter_of_an_approximate_index_finds_what_comparing_every_vector_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2,000 documents one in a hundred passes; the best are computed here from the rows that pass alone."""
    monkeypatch.setattr(index_reader, "EXACT_BELOW_ROWS", 1_000)
    vectors = np.random.default_rng(5).standard_normal((4_000, 16)).astype(np.float32)
    names = [f"{row // 2:04d}.md" for row in range(len(vectors))]
    table = pa.table(
        {
            "chunk_id": [f"{name}#{row}" for row, name in enumerate(names)], "document_id": names,
            "partition": ["p"] * len(names), "title": names, "text": ["a letter"] * len(names),
            "vector": pa.array(vectors.tolist(), pa.list_(pa.float32(), 16)),
        }
    )  # fmt: skip
    index = SearchIndex(tmp_path, "chunks", 16)
    version = index.replace({"p": table}, base_version=None)
    assert "vector" in {column for each in index._at(version).table.list_indices() for column in each.columns}
    for seed in range(20):
        query = np.random.default_rng(100 + seed).standard_normal(16).astype(np.float32)
        passing = sorted(np.random.default_rng(seed).choice(2_000, 20, replace=False).tolist())
        best = {f"{number:04d}.md": float((vectors[2 * number : 2 * number + 2] @ query).max()) for number in passing}
        found = index.search_among(version, query, "nothing", 8, pa.array(list(best)))
        assert [hit.document_id for hit in found] == sorted(best, key=lambda name: -best[name])[:8]


def test_vectors_are_kept_up_to_so_many_bytes_and_no_longer_than_their_reader(shelf: tuple[SearchIndex, int]) -> None:
    index, version = shelf
    reader, kept, read = index._at(version), KeptVectors(100), list[str]()

    class Reader:
        pass

    def asked(by: object, column: str, size: int) -> PassageVectors | None:
        def make() -> PassageVectors:
            read.append(column)
            return PassageVectors(reader.table, reader.rows, reader.places, "vector", None, DIMENSIONS)

        return kept.of(by, (column, None), size, make)

    first, second = Reader(), Reader()
    assert asked(first, "too large", 101) is None
    assert asked(first, "a", 60) is asked(first, "a", 60)
    assert asked(second, "b", 40) is asked(second, "b", 40)
    assert read == ["a", "b"]
    asked(first, "a", 60)
    asked(second, "c", 40)  # `first` asked before
    asked(first, "a", 60)  # takes the place of what `second` has
    asked(second, "b", 40)
    assert read == ["a", "b", "c", "a", "b"]
    del second
    asked(first, "d", 40)  # where the other reader is gone, both have a place
    asked(first, "a", 60)
    assert read == ["a", "b", "c", "a", "b", "d"]


@pytest.mark.usefixtures("from_files")
def test_names_that_only_vectors_find_count_too_where_some_passages_have_none(tmp_path: Path) -> None:
    """`pump-short` is put back because `pump-manual` is found, though it is not among the chosen ones."""
    names = ["pump-short.md", "pump-manual.md", "letter.md"]
    vectors = [[1.0, 0.0], [0.5, 0.5], None]
    table = pa.table(
        {
            "chunk_id": names, "document_id": names, "partition": ["p"] * 3, "title": [""] * 3,
            "text": ["a valve", "a driver", "a valve"], "vector": pa.array(vectors, pa.list_(pa.float32(), 2)),
        }
    )  # fmt: skip
    index = SearchIndex(tmp_path, "chunks", 2)
    version, query = index.replace({"p": table}, base_version=None), np.array([1.0, 0.0], np.float32)
    whole = index.search(version, query, "valve", 3, rules=RULES[1])
    found = index.search_among(version, query, "valve", 3, pa.array(["pump-short.md"]), rules=RULES[1])
    (expected,) = (hit for hit in whole if hit.document_id == "pump-short.md")
    assert [(_shown(hit), hit.score) for hit in found] == [(_shown(expected), pytest.approx(expected.score))]


@given(
    names=st.lists(
        st.sampled_from(["a", "a-b", "a-c", "a-b-c", "b-9", "x/a-b.md", "a-b.txt", "9", "a-b-1", "c-b"]),
        min_size=1, unique=True,
    ),
    data=st.data(),
)  # fmt: skip
def test_suffixes_as_numbers_say_what_suffixes_say(names: list[str], data: st.DataObject) -> None:
    found = data.draw(st.lists(st.sampled_from(sorted(names)), min_size=1, unique=True))
    query, places = data.draw(st.sampled_from(["b", "a c", "x"])), sorted(names)
    mask = np.isin(places, found)
    wanted = np.flatnonzero(mask)
    said = suffix_signs([places[at] for at in wanted], query)
    assert _Suffixes(places).signs(mask, wanted, query).tolist() == said
