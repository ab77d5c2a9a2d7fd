"""One request: what would go live against what is live, what it takes, and what each verdict will do."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import GROUP, SignoffSettings
from ai_assets.desk.access import request_seen, told
from ai_assets.desk.audit_query import entry_of
from ai_assets.desk.canary_query import changed_models
from ai_assets.desk.candidate_query import candidate_of
from ai_assets.desk.context import Desk
from ai_assets.desk.document_query import marks_of
from ai_assets.desk.inbox import facts_of, row_of
from ai_assets.desk.publication_query import publication_of
from ai_assets.desk.unanswered_query import retries_of
from ai_assets.desk.views import DriftComparison, DriftShare, DriftView, GateView, Publication, RequestView, ScoreView
from ai_assets.evaluation.ceilings import MEASURES
from ai_assets.evaluation.drift import Comparison
from ai_assets.evaluation.verdict import GateVerdict, verdicts_of
from ai_assets.signed_asset.declaration import ALL, CANDIDATE, path_of
from ai_assets.signoff import audit, claims, decisions, requests
from ai_assets.signoff.decisions import VERDICTS, Approval, DecisionState, Verdict
from ai_assets.signoff.errors import DecisionTooLate
from ai_assets.signoff.people import Person
from ai_assets.signoff.policy_facts import denials
from ai_assets.signoff.requests import SignoffRequest, Status
from ai_assets.signoff.risk import RiskPart, request_risk_parts, summed
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.state import now

SAMPLE = 12
"""So many of the riskiest documents are shown before all of them."""
REOPENS: tuple[Status, ...] = ("rejected", "sent back", "expired")


@dataclass(frozen=True, kw_only=True)
class RequestState:
    """How far a request is; small, for a page that asks again and again."""

    status: Status
    publication: Publication
    missing: list[str]


def request_view(desk: Desk, person: Person, request_id: str) -> RequestView:
    with desk.stores.state.read() as connection:
        request, collection = request_seen(desk, person, connection, request_id)
        candidate = candidate_of(desk, connection, request, collection)
        marks = marks_of(connection, request, candidate)
        standing = decisions.standings(connection, [request])[request_id]
        newest = _newest(connection, request)
        without = retries_of(connection, person, collection, partition=request.partition)
        claim = claims.of(connection, [request_id]).get(request_id)
        assigns = person.may("approver", collection.name) and request.status in ("open", "approved")
        assignable = claims.candidates(connection, collection.name, by=person) if assigns else []
        history = [entry_of(record) for record in audit.records(connection, request_ids=[request_id])]
    changes, rules = candidate.changes, collection.settings.signoff
    denied = _denied(desk, request, collection, changes)
    light = told(request, authors=changes.get("authors", []), launch=changes.get("launch"))
    pages = desk.dagster_pages_for(person)
    return RequestView(
        row=row_of(person, light, facts_of(request, changes), standing, collection, now(), claim),
        reason=request.reason,
        closed_at=request.closed_at,
        closed_by=request.closed_by,
        live_release=changes["live_release"],
        gates=[_gate(verdict, standing) for verdict in verdicts_of(changes)],
        thresholds=changes.get("hold_thresholds") or {},
        scores=_scores(changes),
        golden=changes.get("golden"),
        drift=_drift(changes),
        changed_models=changed_models(desk, collection, request.partition, request.digest),
        removed=changes["removed"],
        unchanged=changes["unchanged"],
        carried_over=len(marks.carried_over),
        since_last=changes.get("since_last"),
        authors=changes.get("authors", []),
        launched_by=requests.launch_of(light).in_words,
        missing=standing.missing(rules) if request.status in ("open", "approved") else [],
        signers=standing.signers,
        rules=rules_in_words(rules),
        history=history,
        publication=publication_of(desk, person, request),
        refusals=_refusals(person, light, standing, rules),
        sentence=_sentences(person, request, changes, standing, rules),
        sample=[marks.row(line) for line in candidate.lines[:SAMPLE] if line.change != "unchanged"],
        run_url=_run_url(pages, changes.get("run_id")),
        asset_url=_asset_url(pages, collection, request.partition),
        is_current=newest == request_id,
        newer=None if newest == request_id else newest,
        may_ask_again=newest == request_id and request.status in REOPENS and person.may("reviewer", collection.name),
        without_result=without,
        may_claim=person.may("reviewer", collection.name) and request.status in ("open", "approved"),
        may_assign=assigns,
        assignable=assignable,
        risk_parts=_risk_parts(request, changes),
        damaged=candidate.damaged,
        policy=denied,
    )


def _risk_parts(request: SignoffRequest, changes: Mapping[str, Any]) -> list[RiskPart]:
    """Only where they make the number that it is ordered by."""
    facts = {"low_confidence": 0, **facts_of(request, changes)}
    parts = request_risk_parts(facts, verdicts_of(changes))
    return parts if abs(summed(parts) - request.risk) < 0.001 else []


def _denied(desk: Desk, request: SignoffRequest, collection: Collection, changes: Mapping[str, Any]) -> Sequence[str]:
    """Why a policy would not let it be published as it stands; the summary is put together only where there is one."""
    if not collection.policies:
        return ()
    whole = replace(request, summary=canonical_json(changes))
    return denials(collection, desk.stores, [whole]).get(request.request_id, ())


def request_state(desk: Desk, person: Person, request_id: str) -> RequestState:
    with desk.stores.state.read() as connection:
        request, collection = request_seen(desk, person, connection, request_id)
        missing = []
        if request.status in ("open", "approved"):
            missing = decisions.standings(connection, [request])[request_id].missing(collection.settings.signoff)
    return RequestState(status=request.status, publication=publication_of(desk, person, request), missing=missing)


def require_current(desk: Desk, person: Person, request_id: str) -> SignoffRequest:
    """The request, without its summary, if it is still the one about its partition."""
    with desk.stores.state.read() as connection:
        request, _ = request_seen(desk, person, connection, request_id)
        if _newest(connection, request) != request_id:
            raise DecisionTooLate(request.collection, request.partition, "a newer request is there")
    return request


def _newest(connection: sa.Connection, request: SignoffRequest) -> str:
    """The id of the partition's current request."""
    columns = requests.TABLE.c
    query = (
        sa.select(columns.request_id)
        .where(columns.collection == request.collection, columns.partition == request.partition)
        .order_by(columns.number.desc())
        .limit(1)
    )
    return str(connection.execute(query).scalar_one())


