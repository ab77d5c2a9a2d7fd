"""Claims about vectors of a model on a route, through the real engine to a rehearsal provider in a process of its own.

No text is paid for twice, no index has holes, and vectors that cannot be compared are never in one release.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, text_of
from engines import check_books, states
from provider import Provider
from signing import decide
from test_inference_test import Page, answering

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.embedding.errors import QueryNotEmbedded
from ai_assets.embedding.spec import FIRST
from ai_assets.embedding.text_vectors import vectors_in
from ai_assets.orchestration.events import metadata
from ai_assets.orchestration.specs import asset_spec
from ai_assets.run.context import Outcome
from ai_assets.run.errors import EmbedderLost, PartitionsFailed
from ai_assets.run.explain import search
from ai_assets.run.refresh import refresh
from ai_assets.run.status import partition_states
from ai_assets.signoff import verification
from ai_assets.signoff.errors import EmbeddingsMixed
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
PRICED = """\
endpoints:
  first: {{base_url: {url}, model: embed-a, prices: [{{from: 2026-01-01, input: 0.02}}], texts_per_request: {texts}}}
  twin: {{base_url: "http://127.0.0.1:1/v1", model: embed-a, free: true}}
  other: {{base_url: {url}, model: embed-b, prices: [{{from: 2026-01-01, input: 0.02}}]}}
routes:
  vectors: {{endpoints: [first]}}
  twins: {{endpoints: [twin, first]}}
  mixed: {{endpoints: [first, other]}}
