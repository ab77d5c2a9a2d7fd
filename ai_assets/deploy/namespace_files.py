"""What each namespace has: its quota and limits, who may do what in it, who may talk to whom, and its code location."""

from collections.abc import Iterator

from ai_assets.base.home import TENANT_VARIABLE
from ai_assets.base.quantities import cpu_quantity, memory_bytes, memory_quantity, millicores
from ai_assets.deploy.objects import (
    NAME,
    OURS,
    Object,
    account,
    deployment,
    disruption_budget,
    pod,
    service,
    thing,
)
from ai_assets.deploy.plan import CODE_PORT, DESK_PORT, SERVED, WEB_PORT, DeployedNamespace, DeploymentPlan
from ai_assets.deploy.shared_files import (
    CODE,
    DAEMON,
    DESK,
    LAUNCHER_ACCOUNT,
    WEB,
    accounts,
    container_context,
    environment,
    location_name,
)
from ai_assets.deploy.yaml_text import RenderedFile

RUNNER, LAUNCHES = "ai-assets-runner", "ai-assets-launches"


def namespace_files(plan: DeploymentPlan, namespace: DeployedNamespace) -> Iterator[RenderedFile]:
    folder = "base" if namespace.tenant is None else f"tenants/{namespace.tenant}"
    yield RenderedFile(path=f"{folder}/namespace.yaml", objects=(_namespace(namespace),))
    quota = (_quota(plan, namespace), _limits(plan, namespace))
    yield RenderedFile(path=f"{folder}/quota.yaml", objects=quota, comment=_QUOTA.format(key=namespace.quota_key))
    yield RenderedFile(path=f"{folder}/rbac.yaml", objects=tuple(_rbac(plan, namespace)), comment=_RBAC)
    yield RenderedFile(
        path=f"{folder}/environment.yaml", objects=tuple(environment(plan, namespace)), comment=_ENVIRONMENT
    )
    yield RenderedFile(path=f"{folder}/network.yaml", objects=tuple(_network(plan, namespace)), comment=_NETWORK)
    if namespace.collections:
        comment = f"Serves the definitions of: {', '.join(namespace.collections)}."
        yield RenderedFile(path=f"{folder}/code-location.yaml", objects=tuple(_code(plan, namespace)), comment=comment)


def _namespace(namespace: DeployedNamespace) -> Object:
    found = thing("v1", "Namespace", namespace.name)
    found["metadata"]["labels"] |= {
        "pod-security.kubernetes.io/enforce": "restricted",
        **({"ai-assets/tenant": namespace.tenant} if namespace.tenant is not None else {}),
    }
    return found


def _quota(plan: DeploymentPlan, namespace: DeployedNamespace) -> Object:
    quota = namespace.quota
    hard = {"pods": str(quota.pods)}
    for kind in ("requests", "limits"):
        hard |= {f"{kind}.cpu": quota.cpu, f"{kind}.memory": quota.memory}
    hard |= {f"requests.{resource}": str(quota.gpus) for resource in plan.gpu_resources}
    return thing("v1", "ResourceQuota", OURS, namespace.name, spec={"hard": hard})


def _limits(plan: DeploymentPlan, namespace: DeployedNamespace) -> Object:
    """As much as its largest pod: whatever else is started there is no larger."""
    asked = [pod.requests for pod in namespace.pods(plan.cluster)]
    most = {
        "cpu": cpu_quantity(max(millicores(each["cpu"]) for each in asked)),
        "memory": memory_quantity(max(memory_bytes(each["memory"]) for each in asked)),
    }
    usual = dict(SERVED)
    container = {"type": "Container", "max": most, "default": usual, "defaultRequest": dict(usual)}
    return thing("v1", "LimitRange", OURS, namespace.name, spec={"limits": [container]})


def _rbac(plan: DeploymentPlan, namespace: DeployedNamespace) -> Iterator[Object]:
    cluster, where = plan.cluster, namespace.name
    if namespace.tenant is None:
        yield from accounts(plan)
    yield account(cluster.service_account, where)
    yield account(cluster.step_service_account, where)
    yield thing("rbac.authorization.k8s.io/v1", "Role", RUNNER, where, rules=_RULES)
    yield _binding(RUNNER, where, cluster.service_account, where)
    yield thing("rbac.authorization.k8s.io/v1", "Role", LAUNCHES, where, rules=_RULES)
    yield _binding(LAUNCHES, where, LAUNCHER_ACCOUNT, plan.home.name)


