"""A large installation beside a small one: 3,650 days and 100,000 documents in 200 shards, and 20 days and 20 shards.

The small one has as many days and shards as one look at files takes, and as a page of the inbox shows here, and as many
runs as a page of runs: what is bounded is the same work in both.

One day and twenty shards are really run; the day is published, changed and run again. The state of all others is
written from theirs, row by row, and their files are laid out, as if each had been run, published, and changed since:
the chain has their records, and one release has all days. What pruning finds in Dagster's storage is measured apart,
with runs.
"""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.desk.runs_query import MOST_RUNS
from ai_assets.retention.release_files import SNAPSHOTS
from ai_assets.run.context import Work
from ai_assets.run.file_looks import AT_ONCE
from ai_assets.run.refresh import refresh
from ai_assets.run.status import collection_status, due_partitions
from ai_assets.signoff import audit, decisions, publication, release_cards, releases, requests
from ai_assets.signoff.people import SYSTEM
from ai_assets.storage import partition_facts
from ai_assets.storage.digest import digest
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores
from bench import desk_walk
from bench.measure import Figure, cpu_seconds, write_collection

if TYPE_CHECKING:
    from ai_assets.desk.context import Desk
    from ai_assets.signoff.people import Person

SMALL, SMALL_DAYS, DAYS, SHARDS = AT_ONCE, AT_ONCE, 3650, 200
PER_SHARD = int(os.environ.get("AI_ASSETS_PER_SHARD", "500"))
FIRST = {"daily": "2017-01-01", "bulk": "shard-0"}
"""Partitions that are really run."""
LIMIT = 1.5
REPEATS = 15
TABLES = ("listings", "refreshes", "datasets", "check_results", "document_history", "run_spans", "review_requests")
"""What runs of twenty partitions leave of each in the state store, besides the chain and the callers of paid calls."""


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        small.mkdir()
        names = [f"{number:05d}.txt" for number in range(SMALL * PER_SHARD)]
        write_collection(small, "bulk", f"{{by: shards, count: {SMALL}}}", names)
        write_collection(small, "daily", _days(SMALL_DAYS), ["2017-01-01/0.txt", "2017-01-01/1.txt"])
        for name in ("bulk", "daily"):
            _run(small, name)
        _publish(small)
        (small / "collections/daily/documents/2017-01-01/1.txt").write_text("A bill.\n\nIt was paid twice.\n")
        _run(small, "daily")
        shutil.copytree(small, large)
        _declare(large, f"count: {SMALL}", f"count: {SHARDS}", "bulk")
        _declare(large, _days(SMALL_DAYS), _days(DAYS), "daily")
        for project in (small, large):
            _multiply(project, "daily")
        _multiply(large, "bulk")
        _run_again(small)
        for project in (small, large):
            _lay_out(project, "daily")
            _lay_out(project, "bulk")
            _publish_all(project)
        return [*_queries(small, large), *desk_walk.measure(small, large), _load(small, large)]


def _days(number: int) -> str:
    start = date(2017, 1, 1)
    return f"{{by: day, start: {start}, end: {start + timedelta(days=number - 1)}}}"


def _declare(project: Path, before: str, after: str, name: str) -> None:
    file = project / "collections" / name / "defs.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")


def _keys(project: Path, name: str) -> list[str]:
    return load_collection(project / "collections", name).scheme.keys()


def _stores(project: Path) -> Stores:
    return Stores.at(Home(root=project / "home", project=project))


def _run(project: Path, name: str) -> None:
    collection = load_collection(project / "collections", name)
    with _stores(project) as stores, Work(collection, stores, f"run-{name}") as work:
        keys = collection.scheme.keys(sorted(work.listing.by_partition))
        assert list(refresh(work, [key for key in keys if work.listing.by_partition.get(key)]))


