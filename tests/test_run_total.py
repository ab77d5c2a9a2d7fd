"""Claims about how a run ends: its total line, what Dagster's log says, and what an interrupted one counts."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import STAGE, Project, eventually

from ai_assets.inference.run_spend import RunSpend, spend_by_asset
from ai_assets.orchestration.segment import TOTAL_TAG
from ai_assets.run.total import RunTotal


def test_a_run_ends_with_a_total_as_tag_and_event_and_dagster_misses_no_output(project: Project) -> None:
    project.documents(per_day=2)
    collection = project.declare(stages=[dict(STAGE)])
    with project.instance() as opened:
        result = project.execute(
            opened, collection, "notes",
            **{"dagster/asset_partition_range_start": "2026-10-05", "dagster/asset_partition_range_end": "2026-10-07"},
        )  # fmt: skip
        assert result.success
        said = [entry.message for entry in opened.all_logs(result.run_id)]
        run = opened.get_run_by_id(result.run_id)
    assert not [line for line in said if "did not yield" in line]
    assert run is not None
    assert run.tags[TOTAL_TAG].startswith("3 of 3 partitions done; 6 documents indexed; 0 quarantined; no calls; ")
    assert f"Total: {run.tags[TOTAL_TAG]}" in said


def test_a_total_names_what_failed_what_was_retried_and_what_may_have_been_billed() -> None:
    errors = {("rate_limited", "a"): 2, ("timeout", "b"): 1}
    spend = RunSpend(calls=9, attempts=12, reused=4, cost_nusd=12_300, maybe_nusd=1, errors=errors)
    total = RunTotal(partitions=3, candidates=2, indexed=8, quarantined=1, failed=1, spend=spend, seconds=2.04)
    assert total.in_words == (
        "2 of 3 partitions done; 8 documents indexed; 1 quarantined; 1 partition failed; $0.0000123 for 9 calls; "
        "4 answers reused; 3 retried: 2 × 429 from endpoint a, 1 × timeout from endpoint b; "
        "$0.000000001 may have been billed; 2.0 s"
    )
    assert RunSpend(calls=2, attempts=3, errors={("rate_limited", "a"): 1}).retries_in_words == (
        "1 retried: 429 from endpoint a"
    )
    assert RunSpend(calls=2, attempts=2).retries_in_words == ""


def test_the_ledger_of_a_run_without_calls_is_empty(project: Project) -> None:
    with project.stores() as stores, stores.state.read() as connection:
        assert spend_by_asset(connection, "notes", ["nonesuch"]) == {}


STAGES = """
import time
from pathlib import Path
from ai_assets import Document, stage

@stage(columns={"words": int})
def count(document: Document) -> dict:
    if "2026-10-06" in document.id:
        Path(__file__).with_name("begun").touch()
        time.sleep(8)
    return {"words": 1}
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_run_says_so_first_and_counts_only_what_ended(project: Project, how: signal.Signals) -> None:
    project.documents(per_day=2)
    folder = project.root / "collections" / "notes"
    (folder / "stages.py").write_text(STAGES)
    project.declare(stages=[{"name": "words", "kind": "function", "function": "./stages.py:count"}])
    command = [Path(sys.executable).parent / "ai-assets", "run", "notes"]
    environment = {**os.environ, "AI_ASSETS_HOME": str(project.home.root)}
    with subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        eventually((folder / "begun").exists, 120)
        running.send_signal(how)
        said, _ = running.communicate(timeout=300)
    assert running.returncode == 130, said
    lines = said[said.index("Interrupted.") :].splitlines()
    assert lines[0].startswith("Interrupted. Run it again to go on")
    assert "notes: 1 of 3 partitions run" in said
    assert "Total: 1 of 3 partitions done; 2 documents indexed" in said
    assert "failed" not in said.lower(), said
