"""From a file of calls to one batch at the provider, whatever is killed or lost on the way.

The rule after any doubt: read the provider's whole list from the newest back to before its file was stored, keep the
oldest batch of this job, cancel the others and book their lines as maybe billed until their final state is read.
"""

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.errors import BatchApiRefused, BatchRefused, BatchUnreachable, ProviderSilent
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.lines import digest_of, url_of
from ai_assets.inference.batch.provider import DIGEST, JOB, BatchProvider, RemoteBatch, RemoteFile
from ai_assets.inference.batch.settling import Settling
from ai_assets.inference.settings import Endpoint
from ai_assets.storage.leases import Lease
from ai_assets.storage.state import StateStore, now, storable

BEFORE_FILE_S = 300.0
"""The clocks of the provider's machines differ: a batch may seem to be made so long before its file."""
GRACE_S = 60.0
"""After `create` was sent: so long its batch may still appear in the list."""
CREATE_PATIENCE_S = 3600.0
"""After the intent: so long a batch is created again whose creation had no answer that can be read, and that never
appears in the list. A pause between two tries is as long as all of it so far, up to the longest of PAUSES_S."""
UNLISTED_PATIENCE_S = 24 * 3600.0
"""So long where the list cannot be read: a batch that is there has ended by then. Of one that was stopped, for its
deadline or by a person, as long as a batch is created again."""
PAUSES_S = (60.0, 300.0, 900.0)
"""Between two tries to create a batch while the provider's queue is full."""
TOKEN_LIMIT = "token_limit_exceeded"
FILE_REFUSED, BATCH_REFUSED, FILE_CUT = (
    "the file was refused", "the batch was refused", "the file was stored incompletely",
)  # fmt: skip
NEVER_CREATED = (
    f"{BATCH_REFUSED}: no answer to its creation could be read for an hour, and the provider's list has no such batch"
)
NEVER_LISTED = f"{BATCH_REFUSED}: no answer to its creation came, and the provider's list of batches cannot be read"
REFUSALS = (FILE_REFUSED, BATCH_REFUSED, FILE_CUT)
"""How the message of a job begins that the provider did not take."""