def _multiply(project: Path, name: str) -> None:
    """The rows of one partition that was run, again for each that was not; none of one that is not declared now."""
    given = {"c": name}
    with _stores(project) as stores, stores.state.write() as connection:
        query = sa.text("SELECT partition FROM refreshes WHERE collection = :c ORDER BY partition")
        known: Sequence[str] = connection.execute(query, given).scalars().all()
        declared = _keys(project, name)
        for table in TABLES:
            _clone(connection, table, {**given, "seed": known[0]}, [key for key in declared if key not in known])
            for gone in set(known) - set(declared):
                statement = f"DELETE FROM {table} WHERE collection = :c AND partition = :p"  # noqa: S608
                connection.execute(sa.text(statement), {**given, "p": gone})
        partition_facts.derive(connection, name, sorted({*known, *declared}))


def _run_again(small: Path) -> None:
    """As many runs of twenty days as a page shows, and as the large one has of its other days."""
    with _stores(small) as stores, stores.state.write() as connection:
        columns = ", ".join(column for column in _columns(connection, "run_spans") if column != "run_id")
        statement = (
            f"INSERT INTO run_spans (run_id, {columns}) SELECT run_id || :run, {columns} FROM run_spans "  # noqa: S608
            "WHERE collection = :c AND run_id = :seed"
        )
        again = [{"c": "daily", "seed": "run-daily", "run": f"-{place}"} for place in range(1, MOST_RUNS)]
        connection.execute(sa.text(statement), again)


def _columns(connection: sa.Connection, table: str) -> list[str]:
    return [column["name"] for column in sa.inspect(connection).get_columns(table)]


def _lay_out(project: Path, name: str) -> None:
    """The files of a partition that was run again for all others: a look finds them, and pages read them."""
    first = FIRST[name]
    with _stores(project) as stores:
        for asset in (*load_collection(project / "collections", name).asset_names, SNAPSHOTS):
            seed = stores.lake.folder(name, asset, first)
            if not seed.exists():
                continue
            for key in _keys(project, name):
                folder = stores.lake.folder(name, asset, key)
                if folder.exists():
                    continue
                shutil.copytree(seed, folder, copy_function=os.link)
                if (manifest := folder / "manifest.json").exists():
                    said = manifest.read_text(encoding="utf-8")
                    manifest.unlink()  # it is a link to the first one's
                    manifest.write_text(said.replace(first, key), encoding="utf-8")


def _publish(project: Path) -> None:
    """The first day, approved by somebody."""
    collection = load_collection(project / "collections", "daily")
    with _stores(project) as stores:
        ann = desk_walk.known(stores.state)
        rules = collection.settings.signoff
        with stores.state.read() as connection:
            waiting = decisions.waiting(connection, "daily", None, rules)
        decisions.decide(stores.state, "daily", waiting, "approve", by=ann, reason="", rules=rules)
        publication.publish(collection, stores, by="bench")


def _publish_all(project: Path) -> None:
    """A release of all days, each with the part that the first has; and the chain's records of what was asked."""
    with _stores(project) as stores, stores.state.write() as connection:
        live = releases.require_live(connection, "daily")
        (part,) = live.parts.values()
        parts = {
            request.partition: replace(part, request_id=request.request_id, digest=request.digest)
            for request in requests.find(connection, "daily", statuses=("published",))
        }
        for name in ("daily", "bulk"):
            for request in requests.find(connection, name):
                told = {"number": request.number, "summary": digest(request.summary), "launched": "unknown"}
                audit.append(connection, SYSTEM, "requested", {**requests.subject(request), **told})
        number = live.number + 1
        release = replace(
            live, number=number, parts=parts, digest=releases.release_digest(parts), created_at=now(),
        )  # fmt: skip
        card = release_cards.gathered(connection, stores.lake, release).encoded()
        release_cards.keep(connection, "daily", number, card)
        releases.publish_release(connection, release, parts, release_cards.card_digest(card))


def _clone(connection: sa.Connection, table: str, given: Mapping[str, str], keys: Sequence[str]) -> None:
    columns = _columns(connection, table)
    own = {"partition": ":p", "document_id": "document_id || :p", "request_id": "request_id || :p"}
    if table == "run_spans":
        own["run_id"] = "run_id || :run"
    picked = ", ".join(own.get(column, column) for column in columns)
    chosen = f"SELECT * FROM {table} WHERE collection = :c AND partition = :seed"  # noqa: S608
    connection.execute(sa.text(f"CREATE TEMPORARY TABLE seeds AS {chosen}"), given)  # a table may have no such index
    statement = sa.text(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} FROM seeds")  # noqa: S608
    if keys:
        runs = [f"-{place // AT_ONCE}" if place >= AT_ONCE else "" for place in range(1, len(keys) + 1)]
        connection.execute(statement, [{"p": key, "run": run} for key, run in zip(keys, runs, strict=True)])
    connection.execute(sa.text("DROP TABLE seeds"))


