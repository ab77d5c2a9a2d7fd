"""What a run and its further processes say to each other, over a socket: pickled records, each after its length."""

import pickle
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ai_assets.base.home import Home
from ai_assets.documents.parse_worker import LENGTH, receive
from ai_assets.documents.source_listing import Listing
from ai_assets.inference.batch.jobs import BatchWait
from ai_assets.inference.errors import WorkStops
from ai_assets.inference.postponed import AssetPostponed
from ai_assets.inference.records import Priority
from ai_assets.run.events import RunEvent
from ai_assets.run.window_waits import WindowWait
from ai_assets.signoff.launches import Launch

if TYPE_CHECKING:
    from ai_assets.run.one_partition import Event
    from ai_assets.telemetry.trace_context import TraceContext


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """All that decides what a process computes, so that it is what the run's own process would compute."""

    home: Home
    folder: Path
    """Of the collection."""
    versions: Mapping[str, str]
    settings_digest: str
    run_id: str
    launch: Launch
    backfill: str
    priority: Priority | None
    patient: bool
    halvings: int
    looked_at: Mapping[str, Any]
    """Attributes of `Work` that the run looked at once, such as corrections."""
    listing: Listing
    assets: Sequence[str]
    place: Mapping[str, int]
    waited: Sequence[WindowWait | BatchWait]
    heard: tuple[type[RunEvent], ...]
    """The kinds of events that a sink of the run wants."""
    lanes: int
    cores: int
    trace: "TraceContext | None"
    """The span of the run, where calls are to be told to a collector."""


@dataclass(frozen=True)
class PartitionGiven:
    """To a further process: compute this one."""

    partition: str


@dataclass(frozen=True)
class LaneIdle:
    """It could take one more partition."""


@dataclass(frozen=True)
class EventHeard:
    event: RunEvent


@dataclass(frozen=True)
class EventMade:
    event: "Event"


@dataclass(frozen=True, kw_only=True)
class PartitionEnded:
    partition: str
    error: str | None = None
    wall: type[WorkStops] | None = None
    """What the error concerns is said once, and for all partitions alike."""
    passes: bool = False
    lost: bool = False
    """Another process has taken over."""
    waits: Sequence[AssetPostponed] = ()


@dataclass(frozen=True)
class WorkerBroke:
    """A bug."""

    partition: str
    trace: str


@dataclass(frozen=True)
class WorkerUnable:
    """It takes no partition, and ends."""

    said: str


class Sender:
    """Safe to share between threads. Who has gone hears nothing, and is noticed where it is listened to."""

    def __init__(self, to: socket.socket) -> None:
        self._to, self._lock = to, threading.Lock()

    def send(self, message: object) -> bool:
        body = pickle.dumps(message)
        try:
            with self._lock:
                self._to.sendall(LENGTH.pack(len(body)) + body)
        except OSError:
            return False
        return True


def next_message(stream: BinaryIO) -> Any:
    """None when the other side has hung up, or was killed in the middle of a message."""
    try:
        body = receive(stream)
    except OSError:
        return None
    return None if body is None else pickle.loads(body)
