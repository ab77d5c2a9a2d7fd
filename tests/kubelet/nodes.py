"""The nodes: they bind pods to themselves, run each as a container, and report what became of it."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kubelet.amounts import Amounts, added, amount, asked_by
from kubelet.api_client import ApiAway, ApiClient
from kubelet.containers import ContainerEnd, Runtime, StartedContainer
from kubelet.node_logs import NodeLogs
from kubelet.pod_setup import CannotStart, PodSetup
from kubelet.refusals import ApiRefused

Pod = dict[str, Any]
GONE = 404
SCHEDULER = "ai-assets-test"
"""`schedulerName` of pods that are meant for these nodes, in a cluster that has others."""
HEARTBEAT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class ClusterNode:
    """What one node has."""

    name: str
    capacity: Mapping[str, str] = field(default_factory=lambda: {"cpu": "4", "memory": "4Gi", "pods": "20"})
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()


@dataclass(kw_only=True)
class PodRun:
    """A pod that was bound to one of the nodes."""

    pod: Pod
    container: StartedContainer | None = None
    ended: bool = False
    end: ContainerEnd | None = None
    """Of its container; None where none was started."""
    told_to_end: bool = False
    got_sigterm: threading.Event = field(default_factory=threading.Event)
    """Set once its container has been sent SIGTERM, which may be seconds after `told_to_end`."""
    why: str | None = None
    """The reason in its status, if a node ended it: Preempting, Evicted."""


class Nodes:
    """All nodes of a cluster in this process. One thread listens, one for each pod waits for its end."""

    def __init__(
        self, api: ApiClient, runtime: Runtime, setup: PodSetup, nodes: Sequence[ClusterNode], *, alone: bool = True
    ) -> None:
        """`alone`: every pod is for these nodes, whatever scheduler it names."""
        self._alone = alone
        self.api = api
        self.runtime = runtime
        self.setup = setup
        self.nodes = {node.name: node for node in nodes}
        self.runs: dict[str, PodRun] = {}
        """By uid."""
        self.variables: dict[str, Mapping[str, str]] = {}
        """The environment that the container of each pod began with, by uid."""
        self.lost_watches = 0
        self._logs = NodeLogs(setup)
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._waiting: dict[str, Pod] = {}
        self._unscheduled: dict[str, str] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True, name="nodes")

    def start(self) -> None:
        self._logs.start()
        for node in self.nodes.values():
            self._register(node)
        self._listener.start()
        threading.Thread(target=self._heartbeat, daemon=True, name="heartbeat").start()

    def stop(self) -> None:
        """Every container ends at once, whatever the API server says."""
        self._stopped.set()
        for run in list(self.runs.values()):
            if run.container is not None and not run.ended:
                run.container.send(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(not run.ended for run in self.runs.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._logs.stop()
        for name in () if self._alone else self.nodes:
            with contextlib.suppress(ApiAway, ApiRefused):
                self.api.delete(f"/api/v1/nodes/{name}")

    def running(self, namespace: str | None = None) -> list[PodRun]:
        with self._lock:
            return [run for run in self.runs.values()
                    if run.container is not None and not run.ended
                    and namespace in {None, run.pod["metadata"]["namespace"]}]  # fmt: skip

    def kill(self, run: PodRun) -> None:
        """As the kernel or a person does it: exit code 137, and nothing is said to the pod before."""
        assert run.container is not None
        run.container.send(signal.SIGKILL)

    def preempt(self, run: PodRun) -> None:
        """For something more urgent: it is told to end, and its status says why."""
        run.why = "Preempting"
        self._end(run, float(run.pod["spec"].get("terminationGracePeriodSeconds", 30)))

    # What the API server says

    def _listen(self) -> None:
        while not self._stopped.is_set():
            try:
                listed = self.api.get("/api/v1/pods")
                self._take_over(listed["items"])
                for event, pod in self.api.watch("/api/v1/pods", listed["metadata"]["resourceVersion"]):
                    self._heard(event, pod)
                    if self._stopped.is_set():
                        return
                    self._schedule()
            except (ApiAway, ApiRefused):
                self._stopped.wait(0.2)
            except Exception:
                logging.getLogger(__name__).exception("the nodes go on after an error")
                self._stopped.wait(0.5)
            self.lost_watches += 1

    def _take_over(self, pods: Iterable[Pod]) -> None:
        there = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid in [uid for uid in self._waiting if uid not in there]:
            del self._waiting[uid]
        for uid, run in list(self.runs.items()):
            if uid not in there and not run.ended:
                self._end(run, 0)  # it was deleted while nobody listened
        for pod in there.values():
            self._heard("MODIFIED", pod)
        self._schedule()

    def _heard(self, event: str, pod: Pod) -> None:
        uid = pod["metadata"]["uid"]
        run = self.runs.get(uid)
        if event == "DELETED":
            self._waiting.pop(uid, None)
            if run is not None and not run.ended:
                self._end(run, 0)
        elif run is not None:
            if pod["metadata"].get("deletionTimestamp") and not run.ended:
                self._end(run, float(pod["metadata"].get("deletionGracePeriodSeconds", 30)))
        elif not pod["spec"].get("nodeName") and (self._alone or pod["spec"].get("schedulerName") == SCHEDULER):
            self._waiting[uid] = pod

    # Where a pod goes

    def _schedule(self) -> None:
        for pod in sorted(self._waiting.values(), key=lambda it: -it["spec"].get("priority", 0)):
            node, why = self._node_for(pod)
            if node is None:
                self._cannot_schedule(pod, why)
                continue
            uid = pod["metadata"]["uid"]
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]},
                       "target": target}  # fmt: skip
            del self._waiting[uid]
            try:
                self.api.create(f"{_path(pod)}/binding", binding)
            except ApiRefused as error:
                if error.code != GONE:
                    logging.getLogger(__name__).warning("%s: %s", pod["metadata"]["name"], error)
                continue
            pod["spec"]["nodeName"] = node
            with self._lock:
                run = self.runs[uid] = PodRun(pod=pod)
            threading.Thread(target=self._run, args=(run,), daemon=True, name=pod["metadata"]["name"]).start()

    def _node_for(self, pod: Pod) -> tuple[str | None, str]:
        asked = {**asked_by(pod["spec"]), "pods": Decimal(1)}
        best, reasons = [], list[str]()
        for node in self.nodes.values():
            free = self._free(node)
            lacking = sorted(name for name, value in asked.items() if value > free.get(name, Decimal(0)))
            if not (pod["spec"].get("nodeSelector") or {}).items() <= dict(node.labels).items():
                reasons.append("node(s) didn't match Pod's node affinity/selector")
            elif any(not _bears(pod, taint) for taint in node.taints):
                reasons.append("node(s) had untolerated taint")
            elif lacking:
                reasons += [f"Insufficient {name}" for name in lacking]
            else:
                best.append((free["cpu"], node.name))
        if best:
            return max(best)[1], ""
        said = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
        return None, f"0/{len(self.nodes)} nodes are available: {said}."

    def _free(self, node: ClusterNode) -> Amounts:
        here = [run.pod for run in self.runs.values() if not run.ended and run.pod["spec"]["nodeName"] == node.name]
        used = added([*(asked_by(pod["spec"]) for pod in here), {"pods": Decimal(len(here))}])
        return {name: amount(value) - used.get(name, Decimal(0)) for name, value in node.capacity.items()}

    def _cannot_schedule(self, pod: Pod, why: str) -> None:
        uid = pod["metadata"]["uid"]
        if self._unscheduled.get(uid) != why:
            self._unscheduled[uid] = why
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
                         "lastTransitionTime": _now()}  # fmt: skip
            self._report(pod, {"conditions": [condition]})

    # What becomes of it

    def _run(self, run: PodRun) -> None:
        began = _now()
        try:
            task = self.setup.task_of(run.pod)
            self._logs.log_files[task.namespace, task.name] = task.log
            self.variables[run.pod["metadata"]["uid"]] = task.environment
            run.container = self.runtime.start(task)
        except CannotStart as error:
            self._wait_for_better(run, error)
            return
        except Exception as error:
            logging.getLogger(__name__).exception("a pod did not start")
            self._wait_for_better(run, CannotStart("RunContainerError", str(error)))
            return
        if run.told_to_end:
            run.container.send(signal.SIGKILL)
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": began}
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": began}
        status = self._container_status(run, {"running": {"startedAt": began}}, ready=True)
        self._report(run.pod, {"phase": "Running", "conditions": [scheduled, ready], "containerStatuses": [status],
                               "podIP": "127.0.0.1", "hostIP": "127.0.0.1", "startTime": began})  # fmt: skip
        self._ended(run, run.container.wait(), began)

    def _wait_for_better(self, run: PodRun, error: CannotStart) -> None:
        """Until somebody deletes it; a real node would try again and again."""
        status = self._container_status(run, {"waiting": {"reason": error.reason, "message": error.message}})
        self._report(run.pod, {"phase": "Pending", "containerStatuses": [status]})
        while not (run.told_to_end or self._stopped.is_set()):
            time.sleep(0.1)
        run.ended = True
        self._remove(run)

    def _ended(self, run: PodRun, end: ContainerEnd, began: str) -> None:
        reason = "OOMKilled" if end.out_of_memory else "Error" if end.exit_code else "Completed"
        terminated = {"exitCode": end.exit_code, "reason": reason, "startedAt": began, "finishedAt": _now()}
        failed = end.exit_code != 0 or run.why is not None
        status: dict[str, Any] = {
            "phase": "Failed" if failed else "Succeeded",
            "containerStatuses": [self._container_status(run, {"terminated": terminated})],
        }
        if run.why is not None:
            disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                         "message": "preempted", "lastTransitionTime": _now()}  # fmt: skip
            status |= {"reason": run.why, "message": "preempted", "conditions": [disrupted]}
        run.end, run.ended = end, True
        self._report(run.pod, status)
        self._remove(run)
        self.setup.forget(run.pod)
        with contextlib.suppress(ApiAway, ApiRefused):
            self._schedule()

    def _remove(self, run: PodRun) -> None:
        """A pod that somebody deleted leaves the API server when its container has ended."""
        if run.told_to_end and run.why is None:
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": run.pod["metadata"]["uid"]}}
            self._insist(lambda: self.api.delete(_path(run.pod), options))

    def _end(self, run: PodRun, grace_s: float) -> None:
        if run.told_to_end and grace_s > 0:
            return
        run.told_to_end = True

        def end() -> None:
            if run.container is None or run.ended:
                return
            if grace_s > 0:
                run.container.send(signal.SIGTERM)
                run.got_sigterm.set()
                deadline = time.monotonic() + grace_s
                while not run.ended and time.monotonic() < deadline:
                    time.sleep(0.05)
            if not run.ended:
                run.container.send(signal.SIGKILL)

        threading.Thread(target=end, daemon=True, name=f"end-{run.pod['metadata']['name']}").start()

    def _container_status(self, run: PodRun, state: Mapping[str, Any], *, ready: bool = False) -> dict[str, Any]:
        container = run.pod["spec"]["containers"][0]
        return {"name": container["name"], "image": container["image"], "imageID": container["image"], "ready": ready,
                "restartCount": 0, "state": dict(state)}  # fmt: skip

    def _report(self, pod: Pod, status: Mapping[str, Any]) -> None:
        self._insist(lambda: self.api.patch(f"{_path(pod)}/status", {"status": dict(status)}))

    def _insist(self, ask: Callable[[], object]) -> None:
        """Until the API server is there again; an object that is gone needs nothing more."""
        while not self._stopped.is_set():
            try:
                ask()
                return
            except ApiAway:
                self._stopped.wait(0.2)
            except ApiRefused as error:
                if error.code not in {GONE, 409}:
                    logging.getLogger(__name__).warning("the API server refused a node: %s", error)
                return

    def _register(self, node: ClusterNode) -> None:
        known = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": dict(node.labels)},
                 "spec": {"taints": [dict(taint) for taint in node.taints]}}  # fmt: skip
        with contextlib.suppress(ApiRefused):
            self.api.create("/api/v1/nodes", known)
        self._say_ready(node)

    def _heartbeat(self) -> None:
        while not self._stopped.wait(HEARTBEAT_S):
            for node in self.nodes.values():
                with contextlib.suppress(ApiAway, ApiRefused):
                    self._say_ready(node)

    def _say_ready(self, node: ClusterNode) -> None:
        status = {
            "capacity": dict(node.capacity), "allocatable": dict(node.capacity),
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "test kubelet",
                            "lastHeartbeatTime": _now(), "lastTransitionTime": _now()}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._logs.port}},
        }  # fmt: skip
        self.api.patch(f"/api/v1/nodes/{node.name}/status", {"status": status})


def _path(pod: Pod) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _bears(pod: Pod, taint: Mapping[str, str]) -> bool:
    return any(
        bears.get("key", taint["key"]) == taint["key"]
        and bears.get("effect", taint["effect"]) == taint["effect"]
        and (bears.get("operator", "Equal") == "Exists" or bears.get("value", "") == taint.get("value", ""))
        for bears in pod["spec"].get("tolerations") or ()
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
