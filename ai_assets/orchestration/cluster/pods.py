"""What became of the pod of a step, from what the API server says of it: why it ended, or why it does not begin."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ai_assets.base.quantities import BYTES

KILLED_FOR_MEMORY = "OOMKilled"
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})
"""Nothing that waits mends them: a person must."""
_SLOW = frozenset({"ImagePullBackOff", "ErrImagePull", "RunContainerError", "CreateContainerError"})
_AMOUNT = re.compile(r"([a-z./-]+)=([0-9.]+)([A-Za-z]*)", re.ASCII)
_EXCEEDED = re.compile(r"exceeded quota: (?P<quota>\S+), requested: (?P<asked>.+?), used: .+?, limited: (?P<most>.+)$")
_UNITS = {"m": Decimal("0.001"), **{unit: Decimal(amount) for unit, amount in BYTES.items()}}


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why a pod does not begin."""

    said: str
    hopeless: bool
    """Waiting does not help."""
    slow: bool = False
    """It seldom helps."""


def why_ended(pods: Iterable[Any]) -> str | None:
    """Of pods of a Job: what the kubelet gave as the reason, such as `OOMKilled` or `Evicted`."""
    for pod in pods:
        for ended in _terminated(pod):
            if ended.reason == KILLED_FOR_MEMORY:
                return KILLED_FOR_MEMORY
        if pod.status.reason:
            return str(pod.status.reason)
        for ended in _terminated(pod):
            if ended.exit_code:
                return f"{ended.reason or 'Error'}, exit code {ended.exit_code}"
    return None


def _terminated(pod: Any) -> Iterator[Any]:
    for container in pod.status.container_statuses or ():
        for state in (container.state, container.last_state):
            if state is not None and state.terminated is not None:
                yield state.terminated


def obstacle_of(pod: Any) -> Obstacle | None:
    """Of a pod that is there and does not run."""
    if pod.status.phase != "Pending":
        return None
    for container in pod.status.container_statuses or ():
        waits = container.state.waiting if container.state is not None else None
        if waits is not None and waits.reason in _HOPELESS | _SLOW:
            said = f"{waits.reason}: {waits.message or 'no more is said'}"
            return Obstacle(said=said, hopeless=waits.reason in _HOPELESS, slow=True)
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return Obstacle(said=f"{condition.reason}: {condition.message}", hopeless=False)
    return None


def obstacle_in(events: Iterable[Any]) -> Obstacle | None:
    """Of a Job whose pod the server does not admit; `events` from old to new."""
    said = [str(event.message) for event in events if event.reason == "FailedCreate"]
    if not said:
        return None
    found = _EXCEEDED.search(said[-1])
    if found is None:
        return Obstacle(said=said[-1], hopeless="exceeded quota" not in said[-1])
    return Obstacle(said=said[-1], hopeless=_never_fits(found["asked"], found["most"]))


def _never_fits(asked: str, most: str) -> bool:
    """More than the whole quota, however empty it is."""
    limits = dict(_amounts(most))
    return any(amount > limits[name] for name, amount in _amounts(asked) if name in limits)


def _amounts(said: str) -> Iterator[tuple[str, Decimal]]:
    for name, number, unit in _AMOUNT.findall(said):
        if unit in _UNITS:
            yield name, Decimal(number) * _UNITS[unit]
