"""The Open Inference Protocol (v2) over REST, as KServe, Triton, MLServer and others speak it.

A text goes in as a BYTES tensor; a vector or scores come out as a tensor of numbers, anything else as JSON in a BYTES
tensor. What the tensors are called is declared, for servers need not say it. Numbers are read from JSON and from the
binary extension; texts are sent in the binary form where `binary` asks for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from ai_assets.base.fast_json import read_json, rows_json
from ai_assets.base.plural import plural
from ai_assets.inference.records import ModelLabelScore, Request, RequestKind
from ai_assets.protocols import faults
from ai_assets.protocols.base import NO_LIMITS, CallDelivery, Fault, NotAnAnswer, Protocol, Reply, ServerLimits, Wire
from ai_assets.protocols.kserve_options import options_of
from ai_assets.protocols.reading import as_answer, encode_json, number, packed, unpacked
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

HEADER_LENGTH = "Inference-Header-Content-Length"
ID_CHARACTERS = 32
NUMBERS: Mapping[str, str] = {
    "FP16": "e", "FP32": "f", "FP64": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B",
    "UINT16": "H", "UINT32": "I", "UINT64": "Q", "BOOL": "?",
}  # fmt: skip
"""As `struct` names them, for the binary form."""


class KServe(Protocol):
    name: ClassVar[str] = "kserve"
    kinds: ClassVar[frozenset[RequestKind]] = frozenset({"chat", "embedding", "rerank", "predict"})
    tiered: ClassVar[frozenset[RequestKind]] = frozenset()
    joins_texts: ClassVar[bool] = True
    shortens: ClassVar[bool] = False

    def problem(self, endpoint: Endpoint) -> str | None:
        return options_of(endpoint).problem

    def decisive(self, endpoint: Endpoint) -> Mapping[str, Json]:
        """Not: how the same tensors are written."""
        return {name: value for name, value in endpoint.options.items() if name not in ("binary", "column")}

    def path(self, endpoint: Endpoint, kind: RequestKind) -> str:
        return f"{_model(endpoint)}/infer"

    def encode(self, endpoint: Endpoint, request: Request) -> bytes:
        """Of one text, as JSON. A chat is one text too: what was asked, as JSON."""
        options = options_of(endpoint)
        if request.dimensions is not None:
            raise ValueError("the Open Inference Protocol has no way to ask for shorter vectors")
        if request.asks_for == "chat":
            inputs = [_tensor(options.input, [_chat(request)])]
        else:
            inputs = [_tensor(options.input, [request.text or ""])]
        if request.asks_for == "rerank":
            if options.query is None:
                raise ValueError("its options do not say by which tensor the query is sent ('query')")
            inputs.append(_tensor(options.query, [request.query or ""]))
        body: dict[str, Json] = {"inputs": inputs, "outputs": [{"name": options.output}]}
        if options.parameters:
            body["parameters"] = options.parameters
        return encode_json(body).encode("ascii")

    def join(self, bodies: Sequence[bytes]) -> bytes:
        read = [json.loads(body) for body in bodies]
        inputs = [
            _tensor(tensor["name"], [body["inputs"][place]["data"][0] for body in read])
            for place, tensor in enumerate(read[0]["inputs"])
        ]
        return encode_json({**read[0], "inputs": inputs}).encode("ascii")

    def wire(self, endpoint: Endpoint, body: bytes, kind: RequestKind, delivery: CallDelivery) -> Wire:
        # Optional by the protocol, and KServe answers 500 where a model gives back the id that was not there.
        options, id_ = options_of(endpoint), hashlib.sha256(body).hexdigest()[:ID_CHARACTERS]
        if not (options.column or options.binary):
            return Wire(body=b'{"id":"' + id_.encode("ascii") + b'",' + body[1:])
        found = {"id": id_, **json.loads(body)}
        texts: list[bytes] = []
        for tensor in found["inputs"]:
            if options.column:
                tensor["shape"] = [*tensor["shape"], 1]
            if options.binary:
                texts.append(b"".join(_counted(text.encode("utf-8", "replace")) for text in tensor.pop("data")))
                tensor["parameters"] = {"binary_data_size": len(texts[-1])}
        if not options.binary:
            return Wire(body=encode_json(found).encode("ascii"))
        found["outputs"] = [{**output, "parameters": {"binary_data": True}} for output in found["outputs"]]
        head = encode_json(found).encode("ascii")
        headers = {HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"}
        return Wire(body=b"".join((head, *texts)), headers=headers)

    def text(self, headers: Mapping[str, str], raw: bytes) -> str:
        """As JSON whatever form it came in: of a tensor in the binary form, its bytes stand there as base64."""
        said = headers.get(HEADER_LENGTH)
        if said is None:
            return raw.decode("utf-8", "replace")
        with as_answer():
            length = int(said)
            found, at = read_json(raw[:length]), length
            for output in found["outputs"]:
                size = (output.get("parameters") or {}).get("binary_data_size")
                if size is None:
                    continue
                if not 0 <= size <= len(raw) - at:
                    raise NotAnAnswer("the answer ends before its last tensor does")
                output["raw"] = base64.b64encode(raw[at : at + size]).decode("ascii")
                del output["parameters"]
                at += size
            return encode_json(found)

    def split(self, answer: str, bodies: Sequence[bytes]) -> Sequence[str]:
        with as_answer():
            found, wanted = read_json(answer), read_json(bodies[0])["outputs"][0]["name"]
            output = _output(found, wanted)
            head = {"model_name": found.get("model_name"), "model_version": found.get("model_version")}
            return [rows_json({**head, **row}) for row in _rows(output, len(bodies))]

    def decode(self, body: str, kind: RequestKind) -> Reply:
        with as_answer():
            found = read_json(body)
            model = str(found.get("model_name") or "")
            if kind == "chat":
                (row,) = _rows(_only(found), 1)
                if "text" not in row:
                    raise NotAnAnswer("numbers came back, and a chat is answered by a text (BYTES)")
                return Reply(text=str(row["text"]), model=model)
            if "text" in found:
                return _of_json(json.loads(found["text"]), kind, model)
            numbers = unpacked(found["row"])
            return _of_numbers(numbers, kind, model)

    def fault(self, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        said = _error(body)
        if said is None or status not in (500, *faults.BUSY_STATUSES):
            return super().fault(status, headers, body)
        busy = status in faults.BUSY_STATUSES
        retry_after_s = faults.retry_after_s(headers)
        return Fault(
            error="overloaded" if busy else "server_error",
            message=f"HTTP {status}: {said}",
            retry_after_s=retry_after_s,
        )

    def info(self, endpoint: Endpoint) -> str | None:
        return _model(endpoint)

    def learn(self, endpoint: Endpoint, status: int, said: str) -> ServerLimits:
        """Names and shapes, where the server says them; KServe's own says none for a model written by hand."""
        options = options_of(endpoint)
        if status == 404:
            return ServerLimits(problem=f"there is no model '{endpoint.llm}' at {endpoint.base_url}/{_model(endpoint)}")
        try:
            found = json.loads(said)
            tensors = {side: {each["name"]: each for each in found.get(side) or ()} for side in ("inputs", "outputs")}
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return NO_LIMITS
        wanted = [("input", "inputs", options.input), ("output", "outputs", options.output)]
        wanted += [("query", "inputs", options.query)] if options.query else []
        for key, side, name in wanted:
            known = tensors[side]
            if known and name not in known:
                there = ", ".join(f"'{each}'" for each in known)
                return ServerLimits(problem=f"its option '{key}' is '{name}', and the model's {side} are {there}")
        return ServerLimits(problem=_misfit(tensors["inputs"].get(options.input), column=options.column))


