"""Claims about `embedding.of`: passages are cut from what stages wrote, and search finds them."""

from typing import Any

import pytest
from conftest import DAYS, Project
from provider import Provider
from signing import decide as approve

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.inference.load import load_inference
from ai_assets.planning.plan import plan
from ai_assets.run.explain import search
from ai_assets.signoff.publication import publish
from ai_assets.stages.base import Row
from ai_assets.stages.function import resolve

DAY = "2026-10-05"
OWN = """
from ai_assets import Quarantine, stage

@stage(version="{version}", columns={{"gist": str, "words": int, "more": str}})
def gist(document):
    if "secret" in document.text:
        raise Quarantine("not to be told")
    return {{"gist": "{word} " + document.text.split()[0], "words": 2, "more": "extra words of it"}}

@stage(columns={{"part": str}}, rows="many")
def parts(document):
    return []
"""
GIST = {"name": "gist", "kind": "function", "function": "./own.py:gist"}
PARTS = {"name": "parts", "kind": "function", "function": "./own.py:parts"}
INFERENCE = """
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
  embedder: {base_url: rehearsal, model: embed, prices: [{from: 2026-01-01, input: 1}]}
routes: {default: {endpoints: [small]}, vectors: {endpoints: [embedder]}}
"""


@pytest.fixture
def office(project: Project) -> Project:
    return furnished(project)


def furnished(project: Project) -> Project:
    """Three documents, of which the stage says something of two."""
    project.document(f"{DAY}/a.txt", "Alpha pumps leak in hall 7.")
    project.document(f"{DAY}/b.txt", "Beta invoices are due.")
    project.document(f"{DAY}/c.txt", "A secret note.")
    written(project, "heliotrope")
    return project


def written(project: Project, word: str, version: str = "1") -> None:
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(OWN.format(word=word, version=version))
    resolve.cache_clear()


def declared(office: Project, of: Any, **more: Any) -> Collection:
    embedding = {**more.pop("embedding", {}), "of": of}
    return office.declare(partitions={**DAYS, "end": DAY}, stages=[GIST], embedding=embedding, **more)


def chunks(office: Project) -> list[Row]:
    manifest = office.stores().lake.manifest("notes", "chunks", DAY)
    assert manifest is not None
    return list(office.stores().lake.rows(manifest))


def live(office: Project, collection: Collection) -> None:
    stores = office.stores()
    approve(stores.state, collection)
    publish(collection, stores, by="test")


def test_a_stages_text_is_embedded_instead_of_the_documents(office: Project) -> None:
    collection = declared(office, "gist")
    assert collection.asset_names.index("gist") < collection.asset_names.index("chunks")
    office.refresh(collection)
    assert [(row["text"], row["of"]) for row in chunks(office)] == [
        ("heliotrope Alpha", "gist"), ("heliotrope Beta", "gist"),
    ]  # fmt: skip
    live(office, collection)
    _, hits = search(collection, office.stores(), "heliotrope", 5)
    assert {hit.document_id for hit in hits} == {f"{DAY}/a.txt", f"{DAY}/b.txt"}
    assert {hit.text for hit in hits} == {"heliotrope Alpha", "heliotrope Beta"}


def test_beside_the_documents_own_text_each_passage_says_which_it_is_from(office: Project) -> None:
    collection = declared(office, ["text", "gist.more"])
    office.refresh(collection)
    found = [(row["document_id"][-5:], row["ordinal"], row["of"], row["text"]) for row in chunks(office)]
    assert found == [
        ("a.txt", 0, "text", "Alpha pumps leak in hall 7."), ("a.txt", 1, "gist.more", "extra words of it"),
        ("b.txt", 0, "text", "Beta invoices are due."), ("b.txt", 1, "gist.more", "extra words of it"),
        ("c.txt", 0, "text", "A secret note."),
    ]  # fmt: skip
    assert len({row["chunk_id"] for row in chunks(office)}) == len(found)
    live(office, collection)
    assert search(collection, office.stores(), "hall", 1)[1][0].document_id == f"{DAY}/a.txt"


def test_only_what_a_stage_wrote_anew_is_cut_and_embedded_anew(office: Project) -> None:
    office.refresh(declared(office, ["text", "gist"]))
    before = {row["chunk_id"] for row in chunks(office) if row["of"] == "text"}
    assert all(outcome.unchanged for outcome in office.refresh(declared(office, ["text", "gist"])))
    written(office, "aquamarine blue", version="2")
    outcomes = {each.manifest.asset: each for each in office.refresh(declared(office, ["text", "gist"]))}
    assert {row["chunk_id"] for row in chunks(office) if row["of"] == "text"} == before
    assert outcomes["embeddings"].manifest.stats["texts_embedded"] == 2
    assert outcomes["embeddings"].manifest.stats["texts_reused"] == 3


def test_the_documents_own_text_alone_is_what_it_always_was(office: Project) -> None:
    first = office.declare(partitions={**DAYS, "end": DAY}, stages=[GIST])
    second = declared(office, "text")
    assert first.code_versions == second.code_versions
    assert first.asset_names == second.asset_names == (
        "documents", "chunks", "embeddings", "gist", "release_candidate",
    )  # fmt: skip


def test_a_plan_knows_of_passages_that_are_still_to_be_written(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(INFERENCE)
    brief = {"name": "brief", "kind": "summarise"}
    embedding = {"of": "brief", "route": "vectors", "dimensions": 256}
    collection = office.declare(partitions={**DAYS, "end": DAY}, stages=[brief], embedding=embedding)
    inference = load_inference(office.root / "inference.yaml")

    def planned() -> Any:
        found = plan(collection, office.stores(), inference)
        return next(each for each in found.stages if each.stage == "embeddings")

    before = planned()
    assert before.calls.high >= 3
    office.refresh(collection)
    assert len(provider.bills(every=True)) == 4, "three summaries, and one request for the vectors of all"
    assert planned().new_calls == 0


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ("gits", "embedding.of.0: there is no stage 'gits'; did you mean 'gist'?"),
        (["text", "text"], "embedding.of: names a text twice"),
        ([], "embedding.of: names no text"),
        ("gist.words", "embedding.of.0: 'gist' has no column 'words' of text"),
        ("gist.gits", "'gist' has no column 'gits' of text; did you mean 'gist'?"),
        ("parts", "'parts' makes several rows of a document"),
    ],
)
def test_a_text_that_cannot_be_embedded_is_refused_with_its_place(office: Project, of: Any, says: str) -> None:
    with pytest.raises(CollectionInvalid) as raised:
        office.declare(partitions={**DAYS, "end": DAY}, stages=[GIST, PARTS], embedding={"of": of})
    assert says in str(raised.value)
    assert "defs.yaml:" in str(raised.value)
