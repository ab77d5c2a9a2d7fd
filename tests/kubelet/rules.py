"""What only the server knows about an object that the schema allows: names, labels, resources, what must be there."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubelet.amounts import amount
from kubelet.kinds import BY_PLURAL, JOBS, NAMESPACES, PODS, ResourceKind
from kubelet.refusals import forbidden, invalid, malformed, not_found
from kubelet.schema import SchemaBroken, check_schema
from kubelet.store import Object, ObjectStore

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", re.ASCII)
_FREE_NAMES = {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}
_BUILT_IN_PRIORITIES = {"system-cluster-critical", "system-node-critical"}
LONGEST_LABEL = 63
_NO_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character"
)
_NO_LABEL = f"a valid label must be no more than {LONGEST_LABEL} alphanumeric characters, '-', '_' or '.'"


def check_object(kind: ResourceKind, new: Object, at: ObjectStore, namespace: str) -> None:
    """Raises ApiRefused in the server's own words."""
    if kind.namespaced and not at.has(NAMESPACES, "", namespace):
        raise not_found(NAMESPACES, namespace)
    try:
        check_schema(new)
    except SchemaBroken as error:
        raise malformed(kind, f"strict decoding error: {error}") from None
    _check_names(kind, new)
    pod = pod_spec_of(kind, new)
    if pod is not None:
        for where, said in _wrong_in_pod(pod, "spec.template.spec" if kind != PODS else "spec"):
            raise invalid(kind, new["metadata"]["name"], where, said)
    if kind == JOBS and pod is not None and pod.get("restartPolicy") not in {"Never", "OnFailure"}:
        raise invalid(kind, new["metadata"]["name"], "spec.template.spec.restartPolicy",
                      'Required value: valid values: "OnFailure", "Never"')  # fmt: skip


def check_admission(kind: ResourceKind, new: Object, at: ObjectStore, namespace: str) -> None:
    """Of a pod: what it names must be there."""
    if kind != PODS:
        return
    name, spec = new["metadata"]["name"], new["spec"]
    account = spec.setdefault("serviceAccountName", "default")
    if not at.has(BY_PLURAL["serviceaccounts"], namespace, account):
        missing = f'serviceaccount "{account}" not found'
        raise forbidden(kind, name, f"error looking up service account {namespace}/{account}: {missing}")
    priority = spec.get("priorityClassName")
    if priority and priority not in _BUILT_IN_PRIORITIES:
        classes = BY_PLURAL["priorityclasses"]
        if not at.has(classes, "", priority):
            raise forbidden(kind, name, f"no PriorityClass with name {priority} was found")
        spec["priority"] = at.get(classes, "", priority)["value"]


def pod_spec_of(kind: ResourceKind, new: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if kind == PODS:
        return new["spec"]
    template = (new.get("spec") or {}).get("template")
    return template["spec"] if template and "containers" in (template.get("spec") or {}) else None


def _check_names(kind: ResourceKind, new: Object) -> None:
    metadata = new["metadata"]
    name = metadata["name"]
    longest = LONGEST_LABEL if kind in {NAMESPACES, JOBS} else 253
    if kind.plural not in _FREE_NAMES and not _SUBDOMAIN.fullmatch(name):
        raise invalid(kind, name, "metadata.name", f'Invalid value: "{name}": {_NO_SUBDOMAIN}')
    if len(name) > longest:
        said = f'Invalid value: "{name}": must be no more than {longest} characters'
        raise invalid(kind, name, "metadata.name", said)
    for label, value in (metadata.get("labels") or {}).items():
        if len(value) > LONGEST_LABEL or not _LABEL_VALUE.fullmatch(value):
            said = f'Invalid value: "{value}": of label {label}: {_NO_LABEL}'
            raise invalid(kind, name, "metadata.labels", said)


def _wrong_in_pod(spec: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for number, container in enumerate(spec["containers"]):
        field = f"{where}.containers[{number}]"
        if not container.get("image"):
            yield f"{field}.image", "Required value"
        yield from _wrong_resources(container.get("resources") or {}, f"{field}.resources")
        for mount, mounted in enumerate(container.get("volumeMounts") or ()):
            if mounted["name"] not in volumes:
                yield f"{field}.volumeMounts[{mount}].name", f'Not found: "{mounted["name"]}"'
        paths = [mounted["mountPath"] for mounted in container.get("volumeMounts") or ()]
        for path in {path for path in paths if paths.count(path) > 1}:
            yield f"{field}.volumeMounts.mountPath", f'Invalid value: "{path}": must be unique'
    for number, bears in enumerate(spec.get("tolerations") or ()):
        if bears.get("operator", "Equal") == "Exists" and bears.get("value"):
            yield (f"{where}.tolerations[{number}].operator",
                   "Invalid value: value must be empty when `operator` is 'Exists'")  # fmt: skip


def _wrong_resources(resources: Mapping[str, Any], field: str) -> Iterator[tuple[str, str]]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, asked in requests.items():
        if "/" in name:
            if name not in limits:
                yield f"{field}.limits", f"Required value: Limit must be set for non overcommitable resources ({name})"
            elif amount(asked) != amount(limits[name]):
                yield f"{field}.requests", f'Invalid value: "{asked}": must be equal to {name} limit'
        elif name in limits and amount(asked) > amount(limits[name]):
            yield f"{field}.requests", f'Invalid value: "{asked}": must be less than or equal to {name} limit'
    for name, most in {**limits, **requests}.items():
        if "/" in name and amount(most) != int(amount(most)):
            yield f"{field}.limits[{name}]", f'Invalid value: "{most}": must be an integer'
