"""Embedding requests and their answers: the vectors of the built-in embedder, cut or lengthened to what is asked."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.rehearsal.chat import read_model
from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.labels import embedder
from ai_assets.rehearsal.tokens import TokenUsage, count

if TYPE_CHECKING:
    import numpy as np

_MOST_TEXTS = 2048
_MOST_DIMENSIONS = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingRequest:
    model: str
    texts: tuple[str, ...]
    dimensions: int
    base64: bool
    input_tokens: int

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def shown(self) -> str:
        return self.texts[0]


def read_embedding(body: Mapping[str, Any], size: int) -> EmbeddingRequest:
    model = read_model(body)
    declared = body.get("input")
    if declared is None:
        raise Refusal(400, "Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
    texts = [declared] if isinstance(declared, str) else declared
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        message = "Invalid type for 'input': expected a string or an array of strings; tokens are not read here."
        raise Refusal(400, message, code="invalid_type", param="input")
    if len(texts) > _MOST_TEXTS or not all(texts):
        message = f"'input' must hold at most {_MOST_TEXTS} texts, none of them empty."
        raise Refusal(400, message, code="invalid_value", param="input")
    dimensions = body.get("dimensions")
    dimensions = embedder().dimensions if dimensions is None else dimensions
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= _MOST_DIMENSIONS:
        message = f"Invalid 'dimensions': expected an integer from 1 to {_MOST_DIMENSIONS}."
        raise Refusal(400, message, code="invalid_value", param="dimensions")
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        message = f"Invalid value: '{encoding}'. Supported values are: 'float' and 'base64'."
        raise Refusal(400, message, code="invalid_value", param="encoding_format")
    return EmbeddingRequest(
        model=model,
        texts=tuple(texts),
        dimensions=dimensions,
        base64=encoding == "base64",
        input_tokens=min(sum(map(count, texts)), size),
    )


def embed(request: EmbeddingRequest, *, second: bool = False) -> tuple[dict[str, Any], TokenUsage]:
    """`second`: by another model, whose vectors have nothing in common with those of the first."""
    rows = _resized(embedder().embed(request.texts), request.dimensions)
    rows = rows[:, ::-1].copy() if second else rows
    data = [
        {
            "object": "embedding",
            "index": number,
            "embedding": base64.b64encode(row.tobytes()).decode() if request.base64 else row.tolist(),
        }
        for number, row in enumerate(rows)
    ]
    used = {"prompt_tokens": request.input_tokens, "total_tokens": request.input_tokens}
    body = {"object": "list", "data": data, "model": request.model, "usage": used}
    return body, TokenUsage(input_tokens=request.input_tokens)


def _resized(rows: "np.ndarray", dimensions: int) -> "np.ndarray":
    """Little-endian float32 rows: cut and made of length one again, or filled up with zeros."""
    import numpy as np

    if dimensions < rows.shape[1]:
        rows = rows[:, :dimensions]
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    elif dimensions > rows.shape[1]:
        rows = np.pad(rows, ((0, 0), (0, dimensions - rows.shape[1])))
    return np.ascontiguousarray(rows, dtype="<f4")
