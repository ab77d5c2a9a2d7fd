"""Hugging Face's text-embeddings-inference: vectors, scores of a reranker, and labels of a classifier.

Its limits are read from `/info` once. A batch that is too large (413) is halved, a text that it cannot take (422) is
never sent again, a failure of its backend (424) is tried once more, and 429 means that it is busy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ai_assets.base.fast_json import read_json, rows_json
from ai_assets.base.plural import plural
from ai_assets.base.yaml_settings import nearest
from ai_assets.inference.records import ModelLabelScore, Request, RequestKind, Usage
from ai_assets.protocols import faults
from ai_assets.protocols.base import NO_LIMITS, Fault, NotAnAnswer, Protocol, Reply, ServerLimits
from ai_assets.protocols.reading import as_answer, encode_json, number, packed, shares, unpacked
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

PATHS: Mapping[RequestKind, str] = {"embedding": "embed", "rerank": "rerank", "predict": "predict"}
SERVES: Mapping[str, RequestKind] = {"embedding": "embedding", "classifier": "predict", "reranker": "rerank"}
"""`model_type` of `/info`, and what such a server answers."""
OPTIONS: Mapping[str, type] = {
    "normalize": bool, "truncate": bool, "truncation_direction": str, "prompt_name": str, "raw_scores": bool,
}  # fmt: skip
DIRECTIONS = ("left", "right")
TOKENS_HEADER = "x-compute-tokens"
_TOO_LONG = ("must have less than", "too long")


class TextEmbeddingsInference(Protocol):
    name: ClassVar[str] = "tei"
    kinds: ClassVar[frozenset[RequestKind]] = frozenset(PATHS)
    tiered: ClassVar[frozenset[RequestKind]] = frozenset()
    joins_texts: ClassVar[bool] = True

    def problem(self, endpoint: Endpoint) -> str | None:
        for name, value in endpoint.options.items():
            if name not in OPTIONS:
                return f"the protocol 'tei' knows no option '{name}'{nearest(name, list(OPTIONS))}"
            if not isinstance(value, OPTIONS[name]):
                wanted = "true or false" if OPTIONS[name] is bool else "text"
                return f"option '{name}' should be {wanted} (found {value!r})"
        direction = endpoint.options.get("truncation_direction", "right")
        return (
            None
            if direction in DIRECTIONS
            else f"option 'truncation_direction' should be left or right (found {direction})"
        )

    def path(self, endpoint: Endpoint, kind: RequestKind) -> str:
        return PATHS[kind]

    def encode(self, endpoint: Endpoint, request: Request) -> bytes:
        """Of one text. The server cuts nothing off unless `truncate` says so."""
        options = endpoint.options
        body: dict[str, Json] = {"truncate": options.get("truncate", False)}
        if "truncation_direction" in options:
            body["truncation_direction"] = options["truncation_direction"].capitalize()
        if request.asks_for == "rerank":
            body |= {"query": request.query, "texts": [request.text]}
        else:
            body["inputs"] = request.text
        if request.asks_for == "embedding":
            body["normalize"] = options.get("normalize", True)
            if request.dimensions is not None:
                body["dimensions"] = request.dimensions
        else:
            body["raw_scores"] = options.get("raw_scores", False)
        if "prompt_name" in options and request.asks_for == "embedding":
            body["prompt_name"] = options["prompt_name"]
        return encode_json(body).encode("ascii")

    def join(self, bodies: Sequence[bytes]) -> bytes:
        read = [json.loads(body) for body in bodies]
        if "texts" in read[0]:
            return encode_json({**read[0], "texts": [body["texts"][0] for body in read]}).encode("ascii")
        return encode_json({**read[0], "inputs": [body["inputs"] for body in read]}).encode("ascii")

    def text(self, headers: Mapping[str, str], raw: bytes) -> str:
        """How many tokens it read stands in a header: here on the first line, before the answer, a bare list."""
        said = headers.get(TOKENS_HEADER, "")
        tokens = said if said.isascii() and said.isdecimal() and len(said) < 10 else "null"
        return f"{tokens}\n{raw.decode('utf-8', 'replace')}"

    def split(self, answer: str, bodies: Sequence[bytes]) -> Sequence[str]:
        with as_answer():
            counted_tokens, _, listed = answer.partition("\n")
            tokens = read_json(counted_tokens)
            parts = list(_parts(read_json(listed), read_json(bodies[0]), len(bodies)))
            if len(parts) != len(bodies):
                raise NotAnAnswer(_miscounted(len(bodies), plural(len(parts), "answer")))
            counted: Sequence[int | None] = [None] * len(parts)
            if tokens is not None:
                counted = shares(tokens, [len(body) for body in bodies])
            return [rows_json({**part, "tokens": count}) for part, count in zip(parts, counted, strict=True)]

    def decode(self, body: str, kind: RequestKind) -> Reply:
        with as_answer():
            found = read_json(body)
            usage = None if found["tokens"] is None else Usage(input_tokens=int(found["tokens"]))
            if kind == "embedding":
                return Reply(vector=unpacked(found["vector"]), usage=usage)
            if kind == "rerank":
                return Reply(score=number(found["score"]), usage=usage)
            labels = [ModelLabelScore(str(each["label"]), number(each["score"])) for each in found["labels"]]
            labels.sort(key=lambda each: -each.score)
            return Reply(labels=tuple(labels), usage=usage)

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        said, kind = _error(body)
        if kind is None:
            return super().fault(status, headers, body)  # a proxy's page, and not the server's own error
        message = f"HTTP {status}: {said}"
        match status:
            case 413:
                return Fault(error="malformed", message=message, too_many=True)
            case 422:
                is_long = any(words in said for words in _TOO_LONG)
                return Fault(error="context_too_long" if is_long else "malformed", message=message)
            case 424:
                return Fault(error="server_error", message=message, attempts=2)
            case 429:
                return Fault(error="rate_limited", message=message, retry_after_s=faults.retry_after_s(headers))
            case 503:
                return Fault(error="overloaded", message=message, retry_after_s=faults.retry_after_s(headers))
            case 500:
                return Fault(error="server_error", message=message)
        return super().fault(status, headers, body)

    def info(self, endpoint: Endpoint) -> str | None:
        return "info"

    def learn(self, endpoint: Endpoint, status: int, said: str) -> ServerLimits:
        try:
            found = json.loads(said)
        except (ValueError, RecursionError):
            found = None
        if status in faults.BUSY_STATUSES or status == 429:
            return NO_LIMITS
        model = found.get("model_id") if isinstance(found, dict) else None
        if status != 200 or not isinstance(model, str) or not model:
            said = "" if status != 200 else " and names no model"
            return ServerLimits(
                problem=f"{endpoint.base_url}/info answers HTTP {status}{said}, and not as text-embeddings-inference "
                "does; correct base_url, which is where that server begins, without a path such as /embed or /v1"
            )
        if endpoint.llm not in (model, model.rpartition("/")[2]):
            return ServerLimits(problem=f"its 'model' is {endpoint.llm}, and the server runs {model}: write that")
        most = found.get("max_client_batch_size")
        texts = most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else None
        return ServerLimits(texts_per_request=texts, serves=_serves(found.get("model_type")))


def _serves(model_type: Any) -> RequestKind | None:
    """It says one of them, or an object whose only key is one."""
    said = next(iter(model_type), None) if isinstance(model_type, dict) else model_type
    return SERVES.get(said.lower()) if isinstance(said, str) else None


def _parts(found: Any, asked: Mapping[str, Any], number_of_texts: int) -> Iterator[dict[str, Json]]:
    """An answer per text, in the order of the texts."""
    if not isinstance(found, list):
        raise NotAnAnswer("the answer is no list")
    if "texts" in asked:
        scores = {int(each["index"]): number(each["score"]) for each in found}
        if len(found) != number_of_texts or sorted(scores) != list(range(number_of_texts)):
            raise NotAnAnswer(_miscounted(number_of_texts, plural(len(found), "score")))
        for place in range(number_of_texts):
            yield {"score": scores[place]}
        return
    if "raw_scores" in asked:
        rows = [found] if found and isinstance(found[0], dict) else found  # of a single text it is no list of lists
        for row in rows:
            if not row:
                raise NotAnAnswer("a text has no label")
            yield {"labels": [{"label": str(each["label"]), "score": number(each["score"])} for each in row]}
        return
    for vector in found:
        yield {"vector": packed(vector)}


def _miscounted(texts: int, came: str) -> str:
    return f"{plural(texts, 'text was', 'texts were')} sent, and {came} came back, not one for each"


def _error(body: bytes) -> tuple[str, str | None]:
    """What the server says, and the type of its error; None where it is not one of its own."""
    try:
        found = json.loads(body[:10_000])
    except (ValueError, RecursionError):
        return "", None
    if not isinstance(found, dict) or not isinstance(found.get("error"), str):
        return "", None
    return found["error"], str(found.get("error_type") or "")
