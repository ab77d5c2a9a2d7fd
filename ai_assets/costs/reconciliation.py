"""Holding the ledger against a provider's usage file, resolving what the totals prove, and the record of it."""

import contextlib
import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ai_assets.base.errors import StateUnavailable, UserError
from ai_assets.base.plural import plural
from ai_assets.base.yaml_settings import nearest
from ai_assets.inference import ledger_totals, reconciling, resolving
from ai_assets.inference.history import name_of
from ai_assets.inference.prices import NUSD, usd_of
from ai_assets.inference.reconciling import ReconciliationGroup
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.usage_files import UsageFile
from ai_assets.signoff import audit
from ai_assets.storage.digest import Json
from ai_assets.storage.state import StateStore, now

MOST_DAYS = 400
DIGEST_CHARACTERS = 12


@dataclass(frozen=True, kw_only=True)
class ReconciliationRequest:
    """What is held against what, as a person said it."""

    file: UsageFile
    settings: InferenceSettings
    first_day: str
    last_day: str
    same_models: Mapping[str, str] = field(default_factory=dict)
    """Names of the provider, and what we call these models."""
    assumed_keys: Mapping[str, str] = field(default_factory=dict)
    """Endpoints, and the key of their attempts that have none noted."""


@dataclass(frozen=True, kw_only=True)
class ReconciledGroup:
    """A group and what was done about it."""

    group: ReconciliationGroup
    attempts: Sequence[str] = ()
    """Those that were resolved."""


@dataclass(frozen=True, kw_only=True)
class PastReconciliation:
    """One row of an earlier reconciliation."""

    reconciliation: str
    made_at: str
    made_by: str
    file: str
    file_digest: str
    days: Sequence[str]
    models: Sequence[str]
    key_id: str | None
    billed_requests: int
    billed_usd: float
    maybe_attempts: int
    maybe_usd: float
    their_requests: int | None
    their_usd: float | None
    difference_usd: float | None
    verdict: str
    reason: str
    resolved: int
    resolved_usd: float


class DaysInvalid(UserError):
    def __init__(self, first: str, last: str, problem: str) -> None:
        super().__init__(f"The days {first} to {last} cannot be reconciled: {problem}. Nothing was changed.")


class EndpointUnknown(UserError):
    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"inference.yaml has no endpoint '{name}' to assume a key of{nearest(name, list(known))}")


class LedgerMoved(UserError):
    def __init__(self, group: ReconciliationGroup) -> None:
        super().__init__(
            f"The attempts of {', '.join(group.models)} on {group.days[0]} are not those that were compared any more: "
            "an answer came late, or somebody resolved one. Nothing was changed; run the same command again."
        )


def days_of(file: UsageFile, first: datetime.date | None, last: datetime.date | None) -> tuple[str, str]:
    """The days that the file covers: as said, else from its first to its last."""
    begin, end = (
        first or datetime.date.fromisoformat(file.first_day),
        last or datetime.date.fromisoformat(file.last_day),
    )
    if begin > end:
        raise DaysInvalid(str(begin), str(end), "the first is after the last")
    if (end - begin).days >= MOST_DAYS:
        raise DaysInvalid(str(begin), str(end), f"they are more than {MOST_DAYS}; give --from and --to")
    return begin.isoformat(), end.isoformat()


def compare(state: StateStore, asked: ReconciliationRequest) -> list[ReconciliationGroup]:
    """What the totals prove; nothing is resolved. What dead processes left in flight counts as maybe billed.

    In a store that cannot be written it stays in flight, and its days are not proven.
    """
    for name in asked.assumed_keys:
        if name not in asked.settings.endpoints:
            raise EndpointUnknown(name, list(asked.settings.endpoints))
    with contextlib.suppress(StateUnavailable), state.write() as connection:
        resolving.reap(connection)
    with state.read() as connection:
        return _groups(connection, asked)


def _groups(connection: sa.Connection, asked: ReconciliationRequest) -> list[ReconciliationGroup]:
    one_day = datetime.timedelta(days=1)
    before = (datetime.date.fromisoformat(asked.first_day) - one_day).isoformat()
    after = (datetime.date.fromisoformat(asked.last_day) + one_day).isoformat()
    assumed = asked.assumed_keys
    return reconciling.reconcile(
        reconciling.ReconciliationInput(
            ours=ledger_totals.totals(connection, before, after, assumed),
            theirs=asked.file.totals,
            straddling=ledger_totals.straddling(connection, asked.first_day, asked.last_day, assumed),
            settings=asked.settings,
            first_day=asked.first_day,
            last_day=asked.last_day,
            today=now()[:10],
            same_models=asked.same_models,
        )
    )


def apply(
    state: StateStore, asked: ReconciliationRequest, groups: Sequence[ReconciliationGroup], by: str
) -> list[ReconciledGroup]:
    """Resolve what is proven, in one transaction with the audit trail and the record of the comparison.

    A group whose attempts are not those that it was proven for any more makes all of it fail.
    """
    with state.write() as connection:
        done = [_resolve(connection, asked, group, by) for group in groups]
        if any(item.attempts for item in done) or not _is_known(connection, asked.file.digest):
            _record(connection, asked, done, by)
    return done


