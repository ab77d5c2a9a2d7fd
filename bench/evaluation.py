"""Golden queries after an edit: asked one by one, asked together, and computed as the evaluation does now.

Processor time, as the machine may be busy: what one by one and together take is measured on some of the queries.
"""

import random
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.storage.index import SearchIndex
from bench.measure import WORDS, Figure

PASSAGES = 3_000
QUERIES = 2_981
"""Of issue 14."""
ASKED = 300
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
        started = time.process_time()
        alone = [index.search(version, vector, text, DEPTH) for vector, text in questions[:ASKED]]
        one_by_one_s = (time.process_time() - started) / ASKED * QUERIES
        started = time.process_time()
        together = index.search_many(version, questions[:ASKED], DEPTH)
        together_s = (time.process_time() - started) / ASKED * QUERIES
        started = time.process_time()
        computed = index.documents_found(version, questions, DEPTH)
        computed_s = time.process_time() - started
    assert together == alone
    assert computed.documents[:ASKED] == [[hit.document_id for hit in hits] for hits in alone]
    detail = f"{QUERIES} queries take {computed_s:.1f} s of processor time, and {computed.asked} of them were asked; "
    detail += f"together they would take {together_s:.0f} s and one by one {one_by_one_s:.0f} s"
    return [
        Figure(
            name="golden queries computed, against asked together", value=together_s / computed_s, limit=4.0,
            at_most=False, detail=detail,
        ),
        Figure(name="processor seconds of golden queries", value=computed_s, limit=3.0, at_most=True, detail=detail),
    ]  # fmt: skip
