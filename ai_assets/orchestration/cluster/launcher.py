"""K8sRunLauncher of dagster-k8s, as `cluster:` of operations.yaml configures it: it starts the pod of a run."""

import json
from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun
from dagster._core.launcher import LaunchRunContext
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterK8sUnrecoverableAPIError
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException

from ai_assets.base.cluster import PriorityClasses, cluster_in
from ai_assets.base.home import Home
from ai_assets.inference.records import PRIORITIES, PRIORITY_TAG
from ai_assets.orchestration.cluster.errors import ClusterRefused, ClusterUnreachable

_JOB_IS_GONE = "could not be found"
"""How dagster-k8s ends what it says of a Job that the server does not have."""
_REFUSED = (401, 403, 404, 422)


class ClusterRunLauncher(K8sRunLauncher):
    """A run's pod has the priority of the run, and what the API server refuses is said in a sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (ConfigException, OSError) as error:
            raise ClusterUnreachable(kwargs.get("kubeconfig_file"), " ".join(str(error).split())) from None

    def get_container_context_for_run(self, dagster_run: DagsterRun) -> K8sContainerContext:
        found = super().get_container_context_for_run(dagster_run)
        classes = cluster_in(Home.from_environment().operations).priority_classes
        return found.merge(of_priority(classes, dagster_run.tags))

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        try:
            super().launch_run(context)
        except DagsterK8sUnrecoverableAPIError as error:
            namespace = self.get_container_context_for_run(run).namespace or self.job_namespace
            refuse(error, f"the pod of run {run.run_id[:8]}", namespace)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """A server that does not answer is no sign that the pod has ended: Dagster would fail every run under way."""
        found: CheckRunHealthResult = super().check_run_worker_health(run)
        if found.status is WorkerStatus.UNKNOWN and not (found.msg or "").endswith(_JOB_IS_GONE):
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)
        return found


def of_priority(classes: PriorityClasses, tags: Mapping[str, str]) -> K8sContainerContext:
    """The priority class of a run; of one that says nothing, that of normal work."""
    said = tags.get(PRIORITY_TAG, "normal")
    name = classes.of(said if said in PRIORITIES else "normal")
    return K8sContainerContext(
        run_k8s_config=UserDefinedDagsterK8sConfig(pod_spec_config={"priority_class_name": name})
    )


def refuse(error: DagsterK8sUnrecoverableAPIError, what: str, namespace: str) -> None:
    """In our words where trying again would not help; else as it is."""
    cause = error.k8s_api_exception
    if not isinstance(cause, ApiException) or cause.status not in _REFUSED:
        raise error
    raise ClusterRefused(what, namespace, cause.status, said_by(cause)) from None


def said_by(error: ApiException) -> str:
    try:
        found = json.loads(error.body or "{}").get("message")
    except ValueError:
        found = None
    return str(found or error.reason)
