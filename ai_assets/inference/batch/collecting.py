"""Looking at batches and reading their results: what a sensor, a backfill or `run --wait` does from time to time.

Each job is looked at under its lease, by one process at a time; another one goes by. Results are read line by line, and
each settles its own row, so a collector that is killed or runs out of time goes on with the lines that are left.
"""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.base.plural import plural
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.batch_listener import BatchListener
from ai_assets.inference.batch.buffers import BY_DEADLINE, Buffers
from ai_assets.inference.batch.errors import BatchApiRefused, BatchBusy, BatchEndpointGone, ProviderSilent
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.lines import LineProblem, LineResult, read_results
from ai_assets.inference.batch.provider import STATES, BatchProvider, RemoteBatch, provider_of
from ai_assets.inference.batch.settling import Settling
from ai_assets.inference.batch.submitting import NEVER_CREATED, NEVER_LISTED, TOKEN_LIMIT, Submitting
from ai_assets.inference.ledger_clock import Clock, store_clock
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import StateStore, now, storable

HAD_ENDED = "had ended already"
GONE_AFTER_S = 48 * 3600.0
"""So long after it was submitted, a batch that the provider does not know is gone, and not late."""
UNREADABLE_FOR = datetime.timedelta(days=1)
"""So long after its end its files are read again where they are not there, hold nothing that can be read, or fewer
answers than the provider counted."""
DUE_UNREADABLE_FOR = datetime.timedelta(minutes=10)
"""The same of work with a deadline, which then goes the next way."""


