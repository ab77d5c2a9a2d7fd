"""ResourceQuota: what the pods and Jobs of a namespace may take together, refused in the server's words."""

from collections.abc import Mapping
from decimal import Decimal

from kubelet.amounts import Amounts, added, amount, asked_by, limits_of, written
from kubelet.kinds import JOBS, PODS, QUOTAS, ResourceKind
from kubelet.refusals import forbidden
from kubelet.store import Object, ObjectStore, Selection

_FINISHED = {"Succeeded", "Failed"}
_MUST_BE_SAID = {"requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "cpu", "memory"}


def check_quota(kind: ResourceKind, new: Object, at: ObjectStore, namespace: str) -> None:
    if kind not in {PODS, JOBS}:
        return
    asked = taken_by(kind, new)
    for quota in at.all(Selection(kind=QUOTAS, namespace=namespace)):
        hard = {name: amount(most) for name, most in quota["spec"].get("hard", {}).items()}
        name = quota["metadata"]["name"]
        silent = sorted(set(hard) & _MUST_BE_SAID - set(asked)) if kind == PODS else []
        if silent:
            raise forbidden(kind, new["metadata"]["name"], f"failed quota: {name}: must specify {','.join(silent)}")
        used = used_in(at, namespace)
        beyond = sorted(key for key in hard if key in asked and used.get(key, Decimal(0)) + asked[key] > hard[key])
        if beyond:
            said = (f"{word}: {_listed({key: values.get(key, Decimal(0)) for key in beyond})}"
                    for word, values in (("requested", asked), ("used", used), ("limited", hard)))  # fmt: skip
            raise forbidden(kind, new["metadata"]["name"], f"exceeded quota: {name}, {', '.join(said)}")


def used_in(at: ObjectStore, namespace: str) -> Amounts:
    pods = [pod for pod in at.all(Selection(kind=PODS, namespace=namespace))
            if pod.get("status", {}).get("phase") not in _FINISHED]  # fmt: skip
    jobs = at.all(Selection(kind=JOBS, namespace=namespace))
    return added([*(taken_by(PODS, pod) for pod in pods), *(taken_by(JOBS, job) for job in jobs)])


def taken_by(kind: ResourceKind, new: Object) -> Amounts:
    if kind == JOBS:
        return {"count/jobs.batch": Decimal(1)}
    asked, limits = asked_by(new["spec"]), limits_of(new["spec"])
    return {
        "pods": Decimal(1),
        "count/pods": Decimal(1),
        **{name: value for name, value in asked.items() if name in {"cpu", "memory"}},
        **{f"requests.{name}": value for name, value in asked.items()},
        **{f"limits.{name}": value for name, value in limits.items()},
    }


def _listed(values: Mapping[str, Decimal]) -> str:
    return ",".join(f"{name}={written(value)}" for name, value in values.items())
