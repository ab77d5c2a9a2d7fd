"""Batches on their way: whether each can still be read by somebody, and which have waited for too long."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.collection.catalog import Catalog
from ai_assets.doctor.findings import Finding, fine, warned, wrong
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import NoStoreYet, looking, tables_of
from ai_assets.storage.state import now

LONG = datetime.timedelta(days=2)
"""Providers end a batch within a day."""
WAITS = datetime.timedelta(hours=1)
"""What has a reason to wait and passes by itself is over by then."""
_COMMAND = "ai-assets batches"
_OPEN = (
    "SELECT job_id, collection, endpoint, state, message, made_at, submitted_at, expires_at FROM batch_jobs "
    "WHERE state <> 'ended' ORDER BY made_at, job_id"
)


def look(at: Installation) -> Iterator[Finding]:
    names = Catalog(at.home).names()
    jobs = [job for job in _open(at) if at.tenant is None or job.collection in at.collections.loaded]
    endpoints = {name: _endpoints(at, name) for name in {job.collection for job in jobs}}
    found = [told for job in jobs if (told := _told(job, names, endpoints[job.collection])) is not None]
    yield from found
    if not found:
        yield fine("batches", f"{plural(len(jobs), 'is', 'are')} on the way" if jobs else "none is on the way")


def _open(at: Installation) -> Sequence[Any]:
    try:
        with looking(at) as connection:
            return connection.execute(sa.text(_OPEN)).all() if "batch_jobs" in tables_of(connection) else []
    except NoStoreYet:
        return []


def _endpoints(at: Installation, collection: str) -> Mapping[str, object] | None:
    """None where the file cannot be read, which is told elsewhere."""
    try:
        return Catalog(at.home).inference_of(collection).endpoints
    except UserError:
        return None


def _told(job: Any, names: Sequence[str], endpoints: Mapping[str, object] | None) -> Finding | None:
    what = f"batch {job.job_id}"
    give_up = f"{_COMMAND} give-up {job.job_id} ends it whatever the provider says; its lines are kept as maybe billed"
    stop = f"{_COMMAND} cancel {job.job_id} stops it; where that does not end it, {give_up}."
    if endpoints is not None and job.endpoint not in endpoints:
        return wrong(
            what, found=f"its endpoint '{job.endpoint}' is not in inference.yaml, so nobody reads its results",
            fix=f"Declare the endpoint again as it was until the batch has ended; or {give_up}.",
        )  # fmt: skip
    if job.collection not in names:
        return warned(
            what, found=f"its collection '{job.collection}' is gone, so no sensor reads its results",
            fix=f"{_COMMAND} collect reads them; {stop}",
        )  # fmt: skip
    reason = f": {job.message}" if job.message else ""
    if job.expires_at is not None and _age(job.expires_at) > datetime.timedelta(0):
        return warned(
            what, found=f"it was to end by {job.expires_at[:16]} UTC, and is not known to have ended{reason}",
            fix=f"{_COMMAND} collect looks at it now, and says what keeps it; {stop}",
        )  # fmt: skip
    if _age(job.made_at) > LONG:
        return warned(
            what, found=f"it was made {job.made_at[:16]} UTC, more than two days ago, and is still {job.state}{reason}",
            fix=f"{_COMMAND} show {job.job_id} says how far it is; {stop}",
        )  # fmt: skip
    if job.message and _age(job.submitted_at or job.made_at) > WAITS:
        return warned(
            what, found=f"it has waited for more than an hour{reason}",
            fix=f"Correct what it names, if it does not pass; {_COMMAND} show {job.job_id} says more, and {stop}",
        )  # fmt: skip
    return None


def _age(moment: str) -> datetime.timedelta:
    at, then = map(datetime.datetime.fromisoformat, (now(), moment))
    return at - (then if then.tzinfo else then.replace(tzinfo=datetime.UTC))
