"""Five expectations over 100,000 rows of the lake, and how far that is from the same claims in plain Arrow.

Processor time, as the machine may be busy. Loading Great Expectations is told apart: a process pays for it once.
"""

import importlib
import random
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ai_assets.checks.quality import QualitySuite
from ai_assets.collection.expectations import Expectation
from ai_assets.storage.lake import read_parquet, writing_rows
from bench.measure import WORDS, Figure

ROWS = 100_000
TRIES = 5
SUITE = [
    Expectation.model_validate(line)
    for line in (
        {"expect": "expect_column_values_to_not_be_null", "column": "text"},
        {"expect": "expect_column_values_to_be_unique", "column": "document_id"},
        {"expect": "expect_column_values_to_be_in_set", "column": "label", "value_set": ["invoice", "contract"]},
        {"expect": "expect_column_values_to_be_between", "column": "confidence", "min_value": 0.01, "max_value": 1},
        {"expect": "expect_column_value_lengths_to_be_between", "column": "text", "min_value": 200},
    )
]


def measure() -> list[Figure]:
    drawn = random.Random(7)
    schema = pa.schema(
        {"document_id": pa.string(), "text": pa.string(), "label": pa.string(), "confidence": pa.float64()}
    )
    with tempfile.TemporaryDirectory() as folder:
        with writing_rows(Path(folder), schema) as out:
            for number in range(ROWS):
                text = " ".join(drawn.choices(WORDS, k=drawn.randint(10, 120)))
                label = drawn.choice(["invoice", "contract", "other"])
                out.append({"document_id": f"{number}.txt", "text": text, "label": label, "confidence": drawn.random()})
        began = time.process_time()
        importlib.import_module("great_expectations")
        loading_s = time.process_time() - began
        suite = QualitySuite("documents", SUITE, ["document_id"], {"text"})
        suite.run(read_parquet(out.path))
        ours, theirs = [], []
        for _ in range(TRIES):
            began = time.process_time()
            results = suite.run(read_parquet(out.path))
            ours.append(time.process_time() - began)
            began = time.process_time()
            found = _in_arrow(read_parquet(out.path))
            theirs.append(time.process_time() - began)
    assert [result.unexpected_count for result in results] == found
    ours_s, theirs_s = sorted(ours)[TRIES // 2], sorted(theirs)[TRIES // 2]
    detail = f"{theirs_s:.2f} s in plain Arrow; loading Great Expectations before takes {loading_s:.1f} s"
    return [
        Figure(name="processor seconds of five expectations over 100,000 rows", value=ours_s, limit=1.0, at_most=True,
               detail=detail),
    ]  # fmt: skip


def _in_arrow(table: pa.Table) -> list[int]:
    def count(mask: pa.ChunkedArray) -> int:
        return int(pc.sum(pc.cast(mask, pa.int64())).as_py() or 0)

    repeated = pc.value_counts(table["document_id"]).field("counts")
    return [
        table["text"].null_count,
        count(pc.greater(repeated, 1)),
        count(pc.invert(pc.is_in(table["label"], pa.array(["invoice", "contract"])))),
        count(pc.less(table["confidence"], 0.01)),
        count(pc.less(pc.utf8_length(table["text"]), 200)),
    ]
