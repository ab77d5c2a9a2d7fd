"""Questions of plain code: a prompt with images, and an answer as text or as a model of pydantic."""

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.inference.records import Answer, Request, Result, Unanswered

Output = TypeVar("Output", bound=BaseModel)
Image = bytes | str | Path
"""The bytes of an image, or the path of a file."""
_KINDS = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))


class NoAnswer(UserError):
    """`found` is the whole of it: class of the error, the raw answer, what it cost."""

    def __init__(self, found: Unanswered) -> None:
        self.found = found
        super().__init__(f"There is no usable answer: {found.error}: {found.message}")


class ImageUnusable(UserError):
    def __init__(self, path: object, found: str) -> None:
        super().__init__(f"The image {path} cannot be sent: {found}")


def request_of(
    prompt: str, output: type[BaseModel] | None, system: str | None, images: Sequence[Image], how: Mapping[str, Any]
) -> Request:
    content: Any = prompt
    if images:
        content = [{"type": "text", "text": prompt}, *({"type": "image_url", "image_url": {"url": _url(image)}}
                                                       for image in images)]  # fmt: skip
    messages = [{"role": "system", "content": system}] if system else []
    request = Request(messages=(*messages, {"role": "user", "content": content}), **how)
    if output is None:
        return request
    return replace(request, schema=output.model_json_schema(), check=lambda answer: _complaint(output, answer))


def _complaint(output: type[BaseModel], answer: Answer) -> str | None:
    """What the model is told to repair: JSON that fits the schema may still not be one of these."""
    try:
        output.model_validate(answer.data)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
    return None


def answered(result: Result) -> Answer:
    if isinstance(result, Unanswered):
        raise NoAnswer(result)
    return result


def output_of(result: Result, output: type[Output]) -> Output:
    answer = answered(result)
    try:
        return output.model_validate(answer.data)
    except ValidationError as error:  # an answer from before the model had this rule
        said = f"the answer does not fit {output.__name__}: {error.errors()[0]['msg']}"
        raise NoAnswer(
            Unanswered(request=answer.request, error="invalid_output", message=said, call=answer.call, raw=answer.text)
        ) from error


def _url(image: Image) -> str:
    if isinstance(image, bytes):
        kind = next((kind for start, kind in _KINDS if image.startswith(start)), None)
        if kind is None:
            raise ImageUnusable(f"of {plural(len(image), 'byte')}", "it is neither PNG, JPEG, GIF nor WebP")
        return f"data:{kind};base64,{base64.b64encode(image).decode()}"
    path = Path(image)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageUnusable(path, error.strerror or str(error)) from error
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise ImageUnusable(path, "its name is not that of an image, such as .png or .jpg")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
