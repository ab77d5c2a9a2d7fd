"""From the path of a request to what it is about, and what the API server tells of itself."""

from dataclasses import dataclass
from typing import Any

from kubelet.kinds import BY_KIND, BY_PLURAL, KINDS, ResourceKind
from kubelet.refusals import ApiRefused
from kubelet.store import Selection

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True, kw_only=True)
class ApiPath:
    kind: ResourceKind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def selection(self, query: dict[str, str]) -> Selection:
        fields = query.get("fieldSelector", "")
        if self.name:
            fields = f"metadata.name={self.name}"
        return Selection(
            kind=self.kind, namespace=self.namespace or None, labels=query.get("labelSelector", ""), fields=fields
        )


def parsed(path: str) -> ApiPath:
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1] if len(parts) > 2 else "", parts[3:])
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    kind = BY_PLURAL.get(rest[0]) if rest else None
    if kind is None or kind.group != group:
        raise ApiRefused(404, "NotFound", "the server could not find the requested resource")
    name, subresource = [*rest[1:], "", ""][:2]
    return ApiPath(kind=kind, namespace=namespace, name=name, subresource=subresource)


def discovery(path: str) -> dict[str, Any] | None:
    """What a client reads first: the version, the groups, and the resources of a group."""
    groups = sorted({(kind.group, kind.version) for kind in KINDS if kind.group})
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0-test-kubelet", "platform": "test"}
        case ["healthz" | "livez" | "readyz"]:
            return {}
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*group) for group in groups]}
        case ["api", version]:
            return _resources("", version)
        case ["apis", group, version]:
            return _resources(group, version)
        case _:
            return None


def _group(group: str, version: str) -> dict[str, Any]:
    versions = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [versions], "preferredVersion": versions}


def _resources(group: str, version: str) -> dict[str, Any]:
    found = [kind for kind in BY_KIND.values() if (kind.group, kind.version) == (group, version)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [
            {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced,
             "kind": kind.kind, "verbs": _VERBS}
            for kind in found
        ],
    }  # fmt: skip
