"""What kube-controller-manager does with Jobs, quotas, namespaces and owners, as far as we lean on it."""

import copy
import logging
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from kubelet.amounts import amount, written
from kubelet.kinds import BY_PLURAL, EVENTS, JOBS, NAMESPACES, PODS, QUOTAS, ResourceKind
from kubelet.quota import used_in
from kubelet.refusals import ApiRefused
from kubelet.store import Object, ObjectStore, Selection

JobEnd = tuple[str, str, str]
"""Type, reason and message of the condition that ends it."""
AGAIN_S = 1.0
"""After the server refused a pod. kube-controller-manager starts with ten seconds, and doubles them."""


class Controllers:
    """One thread, which looks again whenever something has changed."""

    def __init__(self, store: ObjectStore, admit: Callable[[ResourceKind, str, Object], Object],
                 delete: Callable[[ResourceKind, str, str, str], None]) -> None:  # fmt: skip
        self.store = store
        self.admit = admit
        self.delete = delete
        self._counted: dict[str, set[str]] = {}
        """Of a Job, by uid: its pods that failed, also those that are gone since."""
        self._not_before: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="controllers")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        seen = -1
        while not self._stopped.is_set():
            with self.store.changed:
                if self.store.version == seen:
                    self.store.changed.wait(timeout=0.3)
                seen = self.store.version
            try:
                self._look()
            except Exception:
                logging.getLogger(__name__).exception("a controller failed and goes on")

    def _look(self) -> None:
        for job in self.store.all(Selection(kind=JOBS)):
            self._job(job)
        self._remove_orphans()
        self._empty_namespaces()
        for quota in self.store.all(Selection(kind=QUOTAS)):
            self._used(quota)

    def _job(self, job: Object) -> None:
        if job["metadata"].get("deletionTimestamp") or _finished(job):
            return
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        pods = [pod for pod in self.store.all(Selection(kind=PODS, namespace=namespace)) if _owned(pod, uid)]
        failed = self._counted.setdefault(uid, set())
        failed |= {pod["metadata"]["uid"] for pod in pods if _has_failed(pod)}
        succeeded = [pod for pod in pods if pod["status"].get("phase") == "Succeeded"]
        active = [pod for pod in pods if not _has_failed(pod) and pod not in succeeded]
        ended = _ended(job, len(failed), len(succeeded))
        if ended is not None:
            for pod in active:
                self.delete(PODS, namespace, pod["metadata"]["name"], "Background")
            active = []
        elif not active and self._not_before.get(uid, 0) <= time.monotonic():
            active = self._begin_pod(job)
        self._report(job, len(active), len(failed), len(succeeded), ended)

    def _begin_pod(self, job: Object) -> list[Object]:
        metadata, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        labels = {**(template.get("metadata", {}).get("labels") or {}), "job-name": metadata["name"],
                  "controller-uid": metadata["uid"], "batch.kubernetes.io/job-name": metadata["name"]}  # fmt: skip
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"],
                 "controller": True, "blockOwnerDeletion": True}  # fmt: skip
        pod = {
            "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
            "metadata": {
                "name": f"{metadata['name'][:57]}-{secrets.token_hex(3)[:5]}", "labels": labels,
                "annotations": template.get("metadata", {}).get("annotations") or {}, "ownerReferences": [owner],
            },
        }  # fmt: skip
        try:
            return [self.admit(PODS, metadata["namespace"], pod)]
        except ApiRefused as error:
            self._not_before[metadata["uid"]] = time.monotonic() + AGAIN_S
            self.event(job, "Warning", "FailedCreate", f"Error creating: {error.message}")
            return []

    def _report(
        self, job: Object, active: int, failed: int, succeeded: int, ended: tuple[str, str, str] | None
    ) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        counts = {"active": active, "failed": failed, "succeeded": succeeded}
        status = {**{"startTime": now}, **(job.get("status") or {}), **counts}
        status = {name: value for name, value in status.items() if value != 0}
        if ended is not None:
            what, reason, message = ended
            status["conditions"] = [{"type": what, "status": "True", "reason": reason, "message": message,
                                     "lastProbeTime": now, "lastTransitionTime": now}]  # fmt: skip
            if what == "Complete":
                status["completionTime"] = now
        if status != job.get("status"):
            self._edit(JOBS, job, lambda found: found.update(status=status))

    def _edit(self, kind: ResourceKind, found: Object, edit: Callable[[Object], None]) -> None:
        try:
            self.store.change(kind, found["metadata"].get("namespace", ""), found["metadata"]["name"], edit)
        except ApiRefused:
            return  # it is gone meanwhile

    def event(self, about: Object, level: str, reason: str, message: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = about["metadata"]
        same = [
            found for found in self.store.all(Selection(kind=EVENTS, namespace=metadata["namespace"]))
            if (found["involvedObject"]["uid"], found["reason"], found["message"]) == (metadata["uid"], reason, message)
        ]  # fmt: skip
        if same:
            self._edit(EVENTS, same[0], lambda found: found.update(count=found["count"] + 1, lastTimestamp=now))
            return
        self.store.add(EVENTS, metadata["namespace"], {
            "apiVersion": "v1", "kind": "Event", "type": level, "reason": reason, "message": message, "count": 1,
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}"}, "firstTimestamp": now,
            "lastTimestamp": now, "source": {"component": "job-controller"},
            "involvedObject": {"kind": about["kind"], "apiVersion": about["apiVersion"], "name": metadata["name"],
                               "namespace": metadata["namespace"], "uid": metadata["uid"]},
        })  # fmt: skip

    def _remove_orphans(self) -> None:
        """What only has owners that are gone goes too."""
        for kind in (PODS, JOBS):
            for found in self.store.all(Selection(kind=kind)):
                owners = found["metadata"].get("ownerReferences") or []
                if owners and not found["metadata"].get("deletionTimestamp") and not any(map(self._is_there, owners)):
                    namespace = found["metadata"]["namespace"]
                    self.delete(kind, namespace, found["metadata"]["name"], "Background")

    def _is_there(self, owner: Object) -> bool:
        kind = next((kind for kind in BY_PLURAL.values() if kind.kind == owner["kind"]), None)
        return kind is None or any(found["metadata"]["uid"] == owner["uid"]
                                   for found in self.store.all(Selection(kind=kind)))  # fmt: skip

    def _empty_namespaces(self) -> None:
        for namespace in self.store.all(Selection(kind=NAMESPACES)):
            if not namespace["metadata"].get("deletionTimestamp"):
                continue
            name = namespace["metadata"]["name"]
            inside = [(kind, found) for kind in BY_PLURAL.values() if kind.namespaced
                      for found in self.store.all(Selection(kind=kind, namespace=name))]  # fmt: skip
            for kind, found in inside:
                if not found["metadata"].get("deletionTimestamp"):
                    self.delete(kind, name, found["metadata"]["name"], "Background")
            if not inside:
                self.store.remove(NAMESPACES, "", name)

    def _used(self, quota: Object) -> None:
        hard = quota["spec"].get("hard", {})
        used = used_in(self.store, quota["metadata"]["namespace"])
        status = {"hard": hard, "used": {name: written(used.get(name, amount(0))) for name in hard}}
        if status != quota.get("status"):
            self._edit(QUOTAS, quota, lambda found: found.update(status=status))


def _owned(pod: Object, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())


def _has_failed(pod: Object) -> bool:
    """A pod that is being deleted counts as failed: so Kubernetes does since 1.26."""
    phase = pod["status"].get("phase")
    return phase == "Failed" or (bool(pod["metadata"].get("deletionTimestamp")) and phase != "Succeeded")


def _finished(job: Object) -> bool:
    return bool((job.get("status") or {}).get("conditions"))


def _ended(job: Object, failed: int, succeeded: int) -> JobEnd | None:
    spec = job["spec"]
    started = (job.get("status") or {}).get("startTime")
    if failed > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if succeeded >= spec.get("completions", 1):
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    limit = spec.get("activeDeadlineSeconds")
    if limit and started:
        age = datetime.now(UTC) - datetime.strptime(started, "%Y-%m-%dT%H:%M:%S%z")
        if age.total_seconds() >= limit:
            return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    return None
