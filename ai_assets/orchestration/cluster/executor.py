"""k8s_job_executor of dagster-k8s, as `cluster:` of operations.yaml configures it: each step of a run is a pod.

A step goes on in a new pod where its pod was ended from outside: by the retry policy of its op, which nothing else
uses (ops raise failures that allow no retry). What OOM killed takes half as much at once the next time.
"""

from collections.abc import Iterator
from functools import cached_property

import dagster as dg
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import OwnerReference, UserDefinedDagsterK8sConfig
from dagster_k8s.utils import detect_current_namespace
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from ai_assets.base.cluster import ClusterSettings, cluster_in
from ai_assets.base.errors import said_of
from ai_assets.base.home import Home
from ai_assets.orchestration.cluster.launcher import of_priority, refuse
from ai_assets.orchestration.cluster.pod_config import of_size
from ai_assets.orchestration.cluster.pods import KILLED_FOR_MEMORY, Obstacle, obstacle_in, obstacle_of, why_ended
from ai_assets.run.step_memory import StepMemory

_NO_ANSWER = (ApiException, HTTPError, DagsterK8sUnrecoverableAPIError, DagsterK8sAPIRetryLimitExceeded)
_AWAY = "no answer"
_IS_THERE = 409
SLOW_CHECKS = 60
"""A pod that does not begin for so many looks, for a cause that seldom goes away, has failed."""


@dg.executor(name="cluster", requirements=dg.multiple_process_executor_requirements())
def cluster_executor(init_context: dg.InitExecutorContext) -> dg.Executor:
    cluster = cluster_in(Home.from_environment().operations)
    launcher = init_context.instance.run_launcher
    inside = launcher.load_incluster_config if isinstance(launcher, K8sRunLauncher) else cluster.kubeconfig is None
    return ResumableExecutor(
        ClusterStepHandler(cluster, inside=inside),
        retries=RetryMode.ENABLED,
        check_step_health_interval_seconds=cluster.health_check_s,
        should_verify_step=True,
    )


class ResumableExecutor(StepDelegatingExecutor):
    """Of a run that goes on in another pod Dagster replays the events so far, and waits again before each try that has
    been made long ago; the end of that try then finds no such step under way, which fails the run."""

    def _pop_events(self, instance: dg.DagsterInstance, run_id: str, seen_storage_ids: set[int]) -> list[DagsterEvent]:
        if self._event_cursor is not None:
            return list(super()._pop_events(instance, run_id, seen_storage_ids))
        so_far: list[DagsterEvent] = []
        while page := super()._pop_events(instance, run_id, seen_storage_ids):
            so_far += map(_without_pause, page)
        return so_far


def _without_pause(event: DagsterEvent) -> DagsterEvent:
    if not event.is_step_up_for_retry:
        return event
    return event._replace(event_specific_data=event.step_retry_data._replace(seconds_to_wait=None))


