"""What executes the steps of a run: this process, or in a cluster a pod for each."""

import dagster as dg

from ai_assets.base.environment import CLUSTER
from ai_assets.base.home import Home


def run_executor() -> dg.ExecutorDefinition:
    """In one process steps go one after another: processes of their own would only cost their start."""
    return cluster_executor_or_none() or dg.in_process_executor


def cluster_executor_or_none() -> dg.ExecutorDefinition | None:
    """For whoever leaves the choice to Dagster elsewhere."""
    if Home.from_environment().environment != CLUSTER:
        return None
    from ai_assets.orchestration.cluster.executor import cluster_executor

    return cluster_executor
