"""Many questions at once have the answers that each has alone."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ai_assets.storage import batch_search
from ai_assets.storage.index import SearchIndex

DIMENSIONS = 8
WORDS = "pump valve invoice INV-2043/77 Łódź the of and winter ticket committee parcel refund T-1041 was due".split()
Question = tuple[np.ndarray, str]


def passages(partition: str, drawn: random.Random, documents: int, each: int) -> pa.Table:
    names = [
        (f"{partition}-{document}", f"{partition}-{document}/{n}") for document in range(documents) for n in range(each)
    ]
    vectors = np.array([[drawn.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in names], dtype=np.float32)
    return pa.table(
        {
            "chunk_id": [chunk for _, chunk in names],
            "document_id": [document for document, _ in names],
            "partition": [partition] * len(names),
            "title": [" ".join(drawn.choices(WORDS, k=2)) for _ in names],
            "text": [" ".join(drawn.choices(WORDS, k=drawn.randint(1, 12))) for _ in names],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSIONS),
        }
    )


def questions(drawn: random.Random, number: int) -> list[Question]:
    found = [
        (
            np.array([drawn.gauss(0, 1) for _ in range(DIMENSIONS)], dtype=np.float32),
            " ".join(drawn.choices(WORDS, k=4)),
        )
        for _ in range(number)
    ]
    return [
        *found,
        (np.zeros(DIMENSIONS, dtype=np.float32), "pump"),
        (found[0][0], "  "),
        (found[0][0], "zzz, (pump OR"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "documents", "each"),
    [(1, 30, 1), (2, 80, 3), (3, 2, 150), (4, 60, 12)],
    ids=["few passages", "several per document", "two long documents", "as many as make a search widen"],
)
def test_each_question_has_the_answer_that_it_has_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, documents: int, each: int
) -> None:
    drawn = random.Random(seed)
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    version = index.replace({name: passages(name, drawn, documents, each) for name in "ab"}, base_version=None)
    version = index.replace({"b": passages("b", drawn, documents, each)}, base_version=version)
    asked = questions(drawn, 2 * batch_search.FROM_QUESTIONS)
    alone = [index.search(version, vector, text, 10) for vector, text in asked]
    assert index.search_many(version, asked, 10) == alone
    assert any(alone)
    monkeypatch.setattr(index, "search", None)  # they were not asked one by one
    assert index.search_many(version, asked, 10) == alone


def test_few_questions_and_an_empty_index_are_asked_one_by_one(tmp_path: Path) -> None:
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    version = index.replace({}, base_version=None)
    asked = questions(random.Random(5), batch_search.FROM_QUESTIONS)
    assert index.search_many(version, asked, 10) == [[]] * len(asked)
    assert index.search_many(version, [], 10) == []
