"""The desk while it waits: ticks over many requests, its pages, and what the processes of `ai-assets up` use meanwhile.

`python -m bench.desk PROJECT` makes the candidate of a project made here, in a process of its own.
"""

import contextlib
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from ai_assets.base.home import Home
from ai_assets.storage.digest import canonical_json, digest
from ai_assets.storage.state import StateStore, now
from bench.measure import ROOT, Figure, write_collection

OPEN, DECIDED = 10_000, 100_000
WAITING = 1_000
DOCUMENTS = 10_000
TICKS = 40
IDLE_S = 60.0
SETTLE_S = 30.0
"""After a start the daemon is still busy with itself."""
LONG_AGO = "2026-01-01T00:00:00.000+00:00"
SUMMARY = canonical_json({"added": [f"{n:04d}.txt" for n in range(20)], "changed": [], "removed": [], "gates": [],
                          "authors": [], "scores": [], "relabelled": {}, "quarantined": 0, "unchanged": 0})  # fmt: skip
FACTS = canonical_json({"documents": 20, "added": 20, "changed": 0, "removed": 0, "relabelled": 0, "quarantined": 0,
                        "low_confidence": 3, "failed_gates": 0, "cost_usd": 0.12})  # fmt: skip


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        project = Path(folder)
        write_collection(project, "bulk", "{by: day, start: 2026-10-05}", ["2026-10-05/0.txt"])
        declared = project / "collections/bulk/defs.yaml"
        declared.write_text(declared.read_text(encoding="utf-8") + "  signoff: {notify: [team]}\n", encoding="utf-8")
        with contextlib.chdir(project):
            return [*_ticks(project), *_pages(project), _idle(project)]


# Seeding


def fill(state: StateStore, waiting: int, decided: int) -> int:
    """Requests of one collection and their chain, as if they had come one by one; how long the chain is."""
    requests, records = [], []
    previous, summary = "0" * 64, digest(SUMMARY)
    at = now()
    for number in range(decided + waiting):
        opened = LONG_AGO if number < decided else at
        request, status = hashlib.sha256(b"%d" % number).hexdigest()[:16], "rejected" if number < decided else "open"
        closed = (opened, "ann", "no") if number < decided else (None, None, None)
        subject = {"collection": "bulk", "partition": f"p{number}", "request_id": request, "digest": f"{number:064x}"}
        requests.append((request, "bulk", f"p{number}", 1, f"{number:064x}", status, opened, *closed, SUMMARY, FACTS,
                         number % 100 / 100))  # fmt: skip
        told = [("ai-assets", "requested", {**subject, "number": 1, "summary": summary})]
        told += [("ann", "rejected", {**subject, "reason": "no"})] if number < decided else []
        for actor, action, about in told:
            seq = len(records) + 1
            this = digest([seq, opened, actor, action, about, previous])
            records.append((seq, opened, actor, action, canonical_json(about), previous, this, "bulk", request))
            previous = this
    with state.write() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.executemany(
            "INSERT INTO review_requests (request_id, collection, partition, number, digest, status, opened_at, "
            "closed_at, closed_by, reason, summary, facts, risk) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            requests,
        )
        raw.executemany(
            "INSERT INTO audit (seq, recorded_at, actor, action, subject, previous_hash, hash, collection, request_id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            records,
        )
    return len(records)


def _home(project: Path, name: str, waiting: int = 0, decided: int = 0) -> tuple[Home, int]:
    home = Home(root=project / name, project=project).ensure()
    return home, fill(StateStore(home.state_url), waiting, decided)


# Ticks


def _ticks(project: Path) -> list[Figure]:
    import dagster as dg

    from ai_assets.collection.loading import load_collection
    from ai_assets.orchestration.automation import deadlines, publication
    from ai_assets.signoff import checkpoints
    from ai_assets.signoff.verification import verify
    from ai_assets.storage.stores import Stores

    collection = load_collection(project / "collections", "bulk")
    homes = {"empty": _home(project, "empty"), "full": _home(project, "full", OPEN, DECIDED)}
    verify(StateStore(homes["full"][0].state_url))
    checkpoints.make(Stores.at(homes["full"][0]))  # as any chain of that length has one
    figures = []
    for name, sensor in (("publication", publication(collection)), ("deadlines", deadlines([collection]))):
        took: dict[str, list[float]] = {"empty": [], "full": []}
        with dg.DagsterInstance.ephemeral() as instance:
            for _ in range(TICKS):  # in turns, so that noise hits both
                for which, (home, seen) in homes.items():
                    home.export()
                    cursor = str(seen) if name == "deadlines" else None
                    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
                        started = time.perf_counter()
                        assert isinstance(sensor(context), dg.SkipReason)
                        took[which].append((time.perf_counter() - started) * 1000)
        full, empty = statistics.median(took["full"]), statistics.median(took["empty"])
        worst = f"at worst {max(took['full']):.0f} and {max(took['empty']):.0f} ms"
        figures.append(
            Figure(name=f"a tick of {name}, ms: {OPEN:,} open, {DECIDED:,} decided", value=full, limit=200,
                   at_most=True, detail=f"{empty:.1f} ms with an empty store; {worst}")
        )  # fmt: skip
    return figures