def _queries(small: Path, large: Path) -> list[Figure]:
    figures = []
    asked: Mapping[str, Callable[[Stores, Collection], object]] = {
        "status": lambda stores, collection: collection_status(collection, stores),
        "which partitions are due": lambda stores, collection: due_partitions(
            collection, stores, collection.scheme.keys()
        ),
        "the inbox": lambda stores, _collection: _inbox(stores),
        "the desk's page of runs": lambda stores, _collection: _runs(stores),
        "the desk's page of what is unanswered": lambda stores, _collection: _unanswered(stores),
        "a tick of publication": lambda stores, collection: _tick(stores, collection),
    }
    for name in ("daily", "bulk"):
        for what, ask in asked.items():
            mine, theirs = _milliseconds((large, small), name, ask)
            figures.append(
                Figure(name=f"{what}, {name}: large / small", value=mine / theirs, limit=LIMIT, at_most=True,
                       detail=f"{mine:.1f} and {theirs:.1f} ms")
            )  # fmt: skip
    return figures


def _milliseconds(projects: Sequence[Path], name: str, ask: Callable[[Stores, Collection], object]) -> list[float]:
    """Of processor time, asked in turns, so that what else the machine does hits all alike."""
    took: list[list[float]] = [[] for _ in projects]
    with contextlib.ExitStack() as opened:
        stores = [opened.enter_context(_stores(project)) for project in projects]
        collections = [load_collection(project / "collections", name) for project in projects]
        for turn in range(REPEATS + 1):
            for project, each, collection, times in zip(projects, stores, collections, took, strict=True):
                with contextlib.chdir(project):
                    each.home.export()
                    started = time.process_time()
                    ask(each, collection)
                    if turn:
                        times.append((time.process_time() - started) * 1000)
    return [statistics.median(times) for times in took]


def _inbox(stores: Stores) -> object:
    from ai_assets.desk.inbox import inbox

    return inbox(_desk(stores), _ann(), per_page=AT_ONCE)


def _runs(stores: Stores) -> object:
    from ai_assets.desk.runs_query import runs_rows

    return runs_rows(_desk(stores), _ann())


def _unanswered(stores: Stores) -> object:
    from ai_assets.desk.unanswered_query import unanswered_page

    return unanswered_page(_desk(stores), _ann())


def _desk(stores: Stores) -> "Desk":
    from ai_assets.desk.context import Desk
    from ai_assets.desk.settings import DeskSettings

    return Desk(stores=stores, settings=DeskSettings(), url="http://desk", dagster_url=None)


def _ann() -> "Person":
    from ai_assets.signoff.people import Person

    return Person(name="ann", roles={"*": "admin"})


def _tick(stores: Stores, collection: Collection) -> object:
    import dagster as dg

    from ai_assets.orchestration.automation import publication

    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        return publication(collection)(context)


def _load(small: Path, large: Path) -> Figure:
    took: dict[Path, list[float]] = {small: [], large: []}
    for _ in range(3):
        for project, seconds in took.items():
            code = (
                f"import os; os.chdir({str(project)!r}); import sys; sys.path.insert(0, {str(project)!r}); "
                "import definitions; definitions.defs.get_repository_def()"
            )
            seconds.append(cpu_seconds("-c", code))
    mine, theirs = (statistics.median(took[project]) for project in (large, small))
    return Figure(name="loading the code location: large / small", value=mine / theirs, limit=LIMIT, at_most=True,
                  detail=f"{mine:.2f} and {theirs:.2f} s of processor time")  # fmt: skip


if __name__ == "__main__":
    for figure in measure():
        print(*figure.row(), sep=" | ")
