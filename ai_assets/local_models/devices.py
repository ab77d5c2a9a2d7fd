"""Devices: which one is meant, and by which name all processes know it."""

import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ai_assets.inference.prices import NUSD, nusd_of
from ai_assets.inference.settings import Device, InferenceSettings
from ai_assets.local_models.batching import BatchLimits
from ai_assets.local_models.errors import DeviceUnpriced
from ai_assets.local_models.spec import AUTO, CPU, CUDA

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOOK_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A device that was chosen, and what is declared of it."""

    device: str
    """As torch calls it: `cpu`, `cuda:0`, `mps`."""
    settings: Device
    usd_per_hour_nusd: int
    slot: str | None
    """The name under which one process at a time holds it; None where several may."""
    env: tuple[tuple[str, str], ...] = ()
    """What the process of the model needs to know of it."""

    @property
    def is_gpu(self) -> bool:
        return self.device != CPU

    @property
    def limits(self) -> BatchLimits:
        """Of a batch, as declared or as is usual for such a device."""
        usual, declared = BatchLimits.of(self.device), self.settings.batch_tokens
        return usual if declared is None else replace(usual, tokens=declared)

    def cost_nusd(self, seconds: float) -> int:
        """Rounded up once."""
        return -(-round(seconds * 1e6) * self.usd_per_hour_nusd // 3_600_000_000)

    @property
    def price(self) -> str:
        """As rows of the ledger have it."""
        return f"{self.usd_per_hour_nusd / NUSD:g}/h" if self.usd_per_hour_nusd else "free"


def place(asked: str, inference: InferenceSettings, *, gpus: Sequence[str] | None = None) -> Placement:
    """Where a model runs whose declaration says `asked`. DeviceUnpriced where nobody said what that costs."""
    there = visible_gpus() if gpus is None else gpus
    device = asked
    if asked == AUTO:
        device = f"{CUDA}:0" if there else CPU
    elif asked == CUDA:
        device = f"{CUDA}:0"
    family = device.partition(":")[0]
    settings = device_settings(device, inference)
    if settings is None:
        raise DeviceUnpriced(device)
    exclusive = device != CPU if settings.exclusive is None else settings.exclusive
    number = int(device.partition(":")[2] or 0)
    unique = there[number] if family == CUDA and number < len(there) else f"{socket.gethostname()}/{device}"
    return Placement(
        device=device,
        settings=settings,
        usd_per_hour_nusd=nusd_of(settings.usd_per_hour or 0.0),
        slot=f"device/{unique}" if exclusive else None,
        # The number is that of nvidia-smi; by itself CUDA counts the fastest first.
        env=(("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),) if family == CUDA else (),
    )


def device_settings(device: str, inference: InferenceSettings) -> Device | None:
    """What is declared of it, or of its kind; a processor of which nothing is said is free."""
    declared = inference.devices.get(device) or inference.devices.get(device.partition(":")[0])
    return Device(free=True) if declared is None and device == CPU else declared


@functools.cache
def visible_gpus() -> Sequence[str]:
    """The names that the driver gives to the GPUs that this process may use, in the order of their numbers. CUDA is not
    started for that: it would take memory of a device that somebody else holds."""
    program = shutil.which("nvidia-smi")
    listed: list[str] = []
    if program is not None:
        try:
            found = subprocess.run(
                [program, "--query-gpu=uuid", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=LOOK_S, check=True,
            )  # fmt: skip
            listed = [line.strip() for line in found.stdout.splitlines() if line.strip()]
        except (OSError, subprocess.SubprocessError):
            listed = []
    if not listed:
        nodes = sorted(Path("/dev").glob("nvidia[0-9]*"))
        listed = [f"{socket.gethostname()}/{node.name}" for node in nodes]
    return _chosen(listed, os.environ.get(VISIBLE))


def _chosen(listed: Sequence[str], visible: str | None) -> Sequence[str]:
    """As CUDA reads the variable: numbers or names; what is behind one that does not exist is not seen."""
    if visible is None:
        return listed
    found = []
    for part in (part.strip() for part in visible.split(",") if part.strip()):
        if part.isdecimal() and int(part) < len(listed):
            found.append(listed[int(part)])
        elif part.startswith(("GPU-", "MIG-")) and listed:
            found.append(next((name for name in listed if name.startswith(part)), part))
        else:
            break
    return found
