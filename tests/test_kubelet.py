"""Claims about the test API server, which the suite on Kubernetes leans on; and that it admits what we render.

What it refuses, it refuses in the words of kube-apiserver, and for the same objects.
Only where that is the claim a pod runs, as a process.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, eventually
from kubelet.access import service_account
from kubelet.amounts import amount
from kubelet.api_client import ApiAccess, ApiAway, ApiClient
from kubelet.api_server import ApiServer
from kubelet.cluster import THREE_NODES, own_cluster
from kubelet.containers import Mount
from kubelet.kinds import BY_KIND
from kubelet.refusals import ApiRefused

PODS, JOBS = "/api/v1/namespaces/team/pods", "/apis/batch/v1/namespaces/team/jobs"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    started = ApiServer(tmp_path)
    started.start()
    client_of(started).create("/api/v1/namespaces", named("v1", "Namespace", "team"))
    yield started
    started.stop()


@pytest.fixture
def client(server: ApiServer) -> ApiClient:
    return client_of(server)


def client_of(server: ApiServer, token: str | None = None) -> ApiClient:
    return ApiClient(ApiAccess(url=server.url, token=token or server.administrator, certificate=server.certificate))


def named(api_version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **more}


def pod_spec(requests: Mapping[str, str], limits: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    resources = {"requests": dict(requests), "limits": dict(requests if limits is None else limits)}
    return {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "resources": resources}], **more}


def pod(name: str = "p", requests: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    return named("v1", "Pod", name, spec=pod_spec(requests or {"cpu": "1", "memory": "1Gi"}, **more))


def job(name: str = "j", **more: Any) -> dict[str, Any]:
    spec = {"backoffLimit": 0, "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}, **more}
    return named("batch/v1", "Job", name, spec=spec)


REFUSED = [
    (pod(nodeSelectr={}), 400, "strict decoding error: spec: Additional properties are not allowed"),
    (pod("Upper_case"), 422, "a lowercase RFC 1123 subdomain must consist of"),
    (job("j" * 64), 422, "must be no more than 63 characters"),
    (pod(requests={"cpu": "2"}, limits={"cpu": "1"}), 422, "must be less than or equal to cpu limit"),
    (pod(requests={"nvidia.com/gpu": "1"}, limits={"nvidia.com/gpu": "2"}), 422,
     "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to nvidia.com/gpu limit"),
    (pod(serviceAccountName="nobody"), 403, 'error looking up service account team/nobody: serviceaccount "nobody"'),
    (pod(priorityClassName="urgent"), 403, "no PriorityClass with name urgent was found"),
    (pod(tolerations=[{"operator": "Exists", "value": "x"}]), 422, "value must be empty when `operator` is 'Exists'"),
]  # fmt: skip


@pytest.mark.parametrize(("new", "code", "said"), REFUSED, ids=[said[:40] for _, _, said in REFUSED])
def test_what_a_real_server_refuses_is_refused_in_its_words(
    client: ApiClient, new: dict[str, Any], code: int, said: str
) -> None:
    with pytest.raises(ApiRefused) as refused:
        client.create(PODS if new["kind"] == "Pod" else JOBS, _without_extra(new))
    assert refused.value.code == code
    assert said in refused.value.message


def _without_extra(new: dict[str, Any]) -> dict[str, Any]:
    limits = new["spec"].pop("limits", None)
    if limits is not None:
        new["spec"]["containers"][0]["resources"]["limits"] = limits
    return new


def test_a_quota_is_shared_by_a_namespace_and_refuses_in_numbers(client: ApiClient) -> None:
    hard = {"requests.memory": "2Gi", "requests.nvidia.com/gpu": "1", "pods": "5"}
    client.create("/api/v1/namespaces/team/resourcequotas", named("v1", "ResourceQuota", "q", spec={"hard": hard}))
    client.create(PODS, pod("one", {"memory": "1536Mi", "nvidia.com/gpu": "1"}))
    with pytest.raises(ApiRefused, match=r"exceeded quota: q, requested: \S+=1Gi, used: \S+=1536Mi, limited: \S+=2Gi"):
        client.create(PODS, pod("two", {"memory": "1Gi"}))
    with pytest.raises(ApiRefused, match=r"requested: requests.nvidia.com/gpu=1, used: \S+=1, limited: \S+=1"):
        client.create(PODS, pod("three", {"memory": "1Mi", "nvidia.com/gpu": "1"}))
    with pytest.raises(ApiRefused, match=r"failed quota: q: must specify requests.memory"):
        client.create(PODS, pod("four", {"cpu": "1"}))
    client.delete(f"{PODS}/one", {"gracePeriodSeconds": 0})
    client.create(PODS, pod("two", {"memory": "1Gi"}))


def test_a_job_whose_pod_the_quota_refuses_says_so_in_an_event_and_starts_when_there_is_room(client: ApiClient) -> None:
    client.create("/api/v1/namespaces/team/resourcequotas",
                  named("v1", "ResourceQuota", "q", spec={"hard": {"pods": "1"}}))  # fmt: skip
    client.create(PODS, pod("first"))
    client.create(JOBS, job())
    events = "/api/v1/namespaces/team/events?fieldSelector=involvedObject.name=j,reason=FailedCreate"
    eventually(lambda: client.get(events)["items"])
    assert "exceeded quota: q, requested: pods=1" in client.get(events)["items"][0]["message"]
    client.delete(f"{PODS}/first", {"gracePeriodSeconds": 0})
    eventually(lambda: client.get(f"{PODS}?labelSelector=job-name=j,a%20in%20(b,c)")["items"])


def test_a_job_ends_as_its_pods_do_and_its_pods_go_with_it_only_where_that_is_asked(client: ApiClient) -> None:
    client.create(JOBS, job())
    eventually(lambda: client.get(PODS)["items"])
    (made,) = client.get(PODS)["items"]
    client.patch(f"{PODS}/{made['metadata']['name']}/status", {"status": {"phase": "Failed"}})
    eventually(lambda: "conditions" in client.get(f"{JOBS}/j")["status"])
    status = client.get(f"{JOBS}/j/status")["status"]
    assert (status["failed"], status["conditions"][0]["reason"]) == (1, "BackoffLimitExceeded")
    client.delete(f"{JOBS}/j")  # batch/v1 leaves the pods behind
    assert "ownerReferences" not in client.get(PODS)["items"][0]["metadata"]

    client.create(JOBS, job("k"))
    eventually(lambda: len(client.get(PODS)["items"]) == 2)
    client.delete(f"{JOBS}/k", {"propagationPolicy": "Background"})
    eventually(lambda: len(client.get(PODS)["items"]) == 1)


def test_a_watch_goes_on_where_it_was_or_says_that_it_cannot(server: ApiServer, client: ApiClient) -> None:
    version = client.get(PODS)["metadata"]["resourceVersion"]
    client.create(PODS, pod("a"))
    event, seen = next(client.watch(PODS, version))
    assert (event, seen["metadata"]["name"]) == ("ADDED", "a")
    server.drop_watches(forgotten=True)
    with pytest.raises(ApiRefused, match="too old resource version"):
        next(client.watch(PODS, version))


def test_what_was_there_is_there_when_the_server_comes_back(server: ApiServer, client: ApiClient) -> None:
    client.create(PODS, pod("a"))
    server.go_away()
    with pytest.raises(ApiAway):
        client.get(PODS)
    server.come_back()
    assert client.get(f"{PODS}/a")["metadata"]["name"] == "a"


def _rendered(folder: str) -> list[dict[str, Any]]:
    order = ["Namespace", "PriorityClass", "ServiceAccount"]
    found = [
        each
        for file in sorted((REPOSITORY / "deploy" / folder).rglob("*.yaml"))
        for each in yaml.safe_load_all(file.read_text())
        if each and each["kind"] != "Kustomization"
    ]
    return sorted(found, key=lambda each: order.index(each["kind"]) if each["kind"] in order else len(order))


def apply(client: ApiClient, objects: list[dict[str, Any]]) -> None:
    for new in objects:
        kind = BY_KIND[new["apiVersion"], new["kind"]]
        place = f"/namespaces/{new['metadata']['namespace']}" if kind.namespaced else ""
        client.create(f"{'/apis/' if kind.group else '/api/'}{kind.api_version}{place}/{kind.plural}", new)


def test_all_that_we_render_is_admitted(client: ApiClient) -> None:
    apply(client, [*_rendered("base"), *_rendered("tenants")])


def test_rights_that_we_render_are_enough_for_a_run_and_for_nothing_more(server: ApiServer, client: ApiClient) -> None:
    """What dagster-k8s asks for is in the suite with containers; here is what it must not be able to do."""
    apply(client, _rendered("base"))
    here = "/api/v1/namespaces/ai-assets"
    run = client_of(server, server.access.token_of(service_account("ai-assets", "ai-assets-run")))
    step = client_of(server, server.access.token_of(service_account("ai-assets", "ai-assets-step")))
    assert run.get(f"{here}/pods")["kind"] == "PodList"
    for forbidden in (f"{here}/secrets", f"{here}/configmaps", "/api/v1/namespaces/team/pods", "/api/v1/nodes"):
        with pytest.raises(ApiRefused, match='User "system:serviceaccount:ai-assets:ai-assets-run" cannot list'):
            run.get(forbidden)
    with pytest.raises(ApiRefused, match="cannot create resource"):
        run.create(f"{here}/pods", pod())
    with pytest.raises(ApiRefused, match="cannot list resource"):
        step.get(f"{here}/pods")


def test_two_tenants_have_quotas_and_rights_of_their_own(server: ApiServer, client: ApiClient) -> None:
    apply(client, [*_rendered("base"), *_rendered("tenants")])
    tenants = ["ai-assets-claims", "ai-assets-operations"]
    for own, other in (tenants, tenants[::-1]):
        run = client_of(server, server.access.token_of(service_account(own, "ai-assets-run")))
        run.create(f"/apis/batch/v1/namespaces/{own}/jobs", job())
        for path in (f"/apis/batch/v1/namespaces/{other}/jobs", f"/api/v1/namespaces/{other}/pods"):
            with pytest.raises(ApiRefused, match=f'in the namespace "{other}"'):
                run.get(path)
    for own in tenants:
        (quota,) = client.get(f"/api/v1/namespaces/{own}/resourcequotas")["items"]
        most = dict(quota["spec"]["hard"])["limits.memory"]
        asked = pod("large", {"cpu": "1", "memory": str(amount(most) + 1)})
        with pytest.raises(ApiRefused, match=r"exceeded quota: .*limits\.memory"):
            client.create(f"/api/v1/namespaces/{own}/pods", asked)


@pytest.mark.slow
def test_where_containers_are_forbidden_pods_are_processes_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Here because nothing is found: PATH names an empty folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "word").write_text("read from the image")
    says = "import os; print(open('/data/word').read(), os.environ['OWN']); raise SystemExit(3)"
    waits = "import time; print('waits', flush=True); time.sleep(600)"
    said = pytest.warns(UserWarning, match="podman is not installed.*pods ran as PROCESSES, no memory limit was tested")
    with said, own_cluster(THREE_NODES[:1]) as cluster:
        assert not cluster.runtime.real
        image = cluster.image("ours:1", Mount(source=tmp_path / "data", target="/data"))
        for name, script in (("says", says.replace("/data", str(tmp_path / "data"))), ("waits", waits)):
            new = pod(name)
            new["spec"] |= {"restartPolicy": "Never"}
            container = {
                "image": image,
                "command": [sys.executable, "-c", script],
                "env": [{"name": "OWN", "value": "a"}],
            }
            new["spec"]["containers"][0] |= container
            cluster.apply(new)
        path = "/api/v1/namespaces/default/pods"
        eventually(lambda: cluster.client.get(f"{path}/says")["status"].get("phase") == "Failed", 60)
        found = cluster.client.get(f"{path}/says")
        assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
        assert cluster.log(found) == "read from the image a\n"
        eventually(lambda: "waits" in cluster.log(cluster.client.get(f"{path}/waits")), 60)
        (run,) = cluster.nodes.running()
        cluster.client.delete(f"{path}/waits", {"gracePeriodSeconds": 5})
        eventually(lambda: run.ended, 60)
        assert [each["metadata"]["name"] for each in cluster.pods("default")] == ["says"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_takes_it_for_a_server(server: ApiServer, client: ApiClient, tmp_path: Path) -> None:
    config = client.access.write_kubeconfig(tmp_path / "config", "team")
    (tmp_path / "pod.json").write_text(json.dumps(pod("a")))
    for arguments in (["apply", "--validate=false", "-f", str(tmp_path / "pod.json")], ["get", "pods", "-o", "name"]):
        done = subprocess.run(["kubectl", f"--kubeconfig={config}", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "pod/a" in done.stdout
