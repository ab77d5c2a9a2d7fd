"""The sample collection: what is in it, and what the built-in backends make of it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.documents.parse import format_of
from ai_assets.run.context import Outcome, Work
from ai_assets.run.refresh import refresh
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
HANDBOOK = load_collection(ROOT / "collections", "handbook")
DOCUMENTS = HANDBOOK.folder / "documents"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collection, Stores, list[Outcome]]]:
    """The whole collection, without the quality suites (Great Expectations has tests of its own)."""
    home = tmp_path_factory.mktemp("home")
    collection = replace(HANDBOOK, settings=HANDBOOK.settings.model_copy(update={"quality": {}}))
    stores = Stores.at(Home(root=home, project=ROOT))
    with Work(collection, stores, "test") as work:
        outcomes = [event for event in refresh(work, collection.scheme.keys()) if isinstance(event, Outcome)]
    yield collection, stores, outcomes
    stores.state.close()


def rows(computed: tuple[Collection, Stores, list[Outcome]], asset: str) -> list[dict[str, object]]:
    collection, stores, _ = computed
    found: list[dict[str, object]] = []
    for partition in collection.scheme.keys():
        manifest = stores.lake.manifest(collection.name, asset, partition)
        assert manifest is not None
        found += stores.lake.read(manifest).to_pylist()
    return found


def test_it_has_some_life_in_it(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    documents = rows(computed, "documents")
    readable = [row for row in documents if row["status"] == "ok"]
    assert len(readable) >= 60
    assert len({format_of(str(row["path"])) for row in readable}) >= 6
    assert len(HANDBOOK.scheme.keys()) >= 12
    assert len(HANDBOOK.stages[0].labels) == 6
    assert {row["language"] for row in readable} >= {"en", "de", "nl", "pl"}
    assert Counter(str(row["status"]) for row in documents)["duplicate"] == 1


def test_its_broken_files_are_quarantined_with_a_reason(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    broken = {
        str(row["path"]): str(row["reason"]) for row in rows(computed, "documents") if row["status"] == "quarantined"
    }
    assert "2026-10-11/scan-0093.pdf" in broken
    assert "byte 62" in broken["2026-10-15/fax-transcript.txt"]
    assert "empty" in broken["2026-10-10/minutes.md"]
    assert "link" in broken["2026-10-09/linked-readme.md"]


def score(computed: tuple[Collection, Stores, list[Outcome]], metric: str) -> tuple[float, int]:
    row = next(
        row for row in rows(computed, "evaluation_scores") if row["metric"] == metric and row["scope"] == "corpus"
    )
    return float(str(row["value"])), int(str(row["n"]))


def test_labels_are_right_at_least_85_times_in_100(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    accuracy, judged = score(computed, "accuracy")
    assert judged >= 40
    assert accuracy >= 0.85


def test_search_finds_at_least_90_in_100_among_the_first_five(
    computed: tuple[Collection, Stores, list[Outcome]],
) -> None:
    recall, judged = score(computed, "recall@5")
    assert judged >= 25
    assert recall >= 0.90


def test_low_confidence_means_something(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    golden = {item.document: item.label for item in HANDBOOK.golden_labels}
    judged = sorted(
        (float(str(row["confidence"])), row["label"] == golden[str(row["document_id"])])
        for row in rows(computed, "classification")
        if row["document_id"] in golden
    )
    half = len(judged) // 2
    unsure = sum(right for _, right in judged[:half]) / half
    sure = sum(right for _, right in judged[-half:]) / half
    assert sure > unsure


def test_evidence_is_a_sentence_of_the_document(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    texts = {row["document_id"]: f"{row['title']}\n{row['text']}" for row in rows(computed, "documents")}
    for row in rows(computed, "classification"):
        assert str(row["evidence"]) in texts[row["document_id"]]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def test_descriptions_examples_and_golden_data_do_not_overlap(
    computed: tuple[Collection, Stores, list[Outcome]],
) -> None:
    golden = {item.document for item in HANDBOOK.golden_labels} | {
        d for q in HANDBOOK.golden_queries for d in q.documents
    }
    texts = [words(str(row["text"])) for row in rows(computed, "documents") if row["document_id"] in golden]
    seen = {tuple(text[n : n + 6]) for text in texts for n in range(len(text) - 5)}
    seen |= {tuple(words(q.query)[n : n + 6]) for q in HANDBOOK.golden_queries for n in range(len(words(q.query)) - 5)}
    for label in HANDBOOK.stages[0].labels:
        for written in (label.description, *label.examples):
            taken = words(written)
            for n in range(len(taken) - 5):
                assert tuple(taken[n : n + 6]) not in seen, written


def test_the_classifier_was_developed_on_other_texts(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    path = ROOT / "tests" / "data" / "classify_dev.jsonl"
    developed = {json.loads(line)["text"].strip() for line in path.read_text(encoding="utf-8").splitlines() if line}
    assert not developed & {str(row["text"]).strip() for row in rows(computed, "documents")}


def test_a_second_run_computes_nothing(computed: tuple[Collection, Stores, list[Outcome]]) -> None:
    collection, stores, first = computed
    with Work(collection, stores, "again") as work:
        second = [event for event in refresh(work, collection.scheme.keys()) if isinstance(event, Outcome)]
    assert all(outcome.unchanged for outcome in second)
    assert [outcome.manifest.version for outcome in second] == [
        stores.lake.manifest(collection.name, o.manifest.asset, o.manifest.partition).version  # type: ignore[union-attr]
        for o in second
    ]
    assert len(second) == len(first)
