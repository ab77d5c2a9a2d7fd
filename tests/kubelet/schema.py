"""The OpenAPI schema of Kubernetes, from PyPI `kubernetes-validate`: which fields there are, and of what type."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

OLDEST, NEWEST = "1.25", kubernetes_validate.latest_version()
"""Of Kubernetes: `autoscaling/v2` and `policy/v1` are in all of them."""
_FOLDER = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


class SchemaBroken(Exception):
    """An object that the server would not take."""


def check_schema(found: Mapping[str, Any], version: str = NEWEST) -> None:
    """Strictly, as `kubectl` and a server with `fieldValidation=Strict` do."""
    errors = sorted(_validator(version, found["apiVersion"], found["kind"]).iter_errors(found), key=str)
    if errors:
        raise SchemaBroken("; ".join(f"{'.'.join(map(str, error.path)) or 'the object'}: {error.message[:300]}"
                                     for error in errors[:3]))  # fmt: skip


def checked_everywhere(found: Mapping[str, Any]) -> None:
    for version in (OLDEST, NEWEST):
        check_schema(found, version)


@cache
def _validator(version: str, api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    folder = _FOLDER / f"v{_newest_not_after(version)}-local-strict"
    group, _, plain = api_version.rpartition("/")
    name = f"{kind}-{group.split('.')[0]}-{plain}".lower() if group else f"{kind}-{plain}".lower()
    file = folder / f"{name}.json"
    if not file.exists():
        raise SchemaBroken(f"Kubernetes {version} has no {kind} of {api_version}")
    registry: Registry[Any] = Registry(retrieve=lambda _: _definitions(folder))  # type: ignore[call-arg]
    return jsonschema.Draft202012Validator(json.loads(file.read_text()), registry=registry)


@cache
def _definitions(folder: Path) -> Resource[Any]:
    return Resource.from_contents(json.loads((folder / "_definitions.json").read_text()), DRAFT202012)


def _newest_not_after(version: str) -> str:
    wanted = _numbers(version)
    return max((each for each in _versions() if _numbers(each)[:2] <= wanted[:2]), key=_numbers)


def _versions() -> Iterator[str]:
    yield from kubernetes_validate.utils.all_versions()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
