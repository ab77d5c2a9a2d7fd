"""What every pod of ours is, in Kubernetes' own words: nobody's root, and nothing to write but two folders.

Manifests take it as it is; dagster-k8s takes names in its own spelling (`in_snake_case`).
"""

import re
from typing import Any

USER = 10_001
"""Of deploy/Dockerfile."""
TEMPORARY = "/tmp"
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY: dict[str, Any] = {
    "fsGroup": USER,
    "runAsGroup": USER,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
VOLUMES: list[dict[str, Any]] = [{"name": "home", "emptyDir": {}}, {"name": "temporary", "emptyDir": {}}]


def volume_mounts(home: str) -> list[dict[str, Any]]:
    return [{"name": "home", "mountPath": home}, {"name": "temporary", "mountPath": TEMPORARY}]


def in_snake_case(found: Any) -> Any:
    """With every key as Kubernetes' Python client writes it."""
    if isinstance(found, list):
        return [in_snake_case(each) for each in found]
    if not isinstance(found, dict):
        return found
    return {re.sub(r"([A-Z])", r"_\1", key).lower(): in_snake_case(value) for key, value in found.items()}
