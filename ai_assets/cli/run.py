"""`ai-assets run`: the same Dagster job that the UI starts, in this process, with progress and a table at the end."""

import json
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from ai_assets.base.collector import collect_all
from ai_assets.base.plural import plural
from ai_assets.cli import asking_again, window_waiting
from ai_assets.cli.batch_waiting import answered_of, say_waits, waits_of
from ai_assets.cli.launching import Author, RunBy, author_of, said, signed_in
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    collection,
    console,
    errors,
    home,
    led,
    money,
    print_json,
    stores,
    table,
)
from ai_assets.cli.run_progress import followed
from ai_assets.cli.signing import signer
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START, consecutive
from ai_assets.documents.source_listing import known_folders, observe
from ai_assets.inference.records import PRIORITY_TAG
from ai_assets.inference.run_spend import spend_by_asset, total_of
from ai_assets.orchestration import in_process
from ai_assets.orchestration.run_tags import PATIENT, PATIENT_TAG, WORKERS_TAG, priority_of, workers_of
from ai_assets.run import file_looks
from ai_assets.run.context import Outcome
from ai_assets.run.events import DatasetMade, RunEvent
from ai_assets.run.sinks import Sink, hearing
from ai_assets.run.status import due_partitions, partition_states
from ai_assets.run.total import CANDIDATE, Counted, RunTotal
from ai_assets.signoff import releases
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.signoff.served import lost_snapshots
from ai_assets.storage.stores import Stores


@dataclass
class ReportRow:
    """One line of the closing table."""

    asset: str
    partitions: int = 0
    documents_in: int = 0
    documents_out: int = 0
    reused: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    cost_usd: float = 0.0
    calls: int = 0
    """Different questions that this run sent, of what did not end too."""
    retried: int = 0


@dataclass(frozen=True, kw_only=True)
class QuarantinedDocument:
    partition: str
    document: str
    reason: str


@dataclass
class Report:
    """What a run did, for people and as JSON."""

    collection: str
    partitions: list[str]
    due: list[str]
    """Those that were run; the others were up to date."""
    rows: dict[str, ReportRow] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False
    total: RunTotal | None = None
    counted: Counted = field(default_factory=Counted)
    lost: list[str] = field(default_factory=list)
    """Partitions whose files in the live release are gone, and are not made by a run any more."""
    unread: list[QuarantinedDocument] = field(default_factory=list)
    """Documents of the partitions that were run which could not be read."""

    def name_unread(self, places: Stores) -> None:
        columns = ["document_id", "status", "reason"]
        for partition in sorted(key for key, number in self.counted.quarantined.items() if number):
            manifest = places.lake.manifest(self.collection, "documents", partition)
            for row in places.lake.rows(manifest, columns) if manifest is not None else ():
                if row["status"] == "quarantined":
                    self.unread.append(
                        QuarantinedDocument(
                            partition=partition, document=row["document_id"], reason=row["reason"] or ""
                        )
                    )

    def count_settled(self, places: Stores) -> None:
        """What is there already, from the state store alone."""
        settled = set(self.partitions) - set(self.due)
        query = sa.text("SELECT asset, partition, stats FROM datasets WHERE collection = :c ORDER BY asset")
        with places.state.read() as connection:
            for found in connection.execute(query, {"c": self.collection}):
                if found.partition in settled:
                    stats = json.loads(found.stats)
                    row = self._row(found.asset)
                    row.partitions += 1
                    row.documents_in += stats["documents_in"]
                    row.documents_out += stats["documents_out"]
                    row.reused += stats["documents_out"]
                    row.quarantined += stats["quarantined"]

    def count_spent(self, places: Stores, failed: int) -> None:
        """What the ledger says: of what did not end, too."""
        with places.state.read() as connection:
            spent = spend_by_asset(connection, self.collection, self.run_ids)
        self.total = self.counted.total(total_of(spent), partitions=len(self.due), failed=failed, seconds=self.seconds)
        for asset, found in spent.items():
            row = self._row(asset)
            row.calls, row.retried, row.cost_usd = found.calls, found.retried, found.cost_usd

    def described(self, chosen: Collection) -> dict[str, Any]:
        """For programs."""
        found = {
            name: getattr(self, name)
            for name in ("collection", "partitions", "due", "failures", "run_ids", "seconds", "interrupted", "lost")
        }
        total = {"total": self.total.described()} if self.total is not None else {}
        unread = [asdict(each) for each in self.unread]
        return {**found, **total, "quarantined": unread, "rows": [asdict(row) for row in self.ordered_rows(chosen)]}

    def ordered_rows(self, chosen: Collection) -> list[ReportRow]:
        return [self.rows[asset] for asset in chosen.asset_names if asset in self.rows]

    def _row(self, asset: str) -> ReportRow:
        return self.rows.setdefault(asset, ReportRow(asset))

    def see(self, outcome: Outcome) -> None:
        self.counted.count(outcome)
        row = self._row(outcome.manifest.asset)
        row.partitions += 1
        row.documents_in += outcome.documents_in
        row.documents_out += outcome.documents_out
        row.reused += outcome.reused
        row.quarantined += outcome.quarantined
        row.seconds += outcome.seconds
        row.cost_usd += outcome.cost_usd


