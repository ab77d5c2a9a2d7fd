"""`cluster:` of operations.yaml: where the pods of runs go, and what is said once for all of them.

It has a meaning with `environment: cluster`; what GPUs there are is read wherever a collection asks for one.
"""

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.compute import Cpu, Memory, NodeSelector, Toleration
from ai_assets.base.operations_file import SomeKeys, read_operations
from ai_assets.base.yaml_settings import Strict, refuse, wrong

ObjectName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""Of anything in Kubernetes: at most 63 characters."""
ResourceName: TypeAlias = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9][-A-Za-z0-9_.]*$")
]
ANY_GPU = "nvidia.com/gpu"
LEAST_GRACE_S = 15
"""Answers that are on their way are awaited for 5 s, and what they are is written down."""


class NodeKind(Strict):
    """How pods come to nodes of a kind."""

    node_selector: NodeSelector = Field(default={})
    tolerations: tuple[Toleration, ...] = ()


class GpuType(NodeKind):
    resource: ResourceName = ANY_GPU
    """What the device plugin of those nodes calls it."""


class PodSize(Strict):
    cpu: Cpu = "1"
    memory: Memory = "2Gi"


class PriorityClasses(Strict):
    """Names of PriorityClass objects, which `ai-assets deploy render` writes. Interactive work goes first."""

    interactive: ObjectName = "ai-assets-interactive"
    normal: ObjectName = "ai-assets-normal"
    batch: ObjectName = "ai-assets-batch"

    def of(self, priority: str) -> str:
        found: str = getattr(self, priority)
        return found


class TenantQuota(Strict):
    """What the pods of a tenant may ask for together."""

    cpu: Cpu = "16"
    memory: Memory = "64Gi"
    gpus: int = Field(default=0, ge=0, le=10_000)
    pods: int = Field(default=50, ge=1, le=100_000)


class TenantNamespace(Strict):
    namespace: ObjectName
    quota: TenantQuota = TenantQuota()
    secrets: tuple[ObjectName, ...] = ()
    """Instead of `cluster.secrets`: names in the tenant's own namespace."""


class ClusterSettings(Strict):
    namespace: ObjectName = "ai-assets"
    image: str | None = Field(default=None, pattern=r"^\S+$")
    """That every pod runs; needed with `environment: cluster`."""
    image_pull_policy: str = Field(default="IfNotPresent", pattern=r"^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[ObjectName, ...] = ()
    service_account: ObjectName = "ai-assets-run"
    step_service_account: ObjectName = "ai-assets-step"
    """Of the pods of steps, which may ask nothing of the cluster."""
    secrets: tuple[ObjectName, ...] = ("ai-assets-secrets",)
    """Names of Secret objects whose keys become environment variables, such as AI_ASSETS_STATE_URL; never values."""
    config_maps: tuple[ObjectName, ...] = ("ai-assets-environment",)
    """Names of ConfigMap objects whose keys become environment variables."""
    instance_config_map: ObjectName = "dagster-instance"
    """The ConfigMap with dagster.yaml."""
    kubeconfig: str | None = None
    """A file, for a launcher outside of the cluster; without it that of the pod's service account."""
    home: str = Field(default="/ai-assets/home", pattern=r"^/\S+$")
    """The home folder of every pod, on a volume that ends with it: state and data are elsewhere."""
    priority_classes: PriorityClasses = PriorityClasses()
    gpu_types: dict[ObjectName, GpuType] = Field(default={})
    """By the name that `compute.gpu.type` says."""
    spot: NodeKind = NodeKind()
    """How pods come to machines that may be taken away."""
    run: PodSize = PodSize(cpu="500m", memory="1Gi")
    """The pod of a run, which starts those of its steps."""
    step: PodSize = PodSize(cpu="1", memory="4Gi")
    """The pod of a step that declares nothing."""
    grace_s: int = Field(default=30, ge=LEAST_GRACE_S, le=600)
    """Between the word that a pod ends and its end: calls that are in flight are settled meanwhile."""
    retries: int = Field(default=5, ge=0, le=100)
    """How often a step goes on whose pod was ended from outside: preempted, out of memory, its node lost. Also how
    often a run does."""
    health_check_s: int = Field(default=5, ge=1, le=600)
    """How often a run looks whether the pods of its steps are there."""
    max_concurrent_runs: int = Field(default=20, ge=1, le=10_000)
    ingress_namespace: ObjectName = "ingress-nginx"
    """Whose pods may reach the desk and Dagster's pages."""
    monitoring_namespace: ObjectName | None = None
    """Whose pods may read /metrics of the desk; then the desk is scaled by its own load, and a ServiceMonitor is
    rendered. Without it nobody scrapes."""
    egress_ports: tuple[Annotated[int, Field(ge=1, le=65_535)], ...] = (443, 5432, 6443)
    """What pods may reach outside: model endpoints and the bucket, PostgreSQL, the API of the cluster."""
    quota: TenantQuota = TenantQuota()
    """Of the namespace of whoever has none of their own."""
    tenants: dict[str, TenantNamespace] = Field(default={})
    """By the `tenant` of collections: those whose runs have a namespace of their own."""

    @model_validator(mode="after")
    def _apart(self) -> "ClusterSettings":
        refuse(self._shared_namespaces())
        return self

    def _shared_namespaces(self) -> "list[PydanticCustomError]":
        """Two tenants in one namespace would see each other's secrets and eat each other's quota."""
        taken, found = {self.namespace: "the deployment itself"}, []
        for tenant, declared in self.tenants.items():
            if (other := taken.get(declared.namespace)) is not None:
                said = f"namespace '{declared.namespace}' is that of {other}; give tenant '{tenant}' one of its own"
                found.append(wrong(said, "tenants", tenant, "namespace"))
            taken.setdefault(declared.namespace, f"tenant '{tenant}'")
        return found

    def namespace_of(self, tenant: str) -> str:
        own = self.tenants.get(tenant)
        return own.namespace if own is not None else self.namespace


class _ClusterOfFile(SomeKeys):
    cluster: ClusterSettings = ClusterSettings()


def cluster_in(operations: Path) -> ClusterSettings:
    """The block of that file; without it, or without the file, the defaults."""
    return read_operations(operations, _ClusterOfFile).cluster