def _resolve(
    connection: sa.Connection, asked: ReconciliationRequest, group: ReconciliationGroup, by: str
) -> ReconciledGroup:
    if group.proven_nusd is None or group.key_id is None:
        return ReconciledGroup(group=group)
    models = frozenset(group.models)
    ids = list(ledger_totals.ambiguous_of(connection, group.days, models, group.key_id, asked.assumed_keys))
    found = [resolving.attempt(connection, name_of(number)) for number in ids]
    reserved = [round(item.reserved_usd * NUSD) for item in found]
    if (len(found), sum(reserved)) != (group.maybe_attempts, group.maybe_nusd):
        raise LedgerMoved(group)
    note = _note(asked.file, group)
    for item, cost in zip(found, reconciling.shares(group.proven_nusd, reserved), strict=True):
        verdict = resolving.Resolution(billed=group.verdict != "none billed", by=by, usd=usd_of(cost), note=note)
        (resolved,) = resolving.resolve(connection, [item], verdict)
        audit.append(connection, by, "resolved", resolving.subject_of(resolved, verdict))
    return ReconciledGroup(group=group, attempts=[item.attempt for item in found])


def _note(file: UsageFile, group: ReconciliationGroup) -> str:
    source = f"by the provider's totals in {file.name} (sha256 {file.digest[:DIGEST_CHARACTERS]})"
    billed, of = group.more_requests or 0, group.maybe_requests
    if not billed:
        return f"{source}: none of {plural(of, 'request')} was billed"
    total = usd_of(group.proven_nusd or 0)
    return f"{source}: {billed} of {plural(of, 'request')} billed, ${total:.9f} in all, divided by what was reserved"


def _is_known(connection: sa.Connection, digest: str) -> bool:
    query = sa.text("SELECT 1 FROM reconciliations WHERE file_digest = :digest LIMIT 1")
    return connection.execute(query, {"digest": digest}).first() is not None


def _record(connection: sa.Connection, asked: ReconciliationRequest, done: Sequence[ReconciledGroup], by: str) -> None:
    reconciliation, at = uuid.uuid4().hex[:DIGEST_CHARACTERS], now()
    for part, item in enumerate(done, start=1):
        values = {
            "reconciliation": reconciliation, "part": part, "made_at": at, "made_by": by, "file": asked.file.name,
            "file_digest": asked.file.digest, **_row(item),
        }  # fmt: skip
        columns, given = ", ".join(values), ", ".join(f":{name}" for name in values)
        connection.execute(sa.text(f"INSERT INTO reconciliations ({columns}) VALUES ({given})"), values)  # noqa: S608
    subject: dict[str, Json] = {
        "reconciliation": reconciliation,
        "file": asked.file.name,
        "file_digest": asked.file.digest,
        "days": [asked.first_day, asked.last_day],
        "same_models": dict(asked.same_models),
        "assumed_keys": dict(asked.assumed_keys),
        "parts": [_row(item) for item in done],
    }
    audit.append(connection, by, "reconciled", subject)


def _row(item: ReconciledGroup) -> dict[str, Json]:
    group = item.group
    return {
        "days": json.dumps(group.days),
        "models": json.dumps(group.models),
        "key_id": group.key_id,
        "billed_requests": group.billed_requests,
        "billed_nusd": group.billed_nusd,
        "maybe_attempts": group.maybe_attempts,
        "maybe_nusd": group.maybe_nusd,
        "their_requests": group.their_requests,
        "their_nusd": group.their_nusd,
        "difference_nusd": group.difference_nusd,
        "verdict": group.verdict,
        "reason": group.reason,
        "resolved": len(item.attempts),
        "resolved_nusd": group.proven_nusd or 0 if item.attempts else 0,
    }


def recorded(connection: sa.Connection, limit: int) -> list[PastReconciliation]:
    """The latest rows first."""
    query = sa.text("SELECT * FROM reconciliations ORDER BY made_at DESC, reconciliation, part LIMIT :limit")
    return [
        PastReconciliation(
            days=json.loads(row.days),
            models=json.loads(row.models),
            billed_usd=usd_of(row.billed_nusd),
            maybe_usd=usd_of(row.maybe_nusd),
            their_usd=_usd(row.their_nusd),
            difference_usd=_usd(row.difference_nusd),
            resolved_usd=usd_of(row.resolved_nusd),
            **{name: getattr(row, name) for name in _PLAIN},
        )
        for row in connection.execute(query, {"limit": limit})
    ]


_PLAIN = (
    "reconciliation", "made_at", "made_by", "file", "file_digest", "key_id", "billed_requests", "maybe_attempts",
    "their_requests", "verdict", "reason", "resolved",
)  # fmt: skip


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else usd_of(nusd)


def described(item: ReconciledGroup) -> dict[str, Json]:
    """For programs, in dollars."""
    group = item.group
    return {
        "days": list(group.days),
        "models": list(group.models),
        "key_id": group.key_id,
        "billed_requests": group.billed_requests,
        "billed_usd": usd_of(group.billed_nusd),
        "maybe_attempts": group.maybe_attempts,
        "maybe_usd": usd_of(group.maybe_nusd),
        "their_requests": group.their_requests,
        "their_usd": _usd(group.their_nusd),
        "difference_usd": _usd(group.difference_nusd),
        "verdict": group.verdict,
        "reason": group.reason,
        "proven_usd": _usd(group.proven_nusd),
        "resolved": list(item.attempts),
    }
