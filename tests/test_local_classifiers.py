"""Claims about stages that declare a classifier which is loaded here, without torch: what is read from its files, what
is refused when the collection loads, and what a plan and a run say where torch is missing."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import DAYS, Project

from ai_assets.base import extras
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.inference.load import load_inference
from ai_assets.local_models.presence import why_not_here
from ai_assets.planning.plan import plan
from ai_assets.planning.records import DevicePlan
from ai_assets.run.errors import PartitionsFailed

DAY = "2026-10-05"
NAMES = ("invoice", "report", "note")
NO_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")


def labels(*named: str, **outputs: str) -> list[dict[str, str]]:
    said = {**dict.fromkeys(named, ""), **outputs}
    made = [{"name": name, "description": f"A document that is one: {name}", "output": said[name]} for name in said]
    return [{key: value for key, value in each.items() if value} for each in made]


def model(project: Project, id2label: tuple[str, ...] = NAMES, *, weights: bytes | None = b"numbers") -> Path:
    folder = project.root / "collections" / "notes" / "models" / "topics"
    folder.mkdir(parents=True, exist_ok=True)
    said = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": dict(enumerate(id2label)),
        "model_type": "bert",
        "max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(said))
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


def declare(project: Project, *, of: list[dict[str, str]] | None = None, **stage: Any) -> Collection:
    said = {"backend": "torch", "model": "models/topics", **stage}
    said = {name: value for name, value in said.items() if value is not None}
    stages = [{"name": "triage", "kind": "classify", "labels": of or labels(*NAMES), **said}]
    return project.declare(partitions={**DAYS, "end": DAY}, stages=stages)


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (
            labels("invoice", "report"),
            "its labels are not those of the stage: it gives 'note', which is not declared; declare a label for each",
        ),
        (
            labels(*NAMES, "claim", "letter"),
            "its labels are not those of the stage: it does not know 'claim', 'letter'; declare a label for each",
        ),
        (
            labels("invoice", "report", "Note"),
            "it does not know 'Note' and gives 'note', which is not declared; declare a label for each of the model's",
        ),
    ],
)
def test_labels_that_differ_are_one_sentence_with_their_line(
    project: Project, of: list[dict[str, str]], says: str
) -> None:
    model(project)
    with pytest.raises(CollectionInvalid) as raised:
        declare(project, of=of)
    assert says in str(raised.value)
    assert "stages.0.model: the model 'models/topics' cannot be used: " in str(raised.value)
    assert "defs.yaml:" in str(raised.value)


def test_a_label_may_have_another_name_than_the_models(project: Project) -> None:
    model(project, ("LABEL_0", "LABEL_1"))
    collection = declare(project, of=labels(report="LABEL_1", invoice="LABEL_0"))
    assert collection.local_classifiers["triage"].names == ("invoice", "report")


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"model": None}, "model: is missing: write a folder with a sequence classifier"),
        ({"model": "models/nowhere"}, "stages.0.model: the model 'models/nowhere' cannot be used: there is no folder"),
        ({"model": "someone/topics"}, "nothing is downloaded: fetch the model yourself"),
        ({"backend": None}, "model: it has no meaning without 'backend: torch'"),
        ({"backend": None, "model": None, "device": "cpu"}, "device: it has no meaning without 'backend: torch'"),
        ({"learn": 5}, "'learn' has no meaning with 'backend: torch': the model is given the text alone"),
        ({"prompt": "p.md"}, "'prompt' has no meaning with 'backend: torch'"),
        ({"adapted": "a.json"}, "'adapted' has no meaning with 'backend: torch'"),
        ({"route": "x"}, "a stage has a 'backend' or a 'route', not both"),
        ({"device": "gpu"}, "stages.0.device"),
        ({"within": "4h"}, "it asks no model"),
        (
            {"backend": None, "model": None, "of": labels("report", invoice="LABEL_0")},
            "'invoice' has an 'output', which has a meaning with 'ask: predict' and 'backend: torch' alone",
        ),
        ({"of": labels(report="LABEL_1", invoice="LABEL_1")}, "two labels have the output 'LABEL_1'"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(project: Project, stage: dict[str, Any], says: str) -> None:
    model(project)
    with pytest.raises(CollectionInvalid) as raised:
        declare(project, **stage)
    assert says in str(raised.value)


def test_a_folder_without_weights_is_one_sentence(project: Project) -> None:
    model(project, weights=None)
    with pytest.raises(CollectionInvalid, match=r"it has no weights \(looked for model.safetensors"):
        declare(project)


def test_an_embedder_is_no_classifier(project: Project) -> None:
    config = model(project) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["BertModel"]}))
    says = (
        r"it is no classifier, but an embedder or something else \(BertModel\): a classifier has weights for its labels"
    )
    with pytest.raises(CollectionInvalid, match=says):
        declare(project)


def test_rows_are_stale_by_the_bytes_of_the_model_and_by_nothing_that_decides_no_label(project: Project) -> None:
    model(project)
    version = declare(project).code_versions["triage"]
    described = [{**each, "description": "Said otherwise, to people"} for each in labels(*NAMES)]
    assert declare(project, device="cuda", of=described).code_versions["triage"] == version
    assert declare(project, max_input_characters=100).code_versions["triage"] != version
    outputs = labels(report="invoice", invoice="report", note="note")
    assert declare(project, of=outputs).code_versions["triage"] != version
    model(project, weights=b"other numbers")
    assert declare(project).code_versions["triage"] != version


def planned(project: Project, collection: Collection) -> DevicePlan:
    found = plan(collection, project.stores(), load_inference(project.root / "inference.yaml"))
    (device,) = found.devices
    return device


def test_a_plan_counts_what_is_to_be_labelled(project: Project) -> None:
    model(project)
    (project.root / "inference.yaml").write_text("devices: {cpu: {usd_per_hour: 36}}\n")
    for number in range(3):
        project.document(f"{DAY}/{number}.txt", f"The pump in hall {number} leaks.")
    found = planned(project, declare(project, device="cpu"))
    assert (found.stage, found.device, found.model, found.price) == ("triage", "cpu", "topics", "36/h")
    assert (found.texts, found.kept, found.seconds, found.cost_nusd) == (3, 0, None, None)
    assert found.input_tokens > 0


@NO_TORCH
def test_a_plan_says_that_torch_is_missing_as_the_run_would(project: Project) -> None:
    model(project)
    project.document(f"{DAY}/a.txt", "The pump leaks.")
    found = plan(declare(project), project.stores(), load_inference(project.root / "inference.yaml"))
    assert list(found.notes) == [
        "triage could not be computed on this machine: the backend 'torch' takes the package torch, which is missing: "
        "pip install 'ai-assets[gpu]'."
    ]


@NO_TORCH
def test_the_doctor_says_that_torch_is_missing(project: Project) -> None:
    model(project)
    declare(project)
    said = project.cli("doctor", "--json").stdout
    (found,) = [each for each in json.loads(said)["findings"] if each["looked_at"] == "extra gpu"]
    assert (found["level"], "The backend 'torch' of collection 'notes'" in found["found"]) == ("error", True)


@pytest.mark.parametrize(
    ("device", "gpus", "torch", "says"),
    [
        ("cuda", [], "2.9", "no GPU is seen by nvidia-smi and in /dev, so there is no cuda; write device: cpu or auto"),
        ("cuda:1", ["GPU-a"], "2.9", "1 GPU is seen by nvidia-smi and in /dev, so there is no cuda:1"),
        ("cuda", ["GPU-a"], "2.9+cpu", "torch 2.9+cpu is built for processors alone, so it cannot use cuda"),
        ("cuda", ["GPU-a"], "2.9+cu130", None),
        ("auto", [], "2.9+cpu", None),
        ("cpu", [], "2.9+cpu", None),
    ],
)
def test_a_device_that_is_not_there_is_said_before_a_run(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: list[str], torch: str, says: str | None
) -> None:
    monkeypatch.setattr(extras, "EXTRAS", {**extras.EXTRAS, "gpu": ()})
    found = why_not_here("torch", device, gpus=gpus, torch=torch)
    assert found == says if says is None else says in str(found)


@NO_TORCH
def test_a_run_without_torch_is_one_sentence(project: Project) -> None:
    model(project)
    project.document(f"{DAY}/a.txt", "The pump leaks.")
    with pytest.raises(PartitionsFailed) as raised:
        project.refresh(declare(project, device="cpu"))
    assert "the backend 'torch' takes the package torch, which is missing: pip install 'ai-assets[gpu]'" in str(
        raised.value
    )
