"""What a policy is asked about: the input document of each kind of rules. The same document goes to a company's OPA."""

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PolicyChanges:
    """Numbers of documents, against the live release."""

    added: int
    changed: int
    removed: int
    relabelled: int
    unreadable: int
    unchanged: int


@dataclass(frozen=True, kw_only=True)
class PolicyGate:
    name: str
    metric: str
    stage: str | None
    value: float | None
    n: int
    verdict: str
    """`passed`, `failed` or `undecided`."""
    holds: bool
    """It holds the candidate back unless it is waived."""
    waivable: bool
    waived_because: str | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PolicyScore:
    metric: str
    scope: str
    stage: str | None
    value: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class PolicyModel:
    endpoint: str
    """Its address."""
    model: str


@dataclass(frozen=True, kw_only=True)
class PolicyStage:
    name: str
    kind: str
    route: str | None
    code_version: str
    """Digest of what decides its rows, by which the candidate was made."""
    prompt: str | None
    """Digest of its prompt as it is now."""
    models: Sequence[PolicyModel]


@dataclass(frozen=True, kw_only=True)
class PolicyCandidate:
    digest: str
    run_id: str
    documents: int
    quarantined: int
    quarantined_share: float
    without_vectors: int
    cost_usd: float | None
    changes: PolicyChanges
    gates: Sequence[PolicyGate]
    scores: Sequence[PolicyScore]
    stages: Sequence[PolicyStage]


@dataclass(frozen=True, kw_only=True)
class PolicyAuthor:
    who: str
    did: str


@dataclass(frozen=True, kw_only=True)
class PolicyLaunch:
    kind: str
    """`person`, `schedule`, `sensor`, `up` or `unknown`."""
    who: str
    proof: str
    changes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class PolicyApproval:
    person: str
    groups: Sequence[str]
    own_key: str | None


@dataclass(frozen=True, kw_only=True)
class PolicyRequest:
    status: str
    opened_at: str
    number: int
    escalated: bool
    approvals_needed: int
    approvals: Sequence[PolicyApproval]
    authors: Sequence[PolicyAuthor]
    launch: PolicyLaunch


@dataclass(frozen=True, kw_only=True)
class PolicyRelease:
    number: int
    documents: int
    created_at: str
    created_by: str


@dataclass(frozen=True, kw_only=True)
class PublicationInput:
    """`ai_assets.publication`: may this candidate go live, as it is and as it was approved?"""

    collection: str
    tenant: str
    partition: str
    candidate: PolicyCandidate
    request: PolicyRequest
    release_before: PolicyRelease | None
    now: str


@dataclass(frozen=True, kw_only=True)
class PolicyCalls:
    """What one stage or embedding asks, on one route."""

    asset: str
    route: str | None
    models: Sequence[PolicyModel]
    calls: float | None
    """Likely, by the plan; null where none was made."""
    estimated_usd: float | None
    most_usd: float | None


@dataclass(frozen=True, kw_only=True)
class PolicyBudget:
    name: str
    period: str
    limit_usd: float
    used_usd: float
    left_usd: float


@dataclass(frozen=True, kw_only=True)
class SpendingInput:
    """`ai_assets.spending`: may this run, or this plan, ask models?"""

    collection: str
    tenant: str
    partitions: Sequence[str]
    backfill: str
    """Empty where it is none."""
    launch: PolicyLaunch
    planned: bool
    """Whether there are estimates: for `plan` and `backfill`, not at the beginning of another run."""
    estimated_usd: float | None
    most_usd: float | None
    calls: Sequence[PolicyCalls]
    budgets: Sequence[PolicyBudget]
    now: str


@dataclass(frozen=True, kw_only=True)
class PolicyPerson:
    name: str
    email: str | None
    groups: Sequence[str]
    role: str | None
    """In this collection."""


@dataclass(frozen=True, kw_only=True)
class AccessInput:
    """`ai_assets.access`: may this person do that? Only what roles allow already is asked about."""

    action: str
    """`open`, `start`, `approve`, `reject`, `send back`, `roll back` or `rebuild targets`."""
    collection: str
    tenant: str
    partition: str | None
    person: PolicyPerson
    now: str


PolicyInput = PublicationInput | SpendingInput | AccessInput
INPUTS: Mapping[str, type[Any]] = {
    "publication": PublicationInput, "spending": SpendingInput, "access": AccessInput,
}  # fmt: skip


def as_input(document: PolicyInput) -> dict[str, Any]:
    """As JSON; a whole number as one, for `%d` of Rego takes no other."""
    found: dict[str, Any] = _plain(asdict(document))
    return found


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float() if value.is_integer():
            return int(value)
    return value


@cache
def known_paths(subject: str | None) -> Mapping[str, bool]:
    """Every path that `input` may be asked for; true where anything may follow. None: of all kinds."""
    kinds = [INPUTS[subject]] if subject is not None else list(INPUTS.values())
    return {path: False for kind in kinds for path in _paths(kind)}


def _paths(kind: type[Any], before: str = "") -> list[str]:
    found = []
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        path = f"{before}{field.name}"
        found.append(path)
        for each in (hints[field.name], *typing.get_args(hints[field.name])):
            is_record = is_dataclass(each) and isinstance(each, type)
            if is_record and not _is_list(hints[field.name]):
                found += _paths(typing.cast("type[Any]", each), f"{path}.")
    return found


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) not in (None, types.UnionType, typing.Union)


def example(kind: type[Any]) -> Any:
    """A document with something of everything, by which a policy is tried when it is loaded."""
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: _example_of(hints[field.name]) for field in fields(kind)})


def _example_of(hint: Any) -> Any:
    if _is_list(hint):
        return [_example_of(typing.get_args(hint)[0])]
    for each in (hint, *typing.get_args(hint)):
        if is_dataclass(each) and isinstance(each, type):
            return example(each)
        if each in (str, int, float, bool):
            return {str: "2026-01-01T00:00:00+00:00", int: 1, float: 0.5, bool: True}[each]
    raise TypeError(f"no example of {hint}")
