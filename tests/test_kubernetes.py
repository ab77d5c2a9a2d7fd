"""Runs as pods, from the backfill to the last call: the product with the real dagster-k8s, in real containers.

The cluster is a test kubelet (tests/kubelet): an API server of ours, and three nodes that run pods with podman. With
AI_ASSETS_TEST_KUBECONFIG the same nodes join that cluster instead (`make test-k8s KUBECONFIG=...`), and its API server
and controllers decide. docs/kubernetes-proof.md says what that shows and what it does not.
"""

import json
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
from conftest import eventually, project_at
from engines import check_books, rows
from kubelet.cluster import OwnCluster, RandomKills, own_cluster
from kubelet.nodes import PodRun
from kubelet.offices import AT_ONCE, DAYS, OTHER, PER_DAY, SOUTH, ClusterOffice, digests, office_in, second_draft
from postgres_server import Postgres
from provider import Provider

pytestmark = pytest.mark.slow

OTHER_CLUSTER = os.environ.get("AI_ASSETS_TEST_KUBECONFIG")
NAMESPACE = os.environ.get("AI_ASSETS_TEST_NAMESPACE", "ai-assets-test")
PATIENCE_S = float(os.environ.get("AI_ASSETS_TEST_PATIENCE", "300"))
WENT_ON = "A new one goes on with it, 1 of at most 2: its steps go on meanwhile"
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
        eventually(lambda: office.deployment.api.backfill_status(backfill).done, PATIENCE_S)
    except AssertionError:
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
        eventually(lambda: office.deployment.api.run_status(run) in _ENDED, PATIENCE_S)
    except AssertionError:
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
    """Also those of runs. A step that is killed too often ends its run: what that left is asked for once more."""
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
    eventually(lambda: any(is_step(it) for it in cluster.nodes.running()), PATIENCE_S)
    before = cluster.nodes.lost_watches
    cluster.server.drop_watches(forgotten=True)
    eventually(lambda: cluster.nodes.lost_watches > before, PATIENCE_S)
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
    eventually(lambda: office.provider.stats()["calls"] > sent, PATIENCE_S)
    assert terminate(office, run) == "TerminateRunSuccess"
    eventually(lambda: not office.deployment.workers(run), PATIENCE_S)
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
    day, more = DAYS[16], 8 * AT_ONCE
    invoices(office, day, more, name="more", total="7.00")
    office.provider.configure(latency_ms=1000)
    settled, billed, maybe = office.calls(), office.provider.stats()["billed"], maybe_billed(office)
    run = launched(office, [day])
    eventually(lambda: office.calls() > settled, PATIENCE_S)
    office.provider.configure(latency_ms=3000)  # the signal may take long, and finds work left
    (preempted,) = steps_of(cluster, run)
    cluster.nodes.preempt(preempted)
    assert preempted.got_sigterm.wait(PATIENCE_S)
    asked = office.provider.stats()["calls"]
    eventually(lambda: preempted.ended, PATIENCE_S)
    assert ended_by_itself(preempted)
    assert office.provider.stats()["calls"] <= asked + AT_ONCE  # what was on its way to the provider
    assert office.calls() - settled < more

    office.provider.configure(latency_ms=50)
    assert run_ended(office, run) == "SUCCESS", failures(office)
    assert len(steps_of(cluster, run)) == 2
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


