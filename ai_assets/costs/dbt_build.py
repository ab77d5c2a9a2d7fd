"""`dbt build` of the project in `dbt/`, in a process of its own, over the file of a new warehouse."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import resources.attached
from ai_assets.costs.marts import project
from resources.errors import UserError
from resources.warehouse import Site, unwritable

if TYPE_CHECKING:
    from dagster_dbt import DbtCliInvocation

MEMORY_MB = 2000
"""Of DuckDB in that process; what needs more goes to temporary files."""
MOST_THREADS = 8
"""Each needs memory of its own."""
_MOST_SHOWN = 3


class WarehouseWrong(UserError):
    """The marts contradict the ledger, or cannot be made."""

    def __init__(self, found: str, test: str | None = None, model: str = "") -> None:
        self.test, self.model = test, model
        super().__init__(f"The cost warehouse was not replaced: {found}. The one that was there is still readable.")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What became of one model or test."""

    name: str
    model: str
    """The model it is, or tests."""
    is_test: bool
    seconds: float
    passed: bool


def build(site: Site) -> Sequence[Step]:
    """All models and tests; raises WarehouseWrong at the first that fails, with the figures that differ."""
    from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation
    from packaging.version import Version

    target = site.folder / "target"
    # Not DbtCliResource.cli: that opens the file in this process too, changes its folder, and takes no variables.
    invocation = DbtCliInvocation.run(
        args=[sys.executable, resources.attached.__file__, str(os.getpid()), "dbt.cli.main", "build"],
        env=_environment(site, target),
        manifest={},
        dagster_dbt_translator=DagsterDbtTranslator(),
        project_dir=project(),
        target_path=target,
        raise_on_error=False,
        context=None,
        adapter=None,
        cli_version=Version(version("dbt-core")),
    )
    successful = invocation.is_successful()
    if not (target / "run_results.json").exists():
        raise _wrong(site, _last_words(invocation))
    results = invocation.get_artifact("run_results.json")["results"]
    nodes = invocation.get_artifact("manifest.json")["nodes"]
    if not successful:
        raise _failure(site, [found for found in results if found["status"] in ("error", "fail")], nodes)
    return [_step(found, nodes[found["unique_id"]]) for found in results]


def _last_words(invocation: "DbtCliInvocation") -> str:
    """Of a dbt that ended without results."""
    said = [line for line in str(invocation.get_error() or "").splitlines() if line.strip()]
    return said[-1].strip() if said else "dbt ended without a word"


def _environment(site: Site, target: Path) -> dict[str, str]:
    """Nothing is written beside the project, nobody is told, nothing is looked up."""
    told = {
        "AI_ASSETS_WAREHOUSE_FILE": str(site.file),
        "AI_ASSETS_WAREHOUSE_TEMP": str(site.folder / "temp"),
        "AI_ASSETS_WAREHOUSE_MEMORY": f"{MEMORY_MB}MB",
        "AI_ASSETS_WAREHOUSE_THREADS": str(min(MOST_THREADS, os.cpu_count() or 1)),
        "DBT_PROJECT_DIR": str(project()),
        "DBT_PROFILES_DIR": str(project()),
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
        "DBT_LOG_FORMAT": "json",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        "DBT_USE_COLORS": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("DBT_") and name != "PYTHONWARNINGS"
    }
    return {**inherited, **told}


def _step(found: Mapping[str, Any], node: Mapping[str, Any]) -> Step:
    is_test = node["resource_type"] == "test"
    tested = str(node.get("attached_node") or "").rpartition(".")[2]
    return Step(
        name=node["name"],
        model=tested if is_test else node["name"],
        is_test=is_test,
        seconds=found["execution_time"],
        passed=found["status"] in ("pass", "success"),
    )


def _failure(site: Site, failed: Sequence[Mapping[str, Any]], nodes: Mapping[str, Any]) -> UserError:
    """Of several, the first that broke rather than only failed says why."""
    first = min(failed, key=lambda found: found["status"] != "error", default=None)
    if first is None:
        return _wrong(site, "dbt failed and did not say where")
    step = _step(first, nodes[first["unique_id"]])
    if first["status"] == "error":
        return _wrong(site, f"{step.name}: {' '.join(str(first['message']).split())}")
    found = _rows(site, first["compiled_code"])
    return WarehouseWrong(f"the test {step.name} failed ({found})", step.name, step.model)


def _wrong(site: Site, said: str) -> UserError:
    return unwritable(site.folder.parent, said) or WarehouseWrong(said.rstrip("."))


def _rows(site: Site, query: str) -> str:
    """What the test found, such as 'day 2026-11-21, figure cost_usd, expected 1.20, found 1.10'."""
    import duckdb

    with duckdb.connect(str(site.file), read_only=True) as connection:
        found = connection.execute(query)
        columns = [column[0] for column in found.description]
        rows = found.fetchmany(_MOST_SHOWN)
    said = [", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True)) for row in rows]
    return "; ".join(said)
