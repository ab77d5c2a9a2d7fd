"""Who looks at a request: people claim one, or an approver assigns it. It keeps two from doing the same work and gives
no right and takes none: rules, roles and decisions do not look at it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import sqlalchemy as sa

from ai_assets.signoff import audit, people, requests
from ai_assets.signoff.errors import ClaimRefused, ClaimTaken
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore, now


@dataclass(frozen=True, kw_only=True)
class RequestClaim:
    request_id: str
    collection: str
    person: str
    given_by: str
    """The same person, where they took it themselves."""
    made_at: str


@dataclass(frozen=True, kw_only=True)
class ClaimCounts:
    """Of open requests."""

    all: int
    mine: int


TABLE = sa.table("request_claims", *(sa.column(field.name) for field in fields(RequestClaim)))


def take(state: StateStore, request: SignoffRequest, *, by: Person) -> RequestClaim:
    """Claim it. Of two at the same instant one has it, and the other learns who. Again by the same: no change."""
    _require(by, "reviewer", request, "claiming a request takes the role reviewer")
    with state.write() as connection:
        _require_open(connection, request)
        return _put(connection, request, by.name, by=by.name)


def assign(state: StateStore, request: SignoffRequest, to: str, *, by: Person) -> RequestClaim:
    """Give it to somebody who may at least review, whoever has it now."""
    _require(by, "approver", request, "assigning a request to others takes the role approver")
    name = people.known_as(to)
    with state.write() as connection:
        _require_open(connection, request)
        if not by.tenant_of:  # else a name of another tenant is answered as one that nobody has
            people.require(connection, name)
        found = people.find(connection, name)
        if found is None or not replace(found, tenant_of=by.tenant_of).may("reviewer", request.collection):
            problem = f"{name} does not have the role reviewer in {request.collection}"
            raise ClaimRefused(request.collection, request.partition, problem)
        before = of(connection, [request.request_id]).get(request.request_id)
        if before is not None and before.person != name:
            _delete(connection, request)
        return _put(connection, request, name, by=by.name)


def give_up(state: StateStore, request: SignoffRequest, *, by: Person) -> bool:
    """One's own claim or, for an approver, anybody's. False where there is none."""
    with state.write() as connection:
        found = of(connection, [request.request_id]).get(request.request_id)
        if found is None:
            return False
        if found.person != by.name:
            _require(by, "approver", request, f"{found.person} has it; ending their claim takes the role approver")
        _delete(connection, request)
        audit.append(connection, by.name, "unassigned", {**requests.subject(request), "assignee": found.person})
    return True


def of(connection: sa.Connection, request_ids: Sequence[str]) -> dict[str, RequestClaim]:
    """By request; one that nobody has is not there."""
    query = sa.select(TABLE).where(TABLE.c.request_id.in_(list(request_ids)))
    return {row["request_id"]: RequestClaim(**row) for row in connection.execute(query).mappings()}


def of_open_requests(connection: sa.Connection, collections: Sequence[str], name: str) -> ClaimCounts:
    """From the claims to their requests: claims are few, open requests as many as partitions."""
    of_request = requests.TABLE.c.request_id == TABLE.c.request_id
    query = sa.select(sa.func.count(), sa.func.count(sa.case((TABLE.c.person == name, 1)))).where(
        TABLE.c.collection.in_(collections),
        sa.exists().select_from(requests.TABLE).where(of_request, requests.TABLE.c.status == "open"),
    )
    every, mine = connection.execute(query).one()
    return ClaimCounts(all=every, mine=mine)


def candidates(connection: sa.Connection, collection: str, *, by: Person) -> list[str]:
    """Who may be given a request of the collection."""
    known = [
        Person(name=each.name, roles=each.roles, tenant_of=by.tenant_of)
        for each in people.everyone(connection)
        if not each.disabled_at
    ]
    return [person.name for person in known if person.may("reviewer", collection)]


def _put(connection: sa.Connection, request: SignoffRequest, name: str, *, by: str) -> RequestClaim:
    claim = RequestClaim(
        request_id=request.request_id, collection=request.collection, person=name, given_by=by, made_at=now()
    )  # fmt: skip
    columns = [field.name for field in fields(RequestClaim)]
    insert = sa.text(
        f"INSERT INTO request_claims ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)}) "  # noqa: S608
        "ON CONFLICT (request_id) DO NOTHING"
    )
    if connection.execute(insert, vars(claim)).rowcount == 0:
        found = of(connection, [request.request_id])[request.request_id]
        if found.person != name:
            raise ClaimTaken(request.collection, request.partition, found.person, found.made_at)
        return found
    audit.append(connection, by, "assigned", {**requests.subject(request), "assignee": name})
    return claim


def _delete(connection: sa.Connection, request: SignoffRequest) -> None:
    connection.execute(sa.delete(TABLE).where(TABLE.c.request_id == request.request_id))


def _require(by: Person, role: people.Role, request: SignoffRequest, problem: str) -> None:
    if not by.may(role, request.collection):
        raise ClaimRefused(request.collection, request.partition, f"{problem} in {request.collection}")


def _require_open(connection: sa.Connection, request: SignoffRequest) -> None:
    query = sa.select(requests.TABLE.c.status).where(requests.TABLE.c.request_id == request.request_id)
    status: str = connection.execute(query).scalar_one()
    if status not in ("open", "approved"):
        raise ClaimRefused(request.collection, request.partition, f"it is {status} already, so nothing is left to do")
