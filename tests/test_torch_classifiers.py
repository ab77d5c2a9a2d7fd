"""Claims about stages whose labels a classifier gives that torch runs here, on tiny models; `make test-gpu` runs them
where torch is not installed."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from conftest import DAYS, Project
from hours import HOUR, around, closes_after

from ai_assets.collection.loading import Collection
from ai_assets.inference.load import load_inference
from ai_assets.local_models.batching import BatchLimits
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.local_models.model_folder import read_folder
from ai_assets.local_models.torch_model import TorchModel
from ai_assets.planning.plan import plan
from ai_assets.run.context import Outcome
from ai_assets.run.datasets import classification
from ai_assets.run.datasets.labelling import labelling_of
from ai_assets.run.events import WindowAwaited
from ai_assets.run.refresh import refresh

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed: make test-gpu, or pip install 'ai-assets[gpu]'", allow_module_level=True)

from tiny_models import make_classifier

DAY = "2026-10-05"
TEXTS = {
    "a": "the pump in hall leaks",
    "b": "invoice total is due",
    "c": "third note and seal report of water pressure",
}
OUTPUTS = ["LABEL_0", "LABEL_1", "LABEL_2"]
NAMES = ["invoice", "report", "note"]


def folder_of(project: Project) -> Path:
    return project.root / "collections" / "notes" / "models" / "topics"


def office(project: Project, device: dict[str, Any] | None = None, **stage: Any) -> Collection:
    declared = {"usd_per_hour": 36, "exclusive": True, "idle_s": 60, **(device or {})}
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"devices": {"cpu": declared}}))
    if not folder_of(project).exists():
        folder_of(project).parent.mkdir(parents=True, exist_ok=True)
        make_classifier(folder_of(project), OUTPUTS)
    for name, text in TEXTS.items():
        project.document(f"{DAY}/{name}.txt", text)
    labels = [
        {"name": name, "description": f"A document that is one: {name}", "output": output}
        for name, output in zip(NAMES, OUTPUTS, strict=True)
    ]
    said = {"backend": "torch", "model": "models/topics", "device": "cpu", **stage}
    stages = [{"name": "triage", "kind": "classify", "labels": labels, **said}]
    return project.declare(partitions={**DAYS, "end": DAY}, stages=stages)


def labelled(outcomes: Sequence[Outcome]) -> Outcome:
    (found,) = [each for each in outcomes if each.manifest.asset == "triage"]
    return found


def rows(project: Project) -> dict[str, dict[str, Any]]:
    lake = project.stores().lake
    manifest = lake.manifest("notes", "triage", DAY)
    assert manifest is not None
    return {row["document_id"]: row for row in lake.read(manifest).to_pylist()}


def attempts(project: Project) -> list[Any]:
    with project.stores().state.read() as connection:
        return list(connection.execute(sa.text("SELECT * FROM attempts ORDER BY attempt_id")))


def test_rows_have_the_models_labels_under_the_stages_names_and_its_probabilities(project: Project) -> None:
    outcome = labelled(project.refresh(office(project)))
    model = TorchModel(read_folder(folder_of(project), "topics", "classify"))
    probabilities = model.probabilities(list(TEXTS.values()))
    found = rows(project)
    for name, row in zip(TEXTS, probabilities, strict=True):
        made, (second, best) = found[f"{DAY}/{name}.txt"], row.argsort()[-2:]
        assert (made["label"], made["runner_up"]) == (NAMES[best], NAMES[second])
        assert made["confidence"] == pytest.approx(row[best], abs=1e-5)
        assert made["runner_up_confidence"] == pytest.approx(row[second], abs=1e-5)
        assert (made["evidence"], made["evidence_start"], made["model_label"]) == (None, None, NAMES[best])
        assert made["model"].startswith("torch/topics ")
    assert outcome.manifest.stats["device"] == "cpu"
    assert outcome.cost_usd == outcome.manifest.stats["device_usd"] > 0


def test_what_it_took_is_in_the_ledger_by_document_and_in_the_next_plan(project: Project) -> None:
    outcome = labelled(project.refresh(office(project)))
    made = attempts(project)
    assert {(row.endpoint, row.kind, row.model, row.protocol, row.price, row.state) for row in made} == {
        ("cpu", "classify", "topics", "here", "36/h", "settled")
    }
    assert [row.document for row in made] == [f"{DAY}/{name}.txt" for name in TEXTS]
    assert sum(row.cost_nusd for row in made) == round(outcome.cost_usd * 1e9)
    project.document(f"{DAY}/d.txt", "water pressure report")
    found = plan(office(project), project.stores(), load_inference(project.home.inference))
    (device,) = found.devices
    assert (device.texts, device.kept, device.documents) == (1, 3, 4)
    assert device.seconds is not None
    assert device.cost_nusd is not None
    assert device.cost_nusd > 0
    assert found.money.likely_nusd == 0, "nobody sends a bill"


def test_only_what_changed_is_labelled_again(project: Project) -> None:
    project.refresh(office(project))
    project.document(f"{DAY}/d.txt", "water pressure report")
    again = labelled(project.refresh(office(project)))
    assert again.reused == 3
    assert [row.document for row in attempts(project)][3:] == [f"{DAY}/d.txt"]
    assert labelled(project.refresh(office(project))).unchanged


def test_other_weights_label_all_again(project: Project) -> None:
    project.refresh(office(project))
    config = json.loads((folder_of(project) / "config.json").read_text())
    for file in folder_of(project).iterdir():
        file.unlink()
    make_classifier(folder_of(project), OUTPUTS)
    (folder_of(project) / "config.json").write_text(json.dumps({**config, "temperature": 2}))
    again = labelled(project.refresh(office(project)))
    assert (again.reused, len(attempts(project))) == (0, 6)


def test_weights_changed_behind_loaded_definitions_are_one_sentence(project: Project) -> None:
    collection = office(project)
    (stage,) = collection.labelling
    (folder_of(project) / "model.safetensors").write_bytes(b"another model")
    said = "changed after the definitions were loaded"
    with project.work(collection) as work, pytest.raises(ModelUnusable, match=said):
        labelling_of(work, stage, DAY)


def test_a_label_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    folder = read_folder(make_classifier(tmp_path / "m", OUTPUTS), "m", "classify")
    together = TorchModel(folder).probabilities(list(TEXTS.values()))
    alone = TorchModel(folder, limits=BatchLimits(tokens=1)).probabilities(list(TEXTS.values()))
    assert abs(together - alone).max() < 1e-5


def test_a_candidate_has_the_labels_that_people_sign(project: Project) -> None:
    project.refresh(office(project))
    lake = project.stores().lake
    candidate = lake.manifest("notes", "release_candidate", DAY)
    assert candidate is not None
    found = {row["document_id"]: row for row in lake.read(candidate).to_pylist()}
    assert {name: row["triage_label"] for name, row in found.items()} == {
        name: row["label"] for name, row in rows(project).items()
    }


def test_what_was_labelled_before_the_window_closed_is_not_labelled_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classification, "BLOCK", 1)
    collection = office(project, {"windows": [around(-HOUR, HOUR)]})
    with project.work(collection) as work:
        closes_after(work, 2)
        (waited,) = [each for each in refresh(work, [DAY]) if isinstance(each, WindowAwaited)]
    assert (waited.asset, waited.documents) == ("triage", 1)
    assert len(attempts(project)) == 2
    folder = project.stores().lake.folder("notes", "triage", DAY)
    assert len(list(folder.glob("*.unfinished"))) == 1
    again = labelled(project.refresh(collection, [DAY]))
    assert (again.reused, len(attempts(project))) == (2, 3)
    assert not list(folder.glob("*.unfinished"))
    at_once = project.elsewhere()
    office(at_once)
    other = labelled(at_once.refresh(collection, [DAY]))
    assert other.manifest.version == again.manifest.version
