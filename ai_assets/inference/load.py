"""Reading `inference.yaml`: from text to settings, or to one error with file and line of each mistake."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from ai_assets.base.errors import ExtensionUnusable, Gathered
from ai_assets.base.yaml_settings import line_of, located, read_yaml
from ai_assets.inference.errors import InferenceInvalid
from ai_assets.inference.settings import Endpoint, InferenceSettings
from ai_assets.protocols.registry import protocol_of


def load_inference(path: Path) -> InferenceSettings:
    """The file as a whole, checked; one that does not exist declares nothing."""
    if _is_absent(path):
        return InferenceSettings().lacking(path)
    node, data = read_yaml(path, InferenceInvalid)
    try:
        settings = InferenceSettings.model_validate({} if data is None else data)
    except ValidationError as error:
        raise located(path, node, error, InferenceInvalid) from error
    gathered = Gathered()
    for name, endpoint in settings.endpoints.items():
        gathered.attempt(None, _check_protocol, path, node, name, endpoint)
    gathered.refuse(InferenceInvalid)
    return settings


def _check_protocol(path: Path, node: yaml.Node | None, name: str, endpoint: Endpoint) -> None:
    at = ("endpoints", name, "protocol")
    try:
        problem = protocol_of(endpoint.protocol, path).problem(endpoint)
    except ExtensionUnusable as error:
        raise InferenceInvalid(path, line_of(node, *at), f"{'.'.join(at)}: {error}") from error
    if problem is not None:
        line = line_of(node, "endpoints", name, "options")
        raise InferenceInvalid(path, line, f"endpoints.{name}: {problem}")


def _is_absent(path: Path) -> bool:
    """Not there at all. What is there and cannot be read, such as a link to nowhere, is an error instead."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