_RULES: list[Object] = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "get", "list"]},
    {"apiGroups": ["batch"], "resources": ["jobs/status"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete", "get", "list"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]


def _binding(role: str, namespace: str, name: str, of: str) -> Object:
    return thing(
        "rbac.authorization.k8s.io/v1", "RoleBinding", role, namespace,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": of}],
    )  # fmt: skip


def _network(plan: DeploymentPlan, namespace: DeployedNamespace) -> Iterator[Object]:
    where = namespace.name
    yield _policy("nothing-else", where, {}, {"policyTypes": ["Ingress", "Egress"]})
    names = {"ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    out = {"ports": [{"protocol": "TCP", "port": port} for port in plan.cluster.egress_ports]}
    yield _policy("names-and-services", where, {}, {"policyTypes": ["Egress"], "egress": [names, out]})
    if namespace.collections:
        asks = [_from(plan.home.name, each) for each in (WEB, DAEMON)]
        yield _policy("code-is-asked", where, {NAME: CODE}, _ingress(asks, CODE_PORT))
    if namespace.tenant is not None:
        return
    reads = [{"to": [_from(each.name, CODE)], "ports": [_tcp(CODE_PORT)]} for each in plan.with_code]
    for name in (WEB, DAEMON):
        yield _policy(f"{name}-asks", where, {NAME: name}, {"policyTypes": ["Egress"], "egress": reads})
    starts = [{"to": [_from(where, WEB)], "ports": [_tcp(WEB_PORT)]}]
    yield _policy(f"{DESK}-asks", where, {NAME: DESK}, {"policyTypes": ["Egress"], "egress": starts})
    entrance = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": plan.cluster.ingress_namespace}}}
    yield _policy(f"{DESK}-is-read", where, {NAME: DESK}, _ingress([entrance], DESK_PORT))
    if (scraping := plan.cluster.monitoring_namespace) is not None:
        scrapers: Object = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scraping}}}
        yield _policy(f"{DESK}-is-scraped", where, {NAME: DESK}, _ingress([scrapers], DESK_PORT))
    yield _policy(f"{WEB}-is-read", where, {NAME: WEB}, _ingress([entrance, _from(where, DESK)], WEB_PORT))


def _policy(name: str, namespace: str, pods: dict[str, str], rules: Object) -> Object:
    selector: Object = {"matchLabels": pods} if pods else {}
    return thing("networking.k8s.io/v1", "NetworkPolicy", name, namespace, spec={"podSelector": selector, **rules})


def _from(namespace: str, name: str) -> Object:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {NAME: name}},
    }


def _ingress(who: list[Object], port: int) -> Object:
    return {"policyTypes": ["Ingress"], "ingress": [{"from": who, "ports": [_tcp(port)]}]}


def _tcp(port: int) -> Object:
    return {"protocol": "TCP", "port": port}


def _code(plan: DeploymentPlan, namespace: DeployedNamespace) -> Iterator[Object]:
    arguments = [
        "dagster", "api", "grpc", "--host", "0.0.0.0", "--port", str(CODE_PORT), *plan.definitions,
        "--location-name", location_name(namespace), "--container-image", plan.image,
        "--container-context", container_context(plan, namespace),
    ]  # fmt: skip
    tenant = {TENANT_VARIABLE: ",".join(namespace.serves)} if namespace.serves else {}
    template = pod(
        plan, CODE, arguments, account="default", secrets=namespace.secrets, environment=tenant, port=CODE_PORT,
        probe={"grpc": {"port": CODE_PORT, "service": "DagsterApi"}},
    )  # fmt: skip
    yield deployment(CODE, namespace.name, template)
    yield service(CODE, namespace.name, CODE_PORT)
    yield disruption_budget(CODE, namespace.name)


_QUOTA = "From {key} of operations.yaml. Of GPUs that are not named here a namespace could take all."
_RBAC = (
    "Pods of runs start those of steps; Dagster's pages and daemon start and end those of runs. Pods of steps, the\n"
    "desk and the code location may ask nothing of the cluster: they have no token."
)
_ENVIRONMENT = (
    "Variables that are no secret, such as AI_ASSETS_DATA_URL (the bucket). Set them in an overlay. What is secret is\n"
    "in Secret objects of the names that operations.yaml says, which are made by whoever keeps secrets, never here."
)
_NETWORK = (
    "Nothing may be reached, and nothing reaches out, but what is named here. Addresses outside of the cluster are\n"
    "not known when this is rendered, so egress is bounded by port alone; narrow it by ipBlock in an overlay."
)