def _misfit(tensor: Mapping[str, Any] | None, *, column: bool) -> str | None:
    if tensor is None:
        return None
    name, datatype, shape = tensor["name"], tensor.get("datatype"), tensor.get("shape")
    if datatype not in (None, "BYTES"):
        return f"its tensor '{name}' takes {datatype}, and texts are BYTES"
    if isinstance(shape, list) and len(shape) == (1 if column else 2):
        there = "false" if column else "true"
        return f"its tensor '{name}' has the shape {shape}; write column: {there} under its options"
    return None


def _model(endpoint: Endpoint) -> str:
    version = options_of(endpoint).version
    path = f"v2/models/{quote(endpoint.llm, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def _tensor(name: str, texts: Sequence[str]) -> dict[str, Json]:
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}


def _chat(request: Request) -> str:
    asked: dict[str, Json] = {"messages": [dict(sorted(each.items())) for each in request.messages]}
    asked["max_tokens"] = request.max_output_tokens
    for name, value in (("temperature", request.temperature), ("seed", request.seed), ("schema", request.schema)):
        if value is not None:
            asked[name] = value
    if request.tools:
        raise ValueError("a model server of the Open Inference Protocol calls no tools")
    return encode_json(asked)


def _counted(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def _output(found: Any, wanted: str) -> Mapping[str, Any]:
    outputs: Mapping[str, Any] = {each["name"]: each for each in found["outputs"]}
    if wanted not in outputs:
        there = ", ".join(f"'{each}'" for each in outputs) or "none"
        raise NotAnAnswer(f"the answer has no output '{wanted}'; it has {there}")
    tensor: Mapping[str, Any] = outputs[wanted]
    return tensor


def _only(found: Any) -> Mapping[str, Any]:
    outputs: Sequence[Mapping[str, Any]] = found["outputs"]
    if len(outputs) != 1:
        raise NotAnAnswer(f"one output was asked for, and {len(outputs)} came back")
    return outputs[0]


def _rows(output: Mapping[str, Any], texts: int) -> Iterator[dict[str, Json]]:
    """The tensor as one row per text: numbers packed, a text as it is."""
    shape, datatype = [int(each) for each in output["shape"]], output["datatype"]
    values = _binary(output) if "raw" in output else _flat(output["data"])
    size = 1
    for each in shape:
        size *= each
    if not shape or shape[0] != texts or size != len(values):
        raise NotAnAnswer(
            f"{plural(texts, 'text was', 'texts were')} sent, and a tensor of shape {shape} "
            f"with {plural(len(values), 'value')} came back"
        )
    width = size // texts
    for place in range(texts):
        row = values[place * width : (place + 1) * width]
        if datatype == "BYTES":
            if width != 1:
                raise NotAnAnswer(f"a text was expected for each text, and {width} came back")
            yield {"text": str(row[0])}
        else:
            yield {"row": packed(row)}


def _flat(data: list[Any]) -> list[Any]:
    """Row by row; some servers nest what the protocol wants flat."""
    if not data or not isinstance(data[0], list):
        return data
    return _flat([each for row in data for each in row])


def _binary(output: Mapping[str, Any]) -> list[Any]:
    raw, datatype = base64.b64decode(output["raw"]), output["datatype"]
    if datatype != "BYTES":
        if datatype not in NUMBERS:
            raise NotAnAnswer(f"a tensor of {datatype} cannot be read")
        kind = NUMBERS[datatype]
        return list(struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw))
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        if at + 4 + length > len(raw):
            raise NotAnAnswer("a text of the answer ends before its length says so")
        found.append(raw[at + 4 : at + 4 + length].decode("utf-8", "replace"))
        at += 4 + length
    return found


