"""Claims about a whole collection whose vectors come from a model server: KServe's, plain and binary, and TEI's.

Passages, vectors, what they cost by document, the index, search, and a run that was killed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import Project
from engines import attempts, check_books, rows, states
from provider import Provider
from signing import decide

from ai_assets.collection.loading import Collection
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.embedding.text_vectors import vectors_in
from ai_assets.run.explain import search
from ai_assets.signoff.publication import publish

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
TENSORS: dict[str, Any] = {"input": "text", "output": "embedding"}
FORMS: dict[str, dict[str, Any]] = {
    "kserve": {"protocol": "kserve", "options": TENSORS},
    "kserve binary": {"protocol": "kserve", "options": {**TENSORS, "binary": True}},
    "tei": {"protocol": "tei"},
}
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as started:
        yield started


@pytest.fixture
def provider(server: Provider) -> Iterator[Provider]:
    with server.lent():
        yield server


def declare(project: Project, provider: Provider, form: str, per_day: int, **more: Any) -> Collection:
    """Priced by the token, which KServe does not count: then the most that was declared is."""
    embedder = {
        "base_url": provider.root,
        "model": "rehearsal-embed",
        "prices": [{"from": "2026-01-01", "input": 0.02}],
    }
    declared = {"endpoints": {"server": {**embedder, **FORMS[form], **more}},
                "routes": {"vectors": {"endpoints": ["server"]}}}  # fmt: skip
    (project.root / "inference.yaml").write_text(yaml.safe_dump(declared))
    project.documents(per_day=per_day)
    return project.declare(embedding={"route": "vectors", "dimensions": 256})


def embedded(project: Project, day: str) -> tuple[list[str], list[str], np.ndarray]:
    """The documents and texts of a partition's passages, and the vectors of those, in one order."""
    lake = project.stores().lake
    chunks, embeddings = lake.manifest("notes", "chunks", day), lake.manifest("notes", "embeddings", day)
    assert chunks is not None
    assert embeddings is not None
    passages = lake.read(chunks)
    found = lake.read(embeddings)
    assert found["chunk_id"].to_pylist() == passages["chunk_id"].to_pylist()
    return passages["document_id"].to_pylist(), passages["text"].to_pylist(), vectors_in(found)


def by_document(project: Project) -> dict[str, int]:
    """Nano-dollars."""
    found = rows(project.home.state_url, "SELECT document, sum(cost_nusd) AS nusd FROM attempts GROUP BY document")
    return {row.document: row.nusd for row in found}


@each_form
def test_a_collection_is_embedded_indexed_and_searched(form: str, project: Project, provider: Provider) -> None:
    collection = declare(project, provider, form, per_day=2)
    project.refresh(collection)
    documents = []
    for day in DAYS:
        whose, texts, vectors = embedded(project, day)
        assert np.allclose(vectors, BuiltinEmbedder().embed(texts), atol=1e-6), "what the rehearsal computes with"
        documents += whose
    decide(project.stores().state, collection, None)
    publish(collection, project.stores(), by="ann")
    _, hits = search(collection, project.stores(), "the conveyor", 3)
    assert hits[0].document_id == f"{DAYS[2]}/4.txt"
    paid = attempts(project.home.state_url)
    assert {(row.protocol, row.kind, row.state) for row in paid} == {(FORMS[form]["protocol"], "embed", "settled")}
    assert sorted(row.document for row in paid) == sorted([*documents, ""]), "one call a passage, one for the question"
    check_books(project.home.state_url)


@each_form
def test_each_document_bears_what_its_vectors_cost(form: str, project: Project, provider: Provider) -> None:
    collection = declare(project, provider, form, per_day=2)
    outcomes = [each for each in project.refresh(collection) if each.manifest.asset == "embeddings"]
    spent = by_document(project)
    assert len(spent) == 6
    assert all(spent.values())
    assert sum(spent.values()) == round(sum(each.cost_usd for each in outcomes) * 1e9)


@pytest.mark.slow
def test_what_a_model_server_cost_is_told_as_that_of_any_other(project: Project, provider: Provider) -> None:
    project.refresh(declare(project, provider, "tei", per_day=2))
    told = project.cli("cost", "--by", "document", "--since", "7d", "--json")
    assert told.returncode == 0, told.stderr
    lines = {line["document"]: line["cost_usd"] for line in yaml.safe_load(told.stdout)["lines"]}
    assert lines == {document: f"{nusd / 1e9:.9f}" for document, nusd in by_document(project).items()}


@each_form
def test_a_lost_lake_and_another_form_of_the_request_are_paid_for_no_more(
    form: str, project: Project, provider: Provider
) -> None:
    collection = declare(project, provider, form, per_day=2)
    project.refresh(collection)
    before = {day: embedded(project, day)[2] for day in DAYS}
    billed = provider.stats()["billed"]
    lake = project.stores().lake
    for day in DAYS:
        (lake.folder("notes", "embeddings", day) / "manifest.json").unlink()
    if form != "tei":
        other = "kserve" if form == "kserve binary" else "kserve binary"
        collection = declare(project, provider, other, per_day=2)
    project.refresh(collection)
    assert provider.stats()["billed"] == billed
    assert all(np.array_equal(embedded(project, day)[2], before[day]) for day in DAYS)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["kserve binary", "tei"])
def test_a_killed_run_goes_on_and_no_settled_text_is_asked_again(
    form: str, project: Project, provider: Provider
) -> None:
    provider.configure(latency_ms=150)
    collection = declare(
        project, provider, form, per_day=40, texts_per_request=2, limits={"concurrency": 2}
    )  # so that at most four texts are in flight
    process = subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "run", "notes", "--all"],
        cwd=project.root, env={**os.environ, "AI_ASSETS_HOME": str(project.home.root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    provider.wait_delivered(10)
    process.kill()
    process.wait(60)
    settled = {row.call_key for row in attempts(project.home.state_url) if row.state == "settled"}
    assert 10 <= len(settled) < 120, "it was killed on its way"
    provider.configure(latency_ms=0)
    project.refresh(collection)
    made = attempts(project.home.state_url)
    assert states(project.home.state_url)["settled"] == 120
    again = {row.call_key for row in made if row.previous_id is not None}
    assert not again & settled
    assert len(again) <= 4
    assert sum(row.state == "ambiguous" for row in made) == len(again)
    assert all(embedded(project, day)[2].shape == (40, 256) for day in DAYS)
    check_books(project.home.state_url)
