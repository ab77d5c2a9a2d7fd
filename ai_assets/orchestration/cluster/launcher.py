"""K8sRunLauncher of dagster-k8s, as `cluster:` of operations.yaml configures it: it starts the pod of a run.

A run whose pod was ended from outside goes on in another one: Dagster's run monitoring resumes it, a declared number of
times. Its steps are pods of their own, which belong to the Job of the run and go on meanwhile. So whatever ends a run
for good has to end them. Dagster looks only after pods whose runs have begun; until then this one does.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from dagster import DagsterEventType, DagsterRun, DagsterRunStatus
from dagster._core.launcher import LaunchRunContext, ResumeRunContext, RunLauncher
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig, get_job_name_from_run_id
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from ai_assets.base.cluster import PriorityClasses, cluster_in
from ai_assets.base.errors import said_of
from ai_assets.base.home import DATA_URL_VARIABLE, Home
from ai_assets.inference.records import PRIORITIES, PRIORITY_TAG
from ai_assets.orchestration.cluster.errors import ClusterRefused, ClusterUnreachable, RunNotResumable
from ai_assets.orchestration.cluster.pods import why_ended

_JOB_IS_GONE = "could not be found"
"""How dagster-k8s ends what it says of a Job that the server does not have."""
_REFUSED = (401, 403, 404, 422)
_LOG = logging.getLogger(__name__)
GONE_S = 30.0
"""A Job that was deleted is gone within that, once the cluster has ended its pods."""
LOOK_S = 0.2
_NO_BUCKET = (
    f"{DATA_URL_VARIABLE} is not set where this run is started: what its pods write to homes of their own is lost "
    "when they end. Set it in the ConfigMap of the pods (cluster.config_maps), in an overlay (docs/storage.md)."
)
_STEPS_APART = "Starting execution with step handler"
"""How Dagster begins what it says of an executor whose steps do not end with the run's own process."""


