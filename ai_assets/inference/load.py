"""Reading `inference.yaml`: from text to settings, or to one error with file and line of each mistake."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from ai_assets.base.errors import ExtensionUnusable, Gathered
from ai_assets.base.home import Home
from ai_assets.base.tenants import Tenants, load_tenants
from ai_assets.base.yaml_settings import line_of, located, read_yaml
from ai_assets.inference.errors import InferenceInvalid, SharesOfTenants
from ai_assets.inference.settings import OF_TENANT, Endpoint, InferenceSettings
from ai_assets.protocols.registry import protocol_of


def inference_at(home: Home, path: Path | None = None) -> InferenceSettings:
    """What the project of a home declares, or another file, with the tenants that share the installation."""
    path = path or home.inference
    settings, tenants = load_inference(path), load_tenants(home.operations)
    if tenants:
        _refuse_beside_tenants(path, settings, tenants)
    return settings.under(tenants)


def _refuse_beside_tenants(path: Path, settings: InferenceSettings, tenants: Tenants) -> None:
    """What would divide places or money in another way than between tenants."""
    node = None if settings.missing else read_yaml(path, InferenceInvalid)[0]
    gathered = Gathered()
    for name, endpoint in settings.endpoints.items():
        for party in endpoint.shares.keys() - tenants.declared.keys():
            at = ("endpoints", name, "shares", party)
            said = f"'{party}' is no tenant, and where tenants are declared they share the places of an endpoint"
            gathered.errors.append(SharesOfTenants(path, line_of(node, *at), f"{'.'.join(at)}: {said}"))
    for number, budget in enumerate(settings.budgets):
        if budget.name.removeprefix(OF_TENANT) in tenants.declared and budget.name.startswith(OF_TENANT):
            said = f"{tenants.path.name} declares the budget '{budget.name}' with its tenant; choose another name"
            line = line_of(node, "budgets", number, "name")
            gathered.errors.append(InferenceInvalid(path, line, f"budgets.{number}.name: {said}"))
    gathered.refuse(InferenceInvalid)


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
