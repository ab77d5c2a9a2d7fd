"""What people say to requests, and whether it is enough. All of it goes by the audit chain, not by the table."""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.collection.settings import GROUP, CollectionSettings, SignoffSettings
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.signoff import audit, authority, requests, statements
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import DecisionRefused, DecisionTooLate, RequestUnknown
from ai_assets.signoff.launches import Launch
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.signoff.statements import SignedDecision
from ai_assets.storage.digest import digest
from ai_assets.storage.state import StateStore

Verdict = Literal["approve", "reject", "send back"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ESCALATED = 2
"""The `sla_step` of a request that was escalated."""


@dataclass(frozen=True)
class Choice:
    """A request as somebody saw it: an answer to another digest is no answer."""

    request_id: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Approval:
    person: str
    groups: frozenset[str]
    """Theirs at that time."""
    own_key: str | None = None
    """The key of their own that they signed it with."""


@dataclass
class DecisionState:
    """What the chain holds of one request and digest."""

    approvals: list[Approval] = field(default_factory=list)
    waived: dict[str, str] = field(default_factory=dict)
    """The reason by gate."""
    summary: str | None = None
    """Digest of what people were shown."""
    escalated: bool = False
    unknown_author: bool = False
    """Nobody is proved to have started the run that made the candidate."""

    @property
    def signers(self) -> list[str]:
        return list(dict.fromkeys(approval.person for approval in self.approvals))

    def missing(self, rules: SignoffSettings) -> list[str]:
        """What it still takes, in words; nothing when people have said enough."""
        found = []
        counted = [
            one
            for one in self.approvals
            if may_sign(one.person, one.groups, rules, escalated=self.escalated)
            and statements.why_not_enough(one.person, one.own_key, rules) is None
        ]
        given, wanted = len({approval.person for approval in counted}), self.needed(rules)
        if given < wanted:
            own = " signed with a key of their own" if rules.personal_keys == "required" else ""
            why = " (its author is unknown)" if wanted > rules.approvals else ""
            found.append(f"{given} of {plural(wanted, 'approval')}{own}{why}")
        for group, needed in rules.needed_from.items():
            given = len({approval.person for approval in counted if group in approval.groups})
            if given < needed:
                found.append(f"{given} of {needed} from group {group}")
        if self.unknown_author and rules.unknown_author == "refuse":
            found.append("no known author")
        return found

    def needed(self, rules: SignoffSettings) -> int:
        """How many different people must approve."""
        return max(rules.approvals, 2) if self.unknown_author and rules.unknown_author == "two" else rules.approvals


def standings(connection: sa.Connection, found: Sequence[SignoffRequest]) -> dict[str, DecisionState]:
    """By request, of its present digest. Records that were altered, or are not signed as they must be, do not count."""
    digests = {request.request_id: request.digest for request in found}
    told: dict[str, DecisionState] = defaultdict(DecisionState)
    recorded = authority.of(connection)
    for record in audit.records(connection, request_ids=list(digests)):
        request_id = str(record.subject["request_id"])
        if record.subject.get("digest") != digests[request_id] or not recorded.stands(record):
            continue
        standing = told[request_id]
        match record.action:
            case "requested":
                standing.summary = str(record.subject["summary"])
                standing.unknown_author = record.subject.get("launched", "unknown") == "unknown"
            case "approved" | "waived" if recorded.revoked(record):
                pass
            case "approved":
                groups = record.subject.get("groups")
                known = frozenset(map(str, groups)) if isinstance(groups, list) else frozenset[str]()
                own_key = statements.own_key(connection, recorded, record)
                standing.approvals.append(Approval(person=record.actor, groups=known, own_key=own_key))
            case "escalated":
                standing.escalated = True
            case "waived":
                standing.waived[str(record.subject["gate"])] = str(record.subject["reason"])
    return {request_id: told[request_id] for request_id in digests}


def why_not_publishable(request: SignoffRequest, standing: DecisionState, settings: CollectionSettings) -> str | None:
    """Why what the chain holds is no approval of this request under the present rules; None when it is one."""
    strict = {gate.name for gate in settings.judged_by if not gate.waivable}
    if standing.summary != digest(request.summary):
        return "what people were shown is not what was recorded when they were asked"
    if missing := standing.missing(settings.signoff):
        return f"the audit chain holds {' and '.join(missing)}"
    if (author := _author_among(standing.signers, request, settings.signoff)) is not None:
        return f"{author['who']} approved it, and they {author['did']}"
    for verdict in holding(request):
        if not verdict.waivable or verdict.name in strict:
            return f"a gate that nobody can waive has failed ({verdict.sentence})"
        if verdict.name not in standing.waived:
            return f"a failed gate was not waived ({verdict.sentence})"
    return None


def _author_among(signers: Sequence[str], request: SignoffRequest, rules: SignoffSettings) -> Mapping[str, str] | None:
    """Held against the present rules, as all else. By e-mail address authors were compared when they decided."""
    if rules.author_may_approve:
        return None
    authors = (*request.changes.get("authors", ()), *launched(requests.launch_of(request), rules))
    return next((author for author in authors if str(author["who"]).casefold() in signers), None)


def holding(request: SignoffRequest) -> list[GateVerdict]:
    """Verdicts that hold its candidate back unless they are waived."""
    return [verdict for verdict in request.verdicts if verdict.holds]


def still_waits(request: SignoffRequest, standing: DecisionState, rules: SignoffSettings) -> bool:
    """Open, or approved by fewer than the rules have come to ask for."""
    return request.status == "open" or (request.status == "approved" and bool(standing.missing(rules)))


def closed_in_words(request: SignoffRequest) -> str:
    return f"it was {request.status} by {request.closed_by} at {request.closed_at} (UTC)"


def waiting(
    connection: sa.Connection, collection: str, partitions: Sequence[str] | None, rules: SignoffSettings
) -> list[Choice]:
    """What waits in these partitions, or in all."""
    found = requests.find(connection, collection, statuses=("open", "approved"), partitions=partitions)
    given = standings(connection, [request for request in found if request.status == "approved"])
    found = [
        request for request in found if still_waits(request, given.get(request.request_id, DecisionState()), rules)
    ]
    for partition in partitions if partitions is not None else ():
        if partition not in {request.partition for request in found}:
            last = requests.latest_of(connection, collection, partition)
            raise RequestUnknown(collection, partition, last.status if last else None)
    if not found:
        raise RequestUnknown(collection, "(all)", None)
    return [Choice(request.request_id, request.digest) for request in found]


def decide(
    state: StateStore,
    collection: str,
    choices: Sequence[Choice],
    verdict: Verdict,
    *,
    by: Person,
    reason: str | None,
    rules: SignoffSettings,
    waivers: Mapping[str, str] | None = None,
    signed: SignedDecision | None = None,
) -> list[SignoffRequest]:
    """Record one person's decision on what they saw. All of it, or nothing.

    `waivers` says per failed gate why it may be passed over; it counts for every choice that has that gate failed.
    `signed` is the same decision, signed with a key of the person's own.
    """
    reason = (reason or "").strip() or None
    require_reason(by.name, verdict, reason)
    decided = []
    with state.write() as connection:
        recorded = authority.of(connection)
        if verdict == "approve" and (
            problem := statements.why_not_enough(by.name, signed.key_id if signed else None, rules)
        ):
            raise DecisionRefused(by.name, problem)
        stated: dict[str, int] = {}
        if signed is not None:
            said = statements.values(
                connection, collection, choices, verdict, by=by.name, reason=reason, waivers=waivers
            )
            stated = {"statement": statements.record(connection, signed, said, by.name)}
        rights = by.recorded_rights(collection)
        for choice in choices:
            request, standing = _require(connection, collection, choice, rules)
            if (problem := why_not_by(by, request, rules, verdict)) is not None:
                raise DecisionRefused(by.name, problem)
            if (problem := recorded.why_not(by, collection)) is not None:
                raise DecisionRefused(by.name, f"by the audit chain {problem}")
            if verdict == "approve":
                _approve(connection, request, standing, by, reason, rules, waivers or {}, signed, stated)
            else:
                action: Literal["rejected", "sent back"] = "rejected" if verdict == "reject" else "sent back"
                requests.close(connection, request, action, by.name, reason, **rights, **stated)
            after = requests.get(connection, choice.request_id)
            decided += [after] if after else []
    return decided


def require_reason(name: str, verdict: Verdict, reason: str | None) -> None:
    if verdict != "approve" and not (reason or "").strip():
        asked = "a rejection needs a reason" if verdict == "reject" else "sending back needs notes on what to do"
        raise DecisionRefused(name, f"{asked} (--reason)")


def _require(
    connection: sa.Connection, collection: str, choice: Choice, rules: SignoffSettings
) -> tuple[SignoffRequest, DecisionState]:
    """The request, if it is still what was seen and still waits."""
    request = requests.get(connection, choice.request_id)
    if request is None or request.collection != collection:
        raise RequestUnknown(collection, choice.request_id, None)
    if request.digest != choice.digest:
        raise DecisionTooLate(collection, request.partition, f"what was seen was {choice.digest[:12]}, not this")
    standing = standings(connection, [request])[request.request_id]
    if not still_waits(request, standing, rules):
        raise DecisionTooLate(collection, request.partition, closed_in_words(request))
    if request.sla_step >= ESCALATED and not standing.escalated:
        raise AuditBroken(f"request {request.request_id}", "the table says that it was escalated, the chain does not")
    return request, standing


def signed_by(rules: SignoffSettings, *, escalated: bool) -> set[str]:
    """Names, and groups as `group:NAME`; nothing where every approver may sign."""
    later = {f"{GROUP}{rules.sla.escalate_to}"} if escalated and rules.sla.escalate_to else set()
    return {*rules.approvers, *later} if rules.approvers else set()


def may_sign(name: str, groups: Iterable[str], rules: SignoffSettings, *, escalated: bool) -> bool:
    admitted = signed_by(rules, escalated=escalated)
    return not admitted or not admitted.isdisjoint({name, *(f"{GROUP}{group}" for group in groups)})


def why_not_by(person: Person, request: SignoffRequest, rules: SignoffSettings, verdict: Verdict) -> str | None:
    """Why this person may not decide so on the request; None when they may."""
    collection = request.collection
    if not person.may("approver", collection):
        role = person.role_in(collection)
        return f"it takes the role approver in {collection}, and theirs is {role}" if role else (
            f"they have no role in {collection} (ai-assets reviewers grant {person.name} approver {collection})"
        )  # fmt: skip
    escalated = request.sla_step >= ESCALATED
    if not may_sign(person.name, person.groups, rules, escalated=escalated):
        return f"{collection} is signed by {', '.join(sorted(signed_by(rules, escalated=escalated)))}"
    if verdict != "approve":
        return None
    launch = requests.launch_of(request)
    if not launch.known and rules.unknown_author == "refuse":
        return refused_unknown(request)
    if not rules.author_may_approve:
        for author in (*request.changes.get("authors", ()), *launched(launch, rules)):
            if str(author["who"]).casefold() in {person.name, (person.email or person.name).casefold()}:
                return f"they {author['did']}, and nobody signs what they made themselves (signoff.author_may_approve)"
    return None


def launched(launch: Launch, rules: SignoffSettings) -> list[Mapping[str, str]]:
    """The person who started the run, as far as that makes them an author of what came of it."""
    if launch.kind != "person" or not (launch.changes or rules.launcher_is_author):
        return []
    changed = f" with changes of their own ({', '.join(launch.changes)})" if launch.changes else ""
    return [{"who": launch.who, "did": f"launched the run{changed}"}]


def refused_unknown(request: SignoffRequest) -> str:
    """Why a candidate of an unknown author cannot be approved, and how it gets a known one."""
    return (
        f"it is not known who started the run that made it, and {request.collection} refuses such candidates "
        f"(signoff.unknown_author). Start it with a known author: on the desk's page Runs, or with ai-assets run "
        f"{request.collection} --partition {request.partition} --by NAME"
    )


def _approve(
    connection: sa.Connection,
    request: SignoffRequest,
    standing: DecisionState,
    by: Person,
    reason: str | None,
    rules: SignoffSettings,
    waivers: Mapping[str, str],
    signed: SignedDecision | None,
    stated: Mapping[str, int],
) -> None:
    if by.name in standing.signers:
        raise DecisionRefused(by.name, f"{request.collection} {request.partition} has their approval already")
    rights = by.recorded_rights(request.collection)
    for verdict in holding(request):
        name, why = verdict.name, waivers.get(verdict.name, "").strip()
        if not verdict.waivable:
            raise DecisionRefused(by.name, f"no approval overrides this gate: {verdict.sentence}")
        if not why and name not in standing.waived:
            raise DecisionRefused(
                by.name,
                f"the gate '{name}' {verdict.in_words} ({verdict.sentence}); say why it may be waived "
                f"(--waive '{name}=why')",
            )
        if why:
            told = {**requests.subject(request), "gate": name, "reason": why, **rights, **stated}
            audit.append(connection, by.name, "waived", told)
    own_key = signed.key_id if signed else None
    standing.approvals.append(Approval(person=by.name, groups=by.groups, own_key=own_key))
    complete = not standing.missing(rules)
    if complete:
        requests.close(connection, request, "approved", by.name, reason, **rights, complete=True, **stated)
    else:
        told = {"reason": reason, **rights, "complete": False, **stated}
        audit.append(connection, by.name, "approved", {**requests.subject(request), **told})


def ask_again(state: StateStore, collection: str, partition: str, *, by: Person, reason: str) -> SignoffRequest:
    """A new request for the candidate whose last one was rejected, sent back or expired."""
    if not by.may("reviewer", collection):
        raise DecisionRefused(by.name, f"asking again takes the role reviewer in {collection}")
    if not reason.strip():
        raise DecisionRefused(by.name, "asking again needs a reason (--reason)")
    with state.write() as connection:
        last = requests.latest_of(connection, collection, partition)
        if last is None or last.status not in ("rejected", "sent back", "expired"):
            raise RequestUnknown(collection, partition, last.status if last else None)
        audit.append(connection, by.name, "asked again", {**requests.subject(last), "reason": reason})
        return requests.open_again(connection, last)


def record_view(state: StateStore, request: SignoffRequest, *, by: Person) -> None:
    """That somebody looked at the page they may decide on: one record per person, request and hour."""
    with state.read() as connection:
        if _viewed_lately(connection, request, by):
            return
    with state.write() as connection:
        if not _viewed_lately(connection, request, by):  # another desk process may have been first
            audit.append(connection, by.name, "viewed", requests.subject(request))


def _viewed_lately(connection: sa.Connection, request: SignoffRequest, by: Person) -> bool:
    since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    columns = audit.TABLE.c
    query = sa.select(columns.seq).where(
        columns.request_id == request.request_id,
        columns.action == "viewed",
        columns.actor == by.name,
        columns.recorded_at > since.isoformat(timespec="milliseconds"),
    )
    return connection.execute(query.limit(1)).first() is not None
