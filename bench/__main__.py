"""`make bench`: every ratio the project is held to, measured side by side on this machine; one table at the end.

`BENCH_ARGS="load embed"` measures only those.
"""

import importlib
import logging
import sys
from compileall import compile_dir

from rich.console import Console
from rich.table import Table

from bench.measure import ROOT

BENCHES = (
    "load", "embed", "scale", "run_memory", "backfill", "hybrid_search", "retrieval", "inference", "fairness",
    "deadline", "functions", "whole_run", "ledger", "postgres", "processes", "installation", "plan", "warehouse",
    "desk", "serve", "provenance", "evaluation", "decisions", "suites", "classifier", "classifier_adaptation",
    "telemetry", "asset_pages", "publication", "pruning",
)  # fmt: skip


def main(names: list[str]) -> int:
    console = Console()
    logging.disable(logging.INFO)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        console.print(f"error: unknown bench '{unknown[0]}'; known: {', '.join(BENCHES)}")
        return 2
    compile_dir(ROOT / "ai_assets", quiet=2)  # as it is where it was installed, whatever the environment keeps
    figures = []
    for name in names or BENCHES:
        console.print(f"measuring {name} …")
        figures += importlib.import_module(f"bench.{name}").measure()
    table = Table("measured", "figure", "limit", "holds", "detail")
    for figure in figures:
        table.add_row(*figure.row())
    console.print(table)
    return 0 if all(figure.holds for figure in figures) else 1


sys.exit(main(sys.argv[1:]))
