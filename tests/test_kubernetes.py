"""Runs as pods, from the backfill to the last call: the product with the real dagster-k8s, in real containers.

The cluster is a test kubelet (tests/kubelet): an API server of ours, and three nodes that run pods with podman. With
AI_ASSETS_TEST_KUBECONFIG the same nodes join that cluster instead (`make test-k8s KUBECONFIG=...`), and its API server
and controllers decide. docs/kubernetes-proof.md says what that shows and what it does not.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from conftest import project_at
from engines import check_books, rows
from kubelet.cluster import OwnCluster, RandomKills, own_cluster, wait_until
from kubelet.nodes import PodRun
from kubelet.offices import AT_ONCE, DAYS, OTHER, PER_DAY, SOUTH, ClusterOffice, digests, office_in, second_draft
from postgres_server import Postgres
from provider import Provider

pytestmark = pytest.mark.slow

OTHER_CLUSTER = os.environ.get("AI_ASSETS_TEST_KUBECONFIG")
NAMESPACE = os.environ.get("AI_ASSETS_TEST_NAMESPACE", "ai-assets-test")
PATIENCE_S = float(os.environ.get("AI_ASSETS_TEST_PATIENCE", "300"))
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(latency_ms=50, price_input=10, price_output=20) as started:
        yield started


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    with own_cluster(kubeconfig=Path(OTHER_CLUSTER) if OTHER_CLUSTER else None) as started:
        yield started


@pytest.fixture(scope="module")
def office(cluster: OwnCluster, postgres_with_tables: Postgres, provider: Provider) -> Iterator[ClusterOffice]:
    """Deployed once for all tests here; each takes days of its own.

    On a disk: what a pod writes to a folder in memory counts towards its limit of memory.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ai-assets-k8s-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        project = project_at(Path(folder), patch)
        made = office_in(cluster, project, postgres_with_tables, provider, NAMESPACE)
        made.deployment.prepare()
        made.deployment.start()
        yield made
        if OTHER_CLUSTER:
            made.deployment.remove()


def ended(office: ClusterOffice, backfill: str) -> Any:
    """How it ended; where it does not, what all pods said."""
    try:
        wait_until(lambda: office.deployment.api.backfill_status(backfill).done, PATIENCE_S)
    except TimeoutError:
        raise AssertionError(office.deployment.logs()) from None
    return office.deployment.api.backfill_status(backfill)


def component(run: PodRun) -> str | None:
    """`run_worker` or `step_worker`; None for a pod that serves."""
    return (run.pod["metadata"].get("labels") or {}).get("app.kubernetes.io/component")


def is_worker(run: PodRun) -> bool:
    return component(run) is not None


def is_step(run: PodRun) -> bool:
    return component(run) == "step_worker"


def has_begun(cluster: OwnCluster, run: PodRun) -> bool:
    """The pod of a run whose step is under way."""
    return component(run) == "run_worker" and any(
        is_step(it) and run_id(it) == run_id(run) for it in cluster.nodes.running()
    )


def run_id(run: PodRun) -> str | None:
    return (run.pod["metadata"].get("labels") or {}).get("dagster/run-id")


def launched(office: ClusterOffice, days: list[str]) -> str:
    return office.deployment.api.launch_run(
        "notes", {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]}
    )


def run_ended(office: ClusterOffice, run: str) -> str:
    try:
        wait_until(lambda: office.deployment.api.run_status(run) in _ENDED, PATIENCE_S)
    except TimeoutError:
        raise AssertionError(office.deployment.logs()) from None
    return str(office.deployment.api.run_status(run))


def ended_by_itself(run: PodRun) -> bool:
    """Within its grace: a pod that is still there then gets SIGKILL, and its exit code says so."""
    return run.end is not None and run.end.exit_code != 128 + signal.SIGKILL


def maybe_billed(office: ClusterOffice) -> int:
    return len(rows(office.state_url, "SELECT call_key FROM attempts WHERE state = 'ambiguous'"))


