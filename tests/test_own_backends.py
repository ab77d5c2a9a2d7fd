"""Claims about protocols and embedders of one's own: a call is paid once, a release remembers its embedder."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import DAYS, Project
from engines import CALLER, attempts, check_books, opened, question, settings, to_embed
from llama import Llama
from signing import decide as approve
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.embedding.spec import FIRST
from ai_assets.inference.errors import InferenceInvalid, KindUnserved, ProtocolFailed
from ai_assets.inference.identity import body_of, call_key
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Answer, Unanswered
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols import Protocol
from ai_assets.protocols.registry import protocol_of
from ai_assets.run.errors import EmbedderLost, PartitionsFailed
from ai_assets.run.explain import search
from ai_assets.signoff.publication import publish

DAY = "2026-10-05"
USE = "examples.own_protocol:LlamaCpp"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


@pytest.fixture
def modules() -> Iterator[None]:
    """What a project's own modules leave behind in this process."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    sys.path[:] = path


def spoken(llama: Llama, use: str = USE, **more: Any) -> Any:
    prices = [{"from": "2026-01-01", "input": 1.0, "output": 2.0}]
    endpoint = {"protocol": use, "base_url": llama.url, "model": "qwen", "prices": prices, **more}
    return settings({"at-home": endpoint})


def test_what_an_own_protocol_answers_is_ledgered_priced_and_never_asked_twice(llama: Llama, state_url: str) -> None:
    for attempt in range(2):
        with opened(state_url, spoken(llama)) as engine:
            plain, typed = engine.map([question(1), question(2, schema=SCHEMA)], CALLER)
        assert isinstance(plain, Answer)
        assert isinstance(typed, Answer)
        assert (plain.text, plain.usage.input_tokens, typed.data) == ("Pump leaks.", 20, {"n": 3})
        assert [plain.reused, typed.reused] == [attempt == 1] * 2
    assert [path for path, _ in llama.calls] == ["/completion"] * 2
    assert llama.calls[0][1]["n_predict"] == 64
    made = attempts(state_url)
    assert [row.protocol for row in made] == ["llama.cpp"] * 2
    assert {row.cost_nusd for row in made} == {20 * 1000 + 5 * 2000}
    check_books(state_url)
    shown = CliRunner().invoke(app, ["ledger", "show", made[0].call_key], env={"AI_ASSETS_STATE_URL": state_url})
    assert "Pump leaks." in shown.output or '{"n": 3}' in shown.output


def test_an_answer_that_was_cut_off_is_not_taken_for_a_whole_one(llama: Llama, state_url: str) -> None:
    llama.content, llama.more = '{"n": ', {"stop_type": "limit"}
    with opened(state_url, spoken(llama)) as engine:
        result = engine.call(question(1), CALLER)
    assert isinstance(result, Answer)
    assert result.finish_reason == "length"


def test_a_protocol_that_fails_on_an_answer_ends_the_work_and_keeps_the_answer(llama: Llama, state_url: str) -> None:
    """It is not asked again, however often its policy would: the code is wrong, and each answer may be billed."""
    broken = use_of(Broken)
    with opened(state_url, spoken(llama, broken)) as engine, pytest.raises(ProtocolFailed, match="KeyError: 'missing'"):
        engine.call(question(1), CALLER)
    assert len(llama.calls) == 1
    (row,) = attempts(state_url)
    assert (row.state, row.error, row.protocol) == ("ambiguous", "garbled", "broken")
    shown = CliRunner().invoke(app, ["ledger", "show", row.call_key], env={"AI_ASSETS_STATE_URL": state_url})
    assert "Pump leaks." in shown.output


@pytest.mark.parametrize(("method", "state"), [("encode", None), ("path", "failed")])
def test_a_protocol_that_fails_before_anything_is_sent_owes_nothing(
    llama: Llama, state_url: str, monkeypatch: pytest.MonkeyPatch, method: str, state: str | None
) -> None:
    def fails(*_given: object) -> bytes:
        raise KeyError("missing")

    monkeypatch.setattr(Broken, method, fails)
    broken = use_of(Broken)
    with opened(state_url, spoken(llama, broken)) as engine, pytest.raises(ProtocolFailed, match="was not sent"):
        engine.call(question(1), CALLER)
    assert not llama.calls
    assert [row.state for row in attempts(state_url)] == ([] if state is None else [state])
    check_books(state_url)