class ClusterStepHandler(K8sStepHandler):
    """Starts, watches and ends the pods of steps."""

    def __init__(self, cluster: ClusterSettings, *, inside: bool) -> None:
        config = UserDefinedDagsterK8sConfig(
            container_config={"resources": of_size(cluster.step)},
            pod_spec_config={
                "service_account_name": cluster.step_service_account,
                "automount_service_account_token": False,
            },
        )
        super().__init__(
            image=cluster.image,
            container_context=K8sContainerContext(run_k8s_config=config),
            load_incluster_config=inside,
            kubeconfig_file=None if inside else cluster.kubeconfig,
            enable_owner_references=False,
        )
        self._priority_classes = cluster.priority_classes
        self._obstacles: dict[str, tuple[str, int]] = {}
        """By Job, what was said last, and how many looks ago it was new."""

    def _get_container_context(self, step_handler_context: StepHandlerContext) -> K8sContainerContext:
        """A step has the priority of its stage, else that of the run."""
        found = super()._get_container_context(step_handler_context)
        return (
            of_priority(self._priority_classes, step_handler_context.dagster_run.tags).merge(found).merge(self._owner)
        )

    @cached_property
    def _owner(self) -> K8sContainerContext:
        """The Job of the run, which outlives its pod: a step whose run goes on in another pod goes on as well."""
        pod = self._detect_current_name_and_uid()
        namespace = detect_current_namespace(self._kubeconfig_file) if pod is not None else None
        if pod is None or namespace is None:
            return K8sContainerContext()
        owners = self._api_client.get_pod_by_name(pod_name=pod[0], namespace=namespace).metadata.owner_references or ()
        job_metadata = {
            "owner_references": [
                OwnerReference(kind=each.kind, name=each.name, uid=each.uid).to_dict()
                for each in owners
                if each.kind == "Job"
            ]
        }
        return K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig(job_metadata=job_metadata))

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        try:
            yield from super().launch_step(step_handler_context)
        except DagsterK8sUnrecoverableAPIError as error:
            if isinstance(error.k8s_api_exception, ApiException) and error.k8s_api_exception.status == _IS_THERE:
                return  # of the run's pod before; where it has failed, the next look says so, and another one begins
            step = self._get_step_key(step_handler_context)
            refuse(error, f"the pod of step '{step}'", self._namespace(step_handler_context))

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        job, namespace = self._get_k8s_step_job_name(step_handler_context), self._namespace(step_handler_context)
        found = CheckStepHealthResult.healthy()
        try:
            found = super().check_step_health(step_handler_context)
            pods = self._pods(job, namespace)
            if not found.is_healthy:
                return self._ended(step_handler_context, found, why_ended(pods), job)
            obstacle = obstacle_of(pods[0]) if pods else obstacle_in(self._events(job, namespace))
        except _NO_ANSWER as error:
            if self._obstacles.get(job, ("", 0))[0] != _AWAY:
                self._say(step_handler_context, f"The cluster does not say what became of {job}: {said_of(error)}")
            self._obstacles[job] = (_AWAY, 0)
            return found
        return found if obstacle is None else self._hindered(step_handler_context, obstacle, job)

    def _ended(
        self, context: StepHandlerContext, found: CheckStepHealthResult, why: str | None, job: str
    ) -> CheckStepHealthResult:
        reason = f"{found.unhealthy_reason} Its pod ended: {why or 'the cluster keeps no reason'}."
        if why == KILLED_FOR_MEMORY:
            with StepMemory.opened(Home.from_environment(), self._get_step_key(context)) as memory:
                reason += f" {memory.halved(job)}"
        return CheckStepHealthResult.unhealthy(reason)

    def _hindered(self, context: StepHandlerContext, obstacle: Obstacle, job: str) -> CheckStepHealthResult:
        said, looks = self._obstacles.get(job, ("", 0))
        looks = looks + 1 if said == obstacle.said else 0
        self._obstacles[job] = (obstacle.said, looks)
        if obstacle.hopeless or (obstacle.slow and looks >= SLOW_CHECKS):
            self._api_client.delete_job(job_name=job, namespace=self._namespace(context))
            return CheckStepHealthResult.unhealthy(f"The pod of {job} cannot begin: {obstacle.said}")
        if looks == 0:
            self._say(context, f"The pod of {job} waits: {obstacle.said}")
        return CheckStepHealthResult.healthy()

    def _say(self, context: StepHandlerContext, line: str) -> None:
        DagsterEvent.engine_event(context.get_step_context(self._get_step_key(context)), line, EngineEventData())

    def _namespace(self, context: StepHandlerContext) -> str:
        return self._get_container_context(context).namespace or "default"

    def _pods(self, job: str, namespace: str) -> list[object]:
        found = self._api_client.core_api.list_namespaced_pod(namespace=namespace, label_selector=f"job-name={job}")
        return list(found.items)

    def _events(self, job: str, namespace: str) -> list[object]:
        selector = f"involvedObject.kind=Job,involvedObject.name={job}"
        return list(self._api_client.core_api.list_namespaced_event(namespace=namespace, field_selector=selector).items)
