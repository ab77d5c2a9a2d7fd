"""What this package does of the rivals' work, by the contract of their runner: one Dagster asset, as the README has it.

Every call goes through the ledger and two budgets; run again after a kill, it asks for what has no answer.
"""

import json
import os
import resource
import sys
from pathlib import Path

import dagster as dg

from ai_assets import LLMResource, Request

WORK, URL = Path(os.environ["BENCH_WORK"]), os.environ["BENCH_URL"]
DOCUMENTS, CONCURRENCY = int(os.environ["BENCH_N"]), int(os.environ["BENCH_CONC"])
BACKOFF = {"attempts": 8, "base_s": 0.25, "cap_s": 8}
DECLARED = {
    "endpoints": {
        "peer": {
            "base_url": URL,
            "model": "mock-mini",
            "errors_are_free": True,
            "prices": [{"from": "2026-01-01", "input": 0.15, "output": 0.6}],
            "limits": {"concurrency": CONCURRENCY},
        }
    },
    "routes": {"default": {"endpoints": ["peer"]}},
    "retries": {"all": {"rate_limited": BACKOFF, "server_error": BACKOFF}},
    "budgets": [
        {"name": "month", "per": "month", "limit_usd": 1000},
        {"name": "each-run", "each": "run", "limit_usd": 500},
    ],
}


@dg.asset
def labels(llm: LLMResource) -> list[str]:
    from common import docs, label_of, messages  # type: ignore[import-not-found]  # the rivals' own, in their folder

    asked = (Request(messages=tuple(messages(text)), temperature=0, max_output_tokens=64) for text in docs())
    return [label_of(answer.text) for answer in llm.map(asked)]


if __name__ == "__main__":
    (WORK / "dagster").mkdir(parents=True, exist_ok=True)
    (WORK / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (WORK / "inference.yaml").write_text(json.dumps(DECLARED))
    os.environ.update(DAGSTER_HOME=str(WORK / "dagster"), AI_ASSETS_HOME=str(WORK / "home"))
    os.chdir(WORK)
    with dg.DagsterInstance.get() as instance:
        done = dg.materialize([labels], instance=instance, resources={"llm": LLMResource()})
    stored = len(done.output_for_node("labels")) if done.success else -1
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("RESULT " + json.dumps({"n_ok": stored, "self_cpu_s": round(used.ru_utime + used.ru_stime, 3)}), flush=True)
    sys.exit(0 if stored == DOCUMENTS else 3)