def test_what_a_protocol_cannot_say_is_that_documents_own_trouble(llama: Llama, state_url: str) -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    with opened(state_url, spoken(llama)) as engine:
        image, text = engine.map([question(1, messages=(picture,)), question(2)], CALLER)
    assert isinstance(image, Unanswered)
    assert (image.error, "takes text" in image.message) == ("unhashable", True)
    assert isinstance(text, Answer)


def test_asking_for_what_a_protocol_does_not_serve_is_refused_before_anything_is_sent(
    llama: Llama, state_url: str
) -> None:
    with opened(state_url, spoken(llama)) as engine, pytest.raises(KindUnserved, match="asked to embed a text"):
        engine.call(to_embed(1), CALLER)
    assert not llama.calls


def test_calls_of_different_protocols_models_and_options_are_different_calls() -> None:
    def key(**more: Any) -> str:
        endpoint = Endpoint.model_validate({"base_url": "http://host", "model": "m", "free": True, **more})
        return call_key(endpoint, body_of(endpoint, question(1)), 0, "chat")

    keys = {
        key(), key(protocol=USE), key(protocol=USE, model="n"), key(protocol=USE, options={"cache": True}),
        key(protocol=USE, base_url="http://other"),
    }  # fmt: skip
    assert len(keys) == 5


def test_a_key_that_the_server_repeats_is_masked(llama: Llama, state_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", "s3cret-token")
    llama.content = "You sent s3cret-token"
    with opened(state_url, spoken(llama, key="LLAMA_KEY")) as engine:
        result = engine.call(question(1), CALLER)
    assert isinstance(result, Answer)
    assert result.text == "You sent ***"


class Broken(Protocol):
    name = "broken"

    def path(self, endpoint: Endpoint, kind: Any) -> str:
        return "completion"

    def encode(self, endpoint: Endpoint, request: Any) -> bytes:
        return b"{}"

    def decode(self, body: str, kind: Any) -> Any:
        return json.loads(body)["missing"]


class Nameless(Broken):
    name = ""


class Impostor(Broken):
    name = "openai"


class Joins(Broken):
    name, joins_texts = "joins", True


def use_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__name__}"


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (use_of(Nameless), "it has no 'name', by which the ledger knows it"),
        (use_of(Impostor), "its name 'openai' is that of the protocol 'openai'"),
        (use_of(Joins), "it says 'joins_texts' and lacks 'join' or 'split'"),
        (use_of(Protocol), "it has no decode and no encode and no path"),
    ],
)
def test_a_protocol_that_is_none_is_refused_with_file_and_line(tmp_path: Path, use: str, says: str) -> None:
    file = tmp_path / "inference.yaml"
    file.write_text(f"endpoints:\n  mini:\n    base_url: http://host\n    model: m\n    protocol: '{use}'\n")
    with pytest.raises(InferenceInvalid) as raised:
        load_inference(file)
    assert str(raised.value) == f"{file}:5: endpoints.mini.protocol: the protocol '{use}' cannot be used: {says}"


def test_options_that_a_protocol_does_not_know_are_refused_by_it(tmp_path: Path) -> None:
    file = tmp_path / "inference.yaml"
    file.write_text(
        "endpoints:\n  mini:\n    base_url: http://host\n    model: m\n"
        f"    protocol: '{USE}'\n    options: {{cash: true}}\n"
    )
    with pytest.raises(InferenceInvalid, match=r":6: endpoints.mini: llama.cpp has the option 'cache', and none"):
        load_inference(file)


def test_a_protocol_is_loaded_once() -> None:
    assert protocol_of(USE) is protocol_of(USE)


# Embedders

EMBEDDER = """
from ai_assets.embedding import Embedder
made, texts_seen = [], []

class Counted(Embedder):
    name, dimensions = "counted", 8
    {version}
    def __init__(self, scale: float = 1.0):
        self.scale = scale
        made.append(self)
    def embed(self, texts):
        texts_seen.extend(texts)
        return [[self.scale * (text.count(letter) + 0.5) for letter in "aeioutns"] for text in texts]
"""


def own(project: Project, version: str = 'version = "1"', **options: Any) -> Any:
    sys.modules.pop("my_embedder", None)
    file = project.root / "my_embedder.py"
    edited = file.stat().st_mtime + 2 if file.exists() else time.time()
    file.write_text(EMBEDDER.format(version=version))
    os.utime(file, (edited, edited))  # Python keeps what it compiled of a file of the same second and size
    declared = {"use": "my_embedder:Counted", **({"options": options} if options else {})}
    return project.declare(partitions={**DAYS, "end": DAY}, embedding=declared)


