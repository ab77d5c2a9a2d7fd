"""What is deployed: the namespaces, and what runs in each. Everything that is rendered is made of this."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.cluster import ANY_GPU, ClusterSettings, TenantQuota
from ai_assets.base.quantities import memory_bytes, millicores
from ai_assets.collection.loading import Collection
from ai_assets.collection.steps import SegmentStep
from ai_assets.deploy.errors import NothingToDeploy, QuotaTooSmall, TenantsLeftOut
from ai_assets.orchestration.cluster.errors import ClusterImageMissing
from ai_assets.orchestration.cluster.pod_config import of_size, resources

CODE_PORT, WEB_PORT, DESK_PORT = 4000, 3000, 3001
SERVED = (("cpu", "500m"), ("memory", "1Gi"))
"""What each pod that serves asks for."""


@dataclass(frozen=True, kw_only=True)
class DeployedPod:
    """The largest pods decide what a quota and a limit must allow."""

    name: str
    requests: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DeployedNamespace:
    """Where runs of some tenants go, with the code location that they are of."""

    name: str
    tenant: str | None
    """None for the deployment's own, where everybody is who has none."""
    serves: tuple[str, ...]
    """The tenants whose collections its code location loads; empty where it loads all."""
    collections: tuple[str, ...]
    steps: tuple[tuple[str, SegmentStep], ...]
    """With the collection of each."""
    quota: TenantQuota
    secrets: tuple[str, ...]

    @property
    def quota_key(self) -> str:
        return "cluster.quota" if self.tenant is None else f"cluster.tenants.{self.tenant}.quota"

    def pods(self, cluster: ClusterSettings) -> Iterator[DeployedPod]:
        yield DeployedPod(name="a run", requests=of_size(cluster.run)["requests"])
        for collection, step in self.steps:
            asked = resources(step.compute, cluster) if step.compute is not None else of_size(cluster.step)
            yield DeployedPod(name=f"step '{step.name}' of collection '{collection}'", requests=asked["requests"])
        yield DeployedPod(name="the code location", requests=dict(SERVED))


@dataclass(frozen=True, kw_only=True)
class DeploymentPlan:
    project: Path
    cluster: ClusterSettings
    namespaces: tuple[DeployedNamespace, ...]
    """The deployment's own first."""
    definitions: tuple[str, ...]
    """Arguments that name the code to a code server."""
    behind_proxy: bool

    @property
    def home(self) -> DeployedNamespace:
        return self.namespaces[0]

    @property
    def tenants(self) -> tuple[DeployedNamespace, ...]:
        return self.namespaces[1:]

    @property
    def with_code(self) -> tuple[DeployedNamespace, ...]:
        return tuple(each for each in self.namespaces if each.collections)

    @property
    def image(self) -> str:
        assert self.cluster.image is not None
        return self.cluster.image

    @property
    def gpu_resources(self) -> tuple[str, ...]:
        """Every kind of GPU that a quota must speak of: of what it does not, a namespace may take all."""
        return tuple(sorted({ANY_GPU, *(kind.resource for kind in self.cluster.gpu_types.values())}))


def planned(
    project: Path,
    operations: Path,
    cluster: ClusterSettings,
    collections: Sequence[Collection],
    definitions: Sequence[str],
    *,
    behind_proxy: bool,
    whole: bool = True,
) -> DeploymentPlan:
    """Raises what would only show when a pod does not begin. `whole`: these are all collections, to be rendered;
    for some of them quotas are left to `too_small`."""
    if cluster.image is None:
        raise ClusterImageMissing(operations)
    if not collections:
        raise NothingToDeploy(project)
    known = sorted({each.settings.tenant for each in collections})
    if whole and (left_out := sorted(set(cluster.tenants) - set(known))):
        raise TenantsLeftOut(left_out, operations, known)
    plan = DeploymentPlan(
        project=project,
        cluster=cluster,
        namespaces=tuple(_namespaces(cluster, collections)),
        definitions=tuple(definitions),
        behind_proxy=behind_proxy,
    )
    for namespace in plan.namespaces:
        for pod in namespace.pods(cluster):
            if whole and (error := too_small(namespace, pod, cluster)) is not None:
                raise error
    return plan


def _namespaces(cluster: ClusterSettings, collections: Sequence[Collection]) -> Iterator[DeployedNamespace]:
    for tenant in (None, *sorted(cluster.tenants)):
        own = cluster.tenants.get(tenant) if tenant is not None else None
        mine = [each for each in collections if _is_of(each, tenant, cluster)]
        yield DeployedNamespace(
            name=own.namespace if own is not None else cluster.namespace,
            tenant=tenant,
            serves=tuple(sorted({each.settings.tenant for each in mine})) if cluster.tenants else (),
            collections=tuple(sorted(each.name for each in mine)),
            steps=tuple((each.name, step) for each in sorted(mine, key=lambda each: each.name) for step in each.steps),
            quota=own.quota if own is not None else cluster.quota,
            secrets=(own.secrets if own is not None else ()) or cluster.secrets,
        )


def _is_of(collection: Collection, tenant: str | None, cluster: ClusterSettings) -> bool:
    found = collection.settings.tenant
    return found == tenant if tenant is not None else found not in cluster.tenants


def too_small(namespace: DeployedNamespace, pod: DeployedPod, cluster: ClusterSettings) -> QuotaTooSmall | None:
    """Why a pod would never begin, by what is declared."""
    quota, key = namespace.quota, namespace.quota_key
    run = cluster.run
    for what, most, amount_of in (("cpu", quota.cpu, millicores), ("memory", quota.memory, memory_bytes)):
        beside = amount_of(run.cpu if what == "cpu" else run.memory) if pod.name.startswith("step") else 0
        if amount_of(pod.requests[what]) + beside > amount_of(most):
            with_run = " (beside the pod of its run)" if beside else ""
            asked = f"{pod.requests[what]}{with_run}"
            return QuotaTooSmall(namespace.name, what, asked=asked, by=pod.name, most=most, key=f"{key}.{what}")
    gpus = sum(int(count) for name, count in pod.requests.items() if "/" in name)
    if gpus > quota.gpus:
        asked = f"{gpus}"
        return QuotaTooSmall(
            namespace.name, "GPUs", asked=asked, by=pod.name, most=str(quota.gpus), key=f"{key}.gpus"
        )  # fmt: skip
    return None
