"""Claims about model servers: KServe's protocol and TEI's, spoken as a strict server wants it, and what goes wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from conftest import Project
from engines import CALLER, attempts, check_books, opened, question, settings, to_embed
from provider import Provider
from test_inference_test import answering

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.inference.errors import InferenceInvalid, KindUnserved, ServerMisfit
from ai_assets.inference.identity import body_of, call_key
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Answer, Request, Result, Unanswered
from ai_assets.inference.settings import Endpoint, InferenceSettings
from ai_assets.protocols.base import AS_USUAL, CallDelivery, Fault, NotAnAnswer
from ai_assets.protocols.registry import protocol_of

DAY = "2026-10-05"
LABELS = ["invoice", "letter", "report"]
EMBEDDING = {"input": "text", "output": "embedding"}
SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


@pytest.fixture(scope="module")
def server() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(server: Provider) -> Iterator[Provider]:
    with server.lent():
        yield server


def tei(provider: Provider, **more: Any) -> InferenceSettings:
    return settings(
        {"tei": {"protocol": "tei", "base_url": provider.root, "model": "rehearsal-embed", "free": True, **more}}
    )


def kserve(provider: Provider, options: dict[str, Any] = EMBEDDING, **more: Any) -> InferenceSettings:
    declared = {"protocol": "kserve", "base_url": provider.root, "model": "m", "free": True, "options": options}
    return settings({"kserve": {**declared, **more}})


def texts(count: int, **more: Any) -> list[Request]:
    return [to_embed(number, **more) for number in range(count)]


def asked(state_url: str, declared: InferenceSettings, wanted: list[Request]) -> list[Result]:
    with opened(state_url, declared) as engine:
        return list(engine.map(wanted, CALLER))


def close(one: tuple[float, ...], other: Any) -> bool:
    return len(one) == len(other) and max(abs(a - b) for a, b in zip(one, other, strict=True)) < 1e-6


FORMS = {
    "tei": lambda provider: tei(provider),
    "kserve": lambda provider: kserve(provider),
    "kserve binary": lambda provider: kserve(provider, {**EMBEDDING, "binary": True}),
    "kserve column": lambda provider: kserve(provider, {**EMBEDDING, "column": True}),
    "kserve binary column": lambda provider: kserve(provider, {**EMBEDDING, "column": True, "binary": True}),
}


@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_those_of_the_texts_and_are_asked_for_once(form: str, provider: Provider, state_url: str) -> None:
    provider.configure(kserve_column="column" in form)
    expected = BuiltinEmbedder().embed([str(request.text) for request in texts(70)])
    for again in (False, True):
        found = asked(state_url, FORMS[form](provider), texts(70))
        for result, vector in zip(found, expected, strict=True):
            assert isinstance(result, Answer), result
            assert close(result.vector, vector)
            assert result.reused is again
    assert provider.stats()["statuses"] == {"200": 3 if form == "tei" else 2}, "so many requests for 70 texts"
    assert {row.protocol for row in attempts(state_url)} == {form.split()[0]}
    check_books(state_url)


def test_how_texts_are_written_is_no_part_of_a_calls_identity(provider: Provider, state_url: str) -> None:
    asked(state_url, kserve(provider), texts(3))
    (again, *_) = asked(state_url, kserve(provider, {**EMBEDDING, "binary": True}), texts(3))
    assert isinstance(again, Answer)
    assert again.reused


def test_other_tensors_or_another_version_are_other_calls() -> None:
    def key(**options: Any) -> str:
        given = {
            "protocol": "kserve",
            "base_url": "http://h",
            "model": "m",
            "free": True,
            "options": {**EMBEDDING, **options},
        }
        endpoint = Endpoint.model_validate(given)
        return call_key(endpoint, body_of(endpoint, to_embed(1)), 0, "embedding")

    made = [key(), key(output="other"), key(input="other"), key(version="2"), key(parameters={"task": "query"})]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("form", ["tei", "kserve", "kserve binary"])
def test_a_reranker_scores_each_text_against_the_query(form: str, provider: Provider, state_url: str) -> None:
    options = {"input": "text", "query": "query", "output": "score", "binary": "binary" in form}
    declared = tei(provider) if form == "tei" else kserve(provider, options)
    passages = ["A letter about roses", "Pump leaks in hall 3", "Invoices of May"]
    wanted = [Request(text=text, query="Which pump leaks?", kind="rerank") for text in passages]
    wanted.append(Request(text=passages[0], query="roses", kind="rerank"))
    first, pump, last, other = asked(state_url, declared, wanted)
    assert all(isinstance(each, Answer) for each in (first, pump, last, other))
    scores = [each.score for each in (first, pump, last) if isinstance(each, Answer)]
    assert max(scores, key=lambda score: score or 0) == scores[1]
    assert isinstance(other, Answer)
    assert (other.score or 0) > (scores[0] or 0)
    assert provider.stats()["statuses"] == {"200": 2}, "texts share a request with their own query only"


@pytest.mark.parametrize("form", ["tei", "kserve", "kserve binary"])
def test_a_classifier_gives_each_text_its_labels(form: str, provider: Provider, state_url: str) -> None:
    provider.configure(labels=LABELS)
    options = {"input": "text", "output": "label", "binary": "binary" in form}
    declared = tei(provider) if form == "tei" else kserve(provider, options)
    for count in (1, 2):
        wanted = [Request(text=f"{name}: an {name}", labels=True, kind="classify") for name in LABELS[:count]]
        for name, result in zip(LABELS, asked(state_url, declared, wanted), strict=False):
            assert isinstance(result, Answer)
            assert result.labels[0].label == name
            assert 0 < result.labels[0].score <= 1


def test_a_chat_goes_through_one_text_each_way(provider: Provider, state_url: str) -> None:
    declared = kserve(provider, {"input": "text", "output": "answer"})
    plain, typed = asked(state_url, declared, [question(1), question(2, schema=SCHEMA)])
    assert isinstance(plain, Answer)
    assert "The pump in hall 1 leaks" in plain.text
    assert isinstance(typed, Answer)
    assert set(typed.data) == {"total"}  # type: ignore[arg-type]


# Limits and errors of text-embeddings-inference


def test_the_batch_size_that_the_server_says_is_kept_from_the_first_request(provider: Provider, state_url: str) -> None:
    provider.configure(tei_batch=8)
    found = asked(state_url, tei(provider), texts(60))
    assert all(isinstance(each, Answer) for each in found)
    assert set(provider.stats()["statuses"]) == {"200"}


def test_a_batch_that_is_refused_as_too_large_is_halved_and_nothing_is_asked_twice(
    provider: Provider, state_url: str
) -> None:
    with opened(state_url, tei(provider)) as engine:
        assert isinstance(engine.call(to_embed("first"), CALLER), Answer)  # it says 32 now
        provider.configure(tei_batch=5)
        found = list(engine.map(texts(64), CALLER))
    assert all(isinstance(each, Answer) for each in found)
    stats = provider.stats()
    assert stats["statuses"]["413"] <= 2 * 3, "32, 16 and 8 are refused, by two at most at the same time"
    assert stats["billed_twice"] == 0
    check_books(state_url)


@pytest.mark.parametrize(("words", "error"), [(700, "context_too_long"), (0, "malformed")])
def test_a_text_that_it_cannot_take_is_asked_once_and_spoils_no_other(
    words: int, error: str, provider: Provider, state_url: str
) -> None:
    bad = Request(text="word " * words, kind="embed", document="bad")
    found = asked(state_url, tei(provider), [*texts(3), bad])
    assert [type(each) for each in found] == [Answer] * 3 + [Unanswered]
    last = found[-1]
    assert isinstance(last, Unanswered)
    assert last.error == error
    assert last.attempts == 2, "once with others, once by itself"


def test_a_failure_of_the_backend_is_tried_once_more(provider: Provider, state_url: str) -> None:
    provider.script([{"match": "Note 1.", "fault": "backend_failed", "times": None}])
    failed, fine = asked(state_url, tei(provider, texts_per_request=1), [to_embed(1), to_embed(2)])
    assert isinstance(failed, Unanswered)
    assert (failed.error, failed.attempts) == ("server_error", 2)
    assert isinstance(fine, Answer)


def test_a_server_that_is_busy_is_asked_again(provider: Provider, state_url: str) -> None:
    provider.script([{"fault": "rate_limited_bare", "times": 3}])
    (found,) = asked(state_url, tei(provider), [to_embed(1)])
    assert isinstance(found, Answer)
    assert found.attempts == 4


def test_tokens_are_counted_by_the_server(provider: Provider, state_url: str) -> None:
    prices = [{"from": "2026-01-01", "input": 1.0}]
    asked(state_url, tei(provider, free=False, prices=prices), texts(10))
    read = provider.stats()["tokens"]["input"]
    rows = attempts(state_url)
    assert sum(row.input_tokens for row in rows) == read
    assert sum(row.cost_nusd for row in rows) == read * 1000


# What is declared and what the server has


MISFITS = [
    ("tei", {"model": "other"}, {}, "its 'model' is other, and the server runs rehearsal-embed: write that"),
    (
        "kserve",
        {"options": {"input": "txt", "output": "embedding"}},
        {},
        "its option 'input' is 'txt', and the model's",
    ),
    ("kserve", {"options": {"input": "text", "output": "vec"}}, {}, "its option 'output' is 'vec'"),
    ("kserve", {"options": EMBEDDING}, {"kserve_column": True}, "write column: true under its options"),
    ("kserve", {"options": {**EMBEDDING, "column": True}}, {}, "write column: false under its options"),
    ("kserve", {"model": "gone"}, {"models": ["m"]}, "there is no model 'gone' at"),
    ("tei", {"base_url": "/v1"}, {}, "/v1/info answers HTTP 404"),
]


@pytest.mark.parametrize(("protocol", "more", "behaviour", "says"), MISFITS)
def test_a_server_that_has_not_what_is_declared_is_said_before_anything_is_sent(
    protocol: str, more: dict[str, Any], behaviour: dict[str, Any], says: str, provider: Provider, state_url: str
) -> None:
    provider.configure(**behaviour)
    if "base_url" in more:
        more = {"base_url": f"{provider.root}{more['base_url']}"}
    declared = tei(provider, **more) if protocol == "tei" else kserve(provider, **more)
    with pytest.raises(ServerMisfit, match="was not asked anything") as raised:
        asked(state_url, declared, texts(3))
    assert says in str(raised.value)
    assert provider.stats()["calls"] == 0


def test_a_server_that_says_no_names_is_asked_by_those_that_are_declared(provider: Provider, state_url: str) -> None:
    provider.configure(kserve_metadata=False)
    (found,) = asked(state_url, kserve(provider), [to_embed(1)])
    assert isinstance(found, Answer)
    (found,) = asked(state_url, kserve(provider, {"input": "txt", "output": "embedding"}), [to_embed(1)])
    assert isinstance(found, Unanswered)
    assert found.error == "malformed"
    assert "unexpected inference input 'txt'" in found.message


def test_a_question_of_a_kind_that_a_protocol_lacks_is_refused(provider: Provider, state_url: str) -> None:
    with pytest.raises(KindUnserved, match="was asked to chat, and its protocol 'tei' cannot") as raised:
        asked(state_url, tei(provider), [question(1)])
    assert "ask: predict" in str(raised.value)
    openai = settings({"mini": {"base_url": provider.url, "model": "m", "free": True}})
    with pytest.raises(KindUnserved, match="compare a text with a query"):
        asked(state_url, openai, [Request(text="a", query="b")])


WRONG_OPTIONS = [
    ("protocol: kserv", "there is none of that name, did you mean 'kserve'?"),
    ("protocol: kserve", "needs the option 'input': the name of the tensor that texts go into"),
    ("protocol: kserve, options: {input: a}", "needs the option 'output'"),
    ("protocol: kserve, options: {input: a, outptu: b}", "knows no option 'outptu'"),
    ("protocol: kserve, options: {input: a, output: b, binary: 1}", "option 'binary' should be true or false"),
    ("protocol: tei, options: {normalise: true}", "the protocol 'tei' knows no option 'normalise'"),
    ("protocol: tei, options: {truncate: 3}", "option 'truncate' should be true or false (found 3)"),
    ("protocol: tei, options: {truncation_direction: up}", "should be left or right"),
    ("options: {api_versoin: a}", "the protocol 'openai' knows no option 'api_versoin'"),
    ("options: {api_version: 2024-10-21}", "write a date as text, in quotes"),
    ("options: {metrics: nowhere}", "option 'metrics' should be true, or an address"),
]


@pytest.mark.parametrize(("declared", "says"), WRONG_OPTIONS)
def test_wrong_options_are_one_sentence_with_file_and_line(declared: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "inference.yaml"
    path.write_text(f"endpoints:\n  a: {{base_url: 'http://h', model: m, free: true, {declared}}}\n")
    with pytest.raises(InferenceInvalid) as raised:
        load_inference(path)
    said = str(raised.value)
    assert says.partition(", did")[0] in said
    assert "inference.yaml:2" in said


# Answers that are none, and forms that servers differ in


def tensor(data: Any, shape: list[int], datatype: str = "FP32", name: str = "embedding") -> str:
    output = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"model_name": "m", "outputs": [output]})


def read(answer: str, count: int, kind: Any = "embedding") -> list[Any]:
    protocol = protocol_of("kserve")
    endpoint = Endpoint.model_validate(
        {"protocol": "kserve", "base_url": "http://h", "model": "m", "free": True, "options": EMBEDDING}
    )
    bodies = [protocol.encode(endpoint, to_embed(number)) for number in range(count)]
    return [protocol.decode(part, kind) for part in protocol.split(answer, bodies)]


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_numbers_are_read_flat_and_nested(data: Any) -> None:
    assert [reply.vector for reply in read(tensor(data, [2, 2]), 2)] == [(1.0, 2.0), (3.0, 4.0)]


@pytest.mark.parametrize(
    ("datatype", "data", "kind", "expected"),
    [
        ("BYTES", ["[1.5, 2]"], "embedding", (1.5, 2.0)),
        ("INT64", [3, 4], "embedding", (3.0, 4.0)),
        ("BYTES", ['{"score": 0.5}'], "rerank", 0.5),
        ("BYTES", ["0.25"], "rerank", 0.25),
        ("FP32", [0.75], "rerank", 0.75),
        ("BYTES", ['{"a": 0.2, "b": 0.8}'], "predict", ["b", "a"]),
        ("BYTES", ['[{"label": "a", "score": 0.2}, {"label": "b", "score": 0.8}]'], "predict", ["b", "a"]),
        ("FP32", [0.2, 0.8], "predict", ["1", "0"]),
    ],
)
def test_numbers_and_json_come_out(datatype: str, data: list[Any], kind: Any, expected: Any) -> None:
    (reply,) = read(tensor(data, [1, len(data)], datatype), 1, kind)
    found = reply.vector or reply.score or [each.label for each in reply.labels]
    assert found == expected


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (tensor([1, 2, 3], [2, 2]), "2 texts were sent, and a tensor of shape [2, 2] with 3 values came back"),
        (tensor([1, 2], [1, 2]), "2 texts were sent"),
        (tensor([1, 2], [2], name="other"), "the answer has no output 'embedding'; it has 'other'"),
        (tensor([1, None], [2]), "a vector holds what is no number"),
        ('{"outputs": 3}', "lacks what the protocol promises"),
        ("<html>", "is no JSON"),
    ],
)
def test_an_answer_that_does_not_fit_its_texts_is_none(answer: str, says: str) -> None:
    with pytest.raises(NotAnAnswer) as raised:
        read(answer, 2)
    assert says in str(raised.value)


@pytest.mark.parametrize("length", ["", "x", "99999"])
def test_a_binary_answer_that_ends_early_is_none(length: str) -> None:
    head = json.dumps(
        {"outputs": [{"name": "a", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}
    )
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    with pytest.raises(NotAnAnswer):
        protocol_of("kserve").text(headers, head.encode() + b"1234")


@pytest.mark.parametrize(
    ("protocol", "status", "body", "error"),
    [
        ("tei", 413, '{"error": "batch size 64 > 32", "error_type": "validation"}', "malformed"),
        ("tei", 422, '{"error": "must have less than 9 tokens", "error_type": "tokenizer"}', "context_too_long"),
        ("tei", 424, '{"error": "backend", "error_type": "backend"}', "server_error"),
        ("tei", 424, "<html>a proxy</html>", "gateway_error"),
        ("tei", 429, '{"error": "Model is overloaded", "error_type": "overloaded"}', "rate_limited"),
        ("kserve", 500, '{"error": "ValueError: no"}', "server_error"),
        ("kserve", 500, "<html>a proxy</html>", "gateway_error"),
        ("kserve", 503, '{"error": "Model m is not ready"}', "overloaded"),
        ("kserve", 404, '{"error": "Model with name m does not exist."}', "malformed"),
        ("openai", 498, '{"error": {"message": "no", "code": "capacity_exceeded"}}', "tier_unavailable"),
        ("openai", 429, '{"error": {"message": "Resource unavailable"}}', "tier_unavailable"),
        ("openai", 429, '{"error": {"message": "Rate limit reached"}}', "rate_limited"),
    ],
)  # fmt: skip
def test_what_a_status_means_is_the_servers_own(protocol: str, status: int, body: str, error: str) -> None:
    found = protocol_of(protocol).fault(status, {}, body.encode())
    assert isinstance(found, Fault)
    assert found.error == error


def test_the_rehearsal_servers_refuse_what_they_do_not_know(provider: Provider) -> None:
    def post(path: str, body: Any) -> tuple[int, str]:
        answer = requests.post(f"{provider.root}{path}", json=body, timeout=300)
        return answer.status_code, answer.text

    assert post("/embed", {"inputs": ["a"], "normalise": True})[0] == 422
    assert post("/v2/models/m/infer", {"inputs": [], "batch": 1})[0] == 400
    status, said = post(
        "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "a"}], "priority": 1}
    )
    assert (status, "Unrecognized request argument supplied: priority" in said) == (400, True)


def test_a_tier_and_a_priority_are_no_matter_of_these_servers() -> None:
    for name in ("kserve", "tei"):
        endpoint = Endpoint.model_validate(
            {
                "protocol": name,
                "base_url": "http://h",
                "model": "m",
                "free": True,
                "options": EMBEDDING if name == "kserve" else {},
            }
        )
        protocol = protocol_of(name)
        body = protocol.encode(endpoint, to_embed(1))
        delivery = CallDelivery(tier="flex", priority="batch")
        assert protocol.wire(endpoint, body, "embedding", delivery) == protocol.wire(
            endpoint, body, "embedding", AS_USUAL
        )


# In a collection


def labelling(project: Project, url: str, **endpoint: Any) -> Collection:
    """A stage that takes its label from a classification model."""
    server = {"protocol": "tei", "base_url": url, "model": "rehearsal-embed", "free": True, **endpoint}
    (project.root / "inference.yaml").write_text(yaml.safe_dump({"endpoints": {"labels": server}}))
    labels = [{"name": name, "description": f"It is a document of the kind {name}."} for name in ("invoice", "letter")]
    stage = {"name": "kind", "kind": "classify", "route": "labels", "ask": "predict", "labels": labels}
    return project.declare(stages=[stage])


@pytest.mark.parametrize(
    ("scores", "confidence", "source"),
    [
        ((0.9, 0.1), 0.9, "scores"),
        ((0.6001, 0.4002), 0.6001, "scores"),
        ((5.2, 3.1), None, "raw_scores"),
        ((0.4, -1.5), None, "raw_scores"),
        ((0.9, 0.8), None, "raw_scores"),
    ],
)
def test_scores_that_are_no_probabilities_give_a_label_of_unknown_confidence(
    project: Project, scores: tuple[float, float], confidence: float | None, source: str
) -> None:
    row = [{"label": name, "score": score} for name, score in zip(("invoice", "letter"), scores, strict=True)]
    info = {"model_id": "rehearsal-embed", "model_type": {"classifier": {}}, "max_client_batch_size": 8}
    project.document(f"{DAY}/a.txt", "Invoice: pay this invoice.")
    pages = {("GET", "/info"): (200, json.dumps(info)), ("POST", "/predict"): (200, json.dumps([row]))}
    with answering(pages) as server:
        project.refresh(labelling(project, server.url))
    with project.stores() as stores:
        (found,) = stores.lake.read(stores.lake.manifest("notes", "kind", DAY)).to_pylist()
    assert (found["label"], found["confidence"], found["confidence_from"]) == ("invoice", confidence, source)
    assert (found["runner_up"], found["runner_up_confidence"] is None) == ("letter", confidence is None)


def test_an_endpoint_that_gives_raw_scores_labels_nothing(project: Project) -> None:
    with pytest.raises(
        CollectionInvalid, match=r"stages\.0\.route: endpoint 'labels' of inference\.yaml has the option"
    ):
        labelling(project, "http://127.0.0.1:1", options={"raw_scores": True})


def test_a_stage_takes_its_labels_from_a_classification_model(project: Project, provider: Provider) -> None:
    provider.configure(labels=["invoice", "letter"])
    project.document(f"{DAY}/a.txt", "Invoice: pay this invoice.")
    project.document(f"{DAY}/b.txt", "A letter to a friend, the letter of May.")
    collection = labelling(project, provider.root)
    for _ in range(2):
        project.refresh(collection)
        with project.stores() as stores:
            rows = stores.lake.read(stores.lake.manifest("notes", "kind", DAY)).to_pylist()
        found = {row["document_id"].rpartition("/")[2]: row["label"] for row in rows}
        assert found == {"a.txt": "invoice", "b.txt": "letter"}
        assert provider.stats()["billed"] == 1, "both texts share a request, and the second run asks nothing"