@pytest.fixture
def seen(project: Project, modules: None) -> Any:
    project.document(f"{DAY}/a.txt", "The pump in hall 7 leaks.")
    project.document(f"{DAY}/b.txt", "Invoice 12, total due 120.00.")
    return lambda: sys.modules["my_embedder"].texts_seen


def test_an_own_embedder_makes_each_vector_once_and_search_uses_it(project: Project, seen: Any) -> None:
    collection = own(project)
    project.refresh(collection)
    assert len(seen()) == 2
    project.document(f"{DAY}/c.txt", "A third note about pumps.")
    project.refresh(own(project))
    assert seen() == ["A third note about pumps."]
    stores = project.stores()
    manifest = stores.lake.manifest("notes", "embeddings", DAY)
    assert manifest is not None
    for row in stores.lake.rows(manifest):
        assert sum(number**2 for number in row["vector"]) == pytest.approx(1)
    approve(stores.state, collection)
    publish(collection, stores, by="test")
    live, hits = search(collection, stores, "pump", 3)
    made_by = live.embeddings[FIRST]
    assert (made_by.use, made_by.model) == ("my_embedder:Counted", "counted")
    assert len(hits) == 3


def test_a_release_is_searched_by_the_embedder_that_made_it(project: Project, seen: Any) -> None:
    collection, stores = own(project), project.stores()
    project.refresh(collection)
    approve(stores.state, collection)
    publish(collection, stores, by="test")
    builtin = project.declare(partitions={**DAYS, "end": DAY})
    assert search(builtin, stores, "pump", 3)[1]
    own(project, 'version = "2"')
    with pytest.raises(EmbedderLost, match="my_embedder:Counted is another version by now"):
        search(builtin, stores, "pump", 3)
    sys.modules.pop("my_embedder")
    (project.root / "my_embedder.py").unlink()
    with pytest.raises(EmbedderLost, match="importing my_embedder failed"):
        search(builtin, stores, "pump", 3)


@pytest.mark.parametrize(
    ("first", "second", "anew"),
    [
        ({}, {}, False),
        ({}, {"version": 'version = "1"  # tidied\n    note = "no other vector"'}, False),
        ({}, {"version": 'version = "2"'}, True),
        ({}, {"scale": 2.0}, True),
        ({"version": "pass"}, {"version": "pass  # a comment"}, False),
        ({"version": "pass"}, {"version": "weight = 2"}, True),
    ],
    ids=["the same", "edited", "another version", "options", "unversioned, tidied", "unversioned, edited"],
)
def test_what_makes_an_own_embedder_another_one(
    project: Project, seen: Any, first: dict[str, Any], second: dict[str, Any], anew: bool
) -> None:
    project.refresh(own(project, **first))
    project.refresh(own(project, **second))
    assert len(seen()) == (2 if anew else 0)


def test_vectors_that_were_not_declared_fail_with_the_embedders_name(project: Project, seen: Any) -> None:
    collection = own(project, 'version = "1"\n    dimensions = 9')
    with pytest.raises(PartitionsFailed, match=r"my_embedder:Counted failed: ValueError: .* 2 x 8.* 2 x 9"):
        project.refresh(collection)


def test_an_embedder_that_cannot_be_used_is_refused_when_it_is_declared(project: Project, seen: Any) -> None:
    own(project)
    cases: Mapping[str, Any] = {
        "it is not a class that derives from Embedder": {"use": "json:JSONDecoder"},
        "my_embedder has no 'Count'": {"use": "my_embedder:Count"},
        "making it with its options failed": {"use": "my_embedder:Counted", "options": {"scales": 2}},
        "not both 'use' and 'route'": {"use": "my_embedder:Counted", "route": "x"},
        "options are those of an embedder of your own": {"options": {"scale": 2}},
        "it has no meaning without a 'route': its vectors are as long as they are": {
            "use": "my_embedder:Counted",
            "dimensions": 8,
        },
    }
    for says, embedding in cases.items():
        with pytest.raises(CollectionInvalid, match=says) as raised:
            project.declare(embedding=embedding)
        assert "defs.yaml:" in str(raised.value)


def test_the_example_embeds_words(project: Project, modules: None) -> None:
    project.document(f"{DAY}/a.txt", "The pump leaks.")
    collection = project.declare(
        partitions={**DAYS, "end": DAY},
        embedding={"use": "examples.own_embedder:HashedWords", "options": {"dimensions": 64}},
    )
    (embedded,) = [outcome for outcome in project.refresh(collection) if outcome.manifest.asset == "embeddings"]
    assert embedded.manifest.stats["embedding"]["dimensions"] == 64
