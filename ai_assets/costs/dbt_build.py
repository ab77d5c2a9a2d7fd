"""`dbt build` of the project in `dbt/`, in a process of its own, over the file of a new warehouse.

dbt takes seconds to start and to read the project. It does so while the file is loaded, and waits for a word to build.
This module is also what that process runs.
"""

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import ai_assets.base.child_main
from ai_assets.base.errors import UserError
from ai_assets.base.extras import need
from ai_assets.costs.marts import project
from ai_assets.storage.warehouse import Site, unwritable

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
    sql: str
    """As dbt ran it."""


@contextlib.contextmanager
def starting(site: Site) -> Iterator[Callable[[], Sequence[Step]]]:
    """A dbt that gets ready, and what lets it build. Until then it leaves the file alone; at the end it is gone."""
    need("costs", "The cost warehouse")
    process = subprocess.Popen(
        _command(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(site),
        cwd=project(),
    )
    with process:
        try:
            invocation = _invocation(process, site)
            yield lambda: _build(invocation, site)
        finally:
            process.kill()


def _command() -> list[str]:
    return [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), __name__]


def _invocation(process: "subprocess.Popen[bytes]", site: Site) -> "DbtCliInvocation":
    from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation
    from packaging.version import Version

    # Not DbtCliResource.cli: that opens the file in this process too, changes its folder, and builds at once.
    return DbtCliInvocation(
        process=process,
        manifest={},
        dagster_dbt_translator=DagsterDbtTranslator(),
        project_dir=project(),
        target_path=site.folder / "target",
        raise_on_error=False,
        cli_version=Version(version("dbt-core")),
    )


def _build(invocation: "DbtCliInvocation", site: Site) -> Sequence[Step]:
    """All models and tests; raises WarehouseWrong at the first that fails, with the figures that differ."""
    assert invocation.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        os.write(invocation.process.stdin.fileno(), b"build\n")
    successful = invocation.is_successful()
    if not (site.folder / "target" / "run_results.json").exists():
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


def environment(site: Site) -> dict[str, str]:
    """Nothing is written beside the project, nobody is told, nothing is looked up."""
    target = site.folder / "target"
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
        "DBT_LOG_LEVEL_FILE": "none",
        "DBT_PARTIAL_PARSE": "false",
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
        sql=found["compiled_code"] or "",
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


# In the process of dbt


def main() -> None:
    """Read the project, wait for the word, build."""
    gc.disable()  # what dbt reads stays: looking for garbage in it takes a fifth of the time
    from dbt.cli.main import dbtRunner

    parsed = dbtRunner().invoke(["parse"])
    gc.freeze()
    gc.enable()
    if not parsed.success or not sys.stdin.readline():
        sys.exit(1)
    built = dbtRunner(manifest=parsed.result).invoke(["build"])  # type: ignore[arg-type]
    sys.exit(0 if built.success else 1)


if __name__ == "__main__":
    main()
