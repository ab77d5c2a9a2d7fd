"""Whether a model could be loaded on this machine, as far as that is seen without importing torch or starting CUDA."""

import importlib.metadata
import platform
from collections.abc import Sequence

from ai_assets.base.extras import ExtraMissing, need
from ai_assets.base.plural import plural
from ai_assets.local_models.devices import visible_gpus
from ai_assets.local_models.spec import AUTO, CPU, CUDA, extra_of

OF_PROCESSORS = "+cpu"
"""In the version of a torch that was built without CUDA."""


def why_not_here(
    backend: str, device: str, *, gpus: Sequence[str] | None = None, torch: str | None = None
) -> str | None:
    """Half a sentence where a run here would end for it; None where nothing speaks against it.

    Whether torch can use a GPU that is there is only known once it tries.
    """
    try:
        need(extra_of(backend), f"the backend '{backend}'")
    except ExtraMissing as error:
        return str(error)
    there = visible_gpus() if gpus is None else gpus
    family, _, number = device.partition(":")
    if backend != "torch" or device in (AUTO, CPU):
        return None
    if family == CUDA:
        if int(number or 0) >= len(there):
            seen = plural(len(there), "GPU") if there else "no GPU"
            return f"{seen} is seen by nvidia-smi and in /dev, so there is no {device}; write device: cpu or auto"
        if OF_PROCESSORS in (version := torch or importlib.metadata.version("torch")):
            return f"torch {version} is built for processors alone, so it cannot use {device}; install one with CUDA"
    elif platform.system() != "Darwin":
        return f"there is no {device}, which only Apple's machines have; write device: cpu or auto"
    return None
