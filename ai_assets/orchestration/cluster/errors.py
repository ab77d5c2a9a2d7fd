"""Why nothing can be started in the cluster, in one sentence each."""

from pathlib import Path

from ai_assets.base.errors import UserError


class ClusterImageMissing(UserError):
    def __init__(self, operations: Path) -> None:
        super().__init__(
            f"`environment: cluster` starts pods, and {operations} does not say from which image. Set cluster.image, "
            "such as registry.example/ai-assets:1.0 (deploy/Dockerfile builds one)."
        )


class ClusterUnreachable(UserError):
    def __init__(self, kubeconfig: str | None, found: str) -> None:
        where = f"the kubeconfig {kubeconfig}" if kubeconfig else "the service account of this pod"
        super().__init__(
            f"`environment: cluster` starts pods with {where}, which cannot be used: {found}. Run this inside of the "
            "cluster, set cluster.kubeconfig in operations.yaml, or take `environment: server`."
        )


class RunNotResumable(UserError):
    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(
            f"The pod of run {run_id[:8]} ended ({why}), and its steps ran in it, so they ended as well. Start it "
            "again: nothing paid is repeated. A run with a pod for each step, as by default, goes on by itself."
        )


class ClusterRefused(UserError):
    """The API server said no, and will again."""

    def __init__(self, what: str, namespace: str, status: int, found: str) -> None:
        remedy = {
            401: "The token of the service account is not accepted; look at the clock of the node and the account",
            403: "The service account may not; apply what `ai-assets deploy render` writes (rbac.yaml)",
            404: "The namespace is missing; apply what `ai-assets deploy render` writes (namespace.yaml)",
            422: "Look at `compute:` of the stage and `cluster:` of operations.yaml",
        }.get(status, "Look at `kubectl get events`")
        super().__init__(f"The cluster refuses {what} in namespace '{namespace}' ({status}): {found}. {remedy}.")
