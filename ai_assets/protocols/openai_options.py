"""What an endpoint of the OpenAI protocol may say under `options`: Azure's paths and keys, and what vLLM adds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ai_assets.base.hosts import is_host
from ai_assets.base.yaml_settings import nearest

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

NAMES = ("api_version", "deployment", "key_header", "metrics", "priority")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_URL = re.compile(r"https?://[^\s?#@]+")
METRICS = "metrics"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenAIOptions:
    api_version: str | None = None
    """Azure's, which stands in the address."""
    deployment: str | None = None
    """Azure's name of the model, which stands in the path."""
    key_header: str = "authorization"
    metrics: str | None = None
    """Where a vLLM server says how many requests wait there; relative to where its paths begin."""
    priority: bool = False
    """The server orders requests by `priority` (vLLM with --scheduling-policy priority)."""
    problem: str | None = None

    @property
    def is_azure(self) -> bool:
        return self.key_header == "api-key"

    @property
    def folder(self) -> str:
        return f"/openai/deployments/{self.deployment}" if self.deployment else ""

    def at(self, path: str) -> str:
        """Below the `base_url`."""
        found = f"{self.folder}/{path}".lstrip("/")
        return f"{found}?api-version={self.api_version}" if self.api_version else found


NONE = OpenAIOptions()


def options_of(endpoint: Endpoint) -> OpenAIOptions:
    if not endpoint.options:
        return NONE
    return _read(tuple(sorted((name, _plain(value)) for name, value in endpoint.options.items())))


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool) else repr(value)


@lru_cache(maxsize=256)
def _read(given: tuple[tuple[str, Any], ...]) -> OpenAIOptions:
    options = dict(given)
    problem = next((found for name, value in given if (found := _wrong(name, value)) is not None), None)
    if problem is not None:
        return OpenAIOptions(problem=problem)
    is_azure = bool(options.keys() & {"api_version", "deployment"})
    return OpenAIOptions(
        api_version=options.get("api_version"),
        deployment=options.get("deployment"),
        key_header=options.get("key_header", "api-key" if is_azure else "authorization"),
        metrics=_metrics(options.get("metrics", False)),
        priority=options.get("priority", False),
    )


def _wrong(name: str, value: Any) -> str | None:
    match name:
        case "api_version" | "deployment":
            fits = isinstance(value, str) and _WORD.fullmatch(value) is not None
            wanted = "a word, such as 2024-10-21 in quotes" if name == "api_version" else "a name, as Azure has it"
        case "key_header":
            fits, wanted = value in ("api-key", "authorization"), "api-key or authorization"
        case "metrics":
            fits = isinstance(value, bool) or (isinstance(value, str) and _is_address(value))
            wanted = "true, or an address such as http://localhost:8000/metrics"
        case "priority":
            fits, wanted = isinstance(value, bool), "true or false"
        case _:
            return f"the protocol 'openai' knows no option '{name}'{nearest(name, list(NAMES))}"
    return None if fits else f"option '{name}' should be {wanted} (found {value})"


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return is_host(parts.hostname or "") and parts.port != 0 and _URL.fullmatch(value) is not None
    except ValueError:
        return False


def _metrics(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return METRICS if value else None