retries: {{embed: {{server_error: {{attempts: 2, base_s: 0}}, unreachable: {{attempts: 1}}}}}}
"""
ROUTE: dict[str, Any] = {"route": "vectors", "dimensions": 256}
OTHER: dict[str, Any] = {"route": "other", "dimensions": 256}


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as started:
        yield started


@pytest.fixture
def provider(server: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", server.url)
    server.reset()
    server.configure(latency_ms=0)
    return server


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    """Two documents a day, each of one passage."""
    (project.root / "inference.yaml").write_text(PRICED.format(url="rehearsal", texts=64))
    project.documents(per_day=2)
    return project


def declare(project: Project, embedding: dict[str, Any] | None = None, **attributes: Any) -> Collection:
    return project.declare(embedding=ROUTE if embedding is None else embedding, **attributes)


def run(
    project: Project, collection: Collection, partitions: list[str] | None = None, run_id: str = "run"
) -> dict[str, Outcome]:
    """What became of the embeddings, by partition."""
    with project.work(collection, run_id) as work:
        found = [event for event in refresh(work, partitions or DAYS) if isinstance(event, Outcome)]
    return {item.manifest.partition: item for item in found if item.manifest.asset == "embeddings"}


def vectors(project: Project, partition: str = DAYS[0]) -> np.ndarray:
    lake = project.stores().lake
    manifest = lake.manifest("notes", "embeddings", partition)
    assert manifest is not None
    return vectors_in(lake.read(manifest))


def texts(project: Project, partition: str = DAYS[0]) -> list[str]:
    lake = project.stores().lake
    manifest = lake.manifest("notes", "chunks", partition)
    assert manifest is not None
    found: list[str] = lake.read(manifest)["text"].to_pylist()
    return found


def release(project: Project, collection: Collection, partitions: list[str] | None = None) -> Release:
    stores = project.stores()
    decide(stores.state, collection, partitions)
    return publish(collection, stores, by="ann").release


def found_by(project: Project, collection: Collection, text: str) -> list[str]:
    return [hit.document_id for hit in search(collection, project.stores(), text, 3)[1]]


# Vectors and what they cost


def test_a_passage_has_the_models_vector_of_length_one(office: Project, provider: Provider) -> None:
    outcomes = run(office, declare(office))
    found = vectors(office)
    assert found.shape == (2, 256)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.allclose(found, BuiltinEmbedder().embed(texts(office)), atol=1e-6)
    assert provider.stats()["calls"] == len(DAYS), "the texts of a partition share a request"
    spent = metadata(outcomes[DAYS[0]])
    assert (spent["calls"], spent["model"]) == (2, "embed-a")
    assert (spent["texts_embedded"], spent["texts_reused"]) == (2, 0)
    assert outcomes[DAYS[0]].cost_usd == spent["cost_usd"] > 0
    check_books(office.home.state_url)


def test_a_text_that_comes_again_anywhere_is_not_paid_again(office: Project, provider: Provider) -> None:
    terms = "Payment is due within thirty days of the date of the invoice, without any deduction whatever."
    for number in range(6):
        letter = f"{text_of(number)}\n\n{terms}"
        office.document(f"{DAYS[number // 2]}/{number}.txt", letter)
        office.document(f"{DAYS[number // 2]}/{number}.txt", letter, "memos")
    small = {"chunking": {"max_characters": 110}}
    collection = declare(office, **small)
    first = run(office, collection, [DAYS[0]])[DAYS[0]]
    assert (metadata(first)["calls"], first.manifest.rows) == (3, 4)
    later = run(office, collection, [DAYS[1]], "later")[DAYS[1]]
    assert (metadata(later)["calls"], metadata(later)["texts_reused"]) == (2, 1)
    assert 0 < later.cost_usd < later.manifest.stats["paid_usd"]
    billed = provider.stats()["billed"]
    elsewhere = run(office, office.declare("memos", embedding=ROUTE, **small), DAYS[:2], "elsewhere")
    assert [metadata(outcome)["texts_reused"] for outcome in elsewhere.values()] == [3, 3]
    assert sum(outcome.cost_usd for outcome in elsewhere.values()) == 0
    assert provider.stats()["billed"] == billed


def test_a_lost_lake_is_embedded_again_for_nothing_and_to_the_same_digest(office: Project, provider: Provider) -> None:
    collection = declare(office)
    lake = office.stores().lake

    def candidate() -> tuple[str, float]:
        manifest = lake.manifest("notes", "release_candidate", DAYS[0])
        assert manifest is not None
        return manifest.stats["digest"], manifest.stats["cost_usd"]

    paid = run(office, collection)[DAYS[0]].cost_usd
    before, billed = candidate(), provider.stats()["billed"]
    assert before[1] == pytest.approx(paid)
    for asset in ("embeddings", "release_candidate"):
        (lake.folder("notes", asset, DAYS[0]) / "manifest.json").unlink()
    run(office, collection, run_id="again")
    assert (candidate(), provider.stats()["billed"]) == (before, billed)


def test_a_changed_document_is_embedded_alone_and_the_cost_of_the_rest_stays(
    office: Project, provider: Provider
) -> None:
    collection = declare(office)
    run(office, collection)
    office.document(f"{DAYS[0]}/0.txt", "Another text about a crane.")
    outcome = run(office, collection, run_id="again")[DAYS[0]]
    assert (metadata(outcome)["texts_embedded"], metadata(outcome)["texts_reused"], outcome.reused) == (1, 1, 1)
    assert 0 < outcome.cost_usd < outcome.manifest.stats["paid_usd"]


def test_built_in_vectors_cost_nothing_and_have_no_column_for_it(office: Project, provider: Provider) -> None:
    outcome = run(office, office.declare())[DAYS[0]]
    assert (outcome.cost_usd, "calls" in metadata(outcome)) == (0.0, False)
    names = office.stores().lake.read(outcome.manifest).column_names
    assert names == ["chunk_id", "document_id", "text_digest", "vector"]
    assert provider.stats()["calls"] == 0


@pytest.mark.parametrize("dimensions", [64, 300])
def test_a_model_that_can_is_asked_for_shorter_vectors(office: Project, dimensions: int) -> None:
    collection = declare(office, {"route": "vectors", "dimensions": dimensions, "shorten": True})
    run(office, collection)
    assert vectors(office).shape == (2, dimensions)
    assert np.allclose(np.linalg.norm(vectors(office), axis=1), 1, atol=1e-6)


def test_a_vector_of_another_length_than_declared_stops_the_partition_and_says_so(
    office: Project, provider: Provider
) -> None:
    with pytest.raises(
        PartitionsFailed,
        match=r"Endpoint 'first' \(model embed-a\) gave a vector of 256 numbers, and collections/notes/defs\.yaml "
        r"declares embedding\.dimensions: 512",
    ):
        run(office, declare(office, {**ROUTE, "dimensions": 512}))
    billed = provider.stats()["billed"]
    run(office, declare(office), run_id="mended")
    assert provider.stats()["billed"] == billed


def test_a_vector_of_zeros_is_none(office: Project) -> None:
    def page(body: bytes) -> Page:
        texts = json.loads(body)["input"]
        data = [
            {"index": number, "object": "embedding", "embedding": [0.0 if "Note 2 on" in text else 1.0] * 256}
            for number, text in enumerate(texts)
        ]
        return 200, json.dumps({"object": "list", "model": "embed-a", "data": data, "usage": {"prompt_tokens": 9}})

    with answering({("POST", "/v1/embeddings"): page}) as zeros:
        (office.root / "inference.yaml").write_text(PRICED.format(url=f"{zeros.url}/v1", texts=64))
        with pytest.raises(PartitionsFailed) as failed:
            run(office, declare(office, {**ROUTE, "without_vectors_at_most": 0}))
    said = failed.value.errors[DAYS[1]]
    assert f"'{DAYS[1]}/2.txt' (invalid_output: all numbers of its vector are 0" in said


def test_what_no_request_can_hold_is_embedded_without_it(office: Project) -> None:
    with office.work(declare(office)) as work:
        found = work.embedder("search", "", work.collection.spaces[FIRST]).embed(
            ["\ud800 pump \x00", "", "  \n", "\ud800"]
        )
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 0, 0, 1], abs=1e-6)


def test_the_next_endpoint_of_the_same_model_is_asked_when_the_first_is_gone(office: Project) -> None:
    run(office, declare(office, {"route": "twins", "dimensions": 256}))
    assert vectors(office).shape == (2, 256)


# What cannot be embedded


def test_a_text_nobody_embeds_stops_its_partition_alone_and_the_rest_is_kept(
    office: Project, provider: Provider
) -> None:
    provider.script([{"match": "Note 2 on", "fault": "content_filter", "times": None}])
    collection = declare(office, {**ROUTE, "without_vectors_at_most": 0})
    with pytest.raises(PartitionsFailed) as failed:
        run(office, collection)
    assert set(failed.value.errors) == {DAYS[1]}
    said = failed.value.errors[DAYS[1]]
    assert said.startswith(f"The model embeds 1 of the 2 documents of {DAYS[1]} not")
    assert f"'{DAYS[1]}/2.txt' (refused: HTTP 400" in said
    assert f"ai-assets run notes --partition {DAYS[1]}" in said
    assert partition_states(collection, office.stores()) == {
        DAYS[0]: "awaiting sign-off", DAYS[1]: "failed", DAYS[2]: "awaiting sign-off",
    }  # fmt: skip
    assert office.stores().lake.manifest("notes", "embeddings", DAYS[1]) is None
    billed = provider.stats()["billed"]
    provider.script([])
    run(office, collection, run_id="mended")
    assert provider.stats()["billed"] == billed + 1, "the other text of that day was kept"


@pytest.mark.slow
def test_a_killed_run_pays_again_at_most_for_what_was_in_flight(
    project: Project, server: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", server.url)
    server.reset()
    server.configure(latency_ms=60)
    limited = PRICED.format(url="rehearsal", texts=1).replace(
        "embed-a, prices", "embed-a, limits: {concurrency: 4}, prices", 1
    )
    (project.root / "inference.yaml").write_text(limited)
    project.documents(per_day=30)
    collection = declare(project)
    process = subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "run", "notes", "--all"],
        cwd=project.root, env={**os.environ, "AI_ASSETS_HOME": str(project.home.root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    server.wait_delivered(30)
    process.kill()
    process.wait(60)
    server.configure(latency_ms=0)
    run(project, collection, run_id="after")
    stats = server.stats()
    assert stats["unique_billed"] == 90
    assert stats["billed_twice"] <= 4
    assert states(project.home.state_url)["settled"] == 90
    assert all(len(vectors(project, day)) == 30 for day in DAYS)


# Search and golden queries


def test_search_embeds_the_question_and_pays_for_it_once(office: Project, provider: Provider) -> None:
    collection = declare(office)
    run(office, collection)
    release(office, collection)
    billed = provider.stats()["billed"]
    first = found_by(office, collection, "leak in hall 14")
    assert first[0] == f"{DAYS[1]}/2.txt"
    assert found_by(office, collection, "leak in hall 14") == first
    assert provider.stats()["billed"] == billed + 1
    said = office.cli("search", "notes", "leak in hall 14", "--json")
    assert [hit["document_id"] for hit in json.loads(said.stdout)["hits"]][:3] == first
    assert provider.stats()["billed"] == billed + 1
    with office.stores().state.read() as connection:
        asked = connection.exec_driver_sql("SELECT collection, asset FROM callers WHERE asset = 'search'").all()
    assert {tuple(row) for row in asked} == {("notes", "search")}


def test_a_question_nobody_embeds_is_an_error_and_not_half_an_answer(office: Project, provider: Provider) -> None:
    collection = declare(office)
    run(office, collection)
    release(office, collection)
    provider.script([{"match": "zeppelin", "fault": "server_error", "times": None}])
    with pytest.raises(QueryNotEmbedded, match=r"The query 'zeppelin' could not be embedded: server_error: HTTP 500"):
        search(collection, office.stores(), "zeppelin", 3)


def golden(project: Project) -> dict[str, str]:
    path = project.root / "collections/notes/queries.jsonl"
    path.write_text(json.dumps({"query": "leak in hall 14", "documents": [f"{DAYS[1]}/2.txt"]}) + "\n")
    return {"queries": "queries.jsonl"}


def recall(project: Project, partition: str) -> list[tuple[float | None, int]]:
    lake = project.stores().lake
    manifest = lake.manifest("notes", "evaluation_scores", partition)
    assert manifest is not None
    wanted = ("recall@1", "corpus")
    return [(s["value"], s["n"]) for s in manifest.stats["scores"] if (s["metric"], s["scope"]) == wanted]


def test_golden_queries_are_embedded_once_by_the_same_model(office: Project, provider: Provider) -> None:
    collection = declare(office, golden=golden(office))
    run(office, collection)
    assert provider.stats()["billed"] == len(DAYS) + 1
    assert recall(office, DAYS[0]) == [(1.0, 1)]
    office.document(f"{DAYS[0]}/0.txt", text_of(1))
    run(office, collection, run_id="again")
    assert provider.stats()["billed"] == len(DAYS) + 1
    with office.stores().state.read() as connection:
        spent = connection.exec_driver_sql(
            "SELECT count(*) FROM callers WHERE asset = 'evaluation_scores'"
        ).scalar_one()
    assert spent >= 1


def test_search_is_judged_on_vectors_of_one_embedder(office: Project) -> None:
    asked = golden(office)
    run(office, office.declare(golden=asked))
    changed = declare(office, {"route": "vectors", "dimensions": 64, "shorten": True}, golden=asked)
    run(office, changed, [DAYS[0]], "first day")
    assert recall(office, DAYS[0]) == [(None, 0)], "the day of the golden document has old vectors yet"
    run(office, changed, run_id="all days")
    assert recall(office, DAYS[2]) == [(1.0, 1)]
    run(office, office.declare(golden=asked), run_id="and back")
    assert recall(office, DAYS[2]) == [(1.0, 1)]


# Another embedder


def test_another_embedder_makes_the_vectors_stale_and_no_other_dataset(office: Project) -> None:
    before = office.declare()
    run(office, before)
    after = declare(office)
    assert {name for name, version in after.code_versions.items() if before.code_versions[name] != version} == {
        "embeddings"
    }
    assert set(partition_states(after, office.stores()).values()) == {"stale"}
    assert asset_spec(after, "embeddings").kinds == {"parquet", "llm"}


@pytest.mark.parametrize(
    ("embedding", "changes"),
    [
        pytest.param({**OTHER}, True, id="model"),
        pytest.param({**ROUTE, "dimensions": 64}, True, id="dimensions"),
        pytest.param({**ROUTE, "route": "first"}, False, id="another name for the same endpoint"),
    ],
)
def test_the_code_version_is_that_of_model_address_and_length(
    office: Project, embedding: dict[str, Any], changes: bool
) -> None:
    version = declare(office).code_versions["embeddings"]
    assert (declare(office, embedding).code_versions["embeddings"] != version) == changes


def test_prices_and_limits_make_nothing_stale(office: Project) -> None:
    version = declare(office).code_versions["embeddings"]
    (office.root / "inference.yaml").write_text(PRICED.format(url="rehearsal", texts=8).replace("0.02", "0.13"))
    assert declare(office).code_versions["embeddings"] == version


def test_a_route_to_two_models_and_an_unknown_one_are_refused(office: Project) -> None:
    with pytest.raises(
        CollectionInvalid,
        match=r"defs\.yaml:\d+: embedding\.route: route 'mixed' leads to embed-a and embed-b, and vectors of different "
        "models cannot be compared",
    ):
        declare(office, {**ROUTE, "route": "mixed"})
    with pytest.raises(CollectionInvalid, match=r"unknown route or endpoint 'vector'; did you mean 'vectors'\?"):
        declare(office, {**ROUTE, "route": "vector"})


@pytest.mark.parametrize("dimensions", [256, 64])
def test_a_live_release_is_searched_as_it_was_embedded_until_all_is_published_anew(
    office: Project, dimensions: int
) -> None:
    old = office.declare()
    run(office, old)
    first = release(office, old)
    new = declare(office, {"route": "vectors", "dimensions": dimensions, "shorten": True})
    best = f"{DAYS[1]}/2.txt"
    assert found_by(office, new, "leak in hall 14")[0] == best
    run(office, new, DAYS[:2])
    with pytest.raises(EmbeddingsMixed, match=rf"Still embedded by another: {DAYS[2]}\. Run them"):
        release(office, new)
    assert search(new, office.stores(), "leak in hall 14", 3)[0].number == first.number
    run(office, new, [DAYS[2]])
    second = release(office, new)
    assert (second.number, list(second.parts)) == (2, DAYS)
    assert second.index_branch != first.index_branch
    assert found_by(office, new, "leak in hall 14")[0] == best
    office.document(f"{DAYS[0]}/0.txt", "Another text about a crane.")
    run(office, new)
    third = release(office, new)
    assert (third.number, third.index_branch) == (3, second.index_branch)
    assert found_by(office, new, "crane")[0] == f"{DAYS[0]}/0.txt"
    verification.verify(office.stores().state)


def test_a_new_name_of_the_same_vectors_is_signed_again_and_then_published(office: Project) -> None:
    """The rehearsal provider gives every model the same vectors: no row changes, and still a person decides."""
    old, new = declare(office), declare(office, OTHER)
    run(office, old)
    release(office, old)
    run(office, new)
    assert set(partition_states(new, office.stores()).values()) == {"awaiting sign-off"}
    assert release(office, new).embeddings == new.spaces


def test_another_version_of_the_built_in_embedder_is_another_embedder(
    office: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = office.declare()
    run(office, before)
    first = release(office, before)
    monkeypatch.setattr("ai_assets.embedding.builtin.ALGORITHM_VERSION", "next")
    after = office.declare()
    with pytest.raises(EmbedderLost, match="another version of it is installed"):
        search(after, office.stores(), "leak", 3)
    run(office, after)
    second = release(office, after)
    assert list(second.parts) == list(first.parts)
    assert found_by(office, after, "leak in hall 14")[0] == f"{DAYS[1]}/2.txt"


def test_a_release_whose_model_is_gone_says_what_to_bring_back(office: Project) -> None:
    old = declare(office)
    run(office, old)
    release(office, old)
    (office.root / "inference.yaml").write_text(PRICED.format(url="rehearsal", texts=64).replace("embed-a", "embed-c"))
    with pytest.raises(
        EmbedderLost, match=r"embed-a \(256 dimensions\).* no endpoint of inference\.yaml has that model"
    ):
        search(declare(office), office.stores(), "leak", 3)


def test_a_partition_without_passages_fits_with_any_embedder(office: Project) -> None:
    old = office.declare()
    run(office, old)
    release(office, old)
    for number in (4, 5):
        (office.root / f"collections/notes/documents/{DAYS[2]}/{number}.txt").unlink()
    run(office, old)
    release(office, old)
    new = declare(office)
    run(office, new)
    stores = office.stores()
    waiting = [day for day, state in partition_states(new, stores).items() if state == "awaiting sign-off"]
    assert waiting == DAYS[:2]
    assert release(office, new).number == 3
    assert found_by(office, new, "leak in hall 14")[0] == f"{DAYS[1]}/2.txt"