class ClusterRunLauncher(K8sRunLauncher):
    """A run's pod has the priority of the run, and what the API server refuses is said in a sentence."""

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> RunLauncher[Any]:
        """Every process with an instance makes one, to know whether runs can be resumed; pods of steps and of code have
        no account in the cluster."""
        try:
            return cls(inst_data=inst_data, **config_value)
        except ClusterUnreachable as error:
            return UnreachableRunLauncher(error)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (ConfigException, OSError) as error:
            raise ClusterUnreachable(kwargs.get("kubeconfig_file"), " ".join(str(error).split())) from None
        self._closing = threading.Event()

    def get_container_context_for_run(self, dagster_run: DagsterRun) -> K8sContainerContext:
        found = super().get_container_context_for_run(dagster_run)
        classes = cluster_in(Home.from_environment().operations).priority_classes
        return found.merge(of_priority(classes, dagster_run.tags))

    def launch_run(self, context: LaunchRunContext) -> None:
        if Home.from_environment().data_url is None:
            self._instance.report_engine_event(_NO_BUCKET, context.dagster_run)
        self._launch(context)
        watch = threading.Thread(target=self._watch_start, args=(context,), name="start-of-run", daemon=True)
        watch.start()

    def _launch(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        try:
            super().launch_run(context)
        except DagsterK8sUnrecoverableAPIError as error:
            refuse(error, f"the pod of run {run.run_id[:8]}", self._namespace(run))

    def _watch_start(self, context: LaunchRunContext) -> None:
        """Until the run has begun or ended. Where this process ends first, Dagster fails a run whose start takes too
        long."""
        try:
            self._bring_to_its_start(context)
        except Exception as error:  # noqa: BLE001 - whatever the cluster or the database says, Dagster's limit is left
            _LOG.warning("The start of run %s is not watched any more: %s", context.dagster_run.run_id, said_of(error))

    def _bring_to_its_start(self, context: LaunchRunContext) -> None:
        """A pod that ended before is replaced: nothing goes on with such a run, for there are no steps of it."""
        run, every_s = context.dagster_run, cluster_in(Home.from_environment().operations).health_check_s
        most = self._instance.run_monitoring_max_resume_run_attempts
        for number in range(1, most + 2):
            while not self._has_lost_its_pod(run):
                if self._closing.wait(every_s) or not self._is_starting(run):
                    return
            if not self._is_starting(run):
                return  # it began before its pod ended, which is for Dagster's monitoring
            ended = f"The pod of this run ended before the run began ({self._why_ended(run, 0)})"
            if number > most:
                often = f"{most} more had been started" if most else "cluster.retries allows no other"
                self._instance.report_run_failed(run, f"{ended}, and {often}. Look at its log in the cluster.")
                return
            again = f"{ended}. It is started again, {number} of at most {most}: nothing was asked yet."
            self._instance.report_engine_event(again, run)
            self._end_job(run)
            self._launch(context)

    def _is_starting(self, run: DagsterRun) -> bool:
        now = self._instance.get_run_by_id(run.run_id)
        return now is not None and now.status is DagsterRunStatus.STARTING

    def _has_lost_its_pod(self, run: DagsterRun) -> bool:
        """A server that does not answer says nothing."""
        job = get_job_name_from_run_id(run.run_id)  # type: ignore[no-untyped-call]
        try:
            status = self._api_client.get_job_status(job, self._namespace(run))
        except (HTTPError, DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError):
            return False
        return status is not None and bool(status.failed) and not status.active

    def _end_job(self, run: DagsterRun) -> None:
        """It is gone afterwards, so that another may have its name, by which the run is known."""
        job, namespace = get_job_name_from_run_id(run.run_id), self._namespace(run)  # type: ignore[no-untyped-call]
        self._api_client.delete_job(job_name=job, namespace=namespace)
        ends = time.monotonic() + GONE_S
        while self._api_client.get_job_status(job, namespace) is not None and time.monotonic() < ends:
            time.sleep(LOOK_S)

    def dispose(self) -> None:
        self._closing.set()
        super().dispose()

    def resume_run(self, context: ResumeRunContext) -> None:
        run, number = context.dagster_run, context.resume_attempt_number or 1
        why = self._why_ended(run, number - 1)
        begun = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        if not any(entry.message.startswith(_STEPS_APART) for entry in begun):
            raise RunNotResumable(run.run_id, why)
        most = self._instance.run_monitoring_max_resume_run_attempts
        self._instance.report_engine_event(
            f"The pod of this run ended ({why}). A new one goes on with it, {number} of at most {most}: its steps go "
            "on meanwhile, and what was answered is not asked again.",
            run,
        )
        try:
            super().resume_run(context)
        except DagsterK8sUnrecoverableAPIError as error:
            refuse(error, f"a new pod of run {run.run_id[:8]}", self._namespace(run))

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """A server that does not answer is no sign that the pod has ended: Dagster would fail every run under way."""
        found: CheckRunHealthResult = super().check_run_worker_health(run)
        if found.status is WorkerStatus.UNKNOWN and not (found.msg or "").endswith(_JOB_IS_GONE):
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)
        has_ended = found.status in {WorkerStatus.UNKNOWN, WorkerStatus.FAILED}
        if has_ended and not self._instance.run_will_resume(run.run_id):
            self._end_pods(run)  # Dagster reports the run failed now
        return found

    def terminate(self, run_id: str) -> bool:
        """Dagster ends the pod of the run, which leaves those of its steps to whoever would resume it."""
        run = self._instance.get_run_by_id(run_id)
        done = bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        if run is not None and not run.is_finished:
            self._end_pods(run)
        return done

    def _end_pods(self, run: DagsterRun) -> None:
        namespace = self._namespace(run)
        try:
            jobs = self._api_client.batch_api.list_namespaced_job(
                namespace=namespace, label_selector=f"dagster/run-id={run.run_id}"
            )
            for job in jobs.items:
                if not job.metadata.deletion_timestamp:
                    self._api_client.delete_job(job_name=job.metadata.name, namespace=namespace)
        except (ApiException, HTTPError) as error:
            line = f"Pods of this run may still be there, for the cluster does not answer: {said_of(error)}"
            self._instance.report_engine_event(line, run)

    def _why_ended(self, run: DagsterRun, attempt: int) -> str:
        job = get_job_name_from_run_id(run.run_id, resume_attempt_number=attempt)  # type: ignore[no-untyped-call]
        try:
            pods = self._api_client.core_api.list_namespaced_pod(
                namespace=self._namespace(run), label_selector=f"job-name={job}"
            )
            return why_ended(pods.items) or "the cluster keeps no reason"
        except (ApiException, HTTPError):
            return "the cluster does not say why"

    def _namespace(self, run: DagsterRun) -> str:
        return str(self.get_container_context_for_run(run).namespace or self.job_namespace)


class UnreachableRunLauncher(RunLauncher[Any]):
    """Of a process that cannot ask the cluster: it says so once it is to start or end a run."""

    def __init__(self, error: ClusterUnreachable) -> None:
        self._error = error
        super().__init__()  # type: ignore[no-untyped-call]

    @property
    def supports_resume_run(self) -> bool:
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        raise self._error

    def terminate(self, run_id: str) -> bool:
        raise self._error


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