def _gate(verdict: GateVerdict, standing: DecisionState) -> GateView:
    baseline = verdict.baseline
    return GateView(
        name=verdict.name,
        metric=verdict.metric,
        stage=verdict.stage,
        value=verdict.value,
        n=verdict.n,
        interval=verdict.interval,
        baseline=baseline,
        verdict=verdict.verdict,
        passed=verdict.passed,
        waivable=verdict.waivable,
        message=verdict.sentence,
        waived_because=standing.waived.get(verdict.name),
        minimum=baseline.value if baseline is not None and verdict.judge == "min" else None,
        maximum=baseline.value if baseline is not None and verdict.metric in MEASURES else None,
    )


def _drift(changes: Mapping[str, Any]) -> DriftView | None:
    said = changes.get("drift")
    if said is None:
        return None
    found = [Comparison.of(data) for data in said["comparisons"]]
    return DriftView(
        said=said["said"],
        comparisons=[
            DriftComparison(
                place=each.place,
                against=each.against,
                drifted=each.drifted,
                said=each.in_words,
                shares=[DriftShare(value=value, here=here, there=there) for value, here, there in each.values],
            )
            for each in found
        ],
    )


def _scores(changes: Mapping[str, Any]) -> list[ScoreView]:
    def known_by(score: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(score.get(name) for name in ("metric", "scope", "stage", "judge"))

    live = {known_by(score): score["value"] for score in changes.get("live_scores") or ()}
    return [
        ScoreView(
            metric=score["metric"],
            scope=score["scope"],
            stage=score.get("stage"),
            value=score["value"],
            n=score["n"],
            live=live.get(known_by(score)),
        )
        for score in changes.get("scores") or ()
    ]


# In words


def rules_in_words(rules: SignoffSettings) -> str:
    found = (
        "One approval is needed"
        if rules.approvals == 1
        else f"{plural(rules.approvals, 'approval is', 'approvals are')} needed"
    )
    if rules.needed_from:
        found += ", of them " + " and ".join(
            f"{number} from group {name}" for name, number in rules.needed_from.items()
        )
    if rules.approvers:
        found += "; it is signed by " + ", ".join(_named(name) for name in rules.approvers)
    if rules.personal_keys == "required":
        found += "; approvals are signed with a key of one's own"
    if not rules.author_may_approve:
        launcher = "started the run" if rules.launcher_is_author else "changed something for the run that they started"
        found += f"; who {launcher}, or edited a prompt last, does not approve"
    match rules.unknown_author:
        case "two" if rules.approvals < 2:
            found += "; where it is not known who started the run, two approvals are needed"
        case "refuse":
            found += "; where it is not known who started the run, nobody can approve"
    return f"{found}."


def _named(name: str) -> str:
    return f"group {name.removeprefix(GROUP)}" if name.startswith(GROUP) else name


def _refusals(
    person: Person, request: SignoffRequest, standing: DecisionState, rules: SignoffSettings
) -> dict[Verdict, str | None]:
    found = {verdict: decisions.why_not_by(person, request, rules, verdict) for verdict in VERDICTS}
    if person.name in standing.signers:
        found["approve"] = "it has their approval already"
    return found


def _sentences(
    person: Person, request: SignoffRequest, changes: Mapping[str, Any], standing: DecisionState, rules: SignoffSettings
) -> dict[Verdict, str]:
    what, facts = f"{request.collection} {request.partition}", facts_of(request, changes)
    held = [verdict for verdict in verdicts_of(changes) if verdict.holds]
    word = "failed" if all(verdict.verdict == "failed" for verdict in held) else "did not pass"
    passed_over = f", although the gates {', '.join(verdict.name for verdict in held)} {word}" if held else ""
    touched = [f"{int(facts[name] or 0)} {name}" for name in ("added", "changed", "removed") if facts[name]]
    change = f"documents {', '.join(touched)}" if touched else "no document is added, changed or removed"
    if unreadable := int(facts.get("unreadable") or 0):
        change += f", and {unreadable} that cannot be read {'goes' if unreadable == 1 else 'go'} live without a text"
    own_key = next(iter(rules.declared_key_ids(person.name)), "theirs")  # as the page will have it signed
    mine = Approval(person=person.name, groups=person.groups, own_key=own_key)
    after = replace(standing, approvals=[*standing.approvals, mine])
    if missing := after.missing(rules):
        approve = (
            f"Your approval of {what} is recorded; it then has {' and '.join(missing)}, and nothing is published yet."
        )
    else:
        approve = (
            f"{what} goes live with the next release, within a minute while ai-assets up runs{passed_over}: {change}."
        )
    return {
        "approve": approve,
        "reject": f"{what} is rejected for the reason you give: nothing of it is published, what is live stays live, "
        "and it asks again when its candidate changes.",
        "send back": f"{what} goes back with your notes to whoever made it: nothing of it is published, what is live "
        "stays live, and it asks again when its candidate changes or when somebody asks again.",
    }


# Links


def _run_url(pages: str | None, run_id: str | None) -> str | None:
    """Only runs of Dagster have a page; others have a name that is no such id."""
    known = run_id is not None and len(run_id) == 36
    return f"{pages}/runs/{run_id}" if pages and known else None


def _asset_url(pages: str | None, collection: Collection, partition: str) -> str | None:
    if not pages:
        return None
    query = urllib.parse.urlencode({"view": "partitions", "partition": partition})
    path = f"{collection.name}/release_candidate"
    if collection.signed_asset is not None:
        path, query = "/".join(path_of(collection.name, CANDIDATE)), query if partition != ALL else "view=events"
    return f"{pages}/assets/{path}?{query}"