@dataclass
class Submitting:
    """One job under its lease, at one provider. `step` is told before and after each request, for tests of kills."""

    state: StateStore
    lease: Lease
    job: BatchJob
    endpoint: Endpoint
    provider: BatchProvider
    step: Callable[[str], None] = lambda _name: None

    def seal(self, *, lines: int, size: int, tokens: int, worst_nusd: int) -> None:
        """The intent: which calls the file holds is not changed any more."""
        with self.lease.fenced() as connection:
            keys = connection.execute(
                sa.text("SELECT call_key FROM attempts WHERE attempt_id >= :low AND attempt_id < :high"),
                self.job.bounds,
            )
            digest = digest_of(row.call_key for row in keys)
            self.job = jobs.change(
                connection, self.job, state="sealed", digest=digest, lines=lines, bytes=size, tokens=tokens,
                worst_nusd=worst_nusd, intent_at=now(),
            )  # fmt: skip

    def upload(self, path: Path) -> None:
        """The file is known by its name if the answer is lost, and costs nothing."""
        self.step("before upload")
        try:
            found = self.provider.upload(self.job.file_name, path)
        except BatchApiRefused as error:
            self.give_up(f"{FILE_REFUSED}: {error}")
            raise BatchRefused(self.job.endpoint, "take the file", str(error)) from error
        except ProviderSilent as silent:
            remote = self._found_again()
            if remote is None:
                self.give_up(f"the file could not be uploaded: {silent}")
                raise BatchUnreachable(self.job.endpoint, "take the file", str(silent)) from silent
            found = remote
        self.step("after upload")
        if found.bytes is not None and found.bytes != self.job.bytes:
            said = f"it has {plural(found.bytes, 'byte')} of the file's {self.job.bytes:,}"
            self.give_up(f"{FILE_CUT}: {said}")
            raise BatchRefused(self.job.endpoint, "store the file whole", said)
        self._note(state="uploaded", file_id=found.file_id)

    def look_up_file(self) -> bool:
        """Where the process that uploaded it has died; whether the file is there. Otherwise its lines are free."""
        found = self.provider.find_file(self.job.file_name)
        if found is None or (found.bytes is not None and found.bytes != self.job.bytes):
            self.give_up("the process that prepared it ended before its file was uploaded")
            return False
        self._note(state="uploaded", file_id=found.file_id)
        return True

    def create(self) -> None:
        """Never two requests under one note: without an answer, what became of it is looked up."""
        if not self._has_room():
            self._note(message="waits: the declared enqueued_tokens are in use", next_look_at=None)
            return
        assert self.job.file_id is not None
        assert self.endpoint.batch is not None
        url = url_of(self.endpoint.batch.prefix, self.job.kind)
        self._note(state="creating", creating_at=now(), message="")
        self.step("before create")
        try:
            made = self.provider.create(self.job.file_id, url, self._metadata)
        except BatchApiRefused as error:
            if error.passes:
                self._wait(f"the provider is busy: {error}")
            elif error.is_conflict:
                self._doubt(str(error))
            else:
                self.give_up(f"{BATCH_REFUSED}: {error}")
                raise BatchRefused(self.job.endpoint, "create the batch", str(error)) from error
        except ProviderSilent as silent:
            if silent.sent:
                self._doubt(str(silent))
            else:
                self._wait(f"the provider cannot be reached: {silent}")
        else:
            self.step("after create")
            self._submitted(made)

    def _doubt(self, said: str) -> None:
        """It is looked up at once. Where the list cannot be read now, the next look goes on."""
        self._note(doubted=1, message=f"the answer to its creation was lost: {said}")
        try:
            self.adopt()
        except (BatchApiRefused, ProviderSilent) as error:
            self._note(message=f"the answer to its creation was lost, and the list of batches cannot be read: {error}")

    @property
    def waits_for_list(self) -> bool:
        """Whether the list that cannot be read is to be tried again."""
        patience_s = CREATE_PATIENCE_S if self.job.cancelled_by else UNLISTED_PATIENCE_S
        return jobs.plus(self.job.creating_at or self.job.made_at, patience_s) > now()

    def adopt(self) -> bool:
        """What `create` made, where its answer was lost or its process died. False where that was looked for and tried
        again for so long that it is to end. Raises ProviderSilent and BatchApiRefused where the list cannot be read."""
        if not self.job.doubted:
            self._note(doubted=1)
        found = self._matching()
        if found:
            oldest, *others = found
            self._submitted(oldest)
            for other in others:
                self.book_duplicate(other)
        elif jobs.plus(self.job.creating_at or self.job.made_at, GRACE_S) <= now():
            began, moment = self.job.intent_at or self.job.made_at, now()
            if jobs.plus(began, CREATE_PATIENCE_S) <= moment:
                return False
            lasted_s = (
                datetime.datetime.fromisoformat(moment) - datetime.datetime.fromisoformat(began)
            ).total_seconds()
            self._note(
                state="uploaded",
                message="the request to create it was lost on its way; it is made again",
                next_look_at=jobs.plus(moment, min(lasted_s, PAUSES_S[-1])) if lasted_s > PAUSES_S[1] else None,
            )
        return True

    def look_for_duplicates(self) -> None:
        """Where an answer was lost once: what appeared since. Raises ProviderSilent and BatchApiRefused."""
        for other in self._matching():
            if other.batch_id != self.job.provider_id:
                self.book_duplicate(other)

    def book_duplicate(self, other: RemoteBatch) -> None:
        """Its lines may be billed a second time: each has a row that says so, before it is cancelled."""
        with self.lease.fenced() as connection:
            if _owner(connection, other) is None:
                _copied(connection, self.job, other)
        self.step("before cancel")
        try:
            self.provider.cancel(other.batch_id)
        except (BatchApiRefused, ProviderSilent):
            return  # it has ended, or the next look asks again
        self.step("after cancel")

    def try_again_later(self, said: str) -> None:
        """The provider ran nothing of it because its queue is full: the same file, in a batch to come."""
        past = [*self.job.past_ids, *([self.job.provider_id] if self.job.provider_id else [])]
        pause_s = PAUSES_S[min(len(past) - 1, len(PAUSES_S) - 1)] if past else PAUSES_S[0]
        self._note(
            state="uploaded", provider_id=None, provider_state="", past_ids=past, message=f"waits: {said}",
            next_look_at=jobs.plus(now(), pause_s),
        )  # fmt: skip

    def _has_room(self) -> bool:
        limit = self.endpoint.batch.enqueued_tokens if self.endpoint.batch is not None else None
        if limit is None:
            return True
        with self.state.read() as connection:
            taken = jobs.enqueued_tokens(connection, self.job.endpoint)
        return taken == 0 or taken + self.job.tokens <= limit

    @property
    def _metadata(self) -> dict[str, str]:
        return {DIGEST: self.job.digest, JOB: self.job.job_id}

    def _matching(self) -> list[RemoteBatch]:
        """Its batches that no other job has: those that say so, and the ones of its file that say nothing of any."""
        found = [each for each in self.provider.batches(self._stored_at()) if self._is_of_job(each)]
        with self.state.read() as connection:
            return [
                each
                for each in found
                if each.batch_id not in self.job.past_ids and _owner(connection, each) in (None, self.job.job_id)
            ]

    def _is_of_job(self, batch: RemoteBatch) -> bool:
        if JOB in batch.metadata:
            return all(batch.metadata.get(name) == value for name, value in self._metadata.items())
        return bool(batch.file_id) and batch.file_id == self.job.file_id

    def _stored_at(self) -> datetime.datetime | None:
        """By the provider's clock, which may be another one, a while before its file was there; None: not known."""
        if self.job.file_id is None:
            return None
        try:
            stored = self.provider.file(self.job.file_id).created_at
        except (BatchApiRefused, ProviderSilent):  # a server without this request: then its whole list is read
            return None
        return stored - datetime.timedelta(seconds=BEFORE_FILE_S) if stored is not None else None

    def _found_again(self) -> RemoteFile | None:
        try:
            return self.provider.find_file(self.job.file_name)
        except (BatchApiRefused, ProviderSilent):
            return None

    def _submitted(self, made: RemoteBatch) -> None:
        expires = made.expires_at.isoformat(timespec="milliseconds") if made.expires_at else None
        self._note(
            state="submitted", provider_id=made.batch_id, provider_state=made.state, submitted_at=now(),
            expires_at=expires, next_look_at=None,
        )  # fmt: skip

    def _wait(self, said: str) -> None:
        self._note(state="uploaded", message=f"waits: {said}", next_look_at=jobs.plus(now(), PAUSES_S[0]))

    def give_up(self, said: str) -> None:
        """Nothing of it was run: all of its lines are free."""
        with self.state.read() as connection:
            settling = Settling(self.lease, connection, self.job, self.endpoint)
        settling.free(settling.unended, said)
        settling.keep_older_answers()
        self._note(state="ended", ended_at=now(), message=said)
        if said.startswith(REFUSALS):
            jobs.refused(self.lease, self.job)

    def _note(self, **values: object) -> None:
        if isinstance(said := values.get("message"), str):
            values["message"] = storable(said)
        with self.lease.fenced() as connection:
            self.job = jobs.change(connection, self.job, **values)


