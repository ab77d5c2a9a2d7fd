"""From `compute:` and `cluster:` to what dagster-k8s puts into the Job of a step; plain data, nothing is imported."""

from typing import Any

from ai_assets.base.cluster import ANY_GPU, ClusterSettings, GpuType, PodSize
from ai_assets.base.compute import ComputeSettings, Toleration
from ai_assets.collection.steps import SegmentStep
from ai_assets.orchestration.cluster.pod_security import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    VOLUMES,
    in_snake_case,
    volume_mounts,
)

CONFIG_TAG = "dagster-k8s/config"
"""Of an op; on an asset it is accepted and does nothing."""
PodConfig = dict[str, Any]


def step_tags(step: SegmentStep, cluster: ClusterSettings) -> dict[str, Any]:
    """Tags of the op of a step; one that declares nothing is as `base_config` says."""
    config = step_config(step, cluster)
    return {CONFIG_TAG: config} if config else {}


def step_config(step: SegmentStep, cluster: ClusterSettings) -> PodConfig:
    """What differs from `base_config`; deep-merged into it."""
    compute = step.compute or ComputeSettings()
    container: PodConfig = {"image": compute.image} if compute.image else {}
    pod = placement(compute, cluster)
    if step.compute is not None:
        container["resources"] = resources(compute, cluster)
    if step.priority is not None:
        pod["priority_class_name"] = cluster.priority_classes.of(step.priority)
    job = {"active_deadline_seconds": compute.time_limit_s} if compute.time_limit_s else {}
    parts = {"container_config": container, "pod_spec_config": pod, "job_spec_config": job}
    return {name: part for name, part in parts.items() if part}


def resources(compute: ComputeSettings, cluster: ClusterSettings) -> PodConfig:
    """Requests and limits are the same, as the server demands of GPUs: a step never eats what others count on."""
    asked = {"cpu": compute.cpu or cluster.step.cpu, "memory": compute.memory or cluster.step.memory}
    if compute.gpu is not None:
        asked[_gpu_of(compute, cluster).resource] = str(compute.gpu.count)
    return {"requests": asked, "limits": dict(asked)}


def of_size(size: PodSize) -> PodConfig:
    asked = {"cpu": size.cpu, "memory": size.memory}
    return {"requests": asked, "limits": dict(asked)}


def placement(compute: ComputeSettings, cluster: ClusterSettings) -> PodConfig:
    """Which nodes: those of its GPU, spot ones where it may be there, and what it declares itself."""
    kinds = [_gpu_of(compute, cluster)] if compute.gpu is not None else []
    chosen = [*kinds, *([cluster.spot] if compute.spot else [])]
    selector = {key: value for kind in chosen for key, value in kind.node_selector.items()} | compute.node_selector
    tolerations = [bears for kind in chosen for bears in kind.tolerations] + list(compute.tolerations)
    found: PodConfig = {"node_selector": selector} if selector else {}
    return found | ({"tolerations": _each_once(tolerations)} if tolerations else {})


def _gpu_of(compute: ComputeSettings, cluster: ClusterSettings) -> GpuType:
    kind = compute.gpu.type if compute.gpu is not None else None
    return cluster.gpu_types[kind] if kind is not None else GpuType(resource=ANY_GPU)


def _each_once(tolerations: list[Toleration]) -> list[dict[str, str]]:
    return [each.as_data for each in dict.fromkeys(tolerations)]


def base_config(cluster: ClusterSettings) -> PodConfig:
    """Of every pod of a run: nobody's root, nothing to write but its home and a temporary folder, time to settle."""
    return {
        "container_config": {
            "security_context": in_snake_case(CONTAINER_SECURITY),
            "volume_mounts": in_snake_case(volume_mounts(cluster.home)),
        },
        "pod_spec_config": {
            "termination_grace_period_seconds": cluster.grace_s,
            "security_context": in_snake_case(POD_SECURITY),
            "volumes": in_snake_case(VOLUMES),
        },
    }
