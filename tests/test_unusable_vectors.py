"""Claims about vectors that are none: they settle no text for ever, and spoil no other."""

import base64
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from conftest import DAYS, Project
from engines import CALLER, attempts, check_books, one, opened, settings, to_embed
from http_servers import Scripted, scripted

from ai_assets.collection.loading import Collection
from ai_assets.inference.load import load_inference
from ai_assets.inference.records import Answer, Result, Unanswered
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.plan import plan
from ai_assets.protocols.base import NotAnAnswer
from ai_assets.protocols.registry import protocol_of
from ai_assets.run.errors import PartitionsFailed

GOOD = [0.6, 0.8]
NAN = [math.nan, 0.8]
DAY = "2026-10-05"


@pytest.fixture
def state_url(each_url: str) -> str:
    return each_url


def vectors(vector: Any) -> Callable[[dict[str, Any]], Any]:
    """An answer of the OpenAI protocol in which each text has this vector."""

    def answer(body: dict[str, Any]) -> Any:
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"index": place, "embedding": vector(text) if callable(vector) else vector}
                for place, text in enumerate(texts)]  # fmt: skip
        return {"data": data, "model": "small", "usage": {"prompt_tokens": 4 * len(texts)}}

    return answer


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def tei(url: str) -> InferenceSettings:
    return settings({"mini": {"protocol": "tei", "base_url": url, "model": "org/small", "free": True}})


def asked(state_url: str, declared: InferenceSettings, count: int = 3, length: int | None = 2) -> list[Result]:
    with opened(state_url, declared) as engine:
        return list(engine.map([to_embed(number, vector_length=length) for number in range(count)], CALLER))


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (NAN, "its vector has numbers that are not finite"),
        (packed(*NAN), "its vector has numbers that are not finite"),
        ([math.inf, 0.8], "its vector has numbers that are not finite"),
        ([*GOOD, 0.0], "its vector has 3 numbers, and 2 are declared"),
    ],
    ids=["not a number", "packed", "infinite", "length"],
)
def test_a_vector_that_is_none_is_no_answer_and_is_asked_for_again_by_the_next_run(
    vector: Any, says: str, state_url: str
) -> None:
    with scripted(embeddings=vectors(vector)) as server:
        for result in asked(state_url, one(server.url)):
            assert isinstance(result, Unanswered), result
            assert (result.error, result.message) == ("invalid_output", says)
        assert len(server.asked) == 1
        server.says["embeddings"] = vectors(GOOD)
        for again in (False, True):
            for result in asked(state_url, one(server.url)):
                assert isinstance(result, Answer), result
                assert result.reused is again
                assert again or result.saved_usd == 0
        assert len(server.asked) == 2
    assert [row.state for row in attempts(state_url)] == ["settled"] * 6
    check_books(state_url)


def test_one_text_without_a_vector_spoils_no_other_that_was_sent_with_it(state_url: str) -> None:
    with scripted(embeddings=vectors(lambda text: NAN if "hall 1" in text else GOOD)) as server:
        found = asked(state_url, one(server.url))
        assert [type(result) for result in found] == [Answer, Unanswered, Answer]
        assert len(server.asked) == 1
        asked(state_url, one(server.url))
        assert len(server.asked) == 2, "the one text alone"


def test_a_vector_that_somebody_else_can_use_is_kept_for_them(state_url: str) -> None:
    with scripted(embeddings=vectors(GOOD)) as server:
        asked(state_url, one(server.url), count=1)
        (other,) = asked(state_url, one(server.url), count=1, length=3)
        (same,) = asked(state_url, one(server.url), count=1)
    assert isinstance(other, Unanswered)
    assert isinstance(same, Answer)
    assert same.reused


def test_the_same_holds_for_tei(state_url: str) -> None:
    with scripted(
        info=lambda _: {"model_id": "org/small"}, embed=lambda body: [[0.1, 0.2, 0.3] for _ in body["inputs"]]
    ) as server:
        assert {type(result) for result in asked(state_url, tei(server.url))} == {Unanswered}
        server.says["embed"] = lambda body: [GOOD for _ in body["inputs"]]
        assert {type(result) for result in asked(state_url, tei(server.url))} == {Answer}


@pytest.mark.parametrize("vector", [[], ""], ids=["list", "packed"])
def test_an_empty_vector_is_no_answer_of_the_protocol(vector: Any) -> None:
    body = json.dumps({"data": [{"embedding": vector}]})
    with pytest.raises(NotAnAnswer, match="the vector is empty"):
        protocol_of("openai").decode(body, "embedding")


def office(project: Project, server: Scripted) -> Collection:
    project.document(f"{DAY}/a.txt", "Alpha pumps leak in hall 7.")
    project.document(f"{DAY}/b.txt", "Beta invoices are due.")
    (project.root / "inference.yaml").write_text(
        f"endpoints: {{own: {{base_url: {server.url}, model: small, free: true}}}}\n"
    )
    return project.declare(partitions={**DAYS, "end": DAY}, embedding={"route": "own", "dimensions": 2})


def test_a_server_that_is_repaired_is_asked_again_and_the_plan_says_so(project: Project) -> None:
    with scripted(embeddings=vectors(NAN)) as server:
        collection = office(project, server)
        with pytest.raises(PartitionsFailed, match="not finite"):
            project.refresh(collection)
        server.says["embeddings"] = vectors(GOOD)
        planned = plan(collection, project.stores(), load_inference(project.root / "inference.yaml"))
        stage = next(each for each in planned.stages if each.stage == "embeddings")
        assert stage.new_calls == 2
        project.refresh(collection)
