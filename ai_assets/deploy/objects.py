"""Parts that many objects share: names and labels, a pod that is nobody's root, a Deployment, a Service."""

from collections.abc import Mapping, Sequence
from typing import Any

from ai_assets.base.cluster import ClusterSettings
from ai_assets.base.environment import CLUSTER
from ai_assets.base.home import ENVIRONMENT_VARIABLE, HOME_VARIABLE
from ai_assets.deploy.plan import SERVED, DeploymentPlan
from ai_assets.orchestration.cluster.pod_security import CONTAINER_SECURITY, POD_SECURITY, VOLUMES, volume_mounts

Object = dict[str, Any]
PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"
OURS = "ai-assets"
PROJECT_FOLDER = "/app"
"""Of the image (deploy/Dockerfile)."""


def thing(api: str, kind: str, name: str, namespace: str | None = None, **parts: Any) -> Object:
    where = {"namespace": namespace} if namespace is not None else {}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **where, "labels": labels(name)}, **parts}


def labels(name: str) -> dict[str, str]:
    return {NAME: name, PART_OF: OURS}


def selecting(name: str) -> Object:
    return {"matchLabels": {NAME: name}}


def pod(
    plan: DeploymentPlan,
    name: str,
    arguments: Sequence[str],
    *,
    account: str,
    token: bool = False,
    secrets: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    probe: Object | None = None,
    ready: str | None = None,
    files: Mapping[str, tuple[str, str]] | None = None,
    restart: str | None = None,
) -> Object:
    """A pod template. `files`: by path, a ConfigMap and the key of it that lies there; `token`: of the account;
    `ready`: another path than that of the probe, which says whether it can do its work."""
    cluster = plan.cluster
    container: Object = {
        "name": name,
        "image": plan.image,
        "imagePullPolicy": cluster.image_pull_policy,
        "args": list(arguments),
        "env": [{"name": key, "value": value} for key, value in _variables(cluster, environment or {}).items()],
        "envFrom": [
            *({"configMapRef": {"name": each}} for each in cluster.config_maps),
            *({"secretRef": {"name": each}} for each in secrets),
        ],
        "resources": {"requests": dict(SERVED), "limits": dict(SERVED)},
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [
            *volume_mounts(cluster.home),
            *(
                {"name": config, "mountPath": path, "subPath": key, "readOnly": True}
                for path, (config, key) in (files or {}).items()
            ),
        ],
    }
    if port is not None:
        container["ports"] = [{"name": "main", "containerPort": port}]
    container |= _probes(probe, ready) if probe is not None else {}
    configs = sorted({config for config, _ in (files or {}).values()})
    spec: Object = {
        "automountServiceAccountToken": token,
        "containers": [container],
        "imagePullSecrets": [{"name": each} for each in cluster.image_pull_secrets],
        "priorityClassName": cluster.priority_classes.interactive,
        "securityContext": dict(POD_SECURITY),
        "serviceAccountName": account,
        "terminationGracePeriodSeconds": cluster.grace_s,
        "volumes": [
            *VOLUMES,
            *({"name": config, "configMap": {"name": config}} for config in configs),
        ],
    }  # fmt: skip
    if restart is not None:
        spec["restartPolicy"] = restart
    return {"metadata": {"labels": labels(name)}, "spec": spec}


def _probes(probe: Object, ready: str | None) -> Object:
    """A command starts an interpreter, which takes seconds of a processor: it is asked seldom, and has time."""
    if "exec" in probe:
        slow = {"initialDelaySeconds": 60, "periodSeconds": 120, "timeoutSeconds": 60, "failureThreshold": 3}
        return {"livenessProbe": {**probe, **slow}}
    asked = {"httpGet": {**probe["httpGet"], "path": ready}} if ready is not None else probe
    return {
        "readinessProbe": {**asked, "periodSeconds": 10, "timeoutSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 5},
        "startupProbe": {**probe, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 60},
    }


def _variables(cluster: ClusterSettings, more: Mapping[str, str]) -> dict[str, str]:
    own = {ENVIRONMENT_VARIABLE: CLUSTER, HOME_VARIABLE: cluster.home}
    return {**own, "DAGSTER_HOME": f"{cluster.home}/dagster", **more}


def deployment(
    name: str, namespace: str, template: Object, *, replicas: int | None = 1, recreate: bool = False
) -> Object:
    """`replicas`: None where an autoscaler counts them; `recreate`: never two at once."""
    spec: Object = {"selector": selecting(name), "template": template}
    spec |= {"replicas": replicas} if replicas is not None else {}
    spec["strategy"] = (
        {"type": "Recreate"}
        if recreate
        else {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    )
    return thing("apps/v1", "Deployment", name, namespace, spec=spec)


def service(name: str, namespace: str, port: int) -> Object:
    ports = [{"name": "main", "port": port, "targetPort": "main"}]
    return thing("v1", "Service", name, namespace, spec={"ports": ports, "selector": {NAME: name}})


def account(name: str, namespace: str) -> Object:
    return thing("v1", "ServiceAccount", name, namespace, automountServiceAccountToken=False)


def disruption_budget(name: str, namespace: str) -> Object:
    """One at a time: with one replica that lets a node be drained, with more it keeps the page up."""
    spec = {"maxUnavailable": 1, "selector": selecting(name)}
    return thing("policy/v1", "PodDisruptionBudget", name, namespace, spec=spec)
