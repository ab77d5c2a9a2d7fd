"""The Open Inference Protocol (v2) over REST: `/v2/models/NAME[/versions/V]/infer`, plain and binary, and metadata.

Its model has the inputs `text` and `query` (BYTES), and the outputs `embedding` and `score` (FP32), `label` (BYTES:
JSON) and `answer` (BYTES: what a chat is answered).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import Behaviour
from ai_assets.rehearsal.texts import Task, TextsRequest, chat_answer, labelled, scores, unknown, vectors

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUTS: Mapping[str, Task] = {"embedding": "embed", "score": "rerank", "label": "predict", "answer": "chat"}
PATH = re.compile(r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<verb>infer|ready))?")
_FIELDS = ("id", "parameters", "inputs", "outputs")
_TENSOR = ("name", "shape", "datatype", "data", "parameters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    body: bytes
    headers: Mapping[str, str]


def read_kserve(model: str, raw: bytes, headers: Mapping[str, str], behaviour: Behaviour) -> TextsRequest:
    _known_model(model, behaviour)
    body, rest = _parsed(raw, headers)
    if (name := unknown(body, _FIELDS)) is not None:
        raise Refusal(400, f"unexpected field '{name}' in the request")
    tensors: dict[str, list[str]] = {}
    for tensor in body.get("inputs") or []:
        texts, rest = _texts(tensor, rest, behaviour)
        tensors[str(tensor["name"])] = texts
    for name in tensors:
        if name not in ("text", "query"):
            raise Refusal(400, f"unexpected inference input '{name}' for model '{model}'")
    if rest or not tensors.get("text"):
        raise Refusal(400, "expected the input 'text' with at least one element, and no bytes beyond the tensors")
    wanted = [each for each in body.get("outputs") or [{"name": "embedding"}] if isinstance(each, Mapping)]
    names = [str(each.get("name")) for each in wanted]
    if len(names) != 1 or names[0] not in OUTPUTS:
        raise Refusal(400, f"unexpected inference output '{', '.join(names)}' for model '{model}'")
    task = OUTPUTS[names[0]]
    queries = tensors.get("query")
    if (task == "rerank") != (queries is not None) or (queries and len(queries) != len(tensors["text"])):
        raise Refusal(400, "the output 'score' wants a query for each text, and nothing else does")
    is_binary = bool((wanted[0].get("parameters") or {}).get("binary_data")) and behaviour.kserve_binary
    options = {"output": names[0], "binary": is_binary, "id": body.get("id")}
    query = queries[0] if queries else None
    return TextsRequest(model=model, task=task, texts=tuple(tensors["text"]), query=query, options=options)


def answer_kserve(request: TextsRequest, behaviour: Behaviour) -> Encoded:
    datatype, shape, values = _computed(request, behaviour)
    output: dict[str, Any] = {"name": request.options["output"], "datatype": datatype, "shape": shape}
    whole: dict[str, Any] = {"model_name": request.model, "model_version": None, "id": request.options["id"] or "0"}
    whole |= {"parameters": None, "outputs": [output]}
    if not request.options["binary"]:
        output["data"] = values
        return Encoded(body=_json(whole), headers={})
    packed = (
        b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in values)
        if datatype == "BYTES"
        else struct.pack(f"<{len(values)}f", *values)
    )
    output["parameters"] = {"binary_data_size": len(packed)}
    head = _json(whole)
    return Encoded(body=head + packed, headers={HEADER_LENGTH: str(len(head))})


def metadata(model: str, behaviour: Behaviour) -> dict[str, Any]:
    _known_model(model, behaviour)
    if not behaviour.kserve_metadata:
        return {"name": model, "versions": None, "platform": "", "inputs": [], "outputs": []}
    shape = [-1, 1] if behaviour.kserve_column else [-1]
    inputs = [{"name": name, "datatype": "BYTES", "shape": shape} for name in ("text", "query")]
    kinds = {"embedding": "FP32", "score": "FP32", "label": "BYTES", "answer": "BYTES"}
    outputs = [{"name": name, "datatype": kind, "shape": [-1, -1]} for name, kind in kinds.items()]
    return {"name": model, "versions": ["1"], "platform": "rehearsal", "inputs": inputs, "outputs": outputs}


def _known_model(model: str, behaviour: Behaviour) -> None:
    if behaviour.models and model not in behaviour.models:
        raise Refusal(404, f"Model with name {model} does not exist.")


def _parsed(raw: bytes, headers: Mapping[str, str]) -> tuple[Mapping[str, Any], bytes]:
    length = headers.get(HEADER_LENGTH)
    head, rest = (raw, b"") if length is None else (raw[: int(length)], raw[int(length) :])
    try:
        body = json.loads(head)
    except (ValueError, RecursionError) as e:
        raise Refusal(400, f"Unrecognized request format: {e}") from e
    if not isinstance(body, dict):
        raise Refusal(400, "Unrecognized request format: no JSON object")
    return body, rest


def _texts(tensor: Any, rest: bytes, behaviour: Behaviour) -> tuple[list[str], bytes]:
    if not isinstance(tensor, Mapping) or (name := unknown(tensor, _TENSOR)) is not None:
        raise Refusal(400, f"unexpected field '{name if isinstance(tensor, Mapping) else tensor}' in an input")
    if tensor.get("datatype") != "BYTES":
        raise Refusal(400, f"input '{tensor.get('name')}' has datatype {tensor.get('datatype')}; expected BYTES")
    size = (tensor.get("parameters") or {}).get("binary_data_size")
    if size is None:
        texts = tensor.get("data")
    else:
        texts, rest = _counted(rest[:size]), rest[size:]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, f"input '{tensor.get('name')}' holds something else than texts")
    expected = [len(texts), 1] if behaviour.kserve_column else [len(texts)]
    if tensor.get("shape") != expected:
        raise Refusal(400, f"input '{tensor.get('name')}' has shape {tensor.get('shape')}; expected {expected}")
    return texts, rest


def _counted(raw: bytes) -> list[str]:
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return found


def _computed(request: TextsRequest, behaviour: Behaviour) -> tuple[str, list[int], list[Any]]:
    """Datatype, shape, and values row by row."""
    number = len(request.texts)
    match request.task:
        case "embed":
            rows = vectors(request)
            return "FP32", [number, int(rows.shape[1])], [float(each) for row in rows for each in row]
        case "rerank":
            return "FP32", [number, 1], scores(request, raw=False)
        case "predict":
            best = [row[0] for row in labelled(request, behaviour, raw=False)]
            return "BYTES", [number], [json.dumps({"label": label, "score": score}) for label, score in best]
        case "chat":
            return "BYTES", [number], [chat_answer(text) for text in request.texts]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
