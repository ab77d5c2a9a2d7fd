"""Dagster's own pages of one asset over 3,650 partitions and over 10: the questions that its web application sends.

They are read from the application that dagster-webserver brings, and asked of its schema in this process. One day is
really run; its events are written again for every other, as if each had been, and of few days often enough that both
have the hundred events that a page shows.
"""

import asyncio
import contextlib
import functools
import json
import math
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ai_assets.base.home import Home
from bench.measure import Figure, twice

FEW, MANY = 10, 3650
TURNS = 7
FIRST = date(2017, 1, 1)
ASSET = ["daily", "release_candidate"]
_KEY: Mapping[str, Any] = {"assetKey": {"path": ASSET}}
_KEYS: Mapping[str, Any] = {"assetKeys": [{"path": ASSET}]}
_NEWEST: Mapping[str, Any] = {**_KEY, "limit": 100, "eventTypeSelectors": ["MATERIALIZATION", "OBSERVATION"]}
_ONE: Mapping[str, Any] = {**_KEY, "partitionKey": str(FIRST)}
PAGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "the asset's page": {
        "AssetViewDefinitionQuery": _KEY, "AssetGraphLiveQuery": _KEYS, "AssetStaleStatusDataQuery": _KEYS,
        "AssetOverviewMetadataEventsQuery": _KEY, "AssetChecksQuery": _KEY, "PartitionHealthQuery": _KEY,
        "RecentAssetEventsQuery": _NEWEST,
    },
    "its partitions, one of them open": {
        "PartitionHealthQuery": _KEY, "AssetPartitionDetailQuery": _ONE, "AssetPartitionStaleQuery": _ONE,
    },
    "what every page asks of a code location": {"LocationWorkspaceAssetsQuery": {"name": "definitions"}},
}  # fmt: skip
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*?\b(?:query|fragment) [A-Z](?:[^"\\]|\\.)*)"')
_DEFINITION = re.compile(r"(?=\b(?:query|fragment)\s+[A-Z]\w*\s*(?:\(|\{|on\b))")


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        few, many = twice(Path(folder), FIRST, _day(FEW - 1))
        declared = many / "collections/daily/defs.yaml"
        declared.write_text(declared.read_text().replace(f"end: {_day(FEW - 1)}", f"end: {_day(MANY - 1)}"))
        for project, days in ((few, FEW), (many, MANY)):
            _write_events(project, days, times=math.ceil(_NEWEST["limit"] / days))
        return _ask_in_turns({many: MANY, few: FEW})


def _day(number: int) -> str:
    return str(FIRST + timedelta(days=number))


def _write_events(project: Path, days: int, times: int) -> None:
    """Of the index by which Dagster finds events of assets; those of runs are read by the pages of runs only.

    Each day as if it had been run so many times: the page of an asset shows its newest hundred events, and both have
    that many.
    """
    (index,) = (project / ".ai-assets").rglob("index.db")
    with contextlib.closing(sqlite3.connect(index)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(event_logs)") if row[1] != "id"]
        picked = ", ".join(f"replace({name}, :seed, :day)" if name in {"event", "partition"} else name
                           for name in columns)  # fmt: skip
        (last,) = connection.execute("SELECT max(id) FROM event_logs").fetchone()
        connection.executemany(
            f"INSERT INTO event_logs ({', '.join(columns)}) SELECT {picked} FROM event_logs "  # noqa: S608
            "WHERE id <= :last AND partition = :seed",
            [
                {"seed": str(FIRST), "day": _day(number), "last": last}
                for turn in range(times)
                for number in range(days)
                if turn or number  # the first day was really run
            ],
        )


def _ask_in_turns(projects: Mapping[Path, int]) -> list[Figure]:
    took: dict[tuple[str, str, int], list[float]] = {}
    with contextlib.ExitStack() as opened:
        contexts = {days: opened.enter_context(_web_application(project)) for project, days in projects.items()}
        for turn in range(TURNS + 1):
            for page, questions in PAGES.items():
                for name, variables in questions.items():
                    for days, context in contexts.items():
                        started = time.process_time()
                        _ask(context, name, variables)
                        spent = (time.process_time() - started) * 1000
                        if turn:
                            took.setdefault((page, name, days), []).append(spent)
    figures = []
    for page, questions in PAGES.items():
        middle = {
            (name, days): statistics.median(took[page, name, days]) for name in questions for days in projects.values()
        }
        many, few = (sum(middle[name, days] for name in questions) for days in (MANY, FEW))
        each = "; ".join(f"{name} {middle[name, MANY]:.1f} and {middle[name, FEW]:.1f}" for name in questions)
        figures.append(
            Figure(name=f"Dagster's pages, {page}: {MANY} days / {FEW}", value=many / few, limit=math.inf, at_most=True,
                   detail=f"{many:.0f} and {few:.0f} ms: {each}")
        )  # fmt: skip
    return figures


@contextlib.contextmanager
def _web_application(project: Path) -> Iterator[Any]:
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import PythonFileTarget

    with contextlib.chdir(project):
        home = Home(root=project / ".ai-assets", project=project)
        home.export()
        target = PythonFileTarget(python_file=str(project / "definitions.py"), attribute=None,
                                  working_directory=str(project), location_name="definitions")  # fmt: skip
        with (
            DagsterInstance.from_config(str(home.dagster)) as instance,
            WorkspaceProcessContext(instance, target) as context,
        ):
            yield context


def _ask(context: Any, name: str, variables: Mapping[str, Any]) -> None:
    answered = asyncio.run(
        _schema().execute_async(
            _document(name), variables=dict(variables), context=context.create_request_context()
        )
    )  # fmt: skip
    if answered.errors:
        raise RuntimeError(f"{name}: {answered.errors[0]}")


@functools.cache
def _schema() -> Any:
    from dagster_graphql.schema import create_schema

    return create_schema()


@functools.cache
def _document(name: str) -> str:
    """With all fragments that it names."""
    found, wanted = dict[str, str](), [name]
    while wanted:
        each = wanted.pop()
        if each not in found:
            found[each] = _definitions()[each]
            wanted += re.findall(r"\.\.\.\s*([A-Z]\w*)", found[each])
    return "\n".join(found.values())


@functools.cache
def _definitions() -> Mapping[str, str]:
    import dagster_webserver

    found: dict[str, str] = {}
    for file in (Path(dagster_webserver.__file__).parent / "webapp/build").rglob("*.js"):
        for literal in _LITERAL.findall(file.read_text(encoding="utf-8", errors="replace")):
            with contextlib.suppress(ValueError):  # of JavaScript, and not of JSON
                for piece in _DEFINITION.split(json.loads(f'"{literal}"')):
                    if piece.startswith(("query", "fragment")):
                        found.setdefault(re.split(r"\W+", piece)[1], piece)
    return found
