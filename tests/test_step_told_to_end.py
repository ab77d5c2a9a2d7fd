"""A step of a run, in a process as dagster-k8s starts it, that is told to end: as a pod is that is preempted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import Project, eventually, text_of
from dagster._core.definitions.reconstruct import reconstructable
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import serialize_value
from provider import Provider
from step_job import job_of_notes

DAY = "2026-10-05"
DOCUMENTS = 30
SLOW: dict[str, Any] = {
    "endpoints": {
        "small": {
            "base_url": "rehearsal", "model": "mini", "limits": {"concurrency": 2},
            "prices": [{"from": "2026-01-01", "input": 1, "output": 2}],
        }
    },
    "routes": {"default": {"endpoints": ["small"]}},
}  # fmt: skip


def started(project: Project, opened: dg.DagsterInstance) -> "subprocess.Popen[bytes]":
    origin = reconstructable(job_of_notes).get_python_origin()
    run = opened.create_run_for_job(job_of_notes(), job_code_origin=origin, tags={"dagster/partition": DAY})
    step = ExecuteStepArgs(
        job_origin=origin, run_id=run.run_id, step_keys_to_execute=["notes__segment"], instance_ref=opened.get_ref(),
        should_verify_step=False, known_state=KnownExecutionState(),
    )  # fmt: skip
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-m", "dagster", "api", "execute_step", serialize_value(step)], cwd=project.root,
        env={**os.environ, **project.home.variables(), "PYTHONPATH": paths}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_it_asks_nothing_more_ends_and_the_next_goes_on_where_it_was(project: Project, provider: Provider) -> None:
    (project.root / "inference.yaml").write_text(json.dumps(SLOW))
    for number in range(DOCUMENTS):
        project.document(f"{DAY}/{number}.txt", text_of(number))
    collection = project.declare(stages=[{"name": "brief", "kind": "summarise", "route": "default"}])
    provider.configure(latency_ms=700)
    with project.instance() as opened:
        step = started(project, opened)
        eventually(lambda: provider.stats()["billed"] >= 2 or step.poll() is not None, 120)
        step.send_signal(signal.SIGTERM)
        asked = provider.stats()["calls"]
        assert step.wait(120) != 0
    assert provider.stats()["calls"] <= asked + 2  # what was on its way into the two places
    assert asked < DOCUMENTS
    provider.configure(latency_ms=0)
    project.refresh(collection, [DAY])
    assert provider.stats()["billed"] <= DOCUMENTS + 2  # what was in flight may be asked again, and nothing else