@dataclass(kw_only=True)
class Collected:
    """What one look at all open batches came to."""

    looked: int = 0
    settled: int = 0
    """Lines whose result was read."""
    ended: list[BatchJob] = field(default_factory=list)
    open: list[BatchJob] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What somebody should know: a provider that cannot be reached, results of calls that nobody asked."""

    @property
    def in_words(self) -> str:
        said = [f"{plural(len(self.open), 'batch is', 'batches are')} on the way"]
        if self.ended:
            said.append(f"{len(self.ended)} ended")
        if self.settled:
            said.append(f"{plural(self.settled, 'result was', 'results were')} read")
        return "; ".join([*said, *self.notes])


class Collector:
    def __init__(
        self,
        settings: InferenceSettings,
        state: StateStore,
        *,
        step: Callable[[str], None] = lambda _name: None,
        clock: Clock = store_clock,
        listener: BatchListener | None = None,
    ) -> None:
        """`clock` says when what is due; `listener` hears of what is collected."""
        self._listener = listener
        self._settings, self._state, self._step, self._clock = settings, state, step, clock
        self._providers: dict[str, BatchProvider] = {}

    def __enter__(self) -> "Collector":
        return self

    def __exit__(self, *_exit: object) -> None:
        for provider in self._providers.values():
            provider.close()

    def collect(self, collection: str | None = None, *, within_s: float | None = None) -> Collected:
        """Every open batch once, of a collection or of all; `within_s`: after that no more is begun, and what is read
        stops between two groups."""
        found = Collected()
        until = None if within_s is None else time.monotonic() + within_s
        with self._state.read() as connection:
            unended = jobs.unended(connection, collection)
            buffers = Buffers(self._settings, jobs.unended(connection), self._clock(connection))
        for job in unended:
            if until is not None and time.monotonic() > until:
                break
            after = self._look(job, found, until, buffers)
            if after.state == "ended":
                found.ended.append(after)
        with self._state.read() as connection:
            found.open = jobs.unended(
                connection, collection
            )  # second batches of one file that were found are among them
        return found

    def cancel(self, job: BatchJob, by: str) -> str:
        """Ask the provider to stop; the look after next reads what had been done by then. In words."""
        self._require_endpoint(job)
        with self._held_job(job) as (lease, job):
            if job.state == "ended":
                return HAD_ENDED
            with lease.fenced() as connection:
                job = jobs.change(connection, job, cancelled_by=by)
                jobs.hold_waits(connection, job, by)
            if job.state != "submitted":
                return "is not created any more, or is stopped once it is known to be there"
            try:
                self._cancel(job)
            except (BatchApiRefused, ProviderSilent) as error:  # the next look asks again
                return f"was not stopped yet, and is asked to at each look ({error})"
            return "is being cancelled"

    def give_up(self, job: BatchJob, by: str) -> str:
        """Wait for it no longer, whatever the provider says: lines without a result may have been billed. In words."""
        self._require_endpoint(job)
        with self._held_job(job) as (lease, job):
            if job.state == "ended":
                return HAD_ENDED
            submitting = Submitting(
                self._state, lease, job, self._settings.endpoints[job.endpoint], self._provider(job), self._step
            )
            with lease.fenced() as connection:
                jobs.hold_waits(connection, job, by)
            self._end(submitting, Settled(), f"given up by {by}", look_up=False)
            return "is given up"

    @contextlib.contextmanager
    def _held_job(self, job: BatchJob) -> Iterator[tuple[Lease, BatchJob]]:
        with self._held(job) as lease:
            if lease is None:
                raise BatchBusy(job.job_id)
            with self._state.read() as connection:
                found = jobs.get(connection, job.job_id)
            yield lease, found

    def _require_endpoint(self, job: BatchJob) -> None:
        if job.endpoint not in self._settings.endpoints:
            raise BatchEndpointGone(job.job_id, job.endpoint)

    # One job

    def _look(self, job: BatchJob, found: Collected, until: float | None, buffers: Buffers) -> BatchJob:
        try:
            self._require_endpoint(job)
        except BatchEndpointGone as gone:
            found.notes.append(str(gone))
            return job
        with self._held(job) as lease:
            if lease is None:
                return job
            with self._state.read() as connection:
                job = jobs.get(connection, job.job_id)
            if job.state == "ended":
                return job
            found.looked += 1
            try:
                job = self._stopped_if_due(job, lease, found, buffers)
                return self._advance(job, lease, found, until)
            except (ProviderSilent, BatchApiRefused) as error:
                found.notes.append(f"batch {job.job_id}: {error}")
            except LeaseLost:
                raise
            except UserError as error:
                found.notes.append(f"batch {job.job_id}: {error}")
            with self._state.read() as connection:
                return jobs.get(connection, job.job_id)

    def _stopped_if_due(self, job: BatchJob, lease: Lease, found: Collected, buffers: Buffers) -> BatchJob:
        """Recorded before the provider is asked, so that the next look goes on after a crash."""
        try:
            with self._state.read() as connection:
                said = buffers.wants_stop(connection, job)
        except UserError as error:  # as where its price was taken out; its results are read all the same
            found.notes.append(f"batch {job.job_id}: it cannot be said when its buffer begins: {error}")
            return job
        if said is None:
            return job
        found.notes.append(f"batch {job.job_id}: {said}")
        self._step("before stop")
        with lease.fenced() as connection:
            job = jobs.change(connection, job, cancelled_by=BY_DEADLINE, message=storable(said))
        self._step("stop noted")
        return job

    def _advance(self, job: BatchJob, lease: Lease, found: Collected, until: float | None) -> BatchJob:
        endpoint = self._settings.endpoints[job.endpoint]
        submitting = Submitting(self._state, lease, job, endpoint, self._provider(job), self._step)
        match job.state:
            case "filling" if job.doubted:
                self._end(submitting, Settled(), "it was being filled when the backup was made")
            case "filling":
                submitting.give_up("the process that filled it ended before it was submitted")
            case "sealed" if job.cancelled_by and not job.doubted:
                submitting.give_up(f"cancelled by {job.cancelled_by} before it was created")
            case "sealed":
                if submitting.look_up_file():
                    if job.doubted:
                        self._adopt(submitting)
                    else:
                        submitting.create()
            case "uploaded" if job.cancelled_by:
                submitting.give_up(f"cancelled by {job.cancelled_by} before it was created")
            case "uploaded":
                if job.next_look_at is None or job.next_look_at <= now():
                    submitting.create()
            case "creating":
                self._adopt(submitting)
            case "submitted":
                self._read(submitting, found, until)
        job = submitting.job
        if job.state in ("uploaded", "creating") and job.message:
            found.notes.append(f"batch {job.job_id}: {job.message}")
        return job

    def _adopt(self, submitting: Submitting) -> None:
        """Where patience has ended the lines may be billed: a batch that never appeared may do so yet."""
        try:
            if not submitting.adopt():
                self._end(submitting, Settled(), NEVER_CREATED)
        except (BatchApiRefused, ProviderSilent) as error:
            if submitting.waits_for_list:
                raise
            self._end(submitting, Settled(), f"{NEVER_LISTED}: {error}", look_up=False)

    def _read(self, submitting: Submitting, found: Collected, until: float | None) -> None:
        job, provider = submitting.job, submitting.provider
        assert job.provider_id is not None
        try:
            remote = provider.look(job.provider_id)
        except BatchApiRefused as error:
            if not error.is_gone or jobs.plus(job.submitted_at or job.made_at, GONE_AFTER_S) > now():
                raise
            self._end(submitting, Settled(), f"the provider does not know it any more: {error}")
            return
        if not remote.is_final:
            wanted = job.cancelled_by or job.duplicate_of
            if wanted and remote.state != "cancelling":
                with contextlib.suppress(BatchApiRefused):  # it has ended meanwhile
                    self._cancel(job)
            if remote.state not in STATES:
                found.notes.append(
                    f"batch {job.job_id}: the provider calls it '{remote.state}', which is no state of a Batch API. "
                    f"Where that does not pass: ai-assets batches give-up {job.job_id}"
                )
            values = {"provider_state": remote.state, "provider_done": remote.done_of(job.lines)}
            if values != {name: getattr(job, name) for name in values}:
                with submitting.lease.fenced() as connection:
                    submitting.job = jobs.change(connection, job, **values)
            return
        self._step("final")
        if remote.state == "failed" and any(code == TOKEN_LIMIT for code, _ in remote.errors) and not job.duplicate_of:
            submitting.try_again_later(f"{TOKEN_LIMIT}: the provider's queue is full")
            return
        settled, said = Settled(settling=self._settling(submitting)), _said(remote)
        try:
            if not self._settle(submitting, settled, remote, found, until):
                return
            lost = settled.missing(remote)
        except BatchApiRefused as error:
            if not error.is_gone:
                raise
            lost = str(error)
        if lost and not _is_old(job, remote):
            raise ProviderSilent(f"its results are not whole, and are read again: {lost}")
        self._end(submitting, settled, f"{said}; its results were never whole: {lost}" if lost else said, remote)

    def _settling(self, submitting: Submitting) -> Settling:
        with self._state.read() as connection:
            return Settling(submitting.lease, connection, submitting.job, submitting.endpoint, self._listener)

    def _settle(
        self, submitting: Submitting, settled: "Settled", remote: RemoteBatch, found: Collected, until: float | None
    ) -> bool:
        """All results of both files; whether there was time for all of them."""
        assert settled.settling is not None
        files = [each for each in (remote.output_file, remote.error_file) if each is not None]
        results = (read_results(submitting.provider.content(file_id)) for file_id in dict.fromkeys(files))
        for number in settled.settling.settle(settled.sift(results)):
            found.settled += number
            self._step("settled a group")
            if until is not None and time.monotonic() > until:
                return False
        return True

    def _end(
        self,
        submitting: Submitting,
        settled: "Settled",
        said: str,
        remote: RemoteBatch | None = None,
        *,
        look_up: bool = True,
    ) -> None:
        """Of lines without a result: free where the provider says that it ran no more, else maybe billed."""
        job = submitting.job
        settling = settled.settling or self._settling(submitting)
        if look_up and job.doubted and job.duplicate_of is None:
            try:
                submitting.look_for_duplicates()
            except (BatchApiRefused, ProviderSilent) as error:
                if submitting.waits_for_list:
                    raise
                said = f"{said}; whether there is a second one of it could not be looked up: {error}"
        left = settling.unended
        if left and remote is not None and settled.ran_no_more(remote):
            settling.free(left, f"batch_{remote.state}: {said}")
        elif left:
            settling.doubt(left, f"the batch ended ({said}) without a result for this line")
        settling.keep_older_answers()
        notes = [said, *settled.notes, f"{plural(len(left), 'line has', 'lines have')} no result" if left else ""]
        with submitting.lease.fenced() as connection:
            submitting.job = jobs.change(
                connection, job, state="ended", ended_at=now(), provider_state=remote.state if remote else "gone",
                provider_done=remote.done_of(job.lines) if remote else job.provider_done,
                unknown_lines=settled.unknown, message=storable("; ".join(filter(None, notes))),
                turnaround_s=remote.turnaround_s if remote else None, cancel_s=remote.cancel_s if remote else None,
            )  # fmt: skip
        if remote is not None and remote.state == "failed" and not settled.answered:
            jobs.refused(submitting.lease, submitting.job)
        self._step("ended")
        if self._listener is not None:
            self._listener.ended(submitting.job)

    def _cancel(self, job: BatchJob) -> None:
        assert job.provider_id is not None
        self._provider(job).cancel(job.provider_id)
        self._step("stop sent")

    def _provider(self, job: BatchJob) -> BatchProvider:
        if job.endpoint not in self._providers:
            self._providers[job.endpoint] = provider_of(job.endpoint, self._settings.endpoints[job.endpoint])
        return self._providers[job.endpoint]

    @contextlib.contextmanager
    def _held(self, job: BatchJob) -> Iterator[Lease | None]:
        """None where another process is at it."""
        lease = Lease(self._state, job.lease)
        if lease.try_take() is not None:
            yield None
            return
        try:
            yield lease
        finally:
            lease.give_back()


@dataclass(kw_only=True)
class Settled:
    """What the files of a batch held."""

    settling: Settling | None = None
    answered: int = 0
    """Calls with the response of a model; of each the first counts."""
    not_run: int = 0
    unknown: int = 0
    problems: int = 0
    unreadable: int = 0
    """Files without any result, such as the page of a proxy."""
    _seen: set[str] = field(default_factory=set)

    def sift(self, files: Iterable[Iterator[LineResult | LineProblem]]) -> Iterator[LineResult]:
        """The results of calls that were asked and of which nobody knows the end yet; the others are counted.

        That a line was not run is told last, and only where no answer of it came.
        """
        assert self.settling is not None
        lines, wanted = self.settling.lines, set(self.settling.unended)
        not_run: dict[str, LineResult] = {}
        for results in files:
            problems, has_results = self.problems, False
            for result in results:
                if isinstance(result, LineProblem):
                    self.problems += 1
                    continue
                has_results = True
                if result.key not in lines or result.key in self._seen:
                    self.unknown += 1
                elif result.not_run:
                    not_run.setdefault(result.key, result)
                else:
                    self._seen.add(result.key)
                    self.answered += result.status == 200
                    if result.key in wanted:
                        yield result
            self.unreadable += self.problems > problems and not has_results
        for key, result in not_run.items():
            if key not in self._seen:
                self.not_run += 1
                if key in wanted:
                    yield result

    def missing(self, remote: RemoteBatch) -> str | None:
        """What the files should hold, and do not."""
        if self.unreadable:
            return "one of them holds nothing that is a result"
        results = len(self._seen) + self.unknown + self.problems
        if results < remote.completed:
            return f"they hold {plural(results, 'result')}, and the provider counted {remote.completed:,}"
        if not results and not self.not_run and remote.state == "completed":
            return "there are none"
        return None

    def ran_no_more(self, remote: RemoteBatch) -> bool:
        """Whether lines without a result were not run: the provider says so, and all that it counted is here."""
        if remote.state == "completed" or self.answered < remote.completed:
            return False
        return remote.is_counted or remote.state == "failed"

    @property
    def notes(self) -> Sequence[str]:
        said = []
        if self.unknown:
            said.append(
                f"{plural(self.unknown, 'result was', 'results were')} of calls that were not asked or had one already"
            )
        if self.problems:
            said.append(f"{plural(self.problems, 'line')} could not be read")
        return said


def _is_old(job: BatchJob, remote: RemoteBatch) -> bool:
    """Whether it ended so long ago that results which are not there by now will not come."""
    ended_at = remote.ended_at or datetime.datetime.fromisoformat(job.submitted_at or job.made_at)
    return datetime.datetime.now(datetime.UTC) - ended_at > (
        UNREADABLE_FOR if job.deadline is None else DUE_UNREADABLE_FOR
    )


def _said(remote: RemoteBatch) -> str:
    errors = "; ".join(": ".join(filter(None, (code, message))) for code, message in remote.errors[:3])
    return f"{remote.state} ({errors})" if errors else remote.state
