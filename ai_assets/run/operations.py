"""What may be written in `operations.yaml`: where state is, how long things are kept, and who hears of runs.

Read with `load_operations`.
"""

from pathlib import Path

from pydantic import Field, model_validator

from ai_assets.base.cluster import ClusterSettings
from ai_assets.base.environment import CONNECTIONS, FEWEST_CONNECTIONS, LOCAL, Environment
from ai_assets.base.operations_file import read_operations
from ai_assets.base.tenants import DeclaredTenants, refuse_unlike
from ai_assets.base.yaml_settings import Strict
from ai_assets.own_settings import SinkSettings


class RetentionSettings(Strict):
    enabled: bool = True
    """Whether the sensor removes anything; `ai-assets retention run` always does."""
    every_hours: float = Field(default=6, gt=0)
    rollback_releases: int = Field(default=10, ge=1)
    """Per collection: so many of the newest releases beside the live one can be rolled back to."""
    candidate_days: float = Field(default=30, ge=0)
    """Files of candidates that a newer candidate replaced before they were published."""
    runs_per_job: int = Field(default=100, ge=1)
    """Dagster's runs with their events and logs; those that hold a partition's newest event stay in any case."""
    reader_minutes: float = Field(default=15, ge=0)
    """A release that was live so recently stays: somebody may still be reading it."""
    litter_hours: float = Field(default=24, ge=0.25)
    """What killed processes left: temporary files, and data files that no manifest names."""
    copies_gb: float = Field(default=20, ge=0)
    """Of a lake in a bucket: files of it that are kept on this machine, so that they need not be fetched again."""
    notice_days: float = Field(default=90, ge=0)
    """Messages that were sent, or will not be."""
    span_days: float = Field(default=90, ge=0)
    """When the assets of a run were computed, as the desk's page of the run shows it."""
    request_days: float = Field(default=365, ge=0)
    """What was sent to models; their answers stay."""
    log_mb: float = Field(default=20, gt=0)
    """A log of `ai-assets up` that is longer is cut to its end; what went before is kept once, as `.1`."""


class OperationsSettings(Strict):
    environment: Environment = LOCAL
    """Where state is kept; `AI_ASSETS_STATE_URL` says where its PostgreSQL is."""
    cluster: ClusterSettings = ClusterSettings()
    connections: int = Field(default=CONNECTIONS, ge=FEWEST_CONNECTIONS)
    """Of one process to PostgreSQL at most; half of them are Dagster's."""
    retention: RetentionSettings = RetentionSettings()
    workers: int | None = Field(default=None, ge=1, le=64)
    """Processes that compute the partitions of one run; by default as many as there are cores, where that pays."""
    sinks: tuple[SinkSettings, ...] = ()
    """Run sinks of one's own."""
    tenants: DeclaredTenants = Field(default={})
    """Departments that share the installation, by name."""

    @model_validator(mode="after")
    def _alike(self) -> "OperationsSettings":
        refuse_unlike(self.tenants, self.cluster.tenants)
        return self


def load_operations(path: Path) -> OperationsSettings:
    """The file as a whole, checked; one that does not exist declares nothing."""
    return read_operations(path, OperationsSettings)
