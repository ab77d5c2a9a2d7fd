"""Counting input tokens as the model does: with the tokenizer an endpoint names, or as the rehearsal provider does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai_assets.base.errors import UserError
from ai_assets.inference.settings import REHEARSAL, Endpoint

Counter = Callable[[bytes], int]
"""Input tokens of a request, from the bytes that would be sent."""
TOKEN_BYTES = 4
"""Of a token, where nothing better is known."""
PER_MESSAGE = 4
PER_REQUEST = 3
"""Marks that chat templates put around messages; some write a few more."""
TEMPLATE_ERROR = 0.03
"""How far such a count may be off, because the template itself is not known."""


class TokenizerUnusable(UserError):
    def __init__(self, endpoint: str, path: Path, found: str) -> None:
        super().__init__(
            f"Endpoint '{endpoint}' names the tokenizer {path}, and {found}. It should be the tokenizer.json of its "
            "model on Hugging Face; or leave 'tokenizer' out of inference.yaml, and tokens are estimated."
        )


def counter_for(name: str, endpoint: Endpoint, folder: Path) -> Counter | None:
    """None where the model's tokenizer is not known. `folder`: where inference.yaml lies."""
    if endpoint.tokenizer is not None:
        return _of_file(name, (folder / Path(endpoint.tokenizer).expanduser()).resolve())
    if endpoint.base_url == REHEARSAL:
        return _rehearsed
    return None


def _rehearsed(body: bytes) -> int:
    """What the provider itself would say it read."""
    from ai_assets.rehearsal.chat import read_chat
    from ai_assets.rehearsal.embeddings import read_embedding

    asked = json.loads(body)
    return (read_embedding if "input" in asked else read_chat)(asked, len(body)).input_tokens


def _of_file(name: str, path: Path) -> Counter:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise TokenizerUnusable(name, path, "there is no such file")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no class of its own
        raise TokenizerUnusable(name, path, f"that cannot be read as one ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(body: bytes) -> int:
        texts, messages = _texts(json.loads(body))
        tokens = sum(len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False))
        return tokens + PER_MESSAGE * messages + (PER_REQUEST if messages else 0)

    return count


def _texts(asked: dict[str, Any]) -> tuple[list[str], int]:
    """What the model reads of a request, and how many messages it is."""
    if "input" in asked:
        return [asked["input"]], 0
    messages = asked["messages"]
    texts = [message["content"] for message in messages]
    if (form := asked.get("response_format", {}).get("json_schema")) is not None:
        texts.append(json.dumps(form["schema"], separators=(",", ":")))
    return texts, len(messages)
