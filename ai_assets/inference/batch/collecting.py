"""Looking at batches and reading their results: what a sensor, a backfill or `run --wait` does from time to time.

Each job is looked at under its lease, by one process at a time; another one goes by. Results are read line by line, and
each settles its own row, so a collector that is killed or runs out of time goes on with the lines that are left.
"""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.base.plural import plural
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.batch_listener import BatchListener
from ai_assets.inference.batch.buffers import BY_DEADLINE, Buffers
from ai_assets.inference.batch.errors import BatchApiRefused, ProviderSilent
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.lines import LineProblem, LineResult, read_results
from ai_assets.inference.batch.provider import BatchProvider, RemoteBatch
from ai_assets.inference.batch.settling import Settling
from ai_assets.inference.batch.submitting import NEVER_CREATED, TOKEN_LIMIT, Submitting
from ai_assets.inference.ledger_clock import Clock, store_clock
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import StateStore, now, storable

GONE_AFTER_S = 48 * 3600.0
"""So long after it was submitted, a batch that the provider does not know is gone, and not late."""
UNREADABLE_FOR = datetime.timedelta(days=1)
"""So long after its end its files are read again where they hold nothing that can be read."""


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

    def cancel(self, job: BatchJob, by: str) -> None:
        """Ask the provider to stop; the look after next reads what had been done by then."""
        with self._held(job) as lease:
            if lease is None:
                return
            with lease.fenced() as connection:
                job = jobs.get(connection, job.job_id)
                if job.state == "ended":
                    return
                job = jobs.change(connection, job, cancelled_by=by)
                jobs.hold_waits(connection, job, by)
            if job.state == "submitted":
                with contextlib.suppress(ProviderSilent):  # the next look asks again
                    self._cancel(job)

    # One job

    def _look(self, job: BatchJob, found: Collected, until: float | None, buffers: Buffers) -> BatchJob:
        if job.endpoint not in self._settings.endpoints:
            found.notes.append(
                f"batch {job.job_id}: inference.yaml has no endpoint '{job.endpoint}' any more; bring it back to "
                "collect its answers"
            )
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
        return submitting.job

    def _adopt(self, submitting: Submitting) -> None:
        """Where patience has ended the lines may be billed: a batch that never appeared may do so yet."""
        if not submitting.adopt():
            self._end(submitting, Settled(), NEVER_CREATED)

    def _read(self, submitting: Submitting, found: Collected, until: float | None) -> None:
        job, provider = submitting.job, submitting.provider
        assert job.provider_id is not None
        try:
            remote = provider.look(job.provider_id)
        except BatchApiRefused as error:
            if error.status != 404 or jobs.plus(job.submitted_at or job.made_at, GONE_AFTER_S) > now():
                raise
            self._end(submitting, Settled(), f"the provider does not know it any more: {error}")
            return
        if not remote.is_final:
            wanted = job.cancelled_by or job.duplicate_of
            if wanted and remote.state != "cancelling":
                self._cancel(job)
            values = {"provider_state": remote.state, "provider_done": remote.completed + remote.failed}
            if values != {name: getattr(job, name) for name in values}:
                with submitting.lease.fenced() as connection:
                    submitting.job = jobs.change(connection, job, **values)
            return
        self._step("final")
        if remote.state == "failed" and any(code == TOKEN_LIMIT for code, _ in remote.errors) and not job.duplicate_of:
            submitting.try_again_later(f"{TOKEN_LIMIT}: the provider's queue is full")
            return
        settled = self._settle(submitting, remote, found, until)
        if settled is not None and settled.is_unreadable and not self._is_old(remote):
            raise ProviderSilent("its file of results holds no result that can be read; it is read again")
        if settled is not None:
            self._end(submitting, settled, _said(remote), remote)

    def _is_old(self, remote: RemoteBatch) -> bool:
        return remote.ended_at is None or datetime.datetime.now(datetime.UTC) - remote.ended_at > UNREADABLE_FOR

    def _settle(
        self, submitting: Submitting, remote: RemoteBatch, found: Collected, until: float | None
    ) -> "Settled | None":
        """All results of both files; None where the time was over before."""
        with self._state.read() as connection:
            settling = Settling(submitting.lease, connection, submitting.job, submitting.endpoint, self._listener)
        settled = Settled(settling=settling)
        files = [each for each in (remote.output_file, remote.error_file) if each is not None]
        for file_id in dict.fromkeys(files):
            results = read_results(submitting.provider.content(file_id))
            for number in settling.settle(settled.sift(results)):
                found.settled += number
                self._step("settled a group")
                if until is not None and time.monotonic() > until:
                    return None
        return settled

    def _end(self, submitting: Submitting, settled: "Settled", said: str, remote: RemoteBatch | None = None) -> None:
        """Of lines without a result: free where the provider says that it ran no more, else maybe billed."""
        job = submitting.job
        settling = settled.settling
        if settling is None:
            with self._state.read() as connection:
                settling = Settling(submitting.lease, connection, job, submitting.endpoint, self._listener)
        if job.doubted and job.duplicate_of is None:
            submitting.look_for_duplicates()
        left = settling.unended
        if left and remote is not None and remote.state != "completed" and settled.answered >= remote.completed:
            settling.free(left, f"batch_{remote.state}: {said}")
        elif left:
            settling.doubt(left, f"the batch ended ({said}) without a result for this line")
        settling.keep_older_answers()
        notes = [said, *settled.notes, f"{plural(len(left), 'line has', 'lines have')} no result" if left else ""]
        with submitting.lease.fenced() as connection:
            submitting.job = jobs.change(
                connection, job, state="ended", ended_at=now(), provider_state=remote.state if remote else "gone",
                provider_done=(remote.completed + remote.failed) if remote else job.provider_done,
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
        with contextlib.suppress(BatchApiRefused):  # it has ended meanwhile
            self._provider(job).cancel(job.provider_id)
        self._step("stop sent")

    def _provider(self, job: BatchJob) -> BatchProvider:
        if job.endpoint not in self._providers:
            self._providers[job.endpoint] = BatchProvider(job.endpoint, self._settings.endpoints[job.endpoint])
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
    """Results with a response; of each call the first counts."""
    unknown: int = 0
    problems: int = 0
    _seen: set[str] = field(default_factory=set)

    def sift(self, results: Iterator[LineResult | LineProblem]) -> Iterator[LineResult]:
        """The results of calls that were asked and of which nobody knows the end yet; the others are counted."""
        assert self.settling is not None
        lines, wanted = self.settling.lines, set(self.settling.unended)
        for result in results:
            if isinstance(result, LineProblem):
                self.problems += 1
            elif result.key not in lines or result.key in self._seen:
                self.unknown += 1
            else:
                self._seen.add(result.key)
                self.answered += not result.error
                if result.key in wanted:
                    yield result

    @property
    def is_unreadable(self) -> bool:
        """All that came is something else than results, such as the page of a proxy."""
        return self.problems > 0 and not self._seen and not self.unknown

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


def _said(remote: RemoteBatch) -> str:
    errors = "; ".join(f"{code}: {message}" for code, message in remote.errors[:3])
    return f"{remote.state} ({errors})" if errors else remote.state