def run(
    name: CollectionName,
    partition: Annotated[str | None, typer.Option(help="One partition.")] = None,
    partitions: Annotated[str | None, typer.Option(metavar="A...B", help="All partitions from A to B.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every partition (the default).")] = False,
    ask_again: Annotated[
        bool, typer.Option("--ask-again", help="Begin the count of tries again for documents without a result.")
    ] = False,
    priority: Annotated[
        str | None, typer.Option(help="Of its calls where places are few: interactive, normal (the default) or batch.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for batches and windows, and go on.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes that compute partitions; by default as many as pay.")
    ] = None,
    by: RunBy = None,
    as_json: AsJson = False,
) -> None:
    """Bring partitions up to date, from the source to the release candidate; by default all.

    Only what is due is run: missing, stale, failed, damaged, or with documents to ask about again. A partition named by
    --partition is always run, and asks at once about all documents without a result.
    """
    chosen = collection(name)
    tags = {} if priority is None else {PRIORITY_TAG: priority}
    if workers is not None:
        tags[WORKERS_TAG] = str(workers)
    priority_of(tags)
    workers_of(tags)
    if sum(map(bool, (partition, partitions, every))) > 1:
        raise typer.BadParameter("give one of --partition, --partitions and --all")
    places = stores()
    person = signer(by) if ask_again else None
    author = author_of(places, by, chosen) if person is None else signed_in(person, chosen)
    if not as_json:
        console.print(said(author, chosen))
        console.print(f"Looking at {chosen.source_path} …")
    observe(chosen, places.lake, places.state)
    keys = _keys(chosen, known_folders(places.state, name), partition, partitions)
    if person is not None:
        asking_again.reset(chosen, places, keys, person, quiet=as_json)
    insist = bool(partition or partitions)
    with _ended_politely():
        report = bring_up_to_date(
            chosen, places, keys, quiet=as_json, insist=insist, author=author, wait=wait, tags=tags
        )
    if report.interrupted:
        errors.print(
            "Interrupted. Run it again to go on; what was done stays done, and what was answered is not paid again."
        )
    if as_json:
        waiting = {key: item.plain for key, item in asking_again.waiting_of(chosen, places, keys).items()}
        started_by = author.launcher.who if author.launcher else None
        batches = [asdict(found) for found in waits_of(places, name, keys)]
        windows = [window_waiting.plain(found) for found in window_waiting.windows_of(places, name, keys)]
        print_json({
            **report.described(chosen), "waiting": waiting, "batches": batches, "windows": windows,
            "author": started_by,
        })  # fmt: skip
    else:
        _show(chosen, report)
        waits = waits_of(places, name, keys)
        # What travels no more while something failed is what no provider took: it waits for no answer.
        say_waits([each for each in waits if each.waiting or each.held_by] if report.failures else waits, name)
        window_waiting.say_windows(places, window_waiting.windows_of(places, name, keys), can_wait=True)
        asking_again.say_waiting(name, asking_again.waiting_of(chosen, places, keys))
    if report.interrupted:
        raise typer.Exit(130)
    if report.failures:
        raise typer.Exit(1)


