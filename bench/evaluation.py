"""Golden queries after an edit: asked one by one, as they were, and as the evaluation asks them now."""

import random
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.storage.index import SearchIndex
from bench.measure import WORDS, Figure

PASSAGES = 3_000
QUERIES = 400
"""Of the 2,981 of issue 14: what one takes does not depend on how many there are."""
OF_ISSUE = 2_981
DEPTH = 10


def measure() -> list[Figure]:
    drawn, embedder = random.Random(7), BuiltinEmbedder()
    texts = [" ".join(drawn.choices(WORDS, k=60)) for _ in range(PASSAGES)]
    queries = [" ".join(drawn.choices(WORDS, k=8)) for _ in range(QUERIES)]
    vectors = embedder.embed(texts)
    rows = pa.table(
        {
            "chunk_id": [f"{number}#0" for number in range(PASSAGES)],
            "document_id": [str(number) for number in range(PASSAGES)],
            "partition": ["all"] * PASSAGES,
            "title": [text[:30] for text in texts],
            "text": texts,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        index = SearchIndex(Path(folder), "evaluation", vectors.shape[1])
        version = index.replace({"all": rows}, base_version=None)
        questions = list(zip(embedder.embed(queries), queries, strict=True))
        index.search(version, *questions[0], DEPTH)
        started = time.perf_counter()
        alone = [index.search(version, vector, text, DEPTH) for vector, text in questions]
        one_by_one_s = time.perf_counter() - started
        started = time.perf_counter()
        together = index.search_many(version, questions, DEPTH)
        together_s = time.perf_counter() - started
    assert together == alone
    detail = (
        f"{one_by_one_s / QUERIES * 1000:.1f} ms and {together_s / QUERIES * 1000:.1f} ms a query; {OF_ISSUE} would "
    )
    detail += f"take {one_by_one_s / QUERIES * OF_ISSUE:.0f} s and {together_s / QUERIES * OF_ISSUE:.0f} s"
    return [
        Figure(
            name="golden queries together, against one by one", value=one_by_one_s / together_s, limit=2.0,
            at_most=False, detail=detail,
        )
    ]  # fmt: skip
