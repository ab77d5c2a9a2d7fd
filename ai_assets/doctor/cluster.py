"""Kubernetes: what would keep a pod from beginning, by what is declared and by what the API server says of itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ai_assets.base.cluster import ClusterSettings
from ai_assets.base.environment import CLUSTER
from ai_assets.base.errors import UserError
from ai_assets.base.home import DATA_URL_VARIABLE
from ai_assets.base.quantities import memory_bytes, millicores
from ai_assets.deploy.plan import DeployedNamespace, DeploymentPlan, planned, too_small
from ai_assets.doctor.findings import Finding, fine, noted, of_error, warned, wrong
from ai_assets.doctor.installation import Installation

ASKED_S = 4
LOST_WITH_PODS = "what a pod writes to its home is lost when it ends"
_RENDER = "Apply what `ai-assets deploy render` writes."


def look(at: Installation) -> Iterator[Finding]:
    cluster = at.operations.cluster
    if at.environment != CLUSTER:
        yield fine("cluster", f"`environment: {at.environment}` starts no pods")
        return
    try:
        plan = planned(
            at.home.project,
            at.home.operations,
            cluster,
            list(at.collections.loaded.values()),
            (),
            behind_proxy=False,
            whole=at.tenant is None and not at.collections.wrong,
        )
    except UserError as error:
        yield of_error("cluster", error)
        return
    yield from _declared(plan, at)
    yield from _asked(plan, at)


def _mine(plan: DeploymentPlan, at: Installation) -> list[DeployedNamespace]:
    own = [each for each in plan.tenants if each.tenant == at.tenant] if at.tenant else list(plan.namespaces)
    return own or [plan.home]


def _declared(plan: DeploymentPlan, at: Installation) -> Iterator[Finding]:
    for namespace in _mine(plan, at):
        small = [error for pod in namespace.pods(plan.cluster) if (error := too_small(namespace, pod, plan.cluster))]
        for error in small:
            yield of_error(f"quota of namespace {namespace.name}", error)
        if not small:
            yield fine(f"quota of namespace {namespace.name}", "every pod fits into what is declared")


def _asked(plan: DeploymentPlan, at: Installation) -> Iterator[Finding]:
    try:
        api = _Api.at(plan.cluster)
    except _NotAsked as error:
        if plan.cluster.kubeconfig is not None:
            yield wrong(
                "API server",
                found=f"the kubeconfig {plan.cluster.kubeconfig} cannot be used: {error}",
                fix="Correct cluster.kubeconfig in operations.yaml, or leave it out inside of the cluster.",
            )
            return
        yield noted(
            "API server",
            found=f"it was not asked: {error}",
            fix="Run this inside of the cluster, or set cluster.kubeconfig in operations.yaml.",
        )
        return
    with api.closing():
        for namespace in _mine(plan, at):
            yield from _namespace(api, namespace, plan.cluster)
        yield from _nodes(api, plan)


def _namespace(api: "_Api", namespace: DeployedNamespace, cluster: ClusterSettings) -> Iterator[Finding]:
    what = f"namespace {namespace.name}"
    there = api.read("read_namespace", namespace.name)
    if there is None:
        yield wrong(what, found="it is missing", fix=f"{_RENDER} (namespace.yaml)")
        return
    if isinstance(there, Finding):
        yield there
        if there.level == "error":
            return
    else:
        yield fine(what, "it is there")
    for kind, read, names in (
        ("Secret", "read_namespaced_secret", namespace.secrets),
        ("ConfigMap", "read_namespaced_config_map", (*cluster.config_maps, cluster.instance_config_map)),
        ("ServiceAccount", "read_namespaced_service_account", (cluster.service_account, cluster.step_service_account)),
    ):
        for name in names:
            found = api.read(read, name, namespace.name)
            if found is None:
                fix = "Make it: manifests name secrets and never hold them." if kind == "Secret" else _RENDER
                yield wrong(what, found=f"the {kind} '{name}' is missing there", fix=fix)
            elif isinstance(found, Finding):
                yield found
                break
    yield from _bucket_named(api, namespace, cluster)
    yield from _quotas(api, namespace, cluster)


def _bucket_named(api: "_Api", namespace: DeployedNamespace, cluster: ClusterSettings) -> Iterator[Finding]:
    """Whether pods have the variable; what is not there, or may not be read, is told already."""
    maps = [api.read("read_namespaced_config_map", name, namespace.name) for name in cluster.config_maps]
    secrets = [api.read("read_namespaced_secret", name, namespace.name) for name in namespace.secrets]
    found = [*maps, *secrets]
    if any(each is None or isinstance(each, Finding) for each in found):
        return
    if not any(DATA_URL_VARIABLE in (each.data or {}) for each in found):
        yield wrong(
            f"namespace {namespace.name}",
            found=f"{DATA_URL_VARIABLE} is in no ConfigMap and no Secret of its pods: {LOST_WITH_PODS}",
            fix=f"Set it in the ConfigMap {', '.join(cluster.config_maps)}, in an overlay (docs/storage.md).",
        )


def _quotas(api: "_Api", namespace: DeployedNamespace, cluster: ClusterSettings) -> Iterator[Finding]:
    """As they are in the cluster, which somebody may have changed there."""
    quotas = api.read("list_namespaced_resource_quota", namespace.name)
    if quotas is None or isinstance(quotas, Finding):
        if quotas is not None:
            yield quotas
        return
    for quota in quotas.items:
        hard = dict(quota.status.hard or {}) if quota.status else dict(quota.spec.hard or {})
        for name, most in hard.items():
            for pod in namespace.pods(cluster):
                asked = pod.requests.get(name.removeprefix("requests."))
                if asked is not None and _amount(name, str(asked)) > _amount(name, str(most)):
                    yield wrong(
                        f"quota {quota.metadata.name} of namespace {namespace.name}",
                        found=f"it allows {most} of {name}, and {pod.name} asks for {asked}: it would never begin",
                        fix=f"Raise {namespace.quota_key} and apply the manifests, or lower `compute:`.",
                    )


def _nodes(api: "_Api", plan: DeploymentPlan) -> Iterator[Finding]:
    wanted = {kind: gpu.resource for kind, gpu in plan.cluster.gpu_types.items()}
    if not wanted:
        return
    nodes = api.read("list_node")
    if nodes is None or isinstance(nodes, Finding):
        if nodes is not None:
            yield nodes
        return
    for kind, resource in wanted.items():
        selector = plan.cluster.gpu_types[kind].node_selector
        fitting = [
            node
            for node in nodes.items
            if int((node.status.allocatable or {}).get(resource, 0)) > 0
            and selector.items() <= (node.metadata.labels or {}).items()
        ]
        if fitting:
            yield fine(f"GPU type {kind}", f"{len(fitting)} node(s) have it")
        else:
            yield warned(
                f"GPU type {kind}",
                found=f"no node has {resource} with its labels",
                fix="It may be one that a node pool starts when it is asked for; else correct "
                f"cluster.gpu_types.{kind}.",
            )


def _amount(name: str, amount: str) -> float:
    if "memory" in name:
        return float(memory_bytes(amount))
    return float(millicores(amount)) if "cpu" in name else float(amount)


class _NotAsked(Exception):
    pass


@dataclass(frozen=True)
class _Api:
    client: Any
    core: Any

    @classmethod
    def at(cls, cluster: ClusterSettings) -> "_Api":
        """By the kubeconfig that is declared, else by the pod's own token."""
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise _NotAsked("the package kubernetes is not installed") from error
        settings = client.Configuration()
        try:
            if cluster.kubeconfig:
                config.load_kube_config(cluster.kubeconfig, client_configuration=settings)
            else:
                config.load_incluster_config(client_configuration=settings)
        except (config.ConfigException, OSError, ValueError) as error:
            raise _NotAsked(" ".join(str(error).split())) from error
        settings.retries = False
        made = client.ApiClient(settings)
        return cls(made, client.CoreV1Api(made))

    def closing(self) -> Any:
        return self.client

    def read(self, request: str, *names: str) -> Any:
        """The object; None where it is missing; a finding where that cannot be known."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        what = f"API server, {request.replace('_', ' ')}"
        try:
            return getattr(self.core, request)(*names, _request_timeout=ASKED_S)
        except ApiException as error:
            if error.status == 404:
                return None
            if error.status == 403:
                return noted(
                    what, found="it may not be asked here", fix="Run this with rights to read what is deployed."
                )
            return wrong(
                what,
                found=f"it answered {error.status} ({error.reason})",
                fix="Look at the token or certificate of the kubeconfig.",
            )
        except (HTTPError, OSError) as error:
            return wrong(
                what,
                found=f"it cannot be reached ({type(error).__name__})",
                fix="Look at the address in the kubeconfig, and the network.",
            )