def _owner(connection: sa.Connection, batch: RemoteBatch) -> str | None:
    """The job that has it."""
    query = sa.text("SELECT job_id FROM batch_jobs WHERE provider_id = :id")
    found: str | None = connection.execute(query, {"id": batch.batch_id}).scalar()
    return found


def _copied(connection: sa.Connection, job: BatchJob, other: RemoteBatch) -> None:
    """A job of its own with an attempt for each line, held in the budgets as what may have been billed."""
    made = jobs.new(
        connection,
        endpoint=job.endpoint,
        kind=job.kind,
        collection=job.collection,
        run_id=job.run_id,
        price=job.price,
        duplicate_of=job.job_id,
    )
    jobs.change(
        connection, made, state="submitted", digest=job.digest, provider_id=other.batch_id, provider_state=other.state,
        file_id=job.file_id, lines=job.lines, bytes=job.bytes, tokens=job.tokens, worst_nusd=job.worst_nusd,
        intent_at=job.intent_at, submitted_at=now(),
        message="a second batch of one file, made because an answer was lost; its lines may be billed twice",
    )  # fmt: skip
    copied = (
        "call_key", "caller_id", "document", "endpoint", "model", "kind", "sent_at", "reserved_nusd", "budgets",
        "price", "prompt", "key_id", "protocol",
    )  # fmt: skip
    connection.execute(
        sa.text(
            f"INSERT INTO attempts (attempt_id, previous_id, state, carried, error, message, ended_at, "  # noqa: S608
            f"{', '.join(copied)}) SELECT attempt_id + :shift, attempt_id, 'ambiguous', 1, 'connection_lost', "
            f"'a second batch of this line may have run', :at, {', '.join(copied)} "
            "FROM attempts WHERE attempt_id >= :low AND attempt_id < :high"
        ),
        {**job.bounds, "shift": made.bounds["low"] - job.bounds["low"], "at": now()},
    )
    held: dict[str, int] = {}
    rows = connection.execute(
        sa.text(
            "SELECT budgets, sum(reserved_nusd) AS reserved FROM attempts WHERE attempt_id >= :low "
            "AND attempt_id < :high GROUP BY budgets"
        ),
        made.bounds,
    )
    for row in rows:
        for budget in json.loads(row.budgets):
            held[budget] = held.get(budget, 0) + int(row.reserved)
    for budget, amount in held.items():
        connection.execute(
            sa.text("UPDATE budgets SET held_nusd = held_nusd + :amount WHERE budget = :budget"),
            {"amount": amount, "budget": budget},
        )
