"""Claims about `embeddings`: further ones by name, each an asset of vectors, searched and judged by its name."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import DAYS, Project
from provider import Provider
from signing import decide as approve
from signing import known, made_known, somebody
from test_embedded_texts import DAY, GIST, INFERENCE, furnished
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.embedding.spec import FIRST
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.forgetting.erasing import forget
from ai_assets.inference.load import load_inference
from ai_assets.planning.plan import plan
from ai_assets.run.datasets.score_gates import gate_verdicts
from ai_assets.run.errors import EmbeddingUnknown
from ai_assets.run.explain import explain, search
from ai_assets.signoff import integrity, proving, releases
from ai_assets.signoff.candidate import content_of_files
from ai_assets.signoff.errors import EmbeddingsMixed
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.publication import publish
from ai_assets.stages.base import Row

OF_GISTS: dict[str, Any] = {"gists": {"of": "gist"}}
ON_ROUTE = {"route": "vectors", "dimensions": 256}


@pytest.fixture
def office(project: Project) -> Project:
    return furnished(project)


def declared(office: Project, embeddings: dict[str, Any], **more: Any) -> Collection:
    return office.declare(**{"partitions": {**DAYS, "end": DAY}, "stages": [GIST], "embeddings": embeddings, **more})


def rows(office: Project, asset: str, day: str = DAY) -> list[Row]:
    manifest = office.stores().lake.manifest("notes", asset, day)
    assert manifest is not None
    return list(office.stores().lake.rows(manifest))


def live(office: Project, collection: Collection) -> releases.Release:
    stores = office.stores()
    approve(stores.state, collection)
    return publish(collection, stores, by="test").release


def found(office: Project, collection: Collection, text: str, by: str = FIRST) -> list[tuple[str, str]]:
    return [(hit.document_id[-5:], hit.text) for hit in search(collection, office.stores(), text, 5, by)[1]]


def test_each_embedding_is_an_asset_with_the_vectors_of_its_own_texts(office: Project) -> None:
    collection = declared(office, OF_GISTS)
    assert collection.asset_names == (
        "documents", "gist", "chunks", "embeddings", "embeddings_gists", "release_candidate",
    )  # fmt: skip
    assert collection.inputs_of("embeddings_gists") == ("chunks",)
    office.refresh(collection)
    of = {row["chunk_id"]: row["of"] for row in rows(office, "chunks")}
    assert sorted(of.values()) == ["gist", "gist", "text", "text", "text"]
    for asset, text, count in (("embeddings", "text", 3), ("embeddings_gists", "gist", 2)):
        vectors = rows(office, asset)
        assert [of[row["chunk_id"]] for row in vectors] == [text] * count
        assert all(row["vector"] is not None for row in vectors)


def test_a_search_by_name_finds_passages_of_that_embedding_and_no_others(office: Project) -> None:
    collection = declared(office, OF_GISTS)
    office.refresh(collection)
    release = live(office, collection)
    assert list(release.embeddings) == [FIRST, "gists"]
    assert found(office, collection, "heliotrope", "gists") == [
        ("a.txt", "heliotrope Alpha"), ("b.txt", "heliotrope Beta"),
    ]  # fmt: skip
    assert found(office, collection, "hall 7 heliotrope")[0] == ("a.txt", "Alpha pumps leak in hall 7.")
    assert all("heliotrope" not in text for _, text in found(office, collection, "heliotrope"))


def test_two_models_embed_the_same_passages(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(INFERENCE)
    collection = declared(office, {"careful": ON_ROUTE}, stages=[])
    outcomes = {each.manifest.asset: each for each in office.refresh(collection)}
    assert [row["chunk_id"] for row in rows(office, "embeddings")] == [
        row["chunk_id"] for row in rows(office, "embeddings_careful")
    ]
    assert outcomes["embeddings_careful"].cost_usd > 0
    assert outcomes["release_candidate"].manifest.stats["cost_usd"] == outcomes["embeddings_careful"].cost_usd
    live(office, collection)
    asked = len(provider.bills(every=True))
    assert found(office, collection, "leaking pumps")[0][0] == "a.txt"
    assert len(provider.bills(every=True)) == asked, "the first embedding is the built-in one"
    assert found(office, collection, "Alpha pumps leak in hall 7.", "careful")[0][0] == "a.txt"
    assert len(provider.bills(every=True)) == asked, "the text of a passage has a vector already"
    assert len(found(office, collection, "pumps that leak", "careful")) == 3
    assert len(provider.bills(every=True)) == asked + 1


def test_a_further_embedding_makes_no_vector_of_the_first_again(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(INFERENCE)
    office.refresh(declared(office, {}, embedding=ON_ROUTE))
    asked = len(provider.bills(every=True))
    for embeddings, embedded in ((OF_GISTS, 0), ({"gists": {"of": ["gist", "gist.more"]}}, 0), ({}, 0)):
        outcomes = {
            each.manifest.asset: each for each in office.refresh(declared(office, embeddings, embedding=ON_ROUTE))
        }
        assert outcomes["embeddings"].manifest.stats["texts_embedded"] == embedded
        assert outcomes["embeddings"].manifest.stats["texts_reused"] == 3
    assert len(provider.bills(every=True)) == asked


def test_without_further_embeddings_nothing_is_recorded_of_them(office: Project) -> None:
    collection = declared(office, {})
    office.refresh(collection)
    release = live(office, collection)
    with office.stores().state.read() as connection:
        manifest: str = connection.exec_driver_sql("SELECT manifest FROM releases").scalar_one()
    part = json.loads(manifest)["parts"][DAY]
    assert "embeddings" not in part
    assert "of" not in part["embedding"]
    chunks = snapshot_paths(office.stores().lake, "notes", DAY, release.parts[DAY])[1]
    assert pq.read_schema(chunks).names[-1] == "vector"


def test_all_partitions_of_a_release_have_the_same_embeddings(office: Project) -> None:
    office.document("2026-10-06/d.txt", "Delta notes on valves.")
    days = {**DAYS, "end": "2026-10-06"}
    before = declared(office, {}, partitions=days)
    office.refresh(before)
    first = live(office, before)
    after = declared(office, OF_GISTS, partitions=days)
    office.refresh(after, [DAY])
    with pytest.raises(EmbeddingsMixed) as raised:
        live(office, after)
    assert "gists: builtin/wordllama-256" in str(raised.value)
    assert "2026-10-06" in str(raised.value)
    with pytest.raises(EmbeddingUnknown) as unknown:
        search(after, office.stores(), "heliotrope", 5, "gists")
    assert "Release 1 of notes has no embedding 'gists': it has one embedding, without a name" in str(unknown.value)
    office.refresh(after)
    second = live(office, after)
    assert second.index_branch != first.index_branch
    assert found(office, after, "heliotrope", "gists")
    with pytest.raises(EmbeddingUnknown) as misspelt:
        search(after, office.stores(), "heliotrope", 5, "gist")
    assert "its further embeddings are gists" in str(misspelt.value)


def test_a_rollback_goes_back_to_the_embeddings_of_that_release(office: Project) -> None:
    before = declared(office, {})
    office.refresh(before)
    live(office, before)
    after = declared(office, OF_GISTS)
    office.refresh(after)
    live(office, after)
    state = office.stores().state
    releases.rollback(state, "notes", 1, by=made_known(state, somebody("ann")), reason="as it was")
    assert found(office, after, "hall 7")[0][0] == "a.txt"
    with pytest.raises(EmbeddingUnknown):
        search(after, office.stores(), "heliotrope", 5, "gists")


def test_what_people_sign_is_a_digest_of_all_vectors(office: Project) -> None:
    collection = declared(office, OF_GISTS)
    office.refresh(collection)
    release = live(office, collection)
    part = release.parts[DAY]
    documents, chunks = snapshot_paths(office.stores().lake, "notes", DAY, part)
    assert content_of_files(documents, chunks).content == part.content
    table = pq.read_table(chunks)
    column = table["vector_gists"]
    turned = [None if vector is None else [-number for number in vector] for vector in column.to_pylist()]
    at = table.schema.get_field_index("vector_gists")
    for name, altered in {
        "turned": table.set_column(at, "vector_gists", pa.array(turned, column.type)),
        "left out": table.drop_columns(["vector_gists"]),
    }.items():
        path = office.root / f"{name}.parquet"
        pq.write_table(altered, path)
        assert content_of_files(documents, path).content != part.content, name


def test_search_is_judged_by_each_embedding_and_each_can_have_a_gate(office: Project) -> None:
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    golden.write_text(json.dumps({"query": "heliotrope Beta", "documents": [f"{DAY}/b.txt"]}) + "\n")
    gates = [
        {"metric": "mrr", "min": 0.0},
        {"metric": "mrr", "stage": "embeddings_gists", "min": 1.0},
    ]
    collection = declared(office, OF_GISTS, golden={"queries": "golden.jsonl"}, gates=gates)
    outcomes = {each.manifest.asset: each for each in office.refresh(collection)}
    scores = {
        (score["metric"], score["stage"]): score["value"]
        for score in outcomes["evaluation_scores"].manifest.stats["scores"]
        if score["scope"] == "corpus"
    }
    assert {stage for _, stage in scores} == {None, "embeddings_gists"}
    assert scores["recall@1", "embeddings_gists"] == 1.0
    with office.work(collection) as work:
        verdicts: list[GateVerdict] = gate_verdicts(work, outcomes["evaluation_scores"].manifest)
    assert [(each.name, each.verdict) for each in verdicts] == [
        ("mrr", "passed"), ("mrr of embeddings_gists", "passed"),
    ]  # fmt: skip
    assert "not_found_in_5 gists" in outcomes["evaluation_scores"].manifest.stats["details"]


def test_the_index_that_search_is_judged_on_follows_a_change_of_embeddings(office: Project) -> None:
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    golden.write_text(json.dumps({"query": "heliotrope Beta", "documents": [f"{DAY}/b.txt"]}) + "\n")
    for embeddings in ({}, OF_GISTS, {"gists": {"of": ["gist", "gist.more"]}}, {}):
        collection = declared(office, embeddings, golden={"queries": "golden.jsonl"})
        outcomes = {each.manifest.asset: each for each in office.refresh(collection)}
        stages = {score["stage"] for score in outcomes["evaluation_scores"].manifest.stats["scores"]}
        assert stages == {None, *(["embeddings_gists"] if embeddings else [])}


def test_a_plan_prices_each_embedding(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(INFERENCE)
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    golden.write_text(json.dumps({"query": "heliotrope Beta", "documents": [f"{DAY}/b.txt"]}) + "\n")
    brief = {"name": "brief", "kind": "summarise"}
    embeddings = {"briefs": {"of": "brief", **ON_ROUTE}, "texts": ON_ROUTE}
    collection = declared(office, embeddings, stages=[brief], golden={"queries": "golden.jsonl"})
    inference = load_inference(office.root / "inference.yaml")

    def new_calls() -> dict[str, int]:
        return {each.stage: each.new_calls for each in plan(collection, office.stores(), inference).stages}

    names = {
        "embeddings_briefs", "embeddings_texts", "brief", "evaluation_scores (briefs)", "evaluation_scores (texts)",
    }  # fmt: skip
    before = new_calls()
    assert set(before) == names
    assert before["embeddings_texts"] == 3
    office.refresh(collection)
    assert set(new_calls().values()) == {0}


def test_a_document_without_vectors_says_of_which_embedding(office: Project, provider: Provider) -> None:
    (office.root / "inference.yaml").write_text(INFERENCE)
    provider.script([{"match": "Beta", "fault": "content_filter", "times": None}])
    collection = declared(office, {"careful": ON_ROUTE}, stages=[])
    office.refresh(collection)
    live(office, collection)
    told = explain(collection, office.stores(), f"{DAY}/b.txt")
    assert told["current"]["without_vectors careful"].startswith("refused")
    assert told["live"]["without_vectors"].startswith("careful: refused")


@pytest.mark.parametrize(
    ("embeddings", "says"),
    [
        ({"gists": {"of": "gits"}}, "embeddings.gists.of.0: there is no stage 'gits'; did you mean 'gist'?"),
        ({"Gists": {}}, "embeddings.Gists"),
        ({"own": {"backend": "builtin", "route": "vectors"}}, "an embedding has a 'backend' or a 'route', not both"),
        ({"far": {"route": "vectors"}}, "embeddings.far.dimensions: is missing"),
    ],
)
def test_what_cannot_be_an_embedding_is_refused_with_its_place(
    office: Project, embeddings: dict[str, Any], says: str
) -> None:
    with pytest.raises(CollectionInvalid) as raised:
        declared(office, embeddings)
    assert says in str(raised.value)
    assert "defs.yaml:" in str(raised.value)


def test_a_stage_cannot_have_the_name_of_its_asset(office: Project) -> None:
    with pytest.raises(CollectionInvalid, match="'embeddings_gists' has the name of a stage"):
        declared(office, OF_GISTS, stages=[GIST, {**GIST, "name": "embeddings_gists"}])


@pytest.mark.parametrize("stage", ["embeddings_gits", "gist"])
def test_a_gate_on_search_names_an_embedding(office: Project, stage: str) -> None:
    golden = office.root / "collections" / "notes" / "golden.jsonl"
    golden.write_text(json.dumps({"query": "heliotrope Beta", "documents": [f"{DAY}/b.txt"]}) + "\n")
    gate = {"metric": "mrr", "stage": stage, "min": 0.5}
    with pytest.raises(CollectionInvalid, match=r"gates\.0\.stage: unknown stage"):
        declared(office, OF_GISTS, golden={"queries": "golden.jsonl"}, gates=[gate])


def test_the_command_searches_by_name(office: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = declared(office, OF_GISTS)
    office.refresh(collection)
    live(office, collection)
    monkeypatch.chdir(office.root)
    done = CliRunner().invoke(app, ["search", "notes", "heliotrope", "--embedding", "gists", "--json"])
    assert done.exit_code == 0, done.output
    assert [hit["text"] for hit in json.loads(done.output)["hits"]] == ["heliotrope Alpha", "heliotrope Beta"]


def test_a_forgotten_document_is_in_no_embedding_any_more(office: Project) -> None:
    collection, stores = declared(office, OF_GISTS), office.stores()
    office.refresh(collection)
    live(office, collection)
    proving.prove(stores, "notes", None, f"{DAY}/a.txt")  # raises where the tree has another root
    forget(stores, collection, f"{DAY}/a.txt", by=known(stores.state, "ada", "admin"), reason="erasure request 3")
    office.refresh(collection)
    assert found(office, collection, "heliotrope Alpha", "gists") == [("b.txt", "heliotrope Beta")]
    assert [row["document_id"][-5:] for row in rows(office, "embeddings_gists")] == ["b.txt"]
    assert [area.first for area in integrity.verify(stores) if area.differences] == []
