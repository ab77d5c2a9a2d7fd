"""The dialect of text-embeddings-inference: `/embed`, `/rerank`, `/predict` and `/info`, with its limits and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import Behaviour
from ai_assets.rehearsal.texts import TextsRequest, labelled, scores, unknown, vectors
from ai_assets.rehearsal.tokens import count, cut

PATHS: Mapping[str, str] = {"/embed": "embedding", "/rerank": "reranker", "/predict": "classifier"}
"""And what the model must be for it."""
INFO = "/info"
TOKENS = "x-compute-tokens"
_SHARED = ("truncate", "truncation_direction")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "/embed": ("inputs", "normalize", "prompt_name", "dimensions", *_SHARED),
    "/rerank": ("query", "texts", "raw_scores", "return_text", *_SHARED),
    "/predict": ("inputs", "raw_scores", *_SHARED),
}
_ERRORS: Mapping[int, str] = {413: "validation", 422: "tokenizer", 424: "backend", 429: "overloaded", 500: "unhealthy"}


def read_tei(path: str, body: Mapping[str, Any], behaviour: Behaviour) -> TextsRequest:
    if behaviour.tei_type not in (None, PATHS[path]):
        raise Refusal(424, f"model is not a {PATHS[path]} model")
    if (name := unknown(body, _FIELDS[path])) is not None:
        raise Refusal(422, f"Failed to deserialize the JSON body into the target type: unknown field `{name}`")
    query = body.get("query")
    given = body.get("texts" if path == "/rerank" else "inputs")
    single = isinstance(given, str) and path != "/rerank"
    texts = [given] if single else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refusal(422, "`inputs` cannot be empty" if path != "/rerank" else "`texts` cannot be empty")
    if path == "/rerank" and not isinstance(query, str):
        raise Refusal(422, "Failed to deserialize the JSON body into the target type: missing field `query`")
    if len(texts) > behaviour.tei_batch:
        raise Refusal(413, f"batch size {len(texts)} > maximum allowed batch size {behaviour.tei_batch}")
    most = behaviour.tei_input
    for place, text in enumerate(texts):
        found = count(text)
        if found > most and not body.get("truncate", behaviour.tei_truncates):
            raise Refusal(422, f"Input validation error: `inputs` must have less than {most} tokens. Given: {found}")
        texts[place] = cut(text, most)[0]
    task = {"/embed": "embed", "/rerank": "rerank", "/predict": "predict"}[path]
    options = {**body, "single": single, "path": path}
    return TextsRequest(model=model_of(behaviour), task=task, texts=tuple(texts), query=query, options=options)  # type: ignore[arg-type]


def answer_tei(request: TextsRequest, behaviour: Behaviour) -> Any:
    options = request.options
    raw = bool(options.get("raw_scores"))
    if request.task == "embed":
        rows = vectors(request)
        width = options.get("dimensions") or rows.shape[1]
        return [[float(each) for each in row[:width]] for row in rows]
    if request.task == "rerank":
        found: list[dict[str, Any]] = [
            {"index": place, "score": score} for place, score in enumerate(scores(request, raw=raw))
        ]
        if options.get("return_text"):
            found = [{**each, "text": request.texts[int(each["index"])]} for each in found]
        return sorted(found, key=lambda each: -float(each["score"]))
    rows_of_labels = [
        [{"score": score, "label": label} for label, score in row] for row in labelled(request, behaviour, raw=raw)
    ]
    return rows_of_labels[0] if options["single"] else rows_of_labels


def info(behaviour: Behaviour) -> dict[str, Any]:
    kind = behaviour.tei_type or "embedding"
    return {
        "model_id": model_of(behaviour), "model_sha": None, "model_dtype": "float32",
        "model_type": {kind: {"pooling": "mean"} if kind == "embedding" else {"id2label": {}, "label2id": {}}},
        "max_concurrent_requests": 512, "max_input_length": behaviour.tei_input, "max_batch_tokens": 16384,
        "max_batch_requests": None, "max_client_batch_size": behaviour.tei_batch,
        "auto_truncate": behaviour.tei_truncates, "tokenization_workers": 1, "version": "1.7.0",
    }  # fmt: skip


def model_of(behaviour: Behaviour) -> str:
    return behaviour.models[0] if behaviour.models else "rehearsal-embed"


def error_body(refused: Refusal) -> dict[str, Any]:
    return {"error": str(refused), "error_type": _ERRORS.get(refused.status, "validation")}
