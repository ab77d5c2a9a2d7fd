"""Models of this process, each in a process of its own, on devices that one process at a time holds.

A device is taken when the first texts are ready and given back when it was idle for a while, when the run is over, or
when this process dies: a slot is a lease of the state store, which counts while its holder is live. Models on one
device share the slot, and all partitions of a run share the model.
"""

import contextlib
import datetime
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import ai_assets.base.child_main
from ai_assets.base.children import start_child
from ai_assets.base.errors import LeaseBusy
from ai_assets.base.extras import need
from ai_assets.base.machine import usable_cores
from ai_assets.base.plural import plural
from ai_assets.base.windows import ALWAYS, WeeklyHours
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.records import Priority
from ai_assets.local_models import worker
from ai_assets.local_models.device_hours import refuse_closed
from ai_assets.local_models.devices import Placement
from ai_assets.local_models.errors import (
    DeviceAbsent,
    DeviceOccupied,
    ModelFailed,
    ModelProcessDied,
    ModelUnusable,
    TextDoesNotFit,
)
from ai_assets.local_models.remembered_batches import recall, remember
from ai_assets.local_models.spec import ComputedRows, ModelFailure, ModelQuestion, ModelSpec
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import StateStore

Say = Callable[[str], None]
_starter: ThreadPoolExecutor | None = None
_starter_lock = threading.Lock()
WATCH_S = 0.25


@dataclass(kw_only=True)
class _Slot:
    """A device that this process holds, and how many of its models are on it."""

    users: int = 0
    lease: Lease | None = None
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    lock: threading.Lock = field(default_factory=threading.Lock)