@contextmanager
def _ended_politely() -> Iterator[None]:
    """SIGTERM is taken as Ctrl-C: what was done is kept and said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def bring_up_to_date(
    chosen: Collection,
    places: Stores,
    keys: Sequence[str],
    *,
    quiet: bool,
    insist: bool = False,
    author: Author,
    wait: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Report:
    """Run those of the partitions that are due; the others are as they should be and only counted.

    With `insist` all are run, Dagster hears of each again, and documents without a result are asked about at once.
    """
    started = time.perf_counter()
    due = list(keys) if insist else due_partitions(chosen, places, keys)
    report = Report(chosen.name, list(keys), due)
    file_looks.went_on(places.state, chosen.name, keys)
    report.count_settled(places)
    if wait and not due:
        due = report.due = answered_of(chosen, places, keys)
    if due:
        tags = {**(tags or {}), **({} if insist else {PATIENT_TAG: PATIENT})}
        try:
            execute(chosen, places, due, report, quiet=quiet, tags=tags, author=author)
            while wait and not report.failures and (answered := answered_of(chosen, places, keys)):
                execute(chosen, places, answered, report, quiet=quiet, tags=tags, author=author)
        except KeyboardInterrupt:
            report.interrupted = True
    with places.state.read() as connection:
        live = releases.live(connection, chosen.name)
    report.lost = lost_snapshots(places, live) if live else []
    report.seconds = time.perf_counter() - started
    if due:
        report.count_spent(places, _failed(chosen, places, report))
        report.name_unread(places)
    return report


def _failed(chosen: Collection, places: Stores, report: Report) -> int:
    """Partitions of this run that failed; those that were interrupted have not."""
    if not report.failures or report.interrupted:
        return 0
    states = partition_states(chosen, places)
    return sum(states.get(key) == "failed" for key in report.due)


def _keys(chosen: Collection, folders: Sequence[str], one: str | None, span: str | None) -> list[str]:
    if one is not None:
        return chosen.scheme.select(one, one, folders)
    if span is not None:
        first, dots, last = span.partition("...")
        if not dots or not first or not last:
            raise typer.BadParameter(
                f"'{span}' is not a range such as 2026-10-05...2026-10-16", param_hint="--partitions"
            )
        return chosen.scheme.select(first, last, folders)
    return chosen.scheme.keys(folders)


def execute(
    chosen: Collection,
    places: Stores,
    keys: list[str],
    report: Report,
    *,
    quiet: bool,
    assets: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    author: Author,
) -> None:
    """Run the collection's job over these partitions: all of its assets, or only some."""
    from ai_assets.orchestration.component import collection_definitions
    from ai_assets.orchestration.instance import instance
    from ai_assets.orchestration.sources import register_folders
    from ai_assets.orchestration.specs import key_of

    with (
        instance(home()) as dagster,
        followed(report.collection, len(keys), quiet=quiet) as shown,
        hearing(_Counts(report, quiet=quiet or console.is_terminal), *shown),
    ):
        register_folders(chosen, dagster, keys)
        dynamic = chosen.settings.partitions.by == "folder"
        order = dagster.get_dynamic_partitions(chosen.scheme.dynamic_name) if dynamic else chosen.scheme.keys()
        job = collection_definitions(chosen).resolve_job_def(chosen.name)
        selected = None if assets is None else [key_of(chosen, asset) for asset in assets]
        for group in consecutive(order, keys, len(keys)):
            span = {RANGE_START: group[0], RANGE_END: group[-1]}
            run_id = str(uuid.uuid4())
            report.run_ids.append(run_id)
            ticket = author.tags(places, chosen, group, run_id=run_id)
            result = in_process.execute(job, dagster, {**span, **(tags or {}), **ticket}, selected, run_id)
            if not result.success:
                report.interrupted = in_process.was_interrupted(result)
                collect_all()  # a step that was interrupted is ended here, and not by one of its own threads
                report.failures.append(in_process.why(result))
            if report.interrupted:
                return


