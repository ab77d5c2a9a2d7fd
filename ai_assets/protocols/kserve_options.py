"""The `options` of an endpoint with the protocol `kserve`: what its tensors are called, and how they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ai_assets.base.yaml_settings import nearest
from ai_assets.storage.digest import Json, canonical_json

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

TEXTS = ("input", "output", "query", "version")
SWITCHES = ("binary", "column")
NAMES = (*TEXTS, *SWITCHES, "parameters")


@dataclass(frozen=True, kw_only=True, slots=True)
class KServeOptions:
    input: str = ""
    """The BYTES tensor that a text goes into."""
    output: str = ""
    """The tensor of the answer."""
    query: str | None = None
    """The BYTES tensor of the query, where texts are compared with one."""
    version: str | None = None
    """Of the model, where it is not the one that the server prefers."""
    parameters: Mapping[str, Json] | None = None
    """Sent with each request."""
    binary: bool = False
    """Texts and answers in the binary extension."""
    column: bool = False
    """The shape of texts is [n, 1] and not [n], as Triton has it for a model that batches."""
    problem: str | None = None


def options_of(endpoint: Endpoint) -> KServeOptions:
    return _read(_Given(endpoint.options))


class _Given:
    """Options as a key of what was read of them; the same object is recognised at once."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def __hash__(self) -> int:
        return id(self.options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Given) and other.options is self.options


@lru_cache(maxsize=256)
def _read(given: _Given) -> KServeOptions:
    options = given.options
    problem = _wrong(options)
    if problem is not None:
        return KServeOptions(problem=problem)
    return KServeOptions(**{name: value for name, value in options.items() if name in NAMES})


def _wrong(options: Mapping[str, Any]) -> str | None:
    for name, value in options.items():
        if name not in NAMES:
            return f"the protocol 'kserve' knows no option '{name}'{nearest(name, list(NAMES))}"
        if name in TEXTS and not (isinstance(value, str) and value):
            return f"option '{name}' should be a name (found {value!r})"
        if name in SWITCHES and not isinstance(value, bool):
            return f"option '{name}' should be true or false (found {value!r})"
        if name == "parameters" and not isinstance(value, Mapping):
            return f"option 'parameters' should be a mapping (found {canonical_json(value)})"
    for name, what in (("input", "that texts go into"), ("output", "of the answer")):
        if name not in options:
            return f"the protocol 'kserve' needs the option '{name}': the name of the tensor {what}"
    return None
