"""What is computed for many questions is what each finds alone, whatever the passages and however they are edited."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ai_assets.storage import ranked_documents, text_scores
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.search_rules import SearchRules

pytestmark = pytest.mark.slow

DIMENSIONS = 16
PLAIN = "pump valve invoice winter ticket committee parcel refund due running quickly reported agreement outage".split()
CODES = "INV-2043/77 T-1041 2043 77 built-in a-a x.y.z user@example.org O'Neil".split()
ODD = ["Łódź", "naïve", "the", "of", "²", "日本語", "x" * 45, "_", "IT", "…"]
Question = tuple[np.ndarray, str]


@pytest.fixture(autouse=True)
def _fewer_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranked_documents, "FROM_QUESTIONS", 40)


def unit(drawn: random.Random) -> list[float]:
    vector = np.array([drawn.gauss(0, 1) for _ in range(DIMENSIONS)])
    return list(vector / np.linalg.norm(vector))


def passages(
    partition: str, drawn: random.Random, documents: int, each: int, words: Sequence[str], *, several: bool = False
) -> pa.Table:
    """Some without a title or a vector, some of words that no index has, and some twice."""
    rows = []
    for document in range(documents):
        for number in range(drawn.randint(1, each)):
            row = {
                "chunk_id": f"{partition}-{document}/{number}",
                "document_id": f"{partition}-{document}",
                "partition": partition,
                "title": drawn.choice([None, "", " ".join(drawn.choices(words, k=2)), drawn.choice(words)]),
                "text": drawn.choice(["…", " ".join(drawn.choices(words, k=drawn.randint(1, 25)))]),
                "vector": None if drawn.random() < 0.05 else unit(drawn),
            }
            if rows and drawn.random() < 0.03:
                row |= {name: rows[-1][name] for name in ("title", "text", "vector")}
            rows.append(row | ({"of": drawn.choice(["text", "summary"]), "vector_b": unit(drawn)} if several else {}))
    vectors = [name for name in ("vector", "vector_b") if name in rows[0]]
    kinds = [(name, pa.string()) for name in rows[0] if name not in vectors]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([*kinds, *((name, pa.list_(pa.float32(), DIMENSIONS)) for name in vectors)])
    )


def questions(drawn: random.Random, words: Sequence[str], number: int) -> list[Question]:
    found = [
        (np.array(unit(drawn), dtype=np.float32), " ".join(drawn.choices(words, k=drawn.randint(1, 9))))
        for _ in range(number)
    ]
    nothing = np.zeros(DIMENSIONS, dtype=np.float32)
    return [*found, (nothing, "pump"), (found[0][0], "  "), (nothing, ""), (found[0][0], 'zzz, (pump OR "IT')]


def alone(index: SearchIndex, version: int, asked: Sequence[Question], **where: object) -> list[list[str]]:
    return [[hit.document_id for hit in index.search(version, *each, 10, **where)] for each in asked]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "documents", "each", "words"),
    [
        (1, 300, 1, PLAIN),
        (2, 120, 4, PLAIN + CODES),
        (3, 150, 2, PLAIN + CODES + ODD),
        (4, 8, 90, PLAIN + ODD),
        (5, 12, 1, PLAIN),
    ],
    ids=["a passage each", "codes", "odd words", "few documents of many passages", "fewer than are compared"],
)
def test_documents_are_those_of_each_question_alone_after_every_edit(
    tmp_path: Path, seed: int, documents: int, each: int, words: Sequence[str]
) -> None:
    drawn = random.Random(seed)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    held = {name: passages(name, drawn, documents, each, words) for name in "abc"}
    version = index.replace(held, base_version=None)
    asked = questions(drawn, words, ranked_documents.FROM_QUESTIONS)
    for edit in (None, "change one", "insert", "delete", "change a partition"):
        one = drawn.randrange(held["b"].num_rows)
        match edit:
            case "change one":
                changed = pa.concat_tables(
                    [held["b"].slice(0, one), passages("b", drawn, 1, 1, words), held["b"].slice(one + 1)]
                )
            case "insert":
                changed = pa.concat_tables([held["b"], passages("b", drawn, documents + 3, 1, words).slice(documents)])
            case "delete":
                changed = pa.concat_tables([held["b"].slice(0, one), held["b"].slice(one + 1)])
            case _:
                changed = passages("b", drawn, documents, each, words)
        if edit is not None:
            held["b"] = changed
            version = index.replace({"b": changed}, base_version=version)
        found = index.documents_found(version, asked, 10)
        assert found.documents == alone(index, version, asked)
        assert found.asked < len(asked)


def test_few_of_many_questions_are_left_to_the_index(tmp_path: Path) -> None:
    """Those where documents are level; of texts that are not each other's twins there are hardly any."""
    drawn = random.Random(11)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    words = [f"word{number}" for number in range(300)]
    rows = [
        {"chunk_id": f"{n}/0", "document_id": str(n), "partition": "a", "title": f"word{n}",
         "text": " ".join(drawn.choices(words, k=drawn.randint(20, 80))), "vector": unit(drawn)}
        for n in range(200)
    ]  # fmt: skip
    schema = passages("a", drawn, 1, 1, words).schema
    version = index.replace({"a": pa.Table.from_pylist(rows, schema=schema)}, base_version=None)
    asked = questions(drawn, words, 3 * ranked_documents.FROM_QUESTIONS)
    found = index.documents_found(version, asked, 10)
    assert found.asked < len(asked) / 5
    assert found.documents == alone(index, version, asked)