# Pages


def _pages(project: Path) -> list[Figure]:
    from ai_assets.desk.context import Desk
    from ai_assets.desk.document_query import document_page
    from ai_assets.desk.inbox import inbox
    from ai_assets.desk.request_query import request_view
    from ai_assets.desk.settings import DeskSettings
    from ai_assets.signoff import requests
    from ai_assets.signoff.people import Person
    from ai_assets.storage.stores import Stores

    ann = Person(name="ann", roles={"*": "admin"})
    desk = Desk(stores=Stores.at(Home(root=project / "full", project=project)), settings=DeskSettings(),
                url="http://desk", dagster_url=None)  # fmt: skip
    found = inbox(desk, ann)
    assert found.total == OPEN
    shown = _milliseconds(lambda: inbox(desk, ann))
    with tempfile.TemporaryDirectory(prefix="ai-assets-bench-") as folder:
        large = Path(folder)
        write_collection(large, "large", "{by: shards, count: 1}", [f"{n:05d}.txt" for n in range(DOCUMENTS)])
        environment = {**os.environ, "AI_ASSETS_HOME": str(large / "home")}
        subprocess.run([sys.executable, "-m", "bench.desk", str(large)], check=True, cwd=ROOT, env=environment,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        stores = Stores.at(Home(root=large / "home", project=large))
        desk = Desk(stores=stores, settings=DeskSettings(), url="http://desk", dagster_url=None)
        with stores.state.read() as connection:
            (request,) = requests.find(connection, "large")
        started = time.perf_counter()
        view = request_view(desk, ann, request.request_id)
        first = (time.perf_counter() - started) * 1000
        assert view.row.documents == DOCUMENTS
        again = _milliseconds(lambda: request_view(desk, ann, request.request_id))
        turned = _milliseconds(lambda: document_page(desk, ann, request.request_id, page=100))
    return [
        Figure(name=f"the inbox with {OPEN:,} open requests, ms", value=shown, limit=500, at_most=True,
               detail=f"beside {DECIDED:,} decided ones; 50 lines"),
        Figure(name=f"a page of the {DOCUMENTS:,} documents of a request, ms", value=turned, limit=200, at_most=True,
               detail=f"the request itself {again:.0f} ms; {first:.0f} ms the first time, when its files are read"),
    ]  # fmt: skip


def _milliseconds(ask: Callable[[], object], times: int = 15) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


def main(project: Path) -> None:
    """Bring the collection `large` up to date."""
    from ai_assets.cli.launching import Author
    from ai_assets.cli.run import bring_up_to_date
    from ai_assets.collection.loading import load_collection
    from ai_assets.documents.source_listing import observe
    from ai_assets.storage.stores import Stores

    chosen = load_collection(project / "collections", "large")
    stores = Stores.at(Home.from_environment())
    observe(chosen, stores.lake, stores.state)
    report = bring_up_to_date(chosen, stores, chosen.scheme.keys(), quiet=True, author=Author(launcher=None))
    if report.failures:
        raise SystemExit("\n".join(report.failures))


# While it waits


def _idle(project: Path) -> Figure:
    """Both at the same time, so that they have the same minute."""
    with _up(project, 0) as none, _up(project, WAITING) as many:
        time.sleep(SETTLE_S)
        before = _cpu_seconds(none), _cpu_seconds(many)
        time.sleep(IDLE_S)
        used = [
            after - earlier for after, earlier in zip((_cpu_seconds(none), _cpu_seconds(many)), before, strict=True)
        ]
    return Figure(
        name=f"processor time of `ai-assets up`: {WAITING:,} open requests / none", value=used[1] / used[0], limit=1.1,
        at_most=True, detail=f"{used[1]:.2f} and {used[0]:.2f} s in {IDLE_S:.0f} s, over all its processes",
    )  # fmt: skip


@contextlib.contextmanager
def _up(project: Path, waiting: int) -> Iterator[psutil.Process]:
    """A running `ai-assets up`, of a home with so many open requests."""
    from tests.conftest import free_port

    home, _ = _home(project, f"up-{waiting}", waiting)
    command: Sequence[str | Path] = [Path(sys.executable).parent / "ai-assets", "up", "--no-first-run", "--port",
                                     str(free_port()), "--desk-port", str(free_port())]  # fmt: skip
    environment = {**os.environ, "AI_ASSETS_HOME": str(home.root)}
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not any("is up" in line for line in process.stdout):
                raise SystemExit("ai-assets up did not start")
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _cpu_seconds(root: psutil.Process) -> float:
    """Of the process and all below it, those that ended included."""
    times = [each.cpu_times() for each in (root, *root.children(recursive=True))]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
