"""The facts that policies are asked about, and asking them: publication, access."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.policy.documents import (
    AccessInput,
    PolicyApproval,
    PolicyAuthor,
    PolicyCandidate,
    PolicyChanges,
    PolicyGate,
    PolicyLaunch,
    PolicyModel,
    PolicyPerson,
    PolicyRelease,
    PolicyRequest,
    PolicyScore,
    PolicyStage,
    PublicationInput,
)
from ai_assets.policy.errors import AccessDenied
from ai_assets.policy.files import PolicySet
from ai_assets.policy.verdict import NO_POLICY, PolicyVerdict, verdict
from ai_assets.signoff import decisions, releases, requests
from ai_assets.signoff.decisions import DecisionState
from ai_assets.signoff.frozen_candidate import FrozenCandidate, current_candidate
from ai_assets.signoff.launches import Launch
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import digest
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores

ACCESS_KEPT_S = 10.0
"""So long a page takes what a policy said of the same person, action and collection before."""


def publication_verdict(
    collection: Collection,
    request: SignoffRequest,
    standing: DecisionState,
    candidate: FrozenCandidate,
    before: Release | None,
    policies: PolicySet | None = None,
) -> PolicyVerdict:
    """What the policies say, as they are now, of publishing this candidate as it was approved so far."""
    found = collection.policies if policies is None else policies
    if not found:
        return NO_POLICY
    return verdict(found, "publication", publication_input(collection, request, standing, candidate, before))


def denials(collection: Collection, stores: Stores, found: Sequence[SignoffRequest]) -> Mapping[str, Sequence[str]]:
    """By id of requests that are open or approved, the sentences of policies that would not let them be published."""
    policies = collection.policies
    waiting = [request for request in found if request.status in ("open", "approved")]
    if not waiting or not policies.judges("publication"):
        return {}
    with stores.state.read() as connection:
        standings = decisions.standings(connection, waiting)
        before = releases.live(connection, collection.name)
    said = {}
    for request in waiting:
        candidate = current_candidate(stores.lake, collection.name, request.partition)
        if candidate is not None and candidate.digest == request.digest:
            standing = standings[request.request_id]
            given = publication_verdict(collection, request, standing, candidate, before, policies)
            said[request.request_id] = given.denied
    return {name: denied for name, denied in said.items() if denied}


def publication_input(
    collection: Collection,
    request: SignoffRequest,
    standing: DecisionState,
    candidate: FrozenCandidate,
    before: Release | None,
) -> PublicationInput:
    return PublicationInput(
        collection=collection.name,
        tenant=collection.settings.tenant,
        partition=request.partition,
        candidate=_candidate(collection, request, standing, candidate),
        request=PolicyRequest(
            status=request.status,
            opened_at=request.opened_at,
            number=request.number,
            escalated=standing.escalated,
            approvals_needed=standing.needed(collection.settings.signoff),
            approvals=[
                PolicyApproval(person=each.person, groups=sorted(each.groups), own_key=each.own_key)
                for each in standing.approvals
            ],
            authors=[PolicyAuthor(who=str(each["who"]), did=str(each["did"])) for each in _authors(request)],
            launch=launch_of(requests.launch_of(request)),
        ),
        release_before=_release(before),
        now=now(),
    )


def _release(before: Release | None) -> PolicyRelease | None:
    if before is None:
        return None
    return PolicyRelease(
        number=before.number, documents=before.documents, created_at=before.created_at, created_by=before.created_by
    )


def _authors(request: SignoffRequest) -> Sequence[Mapping[str, str]]:
    found: Sequence[Mapping[str, str]] = request.changes.get("authors", ())
    return found


def launch_of(launch: Launch) -> PolicyLaunch:
    return PolicyLaunch(kind=launch.kind, who=launch.who, proof=launch.proof, changes=list(launch.changes))


def _candidate(
    collection: Collection, request: SignoffRequest, standing: DecisionState, candidate: FrozenCandidate
) -> PolicyCandidate:
    changes = request.changes
    numbers = {name: len(changes.get(name) or ()) for name in ("added", "changed", "removed", "relabelled")}
    return PolicyCandidate(
        digest=candidate.digest,
        run_id=candidate.run_id,
        documents=candidate.documents,
        quarantined=candidate.quarantined,
        quarantined_share=candidate.quarantined / candidate.documents if candidate.documents else 0.0,
        without_vectors=candidate.without_vectors,
        cost_usd=candidate.cost_usd,
        changes=PolicyChanges(
            **numbers, unreadable=len(changes.get("unreadable") or ()), unchanged=changes.get("unchanged", 0)
        ),
        gates=[
            PolicyGate(
                name=gate.name, metric=gate.metric, stage=gate.stage, value=gate.value, n=gate.n, verdict=gate.verdict,
                holds=gate.holds, waivable=gate.waivable, waived_because=standing.waived.get(gate.name),
                sentence=gate.sentence,
            )
            for gate in request.verdicts
        ],
        scores=[_score(score) for score in candidate.scores],
        stages=stages_of(collection, candidate.code_versions),
    )  # fmt: skip


def _score(score: Mapping[str, object]) -> PolicyScore:
    value, n = score["value"], score["n"]
    return PolicyScore(
        metric=str(score["metric"]),
        scope=str(score["scope"]),
        stage=str(score["stage"]) if score.get("stage") else None,
        value=float(value) if isinstance(value, int | float) else None,
        n=n if isinstance(n, int) else 0,
    )


def stages_of(collection: Collection, code_versions: Mapping[str, str]) -> list[PolicyStage]:
    """As they are declared, with the versions that the candidate was made by."""
    return [
        PolicyStage(
            name=stage.name,
            kind=stage.kind,
            route=getattr(stage, "route", None),
            code_version=code_versions.get(stage.name, ""),
            prompt=digest(question.prompt.identity) if (question := collection.questions.get(stage.name)) else None,
            models=models_of(collection, stage.name),
        )
        for stage in collection.stages
    ]


def models_of(collection: Collection, asset: str) -> list[PolicyModel]:
    """Address and model of each endpoint that an asset may ask."""
    question, embedding = collection.questions.get(asset), collection.embedding_of(asset)
    asked = question.models if question is not None else collection.function_models.get(asset, ())
    found = list(asked) or list(embedding.models if embedding is not None and embedding.models else ())
    return [PolicyModel(endpoint=each[0], model=each[1]) for each in found]


# Access


NOBODY = Person(name="")
"""Who starts a run without naming themselves."""


def access_input(collection: Collection, person: Person, action: str, partition: str | None = None) -> AccessInput:
    who = PolicyPerson(
        name=person.name,
        email=person.email,
        groups=tuple(sorted(person.groups)),
        role=person.role_in(collection.name),
    )
    return AccessInput(
        action=action, collection=collection.name, tenant=collection.settings.tenant, partition=partition, person=who,
        now=now(),
    )  # fmt: skip


def access_denied(collection: Collection, person: Person, action: str, partition: str | None = None) -> tuple[str, ...]:
    """Why a policy forbids it; empty where none does. Roles were asked before: a policy gives nothing."""
    policies = collection.policies
    if not policies.judges("access"):
        return NO_POLICY.denied
    timeless = replace(access_input(collection, person, action, partition), now="")
    return _asked(policies, timeless, int(time.monotonic() / ACCESS_KEPT_S))


@lru_cache(maxsize=1024)
def _asked(policies: PolicySet, asked: AccessInput, _lately: int) -> tuple[str, ...]:
    return verdict(policies, "access", replace(asked, now=now())).denied


def require_access(collection: Collection, person: Person, action: str, partitions: Sequence[str] = ()) -> None:
    """Raises AccessDenied. Asked for each partition where some are named."""
    for partition in partitions or (None,):
        if reasons := access_denied(collection, person, action, partition):
            raise AccessDenied(person.name, action, collection.name, reasons)


def require_decision(
    connection: sa.Connection, collection: Collection, person: Person, verdict_: str, ids: Sequence[str]
) -> None:
    """The same for a decision on these requests."""
    if not collection.policies.judges("access"):
        return
    found = [requests.get(connection, request_id) for request_id in ids]
    partitions = [request.partition for request in found if request is not None]
    require_access(collection, person, verdict_, partitions)
