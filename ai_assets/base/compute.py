"""`compute:` of a stage or an embedding: the pod that it runs in, where runs are in a cluster.

Elsewhere it changes nothing. What `gpu.type` may be, and what spot machines are, `cluster:` of operations.yaml says.
"""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from ai_assets.base.due import span_seconds
from ai_assets.base.quantities import memory_bytes, millicores
from ai_assets.base.yaml_settings import Strict


def _written(value: object) -> object:
    """YAML reads `cpu: 2` as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _is_cpu(value: str) -> str:
    millicores(value)
    return value


def _is_memory(value: str) -> str:
    memory_bytes(value)
    return value


Cpu: TypeAlias = Annotated[str, BeforeValidator(_written), AfterValidator(_is_cpu)]
Memory: TypeAlias = Annotated[str, BeforeValidator(_written), AfterValidator(_is_memory)]
LabelKey: TypeAlias = Annotated[
    str, Field(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
LabelValue: TypeAlias = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]
NodeSelector: TypeAlias = dict[LabelKey, LabelValue]


class Toleration(Strict):
    """A taint of nodes that the pod bears."""

    key: LabelKey | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("'Exists' bears any value; take 'value' away, or write operator: Equal")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("'key' is missing; only operator: Exists bears every taint")
        return self

    @property
    def as_data(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.model_dump().items() if value is not None}


class GpuSettings(Strict):
    count: int = Field(default=1, ge=1, le=16)
    type: str | None = None
    """One of `cluster.gpu_types` of operations.yaml; without it any."""


class ComputeSettings(Strict):
    """What the pod of one stage asks for and gets at most: requests and limits are the same."""

    cpu: Cpu | None = None
    """Processors, such as 2 or 500m; without it what `cluster.step` says."""
    memory: Memory | None = None
    """Such as 4Gi; without it what `cluster.step` says."""
    gpu: GpuSettings | None = None
    spot: bool = False
    """On machines that may be taken away: cheaper, and the stage goes on where it was."""
    tolerations: tuple[Toleration, ...] = ()
    node_selector: NodeSelector = Field(default={})
    time_limit: str | None = None
    """For one try of the stage, such as 2h; a pod that takes longer is ended."""
    image: str | None = Field(default=None, pattern=r"^\S+$")
    """Instead of `cluster.image`; it must hold the same code."""

    @field_validator("time_limit")
    @classmethod
    def _is_span(cls, value: str | None) -> str | None:
        if value is not None and span_seconds(value) == 0:
            raise ValueError("a time limit of nothing; write such as 30m or 2h")
        return value

    @property
    def time_limit_s(self) -> int | None:
        return int(span_seconds(self.time_limit)) if self.time_limit is not None else None