def _of_numbers(row: tuple[float, ...], kind: RequestKind, model: str) -> Reply:
    if kind == "embedding":
        return Reply(vector=row, model=model)
    if kind == "rerank":
        if len(row) != 1:
            raise NotAnAnswer(f"one score was expected, and {plural(len(row), 'number')} came back")
        return Reply(score=row[0], model=model)
    return Reply(labels=_sorted(ModelLabelScore(str(place), score) for place, score in enumerate(row)), model=model)


def _of_json(found: Any, kind: RequestKind, model: str) -> Reply:
    """A number or vector; `{"label", "score"}` or a list of such; `{label: score}`."""
    if kind == "embedding":
        return Reply(vector=tuple(number(each) for each in found), model=model)
    if kind == "rerank":
        return Reply(score=number(found["score"] if isinstance(found, dict) else found), model=model)
    if isinstance(found, dict) and "label" not in found:
        return Reply(
            labels=_sorted(ModelLabelScore(str(name), number(score)) for name, score in found.items()), model=model
        )
    every = found if isinstance(found, list) else [found]
    return Reply(
        labels=_sorted(ModelLabelScore(str(each["label"]), number(each["score"])) for each in every), model=model
    )


def _sorted(labels: Any) -> tuple[ModelLabelScore, ...]:
    return tuple(sorted(labels, key=lambda each: -each.score))


def _error(body: bytes) -> str | None:
    """What the server says of its error; None where it is not one of its own."""
    try:
        found = json.loads(body[:10_000])
    except (ValueError, RecursionError):
        return None
    said = found.get("error") if isinstance(found, dict) else None
    return said if isinstance(said, str) else None