def test_a_run_whose_pod_is_drained_goes_on_in_another_and_its_step_never_stops(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    day = DAYS[17]
    invoices(office, day, AT_ONCE, name="more", total="8.00")
    office.provider.configure(latency_ms=3000)
    settled, maybe = office.calls(), maybe_billed(office)
    run = launched(office, [day])
    (first,) = workers_of(office, cluster, run, 1)
    eventually(lambda: office.calls() > settled, PATIENCE_S)
    office.provider.configure(latency_ms=50)
    drain(cluster, first)
    assert run_ended(office, run) == "SUCCESS", failures(office)
    assert len(workers_of(office, cluster, run, 2)) == 2
    assert len(steps_of(cluster, run)) == 1
    assert len([line for line in said_of_run(office, run) if WENT_ON in line]) == 1
    assert office.paid_twice() == []
    assert maybe_billed(office) == maybe
    check_books(office.state_url)


def test_a_run_that_loses_its_pod_and_that_of_its_step_at_once_goes_on_in_two_others(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    """As where both were on the node that is drained."""
    day = DAYS[18]
    invoices(office, day, 2 * AT_ONCE, name="more", total="8.00")
    office.provider.configure(latency_ms=1500)
    settled, billed, maybe = office.calls(), office.provider.stats()["billed"], maybe_billed(office)
    run = launched(office, [day])
    (first,) = workers_of(office, cluster, run, 1)
    eventually(lambda: office.calls() > settled, PATIENCE_S)
    (step,) = steps_of(cluster, run)
    drain(cluster, first, step)
    office.provider.configure(latency_ms=50)
    assert run_ended(office, run) == "SUCCESS", "\n".join(said_of_run(office, run))
    assert len(steps_of(cluster, run)) == 2
    assert ended_by_itself(step)
    assert len([line for line in said_of_run(office, run) if WENT_ON in line]) == 1
    assert office.paid_twice() == []
    assert office.provider.stats()["billed"] - billed <= office.calls() - settled + maybe_billed(office) - maybe
    assert maybe_billed(office) - maybe <= AT_ONCE
    check_books(office.state_url)


def test_a_run_whose_step_is_in_its_second_pod_goes_on_in_another_as_well(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    """Dagster replays the pause before the second try, and would take its end for that of an unknown step."""
    day = DAYS[16]
    invoices(office, day, 2 * AT_ONCE, name="twice", total="9.00")
    office.provider.configure(latency_ms=3000)
    run = launched(office, [day])
    (first,) = workers_of(office, cluster, run, 1)
    eventually(lambda: any(it.container is not None for it in steps_of(cluster, run)), PATIENCE_S)
    cluster.nodes.kill(steps_of(cluster, run)[0])
    settled = office.calls()
    eventually(lambda: len(steps_of(cluster, run)) == 2 and office.calls() > settled, PATIENCE_S)
    drain(cluster, first)
    office.provider.configure(latency_ms=50)
    assert run_ended(office, run) == "SUCCESS", "\n".join(said_of_run(office, run))
    assert len(steps_of(cluster, run)) == 2
    assert office.paid_twice() == []
    check_books(office.state_url)


def test_a_run_whose_pod_is_killed_again_and_again_fails_at_last_and_leaves_nothing(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    office.provider.configure(latency_ms=20_000)
    edited(office, DAYS[19:], "killed again and again")
    run = launched(office, DAYS[19:])
    for count in (1, 2, 3):
        worker = workers_of(office, cluster, run, count)[-1]
        eventually(lambda: bool(steps_of(cluster, run)), PATIENCE_S)
        cluster.nodes.kill(worker)
    assert run_ended(office, run) == "FAILURE"
    eventually(lambda: not office.deployment.workers(run), PATIENCE_S)
    assert all(ended_by_itself(it) for it in steps_of(cluster, run))
    assert len(workers_of(office, cluster, run, 3)) == 3
    office.provider.configure(latency_ms=50)
    check_books(office.state_url)


def test_a_run_that_went_on_in_another_pod_is_cancelled_with_all_its_pods(
    office: ClusterOffice, cluster: OwnCluster
) -> None:
    office.provider.configure(latency_ms=20_000)
    edited(office, DAYS[19:], "resumed, then cancelled")
    run = launched(office, DAYS[19:])
    (first,) = workers_of(office, cluster, run, 1)
    eventually(lambda: bool(steps_of(cluster, run)), PATIENCE_S)
    cluster.nodes.kill(first)
    workers_of(office, cluster, run, 2)
    eventually(lambda: any("Resuming execution from failure" in line for line in said_of_run(office, run)), PATIENCE_S)
    (said,) = [line for line in said_of_run(office, run) if WENT_ON in line]
    assert "The pod of this run ended (Error, exit code 137)." in said
    assert terminate(office, run) == "TerminateRunSuccess"
    eventually(lambda: not office.deployment.workers(run), PATIENCE_S)
    assert run_ended(office, run) == "CANCELED"
    assert len(steps_of(cluster, run)) == 1
    office.provider.configure(latency_ms=50)
    check_books(office.state_url)


def invoices(office: ClusterOffice, day: str, count: int, *, name: str, total: str) -> None:
    for number in range(count):
        office.project.document(f"{day}/{name}-{number}.txt", f"Invoice {day} {number}. The total is {total}.")


def drain(cluster: OwnCluster, *pods: PodRun) -> None:
    """As `kubectl drain` and preemption do it: the pods are deleted, with their grace."""
    for it in pods:
        metadata = it.pod["metadata"]
        cluster.client.delete(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}")


def workers_of(office: ClusterOffice, cluster: OwnCluster, run: str, count: int) -> list[PodRun]:
    """The pods of a run itself, once there are so many and the last one has begun."""

    def found() -> list[PodRun]:
        return [it for it in cluster.nodes.runs.values() if component(it) == "run_worker" and run_id(it) == run]

    def said() -> str:
        return office.deployment.logs() + "\n".join(said_of_run(office, run)[-30:])

    eventually(lambda: len(found()) >= count and found()[-1].container is not None, PATIENCE_S, said=said)
    return found()


def steps_of(cluster: OwnCluster, run: str) -> list[PodRun]:
    return [it for it in cluster.nodes.runs.values() if is_step(it) and run_id(it) == run]


def said_of_run(office: ClusterOffice, run: str) -> list[str]:
    """Its log, as Dagster's page of the run shows it."""
    found = rows(office.state_url, "SELECT run_id, event FROM event_logs ORDER BY id")
    return [
        str((json.loads(row.event).get("dagster_event") or {}).get("message")) for row in found if row.run_id == run
    ]


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
    eventually(lambda: not office.deployment.workers(), PATIENCE_S)
    cluster.apply(quota, namespace=NAMESPACE)
    try:
        run = launched(office, DAYS[6:7])
        said = "waits: Error creating: pods"
        eventually(lambda: any(said in line and "exceeded quota: tiny" in line for line in office.said()), PATIENCE_S)
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
        eventually(lambda: all(map(step_of, runs)), PATIENCE_S)
    except AssertionError:
        raise AssertionError(office.deployment.logs() + "\n".join(office.said()[-30:])) from None

    def counted(namespace: str) -> bool:
        (quota,) = cluster.client.get(f"/api/v1/namespaces/{namespace}/resourcequotas")["items"]
        alive = [pod for pod in cluster.pods(namespace) if pod["status"].get("phase") in {"Pending", "Running"}]
        return int(quota["status"]["used"]["pods"]) == len(alive)

    for namespace in runs:  # its own pods and no other's; one may begin between the two questions
        eventually(partial(counted, namespace), PATIENCE_S)
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
    eventually(lambda: any(is_step(run) for run in cluster.nodes.running()), PATIENCE_S)
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
    answered = requests.post(f"{office.deployment.api.url}/graphql", json=asked, timeout=300).json()
    return str(answered["data"]["terminateRun"]["__typename"])