@pytest.mark.parametrize("of", [(), ("summary",), ("text", "summary")])
def test_a_further_embedding_and_its_texts_are_those_of_the_index(tmp_path: Path, of: Sequence[str]) -> None:
    drawn = random.Random(7)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS, more={"vector_b": DIMENSIONS})
    version = index.replace({"a": passages("a", drawn, 90, 3, PLAIN, several=True)}, base_version=None)
    asked = questions(drawn, PLAIN, ranked_documents.FROM_QUESTIONS)
    rules = SearchRules(vector_weight=0.6)
    found = index.documents_found(version, asked, 10, column="vector_b", of=of, rules=rules)
    assert found.documents == alone(index, version, asked, column="vector_b", of=of, rules=rules)


@pytest.mark.parametrize("seed", range(4))
def test_by_the_second_rules_names_and_their_suffixes_count_the_same(tmp_path: Path, seed: int) -> None:
    """Documents whose names are words of the queries, some with a neighbour that differs only in a suffix."""
    drawn = random.Random(seed)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    table = passages("a", drawn, 150, 2, PLAIN + CODES)
    suffixes = ["", "-manual", "-pump", "_valve", "2"]
    names = [f"{drawn.choice(PLAIN)}{drawn.choice(suffixes)}-{n}" for n in range(150)]
    named = [f"a/{names[int(each.partition('-')[2])]}.md" for each in table["document_id"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("document_id"), "document_id", pa.array(named))
    version = index.replace({"a": table}, base_version=None)
    asked = questions(drawn, [*PLAIN, "manual"], ranked_documents.FROM_QUESTIONS)
    rules = SearchRules(version="2", vector_weight=drawn.choice([0.0, 0.2, 1.4]))
    found = index.documents_found(version, asked, 10, rules=rules)
    assert found.documents == alone(index, version, asked, rules=rules)
    assert found.documents != alone(index, version, asked)
    assert found.asked < len(asked)
    together = index.search_many(version, asked, 10, rules=rules)
    assert [[hit.document_id for hit in hits] for hits in together] == found.documents


def test_an_index_that_scores_otherwise_is_asked_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(13)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    version = index.replace({"a": passages("a", drawn, 200, 1, PLAIN)}, base_version=None)
    asked = questions(drawn, PLAIN, ranked_documents.FROM_QUESTIONS)
    monkeypatch.setattr(text_scores, "SATURATION", 1.21)
    found = index.documents_found(version, asked, 10)
    assert found.asked == len(asked)
    assert found.documents == alone(index, version, asked)


def test_few_questions_and_an_empty_index_are_asked_one_by_one(tmp_path: Path) -> None:
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    version = index.replace({}, base_version=None)
    asked = questions(random.Random(5), PLAIN, ranked_documents.FROM_QUESTIONS)
    assert index.documents_found(version, asked, 10).documents == [[]] * len(asked)
    assert index.documents_found(version, [], 10).documents == []


def test_few_questions_are_asked_after_an_edit_of_a_small_partition(tmp_path: Path) -> None:
    """A text index that takes in new rows goes on counting the words of removed ones, until they are many."""
    drawn = random.Random(17)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    words = [f"word{number}" for number in range(200)]
    held = {str(number): passages(str(number), drawn, 10, 2, words) for number in range(30)}
    version = index.replace(held, base_version=None)
    asked = questions(drawn, words, ranked_documents.FROM_QUESTIONS)
    for _ in range(3):
        held["7"] = passages("7", drawn, 10, 2, words)
        version = index.replace({"7": held["7"]}, base_version=version, words_anew=True)
    found = index.documents_found(version, asked, 10)
    assert found.asked < len(asked) / 2
    assert found.documents == alone(index, version, asked)


def test_words_counted_anew_score_as_in_an_index_without_earlier_edits(tmp_path: Path) -> None:
    drawn = random.Random(19)
    held = {str(number): passages(str(number), drawn, 10, 1, PLAIN) for number in range(30)}
    before = held | {"7": passages("7", drawn, 10, 1, PLAIN)}
    edited, fresh = (SearchIndex(tmp_path / name, "chunks", DIMENSIONS) for name in ("edited", "fresh"))
    version = edited.replace({"7": held["7"]}, base_version=edited.replace(before, base_version=None), words_anew=True)
    other = fresh.replace(held, base_version=None)
    for vector, text in questions(drawn, PLAIN, 30):
        scored = [[(hit.document_id, hit.score) for hit in index.search(at, vector, text, 10, mode="text")]
                  for index, at in ((edited, version), (fresh, other))]  # fmt: skip
        assert sorted(scored[0]) == sorted(scored[1])
