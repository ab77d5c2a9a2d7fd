"""Claims about what `environment: cluster` asks of an API server, and how it takes the answers. No pod runs here."""

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from conftest import STAGE, Project, eventually
from dagster._core.definitions.reconstruct import reconstructable
from dagster._core.launcher import LaunchRunContext, ResumeRunContext
from kube_api import KubeApi, serving_kube_api
from postgres_server import Postgres

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.orchestration.cluster.errors import (
    ClusterImageMissing,
    ClusterRefused,
    ClusterUnreachable,
    RunNotResumable,
)
from ai_assets.orchestration.component import collection_definitions
from ai_assets.orchestration.instance import write_instance_file
from ai_assets.run.step_memory import StepMemory

API_VERSION = "1.32"
CLUSTER: dict[str, Any] = {
    "image": "registry.example/ai-assets:1",
    "gpu_types": {"a100": {"node_selector": {"gpu": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}},
    "spot": {
        "node_selector": {"spot": "yes"},
        "tolerations": [{"key": "spot", "value": "yes", "effect": "NoSchedule"}],
    },
    "retries": 1,
    "health_check_s": 1,
}
COMPUTE = {"memory": "3Gi", "cpu": 2, "spot": True, "gpu": {"count": 2, "type": "a100"}, "time_limit": "2h"}


@pytest.fixture(scope="module")
def serving() -> Iterator[KubeApi]:
    with serving_kube_api() as api:
        yield api


@pytest.fixture
def api(serving: KubeApi) -> KubeApi:
    fresh = KubeApi(port=serving.port)
    serving.__dict__.update(fresh.__dict__)
    return serving


@pytest.fixture
def clustered(
    project: Project, api: KubeApi, postgres_with_tables: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Project:
    url = postgres_with_tables.database(f"t{uuid.uuid4().hex}", template="tables")
    declare(project, kubeconfig=str(api.kubeconfig(tmp_path)))
    monkeypatch.setenv("AI_ASSETS_STATE_URL", url)
    (project.root / "collections/notes").mkdir()
    (project.root / "collections/notes/q.jsonl").write_text('{"query": "pump", "documents": ["2026-10-05/0.txt"]}\n')
    own = {"embedding": {"compute": COMPUTE}, "stages": [dict(STAGE)]}
    project.declare(**own, golden={"queries": "q.jsonl"})
    return replace(project, home=replace(project.home, declared_state_url=url))


def declare(project: Project, **cluster: Any) -> None:
    text = yaml.safe_dump({"environment": "cluster", "cluster": {**CLUSTER, **cluster}})
    (project.root / "operations.yaml").write_text(text)


def job_of_notes() -> dg.JobDefinition:
    home = Home.from_environment()
    return collection_definitions(load_collection(home.project / "collections", "notes")).resolve_job_def("notes")


def valid(job: dict[str, Any]) -> dict[str, Any]:
    """The Job as it stands, once the schema and the rules that only a server knows are held."""
    kubernetes_validate.validate(job, API_VERSION, strict=True)
    names = [job["metadata"]["name"], job["spec"]["template"]["metadata"]["name"]]
    assert all(len(name) <= 63 for name in names)
    for container in job["spec"]["template"]["spec"]["containers"]:
        asked, most = container["resources"]["requests"], container["resources"]["limits"]
        assert {key: each for key, each in asked.items() if "/" in key} == {
            key: each for key, each in most.items() if "/" in key
        }
    return job


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def execute(project: Project, **tags: str) -> tuple[bool, list[str]]:
    job = reconstructable(job_of_notes)
    with project.instance() as opened, dg.execute_job(job, opened, tags=tags, raise_on_error=False) as result:
        return result.success, [error for entry in opened.all_logs(result.run_id) if (error := error_of(entry))]


def error_of(entry: dg.EventLogEntry) -> str:
    """What a step that failed, or is tried again, says of its pod."""
    data = entry.dagster_event.event_specific_data if entry.dagster_event is not None else None
    error = getattr(data, "error", None)
    return str(error.message) if error is not None else ""


def test_the_pod_of_a_run_is_small_nobodys_root_and_as_important_as_the_run(clustered: Project, api: KubeApi) -> None:
    with clustered.instance() as opened:
        run = launched(opened, {"ai_assets/priority": "interactive"})
        assert [line for line in said_in(opened, run) if line.startswith("AI_ASSETS_DATA_URL is not set")]
        opened.run_launcher.terminate(run.run_id)
    (job,) = map(valid, api.jobs)
    pod, (container,) = pod_of(job), pod_of(job)["containers"]
    assert pod["priorityClassName"] == "ai-assets-interactive"
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    assert {"name": "AI_ASSETS_ENVIRONMENT", "value": "cluster"} in container["env"]
    assert {"secretRef": {"name": "ai-assets-secrets"}} in container["envFrom"]
    assert job["spec"]["backoffLimit"] == 0
    assert api.deleted == [job["metadata"]["name"]]


def launched(opened: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    job = reconstructable(job_of_notes)
    made = opened.create_run_for_job(job.get_definition(), tags=tags, job_code_origin=job.get_python_origin())
    opened.run_launcher.launch_run(LaunchRunContext(dagster_run=made, workspace=None))
    return made


def test_what_compute_says_reaches_the_pod_of_just_that_stage(clustered: Project, api: KubeApi) -> None:
    """Pods that OOM killed go on: in new ones, and with half of what they took."""
    api.job_status = {"failed": 1}
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    status = {"name": "dagster", "ready": False, "restartCount": 0, "image": "i", "imageID": "i", "state": ended}
    api.pod_status = {"phase": "Failed", "containerStatuses": [status]}
    succeeded, said = execute(clustered, **{"dagster/partition": "2026-10-05", "ai_assets/priority": "interactive"})
    assert not succeeded
    first, again = map(valid, api.jobs)
    assert [pod_of(each)["priorityClassName"] for each in (first, again)] == ["ai-assets-interactive"] * 2
    assert again["metadata"]["name"] == f"{first['metadata']['name']}-1"
    assert [line for line in said if "OOMKilled. The next try takes 1/2 of the usual batch." in line]
    assert [line for line in said if "OOMKilled. The next try takes 1/4 of the usual batch." in line]
    with clustered.stores() as stores:
        assert StepMemory(stores.state, "notes", "rest__1").halvings() == 2
        assert StepMemory(stores.state, "notes", "embeddings").halvings() == 0


def test_tags_of_the_ops_carry_what_is_declared(clustered: Project) -> None:
    """Merged by dagster-k8s into the Job of the step."""
    from dagster._core.execution.api import create_execution_plan

    plan = create_execution_plan(job_of_notes())
    shared, own, last = [json.loads(step.tags.get("dagster-k8s/config", "{}")) for step in plan.steps]
    assert shared == last == {}
    asked = {"cpu": "2", "memory": "3Gi", "nvidia.com/gpu": "2"}
    assert own == {
        "container_config": {"resources": {"requests": asked, "limits": asked}},
        "pod_spec_config": {
            "node_selector": {"gpu": "a100", "spot": "yes"},
            "tolerations": [
                {"key": "gpu", "operator": "Exists"},
                {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
            ],
        },
        "job_spec_config": {"active_deadline_seconds": 7200},
    }


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "The namespace is missing; apply what `ai-assets deploy render` writes"),
        (403, "The service account may not; apply what `ai-assets deploy render` writes"),
    ],
)
def test_what_the_server_refuses_is_said_in_one_sentence(
    clustered: Project, api: KubeApi, status: int, said: str
) -> None:
    api.refused = (status, "no such thing")
    with clustered.instance() as opened, pytest.raises(ClusterRefused, match=said):
        launched(opened, {})


def test_a_pod_that_never_fits_into_the_quota_fails_instead_of_waiting(clustered: Project, api: KubeApi) -> None:
    message = (
        'Error creating: pods "x" is forbidden: exceeded quota: q, requested: requests.memory=4Gi, '
        "used: requests.memory=0, limited: requests.memory=2Gi"
    )
    api.events = [{"metadata": {"name": "e"}, "involvedObject": {}, "reason": "FailedCreate", "message": message}]
    succeeded, said = execute(clustered, **{"dagster/partition": "2026-10-05"})
    assert not succeeded
    assert len(api.deleted) == 2
    assert [line for line in said if "cannot begin: Error creating" in line]


def test_without_an_image_nothing_is_started(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.root / "operations.yaml").write_text("environment: cluster\n")
    monkeypatch.setenv("AI_ASSETS_STATE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(ClusterImageMissing, match=r"Set cluster\.image"):
        write_instance_file(Home.from_environment(project.root))


def test_a_run_goes_on_in_another_pod_as_often_as_a_step_does_and_says_so(clustered: Project, api: KubeApi) -> None:
    with clustered.instance() as opened:
        assert opened.run_monitoring_max_resume_run_attempts == CLUSTER["retries"]
        run = launched(opened, {})
        opened.report_engine_event("Starting execution with step handler K8sStepHandler.", run)
        opened.run_launcher.resume_run(ResumeRunContext(dagster_run=run, workspace=None, resume_attempt_number=1))
        said = [entry.message for entry in opened.all_logs(run.run_id)]
        assert api.jobs[-1]["metadata"]["name"] == f"dagster-run-{run.run_id}-1"
    expected = "The pod of this run ended (the cluster keeps no reason). A new one goes on with it, 1 of at most 1: its"
    assert len([line for line in said if line.startswith(expected)]) == 1


def starting(opened: dg.DagsterInstance) -> dg.DagsterRun:
    job = reconstructable(job_of_notes)
    made = opened.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
    opened.launch_run(made.run_id, workspace=None)  # type: ignore[arg-type]
    return made


def said_in(opened: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    return [entry.user_message or entry.message for entry in opened.all_logs(run.run_id)]


def test_a_run_whose_pod_ended_before_it_began_is_started_again(clustered: Project, api: KubeApi) -> None:
    """Under the same name, which those know that cancel it and look after it."""
    api.job_status, api.status_of_later_jobs = {"failed": 1}, {"active": 1}
    with clustered.instance() as opened:
        run = starting(opened)
        eventually(lambda: len(api.jobs) == 2)
        (line,) = [each for each in said_in(opened, run) if "ended before the run began" in each]
        assert "It is started again, 1 of at most 1: nothing was asked yet." in line
        assert api.deleted == [f"dagster-run-{run.run_id}"]
        first, again = map(valid, api.jobs)
        assert first == again
        assert opened.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTING  # type: ignore[union-attr]


def test_a_run_whose_pods_end_before_it_begins_fails_in_a_sentence_instead_of_after_its_time_limit(
    clustered: Project, api: KubeApi
) -> None:
    api.job_status = {"failed": 1}
    with clustered.instance() as opened:
        run = starting(opened)
        eventually(lambda: any("and 1 more had been started" in each for each in said_in(opened, run)))
        assert opened.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    assert len(api.jobs) == 2


def test_a_run_that_is_cancelled_before_it_begins_is_not_started_again(clustered: Project, api: KubeApi) -> None:
    with clustered.instance() as opened:
        run = starting(opened)
        opened.run_launcher.terminate(run.run_id)
        api.job_status = {"failed": 1}
        eventually(lambda: not [each for each in threading.enumerate() if each.name == "start-of-run"])
    assert len(api.jobs) == 1


def test_a_run_whose_steps_ended_with_its_pod_does_not_begin_again(clustered: Project, api: KubeApi) -> None:
    with clustered.instance() as opened:
        run = launched(opened, {})
        context = ResumeRunContext(dagster_run=run, workspace=None, resume_attempt_number=1)
        with pytest.raises(RunNotResumable, match="its steps ran in it, so they ended as well"):
            opened.run_launcher.resume_run(context)
    assert len(api.jobs) == 1


def test_a_process_without_an_account_in_the_cluster_opens_the_instance_and_cannot_start_a_run(
    clustered: Project, api: KubeApi
) -> None:
    """As pods of steps and of code are."""
    declare(clustered, kubeconfig="/nowhere/kubeconfig")
    with clustered.instance() as opened, pytest.raises(ClusterUnreachable, match="/nowhere/kubeconfig, which cannot"):
        launched(opened, {})
    assert api.jobs == []
