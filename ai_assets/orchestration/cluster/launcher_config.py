"""The part of dagster.yaml that starts runs in the cluster; plain data, nothing is imported."""

from pathlib import Path
from typing import Any

from ai_assets.base.cluster import ClusterSettings
from ai_assets.base.environment import CLUSTER
from ai_assets.base.home import DECISION_KEY_VARIABLE, ENVIRONMENT_VARIABLE, HOME_VARIABLE, NO_KEY
from ai_assets.orchestration.cluster.errors import ClusterImageMissing
from ai_assets.orchestration.cluster.pod_config import base_config, of_size

_NO_DECISIONS = f"{DECISION_KEY_VARIABLE}={NO_KEY}"
"""A run records; only the desk has the key of people's decisions."""


def launcher_config(cluster: ClusterSettings, operations: Path, *, with_secrets: bool = True) -> dict[str, Any]:
    """Everything that pods of runs and of steps have in common, and the size of a run's. Without secrets where each
    code location says its own: dagster-k8s adds up what both say, and a tenant has none but theirs."""
    if cluster.image is None:
        raise ClusterImageMissing(operations)
    pod = base_config(cluster)
    pod["container_config"] = {**pod["container_config"], "resources": of_size(cluster.run)}
    config: dict[str, Any] = {
        "job_namespace": cluster.namespace,
        "job_image": cluster.image,
        "image_pull_policy": cluster.image_pull_policy,
        "image_pull_secrets": [{"name": name} for name in cluster.image_pull_secrets],
        "service_account_name": cluster.service_account,
        "instance_config_map": cluster.instance_config_map,
        "dagster_home": f"{cluster.home}/dagster",
        "env_secrets": list(cluster.secrets) if with_secrets else [],
        "env_config_maps": list(cluster.config_maps),
        "env_vars": [f"{HOME_VARIABLE}={cluster.home}", f"{ENVIRONMENT_VARIABLE}={CLUSTER}", _NO_DECISIONS],
        "run_k8s_config": pod,
        # A failed run's Job then says so too, to whoever looks at the cluster alone.
        "fail_pod_on_run_failure": True,
    }
    if cluster.kubeconfig is not None:
        config |= {"load_incluster_config": False, "kubeconfig_file": cluster.kubeconfig}
    return {"module": "ai_assets.orchestration.cluster.launcher", "class": "ClusterRunLauncher", "config": config}