class _Counts(Sink):
    """For the table at the end; and a line per candidate, where there are no bars."""

    hears = (DatasetMade,)

    def __init__(self, report: Report, *, quiet: bool) -> None:
        self._report, self._quiet = report, quiet

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, DatasetMade):
            self._report.see(event.outcome)
            if not self._quiet and event.outcome.manifest.asset == CANDIDATE:
                console.print(f"{event.outcome.manifest.partition}: {_sentence(event.outcome)}")


def _sentence(outcome: Outcome) -> str:
    found = plural(outcome.documents_out, "document")
    if outcome.quarantined:
        found += f", {outcome.quarantined} quarantined"
    digest = FrozenCandidate.of(outcome.manifest).digest
    return f"{found}, candidate {digest[:12]}{' (unchanged)' if outcome.unchanged else ''}"


def _columns(rows: Sequence[ReportRow]) -> dict[str, list[str]]:
    """Of the table at the end; of quarantined documents and calls only where there are any."""
    found = {
        "asset": [row.asset for row in rows],
        "partitions": [str(row.partitions) for row in rows],
        "docs in": [str(row.documents_in) for row in rows],
        "out": [str(row.documents_out) for row in rows],
        "reused": [str(row.reused) for row in rows],
        "quarantined": [str(row.quarantined) for row in rows],
        "calls": [str(row.calls or "") for row in rows],
        "retried": [str(row.retried or "") for row in rows],
        "seconds": [f"{row.seconds:.2f}" for row in rows],
        "dollars": [money(row.cost_usd) for row in rows],
    }
    seldom = {"quarantined", "calls", "retried"}
    return {name: cells for name, cells in found.items() if name not in seldom or {*cells} - {"", "0"}}


MOST_UNREAD = 5
FIRST_LEFT_OUT = ("docs in", "partitions", "seconds")


def fitting_columns(rows: Sequence[ReportRow], width: int) -> dict[str, list[str]]:
    """A narrow terminal has fewer columns: none is cut."""
    shown = _columns(rows)
    for name in FIRST_LEFT_OUT:
        if sum(2 + max(map(len, (heading, *cells))) for heading, cells in shown.items()) <= width:
            break
        del shown[name]
    return shown


def _show(chosen: Collection, report: Report) -> None:
    if not report.due:
        console.print(f"Every partition of {report.collection} is up to date; nothing to run.")
    columns = fitting_columns(report.ordered_rows(chosen), console.width)
    ended = len(report.counted.indexed) if report.interrupted else len(report.due)
    table(
        f"{report.collection}: {ended} of {plural(len(report.partitions), 'partition')} run in {report.seconds:.1f} s",
        list(columns),
        list(zip(*columns.values(), strict=True)),
        list(columns)[1:],
    )
    if report.total is not None:
        console.print(f"Total: {report.total.in_words}")
    for each in report.unread[:MOST_UNREAD]:
        console.print(f"quarantined: {each.document}: {each.reason}")
    if len(report.unread) > MOST_UNREAD:
        console.print(f"  and {len(report.unread) - MOST_UNREAD} more (--json has all, and so has the desk)")
    for failure in [] if report.interrupted else report.failures:
        errors.print(led("failed:", "bold red", f" {failure}"))
    for partition in report.lost:
        errors.print(
            f"{partition}: the files of the live release are gone, and its documents have changed since, so they "
            "cannot be made again. Bring them back from a backup, or publish the newer candidate."
        )
    states = Counter(partition_states(chosen, stores()).values())
    if unreadable := states["unreadable"]:
        held = plural(unreadable, "partition holds", "partitions hold")
        console.print(f"{held} no document that can be read, so nothing of them is to be signed.")
    if waiting := states["awaiting sign-off"]:
        there = plural(waiting, "partition waits", "partitions wait")
        console.print(f"{there} for sign-off. Look: ai-assets signoff list {report.collection}")
