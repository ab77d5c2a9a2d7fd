"""Which objects the test API server keeps, and where: one row for each resource."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ResourceKind:
    """`/apis/<group>/<version>/[namespaces/<namespace>/]<plural>`."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As the server's sentences name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


_ROWS = """
v1 namespaces Namespace cluster
v1 nodes Node cluster
v1 pods Pod
v1 events Event
v1 secrets Secret
v1 configmaps ConfigMap
v1 services Service
v1 serviceaccounts ServiceAccount
v1 resourcequotas ResourceQuota
v1 limitranges LimitRange
v1 persistentvolumeclaims PersistentVolumeClaim
batch/v1 jobs Job
batch/v1 cronjobs CronJob
apps/v1 deployments Deployment
apps/v1 statefulsets StatefulSet
policy/v1 poddisruptionbudgets PodDisruptionBudget
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler
networking.k8s.io/v1 networkpolicies NetworkPolicy
networking.k8s.io/v1 ingresses Ingress
scheduling.k8s.io/v1 priorityclasses PriorityClass cluster
rbac.authorization.k8s.io/v1 roles Role
rbac.authorization.k8s.io/v1 rolebindings RoleBinding
rbac.authorization.k8s.io/v1 clusterroles ClusterRole cluster
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding cluster
"""


def _of_row(row: str) -> ResourceKind:
    api_version, plural, kind, *scope = row.split()
    group, _, version = api_version.rpartition("/")
    return ResourceKind(group=group, version=version, plural=plural, kind=kind, namespaced=not scope)


KINDS = tuple(_of_row(row) for row in _ROWS.strip().splitlines())
BY_PLURAL = {kind.plural: kind for kind in KINDS}
BY_KIND = {(kind.api_version, kind.kind): kind for kind in KINDS}
PODS, JOBS, NAMESPACES, EVENTS = (BY_PLURAL[name] for name in ("pods", "jobs", "namespaces", "events"))
QUOTAS = BY_PLURAL["resourcequotas"]