class LocalModels:
    """All models that one run (or resource) has loaded. Safe to share between threads."""

    def __init__(self, state: StateStore, *, memory_bytes: int | None = None, halvings: int = 0) -> None:
        self._state, self._halvings = state, halvings
        self.clock: Callable[[], datetime.datetime] = lambda: store_moment(state)
        """By which windows open and close: the state store's."""
        self._memory_bytes = memory_bytes
        self._models: dict[tuple[ModelSpec, str], _HostedModel] = {}
        self._lock = threading.Lock()
        self.slots = _Slots(state)

    def ask(
        self,
        spec: ModelSpec,
        placement: Placement,
        question: ModelQuestion,
        *,
        priority: Priority = "normal",
        hours: WeeklyHours = ALWAYS,
        say: Say = lambda _line: None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> ComputedRows:
        """What the model makes of the texts; it is loaded where it is not. `waiting` is around all of it.

        Raises DeviceClosed outside of the device's windows, or of `hours`, unless the priority is `interactive`.
        """
        require(spec)
        with self._lock:
            model = self._models.get((spec, placement.device))
            if model is None:
                model = _HostedModel(spec, placement, self._state, self.slots, self._memory_bytes, self._halvings)
                self._models[spec, placement.device] = model
        with waiting():
            return model.ask(question, say, lambda: refuse_closed(self.clock, placement, priority, hours))

    def is_loaded(self, spec: ModelSpec, device: str) -> bool:
        with self._lock:
            model = self._models.get((spec, device))
        return model is not None and model.is_loaded

    def close(self) -> None:
        with self._lock:
            models = list(self._models.values())
        for model in models:
            model.unload()


def require(spec: ModelSpec) -> None:
    """Raises ExtraMissing where a package that runs it is not installed."""
    need(spec.extra, f"the backend '{spec.backend}'")


class _Slots:
    """The devices that this process holds."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()

    def _slot(self, placement: Placement) -> _Slot | None:
        if placement.slot is None:
            return None
        with self._lock:
            return self._slots.setdefault(placement.slot, _Slot())

    def take(self, placement: Placement, say: Say) -> None:
        """Wait until the device is ours."""
        if (slot := self._slot(placement)) is None:
            return
        with slot.lock:  # another model of this process may be waiting for the same device
            if slot.users == 0:
                slot.lease = self._leased(placement, slot, say)
            slot.users += 1

    def _leased(self, placement: Placement, slot: _Slot, say: Say) -> Lease:
        assert placement.slot is not None
        wait_s = placement.settings.wait_s
        try:
            return slot.held.enter_context(hold(self._state, placement.slot, wait_s=wait_s, say=say))
        except LeaseBusy as error:
            raise DeviceOccupied(placement.device, error.holder, wait_s) from error

    def check(self, placement: Placement) -> None:
        """LeaseLost where another process has taken the device over, as after a long suspension of this one."""
        slot = self._slot(placement)
        if slot is not None and slot.lease is not None:
            slot.lease.check()

    def give_back(self, placement: Placement) -> None:
        if (slot := self._slot(placement)) is None:
            return
        with slot.lock:
            slot.users -= 1
            if slot.users == 0:
                slot.lease = None
                slot.held.close()


class _HostedModel:
    """One model on one device."""

    def __init__(
        self, spec: ModelSpec, placement: Placement, state: StateStore, slots: _Slots, memory_bytes: int | None,
        halvings: int,
    ) -> None:  # fmt: skip
        self._halvings = halvings
        self._spec, self._placement, self._state, self._slots = spec, placement, state, slots
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._process: _ModelProcess | None = None
        self._limits = placement.limits
        self._used_at = 0.0

    @property
    def is_loaded(self) -> bool:
        return self._process is not None

    def ask(self, question: ModelQuestion, say: Say, refuse_closed: Callable[[], None]) -> ComputedRows:
        with self._lock:
            try:
                refuse_closed()
                process = self._loaded(say)
                refuse_closed()  # it may have waited long for the device
                self._slots.check(self._placement)
                found = process.ask(question)
            except BaseException:
                self._unload()
                raise
            self._used_at = time.monotonic()
            if isinstance(found, ModelFailure):
                self._unload()
                raise self._error(found)
            if found.limits != self._limits:
                self._limits = found.limits
                remember(self._state, self._spec, self._placement.device, found.limits.tokens)
                say(
                    f"{self._spec.model} on {self._placement.device}: batches of "
                    f"{plural(found.limits.tokens, 'token fits', 'tokens fit')}"
                )
            return found

    def unload(self) -> None:
        with self._lock:
            self._unload()

    def _loaded(self, say: Say) -> "_ModelProcess":
        if self._process is None:
            self._slots.take(self._placement, say)
            try:
                most = self._placement.limits
                tokens = recall(self._state, self._spec, self._placement.device, most.tokens)
                self._limits = replace(most, tokens=max(1, tokens >> self._halvings))
                start = worker.ModelStart(
                    spec=self._spec, device=self._placement.device, limits=self._limits, memory_bytes=self._memory_bytes
                )
                self._process = _started(start, self._placement, self._spec)
            except BaseException:
                self._slots.give_back(self._placement)
                raise
            self._used_at = time.monotonic()
            watch = threading.Thread(target=self._watch, args=(self._process,), name="idle-model", daemon=True)
            watch.start()
        return self._process

    def _watch(self, process: "_ModelProcess") -> None:
        """Unload it once it was idle for long enough."""
        idle_s = self._placement.settings.idle_s
        while self._process is process:
            time.sleep(min(WATCH_S, max(idle_s / 4, 0.01)))
            if time.monotonic() - self._used_at < idle_s or not self._lock.acquire(blocking=False):
                continue
            try:
                if self._process is process and time.monotonic() - self._used_at >= idle_s:
                    self._unload()
            finally:
                self._lock.release()

    def _unload(self) -> None:
        """The process first, so that nobody gets a device on which something is left."""
        process, self._process = self._process, None
        if process is not None:
            process.end()
            self._slots.give_back(self._placement)

    def _error(self, found: ModelFailure) -> Exception:
        model, device = self._spec.model, self._placement.device
        match found.kind:
            case "device":
                return DeviceAbsent(device, found.said)
            case "memory":
                return TextDoesNotFit(model, device, found.said)
            case "load":
                return ModelUnusable(model, f"loading it failed: {found.said}")
            case "compute":
                return ModelFailed(model, device, found.said)


class _ModelProcess:
    """The other end of `worker.py`."""

    def __init__(self, start: worker.ModelStart, placement: Placement, spec: ModelSpec) -> None:
        self._spec, self._device = spec, placement.device
        self._ours, theirs = socket.socketpair()
        environment = {
            **dict([worker.PATIENT]),
            "OMP_NUM_THREADS": str(usable_cores()),
            **os.environ,
            **dict(placement.env),
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "HF_HUB_OFFLINE": "1",  # nothing is downloaded
            "TRANSFORMERS_OFFLINE": "1",
        }
        with theirs:
            self._process = start_child(
                [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), worker.__name__],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
            )  # fmt: skip
        self._stream = self._ours.makefile("rb")
        with contextlib.suppress(OSError):  # it has ended: the first question is told why
            worker.send(self._ours, start)

    def ask(self, question: ModelQuestion) -> ComputedRows | ModelFailure:
        try:
            worker.send(self._ours, question)
            found: ComputedRows | ModelFailure = worker.receive(self._stream)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self._process.wait()
            code = self._process.returncode
            found_out = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ModelProcessDied(self._spec.model, self._device, found_out) from error
        return found

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stream.close()
        self._ours.close()


def _started(start: worker.ModelStart, placement: Placement, spec: ModelSpec) -> _ModelProcess:
    """Started by a thread that stays: the kernel ends a child with the thread that started it."""
    global _starter
    with _starter_lock:
        if _starter is None:
            _starter = ThreadPoolExecutor(1, thread_name_prefix="model-starter")
        starter = _starter
    return starter.submit(_ModelProcess, start, placement, spec).result()


@contextlib.contextmanager
def local_models(state: StateStore) -> Iterator[LocalModels]:
    found = LocalModels(state)
    try:
        yield found
    finally:
        found.close()