def here_of(office: ClusterOffice, days: list[str] | None) -> Path:
    return office.home / f"here-{len(days or DAYS)}"


def rows_of_kind(lake: Path, day: str, version: str) -> pa.Table:
    return pq.read_table(lake / "notes" / "kind" / day / f"{version}.parquet")


def digests_of_a_run_here(
    office: ClusterOffice, monkeypatch: pytest.MonkeyPatch, days: list[str] | None = None
) -> dict[str, str]:
    """Of a run on this machine that nothing breaks, in a home of its own: of all days, or of these."""
    own = replace(
        office.project.home, declared_state_url=None, declared_environment="local", root=here_of(office, days)
    )
    here = replace(office.project, home=own)
    own.ensure()
    (own.root / "grown").touch()
    monkeypatch.setenv("AI_ASSETS_HOME", str(own.root))
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", office.provider.url)
    here.refresh(office.collection, days)
    return digests(here, own.lake)


def test_a_backfill_of_20_partitions_ends_though_pods_are_killed_at_random(
    office: ClusterOffice, cluster: OwnCluster, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of runs, which Dagster does not start again by itself: what they left is asked for once more."""
    provider.configure(latency_ms=600)
    nodes = set[str]()
    steps = RandomKills(nodes=cluster.nodes, most=2, seed=7, every_s=6, wanted=is_step)
    begun = partial(has_begun, cluster)
    runs = RandomKills(nodes=cluster.nodes, most=1, seed=8, every_s=10, wanted=begun)
    with steps, runs:
        for _ in range(3):
            backfill = ended(office, office.backfill(DAYS))
            nodes |= {run.pod["spec"]["nodeName"] for run in cluster.nodes.runs.values() if is_worker(run)}
            if backfill.succeeded:
                break
    provider.configure(latency_ms=50)
    assert backfill.succeeded, (steps.killed, runs.killed, office.said()[-20:])
    assert steps.killed
    assert len(nodes) == 3

    assert office.paid_twice() == []
    assert office.calls() == len(DAYS) * PER_DAY
    assert provider.stats()["calls"] <= len(DAYS) * PER_DAY + maybe_billed(office)
    check_books(office.state_url)
    assert digests(office.project, office.home / "lake") == digests_of_a_run_here(office, monkeypatch)


def test_a_run_goes_on_through_a_lost_watch_and_an_api_server_that_is_away(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    if cluster.server is None:
        pytest.skip("the API server of another cluster is not ours to stop")
    office.provider.configure(latency_ms=1500)
    edited(office, DAYS[:1], "after a lost watch")
    run = launched(office, DAYS[:1])
    wait_until(lambda: any(is_step(it) for it in cluster.nodes.running()), PATIENCE_S)
    before = cluster.nodes.lost_watches
    cluster.server.drop_watches(forgotten=True)
    wait_until(lambda: cluster.nodes.lost_watches > before)
    cluster.server.go_away()
    time.sleep(float(os.environ.get("AI_ASSETS_TEST_AWAY_S", "8")))
    cluster.server.come_back()
    office.provider.configure(latency_ms=50)
    assert run_ended(office, run) == "SUCCESS", failures(office)
    assert office.paid_twice() == []


def test_a_cancelled_run_leaves_no_pod_and_asks_for_nothing_more(office: ClusterOffice, cluster: OwnCluster) -> None:
    office.provider.configure(latency_ms=4000)
    edited(office, DAYS[1:4], "to be cancelled")
    run = launched(office, DAYS[1:4])
    sent = office.provider.stats()["calls"]
    wait_until(lambda: office.provider.stats()["calls"] > sent, PATIENCE_S)
    assert terminate(office, run) == "TerminateRunSuccess"
    wait_until(lambda: not office.deployment.workers(run), 60)
    assert all(ended_by_itself(it) for it in cluster.nodes.runs.values() if run_id(it) == run)
    asked = office.provider.stats()["calls"]
    assert run_ended(office, run) == "CANCELED"
    time.sleep(5)
    assert office.provider.stats()["calls"] == asked
    check_books(office.state_url)
    office.provider.configure(latency_ms=50)


def test_a_step_that_is_preempted_ends_by_itself_and_goes_on_in_a_new_pod(
    office: ClusterOffice, cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM in the middle of calls: some are answered, some are on their way, most were not asked yet."""
    day, more = DAYS[16], 4 * AT_ONCE
    for number in range(more):
        office.project.document(f"{day}/more-{number}.txt", f"Invoice {day} {number}. The total is 7.00.")
    office.provider.configure(latency_ms=1000)
    settled, billed, maybe = office.calls(), office.provider.stats()["billed"], maybe_billed(office)
    run = launched(office, [day])

    def steps() -> list[PodRun]:
        return [it for it in cluster.nodes.runs.values() if is_step(it) and run_id(it) == run]

    wait_until(lambda: office.calls() > settled, PATIENCE_S)
    (preempted,) = steps()
    cluster.nodes.preempt(preempted)
    asked = office.provider.stats()["calls"]
    wait_until(lambda: preempted.ended, PATIENCE_S)
    assert ended_by_itself(preempted)
    assert office.provider.stats()["calls"] <= asked + AT_ONCE  # what was on its way to the provider
    assert office.calls() - settled < more

    office.provider.configure(latency_ms=50)
    assert run_ended(office, run) == "SUCCESS", failures(office)
    assert len(steps()) == 2
    assert office.paid_twice() == []
    assert office.provider.stats()["billed"] - billed <= office.calls() - settled + maybe_billed(office) - maybe
    assert maybe_billed(office) - maybe <= AT_ONCE
    check_books(office.state_url)
    in_pods = digests(office.project, office.home / "lake")
    unbroken = digests_of_a_run_here(office, monkeypatch, [day])
    assert len(unbroken) == len(office.collection.asset_names)
    kind = f"kind {day}"
    answered = [rows_of_kind(root / "lake", day, found[kind]) for root, found in (
        (office.home, in_pods), (here_of(office, [day]), unbroken))]  # fmt: skip
    assert answered[0].drop_columns(["reused"]).equals(answered[1].drop_columns(["reused"]))
    assert 0 < answered[0]["reused"].to_pylist().count(True) < more  # what was answered before it was told to end
    assert unbroken.items() - {(kind, unbroken[kind])} <= in_pods.items()


def test_what_memory_killed_goes_on_with_half_of_what_it_took(office: ClusterOffice, cluster: OwnCluster) -> None:
    if not cluster.runtime.real:
        pytest.skip("processes have no limit of memory")
    edited(office, DAYS[4:6], "larger")
    (office.home / "grown").unlink()
    run = launched(office, DAYS[4:6])
    assert run_ended(office, run) == "SUCCESS", failures(office)
    assert [line for line in office.said() if "OOMKilled. The next try takes 1/2 of the usual batch." in line]
    assert (office.home / "grown").exists()


def test_a_full_quota_is_said_in_the_runs_log_and_waited_for(office: ClusterOffice, cluster: OwnCluster) -> None:
    """Room for the three pods that serve and that of the run, and none for its step."""
    hard = {"limits.memory": "4200Mi"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tiny"}, "spec": {"hard": hard}}
    wait_until(lambda: not office.deployment.workers(), PATIENCE_S)
    cluster.apply(quota, namespace=NAMESPACE)
    try:
        run = launched(office, DAYS[6:7])
        said = "waits: Error creating: pods"
        wait_until(lambda: any(said in line and "exceeded quota: tiny" in line for line in office.said()), PATIENCE_S)
        assert office.deployment.api.run_status(run) == "STARTED"
    finally:
        cluster.client.delete(f"/api/v1/namespaces/{NAMESPACE}/resourcequotas/tiny")
    assert run_ended(office, run) == "SUCCESS"


def test_two_tenants_run_side_by_side_and_neither_has_anything_of_the_other(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    days = DAYS[13:15]
    edited(office, days, "beside another tenant")
    office.provider.configure(latency_ms=3000)
    of_day = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[0]}
    runs = {NAMESPACE: launched(office, days), f"{NAMESPACE}-{SOUTH}": office.deployment.api.launch_run(OTHER, of_day)}

    def step_of(namespace: str) -> list[PodRun]:
        return [it for it in cluster.nodes.running(namespace) if is_step(it) and run_id(it) == runs[namespace]]

    try:
        wait_until(lambda: all(map(step_of, runs)), PATIENCE_S)
    except TimeoutError:
        raise AssertionError(office.deployment.logs() + "\n".join(office.said()[-30:])) from None

    def counted(namespace: str) -> bool:
        (quota,) = cluster.client.get(f"/api/v1/namespaces/{namespace}/resourcequotas")["items"]
        alive = [pod for pod in cluster.pods(namespace) if pod["status"].get("phase") in {"Pending", "Running"}]
        return int(quota["status"]["used"]["pods"]) == len(alive)

    for namespace in runs:  # its own pods and no other's; one may begin between the two questions
        wait_until(partial(counted, namespace), PATIENCE_S)
    office.provider.configure(latency_ms=50)
    for namespace, run in runs.items():
        assert run_ended(office, run) == "SUCCESS", failures(office)
        pods = [it.pod for it in cluster.nodes.runs.values() if run_id(it) == run]
        assert {pod["metadata"]["namespace"] for pod in pods} == {namespace}
    planted = {NAMESPACE: "OF_DEFAULT", f"{NAMESPACE}-{SOUTH}": f"OF_{SOUTH.upper()}"}
    for it in filter(is_worker, cluster.nodes.runs.values()):
        seen = {name for name in cluster.nodes.variables[it.pod["metadata"]["uid"]] if name.startswith("OF_")}
        assert seen == {planted[it.pod["metadata"]["namespace"]]}
    assert office.paid_twice() == []


def test_a_rolling_upgrade_leaves_runs_under_way_with_their_image(
    office: ClusterOffice, cluster: OwnCluster, tmp_path: Path
) -> None:
    office.provider.configure(latency_ms=3000)
    edited(office, DAYS[7:8], "before the upgrade")
    old = launched(office, DAYS[7:8])
    wait_until(lambda: any(is_step(run) for run in cluster.nodes.running()), PATIENCE_S)
    folder, image = second_draft(office, tmp_path / "second")
    office.deployment.replace_code_server(image, folder)
    office.provider.configure(latency_ms=50)
    assert run_ended(office, old) == "SUCCESS"
    assert office.deployment.api.reload("definitions") is None
    new = launched(office, DAYS[8:9])
    assert run_ended(office, new) == "SUCCESS"
    assert images_of(cluster, old) == {office.deployment.image}
    assert image in images_of(cluster, new)


def images_of(cluster: OwnCluster, run: str) -> set[str]:
    return {str(it.pod["spec"]["containers"][0]["image"]) for it in cluster.nodes.runs.values() if run_id(it) == run}


def failures(office: ClusterOffice) -> list[str]:
    return [line[:2000] for line in office.said() if "FAILURE" in line or "rror" in line]


def edited(office: ClusterOffice, days: list[str], note: str) -> None:
    """Their documents are others now, so there is something to ask."""
    for day in days:
        for number in range(PER_DAY):
            office.project.document(f"{day}/new-{number}.txt", f"Invoice {day} {number}, {note}. The total is 5.00.")


def terminate(office: ClusterOffice, run: str) -> str:
    """As the button on Dagster's page does."""
    query = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    asked: Mapping[str, Any] = {"query": query, "variables": {"id": run}}
    answered = requests.post(f"{office.deployment.api.url}/graphql", json=asked, timeout=60).json()
    return str(answered["data"]["terminateRun"]["__typename"])
