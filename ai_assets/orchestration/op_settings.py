"""What an op says of itself: the pool of its tenant; in a cluster its pod, and how often it goes on after that."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from ai_assets.base.cluster import cluster_in
from ai_assets.base.environment import CLUSTER
from ai_assets.base.errors import said_of
from ai_assets.base.home import Home
from ai_assets.base.tenants import load_tenants
from ai_assets.collection.loading import Collection
from ai_assets.collection.steps import SegmentStep

RETRY_AFTER_S = 5.0
"""The node of a pod that was preempted is wanted by somebody else."""


@dataclass(frozen=True, kw_only=True)
class OpSettings:
    pool: str | None
    tags: Mapping[str, Any] | None = None
    retries: dg.RetryPolicy | None = None
    """Elsewhere Ctrl-C would start the step again."""


@contextmanager
def tried_once(settings: OpSettings) -> Iterator[None]:
    """The retries of an op are for pods that were ended from outside: an error of the code is raised again as one that
    allows none."""
    try:
        yield
    except dg.Failure:
        raise
    except Exception as error:
        if settings.retries is None:
            raise
        raise dg.Failure(said_of(error), allow_retries=False) from error


def op_settings(collection: Collection, step: SegmentStep) -> OpSettings:
    home = Home.from_environment()
    pool = load_tenants(home.operations).settings_of(collection.settings.tenant).pool
    if home.environment != CLUSTER:
        return OpSettings(pool=pool)
    from ai_assets.orchestration.cluster.pod_config import step_tags

    cluster = cluster_in(home.operations)
    retries = dg.RetryPolicy(max_retries=cluster.retries, delay=RETRY_AFTER_S) if cluster.retries else None
    return OpSettings(pool=pool, tags=step_tags(step, cluster), retries=retries)
